# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The gate: an image's tags move once every platform is in the registry and has passed its checks."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence

from .._core.errors import FarmError
from .._docker.reference import Reference
from .._image.compose import Composed, Part, compose, subset, whole
from .._image.engines import Engine
from .._image.platform_checks import check_platforms
from .._image.promote import copy_image
from .._image.publish import publish, read_part, read_parts
from .._key.record import Record
from .._platform.platform import Platform
from .decision import Kept
from .declaration import Image
from .farm import Farm


def pass_gate(
    image: Image,
    farm: Farm,
    digests: Sequence[str],
    nodes: Mapping[Platform, str],
    kept: Optional[Kept],
    recorded: Callable[[Mapping[str, str]], Record],
) -> None:
    """Verify what the nodes have pushed, and let the image's tags stand for all of it together.

    :param digests: of what each node pushed.
    :param nodes: the nodes that built the platforms.
    :param kept: what the image has of other platforms from an earlier build.
    :param recorded: returns the record for the digests of the platforms' manifests.
    :raises FarmError: it is not as declared, and no tag moved; or the message says which did.
    """
    parts = [*read_parts(farm.registries, image.references[0], digests), *_kept_parts(farm, kept)]
    composed = _compose(image, parts, recorded)
    problems = _problems(image, farm, composed, image.references[0], nodes)
    if problems:
        raise FarmError(f"image {image.name}: {'; '.join(problems)}; its tags stand for what they stood for before")
    _publish(image, farm, composed)


def pass_on(image: Image, farm: Farm, kept: Kept, recorded: Callable[[Mapping[str, str]], Record]) -> None:
    """Let all of an image's tags stand for what one of them stands for, or for some platforms of it.

    :raises FarmError: no tag moved, or the message says which did.
    """
    (part,) = _kept_parts(farm, kept)
    composed = whole(part) if kept.whole else _compose(image, [part], recorded)
    _publish(image, farm, composed)


def _kept_parts(farm: Farm, kept: Optional[Kept]) -> List[Part]:
    if kept is None:
        return []
    part = read_part(farm.registries, Reference.parse(kept.tag), kept.digest)
    return [part if kept.whole else subset(part, kept.platforms)]


def _compose(image: Image, parts: Sequence[Part], recorded: Callable[[Mapping[str, str]], Record]) -> Composed:
    """Return the image that consists of the parts, with its record.

    :raises FarmError: they are not what was declared.
    """
    options = image.options
    descriptors: Dict[Optional[Platform], Dict[str, str]] = {}
    for platform, key, value in options.descriptor_annotations:
        descriptors.setdefault(platform, {})[key] = value
    wanted: Dict[str, Any] = {
        "index_annotations": dict(options.index_annotations),
        "descriptor_annotations": descriptors,
        "docker_types": image.has_docker_types,
    }
    bare = compose(parts, image.platforms, **wanted)
    images = {} if bare.is_manifest else {str(one.platform): one.digest for one in bare.entries if one.platform}
    return compose(parts, image.platforms, **wanted, record=recorded(images).annotations)


def _publish(image: Image, farm: Farm, composed: Composed) -> None:
    """Let an image's tags stand for what it is now, and then the declared copies.

    :raises FarmError: one could not be moved or made; the message says so.
    """
    publish(farm.registries, image.references, composed)
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
