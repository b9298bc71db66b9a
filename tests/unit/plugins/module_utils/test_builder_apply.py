# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Carrying plans out, on engines that live in memory."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
from dataclasses import replace

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._builder import apply
from ansible_collections.buildfarm.multiarch.plugins.module_utils._builder.info import run as info
from ansible_collections.buildfarm.multiarch.plugins.module_utils._buildx.store import (
    Instance,
    Node,
    Store,
    StoreConflict,
    TruncatedInstance,
)
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.runner import CommandError, Result
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker.context_store import ContextStore


@pytest.fixture
def world(builder_world):
    return builder_world


B = {"name": "b", "endpoint": "tcp://b:2375"}


def test_create_change_stop_and_remove(world):
    for nodes, params in [
        ([{}, B], {}),
        ([{"platforms": ["linux/arm64"]}, B], {}),
        ([{"env": {"A": "b"}}, B], {}),
        ([B, {}], {"use": True, "use_scope": "global"}),
        ([{}], {}),
        ([], {"state": "stopped"}),
        ([], {"state": "absent"}),
    ]:
        predicted, result, again = (world.call(*nodes, check=check, **params) for check in (True, False, False))
        assert [predicted[key] for key in ("changed", "actions", "diff")] == [
            result[key] for key in ("changed", "actions", "diff")
        ]
        assert (result["changed"], again["changed"]) == (True, False)
    assert (world.containers, world.volumes, world.store.names()) == ({}, set(), ())


def test_what_is_not_declared_is_compared_too_where_a_node_is_reached_in_another_way(world):
    world.call({"buildkitd_config": "debug = true"})
    before = dict(world.containers)
    moved = world.call({"endpoint": "tcp://192.0.2.1:2375"})
    assert [action[0] for action in moved["actions"]] == ["write"] and world.containers == before


def test_a_container_with_buildxs_default_configuration_is_found_again(world):
    (world.config / "buildx").mkdir()
    (world.config / "buildx/buildkitd.default.toml").write_text("debug = true")
    world.call({})
    before = dict(world.containers)
    world.store.path("farm").unlink()
    assert [action[0] for action in world.call({})["actions"]] == ["write"] and world.containers == before


@pytest.mark.parametrize("driver, files", [("docker-container", ["buildkitd.toml"]), ("remote", [])])
def test_a_remote_node_gets_no_default_configuration(world, driver, files):
    (world.config / "buildx").mkdir()
    (world.config / "buildx/buildkitd.default.toml").write_text("debug = true")
    (node,) = world.call({}, driver=driver, check=True, probe=False)["builder"]["nodes"]
    assert list(node["files"]) == files


@pytest.mark.parametrize("keep", [False, True])
def test_a_cache_that_an_ended_run_has_left_goes_with_its_node(world, keep):
    world.call({}, B)
    place = next(place for place in world.containers if place[0] == "tcp://b:2375")
    del world.containers[place]
    done = world.call({}, keep_state=keep or None)
    assert [action[0] for action in done["actions"]] == [*([] if keep else ["remove-container-and-cache"]), "write"]
    assert sorted(end for end, _volume in world.volumes) == ["tcp://a:2375", *(["tcp://b:2375"] if keep else [])]


@pytest.mark.parametrize(
    "pins, platforms, ran",
    [
        ([], None, []),
        (["linux/arm64"], ["linux/arm64"], []),
        ([], ["linux/386"], ["inspect"]),
        (["linux/amd64"], ["linux/386"], ["inspect"]),
    ],
)
def test_a_run_that_changes_nothing_asks_buildkit_where_no_pin_tells_and_takes_no_lock(world, pins, platforms, ran):
    nodes = [{"platforms": pins}, B]
    world.call(*nodes, platforms=platforms)
    os.unlink(world.config / "buildx/.multiarch.farm.lock")
    world.ran.clear()
    assert not world.call(*nodes, platforms=platforms)["changed"]
    assert world.ran == ran
    assert not (world.config / "buildx/.multiarch.farm.lock").exists()


def test_the_first_run_is_predicted_without_docker_and_without_engines(world):
    world.docker = False
    world.dead = {"tcp://a:2375"}
    predicted = world.call({"endpoint": "to-be-made"}, check=True, probe=False)
    assert [action[0] for action in predicted["actions"]] == ["docker", "write"]
    assert predicted["builder"]["nodes"][0]["status"] == "unknown"
    with pytest.raises(FarmError, match="no answer"):
        world.call({}, check=True)
    world.dead.clear()
    with pytest.raises(CommandError, match="no buildx that runs here"):
        world.call({})
    assert world.store.names() == () and world.containers == {}


@pytest.mark.parametrize("existing", [True, False])
def test_a_node_that_does_not_start_leaves_all_as_it_was(world, existing):
    if existing:
        world.call({}, B)
        before = world.store.read("farm")
    else:
        before = None
    volumes, other = set(world.volumes), world.containers.get(("tcp://b:2375", "buildx_buildkit_b"))
    with pytest.raises(FarmError) as caught:
        world.call({"driver_opts": {"image": "bad"}}, B, {"name": "c", "endpoint": "tcp://c:2375"})
    assert "could not start node 'a' (no reason given). The builder was put back as it was" in caught.value.message
    assert caught.value.details["cmd"][:3] == ["docker", "buildx", "inspect"]
    assert world.store.read("farm") == before and world.volumes == volumes
    assert world.containers.get(("tcp://b:2375", "buildx_buildkit_b")) == other
    assert {name for _endpoint, name in world.containers} == (
        {"buildx_buildkit_a", "buildx_buildkit_b"} if existing else set()
    )
    if existing:
        assert not world.call({}, B)["changed"]


def test_pods_are_put_back_too(world):
    nodes = {"driver": "kubernetes", "nodes": [{**world.NODE, "name": name} for name in ("a", "b")]}
    world.call(**nodes)
    before, running = world.store.read("farm"), set(world.containers)
    bad = [{**world.NODE, "name": "a", "driver_opts": {"image": "bad"}}, {**world.NODE, "name": "c"}]
    with pytest.raises(FarmError, match=r"could not start node 'a'.*The builder was put back as it was"):
        world.call(**{**nodes, "nodes": bad, "purge_nodes": False})
    assert (world.store.read("farm"), set(world.containers)) == (before, running)
    assert not world.call(**nodes)["changed"]


def test_a_cache_that_was_there_before_outlives_a_failure(world):
    world.volumes.add(("tcp://a:2375", "buildx_buildkit_a_state"))
    with pytest.raises(FarmError, match="no node serves linux/s390x"):
        world.call({}, platforms=["linux/s390x"])
    assert world.volumes == {("tcp://a:2375", "buildx_buildkit_a_state")} and world.containers == {}


def test_what_cannot_be_put_back_is_said(world, monkeypatch):
    world.call({})

    def refuse(node):
        raise FarmError(f"engine tcp://a:2375: could not remove {node.container}: busy")

    monkeypatch.setattr(world, "remove_container", refuse)
    with pytest.raises(FarmError) as caught:
        world.call({"env": {"A": "b"}})
    assert "The builder's definition was left as it was, but node 'a' could not be put back" in caught.value.message


def test_a_builder_that_cannot_be_made_the_current_one_is_put_back(world, monkeypatch):
    world.call({}, B)
    before, containers = world.store.read("farm"), set(world.containers)

    def refuse(_name, _everywhere):
        raise CommandError("refused", Result((), 1, "", ""))

    monkeypatch.setattr(world, "use", refuse)
    with pytest.raises(FarmError, match=r"refused.*\. The builder was put back as it was"):
        world.call({"env": {"A": "b"}}, use=True)
    assert (world.store.read("farm"), set(world.containers)) == (before, containers)
    assert {container.env.get("A") for container in world.containers.values()} == {None}
    assert not world.call({}, B)["changed"]


def test_what_a_lost_definition_left_is_not_started_again(world, monkeypatch):
    world.call({}, B)
    world.store.path("farm").unlink()

    def refuse(_node):
        raise FarmError("busy")

    monkeypatch.setattr(world, "remove_cache", refuse)
    with pytest.raises(FarmError, match="busy"):
        world.call({}, B, state="absent")
    assert world.containers == {}


def test_a_definition_that_buildx_changed_meanwhile_is_planned_anew(world):
    def change():
        world.meanwhile = None
        node = Instance.from_json(b'{"Nodes": [{"Name": "z", "Endpoint": "tcp://z:2375"}]}', "").nodes
        world.store.write(Instance("farm", "docker-container", node), world.store.read("farm"))

    world.meanwhile = change
    world.call({})
    assert [node.name for node in world.store.get("farm").nodes] == ["a"]


def test_a_definition_that_keeps_changing_is_given_up(world, monkeypatch):
    tries = []

    def write(_store, instance, _expected):
        tries.append(instance)
        raise StoreConflict("farm: changed by another process meanwhile; run again")

    monkeypatch.setattr(Store, "write", write)
    with pytest.raises(StoreConflict):
        world.call({})
    assert len(tries) == 3


def test_what_is_not_reached_in_the_end_is_an_error(world, monkeypatch):
    monkeypatch.setattr(world, "stop_container", lambda _node: None)
    world.call({})
    with pytest.raises(FarmError, match="still stop-container tcp://a:2375 buildx_buildkit_a would be needed"):
        world.call(state="stopped")


def test_an_option_below_its_floor_is_refused_first(world):
    with pytest.raises(FarmError, match=r"the driver option gpus needs buildx 0\.30\.0 or later, found 0\.29\.1"):
        world.call({"driver_opts": {"gpus": "all"}}, check=True)


def test_info(world):
    world.call({"platforms": ["linux/arm64"]}, B, use=True, use_scope="global")
    world.store.path("broken").write_text("{")
    world.dead = {"tcp://b:2375"}
    builders = info({"name": None, "timeout": 5, "docker_config": str(world.config)}, False, world.run)["builders"]
    assert [(builder["name"], builder["current"]) for builder in builders] == [("broken", False), ("farm", True)]
    assert [(node["status"], node["error"]) for node in builders[1]["nodes"]] == [
        ("running", None),
        ("unreachable", "engine tcp://b:2375: no answer"),
    ]
    assert builders[1]["platforms"][0] == {"platform": "linux/arm64", "node": "a", "source": "pin", "native": False}


def test_secrets_of_an_environment_are_not_returned(world):
    made = world.call({"env": {"AWS_SECRET_ACCESS_KEY": "hush", "LANG": "C"}}, B)
    assert world.store.get("farm").nodes[0].driver_opts["env.AWS_SECRET_ACCESS_KEY"] == "hush"
    shown = info({"name": "farm", "timeout": 5, "docker_config": str(world.config)}, False, world.run)
    assert "hush" not in json.dumps([made, shown])
    assert shown["builders"][0]["nodes"][0]["driver_opts"] == {"env.AWS_SECRET_ACCESS_KEY": "***", "env.LANG": "C"}


CA = {"name": "a", "endpoint": "farm-a", "context": {"host": "ssh://a", "description": "A"}}
CB = {"name": "b", "endpoint": "farm-b", "context": {"host": "ssh://b"}}


def contexts_of(world):
    return sorted(ContextStore(world.config).all())


def test_contexts_come_before_the_nodes_and_go_after_them(world):
    purge = {"purge_contexts": True}
    for nodes, params, steps, names in [
        ([CA, CB], {}, ["create", "create"], ["farm-a", "farm-b"]),
        ([{**CA, "context": {"host": "ssh://elsewhere"}}, CB], {}, ["update"], ["farm-a", "farm-b"]),
        ([CA], {}, ["update"], ["farm-a", "farm-b"]),
        ([CA], purge, ["remove"], ["farm-a"]),
        ([B], purge, ["remove"], []),
        ([CA], {}, ["create"], ["farm-a"]),
        ([], {"state": "absent", **purge}, ["remove"], []),
    ]:
        predicted, result, again = (world.call(*nodes, check=check, **params) for check in (True, False, False))
        assert (predicted["changed"], result["changed"], again["changed"]) == (True, True, False)
        assert again["diff"]["before"] == again["diff"]["after"] == result["diff"]["after"]
        # Check mode does not look at nodes whose contexts are still to be made.
        if steps == ["remove"]:
            assert [predicted[key] for key in ("actions", "diff")] == [result[key] for key in ("actions", "diff")]
        assert [action[0].split()[0] for action in result["actions"] if " context " in action[0]] == steps
        assert contexts_of(world) == names
        assert [one["name"] for one in result["contexts"]] == [node["endpoint"] for node in nodes if "context" in node]


def test_steps_on_contexts_surround_those_on_the_builder(world):
    world.call(CA)
    done = world.call(CB, purge_contexts=True)
    assert done["actions"][0] == ["create context 'farm-b'"] and done["actions"][-1] == ["remove context 'farm-a'"]
    assert len(done["actions"]) > 3
    before, after = done["diff"]["before"]["contexts"], done["diff"]["after"]["contexts"]
    assert {name: context["host"] for name, context in before.items()} == {"farm-a": "ssh://a"}
    assert {name: context["host"] for name, context in after.items()} == {"farm-b": "ssh://b"}
    predicted = world.call(CA, purge_contexts=True, check=True)
    assert [action for action in predicted["actions"] if "context" in action[0]] == [
        ["create context 'farm-a'"],
        ["remove context 'farm-b'"],
    ]
    assert contexts_of(world) == ["farm-b"]


def test_a_context_that_another_builder_needs_stays(world):
    world.call(CA)
    world.call({"name": "a", "endpoint": "farm-a"}, name="other", share_nodes=True)
    for _run in range(2):
        outcome = world.outcome(B, purge_contexts=True)
        assert contexts_of(world) == ["farm-a"]
        assert any("builder 'other' uses it" in warning for warning in outcome.warnings)
    assert not outcome.changed


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({**CA, "driver_opts": {"nonsense": "1"}}, "nonsense"),
        ({**CA, "endpoint": "farm"}, "the context of a node has this name"),
        ({**CA, "endpoint": "tcp://a:2376"}, "tcp://a:2376"),
        ({**CA, "context": {"host": "tcp://a:2375"}}, "without TLS"),
        ({**CA, "context": {"host": "tcp://a", "cert": "/nowhere"}}, "belong together"),
    ],
)
@pytest.mark.parametrize("check", [True, False])
def test_what_cannot_be_meant_makes_no_context(world, node, message, check):
    with pytest.raises(FarmError, match=re.escape(message)):
        world.call(node, check=check)
    assert contexts_of(world) == []


@pytest.mark.parametrize("check", [True, False])
def test_two_contexts_to_be_made_for_one_engine_are_refused(world, check):
    with pytest.raises(FarmError, match="nodes 'a' and 'b' have one endpoint, ssh://a"):
        world.call(CA, {**CB, "context": {"host": "ssh://a"}}, check=check)
    assert contexts_of(world) == []


def test_a_context_stays_where_the_builder_fails(world):
    world.dead.add("farm-a")
    with pytest.raises(FarmError, match="no answer"):
        world.call(CA)
    assert contexts_of(world) == ["farm-a"] and world.store.names() == ()
    world.dead.clear()
    assert not any("context" in action[0] for action in world.call(CA)["actions"])


@pytest.mark.parametrize(
    ("version", "node", "params", "message"),
    [
        ("v0.6.3", {}, {}, r"the module buildx_builder needs buildx 0\.7\.0 or later, found 0\.6\.3"),
        ("v0.7.0", {}, {}, None),
        ("v0.8.2", {}, {"driver": "remote"}, r"the remote driver needs buildx 0\.9\.0 or later, found 0\.8\.2"),
        ("v0.9.0", {}, {"driver": "remote"}, None),
        ("v0.13.1", {"driver_opts": {"default-load": "true"}}, {}, r"default-load needs buildx 0\.14\.0 or later"),
        ("v0.14.0", {"driver_opts": {"default-load": "true"}}, {}, None),
        ("v0.29.9", {"driver_opts": {"provenance-add-gha": "true"}}, {}, r"add-gha needs buildx 0\.30\.0 or later"),
        ("v0.30.0", {"driver_opts": {"provenance-add-gha": "true", "gpus": "all"}}, {}, None),
    ],
)
def test_what_a_buildx_does_not_know_is_refused(world, version, node, params, message):
    world.version = version
    if message:
        with pytest.raises(FarmError, match=message):
            world.call(node, check=True, probe=False, **params)
    else:
        assert world.call(node, check=True, probe=False, **params)["changed"]


def test_a_builder_goes_however_old_buildx_is(world):
    world.call({})
    world.version = "v0.7.0"
    world.call(state="absent")
    assert world.store.names() == ()


def test_the_driver_stays_where_none_is_declared(world, monkeypatch):
    monkeypatch.setattr("socket.create_connection", lambda *_address, timeout: io.BytesIO())
    world.call({}, driver="remote")
    with pytest.raises(FarmError, match="node 'a': the remote driver takes neither buildkitd flags"):
        world.call({"buildkitd_flags": "--debug"})
    assert world.store.get("farm").driver == "remote"


def test_a_prediction_of_nothing_leaves_buildkit_alone(world):
    world.call({})
    world.ran.clear()
    assert not world.call({}, check=True)["changed"]
    assert world.ran == []
    assert world.call({}, B, check=True)["changed"]
    assert "inspect" in world.ran


def test_a_truncated_definition_is_an_error_only_where_it_is_all_that_tells_of_the_nodes(world):
    world.call({})
    world.store.path("farm").write_text("{")
    with pytest.raises(TruncatedInstance):
        world.call()
    assert world.call({})["changed"]
    assert (world.store.directory / "farm.broken").read_text() == "{"
    world.store.path("farm").write_text("{")
    assert world.call(state="absent")["changed"]
    assert world.store.names() == ()


@pytest.mark.parametrize("scope", ["default", "global"])
def test_a_builder_that_is_the_current_one_is_not_made_so_again(world, scope):
    first = world.call({}, use=True, use_scope=scope)
    assert first["actions"][-1][:4] == ["docker", "buildx", "use", f"--{scope}"]
    assert not world.call({}, use=True, use_scope=scope)["changed"]
    other = "global" if scope == "default" else "default"
    assert world.call({}, use=True, use_scope=other)["actions"] == [["docker", "buildx", "use", f"--{other}", "farm"]]


def test_containers_that_run_and_do_not_answer_are_warned_of_where_they_have_to(world, monkeypatch):
    world.call({})
    report = "Name: farm\nDriver: docker-container\n\nNodes:\nName: a\nEndpoint: tcp://a:2375\nError: no worker\n"
    monkeypatch.setattr(world, "inspect", lambda builder, boot: report)
    outcome = world.outcome({}, platforms=["linux/amd64"])
    assert outcome.warnings == (
        "builder 'farm': container buildx_buildkit_a on tcp://a:2375 runs, but BuildKit does not answer: no worker",
    )
    outcome = world.outcome(check=True, state="stopped")
    assert (outcome.changed, outcome.warnings) == (True, ())


def test_a_container_that_somebody_has_paused_goes_on(world):
    """It is running for the engine and for buildx, and nothing can be built there."""
    place = ("tcp://a:2375", "buildx_buildkit_a")
    unpause = ["unpause-container", *place]
    world.call({})
    for options, more in (({}, [["docker", "buildx", "inspect", "--bootstrap", "farm"]]), ({"bootstrap": False}, [])):
        world.pause_container(Node("a", "tcp://a:2375"))
        (found,) = info({"name": "farm", "timeout": 5, "docker_config": str(world.config)}, False, world.run)[
            "builders"
        ]
        assert (found["nodes"][0]["status"], found["nodes"][0]["detected"]) == ("paused", None)
        predicted, result, again = (world.call({}, check=check, **options) for check in (True, False, False))
        for part in ("changed", "actions", "diff"):
            assert predicted[part] == result[part]
        assert result["actions"] == [unpause, *more]
        assert [result["diff"][side]["nodes"][0]["container"] for side in ("before", "after")] == ["paused", "running"]
        assert result["builder"]["nodes"][0]["status"] == "running"
        assert (again["changed"], world.made) == (False, 1)
    world.pause_container(Node("a", "tcp://a:2375"))
    assert world.call(state="stopped")["actions"] == [["stop-container", *place]]


def test_one_that_does_not_answer_when_it_goes_on_is_paused_again(world, monkeypatch):
    world.call({})
    world.pause_container(Node("a", "tcp://a:2375"))
    before = dict(world.containers)
    monkeypatch.setattr(world, "inspect", lambda builder, boot: "Name: farm\n\nNodes:\nName: a\nError: no worker\n")
    with pytest.raises(FarmError, match=r"could not start node 'a' \(no worker\)\. The builder was put back as it was"):
        world.call({})
    assert world.containers == before


def test_the_choice_of_a_builder_is_one_for_dockers_current_endpoint(world, monkeypatch):
    world.call({}, use=True)
    monkeypatch.setenv("DOCKER_HOST", "tcp://elsewhere:2376")
    assert world.call({}, use=True, check=True)["actions"] == [["docker", "buildx", "use", "--default", "farm"]]
    monkeypatch.delenv("DOCKER_HOST")
    assert not world.call({}, use=True, check=True)["changed"]
    # What is the default of the endpoint is another than the one that was chosen last.
    for entry in (world.store.directory / "defaults").iterdir():
        entry.write_text("other")
    assert world.call({}, use=True, check=True)["changed"]


def test_a_builder_as_it_is_returned(world):
    requested = world.call({"platforms": ["linux/arm64"]}, B, platforms=["linux/amd64"])["builder"]
    assert requested["platforms"] == [{"platform": "linux/amd64", "node": "a", "source": "detected", "native": True}]
    node = requested["nodes"][0]
    assert [node[key] for key in ("native", "status", "version", "error")] == ["linux/amd64", "running", None, None]
    assert node["detected"] == ["linux/amd64", "linux/386"]
    every = world.call({"platforms": ["linux/arm64"]}, B)["builder"]["platforms"]
    assert [route["platform"] for route in every] == ["linux/arm64"]


def test_two_nodes_do_not_bring_one_context(world):
    twice = {**CB, "endpoint": "farm-a", "context": {"host": "ssh://b"}}
    with pytest.raises(FarmError, match="farm-a"):
        world.call(CA, twice, check=True)


@pytest.mark.parametrize(("driver", "taken"), [("docker-container", True), ("remote", False)])
def test_containers_are_shared_with_builders_that_have_containers(world, driver, taken):
    world.store.write(Instance("other", driver, (Node("a", "tcp://a:2375"),)), None)
    (world.store.directory / "instances/broken").write_text("{")
    if taken:
        with pytest.raises(FarmError, match="which belongs to builder 'other'"):
            world.call({})
    assert world.call({}, share_nodes=taken)["changed"]


def test_a_container_with_the_wanted_configuration_stays_where_the_definition_has_lost_it(world):
    """Also where the node that is there already is declared without its endpoint."""
    world.call({"buildkitd_config": "debug = true"})
    before = dict(world.containers)
    instance = world.store.get("farm")
    (node,) = instance.nodes
    world.store.path("farm").write_bytes(replace(instance, nodes=(replace(node, files=None),)).to_json())
    done = world.call({"endpoint": None, "buildkitd_config": "debug = true"})
    assert [action[0] for action in done["actions"]] == ["write"] and world.containers == before


def test_a_definition_alone_touches_no_engine(world, monkeypatch):
    """It finds again what the nodes have, and what they lack, it does not start."""
    world.call({}, B)
    before = dict(world.containers)
    world.store.path("farm").unlink()
    context = {"host": "tcp://a:2375", "description": None, "ca": None, "cert": None, "key": None}
    context.update(skip_tls_verify=None, insecure=True)
    named = {"endpoint": "reached", "context": context}
    with monkeypatch.context() as patched:
        for name in ("read", "mark", "remove_container", "remove_cache"):
            patched.setattr(world, name, lambda *_arguments, name=name: pytest.fail(f"{name} of an engine"))
        ran = len(world.ran)
        predicted, done, again = (world.call(named, B, state="defined", check=check) for check in (True, False, False))
        assert set(world.ran[ran:]) <= {"version"}
    assert predicted["actions"] == done["actions"]
    assert (done["changed"], again["changed"], again["actions"]) == (True, False, [])
    assert [node.name for node in world.store.get("farm").nodes] == ["a", "b"]
    world.aliases["reached"] = "tcp://a:2375"
    assert world.call(named, B)["actions"] == []
    # Others leave the definition, and keep what they have.
    assert world.call(B, state="defined")["changed"]
    assert world.containers == before


@pytest.mark.parametrize(
    "error, patience, reached",
    [("connection refused; is", 5, True), ("connection refused; is", 1e-9, False), ("no way to the host", 5, False)],
)
def test_an_engine_that_is_being_restarted_is_waited_for(world, monkeypatch, error, patience, reached):
    """By the state alone, and in check mode not at all."""
    monkeypatch.setattr(apply, "_PAUSE", 0)
    read, restarts = world.read, [FarmError(f"engine tcp://a:2375: {error}")] * 3

    def restarting(endpoint, definitions):
        if restarts:
            raise restarts.pop()
        return read(endpoint, definitions)

    monkeypatch.setattr(world, "read", restarting)
    with contextlib.nullcontext() if reached else pytest.raises(FarmError, match=error):
        assert world.call({}, timeout=patience)["changed"]
    assert bool(restarts) != reached


def test_what_a_restarted_engine_has_interrupted_is_planned_again(world, monkeypatch):
    """As the lock goes with the engine."""
    remove, failing = world.remove_container, [FarmError("engine tcp://a:2375: connection closed")]

    def interrupted(node):
        if failing:
            world.locks.gone = True
            raise failing.pop()
        remove(node)

    world.call({})
    monkeypatch.setattr(world, "remove_container", interrupted)
    done = world.call({"env": {"A": "b"}})
    assert [action[0] for action in done["actions"]] == ["remove-container", "docker", "write"]
    assert world.containers["tcp://a:2375", "buildx_buildkit_a"].env == {"A": "b"}


def test_a_failure_while_the_lock_holds_is_one(world, monkeypatch):
    def failing(node):
        raise FarmError("engine tcp://a:2375: no room")

    world.call({})
    monkeypatch.setattr(world, "remove_container", failing)
    with pytest.raises(FarmError, match="no room"):
        world.call({"env": {"A": "b"}})


def test_what_a_build_of_another_controller_started_in_between_is_made_anew(world):
    """That one knows the node as it was; buildx takes what is there."""
    world.call({})
    former = dict(world.containers)

    def build():
        world.containers.update(former)
        world.meanwhile = None

    world.meanwhile = build
    done = world.call({"env": {"A": "b"}})
    assert world.containers["tcp://a:2375", "buildx_buildkit_a"].env == {"A": "b"}
    assert [action[0] for action in done["actions"]].count("remove-container") == 2
    assert world.locks.taken[-1] == ["tcp://a:2375"]


def test_engines_are_locked_where_their_containers_change(world):
    world.call({}, B)
    assert world.locks.taken == [["tcp://a:2375", "tcp://b:2375"]]
    world.call({}, {**B, "env": {"A": "b"}})
    world.call({"platforms": ["linux/arm64"]}, {**B, "env": {"A": "b"}})
    world.call({"platforms": ["linux/arm64"]}, {**B, "env": {"A": "b"}})
    world.call({"env": {"C": "d"}}, check=True)
    assert world.locks.taken[1:] == [["tcp://b:2375"], []]
