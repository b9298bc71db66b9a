"""binfmt and binfmt_info on a real kernel, with the farm's emulator image.

The farm's image honours the contract of tonistiigi/binfmt; the real one is not reachable from everywhere. All hosts
share one kernel, and the farm itself emulates arm64, so other platforms are used here.
"""

from __future__ import annotations

import base64
import io
import re
import subprocess
import tarfile
import time
from collections.abc import Iterator
from typing import Any

import pytest

import images
from ansible_runs import LiveFarm, shell, task

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
    with farm.trusted_registry(NODE):
        farm.module(NODE, "binfmt", state="absent", platforms=PLATFORMS)
        print(f"emulator image: {image}")
        yield
        farm.module(NODE, "binfmt", state="absent", platforms=PLATFORMS)


@pytest.fixture
def options(image: str) -> dict[str, Any]:
    """The module's options."""
    return {"platforms": [*PLATFORMS, "linux/amd64"], "image": image}


@pytest.fixture(scope="module")
def looks() -> dict[str, str]:
    """How the node looked when both handlers were there."""
    return {}


@pytest.fixture
def registered(farm: LiveFarm, options: dict[str, Any], looks: dict[str, str]) -> None:
    """Both handlers are there, and nothing else of an earlier test."""
    look = f"cat {ROOT}/qemu-* {UNIT}; systemctl is-enabled buildfarm-binfmt; mountpoint {ROOT}"
    if "registered" not in looks or farm.ssh(NODE, look, check=False) != looks["registered"]:
        farm.module(NODE, "binfmt", **options)
        looks["registered"] = farm.ssh(NODE, look)


def binfmt(**options: Any) -> dict[str, Any]:
    """A task of the module."""
    return task("binfmt", **options)


def names(farm: LiveFarm) -> set[str]:
    """The handlers of this kernel."""
    return set(farm.ssh(NODE, f"ls {ROOT}").split()) - {"register", "status"}


def flags(farm: LiveFarm) -> str:
    """The flags of a handler."""
    return farm.ssh(NODE, f"sed -n 's/^flags: //p' {ENTRY}").strip()


def at_boot(farm: LiveFarm) -> str:
    """What the boot unit registers."""
    return farm.ssh(NODE, f"grep -o -e '--install .*' {UNIT}").split()[1]


def test_handlers_are_registered_and_work(farm: LiveFarm, options: dict[str, Any]) -> None:
    look = shell(f"ls {ROOT}")
    predicted, seen, real, info = farm.tasks(
        NODE, binfmt(check=True, **options), look, binfmt(**options), task("binfmt_info")
    )
    assert "qemu-s390x" not in seen["stdout"]
    for key in ("changed", "actions", "diff", "native", "emulated"):
        assert predicted[key] == real[key]
    assert real["actions"][0][-2:] == ["--install", "s390x,riscv64"]
    assert (real["native"], real["emulated"]) == (["linux/amd64"], PLATFORMS)
    assert list(real["qemu_versions"]) == PLATFORMS
    (found,) = [handler for handler in info["handlers"] if handler["name"] == "qemu-s390x"]
    assert (found["enabled"], found["works"], found["platforms"]) == (True, True, ["linux/s390x"])
    assert re.match(r"\d+\.\d+", found["qemu_version"])
    assert real["qemu_versions"]["linux/s390x"] == found["qemu_version"]
    assert set(PLATFORMS) < set(info["platforms"]) and info["native"] == ["linux/386", "linux/amd64"]


def test_a_second_run_needs_no_engine(farm: LiveFarm, registered: None, options: dict[str, Any]) -> None:
    _stopped, again, _removed, failed, _started, repaired = farm.tasks(
        NODE,
        shell("systemctl stop docker.socket docker.service"),
        binfmt(**options),
        shell(f"echo -1 > {ENTRY}"),
        binfmt(fails=True, **options),
        shell("systemctl reset-failed docker; systemctl start docker"),
        binfmt(**options),
    )
    assert (again["changed"], again["actions"]) == (False, [])
    assert "the engine on mid1 has to run" in failed["msg"]
    assert "is the engine" in failed["msg"]
    assert repaired["changed"]


def test_containers_of_the_platform_run(farm: LiveFarm, registered: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(farm.collections))
    from ansible_collections.buildfarm.multiarch.plugins.module_utils._platform.elf import program

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
        real = farm.converge(NODE, "binfmt", **options)
        assert said in real["diff"]["before"]["linux/s390x"]
        assert real["actions"][0][-2:] == ["--install", "s390x"]
        assert real["qemu_versions"]["linux/s390x"] and "qemu-other" not in names(farm)
        farm.ssh(NODE, f"cmp {ROOT}/jar /root/jar")
    finally:
        farm.ssh(NODE, f"echo -1 > {ROOT}/jar; rm -f /usr/bin/qemu-s390x /root/jar")


def test_flag_p_is_a_choice(farm: LiveFarm, registered: None, options: dict[str, Any]) -> None:
    for preserve, said in ((False, "flags POCF, wanted not P"), (True, "flags OCF, wanted P among them")):
        boot = "systemctl restart buildfarm-binfmt"
        real = farm.converge(NODE, "binfmt", boot=boot, preserve_argv0=preserve, **options)
        assert real["diff"]["before"]["linux/s390x"] == said
        assert ("P" in flags(farm)) == preserve
    assert "flag C always" in farm.module(NODE, "binfmt", fails=True, credentials=False, **options)["msg"]


def test_a_truncated_emulator_is_named(farm: LiveFarm, image: str, options: dict[str, Any]) -> None:
    shorten = (
        f"docker create --name whole {image}; docker cp whole:/usr/bin/qemu-s390x - | tar -xC /root; "
        "truncate -s 100000 /root/qemu-s390x; docker cp /root/qemu-s390x whole:/usr/bin/qemu-s390x; "
        "docker commit whole truncated:1; docker rm whole; rm /root/qemu-s390x"
    )
    farm.ssh(NODE, shorten)
    absent = binfmt(state="absent", platforms=PLATFORMS)
    _absent, failed = farm.tasks(NODE, absent, binfmt(fails=True, **{**options, "image": "truncated:1"}))
    assert "linux/s390x is registered, but does not work" in failed["msg"]
    assert "handler qemu-s390x, interpreter /usr/bin/qemu-s390x" in failed["msg"]
    assert "installing: s390x OK" in failed["msg"] and "linux/riscv64" not in failed["msg"]
    farm.ssh(NODE, f"test ! -e {UNIT} && docker rmi truncated:1")
    real = farm.converge(NODE, "binfmt", **options)
    assert "does not work" in real["diff"]["before"]["linux/s390x"]
    assert real["qemu_versions"]["linux/s390x"]


def test_all_is_what_an_older_image_has(farm: LiveFarm, image: str, options: dict[str, Any]) -> None:
    """One that knows the tests' platforms only; what a handler of others runs is left to that."""
    remove = "find /root/older/usr/bin -name 'qemu-*' ! -name qemu-s390x ! -name qemu-riscv64 -delete"
    pack = "tar -cC /root/older . | docker import -c 'ENTRYPOINT [\"/usr/bin/binfmt\"]' - older:1"
    unpack = f"docker create --name whole {image}; mkdir /root/older; docker export whole | tar -xC /root/older"
    farm.ssh(NODE, f"{unpack}; docker rm whole; {remove}; {pack}; rm -r /root/older")
    before, absent = names(farm) - {"qemu-s390x", "qemu-riscv64"}, binfmt(state="absent", platforms=PLATFORMS)
    older = {**options, "image": "older:1", "platforms": ["all"]}
    farm.tasks(NODE, absent)
    real = farm.converge(NODE, "binfmt", boot="systemctl restart buildfarm-binfmt", **older)
    assert real["actions"][0][-2:] == ["--install", "riscv64,s390x"]
    assert at_boot(farm) == "riscv64,s390x" and names(farm) == before | {"qemu-s390x", "qemu-riscv64"}
    assert set(PLATFORMS) <= set(real["emulated"]) and "linux/mips64" not in real["diff"]["after"]
    named, _absent, predicted, unknown, left = farm.tasks(
        NODE,
        binfmt(fails=True, **{**older, "platforms": ["all", "mips64"]}),
        absent,
        # An image that is not there is not pulled in check mode.
        binfmt(check=True, **{**older, "image": "nowhere.example.com/older:2"}),
        binfmt(fails=True, **{**older, "image": f"{farm.registry}/no/such:image"}),
        shell("docker ps -aq"),
    )
    assert "after the task linux/mips64 is missing" in named["msg"]
    assert "mips64" in predicted["actions"][0][-1]
    assert "able to pull it" in unknown["msg"]
    assert left["stdout"] == ""
    farm.ssh(NODE, "docker rmi older:1")


def test_the_image_of_old_articles(farm: LiveFarm, image: str, options: dict[str, Any]) -> None:
    # docker/binfmt registers its own five; here those that no other test on this kernel may be using.
    legacy = "mirror.example.com/docker/binfmt:a7996909642ee92942dcd6cff44b9b95f08dad64"
    commit = f'docker commit -c \'CMD ["--install", "ppc64le,s390x,riscv64"]\' whole {legacy}'
    farm.ssh(NODE, f"docker create --name whole {image}; {commit}; docker rm whole")
    options = {**options, "image": legacy}
    want = binfmt(**options)
    _absent, predicted, real, again, _disabled, enabled, last, failed, _removed = farm.tasks(
        NODE,
        binfmt(state="absent", platforms=PLATFORMS),
        binfmt(check=True, **options),
        want,
        want,
        shell(f"echo 0 > {ENTRY}"),
        want,
        want,
        binfmt(fails=True, state="exact", **options),
        binfmt(state="absent", platforms=[*PLATFORMS, "ppc64le"]),
    )
    assert real["actions"] == predicted["actions"]
    assert real["actions"][0][-1] == legacy
    assert set(real["qemu_versions"]) == set(PLATFORMS)
    assert enabled["actions"][0] == ["write", ENTRY, "-1"]
    assert not again["changed"] and not last["changed"]
    assert "is docker/binfmt, which registers its own five" in failed["msg"]
    farm.ssh(NODE, f"docker rmi {legacy}")


def test_exactly_these(farm: LiveFarm, registered: None, options: dict[str, Any]) -> None:
    farm.ssh(NODE, f"echo ':jar:E::jar::/bin/true:' > {ROOT}/register")
    others = {name for name in names(farm) if name.startswith("qemu-")} - {"qemu-s390x", "qemu-riscv64"}
    assert not others, f"{sorted(others)} would be removed for all hosts of this kernel, and someone may need them"
    real = farm.converge(NODE, "binfmt", **{**options, "state": "exact", "platforms": ["s390x"]})
    assert real["diff"]["before"]["others"] == ["qemu-riscv64"]
    assert names(farm) == {"jar", "qemu-s390x"} and at_boot(farm) == "s390x"
    farm.converge(NODE, "binfmt", state="absent")
    assert names(farm) == {"jar"}
    farm.ssh(NODE, f"echo -1 > {ROOT}/jar")


def test_an_image_that_does_nothing_and_exits_with_0(farm: LiveFarm, registered: None, options: dict[str, Any]) -> None:
    farm.ssh(NODE, f"docker commit -c 'ENTRYPOINT [\"true\"]' $(docker create {farm.registry}/library/busybox) liar:1")
    farm.ssh(NODE, f"echo -1 > {ENTRY}")
    nowhere = {**options, "image": f"{farm.registry}/no/such:image"}
    liar, missing = farm.tasks(
        NODE,
        binfmt(fails=True, persistent=False, **{**options, "image": "liar:1"}),
        binfmt(fails=True, **nowhere),
    )
    assert "after the task linux/s390x is missing; the emulator image liar:1 printed: nothing" in liar["msg"]
    assert "able to pull it" in missing["msg"]
    farm.ssh(NODE, "docker container prune -f; docker rmi liar:1")


def test_the_version_of_qemu_can_be_demanded(farm: LiveFarm, registered: None, options: dict[str, Any]) -> None:
    series = "{{ now.qemu_versions['linux/s390x'] | splitext | first }}"
    now, same, predicted, failed = farm.tasks(
        NODE,
        {**binfmt(**options), "register": "now"},
        binfmt(qemu_version=series, **options),
        binfmt(check=True, qemu_version="1.2", **options),
        binfmt(fails=True, qemu_version="1.2", **options),
    )
    version = now["qemu_versions"]["linux/s390x"]
    assert not same["changed"]
    assert predicted["diff"]["before"]["linux/s390x"] == f"QEMU {version}, wanted 1.2"
    assert f"linux/s390x is QEMU {version}, wanted 1.2" in failed["msg"]


def test_handlers_come_back_after_a_reboot(farm: LiveFarm, registered: None, options: dict[str, Any]) -> None:
    farm.farm.power_off(NODE)
    # One kernel for all hosts: what a real reboot loses is taken away on another host.
    farm.ssh("mid2", f"echo -1 > {ENTRY}; echo -1 > {ENTRY.replace('s390x', 'riscv64')}")
    farm.farm.power_on(NODE)
    deadline = time.monotonic() + 60
    while not farm.ssh(NODE, f"cat {ENTRY}", check=False) and time.monotonic() < deadline:
        time.sleep(1)
    assert not farm.module(NODE, "binfmt", **options)["changed"]


def test_tasks_share_the_boot_unit(farm: LiveFarm, registered: None, image: str) -> None:
    assert at_boot(farm) == "riscv64,s390x"
    one = {"platforms": ["s390x"], "image": image}
    kept, _left = farm.tasks(NODE, binfmt(**one), binfmt(persistent=False, **one))
    assert not kept["changed"]
    assert at_boot(farm) == "riscv64" and "qemu-s390x" in names(farm)


def test_absent_removes_handlers_and_the_boot_unit(farm: LiveFarm, registered: None) -> None:
    assert farm.converge(NODE, "binfmt", state="absent", platforms=PLATFORMS)["changed"]
    assert "qemu-s390x" not in names(farm)
    assert farm.ssh(NODE, "find /etc/systemd -name 'buildfarm-binfmt*'") == ""


def test_uninstalling_leaves_the_host_as_it_was(farm: LiveFarm, options: dict[str, Any]) -> None:
    absent = binfmt(state="absent", platforms=PLATFORMS)
    files = "find /etc/systemd /etc/binfmt.d | sort; sha256sum $(find /etc/systemd /etc/binfmt.d -type f)"
    look = shell(f"{files}; cat /proc/mounts; docker ps -aq; docker volume ls -q; ls -I qemu-aarch64 {ROOT}")
    _absent, before, _installed, between, _removed, after = farm.tasks(
        NODE, absent, look, binfmt(**options), look, absent, look
    )
    assert before["stdout"] == after["stdout"] != between["stdout"]


def test_before_the_engine_is_installed(farm: LiveFarm, options: dict[str, Any]) -> None:
    predicted, failed, info = farm.tasks(
        "bare1", binfmt(check=True, **options), binfmt(fails=True, **options), task("binfmt_info")
    )
    assert predicted["emulated"] == PLATFORMS
    assert "no such socket; is the engine installed and started?" in failed["msg"]
    assert farm.ssh("bare1", "find /etc/systemd -name 'buildfarm-binfmt*'") == ""
    assert info["native"] == ["linux/386", "linux/amd64"]


def test_not_mounted(farm: LiveFarm, registered: None, options: dict[str, Any]) -> None:
    """Root sees the handlers all the same, so that nothing has to change and check mode is right."""
    farm.ssh(NODE, f"umount {ROOT}")
    try:
        found, same = farm.tasks(NODE, task("binfmt_info"), binfmt(**options))
        assert not found["mounted"] and set(PLATFORMS) < set(found["platforms"])
        assert not same["changed"]
        farm.ssh("mid2", f"echo 0 > {ENTRY}")
        assert farm.converge(NODE, "binfmt", **options)["actions"][0][0] == "mount"
        farm.ssh(NODE, f"mountpoint {ROOT}")
    finally:
        farm.ssh(NODE, f"mountpoint -q {ROOT} || mount -t binfmt_misc binfmt_misc {ROOT}")


def test_without_rights(farm: LiveFarm, registered: None, options: dict[str, Any]) -> None:
    farm.ssh(NODE, "id somebody 2>/dev/null || useradd somebody")
    refused = {**options, "platforms": ["ppc64le"], "fails": True}
    user = "setpriv --reuid somebody --clear-groups"
    farm.ssh(NODE, f"printf '#!/bin/sh\\nexec {user} python3 \"$@\"\\n' > /root/p; install /root/p /usr/local/bin/p")
    variables = {"ansible_python_interpreter": "/usr/local/bin/p"}
    for failed in farm.tasks(NODE, binfmt(check=True, **refused), binfmt(**refused), variables=variables):
        assert "only root may change handlers" in failed["msg"]
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
    before = names(farm)
    result = farm.module(NODE, "binfmt", **{**options, "platforms": list(MACHINES)})
    assert set(result["qemu_versions"]) == set(MACHINES) and None not in result["qemu_versions"].values()
    try:
        for platform, (debian, machine) in MACHINES.items():
            program = (images.busybox_programs() / debian).read_bytes()
            command = farm.farm.ssh(NODE, "mkdir -p /srv/five; cat > /srv/five/busybox; chmod 755 /srv/five/busybox")
            subprocess.run(command, input=program, check=True)
            dockerfile = (
                "FROM scratch\nCOPY busybox /bin/busybox\n"
                'RUN ["/bin/busybox", "sh", "-c", "/bin/busybox uname -m > /machine"]\n'
            )
            farm.ssh(NODE, "cat > /srv/five/Dockerfile", stdin=dockerfile)
            tag = f"five:{debian}"
            farm.ssh(NODE, f"docker buildx build -q --platform {platform} -t {tag} --load /srv/five")
            shell = "'/bin/busybox cat /machine; /bin/busybox uname -m'"
            ran = farm.ssh(NODE, f"docker run --rm --platform {platform} {tag} /bin/busybox sh -c {shell}")
            assert ran.split() == [machine, machine]
            farm.ssh(NODE, f"docker rmi {tag}")
    finally:
        entries = {"qemu-aarch64": "arm64", "qemu-arm": "arm", "qemu-ppc64le": "ppc64le"}
        added = [arch for name, arch in entries.items() if name not in before]
        farm.module(NODE, "binfmt", state="absent", platforms=[*PLATFORMS, *added])
        farm.ssh(NODE, "rm -rf /srv/five")
