# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which engine checks each platform's image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Mapping, Optional, Sequence

from .._buildx.cli import Buildx
from .._buildx.placement import route_platforms
from .._buildx.store import Instance, Node
from .._core.errors import FarmError
from .._docker.endpoint import Endpoint
from .._platform.platform import Platform, listed
from .declaration import Declaration
from .state import State, pinned_nodes

#: Drivers whose nodes' endpoints are engines.
_ENGINE_DRIVERS = ("docker-container", "docker")


@dataclass(frozen=True)
class Engine:
    """An engine that checks an image.

    :ivar node: name of the builder's node, None where the task itself named the endpoint.
    """

    endpoint: Endpoint
    node: Optional[str] = None

    def __str__(self) -> str:
        return f"node {self.node!r} ({self.endpoint})" if self.node else f"engine {self.endpoint}"

    @classmethod
    def of_node(cls, node: Node) -> Engine:
        """Return the engine of a builder's node."""
        return cls(Endpoint.parse(node.endpoint), node.name)


def choose_engines(declaration: Declaration, state: State, buildx: Buildx) -> Dict[Platform, Engine]:
    """Return an engine for each platform whose image is to be checked; none if no check needs one.

    :raises FarmError: there is none for a platform.
    """
    wanted = declaration.platforms or state.index.platforms
    platforms = [platform for platform in state.index.platforms if platform in wanted]
    if declaration.checks and declaration.checks.run:
        return _engines_to_run(buildx, state.builder, declaration.endpoints, platforms)
    if declaration.checks:
        # Only Linux programs can be examined, and a Linux engine creates no containers of other systems.
        linux = [platform for platform in platforms if platform.os == "linux"]
        return _engines_to_examine(state.builder, declaration.endpoints, linux)
    return {}


def _engines_to_run(
    buildx: Buildx,
    builder: Optional[Instance],
    endpoints: Mapping[Platform, Endpoint],
    platforms: Sequence[Platform],
) -> Dict[Platform, Engine]:
    """Return the engine that runs each platform: the task's own choice, else the builder's node for it."""
    others = [platform for platform in platforms if platform not in endpoints]
    nodes: Mapping[Platform, Optional[Node]] = {}
    if others and builder:
        _require_engines(builder, others, "run")
        nodes = route_platforms(buildx, builder, others, start=False).nodes
    unserved = [platform for platform in others if not nodes.get(platform)]
    if unserved:
        raise FarmError(
            f"run: no engine is known for {listed(unserved)}; name one with the option endpoints, or a builder with a "
            f"node for it with the option builder"
        )
    engines = {}
    for platform in platforms:
        node = nodes.get(platform)
        engines[platform] = Engine.of_node(node) if node else Engine(endpoints[platform])
    return engines


def _engines_to_examine(
    builder: Optional[Instance], endpoints: Mapping[Platform, Endpoint], platforms: Sequence[Platform]
) -> Dict[Platform, Engine]:
    """Return an engine that examines each platform's files: any can, so one that also runs it is only preferred."""
    any_of = [Engine(endpoint) for endpoint in endpoints.values()]
    if builder and not any_of:
        _require_engines(builder, platforms, "programs")
    nodes: Mapping[Platform, Optional[Node]] = {}
    if builder and builder.driver in _ENGINE_DRIVERS:
        any_of, nodes = [Engine.of_node(node) for node in builder.nodes], pinned_nodes(builder)
    if platforms and not any_of:
        raise FarmError(
            f"programs: no engine is known that could examine {listed(platforms)}; name one with the option "
            f"endpoints, or a builder with the option builder"
        )
    engines = {}
    for platform in platforms:
        node, endpoint = nodes.get(platform), endpoints.get(platform)
        engines[platform] = Engine(endpoint) if endpoint else Engine.of_node(node) if node else any_of[0]
    return engines


def _require_engines(builder: Instance, platforms: Sequence[Platform], option: str) -> None:
    """Make sure that a builder's nodes have endpoints of engines.

    :raises FarmError: they have not.
    """
    if builder.driver not in _ENGINE_DRIVERS:
        raise FarmError(
            f"{option}: the nodes of builder {builder.name!r} (driver {builder.driver}) are no engines that could take "
            f"the images of {listed(platforms)}; name engines with the option endpoints"
        )
