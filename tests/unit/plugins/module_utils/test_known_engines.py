# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which engines a docker command may connect to, past the proxies of its environment."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Dict, List

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._buildx.known_engines import addresses
from ansible_collections.buildfarm.multiarch.plugins.module_utils._buildx.store import Instance, Node, Store
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker.context_store import ContextStore


@pytest.fixture
def docker(tmp_path: Path) -> Path:
    """A docker configuration with contexts and builders."""
    contexts = ContextStore(tmp_path)
    for name, host in {"a": "tcp://ctx:2376", "b": "unix:///x.sock", "c": "tcp://plain", "d": "://"}.items():
        contexts.meta_dir(name).mkdir(parents=True)
        meta = {"Name": name, "Endpoints": {"docker": {"Host": host}}}
        (contexts.meta_dir(name) / "meta.json").write_text(json.dumps(meta))
    contexts.meta_dir("e").mkdir()
    (contexts.meta_dir("e") / "meta.json").write_text('{"Name": "e", "Endpoints": null}')
    nodes = (Node("a", "tcp://[2001:db8::1]:2376"), Node("b", "ssh://me@b"), Node("c", "tcp://ctx:2376"))
    Store(tmp_path / "buildx").write(Instance("farm", "docker-container", nodes), None)
    (tmp_path / "buildx/instances/broken").write_text("{")
    return tmp_path


FOUND = ["[2001:db8::1]:2376", "ctx:2376", "plain"]


@pytest.mark.parametrize(
    ("argv", "environment", "more"),
    [
        (["docker", "buildx", "ls"], {}, []),
        (["docker", "--host", "tcp://argued:1", "info"], {}, ["argued:1"]),
        (["docker", "--host", "unix:///x", "info"], {"DOCKER_HOST": "tcp://env:2375"}, ["env:2375"]),
        (["docker", "info", "--host", "tcp://not-docker-s:1"], {"DOCKER_HOST": ""}, []),
    ],
)
def test_engines_of_arguments_environment_contexts_and_builders(
    docker: Path, argv: List[str], environment: Dict[str, str], more: List[str]
) -> None:
    assert addresses(argv, {"DOCKER_CONFIG": str(docker), **environment}) == sorted([*FOUND, *more])


def test_builders_of_another_store(docker: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "elsewhere")
    store.write(Instance("x", "remote", (Node("x", "tcp://x:1"),)), None)
    environment = {"DOCKER_CONFIG": str(docker), "BUILDX_CONFIG": str(store.directory)}
    assert addresses(["docker"], environment) == ["ctx:2376", "plain", "x:1"]


def test_a_configuration_that_is_not_there_names_none(tmp_path: Path) -> None:
    assert addresses(["docker"], {"DOCKER_CONFIG": str(tmp_path / "none")}) == []
