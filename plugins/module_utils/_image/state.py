# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What ``image_verify`` finds: the image in its registry, and the builder whose nodes it is for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Mapping, Optional, Tuple

from .._buildx.cli import Buildx
from .._buildx.placement import find_builder, nodes_in_use
from .._buildx.store import Instance, Node, Store, pins_by_platform
from .._core.errors import FarmError
from .._docker.context_store import ContextStore
from .._platform.platform import Platform
from .._registry.client import Registries
from .declaration import Declaration
from .describe import PlatformImage, describe_index, engine_platforms
from .index import Index, read_index


@dataclass(frozen=True)
class State:
    """An image as its registry has it.

    :ivar builder: the declared one, None if none is.
    :ivar images: the index's, each with the node that its platform is pinned to.
    """

    builder: Optional[Instance]
    index: Index
    images: Tuple[PlatformImage, ...]


def read_state(params: Mapping[str, Any], declaration: Declaration, buildx: Buildx, contexts: ContextStore) -> State:
    """Read the declared image from its registry.

    :raises FarmError: there is no such image or builder, or the registry cannot be read.
    """
    store, reference = Store.of(params), declaration.reference
    builder = find_builder(buildx, store, declaration.builder) if declaration.builder else None
    registries = Registries.of(params, builder.nodes if builder else nodes_in_use(store, contexts))
    index = read_index(registries, reference)
    if index is None:
        raise FarmError(f"image {reference}: the registry {reference.registry} has none of this name; was it pushed?")
    engines = engine_platforms(builder.nodes, contexts) if builder else {}
    return State(builder, index, describe_index(registries, reference, index, pinned_nodes(builder), engines))


def pinned_nodes(builder: Optional[Instance]) -> Dict[Platform, Optional[Node]]:
    """Return the node that each platform is pinned to, the first of several."""
    if builder is None:
        return {}
    return {platform: builder.node(names[0]) for platform, names in pins_by_platform(builder.nodes).items()}
