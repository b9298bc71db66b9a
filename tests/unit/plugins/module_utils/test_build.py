# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._build import engine as _engine
from ansible_collections.buildfarm.multiarch.plugins.module_utils._build import farm as _farm
from ansible_collections.buildfarm.multiarch.plugins.module_utils._build.apply import run
from ansible_collections.buildfarm.multiarch.plugins.module_utils._build.decision import Decision
from ansible_collections.buildfarm.multiarch.plugins.module_utils._build.declaration import Image
from ansible_collections.buildfarm.multiarch.plugins.module_utils._build.destination import resolve
from ansible_collections.buildfarm.multiarch.plugins.module_utils._build.failure import failing_step
from ansible_collections.buildfarm.multiarch.plugins.module_utils._build.output import (
    CACHE,
    ENGINE,
    FILE,
    REGISTRY,
    Output,
)
from ansible_collections.buildfarm.multiarch.plugins.module_utils._build.plan import predict
from ansible_collections.buildfarm.multiarch.plugins.module_utils._build.preconditions import (
    check_exported,
    check_image_stores,
)
from ansible_collections.buildfarm.multiarch.plugins.module_utils._build.state import State
from ansible_collections.buildfarm.multiarch.plugins.module_utils._buildx.cli import Buildx
from ansible_collections.buildfarm.multiarch.plugins.module_utils._buildx.store import Instance, Node
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.runner import Result
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker.context_store import ContextStore
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker.engine import EngineInfo
from ansible_collections.buildfarm.multiarch.plugins.module_utils._image.index import Index
from ansible_collections.buildfarm.multiarch.plugins.module_utils._platform.platform import Platform
from ansible_collections.buildfarm.multiarch.plugins.module_utils._registry.auth import RegistryRefused
from ansible_collections.buildfarm.multiarch.plugins.module_utils._registry.model import Document

FIXTURES = Path(__file__).parents[2] / "fixtures"
VERSIONS = ("buildx-0.13.1", "buildx-0.29.1")
AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")
BOTH = ["linux/amd64", "linux/arm64"]
TAG, LATEST = "r.example.com/app:1", "r.example.com/app:latest"


def manifest(size):
    return json.dumps({"mediaType": "m", "config": {"size": size}, "layers": [{"size": 1}]})


def index(*platforms, note=""):
    entries = [
        {
            "digest": f"sha256:{arch}",
            "size": 9,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "platform": {"os": "linux", "architecture": arch},
        }
        for arch in platforms
    ]
    return json.dumps({"mediaType": "i", "manifests": entries, "annotations": {"note": note}})


class World:
    """A registry, an engine and a buildx that puts what it is told to into them."""

    def __init__(self, registry):
        self.version = "0.13.1"
        self.registry = registry
        self.registry.update({f"r.example.com/app@sha256:{arch}": manifest(100) for arch in ("amd64", "arm64")})
        self.engine = {}
        self.containerd = False
        self.made = index("amd64", "arm64")
        self.after_build = lambda argv: None
        self.failure = None
        self.builds = []
        self.connected = []

    def __call__(self, argv, **_options):
        def done(out="", rc=0, err=""):
            return Result(tuple(argv), rc, out, err)

        if argv[:3] == ["docker", "buildx", "version"]:
            return done(f"github.com/docker/buildx {self.version} abc")
        assert argv[:3] == ["docker", "buildx", "build"], argv
        self.builds.append(argv)
        if self.failure:
            return done(rc=1, err=self.failure)
        outputs = self.values(argv, "--output")
        if "type=registry" in outputs:
            self.registry.update(dict.fromkeys(self.values(argv, "--tag"), self.made))
        for output in outputs:
            kind, _sep, dest = output.partition(",dest=")
            if kind == "type=tar":
                Path(dest).write_text("built")
        self.after_build(argv)
        return done()

    @contextlib.contextmanager
    def conversation(self, endpoint, _contexts):
        """A connection to the engine of a docker context."""
        self.connected.append(str(endpoint))
        yield self

    def request(self, _method, path):
        """Answer as the engine's API does."""
        if path == "/info":
            driver = [["driver-type", "io.containerd.snapshotter.v1"]] if self.containerd else [["Backing", "extfs"]]
            return 200, json.dumps({"DriverStatus": driver}).encode()
        name = path[len("/images/") : -len("/json")]
        image = self.engine.get(name)
        return (200, json.dumps(image).encode()) if image else (404, b'{"message":"No such image"}')

    @staticmethod
    def values(argv, option):
        return [value for name, value in zip(argv, argv[1:]) if name == option]


@pytest.fixture
def world(tmp_path, monkeypatch, registries):
    """A context, and a builder `farm` with a node for amd64, one for arm64; `solo` with one for both."""
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text("FROM scratch\n")
    nodes = (Node("a", "tcp://a:2375", (AMD64,)), Node("b", "tcp://b:2375", (ARM64,)))
    solo = (Node("s", "tcp://s:2375", (AMD64, ARM64)),)
    (tmp_path / "buildx/instances").mkdir(parents=True)
    for builder in (
        Instance("farm", "docker-container", nodes),
        Instance("solo", "docker-container", solo),
        Instance("loads", "docker-container", (Node("l", "tcp://l:2375", (AMD64,), {"default-load": "true"}),)),
    ):
        (tmp_path / "buildx/instances" / builder.name).write_bytes(builder.to_json())
    monkeypatch.setenv("BUILDX_CONFIG", str(tmp_path / "buildx"))
    monkeypatch.setattr(
        _farm, "probe_all", lambda endpoints, *_, **__: [EngineInfo(e, True, platform=AMD64) for e in endpoints]
    )
    there = World(registries.documents)
    monkeypatch.setattr(_engine, "conversation", there.conversation)
    return there


@pytest.fixture
def params(tmp_path):
    return {
        "context": str(tmp_path / "context"),
        "builder": "farm",
        "platforms": BOTH,
        "tags": [TAG],
        "push": True,
        "gate": False,
        "rebuild": "always",
    }


def test_the_second_run_changes_nothing(world, params):
    params["tags"] = [TAG, LATEST]
    predicted = run(params, True, world).as_result()
    assert not world.builds
    first = run(params, False, world).as_result()
    assert predicted["changed"] and first["changed"]
    assert predicted["actions"] == first["actions"]
    assert first["actions"][0][2:8] == ["build", "--builder", "farm", "--progress", "plain", "--platform"]
    assert first["image"]["platforms"] == [
        {"platform": "linux/amd64", "digest": "sha256:amd64", "size": 101, "node": "a", "native": True},
        {"platform": "linux/arm64", "digest": "sha256:arm64", "size": 101, "node": "b", "native": False},
    ]
    for check_mode in (False, True):
        again = run(params, check_mode, world).as_result()
        assert (again["changed"], again["actions"]) == (False, [])
    world.made = index("amd64", "arm64", note="other sources")
    assert run(params, False, world).changed


@pytest.mark.parametrize(
    ("tags", "changed"),
    [
        ({TAG: index("amd64", "arm64"), LATEST: index("amd64", "arm64")}, False),
        ({TAG: index("amd64", "arm64")}, True),
        ({TAG: index("amd64", "arm64"), LATEST: index("amd64")}, True),
        ({TAG: index("amd64", "arm64"), LATEST: index("amd64", "arm64", note="older")}, True),
    ],
)
def test_check_mode_predicts_what_can_be_seen(world, params, tags, changed):
    world.registry.update(tags)
    assert run({**params, "tags": [TAG, LATEST]}, True, world).changed is changed
    assert not world.builds


@pytest.mark.parametrize(
    ("made", "words"),
    [
        ({LATEST: index("amd64")}, f"registry {LATEST}: found linux/amd64, wanted linux/amd64, linux/arm64"),
        ({LATEST: index("amd64", "arm64", note="x")}, "which is not what the other tags stand for"),
        ({LATEST: None}, f"registry {LATEST}: nothing there"),
    ],
)
def test_every_tag_is_read_back_after_a_push(world, params, made, words):
    world.after_build = lambda argv: world.registry.update(made)
    with pytest.raises(FarmError, match=words):
        run({**params, "tags": [TAG, LATEST]}, False, world)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_failed_build_shows_its_step_and_what_it_left(world, params, version):
    world.failure = (FIXTURES / version / "build-failed-step.txt").read_text()
    world.registry[TAG] = index("amd64", "arm64")
    with pytest.raises(FarmError) as caught:
        run(params, False, world)
    message = caught.value.message
    assert message.startswith(f"building {params['context']} with builder 'farm' failed: > [linux/")
    assert "3 | >>> RUN echo about to fail" in message and "left behind" not in message
    assert "[internal] load build definition" not in message
    assert "[internal] load build definition" in caught.value.details["stderr"]

    def fail_after_one_platform(argv, **_options):
        if argv[2] == "build":
            world.registry[TAG] = index("amd64")
        return World.__call__(world, argv)

    with pytest.raises(FarmError, match=rf"left behind: registry {TAG} is now sha256:\w+ \(linux/amd64\)"):
        run(params, False, fail_after_one_platform)


def test_a_refused_push_names_the_registry(world, params):
    world.failure = (FIXTURES / "buildx-0.13.1/build-push-refused.txt").read_text()
    with pytest.raises(RegistryRefused, match=r"^registry registry\.farm\.test:5443 refused the credentials"):
        run(params, False, world)


def test_a_repository_that_cannot_be_looked_at_before_the_first_push_is_taken_for_empty(world, params):
    refused = world.registry[TAG] = RegistryRefused("registry r.example.com refused")
    predicted = run(params, True, world)
    first = run(params, False, world)
    for outcome in (predicted, first):
        assert outcome.changed and outcome.before == {f"registry {TAG}": None}
        assert [f"image {TAG}: taken for not there yet" in text for text in outcome.warnings] == [True]
    assert run(params, False, world).warnings == ()

    # Wrong credentials fail at the push, and what cannot be looked at after it is an error.
    world.registry[TAG] = refused
    world.failure = (FIXTURES / "buildx-0.13.1/build-push-refused.txt").read_text()
    with pytest.raises(RegistryRefused, match=r"^registry registry\.farm\.test:5443 refused the credentials"):
        run(params, False, world)
    world.failure = None
    world.after_build = lambda argv: world.registry.update({TAG: refused})
    with pytest.raises(RegistryRefused, match=r"^registry r\.example\.com refused$"):
        run(params, False, world)


@pytest.mark.parametrize("declared", [None, 0.5])
def test_a_short_timeout_is_taken_as_it_is(world, params, declared):
    timeouts = []

    def noting(argv, timeout=None, **options):
        if argv[2] == "build":
            timeouts.append(timeout)
        return world(argv, **options)

    run({**params, "timeout": declared}, False, noting)
    (taken,) = timeouts
    assert taken is None if declared is None else taken <= declared


@pytest.mark.parametrize("refusals", [2, 3])
def test_a_layer_that_two_nodes_push_at_once_is_pushed_again(world, params, refusals):
    said = (FIXTURES / "buildx-0.13.1/build-pushed-at-once.txt").read_text()
    timeouts = []

    def refuse(argv, timeout=None, **options):
        if argv[2] == "build":
            world.failure = said if len(world.builds) < refusals else None
            timeouts.append(timeout)
        return world(argv, **options)

    params["timeout"] = 60.0
    if refusals == 2:
        assert run(params, False, refuse).as_result()["changed"]
    else:
        with pytest.raises(FarmError, match="provided digest did not match uploaded content"):
            run(params, False, refuse)
    assert len(world.builds) == 3
    assert 50 < timeouts[2] < timeouts[1] < timeouts[0] <= 60


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("build-failed-syntax.txt", ["Dockerfile:2", "   2 | >>> COPPY . ."]),
        ("build-failed-base.txt", ["> ["]),
    ],
)
@pytest.mark.parametrize("version", VERSIONS)
def test_failing_step(version, name, shown):
    lines = failing_step((FIXTURES / version / name).read_text()).splitlines()
    assert [line[: len(beginning)] for line, beginning in zip(lines, shown)] == shown
    assert lines[-1].startswith("ERROR: failed to")
    # Neither dashes nor the lines of the Dockerfile around the one that failed.
    assert not [line for line in lines if line.startswith("---") or (" | " in line and ">>>" not in line)]


def test_failing_step_without_a_summary():
    assert failing_step("#1 x\nERROR: no such stage\n") == "ERROR: no such stage"
    assert failing_step("") == "nothing said"
    assert len(failing_step("------\n" + "line\n" * 100).splitlines()) == 31
    assert failing_step("------\n" + "line\n" * 29) == "line\n" * 28 + "line"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"file": "Other"}, "no Dockerfile at .*/context/Other"),
        ({"builder": "nobody"}, 'no builder "nobody" found in .*builders there: farm, loads, solo'),
        ({"builder": "--x"}, "builder '--x'"),
        ({"platforms": ["linux/foo"]}, "unknown architecture 'foo'"),
        ({"tags": ["App"]}, "image name 'App'"),
        ({"tags": [f"{TAG}@sha256:{'0' * 64}"]}, "has a digest"),
        ({"tags": []}, "push: tags are missing"),
        ({"push": False, "load": True}, r"output docker: the platforms go to several nodes of builder 'farm' \(a, b\)"),
        (
            {"gate": False, "outputs": [{"type": "oci", "dest": "/tmp/no-result-of-an-earlier-build"}]},
            "output oci: the platforms go to several nodes .* unless gate is false, in an OCI archive",
        ),
        (
            {"push": False, "outputs": [{"type": "tar", "dest": "/tmp/no-result-of-an-earlier-build"}]},
            "output tar: the platforms go to several",
        ),
        ({"builder": "solo", "push": False, "load": True}, "an image of 2 platforms is more than the image store"),
        (
            {"builder": "solo", "push": False, "load": True, "platforms": [], "provenance": "true"},
            "an image with attestations is more than the image store",
        ),
        ({"build_args": {"A B": "x"}}, "build_args: 'A B' is not a name"),
        ({"build_args": {"A": True}}, "build_args: A: wanted text, found bool True; quote it"),
        ({"build_args": {"A": None}}, 'build_args: A: there is no value; write one, "" for an empty one, or remove'),
        ({"timeout": 0.0}, "timeout is 0; wanted seconds, more than 0"),
        ({"timeout": -1.0}, "timeout is -1; wanted seconds"),
        ({"run": {"timeout": 0.0}}, "run: timeout is 0; wanted seconds, more than 0"),
        ({"labels": {"a=b": "x"}}, "labels: 'a=b' is not a name"),
        ({"target": "--push"}, "target '--push'"),
        ({"sbom": "maybe"}, "sbom 'maybe'"),
    ],
)
@pytest.mark.parametrize("check_mode", [True, False])
def test_bad_input_is_refused_before_anything_is_built(world, params, change, words, check_mode):
    def runner(argv, **options):
        if argv[2] == "inspect":
            return Result(tuple(argv), 1, "", 'ERROR: no builder "nobody" found')
        return world(argv, **options)

    with pytest.raises(FarmError, match=words):
        run({**params, **change}, check_mode, runner)
    assert not world.builds


@pytest.mark.parametrize("check_mode", [True, False])
def test_nodes_are_started_by_builds_only(world, params, tmp_path, check_mode):
    loose = Instance("loose", "docker-container", (Node("n", "tcp://n:2375"),))
    (tmp_path / "buildx/instances/loose").write_bytes(loose.to_json())
    started = []

    def runner(argv, **options):
        if argv[2] != "inspect":
            return world(argv, **options)
        started.append("--bootstrap" in argv)
        status = "Status: running\nPlatforms: linux/amd64, linux/arm64" if started[-1] else "Status: inactive"
        report = f"Name: loose\nDriver: docker-container\n\nNodes:\nName: n\nEndpoint: tcp://n:2375\n{status}\n"
        return Result(tuple(argv), 0, report, "")

    assert run({**params, "builder": "loose"}, check_mode, runner).changed
    assert started and set(started) == {not check_mode}


def test_a_missing_context_is_refused_and_only_warned_of_in_check_mode(world, params):
    params = {**params, "context": "/nonexistent"}
    with pytest.raises(FarmError, match="context /nonexistent: nothing there on this controller"):
        run(params, False, world)
    outcome = run(params, True, world)
    assert outcome.changed and "/nonexistent" in outcome.warnings[0]
    assert not world.builds


@pytest.mark.parametrize(
    ("version", "change", "words"),
    [
        (
            "0.12.0",
            {"outputs": [{"type": "local", "dest": "/tmp/no-result-of-an-earlier-build"}]},
            "more than one output needs buildx 0.13.0",
        ),
        ("0.9.1", {"provenance": "mode=max"}, "provenance or sbom needs buildx 0.10.0 or later, found 0.9.1"),
    ],
)
def test_version_floors(world, params, version, change, words):
    world.version = version
    with pytest.raises(FarmError, match=words):
        run({**params, **change}, False, world)
    assert not world.builds


@pytest.mark.parametrize(
    ("version", "there", "missing"),
    [
        ("0.5.1", [], ["--metadata-file", "--provenance=false"]),
        ("0.9.1", ["--metadata-file"], ["--provenance=false"]),
        ("0.10.0", ["--metadata-file", "--provenance=false"], []),
    ],
)
def test_old_versions_are_not_given_new_options(world, params, version, there, missing):
    world.version = version
    run(params, False, world)
    (argv,) = world.builds
    assert [option in argv for option in there + missing] == [True] * len(there) + [False] * len(missing)


def test_a_failed_build_leaves_the_last_good_file(world, params, tmp_path):
    dest = tmp_path / "out.tar"
    params.update(builder="solo", push=False, outputs=[{"type": "tar", "dest": str(dest)}])
    assert run(params, False, world).changed
    assert dest.read_text() == "built"
    inode = dest.stat().st_ino
    assert not run(params, False, world).changed
    assert dest.stat().st_ino == inode
    world.failure = "ERROR: no"
    with pytest.raises(FarmError):
        run(params, False, world)
    assert sorted(path.name for path in tmp_path.glob("*out*")) == ["out.tar", "out.tar.buildfarm.json"]
    assert dest.read_text() == "built"
    assert f"type=tar,dest={dest}" not in world.builds[0], "buildx would empty it at once"


def test_a_loaded_image_is_looked_for_in_the_engine(world, params):
    params.update(builder="loads", push=False, platforms=["linux/amd64"])
    world.after_build = lambda argv: world.engine.update(
        {TAG: {"Id": "sha256:1", "Os": "linux", "Architecture": "amd64", "Size": 7}}
    )
    result = run(params, False, world).as_result()
    assert result["diff"]["before"] == {f"engine {TAG}": None}
    assert (result["image"]["id"], result["image"]["platforms"][0]["size"]) == ("sha256:1", 7)
    assert not run(params, False, world).changed
    assert run({**params, "builder": "solo", "load": True, "platforms": ["linux/arm64"]}, True, world).changed


def test_without_any_output_nothing_changes(world, params):
    assert not run({**params, "push": False}, False, world).changed
    assert [world.values(argv, "--builder") for argv in sorted(world.builds)] == [["a"], ["b"]]


@pytest.mark.parametrize(
    ("context", "file", "expected"),
    [
        ("https://github.com/example/tool.git#v2", None, ""),
        ("https://github.com/example/tool.git#v2", "sub/Dockerfile", "sub/Dockerfile"),
        ("git@example.com:tool.git", None, ""),
        ("github.com/example/tool", None, ""),
    ],
)
def test_remote_contexts_are_taken_as_they_are(context, file, expected):
    declared = Image.from_params({"context": context, "file": file})
    assert (declared.context, declared.is_remote, declared.file) == (context, True, expected)
    declared.check_files()


@pytest.mark.parametrize(
    "url",
    [
        "https://me:secret@example.com/x.git",
        "https://:secret@example.com/x.git",
        "https://ghp_secret@example.com/x.git#main",
        "https://ghp_secret:x-oauth-basic@example.com/x.git",
        "http://example.com/x.tar.gz?private_token=secret",
        "https://example.com/x.git?ref=main&access_token=secret",
        "ssh://git:secret@example.com/x.git",
        "git+https://secret@example.com/x.git",
        "me:secret@example.com:x.git",
    ],
)
def test_a_secret_in_a_url_is_refused_and_not_repeated(url):
    with pytest.raises(FarmError, match="ends up in the process list") as caught:
        Image.from_params({"context": url})
    assert "secret" not in caught.value.message


def test_secrets_of_urls_elsewhere_are_not_in_the_result(world, params):
    params["build_args"] = {"HTTP_PROXY": "http://me:secret@proxy:3128"}
    done = run(params, False, world).as_result()
    assert "--build-arg HTTP_PROXY=http://***@proxy:3128 " in " ".join(done["actions"][0])
    assert World.values(world.builds[0], "--build-arg") == ["HTTP_PROXY=http://me:secret@proxy:3128"]


def test_what_stands_for_an_option_in_the_environment(world, params, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    monkeypatch.setenv("BUILDX_BUILDER", "solo")
    done = run({**params, "builder": None, "build_args": {"A": "b"}}, False, world).as_result()
    assert World.values(done["actions"][0], "--builder") == ["solo"]
    assert World.values(done["actions"][0], "--build-arg") == ["A=b", "SOURCE_DATE_EPOCH=1700000000"]
    own = run({**params, "no_cache": True, "build_args": {"SOURCE_DATE_EPOCH": 0}}, False, world)
    assert not own.actions
    assert World.values(world.builds[-1], "--build-arg") == ["SOURCE_DATE_EPOCH=0"]
    assert World.values(world.builds[-1], "--builder") == ["farm"]
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    with pytest.raises(FarmError, match="SOURCE_DATE_EPOCH in the environment is 'yesterday'; wanted seconds"):
        run(params, True, world)


@pytest.mark.parametrize(
    ("options", "concerned"),
    [({}, False), ({"load": True, "push": False, "platforms": ["linux/amd64"]}, True)],
)
def test_the_engine_of_the_environment_is_left_out_of_what_does_not_concern_it(world, params, options, concerned):
    seen = []
    image = {"Id": "sha256:1", "Os": "linux", "Architecture": "amd64"}
    world.after_build = lambda argv: world.engine.update({TAG: image})

    def runner(argv, env=None, **others):
        if argv[2] == "build":
            seen.append("DOCKER_HOST" not in env)
        return world(argv, env=env, **others)

    run({**params, **options}, False, runner)
    assert seen == [concerned]


def test_values_are_normalised(world, params):
    params.update(
        platforms=["linux/arm64/v8", "linux/aarch64"],
        tags=[TAG, TAG],
        build_args={"B": 2, "A": "x y=z"},
        provenance="True",
    )
    declared = Image.from_params(params)
    assert declared.platforms == (ARM64,)
    assert declared.tags == (TAG,)
    assert declared.options.build_args == (("A", "x y=z"), ("B", "2"))
    assert declared.options.provenance == "true"


@pytest.mark.parametrize(
    ("environment", "option", "engine"),
    [
        ({}, None, "default"),
        ({"DOCKER_HOST": "tcp://arm1:2376", "DOCKER_TLS_VERIFY": "1", "DOCKER_CONTEXT": "x"}, None, "default"),
        ({"DOCKER_CONTEXT": "arm1"}, None, "arm1"),
        ({"DOCKER_CONTEXT": "arm1"}, "arm2", "arm2"),
    ],
)
def test_the_engine_is_that_of_the_docker_context(world, params, monkeypatch, tmp_path, environment, option, engine):
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    output = {"type": "docker", "options": {"context": option} if option else {}}
    params.update(push=False, platforms=["linux/amd64"], outputs=[output], docker_config=str(tmp_path))
    assert run({**params, "builder": "solo"}, True, world).changed
    assert world.connected == [engine]


@pytest.mark.parametrize(
    ("context", "answer", "words"),
    [
        ("nowhere", None, "the engine of docker context 'nowhere' could not be asked: no docker context 'nowhere' in"),
        ("", None, r"docker context in use could not be asked: engine default \(unix:///nonexistent\): no such socket"),
        ("", (500, b'{"message":"broken"}'), "the docker context in use could not be asked: HTTP 500 .*broken"),
        ("", (200, b"<html>"), "the engine of the docker context in use could not be asked: "),
    ],
)
def test_an_engine_that_cannot_be_asked_is_named(monkeypatch, tmp_path, context, answer, words):
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent")

    @contextlib.contextmanager
    def conversation(_endpoint, _contexts):
        yield SimpleNamespace(request=lambda _method, _path: answer)

    if answer:
        monkeypatch.setattr(_engine, "conversation", conversation)
    with pytest.raises(FarmError, match=words):
        _engine.read_images(ContextStore(tmp_path), context, ["app:1"])


@pytest.mark.parametrize(
    ("found", "digest"),
    [(None, None), (["amd64", "arm64"], "sha256:1"), (["amd64"], None)],
)
def test_what_is_predicted_is_a_function_of_the_state(params, found, digest):
    state = State({TAG: Index.parse(Document("sha256:1", "", index(*found).encode())) if found else None})
    expected = {f"registry {TAG}": {"digest": digest, "platforms": BOTH}}
    assert predict(Image.from_params(params), state, Decision(True)) == expected


@pytest.mark.parametrize(
    ("driver", "outputs", "expected"),
    [
        ("docker", [], [("image", ENGINE, "arm1")]),
        ("docker", [Output("registry")], [("registry", REGISTRY, "")]),
        ("docker", [Output("docker", options=(("context", "x"),))], [("docker", ENGINE, "arm1")]),
        ("docker-container", [], []),
        ("docker-container", [Output("docker", options=(("context", "x"),))], [("docker", ENGINE, "x")]),
        ("docker-container", [Output("image"), Output("tar", "/x")], [("image", CACHE, ""), ("tar", FILE, "")]),
    ],
)
def test_destinations_depend_on_the_driver(driver, outputs, expected):
    builder = Instance("it", driver, (Node("n", "arm1", None),))
    found = resolve(outputs, builder)
    assert [(one.output.type, one.kind, one.context) for one in found] == expected


@pytest.mark.parametrize(
    ("containerd", "options", "words"),
    [
        (
            False,
            {"platforms": BOTH, "push": True},
            "an image of 2 platforms is more than the image store of the engine",
        ),
        (
            False,
            {"outputs": [{"type": "oci", "dest": "/tmp/no-result-of-an-earlier-build"}]},
            "an archive of type oci is more than the image",
        ),
        (False, {"push": True}, None),
        (True, {"platforms": BOTH, "push": True}, None),
    ],
)
def test_the_docker_driver_builds_in_its_engines_image_store(world, params, containerd, options, words):
    world.containerd = containerd
    image = Image.from_params({**params, "platforms": ["linux/amd64"], "push": False, **options})
    builder = Instance("default", "docker", (Node("default", "default", (AMD64,)),))
    destinations = resolve(image.outputs, builder)
    if words:
        with pytest.raises(FarmError, match=words):
            check_image_stores(image, destinations, builder, ContextStore(Path("/nonexistent")))
    else:
        check_image_stores(image, destinations, builder, ContextStore(Path("/nonexistent")))


def test_steps_of_a_build_that_buildx_spreads_are_shown_with_their_platforms(world, params):
    lines = []

    def building(argv, follow=None, **options):
        if argv[2] == "build":
            follow("#5 [linux/arm64 1/2] RUN make")
            follow("#6 [2/2] RUN test")
        return world(argv, **options)

    run(params, False, building, SimpleNamespace(report=lines.append))
    assert lines == ["app:1 linux/arm64 [1/2] RUN make …", "app:1 linux/amd64, linux/arm64 [2/2] RUN test …"]


@pytest.mark.parametrize("check_mode", [True, False])
def test_a_dockerfile_is_evaluated_and_nothing_built(world, params, check_mode):
    asked = []

    def evaluating(argv, **options):
        if argv[2] != "build":
            return world(argv, **options)
        asked.append(argv)
        return Result(tuple(argv), 1, json.dumps({"warnings": [{"rule": "x"}], "sources": []}), "")

    world.version = "0.15.0"
    done = run({**params, "call": "check"}, check_mode, evaluating).as_result()
    assert done["call"] == {"method": "check", "passed": False, "result": {"warnings": [{"rule": "x"}]}}
    assert (done["changed"], done["image"], done["outputs"], done["metadata"]) == (False, None, [], {})
    ((argv),) = asked
    assert World.values(argv, "--platform") == ["linux/amd64"] and World.values(argv, "--call") == ["check,format=json"]
    assert not World.values(argv, "--output") and not World.values(argv, "--tag")


def test_what_became_of_the_tags_of_a_failed_build_may_not_be_known(world, params):
    def fail(argv, **options):
        if argv[2] == "build":
            world.registry[TAG] = FarmError("registry r.example.com is down")
            world.failure = "ERROR: failed to solve: exit code: 2"
        return world(argv, **options)

    words = r"exit code: 2; whether it changed a tag could not be read: registry r\.example\.com is down$"
    with pytest.raises(FarmError, match=words):
        run(params, False, fail)


def test_a_url_with_its_own_dockerfile_takes_a_buildx_that_sends_it(world, params):
    params.update(context="https://git.example.com/app.git", dockerfile_inline="FROM scratch\n")
    world.version = "0.8.2"
    with pytest.raises(FarmError, match=r"dockerfile_inline with a URL as context needs buildx 0\.9\.0"):
        run(params, True, world)
    world.version = "0.9.0"
    assert run({**params, "builder": "solo"}, True, world).changed


@pytest.mark.parametrize(
    ("version", "outputs", "driver", "containerd", "words"),
    [
        ("0.12.0", [{"type": "docker"}], "docker-container", False, r"which others link to, needs buildx 0\.13\.0"),
        ("0.12.0", [], "docker-container", False, None),
        ("0.29.1", [{"type": "docker"}], "docker-container", False, None),
        ("0.29.1", [], "docker", False, "the image store of its engine cannot do that"),
        ("0.29.1", [], "docker", True, None),
    ],
)
def test_what_others_link_to_is_exported_where_that_can_be(world, version, outputs, driver, containerd, words):
    world.version, world.containerd = version, containerd
    image = Image.from_params({"context": "/nonexistent", "title": "base", "tags": [TAG], "outputs": outputs})
    builder = Instance("it", driver, (Node("n", "default", (AMD64,)),))
    contexts = ContextStore(Path("/nonexistent"))
    if words:
        with pytest.raises(FarmError, match=words):
            check_exported(Buildx(world), image, builder, contexts)
    else:
        check_exported(Buildx(world), image, builder, contexts)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 4),
        ({"buildkitd.toml": b"[worker.oci]\nmax-parallelism = 2\n"}, 3),
        ({"buildkitd.toml": b"[worker.oci]\nmax-parallelism = 1\n[worker.containerd]\nmax-parallelism = 9\n"}, 2),
        ({"buildkitd.toml": b"[worker.oci]\nmax-parallelism = 9\n"}, 4),
        ({"buildkitd.toml": b"[worker.oci]\nmax-parallelism = 0\n"}, 4),
        ({"buildkitd.toml": b"worker = 1\n"}, 4),
        ({"buildkitd.toml": b"= broken"}, 4),
        ({"other.toml": b"[worker.oci]\nmax-parallelism = 1\n"}, 4),
    ],
)
def test_a_node_takes_as_many_builds_as_its_buildkit_runs_and_one_more(files, expected):
    pytest.importorskip("tomllib")
    builder = Instance("it", "docker-container", (Node("n", "tcp://n:1", files=files),))
    farm = _farm.Farm(builder, (), {}, {}, None, None, None, Path(), ())
    assert (farm.limits(0), farm.limits(7)) == ({"n": expected}, {"n": 7})


@pytest.mark.parametrize(
    ("decision", "expected"),
    [
        (Decision(False), {"digest": "sha256:1", "platforms": ["linux/amd64"]}),
        (Decision(True, certain=True), {"digest": None, "platforms": BOTH}),
        (Decision(True), {"digest": None, "platforms": BOTH}),
    ],
)
def test_platforms_that_are_not_those_wanted_are_predicted(params, decision, expected):
    state = State({TAG: Index.parse(Document("sha256:1", "", index("amd64").encode()))})
    assert predict(Image.from_params(params), state, decision) == {f"registry {TAG}": expected}


def test_a_certain_change_is_predicted_where_nothing_else_tells(params):
    state = State({TAG: Index.parse(Document("sha256:1", "", index("amd64", "arm64").encode()))})
    image = Image.from_params(params)
    found = [predict(image, state, Decision(True, certain=certain))[f"registry {TAG}"] for certain in (True, False)]
    assert [one["digest"] for one in found] == [None, "sha256:1"]
    files = State(files={"/out": "sha256:1"})
    found = [predict(image, files, Decision(True, certain=certain))["/out"] for certain in (True, False)]
    assert [one["digest"] for one in found] == [None, "sha256:1"]


def test_what_buildx_pushed_itself_is_known_by_a_record_of_this_controller(world, params):
    params["rebuild"] = "when_changed"
    first, again = run(params, False, world), run(params, False, world)
    assert first.changed and not again.changed and len(world.builds) == 1
    assert run({**params, "target": "x"}, False, world).as_result()["images"][0]["reasons"] == ["the target is new"]
    assert len(world.builds) == 2
