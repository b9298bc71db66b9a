# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""buildx itself, a plugin of the docker CLI: found, installed, upgraded, removed."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Mapping, Optional

from .._core.outcome import Outcome
from .._core.plan import Plan
from .._core.runner import Runner
from .declaration import Declaration
from .experimental import plan_switch, read_switch
from .model import Plugin
from .plan import plan
from .source import Source, checksum_of
from .state import State, read_state
from .steps import Staging, require_plugin


def run(params: Mapping[str, Any], check_mode: bool, runner: Runner) -> Outcome:
    """Run module ``buildx_plugin``.

    :raises FarmError: the declaration cannot be meant, or what it wants cannot be had; what was there stays then.
    """
    declaration = Declaration.from_params(params)
    state = read_state(declaration, runner)
    changes = plan(declaration, state)
    if check_mode and changes.steps:
        return changes.outcome(plugin=_predicted(state.path, state.source) if state.source else None)
    world = Staging(runner, declaration.access)
    changes.apply(world)
    if not declaration.present:
        return changes.outcome(plugin=None)
    plugin = _verified(declaration, state, runner)
    # Whether an old docker CLI runs the plugin is known only of one that is there.
    switch = plan_switch(read_switch(declaration.config_directory, plugin, runner))
    if not check_mode:
        switch.apply(world)
    return _joined(changes, switch).outcome(plugin=_values(plugin, state.source if changes.steps else None))


def _verified(declaration: Declaration, state: State, runner: Runner) -> Plugin:
    """Return the plugin that meets the declaration.

    :raises FarmError: what is installed is another one, or does not run.
    """
    if state.source is None and state.plugin is not None:
        return state.plugin
    return require_plugin(str(state.path), state.path, state.source, declaration.minimum, runner)


def _joined(first: Plan[Staging], second: Plan[Staging]) -> Plan[Staging]:
    return Plan(
        {**first.before, **second.before},
        {**first.after, **second.after},
        first.steps + second.steps,
        first.warnings + second.warnings,
    )


def _predicted(path: Path, source: Source) -> Dict[str, Any]:
    """Return what is known of a plugin that is yet to be installed."""
    values = {"path": str(path), "checksum": source.checksum or None, "source": str(source)}
    return {**values, "version": None, "revision": None}


def _values(plugin: Plugin, source: Optional[Source]) -> Dict[str, Any]:
    """Return what the module returns of a plugin.

    :param source: where it was installed from in this run; None for one that was there.
    """
    return {
        "path": plugin.path,
        "version": plugin.version,
        "revision": plugin.revision or None,
        "checksum": checksum_of(Path(plugin.path)),
        "source": None if source is None else str(source),
    }
