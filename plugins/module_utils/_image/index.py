# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Image indexes and manifests, as registries have them.

Source of the formats: the OCI image specification (image-index.md, manifest.md) and Docker's older media types, which
have the same members; BuildKit's docs/attestations/attestation-storage.md for attestation manifests, and its
cache/remotecache/export.go for caches.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

from .._core.errors import FarmError
from .._core.parallel import each
from .._docker.reference import Reference
from .._platform.platform import Platform
from .._registry.client import Registries
from .._registry.model import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, Document

_ATTESTATION_TYPE = "vnd.docker.reference.type"
_ATTESTATION_SUBJECT = "vnd.docker.reference.digest"
_NO_PLATFORM = "unknown"
_OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
#: Returns content by its digest, None where there is none.
Reader = Callable[[str], Optional[bytes]]
#: Media types of the configs of images; artifacts have others.
_CONFIGS = (_OCI_CONFIG, "application/vnd.docker.container.image.v1+json")


@dataclass(frozen=True)
class Manifest:
    """One entry of an index.

    :ivar platform: None for what is no platform's image: an attestation, a signature.
    :ivar size: bytes of the manifest itself, as the index says, not of the image.
    :ivar os_version: of Windows, by which an engine chooses among several images for one platform.
    """

    digest: str
    size: int
    media_type: str
    platform: Optional[Platform] = None
    os_version: str = ""
    annotations: Tuple[Tuple[str, str], ...] = ()

    def as_dict(self) -> Dict[str, Any]:
        """Return the entry as modules return it."""
        annotations = dict(self.annotations)
        shown = {"digest": self.digest, "size": self.size, "media_type": self.media_type, "annotations": annotations}
        if self.platform:
            return {"platform": str(self.platform), **shown}
        return {
            "type": annotations.get(_ATTESTATION_TYPE),
            "subject": annotations.get(_ATTESTATION_SUBJECT),
            **shown,
        }


@dataclass(frozen=True)
class Index:
    """What a name stands for in a registry: an index, or a single manifest seen as an index of one.

    :ivar digest: of the document itself.
    :ivar manifests: the images, in the index's order; a platform is None only where ``read_index`` did not resolve it.
    :ivar attestations: the manifests that are no platform's image: attestations, signatures, artifacts.
    :ivar others: the entries that are no manifests, such as the layers of BuildKit's cache, and indexes.
    """

    digest: str
    media_type: str
    manifests: Tuple[Manifest, ...]
    attestations: Tuple[Manifest, ...] = ()
    others: Tuple[Manifest, ...] = ()
    annotations: Tuple[Tuple[str, str], ...] = ()

    @property
    def platforms(self) -> Tuple[Platform, ...]:
        """The platforms in the index's order, without repeats."""
        return tuple(dict.fromkeys(entry.platform for entry in self.manifests if entry.platform))

    @property
    def repeated(self) -> Dict[Platform, Tuple[str, ...]]:
        """The digests of platforms that several images are for. Engines take the first.

        Versions of Windows are no repeats: an engine takes the one that fits it.
        """
        found: Dict[Tuple[Platform, str], List[str]] = {}
        for entry in self.manifests:
            if entry.platform:
                found.setdefault((entry.platform, entry.os_version), []).append(entry.digest)
        return {platform: tuple(digests) for (platform, _version), digests in found.items() if len(digests) > 1}

    @classmethod
    def parse(cls, document: Document) -> Index:
        """Read a document as the registry serves it.

        :raises FarmError: it is neither an index nor an image's manifest.
        """
        raw = _json_object(document.content, "the registry's answer")
        annotations, declared = _annotations(raw), raw.get("mediaType") or document.media_type
        entries = raw.get("manifests")
        if isinstance(entries, list):
            found = [_entry(item) for item in entries if isinstance(item, dict)]
            return cls(
                document.digest,
                str(declared or OCI_INDEX),
                annotations=annotations,
                **{
                    kind: tuple(entry for entry, of_kind in found if of_kind == kind)
                    for kind in ("manifests", "attestations", "others")
                },
            )
        media_type = str(declared or OCI_MANIFEST)
        single = Manifest(document.digest, len(document.content), media_type)
        if isinstance(raw.get("config"), dict) and isinstance(raw.get("layers"), list):
            return cls(document.digest, media_type, (single,), annotations=annotations)
        if raw.get("artifactType") and isinstance(raw.get("blobs"), list):
            return cls(document.digest, media_type, (), (single,), annotations=annotations)
        raise FarmError(
            f"the registry's answer is neither an image index nor a manifest "
            f"(media type {declared!r}, schema version {raw.get('schemaVersion')!r})"
        )

    def as_dict(self) -> Dict[str, Any]:
        """Return the index as modules return it."""
        return {
            "digest": self.digest,
            "media_type": self.media_type,
            "annotations": dict(self.annotations),
            "manifests": [entry.as_dict() for entry in self.manifests],
            "attestations": [entry.as_dict() for entry in self.attestations],
            "others": [entry.as_dict() for entry in self.others],
        }


def read_index(registries: Registries, reference: Reference) -> Optional[Index]:
    """Read what a name stands for, None if the registry has none.

    The platform of a single manifest, and of an entry whose index names none, is read from its config.

    :raises RegistryRefused: the credentials do not suffice.
    :raises FarmError: the registry cannot be read; or the name stands for something else.
    """
    document = registries.manifest(reference)
    return resolve_index(registries, reference, document) if document else None


def resolve_index(registries: Registries, reference: Reference, document: Document) -> Index:
    """Return the index that a document is, with all platforms.

    :param reference: any name of the repository.
    :raises FarmError: as ``read_index``.
    """
    try:
        index = Index.parse(document)
    except FarmError as exc:
        raise FarmError(f"image {reference}: {exc.message}") from exc

    def manifest(digest: str) -> Optional[bytes]:
        own = document if digest == index.digest else registries.manifest(reference.at(digest))
        return own.content if own else None

    return resolved(index, manifest, lambda digest: registries.blob(reference, digest))


def resolved(index: Index, manifest: Reader, blob: Reader) -> Index:
    """Return an index with the platforms that the configs of its manifests name where it names none itself.

    :param manifest: reads a manifest by its digest.
    :param blob: reads a config by its digest.
    :raises FarmError: one of them is broken, or cannot be read.
    """

    def with_platform(entry: Manifest) -> Manifest:
        if entry.platform:
            return entry
        config = _config_of(manifest(entry.digest), blob)
        return replace(entry, platform=_platform(config), os_version=str(config.get("os.version") or ""))

    entries = each(index.manifests, with_platform)
    images = tuple(entry for entry in entries if entry.platform)
    return replace(
        index,
        manifests=images,
        attestations=index.attestations + tuple(entry for entry in entries if not entry.platform),
    )


def attestation_subject(entry: Manifest) -> str:
    """Return the digest of the image that an attestation manifest is about, empty where it names none."""
    return dict(entry.annotations).get(_ATTESTATION_SUBJECT, "")


def image_size(registries: Registries, reference: Reference, digest: str) -> int:
    """Return the compressed size in bytes of one platform's image: its config and its layers.

    :param digest: of the platform's manifest.
    :raises FarmError: the registry does not have what its own index names, or cannot be read.
    """
    manifest = registries.manifest(reference.at(digest))
    if manifest is None:
        raise FarmError(f"image {reference}: its index names {digest}, which the registry does not have; push it again")
    document = _json_object(manifest.content, f"manifest {digest}")
    parts = [document.get("config") or {}, *(document.get("layers") or [])]
    return sum(int(part.get("size") or 0) for part in parts)


def _config_of(manifest: Optional[bytes], blob: Reader) -> Mapping[str, Any]:
    """Return the config that a manifest names, an empty one where it is no image's."""
    document = _json_object(manifest, "a manifest") if manifest else {}
    config = document.get("config") or {}
    if document.get("artifactType") or str(config.get("mediaType") or _OCI_CONFIG) not in _CONFIGS:
        return {}
    raw = blob(str(config["digest"])) if config.get("digest") else None
    return _json_object(raw, "an image's config") if raw else {}


def _entry(item: Mapping[str, Any]) -> Tuple[Manifest, str]:
    """Return an entry of an index and which of the index's lists it belongs to."""
    annotations = _annotations(item)
    media_type = str(item.get("mediaType") or OCI_MANIFEST)
    platform = item.get("platform") or {}
    kind = "manifests"
    if media_type not in (OCI_MANIFEST, DOCKER_MANIFEST):
        kind = "others"
    elif (
        item.get("artifactType")
        or _ATTESTATION_TYPE in dict(annotations)
        or _NO_PLATFORM in (platform.get("os"), platform.get("architecture"))
    ):
        kind = "attestations"
    entry = Manifest(
        digest=str(item.get("digest")),
        size=int(item.get("size") or 0),
        media_type=media_type,
        platform=_platform(platform) if kind == "manifests" else None,
        os_version=str(platform.get("os.version") or ""),
        annotations=annotations,
    )
    return entry, kind


def _platform(raw: Mapping[str, Any]) -> Optional[Platform]:
    parts = [str(raw.get(key) or "") for key in ("os", "architecture", "variant")]
    if not parts[0] or not parts[1] or _NO_PLATFORM in parts:
        return None
    try:
        return Platform.make(*parts)
    except FarmError:
        # What BuildKit does not know is still a platform that a person may read of.
        return Platform(*parts)


def _annotations(raw: Mapping[str, Any]) -> Tuple[Tuple[str, str], ...]:
    return tuple(sorted((raw.get("annotations") or {}).items()))


def _json_object(raw: bytes, what: str) -> Mapping[str, Any]:
    try:
        document = json.loads(raw)
    except ValueError as exc:
        raise FarmError(f"{what} is not JSON: {exc}") from exc
    if not isinstance(document, dict):
        raise FarmError(f"{what} is not a JSON object")
    return document
