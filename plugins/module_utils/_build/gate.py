# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The gate: an image's tags move once every platform is in the registry and has passed its checks."""

from __future__ import annotations

from typing import Dict, Mapping, Optional, Sequence

from .._core.errors import FarmError
from .._docker.reference import Reference
from .._image.compose import Composed, compose
from .._image.engines import Engine
from .._image.platform_checks import check_platforms
from .._image.promote import copy_image
from .._image.publish import publish, read_parts
from .._platform.platform import Platform
from .declaration import Image
from .farm import Farm


def pass_gate(image: Image, farm: Farm, digests: Sequence[str], nodes: Mapping[Platform, str]) -> Composed:
    """Verify what the nodes have pushed, and let the image's tags stand for all of it together.

    :param digests: of what each node pushed.
    :param nodes: the nodes that built the platforms.
    :raises FarmError: it is not as declared, and no tag moved; or the message says which did.
    """
    reference, options = image.references[0], image.options
    descriptors: Dict[Optional[Platform], Dict[str, str]] = {}
    for platform, key, value in options.descriptor_annotations:
        descriptors.setdefault(platform, {})[key] = value
    composed = compose(
        read_parts(farm.registries, reference, digests),
        image.platforms,
        index_annotations=dict(options.index_annotations),
        descriptor_annotations=descriptors,
        docker_types=any(output.option("oci-mediatypes") == "false" for output in image.outputs if output.pushes),
    )
    problems = _problems(image, farm, composed, reference, nodes)
    if problems:
        raise FarmError(f"image {image.name}: {'; '.join(problems)}; its tags stand for what they stood for before")
    publish(farm.registries, image.references, composed)
    _copy(image, farm, composed)
    return composed


def _copy(image: Image, farm: Farm, composed: Composed) -> None:
    """Let the declared copies stand for the image that its tags stand for.

    :raises FarmError: one could not be made; the message says so.
    """
    if not image.copies:
        return
    try:
        copy_image(farm.registries, image.references[0].at(composed.digest), image.copy_references)
    except FarmError as exc:
        raise type(exc)(
            f"image {image.name} is published, and not all of copy_to have it: {exc.message}", **exc.details
        ) from exc


def _problems(
    image: Image, farm: Farm, composed: Composed, reference: Reference, nodes: Mapping[Platform, str]
) -> Sequence[str]:
    """Return what the checks of the platforms found, each platform's on the node that built it."""
    if image.checks is None:
        return ()
    images = {entry.platform: reference.at(entry.digest) for entry in composed.entries if entry.platform}
    # Only Linux programs can be examined, and a Linux engine creates no containers of other systems.
    checked = [platform for platform in nodes if image.checks.run or platform.os == "linux"]
    engines = {platform: Engine.of_node(farm.node(nodes[platform])) for platform in checked}
    return [str(one) for one in check_platforms(image.checks, images, engines, farm.contexts) if one.problem]
