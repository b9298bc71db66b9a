# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Farms of many hosts: all at once at first, and some of them missing later."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from ansible_runs import LiveFarm, Run, task
from traces import in_output, texts_of

AUTHORITY, SECOND = "ctl", "ctlnew"
NODES = ("mid1", "mid2", "new1", "old1")
#: Nobody has this address of the farm's network.
GONE = {"ansible_host": "198.18.254.254", "ansible_ssh_common_args": "-o ConnectTimeout=3"}
DIRECTORY = "/root/certificates-of-many"
BUILDER = "many"
#: Each task makes a connection of its own, as where those before have ended while packages were installed.
ALONE = {"ansible_ssh_args": "-o ControlMaster=no -o ControlPath=none"}


def groups(*nodes: str, **variables: dict[str, Any]) -> dict[str, Any]:
    """The inventory with two controllers and these nodes.

    :param variables: of hosts, by name.
    """
    return {
        "buildx_controllers": {name: variables.get(name) for name in (AUTHORITY, SECOND)},
        "buildx_nodes": {name: variables.get(name) for name in nodes},
    }


def site(farm: LiveFarm, inventory: dict[str, Any], platforms: Sequence[str] = (), **options: Any) -> Run:
    """Provision the farm."""
    wanted = {"farm_platforms": list(platforms), "farm_use": False}
    own = {"farm_builder": BUILDER, "listener_directory": DIRECTORY, **wanted}
    variables = {**farm.variables("unused"), **own}
    return farm.playbook("buildfarm.multiarch.site", variables=variables, inventory=inventory, **options)


def builder(farm: LiveFarm, controller: str = AUTHORITY) -> list[str]:
    """The nodes of the builder."""
    stored = farm.ssh(controller, f"cat /root/.docker/buildx/instances/{BUILDER}")
    return sorted(node["Name"].removeprefix(f"{BUILDER}-") for node in json.loads(stored)["Nodes"])


def clean(farm: LiveFarm) -> None:
    """Take the farm apart."""
    variables = {"farm_builder": BUILDER, "listener_directory": DIRECTORY}
    name = "buildfarm.multiarch.teardown"
    farm.playbook(name, variables=variables, inventory=groups(*NODES)).expect_success()
    for controller in (AUTHORITY, SECOND):
        farm.ssh(controller, f"rm -rf {DIRECTORY}")
    for node in NODES:
        # The directory stays for others, and the engine's own key in it.
        farm.restart_engine(node, "rm -rf /etc/docker/daemon.json /etc/docker/tls")


@pytest.fixture(autouse=True)
def cleaned(farm: LiveFarm) -> Iterator[None]:
    """Each test begins and ends with engines as their packages made them."""
    yield
    clean(farm)


@contextlib.contextmanager
def strict_sshd(farm: LiveFarm, host: str) -> Iterator[None]:
    """Let the ssh server of a host drop every connection that comes while two others have yet to log in."""
    path = "/etc/ssh/sshd_config.d/strict.conf"
    farm.ssh(host, f"echo 'MaxStartups 2:100:2' > {path}; systemctl reload ssh")
    try:
        yield
    finally:
        farm.ssh(host, f"rm {path}; systemctl reload ssh")


@contextlib.contextmanager
def broken_daemon_config(farm: LiveFarm, host: str) -> Iterator[None]:
    """Give a host a daemon.json that is no JSON."""
    path = "/etc/docker/daemon.json"
    farm.ssh(
        host, f"mkdir -p /etc/docker; cp {path} /root/daemon.json; echo '{{\"debug\": true,' > {path}", check=False
    )
    try:
        yield
    finally:
        farm.ssh(host, f"rm {path}; mv /root/daemon.json {path}", check=False)


def test_all_nodes_of_one_platform_serve_it(farm: LiveFarm) -> None:
    # Both without emulation, so that no handler of this machine is changed.
    platforms = ["linux/amd64", "linux/386"]
    site(farm, groups(*NODES), platforms).expect_success()
    assert site(farm, groups(*NODES), platforms).expect_success().changed == []
    listed = farm.ssh(AUTHORITY, f"docker buildx inspect {BUILDER}")
    assert listed.count("running") == listed.count("linux/amd64*, linux/386*") == len(NODES)
    # A plain build finds its nodes too.
    farm.ssh(AUTHORITY, "mkdir -p /tmp/plain; printf 'FROM scratch\\nCOPY Dockerfile /' > /tmp/plain/Dockerfile")
    build = f"docker buildx build --builder {BUILDER} --platform {','.join(platforms)} --output type=oci /tmp/plain"
    made = farm.ssh(
        AUTHORITY, f"{build} 2>/dev/null | tar -xO --wildcards 'blobs/*' | grep -ao '\"architecture\":\"[a-z0-9]*'"
    )
    assert {"amd64", "386"} <= {line.rpartition('"')[2] for line in made.split()}


def test_one_host_is_not_asked_by_all_nodes_at_once(farm: LiveFarm) -> None:
    inventory = groups(*NODES, **{AUTHORITY: ALONE})
    with strict_sshd(farm, AUTHORITY):
        done = site(farm, inventory, verbosity=3).expect_success()
    assert builder(farm) == builder(farm, SECOND) == sorted(NODES)
    keys = farm.ssh(AUTHORITY, f"find {DIRECTORY} -name '*key.pem' | xargs cat")
    assert keys.count("BEGIN") == 1 + len(NODES) + 2
    assert in_output(done, texts_of(keys)) == []
    delegated = [
        task for task in done.tasks if "at the authority" in task.task or task.task.endswith("from the controller")
    ]
    assert len([task for task in delegated if task.outcome == "ok"]) == 3  # keys of nodes, probes, keys of controllers
    assert site(farm, inventory).expect_success().changed == []


def test_missing_nodes_do_not_stop_the_others(farm: LiveFarm) -> None:
    inventory = groups("mid1", "gone1", "new1", gone1=GONE)
    with broken_daemon_config(farm, "new1"):
        first = site(farm, inventory)
    assert first.rc != 0
    assert builder(farm) == builder(farm, SECOND) == ["mid1"]
    last = first.stdout.partition("PLAY RECAP")[0].strip().rpartition("TASK [")[2]
    for word in ("missing from this farm: 2 of 3 nodes", GONE["ansible_host"], "new1: /etc/docker/daemon.json"):
        assert word in last, last

    # What was mended comes to the others.
    second = site(farm, inventory)
    assert second.rc != 0
    assert builder(farm) == builder(farm, SECOND) == ["mid1", "new1"]

    # What breaks later stays as it is.
    containers = farm.ssh("new1", "docker ps --no-trunc --quiet")
    with broken_daemon_config(farm, "new1"):
        third = site(farm, inventory)
        assert third.rc != 0
        assert third.changed == []
        assert builder(farm) == builder(farm, SECOND) == ["mid1", "new1"]
        assert farm.ssh("new1", "docker ps --no-trunc --quiet") == containers != ""


def test_no_node_at_all_takes_nothing_away(farm: LiveFarm) -> None:
    site(farm, groups("mid1")).expect_success()
    run = site(farm, groups("mid1", mid1=GONE))
    assert run.rc != 0
    assert run.changed == []
    assert GONE["ansible_host"] in str(run.failures)
    assert builder(farm) == ["mid1"]


def test_other_controllers_go_on_without_one(farm: LiveFarm) -> None:
    run = site(farm, groups("mid1", **{SECOND: GONE}))
    assert run.rc != 0
    assert builder(farm) == ["mid1"]
    assert [found.host for found in run.tasks if found.outcome in ("failed", "unreachable")] == [SECOND]


def test_without_the_authority_one_error_says_so(farm: LiveFarm) -> None:
    inventory = groups("mid1", "mid2", **{AUTHORITY: GONE})
    run = site(farm, inventory)
    assert run.rc != 0
    unreachable, *errors = [found for found in run.tasks if found.outcome in ("failed", "unreachable")]
    assert (unreachable.host, unreachable.outcome) == (AUTHORITY, "unreachable")
    (error,) = errors
    assert f"{AUTHORITY}, which issues the certificates, is missing: " in error.result["msg"]
    assert not [change for change in run.changed if change.startswith("mid")]
    limited = site(farm, groups("mid1", "mid2"), limit="buildx_nodes")
    assert "--limit" in "".join(limited.failures)
    assert len(limited.failures) == 1


def test_secrets_are_hidden_and_failures_are_not(farm: LiveFarm) -> None:
    secret = "Yonder-is-the-treasure"
    farm.ssh("mid1", f"echo {secret} > /root/secret")
    inventory = groups("mid1", "gone1", gone1=GONE)
    read = task("slurp_secrets", paths=["/root/secret"])
    plays: list[dict[str, Any]] = [
        {"hosts": "mid1", "gather_facts": False, "tasks": [{**read, "register": "told"}, {
            "ansible.builtin.assert": {"that": f"(told.contents['/root/secret'] | b64decode) == '{secret}\n'"},
        }]},
        {"hosts": "mid1", "gather_facts": False, "tasks": [
            task("slurp_secrets", paths=["/root/none"], fails=True),
            {**read, "delegate_to": "gone1"},
        ]},
    ]  # fmt: skip
    run = farm.play(plays, inventory=inventory, verbosity=3)
    farm.ssh("mid1", "rm /root/secret")
    assert [found.outcome for found in run.tasks] == ["ok", "ok", "ignored", "unreachable"]
    assert "censored" in run.tasks[0].result
    assert "/root/none: there is no such file" in run.tasks[2].result["msg"]
    assert GONE["ansible_host"] in run.tasks[3].result["msg"]
    assert secret not in run.stdout.replace(f"== '{secret}", "")
    assert farm.module("mid1", "slurp_secrets", paths=["/root/none"], check=True)["changed"] is False
