# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Names and addresses that inventories really have: they work, or are refused before anything is changed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from ansible_runs import LiveFarm, Run

CONTROLLER = "ctl"
NODES = ("mid1", "mid2", "new1")
IPV6 = "2001:db8::5"
LONG = ".".join(["builder-with-a-name-that-somebody-generated"] * 4)


def site(farm: LiveFarm, nodes: dict[str, Any], playbook: str = "site") -> Run:
    """Run a playbook for these nodes; only their own platform is wanted."""
    groups = {"buildx_controllers": {CONTROLLER: None}, "buildx_nodes": nodes}
    variables = {**farm.variables("unused"), "farm_platforms": []}
    return farm.playbook(f"buildfarm.multiarch.{playbook}", variables=variables, inventory=groups)


@pytest.fixture
def ipv6(farm: LiveFarm) -> Iterator[None]:
    """An IPv6 network of the controller and the first node, beside what connects them to the tests."""
    addresses = {CONTROLLER: "2001:db8::1", NODES[0]: IPV6}
    change = "dev=$(ip -o route get 198.18.0.1 | sed 's/.* dev \\([^ ]*\\).*/\\1/'); ip -6 addr {} {}/64 dev $dev {}"
    for host, address in addresses.items():
        farm.ssh(host, change.format("add", address, "nodad"))
    yield
    for host, address in addresses.items():
        farm.ssh(host, change.format("del", address, ""))


def test_hosts_by_address_with_long_names_and_capitals(farm: LiveFarm, ipv6: None) -> None:
    nodes = {
        IPV6: {"ansible_host": farm.address("mid1"), "farm_address": f"[{IPV6}]"},
        LONG: {"ansible_host": farm.address("mid2")},
        "Node_3.Example.COM": {"ansible_host": farm.address("new1")},
    }
    try:
        site(farm, nodes).expect_success()
        assert site(farm, nodes).expect_success().changed == []
        listed = farm.ssh(CONTROLLER, "docker buildx inspect farm; docker context ls")
        assert listed.count("running") == 3
        for name in ("farm-2001-db8--5", f"farm-{LONG}", "farm-Node_3.Example.COM", f"tcp://[{IPV6}]:2376"):
            assert name in listed
        site(farm, nodes, "teardown").expect_success()
        assert "farm" not in farm.ssh(CONTROLLER, "docker buildx ls; docker context ls")
    finally:
        site(farm, nodes, "teardown")
        for host in NODES:
            farm.restart_engine(host, "rm -rf /etc/docker")
        farm.ssh(CONTROLLER, "rm -rf ~/.config/buildfarm ~/.docker")


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        (["Mid1", "mid1"], "hosts 'Mid1' and 'mid1' of the inventory: both would be node 'farm-mid1'"),
        (["mid1", "mid1.example.com."], "host 'mid1.example.com.' of the inventory: a node's name goes into"),
        (["fe80::1%eth0"], "rename the host, and put what it is reached by into ansible_host"),
    ],
)
def test_hosts_that_cannot_be_nodes(farm: LiveFarm, nodes: list[str], message: str) -> None:
    run = site(farm, {name: {"ansible_host": farm.address("mid1")} for name in nodes})
    assert run.rc != 0
    assert run.changed == []
    # Before any host was even looked at, each says so.
    assert len([task for task in run.tasks if task.outcome != "skipped"]) == len(nodes) + 1
    assert all(message in failure for failure in run.failures)


def test_an_address_that_controllers_cannot_use(farm: LiveFarm) -> None:
    nodes = {"mid1": {"ansible_host": farm.address("mid1"), "farm_address": "fe80::1%eth0"}}
    run = site(farm, nodes)
    assert run.rc != 0
    assert "farm_address is 'fe80::1%eth0'; wanted the host name or the IP address" in run.failures[0]
    assert not any(change.startswith("mid1") for change in run.changed)


#: Two farms, whose authorities are each the other's second controller, under another name.
FARMS = {
    "red": ({"red-first": "ctl", "red-second": "ctlnew"}, {"red-a": "mid1", "red-b": "mid2"}),
    "blue": ({"blue-first": "ctlnew", "blue-second": "ctl"}, {"blue-a": "new1"}),
}


def several(farm: LiveFarm, playbook: str = "site", limit: str | None = None, **variables: Any) -> Run:
    """Run a playbook for both farms."""
    groups: dict[str, Any] = {"buildx_controllers": {}, "buildx_nodes": {}}
    for name, (controllers, nodes) in FARMS.items():
        own = {
            "farm_nodes": [*nodes],
            "listener_authority": f"{name}-first",
            "listener_clients": [*controllers],
            "listener_nodes": [*nodes],
            "listener_directory": f"/root/certificates-{name}",
        }
        for group, hosts in (("buildx_controllers", controllers), ("buildx_nodes", nodes), (name, controllers | nodes)):
            groups.setdefault(group, {}).update(
                {host: {**own, "ansible_host": farm.address(at)} for host, at in hosts.items()}
            )
        for host in controllers:
            groups["buildx_controllers"][host]["farm_builder"] = name
    shared = {**farm.variables("unused"), "farm_platforms": [], "farm_use": False, **variables}
    return farm.playbook(f"buildfarm.multiarch.{playbook}", variables=shared, inventory=groups, limit=limit)


@pytest.fixture
def two_farms(farm: LiveFarm) -> Iterator[Run]:
    """Two farms that one run has made."""
    try:
        yield several(farm)
    finally:
        several(farm, "teardown")
        for host in NODES:
            farm.ssh(host, "docker volume ls -q | grep -E '_(red|blue)-' | xargs -r docker volume rm")
            farm.restart_engine(host, "rm -rf /etc/docker")
        for host in (CONTROLLER, "ctlnew"):
            farm.ssh(host, "rm -rf /root/certificates-* ~/.docker")


def test_two_farms_with_authorities_of_their_own_in_one_run(farm: LiveFarm, two_farms: Run) -> None:
    two_farms.expect_success()
    assert several(farm).expect_success().changed == []
    for name, (controllers, nodes) in FARMS.items():
        for host in controllers.values():
            listed = farm.ssh(host, f"docker buildx inspect {name}")
            assert [node for node in nodes if f"{name}-{node}" in listed] == [*nodes]
            assert listed.count("running") == len(nodes)
        trusted = farm.ssh(controllers[f"{name}-first"], f"cat /root/certificates-{name}/ca.pem")
        assert {farm.ssh(host, "cat /etc/docker/tls/ca.pem") for host in nodes.values()} == {trusted}
    # The second farm is worked on alone, by its own first controller.
    verified = several(farm, "verify", limit="blue", images_list=[]).expect_success()
    assert {task.host for task in verified.tasks if "each platform" in task.task} == {"blue-first", "blue-second"}
    run = {task.host for task in verified.tasks if "each platform" in task.task and task.outcome == "ok"}
    assert run == {"blue-first"}
    reported = several(farm, "report", limit="blue", report_directory="/root/certificates-report").expect_success()
    assert {task.host for task in reported.tasks if task.task == "Read the farm"} == {"blue-first"}
    # A node leaves the builder that it is in, and leaves its cache. A whole farm goes with its caches.
    for limit in ("red-b", "blue"):
        several(farm, "teardown", limit=limit).expect_success()
    for host in (CONTROLLER, "ctlnew"):
        assert farm.ssh(host, "ls ~/.docker/buildx/instances").split() == ["red"]
        assert farm.ssh(host, "docker context ls --format '{{.Name}}' | grep -E 'red|blue'").split() == ["red-red-a"]
    volumes = "docker volume ls -q | grep -E '^buildx_buildkit_(red|blue)-' || true"
    assert farm.ssh(FARMS["red"][1]["red-b"], volumes).split() == ["buildx_buildkit_red-red-b_state"]
    assert farm.ssh(FARMS["blue"][1]["blue-a"], volumes).split() == []
