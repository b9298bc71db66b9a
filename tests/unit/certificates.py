# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Certificates for tests. Those that break a rule of X.509 are made with openssl, in test_go_x509."""

from __future__ import annotations

import datetime
import ipaddress
from typing import Any, Optional, Tuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

#: A certificate and its key, both PEM.
Pair = Tuple[bytes, bytes]


def issue(
    name: str, issuer: Optional[Pair] = None, days: int = 1, since: int = -2, named: bool = True, usage: Any = None
) -> Pair:
    """Issue a certificate, of an authority where no issuer is given.

    :param days: from now, of its end.
    :param since: from now, of its beginning.
    :param named: with subject alternative names: its common name, and 127.0.0.1.
    :param usage: an extended key usage.
    """
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
        names = [x509.DNSName(name), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    if usage:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    signer: Any = serialization.load_pem_private_key(issuer[1], None) if issuer else key
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return builder.sign(signer, hashes.SHA256()).public_bytes(pem), private
