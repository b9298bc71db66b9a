# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From the handlers that a host has to those that are declared: pure functions."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Sequence, Set, Tuple

from .._core.plan import Plan, Step
from .._platform.elf import program
from .binfmt_misc import ENTRIES, platforms_of
from .declaration import Declaration
from .image import UNIT, UNIT_PATH, EmulatorImage, unit_settings, unit_text
from .state import State
from .status import MISSING, NATIVE, NO_RULE, REGISTERED, WORKS, Status
from .steps import BootStep, ChangeFile, Host, KernelStep, Mount, RunImage, Systemctl, enable_all, register, unregister

#: By path, what a file in /etc/binfmt.d is to hold; None for one that is to be removed.
_Overrides = Mapping[str, Optional[str]]


def plan(declaration: Declaration, state: State) -> Plan[Host]:
    """Return the steps from what the host has to what is declared, those of the kernel first.

    :raises FarmError: the packages' handlers cannot be as declared.
    """
    removed, kernel_steps = _handlers(declaration, state)
    overrides = _overrides(declaration, state)
    unit, at_boot = _unit(declaration, state)
    steps: List[Step[Host]] = [*kernel_steps, *_override_steps(state, overrides), *_unit_steps(state, unit)]
    return Plan(
        _before(declaration, state),
        _after(declaration, state, overrides, at_boot),
        tuple(steps),
        _warnings(declaration, state, overrides, removed),
    )


def _before(declaration: Declaration, state: State) -> Dict[str, Any]:
    return {
        **{str(platform): status.text for platform, status in state.statuses.items()},
        **({"others": list(state.others(declaration))} if declaration.state == "exact" else {}),
        "registered_at_boot": _platforms(unit_settings(state.unit)[1]),
        "overrides": sorted(_overridden(state)),
    }


def _after(declaration: Declaration, state: State, overrides: _Overrides, at_boot: Sequence[str]) -> Dict[str, Any]:
    written = {path for path, text in overrides.items() if text is not None}
    return {
        **{str(platform): _expected(declaration, status) for platform, status in state.statuses.items()},
        **({"others": []} if declaration.state == "exact" else {}),
        "registered_at_boot": _platforms(at_boot),
        "overrides": sorted((_overridden(state) - set(overrides)) | written),
    }


def _expected(declaration: Declaration, status: Status) -> str:
    if not declaration.present:
        return MISSING
    return NATIVE if status.text == NATIVE else WORKS if declaration.verify else REGISTERED


def _platforms(architectures: Sequence[str]) -> List[str]:
    return sorted(str(platforms_of(arch)[0]) for arch in architectures if arch in ENTRIES)


def _overridden(state: State) -> Set[str]:
    return {file.override_path for file in state.files if file.override is not None}


def _handlers(declaration: Declaration, state: State) -> Tuple[Tuple[str, ...], List[KernelStep]]:
    """Return the handlers that are removed or replaced, and the steps."""
    others = state.others(declaration) if declaration.state == "exact" else ()
    if declaration.present:
        return _install(declaration, state, others)
    removed = state.conflicting(declaration, declaration.architectures)
    return removed, _remove(declaration, removed)


def _install(
    declaration: Declaration, state: State, others: Tuple[str, ...]
) -> Tuple[Tuple[str, ...], List[KernelStep]]:
    """Return the handlers that are removed or replaced, and the steps."""
    # The packages of those without a rule are yet to come, and register handlers when they are installed.
    bad = [one.arch for one, status in state.statuses.items() if not status.good and status.text != NO_RULE]
    install = tuple(dict.fromkeys(bad))
    replaced = state.conflicting(declaration, install)
    steps: List[KernelStep] = []
    if install and not state.kernel.mounted:
        steps.append(Mount())
    if install and not state.kernel.enabled:
        steps.append(enable_all())
    if declaration.image is None:
        rules = (declaration.rule(arch, state.files) for arch in install)
        steps += [*_remove(declaration, (*others, *replaced)), *(register(rule.line) for rule in rules if rule)]
    elif declaration.remote:
        # What is broken there cannot be distinguished from what is missing.
        replaced = tuple(ENTRIES[arch] for arch in install)
        if install or others:
            steps.append(_run_image(declaration, declaration.image, (*others, *replaced), install))
    else:
        steps += _remove(declaration, (*others, *(replaced if declaration.image.is_legacy else ())))
        steps += [_run_image(declaration, declaration.image, replaced, install)] if install else []
    return (*others, *replaced), steps


def _remove(declaration: Declaration, handlers: Tuple[str, ...]) -> List[KernelStep]:
    if declaration.remote and declaration.image:
        return [_run_image(declaration, declaration.image, handlers)] if handlers else []
    return [unregister(handler) for handler in dict.fromkeys(handlers)]


def _run_image(
    declaration: Declaration, image: EmulatorImage, uninstall: Tuple[str, ...], install: Tuple[str, ...] = ()
) -> RunImage:
    return RunImage(declaration.docker, image, uninstall, install)


def _overrides(declaration: Declaration, state: State) -> _Overrides:
    """Return the new content of each file in /etc/binfmt.d that has to change."""
    if not declaration.persistent:
        return {}
    changes: Dict[str, Optional[str]] = {}
    for file in state.files:
        lines: Dict[str, Optional[str]] = {}
        for rule in (rule for rule in file.rules() if rule.handler.is_qemu):
            arch = next((arch for arch in state.emulated(declaration) if rule.handler.runs(program(arch))), None)
            if arch is None:
                lines.update({rule.handler.name: None} if declaration.state == "exact" else {})
            elif not declaration.present and not declaration.only_own:
                lines[rule.handler.name] = None
            elif declaration.image is None:
                lines[rule.handler.name] = rule.with_flags(declaration.demand(arch, state.files)).line
        # Where the packages' rules stay, no override is needed.
        text = None if declaration.only_own else file.render_override(lines)
        if file.can_be_overridden and text != file.override:
            changes[file.override_path] = text
    return changes


def _override_steps(state: State, overrides: _Overrides) -> List[BootStep]:
    now = {file.override_path: file.override for file in state.files}
    return [ChangeFile(path, now[path], text) for path, text in overrides.items()]


def _warnings(declaration: Declaration, state: State, overrides: _Overrides, removed: Sequence[str]) -> Tuple[str, ...]:
    """Return a sentence for each of the removed handlers that the host registers again at boot."""
    if declaration.image and declaration.present and declaration.persistent:
        # The boot unit comes after the host's own and replaces its handlers.
        removed = [name for name in removed if name not in {ENTRIES[arch] for arch in declaration.architectures}]
    elif declaration.image is None and declaration.present:
        wanted = {declaration.demand(arch, state.files).name for arch in declaration.architectures}
        removed = [name for name in removed if name not in wanted]
    at_boot = dict(state.update_binfmts)
    for file in state.files:
        if file.override_path not in overrides:
            at_boot.update(dict.fromkeys(file.at_boot(), file.path))
    return tuple(
        f"{at_boot[name]} registers handler {name} at each boot; remove it, or the package that it belongs to"
        for name in dict.fromkeys(removed)
        if name in at_boot
    )


def _unit(declaration: Declaration, state: State) -> Tuple[Optional[str], Tuple[str, ...]]:
    """Return the boot unit's text and architectures; those of other tasks stay in it."""
    image, registered = unit_settings(state.unit)
    if declaration.remote:
        return state.unit, registered
    wanted = declaration.present and declaration.persistent and declaration.image
    own = set(state.emulated(declaration)) if wanted else set()
    others = {arch for arch in registered if arch not in declaration.architectures}
    architectures = tuple(sorted(own if declaration.state == "exact" else own | others))
    image = declaration.image if own else image
    return (unit_text(image, architectures) if architectures and image else None), architectures


def _unit_steps(state: State, unit: Optional[str]) -> List[BootStep]:
    change, reload = ChangeFile(UNIT_PATH, state.unit, unit), Systemctl(("daemon-reload",))
    if unit is None:
        return [Systemctl(("disable", "--now", UNIT)), change, reload] if state.unit is not None else []
    if unit == state.unit and state.unit_enabled:
        return []
    changes = [change] if unit != state.unit else []
    if state.unit_enabled and unit_settings(unit)[0] == unit_settings(state.unit)[0]:
        # It has proved to work, and to start it again would remove the handlers of other tasks for a moment.
        return [*changes, reload]
    # Enabled last: a unit that does not start is not taken for a finished one by the next run.
    return [*changes, reload, Systemctl(("restart", UNIT)), Systemctl(("enable", UNIT))]
