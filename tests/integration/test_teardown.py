# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""After teardown each host is as it was before site, on each suite: files, units, ports, accounts, Docker.

Handlers are the machine's own, so tests that run side by side would change them; `test_site.py` has them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from ansible_runs import LiveFarm, Run

CONTROLLER, NODES = "ctl", ("old1", "mid1", "new1")
#: Hosts that have nothing of it: a node, and a mirror.
BARE, MIRROR = "bare1", "bare2"
#: The buildx plugin of a package.
PACKAGED = "/usr/libexec/docker/cli-plugins/docker-buildx"
#: Where nobody answers.
NOWHERE = "198.18.255.254"
#: What changes by itself, or by looking: logs, caches, what the package manager and the engine keep for themselves.
_PASSING = (
    "proc sys dev run tmp var/log var/cache var/tmp var/lib/docker var/lib/containerd var/lib/systemd var/lib/apt"
)
_PASSING += " root/.ansible root/.cache etc/ld.so.cache srv/bytecode etc/group- etc/gshadow- etc/passwd- etc/shadow-"
# Which packages there are is compared by itself.
_PASSING += " var/lib/dpkg/status var/lib/dpkg/status-old"
_STATE = rf"""
cd /; set -e
find . -xdev \( {" -o ".join(f"-path ./{path}" for path in _PASSING.split())} \) -prune -o \
  -not -name '*.pyc' -not -name __pycache__ -printf 'file %p %y %m %U:%G %l\n' | LC_ALL=C sort
find ./etc ./root ./home ./usr/local ./opt ./var/lib -xdev \
  \( {" -o ".join(f"-path ./{path}" for path in _PASSING.split())} \) -prune -o -type f -print0 | xargs -0r sha256sum
systemctl list-unit-files --no-legend --no-pager | awk '{{print "unit", $1, $2}}'
ss -ltnH not src 127.0.0.1 | awk '{{print "port", $4}}' | sort
getent passwd; getent group
dpkg -l | awk '/^ii/ {{print "package", $2, $3}}'
if command -v docker >/dev/null; then
  docker context ls --format 'context {{{{.Name}}}}'
  if systemctl is-active -q docker; then
    docker ps -a --format 'container {{{{.Names}}}}'
    docker volume ls --format 'volume {{{{.Name}}}}'
    docker network ls --format 'network {{{{.Name}}}}'
  fi
fi
"""
OTHERS = '{"log-opts": {"max-size": "7m"}, "mtu": 1400}\n'
#: In form that of a registry, which nothing is asked of.
AUTHORITY = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"


class Farm:
    """The hosts of the test, and what is on them."""

    def __init__(self, farm: LiveFarm) -> None:
        self.farm = farm
        variables = farm.variables("unused")
        daemon_config = {**variables["engine_daemon_config"], "log-opts": {"max-size": "9m", "max-file": "3"}}
        self.variables = {
            **variables,
            "farm_platforms": [],
            "engine_daemon_config": daemon_config,
            "engine_users": ["farmer"],
            "engine_registry_authorities": {"registry.example.com:5000": AUTHORITY},
        }

    def play(self, name: str, *options: str, **more: Any) -> Run:
        """Run one of the collection's playbooks."""
        nodes = {node: more.pop("elsewhere", {}).get(node) for node in NODES}
        inventory = {"buildx_controllers": {CONTROLLER: None}, "buildx_nodes": nodes}
        return self.farm.playbook(
            f"buildfarm.multiarch.{name}", variables=self.variables, inventory=inventory, more=options, **more
        )

    def state(self, *hosts: str) -> dict[str, set[str]]:
        """All that there is on each host, a line for each thing."""
        return {host: set(self.farm.ssh(host, _STATE).splitlines()) for host in hosts or (CONTROLLER, *NODES)}


@pytest.fixture(scope="module")
def hosts(farm: LiveFarm) -> Iterator[Farm]:
    """Hosts on which there is something already."""
    there = (
        "useradd -m farmer; docker volume create mine; docker network create mine; mkdir -p /etc/docker/certs.d/mine; "
        "rm -f /etc/docker/.daemon.json.former; rmdir --ignore-fail-on-non-empty /etc/systemd/system/docker.service.d"
    )
    for node in NODES:
        farm.ssh(node, f"{there}; echo other > /etc/docker/certs.d/own/ca.crt; docker ps -a >/dev/null")
    farm.restart_engine("mid1", "cat > /etc/docker/daemon.json", stdin=OTHERS)
    farm.ssh(CONTROLLER, "docker context create mine --docker host=tcp://192.0.2.9:2376")
    made = Farm(farm)
    yield made
    made.play("teardown")
    for node in NODES:
        left = "userdel -r farmer 2>/dev/null; docker volume rm mine; docker network rm mine; rm -rf /etc/docker"
        farm.ssh(node, f"{left}; systemctl reset-failed docker; systemctl restart docker")
    farm.ssh(CONTROLLER, "rm -rf ~/.docker ~/.config/buildfarm")


def differing(before: dict[str, set[str]], after: dict[str, set[str]]) -> dict[str, list[str]]:
    """What is on each host that was not, and what was and is not."""
    found = {
        host: sorted([f"+ {line}" for line in after[host] - lines] + [f"- {line}" for line in lines - after[host]])
        for host, lines in before.items()
    }
    return {host: lines for host, lines in found.items() if lines}


def test_all_is_as_it_was_before(hosts: Farm) -> None:
    ssh = hosts.farm.ssh
    before = hosts.state()
    hosts.play("site").expect_success()
    assert set(differing(before, hosts.state())) == {CONTROLLER, *NODES}
    hosts.play("drain", limit="new1").expect_success()
    part = hosts.play("teardown", "--tags", "engine").expect_success()
    assert {change.rpartition(" : ")[2] for change in part.changed} == {
        "Trust the authorities of registries no longer",
        "Have the accounts be members of group docker no longer",
    }
    predicted = hosts.play("teardown", check=True).expect_success()

    # A node that does not answer stops no other, and has its turn when it is back.
    gone = {"old1": {"ansible_host": NOWHERE, "farm_address": "old1"}}
    hosts.farm.farm.power_off("old1")
    try:
        first = hosts.play("teardown", elsewhere=gone)
    finally:
        hosts.farm.farm.power_on("old1")
    assert first.rc != 0
    assert {task.host for task in first.tasks if task.outcome in ("failed", "unreachable")} == {"old1"}
    (told,) = (task.result["msg"] for task in first.tasks if task.task.startswith("Name the") and "msg" in task.result)
    assert told.startswith("left as they are, in the builder, with the listeners, handlers and containers that they")
    assert "old1: " in told
    ssh("old1", "timeout 60 sh -c 'until docker info >/dev/null 2>&1; do sleep 0.5; done'")
    second = hosts.play("teardown").expect_success()
    done = {change for change in first.changed + second.changed if not change.startswith(CONTROLLER)}
    assert done == {change for change in predicted.changed if not change.startswith(CONTROLLER)}

    after = differing(before, hosts.state())
    # The authority stays, and directories that buildx and docker keep for themselves.
    kept = ("./root/.config", "./root/.docker/buildx", "./root/.docker/contexts/tls d")
    own = [line for line in after.pop(CONTROLLER, []) if not any(f" {path}" in line for path in kept)]
    assert not own, own
    assert not after, after
    last = hosts.play("teardown", "--tags", "all,authority").expect_success()
    assert [change.partition(" : ")[2][:32] for change in last.changed] == ["Remove the certificate authority"]
    assert ssh(CONTROLLER, "ls ~/.config/buildfarm") == ""


def test_a_machine_that_is_controller_and_only_node_is_as_it_was_before(farm: LiveFarm) -> None:
    both = {name: {CONTROLLER: None} for name in ("buildx_controllers", "buildx_nodes")}
    variables = {
        **farm.variables("unused"),
        "farm_builder": "teardown-alone",
        "farm_platforms": [],
        "farm_endpoint": "unix:///var/run/docker.sock",
        "listener_ssh": True,
    }
    before = Farm(farm).state(CONTROLLER)
    for name in ("site", "teardown"):
        farm.playbook(f"buildfarm.multiarch.{name}", variables=variables, inventory=both).expect_success()
        found = farm.ssh(CONTROLLER, "docker buildx ls; docker ps -a --format '{{.Names}}'; docker volume ls -q")
        assert ("teardown-alone" in found) == (name == "site"), found
    kept = ("./root/.docker", "./etc/docker d")
    after = differing(before, Farm(farm).state(CONTROLLER)).get(CONTROLLER, [])
    assert not [line for line in after if not any(f" {path}" in line for path in kept)], after


@pytest.fixture
def bare(farm: LiveFarm) -> Iterator[LiveFarm]:
    """Hosts without an engine and a mirror, whatever other tests have installed there."""
    packages = "docker.io docker-cli docker-buildx docker-registry containerd runc"
    left = "userdel docker-registry; groupdel docker-registry; groupdel docker; rm -rf /etc/docker /etc/cni"
    for host in (BARE, MIRROR):
        purge = f"apt-get -q -y purge {packages}; apt-get -q -y autoremove --purge"
        farm.ssh(host, f"{purge}; {left} /var/lib/docker-registry", check=False)
    yield farm
    farm.ssh(CONTROLLER, "rm -rf ~/.docker ~/.config/buildfarm")


def test_a_farm_with_a_mirror_is_provided_pruned_and_taken_away_with_its_packages(bare: LiveFarm) -> None:
    """Engine and mirror are installed, and both hosts are in the end as if that had never been."""
    variables = {
        **bare.variables("unused"),
        "farm_platforms": [],
        "engine_users": ["root"],
        "mirror_upstream": f"http://{bare.registry}",
        "buildx_src": PACKAGED,
    }
    inventory: dict[str, Any] = {
        "buildx_controllers": {CONTROLLER: None},
        "buildx_nodes": {BARE: None},
        "buildx_mirrors": {MIRROR: None},
    }

    def play(name: str, *options: str, check: bool = False) -> Run:
        run = bare.playbook(
            f"buildfarm.multiarch.{name}", variables=variables, inventory=inventory, more=options, check=check
        )
        return run.expect_success()

    def tasks(run: Run) -> list[str]:
        return [change.partition(" : ")[2] for change in run.changed]

    farm = Farm(bare)
    before = farm.state(BARE, MIRROR)
    play("site")
    mirror = f"http://{bare.address(MIRROR)}:5000"
    assert mirror in bare.ssh(BARE, "docker info --format '{{json .RegistryConfig.Mirrors}}'")
    bare.ssh(BARE, "docker pull -q busybox")
    assert bare.ssh(MIRROR, "find /var/lib/docker-registry -type d -name busybox")
    assert play("site").changed == []
    play("prune")

    # A part by itself is the mirror's alone, and leaves the package.
    part = play("teardown", "--tags", "mirror")
    assert {change.partition(":")[0] for change in part.changed} == {MIRROR}
    assert bare.ssh(MIRROR, "dpkg --verify docker-registry; ls -d /etc/docker/registry/.* | grep former", False) == ""
    assert play("teardown", "--tags", "mirror").changed == []

    plugin = "ls ~/.docker/cli-plugins/docker-buildx"
    assert bare.ssh(CONTROLLER, plugin)
    predicted = play("teardown", "--tags", "all,packages", check=True)
    done = play("teardown", "--tags", "all,packages")
    assert tasks(predicted) == tasks(done)
    assert play("teardown", "--tags", "all,packages").changed == []
    after = differing(before, farm.state(BARE, MIRROR))
    assert not after, after
    assert not bare.ssh(CONTROLLER, plugin, check=False)
