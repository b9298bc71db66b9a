# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._buildx.buildkitd import toml_loads
from ansible_collections.buildfarm.multiarch.plugins.module_utils._buildx.store import Instance, Node
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._registry import settings as _registry_settings
from ansible_collections.buildfarm.multiarch.plugins.module_utils._registry.settings import (
    Settings,
    of_nodes,
    tls_context,
)

FIXTURES = Path(__file__).parents[2] / "fixtures"
BY_HAND = """
debug = true # [registry."no"]
[registry."a.example.com:5000"] # the farm's
  http = true
  mirrors = ["m1.example.com", # first
    'm2.example.com/path#1',
  ]
[worker.oci]
  http = true
[registry.localhost]
insecure = true
ca = []
[ registry . 'c.example.com' ]
"http" = false
[[registry."c.example.com".keypair]]
key = "/etc/buildkit/certs/c/k.pem"
cert = "/etc/buildkit/certs/c/c.pem"
[[registry."c.example.com".keypair]]
key = "/elsewhere"
"""


def both(monkeypatch, files):
    """What is read of a node's files, with and without a parser for TOML."""
    node = Node("n", "unix:///x", files=files)
    if toml_loads():
        yield of_nodes((node,))
    monkeypatch.setattr(_registry_settings, "toml_loads", lambda: None)
    yield of_nodes((node,))


def test_what_buildx_stored(monkeypatch):
    path = FIXTURES / "buildx-0.29.1/instance-with-config.json"
    (node,) = Instance.from_json(path.read_bytes(), str(path)).nodes
    for found in both(monkeypatch, node.files):
        assert found == {
            "docker.io": Settings(mirrors=("mirror.example.com",)),
            "reg.example.com:5000": Settings(http=True, authorities=(b"CA\n",), key_pairs=((b"CERT\n", b"KEY\n"),)),
        }


def test_what_is_written_by_hand(monkeypatch):
    files = {"buildkitd.toml": BY_HAND.encode(), "certs/c/k.pem": b"K", "certs/c/c.pem": b"C"}
    for found in both(monkeypatch, files):
        assert found == {
            "a.example.com:5000": Settings(http=True, mirrors=("m1.example.com", "m2.example.com/path#1")),
            "localhost": Settings(insecure=True),
            "c.example.com": Settings(http=False, key_pairs=((b"C", b"K"),)),
        }


def test_the_first_node_that_says_something_of_a_registry_counts():
    def node(name, text):
        return Node(name, "unix:///x", files={"buildkitd.toml": text.encode()} if text else None)

    nodes = (node("a", ""), node("b", "[registry.x]\nhttp = true"), node("c", "[registry.x]\n[registry.y]"))
    assert of_nodes(nodes) == {"x": Settings(http=True), "y": Settings()}


@pytest.mark.parametrize("text", ["", "registry = 1", "[registry]\nx = 1"])
def test_nothing_is_said_of_registries(monkeypatch, text):
    for found in both(monkeypatch, {"buildkitd.toml": text.encode()}):
        assert found == {}


def test_keys_are_not_shown():
    assert "secret" not in repr(Settings(key_pairs=((b"certificate", b"secret"),)))


def test_tls_is_verified_as_docker_does_unless_it_is_configured_otherwise(monkeypatch, tmp_path):
    monkeypatch.setattr(_registry_settings, "_CERTIFICATES", tmp_path)
    for settings, verified in ((Settings(), True), (Settings(http=True), True), (Settings(insecure=True), False)):
        context = tls_context("r.example.com", settings)
        assert (context.verify_mode, context.check_hostname) == (
            (ssl.CERT_REQUIRED, True) if verified else (ssl.CERT_NONE, False)
        )
        assert context.minimum_version == ssl.TLSVersion.TLSv1_2
        assert context.hostname_checks_common_name is False
        # A CA below a root is trusted by itself.
        assert context.verify_flags & 0x80000


def test_certificates_of_dockers_directory(monkeypatch, tmp_path, issue):
    monkeypatch.setattr(_registry_settings, "_CERTIFICATES", tmp_path)
    folder = tmp_path / "r.example.com:5000"
    folder.mkdir()
    ca, other = issue("ca", named=False), issue("other", named=False)
    (folder / "ca.crt").write_bytes(ca[0])
    client = issue("client", ca)
    (folder / "client.cert").write_bytes(client[0])
    (folder / "client.key").write_bytes(client[1])
    context = tls_context("r.example.com:5000", Settings(authorities=(other[0],)))
    subjects = (dict(pair for part in one["subject"] for pair in part) for one in context.get_ca_certs())
    trusted = {subject.get("commonName") for subject in subjects}
    assert {"ca", "other"} <= trusted
    assert (
        tls_context("r.example.com", Settings()).cert_store_stats()["x509"] + 2 == (context.cert_store_stats()["x509"])
    )
    (folder / "client.key").unlink()
    with pytest.raises(
        FarmError, match=r"registry r\.example\.com:5000: a certificate or key for it, .* cannot be used"
    ):
        tls_context("r.example.com:5000", Settings())
    (folder / "client.cert").unlink()
    (folder / "ca.crt").write_text("none")
    with pytest.raises(FarmError, match="wanted certificates and keys in PEM"):
        tls_context("r.example.com:5000", Settings())


def test_files_that_a_node_does_not_have_are_left_out(monkeypatch):
    text = """[registry.x]
ca = ["/etc/buildkit/certs/x/ca.pem", "/etc/buildkit/certs/x/none.pem"]
[[registry.x.keypair]]
key = "/etc/buildkit/certs/x/k.pem"
cert = "/etc/buildkit/certs/x/none.pem"
"""
    files = {"buildkitd.toml": text.encode(), "certs/x/ca.pem": b"CA", "certs/x/k.pem": b"K"}
    for found in both(monkeypatch, files):
        assert found == {"x": Settings(authorities=(b"CA",))}


@pytest.mark.skipif(toml_loads() is None, reason="no TOML parser")
def test_a_configuration_that_is_no_toml_is_told_of():
    node = Node("n1", "unix:///x", files={"buildkitd.toml": b"[registry"})
    with pytest.raises(FarmError, match="node 'n1': its buildkitd configuration is not TOML"):
        of_nodes((node,))
