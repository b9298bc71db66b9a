# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The change itself: a checkpoint, the steps, the verification; a failure leads back to the checkpoint."""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace
from typing import Any, ContextManager, Dict, Mapping, Optional, Tuple

from .._core.errors import FarmError
from .._core.outcome import Outcome
from .._core.plan import Step
from .._core.runner import CommandError, Runner
from .._docker import tls
from .._host.init import require_systemd
from .._host.node_lock import node_locked
from .checkpoint import Checkpoint
from .checks import check, check_certificate, needs_key
from .declaration import Declaration
from .dockerd import hosts
from .former import record_path, recorded
from .plan import Plan, describe, plan, plan_back
from .probe import wait_for
from .state import State, read_state
from .steps import RELOAD, File, Systemctl, WriteFiles, changed_files, restart
from .verify import find_problem, read_log, validate


def run(params: Mapping[str, Any], check_mode: bool, runner: Runner) -> Outcome:
    """Make the engine of this host listen as declared, or no longer.

    :raises FarmError: it cannot be done, or failed and was reverted.
    """
    declaration = Declaration.from_params(params)
    with _alone("docker_listener", check_mode):
        return _run(declaration, check_mode, runner)


def _run(declaration: Declaration, check_mode: bool, runner: Runner) -> Outcome:
    state = read_host(declaration, runner)
    if declaration.state == "confirmed":
        return confirm(declaration, state, check_mode)
    if declaration.state == "reverted":
        return revert(declaration, state, check_mode, runner)
    if declaration.reports_missing_key and needs_key(declaration, state):
        return report_missing_key(declaration, state, check_mode)
    done = reconcile(declaration, state, check_mode, runner)
    provisional = declaration.provisional and not check_mode and bool(done.steps or state.checkpoint)
    return done.outcome(**_values(_described(declaration, state), done.restarts, provisional))


def run_daemon_config(params: Mapping[str, Any], check_mode: bool, runner: Runner) -> Outcome:
    """Merge settings into the engine's ``daemon.json``, and have the engine run with them.

    :raises FarmError: it cannot be done, or failed and was reverted.
    """
    declaration = Declaration.of_daemon_config(params)
    with _alone("docker_daemon_config", check_mode):
        state = read_host(declaration, runner)
        done = reconcile(declaration, state, check_mode, runner)
    return done.outcome(path=state.config_path, restarted=done.restarts)


def _alone(module: str, check_mode: bool) -> ContextManager[None]:
    """Return what keeps other runs from changing this host meanwhile; looking at it needs nothing."""
    return contextlib.nullcontext() if check_mode else node_locked(module)


def read_host(declaration: Declaration, runner: Runner) -> State:
    """Read the state of this host.

    :raises FarmError: it has no systemd, which does not answer, or a file cannot be read.
    """
    require_systemd(declaration.host)
    try:
        return read_state(declaration, runner)
    except OSError as exc:
        message = f"{declaration.host}: cannot read {exc.filename} ({exc.strerror}); run the task as root"
        raise FarmError(message) from exc


def reconcile(declaration: Declaration, state: State, check_mode: bool, runner: Runner) -> Plan:
    """Bring the engine from its state to the declared one; in check mode nothing is done.

    :return: the plan.
    :raises FarmError: it cannot be done, or failed and was reverted.
    """
    warnings = check(declaration, state, check_mode)
    planned = plan(declaration, state)
    check_certificate(declaration, state, planned)
    if not check_mode:
        checkpoint = apply(declaration, state, planned, runner) if planned.steps else state.checkpoint
        if checkpoint:
            _settle(declaration, checkpoint)
    return replace(planned, warnings=warnings)


def _settle(declaration: Declaration, checkpoint: Checkpoint) -> None:
    """Make a change that succeeded final, or have it wait to be confirmed.

    :raises FarmError: the disk does not let it.
    """
    try:
        if declaration.provisional:
            checkpoint.complete()
        else:
            checkpoint.remove()
    except OSError as exc:
        raise FarmError(f"{declaration.host}: {exc}; the engine is as declared, run the task again") from exc


def confirm(declaration: Declaration, state: State, check_mode: bool) -> Outcome:
    """Make a provisional change final: nothing leads back any more. The engine and its files stay as they are.

    :raises FarmError: the change was killed half-way.
    """
    checkpoint = state.checkpoint
    if checkpoint and not checkpoint.completed:
        raise FarmError(
            f"{declaration.host}: the last change of {declaration.unit} was ended half-way and cannot be confirmed; "
            "run the task that made it again, or undo it with state=reverted"
        )
    if checkpoint and not check_mode:
        _settle(declaration, checkpoint)
    unchanged = Plan(*describe(declaration, state, {}))
    return unchanged.outcome(**_values())


def revert(declaration: Declaration, state: State, check_mode: bool, runner: Runner) -> Outcome:
    """Undo a provisional change, or one that was killed half-way.

    :raises FarmError: not all of it could be undone.
    """
    planned = plan_back(declaration, state)
    values = _values(restarted=planned.restarts)
    if state.checkpoint and not check_mode:
        values["journal"] = read_log(declaration.unit, state.checkpoint.began, runner)[0]
        complete, values["msg"] = _roll_back(state.checkpoint, True, runner)
        if not complete:
            raise FarmError(f"{declaration.host}: {values['msg']}", journal=values["journal"])
    return planned.outcome(**values)


def report_missing_key(declaration: Declaration, state: State, check_mode: bool) -> Outcome:
    """Return that the host lacks its key; nothing is changed.

    :raises FarmError: what is declared could not be done with the key either.
    """
    warnings = check(declaration, state, check_mode)
    unchanged = Plan(*describe(declaration, state, {}), warnings=warnings)
    return unchanged.outcome(**_values(key_needed=True))


def _values(
    listener: Optional[Mapping[str, Any]] = None,
    restarted: bool = False,
    provisional: bool = False,
    key_needed: bool = False,
) -> Dict[str, Any]:
    """Return the module's own return values; by default those of a task that leaves the host as it is."""
    return {"listener": listener, "restarted": restarted, "provisional": provisional, "key_needed": key_needed}


def _described(declaration: Declaration, state: State) -> Optional[Dict[str, Any]]:
    """Return the resource as documented, None where the task declares none."""
    if not declaration.present:
        return None
    files = {"ca": "ca", "certificate": "cert", "key": "key"}
    secure = not declaration.insecure
    return {
        "address": declaration.address,
        "port": declaration.port,
        "url": declaration.url,
        "tls": secure,
        "certificate_fingerprint": tls.fingerprint(declaration.certificate) if secure else None,
        "paths": {
            "drop_in": declaration.drop_in,
            "daemon_config": state.config_path,
            **{name: declaration.tls_path(file) if secure else None for name, file in files.items()},
        },
    }


def apply(declaration: Declaration, state: State, planned: Plan, runner: Runner) -> Checkpoint:
    """Carry out a plan and verify the engine; whatever fails, files and engine are brought back as they were.

    :return: what still leads back.
    :raises FarmError: it failed; says why, with the engine's reason, and what the roll-back came to.
    """
    began = time.time()
    way_back = _way_back(declaration, state)
    try:
        checkpoint = Checkpoint.create(
            declaration.unit, (*_noting(state, planned), *planned.steps), way_back, began, state.checkpoint
        )
    except OSError as exc:
        raise FarmError(f"{declaration.host}: {exc}; nothing was changed") from exc
    touched = state.checkpoint is not None
    try:
        _change_files(declaration, state, planned, checkpoint, runner)
        touched = True
        _change_engine(declaration, state, planned, began, runner)
    except BaseException as exc:
        _complete, outcome = _roll_back(checkpoint, touched, runner)
        if isinstance(exc, FarmError):
            raise FarmError(f"{exc.message}; {outcome}", **exc.details) from exc
        if isinstance(exc, OSError):
            raise FarmError(f"{declaration.host}: {exc}; {outcome}") from exc
        raise
    return checkpoint


def _change_files(
    declaration: Declaration, state: State, planned: Plan, checkpoint: Checkpoint, runner: Runner
) -> None:
    """Write and remove files, and validate what came of it.

    :raises OSError: one of them cannot be changed.
    :raises CommandError: the engine refuses its configuration.
    """
    for step in (*_noting(state, planned), *planned.file_steps):
        step.apply(runner)
    if declaration.runs:
        validate(declaration, state, checkpoint.former(state.config_path), runner)


def _noting(state: State, planned: Plan) -> Tuple[Step[Runner], ...]:
    """Return the step that notes what daemon.json has before settings are merged into it; none where none are.

    It is no part of what is reported: it belongs to the change of the file.
    """
    path, record = state.config_path, record_path(state.config_path)
    changed = changed_files(planned.steps)
    file = changed.get(path)
    if file is None or record in changed:
        return ()
    noted = recorded(state.file(record).content, state.file(path).content, file.content, path)
    return (WriteFiles((File(record, noted, 0o600),)),)


def _change_engine(declaration: Declaration, state: State, planned: Plan, began: float, runner: Runner) -> None:
    """Bring the files into effect, and wait until the engine is as declared.

    :raises FarmError: the engine does not start, or is not as declared in time.
    """
    for step in planned.engine_steps:
        try:
            step.apply(runner)
        except CommandError as exc:
            lines, reason = read_log(declaration.unit, began, runner)
            if not step.starts or not lines:
                raise
            raise FarmError(
                f"{declaration.host}: {declaration.unit} did not start with the declared configuration: {reason}",
                **exc.details,
                journal=lines,
            ) from exc
    timeout = declaration.probe_timeout
    problem = wait_for(lambda: find_problem(declaration, state, runner), timeout)
    if problem:
        raise FarmError(
            f"{declaration.host}: {declaration.unit} started, and after {timeout:g} seconds {problem}",
            journal=read_log(declaration.unit, began, runner)[0],
        )


def _way_back(declaration: Declaration, state: State) -> Tuple[Systemctl, ...]:
    """Return the steps that bring the engine back to what it is doing now, once the files are back."""
    if not state.command:
        return (RELOAD,)
    if not state.service.active:
        return (RELOAD, Systemctl("stop", (declaration.unit,)))
    # A socket file that a failed start has removed is there again.
    sockets = state.service.sockets if "fd://" in hosts(state.service.arguments) else ()
    return (RELOAD, *restart(declaration.unit, sockets))


def _roll_back(checkpoint: Checkpoint, touched: bool, runner: Runner) -> Tuple[bool, str]:
    """Restore files and engine; returns whether all of it is as before, and a sentence on what it came to.

    :param touched: systemd may have read the new files.
    """
    failures = checkpoint.restore(runner)
    files = "every file was put back" if not failures else f"these files could not be put back: {', '.join(failures)}"
    if not touched:
        return not failures, f"{files}, the engine was not touched"
    try:
        for step in checkpoint.engine_steps:
            step.apply(runner)
    except CommandError as exc:
        return False, f"{files}, but the engine could not be brought back: {exc.message}"
    running = checkpoint.engine_steps[-1].starts
    return not failures, f"{files} and the engine {'runs' if running else 'is stopped'} as before"
