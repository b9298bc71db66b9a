# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether the engine accepts its configuration and runs as declared, and what its journal says where it does not."""

from __future__ import annotations

from typing import List, Optional, Tuple

from .._core.runner import CommandError, Result, Runner
from .._docker.names import DEFAULT_SOCKET
from .._host.journal import read_journal
from .._host.systemd import read_service, split_command
from . import probe
from .declaration import Declaration
from .dockerd import hosts, on_network
from .state import State


def validate(declaration: Declaration, state: State, former: Optional[str], runner: Runner) -> None:
    """Have the engine validate its configuration before it is restarted, where it can (23.0 and later).

    :param former: where the former ``daemon.json`` is; None where there was none.
    :raises CommandError: it refuses; says whether what it refuses is declared, or was there before.
    """
    command, flags = (state.local_command, declaration.flags) if declaration.present else (state.command or "", ())
    program, *words = split_command(command, state.variables)

    def validated(*more: str) -> Result:
        try:
            return runner([program, *words, *more, "--validate"], timeout=60)
        except CommandError as exc:
            message = f"{declaration.host}: the engine's configuration could not be validated"
            raise CommandError(message, exc.result) from exc

    result = validated(*flags)
    if result.rc == 0 or "unknown flag: --validate" in result.stderr:
        return
    refused = "the declared configuration"
    if former:
        reason = _last_line(validated(f"--config-file={former}")).replace(former, state.config_path)
        if reason == _last_line(result):
            refused = f"{state.config_path} as it was before this task, correct that file"
    raise CommandError(f"{declaration.host}: {program} refuses {refused}", result)


def _last_line(result: Result) -> str:
    """Return the line with the reason why a program ended; the log lines before it bear the time."""
    return (result.stderr.splitlines() or [""])[-1]


def find_problem(declaration: Declaration, state: State, runner: Runner) -> Optional[str]:
    """Return what is still wrong with the running engine, None where it is as declared."""
    if not declaration.runs and not state.service.active:
        return None
    problem = _socket_problem(state)
    if problem or not declaration.present:
        return problem
    problem = _listener_problem(declaration)
    return f"{declaration.url}: {problem}" if problem else _command_problem(declaration, runner)


def _socket_problem(state: State) -> Optional[str]:
    """Return why the engine does not answer at one of the local sockets of its command."""
    for path in map(_socket_path, hosts(state.words) or ("unix://",)):
        problem = probe.unix_socket_problem(path) if path else None
        if problem:
            return problem
    return None


def _socket_path(host: str) -> Optional[str]:
    """Return the path of the socket that a value of ``-H`` opens, None where it opens none on this host's disk."""
    if host.startswith("fd://"):
        return DEFAULT_SOCKET
    if host.startswith("unix://"):
        return host[len("unix://") :] or DEFAULT_SOCKET
    return None


def _listener_problem(declaration: Declaration) -> Optional[str]:
    """Return why the listener is not the declared one."""
    address, port = declaration.local_address, declaration.port
    if declaration.insecure:
        return probe.plain_problem(address, port)
    if not (declaration.ca and declaration.certificate):
        return None
    return probe.mutual_tls_problem(address, port, declaration.ca, declaration.certificate)


def _command_problem(declaration: Declaration, runner: Runner) -> Optional[str]:
    """Return what is wrong with the command line that the engine runs with."""
    running = read_service(runner, declaration.unit).arguments
    if running[-len(declaration.flags) :] != declaration.flags:
        return f"the engine runs with another command line: {' '.join(running)}"
    # A variable that none of the unit's files sets, of systemd's own environment for one, can bring another listener.
    others = [host for host in hosts(running) if on_network(host) and host != declaration.url]
    if others:
        return f"the engine also listens on {', '.join(others)}; which variable of its command brings that?"
    return None


def read_log(unit: str, since: float, runner: Runner) -> Tuple[List[str], str]:
    """Return a service's last journal lines since a time, and the one of them with the reason why dockerd ended.

    dockerd logs with ``time=…``; what ends it is one plain line. The other plain lines are systemd's. Both are empty
    where there is no journal.

    :param since: seconds since the epoch.
    """
    lines = read_journal(unit, since, runner)
    output = read_journal(unit, since, runner, "dockerd")
    plain = [line for line in output if not line.startswith("time=")]
    return lines, (plain or lines or [""])[-1]
