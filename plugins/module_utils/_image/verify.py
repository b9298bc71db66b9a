# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Comparing an image with what a task declares of it: the logic of ``image_verify``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional

from .._buildx.cli import Buildx
from .._core.errors import FarmError
from .._core.parallel import each
from .._core.runner import Runner
from .._docker.config import config_dir
from .._docker.context_store import ContextStore
from .._docker.reference import Reference
from .._platform.platform import Platform
from .check import CheckResult, check_image
from .declaration import Declaration
from .describe import PlatformImage
from .engines import Engine, choose_engines
from .index import Index
from .state import read_state


@dataclass(frozen=True)
class CheckedPlatform:
    """What the checks of one platform's image on an engine found.

    :ivar problem: what is wrong, None if nothing.
    """

    platform: Platform
    engine: Engine
    result: CheckResult
    problem: Optional[str]


def run(params: Dict[str, Any], _check_mode: bool, runner: Runner) -> Mapping[str, Any]:
    """Compare an image with what a task declares of it.

    :raises FarmError: it differs, and how; or it could not be checked.
    """
    declaration = Declaration.from_params(params)
    buildx, contexts = Buildx.of(params, runner), ContextStore(config_dir(params))
    state = read_state(params, declaration, buildx, contexts)
    problems = index_problems(declaration, state.index)
    engines = choose_engines(declaration, state, buildx)
    checked = _check_all(declaration, state.index, engines, contexts)
    problems += [f"{one.platform} on {one.engine}: {one.problem}" for one in checked if one.problem]
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


def _check_all(
    declaration: Declaration, index: Index, engines: Mapping[Platform, Engine], contexts: ContextStore
) -> List[CheckedPlatform]:
    """Check the image of each platform on its engine, all at the same time."""
    # Of several images for one platform the first, as engines take it.
    digests = {entry.platform: entry.digest for entry in reversed(index.manifests)}

    def check(platform: Platform) -> CheckedPlatform:
        engine, image = engines[platform], declaration.reference.at(digests[platform])
        try:
            result = _check(declaration, image, platform, engine, contexts)
        except FarmError as exc:
            return CheckedPlatform(platform, engine, CheckResult(), exc.message)
        return CheckedPlatform(platform, engine, result, declaration.problem(platform, result))

    return each(engines, check)


def _check(
    declaration: Declaration, image: Reference, platform: Platform, engine: Engine, contexts: ContextStore
) -> CheckResult:
    """Check one platform's image, and again where the engine lost what it printed.

    What a busy engine has not copied two seconds after the exit, it drops: handleContainerExit in moby's
    daemon/monitor.go, from Docker 20.10 to 29.

    :raises FarmError: the engine cannot check it.
    """
    checks = declaration.checks
    if checks is None:
        return CheckResult()
    result = check_image(engine.endpoint, contexts, image, platform, checks)
    silent = result.run is not None and result.run.rc == 0 and not result.run.stdout
    if silent and declaration.problem(platform, result):
        result = check_image(engine.endpoint, contexts, image, platform, checks)
    return result


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
