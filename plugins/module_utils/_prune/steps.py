# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The steps of pruning, each of which carries itself out. There is no undoing: what is removed is gone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Tuple
from urllib.parse import quote

from .._buildx.marks import mark_name
from .._buildx.store import Node
from .._context.state import StoredContext
from .._context.steps import RemoveContext
from .._core.errors import FarmError
from .._core.plan import Step
from .._docker.client import conversation, message
from .._docker.endpoint import Endpoint
from .notes import Note, remove
from .orphans import Orphan
from .state import Site


@dataclass(frozen=True)
class PruneCache(Step[Site]):
    """Let a node's BuildKit prune its cache.

    :ivar command: what is run in its container.
    """

    node: Node
    command: Tuple[str, ...]

    @property
    def action(self) -> List[str]:
        return ["prune-cache", self.node.endpoint, self.node.container, *self.command]

    def apply(self, world: Site) -> None:
        world.freed[self.node.container, self.node.endpoint] = world.execute(self.node, self.command)


@dataclass(frozen=True)
class RemoveOrphan(Step[Site]):
    """Remove a container, a volume, or this controller's mark from an engine.

    :ivar controller: what this controller calls itself.
    """

    orphan: Orphan
    controller: str

    @property
    def action(self) -> List[str]:
        return [f"remove-{self.orphan.kind}", self.orphan.endpoint or "", self.orphan.name]

    def apply(self, world: Site) -> None:
        kind, name, endpoint = self.orphan.kind, self.orphan.name, Endpoint.parse(self.orphan.endpoint or "")
        if kind == "mark" and any(f"engine {endpoint}: " in failure for failure in world.failures):
            return  # What could not be removed would be nobody's from then on.
        volume = mark_name(name, self.controller) if kind == "mark" else name
        path = f"/containers/{quote(name)}?force=1&v=1" if kind == "container" else f"/volumes/{quote(volume)}"
        with conversation(endpoint, world.contexts, world.prune_timeout) as engine:
            status, body = engine.delete(path)
        if status not in (200, 204, 404):
            raise FarmError(f"engine {endpoint}: could not remove {kind} {name}: {message(body)} (HTTP {status})")


@dataclass(frozen=True)
class RemoveOrphanedContext(Step[Site]):
    """Remove a docker context that was made for a builder that no longer exists."""

    name: str
    stored: StoredContext

    @property
    def action(self) -> List[str]:
        return RemoveContext(self.name, self.stored).action

    def apply(self, world: Site) -> None:
        RemoveContext(self.name, self.stored).apply(world.contexts)


@dataclass(frozen=True)
class RemoveNotes(Step[Site]):
    """Remove notes that buildx made of builds."""

    directory: str
    notes: Tuple[Note, ...]

    @property
    def action(self) -> List[str]:
        return ["remove-records", self.directory, str(len(self.notes))]

    def apply(self, world: Site) -> None:
        for note in self.notes:
            remove(note)
