# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The image that a build made, read back: whether it is what was declared, and how it is returned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Mapping, Optional, Tuple

from .._buildx.store import Node
from .._core.errors import FarmError
from .._image.describe import PlatformImage, describe_index, platform_image
from .._platform.platform import Platform
from .declaration import Image
from .destination import Location
from .farm import Farm
from .output import REGISTRY
from .state import State, names


@dataclass(frozen=True)
class BuiltImage:
    """An image in a registry or an engine.

    :ivar digest: of the index, or of the manifest if there is only one; None where nothing names it.
    :ivar id: the engine's id of the image, None where it was not loaded.
    """

    tags: Tuple[str, ...]
    digest: Optional[str]
    id: Optional[str]
    platforms: Tuple[PlatformImage, ...]

    def as_dict(self) -> Dict[str, Any]:
        """Return the image as the module returns it."""
        return {
            "tags": list(self.tags),
            "digest": self.digest,
            "id": self.id,
            "platforms": [image.as_dict() for image in self.platforms],
        }


def verify(image: Image, state: State) -> None:
    """Compare what the destinations hold after a build with what was declared.

    :raises FarmError: something is missing, or two tags differ.
    """
    wanted = names(image.platforms)
    digests = {index.digest for index in state.registry.values() if index}
    wrong = [f"{location}: nothing there" for location, told in state.results.items() if told is None]
    for tag, index in state.registry.items():
        found = names(index.platforms) if index else []
        if index and wanted and found != wanted:
            wrong.append(f"{Location(REGISTRY, tag)}: found {', '.join(found)}, wanted {', '.join(wanted)}")
        if index and len(digests) > 1:
            wrong.append(f"{Location(REGISTRY, tag)}: {index.digest}, which is not what the other tags stand for")
    if wrong:
        raise FarmError(
            f"buildx reported a success, but its result is not what was asked for: {'; '.join(wrong)}; "
            f"does something else push to the same names? A new run repairs it",
            found=state.as_dict(),
        )


def read_image(
    image: Image, farm: Farm, nodes: Mapping[Platform, Optional[Node]], state: State, metadata: Mapping[str, Any]
) -> Optional[BuiltImage]:
    """Return the image that was built, None where it is in neither a registry nor an engine.

    :param nodes: that built the platforms, as far as they are known.
    :param state: after the build.
    :param metadata: buildx's.
    :raises FarmError: the registry lacks a part of the image.
    """
    index = next(iter(state.registry.values()), None)
    local = next(iter(state.engine.values()), None)
    found = index or local
    if found is None:
        return None
    if not image.platforms:
        # Then the first node builds for its own.
        nodes = dict.fromkeys(found.platforms, farm.builder.nodes[0])
    loaded = local.digest if local else None
    if index:
        pushed = describe_index(farm.registries, image.references[0], index, nodes, farm.natives)
        return BuiltImage(image.tags, index.digest, loaded, pushed)
    digest = str(metadata.get("containerimage.digest") or "") or None
    images: Tuple[PlatformImage, ...] = ()
    if local:
        images = (platform_image(local.platform, None, local.size, nodes.get(local.platform), farm.natives),)
    return BuiltImage(image.tags, digest, loaded, images)
