# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._buildx.cli import Buildx
from ansible_collections.buildfarm.multiarch.plugins.module_utils._buildx.placement import (
    Placement,
    find_builder,
    nodes_in_use,
    route_platforms,
)
from ansible_collections.buildfarm.multiarch.plugins.module_utils._buildx.store import Instance, Node, Store
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.runner import Result
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker.context_store import ContextStore
from ansible_collections.buildfarm.multiarch.plugins.module_utils._platform.platform import Platform, parse_all

FIXTURES = Path(__file__).parents[2] / "fixtures"
VERSIONS = ("buildx-0.13.1", "buildx-0.29.1")
# As `docker buildx inspect` describes it: both nodes run amd64 and 386 too, a also arm64.
FARM = Instance(
    "farm",
    "docker-container",
    (
        Node("a", "tcp://mid1:2375", (Platform("linux", "amd64"),)),
        Node("b", "tcp://mid2:2375", (Platform("linux", "arm64"),)),
    ),
)


def inspecting(text, rc=0, stderr=""):
    calls = []

    def runner(argv, **_options):
        calls.append(argv[2:])
        return Result(tuple(argv), rc, text, stderr)

    return Buildx(runner), calls


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("wanted", "nodes", "asks"),
    [
        ("linux/amd64 linux/arm64", ["a", "b"], False),
        ("linux/arm64", ["b"], False),
        # One platform without a pin, and pins lose their priority.
        ("linux/amd64 linux/386", ["a", "a"], True),
        ("linux/arm64 linux/386", ["a", "a"], True),
        ("linux/amd64/v2", ["a"], True),
        ("", [], False),
    ],
)
def test_platforms_go_where_buildx_sends_them(version, wanted, nodes, asks):
    buildx, calls = inspecting((FIXTURES / version / "inspect-two-nodes.txt").read_text())
    placement = route_platforms(buildx, FARM, parse_all(wanted.split()), start=True)
    assert [node.name for node in placement.nodes.values()] == nodes
    assert calls == ([["inspect", "--bootstrap", "farm"]] if asks else [])


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("missing", ["linux/riscv64", "linux/arm/v7"])
def test_a_platform_that_no_node_serves_is_refused(version, missing):
    buildx, _calls = inspecting((FIXTURES / version / "inspect-two-nodes.txt").read_text())
    with pytest.raises(FarmError, match=f"no node serves {missing}; node 'a' serves linux/amd64, .*node 'b' serves"):
        route_platforms(buildx, FARM, parse_all(["linux/amd64", missing]), start=True)


def test_without_starting_nodes_a_platform_may_stay_open():
    text = "Name: farm\nDriver: docker-container\n\nNodes:\nName: a\nEndpoint: tcp://mid1:2375\nStatus: inactive\n"
    buildx, calls = inspecting(text)
    riscv = Platform("linux", "riscv64")
    assert route_platforms(buildx, FARM, [riscv], start=False).nodes == {riscv: None}
    assert calls == [["inspect", "farm"]]


def test_a_node_out_of_reach_is_named():
    text = (
        "Name: farm\n\nNodes:\nName: a\nEndpoint: tcp://mid1:2375\nStatus: running\nPlatforms: linux/amd64*\n\n"
        "Name: b\nEndpoint: tcp://mid2:2375\nError: Cannot connect to the Docker daemon at tcp://mid2:2375\n"
    )
    buildx, _calls = inspecting(text)
    with pytest.raises(FarmError, match="needs every node, and not all can be used: node 'b': Cannot connect"):
        route_platforms(buildx, FARM, [Platform("linux", "386")], start=True)


def test_builders_come_from_the_store_first(tmp_path):
    (tmp_path / "instances").mkdir()
    (tmp_path / "instances/farm").write_bytes(FARM.to_json())
    buildx, calls = inspecting("Name:   farm\nDriver: docker-container\n")
    assert find_builder(buildx, Store(tmp_path), "farm") == FARM
    assert calls == []
    assert find_builder(buildx, Store(tmp_path), None) == FARM
    assert calls == [["inspect"]]


def test_a_context_is_a_builder_of_the_docker_driver(tmp_path):
    text = "Name:   ctx\nDriver: docker\n\nNodes:\nName:             ctx\nEndpoint:         ctx\nStatus: running\n"
    found = find_builder(inspecting(text)[0], Store(tmp_path), "ctx")
    assert found == Instance("ctx", "docker", (Node("ctx", "ctx"),))


def test_an_unknown_builder_is_named(tmp_path):
    buildx, _calls = inspecting("", 1, 'ERROR: no builder "nobody" found\n')
    with pytest.raises(FarmError, match=r'no builder "nobody" found in .*; builders there: none; declare it'):
        find_builder(buildx, Store(tmp_path), "nobody")


@pytest.mark.parametrize(
    ("text", "rc"),
    [("Name:   farm\nDriver: remote\n", 1), ("Driver: remote\n", 0), ("Name:   farm\n", 0), ("", 0)],
)
@pytest.mark.parametrize("name", ["ctx", None])
def test_what_buildx_does_not_describe_is_an_error(tmp_path, text, rc, name):
    buildx, _calls = inspecting(text, rc, "ERROR: odd\n")
    with pytest.raises(FarmError, match=r"builder (ctx|\(current\)): docker buildx inspect did not describe it"):
        find_builder(buildx, Store(tmp_path), name)


def test_nodes_of_the_builder_that_is_used_where_none_is_named(tmp_path, monkeypatch):
    for variable in ("BUILDX_BUILDER", "DOCKER_HOST", "DOCKER_CONTEXT"):
        monkeypatch.delenv(variable, raising=False)
    store, contexts = Store(tmp_path / "buildx"), ContextStore(tmp_path)
    assert nodes_in_use(store, contexts) == ()
    store.write(FARM, None)
    assert nodes_in_use(store, contexts) == ()
    monkeypatch.setenv("BUILDX_BUILDER", "farm")
    assert nodes_in_use(store, contexts) == FARM.nodes
    monkeypatch.delenv("BUILDX_BUILDER")
    (store.directory / "current").write_text('{"Key": "x", "Name": "farm", "Global": true}')
    assert nodes_in_use(store, contexts) == FARM.nodes


def test_a_choice_for_another_endpoint_is_none_for_this_one(tmp_path):
    store = Store(tmp_path)
    store.write(FARM, None)
    (tmp_path / "current").write_text('{"Key": "here", "Name": "Farm", "Global": false}')
    assert (store.in_use("here"), store.in_use("elsewhere")) == ("farm", "")
    entry = tmp_path / "defaults" / hashlib.sha256(b"elsewhere").hexdigest()[:20]
    entry.write_text("Farm")
    assert store.in_use("elsewhere") == "farm"
    # The engine's own builder was chosen, or one that is gone.
    (tmp_path / "current").write_text('{"Key": "elsewhere", "Name": "default", "Global": false}')
    assert store.in_use("elsewhere") == ""


def test_names_of_the_nodes_that_take_part():
    amd64, arm64, s390x = (Platform("linux", arch) for arch in ("amd64", "arm64", "s390x"))
    placed = Placement({amd64: FARM.nodes[1], arm64: None, s390x: FARM.nodes[1]})
    assert placed.names == ("b",)
