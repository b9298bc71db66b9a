# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Handlers: reading the kernel's entries, judging them, and the steps to the declared ones."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils import _binfmt, _binfmt_apply, _smoke_test
from ansible_collections.buildfarm.multiarch.plugins.module_utils._binfmt import (
    MISSING,
    NATIVE,
    REGISTERED,
    WORKS,
    Handler,
    Registry,
    judge,
    read_platforms,
)
from ansible_collections.buildfarm.multiarch.plugins.module_utils._binfmt_apply import Declared, Found, plan
from ansible_collections.buildfarm.multiarch.plugins.module_utils._errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._platforms import Platform
from ansible_collections.buildfarm.multiarch.plugins.module_utils._runner import CommandError, Result, run

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
    assert hashlib.sha256(_smoke_test.program(arch)).hexdigest()[:16] == PROGRAMS[arch]


def test_a_native_program_runs_and_names_no_qemu():
    native = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine)
    if native is None:
        pytest.skip(f"no program for {os.uname().machine}")
    assert _smoke_test.problem(native, run) is None
    assert _smoke_test.qemu_version(native, run) is None


@pytest.mark.parametrize(
    ("rc", "stderr", "problem"),
    [
        (42, "", None),
        (0, "", "a arm64 program exited with 0 instead of 42"),
        (-11, "qemu: uncaught target signal 11", "was ended by signal 11: qemu: uncaught target signal 11"),
    ],
)
def test_only_the_right_exit_status_counts(rc, stderr, problem):
    found = _smoke_test.problem("arm64", lambda argv, **options: Result(tuple(argv), rc, "", stderr))
    assert found == problem or (problem is not None and problem in str(found))


def exec_format_error(argv, **options):
    raise CommandError("could not be started", Result(tuple(argv), 127, "", "Exec format error"))


def test_a_program_that_cannot_be_started():
    assert _smoke_test.problem("arm64", exec_format_error) == "Exec format error"


def test_no_directory_allows_programs(monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(FarmError, match="set smoke_test: false"):
        _smoke_test.problem("arm64", run)


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
    assert Registry.read() == Registry(False)
    for name, text in (("status", "enabled\n"), ("qemu-aarch64", IMAGES), ("jar", "enabled\ninterpreter /j\n")):
        (tmp_path / name).write_text(text)
    (tmp_path / "register").mkdir()  # cannot be read, like the kernel's
    found = Registry.read()
    assert (found.mounted, found.enabled, list(found.handlers)) == (True, True, ["jar", "qemu-aarch64"])
    assert found.serving("arm64") == [Handler.parse("qemu-aarch64", IMAGES)]


def host(**handlers):
    """A registry with these handlers, by architecture."""
    parsed = {_binfmt.ENTRIES[arch]: Handler.parse(_binfmt.ENTRIES[arch], text) for arch, text in handlers.items()}
    return Registry(True, True, parsed)


OTHERS = {
    name: Handler.parse(name, text) for name, text in (("a-aarch64", IMAGES.replace("F", "")), ("b-aarch64", IMAGES))
}


def programs(rc=42, version=""):
    return lambda argv, env=None, **options: Result(tuple(argv), rc, version if env else "", "")


QEMU_7 = programs(version="qemu-aarch64 version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)\nCopyright\n")


@pytest.mark.parametrize(
    ("registry", "runner", "options", "verdict"),
    [
        (host(arm64=IMAGES), programs(), {}, WORKS),
        (host(arm64=DEBIANS), programs(), {}, WORKS),
        (host(arm64=IMAGES), exec_format_error, {"smoke_test": False}, REGISTERED),
        (host(), exec_format_error, {}, MISSING),
        (Registry(False), exec_format_error, {}, MISSING),
        # The processor runs it although its architecture has another name.
        (host(), programs(), {}, NATIVE),
        (host(arm64=IMAGES.replace("enabled", "disabled")), programs(), {}, "disabled"),
        (dataclasses.replace(host(arm64=IMAGES), enabled=False), programs(), {}, "disabled"),
        (host(arm64=IMAGES.replace("POCF", "POC")), programs(), {}, "flags POC, wanted F"),
        (host(arm64=IMAGES.replace("b700", "1600")), exec_format_error, {}, MISSING),
        # Under another name, beside one that containers cannot use.
        (Registry(True, True, OTHERS), programs(), {}, WORKS),
        (host(arm64=IMAGES), programs(rc=-11), {}, "registered, but does not work: .* signal 11"),
        (host(arm64=IMAGES), QEMU_7, {"qemu_version": "7.2.22"}, WORKS),
        (host(arm64=IMAGES), QEMU_7, {"qemu_version": "7.2"}, WORKS),
        (host(arm64=IMAGES), QEMU_7, {"qemu_version": "7"}, WORKS),
        (host(arm64=IMAGES), QEMU_7, {"qemu_version": "7.2.2"}, "QEMU 7.2.22, wanted 7.2.2"),
        (host(arm64=IMAGES), programs(), {"qemu_version": "7"}, "QEMU of an unknown version, wanted 7"),
    ],
)
def test_verdicts(registry, runner, options, verdict):
    found = judge(ARM64, registry, AMD64, runner, **{"smoke_test": True, **options})
    if verdict in (WORKS, REGISTERED, MISSING, NATIVE):
        assert found == verdict
    else:
        assert re.search(verdict, found)


@pytest.mark.parametrize("arch", _binfmt.ENTRIES)
def test_a_handler_is_known_by_what_it_runs(arch):
    handler = Handler.parse("anything", IMAGES)
    assert handler.runs(arch) == (arch == "arm64")
    assert not Handler.parse("jar", "enabled\ninterpreter /j\nflags: \nextension .jar\n").runs(arch)


def test_the_own_architecture_needs_nothing():
    assert judge(Platform("linux", "386"), host(), AMD64, exec_format_error, True) == NATIVE


@pytest.mark.parametrize(
    ("texts", "platforms"),
    [
        (["arm64", "linux/arm64/v8"], ["linux/arm64"]),
        (["arm", "linux/arm/v6"], ["linux/arm/v7", "linux/arm/v6"]),
        (["aarch64", "x86_64"], ["linux/arm64", "linux/amd64"]),
    ],
)
def test_platforms_as_users_write_them(texts, platforms):
    assert [str(platform) for platform in read_platforms(texts)] == platforms


@pytest.mark.parametrize("text", ["windows/amd64", "linux/mips", "all", "--install"])
def test_platforms_without_a_handler(text):
    with pytest.raises(FarmError, match=r"no QEMU handler|unknown"):
        read_platforms([text])


def declared(*platforms, **options):
    params = {
        "state": "present",
        "platforms": list(platforms) or None,
        "image": "example/binfmt:1",
        "smoke_test": True,
        "persistent": False,
        "qemu_version": None,
        **options,
    }
    return Declared.from_params(params)


def found(want, registry, *verdicts, **fields):
    return Found(registry, dict(zip(want.platforms, verdicts)), **fields)


RUN = ["docker", "run", "--rm", "--privileged", "--network", "none", "example/binfmt:1"]
ROOT = "/proc/sys/fs/binfmt_misc"
UNIT = "buildfarm-binfmt.service"
UNIT_STEPS = [["systemctl", "daemon-reload"], ["systemctl", "restart", UNIT], ["systemctl", "enable", UNIT]]
WRITE_UNIT = ["write", f"/etc/systemd/system/{UNIT}"]


def unit(*architectures, image="example/binfmt:1"):
    return _binfmt_apply.unit_text(image, architectures)


@pytest.mark.parametrize(
    ("want", "registry", "verdicts", "actions"),
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
            Registry(False),
            (MISSING,),
            [["mount", "-t", "binfmt_misc", "binfmt_misc", ROOT], [*RUN, "--install", "arm64"]],
        ),
        (
            declared("arm64"),
            Registry(True, False),
            (MISSING,),
            [["write", f"{ROOT}/status", "1"], [*RUN, "--install", "arm64"]],
        ),
        (
            declared("arm64", "s390x", state="absent"),
            host(arm64=IMAGES),
            (REGISTERED, MISSING),
            [["write", f"{ROOT}/qemu-aarch64", "-1"]],
        ),
        (declared(state="absent"), host(arm64=IMAGES), (), [["write", f"{ROOT}/qemu-aarch64", "-1"]]),
        (declared(state="absent"), Registry(False), (), []),
    ],
)
def test_steps(want, registry, verdicts, actions):
    assert [list(action) for action in plan(want, found(want, registry, *verdicts)).actions] == actions


@pytest.mark.parametrize(
    ("want", "text", "enabled", "actions", "kept"),
    [
        (declared("arm64", persistent=True), None, False, [WRITE_UNIT, *UNIT_STEPS], ("arm64",)),
        (declared("arm64", persistent=True), unit("arm64"), True, [], ("arm64",)),
        (declared("arm64", persistent=True), unit("arm64"), False, UNIT_STEPS, ("arm64",)),
        # Another task's platforms stay.
        (declared("arm64", persistent=True), unit("s390x"), True, [WRITE_UNIT, *UNIT_STEPS], ("arm64", "s390x")),
        (declared("arm64", persistent=True), unit("arm64", image="old:1"), True, [WRITE_UNIT, *UNIT_STEPS], ("arm64",)),
        (declared("arm64"), unit("arm64", "s390x"), True, [WRITE_UNIT, *UNIT_STEPS], ("s390x",)),
        (
            declared("arm64"),
            unit("arm64"),
            True,
            [["systemctl", "disable", "--now", UNIT], ["remove", WRITE_UNIT[1]], UNIT_STEPS[0]],
            (),
        ),
    ],
)
def test_what_is_registered_at_boot(want, text, enabled, actions, kept):
    steps = plan(want, found(want, host(arm64=IMAGES), WORKS, unit=text, enabled=enabled))
    assert [list(action) for action in steps.actions] == actions
    assert steps.kept == kept


def test_handlers_of_the_hosts_packages_are_left_to_them():
    want = declared("arm64", "amd64", persistent=True)
    at_boot = {"qemu-aarch64": "/usr/lib/binfmt.d/qemu-aarch64.conf"}
    good = plan(want, found(want, host(arm64=DEBIANS), WORKS, NATIVE, at_boot=at_boot))
    assert (good.actions, good.warnings) == ((), ())
    broken = plan(want, found(want, host(arm64=DEBIANS), "disabled", NATIVE, at_boot=at_boot))
    assert "at each boot; remove the package" in broken.warnings[0]


def test_what_the_host_registers_by_itself(tmp_path):
    (tmp_path / "qemu.conf").write_text("# comment\n:qemu-aarch64:M::magic:mask:/usr/bin/q:PF\n:jar:E::jar::/j:\n")
    (tmp_path / "binfmts").mkdir()
    (tmp_path / "binfmts/qemu-arm").write_text("package qemu-user-static\n")
    patterns = [f"{tmp_path}/*.conf", f"{tmp_path}/binfmts/*"]
    assert sorted(_binfmt_apply.registered_by_host(patterns)) == ["jar", "qemu-aarch64", "qemu-arm"]


def test_the_boot_unit_is_read_back():
    assert _binfmt_apply.unit_settings(unit("arm64", "s390x")) == ("example/binfmt:1", ("arm64", "s390x"))
    assert _binfmt_apply.unit_settings(None) == ("", ())


@pytest.mark.parametrize("image", ["--privileged", "a b", ""])
def test_image_names_that_would_be_options(image):
    with pytest.raises(FarmError, match="wanted the name of an image"):
        declared("arm64", image=image)


class TestApplying:
    """The image's exit status says nothing; the kernel's files do."""

    @pytest.fixture
    def kernel(self, tmp_path, monkeypatch):
        """A binfmt_misc of the test's own."""
        (tmp_path / "status").write_text("enabled\n")
        monkeypatch.setattr(_binfmt, "ROOT", str(tmp_path))
        monkeypatch.setattr(_binfmt_apply, "native_platform", lambda machine: AMD64)
        monkeypatch.setattr(_binfmt_apply, "UNIT_PATH", str(tmp_path / "none.service"))
        monkeypatch.setattr(_binfmt_apply, "registered_by_host", dict)
        return tmp_path

    def params(self, **options):
        return {
            "state": "present",
            "platforms": ["arm64"],
            "image": "example/binfmt:1",
            "smoke_test": True,
            "persistent": False,
            "qemu_version": None,
            **options,
        }

    def runner(self, kernel, registers, rc=0):
        def run_it(argv, **options):
            if argv[0] != "docker":
                return Result(tuple(argv), 42 if (kernel / "qemu-aarch64").exists() else 1, "", "")
            if registers:
                (kernel / "qemu-aarch64").write_text(IMAGES)
            return Result(tuple(argv), rc, '{"supported":["linux/amd64"]}', "installing: arm64 no such file\n")

        return run_it

    def test_an_image_that_registers_it(self, kernel):
        outcome = _binfmt_apply.logic(self.params(), False, self.runner(kernel, True))
        assert outcome.changed
        assert (outcome.before["linux/arm64"], outcome.after["linux/arm64"]) == (MISSING, WORKS)
        assert outcome.values == {"native": [], "emulated": ["linux/arm64"]}
        assert not _binfmt_apply.logic(self.params(), False, self.runner(kernel, True)).changed

    def test_check_mode_says_the_same_and_runs_nothing(self, kernel):
        predicted = _binfmt_apply.logic(self.params(), True, self.runner(kernel, True))
        assert not (kernel / "qemu-aarch64").exists()
        assert predicted == _binfmt_apply.logic(self.params(), False, self.runner(kernel, True))

    def test_an_image_that_exits_with_0_and_did_nothing(self, kernel):
        with pytest.raises(FarmError, match=r"linux/arm64 is missing; .* said: installing: arm64 no such file"):
            _binfmt_apply.logic(self.params(), False, self.runner(kernel, False))

    def test_an_engine_that_does_not_run(self, kernel):
        with pytest.raises(FarmError, match=r"the engine on .* has to run"):
            _binfmt_apply.logic(self.params(), False, self.runner(kernel, False, rc=125))
