# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an image's destinations hold at the moment: tags in registries, images in engines, files."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from .._core.parallel import each
from .._docker.context_store import ContextStore
from .._docker.reference import Reference
from .._image.index import Index, read_index
from .._platform.platform import Platform
from .._registry.auth import RegistryRefused
from .._registry.client import Registries
from .content import content_digest
from .declaration import Image
from .destination import Destination, Location
from .engine import EngineImage, read_images
from .output import ENGINE, FILE, REGISTRY

#: What is told of one result: its digest and, of an image, its platforms; None where there is nothing.
Told = Optional[Dict[str, Any]]
#: State as modules report it, by location.
Report = Dict[str, Told]


@dataclass(frozen=True)
class State:
    """What each destination holds, None where there is nothing.

    :ivar registry: by tag.
    :ivar engine: by tag.
    :ivar files: digests of the content by path.
    :ivar warnings: of what could not be read.
    """

    registry: Mapping[str, Optional[Index]] = field(default_factory=dict)
    engine: Mapping[str, Optional[EngineImage]] = field(default_factory=dict)
    files: Mapping[str, Optional[str]] = field(default_factory=dict)
    warnings: Tuple[str, ...] = ()

    @property
    def results(self) -> Dict[Location, Told]:
        """What is told of each result."""
        found: Dict[Location, Told] = {}
        for kind, images in ((REGISTRY, self.registry), (ENGINE, self.engine)):
            for tag, image in images.items():
                shown = image and {"digest": image.digest, "platforms": names(image.platforms)}
                found[Location(kind, tag)] = shown or None
        for path, digest in self.files.items():
            found[Location(FILE, path)] = {"digest": digest} if digest else None
        return found

    def as_dict(self) -> Report:
        """Return the state as modules report it."""
        return report_of(self.results)


def report_of(results: Mapping[Location, Told]) -> Report:
    """Return results as modules report them."""
    return {str(location): told for location, told in results.items()}


def names(platforms: Sequence[Platform]) -> List[str]:
    """Return platforms as sorted text, to be compared and shown."""
    return sorted(str(platform) for platform in platforms)


def read_state(
    image: Image,
    destinations: Sequence[Destination],
    registries: Registries,
    contexts: ContextStore,
    lenient: bool = False,
) -> State:
    """Read what the destinations of an image hold.

    :param lenient: take a repository that may not be read for one that does not exist yet, with a warning.
    :raises FarmError: a registry, an engine or a file cannot be read.
    """
    engine: Dict[str, Optional[EngineImage]] = {}
    for destination in destinations:
        if destination.kind == ENGINE:
            engine.update(read_images(contexts, destination.context, image.tags))
    registry: Dict[str, Optional[Index]] = {}
    warnings: Tuple[str, ...] = ()
    if any(destination.kind == REGISTRY for destination in destinations):
        registry, warnings = _read_registry(registries, (*image.tags, *image.copies), lenient)
    outputs = [destination.output for destination in destinations]
    names = [str(reference) for reference in image.references]
    files = {output.dest: content_digest(output, output.dest, names) for output in outputs if output.dest}
    return State(registry, engine, files, warnings)


def _read_registry(
    registries: Registries, tags: Sequence[str], lenient: bool
) -> Tuple[Dict[str, Optional[Index]], Tuple[str, ...]]:
    """Return what tags stand for in their registries, and warnings.

    A registry that refuses may do so because the repository does not exist before the first push, as Quay does.
    """
    warnings: List[str] = []

    def read(tag: str) -> Optional[Index]:
        try:
            return read_index(registries, Reference.parse(tag))
        except RegistryRefused as exc:
            if not lenient:
                raise
            warnings.append(
                f"image {tag}: taken for not there yet, as it could not be looked at before the push: {exc.message}"
            )
            return None

    found = dict(zip(tags, each(tags, read)))
    return found, tuple(sorted(warnings))
