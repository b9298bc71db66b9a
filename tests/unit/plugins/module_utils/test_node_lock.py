# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._host import node_lock
from ansible_collections.buildfarm.multiarch.plugins.module_utils._host.node_lock import node_locked


@pytest.mark.parametrize("origin, shown", [("", ""), ("192.0.2.7 50022 192.0.2.1 22", " from 192.0.2.7")])
def test_who_waits_in_vain_is_told_for_whom(monkeypatch, origin, shown):
    monkeypatch.setenv("SSH_CONNECTION", origin)
    wanted = rf"another run changes this host, module binfmt by \S+{shown}, process \d+, since 20\S+Z; waited 0.1 s"
    with node_locked("binfmt"):
        with pytest.raises(FarmError, match=wanted), node_locked("docker_listener", timeout=0.1):
            pytest.fail("held by two")
    with node_locked("docker_listener", timeout=0):
        pass


def test_who_may_not_write_there_goes_on_without(monkeypatch, tmp_path):
    monkeypatch.setattr(node_lock, "PATH", str(tmp_path / "missing" / "lock"))
    with node_locked("binfmt"), node_locked("binfmt", timeout=0):
        pass
