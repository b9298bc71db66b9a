# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Copying images to other repositories and registries, whole and by digest.

Every repository gets what an image consists of before any of its tags stands for it. A client that pushes children
under the public tag first, as ``docker buildx imagetools create`` does before 0.22, lets people pull half an image.
"""

from __future__ import annotations

import json
from typing import Any, Dict, List, Optional, Sequence, Tuple

from .._core.errors import FarmError
from .._core.parallel import each
from .._docker.reference import Reference
from .._registry.client import Registries
from .._registry.model import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, Document
from .compose import Composed
from .publish import Published, publish

#: The types of what is kept as a manifest; all else that is named is a blob.
_MANIFESTS = (OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST)


def read_whole(registries: Registries, source: Reference) -> Composed:
    """Read what a name stands for, to be published as it is under other names; also what is no image.

    :raises RegistryRefused: the credentials do not suffice.
    :raises FarmError: it is not there, or cannot be read.
    """
    document = registries.manifest(source)
    if document is None:
        raise FarmError(f"image {source}: the registry {source.registry} has none of this name; was it pushed?")
    listed = _listed(document)
    children = tuple(str(one["digest"]) for one in listed if one.get("mediaType", OCI_MANIFEST) in _MANIFESTS)
    # What names blobs by itself, as a manifest or BuildKit's cache, is brought as a whole.
    children = children if len(children) == len(listed) else ()
    return Composed(_media_type(document), document.content, document.digest, children or (document.digest,), ())


def lacking(registries: Registries, target: Reference, digests: Sequence[str]) -> Tuple[str, ...]:
    """Return the manifests that a repository does not have, in order.

    :param target: any name of the repository.
    :raises FarmError: the registry cannot be read.
    """
    found = each(digests, lambda digest: registries.digest(target.at(digest), to_push=True))
    return tuple(digest for digest, there in zip(digests, found) if there is None)


def bring(registries: Registries, source: Reference, target: Reference) -> None:
    """Let a repository have a manifest or index with all that it names, under its digest.

    :param source: with a digest.
    :param target: any name of the repository.
    :raises RegistryRefused: the credentials do not suffice.
    :raises FarmError: something of it is not in the source, or the registry does not take it.
    """
    if source.repository == target.repository or not lacking(registries, target, (source.digest,)):
        return
    document = registries.manifest(source)
    if document is None:
        raise FarmError(f"image {source}: the registry {source.registry} does not have it; push it again")
    listed = _listed(document)
    manifests = [one for one in listed if one.get("mediaType", OCI_MANIFEST) in _MANIFESTS]
    blobs = [one for one in listed if one not in manifests] + _blobs(document)

    def copy(blob: Dict[str, Any]) -> Optional[str]:
        digest = str(blob["digest"])
        # A layer that registries need not have has its own address.
        there = registries.copy_blob(source, target, digest) or bool(blob.get("urls"))
        return None if there else digest

    each(manifests, lambda one: bring(registries, source.at(str(one["digest"])), target), workers=4)
    gone = [digest for digest in each(blobs, copy, workers=8) if digest]
    if gone:
        raise FarmError(
            f"image {source}: the registry {source.registry} does not have {', '.join(gone)}; push it again"
        )
    registries.put(target.at(source.digest), _media_type(document), document.content)


def copy_image(registries: Registries, source: Reference, targets: Sequence[Reference]) -> Published:
    """Let tags of any repositories stand for an image; those that do already are not written to.

    :param source: with the digest of the image.
    :raises RegistryRefused: the credentials do not suffice.
    :raises TagImmutable: a registry does not let a tag be moved.
    :raises FarmError: a part of the image is gone, or a registry does not take it; the message says which tags moved.
    """
    whole = read_whole(registries, source)
    bring_to_all(registries, [source.at(digest) for digest in whole.children], targets)
    return publish(registries, targets, whole)


def bring_to_all(registries: Registries, sources: Sequence[Reference], targets: Sequence[Reference]) -> None:
    """Let the repositories of several names have manifests with all that they name.

    :param sources: with digests.
    :raises FarmError: as ``bring``.
    """
    repositories = {target.repository: target for target in targets}.values()
    wanted = [(source, target) for target in repositories for source in sources]
    each(wanted, lambda pair: bring(registries, *pair), workers=4)


def _listed(document: Document) -> List[Dict[str, Any]]:
    """Return the entries of an index, none for what is no index."""
    return [dict(one) for one in json.loads(document.content).get("manifests") or ()]


def _blobs(document: Document) -> List[Dict[str, Any]]:
    """Return the descriptors of a manifest's config and layers."""
    raw = json.loads(document.content)
    found = [raw.get("config"), *(raw.get("layers") or ()), *(raw.get("blobs") or ())]
    return [dict(one) for one in found if one]


def _media_type(document: Document) -> str:
    raw = json.loads(document.content)
    fallback = OCI_INDEX if "manifests" in raw else OCI_MANIFEST
    return str(raw.get("mediaType") or document.media_type or fallback)
