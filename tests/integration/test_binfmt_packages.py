"""binfmt with the distribution's packages, and binfmt from any state to any declaration, on a real kernel.

Since Linux 6.7 each user namespace can have handlers of its own. Where a test needs the whole kernel to itself the
module's Python runs in such a namespace of a host.

`BUILDFARM_CASES` is the number of random declarations, a third as many with an image; `BUILDFARM_SEED` repeats those of
an earlier run.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ansible_runs import LiveFarm, Run, task

HOST, NODE = "bare1", "mid1"
ROOT = "/proc/sys/fs/binfmt_misc"
UNIT = "/etc/systemd/system/buildfarm-binfmt.service"
CASES = int(os.environ.get("BUILDFARM_CASES", "6"))
SEED = int(os.environ.get("BUILDFARM_SEED", random.SystemRandom().randrange(10**6)))
#: Handlers by platform; what Debian's packages call their interpreters.
QEMU = {
    "linux/arm64": "aarch64",
    "linux/arm/v7": "arm",
    "linux/ppc64le": "ppc64le",
    "linux/riscv64": "riscv64",
    "linux/s390x": "s390x",
}
#: Two that are not QEMU's, as Debian's Java and Python have registered them.
FOREIGN = {"jar": ":jar:M::PK\\x03\\x04::/usr/bin/true:", "python3": ":python3:M::\\x6f\\x0d\\x0d\\x0a::/usr/bin/true:"}
#: QEMU is static: a copy elsewhere works, half of one does not.
_COPIES = (
    f"mkdir -p /opt/other /opt/broken; for name in {' '.join(QEMU.values())}; do "
    "cp /usr/bin/qemu-$name /opt/other; head -c 100000 /usr/bin/qemu-$name > /opt/broken/qemu-$name; done; "
    "chmod 755 /opt/broken/*"
)
#: A machine of its own mounts it by itself.
_MOUNT_AT_BOOT = "/etc/systemd/system/sysinit.target.wants/proc-sys-fs-binfmt_misc.mount"
_NAMESPACE = "/run/own-handlers"
_ENTER = f"nsenter --target $(cat {_NAMESPACE}) --user --mount --preserve-credentials"
_PYTHON = "/usr/local/bin/own-handlers-python"


class Kernel:
    """A host's handlers, those of a user namespace of its own, or those of the machine."""

    def __init__(self, farm: LiveFarm, host: str, own: bool, **options: Any) -> None:
        self.farm, self.host, self.own, self.options = farm, host, own, options
        self.variables = {"ansible_python_interpreter": _PYTHON} if own else {}

    def task(self, check: bool = False, fails: bool = False, **options: Any) -> dict[str, Any]:
        """A task of the module."""
        return task("binfmt", check=check, fails=fails, **{**self.options, **options})

    def run(self, *tasks: dict[str, Any]) -> list[dict[str, Any]]:
        """Run tasks where these handlers are to be seen; returns their results."""
        return self.farm.tasks(self.host, *tasks, variables=self.variables)

    def declare(self, boot: str | None = None, **options: Any) -> dict[str, Any]:
        """Run the task, see LiveFarm.converge."""
        values = ("changed", "actions", "diff", "native", "emulated")
        arguments = {**self.options, **options}
        return self.farm.converge(self.host, "binfmt", variables=self.variables, boot=boot, values=values, **arguments)

    def shell(self, command: str) -> str:
        """Run a command where these handlers are to be seen."""
        return self.farm.ssh(self.host, f"{_ENTER} sh -e" if self.own else "sh -e", stdin=command)

    def handlers(self) -> dict[str, dict[str, str]]:
        """The handlers as the kernel shows them: `state`, `interpreter`, `flags` and so on, by name."""
        return parsed(self.shell(_LOOK))


#: Prints all handlers.
_LOOK = f'cd {ROOT}; for name in *; do echo "= $name"; cat $name 2>&1 || :; done'


def parsed(text: str) -> dict[str, dict[str, str]]:
    """What the kernel shows of its handlers."""
    found: dict[str, dict[str, str]] = {}
    for line in text.splitlines():
        key, _blank, value = line.partition(" ")
        if key == "=":
            name = value
        elif name not in ("register", "status"):
            values = {"state": key} if not value else {key.strip(":"): value}
            found.setdefault(name, {}).update(values)
    return found


ROLE = {
    "emulators_source": "packages",
    "emulators_platforms": ["linux/s390x"],
}


def role(farm: LiveFarm, **options: Any) -> Run:
    """Apply the role."""
    include = {"ansible.builtin.import_role": {"name": "buildfarm.multiarch.emulators", **options}}
    play = {"hosts": HOST, "gather_facts": False, "vars": ROLE, "tasks": [include]}
    return farm.play([play])


@pytest.fixture(scope="module")
def packages(farm: LiveFarm) -> Iterator[None]:
    """A host on which the role has installed the packages, with nothing registered; without them at the end."""
    # A package's trigger restarts systemd-binfmt, which would remove the handlers of all hosts, as they share a kernel.
    farm.ssh(HOST, f"umount {ROOT}")
    farm.module(NODE, "binfmt", state="absent", platforms=["s390x"])
    run = role(farm).expect_success()
    assert any("Install packages with apt" in changed for changed in run.changed)
    assert run.tasks[-1].result["actions"][0][0] == "mount"
    again = role(farm).expect_success()
    assert again.changed == []
    role(farm, tasks_from="remove").expect_success()
    farm.ssh(HOST, _COPIES)
    yield
    purge = "apt-get -q -y purge qemu-user-binfmt qemu-user >/dev/null"
    farm.ssh(HOST, f"umount {ROOT}; {purge}; mount -t binfmt_misc binfmt_misc {ROOT}")
    farm.ssh(HOST, "rm -rf /opt/other /opt/broken /etc/binfmt.d/*")


@pytest.fixture
def kernel(farm: LiveFarm, packages: None) -> Iterator[Kernel]:
    """That host, with handlers of its own."""
    start = (
        f"unshare --user --map-root-user --mount sh -c 'mount -t binfmt_misc binfmt_misc {ROOT}; "
        f"echo $$ > {_NAMESPACE}; exec sleep infinity'"
    )
    farm.ssh(HOST, f"rm -f /etc/binfmt.d/*; cat > {_NAMESPACE}.sh", stdin=start)
    farm.ssh(HOST, f"cat > {_PYTHON}; chmod 755 {_PYTHON}", stdin=f'#!/bin/sh\nexec {_ENTER} python3 "$@"\n')
    wait = f"until test -s {_NAMESPACE}; do sleep 0.1; done"
    farm.ssh(HOST, f"systemd-run -q --unit=own-handlers sh {_NAMESPACE}.sh; {wait}")
    kernel = Kernel(farm, HOST, True, source="packages")
    assert kernel.handlers() == {}
    yield kernel
    farm.ssh(HOST, f"systemctl stop own-handlers; rm -f {_NAMESPACE} {_PYTHON} /etc/binfmt.d/*")


def test_packages_are_activated_one_by_one(kernel: Kernel) -> None:
    kernel.shell(f"printf '%s' '{FOREIGN['jar']}' > {ROOT}/register")
    real = kernel.declare(platforms=["s390x", "arm", "amd64"])
    assert (real["native"], real["emulated"]) == (["linux/amd64"], ["linux/s390x", "linux/arm/v7"])
    assert set(kernel.handlers()) == {"jar", "qemu-s390x", "qemu-arm"}
    assert kernel.handlers()["qemu-s390x"]["interpreter"] == "/usr/libexec/qemu-binfmt/s390x-binfmt-P"
    assert real["qemu_versions"]["linux/s390x"].startswith("10.0")
    kernel.declare(platforms="all", state="exact")
    assert {f"qemu-{name}" for name in QEMU.values()} < set(kernel.handlers())
    kernel.declare(state="absent")
    assert set(kernel.handlers()) == {"jar"}


def test_flags_are_a_choice_also_at_boot(kernel: Kernel) -> None:
    kernel.declare(platforms=["s390x"])
    assert set(kernel.handlers()["qemu-s390x"]["flags"]) == set("POF")
    for options, flags in (({"credentials": True}, "POCF"), ({"credentials": False}, "POF")):
        # What systemd does at boot.
        kernel.declare("/usr/lib/systemd/systemd-binfmt", platforms=["s390x"], **options)
        assert set(kernel.handlers()["qemu-s390x"]["flags"]) == set(flags)
    assert kernel.shell("ls /etc/binfmt.d") == ""
    (failed,) = kernel.run(kernel.task(check=True, fails=True, platforms=["s390x"], preserve_argv0=False))
    assert "s390x-binfmt-P of this host's packages works with flag P only" in failed["msg"]


def test_a_truncated_emulator_of_a_package_is_named(kernel: Kernel) -> None:
    half = "mv /usr/bin/qemu-s390x /root/whole; head -c 100000 /root/whole > /usr/bin/qemu-s390x"
    kernel.shell(f"{half}; chmod 755 /usr/bin/qemu-s390x")
    try:
        (failed,) = kernel.run(kernel.task(fails=True, platforms=["s390x", "arm"]))
    finally:
        kernel.shell("mv -f /root/whole /usr/bin/qemu-s390x")
    assert "linux/s390x is registered, but does not work" in failed["msg"]
    assert "handler qemu-s390x, interpreter /usr/libexec/qemu-binfmt/s390x-binfmt-P" in failed["msg"]
    assert kernel.declare(platforms=["s390x", "arm"])["changed"]


def test_without_packages(farm: LiveFarm) -> None:
    options = {"source": "packages", "platforms": ["s390x"]}
    predicted, failed = farm.tasks(NODE, task("binfmt", check=True, **options), task("binfmt", fails=True, **options))
    assert "Taken to be installed by then" in str(predicted["warnings"]) and not predicted["changed"]
    assert "no package registers linux/s390x by a file in binfmt.d" in failed["msg"]


def test_handlers_of_packages_come_back_after_a_reboot(farm: LiveFarm, packages: None) -> None:
    kernel = Kernel(farm, HOST, False, source="packages", state="exact", platforms=["s390x", "riscv64"])
    others = set(kernel.handlers()) - {"qemu-s390x", "qemu-riscv64"}
    assert not others, f"a boot would remove {sorted(others)} for all hosts of this kernel, and someone may need them"
    kernel.declare()
    farm.ssh(HOST, f"ln -sf /usr/lib/systemd/system/proc-sys-fs-binfmt_misc.mount {_MOUNT_AT_BOOT}")
    try:
        farm.farm.power_off(HOST)
        # One kernel for all hosts: what a real reboot loses is taken away on another host.
        farm.ssh(NODE, f"echo -1 > {ROOT}/qemu-s390x; echo -1 > {ROOT}/qemu-riscv64")
        farm.farm.power_on(HOST)
        assert farm.ssh(HOST, "systemctl show --value --property Result,ActiveState systemd-binfmt").split() == [
            "success",
            "active",
        ]
        # Python's package registers one too.
        assert {name for name in kernel.handlers() if "qemu" in name} == {"qemu-s390x", "qemu-riscv64"}
        assert not kernel.run(kernel.task())[0]["changed"]
    finally:
        kernel.run(kernel.task(platforms=[]))
        farm.ssh(HOST, f"rm -f {_MOUNT_AT_BOOT} /etc/binfmt.d/*; for name in {ROOT}/python*; do echo -1 > $name; done")


class Walk:
    """Random handlers and random declarations, one after the other, and what each has to lead to."""

    def __init__(self, kernel: Kernel, platforms: list[str], states: list[str], dice: random.Random) -> None:
        self.kernel, self.platforms, self.states, self.dice = kernel, platforms, states, dice
        self.of_packages = kernel.options["source"] == "packages"

    def wanted(self, name: str) -> str:
        """The interpreter of the source."""
        return f"/usr/libexec/qemu-binfmt/{name}-binfmt-P" if self.of_packages else f"/usr/bin/qemu-{name}"

    def disturbance(self) -> list[str]:
        """Return commands that do to some handlers what people and programs do."""
        commands = []
        others = ["/opt/other/qemu-{0}", "/opt/broken/qemu-{0}", "/bin/false"] if self.of_packages else ["/bin/false"]
        sane = [self.wanted("{0}")] if self.of_packages else []
        for platform in self.platforms:
            name, kind = QEMU[platform], self.dice.choice(["", "", "", "0", "-1", "new", "new", "twice"])
            entry = f"{ROOT}/qemu-{name}"
            rule = f"$(cut -d: -f1-6 /usr/share/qemu/binfmt.d/qemu-{name}.conf)" if self.of_packages else RULES[name]
            interpreter = self.dice.choice([*sane, *others]).format(name)
            flags = self.dice.choice(["F", "PF", "POCF", "CF", "", "P"])
            line = f"{rule}:{interpreter}:{flags}"
            if kind in ("0", "-1"):
                commands.append(f"test ! -e {entry} || echo {kind} > {entry}")
            elif kind == "new":
                commands += [f"test ! -e {entry} || echo -1 > {entry}", f"printf '%s' \"{line}\" > {ROOT}/register"]
            elif kind == "twice":
                second = f"sed s/:qemu-{name}:/:qemu-{name}-2:/"
                commands.append(f"test -e {entry}-2 || printf '%s' \"{line}\" | {second} > {ROOT}/register")
        if self.of_packages and self.dice.random() < 0.1:
            commands.append(f"echo 0 > {ROOT}/status")
        for name, line in FOREIGN.items():
            if self.of_packages and self.dice.random() < 0.2:
                commands.append(f"test -e {ROOT}/{name} || printf '%s' '{line}' > {ROOT}/register")
        return commands

    def options(self, handlers: dict[str, dict[str, str]]) -> dict[str, Any]:
        """A declaration.

        :param handlers: that are there.
        """
        dice = self.dice
        chosen = dice.sample(self.platforms, dice.randint(0 if self.of_packages else 1, len(self.platforms)))
        options: dict[str, Any] = {"state": dice.choice(self.states), "platforms": chosen}
        if options["state"] == "absent" and not chosen:
            options["platforms"] = self.platforms
        if dice.random() < 0.4:
            options["preserve_argv0"] = dice.random() < 0.5 or self.of_packages
        if dice.random() < 0.4:
            options["credentials"] = dice.random() < 0.5 or not self.of_packages
        if dice.random() < 0.2:
            options["persistent"] = False
        if dice.random() < 0.2 and not any("broken" in one["interpreter"] for one in handlers.values()):
            options["verify"] = False
        return options

    def check(self, options: dict[str, Any], before: dict[str, Any], done: dict[str, Any], booted: bool) -> None:
        """Compare the kernel's handlers with the declaration, and with what there was before.

        :param done: what the module says that it did.
        """
        after = self.kernel.handlers()
        names = {platform: f"qemu-{QEMU[platform]}" for platform in options["platforms"]}
        for platform, name in names.items():
            doubles = {one for one in after if one.startswith(f"{name}-")}
            if options["state"] == "absent":
                assert name not in after and not doubles
                continue
            handler = after[name]
            assert (handler["state"], handler["interpreter"]) == ("enabled", self.wanted(QEMU[platform]))
            assert "F" in handler["flags"] and not doubles
            for option, flag in (("credentials", "C"), ("preserve_argv0", "P")):
                assert option not in options or options[option] == (flag in handler["flags"])
        if booted:
            return
        # With other settings the boot unit registers what it has of earlier tasks anew.
        restarted = any(action[:2] == ["systemctl", "restart"] for action in done["actions"])
        anew = {f"qemu-{QEMU[one]}" for one in done["diff"]["after"]["registered_at_boot"]} if restarted else set()
        for name, handler in before.items():
            declared = name in names.values() or name[: -len("-2")] in names.values()
            concerned = declared or (options["state"] == "exact" and "qemu" in name)
            assert concerned or name in anew or after[name] == handler, name
        if options["state"] == "exact":
            assert {name for name in after if "qemu" in name} == set(names.values())


#: The rules of the emulator image, by its handlers' names.
RULES = {
    name: f":qemu-{name}:M:0:{magic}:{mask}"
    for name, magic, mask in (
        (
            "ppc64le",
            r"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x15\x00",
            r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\x00",
        ),
        (
            "riscv64",
            r"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xf3\x00",
            r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff",
        ),
        (
            "s390x",
            r"\x7fELF\x02\x02\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x16",
            r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff",
        ),
    )
}


def walk(walking: Walk, cases: int, boot: str) -> None:
    """From any state to any declaration, some over a boot."""
    for case in range(cases):
        disturbance = walking.disturbance()
        before = parsed(walking.kernel.shell("\n".join([*disturbance, _LOOK])))
        options = walking.options(before)
        booted = options.get("persistent", True) and walking.dice.random() < 0.3
        print(f"seed {SEED}, case {case}: {disturbance} {options}, {booted=}")
        done = walking.kernel.declare(boot if booted else None, **options)
        walking.check(options, before, done, booted)


def test_from_any_state_with_packages(kernel: Kernel, record_property: Callable[[str, object], None]) -> None:
    record_property("BUILDFARM_CASES", CASES)
    record_property("BUILDFARM_SEED", SEED)
    states = ["present", "present", "exact", "absent"]
    # At boot systemd removes all handlers, and registers what files in binfmt.d say.
    walk(Walk(kernel, list(QEMU), states, random.Random(SEED)), CASES, "/usr/lib/systemd/systemd-binfmt")


def test_from_any_state_with_an_image(farm: LiveFarm, record_property: Callable[[str, object], None]) -> None:
    record_property("BUILDFARM_CASES", CASES)
    record_property("BUILDFARM_SEED", SEED)
    platforms = ["linux/s390x", "linux/riscv64", "linux/ppc64le"]
    kernel = Kernel(farm, NODE, False, source="image", image=f"{farm.registry}/tonistiigi/binfmt:qemu-v10.0.4")
    with farm.trusted_registry(NODE):
        try:
            walking = Walk(kernel, platforms, ["present", "present", "absent"], random.Random(SEED))
            walk(walking, max(2, CASES // 3), f"test ! -e {UNIT} || systemctl restart buildfarm-binfmt")
        finally:
            kernel.run(kernel.task(state="absent", platforms=platforms))
