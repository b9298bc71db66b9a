# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._registry import client as _registry


class StoredDocuments:
    """In the place of registries: documents by their names, each image's and each blob's; notes what it was asked for.

    A document that is an exception is raised.
    """

    def __init__(self):
        self.documents = {}
        self.asked = []

    def manifest(self, reference):
        self.asked.append(str(reference))
        found = self.documents.get(str(reference))
        if isinstance(found, Exception):
            raise found
        if found is None:
            return None
        return _registry.Document(reference.digest or _registry.digest_of(found.encode()), "", found.encode())

    def blob(self, reference, digest):
        document = self.manifest(reference.at(digest))
        return document and document.content


@pytest.fixture
def registries(monkeypatch):
    """What all registries hold."""
    stored = StoredDocuments()
    monkeypatch.setattr(_registry.Registries, "of", lambda params, nodes, mirrors=True: stored)
    return stored


@pytest.fixture(scope="session")
def issue():
    """The function that issues certificates; tests are skipped where its library is missing, on nodes for one."""
    pytest.importorskip("cryptography.x509")
    from ansible_collections.buildfarm.multiarch.tests.unit import certificates

    return certificates.issue
