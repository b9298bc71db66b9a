# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Builds of one or many images on all nodes of a builder: what can be refused is refused before, the result read after.

BuildKit decides what has to be built again. Whether a build changed anything is decided here, by comparing what its
destinations hold before and after.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from functools import partial
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, cast

from .._buildx.cli import Buildx
from .._buildx.node_builders import node_builders
from .._buildx.placement import route_platforms
from .._core.errors import FarmError
from .._core.outcome import Outcome
from .._core.parallel import each
from .._core.plan import Plan
from .._core.progress import SILENT, Progress
from .._core.runner import Runner
from .built import read_image, verify
from .call import evaluate
from .command import Build
from .declaration import Declaration, Image
from .destination import resolve
from .failure import describe_leftovers
from .farm import Farm, find_farm
from .plan import is_built_by_node, plan, route
from .preconditions import check_image_stores, check_split, check_versions
from .report import ImageOutcome
from .schedule import Slots
from .state import State, read_state
from .steps import BuildImage, World
from .watch import Watch


def run(params: Dict[str, Any], check_mode: bool, runner: Runner, progress: Progress = SILENT) -> Outcome:
    """Build images or files as the task's options say: the logic of ``buildx_build``.

    :param progress: takes what is shown while it runs.
    :raises FarmError: nothing was changed, or the message says what was.
    """
    declaration = Declaration.from_params(params)
    warnings = declaration.check_files(lenient=check_mode)
    buildx = Buildx.of(params, runner)
    farm = find_farm(params, declaration, buildx, start=not check_mode)
    for image in declaration.images:
        if image.options.call:
            return _evaluated(image, farm, buildx, warnings)
    plans = _plans(declaration, farm, buildx, start=not check_mode)
    warnings += tuple(f"node {name!r} gets no builds: {why}" for name, why in {**farm.unreachable, **farm.drained}.items())
    if check_mode:
        return _outcome(params, [ImageOutcome(planned) for planned in plans], warnings)
    slots = Slots(farm.limits(declaration.per_node))
    # What runs on a node that is drained meanwhile goes on; what has not begun goes elsewhere.
    watch = Watch(partial(farm.unanswering, drained=slots.lose), slots.lose)
    with node_builders(farm.store, farm.builder) as environment, watch.running():
        done = _build_all(plans, World(buildx, farm, environment, slots, watch, progress))
    return _outcome(params, done, warnings)


def _evaluated(image: Image, farm: Farm, buildx: Buildx, warnings: Tuple[str, ...]) -> Outcome:
    """Return what the option ``call`` finds out about a Dockerfile; nothing is built."""
    check_versions(buildx, image)
    build = Build(image, image.platforms[:1], buildx.version(), (), ())
    found = evaluate(buildx, image.options, build.arguments(farm.builder.name, []))
    return Outcome({}, {}, values={"call": found, "image": None, "outputs": [], "metadata": {}}, warnings=warnings)


def _plans(declaration: Declaration, farm: Farm, buildx: Buildx, start: bool) -> List[Plan[World]]:
    """Return a plan for each image, once it is certain that the builder can take it."""
    images, version = declaration.images, buildx.version()
    destinations = [resolve(image.outputs, farm.builder) for image in images]
    for image in images:
        check_versions(buildx, image)
    placed = [
        None
        if is_built_by_node(declaration, image, farm, version)
        else route_platforms(buildx, farm.builder, image.platforms, start)
        for image in images
    ]
    for placement in filter(None, placed):
        farm.refuse_drained(placement.names)
    steps = route(declaration, farm, version, destinations, placed)
    for step in steps:
        check_split(buildx, step.image.options, () if step.orders else step.nodes)
        check_image_stores(step.image, step.destinations, farm.builder, farm.contexts)
    states = each(steps, lambda step: _read(farm, step, lenient=True))
    return [plan(step, state) for step, state in zip(steps, states)]


def _read(farm: Farm, step: BuildImage, lenient: bool = False) -> State:
    return read_state(step.image, step.destinations, farm.registries, farm.contexts, lenient)


def _build_all(plans: Sequence[Plan[World]], world: World) -> List[ImageOutcome]:
    """Build images side by side, each after those that it is built from.

    :raises FarmError: at least one failed; all others have been built.
    """
    ended = [threading.Event() for _planned in plans]
    done: List[Optional[ImageOutcome]] = [None] * len(plans)

    def build(number: int) -> None:
        try:
            bases = sorted(set(cast(BuildImage, plans[number].steps[0]).bases.values()))
            for base in bases:
                ended[base].wait()
            # None of those whose error is none of the image's own, and is raised in the end.
            found = [done[base] for base in bases]
            if all(found):
                done[number] = _build(plans[number], world, cast(List[ImageOutcome], found))
        finally:
            ended[number].set()

    each(range(len(plans)), build, workers=len(plans))
    finished = cast(List[ImageOutcome], done)
    failed = [one for one in finished if one.error]
    if failed:
        raise _failure(failed, finished)
    return finished


def _build(planned: Plan[World], world: World, bases: Sequence[ImageOutcome]) -> ImageOutcome:
    step = cast(BuildImage, planned.steps[0])
    broken = [base.step.image.name for base in bases if base.error]
    if broken:
        error = FarmError(f"not built, as it is built from {', '.join(broken)}, which failed")
        return ImageOutcome(planned, error=error)
    try:
        planned.apply(world)
        after = _read(world.farm, step)
        verify(step.image, after)
        result = world.results[step.number]
        image = read_image(step.image, world.farm, step.built_on(world), after, result.metadata)
        if image and image.digest and after.registry:
            world.published[step.number] = str(step.image.references[0].at(image.digest))
    except FarmError as exc:
        # Behind the gate the message says it already.
        left_behind = "" if step.is_gated else _left_behind(world.farm, step, planned)
        error = type(exc)(f"{exc.message}{left_behind}", **exc.details)
        return ImageOutcome(planned, error=error, result=world.results[step.number])
    return ImageOutcome(replace(planned, after=after.as_dict()), image, result)


def _left_behind(farm: Farm, step: BuildImage, planned: Plan[World]) -> str:
    """Return what a failed build has changed all the same, as the end of its message."""
    try:
        return describe_leftovers(planned.before, _read(farm, step, lenient=True).as_dict())
    except FarmError as exc:
        return f"; whether it changed a tag could not be read: {exc.message}"


def _failure(failed: Sequence[ImageOutcome], done: Sequence[ImageOutcome]) -> FarmError:
    """Return the error that names all images that failed."""
    errors = [cast(FarmError, one.error) for one in failed]
    if len(done) == 1:
        return errors[0]
    subjects = [f"image {one.step.image.name}: " for one in failed]
    messages = [f"{subject}{error.message.replace(subject, '', 1)}" for subject, error in zip(subjects, errors)]
    return FarmError(
        f"{len(failed)} of {len(done)} images failed: " + "\n".join(messages),
        **{**errors[0].details, "images": [one.as_dict() for one in done]},
    )


def _outcome(params: Mapping[str, Any], done: Sequence[ImageOutcome], warnings: Tuple[str, ...]) -> Outcome:
    """Return the module's outcome."""
    plans = [one.reported for one in done]
    values: Dict[str, Any] = {"images": [one.as_dict() for one in done]}
    if params.get("images") is None:
        (one,) = done
        values.update(
            call=None, image=one.image.as_dict() if one.image else None, outputs=one.outputs, metadata=one.result.metadata
        )
    return Outcome(
        before={name: value for planned in plans for name, value in planned.before.items()},
        after={name: value for planned in plans for name, value in planned.after.items()},
        actions=[action for planned in plans for step in planned.steps for action in step.actions],
        values=values,
        warnings=warnings + tuple(dict.fromkeys(warning for planned in plans for warning in planned.warnings)),
    )
