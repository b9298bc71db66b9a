# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which nodes serve which platforms: each node all that its processor runs, and QEMU what no processor runs.

A pin that only emulation can serve is better than none: buildx's second pass, which runs when any requested platform
has no pin, ignores what was pinned where and gives ties to the first node (``build/resolver/driver.go``). Of several
nodes with the same pin buildx by itself takes the first; the modules of this collection use them all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Optional, Sequence, Tuple

from .._core.errors import FarmError
from .platform import Platform, runs_natively


@dataclass(frozen=True)
class Candidate:
    """A node before its pins are known.

    :ivar native: None where its processor runs nothing that images are made for, as far as is known.
    :ivar pins: None where nobody fixed them.
    :ivar may_emulate: whether it may run with QEMU what no processor runs.
    """

    name: str
    native: Optional[Platform]
    pins: Optional[Tuple[Platform, ...]] = None
    may_emulate: bool = True

    def runs(self, platform: Platform) -> bool:
        """Say whether the node's processor runs a platform by itself."""
        return self.native is not None and runs_natively(platform, self.native)


@dataclass(frozen=True)
class Assigned:
    """A node with its pins, and those of them that QEMU has to run."""

    name: str
    native: Optional[Platform]
    pins: Tuple[Platform, ...]

    @property
    def emulated(self) -> Tuple[Platform, ...]:
        """The pins that the node's processor does not run by itself; none where nothing is known of it."""
        return tuple(pin for pin in self.pins if self.native and not runs_natively(pin, self.native))


def assign(candidates: Sequence[Candidate], requested: Optional[Sequence[Platform]] = None) -> Tuple[Assigned, ...]:
    """Pin each requested platform to all nodes whose processor runs it, else to all that may emulate it.

    Nodes whose pins are fixed have those. What is fixed on one of them nobody else emulates. If the pins of all nodes
    are fixed, what is requested beside them is shared out among those that have any.

    :param requested: None means what the nodes run natively.
    :raises FarmError: there is no node for one.
    """
    free = [node for node in candidates if node.pins is None]
    fixed = {pin for node in candidates for pin in node.pins or ()}
    own = dict.fromkeys(node.native for node in free if node.native)
    wanted = tuple(own if requested is None else requested)
    unserved = [platform for platform in wanted if platform not in fixed]
    pool = _pool(candidates)
    shared = wanted if free else unserved
    emulated = [platform for platform in unserved if not any(node.runs(platform) for node in pool)]
    emulating = emulators(candidates)
    if emulated and not emulating:
        raise FarmError(f"platform {emulated[0]} is wanted, but {_nobody(candidates)}")

    def pins_of(node: Candidate) -> Tuple[Platform, ...]:
        native = [platform for platform in shared if node.runs(platform)] if node in pool else []
        return (*(node.pins or ()), *native, *(emulated if node in emulating else ()))

    return tuple(Assigned(node.name, node.native, pins_of(node)) for node in candidates)


def emulators(candidates: Sequence[Candidate]) -> List[Candidate]:
    """Return the nodes that get what no processor runs."""
    return [node for node in _pool(candidates) if node.native and node.may_emulate]


def _pool(candidates: Sequence[Candidate]) -> List[Candidate]:
    """Return the nodes that pins are chosen for."""
    return [node for node in candidates if node.pins is None] or [node for node in candidates if node.pins]


def _nobody(candidates: Sequence[Candidate]) -> str:
    if not candidates:
        return "there is no node, in the playbooks a host of group buildx_nodes"
    able = ", ".join(repr(node.name) for node in candidates if node.native)
    if able:
        return (
            f"no processor of {able} runs it, and none of these nodes may emulate it; let one, with farm_node_emulates,"
            " or pin the platform to one with farm_node_platforms"
        )
    names = ", ".join(repr(node.name) for node in candidates)
    return (
        f"the architecture of {names} is none that images are made for; pin the platform to one that runs it all the"
        " same, with farm_node_platforms"
    )
