# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Making an engine listen on TCP: the steps are taken, the result is looked at, a failure is taken back."""

from __future__ import annotations

import os
import time
from typing import Any, Dict, List, Mapping, Optional, Tuple

from .._core.errors import FarmError
from .._core.files import restore, write_together
from .._core.outcome import Outcome
from .._core.runner import CommandError, Result, Runner, checked
from .._docker import tls
from .._host.systemd import read_service, require_systemd, split_command
from . import model
from .model import DEFAULT_SOCKET, Declared, Found, hosts, on_network
from .plan import Plan, check, check_certificate, describe, plan, restart
from .undo import Undo

#: Seconds that systemd may take to restart the engine: it has to end and start the containers too.
_RESTART = 300
_JOURNAL_LINES = 20


def logic(params: Mapping[str, Any], check_mode: bool, runner: Runner) -> Outcome:
    """Make the engine of this host listen as declared, or no longer.

    :raises FarmError: it cannot be done, or failed and was taken back.
    """
    declared = Declared.from_params(params)
    require_systemd(declared.host)
    try:
        found = model.read(declared, runner)
        kept = Undo.load(declared.unit)
    except OSError as exc:
        raise FarmError(f"{declared.host}: cannot read {exc.filename} ({exc.strerror}); run the task as root") from exc
    if declared.state == "previous":
        return _previous(declared, found, kept, check_mode, runner)
    warnings = check(declared, found, check_mode)
    steps = plan(declared, found)
    check_certificate(declared, found, steps)
    before, after = describe(declared, found, steps)
    if steps.actions and not check_mode:
        kept = apply(declared, found, steps, runner, kept)
    provisional = bool(kept) and declared.provisional and not check_mode
    if kept and not provisional and not check_mode:
        kept.forget()
    values = {"listener": _shown(declared, found), "restarted": steps.restarts, "provisional": provisional}
    return Outcome(before, after, steps.actions, values, warnings)


def _previous(declared: Declared, found: Found, kept: Optional[Undo], check_mode: bool, runner: Runner) -> Outcome:
    """Put back what a provisional change has replaced.

    :raises FarmError: not all of it could be.
    """
    steps = kept.steps if kept else Plan()
    before, after = describe(declared, found, steps)
    values: Dict[str, Any] = {"listener": None, "restarted": steps.restarts, "provisional": False}
    if kept and not check_mode:
        values["journal"] = _journal(declared, kept.began, runner)[0]
        whole, values["msg"] = _take_back(kept, True, runner)
        if not whole:
            raise FarmError(f"{declared.host}: {values['msg']}", journal=values["journal"])
    return Outcome(before, after, steps.actions, values)


def _shown(declared: Declared, found: Found) -> Optional[Dict[str, Any]]:
    """Return the resource as documented, None where the task declares none."""
    if not declared.present:
        return None
    paths = {name: declared.tls_path(file) for name, file in (("ca", "ca"), ("certificate", "cert"), ("key", "key"))}
    return {
        "address": declared.address,
        "port": declared.port,
        "url": declared.url,
        "tls": not declared.insecure,
        "certificate_fingerprint": None if declared.insecure else tls.fingerprint(declared.certificate),
        "paths": {
            "drop_in": declared.drop_in,
            "daemon_config": found.config_path,
            **(dict.fromkeys(paths) if declared.insecure else paths),
        },
    }


def apply(declared: Declared, found: Found, steps: Plan, runner: Runner, older: Optional[Undo] = None) -> Undo:
    """Take the steps; whatever fails, every file is put back and the engine is brought back as it was.

    :param older: what a change that was ended half-way has kept.
    :return: what leads back still.
    :raises FarmError: it failed; says what the engine said, and what the roll-back came to.
    """
    began = time.time()
    try:
        undo = Undo.prepare(declared.unit, steps, _way_back(declared, found), began, older)
    except OSError as exc:
        raise FarmError(f"{declared.host}: {exc}; nothing was changed") from exc
    touched = older is not None
    try:
        _write(steps)
        if declared.runs:
            _validate(declared, found, undo, runner)
        touched = True
        for command in steps.commands:
            _systemctl(declared, command, began, runner)
        problem = tls.wait_for(lambda: _problem(declared, found, runner), declared.probe_timeout)
        if problem:
            raise FarmError(
                f"{declared.host}: {declared.unit} started, and after {declared.probe_timeout:g} seconds {problem}",
                journal=_journal(declared, began, runner)[0],
            )
    except BaseException as exc:
        _whole, outcome = _take_back(undo, touched, runner)
        if isinstance(exc, FarmError):
            raise FarmError(f"{exc.message}; {outcome}", **exc.details) from exc
        if isinstance(exc, OSError):
            raise FarmError(f"{declared.host}: {exc}; {outcome}") from exc
        raise
    return undo


def _write(steps: Plan) -> None:
    """Create the directories and write or remove the files.

    :raises OSError: one of them cannot be written.
    """
    for path, mode in steps.directories:
        os.makedirs(path, exist_ok=True)
        os.chmod(path, mode)
    for path in {os.path.dirname(change.path) for change in steps.changes if change.after is not None}:
        os.makedirs(path, exist_ok=True)
    write_together((change.path, change.after, change.mode) for change in steps.changes if change.after is not None)
    for change in steps.changes:
        if change.after is None:
            restore(change.path, None)


def _validate(declared: Declared, found: Found, undo: Undo, runner: Runner) -> None:
    """Let the engine judge its configuration before it is restarted, where it can (23.0 and later).

    :raises CommandError: it refuses; says whether what it refuses is declared, or was there before.
    """
    command, flags = (found.local_command, declared.flags) if declared.present else (found.command or "", ())
    program, *words = split_command(command, found.variables)

    def judged(*more: str) -> Result:
        try:
            return runner([program, *words, *more, "--validate"], timeout=60)
        except CommandError as exc:
            message = f"{declared.host}: the engine's configuration could not be validated"
            raise CommandError(message, exc.result) from exc

    result = judged(*flags)
    if result.rc == 0 or "unknown flag: --validate" in result.stderr:
        return
    what = "the declared configuration"
    former = undo.former(found.config_path)
    if former and _last_line(judged(f"--config-file={former}")).replace(former, found.config_path) == _last_line(
        result
    ):
        what = f"{found.config_path} as it was before this task, correct that file"
    raise CommandError(f"{declared.host}: {program} refuses {what}", result)


def _last_line(result: Result) -> str:
    """Return the line that says why a program ended; what it logs before it bears the time."""
    return (result.stderr.splitlines() or [""])[-1]


def _systemctl(declared: Declared, command: Tuple[str, ...], began: float, runner: Runner) -> None:
    """Run one of the plan's commands.

    :raises FarmError: it failed; with the engine's own words instead of systemctl's, which has none.
    """
    try:
        checked(runner, command, " ".join(command), timeout=_RESTART)
    except CommandError as exc:
        lines, telling = _journal(declared, began, runner)
        if command[1] not in ("start", "restart") or not lines:
            raise
        raise FarmError(
            f"{declared.host}: {declared.unit} did not start with the declared configuration: {telling}",
            **exc.details,
            journal=lines,
        ) from exc


def _journal(declared: Declared, since: float, runner: Runner) -> Tuple[List[str], str]:
    """Return the service's last journal lines since a time, and the one that tells why dockerd ended; what there is.

    dockerd logs with ``time=…``; what ends it is one plain line. The other plain lines are systemd's.
    """
    argv = ["journalctl", "--no-pager", "--output=cat", f"--lines={_JOURNAL_LINES}", f"--since=@{int(since)}"]
    try:
        lines = runner([*argv, "--unit", declared.unit], timeout=30).stdout.splitlines()
        said = runner([*argv, "--unit", declared.unit, "--identifier=dockerd"], timeout=30).stdout.splitlines()
    except CommandError:
        return [], ""
    own = [line for line in said if not line.startswith("time=")]
    return lines, (own or lines or [""])[-1]


def _problem(declared: Declared, found: Found, runner: Runner) -> Optional[str]:
    """Say what is still wrong with the running engine, None where it is as declared."""
    if not declared.runs and not found.service.active:
        return None
    sockets = hosts(found.words) or (DEFAULT_SOCKET,)
    for path in (_socket_path(host) for host in sockets):
        problem = tls.unix_socket_problem(path) if path else None
        if problem:
            return problem
    if not declared.present:
        return None
    if declared.insecure:
        problem = tls.plain_problem(declared.local_address, declared.port)
    elif declared.ca and declared.certificate:
        problem = tls.mutual_tls_problem(declared.local_address, declared.port, declared.ca, declared.certificate)
    if problem:
        return f"{declared.url}: {problem}"
    running = read_service(runner, declared.unit).arguments
    if running[-len(declared.flags) :] != declared.flags:
        return f"the engine runs with another command line: {' '.join(running)}"
    # A variable that none of the unit's files sets, of systemd's own environment for one, can bring another listener.
    others = [host for host in hosts(running) if on_network(host) and host != declared.url]
    if others:
        return f"the engine also listens on {', '.join(others)}; which variable of its command brings that?"
    return None


def _socket_path(host: str) -> Optional[str]:
    if host.startswith("fd://"):
        return DEFAULT_SOCKET
    if host.startswith("unix://"):
        return host[len("unix://") :] or DEFAULT_SOCKET
    return host if host.startswith("/") else None


def _way_back(declared: Declared, found: Found) -> Tuple[Tuple[str, ...], ...]:
    """Return the commands that bring the engine back to what it is doing now, once the files are back."""
    reload = ("systemctl", "daemon-reload")
    if not found.command:
        return (reload,)
    if not found.service.active:
        return (reload, ("systemctl", "stop", declared.unit))
    # Whatever socket file a failed start has removed is there again.
    sockets = found.service.sockets if "fd://" in hosts(found.service.arguments) else ()
    return (reload, *restart(declared.unit, sockets))


def _take_back(undo: Undo, touched: bool, runner: Runner) -> Tuple[bool, str]:
    """Restore the files and the engine; returns whether all of it is as before, and a sentence on what it came to.

    :param touched: systemd was told of the new files.
    """
    failures = undo.restore()
    files = "every file was put back" if not failures else f"these files could not be put back: {', '.join(failures)}"
    if not touched:
        return not failures, f"{files}, the engine was not touched"
    try:
        for command in undo.commands:
            checked(runner, command, " ".join(command), timeout=_RESTART)
    except CommandError as exc:
        return False, f"{files}, but the engine could not be brought back: {exc.message}"
    runs = undo.commands[-1][1] in ("start", "restart")
    return not failures, f"{files} and the engine {'runs' if runs else 'is stopped'} as before"
