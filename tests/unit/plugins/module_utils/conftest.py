# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import datetime

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._registry import client as _registry
from ansible_collections.buildfarm.multiarch.plugins.module_utils._registry.model import Document, digest_of


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
        return Document(reference.digest or digest_of(found.encode()), "", found.encode())

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
    """A function that issues a certificate and its key, both PEM, by an issuer of the same form or by itself.

    It names what its common name is, or has no subject alternative name where `named` is false.
    """
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    def make(name, issuer=None, days=1, since=-2, named=True):
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(x509.load_pem_x509_certificate(issuer[0]).subject if issuer else subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + datetime.timedelta(days=since))
            .not_valid_after(now + datetime.timedelta(days=days))
            .add_extension(x509.BasicConstraints(issuer is None, None), critical=True)
        )
        if named:
            builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        signer = serialization.load_pem_private_key(issuer[1], None) if issuer else key
        certificate = builder.sign(signer, hashes.SHA256())
        form = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        pem = serialization.Encoding.PEM
        return certificate.public_bytes(pem), key.private_bytes(pem, *form)

    return make
