# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Parts of builds by themselves: contexts, outputs, where results go, what failed, what is read to decide."""

from __future__ import annotations

import json
import os
from contextlib import ExitStack
from pathlib import Path

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._build.built import read_image
from ansible_collections.buildfarm.multiarch.plugins.module_utils._build.caches import Caches
from ansible_collections.buildfarm.multiarch.plugins.module_utils._build.contexts import NamedContext
from ansible_collections.buildfarm.multiarch.plugins.module_utils._build.declaration import Declaration, Image
from ansible_collections.buildfarm.multiarch.plugins.module_utils._build.destination import Location, resolve
from ansible_collections.buildfarm.multiarch.plugins.module_utils._build.engine import EngineImage
from ansible_collections.buildfarm.multiarch.plugins.module_utils._build.evidence import (
    inputs_of,
    read_evidence,
    sources_of,
)
from ansible_collections.buildfarm.multiarch.plugins.module_utils._build.exposed import Agent, Secret
from ansible_collections.buildfarm.multiarch.plugins.module_utils._build.failure import (
    build_error,
    describe_leftovers,
    is_of_the_node,
    last_line,
)
from ansible_collections.buildfarm.multiarch.plugins.module_utils._build.farm import Farm
from ansible_collections.buildfarm.multiarch.plugins.module_utils._build.inputs import Contexts
from ansible_collections.buildfarm.multiarch.plugins.module_utils._build.output import REGISTRY, Output
from ansible_collections.buildfarm.multiarch.plugins.module_utils._build.staging import install, stage
from ansible_collections.buildfarm.multiarch.plugins.module_utils._build.state import State
from ansible_collections.buildfarm.multiarch.plugins.module_utils._buildx.store import Instance, Node
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.runner import CommandError, Result
from ansible_collections.buildfarm.multiarch.plugins.module_utils._image.index import Index
from ansible_collections.buildfarm.multiarch.plugins.module_utils._key.inputs import Inputs
from ansible_collections.buildfarm.multiarch.plugins.module_utils._key.record import Record
from ansible_collections.buildfarm.multiarch.plugins.module_utils._key.sources import IMAGE, Source
from ansible_collections.buildfarm.multiarch.plugins.module_utils._key.store import Records
from ansible_collections.buildfarm.multiarch.plugins.module_utils._platform.platform import Platform
from ansible_collections.buildfarm.multiarch.plugins.module_utils._registry.auth import RegistryRefused
from ansible_collections.buildfarm.multiarch.plugins.module_utils._registry.model import OCI_INDEX, Document, digest_of
from ansible_collections.buildfarm.multiarch.tests.unit.documents import StoredDocuments

AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")
APP, LATEST, ELSEWHERE = "r.example.com/app:1", "r.example.com/app:latest", "s.example.com/app:1"


@pytest.mark.parametrize(
    ("value", "path", "image", "is_layout"),
    [
        ("docker-image://r.example.com/base:1", "", "r.example.com/base:1", False),
        ("oci-layout:///x/l:1", "/x/l", "", True),
        ("oci-layout:///x/l@sha256:1", "/x/l", "", True),
        ("oci-layout:///x/l", "/x/l", "", True),
        ("https://example.com/x.git", "", "", False),
        ("/x/d", "/x/d", "", False),
    ],
)
def test_what_a_named_context_is(value, path, image, is_layout):
    found = NamedContext.from_param("n", value)
    assert (found.value, found.path, found.image, found.is_layout) == (value, path, image, is_layout)
    assert bool(found.problem()) is bool(path)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("target:base", "is another target of a bake file"),
        ("docker-image://App", "image name 'App'"),
        ("https://me:secret@example.com/x.git", "ends up in the process list"),
    ],
)
def test_named_contexts_that_cannot_be(value, words):
    with pytest.raises(FarmError, match=words):
        NamedContext.from_param("n", value)


@pytest.mark.parametrize(
    ("output", "tags", "expected"),
    [
        (Output("local", "/x"), [APP], "type=local,dest=/x"),
        (Output("tar", "/x"), [APP], "type=tar,dest=/x"),
        (Output("docker"), [APP, LATEST], f'type=docker,"name={APP},{LATEST}"'),
        (Output("docker"), [], "type=docker"),
        (Output("image"), [APP], f"type=image,name={APP}"),
        (
            Output("registry", options=(("oci-mediatypes", "false"),)),
            [APP],
            "type=image,name=r.example.com/app,name-canonical=true,oci-mediatypes=false,push=true,push-by-digest=true",
        ),
        (
            Output("image", options=(("push", "true"),)),
            [APP],
            "type=image,name=r.example.com/app,name-canonical=true,oci-mediatypes=true,push=true,push-by-digest=true",
        ),
    ],
)
def test_a_share_has_its_own_names(output, tags, expected):
    assert output.by_digest(tags, ["r.example.com/app"]).argument() == expected


def test_outputs_as_shares_of_a_platform():
    options = (("compression", "zstd"), ("tar", "false"))
    assert Output("local", "/x").below(Platform.parse("linux/arm/v7")) == Output("local", "/x/linux_arm_v7")
    assert Output("tar", "/x").below(ARM64) == Output("tar", "/x")
    assert Output("oci", "/x", options).as_part() == Output("oci", "/x", options[:1])
    assert (Output("oci", "/x", options).is_file, Output("oci", "/x").is_file) == (False, True)


def test_a_destination_that_cannot_be_written_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: (path, mode) != (str(tmp_path), os.W_OK))
    for output in (Output("local", str(tmp_path / "d/x/y")), Output("local", str(tmp_path))):
        with pytest.raises(FarmError, match="cannot be written by this user"):
            output.check_dest()
    (tmp_path / "d").mkdir()
    Output("local", str(tmp_path / "d/x/y")).check_dest()


@pytest.mark.parametrize("kind", ["local", "docker", "registry"])
def test_what_has_no_file_needs_no_place(kind, tmp_path):
    Output(kind, str(tmp_path / "new/d") if kind == "local" else "").check_dest()


@pytest.mark.parametrize(
    ("driver", "options", "expected"),
    [
        ("docker-container", {"default-load": "true"}, ["docker"]),
        ("docker-container", {"default-load": "false"}, []),
        ("docker-container", None, []),
        ("docker", {"default-load": "true"}, ["image"]),
    ],
)
def test_where_results_go_without_an_output(driver, options, expected):
    builder = Instance("it", driver, (Node("n", "tcp://n:1", driver_opts=options),))
    assert [one.output.type for one in resolve([], builder)] == expected
    assert resolve([], Instance("it", "docker-container")) == ()


def test_results_are_made_beside_their_destinations(tmp_path):
    output = Output("tar", str(tmp_path / "out.tar"))
    with ExitStack() as stack:
        staged = stage(stack, output)
        assert os.path.dirname(os.path.dirname(staged)) == str(tmp_path) and not os.path.exists(staged)
        with open(staged, "w", encoding="utf-8") as stream:
            stream.write("new")
        (tmp_path / "real").write_text("old")
        (tmp_path / "real").chmod(0o640)
        (tmp_path / "out.tar").symlink_to("real")
        install(output, staged)
    assert (tmp_path / "out.tar").is_symlink() and (tmp_path / "real").read_text() == "new"
    assert (tmp_path / "real").stat().st_mode & 0o777 == 0o640
    assert sorted(one.name for one in tmp_path.iterdir()) == ["out.tar", "real"]
    # A link may lead to another file system, to which nothing can be renamed.
    (tmp_path / "other").mkdir()
    (tmp_path / "out.tar").unlink()
    (tmp_path / "out.tar").symlink_to("other/real")
    with ExitStack() as stack:
        assert os.path.dirname(os.path.dirname(stage(stack, output))) == str(tmp_path / "other")
    layout = Output("oci", str(tmp_path / "layouts/l"), (("tar", "false"),))
    with ExitStack() as stack:
        assert os.path.dirname(os.path.dirname(stage(stack, layout))) == str(tmp_path / "layouts")
        os.mkdir(layout.dest)
        assert os.path.dirname(os.path.dirname(stage(stack, layout))) == layout.dest
    assert os.listdir(layout.dest) == []


@pytest.mark.parametrize(
    ("metadata", "digest"), [({"containerimage.digest": "sha256:9"}, "sha256:9"), ({"containerimage.digest": ""}, None)]
)
@pytest.mark.parametrize("platforms", [[], ["linux/arm64"]])
def test_an_image_in_an_engine_has_the_digest_that_buildx_tells(metadata, digest, platforms):
    image = Image.from_params({"context": "/nonexistent", "tags": [APP], "load": True, "platforms": platforms})
    node = Node("n", "tcp://n:1")
    farm = Farm(Instance("it", "docker-container", (node,)), (), {"n": AMD64}, {}, None, None, None, Path(), ())
    nodes = {ARM64: node} if platforms else {}
    assert read_image(image, farm, nodes, State(engine={APP: None}), metadata) is None
    found = read_image(image, farm, nodes, State(engine={APP: EngineImage("sha256:1", ARM64, 7)}), metadata)
    platform = {"platform": "linux/arm64", "digest": None, "size": 7, "node": "n", "native": False}
    assert found.as_dict() == {"tags": [APP], "digest": digest, "id": "sha256:1", "platforms": [platform]}


def failed(stderr, rc=1, message="buildx failed"):
    return CommandError(message, Result(("docker",), rc, "", stderr))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (failed("a\nERROR: https://me:secret@x failed\n"), "ERROR: https://***@x failed"),
        (failed("anything", rc=-9), "the node does not answer any more"),
        (failed("", message="first\nlast"), "last (exit status 1, nothing said)"),
    ],
)
def test_what_buildx_said_last(error, expected):
    assert last_line(error) == expected


@pytest.mark.parametrize(
    ("stderr", "expected"),
    [
        ("ERROR: code = Unavailable desc = x", True),
        ("Cannot connect to the Docker daemon\n1\n2", True),
        ("Cannot connect to the Docker daemon\n1\n2\n3", False),
        ("ERROR: exit code: 2", False),
        ("", False),
    ],
)
def test_whether_a_node_went_away(stderr, expected):
    assert is_of_the_node(stderr) is expected


UNKNOWN = "tls: failed to verify certificate: x509: certificate signed by unknown authority"


@pytest.mark.parametrize(
    ("stderr", "rc", "kind", "words"),
    [
        (
            "ERROR: failed: exit code: 2",
            124,
            FarmError,
            "building /x took longer than 5 s and was ended: ERROR: failed",
        ),
        ("ERROR: failed: exit code: 2", 1, FarmError, "building /x on it failed: ERROR: failed: exit code: 2$"),
        ("------\nexec /bin/sh: exec format error\nERROR: exit code: 255", 1, FarmError, "255\n.*the playbook site"),
        ("403 Forbidden", 1, RegistryRefused, "^registry r.example.com refused the credentials"),
        ("https://t.example.com/v2/x: denied: no", 1, RegistryRefused, "^registry t.example.com refused"),
        ("denied: a step of the build says\n1\n2\nERROR: exit code: 1", 1, FarmError, "building /x on it failed"),
        (
            f"ERROR: Head https://r/v2/: {UNKNOWN}",
            1,
            FarmError,
            "; BuildKit there does not trust .*: name its",
        ),
        (f"ERROR: failed to fetch oauth token: {UNKNOWN}", 1, FarmError, "; buildx on this controller does not trust"),
    ],
)
def test_errors_of_builds(stderr, rc, kind, words):
    image = Image.from_params({"context": "/x", "tags": [APP], "timeout": 5})
    error = build_error(failed(stderr, rc), image, "on it", ["docker", "buildx"])
    assert error.__class__ == kind and error.details["cmd"] == ["docker", "buildx"]
    with pytest.raises(FarmError, match=words):
        raise error


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({"t": None}, {"t": None}, ""),
        ({"t": {"digest": "1"}}, {"t": {"digest": "1"}}, ""),
        ({"t": {"digest": "1"}}, {"t": None}, ""),
        (
            {"t": None},
            {"t": {"digest": "1", "platforms": ["p", "q"]}},
            "; it left behind: t is now 1 (p, q); a new run continues from there",
        ),
    ],
)
def test_what_a_failed_build_left(before, after, expected):
    assert describe_leftovers(before, after) == expected


@pytest.mark.parametrize(
    ("size", "words"), [(500 * 1024, ""), (500 * 1024 + 1, "has 512001 bytes; BuildKit takes 512000 at most")]
)
def test_a_secret_is_not_too_large(tmp_path, size, words):
    (tmp_path / "s").write_bytes(b"x" * size)
    problem = Secret.from_params({"id": "s", "src": str(tmp_path / "s")}, 1).problem()
    assert words in problem and bool(problem) is bool(words)
    assert not Agent.from_param(f"key={tmp_path}/s").problem(), "a key of any size"


def test_values_of_secrets_are_variables_of_their_own():
    one, other = (Secret.from_params({"id": name, "value": name}, number) for number, name in enumerate("ab", 1))
    assert one.variable != other.variable and one.value == "a" and "'a'" not in repr(one).replace("id='a'", "")
    longest = 128 * 1024 - 64
    assert Secret.from_params({"id": "s", "value": "x" * longest}, 1).value
    for wrong in ("x" * (longest + 1), "a\0b"):
        with pytest.raises(FarmError, match="which no variable"):
            Secret.from_params({"id": "s", "value": wrong}, 1)


def test_what_a_step_prints_of_a_secret_is_not_shown(tmp_path, monkeypatch):
    (tmp_path / "key").write_text("-----BEGIN-----\nfirst line of it\nend\n")
    monkeypatch.setenv("TOKEN", "t0k")
    given = [{"id": "k", "src": str(tmp_path / "key")}, {"id": "t", "env": "TOKEN"}]
    given += [{"id": "v", "value": "two lines\nof a value"}, {"id": "gone", "src": str(tmp_path / "gone")}]
    image = Image.from_params({"context": "/x", "secrets": given})
    printed = "0.1 -----BEGIN-----\n0.2 first line of it\n0.3 end\n0.4 t0k\n0.5 two lines\n0.6 of a value\nERROR: rc 1"
    error = build_error(CommandError("x", Result(("docker",), 1, printed, printed)), image, "on it", [])
    shown = "0.1 ***\n0.2 ***\n0.3 end\n0.4 ***\n0.5 ***\n0.6 ***\nERROR: rc 1"
    assert error.details["stderr"] == error.details["stdout"] == shown and "first line" not in error.message


def test_an_agent_is_looked_for(tmp_path, monkeypatch):
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    assert "SSH_AUTH_SOCK is not set" in Agent.from_param("default").problem()
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
    assert "where there is nothing" in Agent.from_param("default").problem()
    (tmp_path / "agent").touch()
    assert not Agent.from_param("default").problem()
    keys = Agent.from_param(f"k={tmp_path}/agent,{tmp_path}/none")
    assert keys.argument == f"k={tmp_path}/agent,{tmp_path}/none" and "/none on this controller" in keys.problem()
    assert "is a directory" in Agent.from_param(f"k={tmp_path}").problem()


def index_of(*platforms, attested=()):
    entries = [
        {
            "digest": f"sha256:{platform.arch}",
            "size": 1,
            "platform": {"os": platform.os, "architecture": platform.arch},
        }
        for platform in platforms
    ]
    entries += [
        {
            "digest": f"sha256:of-{platform.arch}",
            "size": 1,
            "platform": {"os": "unknown", "architecture": "unknown"},
            "annotations": {
                "vnd.docker.reference.type": "attestation-manifest",
                "vnd.docker.reference.digest": f"sha256:{platform.arch}",
            },
        }
        for platform in attested
    ]
    return json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode()


@pytest.mark.parametrize(
    ("missing", "gone"),
    [
        (None, ()),
        ("r.example.com/app@sha256:arm64", (ARM64,)),
        ("s.example.com/app@sha256:amd64", (AMD64,)),
        ("r.example.com/app@sha256:of-amd64", (AMD64,)),
        ("s.example.com/app@sha256:of-amd64", (AMD64,)),
    ],
)
@pytest.mark.parametrize("annotated", [True, False])
def test_a_part_that_a_repository_lacks_is_noticed(tmp_path, missing, gone, annotated):
    registries, content = StoredDocuments(), index_of(AMD64, ARM64, attested=[AMD64])
    for repository in ("r.example.com/app", "s.example.com/app"):
        for digest in ("amd64", "arm64", "of-amd64"):
            registries.documents[f"{repository}@sha256:{digest}"] = "{}"
    registries.documents.pop(missing, None)
    index = Index.parse(Document(digest_of(content), OCI_INDEX, content))
    image = Image.from_params({"context": str(tmp_path), "tags": [APP, LATEST, ELSEWHERE], "push": True})
    state = State(registry={APP: index, LATEST: None, ELSEWHERE: index})
    found = read_evidence(image, "when_changed", state, {}, annotated, Records(tmp_path), registries)
    assert found.gone == ({index.digest: gone} if annotated else {})
    assert found.records == {Location(REGISTRY, tag): None for tag in (APP, LATEST, ELSEWHERE)}
    assert registries.asked.count("r.example.com/app@sha256:amd64") == (1 if annotated else 0)
    always = read_evidence(image, "always", state, {}, annotated, Records(tmp_path), registries)
    assert (always.records, always.gone) == ({}, {})


def test_records_are_in_annotations_or_beside_results(tmp_path):
    inputs, content = Inputs({"the target": "1"}, {}), json.loads(index_of(AMD64))
    content["annotations"] = Record.of(inputs, (), {}).annotations
    index = Index.parse(Document("sha256:1", OCI_INDEX, json.dumps(content).encode()))
    image = Image.from_params({"context": str(tmp_path), "tags": [APP], "push": True})
    records, state = Records(tmp_path), State(registry={APP: index})
    records.write(f"registry {APP}", Record.of(Inputs({}, {}), (), {}, "sha256:1"))
    registries = StoredDocuments()
    in_image, beside = (
        read_evidence(image, "when_changed", state, {}, annotated, records, registries).records[Location(REGISTRY, APP)]
        for annotated in (True, False)
    )
    assert (in_image.key, beside.key) == (inputs.key, Inputs({}, {}).key)
    assert (in_image.content, beside.content) == (None, "sha256:1")


def test_what_was_fetched_is_asked_for_where_it_may_decide(tmp_path):
    source = Source(IMAGE, "docker.io/library/debian:13", "sha256:1", "linux/arm64", "sha256:2", ("linux/arm64",))
    name, inputs = Location(REGISTRY, APP), Inputs({}, {})
    image = Image.from_params({"context": str(tmp_path), "tags": [APP], "push": True})
    records, state = Records(tmp_path), State(registry={APP: None})
    records.write(str(name), Record.of(inputs, (source,), {}, "sha256:1"))
    found = read_evidence(image, "when_changed", state, {name: inputs}, False, records, StoredDocuments())
    assert sources_of("when_changed", found) == (source,)
    assert sources_of("never", found) == ()
    other = read_evidence(
        image, "when_changed", state, {name: Inputs({"the target": "1"}, {})}, False, records, StoredDocuments()
    )
    assert sources_of("when_changed", other) == ()


def test_each_result_is_known_by_what_it_does_not_tell_itself(tmp_path):
    def keys(annotated=False, builder="docker-container", **options):
        common = {"context": str(tmp_path), "tags": [APP, LATEST], "copy_to": [], "push": True}
        image = Image.from_params({**common, **options})
        there = resolve(image.outputs, Instance("it", builder, (Node("n", "default"),)))
        found = inputs_of(image, there, annotated, Contexts(str(tmp_path / "notes")), tmp_path)
        return {str(location): one.key for location, one in found.items()}

    everything = keys(outputs=[{"type": "docker"}, {"type": "tar", "dest": "/x/t"}, {"type": "image"}])
    assert list(everything) == [f"engine {APP}", f"engine {LATEST}", "/x/t", f"registry {APP}", f"registry {LATEST}"]
    assert len(set(everything.values())) == 3
    assert list(keys(copy_to=[ELSEWHERE])) == [f"registry {APP}", f"registry {LATEST}", f"registry {ELSEWHERE}"]
    # An index tells its platforms and has its record in it, whatever its names.
    names = [{"tags": [APP]}, {"tags": [LATEST]}]
    for annotated, number in ((True, 1), (False, 2)):
        assert len({next(iter(keys(annotated, **options).values())) for options in names}) == number


def test_the_platforms_of_all_images_are_each_there_once():
    images = [
        {"context": "/x", "tags": [f"r/{number}"], "platforms": list(of)}
        for number, of in enumerate((["linux/arm64", "linux/amd64"], ["linux/amd64"], ["linux/s390x"]))
    ]
    declared = Declaration.from_params({"images": images})
    assert [str(one) for one in declared.platforms] == ["linux/arm64", "linux/amd64", "linux/s390x"]


@pytest.mark.parametrize(("platforms", "suffix"), [([], ""), ([AMD64], ""), ([AMD64, ARM64], "-linux-amd64")])
def test_only_of_several_platforms_each_has_a_cache_of_its_own(platforms, suffix):
    caches = Caches.from_params({"cache_to": ["r.example.com/c:1"], "cache_from": ["r.example.com/c:1"]}, platforms)
    arguments = caches.arguments(platforms[:1])
    assert arguments[-1] == f"type=registry,ref=r.example.com/c:1{suffix}"
    assert arguments.count("--cache-from") == (3 if suffix else 1)
    assert caches.arguments(platforms[:1], writes=False).count("--cache-to") == 0
    assert bool(caches.requirements()) is bool(suffix)


@pytest.mark.parametrize(
    ("after", "registry"),
    [
        ("\n1\n2", "r.example.com"),
        ("\n1\n2\n3", None),
    ],
)
def test_a_refusal_is_one_of_the_last_lines(after, registry):
    image = Image.from_params({"context": "/x", "tags": [ELSEWHERE, APP]})
    error = build_error(failed(f"pushing r.example.com/app: 401 Unauthorized{after}"), image, "on it", [])
    assert isinstance(error, RegistryRefused) == bool(registry)
    assert not registry or error.message.startswith(f"registry {registry} refused")
