# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import errno
import http.client
import http.server
import json
import os
import socket
import socketserver
import ssl
import sys
import threading
import time
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._context import apply as _docker_context
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker import (
    client_certificate as _client_certificate,
)
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker import engine as _engine
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker import transport as _transport
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker.client import conversation
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker.client_certificate import why_refused
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker.context_store import ContextStore, TlsFiles
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker.endpoint import Endpoint
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker.endpoint_info import endpoint_info
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker.engine import EngineInfo, Route
from ansible_collections.buildfarm.multiarch.plugins.module_utils._platform.platform import Platform
from ansible_collections.buildfarm.multiarch.tests.unit.certificates import issue, made_by_openssl

pytest.importorskip("cryptography")

#: What an engine answers, shortened.
VERSION = {"Version": "28.5.2", "ApiVersion": "1.51", "Os": "linux", "Arch": "arm64", "KernelVersion": "6.17"}


class Answer(http.server.BaseHTTPRequestHandler):
    """Answers like an engine, or as the test wants it."""

    document: Any = VERSION

    def do_GET(self) -> None:
        body = b"OK" if self.path == "/_ping" else json.dumps(self.document).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "client"

    def log_message(self, *args: Any) -> None:
        pass


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


class UnixServer(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


@contextmanager
def serving(server: socketserver.BaseServer) -> Iterator[socketserver.BaseServer]:
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def engine(context: Optional[ssl.SSLContext] = None, document: Any = ...) -> Iterator[str]:
    """Serve at 127.0.0.1, over TLS if there is a context; gives the URL."""

    class Handler(Answer):
        def setup(self) -> None:
            if context is not None:
                self.request = context.wrap_socket(self.request, server_side=True)
            super().setup()

    Handler.document = VERSION if document is ... else document
    with serving(Server(("127.0.0.1", 0), Handler)) as server:
        yield f"tcp://127.0.0.1:{server.server_address[1]}"  # type: ignore[index]


class Authority:
    """A CA with files of certificates."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir()
        self.pair = issue(directory.name, days=9, named=False)
        self.ca = directory / "ca.pem"
        self.ca.write_bytes(self.pair[0])

    def issue(
        self, name: str, server: bool, lasts: timedelta = timedelta(days=1), sans: Optional[List[str]] = None
    ) -> TlsFiles:
        files = TlsFiles(self.ca, self.directory / f"{name}-{server}.pem", self.directory / f"{name}-{server}-key.pem")
        names = [name] if sans is None else sans
        days = lasts / timedelta(days=1)
        pair = issue(name, self.pair, days, usage="server" if server else "client", names=names)
        for path, content in zip((files.cert, files.key), pair):
            assert path
            path.write_bytes(content)
        return files

    def listener(self, name: str = "127.0.0.1", mutual: bool = True, **options: Any) -> ssl.SSLContext:
        files = self.issue(name, server=True, **options)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(str(files.cert), str(files.key))
        context.load_verify_locations(str(self.ca))
        context.verify_mode = ssl.CERT_REQUIRED if mutual else ssl.CERT_NONE
        return context


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("farm") / "farm")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("other") / "other")


@pytest.fixture
def store(tmp_path: Path) -> ContextStore:
    return ContextStore(tmp_path / "docker")


def probe(url: str, store: ContextStore, tls: Optional[TlsFiles] = None, timeout: float = 3) -> EngineInfo:
    return _engine.probe(Endpoint.parse(url), store, timeout, tls)


def declare(store: ContextStore, context: Dict[str, Any]) -> None:
    params = {"docker_config": str(store.config_dir), "state": "present", "contexts": [context]}
    params = {**params, "owner": None, "purge": False, "builder": None}
    _docker_context.run(params, False, None)  # type: ignore[arg-type]


def test_plain_tcp(store: ContextStore) -> None:
    with engine() as url:
        found = probe(url, store)
    assert found == EngineInfo(
        Endpoint.parse(url), True, "28.5.2", "1.51", "linux", "arm64", Platform("linux", "arm64"), "none"
    )
    assert found.as_dict()["platform"] == "linux/arm64"


def test_unix_socket(store: ContextStore, tmp_path: Path) -> None:
    path = tmp_path / "docker.sock"
    missing = probe(f"unix://{path}", store)
    assert (missing.error_kind, f"engine unix://{path}: no such socket" in str(missing.error)) == ("socket", True)
    with serving(UnixServer(str(path), Answer)):
        assert probe(f"unix://{path}", store).version == "28.5.2"
    assert probe(f"unix://{path}", store).error_kind == "refused"


@pytest.mark.parametrize("mutual", [True, False])
def test_tls_tells_who_is_let_in(store: ContextStore, authority: Authority, mutual: bool) -> None:
    with engine(authority.listener(mutual=mutual)) as url:
        found = probe(url, store, authority.issue("client", server=False))
    assert (found.reachable, found.tls) == (True, "mutual" if mutual else "server")
    expires = datetime.strptime(str(found.certificate_expires), "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
    assert abs(expires - datetime.now(timezone.utc) - timedelta(days=1)) < timedelta(minutes=1)
    assert (found.tls_verified, found.certificate_subject, found.certificate_days_left) == (True, "CN=127.0.0.1", 0)


def test_context_brings_its_certificates(store: ContextStore, authority: Authority) -> None:
    files = authority.issue("client", server=False)
    with engine(authority.listener()) as url:
        item = {"name": "arm1", "host": url, "ca": str(files.ca), "cert": str(files.cert), "key": str(files.key)}
        declare(store, item)
        assert probe("arm1", store).tls == "mutual"
    gone = probe("arm1", store)
    assert (gone.error_kind, gone.error) == (
        "refused",
        f"engine arm1 ({url}): connection refused; is the engine running and listening there?",
    )


def test_unverified_context(store: ContextStore, stranger: Authority) -> None:
    with engine(stranger.listener("elsewhere", mutual=False)) as url:
        declare(store, {"name": "arm1", "host": url, "skip_tls_verify": True})
        found = probe("arm1", store)
    assert (found.reachable, found.tls, found.tls_verified) == (True, "server", False)
    assert (found.certificate_subject, found.certificate_expires, found.certificate_days_left) == (None, None, None)


def test_tls_troubles(store: ContextStore, authority: Authority, stranger: Authority) -> None:
    client = authority.issue("client", server=False)
    foreign = stranger.issue("client", server=False)
    with engine(authority.listener()) as url:
        wrong_ca = probe(url, store, TlsFiles(stranger.ca, client.cert, client.key))
        wrong_client = probe(url, store, TlsFiles(authority.ca, foreign.cert, foreign.key))
        no_client = probe(url, store, TlsFiles(authority.ca))
        no_file = probe(url, store, TlsFiles(authority.ca, client.cert, Path("/nowhere/key.pem")))
        wrong_key = probe(url, store, TlsFiles(authority.ca, client.cert, foreign.key))
    with engine(authority.listener("arm1")) as url:
        wrong_name = probe(url, store, client)
    with engine(authority.listener(lasts=timedelta(minutes=-1))) as url:
        expired = probe(url, store, client)
    with engine() as url:
        no_tls = probe(url, store, client)
    assert (wrong_ca.error_kind, "not signed by the given CA" in str(wrong_ca.error)) == ("untrusted", True)
    assert (wrong_client.error_kind, no_client.error_kind) == ("client_certificate", "client_certificate")
    assert "refused this client's certificate" in str(wrong_client.error)
    assert f"{foreign.cert} is not signed by {authority.ca}" in str(wrong_client.error)
    assert "wants a client certificate" in str(no_client.error)
    assert (no_file.error_kind, "/nowhere/key.pem: no such file" in str(no_file.error)) == ("files", True)
    assert (wrong_key.error_kind, "matching key" in str(wrong_key.error)) == ("files", True)
    assert (wrong_name.error_kind, "not valid for '127.0.0.1'" in str(wrong_name.error)) == ("name", True)
    assert (expired.error_kind, "expired" in str(expired.error)) == ("expired", True)
    assert (no_tls.error_kind, "does not speak TLS" in str(no_tls.error)) == ("tls", True)


@pytest.mark.parametrize(
    ("what", "given_ca", "message"),
    [
        ("expired", True, "has expired, or its CA has; renew it"),
        ("early", True, "is not valid yet; do the clocks agree?"),
        ("self-signed", True, "is self-signed; wanted one that is signed by the engine's CA"),
        ("self-signed", False, "is self-signed"),
        ("stranger", True, "is not signed by "),
        ("stranger", False, "signed by the engine's CA?"),
        ("server", True, "is not for clients, its extended key usage lacks clientAuth"),
        ("weak", True, "it is signed with SHA-1, which the engine, a Go program, refuses"),
        ("good", True, "is in order for "),
    ],
)
def test_what_is_wrong_with_a_client_is_found_here(
    authority: Authority, stranger: Authority, tmp_path: Path, what: str, given_ca: bool, message: str
) -> None:
    """Engines before Go 1.21 say "bad certificate" of them all."""
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    made = {
        "early": lambda: issue("client", authority.pair, days=9, since=1),
        "self-signed": lambda: issue("client"),
        "weak": lambda: made_by_openssl(tmp_path / "weak", "-sha1", name="client", issuer=authority.pair),
    }
    if what in made:
        for path, content in zip((cert, key), made[what]()):
            path.write_bytes(content)
        files = TlsFiles(authority.ca, cert, key)
    elif what == "expired":
        files = authority.issue("old", server=False, lasts=timedelta(minutes=-1))
    else:
        files = (stranger if what == "stranger" else authority).issue(what, server=what == "server")
    assert files.cert and files.key
    said = why_refused(authority.ca if given_ca else None, files.cert, files.key)
    assert str(files.cert) in said
    assert message in said


def test_certificates_that_are_none_for_servers(store: ContextStore, authority: Authority) -> None:
    client = authority.issue("client", server=False)
    listener = authority.listener()
    listener.load_cert_chain(str(client.cert), str(client.key))
    with engine(listener) as url:
        wrong_kind = probe(url, store, client)
    assert (wrong_kind.error_kind, "is not for servers" in str(wrong_kind.error)) == ("untrusted", True)


@pytest.mark.parametrize("name", ["localhost", "elsewhere"])
@pytest.mark.parametrize("ignored", [False, True])
def test_a_common_name_is_no_name(
    store: ContextStore, authority: Authority, monkeypatch: pytest.MonkeyPatch, name: str, ignored: bool
) -> None:
    """Whether it is the engine's or another's, and where Python cannot keep OpenSSL from looking at it."""
    if ignored:
        monkeypatch.setattr(ssl.SSLContext, "hostname_checks_common_name", True)
    client = authority.issue("client", server=False)
    with engine(authority.listener(name, sans=[])) as url:
        found = probe(url.replace("127.0.0.1", "localhost"), store, client)
        declare(store, {"name": "arm1", "host": url, "skip_tls_verify": True, "ca": str(client.ca)})
        unverified = probe("arm1", store)
    assert (found.reachable, found.error_kind) == (False, "name")
    assert "not valid for 'localhost': it has no subject alternative name" in str(found.error)
    assert unverified.error_kind == "client_certificate"


def test_a_context_without_verification_of_an_engine_without_tls(store: ContextStore) -> None:
    """Docker would speak TLS too: leaving out the verification does not make it plain TCP."""
    with engine() as url:
        declare(store, {"name": "arm1", "host": url, "skip_tls_verify": True})
        found = probe("arm1", store)
    assert (found.reachable, found.error_kind) == (False, "tls")
    assert "is TLS enabled there?" in str(found.error)


@pytest.mark.parametrize("document", [{}, [], {"Os": "linux"}, "x", None])
def test_something_else_listens(store: ContextStore, document: Any) -> None:
    with engine(document=document) as url:
        found = probe(url, store)
    assert (found.error_kind, "is not a Docker engine's" in str(found.error)) == ("answer", True)


def test_unknown_architecture_has_no_platform(store: ContextStore) -> None:
    with engine(document={**VERSION, "Arch": "sparc64"}) as url:
        found = probe(url, store)
    assert (found.reachable, found.architecture, found.platform) == (True, "sparc64", None)


def test_time_limit_holds_for_all_together(store: ContextStore) -> None:
    """One server accepts and is silent, one sends a byte now and then, one host's name takes forever."""

    def drip(listener: socket.socket) -> None:
        connection, _address = listener.accept()
        # Until the client has gone.
        with connection, contextlib.suppress(OSError):
            while connection.send(b"H"):
                time.sleep(0.1)

    real = socket.getaddrinfo

    def slow(host: Any, *args: Any, **options: Any) -> Any:
        if host == "slow.example.com":
            time.sleep(5)
        return real(host, *args, **options)

    with engine() as good, socket.create_server(("127.0.0.1", 0)) as silent, socket.create_server(("", 0)) as dripping:
        threading.Thread(target=drip, args=(dripping,), daemon=True).start()
        urls = [f"tcp://127.0.0.1:{listener.getsockname()[1]}" for listener in (silent, dripping)]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(socket, "getaddrinfo", slow)
            started = time.monotonic()
            endpoints = [Endpoint.parse(url) for url in (*urls, "tcp://slow.example.com", good)]
            found = _engine.probe_all(endpoints, store, 0.6)
            took = time.monotonic() - started
    assert [info.error_kind for info in found] == ["timeout", "timeout", "timeout", None]
    assert (
        found[0].error
        == f"engine {urls[0]}: no answer within 0.6 s; is the host up, and does no firewall drop the packets?"
    )
    assert took < 1.5


@pytest.fixture
def fake_ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", f"{directory}{os.pathsep}{os.environ['PATH']}")
    return directory / "ssh"


def test_ssh(store: ContextStore, fake_ssh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = json.dumps(VERSION)
    fake_ssh.write_text(
        f'#!/bin/sh\necho "$@" > {tmp_path}/argv\nwhile read -r line; do case "$line" in GET*)\n'
        f"printf 'HTTP/1.1 200 OK\\r\\nContent-Length: {len(body)}\\r\\n\\r\\n%s' '{body}';; esac; done\nsleep 60\n"
    )
    fake_ssh.chmod(0o755)
    started = time.monotonic()
    (tmp_path / "hosts").touch()
    monkeypatch.setenv("BUILDFARM_SSH_KNOWN_HOSTS", f"{tmp_path}/hosts")
    found = probe("ssh://me@arm1:2222/run/x.sock", store)
    assert (found.version, found.tls) == ("28.5.2", "none")
    assert time.monotonic() - started < 2
    argv = (tmp_path / "argv").read_text().split()
    assert f'UserKnownHostsFile="{tmp_path}/hosts"' in argv
    assert argv[argv.index("-T") :] == [
        *("-T", "-l", "me", "-p", "2222", "--", "arm1"),
        *("docker", "--host", "unix:///run/x.sock", "system", "dial-stdio"),
    ]


def test_a_path_is_one_word_for_the_shell_of_an_ssh_host(store: ContextStore, fake_ssh: Path, tmp_path: Path) -> None:
    fake_ssh.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/argv\n')
    fake_ssh.chmod(0o755)
    probe("ssh://arm1/run/$(touch x);y.sock", store)
    assert "--host 'unix:///run/$(touch x);y.sock' system" in (tmp_path / "argv").read_text()


#: An ssh that notes its process id in a file, and takes what it gets to a port of this machine and back.
RELAY = """\
#!{python}
import os, select, socket, sys
with open({pids!r}, "a") as pids:
    print(os.getpid(), file=pids)
there = socket.create_connection(("127.0.0.1", {port}))
while True:
    for one in select.select([0, there], [], [])[0]:
        data = os.read(0, 65536) if one == 0 else there.recv(65536)
        data or sys.exit()
        there.sendall(data) if one == 0 else os.write(1, data)
"""


def test_connect_over_ssh(store: ContextStore, fake_ssh: Path, tmp_path: Path) -> None:
    """By the same program, which is ended with the client; a failure is told in plain words."""
    pytest.importorskip("docker")
    pids = tmp_path / "pids"
    with engine() as url:
        fake_ssh.write_text(RELAY.format(python=sys.executable, pids=str(pids), port=url.rpartition(":")[2]))
        fake_ssh.chmod(0o755)
        client = _engine.connect(Endpoint.parse("ssh://me@arm1"), store, 9)
        assert client.version()["Version"] == "28.5.2"
        started = pids.read_text().split()
        assert Path(f"/proc/{started[-1]}").exists()
        client.close()
    assert [pid for pid in started if Path(f"/proc/{pid}").exists()] == []
    fake_ssh.write_text("#!/bin/sh\necho 'Host key verification failed.' >&2; exit 255\n")
    with pytest.raises(FarmError, match=r"engine ssh://me@arm1: .* over ssh: Host key verification failed\."):
        _engine.connect(Endpoint.parse("ssh://me@arm1"), store, 9)
    # Nor is one left that gives no answer.
    fake_ssh.write_text(f"#!/bin/sh\necho $$ >> {pids}; exec sleep 60\n")
    with pytest.raises(FarmError, match="no answer within 1 s"):
        _engine.connect(Endpoint.parse("ssh://me@arm1"), store, 1)
    assert [pid for pid in pids.read_text().split() if Path(f"/proc/{pid}").exists()] == []


def test_ssh_says_why_it_fails(store: ContextStore, fake_ssh: Path) -> None:
    fake_ssh.write_text("#!/bin/sh\necho 'me@arm1: Permission denied (publickey).' >&2; exit 255\n")
    fake_ssh.chmod(0o755)
    found = probe("ssh://me@arm1", store)
    assert found.error_kind == "ssh"
    assert str(found.error).endswith("over ssh: me@arm1: Permission denied (publickey).")


def test_resolve(store: ContextStore) -> None:
    tls = TlsFiles(ca=Path("/ca.pem"))
    tcp, unix = Endpoint.parse("tcp://arm1:2376"), Endpoint.parse("unix:///x")
    assert _engine.resolve(tcp, store, tls) == Route(tcp, tls)
    assert _engine.resolve(unix, store, tls) == Route(unix)
    with pytest.raises(FarmError, match=r"no docker context 'arm1' in .*; there: none"):
        _engine.resolve(Endpoint.parse("arm1"), store)
    (store.meta_dir("arm1")).mkdir(parents=True)
    (store.meta_dir("arm1") / "meta.json").write_text('{"Name": "arm1", "Endpoints": {"docker": {"Host": "tcp://h"}}}')
    assert _engine.resolve(Endpoint.parse("arm1"), store).url.port == 80


def test_connect_without_the_library(store: ContextStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "docker", None)
    with pytest.raises(FarmError, match="'docker' is not installed"):
        _engine.connect(Endpoint.parse("unix:///x"), store)


def test_connect_says_plainly_what_is_wrong(store: ContextStore) -> None:
    pytest.importorskip("docker")
    with pytest.raises(FarmError, match=r"engine unix:///nowhere\.sock: no such socket"):
        _engine.connect(Endpoint.parse("unix:///nowhere.sock"), store, 1)


def test_connect_takes_the_way_and_the_ca_of_the_endpoint(
    store: ContextStore, authority: Authority, stranger: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("docker")
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(stranger.ca))
    with engine(authority.listener()) as url:
        files = authority.issue("client", server=False)
        assert _engine.connect(Endpoint.parse(url), store, 3, files).version()["Version"] == "28.5.2"
    with engine() as url:
        assert _engine.connect(Endpoint.parse(url), store, 3).version()["Version"] == "28.5.2"


def test_info_module(store: ContextStore) -> None:
    params: Dict[str, Any] = {
        "docker_config": str(store.config_dir),
        "timeout": 2,
        "require_reachable": False,
        **dict.fromkeys(("ca", "cert", "key")),
    }
    with engine() as url:
        params["endpoints"] = ["nosuch", url]
        found = endpoint_info(params, False, None)["endpoints"]  # type: ignore[arg-type]
        assert [info["reachable"] for info in found] == [False, True]
        with pytest.raises(FarmError, match="1 of 2 engines cannot be reached: no docker context 'nosuch'") as caught:
            endpoint_info({**params, "require_reachable": True}, False, None)  # type: ignore[arg-type]
    assert caught.value.details == {"endpoints": found}
    json.dumps(found)
    with pytest.raises(FarmError, match="timeout is 0"):
        endpoint_info({**params, "timeout": 0}, False, None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("exc", "kind", "words"),
    [
        (
            PermissionError(errno.EACCES, "Permission denied"),
            "socket",
            "may not open the socket; is it in group docker",
        ),
        (OSError(errno.EHOSTUNREACH, "x"), "unreachable", "no way to the host (No route to host)"),
        (OSError(errno.ENETUNREACH, "x"), "unreachable", "no way to the host (Network is unreachable)"),
        (OSError(errno.EMFILE, "Too many open files"), "unreachable", "Too many open files"),
        (ValueError("odd"), "unreachable", "odd"),
        (socket.gaierror(-2, "Name or service not known"), "unresolved", "'arm1' cannot be resolved (Name or service"),
        (http.client.RemoteDisconnected("x"), "answer", "the connection was closed without an answer"),
        (ConnectionResetError(), "answer", "the connection was closed without an answer"),
        (ConnectionRefusedError(), "refused", "connection refused"),
        (FileNotFoundError(), "socket", "no such socket; is the engine installed and started?"),
        (socket.timeout("timed out"), "timeout", "no answer within 5 s"),
        (ssl.SSLError("The read operation timed out"), "timeout", "no answer within 5 s"),
        (_transport.Unreachable("ssh", "as it is"), "ssh", "as it is"),
    ],
)
@pytest.mark.parametrize("trusted", [True, False])
def test_reasons_in_words(exc: Exception, kind: str, words: str, trusted: bool) -> None:
    found = _transport.classify_error(exc, Route(Endpoint.parse("tcp://arm1:2375")), 5, trusted)
    assert (found.kind, words in str(found)) == (kind, True)


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        (9, "not_yet_valid", "its certificate is not valid yet; do the clocks agree?"),
        (10, "expired", "its certificate, or its CA's, has expired; renew it"),
        (18, "untrusted", "its certificate is self-signed, not signed by the given CA; issue one that is"),
        (20, "untrusted", "its certificate is not signed by the given CA (said)"),
        (26, "untrusted", "its certificate is not for servers"),
        (62, "name", "its certificate is not valid for 'localhost'; issue one that names it"),
        (68, "untrusted", "its certificate is not accepted (said); issue another"),
    ],
)
def test_reasons_of_openssl(code: int, kind: str, words: str) -> None:
    exc = ssl.SSLCertVerificationError(1, "x")
    exc.verify_code, exc.verify_message = code, "said"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    route = Route(Endpoint.parse(f"tcp://localhost:{port}"), TlsFiles())
    found = _transport.classify_error(exc, route, 1, trusted=False)
    assert (found.kind, words in str(found)) == (kind, True)


def test_an_engine_that_hangs_up_has_refused_the_client(store: ContextStore, authority: Authority) -> None:
    client = authority.issue("client", server=False)
    route = Route(Endpoint.parse("tcp://arm1:2376"), client)
    hung_up = _transport.classify_error(ConnectionResetError(), route, 1, trusted=True)
    assert (hung_up.kind, "it refused this client's certificate" in str(hung_up)) == ("client_certificate", True)
    # Before the end of the handshake it says nothing of the client.
    assert _transport.classify_error(ConnectionResetError(), route, 1, trusted=False).kind == "answer"


def test_certificates_that_begin_later_or_sign_themselves(
    store: ContextStore, authority: Authority, tmp_path: Path
) -> None:
    client = authority.issue("client", server=False)
    for pair, kind in (
        (issue("127.0.0.1", authority.pair, days=9, since=1), "not_yet_valid"),
        (issue("127.0.0.1"), "untrusted"),
    ):
        for path, content in zip((tmp_path / "cert", tmp_path / "key"), pair):
            path.write_bytes(content)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(str(tmp_path / "cert"), str(tmp_path / "key"))
        with engine(context) as url:
            assert probe(url, store, client).error_kind == kind


def test_ssh_that_is_not_there(store: ContextStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = probe("ssh://arm1", store)
    assert (found.error_kind, found.error) == (
        "ssh",
        "engine ssh://arm1: ssh could not be started: No such file or directory",
    )


def test_last_words_of_an_ssh_that_shares_its_connection(store: ContextStore, fake_ssh: Path) -> None:
    """Its standard error stays open for as long as the shared connection lives."""
    fake_ssh.write_text("#!/bin/sh\necho 'docker: not\n  found' >&2; sleep 4 </dev/null >/dev/null & exit 127\n")
    fake_ssh.chmod(0o755)
    started = time.monotonic()
    assert str(probe("ssh://arm1", store, timeout=9).error).endswith("over ssh: docker: not found")
    assert time.monotonic() - started < 3


def test_files_that_can_be_used(authority: Authority, stranger: Authority, tmp_path: Path) -> None:
    good, other = authority.issue("client", server=False), stranger.issue("client", server=False)
    _transport.check_files(good)
    with pytest.raises(FarmError, match="certificate and matching key in PEM"):
        _transport.check_files(TlsFiles(good.ca, good.cert, other.key))
    with pytest.raises(FarmError, match=r"none\.pem: no such file, or it may not be read"):
        _transport.check_files(TlsFiles(tmp_path / "none.pem"))
    locked = tmp_path / "locked.pem"
    locked.write_bytes(issue("x", authority.pair, key=Path(str(good.key)).read_bytes(), passphrase="secret")[1])
    with pytest.raises(FarmError, match="certificate and matching key in PEM"):
        _transport.check_files(TlsFiles(good.ca, good.cert, locked))


def test_what_openssl_alone_refuses_of_a_client_is_told_in_its_words(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = ssl.SSLCertVerificationError(1, "x")
    found.verify_code, found.verify_message = 68, "CA signature digest algorithm too weak"
    monkeypatch.setattr(_client_certificate, "_verified", lambda *_arguments: found)
    said = why_refused(authority.ca, Path("/c.pem"), Path("/k.pem"))
    assert said == "/c.pem is not accepted by OpenSSL either (CA signature digest algorithm too weak)"


def test_connections_are_closed(store: ContextStore) -> None:
    closed = []

    class Connection(http.client.HTTPConnection):
        def close(self) -> None:
            closed.append(self.port)
            super().close()

    with engine() as url, pytest.MonkeyPatch.context() as patch:
        patch.setattr(_transport.http.client, "HTTPConnection", Connection)
        with conversation(Endpoint.parse(url), store) as talk:
            assert talk.version()["Os"] == "linux"
            del closed[:]
    assert len(closed) == 1


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ("-addext subjectAltName=DNS:arm1", None, ""),
        ("", "name", "not valid for 'arm1': it has no subject alternative name"),
        ("-addext subjectAltName=DNS:arm1 -sha1", "untrusted", "refuse its certificate: it is signed with SHA-1"),
        ("-addext subjectAltName=DNS:arm1 -set_serial -5", "untrusted", "its serial number is negative"),
    ],
)
def test_certificates_that_go_refuses_where_openssl_may_not(
    authority: Authority, tmp_path: Path, options: str, kind: Optional[str], words: str
) -> None:
    cert, _key = made_by_openssl(tmp_path, options, issuer=authority.pair)
    found = _transport._judged(ssl.PEM_cert_to_DER_cert(cert.decode()), "arm1")
    assert (found and found.kind, words in str(found)) == (kind, True)
    assert _transport._judged(None, "arm1") is None
