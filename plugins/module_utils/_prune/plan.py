# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is to be done to prune what is declared. Everything here is pure."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from .._core.errors import FarmError
from .._core.parallel import each
from .._core.plan import Plan, Step
from .declaration import Declaration
from .orphans import Orphan, orphans_of
from .prediction import total_of
from .state import Site, State
from .steps import PruneCache, RemoveNotes, RemoveOrphan, RemoveOrphanedContext


@dataclass(frozen=True)
class PrunePlan(Plan[Site]):
    """Steps that prune.

    :ivar orphans: all that there are, removed or not.
    """

    orphans: Tuple[Orphan, ...] = ()

    def apply(self, world: Site) -> None:
        """Carry out the steps, those of one kind at the same time; one that fails stops no other."""
        for _kind, steps in groupby(self.steps, key=_stage):
            each(list(steps), lambda step: _attempt(step, world))


def plan(declaration: Declaration, state: State, directory: str) -> PrunePlan:
    """Return what is to be done.

    :param directory: of buildx's store, for the report.
    """
    selection = declaration.cache
    steps: List[Step[Site]] = [
        PruneCache(cache.node, tuple(selection.command())) for cache in state.caches if selection and cache.going
    ]
    orphans = orphans_of(state, declaration.controller)
    removed = [orphan for orphan in orphans if declaration.orphans == "remove" and orphan.kept is None]
    steps += [RemoveOrphan(orphan, declaration.controller) for orphan in removed if orphan.endpoint is not None]
    steps += [
        RemoveOrphanedContext(orphan.name, state.orphaned_contexts[orphan.name][1])
        for orphan in removed
        if orphan.endpoint is None
    ]
    going = tuple(note for note in state.notes if note.going)
    steps += [RemoveNotes(directory, going)] if going else []
    return PrunePlan(
        before=_shown(state, orphans, after=False),
        after=_shown(state, [orphan for orphan in orphans if orphan not in removed], after=True),
        steps=tuple(steps),
        warnings=tuple(_warnings(state)),
        orphans=orphans,
    )


def _shown(state: State, orphans: Sequence[Orphan], after: bool) -> Dict[str, Any]:
    """Return one side of the diff: bytes of caches, names of orphans, the number of notes."""
    caches = {
        f"{cache.node.name} ({cache.node.endpoint})": total_of(cache.records) - (total_of(cache.going) if after else 0)
        for cache in state.caches
        if cache.running
    }
    return {
        "caches": caches,
        "orphans": [f"{orphan.kind} {orphan.name} ({orphan.endpoint or 'here'})" for orphan in orphans],
        "records": sum(not (after and note.going) for note in state.notes),
    }


def _warnings(state: State) -> List[str]:
    unreachable: Mapping[str, str] = {engine.endpoint: engine.error for engine in state.engines if engine.error}
    dead = {cache.node.endpoint for cache in state.caches if cache.error}
    return [
        *(f"builder {cache.builder!r}, node {cache.node.name!r} is not pruned: {cache.error}"
          for cache in state.caches if cache.error),
        *(f"{error}; what is left there is not known" for text, error in unreachable.items() if text not in dead),
        *(f"builder {name!r} (driver {driver}) is not pruned; 'docker buildx prune --builder {name}' does that"
          for name, driver in state.other_drivers.items()),
    ]  # fmt: skip


def _stage(step: Step[Site]) -> str:
    """Return what must have ended before the next begins: a volume goes after the container that uses it."""
    return step.orphan.kind if isinstance(step, RemoveOrphan) else type(step).__name__


def _attempt(step: Step[Site], world: Site) -> None:
    try:
        step.apply(world)
    except FarmError as exc:
        world.failures.append(exc.message)
    except OSError as exc:
        world.failures.append(f"{exc.filename}: {exc.strerror}")
