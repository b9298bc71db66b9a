# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The shape in which modules return an image, platform by platform."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Mapping, Optional, Sequence, Tuple

from .._buildx.store import Node
from .._core.errors import FarmError
from .._core.parallel import each
from .._docker.context_store import ContextStore
from .._docker.endpoint import Endpoint
from .._docker.engine import probe_all
from .._docker.reference import Reference
from .._platform.platform import Platform, runs_natively
from .._registry.client import Registries
from .index import Index, image_size

#: Seconds for the engines' answers about their processors; a late one only leaves ``native`` unknown.
_PROBE_TIMEOUT = 3


@dataclass(frozen=True)
class PlatformImage:
    """One platform's image.

    :ivar digest: of its manifest; None for an image that is in an engine only.
    :ivar size: bytes of its config and its compressed layers; in an engine, as that counts.
    :ivar node: name of the builder's node it goes to, None where none is known.
    :ivar native: whether that node's own processor runs it, None where that is not known.
    """

    platform: Platform
    digest: Optional[str]
    size: Optional[int]
    node: Optional[str] = None
    native: Optional[bool] = None

    def as_dict(self) -> Dict[str, Any]:
        """Return the values as JSON types."""
        return {**self.__dict__, "platform": str(self.platform)}


def engine_platforms(nodes: Sequence[Node], contexts: ContextStore) -> Dict[str, Platform]:
    """Return the platforms of nodes' engines by the nodes' names; nodes that do not answer as engines are left out."""
    parsed = {node.name: _endpoint(node) for node in nodes}
    endpoints = {name: endpoint for name, endpoint in parsed.items() if endpoint}
    answers = zip(endpoints, probe_all(tuple(endpoints.values()), contexts, _PROBE_TIMEOUT))
    return {name: info.platform for name, info in answers if info.platform}


def platform_image(
    platform: Platform,
    digest: Optional[str],
    size: Optional[int],
    node: Optional[Node],
    engines: Mapping[str, Platform],
) -> PlatformImage:
    """Return the description of one platform's image.

    :param node: where the platform goes, None where that is not known.
    :param engines: the platforms of nodes' engines by the nodes' names.
    """
    engine = engines.get(node.name) if node else None
    native = runs_natively(platform, engine) if engine else None
    return PlatformImage(platform, digest, size, node.name if node else None, native)


def describe_index(
    registries: Registries,
    reference: Reference,
    index: Index,
    nodes: Mapping[Platform, Optional[Node]],
    engines: Mapping[str, Platform],
) -> Tuple[PlatformImage, ...]:
    """Describe the images of an index, with their compressed sizes.

    :param nodes: where each platform goes, as far as it is known.
    :param engines: the platforms of nodes' engines by the nodes' names.
    :raises FarmError: the registry lacks one of them.
    """
    entries = [(entry, entry.platform) for entry in index.manifests if entry.platform]
    digests = [entry.digest for entry, _platform in entries]
    sizes = each(digests, lambda digest: image_size(registries, reference, digest))
    return tuple(
        platform_image(platform, entry.digest, size, nodes.get(platform), engines)
        for (entry, platform), size in zip(entries, sizes)
    )


def _endpoint(node: Node) -> Optional[Endpoint]:
    """Return a node's endpoint, None where it is no engine's: a pod, a BuildKit of its own."""
    try:
        return Endpoint.parse(node.endpoint)
    except FarmError:
        return None
