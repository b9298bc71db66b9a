# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""buildx_prune: what is left of builders that are gone, what of it is removed, and what stays."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._buildx.store import Instance, Node
from ansible_collections.buildfarm.multiarch.plugins.module_utils._context.owner import mark
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker.context_store import ContextStore
from ansible_collections.buildfarm.multiarch.plugins.module_utils._prune import state as _state
from ansible_collections.buildfarm.multiarch.plugins.module_utils._prune.apply import run
from ansible_collections.buildfarm.multiarch.plugins.module_utils._prune.declaration import Declaration
from ansible_collections.buildfarm.multiarch.plugins.module_utils._prune.notes import Note, remove
from ansible_collections.buildfarm.multiarch.plugins.module_utils._prune.orphans import orphans_of
from ansible_collections.buildfarm.multiarch.plugins.module_utils._prune.plan import plan
from ansible_collections.buildfarm.multiarch.plugins.module_utils._prune.state import EngineState, State
from ansible_collections.buildfarm.multiarch.plugins.module_utils._prune.steps import RemoveOrphan

HERE = "tcp://a:2375"
NETWORKS = "neither buildx nor this collection makes networks"
UNKNOWN = "without a mark of this collection: whose it is is not known"
PARAMS = {
    **dict.fromkeys(("builder", "nodes", "older_than", "keep", "filters", "keep_records")),
    "cache": False,
    "all": False,
    "orphans": "remove",
    "controller": "me",
    "timeout": 5,
    "prune_timeout": 5,
}


def engine(**fields):
    return EngineState(HERE, **fields)


@pytest.mark.parametrize(
    ("found", "kept"),
    [
        ({"containers": {"buildx_buildkit_x": True}}, [("container", UNKNOWN)]),
        ({"containers": {"buildx_buildkit_x": False}, "marks": {"x": {"me"}}}, [("container", None), ("mark", None)]),
        ({"networks": frozenset({"buildx_buildkit_x"})}, [("network", UNKNOWN)]),
        (
            {"networks": frozenset({"buildx_buildkit_x"}), "marks": {"x": {"me"}}},
            [("network", NETWORKS), ("mark", None)],
        ),
        (
            {"volumes": frozenset({"buildx_buildkit_x_state"}), "marks": {"x": {"me", "you", "they"}}},
            [("volume", "marked as used by they, you"), ("mark", None)],
        ),
        ({"volumes": frozenset({"buildx_buildkit_x"})}, []),
        ({"marks": {"x": {"you"}}}, []),
        # What a builder has is no orphan, whoever else uses it.
        ({"containers": {"buildx_buildkit_n": True}, "marks": {"n": {"me"}}}, []),
        ({"volumes": frozenset({"buildx_buildkit_n_state"}), "networks": frozenset({"buildx_buildkit_n"})}, []),
    ],
)
def test_what_is_an_orphan_and_why_it_stays(found, kept):
    orphans = orphans_of(State(engines=(engine(**found),), known=frozenset({"n"})), "me")
    assert [(one.kind, one.kept) for one in orphans] == kept
    assert all((one.endpoint, one.node) == (HERE, "x") for one in orphans)


def test_orphans_are_in_the_order_in_which_they_can_be_removed():
    everything = engine(
        containers={"buildx_buildkit_x": True, "buildx_buildkit_y": True},
        volumes=frozenset({"buildx_buildkit_x_state"}),
        networks=frozenset({"buildx_buildkit_y"}),
        marks={"x": {"me"}, "y": {"me"}},
    )
    state = State(
        engines=(everything,), orphaned_contexts={"c": ("gone", None)}, sizes={(HERE, "buildx_buildkit_x_state"): 7}
    )
    orphans = orphans_of(state, "me")
    kinds = [one.kind for one in orphans]
    assert kinds == ["container", "container", "network", "volume", "mark", "mark", "context"]
    assert [one.size for one in orphans if one.kind == "volume"] == [7]
    assert (orphans[-1].endpoint, orphans[-1].node, orphans[-1].kept) == (None, "gone", None)
    assert [orphans[0].controllers, orphans[0].as_dict()["controllers"]] == [("me",), ["me"]]
    planned = plan(replace(Declaration.from_params(PARAMS), controller="me"), state, "/store")
    steps = [(step.orphan.kind, step.orphan.node) for step in planned.steps if isinstance(step, RemoveOrphan)]
    assert steps == [("container", "x"), ("container", "y"), ("volume", "x"), ("mark", "x"), ("mark", "y")]
    assert planned.after["orphans"] == [f"network buildx_buildkit_y ({HERE})"]


def context(store, name, **metadata):
    meta = {"Name": name, "Metadata": metadata, "Endpoints": {"docker": {"Host": "tcp://127.0.0.1:1"}}}
    store.meta_dir(name).mkdir(parents=True)
    (store.meta_dir(name) / "meta.json").write_text(json.dumps(meta, separators=(",", ":")))


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A controller with a builder `farm`, and what runs the module there."""
    for name in ("BUILDX_CONFIG", "DOCKER_HOST", "DOCKER_CONTEXT"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "buildx/instances").mkdir(parents=True)
    node = Node("n", "tcp://127.0.0.1:1")
    (tmp_path / "buildx/instances/farm").write_bytes(Instance("farm", "docker-container", (node,)).to_json())
    return lambda check=False, **params: run({**PARAMS, "docker_config": str(tmp_path), **params}, check, None)


def test_contexts_of_builders_that_are_gone_are_removed(here, tmp_path):
    store = ContextStore(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"currentContext": "current"}))
    for name, owner in (("left", "gone"), ("current", "gone"), ("used", "FARM"), ("copy", "gone")):
        context(store, name, **mark("left" if name == "copy" else name, owner))
    context(store, "foreign")
    context(store, "of-a-node", **mark("of-a-node", "gone"))
    (tmp_path / "buildx/instances/other").write_bytes(
        Instance("other", "docker-container", (Node("m", "of-a-node"),)).to_json()
    )
    assert here(orphans="ignore").as_result()["orphans"] == []
    reported = here(orphans="report")
    assert not reported.changed and set(store.all()) >= {"left"}
    assert here(builder="farm").as_result()["orphans"] == []
    predicted, removed = here(check=True), here()
    assert predicted.actions == removed.actions == [["remove context 'left'"]]
    assert [one["name"] for one in removed.as_result()["orphans"]] == ["left"]
    assert set(store.all()) == {"current", "used", "copy", "foreign", "of-a-node"}
    assert not here().changed


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({}, {"tcp://127.0.0.1:1", "left"}),
        ({"builder": "farm"}, {"tcp://127.0.0.1:1"}),
        ({"nodes": ["n"]}, {"tcp://127.0.0.1:1"}),
        ({"orphans": "ignore"}, {"tcp://127.0.0.1:1"}),
    ],
)
def test_engines_that_only_a_context_leads_to_are_asked_for_orphans(here, tmp_path, monkeypatch, params, expected):
    store = ContextStore(tmp_path)
    context(store, "same")
    context(store, "left")
    path = store.meta_dir("left") / "meta.json"
    path.write_text(path.read_text().replace("127.0.0.1:1", "127.0.0.1:2"))
    asked = []
    monkeypatch.setattr(
        _state, "_read_engines", lambda endpoints, _site: asked.extend(endpoints) or [EngineState(e) for e in endpoints]
    )
    here(check=True, **params)
    assert set(asked) == expected and len(asked) == len(expected)


def test_an_engine_that_does_not_answer_is_named_where_a_builder_has_it(here, tmp_path):
    context(ContextStore(tmp_path), "elsewhere")
    path = ContextStore(tmp_path).meta_dir("elsewhere") / "meta.json"
    path.write_text(path.read_text().replace("127.0.0.1:1", "127.0.0.1:2"))
    (warning,) = here(check=True).warnings
    assert "tcp://127.0.0.1:1" in warning and warning.endswith("what is left there is not known")


def test_a_builder_that_cannot_be_read_stops_everything(here, tmp_path):
    (tmp_path / "buildx/instances/broken").write_text("{")
    with pytest.raises(FarmError, match="what its nodes are is not known, so nothing was pruned"):
        here()


def test_notes_are_removed_with_directories_that_are_empty_then(here, tmp_path):
    refs = tmp_path / "buildx/refs"
    for number, name in enumerate(("farm/n/1", "farm/n/2", "gone/n/3")):
        (refs / name).parent.mkdir(parents=True, exist_ok=True)
        (refs / name).write_text("{}")
        os.utime(refs / name, (1000 + number, 1000 + number))
    predicted, removed = here(check=True, keep_records=1), here(keep_records=1)
    assert predicted.actions == removed.actions == [["remove-records", str(tmp_path / "buildx"), "2"]]
    assert (removed.before["records"], removed.after["records"]) == (3, 1)
    assert [str(path.relative_to(refs)) for path in refs.rglob("*") if path.is_file()] == ["farm/n/2"]
    assert not (refs / "gone").exists() and refs.exists()
    assert not here(keep_records=1).changed
    remove(Note(refs / "farm/n/9", True))
    remove(Note(refs / "farm/n/2", True))
    assert refs.exists() and not (refs / "farm").exists()
    assert (tmp_path / "buildx/instances/farm").exists()
    assert here().before["records"] == 0, "they are left alone where nothing is declared"


def test_a_note_that_cannot_be_removed_is_named(here, tmp_path, monkeypatch):
    (tmp_path / "buildx/refs/gone").mkdir(parents=True)
    (tmp_path / "buildx/refs/gone/1").write_text("{}")

    def refuse(_self, missing_ok=False):
        raise PermissionError(1, "not permitted", "/the/note")

    monkeypatch.setattr("pathlib.Path.unlink", refuse)
    with pytest.raises(FarmError, match=r"^/the/note: not permitted\. All else was pruned") as caught:
        here(keep_records=0)
    assert caught.value.details["changed"]


@pytest.mark.parametrize(("text", "size"), [("1GB", 1 << 30), ("1.5k", 1536), (None, None)])
def test_what_is_to_be_kept(text, size):
    found = Declaration.from_params({**PARAMS, "cache": True, "keep": text, "builder": "Farm", "nodes": ["A"]})
    assert (found.cache.keep, found.builder, found.nodes) == (size, "farm", ("a",))
