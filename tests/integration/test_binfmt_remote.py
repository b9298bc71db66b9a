"""binfmt on a controller, for a host of which it has only the engine: over TCP, without ssh.

All hosts share one kernel, and the farm itself emulates arm64, so other platforms are used here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from ansible_runs import LiveFarm

CONTROLLER, NODE = "ctl", "mid2"
ROOT = "/proc/sys/fs/binfmt_misc"
ENTRY = f"{ROOT}/qemu-s390x"
PLATFORMS = ["linux/s390x", "linux/riscv64"]
#: All but arm64's handler, which comes and goes with other farms on this kernel.
_LOOK = f"cd {ROOT}; ls -I qemu-aarch64 -I register | xargs head -n 9"


@pytest.fixture(scope="module", autouse=True)
def engine(farm: LiveFarm) -> Iterator[None]:
    """An engine that listens on TCP, and a context for it."""
    settings = {"insecure-registries": [farm.registry]}
    farm.module(NODE, "docker_listener", insecure=True, address="0.0.0.0", daemon_config=settings)
    farm.ssh(CONTROLLER, f"rm -rf ~/.docker; docker context create far --docker host=tcp://{NODE}:2375")
    farm.module(NODE, "binfmt", state="absent", platforms=PLATFORMS)
    yield
    farm.module(NODE, "binfmt", state="absent", platforms=PLATFORMS)
    farm.ssh(CONTROLLER, "rm -rf ~/.docker")
    farm.module(NODE, "docker_listener", state="absent")
    farm.ssh(NODE, "rm -f /etc/docker/daemon.json; systemctl reset-failed docker; systemctl restart docker")


@pytest.fixture(params=["far", f"tcp://{NODE}:2375"])
def options(farm: LiveFarm, request: pytest.FixtureRequest) -> dict[str, Any]:
    """The module's options, by a context and by a URL."""
    image = f"{farm.registry}/tonistiigi/binfmt:qemu-v10.0.4"
    return {"platforms": [*PLATFORMS, "amd64"], "image": image, "endpoint": request.param}


def run(farm: LiveFarm, **options: Any) -> dict[str, Any]:
    """Run the task; check mode predicts it and changes nothing in the kernel, a second run changes nothing at all."""
    before = farm.ssh(NODE, _LOOK)
    predicted = farm.module(CONTROLLER, "binfmt", check=True, **options)
    assert farm.ssh(NODE, _LOOK) == before
    real = farm.module(CONTROLLER, "binfmt", **options)
    for key in ("changed", "actions", "diff", "native", "emulated"):
        assert predicted[key] == real[key], key
    assert not farm.module(CONTROLLER, "binfmt", **options)["changed"]
    # Nothing stays on the engine.
    assert farm.ssh(NODE, "docker ps -aq; docker images -q buildfarm-programs") == ""
    return real


def test_present_repaired_and_absent(farm: LiveFarm, options: dict[str, Any]) -> None:
    real = run(farm, **options)
    assert (real["changed"], real["native"], real["emulated"]) == (True, ["linux/amd64"], PLATFORMS)
    assert real["not_compared"] == ["interpreter", "flags"]
    version = farm.module(NODE, "binfmt_info")["handlers"]
    assert real["qemu_versions"]["linux/s390x"] in {handler["qemu_version"] for handler in version}
    for drift in (f"echo 0 > {ENTRY}", f"echo -1 > {ENTRY}"):
        farm.ssh(NODE, drift)
        assert run(farm, **options)["actions"][0][-4:] == ["--uninstall", "qemu-s390x", "--install", "s390x"]
    found = run(farm, **options, qemu_version=real["qemu_versions"]["linux/s390x"])
    assert not found["changed"]
    assert not run(farm, **options, verify=False)["changed"]
    assert run(farm, **{**options, "state": "absent", "platforms": PLATFORMS})["changed"]
    assert farm.ssh(NODE, f"ls {ROOT} | grep -c -e s390x -e riscv64 || true").strip() == "0"


def test_exactly_these(farm: LiveFarm, options: dict[str, Any]) -> None:
    farm.module(CONTROLLER, "binfmt", **options)
    others = set(farm.ssh(NODE, f"ls {ROOT} | grep ^qemu-").split()) - {"qemu-s390x", "qemu-riscv64"}
    if others:
        pytest.skip(f"someone else needs {', '.join(sorted(others))}, and all hosts share one kernel")
    farm.ssh(NODE, f"echo ':jar:E::jar::/bin/true:' > {ROOT}/register")
    real = run(farm, **{**options, "state": "exact", "platforms": ["s390x"]})
    assert real["diff"]["before"]["others"] == ["qemu-riscv64"]
    assert farm.ssh(NODE, f"ls {ROOT}").split() == ["jar", "qemu-s390x", "register", "status"]
    farm.ssh(NODE, f"echo -1 > {ROOT}/jar")


def test_what_cannot_be(farm: LiveFarm, options: dict[str, Any]) -> None:
    def message(**changes: Any) -> str:
        return str(farm.module(CONTROLLER, "binfmt", fails=True, **{**options, **changes})["msg"])

    assert "nothing can be registered at boot through endpoint" in message(persistent=True)
    assert "run the task on that host" in message(source="packages")
    assert "reports nothing" in message(image="docker/binfmt:a7996909642ee92942dcd6cff44b9b95f08dad64", state="absent")
    assert "has to run" in message(endpoint=f"tcp://{NODE}:1")
    silent = farm.ssh(NODE, f"docker create --entrypoint true {farm.registry}/library/busybox").strip()
    farm.ssh(NODE, f"docker commit -c 'ENTRYPOINT [\"true\"]' {silent} liar:1; docker rm {silent}")
    farm.module(CONTROLLER, "binfmt", **{**options, "state": "absent", "platforms": PLATFORMS})
    assert "linux/s390x is not run there: a s390x program exited with" in message(image="liar:1")
    farm.ssh(NODE, "docker rmi liar:1")


def test_a_controller_without_the_cli(farm: LiveFarm, options: dict[str, Any]) -> None:
    failed = farm.module("bare1", "binfmt", fails=True, **{**options, "endpoint": f"tcp://{NODE}:2375"})
    assert "install the docker CLI there" in failed["msg"]
    assert json.dumps(failed["cmd"]).startswith('["docker", "--host"')


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
        "cat > /usr/local/bin/rootless.sh; export DEBIAN_FRONTEND=noninteractive; apt-get -q update; "
        "apt-get -q -y --no-install-recommends install rootlesskit uidmap >/dev/null; "
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
            task = {"buildfarm.multiarch.binfmt": {"platforms": ["s390x"], **options}, "environment": environment}
            tasks = [{**task, "check_mode": check, "ignore_errors": True} for check in (True, False)]
            for outcome in farm.play([{"hosts": NODE, "gather_facts": False, "tasks": tasks}]).tasks:
                assert "the engine is a rootless one" in outcome.result["msg"]
    finally:
        farm.ssh(
            NODE,
            "systemctl stop rootless; rm -rf /usr/local/bin/rootless.sh /run/user/rootless /home/rootless/.local; "
            "userdel -rf rootless; apt-get -q -y purge rootlesskit uidmap >/dev/null",
        )
