# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import contextlib
import io
import json
import socket
import ssl
import struct
import threading
import time
import types
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._buildx.store import Node
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.parallel import each
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker.reference import Reference
from ansible_collections.buildfarm.multiarch.plugins.module_utils._registry import auth as _registry_auth
from ansible_collections.buildfarm.multiarch.plugins.module_utils._registry import client as _registry
from ansible_collections.buildfarm.multiarch.plugins.module_utils._registry import connections as _http
from ansible_collections.buildfarm.multiarch.plugins.module_utils._registry import host as _host
from ansible_collections.buildfarm.multiarch.plugins.module_utils._registry import settings as _registry_settings
from ansible_collections.buildfarm.multiarch.plugins.module_utils._registry.auth import RegistryRefused
from ansible_collections.buildfarm.multiarch.plugins.module_utils._registry.client import Registries
from ansible_collections.buildfarm.multiarch.plugins.module_utils._registry.host import TagImmutable
from ansible_collections.buildfarm.multiarch.plugins.module_utils._registry.model import (
    DOCUMENT_LIMIT,
    OCI_INDEX,
)
from ansible_collections.buildfarm.multiarch.plugins.module_utils._registry.settings import Settings
from ansible_collections.buildfarm.multiarch.tests.unit.documents import digest_of

INDEX, CONFIG, OTHER = b'{"manifests": []}', b'{"os": "linux", "architecture": "arm64"}', b'{"manifests": [{}]}'
USER, PASSWORD, TOKEN, IDENTITY = "me", "s3cr3t-password", "t0ken-of-the-service", "1dentity-token"
BASIC = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
SECRETS = (PASSWORD, BASIC, TOKEN, IDENTITY, "signature")
MANIFEST_OF, BLOB_OF = "/v2/app/manifests/1", f"/v2/app/blobs/{digest_of(CONFIG)}"


class Server(ThreadingHTTPServer):
    """A registry with one image, ``app:1``, and as many faults as it is told.

    :ivar auth: None, ``basic`` or ``token``; what it does not have it refuses then, as Quay does.
    :ivar realm: where it says that tokens are.
    :ivar demanded: the scope that it asks for.
    :ivar faults: by path, what is done to the next requests for it, see ``Handler.spoil``.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.name = f"127.0.0.1:{self.server_port}"
        self.contents = {
            MANIFEST_OF: INDEX,
            f"/v2/app/manifests/{digest_of(INDEX)}": INDEX,
            BLOB_OF: CONFIG,
        }
        self.auth = None
        self.realm = f"http://{self.name}/token"
        self.demanded = "repository:app:pull"
        self.tokens = 0
        self.scopes = []
        self.written = []
        self.faults = {}
        self.requests = []
        self.connections = 0

    def process_request(self, request, client_address):
        self.connections += 1
        super().process_request(request, client_address)

    def handle_error(self, request, client_address):
        pass  # a client that closes the connection

    def asked(self):
        """The requests so far, as ``METHOD PATH``."""
        return [f"{method} {path}" for method, path, _headers in self.requests]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self):
        self.server.requests.append((self.command, self.path, dict(self.headers)))
        path = urlsplit(self.path).path
        faults = self.server.faults.get(path)
        if faults:
            self.spoil(faults.pop(0))
        elif path == "/token":
            self.token(parse_qs(urlsplit(self.path).query), self.headers.get("Authorization"))
        elif self.is_authorized():
            self.send(path)

    do_HEAD = do_GET

    def do_PUT(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append((self.command, self.path, dict(self.headers)))
        faults = self.server.faults.get(self.path)
        fault = faults.pop(0) if faults else None
        if fault is None and not self.is_authorized():
            return
        if fault in (None, "written"):
            self.server.contents[self.path] = body
            self.server.written.append((self.path, self.headers["Content-Type"]))
        if fault is None:
            self.answer(201, headers={"Docker-Content-Digest": digest_of(body)})
        elif fault == "written":  # and the answer is lost
            self.close_connection = True
        else:
            self.spoil(fault)

    def do_POST(self):
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.server.requests.append((self.command, self.path, dict(self.headers)))
        right = form["grant_type"] == ["refresh_token"] and form["refresh_token"] == [IDENTITY]
        self.token(form, f"Basic {BASIC}" if right else "wrong")

    def token(self, values, authorization):
        if authorization and authorization != f"Basic {BASIC}":
            return self.answer(401, json.dumps({"details": "incorrect username or password"}).encode())
        assert values["service"] == ["tests"], values
        self.server.scopes += values["scope"]
        self.server.tokens += 1
        whose = TOKEN if authorization else "anonymous"
        return self.answer(200, json.dumps({"token": f"{whose}-{self.server.tokens}"}).encode())

    def is_authorized(self):
        auth = self.server.auth
        realm = f'Bearer realm="{self.server.realm}",service="tests",scope="{self.server.demanded}"'
        expected = {"basic": f"Basic {BASIC}", "token": f"Bearer {TOKEN}-{self.server.tokens}"}.get(auth, "none")
        if auth is None or self.headers.get("Authorization") == expected:
            return True
        challenge = {"basic": 'Basic realm="tests"', "token": realm, "negotiate": "Negotiate"}[auth]
        self.answer(401, b'{"errors": [{"code": "UNAUTHORIZED", "message": "who?"}]}', {"WWW-Authenticate": challenge})
        return False

    def spoil(self, fault):
        """Answer as a fault wants it: with a status, with the arguments of ``answer``, or as it is called here."""
        content = self.server.contents.get(urlsplit(self.path).path, b"")
        without_length = {"Content-Length": None, "Connection": "close"}
        chunked = {"Content-Length": None, "Transfer-Encoding": "chunked"}
        whole = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (content[:5], content[5:], b""))
        answers = {
            "cut": (content[:-3], {"Content-Length": str(len(content))}),
            "cut chunk": (b"10\r\nabc", chunked),
            "cut without length": (content[:-3], without_length),
            "chunked": (whole, chunked),
            "other": (OTHER, {}),
            "slow": (b"", {"Content-Length": "1000"}),
            "large": (b"", {"Content-Length": str(1 << 40)}),
            "endless": (b"x" * (DOCUMENT_LIMIT + 1), without_length),
        }
        if isinstance(fault, int):
            self.answer(fault, b'{"errors": [{"code": "SOMETHING", "message": "is wrong"}]}')
        elif isinstance(fault, dict):
            self.answer(**fault)
        elif fault in answers:
            body, headers = answers[fault]
            self.answer(200, body, headers)
            self.close_connection = fault.startswith("cut")
        for _piece in range(100 if fault == "slow" else 0):
            time.sleep(0.02)
            self.wfile.write(b"x")
        if fault == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
        if fault in ("reset", "gone"):
            self.close_connection = True

    def send(self, path):
        content = self.server.contents.get(path)
        if content is None:
            self.answer(404, b'{"errors": [{"code": "MANIFEST_UNKNOWN"}]}')
        elif "/blobs/" in path:
            self.answer(200, content)
        else:
            headers = {"Docker-Content-Digest": digest_of(content), "Content-Type": OCI_INDEX}
            self.answer(200, content, headers)

    def answer(self, status, body=b"", headers=None):
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_arguments):
        pass


@contextlib.contextmanager
def served(made):
    with made:
        thread = threading.Thread(target=made.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield made
        finally:
            made.shutdown()
            thread.join()


@pytest.fixture
def server():
    with served(Server()) as made:
        yield made


@pytest.fixture
def elsewhere():
    """Another server, under another name of the same host."""
    with served(Server()) as made:
        made.name = f"localhost:{made.server_port}"
        yield made


@pytest.fixture
def pauses(monkeypatch):
    """The seconds that were to be waited for."""
    noted = []
    # Not time.sleep itself: threads that other tests left behind may call it.
    clock = types.SimpleNamespace(sleep=noted.append, monotonic=time.monotonic, time=time.time)
    monkeypatch.setattr(_host, "time", clock)
    return noted


@pytest.fixture(autouse=True)
def environment(monkeypatch, tmp_path):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR", "DOCKER_CONFIG"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setattr(_registry_settings, "_CERTIFICATES", tmp_path / "certs.d")


@pytest.fixture
def docker(tmp_path):
    """A docker configuration directory."""
    return tmp_path


def log_in(docker, registry, **entry):
    docker.joinpath("config.json").write_text(json.dumps({"auths": {registry: entry or {"auth": BASIC}}}))


def app(server, name="1"):
    return Reference.parse(f"{server.name}/app:{name}")


def refused(registries, reference, kind=FarmError):
    with pytest.raises(kind) as caught:
        registries.manifest(reference)
    message = caught.value.message
    assert not [secret for secret in SECRETS if secret in f"{message} {caught.value.details}"]
    return message


def test_documents_are_read_over_one_connection_and_once_where_a_digest_names_them(server, docker):
    registries = Registries(docker, {})
    index = registries.manifest(app(server))
    assert (index.digest, index.media_type, index.content) == (digest_of(INDEX), OCI_INDEX, INDEX)
    for _twice in range(2):
        assert registries.manifest(app(server).at(digest_of(INDEX))).content == INDEX
        assert registries.blob(app(server), digest_of(CONFIG)) == CONFIG
        assert registries.digest(app(server)) == digest_of(INDEX)
    assert registries.manifest(app(server, "2")) is None
    assert registries.digest(app(server, "2")) is None
    assert registries.blob(app(server), digest_of(OTHER)) is None
    assert server.asked()[:4] == [
        f"GET {MANIFEST_OF}",
        f"GET /v2/app/manifests/{digest_of(INDEX)}",
        f"GET {BLOB_OF}",
        f"HEAD {MANIFEST_OF}",
    ]
    assert (len(server.requests), server.connections) == (8, 1)
    accepted = server.requests[0][2]["Accept"]
    for media_type in ("image.index.v1", "image.manifest.v1", "manifest.list.v2", "distribution.manifest.v2"):
        assert media_type in accepted


def written(registries, reference, kind=None, content=OTHER):
    """Write; returns the digest, or the message of the error that is expected."""
    if kind is None:
        return registries.put(reference, OCI_INDEX, content)
    with pytest.raises(kind) as caught:
        registries.put(reference, OCI_INDEX, content)
    assert not [secret for secret in SECRETS if secret in f"{caught.value.message} {caught.value.details}"]
    assert caught.type is kind
    return caught.value.message


@pytest.mark.parametrize("auth", [None, "basic", "token"])
def test_what_is_written_is_read_with_the_same_credentials(server, docker, auth):
    server.auth = auth
    log_in(docker, server.name)
    registries = Registries(docker, {})
    assert registries.digest(app(server), to_push=True) == digest_of(INDEX)
    assert written(registries, app(server)) == digest_of(OTHER)
    assert written(registries, app(server).at(digest_of(OTHER))) == digest_of(OTHER)
    assert server.written == [(MANIFEST_OF, OCI_INDEX), (f"/v2/app/manifests/{digest_of(OTHER)}", OCI_INDEX)]
    assert registries.digest(app(server)) == digest_of(OTHER)
    assert registries.manifest(app(server)).content == OTHER
    assert server.scopes == ["repository:app:pull,push"] * (auth == "token")


def test_a_token_for_reading_does_not_do_for_writing(server, docker):
    server.auth = "token"
    log_in(docker, server.name)
    registries = Registries(docker, {})
    assert registries.manifest(app(server)).content == INDEX
    assert written(registries, app(server)) == digest_of(OTHER)
    assert server.scopes == ["repository:app:pull", "repository:app:pull,push"]


@pytest.mark.parametrize(
    ("status", "text", "wants_tls"),
    [
        (400, b"Client sent an HTTP request to an HTTPS server.\n", True),
        (400, b"<h1>The plain HTTP request was sent to HTTPS port</h1>", True),
        (400, b"an invalid name", False),
        (404, b"Client sent an HTTP request to an HTTPS server.\n", False),
    ],
)
def test_an_answer_may_say_that_tls_is_wanted(server, status, text, wants_tls):
    server.faults["/v2/"] = [{"status": status, "body": text}]
    connections = _http.Connections(lambda _origin: pytest.fail("no TLS yet"))
    expected = pytest.raises(_http.WrongScheme, match="HTTPS only") if wants_tls else contextlib.nullcontext()
    with expected:
        origin = _http.Origin("http", "127.0.0.1", server.server_port)
        response = connections.request("GET", origin, "/v2/", {}, 1000, time.monotonic() + 20)
        assert (response.status, response.body) == (status, text)


@pytest.mark.parametrize(
    ("demanded", "asked"),
    [
        ("", ["repository:app:pull", "repository:app:pull,push"]),
        ("repository:app:pull repository:base:pull", None),
        ("repository:app:pull,push,delete", ["repository:app:pull,push,delete"] * 2),
    ],
)
def test_a_token_is_for_what_the_registry_demands(server, docker, demanded, asked):
    server.auth, server.demanded = "token", demanded
    log_in(docker, server.name)
    registries = Registries(docker, {})
    assert registries.manifest(app(server)).content == INDEX
    assert written(registries, app(server)) == digest_of(OTHER)
    # What is demanded for reading does not do for writing.
    assert server.scopes == (asked or [*demanded.split(), "repository:app:pull,push"])


def test_a_mirror_is_not_written_to(server, elsewhere, docker):
    registries = Registries(docker, {server.name: Settings(mirrors=(f"http://{elsewhere.name}",))})
    assert written(registries, app(server)) == digest_of(OTHER)
    assert registries.digest(app(server), to_push=True) == digest_of(OTHER)
    assert elsewhere.requests == []


@pytest.mark.parametrize("faults", [[503], ["reset"], ["gone", 429], ["written"]])
def test_a_write_that_may_pass_is_tried_again(server, docker, pauses, faults):
    server.faults = {MANIFEST_OF: list(faults)}
    assert written(Registries(docker, {}), app(server)) == digest_of(OTHER)
    assert server.contents[MANIFEST_OF] == OTHER
    assert len(pauses) == len(faults)


@pytest.mark.parametrize("status", [200, 202, 204])
def test_registries_confirm_a_write_in_several_ways(server, docker, status):
    server.faults = {MANIFEST_OF: [{"status": status}]}
    assert written(Registries(docker, {}), app(server)) == digest_of(OTHER)


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        (400, FarmError, "did not take app/manifests/1: it answered 400 Bad Request, SOMETHING: is wrong"),
        (404, FarmError, "did not take app/manifests/1: it answered 404"),
        (401, RegistryRefused, "401 Unauthorized, SOMETHING: is wrong; log in with docker login"),
        (403, RegistryRefused, "403 Forbidden, SOMETHING: is wrong; log in with docker login"),
        ({"status": 201, "headers": {"Docker-Content-Digest": "sha256:1"}}, FarmError, "it stored sha256:1, wanted"),
    ],
)
def test_a_write_that_is_refused(server, docker, pauses, fault, kind, words):
    server.faults = {MANIFEST_OF: [fault]}
    assert words in written(Registries(docker, {}), app(server), kind)
    assert (len(server.requests), pauses) == (1, [])


#: What registries answer to the push of a tag that may not be moved.
IMMUTABLE = [
    (400, "TAG_INVALID", "The image tag '1' already exists in 'app' and cannot be overwritten because the repository"),
    (412, "PRECONDITION", "Failed to process request due to 'app:1' configured as immutable."),
    (409, "TAG_IMMUTABLE", "tag is not to be changed"),
    (403, "DENIED", "this tag is immutable"),
    (405, "UNSUPPORTED", "The operation is disallowed on this registry, repository or image."),
]


@pytest.mark.parametrize(("status", "code", "message"), IMMUTABLE)
def test_a_tag_that_may_not_be_moved(server, docker, status, code, message):
    body = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
    refusal = {"status": status, "body": body}
    server.faults = {MANIFEST_OF: [dict(refusal)]}
    found = written(Registries(docker, {}), app(server), TagImmutable)
    assert f"the tag 1 of app may not be moved to {digest_of(OTHER)}, as it is immutable there: {status} " in found
    assert f"{code}: {message}; choose another tag" in found
    # Some refuse even what it stands for already, as after an answer that was lost.
    server.contents[MANIFEST_OF] = OTHER
    server.faults = {MANIFEST_OF: [dict(refusal)]}
    assert written(Registries(docker, {}), app(server)) == digest_of(OTHER)
    server.faults = {MANIFEST_OF: [dict(refusal) for _attempt in range(3)]}
    assert "is immutable there" in written(Registries(docker, {}), app(server), TagImmutable)
    server.faults = {"/v2/app/manifests/a": [dict(refusal)]}
    assert "the tag a of app" in written(Registries(docker, {}), app(server, "a"), TagImmutable)


def test_the_names_of_a_tag_and_its_repository_are_no_reasons(server, docker):
    reference = Reference.parse(f"{server.name}/immutable:immutability")
    body = json.dumps({"errors": [{"code": "DENIED", "message": "immutable:immutability: no access"}]}).encode()
    server.faults = {"/v2/immutable/manifests/immutability": [{"status": 403, "body": body}]}
    written(Registries(docker, {}), reference, RegistryRefused)


@pytest.mark.parametrize(("status", "follows"), [(301, False), (302, False), (303, False), (307, True), (308, True)])
def test_a_write_follows_only_a_redirect_that_means_it(server, elsewhere, docker, status, follows):
    server.auth = "basic"
    log_in(docker, server.name)
    server.faults = {
        MANIFEST_OF: [{"status": status, "headers": {"Location": f"http://{elsewhere.name}{MANIFEST_OF}"}}]
    }
    found = written(Registries(docker, {}), app(server), None if follows else FarmError)
    assert (found == digest_of(OTHER)) == follows
    assert [headers.get("Authorization") for _method, _path, headers in elsewhere.requests] == [None] * follows


def test_of_two_writers_the_tag_is_one_ones_whole(server, docker):
    contents = [json.dumps({"manifests": [{"n": number}] * 50}).encode() for number in range(8)]
    digests = each(contents, lambda content: written(Registries(docker, {}), app(server), content=content))
    assert digests == [digest_of(content) for content in contents]
    assert Registries(docker, {}).manifest(app(server)).content in contents


def test_many_are_read_side_by_side_with_one_token(server, docker):
    server.auth = "token"
    log_in(docker, server.name)
    server.contents.update({f"/v2/app/manifests/{number}": INDEX for number in range(40)})
    registries = Registries(docker, {})
    found = each(range(40), lambda number: registries.manifest(app(server, str(number))))
    assert [one.content for one in found] == [INDEX] * 40
    assert server.tokens == 1
    assert server.connections <= 32  # one for each thread


def test_a_connection_that_the_server_has_closed_is_made_anew(server, docker, pauses):
    registries = Registries(docker, {})
    for fault in ("gone", "reset"):
        registries.manifest(app(server))
        server.faults[MANIFEST_OF] = [fault]
        assert registries.manifest(app(server)).content == INDEX
    assert pauses == []


@pytest.mark.parametrize("auth", ["basic", "token"])
@pytest.mark.parametrize("key", ["{0}", "http://{0}", "https://{0}/v1/"])
def test_a_registry_that_wants_credentials_gets_those_of_docker_login(server, docker, auth, key):
    server.auth = auth
    log_in(docker, key.format(server.name))
    registries = Registries(docker, {})
    for _twice in range(2):
        assert registries.manifest(app(server)).content == INDEX
        assert registries.blob(app(server), digest_of(CONFIG)) == CONFIG
    assert server.tokens == (auth == "token")
    challenged = [one for one in server.requests if "Authorization" not in one[2]]
    assert len(challenged) == 1
    if auth == "token":
        server.tokens += 1  # the one that is known has expired
        assert registries.manifest(app(server)).content == INDEX


def test_an_identity_token_is_exchanged(server, docker):
    server.auth = "token"
    log_in(docker, server.name, auth=base64.b64encode(b"<token>:").decode(), identitytoken=IDENTITY)
    assert Registries(docker, {}).manifest(app(server)).content == INDEX
    assert server.asked()[1] == "POST /token"


@pytest.mark.parametrize("config", ["credsStore", "credHelpers"])
def test_a_credential_helper_is_asked(server, docker, monkeypatch, config):
    server.auth = "basic"
    docker.joinpath("config.json").write_text(
        json.dumps({config: "tests" if config == "credsStore" else {server.name: "tests"}})
    )
    helper = docker / "docker-credential-tests"
    answer = json.dumps({"ServerURL": "x", "Username": USER, "Secret": PASSWORD})
    helper.write_text(f"#!/bin/sh\n[ \"$(cat)\" = {server.name} ] && echo '{answer}'\n")
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", str(docker), prepend=":")
    assert Registries(docker, {}).manifest(app(server)).content == INDEX
    helper.write_text("#!/bin/sh\necho no keychain here; exit 1\n")
    assert "no keychain here" in refused(Registries(docker, {}), app(server))


def test_credentials_are_not_looked_up_where_none_are_asked_for(server, docker, monkeypatch):
    docker.joinpath("config.json").write_text("{")
    monkeypatch.setattr(_registry, "stored_credentials", None)
    assert Registries(docker, {}).manifest(app(server)).content == INDEX


@pytest.mark.parametrize(
    ("auth", "entry", "kind", "words"),
    [
        ("basic", None, RegistryRefused, "wants credentials, and the docker configuration has none for it: 401"),
        ("token", None, RegistryRefused, "wants credentials, and the docker configuration has none for it: 401"),
        ("basic", {"auth": base64.b64encode(b"me:wrong").decode()}, RegistryRefused, "refused the credentials of the"),
        (
            "token",
            {"auth": base64.b64encode(b"me:wrong").decode()},
            RegistryRefused,
            "its token service: 401 Unauthorized, incorrect username or password; log in with docker login",
        ),
        ("token", {"identitytoken": "old"}, RegistryRefused, "its token service: 401"),
        ("basic", {"identitytoken": "old"}, RegistryRefused, "refused the credentials of the"),
        ("basic", {"auth": "bm90aGluZw=="}, FarmError, "its credentials cannot be read from .*; repair it, or log in"),
        ("negotiate", None, FarmError, "wants credentials as negotiate"),
    ],
)
def test_refusals_say_what_to_do(server, docker, auth, entry, kind, words):
    server.auth = auth
    if entry:
        log_in(docker, server.name, **entry)
    message = refused(Registries(docker, {}), app(server), kind)
    assert message.startswith(f"registry {server.name}")
    with pytest.raises(kind, match=words):
        Registries(docker, {}).manifest(app(server))


def test_what_does_not_exist_yet_may_be_refused_even_to_those_who_may_make_it(server, docker):
    """Quay answers so for a repository that is not there."""
    server.auth = "token"
    log_in(docker, server.name)
    server.faults = {MANIFEST_OF: [401, 403]}
    for status in (401, 403):
        message = refused(Registries(docker, {}), app(server), RegistryRefused)
        assert f": {status} " in message and "SOMETHING: is wrong; log in with docker login" in message


def test_a_refused_head_is_asked_as_get(server, docker):
    server.faults = {MANIFEST_OF: [401]}
    assert Registries(docker, {}).digest(app(server)) == digest_of(INDEX)
    server.faults = {MANIFEST_OF: [{"status": 200}]}
    assert Registries(docker, {}).digest(app(server)) == digest_of(INDEX)
    server.faults = {MANIFEST_OF: [401, 401]}
    with pytest.raises(RegistryRefused):
        Registries(docker, {}).digest(app(server))


@pytest.mark.parametrize(
    ("faults", "waited"),
    [
        ([500], [0.5]),
        ([502, 503, 504, 408], [0.5, 1, 2, 4]),
        ([{"status": 429, "headers": {"Retry-After": "7"}}], [7]),
        ([{"status": 429, "headers": {"Retry-After": "86400"}}], [30]),
        ([{"status": 503, "headers": {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}}], [0.5]),
        ([{"status": 503, "headers": {"Retry-After": "soon"}}], [0.5]),
        (["reset", "cut"], [0.5, 1]),
        (["gone", "cut chunk"], [0.5, 1]),
        (["chunked"], []),
    ],
)
@pytest.mark.parametrize("kind", ["manifest", "blob"])
def test_what_may_pass_is_tried_again(server, docker, pauses, faults, waited, kind):
    path = MANIFEST_OF if kind == "manifest" else BLOB_OF
    server.faults = {path: list(faults)}
    registries = Registries(docker, {})
    if kind == "manifest":
        assert registries.manifest(app(server)).content == INDEX
    else:
        assert registries.blob(app(server), digest_of(CONFIG)) == CONFIG
    assert pauses == waited


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (500, "it answered 500 Internal Server Error, SOMETHING: is wrong, 5 times in 0 s; try again later"),
        (429, "it answered 429 Too Many Requests, SOMETHING: is wrong, 5 times"),
        ("cut", "the connection was cut after 14 bytes, 5 times"),
        ("reset", "the connection was closed without a whole answer, 5 times"),
    ],
)
def test_what_does_not_pass_is_given_up(server, docker, pauses, fault, words):
    server.faults = {MANIFEST_OF: [fault] * 5}
    message = refused(Registries(docker, {}), app(server))
    assert message.startswith(f"registry {server.name} could not be asked for app/manifests/1: {words}")
    assert len(server.requests) == 5


@pytest.mark.parametrize("status", [400, 405, 410, 418])
def test_what_will_not_pass_is_asked_for_once(server, docker, pauses, status):
    server.faults = {MANIFEST_OF: [status]}
    assert f"it answered {status}" in refused(Registries(docker, {}), app(server))
    assert len(server.requests) == 1


def test_a_token_service_that_is_busy_is_waited_for(server, docker, pauses):
    server.auth = "token"
    server.faults = {"/token": [{"status": 429, "headers": {"Retry-After": "3"}}, "reset"]}
    log_in(docker, server.name)
    assert Registries(docker, {}).manifest(app(server)).content == INDEX
    assert pauses == [3]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"status": 200, "body": b"<html>"}, "its token service answered without a token"),
        ({"status": 200, "body": b'{"token": "a\\nb"}'}, "its token service answered without a token"),
        ({"status": 404}, "its token service answered 404"),
    ],
)
def test_a_token_service_that_gives_no_token(server, docker, pauses, answer, words):
    server.auth = "token"
    server.faults = {"/token": [answer]}
    assert words in refused(Registries(docker, {}), app(server))


def test_the_time_for_a_document_is_limited(server, docker, monkeypatch):
    monkeypatch.setattr(_host, "_TIMEOUT", 0.3)
    server.faults = {MANIFEST_OF: ["slow"]}
    started = time.monotonic()
    assert "no answer in time" in refused(Registries(docker, {}), app(server))
    assert time.monotonic() - started < 2


@pytest.mark.parametrize("fault", ["large", "endless"])
def test_the_size_of_a_document_is_limited(server, docker, fault):
    server.faults = {MANIFEST_OF: [fault]}
    assert f"an answer of more than {DOCUMENT_LIMIT} bytes" in refused(Registries(docker, {}), app(server))


@pytest.mark.parametrize("fault", ["other", "cut without length"])
@pytest.mark.parametrize("path", [f"/v2/app/manifests/{digest_of(INDEX)}", BLOB_OF])
def test_content_whose_digest_does_not_fit_is_never_taken(server, docker, path, fault):
    server.faults = {path: [fault]}
    registries = Registries(docker, {})
    with pytest.raises(FarmError, match=r"has the digest sha256:.*, wanted sha256:.*; something on the way changed it"):
        if "blobs" in path:
            registries.blob(app(server), digest_of(CONFIG))
        else:
            registries.manifest(app(server).at(digest_of(INDEX)))
    # Nor is it kept.
    assert registries.blob(app(server), digest_of(CONFIG)) == CONFIG


@pytest.mark.parametrize("said", [digest_of(OTHER), "sha256:1", "md5:1", "nonsense"])
def test_the_digest_that_a_registry_gives_for_a_tag_has_to_fit(server, docker, said):
    server.faults = {MANIFEST_OF: [{"status": 200, "body": INDEX, "headers": {"Docker-Content-Digest": said}}]}
    refused(Registries(docker, {}), app(server))


def test_a_digest_of_sha512(server, docker):
    name = digest_of(CONFIG, "sha512")
    server.contents[f"/v2/app/blobs/{name}"] = CONFIG
    assert Registries(docker, {}).blob(app(server), name) == CONFIG


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirected_blob_is_read_elsewhere_without_the_credentials(server, elsewhere, docker, status):
    server.auth = "basic"
    log_in(docker, server.name)
    to = f"http://{elsewhere.name}{BLOB_OF}?signature=abc"
    registries = Registries(docker, {})
    registries.manifest(app(server))
    server.faults = {BLOB_OF: [{"status": status, "headers": {"Location": to}}]}
    assert registries.blob(app(server), digest_of(CONFIG)) == CONFIG
    ((_method, path, headers),) = elsewhere.requests
    assert path.endswith("?signature=abc") and "Authorization" not in headers


@pytest.mark.parametrize("text", ["latest", "sha256:../../other/manifests/1", "sha256:abc", "md5:" + "0" * 32, ""])
def test_what_a_registry_calls_a_digest_and_is_none_gets_into_no_address(server, docker, text):
    registries = Registries(docker, {})
    calls = (
        lambda: registries.manifest(app(server).at(text)),
        lambda: registries.blob(app(server), text),
        lambda: registries.has_blob(app(server), text),
        lambda: registries.save(app(server), text, io.BytesIO()),
        lambda: registries.referrers(app(server), text),
        lambda: registries.copy_blob(app(server), Reference.parse(f"{server.name}/other"), text),
    )
    for call in calls:
        with pytest.raises(FarmError, match="wanted sha256:"):
            call()
    assert not server.requests


def test_a_digest_in_a_header_that_is_none_is_refused(server, docker):
    headers = {"Docker-Content-Digest": "latest"}
    server.faults = {MANIFEST_OF: [{"status": 200, "headers": headers}]}
    with pytest.raises(FarmError, match=r"'latest'.*wanted sha256:"):
        Registries(docker, {}).digest(app(server))


@pytest.mark.parametrize("auth", ["basic", "token"])
def test_whom_a_redirect_leads_to_cannot_demand_the_credentials(server, elsewhere, docker, auth):
    log_in(docker, server.name)
    elsewhere.auth, elsewhere.realm = auth, f"http://{elsewhere.name}/token"
    to = f"http://{elsewhere.name}{BLOB_OF}?signature=of-the-store"
    server.faults = {BLOB_OF: [{"status": 307, "headers": {"Location": to}}] * 9}
    with pytest.raises(FarmError) as caught:
        Registries(docker, {}).blob(app(server), digest_of(CONFIG))
    shown = json.dumps([elsewhere.requests, server.requests])
    assert BASIC not in shown and elsewhere.asked() == [f"GET {BLOB_OF}?signature=of-the-store"]
    assert f"http://{elsewhere.name}, where it sent this client, answered 401" in caught.value.message
    assert "of-the-store" not in caught.value.message


def test_a_redirect_on_the_same_server_keeps_the_credentials(server, docker):
    server.auth = "basic"
    log_in(docker, server.name)
    server.contents["/v2/app/manifests/other"] = INDEX
    server.faults = {MANIFEST_OF: [{"status": 307, "headers": {"Location": "other"}}]}
    assert Registries(docker, {}).manifest(app(server)).content == INDEX


@pytest.mark.parametrize(
    "place", ["1?signature=x", "ftp://x/?signature=x", "http://[::1", "http://127.0.0.1:1/?signature=x"]
)
def test_a_redirect_that_leads_nowhere(server, docker, pauses, place):
    server.faults = {MANIFEST_OF: [{"status": 307, "headers": {"Location": place}}] * 6}
    refused(Registries(docker, {}), app(server))


def test_a_mirror_is_read_before_the_registry_and_may_fail(server, elsewhere, docker, pauses):
    settings = {server.name: Settings(mirrors=(f"http://{elsewhere.name}/proxy/", "127.0.0.1:1"))}
    there = f"/v2/proxy{MANIFEST_OF[3:]}"
    elsewhere.contents[there] = INDEX
    assert Registries(docker, settings).manifest(app(server)).content == INDEX
    assert (server.requests, elsewhere.asked()) == ([], [f"GET {there}?ns={server.name}"])
    del elsewhere.contents[there]
    for fault in (404, 500, 403, "reset"):
        elsewhere.faults = {there: [fault]}
        assert Registries(docker, settings).manifest(app(server)).content == INDEX
    assert len(server.requests) == 4 and pauses == []
    assert Registries(docker, settings, mirrors=False).manifest(app(server)).content == INDEX
    assert len(elsewhere.requests) == 5


def test_a_registry_that_is_not_there(docker):
    message = refused(Registries(docker, {}), Reference.parse("127.0.0.1:1/app"))
    assert message == "registry 127.0.0.1:1 could not be asked for app/manifests/latest: connection refused"
    message = refused(Registries(docker, {}), Reference.parse("no.such.host.invalid/app"))
    assert "the host name 'no.such.host.invalid' cannot be resolved" in message


def test_plain_http_is_believed_of_this_host_and_of_what_is_configured_so(server, docker):
    message = refused(Registries(docker, {server.name: Settings(http=False)}), app(server))
    assert "it speaks plain HTTP; that is believed only of loopback addresses and of a registry" in message
    for settings in (Settings(http=True), Settings(http=True, insecure=True)):
        assert Registries(docker, {server.name: settings}).manifest(app(server)).content == INDEX


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("registry.example.com/app:1", "http://registry.example.com/v2/app/manifests/1"),
        ("registry.example.com:5000/a/b", "http://registry.example.com:5000/v2/a/b/manifests/latest"),
        ("[2001:db8::5]:5000/app:1", "http://[2001:db8::5]:5000/v2/app/manifests/1"),
        ("busybox", "http://registry-1.docker.io/v2/library/busybox/manifests/latest"),
        ("index.docker.io/acme/app:1", "http://registry-1.docker.io/v2/acme/app/manifests/1"),
    ],
)
def test_names_and_the_environments_proxy(server, docker, monkeypatch, name, path):
    reference = Reference.parse(name)
    monkeypatch.setenv("HTTP_PROXY", f"http://us%65r:{PASSWORD}@{server.name}")
    server.contents[urlsplit(path).path] = INDEX
    registries = Registries(docker, {reference.registry: Settings(http=True)})
    assert registries.manifest(reference).content == INDEX
    ((_method, asked, headers),) = server.requests
    assert asked == path
    assert base64.b64decode(headers["Proxy-Authorization"].split()[1]).decode() == f"user:{PASSWORD}"
    monkeypatch.setenv("HTTP_PROXY", f"http://user:{PASSWORD}@127.0.0.1:1")
    message = refused(Registries(docker, {reference.registry: Settings(http=True)}), reference)
    assert "connection refused (through the environment's proxy http://127.0.0.1:1)" in message


@pytest.mark.parametrize(
    ("url", "no_proxy", "proxied"),
    [
        ("https://r.example.com", "", True),
        ("https://localhost:5000", "", False),
        ("https://127.3.4.5", "", False),
        ("https://[::1]:5000", "", False),
        ("https://r.example.com", "*", False),
        ("https://r.example.com", "other.com, EXAMPLE.com", False),
        ("https://r.example.com", ".example.com", False),
        ("https://r.example.com", "*.example.com", False),
        ("https://badexample.com", "example.com", True),
        ("https://r.example.com:5000", "example.com:5000", False),
        ("https://r.example.com:5001", "example.com:5000", True),
        ("https://10.1.2.3", "10.0.0.0/8", False),
        ("https://11.1.2.3", "10.0.0.0/8", True),
        ("https://10.1.2.3", "10.1.2.3", False),
        ("https://[2001:db8::5]", "2001:db8::/32", False),
        ("https://[2001:db8::5]:5000", "[2001:db8::5]:5000", False),
    ],
)
def test_what_goes_through_the_proxy_is_as_go_has_it(monkeypatch, url, no_proxy, proxied):
    monkeypatch.setenv("https_proxy", "proxy.example.com:3128")
    monkeypatch.setenv("NO_PROXY", no_proxy)
    proxy = _http.proxy_of(_http.Origin.parse(url)[0])
    assert (proxy and proxy.port) == (3128 if proxied else None)


def test_a_proxy_that_is_none_of_http_is_named_without_its_password(docker, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", f"socks5://u:{PASSWORD}@proxy.example.com:1080")
    message = refused(Registries(docker, {}), Reference.parse("r.example.com/app"))
    assert "proxy socks5://proxy.example.com:1080 is none of HTTP" in message


@pytest.fixture(scope="module")
def authority(issue):
    """A CA, a server's certificate for 127.0.0.1 with its key, a client's with the same, all PEM."""
    ca = issue("tests")
    certificate, key = issue("r", ca, usage="server", names=["127.0.0.1"])
    return ca[0], certificate, key, issue("c", ca, usage="client", named=False, key=key)[0]


@pytest.fixture
def secure(authority, tmp_path):
    """The server, behind TLS."""
    with served(Server()) as made:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        chain = tmp_path / "chain.pem"
        chain.write_bytes(authority[1] + authority[2])
        context.load_cert_chain(chain)
        made.socket = context.wrap_socket(made.socket, server_side=True, do_handshake_on_connect=False)
        yield made


def test_a_private_authority_is_trusted_where_it_is_configured(secure, authority, docker, monkeypatch, tmp_path):
    message = refused(Registries(docker, {}), app(secure))
    assert "its certificate is not trusted: unable to get local issuer certificate; name its authority in" in message
    assert f"/etc/docker/certs.d/{secure.name}/ca.crt" in message
    for settings in (
        Settings(authorities=(authority[0],)),
        Settings(insecure=True),
        Settings(http=True, insecure=True),
    ):
        assert Registries(docker, {secure.name: settings}).manifest(app(secure)).content == INDEX
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    (tmp_path / "ca.pem").write_bytes(authority[0])
    assert Registries(docker, {}).manifest(app(secure)).content == INDEX
    monkeypatch.delenv("SSL_CERT_FILE")
    directory = tmp_path / "certs.d" / secure.name
    directory.mkdir(parents=True)
    (directory / "ca.crt").write_bytes(authority[0])
    assert Registries(docker, {}).manifest(app(secure)).content == INDEX
    (directory / "ca.crt").write_text("nonsense")
    assert "cannot be used" in refused(Registries(docker, {}), app(secure))


def test_an_authority_is_believed_of_the_token_service_too(server, secure, authority, docker, tmp_path):
    """It is no registry, and nobody declares anything of it."""
    server.auth, server.realm, server.tokens = "token", f"https://{secure.name}/token", 1
    log_in(docker, server.name)
    message = refused(Registries(docker, {server.name: Settings(http=True)}), app(server))
    assert f"its token service https://{secure.name}: its certificate is not trusted" in message
    declared = {server.name: Settings(http=True, authorities=(authority[0],)), "x": Settings(authorities=(b"none",))}
    assert Registries(docker, declared).manifest(app(server)).content == INDEX
    assert Registries(docker, declared).authorities == (authority[0],)
    secure.tokens = 0
    (tmp_path / "certs.d" / server.name).mkdir(parents=True)
    (tmp_path / "certs.d" / server.name / "ca.crt").write_bytes(authority[0])
    assert Registries(docker, {server.name: Settings(http=True)}).manifest(app(server)).content == INDEX


def test_a_client_certificate_is_shown_where_one_is_configured(secure, authority, docker, tmp_path):
    context = secure.socket.context
    context.load_verify_locations(cadata=authority[0].decode())
    context.verify_mode = ssl.CERT_REQUIRED
    pair = Settings(authorities=(authority[0],), key_pairs=((authority[3], authority[2]),))
    assert Registries(docker, {secure.name: pair}).manifest(app(secure)).content == INDEX
    directory = tmp_path / "certs.d" / secure.name
    directory.mkdir(parents=True)
    for name, content in (("ca.crt", authority[0]), ("client.cert", authority[3]), ("client.key", authority[2])):
        (directory / name).write_bytes(content)
    assert Registries(docker, {}).manifest(app(secure)).content == INDEX
    assert list(tmp_path.glob("tmp*")) == []


CHALLENGES = [
    (['Basic realm="a b"'], [("basic", {"realm": "a b"})]),
    (
        ['Bearer realm="https://auth.example.com/token",service="r",scope="repository:a:pull,push"'],
        [("bearer", {"realm": "https://auth.example.com/token", "service": "r", "scope": "repository:a:pull,push"})],
    ),
    (
        ['Basic realm="x", Bearer realm = "y\\"z" , error=invalid'],
        [("basic", {"realm": "x"}), ("bearer", {"realm": 'y"z', "error": "invalid"})],
    ),
    (["Negotiate", "BASIC"], [("negotiate", {}), ("basic", {})]),
    ([""], []),
]


@pytest.mark.parametrize(("headers", "expected"), CHALLENGES)
def test_challenges(headers, expected):
    found = _registry_auth.parse_challenges(headers)
    assert [(challenge.scheme, challenge.parameters) for challenge in found] == expected


def test_a_mirror_that_failed_is_not_asked_again(server, elsewhere, docker, pauses):
    elsewhere.faults = {MANIFEST_OF: [500, 500, 500]}
    registries = Registries(docker, {server.name: Settings(mirrors=(f"http://{elsewhere.name}",))})
    for _time in range(2):
        assert registries.manifest(app(server)).content == INDEX
    assert (len(elsewhere.requests), len(server.requests)) == (1, 2)
    # One that works is asked each time.
    elsewhere.faults = {}
    registries = Registries(docker, {server.name: Settings(mirrors=(f"http://{elsewhere.name}",))})
    for _time in range(2):
        assert registries.manifest(app(server)).content == INDEX
    assert (len(elsewhere.requests), len(server.requests)) == (3, 2)


def test_registries_of_a_task(tmp_path):
    node = Node("n", "tcp://n:1", files={"buildkitd.toml": b"[registry.'r.example.com']\nhttp = true\n"})
    for mirrors in (True, False):
        found = Registries.of({"docker_config": str(tmp_path)}, [node], mirrors)
        assert (found._docker_config, found._settings, found._mirrors) == (
            tmp_path,
            {"r.example.com": Settings(http=True)},
            mirrors,
        )
