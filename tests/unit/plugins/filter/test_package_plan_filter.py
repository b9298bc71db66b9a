# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from typing import Any, Dict

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.buildfarm.multiarch.plugins.filter.package_plan import FilterModule

FACTS: Dict[str, Any] = {
    "system": "Linux",
    "systemd": True,
    "lineage": ["debian"],
    "release": "trixie",
    "packages": {},
    "engine_package_version": None,
    "repository": None,
    "engine": False,
}


def test_a_plan_is_made_of_what_ansible_can_read() -> None:
    plan = FilterModule().filters()["package_plan"]({"source": "docker"}, FACTS)
    assert plan == json.loads(json.dumps(plan))
    assert (plan["due"], plan["problem"]) == (True, "")
    assert plan["install"] == ["docker-ce", "docker-ce-cli", "containerd.io"]
    assert plan["repository"]["path"] == "/etc/apt/sources.list.d/docker.sources"


def test_what_packages_are_not_for() -> None:
    with pytest.raises(AnsibleFilterError, match="purpose 'cook': wanted engine, controller, emulators"):
        FilterModule().filters()["package_plan"]({}, FACTS, "cook")
