# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The plan for a builder: what is there, what is declared, which steps lead from one to the other.

Nodes are written in short: `a` is a node whose container runs as defined. After the name, `.stopped`, `.paused`,
`.missing`, `.looping`, `.dead` (unreachable) or `.old` (made with other settings) say how it is found otherwise, and
`=` is followed by its pins.
"""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._builder.declaration import Declaration, NodeSpec
from ansible_collections.buildfarm.multiarch.plugins.module_utils._builder.drift import DEFAULT_IMAGE
from ansible_collections.buildfarm.multiarch.plugins.module_utils._builder.model import Container, NodeState, describe
from ansible_collections.buildfarm.multiarch.plugins.module_utils._builder.nodes import Depth, Site
from ansible_collections.buildfarm.multiarch.plugins.module_utils._builder.plan import plan
from ansible_collections.buildfarm.multiarch.plugins.module_utils._builder.platforms import check_platforms
from ansible_collections.buildfarm.multiarch.plugins.module_utils._builder.state import State, read_state
from ansible_collections.buildfarm.multiarch.plugins.module_utils._builder.steps import RemoveContainer
from ansible_collections.buildfarm.multiarch.plugins.module_utils._buildx.cli import Buildx
from ansible_collections.buildfarm.multiarch.plugins.module_utils._buildx.store import Instance, Node
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker.context_store import ContextStore
from ansible_collections.buildfarm.multiarch.plugins.module_utils._platform.platform import Platform, parse_all

PATH = "/b/instances/farm"
FLAGS = ("--allow-insecure-entitlement=network.host",)
AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")
SHORT = {
    "amd64": "linux/amd64",
    "arm64": "linux/arm64",
    "386": "linux/386",
    "riscv64": "linux/riscv64",
    "s390x": "linux/s390x",
}


def pins(text):
    return parse_all(SHORT[item] for item in text.split("+") if item)


def endpoint(name):
    return f"tcp://{name}:2376"


def stored(text):
    """The node that a short text describes, as it is stored."""
    name, _equals, platforms = text.partition("=")
    name = name.partition(".")[0]
    return Node(name, endpoint(name), pins(platforms) or None, None, FLAGS)


def container(node, how):
    if how == "missing":
        return None
    return Container(
        running=how != "stopped",
        restarting=how == "looping",
        paused=how == "paused",
        image=DEFAULT_IMAGE if how != "old" else "moby/buildkit:v0.9",
        args=node.flags or (),
        files=node.files or {},
        identifier=f"id-{node.name}",
    )


def found(node, how="running", native=AMD64, detected=None):
    if how == "dead":
        return NodeState(known=True, error=f"engine {node.endpoint}: no answer")
    at = container(node, how)
    if detected is None and at is not None and how == "running":
        detected = (native, Platform("linux", "386"))
    return NodeState(known=True, native=native, container=at, detected=detected)


def state_of(before, declared=(), natives=None, **more):
    """The state of the nodes in `before` (None for no builder) and of those declared beside them."""
    states, nodes = {}, []
    natives = natives or {}
    for text in (before or "").split():
        node, how = stored(text), text.partition("=")[0].partition(".")[2] or "running"
        nodes.append(node)
        states[(node.name, node.endpoint)] = found(node, how, natives.get(node.name, AMD64))
    for spec in declared:
        place = (spec.name, spec.endpoint or endpoint(spec.name))
        if place not in states:
            node = Node(spec.name, place[1])
            states[place] = found(node, "missing", natives.get(spec.name, AMD64))
    instance = None if before is None else Instance("farm", "docker-container", tuple(nodes))
    content = None if instance is None else instance.to_json()
    return State(**{"path": PATH, "content": content, "instance": instance, "nodes": states, **more})


def specs(text):
    """Declared nodes: `a=amd64` pins, `a=` clears the pins, `a` leaves them."""
    wanted = []
    for item in text.split():
        name, given, platforms = item.partition("=")
        wanted.append(NodeSpec(name, endpoint(name), platforms=pins(platforms) if given else None))
    return tuple(wanted)


#: Each kind of step in short.
KINDS = {
    "CopyDefinition": "save",
    "RemoveContainer": "drop",
    "RemoveDefinition": "remove",
    "RemovePods": "uninstall",
    "StartNodes": "boot",
    "StopContainer": "stop",
    "UnpauseContainer": "unpause",
    "UseBuilder": "use",
    "WriteDefinition": "write",
}


def nodes_of(step):
    if hasattr(step, "builder"):
        return step.builder.nodes
    return step.nodes if hasattr(step, "nodes") else (step.node,) if hasattr(step, "node") else ()


def steps(planned):
    """Steps in short."""
    shown = []
    for step in planned.steps:
        names = "+".join(node.name for node in nodes_of(step))
        wipes = isinstance(step, RemoveContainer) and step.with_cache
        kind = "wipe" if wipes else KINDS[type(step).__name__]
        shown.append(f"{kind} {names}" if names else kind)
    return shown


def run(before, declared, natives=None, there=None, **options):
    nodes = specs(declared) if isinstance(declared, str) else declared
    found_state = state_of(before, nodes or (), natives, **(there or {}))
    return plan(Declaration("farm", nodes=nodes, **{"purge_nodes": True, **options}), found_state)


#: Undeclared nodes stay.
STAY = {"purge_nodes": False}


def gone(*names, **options):
    """Options by which nodes leave that are named, and no others."""
    return {"purge_nodes": None, "absent": frozenset(names), **options}


# Before, declared nodes, options of the declaration, steps.
ROWS = [
    # Nothing there.
    (None, "a", {}, ["boot a", "write"]),
    (None, "a b c", {}, ["boot a+b+c", "write"]),
    (None, "a=amd64 b=arm64", {}, ["boot a+b", "write"]),
    (None, "a", {"bootstrap": False}, ["write"]),
    (None, "a", {"state": "stopped"}, ["write"]),
    (None, "a", {"state": "absent"}, []),
    (None, None, {"state": "absent"}, []),
    (None, "a", {"use": "default"}, ["boot a", "write", "use"]),
    (None, "a", {"use": "global"}, ["boot a", "write", "use"]),
    (None, "a", {"keep_state": False}, ["boot a", "write"]),
    (None, "a", {"keep_state": True}, ["boot a", "write"]),
    (None, "a", {"driver": "docker-container"}, ["boot a", "write"]),
    # All there.
    ("a", "a", {}, []),
    ("a", None, {}, []),
    ("a b", "a b", {}, []),
    ("a b", None, {}, []),
    ("a=amd64 b=arm64", "a b", {}, []),
    ("a=amd64 b=arm64", "a=amd64 b=arm64", {}, []),
    ("a=amd64+386", "a=386+amd64", {}, ["write"]),
    ("a", "a", {"driver": "docker-container"}, []),
    ("a", "a", {"bootstrap": False}, []),
    ("a", "a", {"keep_state": False}, []),
    ("a", "a", {"keep_state": True}, []),
    ("a", "a", {"use": "default"}, ["use"]),
    ("a", None, {"use": "global"}, ["use"]),
    ("a", "a", {"purge_nodes": False}, []),
    ("a", "a", {"on_unreachable": "skip"}, []),
    ("a", "a", {"on_unreachable": "detach"}, []),
    # Pins: left alone, set, moved, exchanged, cleared. buildx takes them from other nodes and never clears them.
    ("a", "a=amd64", {}, ["write"]),
    ("a=amd64", "a=arm64", {}, ["write"]),
    ("a=amd64", "a=amd64+arm64", {}, ["write"]),
    ("a=amd64+arm64", "a=amd64", {}, ["write"]),
    ("a=amd64", "a=", {}, ["write"]),
    ("a", "a=", {}, []),
    ("a=amd64 b=arm64", "a=arm64 b=amd64", {}, ["write"]),
    ("a=amd64 b=arm64", "a= b=amd64+arm64", {}, ["write"]),
    ("a=amd64 b=arm64", "a=amd64+arm64 b=", {}, ["write"]),
    ("a=amd64 b=arm64", "a=amd64 b=amd64", {}, ["write"]),
    ("a=amd64 b=arm64", "a=386 b", {}, ["write"]),
    ("a=amd64 b", "a b=amd64", {}, ["write"]),
    ("a=amd64 b", "b=386", {"purge_nodes": False}, ["write"]),
    ("a.stopped=amd64", "a=arm64", {}, ["boot a", "write"]),
    ("a=amd64", "a=arm64", {"state": "stopped"}, ["stop a", "write"]),
    ("a=amd64", "a=arm64", {"bootstrap": False}, ["write"]),
    # Order.
    ("a b", "b a", {}, ["write"]),
    ("a b c", "c a b", {}, ["write"]),
    # With others between them, which stay in their places.
    ("a b", "b a", STAY, ["write"]),
    ("a b c", "c a", STAY, ["write"]),
    ("a b", "c a", STAY, ["boot c", "write"]),
    ("a b c d", "a b", STAY, []),
    ("a b c d", "c d", STAY, []),
    # Nodes come.
    ("a", "a b", {}, ["boot b", "write"]),
    ("a", "b a", {}, ["boot b", "write"]),
    ("a", "a b", {"purge_nodes": False}, ["boot b", "write"]),
    ("a", "b", {"purge_nodes": False}, ["boot b", "write"]),
    ("a", "b c", {"purge_nodes": False}, ["boot b+c", "write"]),
    ("a", "b", {"purge_nodes": False, "bootstrap": False}, ["write"]),
    ("a.stopped", "a b", {}, ["boot a+b", "write"]),
    ("a.stopped", "b", STAY, ["boot b", "write"]),
    ("a.old", "a b", {}, ["drop a", "boot a+b", "write"]),
    # Nodes leave, with their containers: `create --leave` leaves those where they are.
    ("a b", "a", {}, ["wipe b", "write"]),
    ("a b", "b", {}, ["wipe a", "write"]),
    ("a b c", "b", {}, ["wipe a", "wipe c", "write"]),
    ("a b", "a", {"keep_state": True}, ["drop b", "write"]),
    ("a b", "a", {"keep_state": False}, ["wipe b", "write"]),
    ("a b", "a", {"bootstrap": False}, ["wipe b", "write"]),
    ("a b.missing", "a", {}, ["write"]),
    ("a b.stopped", "a", {}, ["wipe b", "write"]),
    ("a b.old", "a", {}, ["wipe b", "write"]),
    ("a b", "a", {"purge_nodes": False}, []),
    ("a b", "a c", {}, ["boot c", "wipe b", "write"]),
    ("a", "b", {}, ["boot b", "wipe a", "write"]),
    ("a b", "a", {"state": "stopped"}, ["stop a", "wipe b", "write"]),
    # Containers that do not run, or not as defined. Bootstrap only starts an existing container.
    ("a.stopped", "a", {}, ["boot a"]),
    ("a.missing", "a", {}, ["boot a"]),
    ("a.old", "a", {}, ["drop a", "boot a"]),
    ("a.looping", "a", {}, ["drop a", "boot a"]),
    ("a.stopped", None, {}, ["boot a"]),
    # One that somebody has paused goes on, also where builds are to start what does not run: none does that.
    ("a.paused", "a", {}, ["unpause a", "boot a"]),
    ("a.paused", None, {}, ["unpause a", "boot a"]),
    ("a.paused", "a", {"bootstrap": False}, ["unpause a"]),
    ("a.paused", "a=amd64", {}, ["unpause a", "boot a", "write"]),
    ("a.paused b.stopped c.old d.paused", "a b c d", {}, ["drop c", "unpause a", "unpause d", "boot a+b+c+d"]),
    ("a b.paused", "a", STAY, []),
    ("a b.paused", "a", {}, ["wipe b", "write"]),
    ("a.paused", None, {"state": "stopped"}, ["stop a"]),
    ("a.paused", "a", {"state": "defined"}, []),
    ("a.paused", None, {"state": "absent"}, ["wipe a", "remove"]),
    ("a.old", None, {}, ["drop a", "boot a"]),
    ("a.stopped b.missing c", "a b c", {}, ["boot a+b"]),
    ("a.old b.old c", "a b c", {}, ["drop a", "drop b", "boot a+b"]),
    ("a.old b.stopped", "a b", {}, ["drop a", "boot a+b"]),
    ("a.old", "a", {"keep_state": True}, ["drop a", "boot a"]),
    ("a.old", "a", {"keep_state": False}, ["wipe a", "boot a"]),
    ("a.stopped", "a", {"bootstrap": False}, []),
    ("a.missing", "a", {"bootstrap": False}, []),
    ("a.old", "a", {"bootstrap": False}, ["drop a"]),
    ("a.looping", "a", {"bootstrap": False}, ["drop a"]),
    ("a.old", "a=amd64", {"bootstrap": False}, ["drop a", "write"]),
    ("a.old b", "a b", {"purge_nodes": False}, ["drop a", "boot a"]),
    # Undeclared nodes that stay do so as they are, whether they answer or not.
    ("a b.stopped", "a", STAY, []),
    ("a b.old", "a", STAY, []),
    ("a b.missing", "a", STAY, []),
    ("a b.dead", "a", STAY, []),
    ("a b.dead", "a", {**STAY, "on_unreachable": "detach"}, []),
    ("a b.dead=arm64", "a=amd64+arm64 c", STAY, ["boot c", "write"]),
    ("a b", "a", {**STAY, "state": "stopped"}, ["stop a"]),
    # They keep their pins, and the declared ones have theirs.
    ("a=amd64 b", "b=amd64", STAY, ["write"]),
    ("a=amd64 b=386", "b=amd64", STAY, ["write"]),
    ("a=amd64+arm64", "b=amd64 c=arm64+386", STAY, ["boot b+c", "write"]),
    ("a=amd64 b=amd64", "b=amd64", STAY, []),
    ("a=amd64 b=amd64", "b", STAY, []),
    # A node that is renamed has the pins under both names until the old one is taken out.
    ("old=amd64", "new=amd64", STAY, ["boot new", "write"]),
    ("old=amd64 new", "new=amd64", STAY, ["write"]),
    ("old=amd64 new", "new=amd64", {"purge_nodes": None, "absent": frozenset(["old"])}, ["wipe old", "write"]),
    # Nodes that are named as absent leave, though they may not answer; others are left alone.
    ("a b c", "a", gone("b"), ["wipe b", "write"]),
    ("a b c", "a", gone("b", keep_state=True), ["drop b", "write"]),
    ("a b", "a", gone("x"), []),
    ("a b.dead", "a", gone("b"), ["write"]),
    ("a b.dead=arm64", "a=arm64", gone("b"), ["write"]),
    ("a b.stopped c.dead", None, gone("a"), ["wipe a", "write"]),
    ("a b", None, gone("x"), []),
    # Where none are declared, none is undeclared.
    ("a b", None, gone("a", purge_nodes=True), ["wipe a", "write"]),
    ("a b c.dead", None, gone("a", purge_nodes=True, on_unreachable="skip"), ["wipe a", "write"]),
    ("a b", None, gone("a", "b"), ["wipe a", "wipe b", "remove"]),
    ("a b.dead", None, gone("a", "b", keep_state=True), ["drop a", "remove"]),
    (None, None, gone("a"), []),
    # Stopped.
    ("a b", None, {"state": "stopped"}, ["stop a", "stop b"]),
    ("a b.stopped", None, {"state": "stopped"}, ["stop a"]),
    ("a.stopped", None, {"state": "stopped"}, []),
    ("a.missing", None, {"state": "stopped"}, []),
    ("a.old", None, {"state": "stopped"}, ["drop a"]),
    ("a.looping", None, {"state": "stopped"}, ["drop a"]),
    ("a", "a b", {"state": "stopped"}, ["stop a", "write"]),
    ("a", "a", {"state": "stopped", "use": "default"}, ["stop a", "use"]),
    # Absent.
    ("a", None, {"state": "absent"}, ["wipe a", "remove"]),
    ("a b", None, {"state": "absent"}, ["wipe a", "wipe b", "remove"]),
    ("a b.missing", None, {"state": "absent"}, ["wipe a", "remove"]),
    ("a.missing", None, {"state": "absent"}, ["remove"]),
    ("a.old b.stopped", None, {"state": "absent"}, ["wipe a", "wipe b", "remove"]),
    ("a b", None, {"state": "absent", "keep_state": True}, ["drop a", "drop b", "remove"]),
    ("a b", None, {"state": "absent", "keep_state": False}, ["wipe a", "wipe b", "remove"]),
    ("a b", "a", {"state": "absent"}, ["wipe a", "wipe b", "remove"]),
    ("a", None, {"state": "absent", "use": "global"}, ["wipe a", "remove"]),
    # Unreachable nodes; with `fail`, see below.
    ("a b.dead", "a b", {"on_unreachable": "skip"}, []),
    ("a b.dead=arm64", "a b=amd64", {"on_unreachable": "skip"}, []),
    ("a b.dead", "a=arm64 b", {"on_unreachable": "skip"}, ["write"]),
    ("a b.dead", "a b c", {"on_unreachable": "skip"}, ["boot c", "write"]),
    ("a.old b.dead", "a b", {"on_unreachable": "skip"}, ["drop a", "boot a"]),
    ("a b.dead", "a", {"on_unreachable": "skip"}, []),
    ("a b.dead", "a c", {"on_unreachable": "skip"}, ["boot c", "write"]),
    ("a b.dead", None, {"on_unreachable": "skip"}, []),
    ("a b.dead", "a", {"on_unreachable": "skip", "purge_nodes": False}, []),
    ("a b.dead", "a b", {"on_unreachable": "skip", "state": "stopped"}, ["stop a"]),
    ("a b.dead", "a b", {"on_unreachable": "detach"}, ["write"]),
    ("a b.dead", "a", {"on_unreachable": "detach"}, ["write"]),
    ("a b.dead", None, {"on_unreachable": "detach"}, ["write"]),
    ("a b.dead", "b c", {"on_unreachable": "detach"}, ["boot c", "wipe a", "write"]),
    ("a b.dead", None, {"on_unreachable": "detach", "state": "stopped"}, ["stop a", "write"]),
    ("a b.dead", None, {"on_unreachable": "skip", "state": "absent"}, ["wipe a", "remove"]),
    ("a b.dead", None, {"on_unreachable": "detach", "state": "absent"}, ["wipe a", "remove"]),
    ("a.dead", None, {"on_unreachable": "detach", "state": "absent"}, ["remove"]),
    # Another driver: the builder is made anew.
    ("a", (NodeSpec("r", "tcp://r:1234"),), {"driver": "remote"}, ["boot r", "wipe a", "write"]),
    ("a", (NodeSpec("r", "tcp://r:1234"),), {"driver": "remote", "keep_state": True}, ["boot r", "drop a", "write"]),
    ("a", (NodeSpec("k"),), {"driver": "kubernetes"}, ["boot k", "wipe a", "write"]),
    ("a b.missing", (NodeSpec("k"),), {"driver": "kubernetes"}, ["boot k", "wipe a", "write"]),
    ("a", (NodeSpec("a"),), {"driver": "kubernetes"}, ["boot a", "wipe a", "write"]),
]


@pytest.mark.parametrize(("before", "declared", "options", "expected"), ROWS)
def test_the_least_work(before, declared, options, expected):
    assert steps(run(before, declared, **options)) == expected


@pytest.mark.parametrize(("before", "declared", "options", "expected"), ROWS)
def test_before_and_after_differ_where_something_is_done(before, declared, options, expected):
    planned = run(before, declared, **options)
    assert (planned.before != planned.after) == bool(expected)


@pytest.fixture
def site(builder_world, monkeypatch):
    """A function that returns where the builder of a state lives, with its engines in memory."""
    monkeypatch.setattr("socket.create_connection", lambda *_address, timeout: io.BytesIO())

    def make(state):
        for (name, at), node in state.nodes.items():
            if node.container:
                builder_world.containers[(at, Node(name, at).container)] = node.container
            if node.error:
                builder_world.dead.add(at)
        builder_world.store.path("farm").parent.mkdir(parents=True)
        (builder_world.store.directory / "defaults").mkdir()
        if state.content is not None:
            builder_world.store.path("farm").write_bytes(state.content)
        contexts = ContextStore(builder_world.config)
        return Site(builder_world.store, contexts, Buildx(builder_world.run), builder_world, builder_world.locks)

    return make


@pytest.mark.parametrize(("before", "declared", "options", "expected"), ROWS)
def test_a_second_run_does_nothing(before, declared, options, expected, site):
    nodes = specs(declared) if isinstance(declared, str) else declared
    found_state = state_of(before, nodes or ())
    declaration = Declaration("farm", nodes=nodes, **{"purge_nodes": True, **options})
    at = site(found_state)
    planned = plan(declaration, found_state)
    planned.apply(at)
    again = plan(declaration, read_state(declaration, at, Depth.BUILDKIT))
    assert steps(again) == []
    assert again.before == again.after == planned.after


# What is stored, what is declared of the node, what is stored then. Values of None are left as they are.
CONFIG = {"buildkitd.toml": b"debug = true\n"}
SETTINGS = [
    ({"driver_opts": {"image": "x"}}, {}, {"driver_opts": {"image": "x"}}),
    ({"driver_opts": {"image": "x"}}, {"driver_opts": {}}, {"driver_opts": None}),
    # buildx replaces all options if one is given, and removes none otherwise.
    ({"driver_opts": {"image": "x", "memory": "1g"}}, {"driver_opts": {"image": "x"}}, {"driver_opts": {"image": "x"}}),
    ({"driver_opts": {"image": "x"}}, {"env": {"A": "b"}}, {"driver_opts": {"image": "x", "env.A": "b"}}),
    ({"driver_opts": {"env.A": "b", "image": "x"}}, {"env": {}}, {"driver_opts": {"image": "x"}}),
    ({"driver_opts": {"env.A": "b"}}, {"driver_opts": {"memory": "1g"}}, {"driver_opts": {"memory": "1g"}}),
    (
        {"driver_opts": {"env.A": "b"}},
        {"driver_opts": {"image": "x"}, "env": {"C": "d"}},
        {"driver_opts": {"image": "x", "env.C": "d"}},
    ),
    # buildx resets flags that are not repeated.
    ({"flags": ("--debug",)}, {}, {"flags": ("--debug",)}),
    ({"flags": ("--debug",)}, {"driver_opts": {"image": "x"}}, {"flags": ("--debug",), "driver_opts": {"image": "x"}}),
    ({"flags": ("--debug",)}, {"flags": ()}, {"flags": FLAGS}),
    ({"flags": FLAGS}, {"flags": ("--debug",)}, {"flags": ("--debug", *FLAGS)}),
    ({"flags": None}, {}, {"flags": None}),
    # buildx panics when a node without files gets a configuration, and merges them otherwise.
    ({"files": None}, {"files": CONFIG}, {"files": CONFIG}),
    ({"files": CONFIG}, {}, {"files": CONFIG}),
    ({"files": CONFIG}, {"files": {}}, {"files": None}),
    ({"files": {**CONFIG, "certs/x/ca.pem": b"x"}}, {"files": CONFIG}, {"files": CONFIG}),
    ({"files": {"buildkitd.toml": b"debug=true"}}, {"files": CONFIG}, {"files": {"buildkitd.toml": b"debug=true"}}),
    # Nulls and empty values that others wrote are no difference.
    ({"platforms": ()}, {"platforms": ()}, {"platforms": ()}),
    ({"driver_opts": {}}, {"driver_opts": {}}, {"driver_opts": {}}),
    ({"files": {}}, {"files": {}}, {"files": {}}),
    ({"endpoint": "tcp://A:2376"}, {"endpoint": "tcp://a:2376"}, {"endpoint": "tcp://A:2376"}),
    ({"extra": {"Future": 1}}, {"platforms": (ARM64,)}, {"extra": {"Future": 1}, "platforms": (ARM64,)}),
]


@pytest.mark.parametrize(("before", "declared", "expected"), SETTINGS)
def test_settings_of_a_node(before, declared, expected):
    node = replace(stored("a"), **before)
    instance = Instance("farm", "docker-container", (node,))
    place = (node.name, node.endpoint)
    found_state = State(PATH, b"{}", instance, nodes={place: NodeState(known=True)})
    planned = plan(Declaration("farm", nodes=(NodeSpec("a", **declared),)), found_state)
    assert planned.target.nodes == (replace(node, **expected),)
    assert ("write" in steps(planned)) == (node != replace(node, **expected))


def test_a_new_node_gets_what_buildx_would_give_it():
    planned = run(None, (NodeSpec("a", endpoint("a"), driver_opts={"network": "host"}),))
    assert planned.target.nodes == (Node("a", endpoint("a"), None, {"network": "host"}, FLAGS, None),)
    planned = run(None, "a", there={"default_files": CONFIG})
    assert planned.target.nodes[0].files == CONFIG
    planned = run(None, (NodeSpec("a", "tcp://a:1234"),), driver="remote")
    assert (planned.target.nodes[0].flags, planned.target.nodes[0].files) == (None, None)
    planned = run(None, (NodeSpec("k"),), driver="kubernetes", kubeconfig="/k")
    assert planned.target.nodes[0].endpoint == "kubernetes:///farm?deployment=k&kubeconfig=%2Fk"


# Before, declared nodes, options, part of the message.
REFUSALS = [
    (None, None, {}, "does not exist; declare its nodes"),
    (None, "", {}, "one node at least"),
    ("a", "", {}, "one node at least"),
    ("a", (NodeSpec("b"),), {}, "node 'b' is new and has no endpoint"),
    ("a b.dead", "a b", {}, "node 'b': engine tcp://b:2376: no answer"),
    ("a b.dead", "a", {}, "Nothing was changed"),
    ("a b.dead", None, {}, "on_unreachable"),
    ("a b.dead", None, {"state": "stopped"}, "on_unreachable"),
    ("a b.dead", None, {"state": "absent"}, "on_unreachable"),
    ("a.dead", "a", {"on_unreachable": "detach"}, "none of its nodes can be reached"),
    ("a", "a", {"platforms": (ARM64,)}, "no node serves linux/arm64 (found a: linux/386, linux/amd64)"),
    ("a b=arm64", "a b", {"platforms": (AMD64, Platform("linux", "s390x"))}, "no node serves linux/s390x"),
    ("a=arm64", "a", {"emulation": "forbid"}, "node 'a' is pinned to linux/arm64, and its engine is linux/amd64"),
    ("a b.dead", "a b", {"platforms": (ARM64,), "on_unreachable": "skip"}, "no node serves linux/arm64"),
    (None, "a=arm64", {"emulation": "forbid"}, "node 'a' is pinned to linux/arm64"),
    (None, "a", {"emulation": "forbid", "platforms": (ARM64,)}, "node 'a' is pinned to linux/arm64"),
]


@pytest.mark.parametrize(("before", "declared", "options", "message"), REFUSALS)
def test_refused_before_anything_is_done(before, declared, options, message):
    with pytest.raises(FarmError) as caught:
        run(before, declared, **options)
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("before", "declared", "options", "expected"),
    [
        (
            "a b=arm64 c",
            "a",
            {},
            "nodes 'b' (linux/arm64), 'c' are not declared and stay as they are; if they are gone",
        ),
        ("old=amd64", "new=amd64", {}, "node 'old' (linux/amd64) is not declared and stays as it is; if it is gone"),
        (
            "old.dead=arm64",
            "new=arm64",
            {},
            "node 'old' (linux/arm64) is not declared and stays as it is, so this does not pin linux/arm64 to 'new'",
        ),
        ("old.dead=arm64", "new=arm64", STAY, "so this does not pin linux/arm64 to 'new'"),
        ("old=arm64", "new=arm64", STAY, None),
        ("a b", "a", STAY, None),
        ("a b", None, {"absent": frozenset("a")}, None),
        ("a b.dead", None, {"absent": frozenset("b")}, "'b' leaves the builder; container buildx_buildkit_b may stay"),
    ],
)
def test_nodes_that_are_not_declared_are_named(before, declared, options, expected):
    warnings = run(before, declared, **{"purge_nodes": None, **options}).warnings
    assert len(warnings) == (expected is not None)
    assert expected is None or expected in warnings[0]


@pytest.mark.parametrize(
    ("before", "on_unreachable", "expected"),
    [
        ("a b.dead", "detach", "leaves the builder; container buildx_buildkit_b may stay there"),
        ("a b.dead", "skip", "skipped, node 'b' stays as it was"),
        ("a", "detach", "node 'b' is left out of the builder"),
        ("a", "skip", "node 'b' is left out of the builder"),
    ],
)
def test_what_becomes_of_a_node_that_cannot_be_reached_is_said(before, on_unreachable, expected):
    dead = found(stored("b"), "dead")
    there = {"nodes": {**state_of("a", ()).nodes, ("b", endpoint("b")): dead}}
    planned = run(before, "a b", there=there, on_unreachable=on_unreachable)
    (warning,) = planned.warnings
    assert warning.endswith(expected)
    assert [node.name for node in planned.target.nodes] == ["a", *(["b"] if "stays" in expected else [])]


@pytest.mark.parametrize("several", [True, False])
def test_nodes_that_stay_are_named_in_good_english(several):
    (warning,) = run("a b c" if several else "a b", "a", purge_nodes=None).warnings
    assert warning == (
        "builder 'farm': nodes 'b', 'c' are not declared and stay as they are; if they are gone for good, name them in"
        " absent_nodes (with the roles: farm_absent_nodes, or the playbook teardown with --limit)"
        if several
        else "builder 'farm': node 'b' is not declared and stays as it is; if it is gone for good, name it in"
        " absent_nodes (with the roles: farm_absent_nodes, or the playbook teardown with --limit)"
    )


def test_pins_that_are_all_declared_stay():
    options = {"emulation": "prefer_native", "platforms": (AMD64, ARM64)}
    planned = run(None, "a=arm64 b=amd64", {"a": AMD64, "b": ARM64}, **options)
    assert [node.platforms for node in planned.target.nodes] == [(ARM64,), (AMD64,)]


def test_a_declared_node_of_an_unknown_processor_gets_no_pins():
    options = {"emulation": "prefer_native", "platforms": (AMD64, ARM64), "on_unreachable": "skip"}
    planned = run("a.dead b", "a b", **options)
    assert [node.platforms for node in planned.target.nodes] == [None, (AMD64, ARM64)]


def built(*detected):
    """The states of two nodes of amd64 by what BuildKit on them reports, None where it reports nothing yet."""
    instance = Instance("farm", "docker-container", (stored("a"), stored("b")))
    return instance, {
        (node.name, node.endpoint): NodeState(known=True, native=AMD64, detected=found_here)
        for node, found_here in zip(instance.nodes, detected)
    }


def test_platforms_are_refused_once_it_is_known_that_nobody_serves_them():
    wanted = Declaration("farm", platforms=(ARM64,))
    for detected, final, refused in [
        ((None, (AMD64,)), False, False),
        ((None, (AMD64,)), True, True),
        (((AMD64,), (AMD64,)), False, True),
        (((AMD64,), (AMD64, ARM64)), True, False),
    ]:
        instance, states = built(*detected)
        if refused:
            with pytest.raises(FarmError, match="no node serves linux/arm64"):
                check_platforms(wanted, instance, states, final=final)
        else:
            check_platforms(wanted, instance, states, final=final)
    with pytest.raises(FarmError, match="no node serves linux/arm64"):
        check_platforms(wanted, *built(None, None))
    # Of a node that cannot be reached nothing more will be known.
    instance, states = built(None, (AMD64,))
    dead = {key: replace(state, error="no answer") for key, state in states.items()}
    with pytest.raises(FarmError, match="no node serves linux/arm64"):
        check_platforms(wanted, instance, dead, final=False)


def test_emulation_is_forbidden_once_it_is_known_that_nothing_else_would_do():
    forbidding = Declaration("farm", platforms=(ARM64,), emulation="forbid")
    both = replace(forbidding, platforms=(ARM64, Platform("linux", "s390x")))
    emulating = (AMD64, ARM64)
    for wanted, detected in [(forbidding, (emulating, emulating)), (forbidding, (emulating, None))]:
        with pytest.raises(FarmError, match="emulation is forbidden, and only QEMU could serve linux/arm64 on a"):
            check_platforms(wanted, *built(*detected), final=False)
    # The node that is still to be started may serve both.
    check_platforms(both, *built(emulating, None), final=False)
    check_platforms(replace(forbidding, emulation="allow"), *built(emulating, emulating))


# Node b is not declared: native platforms, nodes that are there, the one declared, the pins that it has then.
EMULATED_ELSEWHERE = [
    ({"b": ARM64}, "a=amd64 b=arm64", "a=amd64+arm64", "amd64"),
    ({"b": ARM64}, "b=arm64", "a=amd64+arm64", "amd64"),
    ({"b": ARM64}, "a=amd64+arm64 b=arm64", "a=amd64+arm64", "amd64"),
    ({"b": ARM64}, "a=amd64+arm64 b=arm64", "a", "amd64+arm64"),
    ({"b": ARM64}, "a=amd64 b=amd64+arm64", "a=amd64+arm64", "amd64"),
    ({"b": ARM64}, "a=amd64 b=amd64", "a=amd64+arm64", "amd64+arm64"),
    ({}, "a=amd64 b=amd64+arm64", "a=amd64+arm64", "amd64+arm64"),
    ({}, "a=amd64 b.dead=amd64+arm64", "a=amd64+arm64", "amd64"),
    ({}, "a=amd64+arm64 b.dead=amd64+arm64", "a=amd64+arm64", "amd64+arm64"),
    ({"a": ARM64}, "a=arm64 b.dead=amd64", "a=amd64+arm64", "arm64"),
    ({"a": ARM64}, "b.dead=arm64", "a=arm64", "arm64"),
]


@pytest.mark.parametrize(("natives", "before", "declared", "expected"), EMULATED_ELSEWHERE)
def test_a_part_of_a_farm_does_not_begin_to_emulate_what_the_rest_runs(natives, before, declared, expected):
    planned = run(before, declared, natives, **STAY)
    assert next(node for node in planned.target.nodes if node.name == "a").platforms == pins(expected)


def test_undeclared_nodes_count_where_pins_are_chosen():
    options = {"purge_nodes": False, "emulation": "prefer_native", "platforms": (AMD64, ARM64)}
    planned = run("a.dead=amd64 b", "b", **options)
    assert [node.platforms for node in planned.target.nodes] == [(AMD64,), (AMD64, ARM64)]


def test_all_dead_nodes_are_named_at_once():
    with pytest.raises(FarmError) as caught:
        run("a.dead b c.dead", "a b c")
    assert caught.value.details["unreachable_nodes"] == ["a", "c"]


# Native platforms, declared nodes, requested platforms, pins that come of prefer_native.
PREFERENCES = [
    ({"a": AMD64, "b": ARM64}, "a b", "amd64+arm64", {"a": "amd64", "b": "arm64"}),
    ({"a": ARM64, "b": AMD64}, "a b", "amd64+arm64", {"a": "arm64", "b": "amd64"}),
    # A platform that nobody runs natively is pinned too: else buildx would ignore all pins.
    ({"a": AMD64, "b": ARM64}, "a b", "amd64+arm64+riscv64", {"a": "amd64+riscv64", "b": "arm64+riscv64"}),
    ({"a": AMD64, "b": ARM64}, "a= b", "amd64+arm64", {"a": "", "b": "arm64+amd64"}),
    ({"a": AMD64}, "a", "amd64+386", {"a": "amd64+386"}),
    ({"a": AMD64, "b": AMD64}, "a b", "amd64", {"a": "amd64", "b": "amd64"}),
]


@pytest.mark.parametrize(("natives", "declared", "requested", "expected"), PREFERENCES)
def test_native_nodes_are_preferred(natives, declared, requested, expected):
    options = {"emulation": "prefer_native", "platforms": pins(requested)}
    planned = run(None, declared, natives, **options)
    shown = {node.name: set(node.platforms or ()) for node in planned.target.nodes}
    assert shown == {name: set(pins(text)) for name, text in expected.items()}


def test_pins_that_do_not_do_what_they_seem_to_are_warned_of():
    planned = run("a b", "b=amd64+arm64 a=amd64", {"a": AMD64, "b": ARM64})
    assert [warning.partition(": ")[2] for warning in planned.warnings] == [
        "node 'b' is pinned to linux/amd64, and its engine is linux/arm64: it would emulate what 'a' runs natively",
    ]
    # buildx takes the first node of several with the pin.
    assert run("a b", "a=amd64 b=amd64+arm64", {"a": AMD64, "b": ARM64}).warnings == ()
    assert run("a=arm64", "a").warnings == ()
    assert run("a=amd64 b=amd64", "a=amd64 b=amd64").warnings == ()


def test_a_container_that_another_builder_uses_is_neither_taken_nor_removed():
    shared = {("a", endpoint("a")): "other"}
    with pytest.raises(FarmError, match="belongs to builder 'other'"):
        run(None, "a", there={"shared": shared})
    assert steps(run("a b", "b", there={"shared": shared})) == ["write"]
    assert steps(run("a", None, state="absent", there={"shared": shared})) == ["remove"]


def test_a_node_that_is_reached_in_another_way_keeps_its_container():
    node = stored("a")
    found_state = state_of("a", ())
    same = {**found_state.nodes, ("a", "context"): found(node)}
    declared = Declaration("farm", nodes=(NodeSpec("a", "context"),))
    assert steps(plan(declared, replace(found_state, nodes=same))) == ["write"]
    other = {**found_state.nodes, ("a", "context"): found(node, "missing")}
    assert steps(plan(declared, replace(found_state, nodes=other))) == ["boot a", "wipe a", "write"]
    moved = replace(found(node), container=replace(container(node, "running"), identifier="another"))
    assert steps(plan(declared, replace(found_state, nodes={**found_state.nodes, ("a", "context"): moved}))) == [
        "wipe a",
        "write",
    ]


def test_a_new_controller_writes_the_definition_and_starts_nothing():
    found_state = state_of("a b", ())
    lost = replace(found_state, content=None, instance=None)
    declared = Declaration("farm", nodes=specs("a b"))
    assert steps(plan(declared, lost)) == ["write"]
    assert plan(declared, lost).target == found_state.instance
    gone = plan(replace(declared, state="absent"), lost)
    assert steps(gone) == ["wipe a", "wipe b"]
    assert [node["name"] for node in gone.before["nodes"]] == ["a", "b"]
    nothing = plan(replace(declared, state="absent"), State(PATH))
    assert (nothing.steps, nothing.before, nothing.after) == ((), {"state": "absent"}, {"state": "absent"})


def test_a_broken_definition_is_kept_and_written_anew():
    found_state = state_of("a", ())
    broken = replace(found_state, content=b"", instance=None, broken_copy="/b/farm.broken")
    planned = plan(Declaration("farm", nodes=specs("a")), broken)
    assert [step.action for step in planned.steps] == [["copy", PATH, "/b/farm.broken"], ["write", PATH]]
    assert planned.before == {"state": "broken"} and "/b/farm.broken" in planned.warnings[0]
    assert steps(plan(Declaration("farm", state="absent"), broken)) == ["remove"]


def test_without_a_look_at_the_nodes_the_first_run_is_predicted():
    blind = {"nodes": {}}
    assert steps(run(None, "a b", there=blind)) == ["boot a+b", "write"]
    assert steps(run("a b", "a b", there=blind)) == []
    assert steps(run("a b", "a=arm64 b c", there=blind)) == ["boot a+c", "write"]
    assert steps(run("a", None, state="absent", there=blind)) == ["remove"]


def test_kubernetes_nodes_are_made_anew_by_removing_them_first():
    """Its bootstrap leaves an existing deployment as it is."""
    node = Node("k", "kubernetes:///farm?deployment=k&kubeconfig=", None, {"replicas": "1"}, FLAGS)
    instance = Instance("farm", "kubernetes", (node, replace(node, name="l")))
    found_state = State(PATH, b"{}", instance)
    declared = Declaration("farm", nodes=(NodeSpec("k", driver_opts={"replicas": "2"}), NodeSpec("l")))
    planned = plan(declared, found_state)
    assert steps(planned) == ["uninstall k", "boot k", "write"]
    assert planned.steps[0].action == ["docker", "buildx", "rm", "--keep-state", "farm"]
    anew = plan(replace(declared, keep_state=False), found_state)
    assert anew.steps[0].action == ["docker", "buildx", "rm", "farm"]
    gone = plan(Declaration("farm", state="absent"), found_state)
    assert steps(gone) == ["uninstall k+l", "remove"]
    assert gone.steps[0].action == ["docker", "buildx", "rm", "farm"]
    kept = plan(Declaration("farm", state="absent", keep_state=True), found_state)
    assert kept.steps[0].action == ["docker", "buildx", "rm", "--keep-state", "farm"]
    assert steps(plan(Declaration("farm"), found_state)) == []


def test_kubernetes_nodes_that_do_not_run_are_started():
    nodes = tuple(Node(name, f"kubernetes:///farm?deployment={name}&kubeconfig=", None, None, FLAGS) for name in "kl")
    states = {(node.name, node.endpoint): NodeState(known=True) for node in nodes}
    states[("l", nodes[1].endpoint)] = NodeState(known=True, detected=(AMD64,))
    found_state = State(PATH, b"{}", Instance("farm", "kubernetes", nodes), nodes=states)
    planned = plan(Declaration("farm"), found_state)
    assert steps(planned) == ["boot k"]
    assert [node["container"] for node in planned.before["nodes"]] == ["missing", "running"]
    assert [node["container"] for node in planned.after["nodes"]] == ["running", "running"]
    assert steps(plan(Declaration("farm", bootstrap=False), found_state)) == []


def test_a_drained_node_is_made_as_declared_and_stays_drained():
    before = state_of("a.old b")
    drained = {place: replace(one, drained="it is drained since noon") for place, one in before.nodes.items()}
    planned = plan(Declaration("farm"), replace(before, nodes=drained))
    assert steps(planned) == ["drop a", "boot a"]
    assert planned.warnings == tuple(
        f"builder 'farm', node {name!r}: it is drained since noon; it gets no builds, and stays drained"
        for name in "ab"
    )


def test_keys_and_passwords_are_not_shown():
    opts = {"env.HTTP_PROXY": "http://me:secret@proxy:3128/"}
    node = replace(stored("a"), files={"certs/r/key.pem": b"KEY"}, driver_opts=opts)
    shown = str(describe(Instance("farm", "docker-container", (node,)), {}))
    assert "KEY" not in shown and "sha256:" in shown
    assert "secret" not in shown and "http://***@proxy:3128/" in shown
