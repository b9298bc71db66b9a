# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A pull-through cache on a host of the inventory, used by an engine and its BuildKit.

The farm's registry stands for Docker Hub: nothing else here has what is pulled.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

import seed
from ansible_runs import LiveFarm, Run
from building import listen, unlisten

MIRROR, NODE, CONTROLLER = "ctl", "mid1", "ctlnew"
INVENTORY: dict[str, Any] = {
    "buildx_mirrors": {MIRROR: None},
    "buildx_nodes": {NODE: None},
    "others": {CONTROLLER: None},
}
PULLED = "/var/lib/docker-registry/docker/registry/v2/repositories/library/busybox"
_PURGE = "docker image rm -f busybox 2>/dev/null; true"


class Mirrored:
    """The farm with a mirror, and shorthands for applying roles."""

    def __init__(self, farm: LiveFarm) -> None:
        self.farm = farm

    def apply(self, role: str, hosts: str, check: bool = False, **variables: Any) -> Run:
        """Apply a role to a host."""
        plays = [{"hosts": hosts, "gather_facts": False, "roles": [{"role": f"buildfarm.multiarch.{role}"}]}]
        run = self.farm.play(plays, check=check, variables=variables, inventory=INVENTORY)
        return run.expect_success()

    def twice(self, role: str, hosts: str, **variables: Any) -> None:
        """Predict what a role does, apply it, and apply it again."""
        predicted = self.apply(role, hosts, check=True, **variables)
        done = self.apply(role, hosts, **variables)
        assert (
            [name.rpartition(" : ")[2] for name in predicted.changed]
            == [name.rpartition(" : ")[2] for name in done.changed]
            != []
        )
        assert self.apply(role, hosts, **variables).changed == []

    def options(self) -> dict[str, Any]:
        """The options of the node's engine."""
        found: dict[str, Any] = json.loads(self.farm.ssh(NODE, "cat /etc/docker/daemon.json"))
        return found


@pytest.fixture(scope="module")
def mirrored(farm: LiveFarm) -> Iterator[Mirrored]:
    """A host that is a mirror, and an engine that listens."""
    found = Mirrored(farm)
    try:
        listen(farm, NODE)
        found.twice("mirror", MIRROR, mirror_upstream=f"http://{farm.registry}")
        yield found
    finally:
        farm.module(CONTROLLER, "buildx_builder", name="mirrored", state="absent")
        unlisten(farm, NODE)
        farm.ssh(CONTROLLER, "rm -rf ~/.docker /srv/mirror")
        farm.ssh(MIRROR, "apt-get -q -y purge docker-registry; rm -rf /var/lib/docker-registry /etc/docker/registry")


def test_an_engine_pulls_through_the_mirror(mirrored):
    mirrored.twice("engine", NODE, engine_source="none")
    url = f"http://{mirrored.farm.address(MIRROR)}:5000"
    assert mirrored.options()["registry-mirrors"] == [url]
    assert mirrored.farm.registry in mirrored.options()["insecure-registries"]
    mirrored.farm.ssh(NODE, f"{_PURGE}; docker pull -q busybox")
    assert "_manifests" in mirrored.farm.ssh(MIRROR, f"ls {PULLED}")
    # What is said of an engine itself comes first, and an empty list is none.
    mirrored.apply("engine", NODE, engine_source="none", engine_daemon_config={"registry-mirrors": ["https://m.test"]})
    assert mirrored.options()["registry-mirrors"] == ["https://m.test"]
    mirrored.apply("engine", NODE, engine_source="none", engine_registry_mirrors=[])
    assert "registry-mirrors" not in mirrored.options()


def test_buildkit_builds_through_the_mirror(mirrored):
    opts = {"image": f"{mirrored.farm.registry}/{seed.BUILDKIT}", "network": "host"}
    nodes = "[NODE] | buildfarm.multiarch.farm_nodes(hostvars, builder='mirrored', driver_opts=opts, mirrors=[MIRROR])"
    nodes = nodes.replace("NODE", f"'{NODE}'").replace("MIRROR", f"'{MIRROR}'")
    builder = {"name": "mirrored", "nodes": f"{{{{ {nodes} | map(attribute='node') }}}}"}
    variables = {
        "opts": opts,
        "farm_endpoint": f"tcp://{NODE}:2375",
        "farm_node_platforms": ["linux/amd64"],
        "farm_node_cache": {"max_used": "1g"},
    }
    plays = [{"hosts": CONTROLLER, "gather_facts": False, "tasks": [{"buildfarm.multiarch.buildx_builder": builder}]}]
    mirrored.farm.play(plays, variables=variables, inventory=INVENTORY).expect_success()
    mirrored.farm.ssh(MIRROR, f"rm -rf {PULLED}")
    mirrored.farm.ssh(
        CONTROLLER,
        "mkdir -p /srv/mirror && cd /srv/mirror && printf 'FROM busybox\\nRUN true\\n' > Dockerfile &&"
        " docker buildx build -q --builder mirrored .",
    )
    assert "_manifests" in mirrored.farm.ssh(MIRROR, f"ls {PULLED}")
    written = mirrored.farm.ssh(CONTROLLER, "docker buildx inspect mirrored")
    assert "Max Used Space: 1GiB" in written and mirrored.farm.address(MIRROR) in written
