# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Nodes that take no new builds, whatever controller builds, and come back with their caches."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import seed
from ansible_runs import LiveFarm, Run
from building import AMD, ARM, BUILDER, PLATFORMS, BuildFarm, build_farm

#: The builder of two nodes that both build for amd64.
TWO, ON = "drained-two", "ctl"
GROUPS = {"buildx_controllers": {ON: None}, "buildx_nodes": {AMD: None, ARM: None}}


@pytest.fixture(scope="module")
def images(farm: LiveFarm) -> Iterator[BuildFarm]:
    """Both controllers with their builders, and one with one of two nodes."""
    with build_farm(farm, emulating=False) as made:
        nodes = [
            {
                "name": f"drained-{host}",
                "endpoint": f"tcp://{host}:2375",
                "platforms": PLATFORMS[:1],
                "driver_opts": {"image": f"{farm.registry}/{seed.BUILDKIT}", "network": "host"},
                "buildkitd_config": f'[registry."{farm.registry}"]\n  http = true\n',
            }
            for host in (AMD, ARM)
        ]
        farm.module(ON, "buildx_builder", name=TWO, nodes=nodes)
        yield made


def drain(images: BuildFarm, check: bool = False, **variables: Any) -> Run:
    """Run the playbook with a limit of one node."""
    name = "buildfarm.multiarch.drain"
    return images.farm.playbook(name, inventory=GROUPS, limit=ARM, check=check, variables=variables)


def listed(images: BuildFarm, dockerfile: str, number: int) -> list[dict[str, Any]]:
    """Images that are new, shared out among the nodes."""
    context = images.context(ON, "drained", dockerfile)
    return [
        {
            "context": context,
            "platforms": PLATFORMS[:1],
            "tags": [f"{images.repository}/drained{one}:1"],
            "push": True,
            "build_args": {"SALT": secrets.token_hex(8)},
        }
        for one in range(number)
    ]


def nodes_of(done: dict[str, Any]) -> list[str]:
    """Where each image was built."""
    return sorted(image["platforms"][0]["node"] for image in done["images"])


def test_what_runs_ends_and_nothing_new_begins(images: BuildFarm) -> None:
    slow = listed(images, "FROM busybox\nARG SALT\nRUN echo $SALT; sleep 7\n", 8)

    def drain_meanwhile() -> tuple[Run, float]:
        images.farm.ssh(ARM, "timeout 60 sh -c \"until pgrep -xf 'sleep 7'; do sleep 0.2; done\"")
        started = time.monotonic()
        return drain(images, drain_reason="new disk"), time.monotonic() - started

    container = f"docker inspect -f '{{{{.Id}}}} {{{{.State.StartedAt}}}}' buildx_buildkit_drained-{ARM}"
    before = images.farm.ssh(ARM, container)
    with ThreadPoolExecutor() as pool:
        draining = pool.submit(drain_meanwhile)
        done = images.build(ON, builder=TWO, images=slow, builds_per_node=2)
        run, lasted = draining.result()
    run.expect_success()
    assert lasted > 5, "it waited for what ran"
    # Of each node's four, two at a time, the first two had begun.
    assert nodes_of(done) == [f"drained-{AMD}"] * 6 + [f"drained-{ARM}"] * 2
    assert not any(image["retries"] for image in done["images"])

    quick = listed(images, "FROM busybox\nARG SALT\nRUN echo $SALT\n", 4)
    elsewhere = images.build(ON, builder=TWO, images=quick)
    assert nodes_of(elsewhere) == [f"drained-{AMD}"] * 4
    (warning,) = elsewhere["warnings"]
    assert warning.startswith(f"node 'drained-{ARM}' gets no builds: it is drained since 20")
    assert warning.endswith("(new disk)")
    # From a controller that knows nothing of it, and where no other node serves the platform.
    context = images.context("ctlnew", "drained", "FROM busybox\n")
    # Another test may have registered a handler for it meanwhile.
    new = {"tags": [f"{images.repository}/no:1"], "platforms": PLATFORMS, "emulation": "forbid"}
    refused = images.build("ctlnew", fails=True, builder=BUILDER, context=context, **new)
    assert f"no node serves {PLATFORMS[1]}" in refused["msg"]
    assert "node 'ctlnew-arm' gets no builds: it is drained since" in refused["msg"]
    assert "buildfarm.multiarch.buildx_drain, state active" in refused["msg"]

    # Its builder stays what it is, and so do the container and the cache.
    # As a survey's blank fields are.
    assert drain(images, drain_state="", drain_reason="", drain_timeout="").changed == []
    images.farm.ssh(ARM, "systemctl restart docker")
    assert drain(images, drain_reason="new disk").changed == []
    assert len(drain(images, check=True, drain_state="active").expect_success().changed) == 1
    assert len(drain(images, drain_state="active").expect_success().changed) == 1
    assert drain(images, drain_state="active").changed == []
    assert images.farm.ssh(ARM, container).split()[0] == before.split()[0]
    again = images.build(ON, builder=TWO, images=listed(images, "FROM busybox\nARG SALT\nRUN echo $SALT\n", 4))
    assert set(nodes_of(again)) == {f"drained-{AMD}", f"drained-{ARM}"}
    assert "warnings" not in again


def test_builds_are_left_after_a_time(images: BuildFarm) -> None:
    slow = listed(images, "FROM busybox\nARG SALT\nRUN echo $SALT; sleep 9\n", 2)
    with ThreadPoolExecutor() as pool:
        building = pool.submit(images.build, ON, builder=TWO, images=slow)
        images.farm.ssh(ARM, "timeout 60 sh -c \"until pgrep -xf 'sleep 9'; do sleep 0.2; done\"")
        (looked,) = images.farm.tasks(ARM, {"buildfarm.multiarch.buildx_drain": {"timeout": 0}})
        assert (looked["nodes"][0]["builds"], looked["nodes"][0]["drained"]) == (1, True)
        run = drain(images, drain_timeout=2)
        assert "builds still run after 2 s on unix:///var/run/docker.sock (1)" in run.failures[0]
        assert nodes_of(building.result()) == [f"drained-{AMD}", f"drained-{ARM}"]
    drain(images, drain_state="active").expect_success()


@pytest.mark.parametrize("host", ["old1", "new1"])
def test_a_machine_that_takes_the_place_of_another_takes_builds(farm: LiveFarm, host: str) -> None:
    farm.converge(host, "buildx_drain", reason="it breaks", values=("changed", "actions", "diff"))
    (found,) = farm.module(host, "docker_endpoint_info", endpoints=["unix:///var/run/docker.sock"])["endpoints"]
    assert found["drained"].endswith("(it breaks)")
    farm.ssh(host, "systemctl stop docker.socket docker; rm -rf /var/lib/docker/*; systemctl start docker")
    (found,) = farm.module(host, "docker_endpoint_info", endpoints=["unix:///var/run/docker.sock"])["endpoints"]
    assert found["drained"] is None


def test_a_whole_farm_is_not_drained_by_accident(farm: LiveFarm) -> None:
    run = farm.playbook("buildfarm.multiarch.drain", inventory=GROUPS)
    assert "with --limit" in run.failures[0]
