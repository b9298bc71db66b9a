# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The plan of a task: for each image what is done about it, and what can be predicted of its result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Mapping, Optional, Sequence, Tuple

from .._buildx.cli import Version
from .._buildx.placement import Placement
from .._core.plan import Plan
from .._key.inputs import Inputs
from .command import METADATA
from .decision import NOTHING, Decision
from .declaration import Declaration, Image
from .destination import Destination, Location
from .farm import Farm
from .order import Bases
from .output import ENGINE, FILE, REGISTRY
from .preconditions import check_gate, check_nodes
from .shares import Orders, orders_of, shared_out
from .state import Report, State, names, report_of
from .steps import BuildImage, PassOn, World

#: Outputs of a single file or engine: one node builds them as a whole where one can.
_WHOLE = ("oci", "docker", "tar")


@dataclass(frozen=True)
class Subject:
    """An image with what was found out about it.

    :ivar number: its position in the list.
    :ivar bases: the images of the list that it is built from.
    :ivar by_node: whether it is built node by node; else buildx chooses the nodes, and moves the tags itself.
    :ivar annotated: whether what its tags stand for holds its record.
    :ivar inputs: what its results are made of.
    :ivar exported: whether images that are built take its result from a layout.
    """

    image: Image
    number: int
    bases: Bases
    destinations: Tuple[Destination, ...]
    by_node: bool
    annotated: bool
    state: State
    inputs: Mapping[Location, Inputs]
    decision: Decision = NOTHING
    exported: bool = False


@dataclass(frozen=True)
class PlannedImage:
    """What is done about an image.

    :ivar build: the step that builds it, None where nothing is built.
    """

    subject: Subject
    plan: Plan[World]
    build: Optional[BuildImage]


def route(
    subjects: Sequence[Subject],
    declaration: Declaration,
    farm: Farm,
    version: Version,
    placed: Mapping[int, Placement],
) -> Dict[int, BuildImage]:
    """Return the step of each image that is built: which nodes build which of its platforms.

    :param version: buildx's.
    :param placed: of each image that is built and not node by node, where buildx builds it.
    :returns: by the images' positions.
    :raises FarmError: no node serves a platform, or an output cannot be joined from the nodes that do.
    """
    built = [one.decision.platforms if one.decision.builds and one.by_node else () for one in subjects]
    orders = orders_of([one.image for one in subjects], built, farm, declaration.emulation)
    steps = {}
    for subject in subjects:
        if not subject.decision.builds:
            continue
        number, placement = subject.number, placed.get(subject.number)
        step = BuildImage(
            image=subject.image,
            number=number,
            builder=farm.builder.name,
            version=version,
            destinations=subject.destinations,
            bases=subject.bases,
            inputs=subject.inputs,
            kept=subject.decision.kept,
            exported=subject.exported,
            **(_by_buildx(subject.image, placement) if placement else _by_node(subject, orders[number])),
        )
        check_gate(step.image, step.is_gated, farm.builder.driver)
        single = [one.output for one in step.destinations if one.output not in step.joined]
        check_nodes(single, step.builder, step.nodes)
        steps[number] = step
    return steps


def plan(subject: Subject, build: Optional[BuildImage]) -> PlannedImage:
    """Return the plan of an image.

    :param build: the step that builds it, None where its decision says that nothing is built.
    """
    decision, state = subject.decision, subject.state
    steps: Tuple[Any, ...] = (build,) if build else ()
    if decision.publishes and not decision.builds and decision.kept:
        steps = (PassOn(subject.image, decision.kept),)
    after = predict(subject.image, state, decision)
    return PlannedImage(subject, Plan(state.as_dict(), after, steps, state.warnings), build)


def is_built_by_node(declaration: Declaration, image: Image, farm: Farm, version: Version) -> bool:
    """Return whether an image is built node by node; else buildx chooses the nodes, and moves the tags itself."""
    if not farm.routes or not image.platforms:
        return False
    return not image.is_pushed or (declaration.gate and version >= METADATA)


def _by_buildx(image: Image, placement: Placement) -> Dict[str, Any]:
    return {"orders": {}, "shares": (image.platforms,), "placed": placement.nodes}


def _by_node(subject: Subject, orders: Orders) -> Dict[str, Any]:
    together = any(output.type in _WHOLE for output in subject.image.outputs)
    return {"orders": orders, "shares": shared_out(subject.decision.platforms, orders, together)}


def predict(image: Image, state: State, decision: Decision) -> Report:
    """Return what destinations will hold at least: an image where there is none, and the declared platforms."""
    results = state.results
    if not decision.acts:
        return report_of(results)
    if decision.kept and decision.kept.whole:
        passed_on = {"digest": decision.kept.digest, "platforms": names(image.platforms)}
        return report_of({one: passed_on if one.kind == REGISTRY else told for one, told in results.items()})
    wanted = set(image.platforms)
    digests = {index.digest for index in state.registry.values() if index}
    differing = {
        Location(REGISTRY, tag)
        for tag, index in state.registry.items()
        if index and (decision.certain or (wanted and set(index.platforms) != wanted) or len(digests) > 1)
    }
    # An engine reports one platform only, whatever it has.
    differing |= {
        Location(ENGINE, tag)
        for tag, found in state.engine.items()
        if found and (decision.certain or (wanted and not wanted.issuperset(found.platforms)))
    }
    differing |= {Location(FILE, path) for path, digest in state.files.items() if digest and decision.certain}
    built = {"digest": None, "platforms": names(image.platforms)}
    return report_of({one: built if told is None or one in differing else told for one, told in results.items()})
