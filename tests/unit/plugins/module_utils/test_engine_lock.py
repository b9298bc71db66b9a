# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Locks on engines that a test determines: who gets one, who waits, and what is left."""

from __future__ import annotations

import contextlib
import json
import threading
import time

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.environment import user
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.runner import run
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker import engine_lock
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker.context_store import ContextStore
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker.engine_lock import (
    LABEL,
    NAME,
    EngineLocks,
    describe_holder,
)
from ansible_collections.buildfarm.multiarch.tests.unit.engines import FakeEngine, serving

IMAGE = "registry.example.com/moby/buildkit:v1"
OTHER = {LABEL: "somebody else", f"{LABEL}.run": "1"}


class Engine(FakeEngine):
    """One that has containers by name, and an image if it is to have it."""

    def __init__(self, image=True, pull_error="", start=204):
        super().__init__()
        self.image, self.pull_error, self.start = image, pull_error, start
        self.made, self.asked = 0, []
        self.removed = lambda: None

    def put(self, labels, running=True):
        self.made += 1
        self.containers[str(self.made)] = {
            "Id": str(self.made),
            "Created": "2026-03-01T10:20:30.123456789Z",
            "Config": {"Labels": labels},
            "State": {"Running": running},
        }
        return str(self.made)

    def answer(self, method, path, query, body, headers):
        self.asked.append(f"{method} {path}")
        parts = path.strip("/").split("/")
        if parts == ["images", "create"]:
            self.image = not self.pull_error
            return 200, b'{"status":"Pulling"}\n' + (b'{"error":"%s"}\n' % self.pull_error.encode()) * (not self.image)
        if parts == ["containers", "create"]:
            assert query == {"name": NAME}
            if self.containers:
                return 409, {"message": "the name is in use"}
            if not self.image:
                return 404, {"message": "no such image"}
            return 201, {"Id": self.put(json.loads(body)["Labels"], running=False)}
        names = {NAME: next(iter(self.containers), "")}
        found = self.containers.get(names.get(parts[1], parts[1]))
        if found is None:
            return 404, {"message": "no such container"}
        if method == "DELETE" or parts[-1] == "wait":
            del self.containers[found["Id"]]
            return (200, {"StatusCode": 0}) if parts[-1] == "wait" else (204, None)
        if parts[-1] == "attach":
            return 101, None
        if parts[-1] == "start":
            found["State"]["Running"] = self.start == 204
            return self.start, None if self.start == 204 else {"message": "no such program"}
        return 200, found


def locks(tmp_path, timeout=5.0):
    return EngineLocks(ContextStore(tmp_path), run, "this test", timeout)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(engine_lock, "_INTERVAL", 0.02)


def test_a_lock_is_there_while_it_is_held_and_says_whose_it_is(tmp_path):
    with serving(Engine()) as one, serving(Engine()) as other:
        mine = locks(tmp_path)
        with mine.held({one: IMAGE, other: IMAGE}):
            assert not mine.lost()
            with pytest.raises(FarmError, match="this test"), locks(tmp_path, 0).held({one: IMAGE}):
                pytest.fail("held by two")
        with locks(tmp_path, 0).held({one: IMAGE}):
            pass
        assert mine.warnings == []


def test_nothing_is_asked_where_nothing_is_locked(tmp_path):
    with locks(tmp_path).held({}):
        pass


def test_an_engine_by_two_names_is_locked_once(tmp_path):
    engine = Engine()
    with serving(engine) as url, locks(tmp_path, 0).held({url: IMAGE, url.replace("127.0.0.1", "localhost"): IMAGE}):
        assert len(engine.containers) == 1


def test_the_time_limits_message_names_the_holder(tmp_path):
    engine = Engine()
    identifier = engine.put(OTHER)
    wanted = r"works on its containers, somebody else, since 2026-03-01T10:20:30Z; waited 0.1 s for it, nothing was "
    with serving(engine) as url:
        with pytest.raises(FarmError, match=wanted) as refused, locks(tmp_path, 0.1).held({url: IMAGE}):
            pytest.fail("held by two")
        assert list(engine.containers) == [identifier] and refused.value.details == {"holder": "somebody else"}
        engine.containers.clear()


def test_who_waits_keeps_nobody_else_waiting(tmp_path):
    free, taken = Engine(), Engine()
    identifier = taken.put(OTHER)
    with serving(free) as one, serving(taken) as other, contextlib.ExitStack() as stack:
        mine = locks(tmp_path)
        waiting = threading.Thread(target=stack.enter_context, args=(mine.held({one: IMAGE, other: IMAGE}),))
        waiting.start()
        while taken.asked.count(f"GET /containers/{identifier}/json") < 2:
            time.sleep(0.01)
        assert not free.containers
        taken.containers.clear()
        waiting.join()
        assert len(free.containers) == len(taken.containers) == 1


@pytest.mark.parametrize("running", [True, False])
def test_what_its_holder_has_left_before_it_held_is_removed(tmp_path, monkeypatch, running):
    monkeypatch.setattr(engine_lock, "_STARTS", 0.05)
    engine = Engine()
    engine.put(OTHER, running)
    with serving(engine) as url:
        with contextlib.suppress(FarmError), locks(tmp_path, 0.5).held({url: IMAGE}):
            assert not running
            assert [one["Config"]["Labels"][LABEL] for one in engine.containers.values()] == ["this test"]
        assert bool(engine.containers) == running
        engine.containers.clear()


@pytest.mark.parametrize(
    "options, warning",
    [
        ({"image": False}, ""),
        ({"image": False, "pull_error": "denied"}, "denied"),
        ({"start": 400}, "no such program"),
    ],
)
def test_the_image_is_pulled_and_what_cannot_be_locked_is_said(tmp_path, options, warning):
    engine, mine = Engine(**options), locks(tmp_path)
    with serving(engine) as url:
        with mine.held({url: IMAGE}):
            assert bool(engine.containers) == (not warning)
        wanted = [f"engine {url} could not be locked against other runs: {warning}"]
        assert mine.warnings == (wanted if warning else [])


@pytest.mark.parametrize(
    "change", [dict.clear, lambda found: next(iter(found.values()))["State"].update(Running=False)]
)
def test_a_lock_that_went_with_its_engine_is_noticed(tmp_path, change):
    engine, mine = Engine(), locks(tmp_path)
    with serving(engine) as url, mine.held({url: IMAGE}):
        change(engine.containers)
        assert mine.lost()


def test_an_engine_that_does_not_answer_stops_nothing_here(tmp_path):
    with serving(Engine()) as url:
        pass
    mine = locks(tmp_path)
    with mine.held({url: IMAGE}):
        assert not mine.lost()
    assert "connection refused" in mine.warnings[0]


@pytest.mark.parametrize(
    "environment, shown", [({}, ""), ({"JOB_ID": "42"}, ", AWX job 42"), ({"JOB_ID": "of something else"}, "")]
)
def test_the_holder_in_words(environment, shown):
    assert describe_holder("module m", "ctl", environment) == f"module m by {user()} on ctl{shown}"
