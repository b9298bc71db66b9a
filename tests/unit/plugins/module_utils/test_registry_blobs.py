# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Blobs that are looked for, copied and written, tags that are removed, and what refers to a manifest."""

from __future__ import annotations

import contextlib
import io
import json
import threading
import time
import types
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker.reference import Reference
from ansible_collections.buildfarm.multiarch.plugins.module_utils._registry import host as _host
from ansible_collections.buildfarm.multiarch.plugins.module_utils._registry.auth import RegistryRefused
from ansible_collections.buildfarm.multiarch.plugins.module_utils._registry.client import Registries
from ansible_collections.buildfarm.multiarch.plugins.module_utils._registry.host import NotSupported
from ansible_collections.buildfarm.multiarch.tests.unit.documents import digest_of

BLOB, BIG = b"a layer", b"0123456789abcdef" * (1 << 19)
INDEX = "application/vnd.oci.image.index.v1+json"


class Server(ThreadingHTTPServer):
    """A registry that takes blobs.

    :ivar contents: by path.
    :ivar mounts: whether it mounts blobs of other repositories.
    :ivar location: of uploads.
    :ivar faults: by method and path, the statuses of the next answers; 0 cuts the connection in the middle.
    :ivar scopes: those of its tokens; None where it demands none.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.name = f"127.0.0.1:{self.server_port}"
        self.contents = {}
        self.mounts, self.location, self.faults = True, "/upload/1?state=x", {}
        self.requests, self.scopes = [], None


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do(self):
        server, parts = self.server, urlsplit(self.path)
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        server.requests.append((self.command, self.path, self.headers.get("Authorization")))
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if parts.path == "/token":
            server.scopes += parse_qs(parts.query)["scope"]
            return self.answer(200, json.dumps({"token": "t0ken"}).encode())
        if server.scopes is not None and not self.headers.get("Authorization") and parts.path.startswith("/v2/"):
            realm = f'Bearer realm="http://{server.name}/token",service="tests"'
            return self.answer(401, headers={"WWW-Authenticate": realm})
        fault = server.faults.get(f"{self.command} {parts.path}")
        if fault:
            status = fault.pop(0)
            if status:
                return self.answer(status, b'{"errors": [{"code": "UNSUPPORTED"}]}')
            self.answer(200, server.contents[parts.path][:-9], {"Content-Length": str(len(BIG))})
            self.close_connection = True
            return None
        if self.command == "POST":
            source = f"/v2/{query.get('from')}/blobs/{query.get('mount')}"
            if server.mounts and source in server.contents:
                server.contents[f"{parts.path[: -len('uploads/')]}{query['mount']}"] = server.contents[source]
                return self.answer(201)
            return self.answer(202, headers={"Location": server.location})
        if self.command == "PUT":
            if digest_of(body) != query["digest"]:
                return self.answer(400, b'{"errors": [{"code": "DIGEST_INVALID"}]}')
            server.contents[f"/v2/new/blobs/{query['digest']}"] = body
            return self.answer(201)
        if self.command == "DELETE":
            return self.answer(202 if server.contents.pop(parts.path, None) else 404)
        content = server.contents.get(parts.path)
        kind = {"Content-Type": INDEX} if "blobs" not in parts.path else {}
        return self.answer(404 if content is None else 200, content or b"", kind)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do

    def answer(self, status, body=b"", headers=None):
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_arguments):
        pass


@contextlib.contextmanager
def served():
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield made
        finally:
            made.shutdown()
            thread.join()


@pytest.fixture
def server():
    with served() as made:
        yield made


@pytest.fixture
def elsewhere():
    with served() as made:
        yield made


@pytest.fixture
def registries(tmp_path, monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "DOCKER_AUTH_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    clock = types.SimpleNamespace(sleep=lambda seconds: None, monotonic=time.monotonic)
    monkeypatch.setattr(_host, "time", clock)
    return Registries(tmp_path, {})


def name(server, path="app"):
    return Reference.parse(f"{server.name}/{path}:1")


def asked(server):
    return [f"{method} {path}" for method, path, _authorization in server.requests]


def test_a_blob_is_looked_for_without_being_transferred(server, registries):
    digest = digest_of(BLOB)
    assert registries.has_blob(name(server), digest) is False
    server.contents[f"/v2/app/blobs/{digest}"] = BLOB
    assert registries.has_blob(name(server), digest) is True
    assert asked(server) == [f"HEAD /v2/app/blobs/{digest}"] * 2


def test_a_small_blob_is_written_once(server, registries):
    digest = digest_of(BLOB)
    assert [registries.put_blob(name(server, "new"), BLOB) for _time in range(2)] == [digest] * 2
    look = f"HEAD /v2/new/blobs/{digest}"
    put = f"PUT /upload/1?state=x&digest={digest.replace(':', '%3A')}"
    assert asked(server) == [look, "POST /v2/new/blobs/uploads/", put, look]
    assert server.contents[f"/v2/new/blobs/{digest}"] == BLOB


def test_within_a_registry_blobs_are_mounted_with_the_right_to_read_the_source(server, registries):
    digest = digest_of(BLOB)
    server.contents[f"/v2/app/blobs/{digest}"], server.scopes = BLOB, []
    assert registries.copy_blob(name(server), name(server, "new"), digest)
    assert server.contents[f"/v2/new/blobs/{digest}"] == BLOB
    assert not any("PUT" in one or "GET /v2" in one for one in asked(server))
    assert server.scopes == ["repository:new:pull,push", "repository:new:pull,push", "repository:app:pull"]


@pytest.mark.parametrize("far", [False, True])
def test_a_blob_of_any_size_is_carried_over_where_it_cannot_be_mounted(server, elsewhere, registries, far):
    """In several parts; what is cut is read again."""
    target, digest = elsewhere if far else server, digest_of(BIG)
    path = f"/v2/app/blobs/{digest}"
    server.contents[path], server.mounts, server.faults[f"GET {path}"] = BIG, False, [0, 503]
    target.location = f"http://{target.name}/upload/1"
    assert registries.copy_blob(name(server), name(target, "new"), digest)
    assert target.contents[f"/v2/new/blobs/{digest}"] == BIG
    posted = [one for one in asked(target) if one.startswith("POST")]
    assert posted == ["POST /v2/new/blobs/uploads/" + ("" if far else f"?mount={digest}&from=app")]
    assert registries.copy_blob(name(server), name(target, "new"), digest)
    assert len([one for one in asked(target) if one.startswith("POST")]) == 1


def test_a_blob_that_the_source_does_not_have_is_not_copied(server, elsewhere, registries):
    assert registries.copy_blob(name(server), name(elsewhere, "new"), digest_of(BLOB)) is False
    assert registries.copy_blob(name(server), name(server), digest_of(BLOB)) is True, "it is the same repository"


def test_a_damaged_blob_goes_nowhere(server, elsewhere, registries):
    digest = digest_of(BLOB)
    server.contents[f"/v2/app/blobs/{digest}"] = b"damaged"
    with pytest.raises(FarmError, match=f"has the digest {digest_of(b'damaged')}; something on the way"):
        registries.copy_blob(name(server), name(elsewhere, "new"), digest)
    assert elsewhere.contents == {}


def test_an_upload_elsewhere_gets_no_credentials(server, elsewhere, registries):
    server.scopes = []
    server.location = f"http://{elsewhere.name}/upload/1"
    digest = registries.put_blob(name(server, "new"), BLOB)
    assert elsewhere.contents == {f"/v2/new/blobs/{digest}": BLOB}
    assert [authorization for _method, _path, authorization in elsewhere.requests] == [None]
    assert server.requests[-1][2] == "Bearer t0ken"


@pytest.mark.parametrize(("status", "kind"), [(400, FarmError), (403, RegistryRefused), (413, FarmError)])
@pytest.mark.parametrize("method", ["POST /v2/new/blobs/uploads/", "PUT /upload/1"])
def test_a_registry_that_takes_no_blob_says_so(server, registries, method, status, kind):
    server.faults[method] = [status]
    with pytest.raises(kind, match=rf"registry {server.name} .*{status}.* UNSUPPORTED"):
        registries.put_blob(name(server, "new"), BLOB)


def test_a_tag_or_a_manifest_is_removed(server, registries):
    reference, digest = name(server), "sha256:" + "a" * 64
    server.contents = {"/v2/app/manifests/1": b"{}", f"/v2/app/manifests/{digest}": b"{}"}
    assert [registries.remove(one) for one in (reference, reference, reference.at(digest))] == [True, False, True]
    assert server.contents == {}


@pytest.mark.parametrize(
    ("status", "kind"), [(400, NotSupported), (405, NotSupported), (403, RegistryRefused), (409, FarmError)]
)
def test_a_registry_that_removes_nothing_says_so(server, registries, status, kind):
    server.faults["DELETE /v2/app/manifests/1"] = [status]
    with pytest.raises(FarmError) as caught:
        registries.remove(name(server))
    assert caught.type is kind and "UNSUPPORTED" in caught.value.message


@pytest.mark.parametrize("status", [None, 404, 405])
def test_what_refers_to_a_manifest_is_read_by_the_api_or_the_tag_in_its_place(server, registries, status):
    digest, found = "sha256:" + "a" * 64, json.dumps({"manifests": []}).encode()
    server.contents[f"/v2/app/manifests/{digest.replace(':', '-')}"] = b"{}"
    server.contents[f"/v2/app/referrers/{digest}"] = found
    server.faults[f"GET /v2/app/referrers/{digest}"] = [status] if status else []
    assert registries.referrers(name(server), digest) == (b"{}" if status else found)


def test_what_nothing_refers_to_has_no_referrers(server, registries):
    assert registries.referrers(name(server), "sha256:" + "a" * 64) is None


def test_nothing_of_an_earlier_attempt_is_left_in_a_file(server, registries):
    digest, sink = digest_of(BLOB), io.BytesIO(b"what was there before, longer than the layer")
    server.contents[f"/v2/app/blobs/{digest}"] = BLOB
    assert registries.save(name(server), digest, sink) and sink.getvalue() == BLOB
