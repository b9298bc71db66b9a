# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an image starts, found by the files that an engine shows; the images are dictionaries of the tests."""

from __future__ import annotations

import io
import struct
import tarfile

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._image.check import _read_file
from ansible_collections.buildfarm.multiarch.plugins.module_utils._image.programs import (
    File,
    Start,
    _called_by_env,
    examine,
)
from ansible_collections.buildfarm.multiarch.plugins.module_utils._platform.elf import arch_of, loader_of, program
from ansible_collections.buildfarm.multiarch.plugins.module_utils._platform.platform import Platform

ARM64 = "linux/arm64"
BIN = {"/bin/sh": "arm64", "/usr/bin/env": "arm64"}


def elf(arch, loader="", at=None):
    """A program, with a segment that names its loader where it has one, as linkers write it."""
    data = program(arch)
    if not loader:
        return data
    order, wide = ">" if data[5] == 2 else "<", data[4] == 2
    header, segment = (64, 56) if wide else (52, 32)
    path = loader.encode() + b"\0"
    at = at or header + 2 * segment
    if wide:
        named = struct.pack(order + "II6Q", 3, 4, at, at, at, len(path), len(path), 1)
    else:
        named = struct.pack(order + "8I", 3, at, at, at, len(path), len(path), 4, 1)
    count = struct.pack(order + "H", 2)
    count_at = 56 if wide else 44
    whole = data[:count_at] + count + data[count_at + 2 : header] + named + data[header : header + segment]
    return whole.ljust(at, b"\0") + path


def shown(what):
    """A file: text is an architecture's program or, from a # on, a script; a tuple is a link."""
    if isinstance(what, tuple):
        return File("link", target=what[0])
    if isinstance(what, File):
        return what
    content = what if isinstance(what, bytes) else what.encode() if what.startswith("#") else program(what)
    return File("file", 0o755, head=content)


def found(files, *argv, platform=ARM64, **start):
    """The programs' paths, and what is wrong."""
    asked = []

    def look(path, size):
        asked.append(path)
        file = shown(files[path]) if path in files else None
        return file and File(file.kind, file.mode, file.target, file.head[:size])

    findings = examine(Start(*argv, **start), Platform.parse(platform), look)
    assert len(asked) < 40
    return [one.path for one in findings.programs], findings.problem


@pytest.mark.parametrize(
    ("files", "name", "paths"),
    [
        ({"/app": "arm64"}, "/app", ["/app"]),
        # By PATH in its order: what cannot be executed there is passed over.
        ({"/b/app": "arm64", "/a/app": File("file", 0o644, head=b"x")}, "app", ["/b/app"]),
        ({"/b/app": "arm64", "/a/app": File("other")}, "app", ["/b/app"]),
        ({"/srv/rel/app": "arm64"}, "app", ["/srv/rel/app"]),
        ({"/srv/bin/app": "arm64"}, "bin/app", ["/srv/bin/app"]),
        ({"/srv/app": "arm64"}, "./app", ["/srv/app"]),
        ({"/srv/../app": "arm64"}, "../app", ["/srv/../app"]),
        ({"/app": ("/opt/app",), "/opt/app": "arm64"}, "/app", ["/opt/app"]),
        # Scripts, as the kernel and env read their first line.
        ({**BIN, "/app": "#!/bin/sh -e\nexit"}, "/app", ["/app", "/bin/sh"]),
        ({**BIN, "/app": "#! \t/bin/sh"}, "/app", ["/app", "/bin/sh"]),
        ({"/app": "#!sh\n", "/srv/sh": "arm64"}, "/app", ["/app", "/srv/sh"]),
        ({**BIN, "/app": "#!/usr/bin/env x\n", "/b/x": "arm64"}, "/app", ["/app", "/usr/bin/env", "/b/x"]),
        ({**BIN, "/app": "#!/usr/bin/env -S A=1 x -u\n", "/b/x": "arm64"}, "/app", ["/app", "/usr/bin/env", "/b/x"]),
        ({**BIN, "/app": "#!/usr/bin/env -Sx -u\n", "/b/x": "arm64"}, "/app", ["/app", "/usr/bin/env", "/b/x"]),
        ({**BIN, "/app": "#!/usr/bin/env -i x\n"}, "/app", ["/app", "/usr/bin/env"]),
        ({**BIN, "/app": "#!/usr/bin/env\n"}, "/app", ["/app", "/usr/bin/env"]),
        ({**BIN, "/app": "#!/one\n", "/one": "#!/bin/sh\n"}, "/app", ["/app", "/one", "/bin/sh"]),
        ({"/app": elf("arm64", "/lib/ld.so"), "/lib/ld.so": "arm64"}, "/app", ["/app", "/lib/ld.so"]),
        ({"/app": elf("arm64", "/lib/ld.so", 9000), "/lib/ld.so": "arm64"}, "/app", ["/app", "/lib/ld.so"]),
        ({"/app": elf("arm64", "/app")}, "/app", ["/app"]),
        # What they are for cannot be told.
        ({"/app": b"\0asm\1\0\0\0"}, "/app", ["/app"]),
        ({"/app": b"MZ\0\0"}, "/app", ["/app"]),
    ],
)
def test_what_is_started(files, name, paths):
    assert found(files, name, path="/a:rel:/b:", directory="/srv") == (paths, None)


WANTED = "; wanted arm64: build or copy it for each platform"


@pytest.mark.parametrize(
    ("files", "name", "complaint"),
    [
        ({"/app": "amd64"}, "/app", f"'/app' is a program for amd64{WANTED}"),
        ({"/bin/app": ("/x",), "/x": "amd64"}, "/bin/app", f"'/x' (as '/bin/app') is a program for amd64{WANTED}"),
        ({"/bin/app": ("/x",), "/x": "amd64"}, "app", f"'/x' is a program for amd64{WANTED}"),
        ({"/app": "#!/x", "/x": "386"}, "/app", f"'/x', the interpreter of '/app' is a program for 386{WANTED}"),
        (
            {"/app": elf("arm64", "/ld"), "/ld": "arm"},
            "/app",
            f"'/ld', the loader of '/app' is a program for arm{WANTED}",
        ),
        (
            {"/app": "#!/usr/bin/env x", "/usr/bin/env": "riscv64", "/bin/x": "ppc64le"},
            "/app",
            "'/usr/bin/env'{0} riscv64; '/bin/x'{0} ppc64le{1}".format(
                ", the interpreter of '/app' is a program for", WANTED
            ),
        ),
        ({}, "/app", "'/app' is missing in the image"),
        ({}, "app", "'app' is missing in the image, searched in its PATH /usr/local/sbin:/usr/local/bin:/usr/sbin:"),
        ({"/app": ("/gone",)}, "/app", "'/app' is missing in the image"),
        ({"/app": "#!/gone\r\n"}, "/app", "'/gone\\r', the interpreter of '/app' is missing in the image"),
        (
            {"/app": "#!/usr/bin/env x"},
            "/app",
            "'/usr/bin/env', the interpreter of '/app' is missing in the image; 'x', ",
        ),
        ({"/app": elf("arm64", "/ld")}, "/app", "'/ld', the loader of '/app' is missing in the image"),
        ({"/app": "#!\n"}, "/app", "'/app' names no interpreter after #!"),
        ({"/app": b""}, "/app", "'/app' is an empty file"),
        ({"/app": b"echo hello\n"}, "/app", "'/app' is a text without the #! line"),
        ({"/app": File("other")}, "/app", "'/app' is no file and cannot be executed"),
        ({"/app": File("file", 0o640, head=b"#!/x")}, "/app", "'/app' has mode 0640 and cannot be executed"),
        (
            {f"/{at}": f"#!/{at + 1}\n" for at in range(9)},
            "/0",
            "'/5' is the interpreter of too many scripts to be one itself",
        ),
    ],
)
def test_what_is_wrong(files, name, complaint):
    assert (found(files, name)[1] or "").startswith(complaint)


@pytest.mark.parametrize(
    ("what", "paths", "wrong"),
    [
        ("amd64", ["/init", "/app"], True),
        ("arm64", ["/init", "/app"], False),
        # An argument may be a file without being a program.
        (b"data", ["/init"], False),
        (b"", ["/init"], False),
        (File("other"), ["/init"], False),
        ("#!/gone", ["/init", "/app"], False),
        ("#!/x", ["/init", "/app", "/x"], True),
        (None, ["/init"], False),
    ],
)
def test_the_command_after_an_entrypoint_may_be_anything(what, paths, wrong):
    files = {"/init": "arm64", "/x": "amd64", **({"/app": what} if what is not None else {})}
    found_paths, complaint = found(files, "/init", "/app")
    assert (found_paths, bool(complaint)) == (paths, wrong)
    assert found({"/init": "arm64"}, "/init", "--help") == (["/init"], None)


@pytest.mark.parametrize(
    ("platform", "arch", "right"),
    [
        ("linux/amd64", "386", True),
        ("linux/386", "amd64", False),
        ("linux/amd64/v3", "amd64", True),
        ("linux/arm64", "arm", False),
        ("linux/arm/v6", "arm", True),
        ("linux/arm/v5", "arm", True),
        ("linux/arm/v7", "arm64", False),
        ("linux/mips64le", "mips64", False),
        ("linux/s390x", "s390x", True),
    ],
)
def test_which_programs_a_platform_may_have(platform, arch, right):
    assert (found({"/app": arch}, "/app", platform=platform)[1] is None) == right


def test_architectures_without_a_program_of_ours_are_known_and_others_are_wrong():
    def header(bits, order, number):
        return (
            b"\x7fELF"
            + bytes([bits // 32, 1 if order == "<" else 2, 1]).ljust(12, b"\0")
            + struct.pack(order + "HH", 2, number)
        )

    assert [arch_of(header(*one)) for one in ((32, ">", 8), (32, "<", 8), (64, ">", 21))] == ["mips", "mipsle", "ppc64"]
    assert found({"/app": header(64, ">", 21)}, "/app", platform="linux/ppc64") == (["/app"], None)
    # x32, and arm with its bytes in the other order.
    for odd in (header(32, "<", 62), header(32, ">", 40)):
        for platform in ("linux/amd64", "linux/arm/v7"):
            assert "is a program for an unknown architecture" in found({"/app": odd}, "/app", platform=platform)[1]


@pytest.mark.parametrize("arch", ["arm64", "s390x", "arm", "386", "mips64"])
def test_the_loader_is_found_in_all_forms_of_elf(arch):
    head = elf(arch, "/lib/ld.so.1")
    offset, size = loader_of(head)
    assert head[offset : offset + size] == b"/lib/ld.so.1\0"
    assert loader_of(program(arch)) is None
    assert loader_of(head[:60]) is None


@pytest.mark.parametrize(
    ("config", "start"),
    [
        ({"Cmd": ["a", "b"]}, Start("p")),
        ({"Entrypoint": ["p", "x"], "Cmd": ["a", "b"], "WorkingDir": "/w"}, Start("p", "a", directory="/w")),
        ({"Entrypoint": ["p"], "Cmd": None, "Env": ["A=1", "PATH=/x", "B"]}, Start("p", path="/x")),
        ({"Entrypoint": [], "Cmd": ["p"], "Env": ["PATH="]}, Start("p", path="")),
    ],
)
def test_how_an_engine_describes_it(config, start):
    assert Start.of({"Path": "p", "Args": ["?"], "Config": config}) == start


class Engine:
    """Gives a file's archive in chunks, as the SDK's client does; the whole of a large file would never end."""

    def __init__(self, archive, target="", endless=False):
        self.api, self._archive, self._target, self._endless = self, archive, target, endless
        self.closed = False

    def get_archive(self, container, path, chunk_size):
        def chunks():
            try:
                for at in range(0, len(self._archive), 700):
                    yield self._archive[at : at + 700]
                while self._endless:
                    yield bytes(700)
            finally:
                self.closed = True

        return chunks(), {"linkTarget": self._target}


def archive(content=b"", mode=0o755, kind=tarfile.REGTYPE, size=None):
    entry = tarfile.TarInfo("app")
    entry.mode, entry.type, entry.size = mode, kind, len(content) if size is None else size
    # As Docker writes times.
    entry.pax_headers = {"mtime": "1700000000.5"}
    entry.linkname = "raw" if kind == tarfile.SYMTYPE else ""
    packed = io.BytesIO()
    packed.write(entry.tobuf(tarfile.PAX_FORMAT))
    packed.write(content)
    return packed.getvalue()


def test_only_the_beginning_of_a_file_is_transferred():
    engine = Engine(archive(b"0123456789", 0o4711, size=1 << 40), endless=True)
    assert _read_file(engine, "c", "/app", 4) == File("file", 0o711, head=b"0123")
    assert engine.closed


@pytest.mark.parametrize(
    ("engine", "file"),
    [
        (Engine(archive()), File("file", 0o755)),
        (Engine(archive(kind=tarfile.SYMTYPE), "/end/of/it"), File("link", target="/end/of/it")),
        (Engine(archive(kind=tarfile.DIRTYPE), endless=True), File("other")),
    ],
)
def test_files_links_and_directories(engine, file):
    assert _read_file(engine, "c", "/app", 4) == file


def test_loaders_of_loaders_are_followed_five_times():
    """Each names the next one; a loop must end too."""
    files = {f"/ld{number}": elf("arm64", f"/ld{number + 1}") for number in range(9)}
    assert found(files, "/ld0")[0] == [f"/ld{number}" for number in range(6)]
    assert found({"/a": elf("arm64", "/b"), "/b": elf("arm64", "/a")}, "/a") == (["/a", "/b"], None)
    # One that names none is the end.
    assert found({"/a": elf("arm64", "/b"), "/b": "arm64"}, "/a") == (["/a", "/b"], None)
    assert found({"/a": elf("arm64", "")}, "/a") == (["/a"], None)


@pytest.mark.parametrize(
    ("arguments", "called"),
    [
        ("python3", "python3"),
        ("-S python3 -u", "python3"),
        ("--split-string python3 -u", "python3"),
        ("-Spython3 -u", "python3"),
        ("A=1 python3", "python3"),
        ("-S A=1 python3", "python3"),
        ("-i python3", None),
        ("", None),
        ("-S", None),
    ],
)
def test_what_env_starts(arguments, called):
    assert _called_by_env(arguments) == called
