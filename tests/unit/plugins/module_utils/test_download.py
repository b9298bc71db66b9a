# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import http.client
import io
import socket
import ssl
import threading
import types
import urllib.error
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._host import download as _download
from ansible_collections.buildfarm.multiarch.plugins.module_utils._host.download import describe, download
from ansible_collections.buildfarm.multiarch.plugins.module_utils._platform.elf import program

CONTENT = bytes(range(256)) * 4096


class Server(HTTPServer):
    """Serves its content as badly as it is told: one entry of ``answers`` for each request, the last for all others.

    An entry is a status to refuse with, or how many bytes are sent of what was asked for.
    """

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers = [len(CONTENT)]
        self.requests = []
        self.content = CONTENT
        self.ranges = True
        self.tag = '"1"'
        self.url = f"http://127.0.0.1:{self.server_port}/file"
        self.moved = f"http://localhost:{self.server_port}/other"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests.append(dict(self.headers))
        answers = self.server.answers
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        start = int(self.headers.get("Range", "bytes=0-")[6:-1]) if self.server.ranges else 0
        if "If-Range" in self.headers and self.headers["If-Range"] != self.server.tag:
            start = 0
        if answer in (302, *range(400, 512)):
            self.send_response(answer)
            if answer == 302:
                self.send_header("Location", self.server.moved)
            self.end_headers()
            self.wfile.write(b"<html><title>No such thing</title>")
            return
        content = self.server.content
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.send_header("ETag", self.server.tag)
        self.end_headers()
        self.wfile.write(content[start : start + answer])

    def log_message(self, *_arguments):
        pass


@pytest.fixture
def pauses():
    """The seconds between attempts."""
    return []


@pytest.fixture
def server(monkeypatch, pauses):
    monkeypatch.setattr(_download, "time", types.SimpleNamespace(sleep=pauses.append))
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.01,))
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def get(url, retries=2):
    target = io.BytesIO()
    download(url, target, 5, retries)
    return target.getvalue()


def test_a_server_with_tls_cannot_send_on_to_one_without(server, issue, tmp_path, monkeypatch):
    (authority, _key), chain = (ca := issue("tests")), tmp_path / "chain.pem"
    chain.write_bytes(b"".join(issue("r", ca, usage="server", names=["127.0.0.1"])))
    (tmp_path / "ca.pem").write_bytes(authority)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    with Server() as secure:
        secure.socket = context.wrap_socket(secure.socket, server_side=True)
        secure.answers, secure.moved = [302], server.url
        thread = threading.Thread(target=secure.handle_request)
        thread.start()
        with pytest.raises(FarmError, match=r"/file: the server sent this host on to http://127\.0\.0\.1.*without TLS"):
            get(secure.url.replace("http:", "https:"))
        thread.join()
    assert len(secure.requests) == 1 and not server.requests


def test_more_than_there_can_be_is_not_read_to_its_end(server):
    target = io.BytesIO()
    with pytest.raises(FarmError, match="more than 1000 bytes"):
        download(server.url, target, 5, 2, most=1000)
    assert len(server.requests) == 1


def test_what_breaks_is_taken_up_where_it_broke(server):
    server.answers = [300_000, 503, 200_000, len(CONTENT)]
    assert get(server.url) == CONTENT
    assert [request.get("Range") for request in server.requests] == [
        None,
        "bytes=300000-",
        "bytes=300000-",
        "bytes=500000-",
    ]
    assert server.requests[-1]["If-Range"] == '"1"'


def test_a_server_without_ranges_is_asked_for_all_of_it(server):
    server.ranges = False
    server.answers = [300_000, len(CONTENT)]
    assert get(server.url) == CONTENT


def test_another_file_meanwhile_is_begun_again(server):
    server.answers = [300_000, len(CONTENT)]

    class Changing(io.BytesIO):
        def write(self, chunk):
            server.content, server.tag = CONTENT[:1000], '"2"'
            return super().write(chunk)

    target = Changing()
    download(server.url, target, 5, 2)
    assert target.getvalue() == CONTENT[:1000]


def test_a_shorter_file_meanwhile_is_begun_again(server):
    server.answers = [300_000, 416, len(CONTENT)]
    assert get(server.url) == CONTENT
    assert "Range" not in server.requests[2]


@pytest.mark.parametrize(
    ("ranges", "answers", "requests", "message"),
    [
        (True, [512, 0], 4, f"512 of {len(CONTENT)} bytes came, then the connection was cut, 3 times in a row"),
        (False, [300_000], 4, f"300000 of {len(CONTENT)} bytes came, then the connection was cut, 3 times"),
        (True, [404], 1, "the server answered 404 Not Found with an HTML page, 'No such thing'; nothing was changed"),
        (True, [503], 3, "the server answered 503 Service Unavailable with an HTML page, 'No such thing', 3 times"),
    ],
)
def test_in_the_end_it_is_given_up(server, ranges, answers, requests, message):
    server.ranges, server.answers = ranges, answers
    with pytest.raises(FarmError) as caught:
        get(server.url)
    assert message in caught.value.message
    assert len(server.requests) == requests


@pytest.mark.parametrize(
    ("status", "again"),
    [
        *((status, True) for status in (408, 425, 429, 500, 502, 503, 504)),
        *((status, False) for status in (400, 401, 403, 404, 407, 409, 410, 426, 428, 430, 501, 505, 511)),
    ],
)
def test_statuses_that_another_attempt_may_not_get(server, status, again):
    server.answers = [status, len(CONTENT)]
    if again:
        assert get(server.url) == CONTENT
    else:
        with pytest.raises(FarmError, match=f"answered {status} "):
            get(server.url)
    assert len(server.requests) == (2 if again else 1)


def test_pauses_become_longer_while_nothing_new_comes(server, pauses):
    server.answers = [300_000, 503, 503, 400_000, len(CONTENT)]
    assert get(server.url) == CONTENT
    assert pauses == [1.0, 2.0, 3.0, 1.0]


def test_a_range_that_was_not_asked_for_is_begun_again(server, monkeypatch):
    server.answers = [300_000, len(CONTENT)]
    send_header = Handler.send_header
    wrong = []

    def shifted(handler, name, value):
        if name == "Content-Range" and not wrong:
            wrong.append(value)
            value = value.replace("300000", "200000")
        send_header(handler, name, value)

    monkeypatch.setattr(Handler, "send_header", shifted)
    assert get(server.url) == CONTENT
    assert wrong and "Range" not in server.requests[-1]


def test_a_full_disk_is_told(server):
    class Full(io.BytesIO):
        def write(self, chunk):
            raise OSError(28, "No space left on device")

    with pytest.raises(FarmError, match=r"/file: cannot be stored: No space left on device; nothing was changed"):
        download(server.url, Full(), 5, 2)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("exc", "expected"),
    [
        (socket.timeout("timed out"), "nothing for 5 s"),
        (urllib.error.URLError(socket.timeout("timed out")), "nothing for 5 s"),
        (http.client.IncompleteRead(b"abc", 5), "the connection was cut"),
        (urllib.error.URLError(ConnectionRefusedError(111, "Connection refused")), "Connection refused"),
        (http.client.BadStatusLine("SSH"), "SSH"),
    ],
)
def test_reasons(exc, expected):
    assert _download._Transfer("http://h/x", io.BytesIO(), 5)._reason(exc) == expected


def test_without_retries_it_is_asked_once(server):
    server.answers = [512]
    with pytest.raises(
        FarmError, match=f"/file: 512 of {len(CONTENT)} bytes came, then the connection was cut; nothing"
    ):
        get(server.url, retries=0)
    assert len(server.requests) == 1


def test_credentials_of_the_url_are_for_its_server_alone(server):
    server.answers = [302, len(CONTENT)]
    assert get(server.url.replace("//", "//user:p%40ss@") + "?token=x") == CONTENT
    expected = "Basic " + base64.b64encode(b"user:p@ss").decode()
    assert [request.get("Authorization") for request in server.requests] == [expected, None]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "an empty file"),
        (program("arm64"), f"an executable for arm64 of {len(program('arm64'))} bytes"),
        (program("s390x"), f"an executable for s390x of {len(program('s390x'))} bytes"),
        (program("amd64")[:18] + b"\xff\x00", "an executable for an unknown architecture (255) of 20 bytes"),
        (b"\n <!DOCTYPE html><head><TITLE>Sign\nin</TITLE>", "an HTML page, 'Sign\\nin'"),
        (b"<html>", "an HTML page"),
        (b"\x1f\x8b\x08\x00", "an archive of 4 bytes"),
        (b"#!/bin/sh\n", "a script of 10 bytes"),
        (b"Moved", "5 bytes that are no executable"),
    ],
)
def test_what_came_is_described(content, expected):
    assert describe(content, len(content)) == expected


def test_secrets_are_not_shown():
    with pytest.raises(FarmError) as caught:
        get("http://user:pw@127.0.0.1:1/x?token=y", retries=0)
    assert caught.value.message == "http://***@127.0.0.1:1/x?token=***: Connection refused; nothing was changed"
    with pytest.raises(FarmError, match="not an address"):
        get("http://127.0.0.1:port/x")
