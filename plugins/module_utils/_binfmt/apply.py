# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The logic of module ``binfmt``: read the state of the host or of its engine, plan, apply, verify."""

from __future__ import annotations

import contextlib
import os
import socket
from contextlib import suppress
from dataclasses import replace
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from .._core.errors import FarmError
from .._core.outcome import Outcome
from .._core.plan import Plan
from .._core.runner import Runner
from .._docker.config import config_dir
from .._host.init import require_systemd
from .._host.node_lock import node_locked
from .._platform.platform import Platform
from . import binfmt_misc
from .declaration import Declaration
from .engine import Engine, EngineError
from .plan import plan
from .rules import RuleFile, read_rule_files
from .state import State, own_architectures, read_state
from .status import MISSING, NATIVE, NO_RULE, Status
from .steps import BootStep, Host, KernelStep, RunImage

#: What cannot be seen through an engine.
NOT_COMPARED = ("interpreter", "flags")
_PACKAGES = "qemu-user-binfmt on Debian 13 and later, qemu-linux-user on SUSE, elsewhere qemu-user-static"


def run(params: Mapping[str, Any], check_mode: bool, runner: Runner) -> Outcome:
    """Make the declared platforms runnable, or no longer.

    :raises FarmError: it cannot be done.
    """
    # Handlers of another host are its engine's to change, at one moment each.
    with contextlib.nullcontext() if check_mode or params["endpoint"] else node_locked("binfmt"):
        return _run(params, check_mode, runner)


def _run(params: Mapping[str, Any], check_mode: bool, runner: Runner) -> Outcome:
    files = [] if params["endpoint"] else read_rule_files()
    declaration = Declaration.from_params(params, files)
    host = _host(params, declaration, runner)
    if not declaration.remote:
        _require_local(host.name, declaration)
    if declaration.only_own:
        declaration = declaration.without(set(declaration.architectures) - set(own_architectures()))
    state = _read(host, declaration, files)
    declaration, state = _as_the_image_has(host, declaration, state, check_mode)
    missing_packages = _require_packages(host.name, params, declaration, state, check_mode)
    todo = plan(declaration, state)
    if todo.steps and not declaration.remote:
        _require_rights(host, todo, check_mode)
    statuses = state.statuses
    if todo.steps and not check_mode:
        statuses = _apply(host, declaration, state, todo)
    todo = replace(todo, warnings=(*missing_packages, *todo.warnings))
    return todo.outcome(**_values(declaration, statuses, todo))


def _host(params: Mapping[str, Any], declaration: Declaration, runner: Runner) -> Host:
    name = params["endpoint"] if declaration.remote else socket.gethostname()
    engine = Engine(runner, name, params["endpoint"] or None, config_dir(params), declaration.docker)
    return Host(name, engine, runner)


def _read(host: Host, declaration: Declaration, files: Sequence[RuleFile]) -> State:
    """Read the state of this host, or of the engine's.

    :raises FarmError: it cannot be read.
    """
    if not declaration.remote:
        return read_state(declaration, files, host.runner)
    # Its imports would delay all other tasks by tens of milliseconds.
    from . import remote

    return remote.read_state(declaration, host.engine)


def _as_the_image_has(
    host: Host, declaration: Declaration, state: State, check_mode: bool
) -> Tuple[Declaration, State]:
    """Leave out what is declared only as far as the image has it and that it does not have.

    Where there is nothing to do the image is not examined, so that no engine is needed.

    :raises FarmError: the image has none of all, or cannot be run; in check mode it may be yet to come.
    """
    image, emulated = declaration.image, state.emulated(declaration)
    bad = {platform.arch for platform, status in state.statuses.items() if not status.good}
    # What is not there first: mostly, nothing is to be done without that.
    for is_bad in (True, False):
        optional = [arch for arch in declaration.optional if arch in emulated and (arch in bad) == is_bad]
        if not image or not optional or not plan(declaration, state).steps:
            continue
        # Before the engine is there, check mode takes it to be there by then.
        with suppress(*([EngineError] if check_mode else [])):
            declaration = declaration.without(host.engine.lacking(image, optional, pull=not check_mode))
        state = replace(state, statuses={platform: state.statuses[platform] for platform in declaration.platforms})
        if not state.emulated(declaration):
            emulators = ", ".join(binfmt_misc.ENTRIES[arch] for arch in optional)
            raise FarmError(
                f"{host.name}: the emulator image {image.name} has none of the emulators {emulators}; choose an image "
                "as tonistiigi/binfmt, which has them in /usr/bin"
            )
    return declaration, state


def _require_local(host: str, declaration: Declaration) -> None:
    """Make sure that this host can have the handlers.

    :raises FarmError: it cannot.
    """
    if not os.path.isdir(binfmt_misc.ROOT):
        raise FarmError(
            f"{host}: {binfmt_misc.ROOT} is missing, so this kernel has no binfmt_misc at the moment; load the module "
            "binfmt_misc, or use a kernel with CONFIG_BINFMT_MISC"
        )
    if not declaration.present:
        return
    binfmt_misc.require_kernel(host, os.uname().release)
    if declaration.persistent and declaration.image:
        try:
            require_systemd(host)
        except FarmError as exc:
            raise FarmError(f"{exc.message}; set persistent: false where handlers need not outlive a reboot") from exc


def _require_packages(
    host: str, params: Mapping[str, Any], declaration: Declaration, state: State, check_mode: bool
) -> Tuple[str, ...]:
    """Make sure that the host's packages register what is declared to be theirs; return warnings.

    :raises FarmError: they do not; in check mode they may be yet to come, so that this is a warning.
    """
    lacking = [str(platform) for platform, status in state.statuses.items() if status.text == NO_RULE]
    if params["platforms"] and not declaration.platforms and not declaration.only_own:
        lacking = ["any of these handlers"]
    if not lacking:
        return ()
    message = (
        f"{host}: no package registers {', '.join(lacking)} by a file in binfmt.d; "
        f"install the distribution's ({_PACKAGES}), or use source: image"
    )
    if not check_mode:
        raise FarmError(message)
    return (f"{message}. Taken to be installed by then.",)


def _require_rights(host: Host, todo: Plan[Host], check_mode: bool) -> None:
    """Make sure that the steps can be carried out.

    :raises FarmError: they cannot.
    """
    if os.geteuid() != 0:
        raise FarmError(f"{host.name}: only root may change handlers, and the task runs as another user; use become")
    if any(isinstance(step, RunImage) for step in todo.steps):
        # Before the engine is there, check mode takes it to be there by then.
        with suppress(*([EngineError] if check_mode else [])):
            host.engine.info()


def _apply(host: Host, declaration: Declaration, state: State, todo: Plan[Host]) -> Mapping[Platform, Status]:
    """Change the kernel's handlers, and once they are verified what is registered at boot; return the new statuses.

    :raises FarmError: a step failed, or the handlers are not as declared afterwards.
    """
    statuses = state.statuses
    for kind in (KernelStep, BootStep):
        steps = tuple(step for step in todo.steps if isinstance(step, kind))
        if steps:
            replace(todo, steps=steps).apply(host)
            statuses = _verify(host, declaration, state.files)
    return statuses


def _verify(host: Host, declaration: Declaration, files: Sequence[RuleFile]) -> Mapping[Platform, Status]:
    """Read the state again.

    :param files: as they were before: by them the names of handlers are known.
    :raises FarmError: a platform is not as declared; with the output of the image, which exits with 0 whatever happens.
    """
    now = _read(host, declaration, files)
    wrong = [
        f"{platform} is {status.text}"
        for platform, status in now.statuses.items()
        if (not status.good if declaration.present else status.text != MISSING)
    ]
    if declaration.state == "exact":
        wrong += [f"handler {name} is still there" for name in replace(now, files=files).others(declaration)]
    if wrong:
        raise _not_as_declared(host, declaration, wrong)
    return now.statuses


def _not_as_declared(host: Host, declaration: Declaration, wrong: List[str]) -> FarmError:
    message, report = f"{host.name}: after the task {'; '.join(wrong)}", host.engine.report
    if report is None or declaration.image is None:
        return FarmError(f"{message}; the next run tries again")
    lines = [line for line in report.stderr.splitlines() if line.strip()]
    return FarmError(
        f"{message}; the emulator image {declaration.image.name} printed: {' | '.join(lines) or 'nothing'}; "
        "choose an image that has these emulators and works on this kernel",
        cmd=list(report.argv),
        rc=report.rc,
        stdout=report.stdout,
        stderr=report.stderr,
    )


def _values(declaration: Declaration, statuses: Mapping[Platform, Status], todo: Plan[Host]) -> Dict[str, Any]:
    """Return the module's own return values."""
    expected = {platform: todo.after[str(platform)] for platform in declaration.platforms}
    emulated = [platform for platform, text in expected.items() if text not in (NATIVE, MISSING)]
    return {
        "native": [str(platform) for platform, text in expected.items() if text == NATIVE],
        "emulated": [str(platform) for platform in emulated],
        # What is to be replaced may have been run, too.
        "qemu_versions": {str(one): statuses[one].version if statuses[one].good else None for one in emulated},
        "not_compared": list(NOT_COMPARED) if declaration.remote else [],
    }
