# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which node of a builder builds which platform, decided as buildx decides it.

Source of the rules: docker/buildx ``build/resolver/driver.go``, containerd's ``platforms.Only`` and
``platforms.OnlyStrict``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Iterable, List, Optional, Sequence, Tuple

from .platform import Platform, runs_natively


@dataclass(frozen=True)
class Worker:
    """A node as buildx sees it when it looks for one.

    :ivar pins: the platforms fixed in the builder's definition.
    :ivar detected: what BuildKit says it runs; None where it was not asked.
    :ivar native: the platform of the node's engine; None where it is not known.
    """

    name: str
    pins: Tuple[Platform, ...] = ()
    detected: Optional[Tuple[Platform, ...]] = None
    native: Optional[Platform] = None


@dataclass(frozen=True)
class Route:
    """A platform's way to its node.

    :ivar source: ``pin`` or ``detected``.
    :ivar native: whether the node's own processor runs it; None where the node's platform is not known.
    """

    platform: Platform
    node: str
    source: str
    native: Optional[bool]

    def as_dict(self) -> Dict[str, object]:
        """Return the values as JSON types."""
        return {"platform": str(self.platform), "node": self.node, "source": self.source, "native": self.native}


def routes(requested: Sequence[Platform], workers: Sequence[Worker]) -> Tuple[Tuple[Route, ...], Tuple[Platform, ...]]:
    """Return the way of each platform of one build, and the platforms that no node serves.

    buildx first looks for pins that are exactly the platform. If that fails for a single platform of the build,
    all platforms are looked for once more among pins and detected ones together, and pins have no priority then.
    buildx itself sends a platform that no node serves to the first node, without an error.
    """
    found = [(platform, _find(platform, workers, strict=True)) for platform in requested]
    if any(worker is None for _platform, worker in found):
        found = [(platform, _find(platform, workers, strict=False)) for platform in requested]
    served = tuple(_route(platform, worker) for platform, worker in found if worker is not None)
    return served, tuple(platform for platform, worker in found if worker is None)


def _route(platform: Platform, worker: Worker) -> Route:
    return Route(
        platform,
        worker.name,
        "pin" if platform in worker.pins else "detected",
        None if worker.native is None else runs_natively(platform, worker.native),
    )


def _find(platform: Platform, workers: Sequence[Worker], strict: bool) -> Optional[Worker]:
    best: Optional[Worker] = None
    best_offer: Optional[Platform] = None
    for worker in workers:
        for offer in worker.pins + (() if strict else worker.detected or ()):
            accepted = [offer] if strict else runs(offer)
            if platform not in accepted:
                continue
            if best_offer is None or accepted.index(platform) < _index(accepted, best_offer):
                best, best_offer = worker, offer
    return best


def _index(accepted: Sequence[Platform], platform: Platform) -> int:
    return accepted.index(platform) if platform in accepted else len(accepted)


def runs(offer: Platform) -> List[Platform]:
    """Return what containerd takes a platform to run, best first: ``arm64`` runs all of ``arm``, ``amd64`` runs 386."""
    if offer.arch == "amd64":
        level = int(offer.variant[1:] or 1) if offer.variant[1:].isdigit() or not offer.variant else 1
        lower = [Platform.make(offer.os, "amd64", f"v{number}") for number in range(level, 0, -1)]
        return [*lower, Platform(offer.os, "386")]
    if offer.arch == "arm64":
        return [*dict.fromkeys((offer, Platform(offer.os, "arm64"))), *_arm(offer.os, 8)]
    if offer.arch == "arm" and offer.variant[1:].isdigit():
        return _arm(offer.os, int(offer.variant[1:]))
    return [offer]


def serves(offers: Iterable[Platform], platform: Platform) -> bool:
    """Say whether one of several platforms is another one, or a newer variant of its architecture."""
    return any(offer.arch == platform.arch and platform in runs(offer) for offer in offers)


def _arm(os: str, newest: int) -> List[Platform]:
    return [Platform(os, "arm", f"v{number}") for number in range(newest, 4, -1)]
