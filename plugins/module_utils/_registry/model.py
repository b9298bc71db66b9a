# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documents of registries, and the media types of those that are images."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from .._core.errors import FarmError

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"

_DIGEST = re.compile(r"(?:sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})\Z")
#: Bytes of a document: what registries take for a manifest (OCI distribution specification, "Pushing Manifests").
DOCUMENT_LIMIT = 4 << 20


@dataclass(frozen=True)
class Document:
    """A manifest, an index or a small blob, as the registry has it.

    :ivar media_type: from the answer's header; the document itself need not name it.
    """

    digest: str
    media_type: str
    content: bytes


def digest_of(raw: bytes, algorithm: str = "sha256") -> str:
    """Return the digest that a registry knows a document by."""
    return f"{algorithm}:{hashlib.new(algorithm, raw).hexdigest()}"


def checked_digest(text: str, subject: str) -> str:
    """Return a digest that something from outside names, before it gets into an address or a path.

    :param subject: of the message.
    :raises FarmError: it is none.
    """
    if not _DIGEST.match(text):
        raise FarmError(f"{subject}: the digest {text!r} is none, wanted sha256: or sha512: and hexadecimal digits")
    return text
