# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Servers by their URLs, whom credentials are shown to, proxies, and how requests fail."""

from __future__ import annotations

import base64
import email.utils
import errno
import http.client
import socket
import ssl
import time
from typing import Any, Dict, Optional
from urllib.parse import urlsplit

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._registry import connections as _http
from ansible_collections.buildfarm.multiarch.plugins.module_utils._registry.connections import (
    InterruptedRequest,
    Origin,
    Response,
    Unreachable,
    WrongScheme,
    proxy_of,
)

HTTPS, HTTP = Origin("https", "r.example.com", 443), Origin("http", "r.example.com", 80)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.delenv("REQUEST_METHOD", raising=False)


@pytest.mark.parametrize(
    ("url", "origin", "target", "text"),
    [
        ("https://r.example.com", HTTPS, "/", "https://r.example.com"),
        ("http://r.example.com/v2/?a=b#c", HTTP, "/v2/?a=b", "http://r.example.com"),
        (
            "https://R.example.com:5000/x y",
            Origin("https", "r.example.com", 5000),
            "/x%20y",
            "https://r.example.com:5000",
        ),
        ("http://[2001:db8::1]:443/", Origin("http", "2001:db8::1", 443), "/", "http://[2001:db8::1]:443"),
        ("https://[2001:db8::1]/", Origin("https", "2001:db8::1", 443), "/", "https://[2001:db8::1]"),
        ("/elsewhere?q=%2F", Origin("https", "base", 1), "/elsewhere?q=%2F", "https://base:1"),
        ("next", Origin("https", "base", 1), "/v2/next", "https://base:1"),
    ],
)
def test_urls(url: str, origin: Origin, target: str, text: str) -> None:
    assert Origin.parse(url, "https://base:1/v2/x") == (origin, target)
    assert str(origin) == text


@pytest.mark.parametrize(
    "url", ["ftp://r.example.com/secret", "https:///secret", "http://h:port/secret", "http://[x/s"]
)
def test_what_is_no_url_of_http_is_refused_without_its_path(url: str) -> None:
    with pytest.raises(FarmError, match="not an address of HTTP") as caught:
        Origin.parse(url)
    assert "secret" not in caught.value.message


@pytest.mark.parametrize(
    ("sent_to", "redirected", "may"),
    [
        (HTTPS, HTTPS, True),
        (HTTP, HTTP, True),
        (HTTP, HTTPS, True),
        (HTTPS, HTTP, False),
        (HTTP, Origin("https", "other.example.com", 443), False),
        (HTTPS, Origin("https", "other.example.com", 443), False),
        (HTTPS, Origin("https", "r.example.com", 8443), False),
        (HTTP, Origin("https", "r.example.com", 8443), False),
        (Origin("http", "r.example.com", 5000), HTTPS, False),
        (Origin("http", "r.example.com", 5000), Origin("https", "r.example.com", 5000), False),
    ],
)
def test_credentials_are_for_one_server_or_the_same_with_tls(sent_to: Origin, redirected: Origin, may: bool) -> None:
    assert redirected.may_share_credentials_of(sent_to) is may


def response(status: int = 200, **headers: str) -> Response:
    message = http.client.HTTPMessage()
    for name, value in headers.items():
        message[name.replace("_", "-")] = value
    return Response(status, "R", message, b"")


def test_statuses_that_another_attempt_may_not_get() -> None:
    transient = [status for status in range(200, 600) if response(status).is_transient]
    assert transient == [408, 425, 429, 500, 502, 503, 504]
    assert str(Response(404, "", http.client.HTTPMessage(), b"")) == "404"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("", 0), ("7", 7), ("31", 30), ("0", 0), ("soon", 0), ("-3", 0), ("Wed, 01 Jan 2020 0:0:0 Z", 0)],
)
def test_pauses_that_a_server_wants(text: str, seconds: float) -> None:
    assert response(Retry_After=text).retry_after == seconds


def test_pauses_until_a_time() -> None:
    soon, late = (email.utils.formatdate(time.time() + seconds, usegmt=True) for seconds in (20, 900))
    assert 15 < response(Retry_After=soon).retry_after <= 20
    assert response(Retry_After=late).retry_after == 30


@pytest.mark.parametrize(
    ("variables", "proxy"),
    [
        ({}, None),
        ({"HTTPS_PROXY": "http://p:3128"}, "http://p:3128"),
        ({"https_proxy": "p:3128"}, "http://p:3128"),
        ({"HTTP_PROXY": "http://p:3128"}, None),
        ({"HTTPS_PROXY": "http://p:3128", "NO_PROXY": "r.example.com"}, None),
        ({"HTTPS_PROXY": "http://p:3128", "no_proxy": "other, .EXAMPLE.com"}, None),
        ({"HTTPS_PROXY": "http://p:3128", "NO_PROXY": "*.example.com"}, None),
        ({"HTTPS_PROXY": "http://p:3128", "NO_PROXY": "example.com"}, None),
        ({"HTTPS_PROXY": "http://p:3128", "NO_PROXY": "*"}, None),
        ({"HTTPS_PROXY": "http://p:3128", "NO_PROXY": "r.example.com:443"}, None),
        ({"HTTPS_PROXY": "http://p:3128", "NO_PROXY": "r.example.com:5000"}, "http://p:3128"),
        ({"HTTPS_PROXY": "http://p:3128", "NO_PROXY": "ample.com,x,,"}, "http://p:3128"),
    ],
)
def test_proxies_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, variables: Dict[str, str], proxy: Optional[str]
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    found = proxy_of(HTTPS)
    assert (found.geturl() if found else None) == proxy


@pytest.mark.parametrize(
    ("host", "no_proxy", "bypassed"),
    [
        ("127.0.0.1", "", True),
        ("localhost", "", True),
        ("LOCALHOST", "", True),
        ("::1", "", True),
        ("192.0.2.7", "192.0.2.0/24", True),
        ("192.0.3.7", "192.0.2.0/24", False),
        ("192.0.2.7", "not/a/network,192.0.2.7", True),
        ("2001:db8::1", "2001:db8::1", True),
        ("2001:db8::1", "[2001:db8::1]:443", True),
        ("2001:db8::1", "[2001:db8::1]:444", False),
        # Addresses have nothing below them.
        ("10.192.0.2", "192.0.2", False),
        ("r.example.com.", "example.com", True),
    ],
)
def test_hosts_that_are_reached_without_a_proxy(
    monkeypatch: pytest.MonkeyPatch, host: str, no_proxy: str, bypassed: bool
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://p:3128")
    monkeypatch.setenv("NO_PROXY", no_proxy)
    assert (proxy_of(Origin("https", host, 443)) is None) is bypassed


def test_a_cgi_program_has_no_http_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """There, HTTP_PROXY is a header of the request."""
    monkeypatch.setenv("HTTP_PROXY", "http://p:3128")
    monkeypatch.setenv("HTTPS_PROXY", "http://p:3128")
    assert proxy_of(HTTP) is not None
    monkeypatch.setenv("REQUEST_METHOD", "GET")
    assert (proxy_of(HTTP), proxy_of(HTTPS) is None) == (None, False)


@pytest.mark.parametrize("text", ["http://p:0", "http://p:x", "http://[p"])
def test_proxies_that_are_no_address(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("HTTPS_PROXY", text)
    with pytest.raises(Unreachable, match="HTTPS_PROXY is not an address; set it to http://HOST:PORT"):
        proxy_of(HTTPS)


@pytest.mark.parametrize(
    ("proxy", "expected"),
    [
        ("http://p", {}),
        ("http://me:s%40crt@p", {"Proxy-Authorization": "Basic " + base64.b64encode(b"me:s@crt").decode()}),
        ("http://me@p", {"Proxy-Authorization": "Basic " + base64.b64encode(b"me:").decode()}),
    ],
)
def test_credentials_of_a_proxy(proxy: str, expected: Dict[str, str]) -> None:
    assert _http._proxy_headers(urlsplit(proxy)) == expected
    assert _http._proxy_headers(None) == {}


@pytest.mark.parametrize(
    ("proxy", "scheme", "host", "port", "tunnel"),
    [
        (None, "https", "r.example.com", 443, None),
        ("http://me:pw@p:3128", "https", "p", 3128, ("r.example.com", 443)),
        ("http://p", "https", "p", 80, ("r.example.com", 443)),
        ("http://p", "http", "p", 80, None),
    ],
)
def test_connections_lead_to_the_proxy(proxy: Optional[str], scheme: str, host: str, port: int, tunnel: Any) -> None:
    connections = _http.Connections(lambda origin: ssl.create_default_context())
    made = connections._connection(HTTPS if scheme == "https" else HTTP, urlsplit(proxy) if proxy else None)
    assert (made.host, made.port) == (host, port)
    through: Any = made
    assert (through._tunnel_host and (through._tunnel_host, through._tunnel_port)) == tunnel
    if proxy and "@" in proxy:
        assert through._tunnel_headers["Proxy-Authorization"] == "Basic " + base64.b64encode(b"me:pw").decode()


def not_tls(reason: str) -> ssl.SSLError:
    exc = ssl.SSLError(1, "x")
    exc.reason = reason
    return exc


def mistrusted() -> ssl.SSLCertVerificationError:
    exc = ssl.SSLCertVerificationError(1, "x")
    exc.verify_message = "self-signed certificate"
    return exc


@pytest.mark.parametrize(
    ("exc", "kind", "words"),
    [
        (mistrusted(), Unreachable, "its certificate is not trusted: self-signed certificate"),
        (socket.timeout("timed out"), InterruptedRequest, "no answer in time"),
        (ssl.SSLError("The read operation timed out"), InterruptedRequest, "no answer in time"),
        (not_tls("WRONG_VERSION_NUMBER"), WrongScheme, "it speaks plain HTTP"),
        (not_tls("NO_CIPHERS"), WrongScheme, "it does not speak TLS as this client does (NO_CIPHERS)"),
        (http.client.IncompleteRead(b"abc"), InterruptedRequest, "the connection was cut after 3 bytes"),
        (http.client.BadStatusLine("SSH-2.0"), WrongScheme, "its answer is not HTTP"),
        (socket.gaierror(-2, "Name not known"), Unreachable, "'r.example.com' cannot be resolved (Name not known)"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "x"), Unreachable, "connection refused"),
        (ConnectionResetError(), InterruptedRequest, "the connection was closed without a whole answer"),
        (http.client.RemoteDisconnected(), InterruptedRequest, "the connection was closed without a whole answer"),
        (ssl.SSLEOFError(), InterruptedRequest, "the connection was closed without a whole answer"),
        (http.client.LineTooLong("x"), InterruptedRequest, "the connection was closed without a whole answer"),
        (OSError(errno.EHOSTUNREACH, "No route to host"), Unreachable, "No route to host"),
        (OSError("no answer within 1 s"), Unreachable, "no answer within 1 s"),
    ],
)
@pytest.mark.parametrize("proxy", [None, "http://me:pw@p:3128"])
def test_failures(exc: Exception, kind: Any, words: str, proxy: Optional[str]) -> None:
    found = _http._failure(exc, HTTPS, urlsplit(proxy) if proxy else None)
    way = " (through the environment's proxy http://p:3128)" if proxy else ""
    assert found.__class__ is kind
    assert str(found).endswith(f"{words}{way}")
    closed = (ConnectionResetError, http.client.RemoteDisconnected, ssl.SSLEOFError)
    if isinstance(found, InterruptedRequest):
        assert (found.silent, found.pause) == (isinstance(exc, closed), 0)
    if isinstance(found, Unreachable):
        assert found.mistrusted is isinstance(exc, ssl.SSLCertVerificationError)
