# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One index of what several nodes have pushed by digest.

Source of the format: the OCI image specification (image-index.md, descriptor.md); of the order of members, which makes
the digest the same as that of ``docker buildx imagetools create``: docker/buildx ``util/imagetools/create.go``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from .._core.errors import FarmError
from .._platform.platform import Platform
from .._registry.model import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, Document, digest_of
from .index import Index

#: A platform, None for all of them, with a key and a value.
DescriptorAnnotation = Tuple[Optional[Platform], str, str]


@dataclass(frozen=True)
class Part:
    """What one node has pushed: a manifest, or an index with attestations or of several platforms.

    :ivar index: the document as read; of a single manifest with the platform that its config names.
    """

    document: Document
    index: Index


@dataclass(frozen=True)
class Composed:
    """What tags are to stand for.

    :ivar platforms: the digest of each platform's manifest.
    :ivar children: the digests of all that it names, attestations included; none where it is a manifest itself.
    """

    document: Document
    platforms: Mapping[Platform, str]
    children: Tuple[str, ...]


def compose(
    parts: Sequence[Part],
    platforms: Sequence[Platform],
    index_annotations: Sequence[Tuple[str, str]] = (),
    descriptor_annotations: Sequence[DescriptorAnnotation] = (),
) -> Composed:
    """Return what tags are to stand for: what a single node has pushed, else an index of what several have.

    The images come in the order of ``platforms``, the attestations after them, as in what BuildKit pushes.

    :raises FarmError: a platform is missing, there twice or not wanted; or annotations have no place.
    """
    found = _manifests(parts, platforms)
    digests = {platform: str(found[platform]["digest"]) for platform in platforms}
    attestations = [entry for part in parts for entry in _attestations(part)]
    if len(parts) == 1 and not index_annotations and not descriptor_annotations:
        single = parts[0]
        children = tuple(str(entry["digest"]) for entry in _entries(single.document))
        return Composed(replace(single.document, media_type=single.index.media_type), digests, children)
    entries = [_annotated(found[platform], platform, descriptor_annotations) for platform in platforms]
    media_type = _index_type(entries, index_annotations)
    index: Dict[str, Any] = {"schemaVersion": 2, "mediaType": media_type, "manifests": [*entries, *attestations]}
    if index_annotations:
        index["annotations"] = dict(sorted(index_annotations))
    content = json.dumps(index, indent=2, ensure_ascii=False).encode()
    children = tuple(str(entry["digest"]) for entry in index["manifests"])
    return Composed(Document(digest_of(content), media_type, content), digests, children)


def _manifests(parts: Sequence[Part], wanted: Sequence[Platform]) -> Dict[Platform, Mapping[str, Any]]:
    """Return the descriptor of each platform's manifest."""
    found: Dict[Platform, Mapping[str, Any]] = {}
    problems = []
    for part in parts:
        descriptors = {str(entry["digest"]): entry for entry in _entries(part.document)}
        for manifest in part.index.manifests:
            platform = manifest.platform
            if platform is None:
                continue
            if platform in found or platform not in wanted:
                problems.append(f"{platform} is {'there twice' if platform in found else 'not wanted'}")
            found[platform] = descriptors.get(manifest.digest) or _descriptor(part, platform)
    problems += [f"{platform} is missing" for platform in wanted if platform not in found]
    if problems:
        raise FarmError(f"what the nodes pushed is not what was asked for: {', '.join(problems)}")
    return found


def _attestations(part: Part) -> List[Mapping[str, Any]]:
    known = {manifest.digest for manifest in part.index.manifests}
    return [entry for entry in _entries(part.document) if entry["digest"] not in known]


def _entries(document: Document) -> List[Mapping[str, Any]]:
    return [dict(entry) for entry in json.loads(document.content).get("manifests") or ()]


def _descriptor(part: Part, platform: Platform) -> Mapping[str, Any]:
    """Return the descriptor of a manifest that no index names."""
    variant = {"variant": platform.variant} if platform.variant else {}
    return {
        "mediaType": part.index.media_type,
        "digest": part.document.digest,
        "size": len(part.document.content),
        "platform": {"architecture": platform.arch, "os": platform.os, **variant},
    }


def _annotated(
    entry: Mapping[str, Any], platform: Platform, annotations: Sequence[DescriptorAnnotation]
) -> Mapping[str, Any]:
    """Return a descriptor with its annotations, in the order of members of Go's type for it."""
    own = {key: value for of, key, value in annotations if of in (None, platform)}
    merged = {**(entry.get("annotations") or {}), **own}
    members = {**entry, "annotations": dict(sorted(merged.items()))} if merged else dict(entry)
    order = ("mediaType", "digest", "size", "urls", "annotations", "data", "platform", "artifactType")
    return {name: members[name] for name in order if name in members}


def _index_type(entries: Sequence[Mapping[str, Any]], index_annotations: Sequence[Tuple[str, str]]) -> str:
    if any(entry["mediaType"] != DOCKER_MANIFEST for entry in entries):
        return OCI_INDEX
    if index_annotations or any("annotations" in entry for entry in entries):
        raise FarmError(
            "annotations: Docker's media types have no place for those of an index; leave oci-mediatypes=false out of "
            "the output's options"
        )
    return DOCKER_LIST
