# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is checked of variables once a host's facts are known."""

from __future__ import annotations

from typing import Any, Dict, List

import pytest
from ansible_collections.buildfarm.multiarch.plugins.action.farm_facts import ActionModule
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError

WHOLE = "5:28.5.2-1~debian.13~trixie"
FACTS = {"packages": {"docker-ce": "28.5.2"}, "engine_package_version": WHOLE}
NONE: Dict[str, Any] = {"packages": {}, "engine_package_version": None}


def check(version: Any, facts: Dict[str, Any], groups: List[str]) -> None:
    action = ActionModule.__new__(ActionModule)
    action._rendered = lambda value: value
    action._check_with(facts, {"engine_version": version, "group_names": groups})


@pytest.mark.parametrize(
    ("version", "facts"),
    [("28.5.2", NONE), (" ", NONE), (None, NONE), (WHOLE, FACTS), (WHOLE.partition(":")[2], FACTS)],
)
def test_versions_that_a_node_can_be_kept_at(version: Any, facts: Dict[str, Any]) -> None:
    check(version, facts, ["buildx_nodes"])


def test_a_whole_version_that_is_not_installed() -> None:
    with pytest.raises(FarmError, match="wanted a form like 28"):
        check(WHOLE, NONE, ["buildx_nodes"])
    # Of a controller's engine nothing is wanted.
    check(WHOLE, NONE, ["buildx_controllers"])
