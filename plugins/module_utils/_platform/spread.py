# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which of several nodes builds a platform of an image: the same one each time, and all nodes within a list.

Rendezvous hashing (Thaler and Ravishankar 1998): each node has a weight for each image and platform, and the heaviest
builds it. So caches stay warm, and a node that joins or leaves moves its own share of the choices only. Within a list
loads are bounded, as in "Consistent Hashing with Bounded Loads" (Mirrokni, Thorup, Zadimoghaddam 2018).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Dict, Mapping, Sequence, Tuple

from .platform import Platform, runs_natively
from .routing import Worker, serves

#: An image's repository, normalised and without a tag, and one of its platforms.
Job = Tuple[str, Platform]


def preference(image: str, platform: Platform, nodes: Sequence[str]) -> Tuple[str, ...]:
    """Return all nodes, the one that builds a platform of an image first, then those that do without it, in order.

    :param image: its normalised repository without a tag, so that an image stays on its node from release to release.
    """
    return tuple(sorted(dict.fromkeys(nodes), key=lambda node: _weight(image, platform, node), reverse=True))


def spread(jobs: Sequence[Job], candidates: Mapping[Platform, Sequence[str]]) -> Dict[Job, Tuple[str, ...]]:
    """Return the nodes of each build of a list in the order in which they are tried; the first one is chosen for it.

    A node is chosen for no more builds of a platform than its share, rounded up. Where more builds prefer it, those in
    which it weighs most have it, and each of the others takes the next of its own preference that has room. Neither
    the order of the builds nor that of the nodes counts, and a single build has the node that it prefers.

    :param candidates: the nodes that may build each platform, one at least.
    """
    found: Dict[Job, Tuple[str, ...]] = {}
    for platform in dict.fromkeys(platform for _image, platform in jobs):
        images = list(dict.fromkeys(image for image, wanted in jobs if wanted == platform))
        chosen = _chosen(images, platform, tuple(dict.fromkeys(candidates[platform])))
        for image in images:
            others = (node for node in preference(image, platform, candidates[platform]) if node != chosen[image])
            found[image, platform] = (chosen[image], *others)
    return found


def _chosen(images: Sequence[str], platform: Platform, nodes: Sequence[str]) -> Dict[str, str]:
    """Return each image's node: the heaviest pairs first, as long as a node has room."""
    share = -(-len(images) // len(nodes))
    pairs = sorted(((_weight(image, platform, node), image, node) for image in images for node in nodes), reverse=True)
    chosen: Dict[str, str] = {}
    loads: Counter[str] = Counter()
    for _weighs, image, node in pairs:
        if image not in chosen and loads[node] < share:
            chosen[image] = node
            loads[node] += 1
    return chosen


def _weight(image: str, platform: Platform, node: str) -> bytes:
    return hashlib.sha256("\0".join((image, str(platform), node)).encode()).digest()


def eligible(platform: Platform, workers: Sequence[Worker], emulation: str) -> Tuple[str, ...]:
    """Return the names of the nodes that may build a platform, in the builder's order.

    A node serves its pins, with older variants of their architectures; one without pins serves what its BuildKit
    detected, likewise. As in buildx, a platform that no node serves by that rule is served by all whose BuildKit
    detected it.

    :param emulation: ``prefer_native`` leaves out nodes that emulate it where others need not, ``forbid`` in any case,
        and ``allow`` none.
    """
    serving = [worker for worker in workers if serves(worker.pins or worker.detected or (), platform)]
    serving = serving or [worker for worker in workers if serves(worker.detected or (), platform)]
    native = [worker for worker in serving if _runs_natively(platform, worker)]
    if emulation == "forbid" or (emulation == "prefer_native" and native):
        serving = native
    return tuple(worker.name for worker in serving)


def _runs_natively(platform: Platform, worker: Worker) -> bool:
    """Say whether a node's own processor runs a platform; pins are believed where it is not known.

    BuildKit lists the platform of its processor first (``util/archutil/detect.go``).
    """
    if worker.native is None and serves(worker.pins, platform):
        return True
    own = worker.native or next(iter(worker.detected or ()), None)
    return own is not None and runs_natively(platform, own)
