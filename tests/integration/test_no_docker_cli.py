# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A controller with buildx and no docker CLI: its modules over ssh as a job's user, and the playbooks over TLS."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

import pytest

import seed
from ansible_runs import LiveFarm, shell, task

CONTROLLER, NODES = "ctl", ("mid1", "mid2")
#: What the job's credentials are written to. Its user's home directory does not exist, and cannot be made.
FOLDER, USER = "/run/job-of-a-test", "jobber"
ENVIRONMENT = {
    "DOCKER_CONFIG": f"{FOLDER}/docker",
    "SSH_AUTH_SOCK": f"{FOLDER}/agent",
    "BUILDFARM_SSH_KNOWN_HOSTS": f"{FOLDER}/known hosts",
}
_PREPARE = f"""
useradd --no-create-home --home-dir /nonexistent {USER}
install -d -o {USER} -m 700 {FOLDER}
ssh-keygen -q -t ed25519 -N '' -f {FOLDER}/key
ssh-keyscan {" ".join(NODES)} 2>/dev/null > '{FOLDER}/known hosts'
chown -R {USER} {FOLDER}
su {USER} -s /bin/sh -c 'ssh-agent -a {FOLDER}/agent > /dev/null'
SSH_AUTH_SOCK={FOLDER}/agent ssh-add -q {FOLDER}/key
rm {FOLDER}/key
cat {FOLDER}/key.pub
"""
_END = f"pkill -u {USER}; userdel {USER}; rm -rf {FOLDER}"


@pytest.fixture(scope="module", autouse=True)
def without_cli(farm: LiveFarm) -> Iterator[None]:
    """The controller without the docker CLI, and without its engine."""
    farm.ssh(CONTROLLER, "systemctl stop docker.socket docker; mv /usr/bin/docker /usr/bin/docker-away")
    try:
        assert farm.ssh(CONTROLLER, "command -v docker; pgrep dockerd", check=False) == ""
        yield
    finally:
        farm.ssh(CONTROLLER, "mv /usr/bin/docker-away /usr/bin/docker; systemctl start docker.socket docker")


@pytest.fixture(scope="module")
def job(farm: LiveFarm) -> Iterator[dict[str, str]]:
    """A user who has an agent and a file of known hosts, whom the nodes let in as root; gives its environment."""
    public = farm.ssh(CONTROLLER, _PREPARE)
    for node in NODES:
        farm.ssh(node, "cp -a ~/.ssh/authorized_keys ~/authorized-before; cat >> ~/.ssh/authorized_keys", stdin=public)
    try:
        with farm.trusted_registry(NODES[0]):
            yield ENVIRONMENT
    finally:
        for node in NODES:
            farm.ssh(node, "mv ~/authorized-before ~/.ssh/authorized_keys; docker system prune -af")
        farm.ssh(CONTROLLER, _END)


def as_job(farm: LiveFarm, environment: dict[str, str], *tasks: dict[str, Any]) -> list[dict[str, Any]]:
    """Run tasks on the controller as the job's user."""
    connection = {"ansible_become": True, "ansible_become_user": USER, "ansible_become_method": "ansible.builtin.su"}
    variables = {**connection, "ansible_remote_tmp": f"{FOLDER}/ansible"}
    return farm.tasks(CONTROLLER, *({**one, "environment": environment} for one in tasks), variables=variables)


def test_the_playbooks(farm: LiveFarm) -> None:
    """What is declared by default but the CLI for people; nothing of it is installed."""
    variables = {
        **farm.variables(f"no-cli/site:{secrets.token_hex(4)}"),
        "farm_platforms": ["linux/amd64"],
        "buildx_docker_cli": False,
    }
    variables["images_list"][0]["platforms"] = ["linux/amd64"]
    groups = {"buildx_controllers": {CONTROLLER: None}, "buildx_nodes": {NODES[1]: None}}

    def play(name: str) -> list[str]:
        return (
            farm.playbook(f"buildfarm.multiarch.{name}", variables=variables, inventory=groups).expect_success().changed
        )

    try:
        assert play("site") != []
        assert play("site") == []
        assert play("build") != []
        play("verify")
        assert farm.ssh(CONTROLLER, "command -v docker", check=False) == ""
    finally:
        play("teardown")
        farm.restart_engine(NODES[1], "rm -rf /etc/docker; docker system prune -af")
        farm.ssh(CONTROLLER, "rm -rf ~/.docker ~/.config/buildfarm /srv/hello")


def test_over_ssh_with_an_agent_and_a_file_of_known_hosts(farm: LiveFarm, job: dict[str, str]) -> None:
    name, context = f"{farm.registry}/no-cli/hello:{secrets.token_hex(4)}", f"{FOLDER}/hello"
    options = {"driver_opts": {"image": f"{farm.registry}/{seed.BUILDKIT}", "network": "host"}}
    options["buildkitd_config"] = f'[registry."{farm.registry}"]\n  http = true\n'
    endpoint = f"ssh://root@{NODES[0]}"
    node = {"name": "no-cli", "endpoint": endpoint, "platforms": ["linux/amd64"], **options}
    builder = task("buildx_builder", name="nocli", nodes=[node])
    build = task(
        "buildx_build",
        builder="nocli",
        context=context,
        tags=[name],
        push=True,
        platforms=["linux/amd64"],
        provenance=False,
    )
    dockerfile = f"FROM {farm.registry}/{seed.BUSYBOX}\nRUN echo built > /it\nCMD cat /it"
    emulators = task("binfmt", endpoint=endpoint, platforms=["linux/amd64"], image=f"{farm.registry}/{seed.EMULATOR}")
    verify = task(
        "image_verify",
        builder="nocli",
        images=[{"name": name, "platforms": ["linux/amd64"], "run": {"expected": "built"}}],
    )
    names = ("probed", "made", "kept", "info", "written", "built", "skipped", "verified", "emulated", "pruned", "gone")
    found = dict(
        zip(
            names,
            as_job(
                farm,
                job,
                task("docker_endpoint_info", endpoints=[f"ssh://root@{name}" for name in NODES]),
                builder,
                builder,
                task("buildx_builder_info", name="nocli"),
                shell(f"mkdir -p {context} && printf '{dockerfile}' > {context}/Dockerfile; test ! -w ~"),
                build,
                build,
                verify,
                emulators,
                task("buildx_prune", builder="nocli", all=True),
                task("buildx_builder", name="nocli", state="absent"),
            ),
        )
    )
    assert [engine["reachable"] for engine in found["probed"]["endpoints"]] == [True, True]
    assert (found["made"]["changed"], found["kept"]["changed"]) == (True, False)
    assert [node["status"] for node in found["info"]["builders"][0]["nodes"]] == ["running"]
    assert (found["built"]["changed"], found["skipped"]["changed"]) == (True, False)
    assert found["gone"]["changed"]
    assert farm.ssh(NODES[0], "docker ps -aq") == ""


def test_a_host_whose_key_is_not_known_is_refused(farm: LiveFarm, job: dict[str, str]) -> None:
    probe = task("docker_endpoint_info", endpoints=[f"ssh://root@{NODES[0]}"])
    farm.ssh(CONTROLLER, f"echo > {FOLDER}/empty; chmod 644 {FOLDER}/empty")
    none = f"{FOLDER}/none: there is no such file, or user {USER} may not read it"
    for file, words in (
        ("", "Host key verification failed"),
        (f"{FOLDER}/empty", "Host key ver"),
        (f"{FOLDER}/none", none),
    ):
        (found,) = as_job(farm, {**job, "BUILDFARM_SSH_KNOWN_HOSTS": file}, probe)
        assert words in found["endpoints"][0]["error"]
