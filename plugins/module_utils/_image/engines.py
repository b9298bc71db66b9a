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
from .declaration import Wanted
from .index import Index
from .state import Nodes

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


def choose_engines(
    wanted: Wanted, index: Index, nodes: Nodes, endpoints: Mapping[Platform, Endpoint], buildx: Buildx
) -> Dict[Platform, Engine]:
    """Return an engine for each platform whose image is to be checked.

    Programs can be examined without: by the layers in the registry.

    :param endpoints: the task's own choice, which goes before the builder's nodes.
    :raises FarmError: there is none for a platform.
    """
    platforms = [platform for platform in index.platforms if platform in (wanted.platforms or index.platforms)]
    if wanted.checks and wanted.checks.run:
        return _engines_to_run(buildx, nodes, endpoints, platforms)
    # Only Linux programs can be examined, and a Linux engine creates no containers of other systems.
    linux = [platform for platform in platforms if platform.os == "linux"]
    return _engines_to_examine(nodes, endpoints, linux)


def _engines_to_run(
    buildx: Buildx, nodes: Nodes, endpoints: Mapping[Platform, Endpoint], platforms: Sequence[Platform]
) -> Dict[Platform, Engine]:
    """Return the engine that runs each platform: the task's own choice, else the builder's node for it."""
    others = [platform for platform in platforms if platform not in endpoints]
    found: Dict[Platform, Optional[Node]] = {}
    if others and nodes.builder:
        _require_engines(nodes.builder, others)
        found = {platform: node for platform, node in nodes.pinned.items() if platform in others}
        unpinned = [platform for platform in others if platform not in found]
        if unpinned:
            found.update(route_platforms(buildx, nodes.builder, unpinned, start=False).nodes)
    unserved = [platform for platform in others if not found.get(platform)]
    if unserved:
        raise FarmError(
            f"run: no engine is known for {listed(unserved)}; name one with the option endpoints, or a builder with a "
            f"node for it with the option builder"
        )
    engines = {}
    for platform in platforms:
        node = found.get(platform)
        engines[platform] = Engine.of_node(node) if node else Engine(endpoints[platform])
    return engines


def _engines_to_examine(
    nodes: Nodes, endpoints: Mapping[Platform, Endpoint], platforms: Sequence[Platform]
) -> Dict[Platform, Engine]:
    """Return an engine that examines each platform's files: any can, so one that also runs it is only preferred.

    Where there is no engine there is none in the result.
    """
    builder = nodes.builder
    any_of = [Engine(endpoint) for endpoint in endpoints.values()]
    pinned: Mapping[Platform, Optional[Node]] = {}
    if builder and builder.driver in _ENGINE_DRIVERS:
        any_of, pinned = [Engine.of_node(node) for node in builder.nodes], nodes.pinned
    engines: Dict[Platform, Engine] = {}
    for platform in platforms if any_of else ():
        node, endpoint = pinned.get(platform), endpoints.get(platform)
        engines[platform] = Engine(endpoint) if endpoint else Engine.of_node(node) if node else any_of[0]
    return engines


def _require_engines(builder: Instance, platforms: Sequence[Platform]) -> None:
    """Make sure that a builder's nodes have endpoints of engines.

    :raises FarmError: they have not.
    """
    if builder.driver not in _ENGINE_DRIVERS:
        raise FarmError(
            f"run: the nodes of builder {builder.name!r} (driver {builder.driver}) are no engines that could take "
            f"the images of {listed(platforms)}; name engines with the option endpoints"
        )
