# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How an image is shared out: which platforms of it are built together on which node."""

from __future__ import annotations

from typing import Dict, List, Mapping, Sequence, Tuple

from .._core.errors import FarmError
from .._platform.platform import Platform, listed
from .._platform.spread import eligible, spread
from .declaration import Image
from .farm import ACTIVATE, Farm

#: The nodes that may build a platform of an image, in the order in which they are tried.
Orders = Mapping[Platform, Tuple[str, ...]]
#: Platforms that one run of buildx builds.
Share = Tuple[Platform, ...]


def orders_of(
    images: Sequence[Image], built: Sequence[Sequence[Platform]], farm: Farm, emulation: str
) -> List[Dict[Platform, Tuple[str, ...]]]:
    """Return for each image and each of its platforms the nodes that may build it, in the order of their choice.

    :param built: the platforms of each image that are built.
    :raises FarmError: no node serves a platform.
    """
    wanted = dict.fromkeys(platform for platforms in built for platform in platforms)
    candidates = {platform: eligible(platform, farm.workers, emulation) for platform in wanted}
    missing = [platform for platform, nodes in candidates.items() if not nodes]
    if missing:
        raise FarmError(_unserved(missing, farm, emulation))
    keys = _keys(images)
    found = spread([(key, platform) for key, platforms in zip(keys, built) for platform in platforms], candidates)
    return [{platform: found[(key, platform)] for platform in platforms} for key, platforms in zip(keys, built)]


def _keys(images: Sequence[Image]) -> List[str]:
    """Return by what each image chooses its nodes: its repository, of which it may be another release next time.

    Several images of one repository have their tags or contexts as well, so that they need not have one node.
    """
    repositories = [image.repositories[0] if image.tags else image.context for image in images]
    return [key if repositories.count(key) == 1 else image.name for key, image in zip(repositories, images)]


def shared_out(platforms: Sequence[Platform], orders: Orders, together: bool) -> Tuple[Share, ...]:
    """Return platforms in groups that are built by one run of buildx each.

    :param together: the result has to come from one node.
    """
    if not platforms:
        return ((),)
    if together and common_nodes(platforms, orders):
        return (tuple(platforms),)
    groups: Dict[str, List[Platform]] = {}
    for platform in platforms:
        groups.setdefault(orders[platform][0], []).append(platform)
    return tuple(tuple(group) for group in groups.values())


def common_nodes(platforms: Sequence[Platform], orders: Orders) -> Tuple[str, ...]:
    """Return the nodes that may build all of several platforms, in the order of the first one's choice."""
    return tuple(node for node in orders[platforms[0]] if all(node in orders[other] for other in platforms[1:]))


def _unserved(platforms: Sequence[Platform], farm: Farm, emulation: str) -> str:
    served = [f"node {worker.name!r} serves {listed(worker.pins) or 'none'}" for worker in farm.workers]
    gone = [f"node {name!r} does not answer: {why}" for name, why in farm.unreachable.items()]
    gone += [f"node {name!r} gets no builds: {why}; {ACTIVATE}" for name, why in farm.drained.items()]
    subject = f"builder {farm.builder.name!r}: no node serves {listed(platforms)}"
    if emulation == "forbid":
        return (
            f"{subject} without emulation; {'; '.join(served + gone)}; add a node whose own processor runs it, or set "
            f"emulation to prefer_native"
        )
    return (
        f"{subject}; {'; '.join(served + gone)}; "
        f"have a node emulate it (farm_platforms of the playbook site, or module buildfarm.multiarch.binfmt), or, for "
        f"a Dockerfile that cross-compiles, pin the platform to a node (module buildfarm.multiarch.buildx_builder)"
    )
