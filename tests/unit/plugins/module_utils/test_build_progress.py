# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is read of a build while it runs, from recorded progress of buildx."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._build.farm import Farm
from ansible_collections.buildfarm.multiarch.plugins.module_utils._buildx.progress import (
    BEGIN,
    DONE,
    BuildProgress,
    StepEvent,
)
from ansible_collections.buildfarm.multiarch.plugins.module_utils._platform.platform import Platform

FIXTURES = Path(__file__).parents[2] / "fixtures"
VERSIONS = ("0.13.1", "0.29.1")
BASE = "registry.example.com/library/busybox:latest"
DIGEST = "sha256:2040e736e3145b74bf90cba514ed028eae0607955f4b78518512be27a16c8043"


def read(version, name):
    progress = BuildProgress()
    lines = (FIXTURES / f"buildx-{version}/build-{name}.txt").read_text().splitlines()
    return progress, [event for event in map(progress.read, lines) if event]


def told(events, platform=None):
    return [str(event) for event in events if platform is None or event.platform == platform]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_build_for_two_nodes_names_each_steps_platform(version):
    progress, events = read(version, "multi")
    for platform in ("linux/amd64", "linux/arm64"):
        seconds = {event.step: event.seconds for event in events if event.platform == platform and event.kind == DONE}
        assert list(seconds) == [
            f"[base 1/2] FROM {BASE}",
            "[stage-1 2/5] COPY big /big",
            "[base 2/2] RUN echo begun; sleep 6",
            "[stage-1 3/5] COPY --from=base /bin/true /t",
            "[stage-1 4/5] RUN sleep 1 && echo one",
            "[stage-1 5/5] WORKDIR /w",
        ]
        assert 6 <= seconds["[base 2/2] RUN echo begun; sleep 6"] < 7
        begun = [event.step for event in events if event.platform == platform and event.kind == BEGIN]
        assert sorted(begun) == sorted(seconds)
    exported = [event.step for event in events if event.kind == DONE and not event.platform]
    assert exported[-3:] == ["exporting to image"] * 2 + ["merging manifest list registry.example.com/app:m"]
    assert (progress.cached, progress.run) == (0, 10)
    assert sorted(progress.fetched) == [("linux/amd64", f"{BASE}@{DIGEST}"), ("linux/arm64", f"{BASE}@{DIGEST}")]


@pytest.mark.parametrize("version", VERSIONS)
def test_of_a_build_from_the_cache_each_step_is_counted(version):
    progress, events = read(version, "multi-cached")
    assert (progress.cached, progress.run) == (10, 0)
    assert "[stage-1 5/5] WORKDIR /w cached" in told(events, "linux/arm64")
    # What took no time and is no step of the Dockerfile is not worth a line.
    assert not [line for line in told(events) if "internal" in line or "context" in line or "metadata" in line]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_build_for_one_platform_names_none(version):
    progress, events = read(version, "single")
    assert {event.platform for event in events} == {""}
    assert (progress.cached, progress.run) == (0, 5)
    # Shown again after another step's turn: it took a while.
    assert "transferring context …" in told(events)
    # Its base is extracted after it was said to be done.
    assert sum(event.step == f"[base 1/2] FROM {BASE}" for event in events) == 2


@pytest.mark.parametrize("version", VERSIONS)
def test_what_fails_and_what_is_ended_for_it(version):
    progress, events = read(version, "failed-canceled")
    assert [line for line in told(events) if not line.endswith("…")][1:] == [
        "[a 2/2] RUN echo begun; sleep 1; exit 7 FAILED",
        "[b 2/2] RUN echo begun; sleep 20 canceled",
    ]
    assert progress.run == 0


@pytest.mark.parametrize(
    ("line", "platform", "step"),
    [
        ("[linux/arm/v7  2/10] RUN a", "linux/arm/v7", "[2/10] RUN a"),
        ("[linux/amd64->arm64 build 2/3] RUN a", "linux/arm64", "[build 2/3] RUN a"),
        ("[linux/amd64->arm/v7 2/3] RUN a", "linux/arm/v7", "[2/3] RUN a"),
        ("[linux/amd64->windows/amd64 2/3] RUN a", "windows/amd64", "[2/3] RUN a"),
        ("[app linux/arm64 stage-1 2/3] RUN a", "linux/arm64", "[app stage-1 2/3] RUN a"),
        ("[2/3] RUN a b/c [d]", "", "[2/3] RUN a b/c [d]"),
    ],
)
def test_names_of_steps(line, platform, step):
    assert BuildProgress().read(f"#4 {line}") == StepEvent(BEGIN, step, platform)


def test_what_a_program_prints_is_no_end_of_its_step():
    progress = BuildProgress()
    lines = ["#4 [2/2] RUN a", "#4 0.1 DONE 3.0s", "#4 0.2 ERROR: x", "#4 ...", "#5 CACHED", "#0 building", "", "#4 x"]
    assert [progress.read(line) is not None for line in lines] == [True, *[False] * 7]
    assert str(progress.read("#4 DONE 12.3s")) == "[2/2] RUN a done 12.3s"


def test_work_of_buildkits_own_that_takes_long_or_fails():
    progress = BuildProgress()
    assert progress.read("#1 [auth] library/busybox:pull token for registry") is None
    assert str(progress.read("#1 DONE 2.5s")) == "[auth] library/busybox:pull token for registry done 2.5s"
    assert progress.read("#2 [linux/arm64 internal] load metadata for a:b") is None
    assert progress.read("#2 ERROR: no such host") == StepEvent("error", "load metadata for a:b", "linux/arm64")
    assert progress.read("#3 [internal] load build context") is None
    assert progress.read("#3 transferring context: 2B done") is None
    assert str(progress.read("#3 transferring context: 9.1MB 5.0s")) == "transferring context …"
    assert progress.read("#3 transferring context: 12.1MB 5.2s") is None
    assert str(progress.read("#3 DONE 5.4s")) == "transferring context done 5.4s"


def test_long_names_are_cut():
    event = BuildProgress().read("#4 [2/2] RUN " + "x" * 500)
    assert len(event.step) == 120 and event.step.endswith("x…")


@pytest.mark.parametrize(
    ("platforms", "expected"),
    [
        (["linux/amd64"], "native"),
        (["linux/amd64", "linux/386"], "native"),
        (["linux/arm64"], "emulated"),
        (["linux/amd64", "linux/arm64"], ""),
    ],
)
def test_how_a_node_builds_what_it_was_given(platforms, expected):
    natives = {"a": Platform.parse("linux/amd64")}
    farm = Farm(None, (), natives, {}, None, None, None, None, ())
    assert farm.how("a", [Platform.parse(platform) for platform in platforms]) == expected
    assert farm.how("unknown", [Platform.parse(platform) for platform in platforms]) == ""
