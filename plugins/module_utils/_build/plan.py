# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The plan of a task: for each image one step, and what can be predicted of its result without building it."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Sequence

from .._buildx.cli import Version
from .._buildx.placement import Placement
from .._core.plan import Plan
from .command import METADATA
from .declaration import Declaration, Image
from .destination import Destination
from .farm import Farm
from .order import bases_of
from .preconditions import check_gate, check_nodes
from .shares import Orders, orders_of, shared_out
from .state import Report, State, names
from .steps import BuildImage, World

#: Outputs of a single file or engine: one node builds them as a whole where one can.
_WHOLE = ("oci", "docker", "tar")


def route(
    declaration: Declaration,
    farm: Farm,
    version: Version,
    destinations: Sequence[Sequence[Destination]],
    placed: Sequence[Optional[Placement]],
) -> List[BuildImage]:
    """Return the step of each image: which nodes build which of its platforms, and for which other images it waits.

    :param version: buildx's.
    :param destinations: of each image.
    :param placed: of each image that is not built node by node, where buildx builds it.
    :raises FarmError: no node serves a platform, or an output cannot be joined from the nodes that do.
    """
    images, bases = declaration.images, bases_of(declaration.images)
    by_node = [image for image, placement in zip(images, placed) if placement is None]
    orders = iter(orders_of(by_node, farm, declaration.emulation))
    steps = []
    for number, (image, placement) in enumerate(zip(images, placed)):
        step = BuildImage(
            image=image,
            number=number,
            builder=farm.builder.name,
            version=version,
            destinations=tuple(destinations[number]),
            bases=bases[number],
            **(_by_buildx(image, placement) if placement else _by_node(image, next(orders))),
        )
        check_gate(image, step.is_gated, farm.builder.driver)
        check_nodes([one.output for one in step.destinations if one.output not in step.joined], step.builder, step.nodes)
        steps.append(step)
    return steps


def plan(step: BuildImage, state: State) -> Plan[World]:
    """Return the plan of an image.

    BuildKit decides what has to be built again, so there always is that step. It is a change where a destination
    holds something else afterwards, which is predicted as far as it can be.
    """
    return Plan(state.as_dict(), predict(step.image, state), (step,), state.warnings)


def is_built_by_node(declaration: Declaration, image: Image, farm: Farm, version: Version) -> bool:
    """Return whether an image is built node by node; else buildx chooses the nodes, and moves the tags itself."""
    if not farm.routes or not image.platforms:
        return False
    pushes = any(output.pushes for output in image.outputs)
    return not pushes or (declaration.gate and version >= METADATA)


def _by_buildx(image: Image, placement: Placement) -> Dict[str, Any]:
    return {"orders": {}, "shares": (image.platforms,), "placed": placement.nodes}


def _by_node(image: Image, orders: Orders) -> Dict[str, Any]:
    together = any(output.type in _WHOLE for output in image.outputs)
    return {"orders": orders, "shares": shared_out(image.platforms, orders, together)}


def predict(image: Image, state: State) -> Report:
    """Return what destinations will hold at least: an image where there is none, and the declared platforms."""
    wanted = set(image.platforms)
    digests = {index.digest for index in state.registry.values() if index}
    differing = {
        f"registry {tag}"
        for tag, index in state.registry.items()
        if index and ((wanted and set(index.platforms) != wanted) or len(digests) > 1)
    }
    # An engine reports one platform only, whatever it has.
    differing |= {
        f"engine {tag}"
        for tag, found in state.engine.items()
        if found and wanted and not wanted.issuperset(found.platforms)
    }
    built = {"digest": None, "platforms": names(image.platforms)}
    return {name: built if value is None or name in differing else value for name, value in state.as_dict().items()}
