# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Comparing an image with what a task declares of it: the logic of ``image_verify``."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional

from .._buildx.cli import Buildx
from .._core.errors import FarmError
from .._core.runner import Runner
from .._docker.config import config_dir
from .._docker.context_store import ContextStore
from .check import CheckResult
from .declaration import Declaration
from .describe import PlatformImage
from .engines import choose_engines
from .index import Index
from .platform_checks import CheckedPlatform, check_platforms
from .state import read_state


def run(params: Dict[str, Any], _check_mode: bool, runner: Runner) -> Mapping[str, Any]:
    """Compare an image with what a task declares of it.

    :raises FarmError: it differs, and how; or it could not be checked.
    """
    declaration = Declaration.from_params(params)
    buildx, contexts = Buildx.of(params, runner), ContextStore(config_dir(params))
    state = read_state(params, declaration, buildx, contexts)
    problems = index_problems(declaration, state.index)
    engines = choose_engines(declaration, state, buildx)
    # Of several images for one platform the first, as engines take it.
    digests = {entry.platform: entry.digest for entry in reversed(state.index.manifests) if entry.platform}
    images = {platform: declaration.reference.at(digests[platform]) for platform in engines}
    checked = check_platforms(declaration.checks, images, engines, contexts) if declaration.checks else []
    problems += [str(one) for one in checked if one.problem]
    by_platform = {one.platform: one for one in checked}
    # Of several images for one platform the first was checked.
    shown = [_as_dict(image, by_platform.pop(image.platform, None)) for image in state.images]
    image = {"name": str(declaration.reference), "digest": state.index.digest, "platforms": shown}
    if problems:
        raise FarmError(f"image {declaration.reference}: {'; '.join(problems)}", image=image)
    return {"image": image}


def index_problems(declaration: Declaration, index: Index) -> List[str]:
    """Return how an index differs from what is declared; empty if it does not."""
    problems = []
    if declaration.digest and declaration.digest != index.digest:
        problems.append(f"its digest is {index.digest}, wanted {declaration.digest}")
    problems += [
        f"{platform} is there {len(digests)} times, of which engines take the first: {', '.join(digests)}"
        for platform, digests in index.repeated.items()
    ]
    wanted = declaration.platforms
    missing = [str(platform) for platform in wanted if platform not in index.platforms]
    unexpected = [str(platform) for platform in index.platforms if platform not in wanted]
    if not wanted or not declaration.exact:
        unexpected = []
    if missing or unexpected:
        differences = (("missing", missing), ("unexpected", unexpected))
        parts = [f"{kind} {', '.join(platforms)}" for kind, platforms in differences if platforms]
        found = ", ".join(str(platform) for platform in index.platforms) or "none"
        problems.append(
            f"{', '.join(parts)} (platforms found: {found}; wanted: {', '.join(str(item) for item in wanted)})"
        )
    return problems


def _as_dict(image: PlatformImage, checked: Optional[CheckedPlatform]) -> Dict[str, Any]:
    """Return a platform's image as the module returns it."""
    result = checked.result if checked else CheckResult()
    findings, ran = result.findings, result.run
    values = image.as_dict()
    if checked:
        values.update(node=checked.engine.node, native=ran.native if ran else values["native"])
    values.update(
        endpoint=str(checked.engine.endpoint) if checked else None,
        programs=[{"path": one.path, "architecture": one.arch} for one in findings.programs] if findings else None,
        output=ran.stdout if ran else None,
        rc=ran.rc if ran else None,
    )
    return values
