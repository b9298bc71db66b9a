# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The logic of ``buildx_bake``: evaluate a definition once, and build its targets as images of ours."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Dict, List, Sequence, Tuple

from .._build.apply import build
from .._build.declaration import Declaration, Image
from .._buildx.cli import Buildx, Version
from .._core.errors import FarmError
from .._core.outcome import Outcome
from .._core.progress import SILENT, Progress
from .._core.runner import Runner
from .._image.declaration import ImageChecks
from .declaration import Bake
from .definition import check_directory, evaluate
from .targets import Place, Target, images_of, targets_of

#: buildx's first versions with contexts that are targets, and with contexts that are layouts.
_LINKS: Version = (0, 8, 0)
_LAYOUTS: Version = (0, 10, 0)
#: Options that are the same for all targets; those of attestations count where a target says nothing.
_COMMON = ("timeout", "provenance", "sbom")


def run(params: Dict[str, Any], check_mode: bool, runner: Runner, progress: Progress = SILENT) -> Outcome:
    """Build the targets of a bake definition.

    :param progress: takes what is shown while it runs.
    :raises FarmError: nothing was changed, or the message says what was.
    """
    bake = Bake.from_params(params)
    missing = check_directory(bake)
    if missing and check_mode:
        nothing: Dict[str, Any] = {"images": [], "call": {}}
        return Outcome({}, {}, values=nothing, warnings=(f"{missing} yet, so nothing can be predicted",))
    if missing:
        raise FarmError(f"{missing}; put the definition there, or name another place")
    buildx = Buildx.of(params, runner)
    definition = evaluate(bake, buildx)
    place = Place(bake.directory, bake.source, bake.variables)
    targets = targets_of(definition.targets, place, definition.requested)
    if not targets:
        raise FarmError(f"the definition has no target {', '.join(bake.targets) or 'to build'}")
    bake.allowed.check([(target.name, need) for target in targets for need in target.needs])
    images = images_of(targets, definition.requested, _common(params, targets))
    _check_links(images, buildx)
    called = {image.title: image for image in images if image.options.call}
    calls, warnings = _calls(called, params, check_mode, runner)
    built = tuple(image for image in images if image.title not in called and _is_built(image, images, called))
    if not built:
        return Outcome({}, {}, values={"images": [], "call": calls}, warnings=warnings)
    outcome = build(Declaration.of(_checked(built, params), params), params, check_mode, runner, progress)
    return replace(outcome, values={**outcome.values, "call": calls}, warnings=outcome.warnings + warnings)


def _common(params: Dict[str, Any], targets: Sequence[Target]) -> Dict[str, Any]:
    """Return the options that the task gives to all images.

    :raises FarmError: a target declares an attestation that the task declares, too.
    """
    for target in targets:
        for entry in target.params.get("attest") or ():
            kind = entry.get("type")
            if params.get(kind) is not None:
                raise FarmError(f"target {target.name} has an attestation {kind} of its own; remove the option {kind}")
    return {name: params.get(name) for name in _COMMON}


def _check_links(images: Sequence[Image], buildx: Buildx) -> None:
    """Refuse contexts that are targets where this buildx cannot be given them.

    :raises FarmError: naming what is needed.
    """
    pushed = {image.title for image in images if image.is_pushed}
    for image in images:
        for name, title in image.links:
            buildx.require(f"target {image.title}: contexts: {name}", _LINKS)
            if title not in pushed:
                buildx.require(f"target {image.title}: contexts: {name}, of a target that is not pushed,", _LAYOUTS)
            if image.options.call:
                raise FarmError(
                    f"target {image.title}: call {image.options.call} cannot be done with contexts that are targets, "
                    f"as nothing is built; give it the image's name instead of target:{title}"
                )


def _is_built(image: Image, images: Sequence[Image], called: Dict[str, Image]) -> bool:
    """Return whether an image is wanted, or another one that is built links to it."""
    return not image.only_linked or any(
        title == image.title and other.title not in called for other in images for _name, title in other.links
    )


def _checked(images: Sequence[Image], params: Dict[str, Any]) -> Tuple[Image, ...]:
    """Return images with what each is put to before its tags move: those that are pushed, as others have none."""
    if not params.get("programs"):
        return tuple(images)
    checks = ImageChecks.from_params(params)
    return tuple(replace(image, checks=checks) if image.is_pushed else image for image in images)


def _calls(
    called: Dict[str, Image], params: Dict[str, Any], check_mode: bool, runner: Runner
) -> Tuple[Dict[str, Any], Tuple[str, ...]]:
    """Return what was found out about targets that are not built, and warnings."""
    found: Dict[str, Any] = {}
    warnings: List[str] = []
    for title, image in called.items():
        outcome = build(Declaration.of((image,), params), params, check_mode, runner)
        found[title] = outcome.values["call"]
        warnings += outcome.warnings
    return found, tuple(warnings)
