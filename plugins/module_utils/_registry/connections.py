# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""HTTP requests over connections that stay open and are shared by threads.

Errors are classified by what may be done about them: another attempt, the other scheme, or nothing.
"""

from __future__ import annotations

import base64
import contextlib
import email.utils
import http.client
import ipaddress
import os
import socket
import ssl
import threading
import time
from dataclasses import dataclass
from typing import BinaryIO, Callable, Dict, List, Mapping, Optional, Tuple, Union
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit

from .._core.errors import FarmError

#: Seconds that a server may let pass without sending anything.
_SILENCE = 30.0
_CHUNK = 1 << 16
#: Requests that are on their way at the same time, to all servers together.
_AT_ONCE = 96
_PORTS = {"http": 80, "https": 443}
#: Statuses of responses that another attempt may not get (RFC 9110, RFC 6585).
_TRANSIENT = (408, 425, 429, 500, 502, 503, 504)
#: Seconds of a server's ``Retry-After`` that are waited at most.
_LONGEST_PAUSE = 30.0
#: What servers of TLS answer to a request without it: Go's net/http, nginx, Apache.
_WANTS_TLS = (b"HTTP request to an HTTPS server", b"plain HTTP request was sent to HTTPS port", b"SSL-enabled server")
#: How a connection ends that the server has closed.
_CLOSED = (ConnectionError, http.client.BadStatusLine, ssl.SSLEOFError)

#: What a request sends: bytes, or a file that is read from its beginning.
Body = Union[bytes, BinaryIO]


class InterruptedRequest(Exception):
    """A request did not come to its end, and another attempt may.

    :ivar pause: seconds to wait before that, where the server gave a time.
    :ivar silent: the server closed the connection without a response, as some do with requests in the wrong scheme.
    """

    def __init__(self, text: str, pause: float = 0.0, silent: bool = False) -> None:
        super().__init__(text)
        self.pause = pause
        self.silent = silent


class WrongScheme(Exception):
    """The server does not speak HTTP where that was tried, or not TLS where that was."""


class Unreachable(Exception):
    """A server cannot be reached, and another attempt would not either.

    :ivar mistrusted: because its certificate is not to be trusted.
    """

    def __init__(self, text: str, mistrusted: bool = False) -> None:
        super().__init__(text)
        self.mistrusted = mistrusted


@dataclass(frozen=True)
class Origin:
    """Scheme, host and port of a server (RFC 6454).

    :ivar host: without the brackets of an IPv6 address.
    """

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}" + (f":{self.port}" if self.port != _PORTS[self.scheme] else "")

    @classmethod
    def parse(cls, url: str, base: str = "") -> Tuple[Origin, str]:
        """Return the origin of a URL and the request target there: path and query.

        :param base: of a relative URL.
        :raises FarmError: it is no URL of HTTP. The message holds nothing but scheme and host, the rest may be secret.
        """
        try:
            parts = urlsplit(urljoin(base, url))
            origin = cls(parts.scheme, parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 0))
        except ValueError as exc:
            raise FarmError("not an address of HTTP: its host or port cannot be read") from exc
        if origin.scheme not in _PORTS or not origin.host:
            raise FarmError(f"not an address of HTTP: scheme {parts.scheme!r}, host {parts.hostname!r}")
        target = quote(parts._replace(scheme="", netloc="", fragment="").geturl(), safe="%/:=&?~+!$,;'@()*[]")
        return origin, target if target.startswith("/") else f"/{target}"

    def may_share_credentials_of(self, other: Origin) -> bool:
        """Return whether what was sent to another origin may be sent here too: to the same one, or to it with TLS."""
        if (other.scheme, other.port, self.scheme, self.port) == ("http", 80, "https", 443):
            return self.host == other.host
        return self == other


@dataclass(frozen=True)
class Response:
    """A server's whole response."""

    status: int
    reason: str
    headers: http.client.HTTPMessage
    body: bytes

    def __str__(self) -> str:
        return f"{self.status} {self.reason}".strip()

    @property
    def is_transient(self) -> bool:
        """Whether another attempt may get another response."""
        return self.status in _TRANSIENT

    @property
    def retry_after(self) -> float:
        """The seconds that the server wants to be left alone for, as far as that is heeded (RFC 9110, 10.2.3)."""
        text = self.headers.get("Retry-After", "").strip()
        if text.isdigit():
            return min(float(text), _LONGEST_PAUSE)
        try:
            when = email.utils.parsedate_to_datetime(text).timestamp()
        except (TypeError, ValueError):
            return 0.0
        return min(max(0.0, when - time.time()), _LONGEST_PAUSE)


class Connections:
    """Connections to any number of servers.

    :param trust: returns how an HTTPS server is to be judged.
    """

    def __init__(self, trust: Callable[[Origin], ssl.SSLContext]) -> None:
        self._trust = trust
        self._idle: Dict[Origin, List[http.client.HTTPConnection]] = {}
        self._lock = threading.Lock()
        self._turns = threading.BoundedSemaphore(_AT_ONCE)

    def request(
        self,
        method: str,
        origin: Origin,
        target: str,
        headers: Mapping[str, str],
        limit: int,
        deadline: float,
        body: Optional[Body] = None,
        sink: Optional[BinaryIO] = None,
    ) -> Response:
        """Send a request, and return the response.

        :param target: path and query.
        :param limit: bytes that the response's body may have.
        :param deadline: of the monotonic clock, for all of it.
        :param sink: takes the body of a response of status 200, of any length, in its place.
        :raises InterruptedRequest: another attempt may succeed.
        :raises WrongScheme: the other scheme may.
        :raises Unreachable: neither.
        :raises FarmError: the response is larger than allowed.
        """
        with self._turns:
            response = self._exchange(method, origin, target, headers, limit, deadline, body, sink)
        if origin.scheme == "http" and response.status == 400 and any(text in response.body for text in _WANTS_TLS):
            raise WrongScheme("it speaks HTTPS only")
        return response

    def _exchange(
        self,
        method: str,
        origin: Origin,
        target: str,
        headers: Mapping[str, str],
        limit: int,
        deadline: float,
        body: Optional[Body],
        sink: Optional[BinaryIO],
    ) -> Response:
        """Send a request over an idle connection or a new one; see ``request``."""
        proxy = proxy_of(origin)
        if proxy and origin.scheme == "http":
            target, headers = f"{origin}{target}", {**headers, **_proxy_headers(proxy)}
        while True:
            with self._lock:
                idle = self._idle.setdefault(origin, [])
                reused = idle.pop() if idle else None
            connection = reused or self._connection(origin, proxy)
            try:
                connection.timeout = min(_SILENCE, max(0.1, deadline - time.monotonic()))
                if connection.sock is None:
                    _connect(connection)
                connection.sock.settimeout(connection.timeout)
                connection.request(method, target, _rewound(body), dict(headers))
                reply = connection.getresponse()
                body_read = _read(reply, limit, deadline, sink if reply.status == 200 else None)
                response = Response(reply.status, reply.reason, reply.headers, body_read)
            except (OSError, http.client.HTTPException) as exc:
                connection.close()
                if reused and isinstance(exc, _CLOSED):
                    continue  # it was closed since its last request: that is no failure of this one
                raise _failure(exc, origin, proxy) from exc
            except FarmError:
                connection.close()
                raise
            break
        reply.close()
        if reply.will_close:
            connection.close()
        else:
            with self._lock:
                self._idle[origin].append(connection)
        return response

    def _connection(self, origin: Origin, proxy: Optional[SplitResult]) -> http.client.HTTPConnection:
        if proxy is None:
            host, port = origin.host, origin.port
        elif proxy.scheme == "http" and proxy.hostname:
            host, port = proxy.hostname, proxy.port or _PORTS["http"]
        else:
            raise Unreachable(
                f"the environment's proxy {_without_credentials(proxy)} is none of HTTP; set HTTPS_PROXY and "
                f"HTTP_PROXY to http://HOST:PORT, or name the host in NO_PROXY"
            )
        if origin.scheme == "http":
            return http.client.HTTPConnection(host, port)
        connection = http.client.HTTPSConnection(host, port, context=self._trust(origin))
        if proxy is not None:
            connection.set_tunnel(origin.host, origin.port, _proxy_headers(proxy))
        return connection


def proxy_of(origin: Origin) -> Optional[SplitResult]:
    """Return the proxy that the environment names for a server, None for none.

    Source of the rules: Go's ``golang.org/x/net/http/httpproxy``, by which docker, buildx and BuildKit go.
    """
    name = f"{origin.scheme.upper()}_PROXY"
    text = os.environ.get(name) or os.environ.get(name.lower()) or ""
    if not text or (name == "HTTP_PROXY" and os.environ.get("REQUEST_METHOD")):
        return None
    if _bypassed(origin, os.environ.get("NO_PROXY") or os.environ.get("no_proxy") or ""):
        return None
    try:
        proxy = urlsplit(text if "://" in text else f"http://{text}")
        if proxy.port == 0:
            raise ValueError("port 0")
    except ValueError as exc:
        raise Unreachable(f"the environment's {name} is not an address; set it to http://HOST:PORT") from exc
    return proxy


def is_loopback(host: str) -> bool:
    """Return whether a host is this one by its name or address alone."""
    address = _address(host)
    return host.lower() == "localhost" or (address is not None and address.is_loopback)


def _bypassed(origin: Origin, no_proxy: str) -> bool:
    host, address = origin.host.lower().rstrip("."), _address(origin.host)
    if is_loopback(host):
        return True
    for entry in (part.strip().lower() for part in no_proxy.split(",")):
        if entry == "*":
            return True
        if address is not None and "/" in entry:
            with contextlib.suppress(ValueError):
                if address in ipaddress.ip_network(entry, strict=False):
                    return True
        name, colon, port = entry.rpartition(":")
        if not colon or not port.isdigit() or _address(entry):
            name, port = entry, str(origin.port)
        name = name[1:] if name.startswith("*.") else name.strip("[]")
        below = address is None and host.endswith("." + name.lstrip("."))
        if name and int(port) == origin.port and (host == name or below):
            return True
    return False


def _address(host: str) -> Union[ipaddress.IPv4Address, ipaddress.IPv6Address, None]:
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None


def _proxy_headers(proxy: Optional[SplitResult]) -> Dict[str, str]:
    if proxy is None or proxy.username is None:
        return {}
    secret = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}".encode()
    return {"Proxy-Authorization": f"Basic {base64.b64encode(secret).decode()}"}


def _without_credentials(proxy: SplitResult) -> str:
    return f"{proxy.scheme}://{proxy.netloc.rpartition('@')[2]}"


def _connect(connection: http.client.HTTPConnection) -> None:
    try:
        connection.connect()
    except (TimeoutError, socket.timeout) as exc:
        # Another attempt would take as long, and get no further.
        raise OSError(
            f"no answer within {connection.timeout:g} s; is the host up, and does no firewall drop the packets?"
        ) from exc


def _rewound(body: Optional[Body]) -> Optional[Body]:
    """Return what is sent, from its beginning: of two attempts the first may have read some of it."""
    if body is not None and not isinstance(body, bytes):
        body.seek(0)
    return body


def _read(response: http.client.HTTPResponse, limit: int, deadline: float, sink: Optional[BinaryIO] = None) -> bytes:
    """Return a response's body; nothing where a sink takes it.

    :raises FarmError: it is larger than allowed.
    :raises IncompleteRead: it was cut.
    :raises TimeoutError: its time is up.
    """
    if response.length == 0:  # also to HEAD, whatever the headers declare
        return b""
    declared = response.headers.get("Content-Length", "")
    # Before Python 3.13 read1 does not count, and waits for what will not come.
    total = int(declared) if declared.isdigit() and not response.chunked else None
    content, count = bytearray(), 0
    if sink is not None:
        sink.seek(0)
        sink.truncate()
    while total is None or count < total:
        if sink is None and max(count, total or 0) > limit:
            raise FarmError(f"an answer of more than {limit} bytes, which is no document of a registry")
        if time.monotonic() > deadline:
            raise TimeoutError
        chunk = response.read1(_CHUNK if total is None else min(_CHUNK, total - count))
        if not chunk:
            break
        count += len(chunk)
        if sink is None:
            content += chunk
        else:
            sink.write(chunk)
    if total is not None and count < total:
        if sink is not None:
            raise ConnectionError
        raise http.client.IncompleteRead(bytes(content), total - count)
    return bytes(content)


def _failure(exc: Exception, origin: Origin, proxy: Optional[SplitResult]) -> Exception:
    """Return what a failed request is to end with."""
    by_way_of = f" (through the environment's proxy {_without_credentials(proxy)})" if proxy else ""
    if isinstance(exc, ssl.SSLCertVerificationError):
        return Unreachable(f"its certificate is not trusted: {exc.verify_message}{by_way_of}", mistrusted=True)
    # Before Python 3.10 socket.timeout was no TimeoutError, and ssl.SSLError covers some time-outs too.
    if isinstance(exc, (TimeoutError, socket.timeout)) or "operation timed out" in str(exc):
        return InterruptedRequest(f"no answer in time{by_way_of}")
    if isinstance(exc, ssl.SSLError) and not isinstance(exc, ssl.SSLEOFError):
        plain = exc.reason == "WRONG_VERSION_NUMBER"
        what = "it speaks plain HTTP" if plain else f"it does not speak TLS as this client does ({exc.reason or exc})"
        return WrongScheme(f"{what}{by_way_of}")
    if isinstance(exc, http.client.IncompleteRead):
        return InterruptedRequest(f"the connection was cut after {len(exc.partial)} bytes{by_way_of}")
    if isinstance(exc, http.client.BadStatusLine) and not isinstance(exc, http.client.RemoteDisconnected):
        return WrongScheme(f"its answer is not HTTP{by_way_of}")
    if isinstance(exc, socket.gaierror):
        return Unreachable(f"the host name {origin.host!r} cannot be resolved ({exc.strerror}){by_way_of}")
    if isinstance(exc, ConnectionRefusedError):
        return Unreachable(f"connection refused{by_way_of}")
    if isinstance(exc, (ConnectionError, ssl.SSLEOFError, http.client.HTTPException)):
        silent = isinstance(exc, (ConnectionError, ssl.SSLEOFError))
        return InterruptedRequest(f"the connection was closed without a whole answer{by_way_of}", silent=silent)
    return Unreachable(f"{getattr(exc, 'strerror', None) or exc}{by_way_of}")
