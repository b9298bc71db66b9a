# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The inventories of the examples and of the guide, as the oldest and the usual ansible-core read them."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

import cores
from checkout import CHECKOUT

Tool = Callable[..., str]

EXAMPLES = CHECKOUT / "examples/inventories"
GUIDE = CHECKOUT / "docs/docsite/rst/guide_inventories.rst"
CORES = ["", cores.venv(cores.OLDEST)]


def examples() -> list[Path]:
    return sorted(path for path in EXAMPLES.rglob("*.yml"))


def test_the_guide_shows_the_examples() -> None:
    guide = GUIDE.read_text()
    missing = [
        path.name
        for path in examples()
        if textwrap.indent(path.read_text().removeprefix("---\n"), " " * 4) not in guide
    ]
    assert not missing


def test_each_example_is_listed() -> None:
    listed = (EXAMPLES / "README.md").read_text()
    assert not [path.name for path in EXAMPLES.iterdir() if path.name != "README.md" and f"({path.name})" not in listed]


@pytest.mark.parametrize("core", CORES)
def test_groups_are_those_of_the_guide(core: str, tool: Tool) -> None:
    """The guide shows what ansible-inventory prints."""
    guide = GUIDE.read_text()
    for name in ("existing_groups.yml", "labels"):
        graph = tool(core, "ansible-inventory", "-i", EXAMPLES / name, "--graph")
        assert textwrap.indent(graph.strip("\n"), " " * 4) in guide, f"{name}\n{graph}"


@pytest.mark.parametrize("core", CORES)
def test_the_plugin_in_ansible_itself(core: str, tool: Tool, tmp_path: Path) -> None:
    """It is found, reads what is stored, and takes nothing of it for a template."""
    platform = {"os": "linux", "architecture": "arm64"}
    node = {"Name": "farm-{{ 1 + 1 }}", "Endpoint": "tcp://arm1.example.com:2376", "Platforms": [platform]}
    stored = tmp_path / "docker/buildx/instances/farm"
    stored.parent.mkdir(parents=True)
    stored.write_text(json.dumps({"Name": "farm", "Driver": "docker-container", "Nodes": [node], "Dynamic": False}))
    options = {
        "plugin": "buildfarm.multiarch.buildx",
        "docker_config": "docker",
        "contact": False,
        "strict": True,
        "groups": {"arm": "buildfarm_platforms[0] is buildfarm.multiarch.native_platform('aarch64')"},
        "compose": {"shown": "buildfarm_nodes[0].name"},
        "keyed_groups": [{"key": "buildfarm_platforms | buildfarm.multiarch.platform_normalize", "prefix": "on"}],
    }
    (tmp_path / "own.buildx.yml").write_text(json.dumps(options))
    source = ["-i", tmp_path / "own.buildx.yml"]
    graph = tool(core, "ansible-inventory", *source, "--graph")
    for group in ("buildx_builder_farm", "buildx_platform_linux_arm64", "arm", "on_linux_arm64"):
        assert f"  |--@{group}:\n  |  |--arm1.example.com\n" in graph
    said = tool(
        core,
        "ansible",
        "arm",
        *source,
        "-m",
        "ansible.builtin.debug",
        "-a",
        "msg={{ [buildfarm_nodes[0].name, shown] }}",
    )
    assert said.count("farm-{{ 1 + 1 }}") == 2, said
