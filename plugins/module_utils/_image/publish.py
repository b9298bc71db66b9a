# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Publishing an image: its tags move one by one, each at once from one complete image to another.

A registry has no transaction over several tags: its unit is one ``PUT`` of a manifest (OCI distribution specification,
"Pushing Manifests").
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import List, Optional, Sequence, Tuple

from .._core.errors import FarmError
from .._core.parallel import each
from .._docker.reference import Reference
from .._registry.client import Registries
from .compose import Composed, Part
from .index import resolve_index

#: Seconds after which a tag that was moved is read again, for registries whose readers lag behind.
_PAUSES = (0.5, 1.0, 2.0)


@dataclass(frozen=True)
class Published:
    """What became of an image's tags; all of them stand for it.

    :ivar moved: those that stood for something else, or for nothing.
    """

    moved: Tuple[Reference, ...]
    unchanged: Tuple[Reference, ...]


def read_part(registries: Registries, repository: Reference, digest: str) -> Part:
    """Read what a node pushed by digest.

    :param repository: any name of the repository.
    :raises RegistryRefused: the credentials do not suffice.
    :raises FarmError: it is not there, is no image, or cannot be read.
    """
    name = repository.at(digest)
    document = registries.manifest(name)
    if document is None:
        raise FarmError(
            f"image {name}: a node pushed it, and the registry does not have it; does something else clean up there? "
            f"Build it again"
        )
    manifests = resolve_index(registries, name, document).manifests
    platforms = tuple(entry.platform for entry in manifests if entry.platform)
    return Part(document, platforms, manifests[0].os_version if manifests else "")


def read_parts(registries: Registries, repository: Reference, digests: Sequence[str]) -> Tuple[Part, ...]:
    """Read what several nodes pushed by digest, in order.

    :raises FarmError: as ``read_part``.
    """
    return tuple(each(digests, lambda digest: read_part(registries, repository, digest)))


def to_move(registries: Registries, tags: Sequence[Reference], digest: str) -> Tuple[Reference, ...]:
    """Return the tags that do not stand for a digest yet, in order.

    :raises RegistryRefused: the credentials do not suffice.
    :raises FarmError: a registry cannot be read.
    """
    found = each(tags, lambda tag: registries.digest(tag, to_push=True))
    return tuple(tag for tag, current in zip(tags, found) if current != digest)


def put_by_digest(registries: Registries, repository: Reference, composed: Composed) -> Reference:
    """Write an image under its digest only, and return its name: for what is built upon it, and for checks.

    :param repository: any name of the repository.
    :raises RegistryRefused: the credentials do not suffice.
    :raises FarmError: a part of it is gone, or the registry does not take it.
    """
    name = repository.at(composed.digest)
    _require_children(registries, (name,), composed)
    registries.put(name, composed.media_type, composed.content)
    return name


def publish(registries: Registries, tags: Sequence[Reference], composed: Composed) -> Published:
    """Let all tags stand for an image; those that do already are not written to.

    :raises RegistryRefused: the credentials do not suffice.
    :raises TagImmutable: a registry does not let a tag be moved.
    :raises FarmError: a part of the image is gone, and no tag has moved; or a tag could not be moved. The message says
        which have been.
    """
    _require_children(registries, tags, composed)
    waiting = list(to_move(registries, tags, composed.digest))
    unchanged = tuple(tag for tag in tags if tag not in waiting)
    moved: List[Reference] = []
    while waiting:
        tag = waiting[0]
        try:
            _move(registries, tag, composed)
        except FarmError as exc:
            raise type(exc)(f"{exc.message}{_progress(moved, waiting)}", **exc.details) from exc
        moved.append(waiting.pop(0))
    return Published(tuple(moved), unchanged)


def _move(registries: Registries, tag: Reference, composed: Composed) -> None:
    """Write a tag and read it back.

    :raises FarmError: the registry does not take it, or the tag stands for something else then.
    """
    registries.put(tag, composed.media_type, composed.content)
    found = _read_back(registries, tag, composed.digest)
    if found != composed.digest:
        raise FarmError(
            f"tag {tag} was moved to {composed.digest}, and stands for {found or 'nothing'} now; does something else "
            f"push to it?"
        )


def _read_back(registries: Registries, tag: Reference, wanted: str) -> Optional[str]:
    found = registries.digest(tag, to_push=True)
    for pause in _PAUSES:
        if found == wanted:
            break
        time.sleep(pause)
        found = registries.digest(tag, to_push=True)
    return found


def _require_children(registries: Registries, names: Sequence[Reference], composed: Composed) -> None:
    """Make sure that all that an image names is in each repository: what has no tag may be collected at any time.

    :raises FarmError: something is not there.
    """
    repositories = {name.repository: name for name in names}.values()
    wanted = [name.at(child) for name in repositories for child in composed.children]
    found = each(wanted, lambda child: registries.digest(child, to_push=True))
    gone = [str(child) for child, digest in zip(wanted, found) if digest is None]
    if gone:
        raise FarmError(
            f"the registry does not have {', '.join(gone)} any more, which {composed.digest} consists of; no tag was "
            f"moved. Does something clean up what has no tag? A new run builds it again"
        )


def _progress(moved: Sequence[Reference], waiting: Sequence[Reference]) -> str:
    done = f"moved: {', '.join(map(str, moved))}" if moved else "no tag was moved before"
    return f"; {done}; not moved: {', '.join(map(str, waiting))}; a new run finishes"
