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

from ._errors import FarmError
from ._platforms import Platform, runs_natively


@dataclass(frozen=True)
class Candidate:
    """A node before its pins are known; ``pins`` is None where nobody fixed them."""

    name: str
    native: Platform
    pins: Optional[Tuple[Platform, ...]] = None


@dataclass(frozen=True)
class Assigned:
    """A node with its pins, and those of them that QEMU has to run."""

    name: str
    native: Platform
    pins: Tuple[Platform, ...]

    @property
    def emulated(self) -> Tuple[Platform, ...]:
        """The pins that the node's processor does not run by itself."""
        return tuple(pin for pin in self.pins if not runs_natively(pin, self.native))


def assign(candidates: Sequence[Candidate], requested: Sequence[Platform] = ()) -> Tuple[Assigned, ...]:
    """Pin each requested platform to one node: native where there is one, on the least burdened otherwise.

    :param requested: empty means what the nodes run natively.
    :raises FarmError: two nodes are fixed to one platform, which buildx would silently take from the first.
    """
    wanted = tuple(requested) or tuple(dict.fromkeys(node.native for node in candidates if node.pins is None))
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
    # Native pins first, so that emulated ones go where the fewest builds will run.
    unserved.sort(key=lambda platform: not any(runs_natively(platform, node.native) for node in free))
    for platform in unserved:
        native = [node for node in free if runs_natively(platform, node.native)]
        pool = native or free or list(candidates)
        if not pool:
            raise FarmError(f"platform {platform} is wanted, but there is no node")
        chosen = min(pool, key=lambda node: len(pins[node.name]))
        pins[chosen.name].append(platform)
    return tuple(Assigned(node.name, node.native, tuple(pins[node.name])) for node in candidates)
