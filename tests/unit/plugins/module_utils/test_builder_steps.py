# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reading a builder's nodes, and the steps that change them, undone in part."""

from __future__ import annotations

import json
import socket
import time
from dataclasses import replace

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._builder import nodes as _nodes
from ansible_collections.buildfarm.multiarch.plugins.module_utils._builder.containers import Engines
from ansible_collections.buildfarm.multiarch.plugins.module_utils._builder.declaration import Declaration, NodeSpec
from ansible_collections.buildfarm.multiarch.plugins.module_utils._builder.drift import DEFAULT_IMAGE
from ansible_collections.buildfarm.multiarch.plugins.module_utils._builder.info import run as info
from ansible_collections.buildfarm.multiarch.plugins.module_utils._builder.merge import merge
from ansible_collections.buildfarm.multiarch.plugins.module_utils._builder.model import Container, NodeState
from ansible_collections.buildfarm.multiarch.plugins.module_utils._builder.nodes import Depth, Site, read_nodes
from ansible_collections.buildfarm.multiarch.plugins.module_utils._builder.steps import (
    BuilderPlan,
    CopyDefinition,
    RemoveContainer,
    RemoveDefinition,
    RemovePods,
    StartNodes,
    StopContainer,
    UnpauseContainer,
    UseBuilder,
    WriteDefinition,
)
from ansible_collections.buildfarm.multiarch.plugins.module_utils._buildx.cli import Buildx
from ansible_collections.buildfarm.multiarch.plugins.module_utils._buildx.store import (
    Instance,
    Node,
    Store,
    StoreConflict,
)
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.runner import CommandError, Result
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker.context_store import ContextStore
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker.engine_lock import EngineLocks
from ansible_collections.buildfarm.multiarch.plugins.module_utils._platform.platform import Platform

AMD64 = Platform("linux", "amd64")
A, B = Node("a", "tcp://a:2375"), Node("b", "tcp://b:2375")
FARM = Instance("farm", "docker-container", (A, B))
RUNNING = "Name: farm\nDriver: remote\n\nNodes:\nName: {0}\nEndpoint: x\nStatus: running\nPlatforms: linux/amd64\n"
RUNNING += "BuildKit version: v0.25.2\n"


class Run:
    """A buildx that says the same of every node; notes its arguments."""

    def __init__(self, stdout="", rc=0):
        self.stdout, self.rc, self.ran, self.limits = stdout, rc, [], []

    def __call__(self, argv, timeout=None, **_options):
        self.ran.append(argv[2:])
        self.limits.append(timeout)
        if self.rc is None:
            raise CommandError("too long", Result(tuple(argv), -9, "", ""))
        return Result(tuple(argv), self.rc, self.stdout, "no")


class Containers:
    """In the place of engines: what was done to containers; some of it fails."""

    def __init__(self, *failing):
        self.failing, self.done = failing, []

    def __getattr__(self, name):
        def change(node, *_builder):
            if f"{name} {node.name}" in self.failing:
                raise FarmError(f"{name} {node.name}: busy")
            self.done.append(f"{name} {node.name}")

        return change


def site_of(tmp_path, run=None, engines=None, **options):
    contexts = ContextStore(tmp_path)
    engines = engines or Engines(contexts, 1)
    locks = EngineLocks(contexts, Run(), "a test", 0)
    return Site(Store(tmp_path / "buildx"), contexts, Buildx(run or Run()), engines, locks, **{"timeout": 2, **options})


def test_what_parameters_mean(tmp_path):
    params = {"docker_config": str(tmp_path), "timeout": 3, "bootstrap_timeout": 77, "share_nodes": True}
    site = Site.from_params(params, Run())
    assert (site.timeout, site.bootstrap_timeout, site.share_nodes) == (3, 77, True)
    del params["bootstrap_timeout"], params["share_nodes"]
    assert Site.from_params(params, Run()).share_nodes is False
    for limit in ("timeout", "bootstrap_timeout"):
        with pytest.raises(FarmError, match=f"^{limit} is 0; wanted seconds, more than 0"):
            Site.from_params({**params, limit: 0}, Run())


def test_nothing_is_contacted_for_a_definition(tmp_path):
    run = Run()
    assert read_nodes("farm", "docker-container", [A], site_of(tmp_path, run), Depth.DEFINITION) == {}
    assert run.ran == []


@pytest.mark.parametrize("listening", [True, False])
@pytest.mark.parametrize("scheme", ["tcp", "unix"])
def test_remote_buildkits_are_connected_to_before_buildx_is_run(tmp_path, scheme, listening):
    run, path = Run(RUNNING.format("a")), str(tmp_path / "b.sock")
    family, address = (socket.AF_INET, ("127.0.0.1", 0)) if scheme == "tcp" else (socket.AF_UNIX, path)
    with socket.socket(family) as listener:
        listener.bind(address)
        if listening:
            listener.listen()
        endpoint = f"tcp://127.0.0.1:{listener.getsockname()[1]}" if scheme == "tcp" else f"unix://{path}"
        node = Node("a", endpoint)
        (found,) = read_nodes("farm", "remote", [node], site_of(tmp_path, run)).values()
    if listening:
        assert found == NodeState(known=True, detected=(AMD64,), version="v0.25.2")
        assert (run.ran, run.limits) == ([["inspect", "farm"]], [2])
    else:
        assert (found.known, found.detected) == (True, None)
        assert found.error == f"BuildKit at {endpoint}: Connection refused; is it running there?"
        assert run.ran == []


def test_ways_that_only_buildx_knows_are_left_to_it(tmp_path):
    node = Node("a", "docker-container://a")
    site = site_of(tmp_path, Run(RUNNING.format("a")))
    (found,) = read_nodes("farm", "remote", [node], site).values()
    assert found.status == "running"


def test_pods_are_known_to_buildx_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(_nodes, "_probe_sockets", None)
    node = Node("a", "tcp://nobody-is-connected-to.example.com:1")
    site = site_of(tmp_path, Run(RUNNING.format("a")))
    assert read_nodes("farm", "kubernetes", [node], site)[("a", node.endpoint)].status == "running"
    for run in (Run(RUNNING, 1), Run(rc=None), Run()):
        (found,) = read_nodes("farm", "kubernetes", [node], site_of(tmp_path, run)).values()
        assert found == NodeState()
    broken = RUNNING.format("a").replace("Status: running", "Error: forbidden")
    (found,) = read_nodes("farm", "kubernetes", [node], site_of(tmp_path, Run(broken))).values()
    assert (found.error, found.detected) == ("forbidden", None)


def test_an_engine_that_does_not_answer_is_waited_for_once(tmp_path):
    asked = []

    class Dead:
        def read(self, endpoint, definitions):
            asked.append(endpoint.text)
            raise FarmError(f"engine {endpoint}: no answer")

    site = site_of(tmp_path, engines=Dead())
    for _time in range(2):
        found = read_nodes("farm", "docker-container", [A, replace(A, name="c"), B], site, Depth.ENGINES)
        assert found[("a", A.endpoint)] == NodeState(known=True, error="engine tcp://a:2375: no answer")
        assert [state.status for state in found.values()] == ["unreachable"] * 3
    assert sorted(asked) == ["tcp://a:2375", "tcp://b:2375"]
    odd = Node("d", "http://x")
    (state,) = read_nodes("farm", "docker-container", [odd], site, Depth.ENGINES).values()
    assert (state.known, "http://x" in state.error) == (True, True)


def test_an_engine_that_takes_too_long_is_gone_on_without(tmp_path):
    class Slow:
        def read(self, endpoint, definitions):
            time.sleep(1)

    site = site_of(tmp_path, engines=Slow(), timeout=0.05)
    (state,) = read_nodes("farm", "docker-container", [A], site, Depth.ENGINES).values()
    assert (state.status, "no answer within 0.05 s" in state.error) == ("unreachable", True)


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        (NodeState(error="no answer"), "unreachable"),
        (NodeState(), "unknown"),
        (NodeState(known=True), "missing"),
        (NodeState(known=True, detected=()), "running"),
        (NodeState(known=True, container=Container(running=True, image="b")), "running"),
        (NodeState(known=True, container=Container(running=True, image="b", paused=True)), "paused"),
        (NodeState(known=True, container=Container(running=False, image="b")), "stopped"),
    ],
)
def test_states_in_one_word(node, expected):
    assert node.status == expected


def test_a_new_remote_node_has_no_flags():
    declared = Declaration("farm", driver="remote", nodes=(NodeSpec("a", "tcp://a:1"),))
    assert merge(declared.nodes[0], declared, "remote", (), None) == Node("a", "tcp://a:1")


@pytest.mark.parametrize("declared", [{}, {"files": {"a": b"1"}}])
def test_authorities_are_laid_over_what_is_declared_or_found(declared):
    """Of a node that is stored with one, and of one that is made anew with other files."""
    path = "certs/r.test/declared-ca.crt"
    spec = NodeSpec("a", "tcp://a:1", authorities={"r.test": b"CA"}, **declared)
    once = merge(spec, Declaration("farm", nodes=(spec,)), "docker-container", (), {"b": b"2"})
    assert once.files[path] == b"CA" and once.files.get("a" if declared else "b")
    assert merge(spec, Declaration("farm", nodes=(spec,)), "docker-container", (once,), None) == once
    none = replace(spec, authorities={}, files=None)
    assert path not in merge(none, Declaration("farm", nodes=(none,)), "docker-container", (once,), None).files


def start(**options):
    values = {"target": FARM, "nodes": (A, B), "declaration": Declaration("farm"), "found": {}, **options}
    return StartNodes(**values)


def test_what_was_started_is_removed_with_the_cache_that_it_made(tmp_path):
    engines = Containers()
    found = {("b", B.endpoint): NodeState(known=True, cache=True)}
    start(found=found).revert(site_of(tmp_path, engines=engines))
    assert engines.done == ["remove_container a", "remove_cache a", "remove_container b"]


def test_what_was_paused_is_paused_again(tmp_path):
    """Its container was neither made nor started, so it is not removed."""
    engines = Containers("pause_container b")
    site = site_of(tmp_path, engines=engines)
    step = UnpauseContainer(A)
    assert step.action == ["unpause-container", "tcp://a:2375", "buildx_buildkit_a"]
    step.apply(site)
    as_defined = Container(running=True, paused=True, image=DEFAULT_IMAGE)
    found = {("a", A.endpoint): NodeState(known=True, container=as_defined)}
    start(nodes=(A,), found=found).revert(site)
    step.revert(site)
    assert engines.done == ["unpause_container a", "pause_container a"]
    with pytest.raises(FarmError, match="node 'b' could not be put back \\(pause_container b: busy\\)"):
        UnpauseContainer(B).revert(site)
    # One that was made anew is no longer what was paused.
    found = {("a", A.endpoint): NodeState(known=True, container=replace(as_defined, image="other"))}
    start(nodes=(A,), found=found).revert(site)
    assert engines.done[2:] == ["remove_container a"]


def test_all_that_cannot_be_put_back_is_named(tmp_path):
    engines = Containers("remove_container a", "remove_container b")
    with pytest.raises(FarmError) as caught:
        start().revert(site_of(tmp_path, engines=engines))
    assert caught.value.message == (
        "node 'a' could not be put back (remove_container a: busy); "
        "node 'b' could not be put back (remove_container b: busy)"
    )


def test_a_remote_buildkit_is_not_removed(tmp_path):
    run, engines = Run(), Containers()
    start(target=replace(FARM, driver="remote")).revert(site_of(tmp_path, run, engines))
    assert (run.ran, engines.done) == ([], [])


def test_pods_that_were_as_defined_before_stay(tmp_path):
    run = Run()
    start(target=replace(FARM, driver="kubernetes"), unchanged=frozenset(["b"])).revert(site_of(tmp_path, run))
    assert run.ran == [["rm", "farm"]]


@pytest.mark.parametrize(("keep", "options"), [(True, ["--keep-state"]), (False, [])])
def test_pods_are_removed_and_those_that_ran_started_again(tmp_path, keep, options):
    step = RemovePods(replace(FARM, driver="kubernetes"), keep, frozenset(["a"]))
    assert step.action == ["docker", "buildx", "rm", *options, "farm"]
    run = Run(RUNNING.format("a"))
    site = site_of(tmp_path, run, bootstrap_timeout=77)
    step.apply(site)
    step.revert(site)
    assert run.ran == [["rm", *options, "farm"], ["inspect", "--bootstrap", "farm"]]
    assert run.limits == [77, 77]
    with pytest.raises(FarmError, match="could not remove node 'a', node 'b'"):
        step.apply(site_of(tmp_path, Run(rc=1)))
    with pytest.raises(FarmError, match="node 'a' could not be put back"):
        step.revert(site_of(tmp_path, Run()))
    run = Run()
    replace(step, running=frozenset()).revert(site_of(tmp_path, run))
    assert run.ran == []


@pytest.mark.parametrize("with_cache", [True, False])
def test_a_container_is_removed_and_started_again(tmp_path, with_cache):
    engines, run = Containers(), Run(RUNNING.format("a"))
    site = site_of(tmp_path, run, engines)
    step = RemoveContainer(A, with_cache, replace(FARM, nodes=(A,)))
    assert step.action[0] == ("remove-container-and-cache" if with_cache else "remove-container")
    step.apply(site)
    step.revert(site)
    assert engines.done == ["remove_container a", *(["remove_cache a"] if with_cache else []), "remove_container a"]
    assert run.ran == [["inspect", "--bootstrap", "farm"]]
    replace(step, former=None).revert(site)
    assert len(run.ran) == 1


def test_a_definition_is_written_and_the_former_one_put_back(tmp_path):
    engines = Containers("mark b")
    site = site_of(tmp_path, engines=engines)
    before = site.store.write(FARM, None)
    changed = replace(FARM, nodes=(A,))
    step = WriteDefinition("p", changed, before)
    step.apply(site)
    assert engines.done == ["mark a"], "the node's engine is told of its use"
    assert site.store.get("farm") == changed
    step.revert(site)
    assert site.store.read("farm") == before
    step.revert(site)
    assert site.store.read("farm") == before, "one that was not written stays"
    with pytest.raises(StoreConflict):
        WriteDefinition("p", changed, b"other").apply(site)
    # An engine that cannot be told is no reason to stop, and one that did not answer is not asked again.
    WriteDefinition("p", FARM, before).apply(site)
    done = len(engines.done)
    site.unreachable[A.endpoint] = "no answer"
    WriteDefinition("p", FARM, before).apply(site)
    assert len(engines.done) == done


def test_a_definition_is_removed_and_put_back(tmp_path):
    site = site_of(tmp_path)
    before = site.store.write(FARM, None)
    step = RemoveDefinition("p", "farm", before)
    step.revert(site)
    assert site.store.read("farm") == before, "one that was not removed stays"
    step.apply(site)
    assert site.store.read("farm") is None
    step.revert(site)
    assert site.store.read("farm") == before


def test_a_broken_definition_is_copied_for_its_owner_alone(tmp_path):
    step = CopyDefinition("p", str(tmp_path / "copy"), b"{")
    assert step.action == ["copy", "p", str(tmp_path / "copy")]
    step.apply(site_of(tmp_path))
    assert (tmp_path / "copy").read_bytes() == b"{"
    assert (tmp_path / "copy").stat().st_mode & 0o7777 == 0o600


@pytest.mark.parametrize(("everywhere", "option"), [(True, "--global"), (False, "--default")])
def test_a_builder_is_made_the_current_one(tmp_path, everywhere, option):
    run = Run()
    step = UseBuilder("farm", everywhere)
    step.apply(site_of(tmp_path, run))
    assert run.ran == [["use", option, "farm"]] == [step.action[2:]]


def test_the_last_step_is_undone_first_and_what_fails_stops_nothing(tmp_path):
    engines = Containers("stop_container b", "remove_container b")
    site = site_of(tmp_path, engines=engines)
    site.store.write(FARM, None)
    definition = RemoveDefinition("p", "farm", site.store.read("farm"))
    steps = (RemoveContainer(A), RemoveContainer(replace(A, name="c")), definition, StopContainer(B))
    with pytest.raises(FarmError) as caught:
        BuilderPlan({}, {}, steps).apply(site)
    assert caught.value.message == "stop_container b: busy. The builder was put back as it was"
    assert sorted(engines.done[:2]) == ["remove_container a", "remove_container c"]
    assert engines.done[2:] == ["remove_container c", "remove_container a"]
    assert site.store.get("farm") == FARM
    with pytest.raises(FarmError, match=r"busy\. The builder's definition was left as it was, but node 'b' could"):
        BuilderPlan({}, {}, (RemoveContainer(B),)).apply(site)


def test_a_builder_that_was_removed_since_it_was_listed(tmp_path, monkeypatch):
    monkeypatch.setenv("BUILDX_CONFIG", str(tmp_path))
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT"):
        monkeypatch.delenv(name, raising=False)
    Store(tmp_path).write(FARM, None)
    monkeypatch.setattr(Store, "get", lambda _store, _name: None)
    (found,) = info({"name": "FARM", "timeout": 1, "docker_config": str(tmp_path)}, False, Run())["builders"]
    assert found == {
        "name": "farm",
        "driver": None,
        "nodes": [],
        "platforms": [],
        "error": "the builder was just removed",
        "current": False,
    }
    assert json.dumps(found)
