# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether the programs that an image starts are its platform's, by their files: nothing is started.

An engine's own processor, or QEMU, may well run a program that the users of the platform cannot.

Sources: execve(2) and elf(5); runc's ``libcontainer``, which searches for a program in the PATH and the working
directory of the container; moby's ``daemon/container``, which has a PATH for images without one.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from typing import Any, Callable, List, Mapping, Optional, Set, Tuple

from .._core.errors import FarmError
from .._platform.elf import arch_of, loader_of
from .._platform.platform import Platform, runs_natively

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: Bytes: ELF's headers, and with rare exceptions the loader's path; the kernel reads 256 of a script.
_HEAD = 4096
#: Bytes; a loader whose path stands behind that is not read.
_FARTHEST = 1 << 24
#: The kernel's limit for interpreters that are scripts themselves.
_NESTED = 5


@dataclass(frozen=True)
class File:
    """What an image has at a path.

    :ivar kind: ``file``, ``link`` or ``other``.
    :ivar mode: permissions.
    :ivar target: where a link ends, all links on the way followed.
    :ivar head: how a file begins.
    """

    kind: str
    mode: int = 0
    target: str = ""
    head: bytes = b""

    @property
    def is_program(self) -> bool:
        """Whether it may be executed."""
        return self.kind == "file" and bool(self.mode & 0o111)


#: Returns what is at an absolute path, with that many bytes of a file; None where there is nothing.
ReadFile = Callable[[str, int], Optional[File]]


@dataclass(frozen=True)
class Start:
    """How a container starts.

    :ivar program: the entrypoint's first word; the command's where there is no entrypoint.
    :ivar argument: the command's first word where there is an entrypoint.
    """

    program: str
    argument: Optional[str] = None
    path: str = _PATH
    directory: str = "/"

    @classmethod
    def of(cls, container: Mapping[str, Any]) -> Start:
        """Read it from an engine's description of a container that was created."""
        config = container["Config"]
        env = dict(text.partition("=")[::2] for text in config.get("Env") or ())
        argument = (config.get("Cmd") or [None])[0] if config.get("Entrypoint") else None
        return cls(container["Path"], argument, env.get("PATH", _PATH), config.get("WorkingDir") or "/")


@dataclass(frozen=True)
class Program:
    """A file that is executed when an image starts.

    :ivar path: in the image, links followed.
    :ivar arch: of an ELF file, None for a script and where it is unknown.
    """

    path: str
    arch: Optional[str]


@dataclass(frozen=True)
class Findings:
    """The programs, in the order in which they are needed.

    :ivar problem: what is wrong with them, None if nothing.
    """

    programs: Tuple[Program, ...] = ()
    problem: Optional[str] = None


def examine(start: Start, platform: Platform, read: ReadFile) -> Findings:
    """Examine the programs that start a container, with the interpreters of scripts and the loaders of ELF files.

    The command after an entrypoint may be no program at all. Only a file of another architecture is wrong there.
    """
    needed, given = _Examination(start, platform, read), _Examination(start, platform, read)
    needed.follow(start.program)
    if start.argument:
        given.follow(start.argument)
    foreign = list(dict.fromkeys((*needed.foreign, *given.foreign)))
    if foreign:
        foreign[-1] += f"; wanted {platform.arch}: build or copy it for each platform (Dockerfile: ARG TARGETARCH)"
    problem = "; ".join((*needed.wrong, *foreign))
    return Findings(tuple(dict.fromkeys((*needed.programs, *given.programs))), problem or None)


class _Examination:
    """Follows one program to all that it needs.

    :ivar foreign: which files are of another architecture.
    :ivar wrong: what else is wrong.
    """

    def __init__(self, start: Start, platform: Platform, read: ReadFile) -> None:
        self._start, self._platform, self._read = start, platform, read
        self._seen: Set[str] = set()
        self.programs: List[Program] = []
        self.foreign: List[str] = []
        self.wrong: List[str] = []

    def follow(self, name: str, role: str = "", depth: int = 0) -> None:
        """Examine a program and what it needs.

        :param role: what it is to another file, for messages.
        :param depth: how many interpreters led to it.
        """
        found = self._find(name)
        if found is None:
            where = "" if "/" in name else f", searched in its PATH {self._start.path}"
            self.wrong.append(f"{name!r}{role} is missing in the image{where}")
            return
        path, file = found
        if path in self._seen:
            return
        self._seen.add(path)
        shown = f"{path!r}{role}" + (f" (as {name!r})" if "/" in name and path != self._absolute(name) else "")
        problem = _problem(file)
        if problem:
            self.wrong.append(f"{shown} {problem}")
            return
        arch = arch_of(file.head)
        self.programs.append(Program(path, arch))
        if arch and not self._runs(arch):
            self.foreign.append(f"{shown} is a program for {arch}")
        elif arch:
            self._follow_loader(path, file.head, depth)
        elif file.head.startswith(b"#!"):
            self._follow_interpreter(path, file.head, depth)

    def _follow_loader(self, path: str, head: bytes, depth: int) -> None:
        span = loader_of(head)
        if span is None:
            return
        start, end = span[0], sum(span)
        if len(head) < end <= _FARTHEST:
            file = self._read(path, end)
            head = file.head if file else b""
        loader = head[start:end].rstrip(b"\0").decode(errors="replace")
        if loader and depth < _NESTED:
            self.follow(posixpath.join(".", loader), f", the loader of {path!r}", depth + 1)

    def _follow_interpreter(self, path: str, head: bytes, depth: int) -> None:
        line = head[2:].partition(b"\n")[0].decode(errors="replace").strip(" \t")
        interpreter, arguments = (*re.split("[ \t]+", line, maxsplit=1), "")[:2]
        if not interpreter:
            self.wrong.append(f"{path!r} names no interpreter after #!")
            return
        if depth == _NESTED:
            self.wrong.append(f"{path!r} is the interpreter of too many scripts to be one itself")
            return
        role = f", the interpreter of {path!r}"
        # Without a slash it is not searched in PATH but in the working directory.
        self.follow(posixpath.join(".", interpreter), role, depth + 1)
        called = _called_by_env(arguments) if posixpath.basename(interpreter) == "env" else None
        if called:
            self.follow(called, role, depth + 1)

    def _find(self, name: str) -> Optional[Tuple[str, File]]:
        """Return a program by its name as runc and env search for it, None where there is none."""
        if "/" in name:
            return self._at(self._absolute(name))
        for directory in self._start.path.split(":"):
            found = self._at(self._absolute(posixpath.join(directory or ".", name)))
            if found and found[1].is_program:
                return found
        return None

    def _absolute(self, name: str) -> str:
        path = posixpath.join("/", self._start.directory, name)
        # Behind a link .. leads to where only the engine knows.
        return path if ".." in path.split("/") else "/" + posixpath.normpath(path).lstrip("/")

    def _at(self, path: str) -> Optional[Tuple[str, File]]:
        """Return what is at a path, or at the end of the link there."""
        file = self._read(path, _HEAD)
        if file and file.kind == "link":
            path, file = file.target, self._read(file.target, _HEAD)
        return (path, file) if file and file.kind != "link" else None

    def _runs(self, arch: str) -> bool:
        try:
            return runs_natively(Platform.make(self._platform.os, arch), self._platform)
        except FarmError:
            return False


def _problem(file: File) -> Optional[str]:
    """Return why the kernel would not execute a file whatever its architecture, None where it would or may."""
    if not file.is_program:
        kind = f"has mode {file.mode:04o}" if file.kind == "file" else "is no file"
        return f"{kind} and cannot be executed"
    if not file.head:
        return "is an empty file"
    if b"\0" not in file.head and not file.head.startswith(b"#!"):
        return "is a text without the #! line that names its interpreter"
    return None


def _called_by_env(arguments: str) -> Optional[str]:
    """Return the program that env starts with the arguments of a ``#!`` line, None where these do not show it."""
    words = arguments.split()
    if words and words[0] in ("-S", "--split-string"):
        words = words[1:]
    elif words and words[0].startswith("-S"):
        words[0] = words[0][2:]
    words = [word for word in words if "=" not in word]
    return words[0] if words and not words[0].startswith("-") else None
