# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Comparing images with what a task declares of them: the logic of ``image_verify``."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import Any, Dict, List, Mapping, Optional, Tuple

from .._buildx.cli import Buildx
from .._core.errors import FarmError
from .._core.parallel import each
from .._core.runner import Runner
from .._docker.config import config_dir
from .._docker.context_store import ContextStore
from .._registry.client import Registries
from .assertions import may_pass, problems, query_results
from .check import CheckResult
from .contents import Contents, Part, read_contents
from .declaration import Declaration, Wanted
from .engines import choose_engines
from .layers import examine_image
from .platform_checks import CheckedPlatform, check_platforms
from .sbom import packages_of
from .state import Nodes, named_builder, reached_registries

#: Images that are looked at at the same time; and those that engines are given at the same time.
_READ_AT_ONCE, _CHECKED_AT_ONCE = 64, 4
#: Seconds until a registry is asked again, the first time; twice as long each further time.
_PAUSE, _LONGEST_PAUSE = 0.5, 5.0


@dataclass(frozen=True)
class Verdict:
    """What became of one image.

    :ivar contents: None where the registry has nothing of it, or could not be read.
    :ivar problems: one line each; empty if nothing is wrong.
    :ivar results: what the queries found.
    :ivar checked: on engines.
    """

    wanted: Wanted
    contents: Optional[Contents]
    problems: Tuple[str, ...] = ()
    results: Tuple[Any, ...] = ()
    checked: Tuple[CheckedPlatform, ...] = field(default=())


def run(params: Dict[str, Any], _check_mode: bool, runner: Runner) -> Mapping[str, Any]:
    """Compare images with what a task declares of them.

    :raises FarmError: one differs, and how; or it could not be checked.
    """
    declaration = Declaration.from_params(params)
    buildx, contexts = Buildx.of(params, runner), ContextStore(config_dir(params))
    builder = named_builder(params, buildx)
    registries = reached_registries(params, buildx, builder)
    read = each(declaration.images, lambda wanted: settled_verdict(registries, wanted, declaration.wait), _READ_AT_ONCE)
    nodes = Nodes.of(builder, contexts)

    def checked(verdict: Verdict) -> Verdict:
        return _examined(registries, _checked(verdict, declaration, nodes, buildx, contexts))

    verdicts = each(read, checked, _CHECKED_AT_ONCE)
    images = [_as_dict(verdict, nodes) for verdict in verdicts]
    values: Dict[str, Any] = {"images": images}
    if params.get("images") is None:
        values["image"] = images[0]
    wrong = [verdict for verdict in verdicts if verdict.problems]
    if wrong:
        lines = [f"image {one.wanted.reference}: {problem}" for one in wrong for problem in one.problems]
        heading = [f"{len(wrong)} of {len(verdicts)} images are not as wanted:"] if len(verdicts) > 1 else []
        raise FarmError("\n".join([*heading, *lines]), **values)
    return values


def settled_verdict(registries: Registries, wanted: Wanted, wait: float) -> Verdict:
    """Return what is wrong with an image by its registry alone, asked again where time may mend it.

    :param wait: seconds.
    """
    deadline, pause = time.monotonic() + wait, _PAUSE
    while True:
        try:
            contents = read_contents(registries, wanted.reference, wanted.depth)
        except FarmError as exc:
            return Verdict(wanted, None, (exc.message,))
        if not may_pass(wanted, contents) or time.monotonic() + pause > deadline:
            break
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)
    if contents is None:
        registry = wanted.reference.registry
        return Verdict(wanted, None, (f"the registry {registry} has none of this name; was it pushed?",))
    results, failed = query_results(wanted, contents.as_dict(deep=True)) if wanted.queries else ([], [])
    return Verdict(wanted, contents, (*problems(wanted, contents), *failed), tuple(results))


def _checked(
    verdict: Verdict, declaration: Declaration, nodes: Nodes, buildx: Buildx, contexts: ContextStore
) -> Verdict:
    """Return a verdict with what engines found of the image, where they are to look at it."""
    wanted, contents = verdict.wanted, verdict.contents
    if contents is None or wanted.checks is None:
        return verdict
    try:
        engines = choose_engines(wanted, contents.index, nodes, declaration.endpoints, buildx)
    except FarmError as exc:
        return Verdict(wanted, contents, (*verdict.problems, exc.message), verdict.results)
    # Of several images for one platform the first, as engines take it; of those that are gone there is nothing.
    there = {part.entry.platform: part.entry.digest for part in reversed(contents.images) if part.document is not None}
    engines = {platform: engine for platform, engine in engines.items() if platform in there}
    images = {platform: wanted.reference.at(there[platform]) for platform in engines}
    checked = tuple(check_platforms(wanted.checks, images, engines, contexts))
    found = [str(one) for one in checked if one.problem]
    return Verdict(wanted, contents, (*verdict.problems, *found), verdict.results, checked)


def _examined(registries: Registries, verdict: Verdict) -> Verdict:
    """Return a verdict with what the layers in the registry say of programs that no engine is there to examine."""
    wanted, contents = verdict.wanted, verdict.contents
    if contents is None or wanted.checks is None or wanted.checks.run or verdict.checked:
        return verdict
    checked = []
    for platform in contents.index.platforms:
        # Of several images for one platform the first, as engines take it.
        part = next(part for part in contents.images if part.entry.platform == platform)
        if platform.os == "linux" and platform in (wanted.platforms or (platform,)) and part.document is not None:
            try:
                result = CheckResult(examine_image(registries, wanted.reference, part, platform))
                problem = wanted.checks.problem(platform, result)
            except FarmError as exc:
                result, problem = CheckResult(), exc.message
            checked.append(CheckedPlatform(platform, None, result, problem))
    found = [str(one) for one in checked if one.problem]
    return replace(verdict, problems=(*verdict.problems, *found), checked=tuple(checked))


def _as_dict(verdict: Verdict, nodes: Nodes) -> Dict[str, Any]:
    """Return an image as the module returns it."""
    contents = verdict.contents
    by_platform = {one.platform: one for one in verdict.checked}
    shown: List[Dict[str, Any]] = []
    for part in contents.images if contents else ():
        # Of several images for one platform the first was checked.
        checked = by_platform.pop(part.entry.platform, None) if part.entry.platform else None
        shown.append(_part_as_dict(part, checked, nodes))
    return {
        "name": str(verdict.wanted.reference),
        "digest": contents.index.digest if contents else None,
        "media_type": contents.index.media_type if contents else None,
        "kind": contents.kind if contents else None,
        "platforms": shown,
        "problems": list(verdict.problems),
        "results": list(verdict.results),
    }


def _part_as_dict(part: Part, checked: Optional[CheckedPlatform], nodes: Nodes) -> Dict[str, Any]:
    """Return a platform's image as the module returns it."""
    platform, result = part.entry.platform, checked.result if checked else CheckResult()
    findings, ran, sboms = result.findings, result.run, part.sboms
    node = nodes.pinned.get(platform) if platform else None
    name = node.name if node else None
    native = nodes.runs_natively(platform, name) if platform and name else None
    if checked and checked.engine:
        name = checked.engine.node
        native = ran.native if ran else nodes.runs_natively(checked.platform, name) if name else native
    return {
        "platform": str(platform),
        "digest": part.entry.digest,
        "size": part.size if part.document is not None else None,
        "node": name,
        "native": native,
        "endpoint": str(checked.engine.endpoint) if checked and checked.engine else None,
        "programs": [{"path": one.path, "architecture": one.arch} for one in findings.programs] if findings else None,
        "sbom": {"formats": sorted({one.format for one in sboms}), "packages": len(packages_of(sboms))}
        if sboms
        else None,
        "output": ran.stdout if ran else None,
        "rc": ran.rc if ran else None,
    }
