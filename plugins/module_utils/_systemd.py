# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What systemd has on disk about a unit, and what it runs."""

from __future__ import annotations

import os
import re
import shlex
import time
from dataclasses import dataclass
from typing import Dict, Iterable, Iterator, Mapping, Optional, Sequence, Tuple

from ._errors import FarmError
from ._files import read_bytes
from ._runner import Runner, checked

#: Where systemd looks for a unit, the first wins (systemd.unit(5), "Unit File Load Path"; without generated units).
UNIT_DIRECTORIES = (
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
)
#: There where systemd is the init, sd_booted(3).
BOOTED = "/run/systemd/system"
_UNIT_NAME = re.compile(r"[A-Za-z0-9@._:-]+\Z")
_COMMAND_PREFIXES = "@-:+!"


def require_systemd(host: str, marker: str = BOOTED) -> None:
    """Make sure that systemd is this host's init, by the test of sd_booted(3).

    :raises FarmError: it is not.
    """
    if not os.path.isdir(marker):
        raise FarmError(
            f"{host} was not booted with systemd ({marker} is missing), and the task manages a systemd unit"
        )


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
        """Look a unit up as systemd does: one fragment, and drop-ins sorted by name, the first directory winning."""
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


def exec_start(texts: Iterable[str]) -> Optional[str]:
    """Return the last ``ExecStart=`` of a service, exactly as written; an empty one resets.

    :param texts: the fragment's text, then the drop-ins' in order.
    """
    command: Optional[str] = None
    for text in texts:
        section = ""
        for line in _logical_lines(text):
            if line.startswith("["):
                section = line
                continue
            key, equals, value = line.partition("=")
            if section == "[Service]" and equals and key.strip() == "ExecStart":
                command = value.strip() or None
    return command


def split_command(command: str, environment: Optional[Mapping[str, str]] = None) -> Tuple[str, ...]:
    """Split an ``ExecStart=`` command into the program and its arguments, without systemd's prefix characters.

    A word that is just ``$NAME`` or ``${NAME}`` becomes the words of that variable, or nothing where it is not set
    (systemd.service(5), "Command lines").

    :param environment: the service's variables; without it all of them count as not set.
    """
    words = []
    for word in shlex.split(command):
        variable = re.match(r"\$\{?([A-Za-z_][A-Za-z0-9_]*)\}?\Z", word)
        words.extend((environment or {}).get(variable.group(1), "").split() if variable else [word])
    if words:
        words[0] = words[0].lstrip(_COMMAND_PREFIXES)
    return tuple(words)


@dataclass(frozen=True)
class Service:
    """A service as systemd runs it.

    :ivar loaded: ``loaded``, ``not-found``, ``masked`` or ``error``.
    :ivar needs_reload: its files changed since systemd read them.
    :ivar arguments: the running main process's command line, empty where none runs.
    :ivar environment: that process's variables.
    :ivar started: when it started, in seconds since the epoch; 0 where none runs.
    :ivar sockets: the socket units that it takes its sockets from.
    """

    loaded: str
    active: bool
    needs_reload: bool = False
    arguments: Tuple[str, ...] = ()
    environment: Optional[Mapping[str, str]] = None
    started: float = 0.0
    sockets: Tuple[str, ...] = ()


def read_service(runner: Runner, unit: str) -> Service:
    """Ask systemd, once, and /proc about a service.

    :raises CommandError: systemctl failed.
    """
    shown = checked(
        runner,
        ["systemctl", "show", unit, "--property=LoadState,ActiveState,MainPID,NeedDaemonReload,TriggeredBy"],
        f"systemd did not tell the state of {unit}",
    )
    values = dict(line.split("=", 1) for line in shown.stdout.splitlines() if "=" in line)
    pid = int(values.get("MainPID") or 0)
    active = values.get("ActiveState") in ("active", "reloading")
    process = _read_process(pid) if active and pid else ((), {}, 0.0)
    sockets = tuple(name for name in values.get("TriggeredBy", "").split() if name.endswith(".socket"))
    return Service(values.get("LoadState", ""), active, values.get("NeedDaemonReload") == "yes", *process, sockets)


def _read_process(pid: int) -> Tuple[Tuple[str, ...], Mapping[str, str], float]:
    """Return a process's arguments, environment and start time; nothing of one that has just ended."""
    command_line, environ, stat = (read_bytes(f"/proc/{pid}/{name}") for name in ("cmdline", "environ", "stat"))
    if not command_line or stat is None:
        return (), {}, 0.0
    variables = dict(
        pair.split("=", 1) for pair in (environ or b"").decode(errors="replace").split("\0") if "=" in pair
    )
    # Field 22 of proc_pid_stat(5); the 2nd, the name in brackets, may hold blanks. It counts from boot, sleep included.
    ticks = int(stat.rsplit(b")", 1)[1].split()[19])
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    return tuple(command_line.decode(errors="replace").rstrip("\0").split("\0")), variables, time.time() - age
