# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import threading

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._buildx.store import Instance, Node
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.runner import Result
from ansible_collections.buildfarm.multiarch.plugins.module_utils._image import platform_checks as _platform_checks
from ansible_collections.buildfarm.multiarch.plugins.module_utils._image import state as _state
from ansible_collections.buildfarm.multiarch.plugins.module_utils._image.check import CheckResult, RunResult
from ansible_collections.buildfarm.multiarch.plugins.module_utils._image.programs import Findings, Program
from ansible_collections.buildfarm.multiarch.plugins.module_utils._image.verify import run
from ansible_collections.buildfarm.multiarch.plugins.module_utils._platform.platform import Platform
from ansible_collections.buildfarm.multiarch.tests.unit.documents import digest_of

AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")
BOTH = ["linux/amd64", "linux/arm64"]
NAME = "r.example.com/app:1"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
MANIFEST = json.dumps({"config": {"size": 40}, "layers": [{"size": 1}, {"size": 1}]})


def entry(arch, digest="", **platform):
    return {
        "mediaType": OCI_MANIFEST,
        "digest": digest or f"sha256:{arch * 8}",
        "size": 9,
        "platform": {"os": "linux", "architecture": arch, **platform},
    }


INDEX = json.dumps({"manifests": [entry("amd64"), entry("arm64")]})


def no_program(argv, **_options):
    raise AssertionError(argv)


@pytest.fixture(autouse=True)
def stored(registries):
    """The registry with the image."""
    registries.documents = {f"r.example.com/app@sha256:{arch * 8}": MANIFEST for arch in ("amd64", "arm64")}
    registries.documents[NAME] = INDEX
    return registries.documents


@pytest.fixture
def ran(monkeypatch, tmp_path):
    """What each platform prints; a builder `farm` with a node for each; notes where each was run."""
    nodes = (Node("a", "tcp://a:2375", (AMD64,)), Node("b", "tcp://b:2375", (ARM64,)))
    (tmp_path / "instances").mkdir()
    (tmp_path / "instances/farm").write_bytes(Instance("farm", "docker-container", nodes).to_json())
    (tmp_path / "instances/pods").write_bytes(Instance("pods", "kubernetes", nodes).to_json())
    monkeypatch.setenv("BUILDX_CONFIG", str(tmp_path))
    monkeypatch.setattr(_state, "engine_platforms", lambda nodes, _contexts: {"a": AMD64, "b": AMD64})
    results = {
        "linux/amd64": RunResult("amd64", "", 0, True),
        "linux/arm64": RunResult("arm64", "", 0, False),
        "where": {},
    }
    together = threading.Barrier(2, timeout=10)

    def check_image(endpoint, _contexts, reference, platform, checks):
        results["where"][str(platform)] = (str(endpoint), str(reference), checks.command, checks.timeout)
        results["checks"] = checks
        if results.get("together"):
            together.wait()
        result = results[str(platform)]
        if isinstance(result, Exception):
            raise result
        result = result.pop(0) if isinstance(result, list) else result
        return result if isinstance(result, CheckResult) else CheckResult(run=result)

    monkeypatch.setattr(_platform_checks, "check_image", check_image)
    return results


def program(**options):
    return {"command": ["uname"], "timeout": 5, **options}


def test_every_platform_is_run_by_its_digest_on_its_node_at_the_same_time(ran):
    ran["together"] = True
    params = {"name": NAME, "builder": "farm", "platforms": BOTH, "run": program(expected="{arch}\n")}
    image = run(params, False, no_program)["image"]
    assert image["digest"] == digest_of(INDEX.encode())
    assert image["platforms"][1] == {
        "platform": "linux/arm64",
        "digest": "sha256:" + "arm64" * 8,
        "size": 42,
        "node": "b",
        "endpoint": "tcp://b:2375",
        "native": False,
        "programs": None,
        "sbom": None,
        "output": "arm64",
        "rc": 0,
    }
    name = "r.example.com/app@sha256:" + "amd64" * 8
    assert ran["where"]["linux/amd64"] == ("tcp://a:2375", name, ("uname",), 5.0)


def test_nodes_that_do_not_run_are_not_started_to_run_an_image(ran, tmp_path):
    """Who builds a platform is known to BuildKit where no pin tells; a check must not start it."""
    free = Instance("free", "docker-container", (Node("a", "tcp://a:2375"), Node("b", "tcp://b:2375", (ARM64,))))
    (tmp_path / "instances/free").write_bytes(free.to_json())
    seen = []

    def runner(argv, **_options):
        seen.append(argv)
        text = "Name: free\nDriver: docker-container\n\nNodes:\nName: a\nEndpoint: tcp://a:2375\nStatus: running\n"
        return Result(tuple(argv), 0, f"{text}Platforms: linux/amd64\n", "")

    image = run({"name": NAME, "builder": "free", "run": program()}, False, runner)["image"]
    assert [one["node"] for one in image["platforms"]] == ["a", "b"]
    assert seen == [["docker", "buildx", "inspect", "free"]]


def test_of_several_nodes_for_a_platform_one_runs_it_whose_own_processor_does(ran, tmp_path, monkeypatch):
    nodes = tuple(Node(name, f"tcp://{name}:2375", (AMD64, ARM64)) for name in "abc")
    (tmp_path / "instances/several").write_bytes(Instance("several", "docker-container", nodes).to_json())
    monkeypatch.setattr(_state, "engine_platforms", lambda nodes, _contexts: {"a": AMD64, "c": ARM64})
    image = run({"name": NAME, "builder": "several", "run": program()}, False, no_program)["image"]
    assert [one["node"] for one in image["platforms"]] == ["a", "c"]
    assert {platform: where[0] for platform, where in ran["where"].items()} == {
        "linux/amd64": "tcp://a:2375",
        "linux/arm64": "tcp://c:2375",
    }
    monkeypatch.setattr(_state, "engine_platforms", lambda nodes, _contexts: {"a": AMD64, "b": AMD64})
    image = run({"name": NAME, "builder": "several", "run": program()}, False, no_program)["image"]
    assert [(one["node"], one["native"]) for one in image["platforms"]] == [("a", True), ("a", False)]


def test_without_run_the_node_is_the_pinned_one(ran):
    (first, _second) = run({"name": NAME, "builder": "farm"}, False, no_program)["image"]["platforms"]
    assert (first["node"], first["native"], first["endpoint"], first["rc"]) == ("a", True, None, None)
    assert ran["where"] == {}
    (first, _second) = run({"name": NAME}, False, no_program)["image"]["platforms"]
    assert (first["node"], first["native"]) == (None, None)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"platforms": [*BOTH, "linux/s390x"]}, "missing linux/s390x .*found: linux/amd64, linux/arm64; wanted"),
        ({"platforms": ["linux/amd64"]}, "unexpected linux/arm64"),
        ({"platforms": ["linux/amd64", "linux/386"]}, "missing linux/386, unexpected linux/arm64"),
        ({"digest": "sha256:" + "0" * 64}, f"its digest is {digest_of(INDEX.encode())}, wanted sha256:0000"),
        ({"digest": "latest"}, "digest 'latest': wanted sha256:"),
        ({"name": "r.example.com/app:2"}, "has none of this name"),
        ({"run": program(expected="x86")}, r"linux/amd64 on node 'a' \(tcp://a:2375\): printed 'amd64', wanted 'x86'"),
        ({"run": program(expected_regex="^ar")}, "printed 'amd64', wanted a match of '\\^ar'"),
        ({"run": program(expected_regex="^{platform} ")}, "printed 'amd64', wanted a match of '\\^linux/amd64 '"),
        ({"run": program(expected_regex="(")}, "is not a regular expression"),
        ({"run": program(), "builder": None}, "no engine is known for linux/amd64, linux/arm64"),
        ({"run": program(), "builder": "pods"}, r"builder 'pods' \(driver kubernetes\) are no engines"),
        ({"endpoints": {"linux/foo": "tcp://a"}}, "unknown architecture"),
        ({"endpoints": {"linux/amd64": "http://a"}}, "endpoint 'http://a'"),
    ],
)
def test_what_is_wrong_is_said(ran, change, words):
    with pytest.raises(FarmError, match=words):
        run({"name": NAME, "builder": "farm", **change}, False, no_program)


def test_all_that_is_wrong_is_said_at_once(ran):
    ran["linux/amd64"] = RunResult("", "exec /bin/app: exec format error", 1, True)
    ran["linux/arm64"] = FarmError("connection refused")
    params = {"name": NAME, "builder": "farm", "platforms": [*BOTH, "linux/s390x"], "run": program()}
    with pytest.raises(FarmError) as caught:
        run(params, False, no_program)
    for words in (
        "missing linux/s390x",
        "no QEMU handler runs it there",
        "linux/arm64 on node 'b' (tcp://b:2375): conn",
    ):
        assert words in caught.value.message
    assert [item["rc"] for item in caught.value.details["image"]["platforms"]] == [1, None]


APP = (Program("/app", "amd64"),)


def test_programs_are_looked_at_where_platforms_are_run(ran):
    ran["linux/amd64"] = CheckResult(Findings(APP), RunResult("x", "", 0, True))
    ran["linux/arm64"] = CheckResult(Findings(APP, "'/app' is a program for amd64"))
    with pytest.raises(FarmError, match=r"1: linux/arm64 on node 'b' \(tcp://b:2375\): '/app' is a program") as caught:
        run({"name": NAME, "builder": "farm", "run": program()}, False, no_program)
    assert (ran["checks"].programs, ran["checks"].run) == (True, True)
    shown = [(one["programs"], one["rc"]) for one in caught.value.details["image"]["platforms"]]
    assert shown == [([{"path": "/app", "architecture": "amd64"}], rc) for rc in (0, None)]
    ran["linux/arm64"] = ran["linux/amd64"]
    run({"name": NAME, "builder": "farm", "run": program(), "programs": False}, False, no_program)
    assert (ran["checks"].programs, ran["checks"].run) == (False, True)


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"builder": "farm"}, ["tcp://a:2375", "tcp://b:2375"]),
        # Any engine will do.
        ({"endpoints": {"linux/s390x": "tcp://c"}}, ["tcp://c:2375"] * 2),
        ({"endpoints": {"linux/arm64": "tcp://c"}, "builder": "farm"}, ["tcp://a:2375", "tcp://c:2375"]),
        ({"endpoints": {"linux/arm64": "tcp://c"}, "builder": "pods"}, ["tcp://c:2375"] * 2),
        ({"builder": "one"}, ["tcp://b:2375"] * 2),
    ],
)
def test_programs_are_looked_at_without_a_run_too(ran, tmp_path, options, where):
    one = Instance("one", "docker-container", (Node("b", "tcp://b:2375", (ARM64,)),))
    (tmp_path / "instances/one").write_bytes(one.to_json())
    ran.update({platform: CheckResult(Findings(APP)) for platform in BOTH})
    image = run({"name": NAME, "programs": True, **options}, False, no_program)["image"]
    assert [ran["where"][platform][0] for platform in BOTH] == where
    assert [one["endpoint"] for one in image["platforms"]] == where
    assert (ran["checks"].programs, ran["checks"].run, image["platforms"][0]["rc"]) == (True, False, None)


def test_output_that_an_engine_lost_is_asked_for_once_more(ran):
    lost = RunResult("", "", 0, True)
    ran["linux/amd64"] = [lost, RunResult("amd64", "", 0, True)]
    params = {"name": NAME, "builder": "farm", "run": program(expected="{arch}")}
    assert run(params, False, no_program)["image"]["platforms"][0]["output"] == "amd64"

    ran["linux/amd64"] = [lost, lost]
    with pytest.raises(FarmError, match="printed '', wanted 'amd64'"):
        run(params, False, no_program)
    assert ran["linux/amd64"] == []


def test_exact_and_endpoints(ran):
    params = {
        "name": NAME,
        "platforms": ["linux/arm64/v8"],
        "exact": False,
        "endpoints": {"linux/aarch64": "unix:///run/x.sock"},
        "run": program(expected="arm64"),
    }
    run(params, True, no_program)
    assert list(ran["where"]) == ["linux/arm64"]
    assert ran["where"]["linux/arm64"][0] == "unix:///run/x.sock"


def repeating(stored, *platforms):
    """An index with these platforms' images, in this order; returns their digests."""
    digests = [f"sha256:{number:064d}" for number in range(len(platforms))]
    stored[NAME] = json.dumps({"manifests": [entry(**one, digest=digest) for one, digest in zip(platforms, digests)]})
    stored.update({f"r.example.com/app@{digest}": MANIFEST for digest in digests})
    return digests


def test_of_a_platform_that_is_there_twice_the_first_is_run_as_engines_do(ran, stored):
    first, second, _arm = repeating(stored, {"arch": "amd64"}, {"arch": "amd64"}, {"arch": "arm64"})
    with pytest.raises(FarmError) as caught:
        run({"name": NAME, "builder": "farm", "platforms": BOTH, "run": program()}, False, no_program)
    assert f"linux/amd64 is there 2 times, of which engines take the first: {first}, {second}" in caught.value.message
    assert ran["where"]["linux/amd64"][1].endswith(first)
    shown = caught.value.details["image"]["platforms"]
    assert [(item["digest"], item["rc"]) for item in shown[:2]] == [(first, 0), (second, None)]


@pytest.mark.parametrize(
    ("variants", "repeated"), [(({"variant": "v8"}, {}), True), (({"variant": "v7"}, {"variant": "v6"}), False)]
)
def test_platforms_are_the_same_once_they_are_normalised(ran, stored, variants, repeated):
    arch = "arm64" if repeated else "arm"
    repeating(stored, *({"arch": arch, **one} for one in variants))
    if repeated:
        with pytest.raises(FarmError, match="linux/arm64 is there 2 times"):
            run({"name": NAME}, False, no_program)
    else:
        run({"name": NAME}, False, no_program)


def test_versions_of_windows_are_no_repeats(ran, stored):
    windows = [{"arch": "amd64", "os": "windows", "os.version": f"10.0.{build}"} for build in (17763, 20348)]
    repeating(stored, *windows)
    run({"name": NAME, "platforms": ["windows/amd64"]}, False, no_program)
