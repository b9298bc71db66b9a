# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Certificates and listening sockets, examined with nothing but the standard library's ssl."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import time
from typing import Callable, Iterator, Optional

from . import go_x509

_REQUEST = b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n"
#: OpenSSL's X509_V_ERR_* that a person would act on differently (``SSLCertVerificationError.verify_code``).
NOT_YET_VALID, EXPIRED, SELF_SIGNED, WRONG_PURPOSE = 9, 10, 18, 26
UNKNOWN_CA, WRONG_NAMES = (2, 19, 20, 21), (62, 64)
#: OpenSSL's X509_V_FLAG_PARTIAL_CHAIN: a CA below a root can be trusted by itself, as Go's programs do with any CA.
PARTIAL_CHAIN = ssl.VerifyFlags(0x80000)
#: Ciphers with which OpenSSL takes keys and signatures of any strength, for connections in memory.
WEAKEST = "DEFAULT:@SECLEVEL=0"
#: Seconds for one attempt to reach a listener, all of it.
_ATTEMPT = 5.0


def first_certificate(pem: bytes) -> Optional[bytes]:
    """Return the DER form of the first certificate in a PEM text (the server's own, its chain follows)."""
    try:
        return next(iter(go_x509.certificates(pem)), None)
    except ValueError:
        return None


def fingerprint(pem: Optional[bytes]) -> Optional[str]:
    """Return the SHA-256 fingerprint of the first certificate, written as openssl does, None without one."""
    der = first_certificate(pem or b"")
    return go_x509.fingerprint(der) if der else None


@contextlib.contextmanager
def _in_memory(content: bytes) -> Iterator[str]:
    """Give content a path without giving it a place on a disk: OpenSSL reads keys from paths only."""
    handle = os.memfd_create("pem")
    try:
        os.write(handle, content)
        yield f"/proc/self/fd/{handle}"
    finally:
        os.close(handle)


def key_problem(certificate: bytes, key: bytes) -> Optional[str]:
    """Say why a private key cannot serve a certificate, None where it can."""
    with _in_memory(certificate) as certificate_path, _in_memory(key) as key_path:
        try:
            # The password keeps OpenSSL from asking a terminal: the engine cannot read an encrypted key either.
            _server().load_cert_chain(certificate_path, key_path, password=lambda: "none")
        except ssl.SSLError as exc:
            return (exc.reason or "not a PEM private key").lower().replace("_", " ")
        except OSError as exc:
            return exc.strerror or str(exc)
    return None


def ca_problem(ca: bytes) -> Optional[str]:
    """Say why a PEM text cannot be used as certificate authority, None where it can."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=ca.decode("ascii"))
    except ssl.SSLError as exc:
        return (exc.reason or str(exc)).lower().replace("_", " ")
    except UnicodeDecodeError:
        return "not a PEM text"
    return None


def _server() -> ssl.SSLContext:
    """Return the settings of a server that may have any certificate: its clients are to judge it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers(WEAKEST)
    return context


def _client(ca: bytes) -> ssl.SSLContext:
    """Return the settings of a client that trusts a CA and shows no certificate; names are left to the clients."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= PARTIAL_CHAIN
    context.load_verify_locations(cadata=ca.decode("ascii"))
    return context


def certificate_problem(ca: bytes, certificate: bytes, key: bytes) -> Optional[str]:
    """Say why clients would not take a server's certificate, None where they would.

    It is judged as Go's programs do, and by a handshake in memory.

    :param ca: PEM; what the clients trust.
    :param key: PEM; it has to belong to the certificate.
    """
    problem = go_x509.server_problem(certificate, ca)
    if problem:
        return problem
    context = _server()
    with _in_memory(certificate) as certificate_path, _in_memory(key) as key_path:
        context.load_cert_chain(certificate_path, key_path)
    error = verification_error(_client(ca), context)
    return error.verify_message if error else None


def verification_error(client: ssl.SSLContext, server: ssl.SSLContext) -> Optional[ssl.SSLCertVerificationError]:
    """Let a client and a server shake hands in memory; returns why one does not accept the other, None if both do."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = client.wrap_bio(to_client, to_server), server.wrap_bio(to_server, to_client, server_side=True)
    try:
        for _flight in range(3):  # of TLS 1.2; TLS 1.3 takes two
            for side in sides:
                with contextlib.suppress(ssl.SSLWantReadError):
                    side.do_handshake()
    except ssl.SSLCertVerificationError as exc:
        return exc
    return None


def wait_for(problem: Callable[[], Optional[str]], timeout: float, pause: float = 0.2) -> Optional[str]:
    """Ask until there is no problem any more; returns the last one when the time is up.

    :param timeout: seconds.
    """
    deadline = time.monotonic() + timeout
    while True:
        found = problem()
        if found is None or time.monotonic() >= deadline:
            return found
        time.sleep(pause)


def _ping(connection: socket.socket) -> Optional[str]:
    """Ask an engine for /_ping; the answer has to be 200."""
    connection.sendall(_REQUEST)
    status = connection.recv(4096).split(b"\r\n", 1)[0].decode(errors="replace")
    return None if " 200 " in status + " " else f"answered {status!r} to GET /_ping, wanted 200"


def unix_socket_problem(path: str) -> Optional[str]:
    """Say why no engine answers at a unix socket, None where one does."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_ATTEMPT)
            connection.connect(path)
            said = _ping(connection)
    except OSError as exc:
        said = exc.strerror or str(exc)
    return said and f"unix://{path}: {said}"


def plain_problem(address: str, port: int) -> Optional[str]:
    """Say why no engine answers without TLS, None where one does."""
    try:
        with socket.create_connection((address, port), _ATTEMPT) as connection:
            return _ping(connection)
    except OSError as exc:
        return exc.strerror or str(exc)


def mutual_tls_problem(address: str, port: int, ca: bytes, certificate: bytes) -> Optional[str]:
    """Say why a listener is not the declared one: its certificate, and no answer to clients that show none.

    A server that speaks TLS 1.3 refuses a client without a certificate only after the handshake, so the refusal is
    looked for in the first read (RFC 8446, section 4.4.2.4).

    :param ca: PEM; the certificate served has to be valid for it.
    :param certificate: PEM; the one that has to be served.
    """
    served = None
    try:
        with socket.create_connection((address, port), _ATTEMPT) as raw, _client(ca).wrap_socket(raw) as connection:
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
