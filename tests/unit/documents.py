# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What registries hold, in memory, and the digests by which they name it."""

from __future__ import annotations

import hashlib
from typing import Any, Dict, List, Optional

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
