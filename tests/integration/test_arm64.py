"""buildx_plugin, binfmt and builds on the real arm64 machine, where the farm has one (`ARM64=1`)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

import seed
from ansible_runs import LiveFarm, shell, task
from building import AMD, PLATFORMS, BuildFarm, listen, unlisten
from buildx_releases import NEW, OLD
from release_server import Releases, served

HOST = "arm1"
USER = "/root/.docker/cli-plugins/docker-buildx"
ROOT = "/proc/sys/fs/binfmt_misc"


@pytest.fixture(scope="module")
def releases(farm: LiveFarm) -> Iterator[Releases]:
    """A server of releases; the machine has none, before and after."""
    farm.ssh(HOST, f"rm -f {USER}")
    with served(farm, "old1") as server:
        yield server
    farm.ssh(HOST, f"rm -f {USER}")


def test_the_plugin_for_its_architecture_is_chosen(farm: LiveFarm, releases: Releases) -> None:
    release = {"release": OLD, "mirror": f"{releases.server}/whole"}
    real = farm.converge(HOST, "buildx_plugin", **release)
    assert real["actions"] == [["download", releases.url("whole", OLD, "arm64")], ["write", USER]]
    assert real["plugin"]["checksum"] == releases.checksum(OLD, "arm64")
    assert OLD in farm.ssh(HOST, "docker buildx version")
    amd64 = {"url": releases.url("whole", NEW), "checksum": releases.checksum(NEW)}
    refused, missing, used = farm.tasks(
        HOST,
        task("buildx_plugin", fails=True, **amd64),
        # That release is there for amd64 only.
        task("buildx_plugin", fails=True, **{**release, "release": NEW}),
        shell("docker buildx version"),
    )
    assert "what came is an executable for amd64 of" in refused["msg"]
    assert "wanted one for linux/arm64; nothing was changed" in refused["msg"]
    assert f"no checksum of buildx-v{NEW}.linux-arm64 in it" in missing["msg"]
    assert OLD in used["stdout"]
    assert farm.converge(HOST, "buildx_plugin", state="absent")["actions"] == [["remove", USER]]
    assert farm.ssh(HOST, "ls -A ~/.docker/cli-plugins") == ""


def test_what_its_processor_runs_is_not_registered(farm: LiveFarm) -> None:
    """arm64, and arm/v7 too, as this processor has the old instructions; amd64 and s390x are emulated in emulation."""
    names = ["arm64", "arm", "s390x", "amd64"]
    options = {"image": f"{farm.registry}/{seed.EMULATOR}", "persistent": False}
    values = ("changed", "actions", "diff", "native", "emulated")
    # Python's package registers one, for example.
    before = set(farm.ssh(HOST, f"ls {ROOT}").split())
    with farm.trusted_registry(HOST):
        real = farm.converge(HOST, "binfmt", platforms=names, values=values, **options)
        assert real["native"] == ["linux/arm64", "linux/arm/v7"]
        assert real["emulated"] == ["linux/s390x", "linux/amd64"]
        assert real["actions"][-1][-2:] == ["--install", "s390x,amd64"]
        assert None not in real["qemu_versions"].values()
        assert set(farm.ssh(HOST, f"ls {ROOT}").split()) - before == {"qemu-s390x", "qemu-x86_64"}
        info = farm.module(HOST, "binfmt_info")
        assert info["native"] == ["linux/arm/v6", "linux/arm/v7", "linux/arm64"]
        farm.converge(HOST, "binfmt", state="absent", platforms=names, **options)
        assert set(farm.ssh(HOST, f"ls {ROOT}").split()) == before


@pytest.fixture
def real(farm: LiveFarm) -> Iterator[str]:
    """A builder of an amd64 node and the arm64 machine."""
    name, on = "real", "ctl"
    nodes = [
        {
            "name": f"real-{host}",
            "endpoint": f"tcp://{host}:2375",
            "driver_opts": {"image": f"{farm.registry}/{seed.BUILDKIT}", "network": "host"},
            "buildkitd_config": f'[registry."{farm.registry}"]\n  http = true\n',
        }
        for host in (AMD, HOST)
    ]
    try:
        for host in (AMD, HOST):
            listen(farm, host)
        options = {"platforms": PLATFORMS, "emulation": "forbid", "timeout": 60}
        farm.module(on, "buildx_builder", name=name, nodes=nodes, **options)
        yield name
    finally:
        for host in (AMD, HOST):
            unlisten(farm, host)
        farm.ssh(on, "rm -rf ~/.docker /srv/images")


def test_each_platform_is_built_on_its_own_machine(
    farm: LiveFarm, real: str, record_property: Callable[[str, object], None]
) -> None:
    images, dest = BuildFarm(farm), "/srv/images/real-out"
    look = "{ uname -m; grep -m1 -e '^CPU part' -e '^model name' /proc/cpuinfo; }"
    context = images.context("ctl", "real", f"FROM busybox\nRUN {look} > /machine\nCMD uname -m\n")
    name = f"{images.repository}/real:1"
    built = images.build(
        "ctl",
        builder=real,
        context=context,
        platforms=PLATFORMS,
        tags=[name],
        push=True,
        outputs=[{"type": "local", "dest": dest}],
        run={"expected_regex": "x86_64|aarch64"},
    )
    found = {one["platform"]: one for one in built["images"][0]["platforms"]}
    record_property("seconds", {platform: one["seconds"] for platform, one in found.items()})
    assert [found[platform]["node"] for platform in PLATFORMS] == [f"real-{AMD}", f"real-{HOST}"]
    assert all(one["native"] for one in found.values())
    machines = [farm.ssh("ctl", f"cat {dest}/{platform.replace('/', '_')}/machine") for platform in PLATFORMS]
    record_property("machines", machines)
    assert machines[0].startswith("x86_64\nmodel name") and machines[1].startswith("aarch64\nCPU part")
    # The part is the processor's own, whatever the emulation of another machine would tell.
    assert machines[1].split()[-1] == farm.ssh(HOST, "grep -m1 '^CPU part' /proc/cpuinfo").split()[-1]
    shown = farm.ssh(
        "ctl", f"docker buildx imagetools inspect --builder {real} {name} --format '{{{{json .Manifest}}}}'"
    )
    assert {one["platform"]["architecture"] for one in json.loads(shown)["manifests"]} == {"amd64", "arm64"}
