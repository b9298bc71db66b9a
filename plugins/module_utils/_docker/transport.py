# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Connections to engines as docker and buildx make them, and plain words for why one cannot be made.

Source of the protocol: docker/cli ``cli/connhelper`` (ssh) and ``cli/context/docker`` (a context's TLS).
"""

from __future__ import annotations

import contextlib
import errno
import http.client
import os
import shlex
import socket
import ssl
import subprocess
import time
from dataclasses import dataclass, replace
from typing import Iterator, Optional

from .._core.environment import user
from .._core.errors import FarmError
from .._core.ssh import arguments
from . import go_x509
from .client_certificate import why_refused
from .context_store import ContextStore, TlsFiles
from .endpoint import Endpoint
from .tls import (
    EXPIRED,
    NOT_YET_VALID,
    PARTIAL_CHAIN,
    SELF_SIGNED,
    UNKNOWN_CA,
    WRONG_NAMES,
    WRONG_PURPOSE,
)

#: OpenSSL's reasons not to load a certificate that is one.
_TOO_WEAK = ("CA_MD_TOO_WEAK", "EE_KEY_TOO_SMALL", "CA_KEY_TOO_SMALL")
#: Seconds that finding out what an engine's certificate names may take.
_RETRIEVAL_TIMEOUT = 2.0


@dataclass(frozen=True)
class Route:
    """An endpoint with its context resolved.

    :ivar url: never of scheme ``context``.
    :ivar tls: None for a connection without TLS.
    """

    url: Endpoint
    tls: Optional[TlsFiles] = None
    verify: bool = True


class Unreachable(Exception):
    """A probe failed for a reason of its own, beside those of the operating system."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


def check_files(files: TlsFiles) -> None:
    """Check that TLS material can be used: certificates in PEM, the key without password and fitting.

    :raises FarmError: it cannot.
    """
    try:
        _tls_context(files, verify=True)
    except Unreachable as exc:
        raise FarmError(str(exc)) from exc


def resolve(endpoint: Endpoint, store: ContextStore, tls: Optional[TlsFiles] = None) -> Route:
    """Return the way to an engine that docker would take.

    :param tls: material for a ``tcp`` endpoint; a context brings its own.
    :raises FarmError: there is no such context, or it names no engine.
    """
    if endpoint.scheme != "context":
        return Route(endpoint, tls if endpoint.scheme == "tcp" else None)
    context = store.get(endpoint.text)
    if context is None:
        known = ", ".join(store.all()) or "none"
        raise FarmError(f"no docker context {endpoint.text!r} in {store.config_dir}; there: {known}")
    if "://" not in context.host:
        raise FarmError(f"docker context {endpoint.text!r}: its engine's address {context.host!r} is no URL")
    unverified = context.skip_tls_verify
    files = context.tls or (TlsFiles() if unverified else None)
    # Docker takes the address of a context as it is, and so HTTP's own ports where it has none.
    url = Endpoint.parse(context.host, default_port=80 if files is None else 443)
    return Route(url, files, verify=not unverified) if url.scheme == "tcp" else Route(url)


def canonical(endpoint: str, store: ContextStore) -> str:
    """Return an endpoint as text that is the same for a context and its engine's URL."""
    try:
        return resolve(Endpoint.parse(endpoint), store).url.text
    except FarmError:
        return endpoint


def open_connection(route: Route, deadline: float, cleanup: contextlib.ExitStack) -> http.client.HTTPConnection:
    """Return a connection that is open until the cleanup.

    :param deadline: of the monotonic clock, for each single step.
    """
    left = max(0.05, deadline - time.monotonic())
    if route.url.scheme == "ssh":
        return _http(cleanup.enter_context(over_ssh(route.url, left)))
    if route.url.scheme == "unix":
        stream = cleanup.enter_context(socket.socket(socket.AF_UNIX))
        stream.settimeout(left)
        stream.connect(route.url.path)
        return _http(stream)
    if route.tls is None:
        connection = http.client.HTTPConnection(route.url.host, route.url.port, timeout=left)
    else:
        connection = http.client.HTTPSConnection(
            route.url.host, route.url.port, timeout=left, context=_tls_context(route.tls, route.verify)
        )
    cleanup.enter_context(contextlib.closing(connection))
    connection.connect()
    refused = _judged(_shown(connection), route.url.host) if route.verify else None
    if refused:
        raise refused
    return connection


def _shown(connection: http.client.HTTPConnection) -> Optional[bytes]:
    """Return the engine's certificate, DER, None without TLS."""
    return connection.sock.getpeercert(binary_form=True) if isinstance(connection.sock, ssl.SSLSocket) else None


def _judged(certificate: Optional[bytes], host: str) -> Optional[Unreachable]:
    """Say why docker and buildx, as Go programs, refuse an engine's certificate that OpenSSL may take."""
    nameless = certificate and go_x509.nameless(certificate)
    if nameless:
        text = f"its certificate is not valid for {host!r}: {nameless}; issue one whose subjectAltName names it"
        return Unreachable("name", text)
    problem = certificate and go_x509.problem(certificate, shown=True)
    return Unreachable("untrusted", f"docker and buildx refuse its certificate: {problem}") if problem else None


def _presented(route: Route, timeout: float) -> Optional[bytes]:
    """Return the certificate that a server presents to any client, DER, None where that cannot be found out."""
    with contextlib.suppress(OSError, Unreachable), contextlib.ExitStack() as cleanup:
        deadline = time.monotonic() + min(timeout, _RETRIEVAL_TIMEOUT)
        return _shown(open_connection(replace(route, verify=False), deadline, cleanup))
    return None


def _http(stream: socket.socket) -> http.client.HTTPConnection:
    connection = http.client.HTTPConnection("docker")
    connection.sock = stream
    return connection


def _tls_context(files: TlsFiles, verify: bool) -> ssl.SSLContext:
    # Not create_default_context: since Python 3.13 that demands extensions of certificates that docker does without.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_flags |= PARTIAL_CHAIN
    # Go's programs check subject alternative names only. Python before 3.8.9 with OpenSSL before 1.1.1l ignores this.
    context.hostname_checks_common_name = False
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    for path in (files.ca, files.cert, files.key):
        if path is not None and not os.access(path, os.R_OK):
            raise Unreachable("files", f"{path}: no such file, or it may not be read")
    try:
        if files.ca is not None:
            context.load_verify_locations(str(files.ca))
        else:
            context.load_default_certs()
        if files.cert is not None and files.key is not None:
            # The empty password stops OpenSSL from asking a terminal for that of an encrypted key.
            context.load_cert_chain(str(files.cert), str(files.key), password="")
    except (ssl.SSLError, ValueError) as exc:
        if getattr(exc, "reason", None) in _TOO_WEAK:
            raise Unreachable(
                "files", f"{files.cert}: its key or signature is too weak ({exc}); issue another"
            ) from exc
        shown = ", ".join(str(path) for path in (files.ca, files.cert, files.key) if path)
        raise Unreachable(
            "files", f"not a CA certificate, certificate and matching key in PEM: {shown} ({exc})"
        ) from exc
    return context


@contextlib.contextmanager
def over_ssh(url: Endpoint, timeout: float) -> Iterator[socket.socket]:
    """Start what docker starts for an ``ssh`` endpoint and return a socket to it.

    :param timeout: seconds, for the connection and for each step on the socket.
    :raises FarmError: the file with the keys of hosts that the environment names cannot be used.
    :raises Unreachable: ``ssh`` is not there.
    """
    # BatchMode: nothing may wait for a password.
    argv = ["ssh", *arguments(), "-o", "BatchMode=yes", "-o", f"ConnectTimeout={max(1, round(timeout))}", "-T"]
    argv += ["-l", url.user] if url.user else []
    argv += ["-p", str(url.port)] if url.port else []
    # ssh hands the words to a shell.
    socket_of = ["--host", shlex.quote(f"unix://{url.path}")] if url.path else []
    argv += ["--", url.host, "docker", *socket_of, "system", "dial-stdio"]
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            try:
                # AnsibleModule.run_command knows no sockets.
                process = subprocess.Popen(  # pylint: disable=ansible-bad-function
                    argv, stdin=theirs.fileno(), stdout=theirs.fileno(), stderr=subprocess.PIPE
                )
            except OSError as exc:
                raise Unreachable("ssh", f"ssh could not be started: {exc.strerror}") from exc
        ours.settimeout(timeout)
        try:
            yield ours
        except (ConnectionError, http.client.HTTPException) as exc:
            stderr = _last_output(process) or str(exc)
            raise Unreachable("ssh", f"docker could not be run there over ssh: {stderr}") from exc
        finally:
            process.kill()
            process.wait()


def _last_output(process: subprocess.Popen[bytes]) -> str:
    """Return on one line what a process that is about to end wrote to its standard error."""
    try:
        _out, stderr = process.communicate(timeout=1)
    except subprocess.TimeoutExpired as exc:  # a shared ssh connection may hold the stream open
        stderr = exc.stderr or b""
    return " ".join(stderr.decode(errors="replace").split())


def timeout_message(timeout: float) -> str:
    return f"no answer within {timeout:g} s; is the host up, and does no firewall drop the packets?"


def classify_error(exc: Exception, route: Route, timeout: float, trusted: bool) -> Unreachable:
    """Say why a connection failed, and what to do.

    :param trusted: whether the TLS handshake, if there is one, was over on this side.
    """
    host = route.url.host
    if isinstance(exc, Unreachable):
        return exc
    if isinstance(exc, ssl.SSLCertVerificationError):
        return _verification_error(exc, route, timeout)
    # Before Python 3.10 socket.timeout was no TimeoutError, and ssl.SSLError covers some time-outs too.
    if isinstance(exc, (TimeoutError, socket.timeout)) or "timed out" in str(exc):
        return Unreachable("timeout", timeout_message(timeout))
    closed = isinstance(exc, (ssl.SSLEOFError, ssl.SSLZeroReturnError, ConnectionError, http.client.HTTPException))
    if closed and trusted and route.tls is not None:
        # The engine's alert is lost when it closes the connection while the request is being sent.
        return _refused(route.tls, "connection closed")
    if isinstance(exc, ssl.SSLError):
        return _tls_trouble(exc, route.tls or TlsFiles())
    if isinstance(exc, socket.gaierror):
        return Unreachable("unresolved", f"the host name {host!r} cannot be resolved ({exc.strerror})")
    if isinstance(exc, ConnectionRefusedError):
        what = "the socket is there, but nothing listens" if route.url.scheme == "unix" else "connection refused"
        return Unreachable("refused", f"{what}; is the engine running and listening there?")
    if isinstance(exc, FileNotFoundError):
        return Unreachable("socket", "no such socket; is the engine installed and started?")
    if isinstance(exc, PermissionError):
        return Unreachable("socket", f"user {user()} may not open the socket; is it in group docker?")
    if isinstance(exc, OSError) and exc.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN):
        return Unreachable("unreachable", f"no way to the host ({os.strerror(exc.errno)})")
    if closed:
        return Unreachable("answer", "the connection was closed without an answer; is a Docker engine there?")
    return Unreachable("unreachable", str(exc))


def _verification_error(exc: ssl.SSLCertVerificationError, route: Route, timeout: float) -> Unreachable:
    if exc.verify_code in WRONG_NAMES:
        other = Unreachable("name", f"its certificate is not valid for {route.url.host!r}; issue one that names it")
        return _judged(_presented(route, timeout), route.url.host) or other
    if exc.verify_code == EXPIRED:
        return Unreachable("expired", "its certificate, or its CA's, has expired; renew it")
    if exc.verify_code == NOT_YET_VALID:
        return Unreachable("not_yet_valid", "its certificate is not valid yet; do the clocks agree?")
    if exc.verify_code == SELF_SIGNED:
        return Unreachable("untrusted", "its certificate is self-signed, not signed by the given CA; issue one that is")
    if exc.verify_code == WRONG_PURPOSE:
        text = "its certificate is not for servers, its extended key usage lacks serverAuth; issue one that is"
        return Unreachable("untrusted", text)
    if exc.verify_code in UNKNOWN_CA:
        return Unreachable("untrusted", f"its certificate is not signed by the given CA ({exc.verify_message})")
    other = Unreachable("untrusted", f"its certificate is not accepted ({exc.verify_message}); issue another")
    return _judged(_presented(route, timeout), route.url.host) or other


def _tls_trouble(exc: ssl.SSLError, files: TlsFiles) -> Unreachable:
    reason = (exc.reason or str(exc)).replace("_", " ").lower()
    if "alert" not in reason:
        return Unreachable("tls", f"it does not speak TLS as this client does ({reason}); is TLS enabled there?")
    return _refused(files, reason)


def _refused(files: TlsFiles, reason: str) -> Unreachable:
    if files.cert is None or files.key is None:
        return Unreachable("client_certificate", f"it wants a client certificate and none is given ({reason})")
    refused = f"it refused this client's certificate ({reason}): {why_refused(files.ca, files.cert, files.key)}"
    return Unreachable("client_certificate", refused)
