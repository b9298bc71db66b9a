# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a build's outputs hold at the moment: tags in registries, images in engines, files."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from .._image.index import Index, read_index
from .output import Output
from .._platform.platform import Platform
from .._docker.reference import Reference
from .._registry.client import Registries, side_by_side
from .._registry.auth import RegistryRefused
from .._core.runner import CommandError, Runner
from .._buildx.store import Instance

_CONTAINERD = "io.containerd.snapshotter.v1"


@dataclass(frozen=True)
class EngineImage:
    """An image in an engine's store.

    :ivar digest: the engine's id of the image.
    :ivar size: bytes, as the engine counts them.
    """

    digest: str
    platform: Platform
    size: Optional[int]

    @property
    def platforms(self) -> Tuple[Platform, ...]:
        """The one platform that the engine tells of."""
        return (self.platform,)


@dataclass(frozen=True)
class Results:
    """What is in each place, None where there is nothing.

    :ivar registry: by tag.
    :ivar engine: by tag.
    :ivar files: by path, what changes when the content does.
    :ivar warnings: of what could not be looked at.
    """

    registry: Mapping[str, Optional[Index]] = field(default_factory=dict)
    engine: Mapping[str, Optional[EngineImage]] = field(default_factory=dict)
    files: Mapping[str, Optional[str]] = field(default_factory=dict)
    warnings: Tuple[str, ...] = ()

    def as_state(self) -> Dict[str, Optional[Dict[str, Any]]]:
        """Return the managed state for a diff: digest and, of images, platforms by place."""
        state: Dict[str, Optional[Dict[str, Any]]] = {}
        for place, images in (("registry", self.registry), ("engine", self.engine)):
            for tag, image in images.items():
                shown = image and {"digest": image.digest, "platforms": names(image.platforms)}
                state[f"{place} {tag}"] = shown or None
        state.update({path: {"digest": digest} if digest else None for path, digest in self.files.items()})
        return state


def names(platforms: Sequence[Platform]) -> List[str]:
    """Return platforms as sorted text, to be compared and shown."""
    return sorted(str(platform) for platform in platforms)


def read_registry(
    registries: Registries, tags: Sequence[str], lenient: bool
) -> Tuple[Dict[str, Optional[Index]], Tuple[str, ...]]:
    """Return what tags stand for in their registries, and warnings.

    :param lenient: a registry that refuses may do so because the repository does not exist before the first push
        (Quay does): take that for nothing there, with a warning.
    :raises FarmError: a registry cannot be asked.
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

    found = dict(zip(tags, side_by_side(tags, read)))
    return found, tuple(sorted(warnings))


def read_engine(
    runner: Runner, env: Mapping[str, str], context: str, tags: Sequence[str]
) -> Dict[str, Optional[EngineImage]]:
    """Return what tags stand for in an engine.

    :param env: of the docker CLI.
    :param context: docker context of the engine; empty for the one in use.
    :raises CommandError: the engine cannot be asked.
    """
    found: Dict[str, Optional[EngineImage]] = {}
    for tag in tags:
        result = runner([*_docker(context), "image", "inspect", "--format", "{{json .}}", tag], env=env)
        if result.rc == 0:
            raw = json.loads(result.stdout)
            platform = Platform.make(raw["Os"], raw["Architecture"], raw.get("Variant") or "")
            found[tag] = EngineImage(raw["Id"], platform, raw.get("Size"))
        elif re.search("no such image", result.stderr, re.IGNORECASE):
            found[tag] = None
        else:
            raise CommandError(f"image {tag}: {engine_name(context)} could not be asked", result)
    return found


def engine_context(output: Output, builder: Instance) -> str:
    """Return the docker context of the engine that an output puts an image into; empty for the one in use.

    A builder of the docker driver keeps images in its own engine, and its node's endpoint is that engine's context.
    """
    if builder.driver == "docker" and builder.nodes:
        endpoint = builder.nodes[0].endpoint
        return "" if endpoint == "default" else endpoint
    return output.option("context")


def engine_name(context: str) -> str:
    """Return how messages name the engine of a docker context; empty for the one in use."""
    return f"the engine of docker context {context!r}" if context else "the engine of the docker context in use"


def keeps_indexes(runner: Runner, env: Mapping[str, str], context: str) -> bool:
    """Say whether an engine's image store takes several platforms under one name, as containerd's does.

    :raises CommandError: the engine cannot be asked.
    """
    result = runner([*_docker(context), "info", "--format", "{{json .DriverStatus}}"], env=env)
    if result.rc != 0:
        raise CommandError(f"{engine_name(context)} could not be asked", result)
    return _CONTAINERD in result.stdout


def _docker(context: str) -> List[str]:
    return ["docker", *(["--context", context] if context else [])]
