# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""All that a registry has of a name: the index, its manifests, their configs, what attestations say, what refers to it.

Sources: the OCI image and distribution specifications; BuildKit's ``docs/attestations``; SLSA provenance 0.2 and 1;
media types of cosign, notation, SPDX and CycloneDX as their projects register them.
"""

from __future__ import annotations

import contextlib
import json
import re
from dataclasses import dataclass, replace
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple
from urllib.parse import unquote

from .._core.errors import FarmError
from .._core.parallel import each
from .._docker.reference import Reference
from .._registry.client import Registries
from .index import Index, Manifest, attestation_subject, resolve_index
from .sbom import Sbom

CACHE_CONFIG = "application/vnd.buildkit.cacheconfig.v0"
_STATEMENT = "application/vnd.in-toto+json"
_PREDICATE = "in-toto.io/predicate-type"
_PROVENANCE, _SBOMS = "https://slsa.dev/provenance/", ("https://spdx.dev/", "https://cyclonedx.org/")
#: How the media types of what is no image begin or go on, by what it is.
_KINDS = (
    ("signature", re.compile(r"simplesigning|\.signature\b|sigstore\.bundle")),
    ("sbom", re.compile(r"spdx|cyclonedx|syft")),
    ("attestation", re.compile(r"in-toto|dsse")),
    ("cache", re.compile(re.escape(CACHE_CONFIG))),
)
#: Layers that registries need not have: they are fetched from elsewhere.
_ELSEWHERE = re.compile(r"nondistributable|\.foreign\.")


@dataclass(frozen=True)
class Depth:
    """What is read beside the index and its manifests.

    :ivar configs: the configs of the images.
    :ivar provenance: what it says; that it is there is known without.
    :ivar sboms: what they say, likewise.
    :ivar blobs: whether every config and layer is there.
    :ivar referrers: what refers to the whole, as signatures do.
    """

    configs: bool = False
    provenance: bool = False
    sboms: bool = False
    blobs: bool = False
    referrers: bool = False


@dataclass(frozen=True)
class Attestation:
    """One statement about an image (in-toto).

    :ivar predicate_type: what kind of statement it is.
    :ivar predicate: what it says, None where that was not read.
    """

    predicate_type: str
    digest: str
    size: int
    predicate: Optional[Mapping[str, Any]] = None

    @property
    def is_provenance(self) -> bool:
        """Whether it says how the image was built."""
        return self.predicate_type.startswith(_PROVENANCE)

    @property
    def is_sbom(self) -> bool:
        """Whether it says what the image consists of."""
        return self.predicate_type.startswith(_SBOMS)


@dataclass(frozen=True)
class Provenance:
    """What provenance says, of version 0.2 or 1.

    :ivar builder: who built, mostly a URL; empty where it does not say.
    :ivar source: where the build context is from, with the version control's own word preferred.
    :ivar revision: of that.
    :ivar bases: digests of the images that it was built from, by their names.
    """

    builder: str
    source: str
    revision: str
    bases: Mapping[str, str]

    @classmethod
    def of(cls, predicate: Mapping[str, Any]) -> Provenance:
        """Read it from a statement's predicate."""
        definition, details = _member(predicate, "buildDefinition"), _member(predicate, "runDetails")
        invocation = _member(definition, "externalParameters") or _member(predicate, "invocation")
        config = _member(invocation, "configSource")
        metadata = _member(_member(details, "metadata"), "buildkit_metadata")
        metadata = metadata or _member(_member(predicate, "metadata"), "https://mobyproject.org/buildkit@v1#metadata")
        vcs, digests = _member(metadata, "vcs"), _member(config, "digest")
        materials = definition.get("resolvedDependencies") or predicate.get("materials") or []
        builder = _member(details, "builder") or _member(predicate, "builder")
        return cls(
            builder=str(builder.get("id") or ""),
            source=str(vcs.get("source") or config.get("uri") or ""),
            revision=str(vcs.get("revision") or next(iter(digests.values()), "")),
            bases=dict(filter(None, (_base(material) for material in materials))),
        )

    def as_dict(self) -> Dict[str, Any]:
        """Return it as modules return it."""
        return {"builder": self.builder, "source": self.source, "revision": self.revision, "bases": dict(self.bases)}


@dataclass(frozen=True)
class Part:
    """One manifest of an index.

    :ivar document: the manifest itself, None where the registry does not have it.
    :ivar config: of an image, None where it was not read.
    """

    entry: Manifest
    document: Optional[Mapping[str, Any]]
    config: Optional[Mapping[str, Any]] = None
    attestations: Tuple[Attestation, ...] = ()

    @property
    def blobs(self) -> Tuple[Mapping[str, Any], ...]:
        """The descriptors of its config and its layers."""
        document = self.document or {}
        found = [document.get("config"), *(document.get("layers") or ()), *(document.get("blobs") or ())]
        return tuple(one for one in found if isinstance(one, dict))

    @property
    def size(self) -> int:
        """Bytes of its config and its compressed layers."""
        return sum(int(blob.get("size") or 0) for blob in self.blobs)

    @property
    def labels(self) -> Mapping[str, str]:
        """The labels of an image whose config was read."""
        return _member(_member(self.config or {}, "config"), "Labels")

    @property
    def created(self) -> str:
        """When the image was created, by its config (RFC 3339); empty where that does not say."""
        return str((self.config or {}).get("created") or "")

    @property
    def annotations(self) -> Mapping[str, str]:
        """Those of its entry in the index, and its own."""
        return {**_member(self.document or {}, "annotations"), **dict(self.entry.annotations)}

    @property
    def provenance(self) -> Optional[Provenance]:
        """What its provenance says, None where it has none or that was not read."""
        found = (one.predicate for one in self.attestations if one.is_provenance and one.predicate is not None)
        predicate = next(found, None)
        return Provenance.of(predicate) if predicate is not None else None

    @property
    def sboms(self) -> Tuple[Sbom, ...]:
        """What its bills of materials say, none where it has none or they were not read."""
        found = (one.predicate for one in self.attestations if one.is_sbom and one.predicate is not None)
        return tuple(map(Sbom.of, found))


@dataclass(frozen=True)
class Contents:
    """What a name stands for.

    :ivar document: the index or manifest itself.
    :ivar images: those for platforms, in the index's order.
    :ivar others: attestations and artifacts.
    :ivar gone: what the index or a manifest names and the registry does not have: manifests and blobs, by digest.
    :ivar referrers: None where they were not read.
    """

    reference: Reference
    index: Index
    size: int
    document: Mapping[str, Any]
    images: Tuple[Part, ...]
    others: Tuple[Part, ...]
    gone: Tuple[str, ...] = ()
    referrers: Optional[Tuple[Mapping[str, Any], ...]] = None

    @property
    def kind(self) -> str:
        """What it is: ``image``, ``signature``, ``sbom``, ``attestation``, ``cache`` or ``artifact``."""
        if self.images:
            return "image"
        types = [str(self.document.get("artifactType") or "")]
        types += [str(_member(self.document, "config").get("mediaType") or "")]
        listed = [*(self.document.get("layers") or ()), *(self.document.get("blobs") or ()), *self.index.others]
        types += [one.media_type if isinstance(one, Manifest) else str(one.get("mediaType") or "") for one in listed]
        for kind, pattern in _KINDS:
            if any(pattern.search(one) for one in types):
                return kind
        return "artifact" if self.others or self.index.others else "image"

    def as_dict(self, deep: bool = False) -> Dict[str, Any]:
        """Return it as modules return it.

        :param deep: with all that was read of each image.
        """
        shown = self.index.as_dict()
        if deep:
            for entry, part in zip(shown["manifests"], self.images):
                entry.update(_deep(part))
        return {
            "name": str(self.reference),
            "kind": self.kind,
            "size": self.size,
            "artifact_type": self.document.get("artifactType"),
            "subject": _member(self.document, "subject").get("digest"),
            "document": self.document,
            "referrers": None if self.referrers is None else list(self.referrers),
            **shown,
        }


def read_contents(registries: Registries, reference: Reference, depth: Depth) -> Optional[Contents]:
    """Read what a name stands for, None if the registry has nothing of it.

    What an index names and the registry does not have is no error, see ``Contents.gone``.

    :raises RegistryRefused: the credentials do not suffice.
    :raises FarmError: the registry cannot be read; or the name stands for something else.
    """
    document = registries.manifest(reference)
    if document is None:
        return None
    index = resolve_index(registries, reference, document)
    whole: Mapping[str, Any] = json.loads(document.content)

    def read(digest: str) -> Optional[Mapping[str, Any]]:
        if digest == index.digest:
            return whole
        raw = registries.manifest(reference.at(digest))
        return _object(raw.content) if raw else None

    # Several entries may name one manifest.
    digests = list(dict.fromkeys(entry.digest for entry in (*index.manifests, *index.attestations)))
    documents = dict(zip(digests, each(digests, read)))
    images = [Part(entry, documents[entry.digest]) for entry in index.manifests]
    others = tuple(Part(entry, documents[entry.digest]) for entry in index.attestations)
    statements = _statements(registries, reference, others, depth)
    if depth.configs:
        configs = each(images, lambda part: _config(registries, reference, part))
        images = [replace(part, config=config) for part, config in zip(images, configs)]
    images = [replace(part, attestations=statements.get(part.entry.digest, ())) for part in images]
    gone = [digest for digest, found in documents.items() if found is None]
    if depth.blobs:
        blobs = {
            str(blob.get("digest")): None
            for part in (*images, *others)
            for blob in part.blobs
            if not _ELSEWHERE.search(str(blob.get("mediaType")))
        }
        there = each(blobs, lambda digest: registries.has_blob(reference, digest))
        gone += [digest for digest, found in zip(blobs, there) if not found]
    referrers = _referrers(registries, reference, index.digest) if depth.referrers else None
    return Contents(reference, index, len(document.content), whole, tuple(images), others, tuple(gone), referrers)


def _config(registries: Registries, reference: Reference, part: Part) -> Optional[Mapping[str, Any]]:
    digest = _member(part.document or {}, "config").get("digest")
    raw = registries.blob(reference, str(digest)) if digest else None
    return _object(raw) if raw else None


def _statements(
    registries: Registries, reference: Reference, parts: Sequence[Part], depth: Depth
) -> Dict[str, Tuple[Attestation, ...]]:
    """Return the statements about each image, by its digest."""

    def read(part: Part) -> List[Attestation]:
        found = []
        for layer in part.blobs[1:]:
            kind = str(_member(layer, "annotations").get(_PREDICATE) or "")
            if layer.get("mediaType") != _STATEMENT:
                continue
            one = Attestation(kind, str(layer.get("digest")), int(layer.get("size") or 0))
            if (one.is_provenance and depth.provenance) or (one.is_sbom and depth.sboms):
                raw = registries.blob(reference, one.digest)
                one = Attestation(kind, one.digest, one.size, _member(_object(raw or b""), "predicate"))
            found.append(one)
        return found

    about = [part for part in parts if attestation_subject(part.entry)]
    statements: Dict[str, Tuple[Attestation, ...]] = {}
    for part, found in zip(about, each(about, read)):
        subject = attestation_subject(part.entry)
        statements[subject] = (*statements.get(subject, ()), *found)
    return statements


def _referrers(registries: Registries, reference: Reference, digest: str) -> Tuple[Mapping[str, Any], ...]:
    raw = registries.referrers(reference, digest)
    listed = _object(raw or b"").get("manifests") or []
    return tuple(
        {
            "digest": one.get("digest"),
            "media_type": one.get("mediaType"),
            "artifact_type": one.get("artifactType"),
            "size": one.get("size"),
            "annotations": one.get("annotations") or {},
        }
        for one in listed
        if isinstance(one, dict)
    )


def _deep(part: Part) -> Dict[str, Any]:
    """Return what was read of an image beside its entry in the index."""
    provenance = part.provenance
    return {
        "manifest": part.document,
        "config": part.config,
        "compressed_size": part.size,
        "provenance": provenance.as_dict() if provenance else None,
        "statements": [
            {"type": one.predicate_type, "digest": one.digest, "size": one.size, "predicate": one.predicate}
            for one in part.attestations
        ],
    }


def _base(material: Any) -> Optional[Tuple[str, str]]:
    """Return name and digest of an image that provenance names as a package URL, None for other materials."""
    uri = str(material.get("uri") or "") if isinstance(material, dict) else ""
    digest = _member(material, "digest").get("sha256") if uri else None
    if not uri.startswith("pkg:docker/") or not digest:
        return None
    name, _at, version = unquote(uri[len("pkg:docker/") :].partition("?")[0]).partition("@")
    version = version if version and not version.startswith("sha256:") else ""
    with contextlib.suppress(FarmError):
        return str(Reference.parse(name + (f":{version}" if version else ""))), f"sha256:{digest}"
    return None


def _member(document: Any, name: str) -> Mapping[str, Any]:
    """Return a member that is an object, an empty one where it is none."""
    found = document.get(name) if isinstance(document, dict) else None
    return found if isinstance(found, dict) else {}


def _object(raw: bytes) -> Mapping[str, Any]:
    try:
        document = json.loads(raw)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}
