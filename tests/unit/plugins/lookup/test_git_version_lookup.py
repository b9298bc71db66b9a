# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where the lookup finds directories, and what it makes of its options."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

import pytest
from ansible.errors import AnsibleLookupError
from ansible.parsing.dataloader import DataLoader
from ansible_collections.buildfarm.multiarch.plugins.lookup.git_version import LookupModule
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core import runner
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.runner import Result

DEFAULTS = {"abbrev": 7, "fallback": None, "match": None, "strip_prefix": ""}


class Lookup(LookupModule):
    """The lookup with options as Ansible sets them, for which the collection would have to be installed."""

    def __init__(self, playbook: Path, options: Any) -> None:
        loader = DataLoader()
        loader.set_basedir(str(playbook))
        super().__init__(loader=loader)
        self._given = {**DEFAULTS, **options}

    def set_options(self, *_arguments: Any, **_options: Any) -> None:
        pass

    def get_option(self, option: str, hostvars: Any = None) -> Any:
        return self._given[option]


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The directories that git was asked about; it knows none of them."""
    found: list[str] = []

    def run(argv: list[str], **_options: Any) -> Result:
        found.append(argv[2])
        return Result(tuple(argv), 128, "", "fatal: not a git repository (or any of the parent directories): .git")

    monkeypatch.setattr(runner, "run", run)
    return found


def look_up(playbook: Path, *terms: str, variables: Optional[dict[str, Any]] = None, **options: Any) -> Any:
    return Lookup(playbook, options).run(terms, variables)


def test_directories_are_found_where_sources_are(tmp_path: Path, asked: list[str]) -> None:
    wanted = [tmp_path / place for place in ("play/app", "inventory/base", "role/files/web", "absolute")]
    for path in wanted:
        path.mkdir(parents=True)
    variables = {
        "ansible_inventory_sources": [str(tmp_path / "inventory/hosts.ini"), "localhost,"],
        "ansible_search_path": [str(tmp_path / "role")],
    }
    found = look_up(tmp_path / "play", "app", "base", "./web", str(wanted[3]), variables=variables, fallback="1.0")
    assert [one["version"] for one in found] == ["1.0"] * 4
    assert asked == list(map(str, wanted))


def test_a_directory_that_is_nowhere(tmp_path: Path, asked: list[str]) -> None:
    with pytest.raises(AnsibleLookupError, match=rf"'app': no such directory on the Ansible machine.*{tmp_path}/app"):
        look_up(tmp_path, "app", fallback="1.0")
    assert not asked


def test_errors_of_git_and_of_options_are_the_lookups(tmp_path: Path) -> None:
    with pytest.raises(AnsibleLookupError, match=r"no git checkout"):
        look_up(tmp_path, str(tmp_path))
    with pytest.raises(AnsibleLookupError, match=r"abbrev: 2"):
        look_up(tmp_path, str(tmp_path), abbrev=2)
