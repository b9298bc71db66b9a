# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Builds of one or many images on all nodes of a builder: what can be refused is refused before, the result read after.

What is as it was when an image was built is not built again, see ``decision``. Whether a build changed anything is told
by comparing what its destinations hold before and after.
"""

from __future__ import annotations

import threading
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any, Dict, List, Optional, Sequence, Tuple, cast

from .._buildx.cli import Buildx
from .._buildx.node_builders import node_builders
from .._buildx.placement import route_platforms
from .._core.errors import FarmError
from .._core.outcome import Outcome
from .._core.parallel import each
from .._core.progress import SILENT, Progress
from .._core.runner import Runner
from .._core.scratch import scratch_directory
from .._key.fetcher import Fetcher
from .._key.record import Record
from .._key.store import Records
from .._registry.client import Registries
from .built import read_image, verify
from .call import evaluate
from .command import Build
from .contexts import IMAGE
from .declaration import Declaration, Image
from .failure import describe_leftovers
from .farm import Farm, find_farm, with_workers
from .output import REGISTRY
from .plan import PlannedImage, Subject, plan, route
from .preconditions import check_driver, check_exported, check_image_stores, check_split, check_versions
from .report import ImageOutcome
from .schedule import Slots
from .state import State, read_state
from .steps import BuildImage, Result, World
from .subjects import find_subjects
from .watch import Watch


def run(params: Dict[str, Any], check_mode: bool, runner: Runner, progress: Progress = SILENT) -> Outcome:
    """Build images or files as the task's options say: the logic of ``buildx_build``.

    :param progress: takes what is shown while it runs.
    :raises FarmError: nothing was changed, or the message says what was.
    """
    declaration = Declaration.from_params(params)
    outcome = build(declaration, params, check_mode, runner, progress)
    if declaration.images:
        return outcome
    # As where the variable that has them is misspelt.
    return replace(outcome, warnings=(*outcome.warnings, "the list of images is empty, so nothing is built"))


def build(
    declaration: Declaration, params: Dict[str, Any], check_mode: bool, runner: Runner, progress: Progress = SILENT
) -> Outcome:
    """Build what is declared.

    :param params: the task's options, for the docker configuration.
    :raises FarmError: nothing was changed, or the message says what was.
    """
    warnings = declaration.check_files(lenient=check_mode)
    buildx = Buildx.of(params, runner)
    farm = find_farm(params, declaration, buildx)
    for image in declaration.images:
        check_versions(buildx, image)
        check_driver(image, farm.builder.driver)
    for image in declaration.images:
        if image.options.call:
            farm = with_workers(farm, buildx, declaration.platforms, start=not check_mode)
            return _evaluated(image, farm, buildx, warnings)
    fetcher = Fetcher(Registries.of(params, farm.builder.nodes), runner, declaration.checks_remote)
    records = Records(farm.store.directory)
    subjects = find_subjects(declaration, farm, buildx.version(), fetcher, records)
    wanted = [platform for one in subjects if one.decision.builds for platform in one.image.platforms]
    if any(one.decision.builds for one in subjects):
        farm = with_workers(farm, buildx, tuple(dict.fromkeys(wanted)), start=not check_mode)
        without = {**farm.unreachable, **farm.drained}
        warnings += tuple(f"node {name!r} gets no builds: {why}" for name, why in without.items())
    plans = _plans(subjects, declaration, farm, buildx, start=not check_mode)
    unsent = [planned.subject.image.name for planned in plans if planned.build and planned.subject.image.sources]
    if unsent and not check_mode:
        raise FarmError(f"{', '.join(unsent)}: the sources changed while they were sent; run the task again")
    if check_mode:
        return _outcome(declaration, each(plans, lambda planned: _predicted(planned, farm)), warnings)
    slots = Slots(farm.limits(declaration.per_node))
    # What runs on a node that is drained meanwhile goes on; what has not begun goes elsewhere.
    watch = Watch(partial(farm.unanswering, drained=slots.lose), slots.lose)
    with ExitStack() as stack:
        environment = stack.enter_context(node_builders(farm.store, farm.builder))
        layouts = stack.enter_context(scratch_directory("buildx-linked-"))
        stack.enter_context(watch.running())
        world = World(buildx, farm, environment, slots, watch, progress, fetcher, layouts)
        done = _build_all(plans, world, records)
    return _outcome(declaration, done, warnings)


def _evaluated(image: Image, farm: Farm, buildx: Buildx, warnings: Tuple[str, ...]) -> Outcome:
    """Return what the option ``call`` finds out about a Dockerfile; nothing is built."""
    build = Build(image, image.platforms[:1], buildx.version(), (), ())
    found = evaluate(buildx, image.options, build.arguments(farm.builder.name, []))
    return Outcome({}, {}, values={"call": found, "image": None, "outputs": [], "metadata": {}}, warnings=warnings)


def _plans(
    subjects: Sequence[Subject], declaration: Declaration, farm: Farm, buildx: Buildx, start: bool
) -> List[PlannedImage]:
    """Return a plan for each image, once it is certain that the builder can take it."""
    placed = {
        one.number: route_platforms(buildx, farm.builder, one.image.platforms, start)
        for one in subjects
        if one.decision.builds and not one.by_node
    }
    for placement in placed.values():
        # Without platforms the first node builds for its own.
        farm.refuse_drained(placement.names if placement.nodes else [node.name for node in farm.builder.nodes[:1]])
    steps = route(subjects, declaration, farm, buildx.version(), placed)
    for step in steps.values():
        check_split(buildx, step.image.options, () if step.orders else step.nodes)
        check_image_stores(step.image, step.destinations, farm.builder, farm.contexts)
        if step.exported:
            check_exported(buildx, step.image, farm.builder, farm.contexts)
    return [plan(one, steps.get(one.number)) for one in subjects]


def _predicted(planned: PlannedImage, farm: Farm) -> ImageOutcome:
    """Return what would become of an image; one that nothing is done about is there as it is."""
    subject = planned.subject
    image = None if planned.plan.steps else read_image(subject.image, farm, {}, subject.state, {})
    return ImageOutcome(planned, image, natives=farm.natives)


def _read(farm: Farm, subject: Subject, lenient: bool = False) -> State:
    return read_state(subject.image, subject.destinations, farm.registries, farm.contexts, lenient)


def _build_all(plans: Sequence[PlannedImage], world: World, records: Records) -> List[ImageOutcome]:
    """Build images side by side, each after those that it is built from.

    :raises FarmError: at least one failed; all others have been built.
    """
    ended = [threading.Event() for _planned in plans]
    done: List[Optional[ImageOutcome]] = [None] * len(plans)

    def build(number: int) -> None:
        try:
            bases = sorted(set(plans[number].subject.bases.values()))
            for base in bases:
                ended[base].wait()
            # None of those whose error is none of the image's own, and is raised in the end.
            found = [done[base] for base in bases]
            if all(found):
                done[number] = _build(plans[number], world, records, cast(List[ImageOutcome], found))
        finally:
            ended[number].set()

    each(range(len(plans)), build, workers=len(plans))
    finished = cast(List[ImageOutcome], done)
    failed = [one for one in finished if one.error]
    if failed:
        raise _failure(failed, finished)
    return finished


def _build(planned: PlannedImage, world: World, records: Records, bases: Sequence[ImageOutcome]) -> ImageOutcome:
    subject, number = planned.subject, planned.subject.number
    broken = [base.name for base in bases if base.error]
    if broken:
        error = FarmError(f"not built, as it is built from {', '.join(broken)}, which failed")
        return ImageOutcome(planned, error=error)
    try:
        planned.plan.apply(world)
        after = _read(world.farm, subject) if planned.plan.steps else subject.state
        verify(subject.image, after)
        result = world.results.get(number, Result())
        nodes = planned.build.built_on(world) if planned.build else {}
        image = read_image(subject.image, world.farm, nodes, after, result.metadata)
        if image and image.digest and after.registry:
            # With its tag, which is asked for again later.
            world.published[number] = IMAGE + str(replace(subject.image.references[0], digest=image.digest))
        if planned.build:
            _store_records(planned.build, after, result, records)
    except FarmError as exc:
        # Behind the gate the message says it already.
        left_behind = "" if not planned.build or planned.build.is_gated else _left_behind(world.farm, planned)
        error = type(exc)(f"{exc.message}{left_behind}", **exc.details)
        result = world.results.get(number, Result())
        return ImageOutcome(planned, error=error, result=result, natives=world.farm.natives)
    reported = replace(planned, plan=replace(planned.plan, after=after.as_dict()))
    return ImageOutcome(reported, image, result, natives=world.farm.natives)


def _store_records(build: BuildImage, after: State, result: Result, records: Records) -> None:
    """Store the records of results that do not hold them."""
    results = after.results
    for location, inputs in build.inputs.items():
        found = results.get(location)
        if found and not (build.is_annotated and location.kind == REGISTRY):
            record = Record.of(inputs, result.fetched, {}, str(found["digest"]))
            records.write(build.image.record_name(location), record)


def _left_behind(farm: Farm, planned: PlannedImage) -> str:
    """Return what a failed build has changed all the same, as the end of its message."""
    try:
        return describe_leftovers(planned.plan.before, _read(farm, planned.subject, lenient=True).as_dict())
    except FarmError as exc:
        return f"; whether it changed a tag could not be read: {exc.message}"


def _failure(failed: Sequence[ImageOutcome], done: Sequence[ImageOutcome]) -> FarmError:
    """Return the error that names all images that failed."""
    errors = [cast(FarmError, one.error) for one in failed]
    images = [one.as_dict() for one in done]
    if len(done) == 1:
        return type(errors[0])(errors[0].message, **{**errors[0].details, "images": images})
    subjects = [f"image {one.name}: " for one in failed]
    messages = [f"{subject}{error.message.replace(subject, '', 1)}" for subject, error in zip(subjects, errors)]
    return FarmError(
        f"{len(failed)} of {len(done)} images failed: " + "\n".join(messages),
        **{**errors[0].details, "images": images, "changed": any(one["changed"] for one in images)},
    )


def _outcome(declaration: Declaration, done: Sequence[ImageOutcome], warnings: Tuple[str, ...]) -> Outcome:
    """Return the module's outcome."""
    plans = [one.reported for one in done]
    values: Dict[str, Any] = {"images": [one.as_dict() for one in done]}
    if not declaration.is_list:
        (one,) = done
        image = one.image.as_dict() if one.image else None
        values.update(call=None, image=image, outputs=one.outputs, metadata=one.result.metadata)
    return Outcome(
        before={name: value for planned in plans for name, value in planned.before.items()},
        after={name: value for planned in plans for name, value in planned.after.items()},
        actions=[action for planned in plans for step in planned.steps for action in step.actions],
        values=values,
        warnings=warnings + tuple(dict.fromkeys(warning for planned in plans for warning in planned.warnings)),
    )
