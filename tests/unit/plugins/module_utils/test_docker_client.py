# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Requests to engines without the SDK: what an engine's answer is, and what a program in a container has done."""

from __future__ import annotations

import json

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker.client import (
    MAXIMUM_ANSWER,
    Conversation,
    demultiplexed,
    execute,
    failure,
    message,
)
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker.context_store import ContextStore
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker.drain import LABEL, read_drained
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker.endpoint import Endpoint
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker.transport import Unreachable, resolve
from ansible_collections.buildfarm.multiarch.tests.unit.engines import FakeEngine, serving

VERSION = {"Os": "linux", "Arch": "amd64", "Version": "28"}


class Connection:
    """In the place of a connection: one answer, and what was sent."""

    def __init__(self, status, body):
        self.status, self.body, self.sent = status, body, []

    def request(self, method, path, body=None, headers=None):
        self.sent.append((method, path, body, headers))

    def getresponse(self):
        return self

    def read(self, limit=None):
        return self.body[:limit]


def test_requests_are_what_was_wanted():
    connection = Connection(201, b"0123456789")
    engine = Conversation(connection)
    assert engine.request("GET", "/a?b=c") == (201, b"0123456789")
    assert engine.request("GET", "/a", 4) == (201, b"0123")
    engine.request("PUT", "/a", body=b"x", headers={"A": "1"})
    engine.send("POST", "/a", {"b": 1})
    assert connection.sent == [
        ("GET", "/a?b=c", None, {"Host": "docker"}),
        ("GET", "/a", None, {"Host": "docker"}),
        ("PUT", "/a", b"x", {"Host": "docker", "A": "1"}),
        ("POST", "/a", b'{"b": 1}', {"Host": "docker", "Content-Type": "application/json"}),
    ]


def test_documents():
    assert Conversation(Connection(200, b'{"a": 1}')).get("/a") == {"a": 1}
    assert Conversation(Connection(200, b'{"a": 1}')).find("/a") == {"a": 1}
    assert Conversation(Connection(404, b'{"message": "none"}')).find("/a") is None
    for status, read in ((404, Conversation.get), (500, Conversation.get), (500, Conversation.find)):
        with pytest.raises(FarmError, match=rf"GET /a failed: broken \(HTTP {status}\)"):
            read(Conversation(Connection(status, b'{"message": "broken"}')), "/a")


def test_an_engine_that_wants_tls_says_so_whatever_is_wanted():
    engine = Conversation(Connection(400, b"Client sent an HTTP request to an HTTPS server.\n"))
    for ask in (engine.version, lambda: engine.get("/volumes"), lambda: engine.delete("/volumes/a")):
        with pytest.raises(Unreachable, match="it wants TLS; reach it with ca, cert and key"):
            ask()


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (200, VERSION, None),
        (200, {**VERSION, "Os": ""}, "answer"),
        (200, {**VERSION, "Arch": ""}, "answer"),
        (200, {"Os": "linux"}, "answer"),
        (200, ["Os", "Arch"], "answer"),
        (200, b"<html>", "answer"),
        (404, VERSION, "answer"),
        (400, b"Client sent an HTTP request to an HTTPS server.\n", "tls"),
        (400, b"Bad request", "answer"),
        (200, b"Client sent an HTTP request to an HTTPS server.\n", "answer"),
        (200, b" " * MAXIMUM_ANSWER + json.dumps(VERSION).encode(), "answer"),
    ],
)
def test_whether_an_engine_answers(status, body, kind):
    engine = Conversation(Connection(status, body if isinstance(body, bytes) else json.dumps(body).encode()))
    if kind is None:
        assert engine.version() == VERSION
    else:
        with pytest.raises(Unreachable) as caught:
            engine.version()
        assert caught.value.kind == kind and (kind == "tls" or f"(HTTP {status})" in str(caught.value))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"message": "busy"}', "busy"),
        (b'{"error": "x"}', '{"error": "x"}'),
        (b"[1]", "[1]"),
        (b" text \xff\n", "text �"),
        (b"", ""),
    ],
)
def test_what_an_engine_says_is_wrong(body, expected):
    assert message(body) == expected


@pytest.mark.parametrize(
    ("body", "streams"),
    [
        (b"", {}),
        (b"\x01\0\0\0\0\0\0\0", {1: b""}),
        (b"\x01\0\0\0\0\0\0\x02ab\x02\0\0\0\0\0\0\x01c\x01\0\0\0\0\0\0\x01d", {1: b"abd", 2: b"c"}),
        (b"\x01\0\0\0\0\0\x01\x00" + b"x" * 256, {1: b"x" * 256}),
        # Broken off.
        (b"\x01\0\0\0\0\0\0\x02ab\x02\0\0\0", {1: b"ab"}),
        (b"\x01\0\0\0\0\0\0\x05ab", {1: b"ab"}),
    ],
)
def test_streams_are_told_apart(body, streams):
    assert demultiplexed(body) == streams


def test_why_an_engine_cannot_be_reached():
    reason, url = Unreachable("refused", "connection refused"), Endpoint.parse("tcp://a:2375")
    assert failure(url, reason) == failure(url, reason, url) == "engine tcp://a:2375: connection refused"
    assert failure(Endpoint.parse("arm1"), reason, url) == "engine arm1 (tcp://a:2375): connection refused"
    assert failure(Endpoint.parse("arm1"), Unreachable("context", "no docker context 'arm1'")) == (
        "no docker context 'arm1'"
    )


class Engine(FakeEngine):
    """Runs programs, unless the request of that name is to fail."""

    def __init__(self, fails="", code=0):
        super().__init__()
        self.fails, self.code, self.asked = fails, code, []

    def answer(self, method, path, query, body, headers):
        name = path.rpartition("/")[2]
        self.asked.append((method, path, json.loads(body or b"null")))
        if name == self.fails:
            return 409, {"message": f"no {name}"}
        if name == "exec":
            return 201, {"Id": "7"}
        return 200, {"ExitCode": self.code} if name == "json" else b"\x01\0\0\0\0\0\0\x02ok\x02\0\0\0\0\0\0\x01\xff"


@pytest.mark.parametrize(("code", "expected"), [(0, 0), (None, 0), (3, 3)])
def test_a_program_is_run(tmp_path, code, expected):
    engine = Engine(code=code)
    with serving(engine) as url:
        done = execute(Endpoint.parse(url), ContextStore(tmp_path), "a b", ["buildctl", "du"], 5)
    assert done == (expected, b"ok", "�")
    assert engine.asked == [
        (
            "POST",
            "/containers/a b/exec",
            {"Cmd": ["buildctl", "du"], "AttachStdout": True, "AttachStderr": True},
        ),
        ("POST", "/exec/7/start", {"Detach": False, "Tty": False}),
        ("GET", "/exec/7/json", None),
    ]


@pytest.mark.parametrize(
    ("fails", "words"),
    [
        ("exec", "could not run buildctl in c: no exec"),
        ("start", "could not run buildctl in c: no start"),
        ("json", "what became of buildctl in c is not known: no json"),
    ],
)
def test_a_program_that_cannot_be_run_is_named(tmp_path, fails, words):
    with serving(Engine(fails)) as url, pytest.raises(FarmError, match=f"^engine {url}: {words}$"):
        execute(Endpoint.parse(url), ContextStore(tmp_path), "c", ["buildctl"], 5)


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, {"Volumes": [{"CreatedAt": "now", "Labels": {LABEL: "disk\n "}}]}, "it is drained since now (disk)"),
        (200, {"Volumes": [{"CreatedAt": None, "Labels": {LABEL: ""}}]}, "it is drained since "),
        (200, {"Volumes": [{"CreatedAt": "now", "Labels": {}}]}, "None"),
        (200, {"Volumes": None}, "None"),
        (200, {}, "None"),
        (500, {"Volumes": [{"CreatedAt": "now", "Labels": {LABEL: "disk"}}]}, "None"),
    ],
)
def test_whether_an_engine_is_drained(status, body, expected):
    assert str(read_drained(Conversation(Connection(status, json.dumps(body).encode())))) == expected


@pytest.mark.parametrize(
    ("engine", "tls", "expected"),
    [
        ({"Host": "tcp://h"}, False, ("tcp://h:80", None, True)),
        ({"Host": "tcp://h:2376"}, False, ("tcp://h:2376", None, True)),
        ({"Host": "tcp://h"}, True, ("tcp://h:443", True, True)),
        ({"Host": "tcp://h", "SkipTLSVerify": True}, False, ("tcp://h:443", False, False)),
        ({"Host": "tcp://h", "SkipTLSVerify": True}, True, ("tcp://h:443", True, False)),
        ({"Host": "unix:///x"}, True, ("unix:///x", None, True)),
        ({"Host": "ssh://h", "SkipTLSVerify": True}, False, ("ssh://h", None, True)),
    ],
)
def test_where_a_context_leads_and_who_is_trusted_there(tmp_path, engine, tls, expected):
    store = ContextStore(tmp_path)
    store.meta_dir("arm1").mkdir(parents=True)
    (store.meta_dir("arm1") / "meta.json").write_text(json.dumps({"Name": "arm1", "Endpoints": {"docker": engine}}))
    if tls:
        store.tls_dir("arm1").mkdir(parents=True)
        (store.tls_dir("arm1") / "ca.pem").write_text("CA")
    route = resolve(Endpoint.parse("arm1"), store)
    assert (route.url.text, route.tls and bool(route.tls.ca), route.verify) == expected
