# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which images of a list are built from others of it, and so after them."""

from __future__ import annotations

import re
from typing import Dict, List, Mapping, Sequence, Tuple

from .._core.errors import FarmError
from .._docker.reference import Reference
from .declaration import Image

#: What may be an image's name in a Dockerfile: a word, without the quotes and the option that it may be the value of.
_WORD = re.compile(r"[^\s\"'=,]+")
_ARG = re.compile(r"(?im)^\s*ARG\s+(\w+)=[\"']?([^\s\"']*)")
_VARIABLE = re.compile(r"\$(?:\{(\w+)(?::?-([^}]*))?\}|(\w+))")

#: By the name in the Dockerfile, the position in the list of the image that has it.
Bases = Mapping[str, int]


def bases_of(images: Sequence[Image]) -> List[Dict[str, int]]:
    """Return for each image the images of the list that its Dockerfile names, and those that it links to.

    Every word that is a tag of another image counts, as one that is built too early is built from the last run's base,
    and one that waits without need loses nothing but time.

    :raises FarmError: images are built from each other.
    """
    titles = {image.title: position for position, image in enumerate(images)}
    tags: Dict[Reference, int] = {}
    for position, image in enumerate(images):
        tags.update(dict.fromkeys(image.references, position))
    found = [
        {
            **{word: tags[name] for word, name in _references(image) if tags.get(name, position) != position},
            **{name: titles[title] for name, title in image.links},
        }
        for position, image in enumerate(images)
    ]
    _refuse_cycles(images, found)
    return found


def _references(image: Image) -> List[Tuple[str, Reference]]:
    text = "\n".join([image.dockerfile(), *(one.image for one in image.options.contexts)])
    values = {**dict(_ARG.findall(text)), **dict(image.options.build_args)}

    def value(match: re.Match[str]) -> str:
        name, default = match.group(1) or match.group(3), match.group(2) or ""
        return values.get(name) or default

    references = []
    for word in dict.fromkeys(_WORD.findall(_VARIABLE.sub(value, text))):
        try:
            references.append((word, Reference.parse(word)))
        except FarmError:
            continue
    return references


def in_order(bases: Sequence[Bases]) -> List[int]:
    """Return the positions of images, each after those that it is built from; those of a cycle are left out."""
    ordered: List[int] = []
    while True:
        free = [
            position
            for position, needed in enumerate(bases)
            if position not in ordered and set(ordered).issuperset(needed.values())
        ]
        if not free:
            return ordered
        ordered += free


def _refuse_cycles(images: Sequence[Image], bases: Sequence[Bases]) -> None:
    left = set(range(len(images))).difference(in_order(bases))
    if left:
        names = ", ".join(images[position].name for position in sorted(left))
        raise FarmError(f"images: {names} are built from each other; build one of them from something else")
