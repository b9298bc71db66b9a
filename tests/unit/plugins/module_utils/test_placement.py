# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which builder is meant, what its nodes serve, whose they are, and what buildx is given of each of them alone."""

from __future__ import annotations

import json
import os

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._buildx.cli import Buildx
from ansible_collections.buildfarm.multiarch.plugins.module_utils._buildx.marks import mark, marks, unmark
from ansible_collections.buildfarm.multiarch.plugins.module_utils._buildx.node_builders import node_builders
from ansible_collections.buildfarm.multiarch.plugins.module_utils._buildx.placement import (
    find_builder,
    nodes_in_use,
    route_platforms,
    workers_of,
)
from ansible_collections.buildfarm.multiarch.plugins.module_utils._buildx.store import Instance, Node, Store
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.runner import Result
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker.context_store import ContextStore
from ansible_collections.buildfarm.multiarch.plugins.module_utils._platform.platform import Platform

AMD64, ARM64, S390X = (Platform("linux", arch) for arch in ("amd64", "arm64", "s390x"))


def report(**nodes):
    """What buildx prints of a builder: of each node its platforms, or what is wrong with it."""
    lines = ["Name: farm", "Driver: docker-container", "", "Nodes:"]
    for name, platforms in nodes.items():
        lines += [f"Name: {name}", f"Endpoint: tcp://{name}:2375"]
        if platforms is None:
            lines.append("Status: inactive")
        elif platforms.startswith("!"):
            lines.append(f"Error: {platforms[1:]}")
        else:
            lines += ["Status: running", f"Platforms: {platforms}"]
        lines.append("")
    return "\n".join(lines)


def buildx(output="", rc=0, stderr=""):
    ran = []

    def runner(argv, **_options):
        ran.append(argv[2:])
        return Result(tuple(argv), rc, output, stderr)

    made = Buildx(runner)
    made.ran = ran
    return made


@pytest.fixture
def store(tmp_path):
    (tmp_path / "buildx/instances").mkdir(parents=True)
    found = Store(tmp_path / "buildx")
    node = Node("a", "tcp://a:2375", (AMD64,))
    found.path("farm").write_bytes(Instance("farm", "docker-container", (node,)).to_json())
    return found


def test_a_stored_builder_is_found_without_buildx(store):
    at = buildx()
    assert find_builder(at, store, "farm").nodes[0].name == "a" and at.ran == []


def test_a_builder_of_a_context_is_what_buildx_says(store):
    text = "Name: default\nDriver: docker\n\nNodes:\nName: default\nEndpoint: default\nStatus: running\n"
    at = buildx(text)
    assert find_builder(at, store, "default") == Instance("default", "docker", (Node("default", "default"),))
    assert find_builder(at, store, None).driver == "docker"
    assert at.ran == [["inspect", "default"], ["inspect"]]
    # The one in use may be one of the store's, whose pins are known there alone.
    assert find_builder(buildx(report(a="linux/386")), store, None).nodes[0].platforms == (AMD64,)


@pytest.mark.parametrize(
    ("output", "rc", "stderr", "words"),
    [
        ("", 1, 'ERROR: no builder "x" found', r'no builder "x" found in .*builders there: farm; declare it'),
        ("", 1, "ERROR: broken", r"builder x: docker buildx inspect did not describe it: ERROR: broken"),
        ("Name: x\n", 0, "", "did not describe it"),
        (
            "Name:   default\nDriver: \nError:  Cannot connect to the engine\n",
            0,
            "",
            r"builder 'default' is that of an engine, .*: Cannot connect to the engine; name another .*there: farm\)",
        ),
        ("Driver: docker\n", 0, "", "did not describe it"),
        ("Name: x\nDriver: docker\n", 1, "no builder", "no builder"),
        ("Name: x\nDriver: docker\n", 1, "late", "did not describe it"),
    ],
)
def test_a_builder_that_there_is_not(store, output, rc, stderr, words):
    with pytest.raises(FarmError, match=words):
        find_builder(buildx(output, rc, stderr), store, "x")


def test_nodes_of_the_builder_in_use(store, tmp_path, monkeypatch):
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT", "BUILDX_BUILDER"):
        monkeypatch.delenv(name, raising=False)
    contexts = ContextStore(tmp_path)
    assert nodes_in_use(store, contexts) == ()
    monkeypatch.setenv("BUILDX_BUILDER", "farm")
    assert [node.name for node in nodes_in_use(store, contexts)] == ["a"]
    monkeypatch.setenv("BUILDX_BUILDER", "gone")
    assert nodes_in_use(store, contexts) == ()


NODES = (Node("a", "tcp://a:2375", (AMD64,)), Node("b", "tcp://b:2375"))
FARM = Instance("farm", "docker-container", NODES)


@pytest.mark.parametrize(
    ("platforms", "start", "output", "served", "asked"),
    [
        ((AMD64,), True, None, {"a": (AMD64,), "b": ()}, []),
        ((), True, None, {"a": (AMD64,), "b": ()}, []),
        (
            (AMD64, ARM64),
            True,
            report(a="linux/arm64", b="linux/arm64"),
            {"a": (AMD64, ARM64), "b": (ARM64,)},
            ["--bootstrap"],
        ),
        ((ARM64,), True, report(a="linux/amd64", b="linux/arm64*"), {"a": (AMD64,), "b": (ARM64,)}, ["--bootstrap"]),
        # What does not run, and may not be started, may serve anything.
        ((ARM64,), False, report(a="linux/amd64", b=None), {"a": (AMD64,), "b": (ARM64,)}, []),
        ((ARM64,), True, report(a="linux/amd64", b=None), {"a": (AMD64,), "b": ()}, ["--bootstrap"]),
        ((ARM64,), False, report(a="linux/amd64"), {"a": (AMD64,), "b": (ARM64,)}, []),
    ],
)
def test_what_nodes_serve(platforms, start, output, served, asked):
    at = buildx(output or "")
    found = workers_of(at, FARM, NODES, {"a": AMD64}, platforms, start)
    assert {worker.name: worker.pins for worker in found} == served
    assert [worker.native for worker in found] == [AMD64, None]
    assert at.ran == ([] if output is None else [["inspect", *asked, "farm"]])
    assert workers_of(at, FARM, (), {}, platforms, start) == ()


@pytest.mark.parametrize(
    ("platforms", "output", "nodes"),
    [
        ((AMD64,), None, ["a"]),
        ((AMD64, ARM64), report(a="linux/amd64", b="linux/arm64"), ["a", "b"]),
        ((ARM64,), report(a="linux/amd64", b=None), [None]),
    ],
)
def test_where_buildx_builds(platforms, output, nodes):
    at = buildx(output or "")
    found = route_platforms(at, FARM, platforms, start=False)
    assert [node and node.name for node in found.nodes.values()] == nodes
    assert found.names == tuple(name for name in nodes if name) and bool(at.ran) is (output is not None)


@pytest.mark.parametrize(
    ("output", "words"),
    [
        (
            report(a="linux/amd64", b="linux/arm64"),
            r"no node serves linux/s390x; node 'a' serves linux/amd64; node 'b'",
        ),
        (
            report(a="linux/amd64", b="!no such host"),
            "buildx needs every node, and not all can be used: node 'b': no such",
        ),
    ],
)
def test_where_buildx_cannot_build(output, words):
    with pytest.raises(FarmError, match=words):
        route_platforms(buildx(output), FARM, (S390X,), start=True)


def test_each_node_is_a_builder_of_its_own_while_a_task_runs(store):
    with node_builders(store, FARM) as environment:
        own = Store(store.directory.__class__(environment["BUILDX_CONFIG"]))
        assert sorted(own.names()) == ["a", "b"]
        for node in NODES:
            assert (own.get(node.name).nodes, own.get(node.name).driver) == ((node,), "docker-container")
        made = (own.directory / ".buildNodeID").read_bytes()
        assert {path.stat().st_mode & 0o777 for path in own.directory.rglob("*") if path.is_file()} == {0o600}
    assert not own.directory.exists()
    # BuildKit knows the controller by the same name next time, and so does buildx itself.
    assert (store.directory / ".buildNodeID").read_bytes() == made and len(made) == 16
    assert (store.directory / ".buildNodeID").stat().st_mode & 0o777 == 0o600
    with node_builders(store, FARM) as environment, open(environment["BUILDX_CONFIG"] + "/.buildNodeID", "rb") as again:
        assert again.read() == made


def test_a_store_that_is_not_there_yet_is_made_for_its_user(tmp_path):
    with node_builders(Store(tmp_path / "new/buildx"), FARM) as environment:
        assert os.path.exists(environment["BUILDX_CONFIG"] + "/.buildNodeID")
    assert (tmp_path / "new/buildx").stat().st_mode & 0o777 == 0o700


class Engine:
    """In the place of a connection: answers by method."""

    def __init__(self, volumes=(), **statuses):
        self.volumes, self.statuses, self.asked = list(volumes), statuses, []

    def request(self, method, path):
        self.asked.append(f"{method} {path.partition('?')[0]}")
        body = {"Volumes": self.volumes or None} if method == "GET" else {"message": "busy"}
        return self.statuses.get(method, 200), json.dumps(body).encode()

    def send(self, method, path, document):
        self.volumes.append(document)
        return self.statuses.get(method, 201), b'{"message": "full"}'


def volume(node, controller):
    engine = Engine()
    mark(engine, node, "farm", controller)
    return engine.volumes[0]


def test_whose_nodes_are():
    volumes = [volume("a", "me"), volume("a", "you"), volume("b", "me")]
    found = marks(Engine(volumes))
    assert {node: [*several] for node, several in found.items()} == {"a": ["me", "you"], "b": ["me"]}
    assert {one.since for several in found.values() for one in several.values()} == {""}
    assert marks(Engine()) == {}
    with pytest.raises(FarmError, match=r"volumes could not be listed: .*\(HTTP 500\)"):
        marks(Engine(GET=500))
    with pytest.raises(FarmError, match="node 'a' could not be marked as used: full"):
        mark(Engine(POST=200), "a", "farm", "me")


@pytest.mark.parametrize(("status", "fails"), [(200, False), (204, False), (404, False), (201, True), (409, True)])
def test_marks_are_removed(status, fails):
    engine = Engine([volume("a", "me"), volume("a", "you")], DELETE=status)
    if fails:
        with pytest.raises(FarmError, match=rf"the mark of node 'a' could not be removed: busy \(HTTP {status}\)"):
            unmark(engine, "a")
    else:
        unmark(engine, "a")
        assert len(engine.asked) == 3
