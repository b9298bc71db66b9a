# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbooks from bare hosts on: predicted by check mode, done once, nothing left for a second run."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ansible_runs import LiveFarm, Run

GROUPS = {"buildx_controllers": {"barectl": None}, "buildx_nodes": {"bare1": None, "bare2": None}}
#: What a run may write without changing the host: its own logs, caches and temporary files.
PASSING = "/var/log|/var/cache|/var/lib/systemd|/root/.ansible|/var/lib/apt/periodic|/etc/ssh/ssh_host"


@pytest.fixture(scope="module")
def variables(farm: LiveFarm) -> dict[str, Any]:
    """What the user of this farm declares."""
    return farm.variables("site/hello:latest")


def play(farm: LiveFarm, name: str, variables: dict[str, Any], check: bool = False) -> Run:
    """Run one of the collection's playbooks."""
    run = farm.playbook(f"buildfarm.multiarch.{name}", variables=variables, inventory=GROUPS, check=check)
    return run.expect_success()


def fingerprint(farm: LiveFarm) -> dict[str, str]:
    """What is on each host: files with size and time, units that run, handlers of the kernel."""
    files = f"find / -xdev -type f -printf '%p %s %T@\\n' | grep -vE '^({PASSING})' | sort"
    units = "systemctl list-units --type=service --state=running --plain --no-legend | cut -d' ' -f1 | grep -v ssh"
    command = f"({files}; {units}; ls /proc/sys/fs/binfmt_misc) | sha256sum"
    return {host: farm.ssh(host, command) for hosts in GROUPS.values() for host in hosts}


def test_site_from_bare_hosts(farm: LiveFarm, variables: dict[str, Any]) -> None:
    before = fingerprint(farm)
    predicted = play(farm, "site", variables, check=True)
    assert fingerprint(farm) == before, "check mode changed a host"
    done = play(farm, "site", variables)
    assert sorted(done.changed) == sorted(predicted.changed)
    assert len(done.changed) >= 8  # packages, listener, certificates, contexts, builder …


def test_site_again_changes_nothing(farm: LiveFarm, variables: dict[str, Any]) -> None:
    before = fingerprint(farm)
    assert play(farm, "site", variables).changed == []
    assert fingerprint(farm) == before
    assert play(farm, "site", variables, check=True).changed == []


def test_variables_given_as_text_declare_the_same(farm: LiveFarm, variables: dict[str, Any]) -> None:
    """What a survey, an INI inventory or `-e name=value` sends: false is false, a blank field was not given."""
    text = {name: value if isinstance(value, str) else json.dumps(value) for name, value in variables.items()}
    text["farm_platforms"] = ", ".join(variables["farm_platforms"])
    blank = {"engine_version": "", "listener_port": "", "farm_node_platforms": "", "listener_clients": ""}
    switches = {"listener_ssh": "false", "listener_insecure": "no", "farm_use": "yes", "engine_remove_conflicting": "0"}
    assert play(farm, "site", {**text, **blank, **switches}, check=True).changed == []
    assert play(farm, "site", {**text, **blank, **switches}).changed == []


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"engine_source": "dokcer"}, 'engine_source: found "dokcer", wanted one of distribution, docker, none'),
        ({"listener_ssh": "flase"}, 'listener_ssh: found "flase", wanted true or false'),
        ({"engine_version": 20.1}, "engine_version: found 20.1, wanted a text"),
        ({"engine_minimum_version": "28.0-1"}, "engine_minimum_version: version '28.0-1': wanted a form like 28.0"),
        ({"farm_platforms": "linux/amd64;linux/arm64"}, "farm_platforms: platform"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_the_first_change(
    farm: LiveFarm, variables: dict[str, Any], wrong: dict[str, Any], message: str
) -> None:
    run = farm.playbook("buildfarm.multiarch.site", variables={**variables, **wrong}, inventory=GROUPS)
    assert run.rc != 0
    assert run.changed == []
    failed = [task for task in run.tasks if task.outcome == "failed"]
    assert {task.task for task in failed} == {"Look at the host"}
    assert all(message in task.result["msg"] for task in failed)


def test_a_misspelt_variable_is_warned_of(farm: LiveFarm, variables: dict[str, Any]) -> None:
    run = play(farm, "site", {**variables, "listener_intreface": "eth0"}, check=True)
    assert "listener_intreface is no variable of the role listener" in str([task.result for task in run.tasks])


def test_build_and_verify(farm: LiveFarm, variables: dict[str, Any]) -> None:
    predicted = play(farm, "build", variables, check=True)
    done = play(farm, "build", variables)
    assert sorted(done.changed) == sorted(predicted.changed)
    (built,) = (task.result["images"] for task in done.tasks if task.action.endswith("buildx_build"))
    natives = {entry["platform"]: entry["native"] for entry in built[0]["platforms"]}
    assert natives == {"linux/amd64": True, "linux/arm64": False}
    assert play(farm, "build", variables).changed == []
    checked = play(farm, "verify", variables)
    assert checked.changed == []
    (verified,) = (task.result["images"] for task in checked.tasks if task.action.endswith("image_verify"))
    platforms = {entry["platform"]: entry for entry in verified[0]["platforms"]}
    assert platforms["linux/arm64"]["output"].strip() == "hello from linux/arm64 on aarch64"


def test_verify_names_what_is_missing(farm: LiveFarm, variables: dict[str, Any]) -> None:
    (image,) = variables["images_list"]
    asked = {**variables, "images_list": [{**image, "platforms": ["linux/amd64", "linux/arm64", "linux/s390x"]}]}
    run = farm.playbook("buildfarm.multiarch.verify", variables=asked, inventory=GROUPS)
    assert run.rc != 0
    assert "linux/s390x" in str([task.result for task in run.tasks if task.outcome == "failed"])


def test_teardown(farm: LiveFarm, variables: dict[str, Any]) -> None:
    predicted = play(farm, "teardown", variables, check=True)
    done = play(farm, "teardown", variables)
    assert sorted(done.changed) == sorted(predicted.changed)
    assert len(done.changed) >= 5  # builder, contexts, handler, two listeners
    assert play(farm, "teardown", variables).changed == []
    for host in GROUPS["buildx_nodes"]:
        assert "2376" not in farm.ssh(host, "ss -ltn")
        assert farm.ssh(host, "docker ps --all --quiet; docker volume ls --quiet") == ""
