"""buildx_builder and buildx_builder_info against real engines, on controllers with buildx 0.13 and 0.29.

`BUILDFARM_CASES` is the number of random declarations, `BUILDFARM_SEED` repeats those of an earlier run.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from ansible_collections.buildfarm.multiarch.tests.unit.builder_walk import Walk

import kills
from ansible_runs import LiveFarm, task
from listeners import PLAIN, TLS_VERIFY, let_in_by_ssh, listening

CONTROLLERS = ("ctl", "ctlnew")
#: Engines that listen on plain TCP, and those that want mutual TLS, which buildx uses through docker contexts only.
PLAIN_ENGINES, TLS_ENGINES = ("mid1", "new1"), ("mid2", "old1")
DIRECTORY = "/root/certificates-of-a-test"
CLIENT = f"{DIRECTORY}/clients/client"
#: The engine is asked only where it has something, which its directories say sooner.
_QUIET = """
cd /var/lib/docker
test -z "$(ls containers)" || docker ps -aq --filter name=buildx_buildkit_ | xargs -r docker rm -f
ls volumes | grep '^buildx_buildkit_\\|^buildfarm_mark_' | xargs -r docker volume rm
"""
#: What a fresh controller has: nothing but the contexts.
_CONTEXTS = "/root/contexts-of-a-test.tar"
_FORGET = f"rm -rf ~/.docker; tar -C ~ -xf {_CONTEXTS}"


class Builders:
    """The farm with engines that listen, and shorthands for declaring builders on them."""

    def __init__(self, farm: LiveFarm) -> None:
        self.farm = farm
        self.image = f"{farm.registry}/moby/buildkit:buildx-stable-1"
        emulated = tuple(host.name for host in farm.farm.hosts if host.emulated)
        #: The real arm64 machine, where the farm has one, and another node for tests that do not care which.
        self.arm64 = emulated[0] if emulated else None
        self.other = self.arm64 or "new1"
        self.plain = (*PLAIN_ENGINES, *emulated)
        self.engines = (*self.plain, *TLS_ENGINES)

    def endpoint(self, host: str) -> str:
        """How the engine of a host is reached: every host has a context of its name."""
        return f"tcp://{host}:2375" if host in self.plain else host

    def node(self, host: str, **options: Any) -> dict[str, Any]:
        """A node of the host's name on its engine."""
        opts = {"image": self.image, "network": "host", **options.pop("opts", {})}
        return {"name": host, "endpoint": self.endpoint(host), "driver_opts": opts, **options}

    def run(
        self,
        *nodes: dict[str, Any],
        on: str = "ctl",
        fails: bool = False,
        environment: dict[str, str] | None = None,
        **options: Any,
    ) -> dict[str, Any]:
        """Declare the builder `farm` as a whole; check mode must have predicted what the run then does."""
        declared = {"nodes": list(nodes)} if nodes else {}
        arguments = {"name": "farm", "purge_nodes": True, **declared, "environment": environment, **options}
        if not fails:
            return self.farm.converge(on, "buildx_builder", **arguments)
        (failed,) = self.farm.tasks(on, task("buildx_builder", fails=True, **arguments))
        return failed

    def instance(self, on: str = "ctl") -> str:
        """The builder's definition as it is on disk."""
        return self.farm.ssh(on, "cat ~/.docker/buildx/instances/farm")

    def containers(self, host: str) -> dict[str, str]:
        """Identifiers of the BuildKit containers on an engine, by name."""
        lines = self.farm.ssh(host, "docker ps -a --no-trunc --format '{{.Names}} {{.ID}}'").split()
        return dict(zip(lines[::2], lines[1::2]))

    def volumes(self, host: str) -> list[str]:
        """The caches on an engine, each with the time it was made."""
        command = "docker volume ls -q --filter name=buildx_buildkit_ | xargs -r docker volume inspect"
        command += " --format '{{.Name}} {{.CreatedAt}}'"
        return sorted(self.farm.ssh(host, command).splitlines())


@pytest.fixture(scope="module")
def engines(farm: LiveFarm) -> Iterator[Builders]:
    """Engines that listen for the time of these tests, and contexts for them on the controllers."""
    builders = Builders(farm)
    daemon_config = json.dumps({"insecure-registries": [farm.registry]})
    servers = [{"name": host} for host in builders.engines]
    farm.module("ctl", "docker_certificates", directory=DIRECTORY, servers=servers)
    tls = f"ca={CLIENT}/ca.pem,cert={CLIENT}/cert.pem,key={CLIENT}/key.pem"
    hosts = {host: f"host=tcp://{host}:2375" for host in builders.plain}
    hosts |= {host: f"host=tcp://{host}:2376,{tls}" for host in TLS_ENGINES}
    make = " && ".join(f"docker context create {host} --docker {docker}" for host, docker in hosts.items())
    packed = farm.ssh("ctl", f"rm -rf ~/.docker && {{ {make}; }} >/dev/null && tar -C ~ -cf - .docker | base64")
    for controller in CONTROLLERS:
        farm.ssh(controller, f"base64 -d > {_CONTEXTS}", stdin=packed)
    flags = {**dict.fromkeys(builders.plain, PLAIN), **dict.fromkeys(TLS_ENGINES, TLS_VERIFY)}
    with ThreadPoolExecutor() as pool:
        everywhere = ("ctl", *builders.engines)
        list(pool.map(lambda host: farm.ssh(host, "cat > /etc/docker/daemon.json", stdin=daemon_config), everywhere))
        farm.ssh("ctl", "systemctl reload docker")
        with listening(farm, "ctl", DIRECTORY, flags):
            yield builders
            list(pool.map(lambda host: farm.ssh(host, f"{_QUIET} rm /etc/docker/daemon.json"), everywhere))
        farm.ssh("ctl", f"systemctl reload docker; rm -rf {DIRECTORY}")
        list(pool.map(lambda host: farm.ssh(host, f"rm -rf ~/.docker {_CONTEXTS}"), CONTROLLERS))


@pytest.fixture
def builders(engines: Builders) -> Iterator[Builders]:
    """No builder and no BuildKit container anywhere at the start."""
    commands = {**dict.fromkeys(CONTROLLERS, _FORGET), **dict.fromkeys(engines.engines, _QUIET)}
    with ThreadPoolExecutor() as pool:
        list(pool.map(engines.farm.ssh, commands, commands.values()))
    return engines


@pytest.mark.parametrize("on", CONTROLLERS)
def test_create_append_bootstrap_and_remove(builders: Builders, on: str) -> None:
    created = builders.run(builders.node("mid1", platforms=["linux/amd64"]), on=on)
    assert created["actions"] == [
        ["docker", "buildx", "inspect", "--bootstrap", "farm"],
        ["write", "/root/.docker/buildx/instances/farm"],
    ]
    assert created["diff"]["before"] == {"state": "absent"}
    (node,) = created["builder"]["nodes"]
    assert (node["status"], node["native"]) == ("running", "linux/amd64")
    assert "linux/amd64" in node["detected"]

    other = builders.other
    appended = builders.run(builders.node(other, platforms=["linux/arm64/v8"]), on=on, purge_nodes=False)
    assert [node["name"] for node in appended["builder"]["nodes"]] == ["mid1", other]
    assert appended["builder"]["nodes"][1]["native"] == ("linux/arm64" if builders.arm64 else "linux/amd64")
    assert [node["platforms"] for node in appended["builder"]["nodes"]] == [["linux/amd64"], ["linux/arm64"]]
    listed = builders.farm.ssh(on, "docker buildx inspect farm")
    assert "linux/arm64*" in listed and listed.count("running") == 2

    removed = builders.run(on=on, state="absent")
    assert removed["builder"] is None
    assert builders.containers("mid1") == builders.containers(other) == {}
    assert builders.volumes("mid1") == []
    assert "farm" not in builders.farm.ssh(on, "docker buildx ls 2>/dev/null")


@pytest.mark.parametrize("on", CONTROLLERS)
def test_the_definition_is_what_buildx_writes(builders: Builders, on: str) -> None:
    """Byte for byte, for options with quotes and angle brackets, flags, a configuration with certificates, and pins."""
    builders.farm.ssh(on, "mkdir -p /srv/b && cd /srv/b && echo CA > ca.pem && echo K > k.pem && echo C > c.pem")
    config = (
        'debug = true\n[registry."bare"]\n  mirrors = []\n'
        '[registry."reg.example.com:5000"]\n  http = true\n  ca = ["/srv/b/ca.pem"]\n'
        '  [[registry."reg.example.com:5000".keypair]]\n    key = "/srv/b/k.pem"\n    cert = "/srv/b/c.pem"\n'
        '[worker.oci]\n  gc = true\n  [[worker.oci.gcpolicy]]\n  filters = ["a", "b"]\n  keepBytes = 1000\n'
    )
    builders.farm.ssh(on, "cat > /srv/b/buildkitd.toml", stdin=config)
    opts = f"image={builders.image},network=host"
    builders.farm.ssh(
        on,
        f"""set -e; export DOCKER_CONFIG=/srv/b/docker; mkdir $DOCKER_CONFIG
        cp -a ~/.docker/contexts $DOCKER_CONFIG; c='docker buildx create --name farm --driver docker-container'
        $c --node Mid1 --platform linux/arm64/v8,linux/arm --driver-opt '{opts},"env.A=b<c&d, e"' tcp://mid1:2375
        $c --append --node new1 --platform linux/amd64 --config /srv/b/buildkitd.toml --driver-opt {opts} \
           --buildkitd-flags '--debug --oci-worker-gc=true' tcp://new1
        $c --append --node old1 --driver-opt image={builders.image} \
           --buildkitd-flags '--allow-insecure-entitlement=security.insecure' old1""",
    )
    theirs = builders.farm.ssh(on, "cat /srv/b/docker/buildx/instances/farm; rm -rf /srv/b/docker")
    builders.run(
        {
            **builders.node("mid1", platforms=["linux/arm64/v8", "linux/arm"], opts={"env.A": "b<c&d, e"}),
            "name": "Mid1",
        },
        {
            **builders.node("new1", platforms=["linux/amd64"], buildkitd_flags="--debug --oci-worker-gc=true"),
            "buildkitd_config_file": "/srv/b/buildkitd.toml",
            "endpoint": "tcp://new1",
        },
        {
            **builders.node("old1", buildkitd_flags=["--allow-insecure-entitlement=security.insecure"]),
            "driver_opts": {"image": builders.image},
        },
        on=on,
        bootstrap=False,
    )
    assert builders.instance(on) == theirs


@pytest.mark.parametrize("on", CONTROLLERS)
def test_a_builder_made_by_buildx_is_taken_as_it_is(builders: Builders, on: str) -> None:
    builders.farm.ssh(
        on,
        f"docker buildx create --name farm --driver docker-container --node mid1 --bootstrap --platform linux/amd64"
        f" --driver-opt image={builders.image},network=host tcp://mid1:2375",
    )
    before = builders.containers("mid1")
    result = builders.run(builders.node("mid1", platforms=["linux/amd64"]), on=on)
    assert (result["changed"], builders.containers("mid1")) == (False, before)
    # What is not declared is left as it is.
    assert not builders.run({"name": "mid1"}, on=on)["changed"]
    assert not builders.run(on=on)["changed"]


def test_options_change_one_container_and_keep_its_cache(builders: Builders) -> None:
    nodes = [builders.node("mid1"), builders.node(builders.other)]
    builders.run(*nodes)
    before, other, caches = builders.containers("mid1"), builders.containers(builders.other), builders.volumes("mid1")
    nodes[0] = builders.node("mid1", opts={"default-load": True})
    # buildx 0.13 does not know the option yet, and the module says so before anything is done.
    refused = builders.run(*nodes, fails=True)
    assert "the driver option default-load needs buildx 0.14.0 or later, found 0.13.1" in refused["msg"]
    assert builders.containers("mid1") == before
    nodes[0] = builders.node(
        "mid1",
        opts={"cpu-shares": 512, "restart-policy": "on-failure:3"},
        env={"HTTP_PROXY": "http://proxy.example.com"},
    )
    changed = builders.run(*nodes)
    assert changed["actions"][0] == ["remove-container", "tcp://mid1:2375", "buildx_buildkit_mid1"]
    after = builders.containers("mid1")
    assert after.keys() == before.keys() and after != before
    assert builders.volumes("mid1") == caches and builders.containers(builders.other) == other
    assert "HTTP_PROXY" in builders.farm.ssh("mid1", "docker inspect -f '{{.Config.Env}}' buildx_buildkit_mid1")
    policy = builders.farm.ssh("mid1", "docker inspect -f '{{json .HostConfig.RestartPolicy}}' buildx_buildkit_mid1")
    assert json.loads(policy) == {"Name": "on-failure", "MaximumRetryCount": 3}
    # Options that are taken away, which buildx itself never removes.
    nodes[0] = builders.node("mid1", env={})
    builders.run(*nodes)
    assert "HTTP_PROXY" not in builders.instance()
    assert "HTTP_PROXY" not in builders.farm.ssh("mid1", "docker inspect -f '{{.Config.Env}}' buildx_buildkit_mid1")


def test_a_configuration_comes_changes_and_goes(builders: Builders) -> None:
    """buildx panics when a configuration is added to a node that has none."""
    read = "docker cp buildx_buildkit_mid1:/etc/buildkit/buildkitd.toml -"
    builders.run(builders.node("mid1"))
    builders.run(builders.node("mid1", buildkitd_config='[registry."a.example"]\nhttp = true\n'))
    assert "a.example" in builders.farm.ssh("mid1", read)
    # Another spelling of the same is no change.
    same = builders.run(builders.node("mid1", buildkitd_config='[registry]\n  [registry."a.example"]\n    http=true'))
    assert not same["changed"]
    # Unset leaves it alone.
    assert not builders.run(builders.node("mid1"))["changed"]
    builders.run(builders.node("mid1", buildkitd_config='[registry."b.example"]\nhttp = true\n'))
    assert "b.example" in builders.farm.ssh("mid1", read)
    builders.run(builders.node("mid1", buildkitd_config=""))
    assert '"Files":null' in builders.instance()


def test_pins_move_between_nodes(builders: Builders) -> None:
    """buildx takes a pin from whichever node had it, in the order of its commands."""
    other = builders.other
    builders.run(builders.node("mid1", platforms=["linux/amd64"]), builders.node(other, platforms=["linux/arm64"]))
    before = {**builders.containers("mid1"), **builders.containers(other)}
    swapped = builders.run(
        builders.node("mid1", platforms=["linux/arm64"]),
        builders.node(other, platforms=["linux/amd64", "linux/386"]),
    )
    assert swapped["actions"] == [["write", "/root/.docker/buildx/instances/farm"]]
    pins = [node["platforms"] for node in swapped["builder"]["nodes"]]
    assert pins == [["linux/arm64"], ["linux/amd64", "linux/386"]]
    assert {**builders.containers("mid1"), **builders.containers(other)} == before
    cleared = builders.run({"name": "mid1", "platforms": []}, {"name": other})
    assert [node["platforms"] for node in cleared["builder"]["nodes"]] == [[], ["linux/amd64", "linux/386"]]


def test_what_happened_to_containers_is_repaired(builders: Builders) -> None:
    nodes = [builders.node("mid1"), builders.node("mid2"), builders.node(builders.other)]
    builders.run(*nodes)
    untouched = builders.containers(builders.other)
    builders.farm.ssh("mid1", "docker rm -f buildx_buildkit_mid1; docker rmi -f $(docker images -q)")
    builders.farm.ssh("mid2", "docker stop buildx_buildkit_mid2")
    repaired = builders.run(*nodes)
    statuses = [node["container"] for node in repaired["diff"]["before"]["nodes"]]
    assert statuses == ["missing", "stopped", "running"]
    assert repaired["actions"] == [["docker", "buildx", "inspect", "--bootstrap", "farm"]]
    # Made anew by hand with other arguments.
    builders.farm.ssh(
        "mid1",
        f"docker rm -f buildx_buildkit_mid1; docker run -d --privileged --name buildx_buildkit_mid1 {builders.image}",
    )
    repaired = builders.run(*nodes)
    assert repaired["diff"]["before"]["nodes"][0]["container"] == "running, outdated (flags, network)"
    assert builders.containers(builders.other) == untouched


def test_a_long_start_is_told_as_it_goes(builders: Builders) -> None:
    """In the journal of the controller, while the module still waits for a node that pulls its image."""
    farm, unreachable = builders.farm, "iptables -{} OUTPUT -d registry.farm.test -p tcp -j DROP"
    farm.ssh("mid1", f"docker rmi -f {builders.image}; {unreachable.format('I')}")
    since = farm.ssh("ctl", "date '+%F %T'").strip()
    with ThreadPoolExecutor() as pool:
        try:
            nodes = [builders.node("mid1", env={"TOKEN": "not for logs"}), builders.node("mid2")]
            running = pool.submit(farm.module, "ctl", "buildx_builder", name="long", nodes=nodes)
            journal = f"journalctl -o cat -t ansible-buildfarm.multiarch.buildx_builder --since '{since}'"
            wanted = f"builder 'long', node 'mid1': pulling image {builders.image}"
            farm.ssh("ctl", "timeout 90 sh", stdin=f'until {journal} | grep -qxF "{wanted}"; do sleep 0.5; done')
            assert not running.done()
        finally:
            farm.ssh("mid1", unreachable.format("D"))
        assert running.result()["changed"]
    told = [line for line in farm.ssh("ctl", journal).splitlines() if line.startswith("builder 'long'")]
    assert "builder 'long', node 'mid2': creating container buildx_buildkit_mid2" in told
    assert "builder 'long', node 'mid1': creating container buildx_buildkit_mid1" in told
    assert "not for logs" not in "".join(told)


def test_nodes_leave_with_their_containers(builders: Builders) -> None:
    builders.run(builders.node("mid1"), builders.node("old1"), builders.node(builders.other))
    left = builders.run(builders.node(builders.other), builders.node("mid1"))
    assert left["actions"][0] == ["remove-container-and-cache", "old1", "buildx_buildkit_old1"]
    assert (builders.containers("old1"), builders.volumes("old1")) == ({}, [])
    assert [node["name"] for node in left["builder"]["nodes"]] == [builders.other, "mid1"]
    builders.run(builders.node("mid1"), keep_state=True)
    assert builders.containers(builders.other) == {} and len(builders.volumes(builders.other)) == 1


def test_an_engine_that_is_reached_in_another_way_keeps_its_container(builders: Builders) -> None:
    builders.run(builders.node("mid1"))
    before = builders.containers("mid1")
    builders.farm.ssh("ctl", "docker context create remote --docker host=tcp://mid1:2375")
    moved = builders.run({**builders.node("mid1"), "endpoint": "remote"})
    assert moved["actions"] == [["write", "/root/.docker/buildx/instances/farm"]]
    assert builders.containers("mid1") == before


def test_contexts_come_and_go_with_their_nodes(builders: Builders) -> None:
    tls = {kind: f"{CLIENT}/{kind}.pem" for kind in ("ca", "cert", "key")}

    def node(host: str, **context: Any) -> dict[str, Any]:
        context = {"host": f"tcp://{host}:2376", **tls, **context}
        return builders.node(host, endpoint=f"farm-{host}", context=context)

    builders.farm.ssh("ctl", "rm -rf ~/.docker")
    created = builders.run(node("mid2"), node("old1"))
    boot, write = ["docker", "buildx", "inspect", "--bootstrap", "farm"], "/root/.docker/buildx/instances/farm"
    made = [["create context 'farm-mid2'"], ["create context 'farm-old1'"]]
    assert created["actions"] == [*made, boot, ["write", write]]
    assert [one["status"] for one in created["builder"]["nodes"]] == ["running", "running"]
    assert [one["host"] for one in created["contexts"]] == ["tcp://mid2:2376", "tcp://old1:2376"]
    assert builders.farm.ssh("ctl", "docker --context farm-old1 ps -q").strip()

    purged = builders.run(node("mid2"), purge_contexts=True)
    assert purged["actions"][0][0] == "remove-container-and-cache"
    assert purged["actions"][-1] == ["remove context 'farm-old1'"]
    assert builders.farm.ssh("ctl", "docker context ls -q").split() == ["default", "farm-mid2"]

    refused = builders.run(node("mid2", ca=f"{DIRECTORY}/nowhere.pem"), fails=True)
    assert "nowhere.pem: no such file" in refused["msg"]
    assert not builders.run(node("mid2"))["changed"]
    builders.run(state="absent", purge_contexts=True)
    assert builders.farm.ssh("ctl", "docker context ls -q").split() == ["default"]


def test_an_engine_over_ssh_and_the_controllers_own(builders: Builders) -> None:
    nodes = [
        {**builders.node("mid1"), "endpoint": "ssh://root@mid1"},
        {**builders.node("ctl"), "endpoint": "unix:///var/run/docker.sock"},
    ]
    with let_in_by_ssh(builders.farm, "ctl", "mid1"):
        created = builders.run(*nodes)
        assert [node["status"] for node in created["builder"]["nodes"]] == ["running", "running"]
        removed = builders.run(state="absent")
    assert [action[1] for action in removed["actions"][:2]] == [node["endpoint"] for node in nodes]
    assert builders.containers("mid1") == builders.containers("ctl") == {}


def test_a_dead_node(builders: Builders) -> None:
    """buildx would empty the settings of all nodes, and waits 20 seconds for a node whose packets are dropped."""
    nodes = [builders.node("mid1", platforms=["linux/amd64"]), builders.node("mid2", platforms=["linux/arm64"])]
    builders.run(*nodes)
    before = builders.instance()
    drop = "iptables -{} INPUT -p tcp --dport 2376 -j DROP"
    builders.farm.ssh("mid2", drop.format("I"))
    try:
        started = time.monotonic()
        failed = builders.run(*nodes, builders.node("new1"), fails=True, timeout=3)
        assert time.monotonic() - started < 3 + 10
        assert "node 'mid2': engine mid2 (tcp://mid2:2376): no answer within 3 s" in failed["msg"]
        assert builders.instance() == before and builders.containers("new1") == {}

        # It is waited for once, though the run looks at all nodes before, while and after it works on them.
        started = time.monotonic()
        builders.farm.module(
            "ctl",
            "buildx_builder",
            name="farm",
            nodes=[*nodes, builders.node("new1")],
            on_unreachable="skip",
            timeout=3,
        )
        assert time.monotonic() - started < 3 + 12
        skipped = builders.run(*nodes, builders.node("new1", env={"A": "b"}), on_unreachable="skip", timeout=3)
        assert [node["name"] for node in skipped["builder"]["nodes"]] == ["mid1", "mid2", "new1"]
        assert [node["status"] for node in skipped["builder"]["nodes"]] == ["running", "unreachable", "running"]
        assert skipped["builder"]["nodes"][1]["platforms"] == ["linux/arm64"]
        assert any("'mid2' stays as it was" in warning for warning in skipped["warnings"])

        detached = builders.run(*nodes, builders.node("new1"), on_unreachable="detach", timeout=3)
        assert [node["name"] for node in detached["builder"]["nodes"]] == ["mid1", "new1"]
    finally:
        builders.farm.ssh("mid2", drop.format("D"))
    attached = builders.run(*nodes, builders.node("new1"))
    assert attached["actions"] == [["write", "/root/.docker/buildx/instances/farm"]]


def test_a_node_that_does_not_start_leaves_all_as_it_was(builders: Builders) -> None:
    nodes = [builders.node("mid1", platforms=["linux/amd64"], env={"A": "b"}), builders.node("mid2")]
    builders.run(*nodes)
    before, other, caches = builders.instance(), builders.containers("mid2"), builders.volumes("mid1")
    nodes[0] = builders.node("mid1", opts={"image": f"{builders.farm.registry}/no/such:image"})
    failed = builders.run(*nodes, builders.node("new1"), fails=True)
    assert "buildx could not start" in failed["msg"] and "no/such" in failed["msg"]
    assert "The builder was put back as it was" in failed["msg"]
    assert builders.instance() == before and builders.containers("mid2") == other
    assert builders.volumes("mid1") == caches
    assert builders.containers("new1") == {} and builders.volumes("new1") == []
    nodes[0] = builders.node("mid1", platforms=["linux/amd64"], env={"A": "b"})
    assert not builders.run(*nodes)["changed"]


def test_platforms_must_be_served(builders: Builders) -> None:
    # For which the farm's emulator image has no handler: tests that run beside this one install the others.
    refused = builders.run(builders.node("mid1"), platforms=["linux/mips"], fails=True)
    assert "no node serves linux/mips (" in refused["msg"] and "put back" in refused["msg"]
    assert builders.containers("mid1") == {}
    served = builders.run(builders.node("mid1"), builders.node("new1"), platforms=["linux/amd64", "linux/386"])
    assert [(way["platform"], way["node"], way["source"], way["native"]) for way in served["builder"]["platforms"]] == [
        ("linux/amd64", "mid1", "detected", True),
        ("linux/386", "mid1", "detected", True),
    ]
    emulated = builders.node("new1", platforms=["linux/arm64"])
    forbidden = builders.run(builders.node("mid1"), emulated, emulation="forbid", fails=True)
    assert "node 'new1' is pinned to linux/arm64, and its engine is linux/amd64" in forbidden["msg"]
    if builders.arm64:
        nodes = [builders.node("mid1"), builders.node(builders.arm64)]
        served = builders.run(*nodes, platforms=["linux/arm64", "linux/amd64"], emulation="forbid")
        ways = [(way["platform"], way["node"], way["native"]) for way in served["builder"]["platforms"]]
        assert ways == [("linux/arm64", builders.arm64, True), ("linux/amd64", "mid1", True)]


def test_several_nodes_have_the_same_pins(builders: Builders) -> None:
    nodes = [builders.node("mid1"), builders.node("mid2"), builders.node("new1", platforms=["linux/amd64"])]
    platforms = ["linux/amd64", "linux/386"]
    made = builders.run(*nodes, platforms=platforms, emulation="prefer_native")
    assert [node["platforms"] for node in made["builder"]["nodes"]] == [platforms, platforms, platforms[:1]]
    assert made.get("warnings", []) == []
    # Nor does a task for some of them take anything from the others, or they from it.
    pinned = [builders.node(host, platforms=platforms[:1]) for host in ("mid2", "new1")]
    part = builders.run(*pinned, purge_nodes=False)
    assert [node["platforms"] for node in part["builder"]["nodes"]] == [platforms, platforms[:1], platforms[:1]]


def test_builds_go_where_the_module_says(builders: Builders) -> None:
    nodes = [builders.node("mid1", platforms=["linux/arm64"]), builders.node("mid2", platforms=["linux/amd64"])]
    requests = [["linux/amd64", "linux/arm64"], ["linux/amd64", "linux/386"], ["linux/386"], ["linux/arm64"]]
    builders.run(*nodes)
    tasks = [task("buildx_builder", name="farm", platforms=request) for request in requests]
    answers = builders.farm.tasks("ctl", *tasks)
    dockerfile = "FROM scratch\nARG TARGETARCH\nCOPY Dockerfile /$TARGETARCH\n"
    builders.farm.ssh("ctl", "mkdir -p /tmp/ctx && cat > /tmp/ctx/Dockerfile", stdin=dockerfile)
    list_cache = "docker exec buildx_buildkit_{0} sh -c 'buildctl du --verbose && buildctl prune >/dev/null'"
    for request, answer in zip(requests, answers):
        said = {(way["platform"], way["node"]) for way in answer["builder"]["platforms"]}
        builders.farm.ssh(
            "ctl",
            f"docker buildx build --builder farm --platform {','.join(request)} --no-cache"
            " --provenance=false --progress plain --output type=cacheonly /tmp/ctx 2>&1",
        )
        caches = {node: builders.farm.ssh(node, list_cache.format(node)) for node in ("mid1", "mid2")}
        built = {
            (platform, node)
            for platform in request
            for node, cache in caches.items()
            if f"COPY Dockerfile /{platform.split('/')[1]}\n" in cache
        }
        assert built == said, (request, caches)


def test_what_cannot_be_meant_is_refused(builders: Builders) -> None:
    builders.farm.ssh("ctl", "docker context create taken --docker host=tcp://mid1:2375")
    one = builders.node("mid1")
    refusals = [
        ({"name": "default", "nodes": [one]}, "reserves this name"),
        ({"name": "taken", "nodes": [one]}, "a docker context has this name"),
        ({"name": "1farm", "nodes": [one]}, "beginning with a letter"),
        ({"name": "farm", "driver": "docker", "nodes": [one]}, "the docker driver is the engine itself"),
        ({"name": "farm", "nodes": []}, "one node at least"),
        ({"name": "farm"}, "does not exist; declare its nodes"),
        ({"name": "farm", "nodes": [one, {**one, "endpoint": "tcp://mid2"}]}, "two nodes are named 'mid1'"),
        ({"name": "farm", "nodes": [one, {**one, "name": "b"}]}, "have one endpoint, tcp://mid1:2375"),
        ({"name": "farm", "nodes": [one, {"name": "b", "endpoint": "taken"}]}, "have one endpoint, tcp://mid1:2375"),
        ({"name": "farm", "nodes": [{"name": "b", "endpoint": "nowhere"}]}, "no such docker context"),
        ({"name": "farm", "nodes": [{"name": "b"}]}, "has no endpoint"),
        ({"name": "farm", "nodes": [{**one, "platforms": ["linux/arm65"]}]}, "unknown architecture 'arm65'"),
        ({"name": "farm", "nodes": [{**one, "driver_opts": {"memroy": "1g"}}]}, "driver option 'memroy'"),
        ({"name": "farm", "nodes": [{**one, "buildkitd_config": "a = "}]}, "is not TOML"),
        ({"name": "farm", "nodes": [{"name": "b", "endpoint": "tcp://mid1:1"}]}, "connection refused"),
    ]
    tasks = [
        task("buildx_builder", fails=True, check=check, **arguments)
        for arguments, _message in refusals
        for check in (True, False)
    ]
    failures = builders.farm.tasks("ctl", *tasks)
    for place, (arguments, message) in enumerate(refusals):
        for failed in failures[2 * place : 2 * place + 2]:
            assert message in failed["msg"], (arguments, failed)
    assert builders.farm.ssh("ctl", "ls ~/.docker/buildx/instances 2>/dev/null || true") == ""


def test_builders_do_not_share_containers_by_accident(builders: Builders) -> None:
    builders.run(builders.node("mid1"))
    refused = builders.run(builders.node("mid1"), name="other", fails=True)
    assert "belongs to builder 'farm'" in refused["msg"]
    builders.run(builders.node("mid1"), name="other", share_nodes=True)
    before = builders.containers("mid1")
    builders.run(name="other", state="absent")
    assert builders.containers("mid1") == before


def built(builders: Builders, on: str) -> str:
    """Build something small with the builder; returns what buildx said."""
    dockerfile = "FROM scratch\nCOPY Dockerfile /\n"
    builders.farm.ssh(on, "mkdir -p /tmp/small && cat > /tmp/small/Dockerfile", stdin=dockerfile)
    options = "--builder farm --platform linux/amd64 --provenance=false --progress plain --output type=cacheonly"
    return builders.farm.ssh(on, f"docker buildx build {options} /tmp/small 2>&1")


def test_a_new_controller_finds_the_containers_again(builders: Builders) -> None:
    nodes = [builders.node("mid1"), builders.node("old1")]
    builders.run(*nodes)
    before = {**builders.containers("mid1"), **builders.containers("old1")}
    assert "CACHED" not in built(builders, "ctl")
    builders.farm.ssh("ctl", _FORGET)
    found = builders.run(*nodes)
    assert found["actions"] == [["write", "/root/.docker/buildx/instances/farm"]]
    found = builders.run(*nodes, on="ctlnew")
    assert found["actions"] == [["write", "/root/.docker/buildx/instances/farm"]]
    assert "CACHED" in built(builders, "ctl") and "CACHED" in built(builders, "ctlnew")
    assert {**builders.containers("mid1"), **builders.containers("old1")} == before
    # Without a definition, the declared nodes say what there is to remove.
    builders.farm.ssh("ctl", _FORGET)
    builders.run(*nodes, state="absent")
    assert builders.containers("mid1") == {} and builders.volumes("old1") == []


def test_stop_and_start(builders: Builders) -> None:
    nodes = [builders.node("mid1"), builders.node("old1")]
    builders.run(*nodes)
    stopped = builders.run(state="stopped")
    assert [node["status"] for node in stopped["builder"]["nodes"]] == ["stopped", "stopped"]
    assert [action[0] for action in stopped["actions"]] == ["stop-container", "stop-container"]
    started = builders.run()
    assert started["actions"] == [["docker", "buildx", "inspect", "--bootstrap", "farm"]]


def test_a_truncated_definition_is_written_anew(builders: Builders) -> None:
    nodes = [builders.node("mid1")]
    builders.run(*nodes)
    before, path = builders.instance(), "~/.docker/buildx/instances/farm"
    for broken in ("", '{"Name":"farm","Driver":"docker-con', "\\000\\001"):
        builders.farm.ssh("ctl", f"printf '{broken}' > {path}")
        assert "not JSON" in builders.run(fails=True)["msg"]
        repaired = builders.run(*nodes)
        assert repaired["diff"]["before"] == {"state": "broken"} and builders.instance() == before
        assert any("a copy is /root/.docker/buildx/farm.broken" in warning for warning in repaired["warnings"])
    builders.farm.ssh("ctl", f"""echo '{{"Nodes": "many"}}' > {path}""")
    assert "not a builder that buildx wrote" in builders.run(*nodes, fails=True)["msg"]


def test_two_runs_at_once(builders: Builders) -> None:
    nodes = [builders.node("mid1"), builders.node("old1")]
    arguments = [{"nodes": nodes}, {"nodes": [*nodes[:1], builders.node("old1", env={"A": "b"})]}, {"nodes": nodes}]
    with ThreadPoolExecutor() as pool:
        results = list(
            pool.map(lambda more: builders.farm.module("ctl", "buildx_builder", name="farm", **more), arguments)
        )
    assert all(result["builder"]["nodes"][1]["status"] == "running" for result in results)
    builders.run(*nodes)


@pytest.mark.parametrize("on", CONTROLLERS)
def test_use(builders: Builders, on: str) -> None:
    builders.run(builders.node("mid1"), on=on)
    used = builders.run(use=True, on=on)
    assert used["actions"] == [["docker", "buildx", "use", "--default", "farm"]]
    assert "farm*" in builders.farm.ssh(on, "docker buildx ls 2>/dev/null")
    builders.farm.ssh(on, "docker context create other --docker host=tcp://mid2:2375 && docker context use other")
    used = builders.run(use=True, use_scope="global", on=on)
    assert used["actions"] == [["docker", "buildx", "use", "--global", "farm"]]
    assert "farm*" in builders.farm.ssh(on, "docker buildx ls 2>/dev/null")


@pytest.mark.parametrize("on", CONTROLLERS)
def test_remote_driver(builders: Builders, on: str) -> None:
    builders.farm.ssh(
        "mid1",
        f"docker run -d --privileged --network host --name buildx_buildkit_remote {builders.image}"
        " --addr tcp://0.0.0.0:1234 && sleep 1",
    )
    builders.farm.ssh(on, "mkdir -p ~/.docker/buildx && touch ~/.docker/buildx/buildkitd.default.toml")
    node = {"name": "r", "endpoint": "tcp://mid1:1234", "platforms": ["linux/amd64"]}
    created = builders.run(node, driver="remote", on=on)
    assert created["builder"]["nodes"][0]["status"] == "running"
    assert created["builder"]["nodes"][0]["version"].startswith("v0.")
    refused = builders.run({**node, "endpoint": "tcp://mid1:1235"}, driver="remote", fails=True, on=on)
    assert "Connection refused" in refused["msg"]
    refused = builders.run(state="stopped", fails=True, on=on)
    assert "the remote driver has nothing that buildx could stop" in refused["msg"]
    builders.run(state="absent", on=on)
    assert "buildx_buildkit_remote" in builders.containers("mid1")


#: Where two plans are ended, in turn the one from state A to B and the one back: just before what the module is about
#: to do as its own process tells, or in the midst of what buildx does: a host and what its engine tells.
ENDS: list[str | tuple[str, str]] = [
    "subprocess.Popen --bootstrap",  # B: the container was taken away, to be made anew
    ("mid2", "start"),  # A: it comes
    "http.client.send DELETE [^ ]*/volumes/",  # B: it left, its cache did not yet
    ("mid1", "create"),  # A: made anew
    "os.rename instances/farm'",  # B: all is done but the definition
    "os.rename instances/farm' then http.client.send .",  # A: the definition was written, and not looked at again
]


@pytest.mark.parametrize("on", CONTROLLERS)
def test_kubernetes_without_a_cluster(builders: Builders, on: str) -> None:
    """What can be seen of it: the definition is what buildx writes, and that there is no cluster is told."""
    config = {"apiVersion": "v1", "kind": "Config", "current-context": "c", "users": [{"name": "u", "user": {}}]}
    config |= {"clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:6553"}}]}
    config |= {"contexts": [{"name": "c", "context": {"cluster": "c", "user": "u", "namespace": "builds"}}]}
    builders.farm.ssh(on, "mkdir -p /srv/b; echo CA > /srv/b/ca.pem; cat > /srv/b/kube", stdin=json.dumps(config))
    buildkitd = 'debug = true\n[registry."reg.example.com"]\n  ca = ["/srv/b/ca.pem"]\n'
    builders.farm.ssh(on, "cat > /srv/b/buildkitd.toml", stdin=buildkitd)
    selector = "kubernetes.io/arch=amd64,a=b"
    theirs = builders.farm.ssh(
        on,
        f"""set -e; export KUBECONFIG=/srv/b/kube
        c='docker buildx create --name farm --driver kubernetes'
        $c --node a --platform linux/arm64 --driver-opt image=x/y:1,namespace=builds,replicas=2 >/dev/null
        $c --append --node b --platform linux/amd64,linux/386 --config /srv/b/buildkitd.toml \
           --buildkitd-flags --debug --driver-opt '"nodeselector={selector}",rootless=true' >/dev/null
        $c --append --node c --buildkitd-flags '--allow-insecure-entitlement=security.insecure' >/dev/null
        cat ~/.docker/buildx/instances/farm; rm ~/.docker/buildx/instances/farm""",
    )
    nodes: list[dict[str, Any]] = [
        {
            "name": "a",
            "platforms": ["linux/arm64"],
            "driver_opts": {"image": "x/y:1", "namespace": "builds", "replicas": 2},
        },
        {
            "name": "b",
            "platforms": ["linux/amd64", "linux/386"],
            "driver_opts": {"nodeselector": selector, "rootless": True},
            "buildkitd_config_file": "/srv/b/buildkitd.toml",
            "buildkitd_flags": "--debug",
        },
        {"name": "c", "buildkitd_flags": ["--allow-insecure-entitlement=security.insecure"]},
    ]
    options: dict[str, Any] = {"on": on, "driver": "kubernetes", "environment": {"KUBECONFIG": "/srv/b/kube"}}
    written = builders.run(*nodes, bootstrap=False, **options)
    assert builders.instance(on) == theirs
    assert [node["status"] for node in written["builder"]["nodes"]] == ["missing"] * 3
    for refused in (
        builders.run(*nodes, fails=True, **options),
        builders.run(state="absent", fails=True, **options),
    ):
        assert "connection refused" in refused["msg"] and builders.instance(on) == theirs
    refused = builders.run({"name": "d", "endpoint": "tcp://mid1"}, fails=True, **options)
    assert "the kubernetes driver takes no endpoint; it uses KUBECONFIG" in refused["msg"]


def test_killed_at_each_step_the_next_run_ends_as_declared(builders: Builders) -> None:
    """One node changes, one leaves (or comes), and one is not touched."""
    other = builders.other
    states = [
        [builders.node("mid1", env={"A": "b"}), builders.node(other)],
        [builders.node("mid1"), builders.node("mid2"), builders.node(other)],
    ]
    builders.run(*states[1])
    untouched = builders.containers(other), builders.volumes(other)
    with kills.prepared(builders.farm, "ctl"):
        for number, end in enumerate(ENDS):
            nodes = states[number % 2]
            _play_and_end(builders, nodes, end)
            builders.run(*nodes)
            assert (builders.containers(other), builders.volumes(other)) == untouched, end
            if number % 2 == 0:
                assert builders.containers("mid2") == {} and builders.volumes("mid2") == [], end


def _play_and_end(builders: Builders, nodes: list[dict[str, Any]], end: str | tuple[str, str]) -> None:
    """Run the module, and kill it and all that it has started at one of `ENDS`."""
    environment = kills.killed_at(end) if isinstance(end, str) else None
    declare = task("buildx_builder", environment=environment, name="farm", nodes=nodes, purge_nodes=True)
    with ThreadPoolExecutor() as pool:
        run = pool.submit(builders.farm.play, [{"hosts": "ctl", "gather_facts": False, "tasks": [declare]}])
        if isinstance(end, tuple):
            name = f"buildx_buildkit_{end[0]}"
            events = f"docker --context {end[0]} events --filter event={end[1]} --filter container={name}"
            # With pipelining nothing but the interpreter's name tells the module's process.
            kill = "pkill -9 -x python3; pkill -9 -x docker; pkill -9 -f '[d]ocker-buildx'; true"
            builders.farm.ssh("ctl", f"read -r event < <(timeout 60 {events}); {kill}")
    assert run.result().rc != 0, end


CASES = int(os.environ.get("BUILDFARM_CASES", "4"))
SEED = int(os.environ.get("BUILDFARM_SEED", random.SystemRandom().randrange(10**6)))


class Engines:
    """The engines of the farm, and builders on a controller, as a walk uses them."""

    def __init__(self, builders: Builders, on: str) -> None:
        self.builders, self.on = builders, on

    def run(self, nodes: list[dict[str, Any]], **options: Any) -> None:
        """Declare the builder, predicted and without anything left for a second run."""
        self.builders.run(*nodes, on=self.on, **options)

    def instance(self) -> str:
        """The builder's definition."""
        return self.builders.instance(self.on)

    def disturb(self, what: str, host: str) -> None:
        """Do something to a host's container behind the module's back."""
        self.builders.farm.ssh(host, f"docker {what} buildx_buildkit_{host} 2>/dev/null || true")

    def running(self) -> set[str]:
        """The names of the containers that run and are not paused."""
        listed = self._listed().items()
        return {name for name, (_id, status) in listed if status.startswith("Up") and "(Paused)" not in status}

    def containers(self) -> dict[str, str]:
        """The identifiers of all containers, by name."""
        return {name: identifier for name, (identifier, _status) in self._listed().items()}

    def _listed(self) -> dict[str, tuple[str, str]]:
        command = "docker ps -a --no-trunc --format '{{.Names}} {{.ID}} {{.Status}}' --filter name=buildx_buildkit_"
        with ThreadPoolExecutor() as pool:
            found = pool.map(lambda host: self.builders.farm.ssh(host, command), self.builders.engines)
        rows = [line.split(maxsplit=2) for lines in found for line in lines.splitlines()]
        return {name: (identifier, status) for name, identifier, status in rows}


@pytest.mark.parametrize("on", CONTROLLERS)
def test_from_any_state_to_any_declaration(
    builders: Builders, on: str, record_property: Callable[[str, object], None]
) -> None:
    """A few here; the unit tests take hundreds on engines in memory."""
    record_property("BUILDFARM_CASES", CASES)
    record_property("BUILDFARM_SEED", SEED)
    dice = random.Random(f"{SEED} {on}")
    walk = Walk(list(builders.engines), builders.endpoint, builders.image, dice, builders.arm64)
    for _case in range(CASES // 2):
        walk.step(Engines(builders, on))


def test_info(builders: Builders) -> None:
    nodes = [builders.node("mid1", platforms=["linux/amd64"]), builders.node("mid2", buildkitd_config="debug = true")]
    builders.run(*nodes, use=True)
    builders.farm.ssh("ctl", "echo broken > ~/.docker/buildx/instances/broken")
    builders.farm.ssh("mid2", "docker stop buildx_buildkit_mid2")
    found = builders.farm.module("ctl", "buildx_builder_info")
    assert [(builder["name"], builder["current"]) for builder in found["builders"]] == [
        ("broken", False),
        ("farm", True),
    ]
    assert "not JSON" in found["builders"][0]["error"]
    farm = found["builders"][1]
    assert [node["status"] for node in farm["nodes"]] == ["running", "stopped"]
    assert farm["nodes"][0]["detected"][0] == "linux/amd64" and farm["nodes"][1]["detected"] is None
    assert list(farm["nodes"][1]["files"]) == ["buildkitd.toml"]
    assert farm["platforms"][0] == {"platform": "linux/amd64", "node": "mid1", "source": "pin", "native": True}
    one = builders.farm.module("ctl", "buildx_builder_info", name="Farm")
    for builder in (farm, *one["builders"]):
        # Tests that run beside this one install handlers, which BuildKit notices.
        del builder["platforms"], builder["nodes"][0]["detected"]
    assert one["builders"] == [farm]
    assert builders.farm.module("ctl", "buildx_builder_info", name="nothing")["builders"] == []
