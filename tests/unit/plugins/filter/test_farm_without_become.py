# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict

import pytest
from ansible_collections.buildfarm.multiarch.plugins.filter import farm_without_become as module
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core import environment

LOCAL = {"ansible_connection": "local"}


@pytest.mark.parametrize(
    ("variables", "given", "container", "without"),
    [
        (LOCAL, {"become": False}, True, False),
        ({}, {}, True, False),
        ({"ansible_connection": "ansible.builtin.local"}, {}, False, True),
        ({}, {"connection": "local"}, False, True),
        ({**LOCAL, "ansible_become": True}, {}, True, False),
        ({**LOCAL, "ansible_become": False}, {}, True, False),
        # There is such a program, and whether it lets this user tells it, where that is a container.
        ({**LOCAL, "ansible_become_exe": "willing"}, {}, True, False),
        ({**LOCAL, "ansible_become_exe": "refusing"}, {}, True, True),
        ({**LOCAL, "ansible_become_exe": "refusing"}, {}, False, False),
        ({**LOCAL, "ansible_become_exe": "refusing", "ansible_become_password": "x"}, {}, True, False),
        ({**LOCAL, "ansible_become_exe": "refusing"}, {"become_ask_pass": True}, True, False),
        ({**LOCAL, "ansible_become_method": "refusing"}, {}, True, False),
        ({**LOCAL, "ansible_become_method": "community.general.missing"}, {}, False, True),
        (LOCAL, {"become_method": "missing"}, False, True),
    ],
)
def test_hosts_that_have_no_way(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    variables: Dict[str, Any],
    given: Dict[str, Any],
    container: bool,
    without: bool,
) -> None:
    for name, status in (("willing", 0), ("refusing", 1)):
        (tmp_path / name).write_text(f'#!/bin/sh\ntest "$*" = "-n true" && exit {status}\n')
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/nonexistent")
    (tmp_path / "sh").symlink_to("/bin/sh")
    monkeypatch.setattr(environment, "CONTAINER_FILES", (str(tmp_path) if container else "/nonexistent",))
    monkeypatch.delenv(environment.CONTAINER_VARIABLE, raising=False)
    monkeypatch.setattr(module.context, "CLIARGS", {"become": True, **given})
    assert module.farm_without_become(["host"], {"host": variables}) == (["host"] if without else [])
