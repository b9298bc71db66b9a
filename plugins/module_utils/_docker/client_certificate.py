# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Why an engine refuses a client's certificate, found out on the client's side.

An engine only sends an alert, which from older ones is "bad certificate" whatever is wrong (Go's crypto/tls,
``processCertsFromClient``). OpenSSL decides here as the engine would: a server and a client in memory shake hands,
the server with the CA that the client trusts, as both sides of a farm have the same one.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Optional

from . import go_x509
from .tls import (
    EXPIRED,
    NOT_YET_VALID,
    PARTIAL_CHAIN,
    SELF_SIGNED,
    UNKNOWN_CA,
    WEAKEST,
    WRONG_PURPOSE,
    verification_error,
)

_PLAIN = {
    NOT_YET_VALID: "is not valid yet; do the clocks agree?",
    EXPIRED: "has expired, or its CA has; renew it",
    SELF_SIGNED: "is self-signed; wanted one that is signed by the engine's CA",
    WRONG_PURPOSE: (
        "is not for clients, its extended key usage lacks clientAuth; a server's certificate is none for clients"
    ),
}


def why_refused(ca: Optional[Path], cert: Path, key: Path) -> str:
    """Say, of a client's certificate that an engine refused, what is wrong with it as far as can be known here.

    :param ca: the CA's certificate that the client trusts, None for the host's CAs.
    """
    found = _verified(ca, cert, key)
    if found is None:
        problem = go_x509.chain_problem(cert.read_bytes(), ca.read_bytes() if ca else b"")
        if problem:
            return f"{cert}: {problem}, which the engine, a Go program, refuses; issue one that is in order"
        known = ca or "the host's CAs"
        return f"{cert} is in order for {known}; does the engine trust another CA, or is its clock wrong?"
    if found.verify_code in _PLAIN:
        return f"{cert} {_PLAIN[found.verify_code]}"
    if found.verify_code not in UNKNOWN_CA:
        return f"{cert} is not accepted by OpenSSL either ({found.verify_message})"
    if ca is None:
        return f"is {cert} signed by the engine's CA?"
    return f"{cert} is not signed by {ca}; wanted one that is signed by the engine's CA"


def _verified(ca: Optional[Path], cert: Path, key: Path) -> Optional[ssl.SSLCertVerificationError]:
    """Let OpenSSL verify a client's certificate as a server does; returns its error, None if there is none."""
    accepting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    accepting.verify_mode = ssl.CERT_REQUIRED
    accepting.verify_flags |= PARTIAL_CHAIN
    if ca is None:
        accepting.load_default_certs(ssl.Purpose.CLIENT_AUTH)
    else:
        accepting.load_verify_locations(str(ca))
    asking = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    asking.check_hostname = False
    asking.verify_mode = ssl.CERT_NONE
    for context in (accepting, asking):  # the server needs some certificate, and nobody verifies it
        # What is too weak for OpenSSL is left to Go's rules.
        context.set_ciphers(WEAKEST)
        context.load_cert_chain(str(cert), str(key), password="")
    return verification_error(asking, accepting)
