"""binfmt on a controller, for a host of which it has only the engine: over TCP, without ssh.

All hosts share one kernel, and the farm itself emulates arm64, so other platforms are used here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from ansible_runs import LiveFarm, installing, shell, task
from building import listen, unlisten

CONTROLLER, NODE = "ctl", "mid2"
ROOT = "/proc/sys/fs/binfmt_misc"
ENTRY = f"{ROOT}/qemu-s390x"
PLATFORMS = ["linux/s390x", "linux/riscv64"]
#: All but arm64's handler, which comes and goes with other farms on this kernel.
_LOOK = f"cd {ROOT}; ls -I qemu-aarch64 -I register | xargs head -n 9"


@pytest.fixture(scope="module", autouse=True)
def engine(farm: LiveFarm) -> Iterator[None]:
    """An engine that listens on TCP, and a context for it."""
    listen(farm, NODE)
    farm.ssh(CONTROLLER, f"rm -rf ~/.docker; docker context create far --docker host=tcp://{NODE}:2375")
    farm.module(NODE, "binfmt", state="absent", platforms=PLATFORMS)
    yield
    farm.module(NODE, "binfmt", state="absent", platforms=PLATFORMS)
    farm.ssh(CONTROLLER, "rm -rf ~/.docker")
    unlisten(farm, NODE)


@pytest.fixture
def options(farm: LiveFarm) -> dict[str, Any]:
    """The module's options, with a context."""
    image = f"{farm.registry}/tonistiigi/binfmt:qemu-v10.0.4"
    return {"platforms": [*PLATFORMS, "amd64"], "image": image, "endpoint": "far"}


def run(farm: LiveFarm, **options: Any) -> dict[str, Any]:
    """Run the task; check mode predicts it and changes nothing in the kernel, a second run changes nothing at all."""
    look = {**shell(_LOOK), "delegate_to": NODE}
    before, predicted, after, real, again, left = farm.tasks(
        CONTROLLER,
        look,
        task("binfmt", check=True, **options),
        look,
        task("binfmt", **options),
        task("binfmt", **options),
        {**shell("docker ps -aq; docker images -q buildfarm-programs"), "delegate_to": NODE},
    )
    assert before["stdout"] == after["stdout"]
    for key in ("changed", "actions", "diff", "native", "emulated"):
        assert predicted[key] == real[key], key
    assert not again["changed"]
    assert left["stdout"] == "", "something stays on the engine"
    return real


def test_present_repaired_and_absent(farm: LiveFarm, options: dict[str, Any]) -> None:
    real = run(farm, **options)
    assert (real["changed"], real["native"], real["emulated"]) == (True, ["linux/amd64"], PLATFORMS)
    assert real["not_compared"] == ["interpreter", "flags"]
    handlers = farm.module(NODE, "binfmt_info")["handlers"]
    version = real["qemu_versions"]["linux/s390x"]
    assert version in {handler["qemu_version"] for handler in handlers}
    farm.ssh(NODE, f"echo 0 > {ENTRY}")
    one = {**options, "platforms": PLATFORMS[:1]}
    assert run(farm, **one)["actions"][0][-4:] == ["--uninstall", "qemu-s390x", "--install", "s390x"]
    same = [task("binfmt", qemu_version=version, **one), task("binfmt", verify=False, **options)]
    assert [found["changed"] for found in farm.tasks(CONTROLLER, *same)] == [False, False]
    assert run(farm, **{**options, "state": "absent", "platforms": PLATFORMS})["changed"]
    assert not {"qemu-s390x", "qemu-riscv64"} & set(farm.ssh(NODE, f"ls {ROOT}").split())


def test_by_a_url(farm: LiveFarm, options: dict[str, Any]) -> None:
    options = {**options, "endpoint": f"tcp://{NODE}:2375", "platforms": PLATFORMS[:1]}
    assert run(farm, **options)["emulated"] == PLATFORMS[:1]
    assert run(farm, **options, state="absent")["changed"]


def test_exactly_these(farm: LiveFarm, options: dict[str, Any]) -> None:
    farm.module(CONTROLLER, "binfmt", **options)
    others = set(farm.ssh(NODE, f"ls {ROOT} | grep ^qemu-").split()) - {"qemu-s390x", "qemu-riscv64"}
    assert not others, f"{sorted(others)} would be removed for all hosts of this kernel, and someone may need them"
    farm.ssh(NODE, f"echo ':jar:E::jar::/bin/true:' > {ROOT}/register")
    real = run(farm, **{**options, "state": "exact", "platforms": ["s390x"]})
    assert real["diff"]["before"]["others"] == ["qemu-riscv64"]
    assert farm.ssh(NODE, f"ls {ROOT}").split() == ["jar", "qemu-s390x", "register", "status"]
    farm.ssh(NODE, f"echo -1 > {ROOT}/jar")


def test_what_cannot_be(farm: LiveFarm, options: dict[str, Any]) -> None:
    legacy = "docker/binfmt:a7996909642ee92942dcd6cff44b9b95f08dad64"
    silent = farm.ssh(NODE, f"docker create --entrypoint true {farm.registry}/library/busybox").strip()
    farm.ssh(NODE, f"docker commit -c 'ENTRYPOINT [\"true\"]' {silent} liar:1; docker rm {silent}")
    farm.module(CONTROLLER, "binfmt", **{**options, "state": "absent", "platforms": PLATFORMS})
    expected = [
        ({"persistent": True}, "nothing can be registered at boot through endpoint"),
        ({"source": "packages"}, "run the task on that host"),
        ({"image": legacy, "state": "absent"}, "reports nothing"),
        ({"endpoint": f"tcp://{NODE}:1"}, "has to run"),
        ({"image": "liar:1"}, "linux/s390x is not run there: a s390x program exited with"),
    ]
    tasks = [task("binfmt", fails=True, **{**options, **changes}) for changes, _words in expected]
    for failed, (_changes, words) in zip(farm.tasks(CONTROLLER, *tasks), expected):
        assert words in failed["msg"]
    farm.ssh(NODE, "docker rmi liar:1")


def test_a_controller_with_neither_cli_nor_sdk(farm: LiveFarm, options: dict[str, Any]) -> None:
    lacking = "! command -v docker && ! python3 -c 'import docker' 2>/dev/null && echo lacking"
    assert farm.ssh("bare1", lacking).strip() == "lacking"
    options = {**options, "endpoint": f"tcp://{NODE}:2375"}
    absent = {**options, "state": "absent", "platforms": PLATFORMS}
    _absent, real, _again = (farm.module("bare1", "binfmt", **one) for one in (absent, options, absent))
    assert (real["changed"], real["emulated"]) == (True, PLATFORMS)
    assert real["actions"][0][:3] == ["docker", "--host", f"tcp://{NODE}:2375"]


#: A rootless engine that needs neither a network of its own nor any device.
_ROOTLESS = """\
export XDG_RUNTIME_DIR=/run/user/rootless HOME=/home/rootless DOCKERD_ROOTLESS_ROOTLESSKIT_NET=host
export DOCKERD_ROOTLESS_ROOTLESSKIT_PORT_DRIVER=none DOCKERD_ROOTLESS_ROOTLESSKIT_DISABLE_HOST_LOOPBACK=false
PATH=/usr/sbin:/usr/bin:/sbin:/bin
exec /usr/share/docker.io/contrib/dockerd-rootless.sh --iptables=false --bridge=none --storage-driver=vfs
"""


def test_a_rootless_engine(farm: LiveFarm) -> None:
    socket = "/run/user/rootless/docker.sock"
    install = (
        "cat > /usr/local/bin/rootless.sh; export DEBIAN_FRONTEND=noninteractive; "
        f"{installing('rootlesskit', 'uidmap')} >/dev/null; "
        "useradd -m rootless; echo rootless:500000:65536 | tee -a /etc/subuid >> /etc/subgid; "
        "install -d -o rootless -m 700 /run/user/rootless; "
        "systemd-run -q --unit=rootless --uid=rootless sh /usr/local/bin/rootless.sh; "
        # Without a network of its own this engine panics when it is asked for its version.
        f"timeout 60 sh -c 'until docker -H unix://{socket} info >/dev/null 2>&1; do sleep 0.5; done'"
    )
    farm.ssh(NODE, install, stdin=_ROOTLESS)
    try:
        # Through an endpoint, and as the engine of the host itself.
        for options, environment in (({"endpoint": f"unix://{socket}"}, {}), ({}, {"DOCKER_HOST": f"unix://{socket}"})):
            refused = {"platforms": ["s390x"], "fails": True, "environment": environment, **options}
            tasks = [task("binfmt", check=check, **refused) for check in (True, False)]
            for failed in farm.tasks(NODE, *tasks):
                assert "the engine is a rootless one" in failed["msg"]
    finally:
        farm.ssh(
            NODE,
            "systemctl stop rootless; rm -rf /usr/local/bin/rootless.sh /run/user/rootless /home/rootless/.local; "
            "userdel -rf rootless; apt-get -q -y purge rootlesskit uidmap >/dev/null",
        )
