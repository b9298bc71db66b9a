# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One index out of what the nodes of a builder pushed by digest, as one BuildKit would have written it.

Source of the order and of the bytes: BuildKit's ``exporter/containerimage/writer.go`` (the images in the order of the
platforms, then their attestation manifests; Go's ``json.MarshalIndent``); of the members: the OCI image specification.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from .._core.errors import FarmError
from .._platform.platform import Platform
from .._registry.model import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, Document, digest_of
from .index import Index, Manifest, attestation_subject

#: The members of a descriptor and of a platform, in the order of their Go types.
_DESCRIPTOR = ("mediaType", "digest", "size", "urls", "annotations", "data", "platform", "artifactType")
_PLATFORM = ("architecture", "os", "os.version", "os.features", "variant")
#: What Go writes as escapes beside what every JSON needs.
_ESCAPED = "<>&\u2028\u2029"

Annotations = Mapping[str, str]


@dataclass(frozen=True)
class Part:
    """What one node pushed.

    :ivar document: an index, or a single manifest.
    :ivar platforms: those of its images, in its order.
    :ivar os_version: of a single manifest for Windows, from its config.
    """

    document: Document
    platforms: Tuple[Platform, ...]
    os_version: str = ""


@dataclass(frozen=True)
class Composed:
    """An image that is ready to be published.

    :ivar children: digests of all that has to be in the repository before it.
    :ivar entries: the images in the order of the platforms, then their attestation manifests.
    """

    media_type: str
    content: bytes
    digest: str
    children: Tuple[str, ...]
    entries: Tuple[Manifest, ...]

    @property
    def is_manifest(self) -> bool:
        """Whether it is an image's only manifest, and no index."""
        return self.media_type in (OCI_MANIFEST, DOCKER_MANIFEST)


@dataclass(frozen=True)
class _Entry:
    """One descriptor, as the index is to have it."""

    manifest: Manifest
    raw: Mapping[str, Any]


def compose(
    parts: Sequence[Part],
    platforms: Sequence[Platform],
    index_annotations: Optional[Annotations] = None,
    descriptor_annotations: Optional[Mapping[Optional[Platform], Annotations]] = None,
    docker_types: bool = False,
    record: Optional[Annotations] = None,
) -> Composed:
    """Return the image that consists of the parts.

    A single manifest stays what it is, unless there are annotations that only an index has. One part that is an index
    stays what it is, byte by byte, unless something has to be added.

    :param platforms: those that the image is to have, in the order of the index.
    :param index_annotations: of the index.
    :param descriptor_annotations: of the entries, by platform; those of None are for every platform.
    :param docker_types: make a Docker manifest list, out of Docker manifests.
    :param record: annotations of whatever the tags are to stand for, the index or the only manifest; Docker's media
        types have none.
    :raises FarmError: a platform is missing, twice or unexpected; or the media types do not allow what is wanted.
    """
    of_index, of_descriptors = index_annotations or {}, descriptor_annotations or {}
    annotated = bool(of_index) or any(of_descriptors.values())
    if docker_types and annotated:
        raise FarmError(
            "annotations of an index or of its entries need OCI media types, and Docker's are wanted; leave out the "
            "annotations, or oci-mediatypes=false"
        )
    entries = [entry for part in parts for entry in _entries(part)]
    images = _in_order(entries, platforms)
    attestations = _attestations(entries, images)
    chosen = [*(_annotated(entry, of_descriptors) for entry in images), *attestations]
    if docker_types:
        _refuse_other_than_docker(chosen)
    manifests = tuple(entry.manifest for entry in chosen)
    (first, *more) = parts
    if not more and not annotated and first.document.digest == manifests[0].digest:
        return _single_manifest(first.document, manifests[0], record or {})
    document: Dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": DOCKER_LIST if docker_types else OCI_INDEX,
        "manifests": [entry.raw for entry in chosen],
    }
    on_top = {**of_index, **({} if docker_types else record or {})}
    if on_top:
        document["annotations"] = dict(sorted(on_top.items()))
    if not more and json.loads(first.document.content) == document:
        return _composed(document["mediaType"], first.document.content, manifests)
    return _composed(document["mediaType"], _marshal(document), manifests)


def subset(part: Part, platforms: Sequence[Platform]) -> Part:
    """Return what an image has of some of its platforms, with their attestations, as a part of another one.

    :raises FarmError: it is no image.
    """
    entries = _entries(part)
    images = [entry for entry in entries if entry.manifest.platform in platforms]
    digests = [entry.manifest.digest for entry in images]
    attestations = [entry for entry in entries if attestation_subject(entry.manifest) in digests]
    if part.document.digest in digests:
        return part
    raw = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [one.raw for one in (*images, *attestations)]}
    content = _marshal(raw)
    return Part(Document(digest_of(content), OCI_INDEX, content), tuple(platforms))


def whole(part: Part) -> Composed:
    """Return an image as it is, ready to be published under other names.

    :raises FarmError: it is no image.
    """
    manifests = tuple(entry.manifest for entry in _entries(part))
    return _composed(part.document.media_type or OCI_INDEX, part.document.content, manifests)


def _single_manifest(document: Document, manifest: Manifest, record: Annotations) -> Composed:
    """Return the image that is a single manifest; with a record it is another document of the same image."""
    media_type = document.media_type or manifest.media_type
    raw = json.loads(document.content)
    annotations = {**(raw.get("annotations") or {}), **record}
    if media_type != OCI_MANIFEST or annotations == (raw.get("annotations") or {}):
        return _composed(media_type, document.content, (manifest,))
    return _composed(media_type, _marshal({**raw, "annotations": dict(sorted(annotations.items()))}), (manifest,))


def _composed(media_type: str, content: bytes, manifests: Tuple[Manifest, ...]) -> Composed:
    children = tuple(manifest.digest for manifest in manifests)
    return Composed(media_type, content, digest_of(content), children, manifests)


def _entries(part: Part) -> List[_Entry]:
    """Return the descriptors of a part.

    :raises FarmError: it is no image, or holds something else than images and their attestations.
    """
    index = Index.parse(part.document)
    if index.others:
        types = ", ".join(sorted({entry.media_type for entry in index.others}))
        raise FarmError(f"{index.digest}: an index with entries of type {types}, wanted manifests only")
    listed = json.loads(part.document.content).get("manifests")
    if listed is None:
        return [_single(part, index.manifests[0])]
    # One manifest may be there for several platforms; entries of a kind are in the order of the list.
    raw: Dict[str, List[Dict[str, Any]]] = {}
    for item in listed:
        raw.setdefault(str(item["digest"]), []).append(_ordered(item))
    return [_Entry(entry, raw[entry.digest].pop(0)) for entry in (*index.manifests, *index.attestations)]


def _single(part: Part, manifest: Manifest) -> _Entry:
    """Return the descriptor of a manifest that is a part by itself."""
    if len(part.platforms) != 1:
        raise FarmError(f"{manifest.digest}: a manifest that is for no platform, wanted an image's")
    platform = part.platforms[0]
    of_platform = {
        "architecture": platform.arch,
        "os": platform.os,
        "os.version": part.os_version,
        "variant": platform.variant,
    }
    raw = {
        "mediaType": manifest.media_type,
        "digest": manifest.digest,
        "size": manifest.size,
        "platform": {key: value for key, value in of_platform.items() if value},
    }
    known = Manifest(manifest.digest, manifest.size, manifest.media_type, platform, part.os_version)
    return _Entry(known, raw)


def _in_order(entries: Sequence[_Entry], platforms: Sequence[Platform]) -> List[_Entry]:
    """Return the images in the order of the platforms.

    :raises FarmError: a platform is missing, twice or unexpected.
    """
    found: Dict[Platform, List[_Entry]] = {}
    for entry in entries:
        if entry.manifest.platform:
            found.setdefault(entry.manifest.platform, []).append(entry)
    wrong = [f"{platform} is missing" for platform in platforms if platform not in found]
    wrong += [f"{platform} is not wanted" for platform in found if platform not in platforms]
    wrong += [
        f"{platform} is there {len(several)} times ({', '.join(entry.manifest.digest for entry in several)})"
        for platform, several in found.items()
        if len(several) > 1
    ]
    if wrong:
        raise FarmError(
            f"what the nodes built is no image for {', '.join(map(str, platforms))}: {'; '.join(wrong)}; "
            f"does the Dockerfile or an option choose the platform?"
        )
    return [found[platform][0] for platform in platforms]


def _attestations(entries: Sequence[_Entry], images: Sequence[_Entry]) -> List[_Entry]:
    """Return the attestation manifests in the order of the images.

    :raises FarmError: one is about something else.
    """
    position = {entry.manifest.digest: number for number, entry in enumerate(images)}
    found = {entry.manifest.digest: entry for entry in entries if not entry.manifest.platform}
    for digest, entry in found.items():
        subject = attestation_subject(entry.manifest)
        if subject not in position:
            raise FarmError(f"{digest}: neither an image for a platform nor an attestation of one, but of {subject!r}")
    return sorted(found.values(), key=lambda entry: position[attestation_subject(entry.manifest)])


def _annotated(entry: _Entry, annotations: Mapping[Optional[Platform], Annotations]) -> _Entry:
    """Return an image's descriptor with what is declared for it beside what it has."""
    more = {**annotations.get(None, {}), **annotations.get(entry.manifest.platform, {})}
    if not more:
        return entry
    merged = dict(sorted({**dict(entry.manifest.annotations), **more}.items()))
    known = entry.manifest
    manifest = Manifest(
        known.digest, known.size, known.media_type, known.platform, known.os_version, tuple(merged.items())
    )
    return _Entry(manifest, _ordered({**entry.raw, "annotations": merged}))


def _refuse_other_than_docker(entries: Sequence[_Entry]) -> None:
    others = [entry.manifest for entry in entries if entry.manifest.media_type != DOCKER_MANIFEST]
    if others:
        raise FarmError(
            f"a Docker manifest list of Docker manifests is wanted, and {others[0].digest} is {others[0].media_type}; "
            f"attestations and annotations make BuildKit use OCI media types: leave them out (provenance: false, "
            f"sbom: false), or oci-mediatypes=false"
        )


def _ordered(descriptor: Mapping[str, Any]) -> Dict[str, Any]:
    """Return a descriptor with its members in Go's order."""
    ordered = _sorted(descriptor, _DESCRIPTOR)
    if "annotations" in ordered:
        ordered["annotations"] = dict(sorted(ordered["annotations"].items()))
    if "platform" in ordered:
        ordered["platform"] = _sorted(ordered["platform"], _PLATFORM)
    return ordered


def _sorted(members: Mapping[str, Any], order: Sequence[str]) -> Dict[str, Any]:
    known = [key for key in order if members.get(key)]
    return {key: members[key] for key in (*known, *sorted(set(members) - set(order)))}


def _marshal(document: Mapping[str, Any]) -> bytes:
    """Return the bytes that Go's encoder makes of a document."""
    text = json.dumps(document, indent=2, ensure_ascii=False)
    for character in _ESCAPED:
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text.encode()
