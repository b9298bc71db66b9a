# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Nodes that take no new builds: the mark on the engine, and what still builds there."""

from __future__ import annotations

import contextlib
import json

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker.context_store import ContextStore
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker.drain import LABEL, VOLUME
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker.endpoint import Endpoint
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker.engine import probe
from ansible_collections.buildfarm.multiarch.plugins.module_utils._drain import apply as _apply
from ansible_collections.buildfarm.multiarch.plugins.module_utils._drain.plan import Site

from ...engines import FakeEngine, serving


class Engine(FakeEngine):
    """An engine with volumes, and a BuildKit container that clients are connected to.

    The answers have the fields of Docker 20.10 to 28.5 that are read.

    :ivar looks: how many clients each look at the engine finds, the last of it for ever.
    """

    def __init__(self, *looks):
        super().__init__()
        self.volumes, self.looks, self.changes = {}, list(looks) or [0], []

    def answer(self, method, path, query, body, headers):
        if method == "POST" and path == "/volumes/create":
            made = json.loads(body)
            self.changes.append("made")
            self.volumes.setdefault(made["Name"], {**made, "CreatedAt": "2026-03-01T10:20:30Z"})
            return 201, made
        if method == "DELETE":
            self.changes.append("removed")
            return (204, None) if self.volumes.pop(path.rpartition("/")[2], None) else (404, {"message": "no such"})
        if path == "/version":
            return 200, {"Version": "28.5.2", "ApiVersion": "1.51", "Os": "linux", "Arch": "amd64"}
        if path == "/volumes":
            (label,) = json.loads(query["filters"])["label"]
            # Without any, old engines answer null.
            return 200, {"Volumes": [one for one in self.volumes.values() if label in one["Labels"]] or None}
        if path == "/containers/json":
            assert json.loads(query["filters"]) == {"name": ["buildx_buildkit_"], "status": ["running", "paused"]}
            names = ("/buildx_buildkit_farm-a", "/my-buildx_buildkit_copy")
            return 200, [{"Id": name[1:], "Names": [name]} for name in names]
        if path == "/containers/buildx_buildkit_farm-a/json":
            clients = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
            return 200, {"ExecIDs": [f"client{number}" for number in range(clients)] + ["other", "ended", "gone"]}
        if path.startswith("/exec/"):
            name = path.split("/")[2]
            arguments = ["debug", "workers"] if name == "other" else ["dial-stdio"]
            process = {"entrypoint": "buildctl", "arguments": arguments}
            return (404, {}) if name == "gone" else (200, {"Running": name != "ended", "ProcessConfig": process})
        raise AssertionError((method, path))


class Clock:
    """A clock that goes on by itself only while somebody sleeps."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(_apply, "time", made)
    return made


def run(url, check=False, **options):
    params = {"state": "drained", "reason": None, "timeout": 5, "docker_config": None}
    params.update({"endpoints": [url], "ca": None, "cert": None, "key": None}, **options)
    return _apply.run(params, check, None)


def drained(url, tmp_path):
    return probe(Endpoint.parse(url), ContextStore(tmp_path)).drained


def test_a_node_is_drained_once_and_takes_builds_again(tmp_path):
    engine = Engine()
    with serving(engine) as url:
        assert drained(url, tmp_path) is None
        predicted = run(url, check=True, reason="disk").as_result()
        assert not engine.changes
        done = run(url, reason="disk").as_result()
        assert (done["diff"], done["actions"]) == (predicted["diff"], predicted["actions"])
        assert done["actions"] == [["drain", url]]
        assert engine.volumes[VOLUME]["Labels"] == {LABEL: "disk"}
        assert drained(url, tmp_path) == "it is drained since 2026-03-01T10:20:30Z (disk)"
        (node,) = done["nodes"]
        assert (node["endpoint"], node["drained"], node["reason"]) == (url, True, "disk")
        assert (node["since"], node["builds"], node["containers"]) == ("2026-03-01T10:20:30Z", 0, [])
        # A reason that is left out is left alone.
        assert not run(url).changed
        assert run(url, reason="kernel").actions == [["activate", url], ["drain", url]]
        assert engine.volumes[VOLUME]["Labels"] == {LABEL: "kernel"}
        assert run(url, state="active").actions == [["activate", url]]
        assert drained(url, tmp_path) is None
        assert not run(url, state="active").changed


def test_builds_that_run_are_waited_for(clock):
    with serving(Engine(2, 2, 1, 0)) as url:
        (node,) = run(url, timeout=60).values["nodes"]
        assert node["builds"] == 0
        # The last of them was seen after one second, and four more are quiet.
        assert clock.now == 5
        # What was drained before has been quiet for long.
        assert not run(url).changed
        assert clock.now == 5


def test_a_build_that_begins_just_after_the_mark_is_waited_for(clock):
    with serving(Engine(0, 0, 0, 1, 1, 0)) as url:
        assert run(url, timeout=60).values["nodes"][0]["builds"] == 0
        assert clock.now == 3 + 4


def test_builds_that_take_too_long_are_left():
    engine = Engine(2)
    with serving(engine) as url:
        with pytest.raises(FarmError, match=r"builds still run after 3 s on tcp://.* \(2\); no new ones") as caught:
            run(url, timeout=3)
        assert engine.volumes and caught.value.details["changed"]
        assert caught.value.details["nodes"][0]["containers"] == ["buildx_buildkit_farm-a"]
        assert run(url, timeout=0).values["nodes"][0]["builds"] == 2
        assert not run(url, check=True).changed


def test_nothing_is_marked_where_one_engine_does_not_answer():
    engine = Engine()
    with serving(engine) as url:
        with pytest.raises(FarmError, match=r"engine tcp://127\.0\.0\.1:1: connection refused"):
            run(url, endpoints=[url, "tcp://127.0.0.1:1"])
    assert not engine.changes


def test_a_volume_of_somebody_else_is_no_mark():
    engine = Engine()
    engine.volumes[VOLUME] = {"Name": VOLUME, "Labels": {}}
    with serving(engine) as url:
        with pytest.raises(FarmError, match="volume buildfarm_drained was made, and still the engine is not marked"):
            run(url)


def test_a_timeout_is_no_negative_number():
    with pytest.raises(FarmError, match="timeout is -1; wanted seconds"):
        run("tcp://127.0.0.1:1", timeout=-1)


@pytest.mark.parametrize("state", ["drained", "active"])
def test_what_was_done_is_undone_where_another_engine_fails(state):
    class Failing(Engine):
        def answer(self, method, path, query, body, headers):
            if method in ("POST", "DELETE"):
                return 500, b"no space\n"
            return super().answer(method, path, query, body, headers)

    engine, other = Engine(), Failing()
    for one in (engine, other):
        one.volumes = {VOLUME: {"Name": VOLUME, "Labels": {LABEL: "disk"}}} if state == "active" else {}
    before = dict(engine.volumes)
    with serving(engine) as url, serving(other) as failing:
        with pytest.raises(FarmError, match=rf"engine {failing}: \w+ /volumes/.* failed: no space \(HTTP 500\)"):
            run(url, endpoints=[url, failing], state=state)
    assert [one["Labels"] for one in engine.volumes.values()] == [one["Labels"] for one in before.values()]
    assert len(engine.changes) == 2


@pytest.mark.parametrize("status", [403, 500])
def test_an_engine_that_does_not_tell_is_named(status):
    class Silent(Engine):
        def answer(self, method, path, query, body, headers):
            if path == "/containers/json":
                return status, b"no\n"
            return super().answer(method, path, query, body, headers)

    engine = Silent()
    with serving(engine) as url:
        words = rf"^engine {url}: GET /containers/json\S+ failed: no \(HTTP {status}\)$"
        with pytest.raises(FarmError, match=words):
            run(url)
    assert not engine.changes


def test_a_node_that_takes_builds_again_is_not_waited_for(clock):
    with serving(Engine(2)) as url:
        run(url, timeout=0)
        (node,) = run(url, state="active", timeout=60).values["nodes"]
    assert (node["builds"], node["drained"], node["since"], clock.now) == (2, False, None, 0)


@pytest.mark.parametrize(("status", "fails"), [(200, False), (201, False), (204, False), (404, False), (202, True)])
def test_answers_to_a_change(tmp_path, status, fails):
    class Answering(Engine):
        def answer(self, method, path, query, body, headers):
            return status, b""

    with serving(Answering()) as url:
        site = Site(ContextStore(tmp_path), None)
        for change in (lambda: site.mark(Endpoint.parse(url), "x"), lambda: site.unmark(Endpoint.parse(url))):
            with pytest.raises(FarmError) if fails else contextlib.nullcontext():
                change()
