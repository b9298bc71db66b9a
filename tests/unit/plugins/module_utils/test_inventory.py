# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What builders, contexts and engines come to in an inventory."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._buildx.store import Instance, Node, Store
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.runner import Result
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker.context_store import ContextStore
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker.endpoint import Endpoint
from ansible_collections.buildfarm.multiarch.plugins.module_utils._inventory.gather import (
    Sources,
    gather,
    parse_workers,
)
from ansible_collections.buildfarm.multiarch.plugins.module_utils._inventory.model import (
    GROUPINGS,
    FoundEngine,
    FoundNode,
    builder_of,
    groups_of,
    hosts_of,
)
from ansible_collections.buildfarm.multiarch.plugins.module_utils._platform.platform import Platform, parse_all

from ...engines import FakeEngine, serving

AMD, ARM = Platform("linux", "amd64"), Platform("linux", "arm64")


def engine(url: str, *nodes: FoundNode, **settings: Any) -> FoundEngine:
    parsed = Endpoint.parse(url)
    return FoundEngine(parsed.text, parsed, nodes=nodes, **{"asked": True, "native": AMD, **settings})


def node(builder: str = "farm", **settings: Any) -> FoundNode:
    return FoundNode(builder, f"{builder}-n", "docker-container", "x", **{"status": "running", **settings})


@pytest.mark.parametrize(
    ("url", "host", "connection"),
    [
        ("tcp://amd1:2376", "amd1", {"ansible_host": "amd1"}),
        ("tcp://[2001:db8::7]:2376", "2001:db8::7", {"ansible_host": "2001:db8::7"}),
        ("ssh://arm1", "arm1", {"ansible_host": "arm1"}),
        ("ssh://me@arm1:2222", "arm1", {"ansible_host": "arm1", "ansible_user": "me", "ansible_port": 2222}),
        ("unix:///var/run/docker.sock", "localhost", {"ansible_connection": "local"}),
        ("unix:///run/docker.sock", "localhost", {"ansible_connection": "local"}),
        ("unix:///run/other.sock", "unix:///run/other.sock", {}),
    ],
)
def test_how_ansible_reaches_a_machine(url: str, host: str, connection: Dict[str, Any]) -> None:
    ((name, variables),) = hosts_of([engine(url)]).items()
    assert name == host
    assert {key: value for key, value in variables.items() if key.startswith("ansible_")} == connection


def test_what_has_no_url_is_named_after_its_node_or_context() -> None:
    pod = replace(node(), driver="kubernetes")
    found = hosts_of([FoundEngine("kubernetes:///x?y", nodes=(pod,)), FoundEngine("nowhere", contexts=("nowhere",))])
    assert list(found) == ["farm-n", "nowhere"]
    assert "ansible_host" not in found["farm-n"]


@pytest.mark.parametrize(
    ("engines", "status"),
    [
        ([engine("tcp://a:1")], "unused"),
        ([engine("tcp://a:1", node(status="missing"), node("ci", status="stopped"))], "stopped"),
        ([engine("tcp://a:1", node(), node("ci", status="missing"))], "running"),
        ([engine("tcp://a:1", node(status="paused"), node("ci", status="missing"))], "missing"),
        ([engine("tcp://a:1", node(status="paused"))], "paused"),
        ([engine("tcp://a:1", node(), drained="it is drained")], "drained"),
        ([engine("tcp://a:1", node(status="unreachable"), error="refused")], "unreachable"),
        ([engine("tcp://a:1", node(status="unknown"), asked=False)], "unknown"),
        # One machine, of which one engine is away.
        ([engine("tcp://a:1", node(status="unreachable"), error="refused"), engine("ssh://a")], "unused"),
    ],
)
def test_status(engines: List[FoundEngine], status: str) -> None:
    assert hosts_of(engines)["a"]["buildfarm_status"] == status


@pytest.mark.parametrize(
    ("nodes", "platforms", "emulated"),
    [
        ([], ["linux/amd64"], []),
        ([node()], ["linux/amd64"], []),
        ([node(pins=(ARM,), detected=(AMD, ARM))], ["linux/arm64"], ["linux/arm64"]),
        ([node(pins=(), detected=(AMD, ARM))], ["linux/amd64", "linux/arm64"], ["linux/arm64"]),
        ([node(pins=(ARM,)), node("ci", pins=(AMD, ARM))], ["linux/arm64", "linux/amd64"], ["linux/arm64"]),
    ],
)
def test_platforms(nodes: List[FoundNode], platforms: List[str], emulated: List[str]) -> None:
    variables = hosts_of([engine("tcp://a:1", *nodes)])["a"]
    assert (variables["buildfarm_platforms"], variables["buildfarm_emulated"]) == (platforms, emulated)


def test_all_ways_to_a_machine_are_one_host() -> None:
    first = engine("tcp://a:2376", node(), contexts=("farm-a",), error="refused", native=None)
    second = engine("ssh://me@a", contexts=("by-ssh",), version="28.5.2", native=ARM)
    variables = hosts_of([first, second])["a"]
    assert variables["buildfarm_endpoint"] == "ssh://me@a"
    assert variables["buildfarm_endpoints"] == ["tcp://a:2376", "ssh://me@a"]
    assert variables["buildfarm_contexts"] == ["by-ssh", "farm-a"]
    assert (variables["ansible_user"], variables["buildfarm_architecture"]) == ("me", "arm64")
    assert (variables["buildfarm_builders"], variables["buildfarm_error"]) == (["farm"], None)
    assert hosts_of([second, engine("tcp://a:2376")])["a"]["ansible_user"] == "me"


def test_groups() -> None:
    variables = hosts_of([engine("tcp://a:1", node(pins=(ARM, AMD)), node("ci", pins=()))])["a"]
    assert groups_of(variables, list(GROUPINGS), "x_") == [
        "x_builder_ci",
        "x_builder_farm",
        "x_platform_linux/arm64",
        "x_platform_linux/amd64",
        "x_architecture_amd64",
        "x_driver_docker-container",
        "x_status_running",
    ]
    assert groups_of({**variables, "buildfarm_architecture": None}, ["architecture"], "x_") == []


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("ci-a", ("ci", "mark")),
        ("farm0", ("farm", "name")),
        ("farm12", ("farm", "name")),
        ("farm-a", ("", "none")),
        ("7", ("", "none")),
    ],
)
def test_whose_a_container_is(name: str, wanted: Tuple[str, str]) -> None:
    assert builder_of(name, {"ci-a": ["ci", "other"]}) == wanted


WORKERS = """\
ID:\t\tzbz2u8gfx31u9mj3jgp1l9tpo
Platforms:\tlinux/amd64,linux/amd64/v2,linux/386
BuildKit:\tgithub.com/moby/buildkit v0.16.0 abcdef
Labels:
\torg.mobyproject.buildkit.worker.executor:\toci
"""


@pytest.mark.parametrize(
    ("text", "platforms", "version"),
    [
        (WORKERS, "linux/amd64 linux/amd64/v2 linux/386", "v0.16.0"),
        ("Platforms:\tlinux/arm64\n", "linux/arm64", ""),
        # A newer BuildKit may run what nothing here can be built for.
        ("Platforms:\tlinux/arm64,linux/sparc64,linux/386\n", "linux/arm64 linux/386", ""),
        ("", "", ""),
    ],
)
def test_what_buildkit_says_of_itself(text: str, platforms: str, version: str) -> None:
    assert parse_workers(text) == (parse_all(platforms.split()), version)


class Engine(FakeEngine):
    """An engine with BuildKit containers.

    :ivar nodes: whether a container runs, by its node's name.
    :ivar marks: builder and controller by a node's name.
    :ivar says: what buildctl prints, None where it fails.
    """

    def __init__(
        self,
        nodes: Mapping[str, Optional[bool]],
        marks: Optional[Mapping[str, Tuple[str, str]]] = None,
        says: Optional[str] = WORKERS,
    ) -> None:
        super().__init__()
        self.nodes, self.marks, self.says = nodes, marks or {}, says

    def answer(
        self, method: str, path: str, query: Mapping[str, str], body: bytes, headers: Mapping[str, str]
    ) -> Tuple[Any, ...]:
        if path == "/version":
            return 200, {"Version": "28.5.2", "ApiVersion": "1.51", "Os": "linux", "Arch": "amd64"}
        if path == "/volumes":
            (label,) = json.loads(query["filters"])["label"]
            parts = ("node", "builder", "controller")
            volumes = [
                {"Labels": dict(zip((f"io.github.buildfarm.multiarch.{part}" for part in parts), (name, *mark)))}
                for name, mark in self.marks.items()
            ]
            return 200, {"Volumes": volumes if label.endswith(".controller") else None}
        if path == "/containers/json":
            assert query["all"] == "1"
            states = {True: "running", False: "exited", None: "paused"}
            containers = [
                {"Names": [f"/buildx_buildkit_{name}"], "State": states[runs]} for name, runs in self.nodes.items()
            ]
            return 200, [*containers, {"Names": ["/my-buildx_buildkit_copy"], "State": "running"}]
        if path.endswith("/exec"):
            assert json.loads(body)["Cmd"] == ["buildctl", "debug", "workers", "-v"]
            return 201, {"Id": "e"}
        if path == "/exec/e/start":
            stream, text = (1, self.says) if self.says is not None else (2, "no\nBuildKit\n")
            content = text.encode()
            return 200, bytes((stream, 0, 0, 0)) + len(content).to_bytes(4, "big") + content
        if path == "/exec/e/json":
            return 200, {"ExitCode": 0 if self.says is not None else 1}
        raise AssertionError((method, path))


class Place:
    """A controller's files, and what an inventory finds with them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.warnings, self.called = folder, [], []
        (folder / "buildx/instances").mkdir(parents=True)

    def builder(self, name: str, *nodes: Node, driver: str = "docker-container") -> None:
        Store(self.folder / "buildx").path(name).write_bytes(Instance(name, driver, nodes).to_json())

    def context(self, name: str, host: str) -> None:
        path = ContextStore(self.folder).meta_dir(name)
        path.mkdir(parents=True)
        (path / "meta.json").write_text(json.dumps({"Name": name, "Endpoints": {"docker": {"Host": host}}}))

    def found(self, **sources: Any) -> Tuple[FoundEngine, ...]:
        def runner(argv: List[str], **_options: Any) -> Result:
            self.called.append(argv)
            return Result(tuple(argv), 127, "", "no docker here")

        params = {"docker_config": str(self.folder), "timeout": 10}
        return gather(Sources(**sources), params, runner, self.warnings.append)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    for name in ("BUILDX_CONFIG", "DOCKER_CONFIG", "DOCKER_HOST", "DOCKER_CONTEXT"):
        monkeypatch.delenv(name, raising=False)
    return Place(tmp_path)


#: A port that nothing listens on: nobody but the system may.
DEAD = "tcp://127.0.0.1:1"


def test_stored_nodes(place: Place) -> None:
    with serving(Engine({"farm-a": True, "stranger0": True}, {"farm-a": ("farm", "here")})) as url:
        place.context("at-a", url)
        place.builder("farm", Node("farm-a", "at-a", (ARM,), {"env.HTTP_PROXY": "http://u:secret@p"}))
        place.builder("other", Node("other-a", url))
        (found,) = place.found()
    assert (found.endpoint, found.contexts, found.error, found.native) == (url, ("at-a",), "", AMD)
    # Of an engine that a builder here has, other controllers' nodes are none of ours.
    first, second = found.nodes
    assert (first.builder, first.status, first.pins, first.version) == ("farm", "running", (ARM,), "v0.16.0")
    assert first.detected == parse_all(["linux/amd64", "linux/amd64/v2", "linux/386"])
    assert (first.source, first.controllers) == ("store", ("here",))
    assert (second.name, second.status, second.detected) == ("other-a", "missing", None)
    assert "secret" not in json.dumps(hosts_of([found]))
    assert not place.called


def test_containers_tell_where_nothing_is_stored(place: Place) -> None:
    with serving(Engine({"ci-a": False, "farm0": True}, {"ci-a": ("ci", "c1")})) as url:
        (found,) = place.found(endpoints=(Endpoint.parse(url),), detect=False)
    assert [(one.builder, one.name, one.source, one.status, one.pins) for one in found.nodes] == [
        ("ci", "ci-a", "mark", "stopped", None),
        ("farm", "farm0", "name", "running", None),
    ]
    assert found.nodes[1].detected is None


def test_a_buildkit_that_somebody_has_paused(place: Place) -> None:
    """Nothing is started in its container: the engine would refuse it."""
    with serving(Engine({"farm0": None})) as url:
        (found,) = place.found(endpoints=(Endpoint.parse(url),))
    assert [(one.status, one.error, one.detected) for one in found.nodes] == [("paused", "", None)]


def test_a_buildkit_that_does_not_answer(place: Place) -> None:
    with serving(Engine({"farm0": True}, says=None)) as url:
        (found,) = place.found(endpoints=(Endpoint.parse(url),))
    assert found.error == ""
    assert found.nodes[0].error == "BuildKit of node 'farm0' does not answer: no BuildKit"
    assert found.nodes[0].status == "running"


def test_what_cannot_be_reached_or_read(place: Place) -> None:
    place.builder("farm", Node("farm-a", "gone"), Node("farm-b", DEAD))
    place.context("left", DEAD.replace(":1", ":2"))
    (place.folder / "buildx/instances/broken").write_text("{")
    a, b, left = place.found()
    assert "no docker context 'gone'" in a.error
    assert "connection refused" in b.error
    assert [one.nodes[0].status for one in (a, b)] == ["unreachable", "unreachable"]
    assert (left.contexts, left.nodes) == (("left",), ())
    assert len(place.warnings) == 1
    assert "instances/broken: not JSON" in place.warnings[0]
    assert [one.endpoint for one in place.found(contexts=False)] == ["gone", DEAD]
    assert [one.endpoint for one in place.found(builders=False)] == [left.endpoint]


def test_an_endpoint_that_is_none_is_a_status(place: Place) -> None:
    place.builder("windows", Node("w", "npipe:////./pipe/docker_engine"))
    place.builder("farm", Node("farm-b", DEAD))
    farm, odd = place.found()
    assert "connection refused" in farm.error
    assert "'npipe:////./pipe/docker_engine': wanted tcp://" in odd.error
    assert (odd.host, odd.nodes[0].status, odd.nodes[0].error) == ("w", "unreachable", odd.error)


def test_nobody_is_asked_without_contact(place: Place) -> None:
    place.builder("farm", Node("farm-a", DEAD))
    place.builder("far", Node("far0", "tcp://127.0.0.1:3"), driver="remote")
    found = place.found(contact=False)
    assert [(one.asked, one.error, one.nodes[0].status) for one in found] == [(False, "", "unknown")] * 2
    assert set(hosts_of(found)) == {"127.0.0.1"}


def test_nodes_without_an_engine(place: Place) -> None:
    place.builder("far", Node("far0", DEAD), driver="remote")
    place.builder("pods", Node("pods0", "kubernetes:///pods?x=y"), driver="kubernetes")
    # The same address as an engine's is another thing.
    place.builder("zfarm", Node("zfarm0", DEAD))
    far, pods, farm = place.found()
    assert "connection refused" in far.error.lower()
    assert (far.nodes[0].status, pods.nodes[0].status) == ("unreachable", "unknown")
    assert (pods.asked, pods.host) == (False, "pods0")
    assert farm.nodes[0].builder == "zfarm"
    # Only of what may be there buildx is asked.
    assert [argv[-1] for argv in place.called] == ["pods"]
