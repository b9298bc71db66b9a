"""binfmt and binfmt_info on a real kernel, with the farm's emulator image.

The farm's image honours the contract of tonistiigi/binfmt; the real one is not reachable from everywhere. All hosts
share one kernel, and the farm itself emulates arm64, so other platforms are used here.
"""

from __future__ import annotations

import base64
import io
import json
import re
import tarfile
import time
from collections.abc import Iterator
from typing import Any

import pytest

from ansible_runs import LiveFarm

NODE = "mid1"
PLATFORMS = ["linux/s390x", "linux/riscv64"]
ENTRY = "/proc/sys/fs/binfmt_misc/qemu-s390x"
UNIT = "/etc/systemd/system/buildfarm-binfmt.service"
IMAGE = "tonistiigi/binfmt:qemu-v10.0.4"
# The magic and the mask of s390x, as binfmt_misc takes them.
RULE = (
    r"M:0:\x7fELF\x02\x02\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x16"
    r":\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff"
)


@pytest.fixture(scope="module")
def image(farm: LiveFarm) -> str:
    """The farm's emulator image."""
    return f"{farm.registry}/{IMAGE}"


@pytest.fixture(scope="module", autouse=True)
def node(farm: LiveFarm, image: str) -> Iterator[None]:
    """A node whose engine reaches the registry, without handlers of the tests' platforms; the same afterwards."""
    settings = json.dumps({"insecure-registries": [farm.registry]})
    farm.ssh(
        NODE, "mkdir -p /etc/docker; test ! -e /etc/docker/daemon.json || mv /etc/docker/daemon.json /root/kept.json"
    )
    farm.ssh(
        NODE, "cat > /etc/docker/daemon.json; systemctl reset-failed docker; systemctl restart docker", stdin=settings
    )
    farm.module(NODE, "binfmt", state="absent", platforms=PLATFORMS)
    print(f"emulator image: {image}")
    yield
    farm.module(NODE, "binfmt", state="absent", platforms=PLATFORMS)
    farm.ssh(
        NODE, "rm /etc/docker/daemon.json; test ! -e /root/kept.json || mv /root/kept.json /etc/docker/daemon.json"
    )
    farm.ssh(NODE, "systemctl reset-failed docker; systemctl restart docker")


@pytest.fixture
def options(image: str) -> dict[str, Any]:
    """The module's options."""
    return {"platforms": [*PLATFORMS, "linux/amd64"], "image": image}


@pytest.fixture
def registered(farm: LiveFarm, options: dict[str, Any]) -> None:
    """Both handlers are there."""
    farm.module(NODE, "binfmt", **options)


def handlers(farm: LiveFarm) -> dict[str, dict[str, Any]]:
    """What binfmt_info tells, by name."""
    return {handler["name"]: handler for handler in farm.module(NODE, "binfmt_info")["handlers"]}


def test_handlers_are_registered_and_work(farm: LiveFarm, options: dict[str, Any]) -> None:
    predicted = farm.module(NODE, "binfmt", check=True, **options)
    assert "qemu-s390x" not in handlers(farm)
    real = farm.module(NODE, "binfmt", **options)
    for key in ("changed", "actions", "diff", "native", "emulated"):
        assert predicted[key] == real[key]
    assert real["actions"][0][-2:] == ["--install", "s390x,riscv64"]
    assert (real["native"], real["emulated"]) == (["linux/amd64"], PLATFORMS)
    found = handlers(farm)["qemu-s390x"]
    assert (found["enabled"], found["works"], found["platforms"]) == (True, True, ["linux/s390x"])
    assert re.match(r"\d+\.\d+", found["qemu_version"])
    assert set(PLATFORMS) < set(farm.module(NODE, "binfmt_info")["platforms"])


def test_a_second_run_needs_no_engine(farm: LiveFarm, registered: None, options: dict[str, Any]) -> None:
    farm.ssh(NODE, "systemctl stop docker.socket docker.service")
    again = farm.module(NODE, "binfmt", **options)
    assert (again["changed"], again["actions"]) == (False, [])
    farm.ssh(NODE, f"echo -1 > {ENTRY}")
    failed = farm.module(NODE, "binfmt", fails=True, **options)
    assert "the engine on mid1 has to run" in failed["msg"]
    assert "Cannot connect to the Docker daemon" in failed["msg"]
    farm.ssh(NODE, "systemctl reset-failed docker; systemctl start docker")
    assert farm.module(NODE, "binfmt", **options)["changed"]


def test_containers_of_the_platform_run(farm: LiveFarm, registered: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(farm.collections))
    from ansible_collections.buildfarm.multiarch.plugins.module_utils._smoke_test import program

    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        entry = tarfile.TarInfo("exit")
        entry.mode, entry.size = 0o755, len(program("s390x"))
        tar.addfile(entry, io.BytesIO(program("s390x")))
    archive = base64.b64encode(packed.getvalue()).decode()
    farm.ssh(NODE, "base64 -d | docker import --platform linux/s390x - exit:s390x", stdin=archive)
    run = "docker run --rm --platform linux/s390x --network none exit:s390x /exit; echo $?; docker rmi exit:s390x >&2"
    assert farm.ssh(NODE, run).strip() == "42"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("echo 0 > {entry}", "disabled"),
        ("echo -1 > {entry}; echo ':qemu-s390x:{rule}:/bin/false:F' > {root}/register", "exited with 1 instead of 42"),
        ("echo -1 > {entry}; echo ':qemu-s390x:{rule}:/bin/false:' > {root}/register", "flags none, wanted F"),
    ],
)
def test_a_handler_that_is_of_no_use_is_replaced(
    farm: LiveFarm, registered: None, options: dict[str, Any], change: str, said: str
) -> None:
    root = ENTRY.rsplit("/", 1)[0]
    farm.ssh(NODE, change.format(entry=ENTRY, root=root, rule=RULE))
    predicted = farm.module(NODE, "binfmt", check=True, **options)
    assert said in predicted["diff"]["before"]["linux/s390x"]
    real = farm.module(NODE, "binfmt", **options)
    assert real["diff"] == predicted["diff"]
    assert real["actions"] == predicted["actions"]
    assert real["actions"][0][-4:] == ["--uninstall", "qemu-s390x", "--install", "s390x"]
    assert handlers(farm)["qemu-s390x"]["works"]
    assert not farm.module(NODE, "binfmt", **options)["changed"]


def test_an_image_that_does_nothing_and_exits_with_0(farm: LiveFarm, registered: None, options: dict[str, Any]) -> None:
    farm.ssh(NODE, f"docker commit -c 'ENTRYPOINT [\"true\"]' $(docker create {farm.registry}/library/busybox) liar:1")
    farm.ssh(NODE, f"echo -1 > {ENTRY}")
    failed = farm.module(NODE, "binfmt", fails=True, persistent=False, **{**options, "image": "liar:1"})
    assert "after the task linux/s390x is missing; the emulator image liar:1 said: nothing" in failed["msg"]
    failed = farm.module(NODE, "binfmt", fails=True, **{**options, "image": f"{farm.registry}/no/such:image"})
    assert "able to pull it" in failed["msg"]
    farm.ssh(NODE, "docker container prune -f; docker rmi liar:1")


def test_the_version_of_qemu_can_be_demanded(farm: LiveFarm, registered: None, options: dict[str, Any]) -> None:
    version = handlers(farm)["qemu-s390x"]["qemu_version"]
    series = version.rsplit(".", 1)[0]
    assert not farm.module(NODE, "binfmt", qemu_version=series, **options)["changed"]
    predicted = farm.module(NODE, "binfmt", check=True, qemu_version="1.2", **options)
    assert predicted["diff"]["before"]["linux/s390x"] == f"QEMU {version}, wanted 1.2"
    failed = farm.module(NODE, "binfmt", fails=True, qemu_version="1.2", **options)
    assert f"linux/s390x is QEMU {version}, wanted 1.2" in failed["msg"]


def test_handlers_come_back_after_a_reboot(farm: LiveFarm, registered: None, options: dict[str, Any]) -> None:
    farm.farm.power_off(NODE)
    # One kernel for all hosts: what a real reboot loses is taken away on another host.
    farm.ssh("mid2", f"echo -1 > {ENTRY}; echo -1 > {ENTRY.replace('s390x', 'riscv64')}")
    farm.farm.power_on(NODE)
    deadline = time.monotonic() + 60
    while not farm.ssh(NODE, f"cat {ENTRY}", check=False) and time.monotonic() < deadline:
        time.sleep(1)
    assert handlers(farm)["qemu-s390x"]["works"]
    assert not farm.module(NODE, "binfmt", **options)["changed"]


def test_tasks_share_the_boot_unit(farm: LiveFarm, registered: None, image: str) -> None:
    assert farm.ssh(NODE, f"grep -o -e '--install .*' {UNIT}").split()[1] == "riscv64,s390x"
    assert not farm.module(NODE, "binfmt", platforms=["s390x"], image=image)["changed"]
    farm.module(NODE, "binfmt", platforms=["s390x"], image=image, persistent=False)
    assert farm.ssh(NODE, f"grep -o -e '--install .*' {UNIT}").split()[1] == "riscv64"
    assert "qemu-s390x" in handlers(farm)


def test_absent_removes_handlers_and_the_boot_unit(farm: LiveFarm, registered: None) -> None:
    predicted = farm.module(NODE, "binfmt", check=True, state="absent", platforms=PLATFORMS)
    real = farm.module(NODE, "binfmt", state="absent", platforms=PLATFORMS)
    assert real["actions"] == predicted["actions"]
    assert real["diff"] == predicted["diff"]
    assert "qemu-s390x" not in handlers(farm)
    assert farm.ssh(NODE, "find /etc/systemd -name 'buildfarm-binfmt*'") == ""
    assert not farm.module(NODE, "binfmt", state="absent", platforms=PLATFORMS)["changed"]


def test_before_the_engine_is_installed(farm: LiveFarm, options: dict[str, Any]) -> None:
    predicted = farm.module("bare1", "binfmt", check=True, **options)
    assert predicted["emulated"] == PLATFORMS
    failed = farm.module("bare1", "binfmt", fails=True, **options)
    assert "install the docker CLI there" in failed["msg"]
    assert farm.ssh("bare1", "find /etc/systemd -name 'buildfarm-binfmt*'") == ""
    found = farm.module("bare1", "binfmt_info")
    assert found["native"] == ["linux/386", "linux/amd64"]
