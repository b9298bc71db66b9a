# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What systemd has on disk about a unit, and what it runs."""

from __future__ import annotations

import glob
import itertools
import os
import re
import shlex
import time
from dataclasses import dataclass
from typing import Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple

from .._core.errors import FarmError
from .._core.files import read_bytes
from .._core.runner import Runner, checked

#: Where systemd searches for a unit, the first wins (systemd.unit(5), "Unit File Load Path"; without generated units).
UNIT_DIRECTORIES = (
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
)
_UNIT_NAME = re.compile(r"[A-Za-z0-9@._:-]+\Z")
_COMMAND_PREFIXES = "@-:+!"
#: A reference to a variable: a word of its own, or part of one with braces, which all others are.
_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}|^\$([A-Za-z_][A-Za-z0-9_]*)\Z|\$\$")
#: A part of a value in an environment file: in single quotes, in double quotes, or all up to the end of the line.
_PART = r"""[^\S\n]*(?:'([^']*)'?|"((?:\\.|[^"\\])*)"?|((?:\\.|[^\\\n])+))"""
_ASSIGNMENT = re.compile(rf"^[^\S\n]*([A-Za-z_][A-Za-z0-9_]*)[^\S\n]*=((?:{_PART})*)", re.DOTALL | re.MULTILINE)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)


def service_name(name: str) -> str:
    """Return a service's full unit name.

    :raises FarmError: it is no name that a unit can have.
    """
    if not _UNIT_NAME.match(name):
        raise FarmError(f"service {name!r}: wanted the name of a systemd service, as in docker")
    return name if name.endswith(".service") else name + ".service"


@dataclass(frozen=True)
class UnitFiles:
    """The files of a unit as they are on disk now, whatever systemd has loaded.

    :ivar drop_ins: in the order in which systemd applies them.
    """

    fragment: Optional[str]
    drop_ins: Tuple[str, ...]

    @classmethod
    def find(cls, unit: str, directories: Sequence[str] = UNIT_DIRECTORIES) -> UnitFiles:
        """Find a unit as systemd does: one fragment, and drop-ins sorted by name, the first directory winning."""
        fragments = [path for path in (os.path.join(base, unit) for base in directories) if os.path.exists(path)]
        by_name: Dict[str, str] = {}
        for directory in (os.path.join(base, unit + ".d") for base in directories):
            for name in os.listdir(directory) if os.path.isdir(directory) else ():
                if name.endswith(".conf"):
                    by_name.setdefault(name, os.path.join(directory, name))
        return cls(fragments[0] if fragments else None, tuple(by_name[name] for name in sorted(by_name)))

    def texts(self) -> Iterator[Tuple[str, str]]:
        """Yield (path, text) of the fragment and then of each drop-in."""
        for path in (self.fragment, *self.drop_ins):
            content = read_bytes(path) if path else None
            if path and content is not None:
                yield path, content.decode(errors="replace")


def _logical_lines(text: str) -> Iterator[str]:
    """Join continued lines and leave comments out, as systemd.syntax(7) has it."""
    pending = ""
    for raw in text.splitlines():
        line = raw.strip()
        if line[:1] in ("#", ";"):
            continue
        if line.endswith("\\"):
            pending += line[:-1] + " "
            continue
        yield pending + line
        pending = ""
    if pending:
        yield pending


def _settings(texts: Iterable[Tuple[str, str]], name: str) -> Iterator[Tuple[str, str]]:
    """Yield (path, value) of each time that a setting of section ``[Service]`` is made, exactly as written."""
    for path, text in texts:
        section = ""
        for line in _logical_lines(text):
            if line.startswith("["):
                section = line
                continue
            key, equals, value = line.partition("=")
            if section == "[Service]" and equals and key.strip() == name:
                yield path, value.strip()


def _listed(texts: Iterable[Tuple[str, str]], name: str) -> List[Tuple[str, str]]:
    """Return (path, value) of a setting that adds to a list; an empty value resets it."""
    found: List[Tuple[str, str]] = []
    for path, value in _settings(texts, name):
        found = [*found, (path, value)] if value else []
    return found


def exec_start(texts: Iterable[Tuple[str, str]]) -> Optional[Tuple[str, str]]:
    """Return the path and the last ``ExecStart=`` of a service, exactly as written; an empty one resets.

    :param texts: path and text of the fragment, then of the drop-ins in order.
    """
    commands = _listed(texts, "ExecStart")
    return commands[-1] if commands else None


@dataclass(frozen=True)
class Variable:
    """A variable of a service's environment.

    :ivar source: the file that sets it.
    """

    value: str
    source: str


def environment(texts: Sequence[Tuple[str, str]]) -> Dict[str, Variable]:
    """Return the variables that a service's files give it; those in an environment file win (systemd.exec(5)).

    This is what the service starts with the next time, whether it runs now or not. What else the manager passes on is
    not in these files.

    :param texts: path and text of the fragment, then of the drop-ins in order.
    :raises OSError: an environment file exists and cannot be read.
    """
    variables = {}
    for path, value in _listed(texts, "Environment"):
        for word in _split(value):
            name, equals, text = word.partition("=")
            if equals:
                variables[name] = Variable(text, path)
    for _path, value in _listed(texts, "EnvironmentFile"):
        for file in sorted(glob.glob(value.lstrip("-"))):
            text = (read_bytes(file) or b"").decode(errors="replace")
            variables.update((name, Variable(value, file)) for name, value in _assignments(text))
    return variables


def _assignments(text: str) -> Iterator[Tuple[str, str]]:
    """Yield what an environment file assigns, by the rules of systemd's ``parse_env_file_internal``."""
    for assignment in _ASSIGNMENT.finditer(text):
        yield assignment.group(1), "".join(map(_value, re.finditer(_PART, assignment.group(2), re.DOTALL)))


def _value(part: re.Match[str]) -> str:
    """Return a part of a value without its quotes and escapes; in double quotes a backslash may escape nothing."""
    single, double, plain = part.groups()
    if double is not None:
        return _ESCAPE.sub(lambda found: found.group(1 if found.group(1) in '"\\`$\n' else 0).strip("\n"), double)
    return single or _ESCAPE.sub(lambda found: found.group(1).strip("\n"), (plain or "").rstrip())


def _split(text: str) -> List[str]:
    """Split a text into words as systemd does, which is lenient with a quote that is not closed."""
    try:
        return shlex.split(text)
    except ValueError:
        return text.split()


def split_command(command: str, variables: Mapping[str, Variable]) -> Tuple[str, ...]:
    """Split an ``ExecStart=`` command into the program and its arguments, without systemd's prefix characters.

    A word that is just ``$NAME`` becomes the words of that variable, or nothing where it is not set; ``${NAME}``
    becomes its value, within a word too; ``$$`` is a dollar sign (systemd.service(5), "Command lines").
    """

    def value(name: str) -> str:
        return variables[name].value if name in variables else ""

    words: List[str] = []
    for word in _split(command):
        reference = _REFERENCE.match(word)
        if reference and reference.group(2):
            words += _split(value(reference.group(2)))
        else:
            words.append(_REFERENCE.sub(lambda found: value(found.group(1)) if found.group(1) else "$", word))
    if words:
        words[0] = words[0].lstrip(_COMMAND_PREFIXES)
    return tuple(words)


def referenced(command: str) -> Tuple[str, ...]:
    """Return the names of the variables that a command refers to."""
    found = itertools.chain.from_iterable(map(_REFERENCE.finditer, _split(command)))
    return tuple(reference.group(1) or reference.group(2) for reference in found if reference.group() != "$$")


@dataclass(frozen=True)
class Service:
    """A service as systemd runs it.

    :ivar loaded: ``loaded``, ``not-found``, ``masked`` or ``error``.
    :ivar needs_reload: its files changed since systemd read them.
    :ivar arguments: the running main process's command line, empty where none runs.
    :ivar started: when it started, in seconds since the epoch; 0 where none runs.
    :ivar sockets: the socket units that it takes its sockets from.
    """

    loaded: str
    active: bool
    needs_reload: bool = False
    arguments: Tuple[str, ...] = ()
    started: float = 0.0
    sockets: Tuple[str, ...] = ()


def read_service(runner: Runner, unit: str) -> Service:
    """Read the state of a service from systemd, by one call, and from /proc.

    :raises CommandError: systemctl failed.
    """
    shown = checked(
        runner,
        ["systemctl", "show", unit, "--property=LoadState,ActiveState,MainPID,NeedDaemonReload,TriggeredBy"],
        f"systemd did not report the state of {unit}",
    )
    values = dict(line.split("=", 1) for line in shown.stdout.splitlines() if "=" in line)
    pid = int(values.get("MainPID") or 0)
    active = values.get("ActiveState") in ("active", "reloading")
    process = _read_process(pid) if active and pid else ((), 0.0)
    sockets = tuple(name for name in values.get("TriggeredBy", "").split() if name.endswith(".socket"))
    return Service(values.get("LoadState", ""), active, values.get("NeedDaemonReload") == "yes", *process, sockets)


def _read_process(pid: int) -> Tuple[Tuple[str, ...], float]:
    """Return a process's arguments and start time; nothing of one that has just ended."""
    command_line, stat = (read_bytes(f"/proc/{pid}/{name}") for name in ("cmdline", "stat"))
    if not command_line or stat is None:
        return (), 0.0
    # Field 22 of proc_pid_stat(5); the 2nd, the name in brackets, may hold blanks. It counts from boot, sleep included.
    ticks = int(stat.rsplit(b")", 1)[1].split()[19])
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    return tuple(command_line.decode(errors="replace").rstrip("\0").split("\0")), time.time() - age
