# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which node serves which platform: every requested platform gets exactly one pin.

A pin that only emulation can serve is better than none: BuildKit's second pass, which
runs when any requested platform has no pin, ignores what was pinned where and gives
ties to the first node (BuildKit ``build/resolver/driver.go``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, Optional, Sequence, Tuple

from .._core.errors import FarmError
from .platform import Platform, runs_natively


@dataclass(frozen=True)
class Candidate:
    """A node before its pins are known.

    :ivar native: None where its processor runs nothing that images are made for, as far as is known.
    :ivar pins: None where nobody fixed them.
    """

    name: str
    native: Optional[Platform]
    pins: Optional[Tuple[Platform, ...]] = None

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


def assign(candidates: Sequence[Candidate], requested: Sequence[Platform] = ()) -> Tuple[Assigned, ...]:
    """Pin each requested platform to one node: native where there is one, on the least burdened otherwise.

    Which node emulates a platform does not depend on which others run what, so that it is the same while some node is
    missing: what a node runs natively burdens it whether it is pinned there or on another one.

    :param requested: empty means what the nodes run natively.
    :raises FarmError: two nodes are fixed to one platform, which buildx would silently take from the first, or there is
        no node for one.
    """
    wanted = tuple(requested) or tuple(
        dict.fromkeys(node.native for node in candidates if node.native and node.pins is None)
    )
    pins: Dict[str, List[Platform]] = {node.name: list(node.pins or ()) for node in candidates}
    owner: Dict[Platform, str] = {}
    for node in candidates:
        for pin in node.pins or ():
            if pin in owner:
                raise FarmError(
                    f"platform {pin} is fixed on node {owner[pin]!r} and on node {node.name!r}; "
                    "a builder's platform belongs to one node: remove it from one of the two"
                )
            owner[pin] = node.name
    free = [node for node in candidates if node.pins is None]
    unserved = [platform for platform in wanted if platform not in owner]
    emulated = [platform for platform in unserved if not any(node.runs(platform) for node in free)]
    for platform in unserved:
        if platform not in emulated:
            chosen = min((node for node in free if node.runs(platform)), key=lambda node: len(pins[node.name]))
            pins[chosen.name].append(platform)
    pool = [node for node in free or candidates if node.native]
    natives = [node.native for node in pool]
    burden = {
        node.name: len([one for one in unserved if node.runs(one)] if node.pins is None else node.pins) for node in pool
    }
    # Of several that are the same the last, as the first has the pin of what all of them run.
    pool.reverse()
    pool.sort(key=lambda node: (natives.count(node.native) == 1, natives.index(node.native)))
    for platform in emulated:
        if not pool:
            raise FarmError(f"platform {platform} is wanted, but {_nobody(candidates)}")
        runs = [node for node in pool if node.runs(platform)] or pool
        chosen = min(runs, key=lambda node: burden[node.name])
        burden[chosen.name] += 1
        pins[chosen.name].append(platform)
    return tuple(Assigned(node.name, node.native, tuple(pins[node.name])) for node in candidates)


def _nobody(candidates: Sequence[Candidate]) -> str:
    if not candidates:
        return "there is no node"
    names = ", ".join(repr(node.name) for node in candidates)
    return (
        f"the architecture of {names} is none that images are made for; pin the platform to one that runs it all the"
        " same, with farm_node_platforms"
    )
