# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._buildx.buildkitd import toml_loads
from ansible_collections.buildfarm.multiarch.plugins.module_utils._buildx.store import Instance, Node
from ansible_collections.buildfarm.multiarch.plugins.module_utils._registry import settings as _registry_settings
from ansible_collections.buildfarm.multiarch.plugins.module_utils._registry.settings import Settings, of_nodes

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
