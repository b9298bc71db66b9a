# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Images that are built node by node: where, after which others, and when their tags move."""

from __future__ import annotations

import json
import tarfile
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._build import farm as _farm
from ansible_collections.buildfarm.multiarch.plugins.module_utils._build import gate as _gate
from ansible_collections.buildfarm.multiarch.plugins.module_utils._build import joining as _joining
from ansible_collections.buildfarm.multiarch.plugins.module_utils._build import steps as _steps
from ansible_collections.buildfarm.multiarch.plugins.module_utils._build.apply import run
from ansible_collections.buildfarm.multiarch.plugins.module_utils._build.declaration import Declaration
from ansible_collections.buildfarm.multiarch.plugins.module_utils._build.layout import pack
from ansible_collections.buildfarm.multiarch.plugins.module_utils._buildx import settling as _settling
from ansible_collections.buildfarm.multiarch.plugins.module_utils._buildx.cli import Buildx
from ansible_collections.buildfarm.multiarch.plugins.module_utils._buildx.store import Instance, Node
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.runner import Result
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker.engine import EngineInfo
from ansible_collections.buildfarm.multiarch.plugins.module_utils._image.check import CheckResult, RunResult
from ansible_collections.buildfarm.multiarch.plugins.module_utils._image.engines import Engine
from ansible_collections.buildfarm.multiarch.plugins.module_utils._image.platform_checks import CheckedPlatform
from ansible_collections.buildfarm.multiarch.plugins.module_utils._key.record import Record
from ansible_collections.buildfarm.multiarch.plugins.module_utils._platform.platform import Platform
from ansible_collections.buildfarm.multiarch.plugins.module_utils._registry.model import digest_of

AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")
BOTH = ["linux/amd64", "linux/arm64"]
APP, LATEST, BASE = "r.example.com/app:1", "r.example.com/app:latest", "r.example.com/base:1"
GONE = "ERROR: failed to receive status: rpc error: code = Unavailable desc = error reading from server: EOF"
#: What buildx 0.29 prints right after an engine came back, and 0.13 without the second word.
RESTARTING = (
    "ERROR: failed to build: Error response from daemon: Container "
    "d9136475b11f3311394254e4d6f136b39cdd4a809bdc5ee46e694e68b8842408 "
    "is restarting, wait until the container is running"
)
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def values(argv, option):
    return [value for name, value in zip(argv, argv[1:]) if name == option]


def write_archive(archive, blobs, entry):
    path = archive.with_name(f"{archive.name}-layout")
    (path / "blobs/sha256").mkdir(parents=True)
    for digest, text in blobs.items():
        (path / "blobs/sha256" / digest[len("sha256:") :]).write_text(text)
    (path / "index.json").write_text(json.dumps({"manifests": [entry]}))
    (path / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    pack(str(path), str(archive))


class World:
    """A registry, and nodes that push by digest what they build, or export it as archives.

    :ivar failing: by node, what its builds print before they fail.
    :ivar silent: the nodes whose engines do not answer, and `kind` why.
    :ivar drained: in words that nodes are drained.
    """

    def __init__(self, registries):
        self.registry = registries.documents
        self.version = "0.29.1"
        self.failing, self.silent, self.drained = {}, set(), {}
        self.kind = "timeout"
        self.natives = {"a": AMD64, "b": AMD64, "c": ARM64}
        self.sources = "one"
        self.builds, self.writes = [], []
        self.lock = threading.Lock()
        registries.put = self.put

    def __call__(self, argv, env=None, **_options):
        if argv[:3] == ["docker", "buildx", "version"]:
            return Result(tuple(argv), 0, f"github.com/docker/buildx {self.version} abc", "")
        if argv[2] == "inspect":
            return Result(tuple(argv), 0, "Name: farm\nDriver: docker-container\n\nNodes:\n", "")
        assert argv[:3] == ["docker", "buildx", "build"], argv
        (node,), (platforms,) = (values(argv, name) for name in ("--builder", "--platform"))
        with self.lock:
            self.builds.append((node, platforms, argv))
        if node in self.failing:
            return Result(tuple(argv), 1, "", self.failing[node])
        assert "BUILDX_CONFIG" in env and not values(argv, "--tag")
        (platform,) = platforms.split(",")
        for output in values(argv, "--output"):
            digest = self.export(dict(field.split("=", 1) for field in output.split(",")), platform)
        with open(values(argv, "--metadata-file")[0], "w", encoding="utf-8") as stream:
            json.dump({"containerimage.digest": digest}, stream)
        return Result(tuple(argv), 0, "", "")

    def export(self, output, platform):
        """Push by digest, or write a layout; returns the manifest's digest."""
        system, arch = platform.split("/")[:2]
        config = json.dumps({"os": system, "architecture": arch, "of": self.sources})
        manifest = json.dumps(
            {"mediaType": MANIFEST, "config": {"digest": digest_of(config.encode()), "size": 9}, "layers": []}
        )
        blobs = {digest_of(text.encode()): text for text in (config, manifest)}
        digest = digest_of(manifest.encode())
        if output["type"] == "oci":
            assert "tar" not in output and output.get("name", APP) in (APP, LATEST, BASE)
            write_archive(Path(output["dest"]), blobs, {"mediaType": MANIFEST, "digest": digest})
        else:
            assert output["push-by-digest"] == "true"
            self.registry.update({f"{output['name']}@{one}": text for one, text in blobs.items()})
        return digest

    def put(self, reference, _media_type, content):
        self.writes.append(str(reference))
        self.registry[str(reference)] = content.decode()
        self.registry[f"{reference.repository}@{digest_of(content)}"] = content.decode()
        return digest_of(content)

    def probe_all(self, endpoints, *_arguments, **_options):
        hosts = [endpoint.host for endpoint in endpoints]
        return [
            EngineInfo(
                endpoint,
                host not in self.silent,
                platform=self.natives[host],
                drained=self.drained.get(host),
                error=f"{host} is silent",
                error_kind=self.kind,
            )
            for endpoint, host in zip(endpoints, hosts)
        ]


@pytest.fixture
def world(tmp_path, monkeypatch, registries):
    """A builder of two nodes for amd64 and one for arm64, and what they push to."""
    (tmp_path / "buildx/instances").mkdir(parents=True)
    nodes = [Node(name, f"tcp://{name}:2375", (ARM64,) if name == "c" else (AMD64,)) for name in "abc"]
    builder = Instance("farm", "docker-container", tuple(nodes))
    (tmp_path / "buildx/instances/farm").write_bytes(builder.to_json())
    monkeypatch.setenv("BUILDX_CONFIG", str(tmp_path / "buildx"))
    there = World(registries)
    monkeypatch.setattr(_farm, "probe_all", there.probe_all)
    return there


@pytest.fixture
def image(tmp_path):
    """Makes the options of an image that is built whether anything changed or not."""

    def make(*tags, dockerfile="FROM scratch\n", **options):
        context = tmp_path / tags[0].replace("/", "-").replace(":", "-")
        context.mkdir(exist_ok=True)
        (context / "Dockerfile").write_text(dockerfile)
        common = {"context": str(context), "platforms": BOTH, "push": True, "rebuild": "always"}
        return {**common, "tags": list(tags), **options}

    return make


def test_platforms_are_built_on_their_nodes_and_the_tags_written_once(world, image):
    params = {**image(APP, LATEST), "builder": "farm"}
    predicted = run(params, True, world).as_result()
    assert not world.builds and not world.writes
    done = run(params, False, world).as_result()
    assert predicted["changed"] and done["changed"]
    assert predicted["actions"] == done["actions"]
    assert done["actions"][-2:] == [["push", APP], ["push", LATEST]]
    assert sorted(platforms for _node, platforms, _argv in world.builds) == BOTH
    assert world.writes == [APP, LATEST]
    found = {one["platform"]: one for one in done["images"][0]["platforms"]}
    assert found["linux/amd64"]["node"] in "ab" and found["linux/arm64"]["node"] == "c"
    assert [one["native"] for one in found.values()] == [True, True]
    assert done["image"]["digest"] == digest_of(world.registry[APP].encode())
    # The same node each time, and no tag is written that stands for it already.
    first = sorted((node, platforms) for node, platforms, _argv in world.builds)
    world.builds.clear()
    again = run(params, False, world).as_result()
    assert (again["changed"], again["actions"], len(world.writes)) == (False, [], 2)
    assert sorted((node, platforms) for node, platforms, _argv in world.builds) == first
    world.sources = "two"
    assert run(params, False, world).changed


COPIES = ["far.example.com/public/app:1", "r.example.com/public/app:1"]


def test_copies_get_the_image_after_its_tags(world, image):
    params = {**image(APP, copy_to=COPIES), "builder": "farm"}
    predicted = run(params, True, world).as_result()
    done = run(params, False, world).as_result()
    assert predicted["actions"] == done["actions"]
    assert done["actions"][-3:] == [["push", APP], *(["copy", name] for name in COPIES)]
    assert [name for name in world.writes if "@" not in name] == [APP, *COPIES]
    assert world.writes[0] == APP
    digest = done["image"]["digest"]
    assert {digest_of(world.registry[name].encode()) for name in COPIES} == {digest}
    assert done["image"]["tags"] == [APP]
    assert not run(params, False, world).changed
    # One that stands for something else is a change, also where its image is up to date.
    del world.registry[COPIES[0]]
    assert run(params, True, world).changed and run(params, False, world).changed
    assert world.writes[-1] == COPIES[0]


def test_what_is_not_published_is_not_copied(world, image, monkeypatch):
    world.failing = {"c": "ERROR: failed to solve"}
    with pytest.raises(FarmError):
        run({**image(APP, copy_to=COPIES), "builder": "farm"}, False, world)
    assert world.writes == []
    world.failing = {}

    def refused(*_arguments):
        raise FarmError("registry far.example.com is read-only")

    monkeypatch.setattr(_gate, "copy_image", refused)
    with pytest.raises(FarmError, match=r"is published, and not all of copy_to have it: registry far\.example"):
        run({**image(APP, copy_to=COPIES), "builder": "farm"}, False, world)
    assert world.writes == [APP]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"gate": False}, "copy_to is for what has passed the gate, .*; found gate set to false"),
        ({"push": False}, "copy_to is for what has passed the gate, .*; found no push"),
        ({"platforms": []}, "copy_to is for what has passed the gate, .*; found no platforms"),
        ({"copy_to": [f"{APP}@sha256:{'0' * 64}"]}, "copy_to: .* has a digest"),
        ({"copy_to": [APP]}, f"copy_to: {APP} is one of tags; leave it out of one of the two"),
    ],
)
def test_copies_that_cannot_be_are_refused(world, image, change, words):
    with pytest.raises(FarmError, match=words):
        run({**image(APP, copy_to=COPIES), "builder": "farm", **change}, True, world)


def test_a_build_that_fails_leaves_the_tags_and_is_not_tried_elsewhere(world, image):
    world.failing = dict.fromkeys("ab", "#5 ERROR: exit code: 2\n------\nERROR: failed to solve: exit code: 2")
    message = r"building .* for linux/amd64 on node '[ab]' failed: ERROR: failed to solve"
    with pytest.raises(FarmError, match=message) as caught:
        run({**image(APP), "builder": "farm"}, False, world)
    assert world.writes == [] and APP not in world.registry
    assert len([node for node, _platforms, _argv in world.builds if node in "ab"]) == 1
    assert caught.value.details["cmd"][:3] == ["docker", "buildx", "build"]


def test_what_a_lost_node_printed_last_shows_no_secret(world, image, monkeypatch):
    monkeypatch.setenv("MY_TOKEN", "hush-hush-hush")
    params = {**image(APP, platforms=["linux/amd64"], secrets=[{"id": "t", "env": "MY_TOKEN"}]), "builder": "farm"}
    run(params, False, world)
    world.failing = {world.builds[0][0]: f"{GONE} #7 0.2 hush-hush-hush"}
    (retry,) = run(params, False, world).as_result()["images"][0]["retries"]
    assert retry["reason"] == f"{GONE} #7 0.2 ***"


def test_a_node_that_goes_away_costs_its_share(world, image):
    params = {**image(APP, platforms=["linux/amd64"]), "builder": "farm"}
    run(params, False, world)
    ((first, _platforms, _argv),) = world.builds
    (other,) = {"a", "b"} - {first}
    world.failing = {first: GONE}
    done = run(params, False, world).as_result()
    (retry,) = done["images"][0]["retries"]
    assert (retry["node"], retry["platforms"], retry["reason"]) == (first, ["linux/amd64"], GONE)
    assert [node for node, _platforms, _argv in world.builds[1:]] == [first, other]
    assert done["images"][0]["platforms"][0]["node"] == other


def test_platforms_are_built_again_twice_at_most(world, image):
    world.failing = dict.fromkeys("abc", GONE)
    with pytest.raises(FarmError, match=r"went away 3 times \(c, c, c; ERROR: failed to receive status"):
        run({**image(APP, platforms=["linux/arm64"]), "builder": "farm"}, False, world)
    assert [node for node, _platforms, _argv in world.builds] == ["c"] * 3, "it may have come back"


@pytest.fixture
def clock(monkeypatch):
    """The time, which passes only while somebody waits."""
    clock = SimpleNamespace(now=100.0)
    clock.monotonic = lambda: clock.now
    clock.sleep = lambda seconds: setattr(clock, "now", clock.now + seconds)
    monkeypatch.setattr(_settling, "time", clock)
    return clock


@pytest.mark.parametrize("said", [RESTARTING, RESTARTING.replace(" failed to build:", "")])
def test_a_node_whose_buildkit_is_just_starting_again_is_waited_for(world, image, clock, said):
    world.failing = {"c": said}

    def coming_back(argv, **options):
        if clock.now >= 105:
            world.failing = {}
        return world(argv, **options)

    done = run({**image(APP), "builder": "farm"}, False, coming_back).as_result()
    assert done["changed"] and done["images"][0]["retries"] == []
    assert clock.now < 107


def test_a_node_whose_buildkit_does_not_come_up_costs_its_share(world, image, clock):
    params = {**image(APP, platforms=["linux/amd64"]), "builder": "farm"}
    run(params, False, world)
    ((first, _platforms, _argv),) = world.builds
    world.failing = {first: RESTARTING}
    done = run(params, False, world).as_result()
    assert [(retry["node"], retry["reason"]) for retry in done["images"][0]["retries"]] == [(first, RESTARTING)]
    assert 119 < clock.now < 122


def test_a_builder_is_described_once_each_buildkit_is_up(world, image, clock, tmp_path):
    nodes = tuple(Node(name, f"tcp://{name}:2375", ()) for name in "ac")
    (tmp_path / "buildx/instances/farm").write_bytes(Instance("farm", "docker-container", nodes).to_json())
    up = "Status: running\nPlatforms: linux/arm64\n"

    def coming_back(argv, **options):
        if argv[2] != "inspect":
            return world(argv, **options)
        of_c = up if clock.now >= 103 else f"Error: {RESTARTING[len('ERROR: ') :]}\n"
        head = "Name: farm\nDriver: docker-container\n\nNodes:\nName: a\nEndpoint: tcp://a:2375\nStatus: running\n"
        return Result(tuple(argv), 0, f"{head}\nName: c\nEndpoint: tcp://c:2375\n{of_c}", "")

    run({**image(APP, platforms=["linux/arm64"]), "builder": "farm"}, False, coming_back)
    assert [node for node, _platforms, _argv in world.builds] == ["c"]


def test_a_node_that_does_not_answer_gets_nothing(world, image):
    world.silent = {"a"}
    done = run({**image(APP), "builder": "farm"}, False, world)
    assert {node for node, _platforms, _argv in world.builds} == {"b", "c"}
    assert done.warnings == ("node 'a' gets no builds: a is silent",)
    world.silent = {"c"}
    with pytest.raises(FarmError, match=r"no node serves linux/arm64; .*; node 'c' does not answer: c is silent"):
        run({**image(APP), "builder": "farm"}, False, world)


def test_nodes_that_all_go_away_while_they_build(world, image):
    world.failing = dict.fromkeys("ab", GONE)
    params = {**image(APP, platforms=["linux/amd64"]), "builder": "farm"}

    def dying(argv, **options):
        if argv[2] == "build":
            world.silent.add(values(argv, "--builder")[0])
        return world(argv, **options)

    with pytest.raises(FarmError, match="no node is left that could build linux/amd64"):
        run(params, False, dying)
    assert world.writes == []


@pytest.mark.parametrize("back, drained", [(130, False), (130, True), (1000, False)])
def test_an_engine_that_is_restarted_while_its_only_node_builds_is_waited_for(
    world, image, clock, monkeypatch, back, drained
):
    monkeypatch.setattr(_farm, "time", clock)
    world.failing, world.kind = {"c": GONE}, "refused"
    params = {**image(APP, platforms=["linux/arm64"]), "builder": "farm"}

    def restarted(argv, **options):
        if argv[2] == "build" and clock.now < back:
            world.silent.add("c")
        return world(argv, **options)

    def probe_all(*arguments, **options):
        if clock.now >= back:
            world.silent, world.failing = set(), {}
            world.drained = {"c": "it is drained"} if drained else {}
        return world.probe_all(*arguments, **options)

    monkeypatch.setattr(_farm, "probe_all", probe_all)
    if back == 130 and not drained:
        (image,) = run(params, False, restarted).as_result()["images"]
        assert [retry["node"] for retry in image["retries"]] == ["c"] and 130 <= clock.now < 131
    else:
        with pytest.raises(FarmError, match="no node is left that could build linux/arm64: 'c' went away or"):
            run(params, False, restarted)
        assert clock.now < 162


def test_platforms_that_only_the_lost_node_could_build_together_are_built_apart(world, image, tmp_path):
    i386 = Platform("linux", "386")
    pins = {"a": (AMD64, i386), "b": (AMD64,), "c": (i386,)}
    nodes = tuple(Node(name, f"tcp://{name}:2375", of_node) for name, of_node in pins.items())
    builder = Instance("farm", "docker-container", nodes)
    (tmp_path / "buildx/instances/farm").write_bytes(builder.to_json())
    world.natives["c"] = AMD64
    world.failing = {"a": GONE}
    # An image whose platforms both prefer the node that they have in common.
    for number in range(100):
        tag = f"r.example.com/app{number}:1"
        params = {**image(tag, platforms=["linux/amd64", "linux/386"]), "builder": "farm"}
        if len(run(params, True, world).actions) == 2:
            break
    done = run(params, False, world).as_result()
    assert [attempt["platforms"] for attempt in done["images"][0]["retries"]] == [["linux/amd64", "linux/386"]]
    assert {one["platform"]: one["node"] for one in done["images"][0]["platforms"]} == {
        "linux/amd64": "b",
        "linux/386": "c",
    }


@pytest.mark.parametrize("emulation", ["prefer_native", "forbid"])
def test_what_only_emulation_could_build(world, image, emulation):
    world.silent = {"c"}
    params = {**image(APP, platforms=["linux/amd64"]), "builder": "farm", "emulation": emulation}
    assert run(params, True, world).changed


def test_a_drained_node_gets_nothing(world, image):
    world.drained = {"a": "it is drained since noon (disk)"}
    done = run({**image(APP), "builder": "farm"}, False, world)
    assert done.warnings == ("node 'a' gets no builds: it is drained since noon (disk)",)
    assert sorted(node for node, _platforms, _argv in world.builds) == ["b", "c"]
    world.drained = {"c": "it is drained since noon"}
    words = r"no node serves linux/arm64; .*; node 'c' gets no builds: it is drained since noon; end that with .*drain"
    with pytest.raises(FarmError, match=words):
        run({**image(APP), "builder": "farm"}, False, world)
    # Where buildx chooses the nodes itself, they cannot be left out.
    with pytest.raises(FarmError, match="buildx would build on node 'c', and it is drained since noon; end that with"):
        run({**image(APP), "builder": "farm", "gate": False}, False, world)
    # As does the first one what names no platforms.
    bare = {**image(APP, platforms=[]), "builder": "farm"}
    assert run(bare, True, world).warnings == ("node 'c' gets no builds: it is drained since noon",)
    world.drained = {"a": "it is drained since noon"}
    with pytest.raises(FarmError, match="buildx would build on node 'a', and it is drained since noon; end that with"):
        run(bare, True, world)


def test_nodes_that_are_drained_meanwhile_get_no_more_builds(world, image):
    lost = []
    buildx, params = Buildx(world), {**image(APP), "builder": "farm"}
    found = _farm.find_farm({}, Declaration.from_params(params), buildx)
    farm = _farm.with_workers(found, buildx, (), start=False)
    world.drained, world.silent = {"a": "it is drained"}, {"b"}
    assert farm.unanswering(["a", "b", "c"], drained=lost.append) == {"b": False}
    assert lost == ["a"]


def test_a_check_that_fails_leaves_the_tags(world, image, monkeypatch):
    checked = []

    def check_platforms(checks, images, engines, _contexts):
        checked.append({str(platform): (str(images[platform]), engine.node) for platform, engine in engines.items()})
        return [
            CheckedPlatform(platform, engine, CheckResult(run=RunResult("no", "", 0, True)), "printed 'no'")
            for platform, engine in engines.items()
        ]

    monkeypatch.setattr(_gate, "check_platforms", check_platforms)
    expectation = {"command": [], "expected": "yes", "expected_regex": None, "timeout": 5}
    with pytest.raises(
        FarmError, match=r"linux/arm64 on node 'c' .*: printed 'no'; its tags stand for what they stood"
    ):
        run({**image(APP, run=expectation), "builder": "farm"}, False, world)
    assert world.writes == []
    assert checked[0]["linux/arm64"][0].startswith("r.example.com/app@sha256:")
    assert isinstance(Engine.of_node(Node("c", "tcp://c:2375")), Engine)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"gate": False}, "checked before the tags move, which takes push, platforms, gate"),
        ({"push": False}, "checked before the tags move, which takes push, platforms, gate"),
    ],
)
def test_checks_that_nothing_would_wait_for_are_refused(world, image, change, words):
    params = {**image(APP, programs=True), "builder": "farm", **change}
    with pytest.raises(FarmError, match=words):
        run(params, True, world)
    assert not world.builds


def test_the_nodes_gateway_is_refused_where_buildx_does_not_know_it(world, image):
    with pytest.raises(FarmError, match="host-gateway needs a builder of the docker driver, found driver docker-cont"):
        run({**image(APP, add_hosts=["gate:host-gateway"]), "builder": "farm"}, True, world)
    assert not world.builds


def test_an_image_is_built_from_what_the_list_has_just_built(world, image):
    base, app = image(BASE), image(APP, dockerfile=f"FROM {BASE}\n")
    done = run({"images": [app, base], "builder": "farm"}, False, world).as_result()
    assert [one["name"] for one in done["images"]] == [APP, BASE]
    order = [("base" if "base" in argv[-1] else "app") for _node, _platforms, argv in world.builds]
    assert order == ["base", "base", "app", "app"]
    contexts = {value for _node, _platforms, argv in world.builds[2:] for value in values(argv, "--build-context")}
    assert contexts == {f"{BASE}=docker-image://{BASE}@{done['images'][1]['digest']}"}
    assert "image" not in done


def test_images_without_a_tag_are_told_apart(world, image):
    plain = {**image(APP), "tags": [], "push": False}
    wanted = [{**plain, "target": target, "platforms": ["linux/arm64"]} for target in ("one", "two")]

    def runner(argv, **_options):
        if argv[2] == "build" and "two" in argv:
            return Result(tuple(argv), 1, "", "ERROR: failed to solve: exit code: 2")
        return Result(tuple(argv), 0, "github.com/docker/buildx 0.29.1 abc", "")

    with pytest.raises(FarmError, match="1 of 2 images failed") as caught:
        run({"images": wanted, "builder": "farm"}, False, runner)
    seconds = [one["platforms"][0]["seconds"] for one in caught.value.details["images"]]
    assert [value is None for value in seconds] == [False, True]


def test_one_failure_does_not_stop_the_others(world, image):
    broken, derived, fine = image(BASE), image(APP, dockerfile=f"FROM {BASE}\n"), image("r.example.com/fine:1")

    def runner(argv, **options):
        if argv[2] == "build" and "base" in argv[-1]:
            return Result(tuple(argv), 1, "", "ERROR: failed to solve: exit code: 2")
        return world(argv, **options)

    with pytest.raises(FarmError) as caught:
        run({"images": [broken, derived, fine], "builder": "farm"}, False, runner)
    assert caught.value.message.startswith("2 of 3 images failed: image r.example.com/base:1: building ")
    assert f"image {APP}: not built, as it is built from {BASE}, which failed" in caught.value.message
    assert world.writes == ["r.example.com/fine:1"]
    assert [bool(one["error"]) for one in caught.value.details["images"]] == [True, True, False]
    # The other one's tag moved, which the failed task says as well.
    assert caught.value.details["changed"] is True


def test_a_list_is_spread_over_the_nodes(world, image):
    images = [image(f"r.example.com/app{number}:1", platforms=["linux/amd64"]) for number in range(6)]
    run({"images": images, "builder": "farm"}, False, world)
    nodes = [node for node, _platforms, _argv in world.builds]
    assert (nodes.count("a"), nodes.count("b")) == (3, 3)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"builds_per_node": -1}, "builds_per_node: -1 is less than one"),
        ({"images": []}, None),
        (
            {"emulation": "forbid", "images": [{"platforms": ["linux/s390x"]}]},
            "without emulation; .*; add a node whose own processor runs it, or set emulation to prefer_native",
        ),
        ({"call": "check"}, "call: check is of one Dockerfile, and images are several; give each a task of its own"),
        ({"images": [{"context": ""}]}, "image .*: context is missing"),
        (
            {"images": [{"provenance": "false"}], "push": True, "tags": [], "provenance": "False"},
            "^images: found push beside it, which the images of a list have each for itself; give each of them its own",
        ),
    ],
)
def test_what_is_wrong_is_refused_before_anything_is_built(world, image, change, words):
    given = change.pop("images", [{}])
    params = {"images": [{**image(APP), **one} for one in given], "builder": "farm", **change}
    if words is None:
        outcome = run(params, False, world)
        assert outcome.as_result()["images"] == []
        assert outcome.warnings == ("the list of images is empty, so nothing is built",)
    else:
        with pytest.raises(FarmError, match=words):
            run(params, False, world)
    assert not world.builds


def test_two_images_cannot_have_one_tag(world, image):
    with pytest.raises(FarmError, match=f"images: {APP} is the tag of two of them"):
        run({"images": [image(APP), image(APP, target="other")], "builder": "farm"}, True, world)


def test_two_images_cannot_be_one_file(world, image, tmp_path):
    output = [{"type": "tar", "dest": f"{tmp_path}/out.tar"}]
    both = [image(name, platforms=["linux/amd64"], outputs=output) for name in (APP, LATEST)]
    with pytest.raises(FarmError, match=f"images: {tmp_path}/out.tar is the dest of two of them; give each its own"):
        run({"images": both, "builder": "farm"}, True, world)


@pytest.fixture(params=["file", "directory"])
def archive(request, tmp_path):
    """An output that several nodes build, and what reads the entries of its index."""
    dest = tmp_path / "results/archive"
    output = {"type": "oci", "dest": str(dest)}
    if request.param == "directory":
        output["options"] = {"tar": False}
    else:
        dest.parent.mkdir()

    def entries():
        if dest.is_dir():
            return json.loads((dest / "index.json").read_text())["manifests"]
        with tarfile.open(dest) as opened:
            return json.load(opened.extractfile("index.json"))["manifests"]

    return output, dest, entries


def content(archive, digest):
    name = f"blobs/{digest.replace(':', '/')}"
    if archive.is_dir():
        return (archive / name).read_bytes()
    with tarfile.open(archive) as opened:
        return opened.extractfile(name).read()


@pytest.mark.parametrize("push", [True, False])
def test_an_archive_is_joined_of_what_the_nodes_export(world, image, archive, push):
    output, dest, entries = archive
    params = {**image(APP, push=push, outputs=[output]), "builder": "farm"}
    predicted = run(params, True, world).as_result()
    assert not world.builds and not dest.exists()
    done = run(params, False, world).as_result()
    assert predicted["changed"] and predicted["actions"] == done["actions"]
    assert done["actions"][2:] == ([["push", APP]] if push else []) + [["join", str(dest)]]
    assert all(f"dest={dest}" in values(command, "--output")[0] for command in done["actions"][:2])
    for result in (predicted, done):
        assert [one["native"] for one in result["images"][0]["platforms"]] == [True, True]
    (entry,) = entries()
    assert entry["annotations"]["io.containerd.image.name"] == APP
    if push:
        # But for the record of the build, which is of what tags stand for.
        pushed = json.loads(world.registry[APP])
        pushed["annotations"] = {key: value for key, value in pushed["annotations"].items() if "multiarch" not in key}
        assert not pushed.pop("annotations")
        assert pushed == json.loads(content(dest, entry["digest"]))
    again = run(params, False, world).as_result()
    assert (again["changed"], again["actions"]) == (False, [])
    world.sources = "two"
    assert run(params, False, world).changed
    assert entries() != [entry] and len(entries()) == 1
    left = [one.name for one in (*dest.parent.iterdir(), *(dest.iterdir() if dest.is_dir() else ()))]
    assert not [name for name in left if name.startswith(".")]


def test_an_archive_of_one_node_is_annotated_as_what_the_tags_stand_for(world, image, archive):
    output, dest, entries = archive
    annotations = {"index:x.all": "1", "manifest-descriptor:x.of": "2"}
    options = {"outputs": [output], "annotations": annotations, "platforms": ["linux/arm64"]}
    done = run({**image(APP, **options), "builder": "farm"}, False, world).as_result()
    assert done["actions"][1:] == [["push", APP], ["join", str(dest)]]
    pushed, (entry,) = json.loads(world.registry[APP]), entries()
    exported = json.loads(content(dest, entry["digest"]))
    assert exported["annotations"] == {"x.all": "1"}
    assert pushed["annotations"]["x.all"] == "1" and pushed["manifests"] == exported["manifests"]
    assert exported["manifests"][0]["annotations"] == {"x.of": "2"}
    (build,) = [argv for _node, _platforms, argv in world.builds]
    assert not values(build, "--annotation")
    # Without a tag nothing is written afterwards, so that buildx has to annotate the index.
    plain = {**options, "outputs": [{**output, "dest": f"{dest}-plain"}], "push": False, "tags": []}
    told = run({**image(APP), **plain, "builder": "farm"}, True, world).actions[0]
    assert values(told, "--annotation") == ["index:x.all=1", "manifest-descriptor:x.of=2"]


def test_a_failure_leaves_an_archive_as_it_is(world, image, archive, monkeypatch):
    output, _dest, entries = archive
    params = {**image(APP, outputs=[output]), "builder": "farm"}
    run(params, False, world)
    before = entries()
    world.sources = "two"
    world.failing = {"c": "ERROR: failed to solve: exit code: 2"}
    with pytest.raises(FarmError, match="for linux/arm64 on node 'c' failed"):
        run(params, False, world)
    assert entries() == before
    world.failing = {}

    def refuse(*_arguments):
        raise FarmError("the checks failed")

    monkeypatch.setattr(_steps, "pass_gate", refuse)
    with pytest.raises(FarmError, match="the checks failed"):
        run(params, False, world)
    assert entries() == before


def test_an_archive_tells_what_was_emulated(world, image, archive):
    world.natives["c"] = AMD64
    params = {**image(APP, push=False, outputs=[archive[0]]), "builder": "farm"}
    for check_mode in (True, False):
        platforms = run(params, check_mode, world).as_result()["images"][0]["platforms"]
        assert {one["platform"]: one["native"] for one in platforms} == {"linux/amd64": True, "linux/arm64": False}


def test_a_part_of_a_node_that_goes_away_is_not_joined(world, image, archive):
    output, _dest, entries = archive
    params = {**image(APP, push=False, outputs=[output]), "builder": "farm"}
    run(params, False, world)
    before = entries()
    first = next(node for node, _platforms, _argv in world.builds if node in "ab")
    exported = []

    def breaking(argv, **options):
        done = world(argv, **options)
        if argv[2] == "build" and values(argv, "--builder") == [first]:
            exported.append(first)
            return Result(tuple(argv), 1, "", GONE)
        return done

    done = run(params, False, breaking).as_result()
    assert exported == [first] and [retry["node"] for retry in done["images"][0]["retries"]] == [first]
    assert entries() == before, "the other node built the same"


def test_a_disk_that_is_full_leaves_an_archive_as_it_is(world, image, archive, monkeypatch):
    output, dest, entries = archive
    params = {**image(APP, outputs=[output]), "builder": "farm"}
    run(params, False, world)
    before, world.sources = entries(), "two"

    def full(*_arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_joining, "unpack", full)
    with pytest.raises(FarmError, match=f"output oci: {dest} could not be written: .*No space left on device"):
        run(params, False, world)
    assert entries() == before and len(world.writes) == 1


def test_a_directory_holds_other_images_and_gets_back_what_it_lost(world, image, tmp_path):
    dest = tmp_path / "layout"
    output = {"type": "oci", "dest": str(dest), "options": {"tar": False}}
    params = {**image(LATEST, push=False, outputs=[output]), "builder": "farm"}
    run({**params, "tags": [BASE]}, False, world)
    run(params, False, world)
    index = dest / "index.json"
    names = [one["annotations"]["io.containerd.image.name"] for one in json.loads(index.read_text())["manifests"]]
    assert names == [BASE, LATEST]
    blobs, written = sorted((dest / "blobs/sha256").iterdir()), index.stat().st_ino
    blobs[0].unlink()
    assert not run(params, False, world).changed
    assert sorted((dest / "blobs/sha256").iterdir()) == blobs and index.stat().st_ino == written


def outcome_of(params, world, check_mode=False):
    """Run the module on images that are built if they changed; returns what became of the first, and its actions."""
    world.builds.clear()
    world.writes.clear()
    runner = getattr(world, "runner", world)
    done = run({"builder": "farm", **params, "rebuild": params.get("rebuild", "when_changed")}, check_mode, runner)
    return done.as_result()


def manifest_of(world, tag, platform):
    entries = json.loads(world.registry[tag])["manifests"]
    return next(entry["digest"] for entry in entries if entry["platform"]["architecture"] == platform.arch)


def test_what_is_as_it_was_built_is_left_alone(world, image, tmp_path):
    params = image(APP, LATEST, rebuild="when_changed", build_args={"A": "1"})
    first = outcome_of(params, world)
    assert first["images"][0]["reasons"] == [f"nothing is there under {APP}, {LATEST}"]
    assert not list(tmp_path.rglob("records")), "the image holds its own"
    for check_mode in (True, False):
        again = outcome_of(params, world, check_mode)
        assert (again["changed"], again["actions"], world.builds, world.writes) == (False, [], [], [])
        assert (again["images"][0]["built"], again["images"][0]["reasons"]) == (False, [])
        assert again["image"]["digest"] == first["image"]["digest"]
    other = {**params, "build_args": {"A": "2"}}
    predicted, done = outcome_of(other, world, check_mode=True), outcome_of(other, world)
    assert predicted["images"][0]["reasons"] == done["images"][0]["reasons"] == ["build arg A changed"]
    assert predicted["changed"] and len(world.builds) == 2
    (Path(params["context"]) / "new").write_text("1")
    assert outcome_of(other, world)["images"][0]["reasons"] == ["new is new"] and len(world.builds) == 2
    assert not outcome_of(other, world)["changed"]


def test_tags_alone_are_written_where_the_image_is_there(world, image):
    params = image(APP, LATEST, rebuild="when_changed")
    digest = outcome_of(params, world)["image"]["digest"]
    del world.registry[LATEST]
    predicted, done = outcome_of(params, world, check_mode=True), outcome_of(params, world)
    assert predicted["actions"] == done["actions"] == [["push", APP], ["push", LATEST]]
    assert predicted["diff"]["after"] == done["diff"]["after"]
    assert predicted["diff"]["before"][f"registry {LATEST}"] is None
    assert world.builds == [] and world.writes == [LATEST]
    assert digest_of(world.registry[LATEST].encode()) == done["image"]["digest"] == digest
    assert done["images"][0]["built"] is False


def test_a_platform_that_is_gone_is_built_alone_and_joined_with_the_rest(world, image):
    params = image(APP, rebuild="when_changed")
    before = outcome_of(params, world)["image"]["digest"]
    arm = manifest_of(world, APP, ARM64)
    del world.registry[f"r.example.com/app@{arm}"]
    done = outcome_of(params, world)
    assert [platforms for _node, platforms, _argv in world.builds] == ["linux/arm64"]
    assert done["images"][0]["reasons"] == ["linux/arm64 is missing in the registry"]
    assert digest_of(world.registry[APP].encode()) == before, "it is the same image"
    assert not outcome_of(params, world)["changed"]


def test_a_platform_that_is_not_wanted_any_more_is_left_out_of_the_index(world, image):
    outcome_of(image(APP, rebuild="when_changed"), world)
    amd = manifest_of(world, APP, AMD64)
    fewer = image(APP, rebuild="when_changed", platforms=["linux/amd64"])
    done = outcome_of(fewer, world)
    assert world.builds == [] and world.writes == [APP]
    assert done["images"][0]["reasons"] == ["linux/arm64 is not wanted any more"]
    assert [one["digest"] for one in json.loads(world.registry[APP])["manifests"]] == [amd]
    assert not outcome_of(fewer, world)["changed"]


def test_never_builds_what_is_missing_alone(world, image):
    params = image(APP, rebuild="never")
    assert outcome_of(params, world)["changed"] and len(world.builds) == 2
    assert not outcome_of({**params, "build_args": {"A": "1"}}, world)["changed"]


def test_a_record_that_cannot_be_read_is_told(world, image):
    params = image(APP, rebuild="when_changed")
    outcome_of(params, world)
    index = json.loads(world.registry[APP])
    index["annotations"] = {key: "99" if key.endswith("schema") else one for key, one in index["annotations"].items()}
    world.registry[APP] = json.dumps(index)
    (reason,) = outcome_of(params, world, check_mode=True)["images"][0]["reasons"]
    assert "its record of how it was built cannot be read (schema 99, wanted 1)" in reason


def test_an_image_that_others_take_is_exported_where_it_is_in_no_registry(world, image):
    base = image(BASE, title="base", tags=[], push=False, only_linked=True)
    app = image(APP, title="app", links={"linked": "base"})
    params = {"images": [app, base], "builder": "farm"}
    done = outcome_of(params, world)
    assert [one["name"] for one in done["images"]] == ["app", "base"]
    contexts = [values(argv, "--build-context") for _node, _platforms, argv in world.builds]
    assert [len(found) for found in contexts] == [0, 0, 1, 1]
    assert all(found[0].startswith("linked=oci-layout:///") and "@sha256:" in found[0] for found in contexts[2:])
    assert world.writes == [APP]
    # Both are left alone then, until the one that is in no registry changes.
    assert not outcome_of(params, world)["changed"] and not world.builds
    found = outcome_of({**params, "images": [app, {**base, "target": "other"}]}, world)
    assert found["images"][0]["reasons"] == ["the target of target base is new"]
    assert len(world.builds) == 4


def test_steps_are_shown_with_image_platform_and_node(world, image):
    lines = []

    def building(argv, follow=None, **options):
        if argv[2] == "build":
            for line in ("#5 [linux/arm64 1/2] RUN make", "#6 [2/2] RUN test", "#6 DONE 1.5s"):
                follow(line)
        return world(argv, **options)

    params = {**image(APP, platforms=["linux/arm64"]), "builder": "farm"}
    run(params, False, building, SimpleNamespace(report=lines.append))
    assert lines == [
        "app:1 linux/arm64@c native [1/2] RUN make …",
        "app:1 linux/arm64@c native [2/2] RUN test …",
        "app:1 linux/arm64@c native [2/2] RUN test done 1.5s",
    ]


@pytest.mark.parametrize(
    ("native", "platforms", "how"),
    [
        (AMD64, [AMD64], "native"),
        (AMD64, [Platform("linux", "386"), AMD64], "native"),
        (AMD64, [AMD64, ARM64], ""),
        (AMD64, [ARM64], "emulated"),
        (ARM64, [ARM64], "native"),
        (None, [AMD64], ""),
    ],
)
def test_whether_a_node_emulates(native, platforms, how):
    natives = {"n": native} if native else {}
    farm = _farm.Farm(Instance("farm", "docker-container"), (), natives, {}, None, None, None, Path(), ())
    assert farm.how("n", platforms) == how


def test_nodes_that_take_connections_are_told_apart_from_those_that_are_gone(world, image, monkeypatch):
    nodes = tuple(Node(name, f"{scheme}://{name}:2375", ()) for name, scheme in zip("abc", ("tcp", "tcp", "ssh")))
    farm = _farm.Farm(Instance("farm", "docker-container", nodes), (), {}, {}, None, None, None, Path(), ())
    connected = []

    def connect(address, timeout):
        assert timeout == _farm.PROBE_TIMEOUT
        connected.append(address)
        if address[0] == "b":
            raise ConnectionRefusedError
        return SimpleNamespace(close=lambda: None)

    late = {"error_kind": "timeout"}
    monkeypatch.setattr(_farm.socket, "create_connection", connect)
    monkeypatch.setattr(_farm, "probe_all", lambda ends, *_, **__: [EngineInfo(one, False, **late) for one in ends])
    assert farm.unanswering("abc") == {"a": True, "b": False, "c": False}
    assert sorted(connected) == [("a", 2375), ("b", 2375)]
    late["error_kind"] = "refused"
    assert farm.unanswering("a") == {"a": False}
    kubernetes = _farm.Farm(Instance("farm", "kubernetes", nodes), (), {}, {}, None, None, None, Path(), ())
    assert kubernetes.unanswering("abc") == {}


@pytest.mark.parametrize("drained", [None, "it is drained since noon"])
def test_the_only_node_of_the_docker_driver_is_refused_while_it_is_drained(world, image, drained):
    builder = Instance("default", "docker", (Node("a", "tcp://a:2375", (AMD64,)),))
    farm = _farm.Farm(builder, (), {}, {}, None, None, None, Path(), ())
    world.drained = {"a": drained}
    if drained:
        with pytest.raises(FarmError, match="buildx would build on node 'a', and it is drained since noon"):
            _farm.with_workers(farm, Buildx(world), (AMD64,), start=False)
    else:
        asked = _farm.with_workers(farm, Buildx(world), (AMD64,), start=False)
        assert (asked.workers, asked.natives, asked.routes) == ((), {"a": AMD64}, False)


def test_a_link_to_what_is_pushed_is_known_by_its_tag(world, image):
    base = image(BASE, title="base", platforms=["linux/arm64"])
    app = image(APP, title="app", links={"linked": "base"}, platforms=["linux/arm64"])
    done = outcome_of({"images": [app, base], "builder": "farm"}, world)
    (_base, (_node, _platforms, argv)) = world.builds
    digest = next(one["digest"] for one in done["images"] if one["name"] == "base")
    assert values(argv, "--build-context") == [f"linked=docker-image://{BASE}@{digest}"]
    record = Record.from_annotations(json.loads(world.registry[APP])["annotations"])
    assert [(one.name, one.digest) for one in record.sources] == [(BASE, digest)]
    assert not outcome_of({"images": [app, base], "builder": "farm"}, world)["changed"]
    # Its own name in a Dockerfile is another name of the same repository.
    by_name = image(LATEST, dockerfile=f"FROM {BASE}\n", platforms=["linux/arm64"])
    outcome_of({"images": [by_name, {**base, "target": "new"}], "builder": "farm"}, world)
    record = Record.from_annotations(json.loads(world.registry[LATEST])["annotations"])
    assert [one.name for one in record.sources] == [BASE]


def test_what_was_fetched_for_platforms_that_are_taken_over_stays_recorded(world, image):
    base = json.dumps({"schemaVersion": 2, "manifests": [], "mediaType": "application/vnd.oci.image.index.v1+json"})
    world.registry["docker.io/library/debian:13"] = base
    fetched = f"FROM docker.io/library/debian:13@{digest_of(base.encode())}"

    def building(argv, follow=None, **options):
        if argv[2] == "build":
            follow(f"#5 [1/2] {fetched}")
        return world(argv, **options)

    def sources():
        record = Record.from_annotations(json.loads(world.registry[APP])["annotations"])
        return sorted((one.name, one.targets) for one in record.sources)

    params = image(APP, rebuild="when_changed")
    outcome_of(params, building_in(world, building))
    both = [("docker.io/library/debian:13", (platform,)) for platform in BOTH]
    assert sources() == both
    del world.registry[f"r.example.com/app@{manifest_of(world, APP, ARM64)}"]
    outcome_of(params, building_in(world, building))
    assert [platforms for _node, platforms, _argv in world.builds] == ["linux/arm64"] and sources() == both
    # Of one that is left out nothing stays.
    fewer = image(APP, rebuild="when_changed", platforms=["linux/amd64"])
    outcome_of(fewer, building_in(world, building))
    assert world.builds == [] and sources() == both[:1]
    # What moved is built again.
    world.registry["docker.io/library/debian:13"] = base.replace("2,", "2 ,")
    (reason,) = outcome_of(fewer, building_in(world, building), check_mode=True)["images"][0]["reasons"]
    assert reason.startswith("base image docker.io/library/debian:13 moved from ")


def building_in(world, runner):
    """A world whose buildx is run by a function."""
    return SimpleNamespace(builds=world.builds, writes=world.writes, runner=runner)


def test_of_a_list_only_what_changed_is_built_and_what_is_built_from_that(world, image):
    base, app, other = image(BASE), image(APP, dockerfile=f"FROM {BASE}\n"), image(LATEST)
    params = {"images": [app, base, other], "builder": "farm"}
    assert outcome_of(params, world)["changed"] and len(world.builds) == 6
    assert not outcome_of(params, world)["changed"] and not world.builds
    changed = {"images": [app, {**base, "target": "x"}, other], "builder": "farm"}
    done = outcome_of(changed, world)
    assert [(one["name"], one["built"], one["reasons"]) for one in done["images"]] == [
        (APP, True, [f"base image {BASE} is built in this run"]),
        (BASE, True, ["the target is new"]),
        (LATEST, False, []),
    ]
    assert len(world.builds) == 4 and not any("latest" in argv[-1] for _node, _platforms, argv in world.builds)
    assert (
        outcome_of({**params, "images": [{**app, "target": "y"}, {**base, "target": "x"}, other]}, world)["images"][1][
            "built"
        ]
        is False
    )


@pytest.mark.parametrize(
    ("annotation", "joined"),
    [("index:x", True), ("manifest-descriptor:x", True), ("manifest:x", False), ("index-descriptor:x", False)],
)
def test_an_archive_of_one_node_is_joined_where_only_an_index_has_the_annotation(
    world, image, tmp_path, annotation, joined
):
    output = {"type": "oci", "dest": str(tmp_path / "out.tar")}
    options = {"outputs": [output], "platforms": ["linux/arm64"], "annotations": {annotation: "1"}}
    actions = run({**image(APP, **options), "builder": "farm"}, True, world).actions
    assert (["join", output["dest"]] in actions) is joined
    unpushed = {**options, "push": False, "tags": []}
    assert ["join", output["dest"]] not in run({**image(APP, **unpushed), "builder": "farm"}, True, world).actions


@pytest.mark.parametrize("gate", [True, False])
def test_what_an_older_buildx_loses_between_nodes_is_refused_where_it_chooses_them(world, image, gate):
    world.version = "0.16.2"
    params = {**image(APP, dockerfile_inline="FROM scratch\n"), "builder": "farm", "gate": gate}
    if gate:
        assert run(params, True, world).changed
    else:
        with pytest.raises(
            FarmError, match=r"dockerfile_inline for nodes \w, c without the gate needs buildx 0\.17\.0"
        ):
            run(params, True, world)
