# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A registry's documents: what each status means, what is tried again, and what is not believed."""

from __future__ import annotations

import http.client
import io
from types import SimpleNamespace

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._registry import host as _host
from ansible_collections.buildfarm.multiarch.plugins.module_utils._registry.auth import RegistryRefused
from ansible_collections.buildfarm.multiarch.plugins.module_utils._registry.host import (
    Host,
    InterruptedRequest,
    NotSupported,
    Response,
    TagImmutable,
    Unreachable,
    WrongScheme,
)
from ansible_collections.buildfarm.multiarch.plugins.module_utils._registry.model import Document, digest_of

BODY = b'{"a": 1}'
DIGEST = digest_of(BODY)
OCI = "application/vnd.oci.image.index.v1+json"


def response(status=200, body=b"", **headers):
    message = http.client.HTTPMessage()
    for name, value in headers.items():
        message[name.replace("_", "-")] = value
    return Response(status, "", message, body)


class Session:
    """In the place of the server: what it answers, in order, the last one again and again, and what it was asked."""

    def __init__(self, *answers):
        self.answers, self.asked, self.scopes, self.contents = list(answers), [], [], []
        self.deadlines = []

    def request(self, method, target, scope, deadline, content=None, sink=None):
        self.asked.append(f"{method} {target}")
        self.scopes.append(scope)
        self.contents.append(content)
        self.deadlines.append(deadline)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        if sink and answer.status == 200:
            sink.write(answer.body)
        return answer


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """The time, which passes only while somebody waits."""
    clock = SimpleNamespace(now=100.0, pauses=[])
    clock.monotonic = lambda: clock.now

    def sleep(seconds):
        clock.pauses.append(seconds)
        clock.now += seconds

    clock.sleep = sleep
    monkeypatch.setattr(_host, "time", clock)
    return clock


def host(*answers, path="", mirror_of=""):
    session = Session(*answers)
    return Host("r.example.com", path, mirror_of, session), session


#: How each method is called, what it returns of what is there, and of a 404.
CALLS = {
    "read": (lambda at: at.read("app", "manifests", "1"), Document(DIGEST, "t", BODY), None),
    "digest": (lambda at: at.digest("app", "1"), DIGEST, None),
    "has_blob": (lambda at: at.has_blob("app", DIGEST), True, False),
    "save": (lambda at: at.save("app", DIGEST, io.BytesIO()), True, False),
    "delete": (lambda at: at.delete("app", "1"), True, False),
    "put": (lambda at: at.put("app", "1", "t", BODY), DIGEST, FarmError),
    "upload": (lambda at: at.upload("app", DIGEST, "/u", BODY), None, FarmError),
    "mount": (lambda at: at.mount("app", DIGEST, ""), FarmError, FarmError),
}


@pytest.mark.parametrize(
    ("status", "kinds"),
    [
        (200, {}),
        (404, {}),
        (201, {"mount": None, "put": DIGEST, "upload": None}),
        (202, {"put": DIGEST, "upload": None, "delete": True}),
        (204, {"put": DIGEST, "upload": None, "delete": True}),
        (400, {"read": NotSupported, "digest": NotSupported, "has_blob": NotSupported, "delete": NotSupported}),
        (401, {}),
        (402, {}),
        (405, {"read": NotSupported, "digest": NotSupported, "has_blob": NotSupported, "delete": NotSupported}),
        (406, {}),
        (409, {}),
        (501, {"read": NotSupported, "digest": NotSupported, "has_blob": NotSupported, "delete": NotSupported}),
    ],
)
@pytest.mark.parametrize("name", CALLS)
def test_what_a_status_means(name, status, kinds):
    call, there, missing = CALLS[name]
    expected = kinds.get(name, {200: there, 404: missing}.get(status, FarmError))
    at, _session = host(response(status, BODY, Content_Type="t; charset=x"))
    if isinstance(expected, type):
        with pytest.raises(FarmError, match=rf"^registry r\.example\.com .*it answered {status}") as caught:
            call(at)
        assert caught.type is expected
    else:
        assert call(at) == expected


@pytest.mark.parametrize(
    ("call", "asked", "scope"),
    [
        (lambda at: at.read("a/b", "manifests", "1"), "GET /v2/a/b/manifests/1", "repository:a/b:pull"),
        (lambda at: at.digest("a", DIGEST), f"HEAD /v2/a/manifests/{DIGEST}", "repository:a:pull"),
        (lambda at: at.digest("a", "1", to_push=True), "HEAD /v2/a/manifests/1", "repository:a:pull,push"),
        (lambda at: at.put("a", "1", "t", BODY), "PUT /v2/a/manifests/1", "repository:a:pull,push"),
        (lambda at: at.has_blob("a", DIGEST), f"HEAD /v2/a/blobs/{DIGEST}", "repository:a:pull"),
        (lambda at: at.has_blob("a", DIGEST, to_push=True), f"HEAD /v2/a/blobs/{DIGEST}", "repository:a:pull,push"),
        (lambda at: at.delete("a", "1"), "DELETE /v2/a/manifests/1", "repository:a:pull,delete"),
        (lambda at: at.upload("a", "sha256:1", "/u", BODY), "PUT /u?digest=sha256%3A1", "repository:a:pull,push"),
        (
            lambda at: at.upload("a", "sha256:1", "http://e/u?x=1", BODY),
            "PUT http://e/u?x=1&digest=sha256%3A1",
            "repository:a:pull,push",
        ),
    ],
)
def test_what_is_asked_with_which_rights(call, asked, scope):
    at, session = host(response(200, Docker_Content_Digest=DIGEST))
    if "GET" not in asked:
        call(at)
    else:
        with pytest.raises(FarmError):
            call(at)
    assert (session.asked, session.scopes) == ([asked], [scope])


def test_a_mount_is_asked_of_the_other_repository():
    at, session = host(response(201))
    assert at.mount("new", "sha256:1", "a/b") is None
    assert session.asked == ["POST /v2/new/blobs/uploads/?mount=sha256:1&from=a/b"]
    assert session.scopes == ["repository:new:pull,push repository:a/b:pull"] and session.contents[0].body == b""
    at, session = host(response(202, Location="/u/1"))
    assert at.mount("new", "sha256:1", "") == "/u/1"
    assert session.asked == ["POST /v2/new/blobs/uploads/"]


def test_paths_of_servers_and_of_mirrors():
    at, session = host(response(404), path="sub", mirror_of="docker.io")
    at.read("a", "manifests", "1")
    assert session.asked == ["GET /v2/sub/a/manifests/1?ns=docker.io"]


@pytest.mark.parametrize(
    ("header", "name", "body", "words"),
    [
        ({}, DIGEST, b"x", f"has the digest {digest_of(b'x')}, wanted {DIGEST}; something on the way"),
        ({"Docker_Content_Digest": DIGEST}, "1", b"x", f"wanted {DIGEST}; something on the way changed it"),
        ({"Docker_Content_Digest": "md5:1"}, "1", b"x", "unknown digest 'md5:1'"),
        ({}, "crc:1", b"x", "unknown digest 'crc:1'"),
        ({"Docker_Content_Digest": digest_of(BODY, "sha512")}, "1", BODY, None),
        ({}, "1", BODY, None),
        ({}, DIGEST, BODY, None),
    ],
)
def test_what_does_not_fit_its_digest_is_not_believed(header, name, body, words):
    at, _session = host(response(200, body, **header))
    if words:
        with pytest.raises(FarmError, match=words):
            at.read("app", "manifests", name)
    else:
        assert at.read("app", "manifests", name).content == BODY


def test_what_is_saved_fits_its_digest():
    at, _session = host(response(200, b"damaged"))
    with pytest.raises(FarmError, match="something on the way changed it, or its storage is damaged"):
        at.save("app", DIGEST, io.BytesIO())
    big = b"x" * ((1 << 20) + 1)
    sink = io.BytesIO()
    at, session = host(response(200, big))
    assert at.save("app", digest_of(big, "sha512"), sink) and sink.getvalue() == big
    assert session.deadlines == [100.0 + 3600]


def test_a_digest_that_head_does_not_tell_is_that_of_the_document():
    at, session = host(response(200), response(200, BODY))
    assert at.digest("app", "1") == DIGEST
    assert session.asked == ["HEAD /v2/app/manifests/1", "GET /v2/app/manifests/1"]
    at, session = host(RegistryRefused("no"), response(200, BODY))
    assert at.digest("app", "1") == DIGEST
    at, session = host(RegistryRefused("no"), response(404))
    assert at.digest("app", "1") is None
    at, _session = host(RegistryRefused("no"))
    with pytest.raises(RegistryRefused):
        at.digest("app", "1")


def test_what_refers_to_a_manifest():
    at, session = host(response(200, b"{}", Content_Type=OCI))
    assert at.referrers("app", "sha256:1") == b"{}" and session.asked == ["GET /v2/app/referrers/sha256:1"]
    # A page for people is no answer.
    at, session = host(response(200, b"<html>", Content_Type="text/html"), response(200, BODY))
    assert at.referrers("app", "sha256:1") == BODY and session.asked[1] == "GET /v2/app/manifests/sha256-1"
    at, _session = host(response(404))
    assert at.referrers("app", "sha256:1") is None


@pytest.mark.parametrize(
    ("stored", "words"), [({}, None), ({"Docker_Content_Digest": "sha256:9"}, f"it stored sha256:9, wanted {DIGEST}")]
)
def test_what_is_stored_is_what_was_written(stored, words):
    at, session = host(response(201, **stored))
    if words:
        with pytest.raises(FarmError, match=words):
            at.put("app", "1", "t", BODY)
    else:
        assert at.put("app", "1", "t", BODY) == DIGEST
    assert (session.contents[0].media_type, session.contents[0].body) == ("t", BODY)


IMMUTABLE = b'{"errors": [{"code": "TAG_INVALID", "message": "repository is immutable"}]}'


def refusal(reason):
    refused = RegistryRefused("refused")
    refused.reason = reason
    return refused


@pytest.mark.parametrize(
    ("answer", "name", "now", "expected"),
    [
        (response(400, IMMUTABLE), "1", "sha256:9", TagImmutable),
        (response(400, IMMUTABLE), "1", DIGEST, DIGEST),
        (response(400, IMMUTABLE), DIGEST, DIGEST, FarmError),
        (response(400), "1", DIGEST, FarmError),
        (response(400, IMMUTABLE.replace(b"immutable", b"fine")), "1", DIGEST, FarmError),
        (refusal("tag is IMMUTABLE"), "1", "sha256:9", TagImmutable),
        (refusal("cannot be overwritten"), "1", DIGEST, DIGEST),
        (refusal("the operation is disallowed"), "1", "sha256:9", TagImmutable),
        (refusal("denied"), "1", DIGEST, RegistryRefused),
        # Of the repository's or the tag's own name nothing is learned.
        (refusal("denied: app"), "app", DIGEST, RegistryRefused),
        (refusal("denied: immutable"), "immutable", DIGEST, RegistryRefused),
    ],
)
def test_tags_that_may_not_be_moved(answer, name, now, expected):
    at, session = host(answer, response(200, Docker_Content_Digest=now))
    if isinstance(expected, type):
        with pytest.raises(expected) as caught:
            at.put("app", name, "t", BODY)
        assert caught.type is expected
    else:
        assert at.put("app", name, "t", BODY) == expected
    looked = expected in (TagImmutable, DIGEST)
    assert session.asked[1:] == (["HEAD /v2/app/manifests/1"] if looked else [])
    assert session.scopes[1:] == (["repository:app:pull,push"] if looked else [])


def test_a_tag_that_cannot_be_looked_at_may_not_be_moved():
    at, _session = host(response(400, IMMUTABLE), response(402))
    with pytest.raises(TagImmutable, match=f"the tag 1 of app may not be moved to {DIGEST}.*: 400, TAG_INVALID"):
        at.put("app", "1", "t", BODY)


def test_what_may_pass_is_tried_again(clock):
    at, session = host(response(503), InterruptedRequest("cut"), response(429, Retry_After="3"), response(200, BODY))
    assert at.read("app", "manifests", "1").content == BODY
    assert clock.pauses == [0.5, 1.0, 3.0] and len(session.asked) == 4
    assert set(session.deadlines) == {100.0 + 120}


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (response(503, IMMUTABLE), "it answered 503, TAG_INVALID: repository is immutable, 5 times in 8 s; try again"),
        (InterruptedRequest("cut"), "manifests/1: cut, 5 times in 8 s; try again later"),
    ],
)
def test_attempts_come_to_an_end(clock, answer, words):
    at, session = host(answer)
    with pytest.raises(FarmError, match=words):
        at.read("app", "manifests", "1")
    assert clock.pauses == [0.5, 1.0, 2.0, 4.0] and len(session.asked) == 5


@pytest.mark.parametrize(("pause", "often"), [(121.0, ""), (60.0, ", 3 times in 120 s"), (59.0, ", 3 times in 118 s")])
def test_nobody_waits_beyond_the_time_limit(clock, pause, often):
    at, _session = host(InterruptedRequest("cut", pause=pause))
    with pytest.raises(FarmError, match=f"manifests/1: cut{often}; try again later$"):
        at.read("app", "manifests", "1")
    assert all(one == pause for one in clock.pauses) and clock.now <= 220


def test_a_mirror_is_tried_once(clock):
    at, session = host(response(503), mirror_of="docker.io")
    with pytest.raises(FarmError, match="it answered 503; try again later"):
        at.read("app", "manifests", "1")
    assert len(session.asked) == 1 and clock.pauses == []


@pytest.mark.parametrize(
    ("problem", "advice"),
    [
        (
            Unreachable("unknown CA", mistrusted=True),
            r"unknown CA; name its authority in .*r\.example\.com/ca\.crt",
        ),
        (Unreachable("no such host"), "no such host$"),
        (WrongScheme("it speaks plain HTTP"), "it speaks plain HTTP; that is believed only of loopback addresses"),
        (WrongScheme("it wants TLS"), "it wants TLS$"),
    ],
)
def test_what_cannot_pass_is_told_at_once(clock, problem, advice):
    at, session = host(problem)
    with pytest.raises(FarmError, match=f"could not be asked for app/manifests/1: {advice}"):
        at.read("app", "manifests", "1")
    assert len(session.asked) == 1 and clock.pauses == []
