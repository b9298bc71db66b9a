# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`--become` for all hosts, as AWX passes it, and users that are not root."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from ansible_runs import LiveFarm, Run, installing
from building import unlisten

ROOTS, USERS = "ctl", "ctlnew"
FREE, ASKED = "mid1", "mid2"
USER = "farmhand"
PASSWORD = secrets.token_urlsafe(12)
#: What each host's user may do with sudo: all without a password, all with one, nothing.
MAY = {ROOTS: "NOPASSWD: ALL", FREE: "NOPASSWD: ALL", ASKED: "ALL", USERS: ""}
_MAKE = """
getent passwd {user} >/dev/null || useradd --create-home --shell /bin/bash {user}
install -d -o {user} -g {user} -m 700 ~{user}/.ssh
install -o {user} -g {user} -m 600 ~/.ssh/authorized_keys ~{user}/.ssh/authorized_keys
chpasswd
"""


@pytest.fixture(scope="module")
def groups(farm: LiveFarm) -> Iterator[dict[str, Any]]:
    """The inventory, of hosts that have a user with some rights; both are taken away at the end."""

    def make(host: str) -> None:
        farm.ssh(host, f"set -e; {_MAKE.format(user=USER)}", stdin=f"{USER}:{PASSWORD}\n")
        if MAY[host]:
            farm.ssh(host, f"test -e /usr/bin/sudo || {installing('sudo')}")
            farm.ssh(host, f"echo '{USER} ALL=(ALL) {MAY[host]}' > /etc/sudoers.d/{USER}")

    def remove(host: str) -> None:
        farm.ssh(host, f"pkill -KILL -u {USER}; userdel --remove {USER}; rm -rf /etc/sudoers.d/{USER}", check=False)
        farm.ssh(host, "rm -rf ~/.docker ~/.config/buildfarm")

    with ThreadPoolExecutor() as pool:
        list(pool.map(make, MAY))
    user = {"ansible_user": USER}
    try:
        yield {
            # The docker configuration of a controller is root's where it becomes root, else its user's.
            "buildx_controllers": {ROOTS: user, USERS: {**user, "ansible_become": False}},
            "buildx_nodes": {FREE: user, ASKED: {**user, "ansible_become_password": PASSWORD}},
        }
    finally:
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda host: unlisten(farm, host), (FREE, ASKED)))
            list(pool.map(remove, MAY))


def play(farm: LiveFarm, groups: dict[str, Any], name: str) -> Run:
    """Run a playbook of the collection."""
    variables = {**farm.variables("unused"), "farm_platforms": [], "emulators_platforms": []}
    playbook = f"buildfarm.multiarch.{name}"
    return farm.playbook(playbook, variables=variables, inventory=groups, more=["--become"]).expect_success()


def test_users_that_are_not_root(farm: LiveFarm, groups: dict[str, Any]) -> None:
    done = play(farm, groups, "site")
    assert {change.partition(":")[0] for change in done.changed} == set(MAY)
    assert play(farm, groups, "site").changed == []
    files = "ls -d {home}/.docker/buildx/instances/farm {home}/.config/buildfarm/certificates/clients"
    farm.ssh(ROOTS, files.format(home="/root"))
    farm.ssh(USERS, files.format(home=f"/home/{USER}"))
    assert PASSWORD not in done.stdout + done.stderr
    play(farm, groups, "teardown")
    farm.ssh(USERS, f"test ! -e /home/{USER}/.docker/buildx/instances/farm")


def test_a_container_without_sudo_is_who_it_is(farm: LiveFarm, groups: dict[str, Any]) -> None:
    """For its own tasks, and for those of nodes that are delegated to it; nodes still become root."""
    # Where it runs as root, Ansible itself spares what would only become root.
    here = {"ansible_connection": "local", "ansible_become_exe": "/no/sudo", "ansible_become_user": "nobody"}
    node = groups["buildx_nodes"][ASKED]
    inventory = {"buildx_controllers": {"here": here}, "buildx_nodes": {ASKED: node}}
    command = {"ansible.builtin.command": "id -u", "changed_when": False}
    role = {"name": "buildfarm.multiarch.farm", "tasks_from": "become", "rolespec_validate": False}
    plays = [
        {"hosts": "all", "gather_facts": False, "tasks": [{"ansible.builtin.import_role": role}]},
        {"hosts": "buildx_controllers", "gather_facts": False, "tasks": [command]},
        {"hosts": "buildx_nodes", "gather_facts": False, "tasks": [command, {**command, "delegate_to": "here"}]},
    ]
    run = farm.play(plays, inventory=inventory, more=["--become"]).expect_success()
    assert [one.result["stdout"] for one in run.tasks if one.action.endswith("command")] == ["0", "0", "0"]
    failed = farm.play(plays[1:2], inventory=inventory, more=["--become"])
    assert failed.rc != 0 and "/no/sudo" in str(failed.tasks[-1].result)
