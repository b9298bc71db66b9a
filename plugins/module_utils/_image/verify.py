# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Asserting what an image is: the logic of ``image_verify``."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from .._buildx.cli import Buildx
from .._buildx.placement import find_builder, nodes_in_use, place
from .._buildx.store import Instance, Node, Store, chosen_builder, pins_by_platform
from .._core.errors import FarmError
from .._core.parallel import each
from .._core.runner import Runner
from .._docker.config import config_dir
from .._docker.context_store import ContextStore
from .._docker.endpoint import Endpoint
from .._docker.reference import Reference
from .._platform.platform import Platform, parse_all
from .._registry.client import Registries
from .describe import PlatformImage, in_registry, natives
from .index import Index, read_index
from .run import Ran, Trial, Tried, try_image

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")
#: Drivers whose nodes' endpoints are engines.
_ENGINE_DRIVERS = ("docker-container", "docker")


@dataclass(frozen=True)
class Program:
    """What each platform's image is to be run with, and what it has to print.

    :ivar command: replaces the image's own command; empty leaves that.
    """

    command: Tuple[str, ...]
    expected: Optional[str]
    pattern: Optional[str]
    timeout: float

    @classmethod
    def from_params(cls, raw: Mapping[str, Any]) -> Program:
        """Read the option ``run``.

        :raises FarmError: the regular expression is none.
        """
        text = raw.get("expected_regex")
        try:
            re.compile(_filled(text or "", "", ""))
        except re.error as exc:
            raise FarmError(f"run: expected_regex {text!r} is not a regular expression: {exc}") from exc
        return cls(tuple(raw.get("command") or ()), raw.get("expected"), text, float(raw["timeout"]))

    def complaint(self, platform: Platform, ran: Ran) -> Optional[str]:
        """Say what is wrong with a run, None if nothing."""
        if ran.rc != 0:
            said = ran.errors or ran.output or "nothing said"
            hint = ""
            if "exec format error" in said:
                hint = "; no QEMU handler runs it there: see the module buildfarm.multiarch.binfmt"
            return f"exit status {ran.rc} ({said}){hint}"
        if self.expected is not None:
            wanted = _filled(self.expected, str(platform), platform.arch).strip()
            if ran.output != wanted:
                return f"printed {ran.output!r}, wanted {wanted!r}"
        if self.pattern is not None:
            text = _filled(self.pattern, re.escape(str(platform)), platform.arch)
            if not re.search(text, ran.output):
                return f"printed {ran.output!r}, wanted a match of {text!r}"
        return None


def _filled(text: str, platform: str, arch: str) -> str:
    return text.replace("{platform}", platform).replace("{arch}", arch)


@dataclass(frozen=True)
class Target:
    """Where a platform is tried, and what came of it.

    :ivar node: the builder's node, None where the task itself named the endpoint.
    :ivar complaint: what is wrong, None if nothing.
    """

    endpoint: Endpoint
    node: Optional[str] = None
    tried: Optional[Tried] = None
    complaint: Optional[str] = None

    def __str__(self) -> str:
        return f"node {self.node!r} ({self.endpoint})" if self.node else f"engine {self.endpoint}"


def verify(params: Dict[str, Any], _check_mode: bool, runner: Runner) -> Mapping[str, Any]:
    """Compare an image with what a task says of it.

    :raises FarmError: it differs, and how; or it could not be looked at.
    """
    reference = Reference.parse(params["name"])
    builder_name = chosen_builder(params)
    wanted = parse_all(params.get("platforms") or ())
    digest = _digest(params.get("digest"))
    program = Program.from_params(params["run"]) if params.get("run") else None
    look = bool(program) if params.get("programs") is None else params["programs"]
    endpoints = {Platform.parse(key): Endpoint.parse(value) for key, value in (params.get("endpoints") or {}).items()}
    contexts = ContextStore(config_dir(params))
    buildx = Buildx.of(params, runner)
    builder = find_builder(buildx, Store.of(params), builder_name) if builder_name else None
    nodes = builder.nodes if builder else nodes_in_use(Store.of(params), contexts)
    registries = Registries.of(params, nodes)
    index = read_index(registries, reference)
    if index is None:
        raise FarmError(f"image {reference}: the registry {reference.registry} has none of this name; was it pushed?")
    complaints = _complaints(index, wanted, digest, bool(params.get("exact", True)))
    pinned, engines = _pinned(builder), natives(builder.nodes, contexts) if builder else {}
    images = in_registry(registries, reference, index, pinned, engines)
    targets: Dict[Platform, Target] = {}
    if program or look:
        platforms = [platform for platform in index.platforms if platform in wanted or not wanted]
        if program:
            where = _targets(buildx, builder, endpoints, platforms)
        else:
            # What others than Linux run cannot be told, and a Linux engine has no containers of theirs.
            where = _anywhere(builder, endpoints, [platform for platform in platforms if platform.os == "linux"])
        targets = _try_all(program, look, where, contexts, reference, index)
        complaints += [
            f"{platform} on {target}: {target.complaint}" for platform, target in targets.items() if target.complaint
        ]
    # Of several images for one platform the first was run.
    shown = [_as_dict(image, targets.pop(image.platform, None)) for image in images]
    image = {"name": str(reference), "digest": index.digest, "platforms": shown}
    if complaints:
        raise FarmError(f"image {reference}: {'; '.join(complaints)}", image=image)
    return {"image": image}


def _pinned(builder: Optional[Instance]) -> Dict[Platform, Optional[Node]]:
    pins = pins_by_platform(builder.nodes) if builder else {}
    return {platform: builder.node(names[0]) for platform, names in pins.items()} if builder else {}


def _digest(text: Optional[str]) -> Optional[str]:
    if text and not _DIGEST.match(text):
        raise FarmError(f"digest {text!r}: wanted sha256: and 64 hexadecimal digits in lower case")
    return text or None


def _complaints(index: Index, wanted: Sequence[Platform], digest: Optional[str], exact: bool) -> List[str]:
    """Say what is wrong with an index."""
    complaints = []
    if digest and digest != index.digest:
        complaints.append(f"its digest is {index.digest}, wanted {digest}")
    complaints += [
        f"{platform} is there {len(digests)} times, of which engines take the first: {', '.join(digests)}"
        for platform, digests in index.repeated.items()
    ]
    missing = [str(platform) for platform in wanted if platform not in index.platforms]
    unexpected = [str(platform) for platform in index.platforms if platform not in wanted] if wanted and exact else []
    if missing or unexpected:
        parts = [
            f"{what} {', '.join(some)}" for what, some in (("missing", missing), ("unexpected", unexpected)) if some
        ]
        found = ", ".join(str(platform) for platform in index.platforms) or "none"
        complaints.append(
            f"{', '.join(parts)} (platforms found: {found}; wanted: {', '.join(str(item) for item in wanted)})"
        )
    return complaints


def _targets(
    buildx: Buildx,
    builder: Optional[Instance],
    endpoints: Mapping[Platform, Endpoint],
    platforms: Sequence[Platform],
) -> Dict[Platform, Target]:
    """Choose the engine for each platform: the task's own choice, else the builder's node for it.

    :raises FarmError: there is none for a platform.
    """
    rest = [platform for platform in platforms if platform not in endpoints]
    nodes: Mapping[Platform, Optional[Node]] = {}
    if rest and builder:
        _require_engines(builder, rest, "run")
        nodes = place(buildx, builder, rest, start=False).nodes
    nowhere = [platform for platform in rest if not nodes.get(platform)]
    if nowhere:
        raise FarmError(
            f"run: no engine is known for {_join(nowhere)}; name one with the option endpoints, or a builder with a "
            f"node for it with the option builder"
        )
    targets = {}
    for platform in platforms:
        node = nodes.get(platform)
        targets[platform] = _on(node) if node else Target(endpoints[platform])
    return targets


def _anywhere(
    builder: Optional[Instance], endpoints: Mapping[Platform, Endpoint], platforms: Sequence[Platform]
) -> Dict[Platform, Target]:
    """Choose an engine to look into each platform's image: any can, so the builder's node for it is only preferred.

    :raises FarmError: there is none at all.
    """
    others = [Target(endpoint) for endpoint in endpoints.values()]
    if builder and not others:
        _require_engines(builder, platforms, "programs")
    if builder and builder.driver in _ENGINE_DRIVERS:
        others = [_on(node) for node in builder.nodes]
    if platforms and not others:
        raise FarmError(
            f"programs: no engine is known that could look into {_join(platforms)}; name one with the option "
            f"endpoints, or a builder with the option builder"
        )
    nodes = _pinned(builder) if builder and builder.driver in _ENGINE_DRIVERS else {}
    targets = {}
    for platform in platforms:
        node, endpoint = nodes.get(platform), endpoints.get(platform)
        targets[platform] = Target(endpoint) if endpoint else _on(node) if node else others[0]
    return targets


def _require_engines(builder: Instance, platforms: Sequence[Platform], option: str) -> None:
    """Make sure that a builder's nodes have endpoints of engines.

    :raises FarmError: they have not.
    """
    if builder.driver not in _ENGINE_DRIVERS:
        raise FarmError(
            f"{option}: the nodes of builder {builder.name!r} (driver {builder.driver}) are no engines that could take "
            f"the images of {_join(platforms)}; name engines with the option endpoints"
        )


def _on(node: Node) -> Target:
    return Target(Endpoint.parse(node.endpoint), node.name)


def _try_all(
    program: Optional[Program],
    look: bool,
    targets: Mapping[Platform, Target],
    contexts: ContextStore,
    reference: Reference,
    index: Index,
) -> Dict[Platform, Target]:
    """Look into every platform's image or run it, all at the same time."""
    # Of several images for one platform the first, as engines take it.
    digests = {entry.platform: entry.digest for entry in reversed(index.manifests)}
    trial = Trial(program.command, look, True, program.timeout) if program else Trial()

    def work(platform: Platform, target: Target) -> Target:
        image = reference.at(digests[platform])

        def once() -> Target:
            tried = try_image(target.endpoint, contexts, image, platform, trial)
            complaint = tried.findings.complaint if tried.findings else None
            if program and tried.ran:
                complaint = program.complaint(platform, tried.ran)
            return replace(target, tried=tried, complaint=complaint)

        try:
            done = once()
            ran = done.tried.ran if done.tried else None
            if done.complaint and ran and ran.rc == 0 and not ran.output:
                # What a busy engine has not copied two seconds after the exit, it drops: handleContainerExit in moby's
                # daemon/monitor.go, from Docker 20.10 to 29.
                done = once()
            return done
        except FarmError as exc:
            return replace(target, complaint=exc.message)

    return dict(zip(targets, each(targets.items(), lambda item: work(*item))))


def _as_dict(image: PlatformImage, target: Optional[Target]) -> Dict[str, Any]:
    tried = (target.tried if target else None) or Tried()
    findings, ran = tried.findings, tried.ran
    values = image.as_dict()
    if target:
        values.update(node=target.node, native=ran.native if ran else values["native"])
    values.update(
        endpoint=str(target.endpoint) if target else None,
        programs=[{"path": one.path, "architecture": one.arch} for one in findings.programs] if findings else None,
        output=ran.output if ran else None,
        rc=ran.rc if ran else None,
    )
    return values


def _join(platforms: Sequence[Platform]) -> str:
    return ", ".join(str(platform) for platform in platforms)
