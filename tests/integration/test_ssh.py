# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A node that is reached through ssh: the same roles and one variable, and nothing listens."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from ansible_runs import LiveFarm, Run
from listeners import let_in_by_ssh

CONTROLLER, NODE = "ctl", "mid2"


@pytest.fixture(scope="module", autouse=True)
def let_in(farm: LiveFarm) -> Iterator[None]:
    with let_in_by_ssh(farm, CONTROLLER, NODE):
        yield
    farm.ssh(NODE, "rm -rf /etc/docker; docker rm -f buildx_buildkit_farm-mid2; docker volume prune -af")
    farm.ssh(NODE, "systemctl reset-failed docker; systemctl restart docker")
    farm.ssh(CONTROLLER, "rm -rf ~/.docker ~/.config/buildfarm")


def site(farm: LiveFarm, ssh: bool, check: bool = False) -> Run:
    """Provision a farm whose node is reached through ssh, or over mutual TLS."""
    declared: dict[str, Any] = {"listener_ssh": ssh, "farm_address": NODE}
    groups = {"buildx_controllers": {CONTROLLER: None}, "buildx_nodes": {NODE: declared}}
    variables = {**farm.variables("ssh/hello:latest"), "farm_platforms": ["linux/amd64"]}
    run = farm.playbook("buildfarm.multiarch.site", variables=variables, inventory=groups, check=check)
    return run.expect_success()


def endpoint(farm: LiveFarm) -> str:
    """The endpoint of the builder's running node."""
    (builder,) = farm.module(CONTROLLER, "buildx_builder_info", name="farm")["builders"]
    (node,) = builder["nodes"]
    assert node["status"] == "running"
    return str(node["endpoint"])


def test_through_ssh_nothing_listens(farm: LiveFarm) -> None:
    site(farm, ssh=True)
    assert endpoint(farm) == f"ssh://root@{NODE}"
    assert ":23" not in farm.ssh(NODE, "ss -tln")
    assert farm.ssh(CONTROLLER, "find ~/.config/buildfarm -name '*.pem'", check=False) == ""
    assert site(farm, ssh=True).changed == []
    assert site(farm, ssh=True, check=True).changed == []


def test_from_tls_to_ssh_the_listener_is_closed(farm: LiveFarm) -> None:
    site(farm, ssh=False)
    assert endpoint(farm) == f"farm-{NODE}"
    assert ":2376" in farm.ssh(NODE, "ss -tln")
    predicted = site(farm, ssh=True, check=True)
    assert site(farm, ssh=True).changed == predicted.changed
    assert endpoint(farm) == f"ssh://root@{NODE}"
    assert ":23" not in farm.ssh(NODE, "ss -tln")
    assert farm.ssh(NODE, "ls /etc/docker/tls /etc/systemd/system/docker.service.d 2>/dev/null", check=False) == ""
    assert site(farm, ssh=True).changed == []
