# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What no builder has any more, and whose it is. Everything here is pure.

A container, volume or network is an orphan where no builder of this controller has a node of its name. It may be made
by hand, or be another controller's. So only what this controller, and no other, has marked is removed, and marked when
it was made, see ``_buildx/marks.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Tuple

from .._buildx.store import PREFIX
from .state import SUFFIX, EngineState, State


@dataclass(frozen=True)
class Orphan:
    """Something that no builder has any more.

    :ivar kind: ``container``, ``volume``, ``network``, ``context`` or ``mark``.
    :ivar endpoint: of its engine; None for a context.
    :ivar node: the name of the node that had it; for a context, of the builder.
    :ivar controllers: those that marked it as used.
    :ivar kept: why it is not removed in any case; None where it may be.
    :ivar size: bytes; None where they are not known.
    """

    kind: str
    name: str
    endpoint: Optional[str]
    node: str
    controllers: Tuple[str, ...] = ()
    kept: Optional[str] = None
    size: Optional[int] = None

    def as_dict(self) -> Dict[str, Any]:
        """Return it as the module returns it."""
        return {
            "kind": self.kind,
            "name": self.name,
            "endpoint": self.endpoint,
            "owner": self.node,
            "controllers": list(self.controllers),
            "bytes": self.size,
            "kept": self.kept,
        }


def orphans_of(state: State, controller: str) -> Tuple[Orphan, ...]:
    """Return the orphans, in the order in which they can be removed.

    :param controller: what this controller calls itself.
    """
    contexts = [
        Orphan("context", name, None, owner) for name, (owner, _stored) in sorted(state.orphaned_contexts.items())
    ]
    found = [orphan for engine in state.engines for orphan in _of_engine(engine, state.known, state.sizes, controller)]
    order = ("container", "network", "volume", "mark")
    return (*sorted(found, key=lambda orphan: order.index(orphan.kind)), *contexts)


def _of_engine(engine: EngineState, known: Any, sizes: Mapping[Tuple[str, str], int], controller: str) -> List[Orphan]:
    names = {name[len(PREFIX) :] for name in (*engine.containers, *engine.networks)}
    names |= {name[len(PREFIX) : -len(SUFFIX)] for name in engine.volumes if name.endswith(SUFFIX)}
    found: List[Orphan] = []
    for node in sorted(names - set(known)):
        marked = tuple(sorted(engine.marks.get(node, ())))
        kept = _why_kept(marked, controller, node in engine.late)
        container, volume = f"{PREFIX}{node}", f"{PREFIX}{node}{SUFFIX}"
        if container in engine.containers:
            found.append(Orphan("container", container, engine.endpoint, node, marked, kept))
        if container in engine.networks:
            reason = kept or "neither buildx nor this collection makes networks"
            found.append(Orphan("network", container, engine.endpoint, node, marked, reason))
        if volume in engine.volumes:
            size = sizes.get((engine.endpoint, volume))
            found.append(Orphan("volume", volume, engine.endpoint, node, marked, kept, size))
    found += [
        Orphan("mark", node, engine.endpoint, node, tuple(sorted(engine.marks[node])))
        for node in sorted(set(engine.marks) - set(known))
        if controller in engine.marks[node]
    ]
    return found


def _why_kept(marked: Tuple[str, ...], controller: str, late: bool) -> Optional[str]:
    others = [name for name in marked if name != controller]
    if others:
        return f"marked as used by {', '.join(others)}"
    if not marked:
        return "without a mark of this collection: whose it is is not known"
    return "older than its mark: those of others may have been there before, and pruned" if late else None
