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
ROOT = "/proc/sys/fs/binfmt_misc"
ENTRY = f"{ROOT}/qemu-s390x"
UNIT = "/etc/systemd/system/buildfarm-binfmt.service"
IMAGE = "tonistiigi/binfmt:qemu-v10.0.4"
# The magic and the mask of s390x, as binfmt_misc takes them.
RULE = (
    r"M:0:\x7fELF\x02\x02\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x16"
    r":\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff"
)


KEPT = {name: f"{{{name}}}" for name in ("entry", "root", "rule")}


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
    assert list(real["qemu_versions"]) == PLATFORMS
    found = handlers(farm)["qemu-s390x"]
    assert (found["enabled"], found["works"], found["platforms"]) == (True, True, ["linux/s390x"])
    assert re.match(r"\d+\.\d+", found["qemu_version"])
    assert real["qemu_versions"]["linux/s390x"] == found["qemu_version"]
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
    from ansible_collections.buildfarm.multiarch.plugins.module_utils._programs import program

    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        entry = tarfile.TarInfo("exit")
        entry.mode, entry.size = 0o755, len(program("s390x"))
        tar.addfile(entry, io.BytesIO(program("s390x")))
    archive = base64.b64encode(packed.getvalue()).decode()
    farm.ssh(NODE, "base64 -d | docker import --platform linux/s390x - exit:s390x", stdin=archive)
    run = "docker run --rm --platform linux/s390x --network none exit:s390x /exit; echo $?; docker rmi exit:s390x >&2"
    assert farm.ssh(NODE, run).strip() == "42"


_AGAIN = "echo -1 > {entry}; echo ':qemu-s390x:{rule}:{interpreter}:{flags}' > {root}/register"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("echo 0 > {entry}", "disabled"),
        (_AGAIN.format(interpreter="/usr/bin/qemu-s390x", flags="F", **KEPT), "does not work: a s390x program exited"),
        (_AGAIN.format(interpreter="/usr/bin/qemu-s390x", flags="", **KEPT), "flags none, wanted F"),
        (_AGAIN.format(interpreter="/bin/false", flags="F", **KEPT), "interpreter /bin/false, wanted /usr/bin/qemu-s"),
        ("echo ':qemu-other:{rule}:/bin/false:F' > {root}/register", "also registered as qemu-other"),
        (
            "echo -1 > {entry}; echo ':qemu-s390x:M::nothing::/usr/bin/qemu-s390x:F' > {root}/register",
            "registered for other programs",
        ),
    ],
)
def test_a_handler_that_is_of_no_use_is_replaced(
    farm: LiveFarm, registered: None, options: dict[str, Any], change: str, said: str
) -> None:
    # An interpreter by the name of the image's, which runs nothing.
    farm.ssh(NODE, "cp -p /bin/false /usr/bin/qemu-s390x")
    foreign = "jar:E::jar::/bin/true:"
    farm.ssh(NODE, f"echo ':{foreign}' > {ROOT}/register; cp {ROOT}/jar /root/jar")
    try:
        farm.ssh(NODE, change.format(entry=ENTRY, root=ROOT, rule=RULE))
        predicted = farm.module(NODE, "binfmt", check=True, **options)
        assert said in predicted["diff"]["before"]["linux/s390x"]
        real = farm.module(NODE, "binfmt", **options)
        assert real["diff"] == predicted["diff"]
        assert real["actions"] == predicted["actions"]
        assert real["actions"][0][-2:] == ["--install", "s390x"]
        assert handlers(farm)["qemu-s390x"]["works"] and "qemu-other" not in handlers(farm)
        assert not farm.module(NODE, "binfmt", **options)["changed"]
        farm.ssh(NODE, f"cmp {ROOT}/jar /root/jar")
    finally:
        farm.ssh(NODE, f"echo -1 > {ROOT}/jar; rm -f /usr/bin/qemu-s390x /root/jar")


def test_flag_p_is_a_choice(farm: LiveFarm, registered: None, options: dict[str, Any]) -> None:
    for preserve, said in ((False, "flags POCF, wanted not P"), (True, "flags OCF, wanted P among them")):
        predicted = farm.module(NODE, "binfmt", check=True, preserve_argv0=preserve, **options)
        assert predicted["diff"]["before"]["linux/s390x"] == said
        real = farm.module(NODE, "binfmt", preserve_argv0=preserve, **options)
        assert real["actions"] == predicted["actions"]
        assert ("P" in handlers(farm)["qemu-s390x"]["flags"]) == preserve
        assert not farm.module(NODE, "binfmt", preserve_argv0=preserve, **options)["changed"]
        farm.ssh(NODE, "systemctl restart buildfarm-binfmt")
        assert not farm.module(NODE, "binfmt", preserve_argv0=preserve, **options)["changed"]
    assert "flag C always" in farm.module(NODE, "binfmt", fails=True, credentials=False, **options)["msg"]


def test_a_truncated_emulator_is_named(farm: LiveFarm, image: str, options: dict[str, Any]) -> None:
    farm.module(NODE, "binfmt", state="absent", platforms=PLATFORMS)
    shorten = (
        f"docker create --name whole {image}; docker cp whole:/usr/bin/qemu-s390x - | tar -xC /root; "
        "truncate -s 100000 /root/qemu-s390x; docker cp /root/qemu-s390x whole:/usr/bin/qemu-s390x; "
        "docker commit whole truncated:1; docker rm whole; rm /root/qemu-s390x"
    )
    farm.ssh(NODE, shorten)
    failed = farm.module(NODE, "binfmt", fails=True, **{**options, "image": "truncated:1"})
    assert "linux/s390x is registered, but does not work" in failed["msg"]
    assert "handler qemu-s390x, interpreter /usr/bin/qemu-s390x" in failed["msg"]
    assert "installing: s390x OK" in failed["msg"] and "linux/riscv64" not in failed["msg"]
    assert farm.ssh(NODE, f"ls {UNIT} 2>/dev/null || true") == ""
    predicted = farm.module(NODE, "binfmt", check=True, **options)
    assert "does not work" in predicted["diff"]["before"]["linux/s390x"]
    assert farm.module(NODE, "binfmt", **options)["actions"] == predicted["actions"]
    assert handlers(farm)["qemu-s390x"]["works"]
    farm.ssh(NODE, "docker rmi truncated:1")


def test_the_image_of_old_articles(farm: LiveFarm, image: str, options: dict[str, Any]) -> None:
    # docker/binfmt registers its own five; here those that no other test on this kernel may be using.
    legacy = "mirror.example.com/docker/binfmt:a7996909642ee92942dcd6cff44b9b95f08dad64"
    commit = f'docker commit -c \'CMD ["--install", "ppc64le,s390x,riscv64"]\' whole {legacy}'
    farm.ssh(NODE, f"docker create --name whole {image}; {commit}; docker rm whole")
    farm.module(NODE, "binfmt", state="absent", platforms=PLATFORMS)
    options = {**options, "image": legacy}
    predicted = farm.module(NODE, "binfmt", check=True, **options)
    real = farm.module(NODE, "binfmt", **options)
    assert real["actions"] == predicted["actions"]
    assert real["actions"][0][-1] == legacy
    assert handlers(farm)["qemu-s390x"]["works"] and handlers(farm)["qemu-riscv64"]["works"]
    assert not farm.module(NODE, "binfmt", **options)["changed"]
    farm.ssh(NODE, f"echo 0 > {ENTRY}")
    assert farm.module(NODE, "binfmt", **options)["actions"][0] == ["write", ENTRY, "-1"]
    assert not farm.module(NODE, "binfmt", **options)["changed"]
    failed = farm.module(NODE, "binfmt", fails=True, state="exact", **options)
    assert "is docker/binfmt, which registers its own five" in failed["msg"]
    farm.module(NODE, "binfmt", state="absent", platforms=[*PLATFORMS, "ppc64le"])
    farm.ssh(NODE, f"docker rmi {legacy}")


def test_exactly_these(farm: LiveFarm, registered: None, options: dict[str, Any]) -> None:
    farm.ssh(NODE, f"echo ':jar:E::jar::/bin/true:' > {ROOT}/register")
    # Handlers of others on this kernel stay by being declared as they are.
    others = {name for name in handlers(farm) if name.startswith("qemu-")} - {"qemu-s390x", "qemu-riscv64"}
    if others:
        pytest.skip(f"someone else needs {', '.join(sorted(others))}, and all hosts share one kernel")
    exact = {**options, "state": "exact", "platforms": ["s390x"]}
    predicted = farm.module(NODE, "binfmt", check=True, **exact)
    assert predicted["diff"]["before"]["others"] == ["qemu-riscv64"]
    real = farm.module(NODE, "binfmt", **exact)
    assert real["actions"] == predicted["actions"]
    assert set(handlers(farm)) == {"jar", "qemu-s390x"}
    assert farm.ssh(NODE, f"grep -o -e '--install .*' {UNIT}").split()[1] == "s390x"
    assert not farm.module(NODE, "binfmt", **exact)["changed"]
    farm.module(NODE, "binfmt", state="absent")
    assert set(handlers(farm)) == {"jar"}
    farm.ssh(NODE, f"echo -1 > {ROOT}/jar")


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


def test_uninstalling_leaves_the_host_as_it_was(farm: LiveFarm, options: dict[str, Any]) -> None:
    farm.module(NODE, "binfmt", state="absent", platforms=PLATFORMS)
    files = "find /etc/systemd /etc/binfmt.d | sort; sha256sum $(find /etc/systemd /etc/binfmt.d -type f)"
    look = f"{files}; cat /proc/mounts; docker ps -aq; docker volume ls -q; ls -I qemu-aarch64 {ROOT}"
    before = farm.ssh(NODE, look)
    assert farm.module(NODE, "binfmt", **options)["changed"]
    assert farm.ssh(NODE, look) != before
    farm.module(NODE, "binfmt", state="absent", platforms=PLATFORMS)
    assert farm.ssh(NODE, look) == before


def test_before_the_engine_is_installed(farm: LiveFarm, options: dict[str, Any]) -> None:
    predicted = farm.module("bare1", "binfmt", check=True, **options)
    assert predicted["emulated"] == PLATFORMS
    failed = farm.module("bare1", "binfmt", fails=True, **options)
    assert "install the docker CLI there" in failed["msg"]
    assert farm.ssh("bare1", "find /etc/systemd -name 'buildfarm-binfmt*'") == ""
    found = farm.module("bare1", "binfmt_info")
    assert found["native"] == ["linux/386", "linux/amd64"]


def test_not_mounted(farm: LiveFarm, registered: None, options: dict[str, Any]) -> None:
    """Root sees the handlers all the same, so that nothing has to change and check mode is right."""
    farm.ssh(NODE, f"umount {ROOT}")
    try:
        found = farm.module(NODE, "binfmt_info")
        assert not found["mounted"] and set(PLATFORMS) < set(found["platforms"])
        assert not farm.module(NODE, "binfmt", **options)["changed"]
        farm.ssh("mid2", f"echo 0 > {ENTRY}")
        predicted = farm.module(NODE, "binfmt", check=True, **options)
        real = farm.module(NODE, "binfmt", **options)
        assert real["actions"] == predicted["actions"] and real["diff"] == predicted["diff"]
        assert real["actions"][0][0] == "mount"
        assert farm.module(NODE, "binfmt_info")["mounted"]
    finally:
        farm.ssh(NODE, f"mountpoint -q {ROOT} || mount -t binfmt_misc binfmt_misc {ROOT}")


def test_without_rights(farm: LiveFarm, registered: None, options: dict[str, Any]) -> None:
    farm.ssh(NODE, "id somebody 2>/dev/null || useradd somebody")
    task = {"buildfarm.multiarch.binfmt": {**options, "platforms": ["ppc64le"]}, "ignore_errors": True}
    user = "setpriv --reuid somebody --clear-groups"
    farm.ssh(NODE, f"printf '#!/bin/sh\\nexec {user} python3 \"$@\"\\n' > /root/p; install /root/p /usr/local/bin/p")
    variables = {"ansible_python_interpreter": "/usr/local/bin/p"}
    play = {"hosts": NODE, "gather_facts": False, "vars": variables, "tasks": [{**task, "check_mode": True}, task]}
    for outcome in farm.play([play]).tasks:
        assert "only root may change handlers" in outcome.result["msg"]
    farm.ssh(NODE, "rm /root/p /usr/local/bin/p")


#: Platforms, Debian's names for them, and what their programs say of the machine.
MACHINES = {
    "linux/arm64": ("arm64", "aarch64"),
    "linux/arm/v7": ("armhf", "armv7l"),
    "linux/ppc64le": ("ppc64el", "ppc64le"),
    "linux/s390x": ("s390x", "s390x"),
    "linux/riscv64": ("riscv64", "riscv64"),
}


def test_five_platforms_are_built_and_run(farm: LiveFarm, options: dict[str, Any]) -> None:
    """Not programs of this collection's, but a shell of each platform, in RUN and in a container."""
    before = {name for name in handlers(farm) if name.startswith("qemu-")}
    result = farm.module(NODE, "binfmt", **{**options, "platforms": list(MACHINES)})
    assert set(result["qemu_versions"]) == set(MACHINES) and None not in result["qemu_versions"].values()
    try:
        for platform, (debian, machine) in MACHINES.items():
            fetch = (
                f"mkdir -p /srv/five && cd /srv/five && dpkg --add-architecture {debian} && "
                f"apt-get -q update >/dev/null && apt-get -q download busybox-static:{debian} && "
                f"dpkg -x busybox-static_*_{debian}.deb {debian}"
            )
            farm.ssh(NODE, fetch)
            dockerfile = (
                f"FROM scratch\nCOPY {debian}/usr/bin/busybox /bin/busybox\n"
                'RUN ["/bin/busybox", "sh", "-c", "/bin/busybox uname -m > /machine"]\n'
            )
            farm.ssh(NODE, "cat > /srv/five/Dockerfile", stdin=dockerfile)
            tag = f"five:{debian}"
            farm.ssh(NODE, f"docker buildx build -q --platform {platform} -t {tag} --load /srv/five")
            shell = "'/bin/busybox cat /machine; /bin/busybox uname -m'"
            ran = farm.ssh(NODE, f"docker run --rm --platform {platform} {tag} /bin/busybox sh -c {shell}")
            assert ran.split() == [machine, machine]
            farm.ssh(NODE, f"docker rmi {tag}; dpkg --remove-architecture {debian}")
    finally:
        entries = {"qemu-aarch64": "arm64", "qemu-arm": "arm", "qemu-ppc64le": "ppc64le"}
        added = [arch for name, arch in entries.items() if name not in before]
        farm.module(NODE, "binfmt", state="absent", platforms=[*PLATFORMS, *added])
        farm.ssh(NODE, "rm -rf /srv/five")
