# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What has to be done for the declared plugin to be there, or to be gone."""

from __future__ import annotations

from typing import Any, Dict, Iterator, Tuple

from .._core.errors import FarmError
from .._core.plan import Plan, Step
from .._docker.config import PLUGIN
from .declaration import Declaration
from .source import Source
from .state import State
from .steps import MODE, Fetch, MakeExecutable, Remove, Staging, Write, require_version


def plan(declaration: Declaration, state: State) -> Plan[Staging]:
    """Compare what is declared with what there is.

    :raises FarmError: nothing is declared that could be installed, and what is there will not do.
    """
    before = state.file.as_dict() if state.file else {}
    if not declaration.present:
        return Plan(before, {}, (Remove(state.path),) if state.file else ())
    if declaration.source is None:
        _require_plugin(declaration, state)
    if state.source is None:
        return Plan(before, before, warnings=_clashes(state, installed=False))
    after = _after(state, state.source)
    steps = tuple(_steps(declaration, state, state.source, after))
    return Plan(before, after, steps, _clashes(state, installed=bool(steps)))


def _after(state: State, source: Source) -> Dict[str, Any]:
    content = {"checksum": source.checksum} if source.checksum else {"source": str(source)}
    return {"path": str(state.path), "mode": f"{MODE:04o}", **content}


def _steps(declaration: Declaration, state: State, source: Source, after: Dict[str, Any]) -> Iterator[Step[Staging]]:
    if state.file is None or state.file.checksum != source.checksum:
        if source.is_fetched:
            yield Fetch(source, state.path, declaration.minimum)
        yield Write(source, state.path, declaration.minimum)
    elif state.file.as_dict() != after:
        yield MakeExecutable(state.path)


def _require_plugin(declaration: Declaration, state: State) -> None:
    """Check the plugin that the distribution or someone else installed.

    :raises FarmError: there is none, or it does not run, or is too old.
    """
    if state.first is not None and state.plugin is None:
        raise FarmError(
            f"{state.first}: {state.first_is}, and no docker CLI plugin that runs on this host; docker searches no"
            " further; remove it, or install another in its place"
        )
    if state.plugin is None:
        raise FarmError(
            f"buildx is not installed here: no {PLUGIN} in {', '.join(str(at.parent) for at in state.searched)};"
            " install the package docker-buildx (docker-buildx-plugin from Docker's own repository), or give release,"
            " url, src or build (with the roles: buildx_release and so on, such as -e buildx_release=0.29.1)"
        )
    require_version(state.plugin.path, state.plugin, declaration.minimum)


def _clashes(state: State, installed: bool) -> Tuple[str, ...]:
    """Return warnings of other plugins, which docker takes instead or no longer finds."""
    ahead = [f"{path}: docker finds this plugin first and does not use {state.path}; remove it" for path in state.ahead]
    hidden = [f"{state.path} hides {path} from now on" for path in state.behind if installed]
    return (*ahead, *hidden)
