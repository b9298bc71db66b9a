# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The annotations of an image, in the syntax of ``docker buildx build --annotation``.

Sources: docker/buildx ``util/buildflags/`` (syntax), BuildKit ``docs/annotations.md`` (types).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence, Tuple

from .._buildx.cli import Version
from .._core.errors import FarmError
from .._platform.platform import Platform
from .fields import pairs_of

MANIFEST, DESCRIPTOR, INDEX, LAYOUT = "manifest", "manifest-descriptor", "index", "index-descriptor"
_TYPES = (MANIFEST, DESCRIPTOR, INDEX, LAYOUT)
_TYPE = re.compile(r"([a-z-]+)(?:\[([^\[\]]+)\])?\Z")
_KEY = re.compile(r"[^\s=:\[\]]\S*\Z")
_ANNOTATIONS: Version = (0, 12, 0)


@dataclass(frozen=True)
class Annotation:
    """One annotation.

    :ivar type: what is annotated: each platform's manifest or its descriptor in the index, the index or its descriptor.
    :ivar platform: the only one that it is for, None for all.
    """

    type: str
    platform: Optional[Platform]
    key: str
    value: str


@dataclass(frozen=True)
class Annotations:
    """The annotations of an image, in their order."""

    entries: Tuple[Annotation, ...] = ()

    @classmethod
    def from_param(cls, raw: Any, platforms: Sequence[Platform]) -> Annotations:
        """Read the option ``annotations``.

        :param platforms: those of the image; none where the node decides.
        :raises FarmError: an entry is wrong, or is for a platform that is not built.
        """
        found: List[Annotation] = []
        for name, value in pairs_of("annotations", raw):
            found += _parse(name, value)
        for entry in found:
            if entry.platform and platforms and entry.platform not in platforms:
                raise FarmError(
                    f"annotations: {entry.type}[{entry.platform}]: {entry.platform} is not one of the platforms "
                    f"({', '.join(map(str, platforms))}); add it there, or remove the annotation"
                )
        return cls(tuple(found))

    @property
    def index(self) -> Tuple[Tuple[str, str], ...]:
        """The keys and values of what the index is annotated with."""
        return self._of(INDEX)

    @property
    def layout(self) -> Tuple[Tuple[str, str], ...]:
        """The keys and values of what the index's descriptor in a layout is annotated with."""
        return self._of(LAYOUT)

    def _of(self, kind: str) -> Tuple[Tuple[str, str], ...]:
        return tuple({entry.key: entry.value for entry in self.entries if entry.type == kind}.items())

    @property
    def descriptors(self) -> Tuple[Tuple[Optional[Platform], str, str], ...]:
        """What the manifests' descriptors in the index are annotated with: platform, None for all, key, value.

        What is for one platform comes after what is for all.
        """
        found = [(entry.platform, entry.key, entry.value) for entry in self.entries if entry.type == DESCRIPTOR]
        return tuple(sorted(found, key=lambda one: one[0] is not None))

    def requirements(self) -> List[Tuple[str, Version]]:
        """Return what not every buildx has, and its first version with that."""
        return [("annotations", _ANNOTATIONS)] if self.entries else []

    def arguments(self, platforms: Sequence[Platform], with_index: bool, whole: bool = True) -> List[str]:
        """Return the arguments of a build of these platforms.

        :param platforms: none where the node decides. What is for another one is left out: BuildKit refuses it.
        :param with_index: whether buildx makes the index, so that it annotates that too.
        :param whole: whether it builds all platforms, so that the descriptor in a layout is that of the image's index.
        """
        # Of one platform BuildKit may make a manifest alone, which it annotates without a platform.
        single = len(platforms) == 1
        found: Dict[Tuple[str, str], str] = {}
        for entry in sorted(self.entries, key=lambda one: one.platform is not None):
            if not with_index and entry.type in (INDEX, DESCRIPTOR):
                continue
            if not whole and entry.type == LAYOUT:
                continue
            if entry.platform and platforms and entry.platform not in platforms:
                continue
            platform = f"[{entry.platform}]" if entry.platform and not single else ""
            found[(f"{entry.type}{platform}", entry.key)] = entry.value
        return [word for (kind, key), value in found.items() for word in ("--annotation", f"{kind}:{key}={value}")]


def _parse(name: str, value: str) -> List[Annotation]:
    """Return the annotations that one entry stands for: ``[TYPE[,TYPE...][[PLATFORM]]:]KEY``, one for each type."""
    # A platform has no colon, and a key with one needs its type.
    types, colon, key = name.partition(":")
    if not colon:
        types, key = MANIFEST, name
    if not _KEY.match(key):
        raise FarmError(f"annotations: {name!r}: wanted [TYPE[PLATFORM]:]KEY, as in index:org.opencontainers.image.url")
    found = []
    for text in types.split(","):
        match = _TYPE.match(text.strip())
        if match is None or match.group(1) not in _TYPES:
            raise FarmError(f"annotations: {name!r}: unknown type {text!r}; wanted {', '.join(_TYPES)}")
        if match.group(2) and match.group(1) in (INDEX, LAYOUT):
            raise FarmError(f"annotations: {name!r}: the index is of all platforms; remove [{match.group(2)}]")
        platform = Platform.parse(match.group(2)) if match.group(2) else None
        found.append(Annotation(match.group(1), platform, key, value))
    return found
