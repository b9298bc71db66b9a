# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Letting tags stand for an image, each in one request, once all that it consists of is there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Optional, Sequence, Tuple

from .._core.errors import FarmError
from .._core.parallel import each
from .._docker.reference import Reference
from .._registry.auth import RegistryRefused
from .._registry.client import Registries
from .compose import Composed, Part
from .index import read_index


@dataclass(frozen=True)
class Published:
    """What tags stand for an image now.

    :ivar moved: those that stood for something else before, or for nothing.
    """

    moved: Tuple[Reference, ...]
    unchanged: Tuple[Reference, ...]


def read_part(registries: Registries, reference: Reference, digest: str) -> Part:
    """Return what a node has pushed by digest.

    :param reference: of its repository.
    :raises FarmError: it is not there, or the registry cannot be read.
    """
    pushed = reference.at(digest)
    document, index = registries.manifest(pushed), read_index(registries, pushed)
    if document is None or index is None:
        raise FarmError(f"image {pushed}: buildx reported that it was pushed, and the registry does not have it")
    return Part(document, index)


def publish(registries: Registries, tags: Sequence[Reference], composed: Composed) -> Published:
    """Let tags stand for an image: one after the other, each written once and read back.

    A tag that stands for it already is left alone.

    :raises FarmError: a part of the image is gone, and no tag was moved; or the message says which were.
    """
    _require_children(registries, tags, composed)
    moved: List[Reference] = []
    unchanged: List[Reference] = []
    for tag in tags:
        try:
            if _stands_for(registries, tag) == composed.document.digest:
                unchanged.append(tag)
                continue
            registries.write(tag, composed.document.media_type, composed.document.content)
            moved.append(tag)
            now = registries.digest(tag)
            if now != composed.document.digest:
                raise FarmError(
                    f"image {tag}: it was let stand for {composed.document.digest} and stands for {now}; does "
                    f"something else push to the same name? A new run repairs it"
                )
        except FarmError as exc:
            there = [*moved, *unchanged]
            left = [one for one in tags if one not in there]
            message = (
                f"{exc.message}; tags that stand for {composed.document.digest} now: {_join(there) or 'none'}; "
                f"not yet: {_join(left) or 'none'}; a new run finishes that"
            )
            raise type(exc)(message, **exc.details) from exc
    return Published(tuple(moved), tuple(unchanged))


def _stands_for(registries: Registries, tag: Reference) -> Optional[str]:
    """Return what a tag stands for, None for nothing, also where only those who push are told."""
    try:
        return registries.digest(tag)
    except RegistryRefused:
        return None


def _require_children(registries: Registries, tags: Sequence[Reference], composed: Composed) -> None:
    """Make sure that all parts of an image are in every repository of its tags: some registries collect untagged ones.

    :raises FarmError: naming those that are gone.
    """
    repositories = {tag.repository: tag for tag in reversed(tags)}
    wanted = [tag.at(digest) for tag in repositories.values() for digest in composed.children]
    gone = [str(one) for one, found in zip(wanted, each(wanted, registries.digest)) if found is None]
    if gone:
        raise FarmError(
            f"image {tags[0]}: {', '.join(gone)}, pushed a moment ago, is gone from the registry; no tag was moved. "
            f"Does something collect untagged images there? A new run builds it again"
        )


def _join(references: Sequence[Reference]) -> str:
    return ", ".join(str(reference) for reference in references)
