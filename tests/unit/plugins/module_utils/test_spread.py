# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which node builds what; `BUILDFARM_SEED` repeats the random farms of an earlier run."""

from __future__ import annotations

import os
import random
from collections import Counter

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._platform.platform import Platform, parse_all
from ansible_collections.buildfarm.multiarch.plugins.module_utils._platform.routing import Worker
from ansible_collections.buildfarm.multiarch.plugins.module_utils._platform.spread import eligible, preference, spread

AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")
SEED = int(os.environ.get("BUILDFARM_SEED", random.SystemRandom().randrange(10**6)))


def named(prefix, count):
    return [f"{prefix}{number}" for number in range(count)]


@pytest.fixture
def chance(record_property):
    record_property("BUILDFARM_SEED", SEED)
    return random.Random(SEED)


def test_an_image_keeps_its_order_of_nodes():
    # Recorded: a collection that chose otherwise after an upgrade would leave every farm's caches cold.
    order = ("farm-b", "farm-a", "farm-d", "farm-c")
    assert preference("docker.io/library/hello", AMD64, ["farm-a", "farm-b", "farm-c", "farm-d"]) == order
    assert preference("docker.io/library/hello", AMD64, ["farm-d", "farm-c", "farm-a", "farm-b", "farm-a"]) == order


def test_image_platform_and_node_all_count():
    nodes = named("n", 8)
    orders = [preference(image, platform, nodes) for image in ("a", "b") for platform in (AMD64, ARM64)]
    assert len(set(orders)) == 4


def test_a_node_that_joins_moves_its_share_and_nothing_else(chance):
    for farm in range(30):
        before = [f"farm{farm}-{name}" for name in named("n", chance.randint(1, 30))]
        new = f"farm{farm}-new"
        images = [f"registry.example.com/team/{chance.getrandbits(64):x}" for _image in range(800)]
        choices = ((_first(image, before), _first(image, [*before, new])) for image in images)
        moved = [after for earlier, after in choices if after != earlier]
        assert set(moved) == {new}
        assert len(moved) <= 2 / (len(before) + 1) * len(images), (farm, len(before))


def _first(image, nodes):
    return preference(image, AMD64, nodes)[0]


def test_a_node_that_leaves_moves_what_it_had_and_nothing_else(chance):
    nodes = named("n", 12)
    gone = chance.choice(nodes)
    for image in named("team/image", 200):
        order = preference(image, AMD64, nodes)
        assert preference(image, AMD64, [node for node in nodes if node != gone]) == tuple(
            node for node in order if node != gone
        )


def test_choices_are_balanced(chance):
    for _farm in range(20):
        nodes = named(f"{chance.getrandbits(32):x}-", chance.randint(2, 30))
        loads = Counter(_first(image, nodes) for image in named(f"{chance.getrandbits(32):x}/", 100 * len(nodes)))
        assert min(loads[node] for node in nodes) > 50
        assert max(loads.values()) < 160


@pytest.mark.parametrize(
    ("images", "nodes", "most"), [(60, 30, 2), (12, 4, 3), (1, 30, 1), (61, 30, 3), (5, 30, 1), (7, 1, 7)]
)
def test_no_node_of_a_list_has_more_than_its_share(images, nodes, most):
    jobs = [(image, AMD64) for image in named("team/image", images)]
    found = spread(jobs, {AMD64: named("n", nodes)})
    loads = Counter(order[0] for order in found.values())
    assert set(found) == set(jobs)
    assert max(loads.values()) == most


def test_shares_are_those_of_each_platform():
    nodes = named("n", 4)
    jobs = [(image, platform) for image in named("i", 8) for platform in (AMD64, ARM64)]
    found = spread(jobs, {AMD64: nodes, ARM64: nodes[:2]})
    of = {
        platform: Counter(order[0] for (_image, built), order in found.items() if built == platform)
        for platform in (AMD64, ARM64)
    }
    assert of[AMD64] == dict.fromkeys(nodes, 2)
    assert of[ARM64] == dict.fromkeys(nodes[:2], 4)


def test_a_single_build_has_the_node_that_it_prefers():
    for image in named("i", 50):
        assert spread([(image, AMD64)], {AMD64: named("n", 9)}) == {
            (image, AMD64): preference(image, AMD64, named("n", 9))
        }


def test_the_order_of_a_list_does_not_count(chance):
    jobs = [(image, platform) for image in named("i", 40) for platform in (AMD64, ARM64)]
    nodes = named("n", 7)
    found = spread(jobs, {AMD64: nodes, ARM64: nodes[3:]})
    chance.shuffle(jobs)
    chance.shuffle(nodes)
    assert spread([*jobs, *jobs[:5]], {ARM64: [n for n in nodes if n >= "n3"], AMD64: nodes}) == found


def test_all_nodes_are_tried_the_others_in_order_of_preference():
    jobs = [(image, AMD64) for image in named("i", 20)]
    nodes = named("n", 6)
    for (image, platform), (first, *others) in spread(jobs, {AMD64: nodes}).items():
        assert others == [node for node in preference(image, platform, nodes) if node != first]
        assert len(others) == 5


def test_a_longer_list_leaves_most_choices_alone(chance):
    # With room for all, builds that are added cost others their node rarely.
    nodes = named("n", 10)
    jobs = [(f"{chance.getrandbits(32):x}", AMD64) for _job in range(100)]
    before = spread(jobs[:95], {AMD64: nodes})
    after = spread(jobs, {AMD64: nodes})
    assert sum(before[job][0] != after[job][0] for job in before) <= 20


def worker(text, native=None, detected=None):
    """`a=amd64+arm64` is a node with two pins."""
    name, _equals, pins = text.partition("=")
    return Worker(name, _platforms(pins), None if detected is None else _platforms(detected), native)


def _platforms(text):
    return parse_all(f"linux/{arch}" for arch in text.split("+") if arch)


# Nodes, and those that may build linux/arm64: prefer_native, allow, forbid.
ROWS = [
    ([worker("a=arm64", ARM64), worker("b=arm64", ARM64), worker("c=amd64", AMD64)], "ab", "ab", "ab"),
    ([worker("a=amd64+arm64", AMD64), worker("b=arm64", ARM64)], "b", "ab", "b"),
    ([worker("a=amd64+arm64", AMD64), worker("b=arm64", AMD64)], "ab", "ab", ""),
    # A remote BuildKit: nobody knows its processor, its pins are taken for native ones.
    ([worker("a=arm64"), worker("b=arm64", AMD64)], "a", "ab", "a"),
    # Without pins what BuildKit detected counts, the first of it as its processor's.
    ([worker("a=", ARM64, "arm64+amd64"), worker("b=arm64", ARM64, "amd64")], "ab", "ab", "ab"),
    ([worker("a=", None, "arm64+amd64"), worker("b=", None, "amd64+arm64")], "a", "ab", "a"),
    ([worker("a=", AMD64), worker("b=", None, "")], "", "", ""),
    # A pin keeps out nodes that are pinned to others, whatever BuildKit detected there.
    ([worker("a=amd64", AMD64, "amd64+arm64"), worker("b=arm64", AMD64, "amd64+arm64")], "b", "b", ""),
    # What nobody is pinned to is built where it was detected.
    ([worker("a=amd64", AMD64, "amd64+arm64"), worker("b=amd64", AMD64, "amd64")], "a", "a", ""),
    ([worker("a=386", ARM64, "arm64"), worker("b=amd64", AMD64, "amd64+arm64")], "a", "ab", "a"),
    ([worker("a=amd64", AMD64, "amd64")], "", "", ""),
    ([], "", "", ""),
]


@pytest.mark.parametrize(
    ("wanted", "nodes", "names"),
    [
        ("linux/arm/v6", [worker("a=arm/v7"), worker("b=arm/v6"), worker("c=arm/v5")], "ab"),
        ("linux/arm/v7", [worker("a=arm/v7"), worker("b=arm/v6"), worker("c=arm64")], "a"),
        ("linux/amd64/v2", [worker("a=amd64/v3"), worker("b=amd64"), worker("c=amd64/v2")], "ac"),
        ("linux/386", [worker("a=386"), worker("b=amd64")], "a"),
        ("linux/arm/v5", [worker("a=", None, "arm/v7"), worker("b=", None, "arm64")], "a"),
    ],
)
def test_a_node_builds_older_variants_of_what_it_serves(wanted, nodes, names):
    assert eligible(Platform.parse(wanted), nodes, "allow") == tuple(names)


@pytest.mark.parametrize(("nodes", "prefer_native", "allow", "forbid"), ROWS)
def test_who_may_build_a_platform(nodes, prefer_native, allow, forbid):
    found = [eligible(ARM64, nodes, emulation) for emulation in ("prefer_native", "allow", "forbid")]
    assert found == [tuple(prefer_native), tuple(allow), tuple(forbid)]
