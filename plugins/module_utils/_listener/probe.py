# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Listening sockets, probed as a client does, with nothing but the standard library's ssl."""

from __future__ import annotations

import socket
import ssl
import time
from typing import Callable, Optional

from .._docker.tls import client_context, first_certificate

_REQUEST = b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n"
#: Seconds for one attempt to reach a listener, all of it.
_ATTEMPT = 5.0


def wait_for(problem: Callable[[], Optional[str]], timeout: float, pause: float = 0.2) -> Optional[str]:
    """Poll until there is no problem any more; returns the last one when the time is up.

    :param timeout: seconds.
    """
    deadline = time.monotonic() + timeout
    while True:
        found = problem()
        if found is None or time.monotonic() >= deadline:
            return found
        time.sleep(pause)


def _ping(connection: socket.socket) -> Optional[str]:
    """Request /_ping of an engine; returns what is wrong with the answer."""
    connection.sendall(_REQUEST)
    status = connection.recv(4096).split(b"\r\n", 1)[0].decode(errors="replace")
    return None if " 200 " in status + " " else f"answered {status!r} to GET /_ping, wanted 200"


def unix_socket_problem(path: str) -> Optional[str]:
    """Return why no engine answers at a unix socket, None where one does."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_ATTEMPT)
            connection.connect(path)
            problem = _ping(connection)
    except OSError as exc:
        problem = exc.strerror or str(exc)
    return problem and f"unix://{path}: {problem}"


def plain_problem(address: str, port: int) -> Optional[str]:
    """Return why no engine answers without TLS, None where one does."""
    try:
        with socket.create_connection((address, port), _ATTEMPT) as connection:
            return _ping(connection)
    except OSError as exc:
        return exc.strerror or str(exc)


def mutual_tls_problem(address: str, port: int, ca: bytes, certificate: bytes) -> Optional[str]:
    """Return why a listener is not the declared one: its certificate, and no answer to clients that show none.

    A server that speaks TLS 1.3 refuses a client without a certificate only after the handshake, so the refusal is
    expected in the first read (RFC 8446, section 4.4.2.4).

    :param ca: PEM; the certificate served has to be valid for it.
    :param certificate: PEM; the one that has to be served.
    """
    served = None
    try:
        with socket.create_connection((address, port), _ATTEMPT) as raw, client_context(ca).wrap_socket(
            raw
        ) as connection:
            served = connection.getpeercert(binary_form=True)
            connection.sendall(_REQUEST)
            if connection.recv(1):
                return "it answers clients that present no certificate"
    except ssl.SSLCertVerificationError as exc:
        return f"its certificate is not valid for the declared CA: {exc.verify_message}"
    except ssl.SSLError as exc:
        if served is None and "ALERT" not in (exc.reason or ""):
            return f"the TLS handshake failed: {exc.reason or exc}"
    except OSError as exc:
        if served is None:
            return exc.strerror or str(exc)
    # TLS 1.2 refuses within the handshake, after this side has checked the certificate.
    if served is not None and served != first_certificate(certificate):
        return "it serves another certificate than the declared one"
    return None
