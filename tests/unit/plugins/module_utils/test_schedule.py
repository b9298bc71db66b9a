# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which node takes the next build, in what order images are built, and what happens to the builds of a lost node."""

from __future__ import annotations

import functools
import os
import random
import subprocess
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._build import watch as _watch
from ansible_collections.buildfarm.multiarch.plugins.module_utils._build.declaration import Image
from ansible_collections.buildfarm.multiarch.plugins.module_utils._build.order import bases_of
from ansible_collections.buildfarm.multiarch.plugins.module_utils._build.schedule import NoNodeLeft, Slots
from ansible_collections.buildfarm.multiarch.plugins.module_utils._build.shares import common_nodes, shared_out
from ansible_collections.buildfarm.multiarch.plugins.module_utils._build.watch import Watch
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._platform.platform import Platform
from ansible_collections.buildfarm.multiarch.plugins.module_utils._platform.spread import spread

SEED = int(os.environ.get("BUILDFARM_SEED", random.SystemRandom().randrange(10**6)))
AMD64, I386, ARM64 = Platform("linux", "amd64"), Platform("linux", "386"), Platform("linux", "arm64")


def test_the_first_node_takes_a_build_as_long_as_it_has_room_then_an_idle_one():
    slots = Slots({"a": 2, "b": 1, "c": 1})
    with ExitStack() as stack:
        assert [stack.enter_context(slots.taken(["a", "b", "c"])) for _number in range(4)] == ["a", "a", "b", "c"]
        assert slots.busy() == ["a", "b", "c"]
    assert slots.busy() == []


def test_a_build_waits_for_its_node_where_no_other_is_idle():
    slots = Slots({"a": 1, "b": 1})
    taken, release = [], threading.Event()

    def build():
        with slots.taken(["a"]) as node:
            taken.append(node)

    with ThreadPoolExecutor(1) as pool:
        with slots.taken(["a"]):
            waiting = pool.submit(build)
            assert not release.wait(0.1) and not taken
        waiting.result(timeout=5)
        assert taken == ["a"]
        # As nobody waits for it any more, others may have it.
        with slots.taken(["b"]):
            other = pool.submit(slots.taken(["b", "a"]).__enter__)
            assert other.result(timeout=5) == "a"


def test_all_builds_together_are_limited():
    slots = Slots({"a": 9, "b": 9}, in_all=2)
    with slots.taken(["a"]), slots.taken(["b"]), ThreadPoolExecutor(1) as pool:
        third = pool.submit(slots.taken(["a"]).__enter__)
        assert not third.done()
        slots.lose("a")
        with pytest.raises(NoNodeLeft):
            third.result(timeout=5)


def test_a_lost_node_gets_no_more_builds():
    slots = Slots({"a": 1, "b": 1})
    slots.lose("a")
    with slots.taken(["a", "b"]) as node:
        assert node == "b"
    slots.lose("b")
    with pytest.raises(NoNodeLeft), slots.taken(["a", "b"]):
        pass


def _built(slots, loads, lock, orders, seconds, image):
    with slots.taken(orders[image, AMD64]) as node:
        with lock:
            loads[node] += 1
        time.sleep(seconds[image])


def test_no_node_of_a_large_farm_gets_more_than_three_times_its_share(record_property):
    record_property("BUILDFARM_SEED", SEED)
    chance = random.Random(SEED)
    for farm in range(10):
        nodes = [f"farm{farm}-n{number}" for number in range(30)]
        images = [f"registry.example.com/{chance.getrandbits(32):x}" for _image in range(60)]
        slots, loads, lock = Slots(dict.fromkeys(nodes, chance.randint(1, 4))), Counter(), threading.Lock()
        orders = spread([(image, AMD64) for image in images], {AMD64: nodes})
        seconds = {image: chance.uniform(0.001, 0.03) for image in images}

        build = functools.partial(_built, slots, loads, lock, orders, seconds)
        with ThreadPoolExecutor(len(images)) as pool:
            list(pool.map(build, images))
        assert sum(loads.values()) == len(images)
        assert max(loads.values()) <= 3 * len(images) / len(nodes), loads


def test_platforms_of_one_node_are_built_together():
    orders = {AMD64: ("a", "b"), I386: ("a", "c"), ARM64: ("b", "a")}
    assert shared_out([AMD64, ARM64, I386], orders, together=False) == ((AMD64, I386), (ARM64,))
    assert common_nodes([AMD64, I386], orders) == ("a",)
    assert shared_out([AMD64, ARM64, I386], orders, together=True) == ((AMD64, ARM64, I386),)
    apart = {AMD64: ("a",), ARM64: ("b",)}
    assert shared_out([AMD64, ARM64], apart, together=True) == ((AMD64,), (ARM64,))
    assert shared_out([], {}, together=False) == ((),)


@pytest.fixture
def image(tmp_path):
    """Makes an image of a Dockerfile."""

    def make(tag, dockerfile, **options):
        context = tmp_path / tag.replace("/", "-").replace(":", "-")
        context.mkdir()
        (context / "Dockerfile").write_text(dockerfile)
        return Image.from_params({"context": str(context), "tags": [tag], **options})

    return make


@pytest.mark.parametrize(
    "line",
    [
        "FROM r.example.com/base:1",
        "FROM --platform=$BUILDPLATFORM r.example.com/base:1 AS build",
        "ARG BASE=r.example.com/base:1\nFROM ${BASE}",
        'ARG BASE="r.example.com/base:1"\nFROM $BASE',
        "ARG VERSION\nFROM r.example.com/base:${VERSION}",
        "FROM r.example.com/base:${OTHER:-1}",
        "FROM scratch\nCOPY --from=r.example.com/base:1 /x /x",
        "FROM scratch\nRUN --mount=type=bind,from=r.example.com/base:1,target=/x true",
    ],
)
def test_an_image_is_built_after_those_that_its_dockerfile_names(image, line):
    base = image("r.example.com/base:1", "FROM scratch")
    derived = image("r.example.com/app:1", line, build_args={"VERSION": "1"})
    assert bases_of([derived, base]) == [{"r.example.com/base:1": 1}, {}]


@pytest.mark.parametrize("line", ["FROM r.example.com/base:2", "FROM r.example.com/base", "FROM scratch", "LABEL x=y"])
def test_other_names_are_no_reason_to_wait(image, line):
    base = image("r.example.com/base:1", "FROM scratch")
    assert bases_of([base, image("r.example.com/app:1", line)]) == [{}, {}]


def test_an_image_that_names_itself_does_not_wait_for_itself(image):
    assert bases_of([image("r.example.com/app:1", "FROM r.example.com/app:1")]) == [{}]


def test_images_that_are_built_from_each_other_are_refused(image):
    one = image("r.example.com/a:1", "FROM r.example.com/b:1")
    other = image("r.example.com/b:1", "FROM r.example.com/a:1")
    with pytest.raises(FarmError, match=r"r\.example\.com/a:1, r\.example\.com/b:1 are built from each other"):
        bases_of([one, other, image("r.example.com/c:1", "FROM scratch")])


def test_a_node_that_still_takes_connections_is_waited_for_longer():
    gone = []
    watch = Watch(lambda nodes: dict.fromkeys(nodes, True), gone.append)
    with watch.listed("a") as started:
        process = subprocess.Popen(["sleep", "60"], start_new_session=True)
        started(process.pid)
        for _probe in range(19):
            watch.probe()
        assert (gone, process.poll()) == ([], None)
        watch.probe()
        assert gone == ["a"] and process.wait(5) == -9


def test_what_builds_on_a_node_that_does_not_answer_twice_is_ended():
    silent, gone = set(), []
    watch = Watch(lambda nodes: dict.fromkeys(silent & set(nodes), False), gone.append)
    with watch.listed("a") as started, watch.listed("b") as other:
        processes = [subprocess.Popen(["sleep", "60"], start_new_session=True) for _number in range(2)]
        started(processes[0].pid)
        other(processes[1].pid)
        silent.add("a")
        watch.probe()
        silent.clear()
        watch.probe()
        silent.add("a")
        watch.probe()
        assert (gone, processes[0].poll()) == ([], None), "one answer in between is enough"
        watch.probe()
        assert gone == ["a"] and processes[0].wait(5) == -9
        assert processes[1].poll() is None
        processes[1].kill()
        processes[1].wait()
    silent.add("b")
    watch.probe()
    watch.probe()
    assert gone == ["a"], "a node without builds is not asked"


def test_nodes_are_probed_while_the_watch_runs(monkeypatch):
    probed = threading.Event()
    monkeypatch.setattr(_watch, "_INTERVAL", 0.01)
    watch = Watch(lambda nodes: probed.set() or {}, lambda node: None)
    with watch.listed("a") as started, watch.running():
        started(2**22)
        assert probed.wait(10)
