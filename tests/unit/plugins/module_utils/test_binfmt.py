# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Handlers: reading the kernel's entries, judging them, and the steps to the declared ones."""

from __future__ import annotations

import base64
import builtins
import dataclasses
import hashlib
import io
import json
import os
import re
import struct
import tarfile

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._binfmt import apply as _binfmt_apply
from ansible_collections.buildfarm.multiarch.plugins.module_utils._binfmt import binfmt_misc as _binfmt
from ansible_collections.buildfarm.multiarch.plugins.module_utils._binfmt import image as _binfmt_image
from ansible_collections.buildfarm.multiarch.plugins.module_utils._binfmt import info as _binfmt_info
from ansible_collections.buildfarm.multiarch.plugins.module_utils._binfmt import plan as _binfmt_plan
from ansible_collections.buildfarm.multiarch.plugins.module_utils._binfmt import remote
from ansible_collections.buildfarm.multiarch.plugins.module_utils._binfmt import rules as _binfmt_rules
from ansible_collections.buildfarm.multiarch.plugins.module_utils._binfmt import state as _binfmt_state
from ansible_collections.buildfarm.multiarch.plugins.module_utils._binfmt.binfmt_misc import (
    BinfmtMisc,
    read_platforms,
    require_kernel,
)
from ansible_collections.buildfarm.multiarch.plugins.module_utils._binfmt.declaration import Declaration
from ansible_collections.buildfarm.multiarch.plugins.module_utils._binfmt.engine import Engine, _streams
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
from ansible_collections.buildfarm.multiarch.plugins.module_utils._binfmt.steps import (
    ChangeFile,
    Host,
    Mount,
    Systemctl,
    enable_all,
    register,
    unregister,
)
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.runner import CommandError, Result, run
from ansible_collections.buildfarm.multiarch.plugins.module_utils._platform.elf import arch_of, probe_here, program
from ansible_collections.buildfarm.multiarch.plugins.module_utils._platform.platform import Platform
from ansible_collections.buildfarm.multiarch.tests.unit.engines import FakeEngine, serving

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

# What QEMU's scripts/qemu-binfmt-conf.sh registers for each architecture: the first 20 bytes of its programs.
MAGICS = {
    "386": "7f454c4601010100000000000000000002000300",
    "amd64": "7f454c4602010100000000000000000002003e00",
    "arm": "7f454c4601010100000000000000000002002800",
    "arm64": "7f454c460201010000000000000000000200b700",
    "loong64": "7f454c4602010100000000000000000002000201",
    "mips64": "7f454c4602020100000000000000000000020008",
    "mips64le": "7f454c4602010100000000000000000002000800",
    "ppc64le": "7f454c4602010100000000000000000002001500",
    "riscv64": "7f454c460201010000000000000000000200f300",
    "s390x": "7f454c4602020100000000000000000000020016",
}


#: By the ABI of each architecture: version 5 of ARM's, n64 of MIPS64 release 2, LP64D of LoongArch, ELFv2 of POWER.
FLAGS = {"arm": 0x05000200, "loong64": 0x43, "mips64": 0x80000007, "mips64le": 0x80000007, "ppc64le": 2}


def test_programs_are_executables_of_their_architectures():
    """By the layout of elf(5): all of the file is one segment, which begins to run behind the headers."""
    assert list(_binfmt.ENTRIES) == list(MAGICS)
    for arch, magic in MAGICS.items():
        content = program(arch)
        assert content[:20].hex() == magic, arch
        order, wide = ">" if content[5] == 2 else "<", content[4] == 2
        header = struct.unpack_from(f"{order}{'IQQQI6H' if wide else '5I6H'}", content, 20)
        version, entry, headers_at, sections_at, flags, size, header_size, headers, _size, sections, _names = header
        assert (version, headers_at, sections_at, size, headers, sections) == (1, size, 0, 64 if wide else 52, 1, 0)
        assert flags == FLAGS.get(arch, 0), arch
        segment = struct.unpack_from(f"{order}{'II6Q' if wide else '8I'}", content, headers_at)
        if wide:
            kind, rights, offset, address, _physical, on_disk, in_memory, alignment = segment
        else:
            kind, offset, address, _physical, on_disk, in_memory, rights, alignment = segment
        assert len(segment) * (7 if wide else 4) == header_size, arch
        assert (kind, rights, offset) == (1, 5, 0), "one that is loaded, read and executed"
        assert on_disk == in_memory == len(content) and address % alignment == 0 and alignment >= 0x10000
        assert entry - address == size + header_size < len(content)


def test_a_native_program_runs_and_names_no_qemu():
    native = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine)
    if native is None:
        pytest.skip(f"no program for {os.uname().machine}")
    answer = probe_here(native, run)
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
    found = probe_here("arm64", lambda argv, **options: Result(tuple(argv), rc, "", stderr)).problem
    assert found == problem or (problem is not None and problem in str(found))


def exec_format_error(argv, **options):
    raise CommandError("could not be started", Result(tuple(argv), 127, "", "Exec format error"))


def test_a_program_that_cannot_be_started():
    assert probe_here("arm64", exec_format_error).problem == "Exec format error"


def test_no_directory_allows_programs(monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(FarmError, match="set verify: false"):
        probe_here("arm64", run)


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
    found = platform_status(ARM64, registry, AMD64, lambda arch: probe_here(arch, runner), Demand(**demand))
    if verdict in (WORKS, REGISTERED, MISSING, NATIVE):
        assert found.text == verdict and found.good == (verdict != MISSING)
    else:
        assert re.search(verdict, found.text) and not found.good


def test_the_version_that_answered_is_told():
    assert (
        platform_status(ARM64, host(arm64=IMAGES), AMD64, lambda arch: probe_here(arch, QEMU_7), Demand()).version
        == "7.2.22"
    )


def test_kin_of_the_processor_are_asked_even_without_verify():
    arm, demand = Platform("linux", "arm", "v7"), Demand(verify=False)
    assert platform_status(arm, host(), ARM64, lambda arch: probe_here(arch, programs()), demand).text == NATIVE
    assert platform_status(arm, host(), ARM64, lambda arch: probe_here(arch, exec_format_error), demand).text == MISSING


@pytest.mark.parametrize(("release", "good"), [("4.8.0-rc1", True), ("6.18.44-fc", True), ("4.7.10", False)])
def test_kernels(release, good):
    if good:
        require_kernel("h", release)
    else:
        with pytest.raises(FarmError, match=f"h runs Linux {release}; .* since Linux 4.8"):
            require_kernel("h", release)


def test_a_handler_is_known_by_what_it_runs():
    handler, jar = Handler.parse("anything", IMAGES), Handler.parse("jar", "enabled\ninterpreter /j\nextension .jar\n")
    assert [arch for arch in _binfmt.ENTRIES if handler.runs(program(arch))] == ["arm64"]
    assert not [arch for arch in _binfmt.ENTRIES if jar.runs(program(arch))]


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
    "only_own": False,
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


def test_the_diff_of_handlers():
    """What is told of other handlers where these are all there are to be, and only there."""
    registry = named(qemu_aarch64=IMAGES, jar="enabled\ninterpreter /j\n", qemu_hppa=HPPA)
    exact = plan(declared("arm64", "s390x", state="exact"), found(declared("arm64", "s390x"), registry, WORKS, MISSING))
    common = {"registered_at_boot": [], "overrides": []}
    assert exact.before == {"linux/arm64": WORKS, "linux/s390x": MISSING, "others": ["qemu-hppa"], **common}
    assert exact.after == {"linux/arm64": WORKS, "linux/s390x": WORKS, "others": [], **common}
    present = plan(declared("arm64"), found(declared("arm64"), registry, WORKS))
    assert present.before == present.after == {"linux/arm64": WORKS, **common}
    untried = plan(declared("arm64", verify=False), found(declared("arm64"), registry, MISSING))
    assert untried.after["linux/arm64"] == REGISTERED
    absent = declared("arm64", state="absent")
    assert plan(absent, found(absent, registry, REGISTERED)).after == {"linux/arm64": MISSING, **common}


@pytest.mark.parametrize(
    "text", ["ExecStart=/usr/bin/env x none example/binfmt:1\n", "X-Architectures=arm64\n", "[Unit]\n"]
)
def test_a_unit_of_somebody_else_names_neither_image_nor_architectures(text):
    assert _binfmt_image.unit_settings(text) == (None, ())


def test_the_boot_unit_is_read_back():
    for argv0 in (None, True, False):
        text = unit("arm64", "s390x", argv0=argv0)
        assert _binfmt_image.unit_settings(text) == (EmulatorImage("example/binfmt:1", argv0), ("arm64", "s390x"))
    assert _binfmt_image.unit_settings(unit("arm64", image=LEGACY)) == (EmulatorImage(LEGACY), ("arm64",))
    assert _binfmt_image.unit_settings(None) == (None, ())


def test_the_boot_unit_replaces_what_packages_have_registered():
    text = """\
# Written by the Ansible module buildfarm.multiarch.binfmt, which overwrites changes.
[Unit]
Description=QEMU handlers for foreign platforms
Wants=docker.service
After=docker.service systemd-binfmt.service
PartOf=systemd-binfmt.service
X-Architectures=arm64,s390x

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/bin/env docker run --rm --privileged --network none example/binfmt:1 \
--uninstall qemu-aarch64,qemu-s390x --install arm64,s390x

[Install]
WantedBy=multi-user.target
"""
    assert unit("arm64", "s390x") == text


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
    shown = plan(want, have)
    assert shown.before["overrides"] == ([OVERRIDE] if override else [])
    assert shown.after["overrides"] == ([OVERRIDE] if files.get(OVERRIDE, override) else [])


def test_an_override_of_another_file_stays_in_the_diff():
    want = packages(persistent=True)
    other = RuleFile("x.conf", "/usr/lib/binfmt.d/x.conf", f"{JAR}\n", f"{_binfmt_rules.MARK}{JAR}\n")
    have = found(want, host(arm64=DEBIANS), WORKS, files=[dataclasses.replace(FILE, override=C_OVERRIDE), other])
    planned = plan(dataclasses.replace(want, credentials=True), have)
    assert planned.before["overrides"] == ["/etc/binfmt.d/qemu-aarch64.conf", "/etc/binfmt.d/x.conf"]
    assert planned.after["overrides"] == ["/etc/binfmt.d/qemu-aarch64.conf"]


@pytest.mark.parametrize(
    ("line", "handler"),
    [
        ("", None),
        ("# :x:M::a::/i:", None),
        ("; comment", None),
        (JAR, None),
        (":x:M::a:/i:", None),
        # The kernel takes none with such an offset either.
        (":x:M:two:a::/i:", None),
        # A mask that is left out compares all bits.
        (r":x:M::\x7fE::/i:F", Handler("x", True, "/i", "F", b"\x7fE", b"\xff\xff", 0)),
        (r",x,M,2,\x7fE,\xff\x0f,/i,", Handler("x", True, "/i", "", b"\x7fE", b"\xff\x0f", 2)),
    ],
)
def test_lines_of_rules(line, handler):
    rule = _binfmt_rules.Rule.parse(line)
    assert (rule and rule.handler) == handler


def test_what_conflicts_is_removed_by_any_name():
    registry = named(qemu_aarch64=IMAGES, a_aarch64=IMAGES, qemu_arm=HPPA)
    assert registry.conflicting_handlers("arm64") == ["a-aarch64", "qemu-aarch64"]
    assert [one.name for one in registry.emulating("arm64")] == ["qemu-aarch64", "a-aarch64"]
    assert registry.conflicting_handlers("arm64", "a-aarch64") == ["a-aarch64", "qemu-aarch64"]
    # Another program's, in the place of the one that is to be registered.
    assert registry.conflicting_handlers("arm") == ["qemu-arm"]
    assert registry.conflicting_handlers("s390x") == []
    assert registry.conflicting_handlers("s390x", "qemu-arm") == ["qemu-arm"]


def test_demands_of_an_image_are_its_own():
    """Whatever packages are there."""
    wanted = declared("arm64", files=[FILE]).demand("arm64", [FILE])
    assert (wanted.name, wanted.interpreter) == ("qemu-aarch64", "/usr/bin/qemu-aarch64")
    wanted = packages().demand("arm64", [FILE])
    assert wanted.interpreter == "/usr/libexec/qemu-binfmt/aarch64-binfmt-P"


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


class EngineOfHost(FakeEngine):
    """An engine whose host has these emulators, and others that are broken."""

    #: The emulators of the image.
    within = frozenset(_binfmt.ENTRIES.values())

    def __init__(self, emulators=(), broken=(), **info):
        super().__init__()
        self.emulators, self.broken, self.pulled = set(emulators), set(broken), False
        self.info = {"ServerVersion": "26", "Architecture": "x86_64", "KernelVersion": "6.1.0", **info}
        self.imported, self.removed, self.pulls, self.created = [], [], [], []

    def privileged(self):
        return [spec for spec in self.created if spec["HostConfig"]["Privileged"]]

    def answer(self, method, path, query, body, headers):
        """Return status and body, as an engine does."""
        if path == "/info":
            return (200, self.info) if "message" not in self.info else (500, self.info)
        if path.startswith("/images/"):
            return self.image(method, path, query, body, headers)
        if path == "/containers/create":
            self.created.append(json.loads(body))
            self.containers[str(len(self.created))] = self.created[-1]
            return 201, {"Id": str(len(self.created))}
        identifier, _slash, verb = path[len("/containers/") :].partition("/")
        spec = self.containers[identifier]
        if method == "DELETE":
            del self.containers[identifier]
            return 204, None
        if verb == "start":
            spec["ended"] = self.run(spec)
            if isinstance(spec["ended"], str):
                return 400, {"message": spec["ended"]}
        rc, stdout, stderr = spec["ended"]
        streams = ((1, stdout.encode()), (2, stderr.encode()))
        frames = [bytes([number, 0, 0, 0]) + len(text).to_bytes(4, "big") + text for number, text in streams]
        return {"start": (204, None), "wait": (200, {"StatusCode": rc}), "logs": (200, b"".join(frames))}[verb]

    def image(self, method, path, query, body, headers):
        if method == "GET":
            return (200, {}) if self.pulled else (404, {"message": "No such image"})
        if method == "DELETE":
            self.removed.append(path[len("/images/") :])
        elif "fromSrc" in query:
            with tarfile.open(fileobj=io.BytesIO(body)) as archive:
                assert "exit-s390x" in archive.getnames()
            self.imported.append(f"{query['repo']}:{query['tag']}")
        else:
            self.pulls.append((query["fromImage"], query["tag"], headers.get("X-Registry-Auth")))
            return 200, self.pull()
        return 200, {}

    def pull(self):
        self.pulled = True
        return b'{"status":"Pulling"}\n{"status":"Done"}\n'

    def run(self, spec):
        """Return exit status and output of a container, or why it does not start."""
        if "Entrypoint" in spec:
            there = spec["Entrypoint"][0].replace("/usr/bin/", "") in self.within
            return (0, "qemu version 7.0.0\n", "") if there else "OCI runtime: no such file or directory: unknown"
        assert spec["HostConfig"]["NetworkMode"] == "none"
        if not spec["HostConfig"]["Privileged"]:
            name = _binfmt.ENTRIES[spec["Cmd"][0].replace("/exit-", "")]
            if name not in self.emulators - self.broken:
                return 255, "", "exec /exit: exec format error"
            return (0, "qemu version 10.0.4\n", "") if spec["Env"] else (42, "", "")
        options = dict(zip(spec["Cmd"][::2], spec["Cmd"][1::2]))
        removed = set(filter(None, options.get("--uninstall", "").split(",")))
        self.emulators -= removed
        self.broken -= removed
        installed = filter(None, options.get("--install", "").split(","))
        self.emulators |= {_binfmt.ENTRIES[arch] for arch in installed} & self.within
        return 0, json.dumps({"supported": [], "emulators": [*self.emulators, "jar"]}), ""


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

    @pytest.fixture(autouse=True)
    def engine(self, kernel, monkeypatch):
        """The host's engine, whose containers register one handler."""

        def register(spec):
            if engine.registers:
                (kernel / "qemu-aarch64").write_text(IMAGES)
            return 0, '{"supported":["linux/amd64"]}', "installing: arm64 no such file\n"

        engine = EngineOfHost()
        engine.run, engine.registers = register, True
        with serving(engine) as url:
            monkeypatch.setenv("DOCKER_HOST", url)
            yield engine

    def run(self, kernel, check_mode=False, **options):
        def runner(argv, env=None, **options):
            works = (kernel / "qemu-aarch64").exists()
            return Result(tuple(argv), 42 if works else 1, "version 10.0.4\n" if env else "", "")

        return _binfmt_apply.run({**PARAMS, "platforms": ["arm64"], **options}, check_mode, runner)

    def test_an_image_that_registers_it(self, kernel, engine):
        outcome = self.run(kernel)
        assert outcome.changed
        assert (outcome.before["linux/arm64"], outcome.after["linux/arm64"]) == (MISSING, WORKS)
        assert outcome.values == {
            "native": [],
            "emulated": ["linux/arm64"],
            "qemu_versions": {"linux/arm64": "10.0.4"},
            "not_compared": [],
        }
        (spec,) = engine.created
        assert (spec["Image"], spec["Cmd"], spec["Env"]) == ("example/binfmt:1", ["--install", "arm64"], [])
        # An engine that remaps users gives privileges to nobody else.
        assert spec["HostConfig"]["Privileged"] and spec["HostConfig"]["UsernsMode"] == "host"
        assert not self.run(kernel).changed

    def test_check_mode_says_the_same_and_runs_nothing(self, kernel, engine):
        predicted = self.run(kernel, True)
        assert not (kernel / "qemu-aarch64").exists() and not engine.created and not engine.pulls
        assert predicted.values["qemu_versions"] == {"linux/arm64": None}
        real = self.run(kernel)
        assert dataclasses.replace(real, values={}) == dataclasses.replace(predicted, values={})

    def test_removed_and_verified(self, kernel, engine):
        (kernel / "qemu-aarch64").write_text(IMAGES)
        predicted = self.run(kernel, True, state="absent")
        assert (predicted.before["linux/arm64"], predicted.after["linux/arm64"]) == (REGISTERED, MISSING)
        # A plain file does not go when -1 is written to it.
        with pytest.raises(FarmError, match=r"after the task linux/arm64 is registered; the next run tries again"):
            self.run(kernel, state="absent")
        assert (kernel / "qemu-aarch64").read_text().startswith("-1")

    def test_others_that_stay_are_an_error_where_these_are_all_there_are_to_be(self, kernel, engine):
        (kernel / "qemu-hppa").write_text(HPPA)
        with pytest.raises(FarmError, match="handler qemu-hppa is still there"):
            self.run(kernel, state="exact")
        assert self.run(kernel, state="present").values["emulated"] == ["linux/arm64"]

    def test_without_anything_to_do_nobody_needs_to_be_root(self, kernel, engine, monkeypatch):
        self.run(kernel)
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        assert not self.run(kernel).changed

    def test_a_host_without_systemd_registers_nothing_at_boot(self, kernel, engine, monkeypatch):
        def refuse(host):
            raise FarmError(f"{host} was not booted with systemd")

        monkeypatch.setattr(_binfmt_apply, "require_systemd", refuse)
        with pytest.raises(FarmError, match="not booted with systemd; set persistent: false where"):
            self.run(kernel, True, persistent=True)
        assert self.run(kernel, True, persistent=False).changed
        assert not self.run(kernel, True, persistent=True, state="absent").changed

    def test_an_image_that_exits_with_0_and_did_nothing(self, kernel, engine):
        engine.registers = False
        with pytest.raises(
            FarmError, match=r"linux/arm64 is missing; .* printed: installing: arm64 no such file"
        ) as info:
            self.run(kernel)
        assert info.value.details["cmd"] == [*RUN, "--install", "arm64"]

    def test_files_are_written_only_once_the_handlers_are_verified(self, kernel, engine, monkeypatch):
        monkeypatch.setattr(_binfmt_apply, "require_systemd", lambda host: None)
        monkeypatch.setattr(_binfmt_plan, "UNIT_PATH", str(kernel / "new.service"))
        engine.registers = False
        with pytest.raises(FarmError, match="linux/arm64 is missing"):
            self.run(kernel, persistent=True)
        assert not (kernel / "new.service").exists()
        # The runner's systemctl fails: what has been written is taken back.
        engine.registers = True
        with pytest.raises(FarmError, match="systemctl daemon-reload failed"):
            self.run(kernel, persistent=True)
        assert (kernel / "qemu-aarch64").exists() and not (kernel / "new.service").exists()

    def test_what_others_have_registered_stays(self, kernel, engine, monkeypatch):
        monkeypatch.setattr(_binfmt_apply, "require_systemd", lambda host: None)
        absent = {"state": "absent", "persistent": True, "only_own": True, "platforms": ["arm64", "s390x"]}
        self.run(kernel)
        assert not self.run(kernel, **absent).changed
        (kernel / "none.service").write_text(unit("arm64"))
        actions = self.run(kernel, True, **absent).actions
        assert ["write", f"{kernel}/qemu-aarch64", "-1"] in actions
        assert ["systemctl", "disable", "--now", UNIT] in actions
        with pytest.raises(FarmError, match="only_own limits what is removed; it goes with state: absent"):
            self.run(kernel, only_own=True)

    def test_an_override_goes_where_the_rules_of_packages_stay(self):
        want = packages(state="absent", persistent=True, only_own=True)
        have = found(want, host(arm64=DEBIANS), REGISTERED, files=[dataclasses.replace(FILE, override=C_OVERRIDE)])
        assert ["remove", OVERRIDE] in actions(want, have)

    def test_an_engine_that_does_not_run(self, kernel, monkeypatch):
        monkeypatch.setenv("DOCKER_HOST", f"unix://{kernel}/none.sock")
        with pytest.raises(FarmError, match=r"the engine on .* has to run: .* is the engine installed and started\?"):
            self.run(kernel)
        assert self.run(kernel, True).changed
        assert self.run(kernel, True, platforms=["all"]).changed

    @pytest.mark.parametrize("check_mode", [True, False])
    def test_a_rootless_engine(self, kernel, engine, check_mode):
        engine.info["SecurityOptions"] = ["name=rootless"]
        with pytest.raises(FarmError, match=r"the engine is a rootless one"):
            self.run(kernel, check_mode)
        assert not (kernel / "qemu-aarch64").exists()

    def test_credentials_of_the_registry(self, kernel, engine, tmp_path, monkeypatch):
        """As ``docker login`` stores them, for the image's registry alone."""
        login = base64.b64encode(b"farmer:corn").decode()
        (tmp_path / "config.json").write_text(json.dumps({"auths": {"r.example.com": {"auth": login}}}))
        for image, name in (
            ("r.example.com/binfmt", "r.example.com/binfmt"),
            ("example/binfmt:1", "docker.io/example/binfmt"),
        ):
            engine.pulled = False
            self.run(kernel, image=image, docker_config=str(tmp_path))
            assert engine.pulls[-1][0] == name
            (kernel / "qemu-aarch64").unlink()
        first, second = (sent for _name, _tag, sent in engine.pulls)
        decoded = json.loads(base64.urlsafe_b64decode(first))
        assert decoded == {"username": "farmer", "password": "corn", "serveraddress": "r.example.com"}
        assert second is None

    @pytest.mark.parametrize("check_mode", [True, False])
    def test_without_root(self, kernel, monkeypatch, check_mode):
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        with pytest.raises(FarmError, match=r"only root may change handlers, .* use become"):
            self.run(kernel, check_mode)

    def test_a_kernel_without_binfmt_misc(self, kernel, monkeypatch):
        monkeypatch.setattr(_binfmt, "ROOT", str(kernel / "none"))
        with pytest.raises(FarmError, match="has no binfmt_misc at the moment; load the module"):
            self.run(kernel, True)

    @pytest.mark.parametrize("check_mode", [True, False])
    def test_a_kernel_that_is_too_old(self, kernel, monkeypatch, check_mode):
        name = os.uname()
        old = os.uname_result((name.sysname, name.nodename, "4.7.10", name.version, "x86_64"))
        monkeypatch.setattr(os, "uname", lambda: old)
        with pytest.raises(FarmError, match=r"runs Linux 4\.7\.10; .* since Linux 4\.8, .*; use a newer kernel"):
            self.run(kernel, check_mode)
        assert not self.run(kernel, check_mode, state="absent").changed

    def test_packages_that_are_not_installed(self, kernel):
        with pytest.raises(FarmError, match=r"no package registers linux/arm64 .*qemu-user-binfmt on Debian 13"):
            self.run(kernel, source="packages")
        predicted = self.run(kernel, True, source="packages")
        assert (predicted.changed, predicted.values["emulated"]) == (False, ["linux/arm64"])
        assert "Taken to be installed by then" in predicted.warnings[0]
        with pytest.raises(FarmError, match="no package registers any of these"):
            self.run(kernel, source="packages", platforms=["all"])

    def test_a_rule_whose_interpreter_is_gone(self, kernel, monkeypatch):
        monkeypatch.setattr(_binfmt_apply, "read_rule_files", lambda: [FILE])
        (kernel / "register").mkdir()
        with pytest.raises(FarmError, match=r"register could not be changed: .* is its interpreter installed\?"):
            self.run(kernel, source="packages")


class TestThroughAnEngine:
    """What can be known without a view of the host."""

    @pytest.fixture(autouse=True)
    def contexts(self, tmp_path):
        """A docker configuration."""
        self.config = tmp_path

    def run(self, engine, check_mode=False, **options):
        """Run the module with an engine that a context names."""
        meta = self.config / "contexts/meta" / hashlib.sha256(b"amd1").hexdigest() / "meta.json"
        meta.parent.mkdir(parents=True, exist_ok=True)
        params = {**PARAMS, "endpoint": "amd1", "docker_config": str(self.config), "persistent": None, **options}
        with serving(engine) as url:
            meta.write_text(json.dumps({"Name": "amd1", "Endpoints": {"docker": {"Host": url}}}))
            return _binfmt_apply.run(params, check_mode, exec_format_error)

    def test_present(self):
        engine = EngineOfHost(["qemu-aarch64", "qemu-arm"], ["qemu-arm"])
        want = {"platforms": ["arm64", "arm", "s390x", "amd64"]}
        predicted = self.run(engine, True, **want)
        assert engine.privileged() == []
        assert [list(action) for action in predicted.actions] == [
            ["docker", "--context", "amd1", *RUN[1:], "--uninstall", "qemu-arm,qemu-s390x", "--install", "arm,s390x"]
        ]
        real = self.run(engine, **want)
        assert dataclasses.replace(real, values={}) == dataclasses.replace(predicted, values={})
        assert real.values["qemu_versions"] == dict.fromkeys(["linux/arm64", "linux/arm/v7", "linux/s390x"], "10.0.4")
        assert (real.values["native"], real.values["not_compared"]) == (["linux/amd64"], ["interpreter", "flags"])
        assert len(engine.imported) == 3
        assert set(engine.imported) == set(engine.removed)
        assert not self.run(engine, **want).changed

    def test_all_is_what_the_image_has(self):
        engine = EngineOfHost()
        engine.within = engine.within - {"qemu-loongarch64", "qemu-mips64"}
        whole = self.run(engine, True, platforms=["all"])
        assert "loong64" in whole.actions[0][-1], "nothing is pulled in check mode"
        real = self.run(engine, platforms=["all"])
        assert real.actions[0][-1] == "arm,arm64,mips64le,ppc64le,riscv64,s390x"
        assert "linux/loong64" not in real.after and "linux/mips64" not in real.values["emulated"]
        for check_mode in (True, False):
            assert not self.run(engine, check_mode, platforms=["all"]).changed
        with pytest.raises(FarmError, match="after the task linux/loong64 is not run there"):
            self.run(engine, platforms=["all", "loong64"])
        # What runs by other means is left alone, and is none of the image's.
        engine.emulators ^= {"qemu-loongarch64", "qemu-s390x"}
        real = self.run(engine, platforms=["all"])
        assert real.actions[0][-1] == "s390x" and "linux/loong64" not in real.after
        assert "qemu-loongarch64" in engine.emulators

    def test_all_of_an_image_without_emulators(self):
        engine = EngineOfHost()
        engine.within = frozenset()
        with pytest.raises(FarmError, match=r"example/binfmt:1 has none of the emulators qemu-arm, qemu-aarch64"):
            self.run(engine, platforms=["all"])
        engine.pulled, engine.pull = False, lambda: b'{"status":"Pulling"}\n{"error":"toomanyrequests"}\n'
        with pytest.raises(FarmError, match=r"image example/binfmt:1 was not run; .* able to pull it.*toomanyrequests"):
            self.run(engine, platforms=["all"])

    def test_exact_and_absent(self):
        engine = EngineOfHost(["qemu-aarch64", "qemu-hppa"])
        want = {"state": "exact", "platforms": ["arm64"]}
        assert self.run(engine, **want).actions[0][-2:] == ["--uninstall", "qemu-hppa"]
        assert engine.emulators == {"qemu-aarch64"}
        assert not self.run(engine, **want).changed
        assert self.run(engine, state="absent").actions[0][-2:] == ["--uninstall", "qemu-aarch64"]
        assert not engine.emulators
        assert not self.run(engine, state="absent").changed

    def test_only_what_is_missing_is_looked_for_in_the_image_where_nothing_else_is_to_be_done(self):
        engine = EngineOfHost()
        engine.within = engine.within - {"qemu-loongarch64"}
        self.run(engine, platforms=["all"])
        examined = []
        run_there = engine.run
        engine.run = lambda spec: examined.extend(spec.get("Entrypoint", ())) or run_there(spec)
        assert not self.run(engine, platforms=["all"]).changed
        assert examined == ["/usr/bin/qemu-loongarch64"]

    def test_the_report_of_what_is_not_verified(self):
        engine = EngineOfHost(["qemu-aarch64"])
        found_there = self.run(engine, platforms=["arm64"], verify=False, qemu_version="10.0.4")
        assert (found_there.changed, found_there.before["linux/arm64"]) == (False, REGISTERED)
        predicted = self.run(engine, True, platforms=["arm64"], verify=False, qemu_version="9")
        assert predicted.changed and predicted.values["qemu_versions"] == {"linux/arm64": None}

    def test_without_verify_the_report_counts(self):
        engine = EngineOfHost(["qemu-aarch64"], ["qemu-aarch64"])
        assert not self.run(engine, platforms=["arm64"], verify=False).changed
        assert not engine.imported

    @pytest.mark.parametrize(
        ("info", "options", "message"),
        [
            ({"KernelVersion": "4.4.0"}, {}, "amd1 runs Linux 4.4.0"),
            ({"SecurityOptions": ["name=seccomp", "name=rootless"]}, {}, "amd1: the engine is a rootless one"),
            ({"message": "refused"}, {}, "has to run: refused"),
            ({}, {"image": LEGACY, "state": "absent"}, "reports nothing"),
        ],
    )
    def test_what_cannot_be(self, info, options, message):
        with pytest.raises(FarmError, match=message):
            self.run(EngineOfHost(**info), **{"platforms": ["arm64"], **options})

    def test_an_engine_that_runs_no_containers(self):
        engine = EngineOfHost()
        engine.run = lambda spec: "cgroups: cannot find mount"
        with pytest.raises(FarmError, match="amd1: the engine runs no containers: cgroups"):
            self.run(engine, platforms=["arm64"])
        assert engine.imported == engine.removed

    def test_an_image_that_does_nothing(self):
        engine = EngineOfHost()
        engine.run = lambda spec: (0, "", "no")
        with pytest.raises(FarmError, match=r"amd1: after the task linux/arm64 is not run there: .*printed: no;"):
            self.run(engine, platforms=["arm64"])


def of_architecture(answers):
    """A runner of the programs that do nothing but end, by the architecture that their file is of.

    :param answers: QEMU's version, or None where no QEMU runs it; programs of others cannot be started.
    """

    def runner(argv, env=None, **_options):
        with open(argv[0], "rb") as stream:
            arch = arch_of(stream.read(20))
        if arch not in answers:
            return exec_format_error(argv)
        return Result(tuple(argv), 42, f"qemu version {answers[arch]}\n" if env and answers[arch] else "", "")

    return runner


class TestInfo:
    """What binfmt_info tells of a host's handlers."""

    @pytest.fixture(autouse=True)
    def kernel(self, tmp_path, monkeypatch):
        """A processor of amd64, with handlers for arm64, for arm that does not work, and for Java archives."""
        monkeypatch.setattr(_binfmt, "ROOT", str(tmp_path))
        monkeypatch.setattr(_binfmt_info, "native_platform", lambda machine: AMD64)
        (tmp_path / "status").write_text("enabled\n")
        (tmp_path / "jar").write_text("enabled\ninterpreter /usr/bin/jexec\nextension .jar\n")
        (tmp_path / "qemu-aarch64").write_text(IMAGES)
        (tmp_path / "qemu-arm").write_text(
            IMAGES.replace("aarch64", "arm").replace("b700", "2800").replace("454c4602", "454c4601")
        )
        return tmp_path

    RUNNER = staticmethod(of_architecture({"amd64": None, "386": None, "arm64": "10.0.4"}))

    def shown(self, name, platforms, interpreter, flags, enabled=True, **answer):
        values = dict.fromkeys(("works", "problem", "qemu_version"))
        return {
            "name": name,
            "platforms": platforms,
            "enabled": enabled,
            "interpreter": interpreter,
            "flags": flags,
            **values,
            **answer,
        }

    def test_handlers_and_platforms(self):
        found = _binfmt_info.run({"verify": True}, False, self.RUNNER)
        assert found == {
            "mounted": True,
            "handlers": [
                self.shown("jar", [], "/usr/bin/jexec", ""),
                self.shown(
                    *("qemu-aarch64", ["linux/arm64"], "/usr/bin/qemu-aarch64", "POCF"),
                    works=True,
                    qemu_version="10.0.4",
                ),
                self.shown(
                    *("qemu-arm", ["linux/arm/v7", "linux/arm/v6"], "/usr/bin/qemu-arm", "POCF"),
                    works=False,
                    problem="Exec format error",
                ),
            ],
            "native": ["linux/386", "linux/amd64"],
            "platforms": ["linux/386", "linux/amd64", "linux/arm64"],
        }

    def test_without_verify_no_handler_is_tried(self):
        found = _binfmt_info.run({"verify": False}, False, self.RUNNER)
        assert [handler["works"] for handler in found["handlers"]] == [None] * 3
        assert found["platforms"] == ["linux/386", "linux/amd64", "linux/arm/v6", "linux/arm/v7", "linux/arm64"]

    def test_a_switch_for_all(self, kernel):
        (kernel / "status").write_text("disabled\n")
        found = _binfmt_info.run({"verify": False}, False, self.RUNNER)
        assert [handler["enabled"] for handler in found["handlers"]] == [False] * 3
        assert found["platforms"] == ["linux/386", "linux/amd64"]


class TestSteps:
    """What each step does to the host."""

    def host(self, rc=0):
        self.ran = []

        def runner(argv, timeout=None, **_options):
            self.ran.append(list(argv))
            return Result(tuple(argv), rc, "", "not permitted")

        return Host("node1", None, runner)

    def test_mounting(self):
        mount = ["mount", "-t", "binfmt_misc", "binfmt_misc", ROOT]
        assert Mount().action == mount
        Mount().apply(self.host())
        assert self.ran == [mount]
        with pytest.raises(CommandError, match=r"node1: mount .* failed; the kernel may have no binfmt_misc"):
            Mount().apply(self.host(1))

    @pytest.mark.parametrize(
        ("step", "file", "written"),
        [
            (enable_all(), "status", b"1"),
            (unregister("qemu-arm"), "qemu-arm", b"-1"),
            (register(":x:M::y::/i:F"), "register", b":x:M::y::/i:F"),
        ],
    )
    def test_writing_to_the_kernel(self, tmp_path, monkeypatch, step, file, written):
        monkeypatch.setattr(_binfmt, "ROOT", str(tmp_path))
        assert step.action == ["write", str(tmp_path / file), written.decode()]
        step.apply(self.host())
        assert (tmp_path / file).read_bytes() == written
        (tmp_path / file).unlink()
        (tmp_path / file).mkdir()
        hint = "is its interpreter installed" if file == "register" else "a container needs to be privileged"
        with pytest.raises(FarmError, match=rf"node1: .*/{file} could not be changed: Is a directory; .*{hint}"):
            step.apply(self.host())

    def test_the_kernel_gets_a_value_at_once(self, tmp_path, monkeypatch):
        """It takes what one call writes for a whole rule."""
        monkeypatch.setattr(_binfmt, "ROOT", str(tmp_path))
        opened, real = [], builtins.open

        def noting(path, mode, buffering):
            opened.append((path, mode, buffering))
            return real(path, mode, buffering)

        monkeypatch.setattr(builtins, "open", noting)
        enable_all().apply(self.host())
        assert opened == [(str(tmp_path / "status"), "wb", 0)]

    @pytest.mark.parametrize(("before", "after"), [(None, "new"), ("old", "new"), ("old", None)])
    def test_files_and_back(self, tmp_path, before, after):
        path = tmp_path / "binfmt.d" / "x.conf"
        if before:
            path.parent.mkdir()
            path.write_text(before)
        step = ChangeFile(str(path), before, after)
        assert step.action == ["remove" if after is None else "write", str(path)]
        step.apply(self.host())
        assert (path.read_text() if path.exists() else None) == after
        step.revert(self.host())
        assert (path.read_text() if path.exists() else None) == before

    def test_removing_a_file_makes_no_directory(self, tmp_path):
        ChangeFile(str(tmp_path / "a/b"), None, None).apply(self.host())
        assert not (tmp_path / "a").exists()

    @pytest.mark.parametrize(("verb", "reason"), [("restart", ": docker: no such host"), ("enable", "")])
    def test_systemctl_that_fails(self, verb, reason):
        def runner(argv, timeout=None):
            if argv[0] == "journalctl":
                assert argv[-3:] == ["--unit", UNIT, "--identifier=docker"]
                return Result(tuple(argv), 0, "Unable to find image\ndocker: no such host\n", "")
            return Result(tuple(argv), 1, "", "Job failed")

        with pytest.raises(CommandError) as caught:
            Systemctl((verb, UNIT)).apply(Host("node1", None, runner))
        assert caught.value.message == f"node1: systemctl {verb} {UNIT} failed{reason}: Job failed"


class EngineThatRefuses(EngineOfHost):
    """An engine that answers some requests otherwise than others do."""

    def __init__(self, **refused):
        super().__init__()
        self.refused = refused

    def answer(self, method, path, query, body, headers):
        word = path.rpartition("/")[2]
        return self.refused.get(word) or super().answer(method, path, query, body, headers)


@pytest.mark.parametrize(
    ("refused", "message"),
    [
        ({"create": (500, {"message": "no space left"})}, r"did not take the programs that test it: no space left"),
        ({"create": (500, b"")}, "did not take the programs that test it: it answered with HTTP 500"),
        ({"wait": (500, {"message": "gone"})}, "did not report how a container ended: gone"),
        ({"logs": (501, b"not with this log driver")}, "did not report how a container ended: not with this log"),
        ({"info": (200, b"[]")}, r"the engine on amd1 has to run: \[\]"),
        ({"info": (200, b"no JSON")}, "has to run: no JSON"),
        ({"info": (503, b"")}, "has to run: it did not answer"),
    ],
)
def test_engines_that_refuse(tmp_path, refused, message):
    engine = EngineThatRefuses(**refused)
    with serving(engine) as url, pytest.raises(FarmError, match=message):
        at = Engine(exec_format_error, "amd1", url, tmp_path, ["docker"])
        at.info()
        remote.probe_all(at, ["arm64"])


def test_a_container_that_is_not_created_was_not_run(tmp_path):
    engine = EngineThatRefuses(create=(409, {"message": "conflict"}))
    with serving(engine) as url:
        ended = Engine(exec_format_error, "amd1", url, tmp_path, ["docker"]).run("x", ["y", "z"])
    assert ended == Result(("y", "z"), 125, "", "conflict")


def test_what_the_engine_runs_without_qemu_is_native(tmp_path):
    """The processor runs 32-bit programs, which the architecture's name does not tell."""
    engine = EngineOfHost(["qemu-arm"], Architecture="aarch64")
    run_there = engine.run
    engine.run = lambda spec: (42, "", "") if spec["Cmd"][0].endswith("exit-arm") else run_there(spec)
    with serving(engine) as url:
        at = Engine(exec_format_error, "amd1", url, tmp_path, ["docker"])
        found = remote.read_state(declared("arm", "arm64", "s390x", endpoint="amd1", persistent=None), at)
    assert {str(platform): status.text for platform, status in found.statuses.items()} == {
        "linux/arm/v7": NATIVE,
        "linux/arm64": NATIVE,
        "linux/s390x": "not run there: a s390x program exited with 255 instead of 42: exec /exit: exec format error",
    }


def test_output_of_containers_in_frames():
    def frame(number, text):
        return bytes([number, 0, 0, 0]) + len(text).to_bytes(4, "big") + text

    logs = frame(1, b"a") + frame(2, b"err") + frame(1, b"b" * 300) + frame(1, b"")
    assert _streams(logs) == ("a" + "b" * 300, "err")
    # An empty frame at the end, and one that was cut off.
    assert _streams(frame(2, b"")) == ("", "")
    assert _streams(b"") == ("", "")
    assert _streams(frame(1, b"abc")[:-1]) == ("ab", "")
    assert _streams(b"1234567") == ("", "")
