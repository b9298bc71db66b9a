# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Image indexes and manifests, read from a registry through ``docker buildx imagetools inspect --raw``.

Source of the formats: the OCI image specification (image-index.md, manifest.md) and Docker's older media types, which
have the same members; BuildKit's docs/attestations/attestation-storage.md for attestation manifests.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, replace
from typing import Any, Dict, List, Mapping, Optional, Tuple

from ._buildx import Buildx
from ._errors import FarmError
from ._platforms import Platform
from ._reference import Reference
from ._runner import CommandError

_ATTESTATION_TYPE = "vnd.docker.reference.type"
_ATTESTATION_SUBJECT = "vnd.docker.reference.digest"
_NO_PLATFORM = "unknown"
_OCI_INDEX = "application/vnd.oci.image.index.v1+json"
_OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
# Registries word their refusals differently; these are containerd's, which buildx passes on.
_REFUSED = re.compile(
    r"401 Unauthorized|403 Forbidden|authorization failed|failed to authorize|access denied|insufficient_scope"
    r"|no basic auth credentials|denied: |unauthorized: ",
    re.IGNORECASE,
)
_PLAIN_HTTP = "server gave HTTP response to HTTPS client"
_UNKNOWN_AUTHORITY = "certificate signed by unknown authority"
# docker/buildx#2476: the certificates of a builder's configuration serve its nodes only.
_AUTHORITY_HINT = (
    " (buildx asks it from this controller; add the registry's CA to the controller's trusted certificates, or set "
    "SSL_CERT_FILE in the task's environment)"
)


class RegistryRefused(FarmError):
    """The registry wants other credentials.

    :ivar may_be_missing: the registry knows who asks, but says "denied" where others say "not found".
    """

    may_be_missing = False


@dataclass(frozen=True)
class Manifest:
    """One entry of an index.

    :ivar platform: None for what is no platform's image: an attestation, a signature.
    :ivar size: bytes of the manifest itself, as the index says, not of the image.
    """

    digest: str
    size: int
    media_type: str
    platform: Optional[Platform] = None
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
    :ivar attestations: the entries that are no platform's image.
    """

    digest: str
    media_type: str
    manifests: Tuple[Manifest, ...]
    attestations: Tuple[Manifest, ...] = ()
    annotations: Tuple[Tuple[str, str], ...] = ()

    @property
    def platforms(self) -> Tuple[Platform, ...]:
        """The platforms in the index's order, without repeats."""
        return tuple(dict.fromkeys(entry.platform for entry in self.manifests if entry.platform))

    @classmethod
    def parse(cls, raw: bytes) -> Index:
        """Read a document as the registry serves it.

        :raises FarmError: it is neither an index nor an image's manifest.
        """
        document = _json_object(raw, "the registry's answer")
        digest, annotations = digest_of(raw), _annotations(document)
        entries = document.get("manifests")
        if isinstance(entries, list):
            found = [_entry(item) for item in entries if isinstance(item, dict)]
            return cls(
                digest,
                str(document.get("mediaType") or _OCI_INDEX),
                tuple(entry for entry, is_image in found if is_image),
                tuple(entry for entry, is_image in found if not is_image),
                annotations,
            )
        if isinstance(document.get("config"), dict) and isinstance(document.get("layers"), list):
            media_type = str(document.get("mediaType") or _OCI_MANIFEST)
            return cls(digest, media_type, (Manifest(digest, len(raw), media_type),), (), annotations)
        raise FarmError(
            f"the registry's answer is neither an image index nor a manifest "
            f"(media type {document.get('mediaType')!r}, schema version {document.get('schemaVersion')!r})"
        )

    def as_dict(self) -> Dict[str, Any]:
        """Return the index as modules return it."""
        return {
            "digest": self.digest,
            "media_type": self.media_type,
            "annotations": dict(self.annotations),
            "manifests": [entry.as_dict() for entry in self.manifests],
            "attestations": [entry.as_dict() for entry in self.attestations],
        }


def digest_of(raw: bytes) -> str:
    """Return the digest that a registry knows a document by."""
    return "sha256:" + hashlib.sha256(raw).hexdigest()


def fetch(buildx: Buildx, reference: Reference, builder: Optional[str]) -> Optional[bytes]:
    """Return a document (index, manifest, or by its digest a config) from a registry, None if it is not there.

    :param builder: whose registry settings (plain HTTP, mirrors, certificates) are used; None for buildx's current one.
    :raises RegistryRefused: the credentials do not suffice.
    :raises FarmError: the registry cannot be reached or asked.
    """
    result = buildx.run(
        ["imagetools", "inspect", "--raw", *(["--builder", builder] if builder else []), str(reference)]
    )
    if result.rc == 0:
        return result.stdout.encode()
    said = result.stderr
    if re.search(rf"{re.escape(_last_part(reference))}: not found\s*\Z", said):
        return None
    details = CommandError("", result).details
    if 'no builder "' in said:
        raise FarmError(
            f'image {reference}: no builder "{builder}" found; declare it with the module '
            f"buildfarm.multiarch.buildx_builder, or name one that exists",
            **details,
        )
    if is_refusal(said):
        raise refusal(reference.registry, said, **details)
    if _PLAIN_HTTP in said:
        raise FarmError(
            f"image {reference}: registry {reference.registry} speaks plain HTTP; buildx believes that only of "
            f"loopback addresses and of a registry that the builder's buildkitd configuration marks 'http = true' "
            f"(builder here: {builder or 'the current one'})",
            **details,
        )
    hint = _AUTHORITY_HINT if _UNKNOWN_AUTHORITY in said else ""
    raise CommandError(f"image {reference}: registry {reference.registry} could not be asked{hint}", result)


def refusal(registry: str, said: str, **details: Any) -> RegistryRefused:
    """Return the error for a registry that refused, with what the tool said of it."""
    reason = said.strip().splitlines()[-1] if said.strip() else "nothing said"
    error = RegistryRefused(
        f"registry {registry} refused the credentials of the docker configuration, or wants some where there are none: "
        f"{reason}; log in with docker login {registry}, or name the right docker_config",
        **details,
    )
    error.may_be_missing = "insufficient_scope" in said or "403 Forbidden" in said
    return error


def is_refusal(said: str) -> bool:
    """Say whether a tool's words are those of a registry that refuses credentials."""
    return bool(_REFUSED.search(said))


def read_index(buildx: Buildx, reference: Reference, builder: Optional[str]) -> Optional[Index]:
    """Read what a name stands for, None if the registry has none.

    The platform of a single manifest, and of an entry whose index names none, is read from its config.

    :raises FarmError: as ``fetch``; or the answer is no image.
    """
    raw = fetch(buildx, reference, builder)
    if raw is None:
        return None
    try:
        index = Index.parse(raw)
    except FarmError as exc:
        raise FarmError(f"image {reference}: {exc.message}") from exc
    images: List[Manifest] = []
    others = list(index.attestations)
    for entry in index.manifests:
        platform = entry.platform
        if platform is None:
            document = raw if entry.digest == index.digest else fetch(buildx, reference.at(entry.digest), builder)
            platform = _platform_of(buildx, reference, builder, document)
        (images if platform else others).append(replace(entry, platform=platform))
    return replace(index, manifests=tuple(images), attestations=tuple(others))


def image_size(buildx: Buildx, reference: Reference, digest: str, builder: Optional[str]) -> int:
    """Return the compressed size in bytes of one platform's image: its config and its layers.

    :param digest: of the platform's manifest.
    :raises FarmError: the registry does not have what its own index names, or cannot be asked.
    """
    raw = fetch(buildx, reference.at(digest), builder)
    if raw is None:
        raise FarmError(f"image {reference}: its index names {digest}, which the registry does not have; push it again")
    document = _json_object(raw, f"manifest {digest}")
    parts = [document.get("config") or {}, *(document.get("layers") or [])]
    return sum(int(part.get("size") or 0) for part in parts)


def _last_part(reference: Reference) -> str:
    return f"@{reference.digest}" if reference.digest else f":{reference.tag}"


def _platform_of(
    buildx: Buildx, reference: Reference, builder: Optional[str], manifest: Optional[bytes]
) -> Optional[Platform]:
    """Return the platform that a manifest's config names, None where it is no image's."""
    config = (_json_object(manifest, "a manifest").get("config") or {}) if manifest else {}
    raw = fetch(buildx, reference.at(config["digest"]), builder) if config.get("digest") else None
    return _platform(_json_object(raw, "an image's config")) if raw else None


def _entry(item: Mapping[str, Any]) -> Tuple[Manifest, bool]:
    """Return an entry of an index and whether it is a platform's image."""
    annotations = _annotations(item)
    platform = item.get("platform")
    is_image = not (
        item.get("artifactType")
        or _ATTESTATION_TYPE in dict(annotations)
        or (platform and _NO_PLATFORM in (platform.get("os"), platform.get("architecture")))
    )
    entry = Manifest(
        digest=str(item.get("digest")),
        size=int(item.get("size") or 0),
        media_type=str(item.get("mediaType")),
        platform=_platform(platform) if platform and is_image else None,
        annotations=annotations,
    )
    return entry, is_image


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
