# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Handlers: reading the kernel's entries, judging them, and the steps to the declared ones."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import tarfile

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._binfmt import apply as _binfmt_apply
from ansible_collections.buildfarm.multiarch.plugins.module_utils._binfmt import binfmt_misc as _binfmt
from ansible_collections.buildfarm.multiarch.plugins.module_utils._binfmt import image as _binfmt_image
from ansible_collections.buildfarm.multiarch.plugins.module_utils._binfmt import rules as _binfmt_rules
from ansible_collections.buildfarm.multiarch.plugins.module_utils._binfmt import state as _binfmt_state
from ansible_collections.buildfarm.multiarch.plugins.module_utils._binfmt.binfmt_misc import (
    BinfmtMisc,
    read_platforms,
    require_kernel,
)
from ansible_collections.buildfarm.multiarch.plugins.module_utils._binfmt.declaration import Declaration
from ansible_collections.buildfarm.multiarch.plugins.module_utils._binfmt.handler import Demand, Handler
from ansible_collections.buildfarm.multiarch.plugins.module_utils._binfmt.image import EmulatorImage
from ansible_collections.buildfarm.multiarch.plugins.module_utils._binfmt.plan import plan
from ansible_collections.buildfarm.multiarch.plugins.module_utils._binfmt.rules import RuleFile
from ansible_collections.buildfarm.multiarch.plugins.module_utils._binfmt.state import State
from ansible_collections.buildfarm.multiarch.plugins.module_utils._binfmt.status import (
    MISSING,
    NATIVE,
    REGISTERED,
    WORKS,
    Status,
    platform_status,
)
from ansible_collections.buildfarm.multiarch.plugins.module_utils._binfmt.steps import ChangeFile
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.runner import CommandError, Result, run
from ansible_collections.buildfarm.multiarch.plugins.module_utils._platform import elf as _programs
from ansible_collections.buildfarm.multiarch.plugins.module_utils._platform.elf import ask_here, program
from ansible_collections.buildfarm.multiarch.plugins.module_utils._platform.platform import Platform

# Read from Linux 6.18, as tonistiigi/binfmt and as Debian's qemu-user-binfmt register it.
IMAGES = """\
enabled
interpreter /usr/bin/qemu-aarch64
flags: POCF
offset 0
magic 7f454c460201010000000000000000000200b700
mask ffffffffffffff00fffffffffffffffffeffffff
"""
MAGIC = (
    bytes.fromhex("7f454c460201010000000000000000000200b700"),
    bytes.fromhex("ffffffffffffff00fffffffffffffffffeffffff"),
)
DEBIANS = IMAGES.replace("/usr/bin/qemu-aarch64", "/usr/libexec/qemu-binfmt/aarch64-binfmt-P").replace("POCF", "PF")
AMD64 = Platform("linux", "amd64")
ARM64 = Platform("linux", "arm64")

# Of the programs that were run: natively, and by Debian's qemu-user-static 7.2 for each architecture.
PROGRAMS = {
    "386": "31895f5554389fd1",
    "amd64": "df5e515ef738bfbc",
    "arm": "b7f69dcaf9b0c48c",
    "arm64": "1779d68fd269b69b",
    "loong64": "e63931af3106b2f7",
    "mips64": "1526300ea8f9f055",
    "mips64le": "8e1fd5666c008638",
    "ppc64le": "af797a0469b8f8bc",
    "riscv64": "9d064b4df7d320c7",
    "s390x": "22fdcb23776a0a74",
}


@pytest.mark.parametrize("arch", _binfmt.ENTRIES)
def test_programs_are_the_ones_that_ran(arch):
    assert hashlib.sha256(_programs.program(arch)).hexdigest()[:16] == PROGRAMS[arch]


def test_a_native_program_runs_and_names_no_qemu():
    native = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine)
    if native is None:
        pytest.skip(f"no program for {os.uname().machine}")
    answer = ask_here(native, run)
    assert (answer.problem, answer.version) == (None, None)


@pytest.mark.parametrize(
    ("rc", "stderr", "problem"),
    [
        (42, "", None),
        (0, "", "a arm64 program exited with 0 instead of 42"),
        (-11, "qemu: uncaught target signal 11", "was ended by signal 11: qemu: uncaught target signal 11"),
    ],
)
def test_only_the_right_exit_status_counts(rc, stderr, problem):
    found = ask_here("arm64", lambda argv, **options: Result(tuple(argv), rc, "", stderr)).problem
    assert found == problem or (problem is not None and problem in str(found))


def exec_format_error(argv, **options):
    raise CommandError("could not be started", Result(tuple(argv), 127, "", "Exec format error"))


def test_a_program_that_cannot_be_started():
    assert ask_here("arm64", exec_format_error).problem == "Exec format error"


def test_no_directory_allows_programs(monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(FarmError, match="set verify: false"):
        ask_here("arm64", run)


@pytest.mark.parametrize(
    ("text", "handler"),
    [
        (IMAGES, Handler("x", True, "/usr/bin/qemu-aarch64", "POCF", *MAGIC)),
        (DEBIANS, Handler("x", True, "/usr/libexec/qemu-binfmt/aarch64-binfmt-P", "PF", *MAGIC)),
        ("disabled\ninterpreter /usr/bin/qemu\nflags: \noffset 0\n", Handler("x", False, "/usr/bin/qemu", "")),
        ("enabled\ninterpreter /opt/a b/run\nflags: \nextension .jar\n", Handler("x", True, "/opt/a b/run", "")),
    ],
)
def test_entries_of_the_kernel(text, handler):
    assert Handler.parse("x", text) == handler


def test_the_registry_is_read_without_its_controls(tmp_path, monkeypatch):
    monkeypatch.setattr(_binfmt, "ROOT", str(tmp_path))
    assert BinfmtMisc.read(exec_format_error) == BinfmtMisc(False)
    for name, text in (("status", "enabled\n"), ("qemu-aarch64", IMAGES), ("jar", "enabled\ninterpreter /j\n")):
        (tmp_path / name).write_text(text)
    (tmp_path / "register").mkdir()  # cannot be read, like the kernel's
    found = BinfmtMisc.read(run)
    assert (found.mounted, found.enabled, list(found.handlers)) == (True, True, ["jar", "qemu-aarch64"])
    assert found.emulating("arm64") == [Handler.parse("qemu-aarch64", IMAGES)]


def test_root_looks_where_nothing_is_mounted(tmp_path, monkeypatch):
    monkeypatch.setattr(_binfmt, "ROOT", str(tmp_path))
    said = f":jar\nenabled\ninterpreter /j\n:qemu-aarch64\n{IMAGES}:register\n:status\ndisabled\n"
    found = BinfmtMisc.read(lambda argv, **options: Result(tuple(argv), 0, said, "cat: register: Invalid argument"))
    assert (found.mounted, found.enabled) == (False, False)
    assert found.handlers["qemu-aarch64"] == Handler.parse("qemu-aarch64", IMAGES)
    assert [one.name for one in found.handlers.values()] == ["jar", "qemu-aarch64"]


def host(**handlers):
    """A registry with these handlers, by architecture."""
    parsed = {_binfmt.ENTRIES[arch]: Handler.parse(_binfmt.ENTRIES[arch], text) for arch, text in handlers.items()}
    return BinfmtMisc(True, True, parsed)


def named(**texts):
    """A registry with handlers of these names; an underscore for a dash."""
    return BinfmtMisc(
        True,
        True,
        {name.replace("_", "-"): Handler.parse(name.replace("_", "-"), text) for name, text in texts.items()},
    )


def programs(rc=42, version=""):
    return lambda argv, env=None, **options: Result(tuple(argv), rc, version if env else "", "")


QEMU_7 = programs(version="qemu-aarch64 version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)\nCopyright\n")


ROSETTA = IMAGES.replace("/usr/bin/qemu-aarch64", "/mnt/rosetta")
OF_IMAGE = {"name": "qemu-aarch64", "interpreter": "/usr/bin/qemu-aarch64"}


@pytest.mark.parametrize(
    ("registry", "runner", "demand", "verdict"),
    [
        (host(arm64=IMAGES), QEMU_7, {}, WORKS),
        (host(arm64=DEBIANS), QEMU_7, {}, WORKS),
        (host(arm64=IMAGES), QEMU_7, OF_IMAGE, WORKS),
        (host(arm64=DEBIANS), QEMU_7, OF_IMAGE, "interpreter /usr/libexec/.*, wanted /usr/bin/qemu-aarch64"),
        (host(arm64=IMAGES), exec_format_error, {"verify": False}, REGISTERED),
        (host(), exec_format_error, {}, MISSING),
        (BinfmtMisc(False), exec_format_error, {}, MISSING),
        # The processor runs it although its architecture has another name, or another emulator does.
        (host(), programs(), {}, NATIVE),
        (named(rosetta=ROSETTA), programs(), OF_IMAGE, NATIVE),
        (named(rosetta=ROSETTA), exec_format_error, OF_IMAGE, MISSING),
        # A container on a host that has handlers.
        (BinfmtMisc(False), QEMU_7, {}, "run by a handler that cannot be seen, QEMU 7.2.22"),
        (host(arm64=IMAGES.replace("enabled", "disabled")), QEMU_7, {}, "disabled"),
        (dataclasses.replace(host(arm64=IMAGES), enabled=False), QEMU_7, {}, "disabled"),
        (host(arm64=IMAGES.replace("POCF", "POC")), QEMU_7, {}, "not usable in containers: flags POC, wanted F"),
        (host(arm64=IMAGES), QEMU_7, {"credentials": True, "preserve_argv0": True}, WORKS),
        (host(arm64=IMAGES), QEMU_7, {"credentials": False}, "^flags POCF, wanted not C"),
        (host(arm64=DEBIANS), QEMU_7, {"credentials": True}, "^flags PF, wanted C among them"),
        (host(arm64=DEBIANS), QEMU_7, {"preserve_argv0": False}, "^flags PF, wanted not P"),
        (host(arm64=IMAGES.replace("b700", "1600")), exec_format_error, {}, MISSING),
        (host(arm64=IMAGES.replace("b700", "1600")), exec_format_error, OF_IMAGE, "registered for other programs"),
        # Under another name, alone or besides.
        (named(a_aarch64=IMAGES), QEMU_7, {}, WORKS),
        (named(a_aarch64=IMAGES), QEMU_7, OF_IMAGE, "registered as a-aarch64, wanted qemu-aarch64"),
        (named(a_aarch64=IMAGES, qemu_aarch64=IMAGES), QEMU_7, OF_IMAGE, "also registered as a-aarch64"),
        (host(arm64=IMAGES), programs(rc=-11), {}, "does not work: .* signal 11 .*interpreter /usr/bin/qemu-aarch64"),
        (host(arm64=IMAGES), QEMU_7, {"version": "7.2.22"}, WORKS),
        (host(arm64=IMAGES), QEMU_7, {"version": "7.2"}, WORKS),
        (host(arm64=IMAGES), QEMU_7, {"version": "7"}, WORKS),
        (host(arm64=IMAGES), QEMU_7, {"version": "7.2.2"}, "QEMU 7.2.22, wanted 7.2.2"),
        (host(arm64=IMAGES), programs(), {"version": "7"}, "QEMU of an unknown version, wanted 7"),
    ],
)
def test_statuses(registry, runner, demand, verdict):
    found = platform_status(ARM64, registry, AMD64, lambda arch: ask_here(arch, runner), Demand(**demand))
    if verdict in (WORKS, REGISTERED, MISSING, NATIVE):
        assert found.text == verdict and found.good == (verdict != MISSING)
    else:
        assert re.search(verdict, found.text) and not found.good


def test_the_version_that_answered_is_told():
    assert (
        platform_status(ARM64, host(arm64=IMAGES), AMD64, lambda arch: ask_here(arch, QEMU_7), Demand()).version
        == "7.2.22"
    )


def test_kin_of_the_processor_are_asked_even_without_verify():
    arm, demand = Platform("linux", "arm", "v7"), Demand(verify=False)
    assert platform_status(arm, host(), ARM64, lambda arch: ask_here(arch, programs()), demand).text == NATIVE
    assert platform_status(arm, host(), ARM64, lambda arch: ask_here(arch, exec_format_error), demand).text == MISSING


@pytest.mark.parametrize(("release", "good"), [("4.8.0-rc1", True), ("6.18.44-fc", True), ("4.7.10", False)])
def test_kernels(release, good):
    if good:
        require_kernel("h", release)
    else:
        with pytest.raises(FarmError, match=f"h runs Linux {release}; .* since Linux 4.8"):
            require_kernel("h", release)


@pytest.mark.parametrize("arch", _binfmt.ENTRIES)
def test_a_handler_is_known_by_what_it_runs(arch):
    handler = Handler.parse("anything", IMAGES)
    assert handler.runs(program(arch)) == (arch == "arm64")
    assert not Handler.parse("jar", "enabled\ninterpreter /j\nflags: \nextension .jar\n").runs(program(arch))


def test_the_own_architecture_needs_nothing():
    assert platform_status(Platform("linux", "386"), host(), AMD64, pytest.fail, Demand()).text == NATIVE


@pytest.mark.parametrize(
    ("texts", "platforms"),
    [
        (["arm64", "linux/arm64/v8"], ["linux/arm64"]),
        (["arm", "linux/arm/v6"], ["linux/arm/v7", "linux/arm/v6"]),
        (["aarch64", "x86_64"], ["linux/arm64", "linux/amd64"]),
        (["s390x", "all"], ["linux/s390x", "linux/arm64"]),
    ],
)
def test_platforms_as_users_write_them(texts, platforms):
    assert [str(platform) for platform in read_platforms(texts, ["arm64"])] == platforms


@pytest.mark.parametrize("text", ["windows/amd64", "linux/mips", "linux/all", "--install"])
def test_platforms_without_a_handler(text):
    with pytest.raises(FarmError, match=r"no QEMU handler|unknown"):
        read_platforms([text], [])


PARAMS = {
    "state": "present",
    "platforms": None,
    "source": "image",
    "image": "example/binfmt:1",
    "endpoint": None,
    "docker_config": None,
    "qemu_version": None,
    "credentials": None,
    "preserve_argv0": None,
    "verify": True,
    "persistent": False,
}


def declared(*platforms, files=(), **options):
    return Declaration.from_params({**PARAMS, "platforms": list(platforms) or None, **options}, files)


def found(want, registry, *verdicts, **fields):
    texts = zip(want.platforms, verdicts)
    return State(registry, {platform: Status(text) for platform, text in texts}, **fields)


RUN = ["docker", "run", "--rm", "--privileged", "--network", "none", "example/binfmt:1"]
LEGACY = "mirror.example.com/docker/binfmt:a7996909642ee92942dcd6cff44b9b95f08dad64"
ROOT = "/proc/sys/fs/binfmt_misc"
UNIT = "buildfarm-binfmt.service"
UNIT_STEPS = [["systemctl", "daemon-reload"], ["systemctl", "restart", UNIT], ["systemctl", "enable", UNIT]]
WRITE_UNIT = ["write", f"/etc/systemd/system/{UNIT}"]
HPPA = IMAGES.replace("b700", "000f").replace("aarch64", "hppa")


def unit(*architectures, image="example/binfmt:1", argv0=None):
    return _binfmt_image.unit_text(EmulatorImage(image, argv0), architectures)


def actions(want, have):
    return [step.action for step in plan(want, have).steps]


@pytest.mark.parametrize(
    ("want", "registry", "verdicts", "steps"),
    [
        (declared("arm64", "amd64"), host(), (MISSING, NATIVE), [[*RUN, "--install", "arm64"]]),
        (declared("arm64"), host(arm64=IMAGES), (WORKS,), []),
        (declared("linux/arm/v6", "arm"), host(), (MISSING,) * 2, [[*RUN, "--install", "arm"]]),
        (
            declared("arm64", "s390x"),
            host(arm64=IMAGES),
            ("registered, but does not work: …", MISSING),
            [[*RUN, "--uninstall", "qemu-aarch64", "--install", "arm64,s390x"]],
        ),
        (
            declared("arm64"),
            named(a_aarch64=IMAGES, qemu_aarch64=IMAGES),
            ("also registered as a-aarch64",),
            [[*RUN, "--uninstall", "a-aarch64,qemu-aarch64", "--install", "arm64"]],
        ),
        (
            declared("arm64", preserve_argv0=False),
            host(),
            (MISSING,),
            [[*RUN[:-1], "--env", "QEMU_PRESERVE_ARGV0=", RUN[-1], "--install", "arm64"]],
        ),
        (
            declared("arm64"),
            BinfmtMisc(False),
            (MISSING,),
            [["mount", "-t", "binfmt_misc", "binfmt_misc", ROOT], [*RUN, "--install", "arm64"]],
        ),
        (
            declared("arm64"),
            BinfmtMisc(True, False),
            (MISSING,),
            [["write", f"{ROOT}/status", "1"], [*RUN, "--install", "arm64"]],
        ),
        (
            declared("arm64", image=LEGACY),
            host(arm64=DEBIANS),
            ("disabled",),
            [["write", f"{ROOT}/qemu-aarch64", "-1"], [*RUN[:-1], LEGACY]],
        ),
        (
            declared("arm64", "s390x", state="absent"),
            host(arm64=IMAGES),
            (REGISTERED, MISSING),
            [["write", f"{ROOT}/qemu-aarch64", "-1"]],
        ),
        (declared(state="absent"), host(arm64=IMAGES), (), [["write", f"{ROOT}/qemu-aarch64", "-1"]]),
        (declared(state="absent"), named(jar="enabled\ninterpreter /j\n", rosetta=ROSETTA), (), []),
        (declared(state="absent"), BinfmtMisc(False), (), []),
        (
            declared("arm64", "amd64", state="exact"),
            named(qemu_aarch64=IMAGES, jar="enabled\ninterpreter /j\n", qemu_hppa=HPPA),
            (WORKS, NATIVE),
            [["write", f"{ROOT}/qemu-hppa", "-1"]],
        ),
        (declared(state="exact"), host(arm64=IMAGES), (), [["write", f"{ROOT}/qemu-aarch64", "-1"]]),
        # The host's own architecture is never registered.
        (
            declared("arm64", state="exact"),
            host(arm64=IMAGES),
            (NATIVE,),
            [["write", f"{ROOT}/qemu-aarch64", "-1"]],
        ),
    ],
)
def test_steps(want, registry, verdicts, steps):
    assert actions(want, found(want, registry, *verdicts)) == steps


@pytest.mark.parametrize(
    ("want", "text", "enabled", "steps", "kept"),
    [
        (declared("arm64", persistent=True), None, False, [WRITE_UNIT, *UNIT_STEPS], ["linux/arm64"]),
        (declared("arm64", persistent=None), None, False, [WRITE_UNIT, *UNIT_STEPS], ["linux/arm64"]),
        (declared("arm64", persistent=True), unit("arm64"), True, [], ["linux/arm64"]),
        (declared("arm64", persistent=True), unit("arm64"), False, UNIT_STEPS, ["linux/arm64"]),
        # Another task's platforms stay, and their handlers are left alone, but not where these are all there are to be.
        (
            declared("arm64", persistent=True),
            unit("s390x"),
            True,
            [WRITE_UNIT, UNIT_STEPS[0]],
            ["linux/arm64", "linux/s390x"],
        ),
        (
            declared("arm64", persistent=True, state="exact"),
            unit("arm64", "s390x"),
            True,
            [WRITE_UNIT, UNIT_STEPS[0]],
            ["linux/arm64"],
        ),
        (
            declared("arm64", persistent=True),
            unit("arm64", image="old:1"),
            True,
            [WRITE_UNIT, *UNIT_STEPS],
            ["linux/arm64"],
        ),
        (
            declared("arm64", persistent=True, preserve_argv0=True),
            unit("arm64"),
            True,
            [WRITE_UNIT, *UNIT_STEPS],
            ["linux/arm64"],
        ),
        (declared("arm64"), unit("arm64", "s390x"), True, [WRITE_UNIT, UNIT_STEPS[0]], ["linux/s390x"]),
        (
            declared("arm64"),
            unit("arm64"),
            True,
            [["systemctl", "disable", "--now", UNIT], ["remove", WRITE_UNIT[1]], UNIT_STEPS[0]],
            [],
        ),
    ],
)
def test_what_is_registered_at_boot(want, text, enabled, steps, kept):
    have = found(want, host(arm64=IMAGES), WORKS, unit=text, unit_enabled=enabled)
    assert actions(want, have) == steps
    assert plan(want, have).after["registered_at_boot"] == kept


def test_the_boot_unit_is_read_back():
    for argv0 in (None, True, False):
        text = unit("arm64", "s390x", argv0=argv0)
        assert _binfmt_image.unit_settings(text) == (EmulatorImage("example/binfmt:1", argv0), ("arm64", "s390x"))
    assert _binfmt_image.unit_settings(unit("arm64", image=LEGACY)) == (EmulatorImage(LEGACY), ("arm64",))
    assert _binfmt_image.unit_settings(None) == (None, ())


def test_the_boot_unit_replaces_what_packages_have_registered():
    assert "--uninstall qemu-aarch64 --install arm64\n" in unit("arm64")


@pytest.mark.parametrize("image", ["--privileged", "a b", ""])
def test_image_names_that_would_be_options(image):
    with pytest.raises(FarmError, match="wanted the name of an image"):
        declared("arm64", image=image)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"credentials": False}, "flag C always; use source: packages"),
        ({"endpoint": "amd1", "source": "packages"}, "run the task on that host"),
        ({"endpoint": "amd1", "persistent": True}, "nothing can be registered at boot through endpoint"),
        ({"image": LEGACY, "state": "exact"}, "is docker/binfmt"),
        ({"image": "docker/binfmt", "preserve_argv0": True}, "is docker/binfmt"),
    ],
)
def test_options_that_do_not_go_together(options, message):
    with pytest.raises(FarmError, match=message):
        declared("arm64", **options)


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({}, 10),
        ({"image": "docker/binfmt:1"}, 5),
        ({"image": "other-docker/binfmt:1"}, 10),
        ({"source": "packages"}, 1),
        ({"source": "packages", "state": "absent"}, 10),
    ],
)
def test_all_platforms(options, count):
    assert len(declared("all", files=[FILE], **options).platforms) == count


@pytest.mark.parametrize(
    ("want", "optional"),
    [
        (declared("all"), list(_binfmt.ENTRIES)),
        (declared("arm64", "linux/arm/v6", " all "), [one for one in _binfmt.ENTRIES if one not in ("arm64", "arm")]),
        (declared("arm64"), []),
        (declared("all", state="absent"), []),
        (declared("all", image=LEGACY), []),
        (declared("all", source="packages"), []),
    ],
)
def test_what_has_to_be_there_only_if_the_image_has_it(want, optional):
    assert list(want.optional) == optional


# As Debian 13 has it; the kernel's syntax is that of the line.
LINE = (
    r":qemu-aarch64:M::\x7f\x45\x4c\x46\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
    r":\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"
    ":/usr/libexec/qemu-binfmt/aarch64-binfmt-P:OPF"
)
WITH_C = LINE.replace(":OPF", ":POCF")
JAR = ":jar:E::jar::/usr/bin/jexec:"
NAME, PATH, OVERRIDE = "qemu-aarch64.conf", "/usr/lib/binfmt.d/qemu-aarch64.conf", "/etc/binfmt.d/qemu-aarch64.conf"
FILE = RuleFile(NAME, PATH, f"# comment\n{LINE}\n{JAR}\n")
MASK = f"{_binfmt_rules.MARK}# comment\n{JAR}\n"


def packages(*platforms, **options):
    return declared(*platforms or ["arm64"], **{"source": "packages", "files": [FILE], **options})


def test_rules_of_packages(tmp_path):
    (rule,) = FILE.rules()
    assert rule.handler == dataclasses.replace(
        Handler.parse("qemu-aarch64", DEBIANS), flags="OPF", magic=MAGIC[0], mask=rule.handler.mask
    )
    assert rule.handler.runs(program("arm64")) and rule.handler.is_qemu
    assert rule.with_flags(Demand()) is rule
    assert rule.with_flags(Demand(credentials=True)).line == WITH_C
    with pytest.raises(FarmError, match="works with flag P only"):
        rule.with_flags(Demand(preserve_argv0=False))
    (other,) = RuleFile(NAME, PATH, LINE.replace("-binfmt-P", "")).rules()
    assert other.with_flags(Demand(preserve_argv0=False)).line == other.line.replace(":OPF", ":OF")
    for directory, name, text in (
        ("etc", "b.conf", MASK),
        ("etc", "left.conf", _binfmt_rules.MARK),
        ("lib", "a.conf", "own"),
        ("lib", "b.conf", LINE),
        ("old", "b.conf", "hidden"),
    ):
        (tmp_path / directory).mkdir(exist_ok=True)
        (tmp_path / directory / name).write_text(text)
    files = _binfmt_rules.read_rule_files([str(tmp_path / name) for name in ("etc", "lib", "old")])
    assert files == [
        RuleFile("a.conf", f"{tmp_path}/lib/a.conf", "own"),
        RuleFile("b.conf", f"{tmp_path}/lib/b.conf", LINE, MASK),
        RuleFile("left.conf", "", "", _binfmt_rules.MARK),
    ]
    (tmp_path / "etc/qemu-arm").write_text("package qemu-user-static\n")
    assert list(_binfmt_rules.update_binfmts_handlers(f"{tmp_path}/etc/qemu*")) == ["qemu-arm"]


REGISTER, REMOVE = ["write", f"{ROOT}/register", LINE], ["write", f"{ROOT}/qemu-aarch64", "-1"]
C_OVERRIDE = MASK.replace(JAR, f"{WITH_C}\n{JAR}")


@pytest.mark.parametrize(
    ("want", "registry", "verdict", "override", "steps", "text"),
    [
        (packages(), host(arm64=DEBIANS), WORKS, None, [], None),
        (packages(), host(), MISSING, None, [REGISTER], None),
        (packages(), host(arm64=IMAGES), "interpreter …", None, [REMOVE, REGISTER], None),
        # Other flags than the packages' are registered at boot only by an override.
        (
            packages(credentials=True, persistent=True),
            host(),
            MISSING,
            None,
            [[*REGISTER[:2], WITH_C], ["write", OVERRIDE]],
            C_OVERRIDE,
        ),
        (packages(credentials=True, persistent=True), host(), WORKS, C_OVERRIDE, [], None),
        (packages(credentials=True), host(), MISSING, None, [[*REGISTER[:2], WITH_C]], None),
        (packages(persistent=True), host(), WORKS, C_OVERRIDE, [["remove", OVERRIDE]], None),
        # What is to be absent is not registered at boot either.
        (
            packages(state="absent", persistent=True),
            host(arm64=DEBIANS),
            REGISTERED,
            None,
            [REMOVE, ["write", OVERRIDE]],
            MASK,
        ),
        (packages(state="absent", persistent=True), host(), MISSING, MASK, [], None),
        (packages("s390x", state="absent", persistent=True), host(), MISSING, MASK, [], None),
        (
            declared("s390x", state="exact", persistent=True, source="packages", files=[FILE]),
            host(arm64=DEBIANS),
            NATIVE,
            None,
            [REMOVE, ["write", OVERRIDE]],
            MASK,
        ),
        (packages(persistent=True), host(), MISSING, MASK, [REGISTER, ["remove", OVERRIDE]], None),
    ],
)
def test_handlers_of_packages(want, registry, verdict, override, steps, text):
    have = found(want, registry, verdict, files=[dataclasses.replace(FILE, override=override)])
    assert actions(want, have) == steps
    files = {step.path: step.after for step in plan(want, have).steps if isinstance(step, ChangeFile)}
    assert files == ({OVERRIDE: text} if any(step[1] == OVERRIDE for step in steps) else {})


def test_an_override_of_a_package_that_is_gone():
    want = packages(state="absent", persistent=True)
    have = found(want, host(), MISSING, files=[RuleFile(NAME, "", "", MASK)])
    assert actions(want, have) == [["remove", OVERRIDE]]


def test_what_comes_back_at_each_boot():
    remove = packages(state="absent")
    for fields in ({"files": [FILE]}, {"update_binfmts": {"qemu-aarch64": "/var/lib/binfmts/qemu-aarch64"}}):
        (warning,) = plan(remove, found(remove, host(arm64=DEBIANS), REGISTERED, **fields)).warnings
        assert "registers handler qemu-aarch64 at each boot; remove it" in warning
    masked = packages(state="absent", persistent=True)
    assert not plan(masked, found(masked, host(arm64=DEBIANS), REGISTERED, files=[FILE])).warnings
    # The boot unit comes after the packages.
    for persistent in (True, False):
        want = declared("arm64", persistent=persistent)
        have = found(want, host(arm64=DEBIANS), "interpreter …", files=[FILE])
        assert bool(plan(want, have).warnings) != persistent


class TestApplying:
    """The image's exit status says nothing; the kernel's files do."""

    @pytest.fixture(autouse=True)
    def kernel(self, tmp_path, monkeypatch):
        """A binfmt_misc of the test's own."""
        (tmp_path / "status").write_text("enabled\n")
        monkeypatch.setattr(_binfmt, "ROOT", str(tmp_path))
        monkeypatch.setattr(_binfmt_state, "native_platform", lambda machine: AMD64)
        monkeypatch.setattr(_binfmt_state, "UNIT_PATH", str(tmp_path / "none.service"))
        monkeypatch.setattr(_binfmt_apply, "read_rule_files", list)
        monkeypatch.setattr(_binfmt_state, "update_binfmts_handlers", dict)
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        return tmp_path

    def params(self, **options):
        return {**PARAMS, "platforms": ["arm64"], **options}

    def runner(self, kernel, registers=True, rc=0, info='{"ServerVersion":"26.1.5"}'):
        def run_it(argv, env=None, **options):
            if argv[:2] == ("docker", "info"):
                return Result(tuple(argv), rc, info, "Cannot connect\n" if rc else "")
            if argv[0] != "docker":
                works = (kernel / "qemu-aarch64").exists()
                return Result(tuple(argv), 42 if works else 1, "version 10.0.4\n" if env else "", "")
            if registers:
                (kernel / "qemu-aarch64").write_text(IMAGES)
            return Result(tuple(argv), rc, '{"supported":["linux/amd64"]}', "installing: arm64 no such file\n")

        return run_it

    def test_an_image_that_registers_it(self, kernel):
        outcome = _binfmt_apply.run(self.params(), False, self.runner(kernel))
        assert outcome.changed
        assert (outcome.before["linux/arm64"], outcome.after["linux/arm64"]) == (MISSING, WORKS)
        assert outcome.values == {
            "native": [],
            "emulated": ["linux/arm64"],
            "qemu_versions": {"linux/arm64": "10.0.4"},
            "not_compared": [],
        }
        assert not _binfmt_apply.run(self.params(), False, self.runner(kernel)).changed

    def test_check_mode_says_the_same_and_runs_nothing(self, kernel):
        predicted = _binfmt_apply.run(self.params(), True, self.runner(kernel))
        assert not (kernel / "qemu-aarch64").exists()
        assert predicted.values["qemu_versions"] == {"linux/arm64": None}
        real = _binfmt_apply.run(self.params(), False, self.runner(kernel))
        assert dataclasses.replace(real, values={}) == dataclasses.replace(predicted, values={})

    def test_an_image_that_exits_with_0_and_did_nothing(self, kernel):
        with pytest.raises(FarmError, match=r"linux/arm64 is missing; .* said: installing: arm64 no such file"):
            _binfmt_apply.run(self.params(), False, self.runner(kernel, False))

    def test_an_engine_that_does_not_run(self, kernel):
        stopped = self.runner(kernel, False, 1, "")
        with pytest.raises(FarmError, match=r"the engine on .* has to run"):
            _binfmt_apply.run(self.params(), False, stopped)
        assert _binfmt_apply.run(self.params(), True, stopped).changed
        assert _binfmt_apply.run(self.params(platforms=["all"]), True, stopped).changed

    @pytest.mark.parametrize("check_mode", [True, False])
    def test_a_rootless_engine(self, kernel, check_mode):
        rootless = self.runner(kernel, info='{"ServerVersion":"26.1.5","SecurityOptions":["name=rootless"]}')
        with pytest.raises(FarmError, match=r"the engine is a rootless one"):
            _binfmt_apply.run(self.params(), check_mode, rootless)
        assert not (kernel / "qemu-aarch64").exists()

    @pytest.mark.parametrize("check_mode", [True, False])
    def test_without_root(self, kernel, monkeypatch, check_mode):
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        with pytest.raises(FarmError, match=r"only root may change handlers, .* use become"):
            _binfmt_apply.run(self.params(), check_mode, self.runner(kernel))

    def test_a_kernel_without_binfmt_misc(self, kernel, monkeypatch):
        monkeypatch.setattr(_binfmt, "ROOT", str(kernel / "none"))
        with pytest.raises(FarmError, match="has no binfmt_misc at the moment; load the module"):
            _binfmt_apply.run(self.params(), True, self.runner(kernel))

    @pytest.mark.parametrize("check_mode", [True, False])
    def test_a_kernel_that_is_too_old(self, kernel, monkeypatch, check_mode):
        name = os.uname()
        old = os.uname_result((name.sysname, name.nodename, "4.7.10", name.version, "x86_64"))
        monkeypatch.setattr(os, "uname", lambda: old)
        with pytest.raises(FarmError, match=r"runs Linux 4\.7\.10; .* since Linux 4\.8, .*; use a newer kernel"):
            _binfmt_apply.run(self.params(), check_mode, self.runner(kernel))
        assert not _binfmt_apply.run(self.params(state="absent"), check_mode, self.runner(kernel)).changed

    def test_packages_that_are_not_installed(self, kernel):
        options = self.params(source="packages")
        with pytest.raises(FarmError, match=r"no package registers linux/arm64 .*qemu-user-binfmt on Debian 13"):
            _binfmt_apply.run(options, False, self.runner(kernel))
        predicted = _binfmt_apply.run(options, True, self.runner(kernel))
        assert (predicted.changed, predicted.values["emulated"]) == (False, ["linux/arm64"])
        assert "Taken to be installed by then" in predicted.warnings[0]
        with pytest.raises(FarmError, match="no package registers any of these"):
            _binfmt_apply.run({**options, "platforms": ["all"]}, False, self.runner(kernel))

    def test_a_rule_whose_interpreter_is_gone(self, kernel, monkeypatch):
        monkeypatch.setattr(_binfmt_apply, "read_rule_files", lambda: [FILE])
        (kernel / "register").mkdir()
        with pytest.raises(FarmError, match=r"register could not be changed: .* is its interpreter installed\?"):
            _binfmt_apply.run(self.params(source="packages"), False, self.runner(kernel))


class TestThroughAnEngine:
    """What can be known without a view of the host."""

    class Docker:
        """A docker CLI whose engine's host has these emulators, and others that are broken."""

        #: The emulators of the image, and whether the engine has that.
        within, pulled = frozenset(_binfmt.ENTRIES.values()), False

        def __init__(self, emulators=(), broken=(), **info):
            self.emulators, self.broken, self.calls = set(emulators), set(broken), []
            self.info = {"ServerVersion": "26", "Architecture": "x86_64", "KernelVersion": "6.1.0", **info}

        def __call__(self, argv, env=None, **options):
            assert argv[:3] == ("docker", "--context", "amd1")
            assert env["DOCKER_CONFIG"] == "/c"
            self.calls.append(argv[3:])
            return Result(tuple(argv), *getattr(self, f"{argv[3]}_")(*argv[4:]))

        def info_(self, *args):
            return 0, json.dumps(self.info), ""

        def import_(self, path, image):
            with tarfile.open(path) as archive:
                assert "exit-s390x" in archive.getnames()
            return 0, "sha256:…\n", ""

        def rmi_(self, image):
            return 0, "", ""

        def image_(self, command, image):
            return (0, "[]", "") if self.pulled else (1, "", "No such image")

        def pull_(self, image):
            self.pulled = True
            return 0, "", ""

        def run_(self, *args):
            if "--entrypoint" in args:
                there = args[args.index("--entrypoint") + 1].replace("/usr/bin/", "") in self.within
                return (0, "qemu version 7.0.0\n", "") if there else (127, "", "no such file or directory")
            if "--privileged" not in args:
                name = _binfmt.ENTRIES[args[-1].replace("/exit-", "")]
                if name not in self.emulators - self.broken:
                    return 255, "", "exec /exit: exec format error"
                return (0, "qemu version 10.0.4\n", "") if "--env" in args else (42, "", "")
            options = dict(zip(args[5::2], args[6::2]))
            removed = set(filter(None, options.get("--uninstall", "").split(",")))
            self.emulators -= removed
            self.broken -= removed
            installed = filter(None, options.get("--install", "").split(","))
            self.emulators |= {_binfmt.ENTRIES[arch] for arch in installed} & self.within
            return 0, json.dumps({"supported": [], "emulators": [*self.emulators, "jar"]}), ""

    def logic(self, docker, check_mode=False, **options):
        params = {**PARAMS, "endpoint": "amd1", "docker_config": "/c", "persistent": None, **options}
        return _binfmt_apply.run(params, check_mode, docker)

    def privileged(self, docker):
        return [call for call in docker.calls if "--privileged" in call]

    def test_present(self):
        docker = self.Docker(["qemu-aarch64", "qemu-arm"], ["qemu-arm"])
        want = {"platforms": ["arm64", "arm", "s390x", "amd64"]}
        predicted = self.logic(docker, True, **want)
        assert self.privileged(docker) == []
        assert [list(action) for action in predicted.actions] == [
            ["docker", "--context", "amd1", *RUN[1:], "--uninstall", "qemu-arm,qemu-s390x", "--install", "arm,s390x"]
        ]
        real = self.logic(docker, **want)
        assert dataclasses.replace(real, values={}) == dataclasses.replace(predicted, values={})
        assert real.values["qemu_versions"] == dict.fromkeys(["linux/arm64", "linux/arm/v7", "linux/s390x"], "10.0.4")
        assert (real.values["native"], real.values["not_compared"]) == (["linux/amd64"], ["interpreter", "flags"])
        assert len([call for call in docker.calls if call[0] == "import"]) == 3
        images = [{call[-1] for call in docker.calls if call[0] == command} for command in ("import", "rmi")]
        assert images[0] == images[1]
        assert not self.logic(docker, **want).changed

    def test_all_is_what_the_image_has(self):
        docker = self.Docker()
        docker.within = docker.within - {"qemu-loongarch64", "qemu-mips64"}
        whole = self.logic(docker, True, platforms=["all"])
        assert "loong64" in whole.actions[0][-1], "nothing is pulled in check mode"
        real = self.logic(docker, platforms=["all"])
        assert real.actions[0][-1] == "arm,arm64,mips64le,ppc64le,riscv64,s390x"
        assert "linux/loong64" not in real.after and "linux/mips64" not in real.values["emulated"]
        for check_mode in (True, False):
            assert not self.logic(docker, check_mode, platforms=["all"]).changed
        with pytest.raises(FarmError, match="after the task linux/loong64 is not run there"):
            self.logic(docker, platforms=["all", "loong64"])
        # What runs by other means is left alone, and is none of the image's.
        docker.emulators ^= {"qemu-loongarch64", "qemu-s390x"}
        real = self.logic(docker, platforms=["all"])
        assert real.actions[0][-1] == "s390x" and "linux/loong64" not in real.after
        assert "qemu-loongarch64" in docker.emulators

    def test_all_of_an_image_without_emulators(self):
        docker = self.Docker()
        docker.within = frozenset()
        with pytest.raises(FarmError, match=r"example/binfmt:1 has none of the emulators qemu-arm, qemu-aarch64"):
            self.logic(docker, platforms=["all"])
        docker.pulled, docker.pull_ = False, lambda image: (1, "", "toomanyrequests")
        with pytest.raises(FarmError, match=r"image example/binfmt:1 was not run; .* able to pull it.*toomanyrequests"):
            self.logic(docker, platforms=["all"])

    def test_exact_and_absent(self):
        docker = self.Docker(["qemu-aarch64", "qemu-hppa"])
        want = {"state": "exact", "platforms": ["arm64"]}
        assert self.logic(docker, **want).actions[0][-2:] == ["--uninstall", "qemu-hppa"]
        assert docker.emulators == {"qemu-aarch64"}
        assert not self.logic(docker, **want).changed
        assert self.logic(docker, state="absent").actions[0][-2:] == ["--uninstall", "qemu-aarch64"]
        assert not docker.emulators
        assert not self.logic(docker, state="absent").changed

    def test_without_verify_the_report_counts(self):
        docker = self.Docker(["qemu-aarch64"], ["qemu-aarch64"])
        assert not self.logic(docker, platforms=["arm64"], verify=False).changed
        assert not any(call[0] == "import" for call in docker.calls)

    @pytest.mark.parametrize(
        ("info", "options", "message"),
        [
            ({"KernelVersion": "4.4.0"}, {}, "amd1 runs Linux 4.4.0"),
            ({"SecurityOptions": ["name=seccomp", "name=rootless"]}, {}, "amd1: the engine is a rootless one"),
            ({"ServerVersion": "", "ServerErrors": ["refused"]}, {}, "has to run: refused"),
            ({}, {"image": LEGACY, "state": "absent"}, "reports nothing"),
        ],
    )
    def test_what_cannot_be(self, info, options, message):
        with pytest.raises(FarmError, match=message):
            self.logic(self.Docker(**info), **{"platforms": ["arm64"], **options})

    def test_an_image_that_does_nothing(self):
        docker = self.Docker()
        docker.run_ = lambda *args: (0, "", "no")
        with pytest.raises(FarmError, match=r"amd1: after the task linux/arm64 is not run there: .*said: no;"):
            self.logic(docker, platforms=["arm64"])
