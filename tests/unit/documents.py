# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What registries hold, in memory, and the digests by which they name it."""

from __future__ import annotations

import hashlib
from typing import Any, Dict, List, Optional, Set, Tuple

from ansible_collections.buildfarm.multiarch.plugins.module_utils._registry.host import NotSupported
from ansible_collections.buildfarm.multiarch.plugins.module_utils._registry.model import Document


def digest_of(content: bytes, algorithm: str = "sha256") -> str:
    """Return a content's digest, as the OCI image specification has it."""
    return f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"


class StoredDocuments:
    """In the place of registries: documents by their names, each image's and each blob's; notes what it was asked for.

    A document that is an exception is raised.
    """

    def __init__(self) -> None:
        self.documents: Dict[str, Any] = {}
        self.asked: List[str] = []
        self.authorities: List[bytes] = []

    def manifest(self, reference: Any) -> Optional[Document]:
        self.asked.append(str(reference))
        found = self.documents.get(str(reference))
        if isinstance(found, Exception):
            raise found
        if found is None:
            return None
        return Document(reference.digest or digest_of(found.encode()), "", found.encode())

    def digest(self, reference: Any, to_push: bool = False) -> Optional[str]:  # pylint: disable=unused-argument
        document = self.manifest(reference)
        return document and document.digest

    def blob(self, reference: Any, digest: str) -> Optional[bytes]:
        document = self.manifest(reference.at(digest))
        return document and document.content

    def copy_blob(self, source: Any, target: Any, digest: str) -> bool:
        found = self.documents.get(str(source.at(digest)))
        self.documents[str(target.at(digest))] = found
        return found is not None


class StoredRegistries:
    """In the place of registries: repositories that can be written to, as distribution keeps them.

    :ivar tags: what each tag stands for, by repository and tag.
    :ivar refuses: what they do not do: ``tags`` and ``manifests`` are not removed, and nothing is mounted.
    :ivar log: what was written and removed, in order.
    """

    def __init__(self) -> None:
        self.manifests: Dict[Tuple[str, str], Document] = {}
        self.tags: Dict[Tuple[str, str], str] = {}
        self.blobs: Dict[Tuple[str, str], bytes] = {}
        self.refuses: Set[str] = set()
        self.log: List[str] = []

    def _digest(self, reference: Any) -> str:
        return reference.digest or self.tags.get((reference.repository, reference.tag), "")

    def manifest(self, reference: Any) -> Optional[Document]:
        return self.manifests.get((reference.repository, self._digest(reference)))

    def digest(self, reference: Any, to_push: bool = False) -> Optional[str]:  # pylint: disable=unused-argument
        document = self.manifest(reference)
        return document and document.digest

    def put(self, reference: Any, media_type: str, content: bytes) -> str:
        digest = digest_of(content)
        self.log.append(f"put {reference}")
        self.manifests[reference.repository, digest] = Document(digest, media_type, content)
        if reference.tag:
            self.tags[reference.repository, reference.tag] = digest
        return digest

    def remove(self, reference: Any) -> bool:
        self.log.append(f"remove {reference}")
        if ("manifests" if reference.digest else "tags") in self.refuses:
            raise NotSupported(f"{reference}: UNSUPPORTED")
        if reference.digest:
            self.tags = {
                key: digest
                for key, digest in self.tags.items()
                if (key[0], digest) != (reference.repository, reference.digest)
            }
            return self.manifests.pop((reference.repository, reference.digest), None) is not None
        return self.tags.pop((reference.repository, reference.tag), None) is not None

    def blob(self, reference: Any, digest: str) -> Optional[bytes]:
        return self.blobs.get((reference.repository, digest))

    def has_blob(self, reference: Any, digest: str) -> bool:
        return (reference.repository, digest) in self.blobs

    def save(self, reference: Any, digest: str, sink: Any) -> bool:
        content = self.blob(reference, digest)
        sink.write(content or b"")
        return content is not None

    def put_blob(self, reference: Any, content: bytes) -> str:
        self.blobs[reference.repository, digest_of(content)] = content
        return digest_of(content)

    def copy_blob(self, source: Any, target: Any, digest: str) -> bool:
        content = self.blob(source, digest)
        if content is not None:
            self.put_blob(target, content)
        return content is not None

    def referrers(self, reference: Any, digest: str, to_push: bool = False) -> Optional[bytes]:  # pylint: disable=unused-argument
        found = self.manifests.get(
            (reference.repository, self.tags.get((reference.repository, digest.replace(":", "-")), ""))
        )
        return found.content if found else None
