# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The probe against real listeners: what Go's and any other TLS server may answer."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker import tls as _tls
from ansible_collections.buildfarm.multiarch.plugins.module_utils._listener import probe as _probe


@pytest.fixture(scope="module")
def ca(issue):
    return issue("ca")


@pytest.fixture(scope="module")
def server(issue, ca):
    return issue("server", ca)


def serve(tmp_path, pair, ca=None, version=None):
    """Answer one connection as an engine would; returns its port."""
    context = None
    if pair:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        for name, content in zip(("cert", "key"), pair):
            (tmp_path / name).write_bytes(content)
        context.load_cert_chain(tmp_path / "cert", tmp_path / "key")
        if ca:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(cadata=ca[0].decode())
        if version:
            context.maximum_version = version
    listener = socket.create_server(("127.0.0.1", 0))

    def answer():
        raw, _address = listener.accept()
        try:
            connection = context.wrap_socket(raw, server_side=True) if context else raw
            connection.recv(1024)
            connection.sendall(b"HTTP/1.0 200 OK\r\n\r\nOK")
            connection.close()
        except OSError:
            raw.close()

    threading.Thread(target=answer, daemon=True).start()
    return listener.getsockname()[1]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_listener_that_demands_certificates_is_as_declared(tmp_path, ca, server, version):
    port = serve(tmp_path, server, ca, version)
    assert _probe.mutual_tls_problem("127.0.0.1", port, ca[0], server[0]) is None


def test_a_listener_that_answers_anybody_is_not(tmp_path, ca, server):
    port = serve(tmp_path, server)
    said = _probe.mutual_tls_problem("127.0.0.1", port, ca[0], server[0])
    assert said == "it answers clients that present no certificate"


def test_another_certificate_is_noticed(tmp_path, issue, ca, server):
    port = serve(tmp_path, issue("server", ca), ca)
    said = _probe.mutual_tls_problem("127.0.0.1", port, ca[0], server[0])
    assert said == "it serves another certificate than the declared one"


def test_a_certificate_is_tried_without_a_listener(issue, ca, server):
    assert _tls.certificate_problem(ca[0], *server) is None
    assert _tls.certificate_problem(issue("another")[0] + ca[0], *server) is None
    assert "expired" in _tls.certificate_problem(ca[0], *issue("server", ca, days=-1))
    assert "issuer" in _tls.certificate_problem(issue("another")[0], *server)
    assert "subject alternative name" in _tls.certificate_problem(ca[0], *issue("server", ca, named=False))


@pytest.mark.parametrize("days", [-1, 1])
def test_a_certificate_that_clients_would_refuse_is_noticed(tmp_path, issue, ca, days):
    pair = issue("server", ca if days < 0 else None, days=days)
    said = _probe.mutual_tls_problem("127.0.0.1", serve(tmp_path, pair, ca), ca[0], pair[0])
    assert said is not None
    assert "not valid for the declared CA" in said
    assert ("expired" in said) == (days < 0)


def test_plain_listeners(tmp_path, ca, server):
    assert _probe.plain_problem("127.0.0.1", serve(tmp_path, None)) is None
    said = _probe.mutual_tls_problem("127.0.0.1", serve(tmp_path, None), ca[0], server[0])
    assert said is not None
    assert "TLS handshake failed" in said


def test_nobody_listens(tmp_path, ca, server):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert _probe.plain_problem("127.0.0.1", port) == "Connection refused"
    assert _probe.mutual_tls_problem("127.0.0.1", port, ca[0], server[0]) == "Connection refused"
    assert _probe.unix_socket_problem(str(tmp_path / "none.sock")) == (
        f"unix://{tmp_path / 'none.sock'}: No such file or directory"
    )


def test_keys_and_certificates(ca, server):
    assert _tls.key_problem(*server) is None
    assert _tls.key_problem(server[0] + ca[0], server[1]) is None
    assert _tls.key_problem(server[0], ca[1]) == "key values mismatch"
    assert _tls.key_problem(server[0], b"nothing\n") is not None
    serialization = pytest.importorskip("cryptography.hazmat.primitives.serialization")
    locked = serialization.load_pem_private_key(server[1], None).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    assert _tls.key_problem(server[0], locked) is not None


def test_fingerprints_are_those_of_openssl(server):
    shown = subprocess.run(
        ["openssl", "x509", "-noout", "-fingerprint", "-sha256"], input=server[0], capture_output=True, check=True
    ).stdout.decode()
    assert shown.strip().endswith("=" + str(_tls.fingerprint(b"text before\n" + server[0])))
    assert _tls.fingerprint(b"-----BEGIN CERTIFICATE-----\nbroken") is None
    assert _tls.ca_problem(server[0]) is None
    assert _tls.ca_problem(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n") is not None


def test_waiting_ends_with_the_problem_or_without():
    answers = iter(["refused", "refused", None])
    assert _probe.wait_for(lambda: next(answers), 5, pause=0) is None
    assert _probe.wait_for(lambda: "refused", 0) == "refused"


def test_waiting_is_not_done_in_a_hurry():
    asked = []
    assert _probe.wait_for(lambda: asked.append(1) or "refused", 0.25, pause=0.1) == "refused"
    assert 2 <= len(asked) <= 4


def test_a_socket_at_which_something_else_answers_or_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(_probe, "_ATTEMPT", 0.2)
    for name, answer, said in (
        ("silent", None, "timed out"),
        ("broken", b"HTTP/1.0 500 Oops\r\n\r\n", "answered 'HTTP/1.0 500 Oops' to GET /_ping, wanted 200"),
    ):
        path = str(tmp_path / name)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen()
            if answer:
                threading.Thread(target=answer_once, args=(listener, answer), daemon=True).start()
            assert _probe.unix_socket_problem(path) == f"unix://{path}: {said}"


def answer_once(listener, answer):
    connection, _address = listener.accept()
    with connection:
        connection.recv(1024)
        connection.sendall(answer)


def test_cas_that_are_no_text(tmp_path):
    assert _tls.ca_problem("-----BEGIN CERTIFICATE-----ä".encode()) == "not a PEM text"


def test_keys_that_cannot_be_read_at_all(server, monkeypatch):
    def unreadable(*_arguments, **_options):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", unreadable)
    assert _tls.key_problem(*server) == "Input/output error"
