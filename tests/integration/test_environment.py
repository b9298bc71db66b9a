# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a task's environment adds, with buildx 0.13 and 0.29: proxies, defaults of the tools, no home directory."""

from __future__ import annotations

import json
import secrets
import shlex
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import seed
from ansible_runs import LiveFarm, task
from listeners import TLS_VERIFY, listening
from traces import in_output, on_host

CONTROLLERS = ("ctl", "ctlnew")
NODES = {"mid1": "linux/amd64", "mid2": "linux/arm64"}
DIRECTORY = "/root/certificates-of-a-test"
CONTEXT = "/srv/environment"
#: Nobody listens there: what takes this way fails.
PROXY = "http://127.0.0.1:9"
#: Runs a module as a user without an account, as containers do.
_STRANGER = "/srv/stranger"


@pytest.fixture(scope="module")
def tls_farm(farm: LiveFarm) -> Iterator[LiveFarm]:
    """Engines that want certificates, contexts for them on both controllers, and something to build."""
    farm.module("ctl", "docker_certificates", directory=DIRECTORY, servers=[{"name": node} for node in NODES])
    certificates = farm.ssh("ctl", f"tar -C / -cf - {DIRECTORY}/clients | base64")
    daemon_config = json.dumps({"insecure-registries": [farm.registry]})
    with ThreadPoolExecutor() as pool:
        trust = "mkdir -p /etc/docker; cat > /etc/docker/daemon.json"
        list(pool.map(lambda node: farm.ssh(node, trust, stdin=daemon_config), NODES))
    with listening(farm, "ctl", DIRECTORY, dict.fromkeys(NODES, TLS_VERIFY)):
        for controller in CONTROLLERS:
            farm.ssh(controller, "base64 -d | tar -C / -xf -", stdin=certificates)
            dockerfile = f'FROM {farm.registry}/{seed.BUSYBOX}\\nCOPY note /\\nCMD [\\"cat\\", \\"/note\\"]\\n'
            farm.ssh(
                controller, f'mkdir {CONTEXT}; cd {CONTEXT}; printf hello > note; printf "{dockerfile}" > Dockerfile'
            )
            farm.tasks(controller, contexts(), builder(farm, controller))
        yield farm
        for node in NODES:
            farm.ssh(node, "docker ps -aq | xargs -r docker rm -f; docker system prune -af --volumes")
            farm.ssh(node, "rm /etc/docker/daemon.json")
    for controller in CONTROLLERS:
        farm.ssh(controller, f"rm -rf ~/.docker {CONTEXT} {DIRECTORY} {_STRANGER}")


def contexts(**options: Any) -> dict[str, Any]:
    """A task that makes a context for each node."""
    tls = {name: f"{DIRECTORY}/clients/client/{name}.pem" for name in ("ca", "cert", "key")}
    return task(
        "docker_context", contexts=[{"name": node, "host": f"tcp://{node}:2376", **tls} for node in NODES], **options
    )


def builder(farm: LiveFarm, on: str, name: str = "environment", **options: Any) -> dict[str, Any]:
    """A task that declares a builder with a node for each platform."""
    nodes = [
        {
            "name": f"{on}-{node}",
            "endpoint": node,
            "platforms": [platform],
            "driver_opts": {"image": f"{farm.registry}/{seed.BUILDKIT}", "network": "host"},
            "buildkitd_config": f'[registry."{farm.registry}"]\n  http = true\n',
        }
        for node, platform in NODES.items()
    ]
    return task("buildx_builder", name=name, nodes=nodes, share_nodes=True, **options)


def build(farm: LiveFarm, name: str, **options: Any) -> dict[str, Any]:
    """A task that builds and pushes, and the name of the image."""
    usual = {"builder": "environment", "context": CONTEXT, "tags": [f"{farm.registry}/{name}"], "push": True}
    return task("buildx_build", **{**usual, **options})


def unused_name() -> str:
    """A name that no image has yet."""
    return f"environment-{secrets.token_hex(4)}:1"


@pytest.mark.parametrize("on", CONTROLLERS)
def test_engines_are_reached_past_the_proxy(tls_farm: LiveFarm, on: str) -> None:
    proxied = {"environment": {"HTTPS_PROXY": PROXY, "https_proxy": PROXY, "ALL_PROXY": PROXY}}
    name = unused_name()
    run = {"command": ["cat", "/note"], "expected": "hello"}
    info, again, built, rebuilt, _verified = tls_farm.tasks(
        on,
        task("docker_endpoint_info", endpoints=list(NODES), **proxied),
        builder(tls_farm, on, **proxied),
        build(tls_farm, name, platforms=list(NODES.values()), no_cache=True, **proxied),
        build(tls_farm, name, platforms=list(NODES.values()), **proxied),
        task(
            "image_verify",
            name=f"{tls_farm.registry}/{name}",
            builder="environment",
            platforms=["linux/amd64"],
            exact=False,
            run=run,
            **proxied,
        ),
    )
    assert [engine["reachable"] for engine in info["endpoints"]] == [True, True]
    assert not again["changed"]
    assert (built["changed"], rebuilt["changed"]) == (True, False)
    # What BuildKit in a container does not know it is asked for by buildx, on the same way as everything.
    removed, made = tls_farm.tasks(
        on,
        task("buildx_builder", name="environment", state="absent", keep_state=True, **proxied),
        builder(tls_farm, on, **proxied),
    )
    assert removed["changed"] and made["changed"]


@pytest.mark.parametrize("on", CONTROLLERS)
def test_a_build_without_platforms_is_for_the_first_node(tls_farm: LiveFarm, on: str) -> None:
    (built,) = tls_farm.tasks(
        on, build(tls_farm, unused_name(), environment={"DOCKER_DEFAULT_PLATFORM": "linux/arm64"})
    )
    found = [(image["platform"], image["node"]) for image in built["image"]["platforms"]]
    assert found == [("linux/amd64", f"{on}-mid1")]


@pytest.mark.parametrize("on", CONTROLLERS)
def test_defaults_of_the_tools_do_not_change_a_declared_build(tls_farm: LiveFarm, on: str) -> None:
    hostile = {
        "BUILDX_EXPERIMENTAL": "1",
        "BUILDX_BUILDER": "nowhere",
        "BUILDX_METADATA_WARNINGS": "true",
        "BUILDX_METADATA_PROVENANCE": "max",
        "BUILDX_GIT_LABELS": "full",
        "BUILDKIT_PROGRESS": "quiet",
        "BUILDKIT_HOST": "tcp://127.0.0.1:9",
        "DOCKER_API_VERSION": "1.12",
        "DOCKER_BUILDKIT": "0",
        "DOCKER_HOST": "tcp://127.0.0.1:9",
        "DOCKER_TLS_VERIFY": "1",
        "DOCKER_CERT_PATH": "/nowhere",
        "LANG": "tr_TR.UTF-8",
        "LANGUAGE": "tr",
        "LC_ALL": "tr_TR.UTF-8",
    }
    name = unused_name()
    plain, same, kept = tls_farm.tasks(
        on,
        build(tls_farm, name, platforms=list(NODES.values())),
        build(tls_farm, name, platforms=list(NODES.values()), rebuild="always", environment=hostile),
        builder(tls_farm, on, environment=hostile),
    )
    assert plain["changed"] and not same["changed"]
    assert not kept["changed"]
    assert same["metadata"].keys() == plain["metadata"].keys()
    assert same["image"] == plain["image"]


@pytest.mark.parametrize("on", CONTROLLERS)
def test_what_stands_for_an_option_is_reported_as_that_option(tls_farm: LiveFarm, on: str) -> None:
    environment = {"BUILDX_BUILDER": "environment", "SOURCE_DATE_EPOCH": "1700000000"}
    (built,) = tls_farm.tasks(on, build(tls_farm, unused_name(), builder=None, environment=environment))
    (action,) = built["actions"]
    assert action[action.index("--builder") + 1] == "environment"
    assert action[action.index("--build-arg") + 1] == "SOURCE_DATE_EPOCH=1700000000"


@pytest.mark.parametrize("on", CONTROLLERS)
def test_a_builder_goes_before_a_context_that_got_its_name_later(tls_farm: LiveFarm, on: str) -> None:
    name = unused_name()
    tls_farm.ssh(on, "docker context create environment --docker host=tcp://127.0.0.1:9")
    try:
        (built,) = tls_farm.tasks(on, build(tls_farm, name, platforms=list(NODES.values())))
        assert {image["node"] for image in built["image"]["platforms"]} == {f"{on}-mid1", f"{on}-mid2"}
    finally:
        tls_farm.ssh(on, "docker context rm environment")


@pytest.mark.parametrize("on", CONTROLLERS)
def test_an_empty_home_is_the_one_that_docker_takes(tls_farm: LiveFarm, on: str) -> None:
    homeless = {"environment": {"HOME": ""}}
    name = unused_name()
    made, kept, built, issued = tls_farm.tasks(
        on,
        builder(tls_farm, on, "homeless", **homeless),
        builder(tls_farm, on, "homeless"),
        build(tls_farm, name, builder="homeless", platforms=list(NODES.values()), **homeless),
        task("docker_certificates", directory="~/of-a-test", servers=[{"name": "n"}], **homeless),
    )
    tls_farm.ssh(on, "rm -r /root/of-a-test")
    assert made["changed"] and built["changed"] and issued["changed"]
    assert not kept["changed"], "it went to another directory"
    assert tls_farm.ssh(on, "ls -d /.docker /.config /of-a-test", check=False) == ""
    tls_farm.module(on, "buildx_builder", name="homeless", state="absent")


@pytest.mark.parametrize("on", CONTROLLERS)
def test_a_user_without_account_and_home_is_told_what_to_set(tls_farm: LiveFarm, on: str) -> None:
    python = '#!/bin/sh\nexec setpriv --reuid 54321 --regid 54321 --clear-groups env -u HOME python3 "$@"\n'
    tls_farm.ssh(on, f"mkdir -p {_STRANGER}; printf %s {shlex.quote(python)} > {_STRANGER}/python")
    tls_farm.ssh(on, f"chmod 755 {_STRANGER}/python; install -d -o 54321 {_STRANGER}/config")
    variables = {"ansible_python_interpreter": f"{_STRANGER}/python", "ansible_remote_tmp": f"{_STRANGER}/tmp"}
    here = {"docker_config": f"{_STRANGER}/config"}
    refused = [
        builder(tls_farm, on, fails=True),
        contexts(fails=True),
        build(tls_farm, unused_name(), fails=True),
        task("docker_certificates", directory="~/of-a-test", servers=[{"name": "n"}], fails=True),
    ]
    *failed, info, unreached = tls_farm.tasks(
        on,
        *refused,
        task("buildx_builder_info", **here),
        task("docker_endpoint_info", endpoints=["unix:///run/docker.sock"], **here),
        variables=variables,
    )
    for one in failed:
        assert "set HOME" in one["msg"], one["msg"]
    assert info["builders"] == []
    assert unreached["endpoints"][0]["error_kind"] == "socket"
    assert tls_farm.ssh(on, "find / -xdev -name '~'") == ""


@pytest.mark.parametrize("on", CONTROLLERS)
def test_a_home_that_cannot_be_written_is_named(tls_farm: LiveFarm, on: str) -> None:
    nowhere = {"environment": {"HOME": "/proc/nowhere"}, "fails": True}
    made, issued = tls_farm.tasks(
        on,
        contexts(**nowhere),
        task("docker_certificates", directory="~/of-a-test", servers=[{"name": "n"}], **nowhere),
    )
    for one in (made, issued):
        assert "/proc/nowhere" in one["msg"], one["msg"]
        assert "unexpected" not in one["msg"], one["msg"]


@pytest.mark.parametrize("on", CONTROLLERS)
def test_secrets_in_addresses_leave_no_traces(tls_farm: LiveFarm, on: str) -> None:
    token, password = f"ghp_{secrets.token_hex(12)}", secrets.token_hex(8)
    proxy = {"HTTPS_PROXY": f"http://me:{password}@127.0.0.1:9"}
    node = {"name": "n", "endpoint": "tcp://mid1:2376", "env": proxy}
    wrong = {"url": f"http://me:{password}@127.0.0.1:9/buildx?token={token}", "checksum": f"sha256:{'0' * 64}"}
    since = time.time()
    run = tls_farm.play(
        [
            {
                "hosts": on,
                "gather_facts": False,
                "tasks": [
                    build(tls_farm, "x", context=f"https://{token}@127.0.0.1/x.git", fails=True),
                    build(tls_farm, "x", context=f"https://127.0.0.1/x.tgz?private_token={token}", fails=True),
                    build(tls_farm, unused_name(), build_args=proxy),
                    task("buildx_plugin", path="/srv/stranger/docker-buildx", retries=0, fails=True, **wrong),
                    task("buildx_builder", name="n", nodes=[node], probe=False, check=True),
                ],
            }
        ],
        verbosity=3,
    )
    assert [one.outcome for one in run.tasks] == ["ignored", "ignored", "ok", "ignored", "ok"], run.stdout[-4000:]
    assert in_output(run, [token, password]) == []
    assert on_host(tls_farm, on, [token, password], since) == []
