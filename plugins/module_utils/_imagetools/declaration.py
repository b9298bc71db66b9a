# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a task declares of tags: what they stand for, or that they are gone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Mapping, Optional, Tuple

from .._core.errors import FarmError
from .._docker.reference import Reference
from .._platform.platform import Platform, parse_all


@dataclass(frozen=True)
class Source:
    """An image that others are made of.

    :ivar platforms: those that are taken, empty for all.
    """

    reference: Reference
    platforms: Tuple[Platform, ...] = ()


@dataclass(frozen=True)
class Declaration:
    """A task's options, normalised.

    :ivar tags: all of them stand for one image, or none of them is there.
    :ivar sources: what the image is made of; empty for tags that are to be absent.
    :ivar annotations: of the index; None for a value removes one that the only source has.
    :ivar platform_annotations: of the entries of the index.
    :ivar referrers: whether what refers to the image is copied with it.
    """

    tags: Tuple[Reference, ...]
    sources: Tuple[Source, ...]
    annotations: Mapping[str, Optional[str]]
    platform_annotations: Mapping[Optional[Platform], Mapping[str, str]]
    referrers: bool = False

    @property
    def is_copy(self) -> bool:
        """Whether the image is its only source, unchanged."""
        (first, *more) = self.sources
        return not (more or first.platforms or self.annotations or self.platform_annotations)

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> Declaration:
        """Read a task's options.

        :raises FarmError: an option's value is wrong by itself, or two contradict each other.
        """
        tags = tuple(dict.fromkeys(Reference.parse(text) for text in params["tags"]))
        wrong = [str(tag) for tag in tags if tag.digest]
        if wrong:
            raise FarmError(f"tags: {', '.join(wrong)} has a digest, wanted [REGISTRY[:PORT]/]NAME[:TAG]")
        if not tags:
            raise FarmError("tags: none is given, wanted at least one")
        if params.get("state") == "absent":
            return cls(tags, (), {}, {})
        sources = tuple(
            Source(Reference.parse(one["name"]), parse_all(one.get("platforms") or ()))
            for one in params.get("sources") or ()
        )
        if not sources:
            raise FarmError("sources: none is given, wanted at least one with state=present")
        platforms: Dict[Optional[Platform], Mapping[str, str]] = {}
        for name, values in (params.get("platform_annotations") or {}).items():
            if not isinstance(values, dict):
                raise FarmError(f"platform_annotations: {name} has {values!r}, wanted a dictionary of annotations")
            platform = None if name == "all" else Platform.parse(str(name))
            platforms[platform] = {str(key): _text(value) for key, value in values.items()}
        annotations = {
            str(key): None if value is None else _text(value)
            for key, value in (params.get("annotations") or {}).items()
        }
        return cls(tags, sources, annotations, platforms, bool(params.get("referrers")))


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
