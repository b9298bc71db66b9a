# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a build is made with and goes to: a builder, its nodes for the platforms, and the destinations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping, Tuple

from .._buildx.cli import Buildx
from .._buildx.placement import Placement, find_builder, route_platforms
from .._buildx.store import Instance, Store
from .._core.environment import NO_ENGINE
from .._docker.config import config_dir
from .._docker.context_store import ContextStore
from .._registry.client import Registries
from .declaration import Declaration
from .destination import Destination, resolve
from .output import ENGINE
from .preconditions import check_image_stores, check_nodes, check_versions


@dataclass(frozen=True)
class Target:
    """A builder for a build, and what its destinations are read with.

    :ivar placement: the nodes that the platforms go to.
    :ivar registries: as the builder's nodes reach them, without mirrors.
    :ivar contexts: the docker contexts of engines.
    """

    builder: Instance
    placement: Placement
    destinations: Tuple[Destination, ...]
    registries: Registries
    contexts: ContextStore


def find_target(params: Mapping[str, Any], declaration: Declaration, buildx: Buildx, start: bool) -> Target:
    """Return the builder and the destinations of a build, once it is certain that they can take it.

    :param start: whether nodes that do not run may be started to see what they can run.
    :raises FarmError: there is no such builder, or it cannot build what is declared.
    """
    contexts = ContextStore(config_dir(params))
    builder = find_builder(buildx, Store.of(params), declaration.builder)
    check_versions(buildx, declaration)
    destinations = resolve(declaration.outputs, builder)
    if builder.driver != "docker" and not any(destination.kind == ENGINE for destination in destinations):
        # The engine that the environment names has nothing to do with this build.
        buildx.env.update(NO_ENGINE)
    placement = route_platforms(buildx, builder, declaration.platforms, start)
    check_nodes(destinations, builder.name, placement.names)
    check_image_stores(declaration, destinations, builder, contexts)
    # What was just pushed is in the registry itself, whatever a mirror has.
    registries = Registries.of(params, builder.nodes, mirrors=False)
    return Target(builder, placement, destinations, registries, contexts)
