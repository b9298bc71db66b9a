# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""buildx_prune: what would go, whose the rest is, and what is done about it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._builder.containers import Engines
from ansible_collections.buildfarm.multiarch.plugins.module_utils._buildx.marks import controller_name, mark_name
from ansible_collections.buildfarm.multiarch.plugins.module_utils._buildx.store import Instance, Node, Store
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.files import write_atomically
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.quantities import parse_duration, parse_size
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker.client import demultiplexed
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker.context_store import ContextStore
from ansible_collections.buildfarm.multiarch.plugins.module_utils._prune.apply import run
from ansible_collections.buildfarm.multiarch.plugins.module_utils._prune.declaration import Declaration, Selection
from ansible_collections.buildfarm.multiarch.plugins.module_utils._prune.notes import read_notes
from ansible_collections.buildfarm.multiarch.plugins.module_utils._prune.prediction import (
    Record,
    parse_records,
    parse_time,
    predict,
)
from ansible_collections.buildfarm.multiarch.tests.unit.engines import FakeEngine, serving

_PREFIX = "io.github.buildfarm.multiarch"
NOW = parse_time("2026-11-29T12:00:00Z")
PARAMS = {
    "builder": None,
    "nodes": None,
    "cache": True,
    "older_than": None,
    "keep": None,
    "filters": None,
    "all": False,
    "orphans": "report",
    "controller": "me",
    "keep_records": None,
    "timeout": 5,
    "prune_timeout": 5,
}


def record(identifier, size=10, age=100, **more):
    return Record(identifier, size, used=None if age is None else NOW - age, **more)


def gone(records, matching=None, **selection):
    return [one.identifier for one in predict(records, Selection(**selection), NOW, matching)]


CHAIN = [record("base"), record("middle", parents=("base",)), record("top", parents=("middle",))]


@pytest.mark.parametrize(
    ("records", "selection", "expected"),
    [
        ([], {}, []),
        (CHAIN, {}, ["top", "middle", "base"]),
        # What is used goes neither, nor does what is under it.
        ([CHAIN[0], record("middle", parents=("base",), in_use=True), record("x")], {}, ["x"]),
        ([CHAIN[0], record("middle", age=5, parents=("base",)), record("x")], {"older_than": 50}, ["x"]),
        (
            [record("old", age=100), record("new", age=5), record("never", age=None)],
            {"older_than": 50},
            ["old", "never"],
        ),
        ([record("a", kind="internal"), record("b", kind="frontend"), record("c", shared=True)], {}, []),
        ([record("a", kind="internal"), record("c", shared=True)], {"everything": True}, ["a", "c"]),
        # Down to less than what is to be kept, and no further.
        ([record("a", age=3), record("b", age=2), record("c", age=1)], {"keep": 31}, []),
        ([record("a", age=3), record("b", age=2), record("c", age=1)], {"keep": 30}, ["a"]),
        ([record("c", age=1), record("b", age=2), record("a", age=3)], {"keep": 11}, ["a", "b"]),
        # One that was used often stays longer.
        ([record("a", age=3, count=9), record("b", age=2), record("c", age=1)], {"keep": 30}, ["b"]),
        (CHAIN, {"keep": 25}, ["top"]),
        # What engines share does not count, nor does it go.
        ([record("a"), record("b", 90, shared=True)], {"keep": 50}, []),
    ],
)
def test_what_goes(records, selection, expected):
    assert gone(records, **selection) == expected


def test_only_what_filters_match_goes():
    assert gone(CHAIN, matching={"top", "base"}) == ["top"]
    assert gone(CHAIN, matching=set()) == []


def test_records_as_versions_of_buildkit_write_them():
    new = '[{"id":"a","mutable":true,"inUse":true,"size":7,"lastUsedAt":"2026-11-29T13:00:00.5+01:00","usageCount":2,'
    new += '"parents":["b"],"recordType":"source.local","shared":true}]\n'
    expected = Record("a", 7, "source.local", NOW + 0.5, 2, True, True, ("b",))
    assert parse_records(new) == (expected,)
    # One object a line, as prune prints them; Go's own names, as older versions have them.
    old = '{"ID":"x","InUse":false,"Size":1,"LastUsedAt":null,"Parents":null,"RecordType":""}\n'
    assert parse_records(old * 2) == (Record("x", 1),) * 2
    assert parse_records("null\n") == ()
    for wrong in ("flag provided but not defined: -format", "[1]", '[{"size":1}]'):
        with pytest.raises(FarmError, match="BuildKit's answer cannot be read"):
            parse_records(wrong)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("2026-11-29T12:00:00.123456789Z", NOW + 0.123456789), ("2026-11-29T06:30:00-05:30", NOW)],
)
def test_times(text, expected):
    assert parse_time(text) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "seconds"), [("0", 0), ("90s", 90), ("90m", 5400), ("1h30m", 5400), ("7d", 604800), (" 2w ", 1209600)]
)
def test_durations(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "1 day", "-1h", "1h30", "7", "00"])
def test_no_durations(text):
    with pytest.raises(FarmError, match="is no time"):
        parse_duration(text)


def test_sizes():
    assert (parse_size("1k"), parse_size("1.5GiB"), parse_size("-1")) == (1024, 3 << 29, -1)


def test_the_command():
    selection = Selection(3600, 1500000, ("type==regular", "id==x"), True)
    assert selection.command() == [
        *("buildctl", "prune", "--format", "{{json .}}", "--all", "--keep-duration", "3600s", "--keep-storage", "1.5"),
        *("--filter", "type==regular", "--filter", "id==x"),
    ]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"older_than": "soon"}, "older_than: 'soon' is no time"),
        ({"keep": "all"}, "keep: 'all' is no size"),
        ({"keep": "0"}, "wanted more than nothing"),
        ({"keep_records": -1}, "wanted 0 or more"),
    ],
)
def test_what_cannot_be_meant(params, message):
    with pytest.raises(FarmError, match=message):
        Declaration.from_params({**PARAMS, **params})


def test_streams():
    assert demultiplexed(b"\x01\0\0\0\0\0\0\x03abc\x02\0\0\0\0\0\0\x01!\x01\0\0\0\0\0\0\x01d") == {1: b"abcd", 2: b"!"}
    assert demultiplexed(b"") == {}


class Engine(FakeEngine):
    """An engine with BuildKit's containers and volumes; each exec prints what BuildKit would."""

    def __init__(self, running=(), volumes=(), marks=(), usage=(), fails=(), marked="2026-11-01T12:20:00Z", filters=()):
        super().__init__()
        self.running, self.volumes, self.usage = set(running), {*volumes}, list(usage)
        self.marked = marked
        self.marks, self.fails = {mark_name(node, one): (node, one) for node, one in marks}, fails
        self.commands, self.removed, self.filters = [], [], filters

    def answer(self, method, path, query, body, headers):
        if method == "DELETE":
            name = path.rsplit("/", 1)[1]
            if name in self.fails:
                return 500, {"message": "busy"}
            self.removed.append(name)
            self.running.discard(name)
            self.volumes.discard(name)
            self.marks.pop(name, None)
            return 204, None
        if path.endswith("/exec"):
            self.commands.append(json.loads(body)["Cmd"])
            return 201, {"Id": str(len(self.commands) - 1)}
        if path.startswith("/exec/") and path.endswith("/start"):
            if self.refused(path):
                return 200, b"\x02\0\0\0\0\0\0\x15filters: parse error!"
            return 200, self.ran(self.commands[int(path.split("/")[2])])
        if path.startswith("/exec/"):
            return 200, {"ExitCode": int("broken" in self.fails or self.refused(path))}
        marks = [
            {
                "Name": name,
                "Labels": {f"{_PREFIX}.node": node, f"{_PREFIX}.controller": one},
                "CreatedAt": self.marked,
            }
            for name, (node, one) in self.marks.items()
        ]
        volumes = [
            {"Name": name, "UsageData": {"Size": 5}, "CreatedAt": "2026-11-01T12:00:00Z"}
            for name in sorted(self.volumes)
        ]
        answers = {
            "/info": {"SystemTime": "2026-11-29T12:00:00Z"},
            "/containers/json": [
                {"Names": [f"/{name}"], "State": "running", "Created": parse_time("2026-11-02T00:00:00Z")}
                for name in self.running
            ],
            "/volumes": {"Volumes": marks if "label" in query.get("filters", "") else volumes},
            "/networks": [],
            "/system/df": {"Volumes": volumes},
        }
        return (200, answers[path]) if path in answers else (404, {"message": path})

    def refused(self, path):
        command = self.commands[int(path.split("/")[2])]
        return "--filter" in command and command[-1] not in self.filters

    def ran(self, command):
        if "broken" in self.fails:
            return b"\x02\0\0\0\0\0\0\x04oops"
        if command[1] == "prune":
            output, self.usage = "\n".join(map(json.dumps, self.usage)), []
        else:
            output = json.dumps(self.usage)
        return b"\x01\0\0\0" + len(output).to_bytes(4, "big") + output.encode()


USAGE = [{"id": name, "size": 100, "lastUsedAt": "2026-11-01T00:00:00Z"} for name in "ab"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A controller with builders; returns what runs the module there."""
    for name in ("BUILDX_CONFIG", "DOCKER_HOST", "DOCKER_CONTEXT"):
        monkeypatch.delenv(name, raising=False)
    # There is no engine of its own.
    monkeypatch.setattr(ContextStore, "all", lambda self: {})
    store = Store(tmp_path / "buildx")
    (tmp_path / "buildx/instances").mkdir(parents=True)

    def call(*nodes, check=False, driver="docker-container", **params):
        for name, node in nodes:
            instance = Instance(name, driver, (node,))
            write_atomically(store.path(name), instance.to_json(), 0o600)
        return run({**PARAMS, "docker_config": str(tmp_path), **params}, check, None).as_result()

    return call


def test_a_cache_is_pruned(here):
    at = Engine(["buildx_buildkit_n"], ["buildx_buildkit_n_state"], usage=USAGE)
    with serving(at) as url:
        node = ("farm", Node("n", url))
        predicted = here(node, check=True, older_than="1d")
        assert [command[1] for command in at.commands] == ["du"]
        real = here(older_than="1d")
        again = here(older_than="1d")
    assert (
        predicted["actions"]
        == real["actions"]
        == [["prune-cache", url, "buildx_buildkit_n", *Selection(86400).command()]]
    )
    assert predicted["diff"] == real["diff"]
    assert real["diff"]["before"]["caches"] == {f"n ({url})": 200}
    assert real["diff"]["after"]["caches"] == {f"n ({url})": 0}
    assert (predicted["freed"], real["freed"], again["freed"]) == (200, 200, 0)
    assert (again["changed"], real["orphans"]) == (False, [])
    assert real["nodes"] == [
        {
            "builder": "farm",
            "name": "n",
            "endpoint": url,
            "running": True,
            "error": None,
            "bytes": 200,
            "records": 2,
            "predicted": 200,
            "freed": 200,
            "freed_records": 2,
        }
    ]


def test_others_are_pruned_where_one_fails(here):
    good = Engine(["buildx_buildkit_a"], usage=USAGE)
    bad = Engine(["buildx_buildkit_b"], usage=USAGE, fails=["broken"])
    with serving(good) as first, serving(bad) as second:
        found = here(("one", Node("a", first)), ("two", Node("b", second)), ("three", Node("c", "tcp://127.0.0.1:1")))
    assert {node["name"]: node["freed"] for node in found["nodes"]} == {"a": 200, "b": 0, "c": 0}
    errors = {node["name"]: node["error"] for node in found["nodes"]}
    assert "failed with exit status 1: oops" in errors["b"] and "127.0.0.1:1" in errors["c"]


def test_a_filter_that_is_none_is_refused(here):
    at = Engine(["buildx_buildkit_n"], usage=USAGE, filters=["type==regular"])
    with serving(at) as url:
        node = ("farm", Node("n", url))
        assert here(node, filters=["type==regular"])["freed"] == 200
        for check in (True, False):
            with pytest.raises(FarmError, match=r"filters: found 'type=='; wanted BuildKit's, as in .*: parse error"):
                here(filters=["type=="], check=check)


def test_a_node_that_does_not_run_is_left_alone(here):
    at = Engine([], ["buildx_buildkit_n_state"], usage=USAGE)
    with serving(at) as url:
        found = here(("farm", Node("n", url)))
    assert (found["changed"], found["nodes"][0]["running"], at.commands) == (False, False, [])


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"builder": "other"}, "builder 'other' does not exist; there: farm"),
        ({"nodes": ["x"]}, "no builder that is to be pruned has a node 'x'"),
        ({"timeout": 0}, "timeout is 0; wanted seconds, more than 0"),
        ({"prune_timeout": -1}, "prune_timeout is -1; wanted seconds"),
    ],
)
def test_what_there_is_not_is_refused(here, params, message):
    with pytest.raises(FarmError, match=message):
        here(("farm", Node("n", "tcp://127.0.0.1:1")), **params)


def test_other_drivers(here):
    found = here(("far", Node("n", "tcp://127.0.0.1:1")), driver="remote")
    assert (found["changed"], found["nodes"]) == (False, [])
    with pytest.raises(FarmError, match="has the driver remote"):
        here(builder="far")


ORPHANS = ("buildx_buildkit_mine", "buildx_buildkit_theirs", "buildx_buildkit_unknown")


def test_whose_orphans_are(here):
    volumes = [f"{name}_state" for name in (*ORPHANS, "buildx_buildkit_n")]
    marks = [("mine", "me"), ("theirs", "me"), ("theirs", "they"), ("n", "me"), ("n", "they")]
    at = Engine(["buildx_buildkit_mine", "buildx_buildkit_n"], volumes, marks)
    with serving(at) as url:
        node = ("farm", Node("n", url))
        reported = here(node, cache=False)
        assert (reported["changed"], at.removed) == (False, [])
        predicted = here(cache=False, orphans="remove", check=True)
        assert at.removed == []
        removed = here(cache=False, orphans="remove")
        again = here(cache=False, orphans="remove")
        assert here(cache=False, orphans="ignore")["orphans"] == []
    assert reported["orphans"] == predicted["orphans"] == removed["orphans"]
    kept = {f"{one['kind']} {one['name']}": one["kept"] for one in removed["orphans"]}
    assert kept == {
        "container buildx_buildkit_mine": None,
        "volume buildx_buildkit_mine_state": None,
        "volume buildx_buildkit_theirs_state": "marked as used by they",
        "volume buildx_buildkit_unknown_state": "without a mark of this collection: whose it is is not known",
        "mark mine": None,
        "mark theirs": None,
    }
    assert predicted["actions"] == removed["actions"]
    assert predicted["diff"] == removed["diff"]
    assert at.removed[:2] == ["buildx_buildkit_mine", "buildx_buildkit_mine_state"]
    assert sorted(at.removed[2:]) == sorted(mark_name(node, "me") for node in ("mine", "theirs"))
    assert (again["changed"], len(again["orphans"])) == (False, 2)
    assert again["diff"]["after"] == removed["diff"]["after"]


@pytest.mark.parametrize(
    ("running", "volumes", "marked", "removed"),
    [
        # The container was made anew a day later, with the cache that was there.
        (["mine"], ["mine"], "2026-11-01T12:20:00Z", True),
        (["mine"], ["mine"], "2026-11-01T12:31:00Z", False),
        ([], ["mine"], "2026-11-01T12:31:00Z", False),
        (["mine"], [], "2026-11-01T12:31:00Z", True),
        (["mine"], [], "2026-11-02T00:31:00Z", False),
        # An engine that does not tell.
        ([], ["mine"], None, True),
    ],
)
def test_what_is_older_than_its_mark_may_be_that_of_others(here, running, volumes, marked, removed):
    names = [f"buildx_buildkit_{name}" for name in running] + [f"buildx_buildkit_{name}_state" for name in volumes]
    at = Engine(names[: len(running)], names[len(running) :], [("mine", "me")], marked=marked)
    with serving(at) as url:
        found = here(("farm", Node("n", url)), cache=False, orphans="remove")
    reasons = {one["kept"] for one in found["orphans"] if one["kind"] != "mark"}
    late = "older than its mark: those of others may have been there before, and pruned"
    assert reasons == {None if removed else late}
    assert set(names).issubset(at.removed) == removed


def test_what_cannot_be_removed_stays_marked(here):
    at = Engine([], ["buildx_buildkit_mine_state"], [("mine", "me")], fails=["buildx_buildkit_mine_state"])
    with serving(at) as url, pytest.raises(FarmError, match="could not remove volume buildx_buildkit_mine_state: busy"):
        here(("farm", Node("n", url)), cache=False, orphans="remove")
    assert at.removed == [] and at.marks


def test_marks():
    class Volumes(FakeEngine):
        def __init__(self, status):
            super().__init__()
            self.status, self.made, self.asked = status, [], []

        def answer(self, method, path, query, body, headers):
            self.asked.append(f"{method} {path}")
            if method == "GET":
                wanted = json.loads(query["filters"])["label"][0].partition("=")[2]
                return 200, {"Volumes": [one for one in self.made if one["Labels"].get(f"{_PREFIX}.node") == wanted]}
            self.made += [json.loads(body)] if method == "POST" and self.status == 201 else []
            return self.status if method == "POST" else 204, {"message": "no space"}

    at = Volumes(201)
    with serving(at) as url:
        engines = Engines(None, 5, "me")
        node = Node("n", url)
        engines.mark(node, "farm")
        engines.mark(Node("other", url), "farm")
        engines.remove_cache(node)
    labels = {f"{_PREFIX}.node": "n", f"{_PREFIX}.builder": "farm", f"{_PREFIX}.controller": "me"}
    assert at.made[0] == {"Name": mark_name("n", "me"), "Labels": labels}
    # With the cache go the marks of its node alone.
    removed = [one for one in at.asked if one.startswith("DELETE")]
    assert removed == ["DELETE /volumes/buildx_buildkit_n_state", f"DELETE /volumes/{mark_name('n', 'me')}"]
    with serving(Volumes(500)) as url, pytest.raises(FarmError, match="could not be marked as used: no space"):
        Engines(None, 5, "me").mark(Node("n", url), "farm")


def test_what_a_controller_calls_itself(monkeypatch):
    monkeypatch.setattr("socket.gethostname", lambda: "here")
    assert (controller_name({}), controller_name({"controller": "awx"})) == ("here", "awx")
    assert mark_name("n", "here") != mark_name("n", "awx")


def test_notes_of_builds(tmp_path):
    store = Store(tmp_path / "buildx")
    names = ("farm/a/1", "farm/a/2", "__group__/3", "gone/x/4", "default/default/5")
    for age, name in enumerate(names):
        path = store.directory / "refs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
        os.utime(path, (1000 - age, 1000 - age))
    for name in ("farm", "gone"):
        (store.directory / "activity").mkdir(exist_ok=True)
        (store.directory / "activity" / name).write_text("now")
    (store.directory / "instances").mkdir()
    write_atomically(store.path("farm"), Instance("farm", "docker-container").to_json())
    notes = read_notes(store, ContextStore(tmp_path), 3)
    going = sorted(str(note.path.relative_to(store.directory)) for note in notes if note.going)
    assert (len(notes), going) == (7, ["activity/gone", "refs/default/default/5", "refs/gone/x/4"])
    assert read_notes(Store(Path(tmp_path, "none")), ContextStore(tmp_path), 3) == ()


def test_records_that_were_used_as_often_have_the_same_rank():
    used = [
        record(name, age=age, count=count) for name, age, count in (("a", 4, 1), ("b", 3, 1), ("c", 2, 0), ("d", 1, 1))
    ]
    assert gone(used, keep=31) == ["c"]
    assert gone(used, keep=21) == ["c", "a"]
