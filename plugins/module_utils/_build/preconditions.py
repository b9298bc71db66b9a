# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What can be refused before anything is built."""

from __future__ import annotations

from typing import Sequence

from .._buildx.cli import Buildx
from .._buildx.store import Instance
from .._core.errors import FarmError
from .._docker.context_store import ContextStore
from .declaration import Image
from .destination import Destination, engine_context
from .engine import engine_name, stores_indexes
from .farm import ENGINES
from .options import BuildOptions
from .output import ENGINE, Output

_SEVERAL_OUTPUTS = (0, 13, 0)
_STDIN_WITH_URL = (0, 9, 0)
#: docker/buildx#2656: earlier versions give the Dockerfile to the first node only.
_STDIN_FOR_SEVERAL = (0, 17, 0)
#: docker/buildx#2546: earlier versions drop them.
_INDEX_OF_SEVERAL = (0, 16, 0)


def check_versions(buildx: Buildx, image: Image) -> None:
    """Refuse options that this buildx does not have.

    :raises FarmError: buildx is older than an option.
    """
    if len(image.outputs) > 1:
        buildx.require("more than one output", _SEVERAL_OUTPUTS)
    if image.options.dockerfile and image.is_remote:
        buildx.require("dockerfile_inline with a URL as context", _STDIN_WITH_URL)
    for feature, floor in image.options.requirements():
        buildx.require(feature, floor)


def check_driver(image: Image, driver: str) -> None:
    """Refuse options that buildx has for its docker driver only.

    :param driver: the builder's.
    :raises FarmError: it is another one.
    """
    if image.options.runtime.names_gateway and driver != "docker":
        raise FarmError(
            f"image {image.name}: add_hosts with host-gateway needs a builder of the docker driver, found driver "
            f"{driver}, for which buildx does not know that address; name the address itself"
        )


def check_gate(image: Image, is_gated: bool, driver: str) -> None:
    """Refuse checks before the tags move, and copies after that, where buildx moves them or no node could run anything.

    :param driver: the builder's.
    :raises FarmError: naming the way out.
    """
    if image.copies and not is_gated:
        raise FarmError(
            f"image {image.name}: copy_to is for what has passed the gate, which takes push, platforms, gate and a "
            f"builder of the docker-container driver; found {_ungated(image, driver)}. Copy the image afterwards with "
            f"the module buildfarm.multiarch.buildx_imagetools"
        )
    if image.checks is None or (is_gated and driver == ENGINES):
        return
    if is_gated:
        raise FarmError(
            f"image {image.name}: run and programs need nodes that are engines, and those of driver {driver} are none; "
            f"verify the image with the module buildfarm.multiarch.image_verify, whose option endpoints names engines"
        )
    raise FarmError(
        f"image {image.name}: run and programs are checked before the tags move, which takes push, platforms, gate and "
        f"a builder of the docker-container driver; found {_ungated(image, driver)}. Verify the image afterwards with "
        f"the module buildfarm.multiarch.image_verify"
    )


def check_split(buildx: Buildx, options: BuildOptions, nodes: Sequence[str]) -> None:
    """Refuse options that this buildx loses where it sends the platforms of an image to several nodes itself.

    :param nodes: names of the nodes that the platforms go to.
    :raises FarmError: buildx is older than an option.
    """
    if len(nodes) < 2:
        return
    if options.dockerfile:
        buildx.require(f"dockerfile_inline for nodes {', '.join(nodes)} without the gate", _STDIN_FOR_SEVERAL)
    if options.index_annotations:
        buildx.require(f"annotations of the index of nodes {', '.join(nodes)} without the gate", _INDEX_OF_SEVERAL)


def check_nodes(outputs: Sequence[Output], builder: str, nodes: Sequence[str]) -> None:
    """Refuse outputs that one node would have to write, where several take part.

    :param outputs: those that are not joined afterwards.
    :param builder: the builder's name.
    :param nodes: names of the nodes that the platforms go to.
    :raises FarmError: naming the output and the way out.
    """
    for output in outputs:
        if len(nodes) > 1 and output.type in ("oci", "tar", "docker"):
            raise FarmError(
                f"output {output.type}: the platforms go to several nodes of builder {builder!r} "
                f"({', '.join(nodes)}), whose results are joined only in a registry (push), in a directory (type "
                f"local) or, unless gate is false, in an OCI archive (type oci); choose one of these, or a builder "
                f"with one node"
            )


def check_image_stores(
    image: Image, destinations: Sequence[Destination], builder: Instance, contexts: ContextStore
) -> None:
    """Refuse images that the image store of an engine cannot take.

    :raises FarmError: naming the engine and the way out; or an engine cannot be read.
    """
    requirement = _store_requirement(image, destinations, builder.driver)
    if not requirement:
        return
    engines = {destination.context for destination in destinations if destination.kind == ENGINE}
    if builder.driver == "docker":
        # Whatever the output, such a builder builds in its engine's store.
        engines.add(engine_context(Output("image"), builder))
    for context in sorted(engines):
        if not stores_indexes(contexts, context):
            raise FarmError(
                f"builder {builder.name!r}: {requirement} is more than the image store of "
                f"{engine_name(context)} can do; push instead, or use a builder of the docker-container "
                f"driver, or switch that engine to the containerd image store"
            )


def check_exported(buildx: Buildx, image: Image, builder: Instance, contexts: ContextStore) -> None:
    """Refuse what others link to where it cannot be exported to the controller.

    :raises FarmError: naming what is needed; or an engine cannot be read.
    """
    if image.outputs:
        buildx.require(f"an output of {image.name}, which others link to,", _SEVERAL_OUTPUTS)
    if builder.driver == "docker" and not stores_indexes(contexts, engine_context(Output("image"), builder)):
        raise FarmError(
            f"builder {builder.name!r}: {image.name}, which others link to, is exported, and the image store of its "
            f"engine cannot do that; push it, use a builder of the docker-container driver, or switch that engine to "
            f"the containerd image store"
        )


def _ungated(image: Image, driver: str) -> str:
    """Return what keeps an image from the gate, in words."""
    if not image.is_pushed:
        return "no push"
    if not image.platforms:
        return "no platforms"
    return f"driver {driver}" if driver == "docker" else "gate set to false, or a buildx before 0.6"


def _store_requirement(image: Image, destinations: Sequence[Destination], driver: str) -> str:
    """Return what of this build only the containerd image store can do, in words; empty if nothing."""
    if len(image.platforms) > 1:
        return f"an image of {len(image.platforms)} platforms"
    if image.options.attested:
        return "an image with attestations"
    outputs = [destination.output for destination in destinations]
    archives = [output.type for output in outputs if output.type in ("oci", "docker") and output.dest]
    return f"an archive of type {archives[0]}" if driver == "docker" and archives else ""
