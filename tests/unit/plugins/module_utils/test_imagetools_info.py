# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._buildx.store import Instance, Node
from ansible_collections.buildfarm.multiarch.plugins.module_utils._image.info import run
from ansible_collections.buildfarm.multiarch.plugins.module_utils._registry import client as _registry
from ansible_collections.buildfarm.multiarch.plugins.module_utils._registry.settings import Settings, of_nodes

NAME = "r.example.com/app:1"
PLAIN = Settings(http=True)


@pytest.fixture
def builders(tmp_path, monkeypatch):
    """Builders ``one`` and ``two``, which know a registry of their name; where buildx has its choice of one."""
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT", "BUILDX_BUILDER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("BUILDX_CONFIG", str(tmp_path))
    (tmp_path / "instances").mkdir()
    for name in ("one", "two"):
        node = Node(name, "unix:///x", files={"buildkitd.toml": f"[registry.{name}]\nhttp = true".encode()})
        (tmp_path / "instances" / name).write_bytes(Instance(name, "docker-container", (node,)).to_json())
    return tmp_path


@pytest.mark.parametrize(
    ("builder", "variable", "current", "known"),
    [
        ("one", "two", None, {"one": PLAIN}),
        (None, "two", None, {"two": PLAIN}),
        (None, None, {"Key": "", "Name": "one", "Global": True}, {"one": PLAIN}),
        (None, None, {"Key": "unix:///var/run/docker.sock", "Name": "two", "Global": False}, {"two": PLAIN}),
        (None, None, {"Key": "tcp://elsewhere:2376", "Name": "two", "Global": False}, {}),
        (None, None, None, {}),
    ],
)
def test_registries_are_reached_as_the_builder_does(
    builders, registries, monkeypatch, builder, variable, current, known
):
    settings = []

    def of(params, nodes):
        settings.append(of_nodes(nodes))
        return registries

    monkeypatch.setattr(_registry.Registries, "of", of)
    if variable:
        monkeypatch.setenv("BUILDX_BUILDER", variable)
    if current:
        (builders / "current").write_text(json.dumps(current))
    # No program is needed for that.
    assert run({"name": NAME, "builder": builder}, False, None) == {"exists": False, "index": None}
    assert settings == [known]


def test_what_is_found_and_what_a_query_makes_of_it(builders, registries):
    pytest.importorskip("jmespath")
    entries = [{"mediaType": "application/vnd.buildkit.cacheconfig.v0", "digest": "sha256:1", "size": 2}]
    registries.documents[NAME] = json.dumps({"manifests": entries})
    found = run({"name": NAME, "query": "others[].digest"}, False, None)
    assert found["exists"] and found["result"] == ["sha256:1"]
    assert (found["index"]["manifests"], found["index"]["attestations"]) == ([], [])
