# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Multi-platform builds: everything that can be refused is refused before, and the result is read after.

BuildKit decides what has to be built again. Whether a build changed anything is decided here, by comparing what its
destinations hold before and after.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Dict, List, Mapping, Optional

from .._buildx.cli import Buildx
from .._core.errors import FarmError
from .._core.outcome import Outcome
from .._core.plan import Plan
from .._core.progress import SILENT, Progress
from .._core.runner import CommandError, Runner
from .declaration import Declaration
from .failure import build_error, describe_leftovers
from .image import BuiltImage, read_image, verify
from .plan import plan
from .state import State, read_state
from .steps import Execution
from .target import Target, find_target


def run(params: Dict[str, Any], check_mode: bool, runner: Runner, progress: Progress = SILENT) -> Outcome:
    """Build an image or files as the task's options say: the logic of ``buildx_build``.

    :param progress: takes what is shown while it runs.
    :raises FarmError: nothing was changed, or the message says what was.
    """
    declaration = Declaration.from_params(params)
    warnings = declaration.check_files(lenient=check_mode)
    buildx = Buildx.of(params, runner)
    target = find_target(params, declaration, buildx, start=not check_mode)
    before = read_state(declaration, target, lenient=True)
    planned = plan(declaration, target.builder.name, buildx.version(), before)
    planned = replace(planned, warnings=warnings + planned.warnings)
    if check_mode:
        return _outcome(planned, target, None, {})
    execution = Execution(buildx, progress)
    try:
        planned.apply(execution)
    except CommandError as exc:
        left_behind = _left_behind(declaration, target, before)
        raise build_error(exc, declaration, target.builder.name, planned.steps[0].action, left_behind) from exc
    after = read_state(declaration, target)
    verify(declaration, after)
    image = read_image(declaration, target, after, execution.metadata)
    return _outcome(replace(planned, after=after.as_dict()), target, image, execution.metadata)


def _left_behind(declaration: Declaration, target: Target, before: State) -> str:
    """Return what a failed build has changed all the same, as the end of its message."""
    try:
        return describe_leftovers(before, read_state(declaration, target, lenient=True))
    except FarmError as exc:
        return f"; whether it changed a tag could not be read: {exc.message}"


def _outcome(
    planned: Plan[Execution], target: Target, image: Optional[BuiltImage], metadata: Mapping[str, Any]
) -> Outcome:
    """Return the module's outcome; a build after which each destination holds what it held is no change."""
    if planned.after == planned.before:
        planned = replace(planned, steps=())
    outputs: List[Dict[str, Any]] = [
        {
            "type": output.type,
            "dest": output.dest or None,
            "digest": (planned.after.get(output.dest) or {}).get("digest"),
        }
        for output in (destination.output for destination in target.destinations)
    ]
    return planned.outcome(image=image.as_dict() if image else None, outputs=outputs, metadata=metadata)
