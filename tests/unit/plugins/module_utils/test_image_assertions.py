# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How an image differs from what is wanted of it, what is taken over of one, and who is to look at it."""

from __future__ import annotations

import json
import time
from types import SimpleNamespace

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._buildx.store import Instance, Node
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker.reference import Reference
from ansible_collections.buildfarm.multiarch.plugins.module_utils._image import describe as _describe
from ansible_collections.buildfarm.multiarch.plugins.module_utils._image.assertions import may_pass, problems
from ansible_collections.buildfarm.multiarch.plugins.module_utils._image.check import CheckResult, Findings, RunResult
from ansible_collections.buildfarm.multiarch.plugins.module_utils._image.compose import Part as ComposedPart
from ansible_collections.buildfarm.multiarch.plugins.module_utils._image.compose import subset, whole
from ansible_collections.buildfarm.multiarch.plugins.module_utils._image.contents import (
    Attestation,
    Contents,
    Depth,
    Part,
    Provenance,
    read_contents,
)
from ansible_collections.buildfarm.multiarch.plugins.module_utils._image.declaration import (
    Declaration,
    ImageChecks,
    Wanted,
    WantedProvenance,
)
from ansible_collections.buildfarm.multiarch.plugins.module_utils._image.index import Index
from ansible_collections.buildfarm.multiarch.plugins.module_utils._image.state import Nodes
from ansible_collections.buildfarm.multiarch.plugins.module_utils._imagetools.declaration import Declaration as Tags
from ansible_collections.buildfarm.multiarch.plugins.module_utils._imagetools.plan import _annotations
from ansible_collections.buildfarm.multiarch.plugins.module_utils._platform.platform import Platform
from ansible_collections.buildfarm.multiarch.plugins.module_utils._registry.model import (
    OCI_INDEX,
    OCI_MANIFEST,
    Document,
    digest_of,
)
from ansible_collections.buildfarm.multiarch.tests.unit.documents import StoredDocuments

AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")
NAME = "r.example.com/app:1"
HOUR = 3600
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
CONFIG = "application/vnd.oci.image.config.v1+json"
BASE = "docker.io/library/debian:13"
PROVENANCE = "https://slsa.dev/provenance/v0.2"
STATEMENT = {
    "builder": {"id": "https://ci.example.com/7"},
    "materials": [{"uri": "pkg:docker/debian@13?platform=linux%2Famd64", "digest": {"sha256": "b" * 64}}],
    "metadata": {
        "https://mobyproject.org/buildkit@v1#metadata": {"vcs": {"source": "git.example.com/a", "revision": "f"}}
    },
}


def index(*entries, **more):
    listed = [
        {
            "mediaType": OCI_MANIFEST,
            "digest": digest,
            "size": 1,
            "platform": {"os": platform.os, "architecture": platform.arch},
        }
        for digest, platform in entries
    ]
    return json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed, **more}).encode()


def contents(created=None, attestations=(), gone=(), missing=False, labels=None, annotations=None, layer=LAYER, **more):
    content = index(("sha256:amd64", AMD64), **more)
    found = Index.parse(Document("sha256:whole", OCI_INDEX, content))
    document = {
        "config": {"mediaType": CONFIG, "digest": "sha256:c", "size": 40},
        "layers": [{"mediaType": layer, "digest": "sha256:l", "size": 60}],
        "annotations": annotations or {},
    }
    config = {"created": created, "config": {"Labels": labels or {}}}
    part = Part(found.manifests[0], None if missing else document, config, tuple(attestations))
    return Contents(Reference.parse(NAME), found, 1, json.loads(content), (part,), (), tuple(gone))


def statement(predicate=None, kind=PROVENANCE):
    return Attestation(kind, "sha256:s", 1, predicate)


def ago(seconds):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - seconds))


@pytest.mark.parametrize(
    ("options", "found", "expected"),
    [
        ({}, {}, []),
        ({"digest": "sha256:" + "0" * 64}, {}, [f"its digest is sha256:whole, wanted sha256:{'0' * 64}"]),
        ({}, {"gone": ["sha256:x"]}, ["it names sha256:x, which the registry does not have"]),
        ({"media_types": "oci"}, {}, []),
        (
            {"media_types": "oci"},
            {"layer": "application/vnd.docker.image.rootfs.diff.tar.gzip"},
            ["sha256:l is application/vnd.docker.image.rootfs.diff.tar.gzip, wanted application/vnd.oci.*"],
        ),
        ({"annotations": {"k": "v"}}, {"annotations": {"k": "v"}}, []),
        ({"annotations": {"k": None}}, {"annotations": {"k": "other"}}, []),
        ({"annotations": {"k": "v"}}, {}, ["linux/amd64: it has no annotation k, wanted 'v'"]),
        ({"annotations": {"k": None}}, {}, ["linux/amd64: it has no annotation k, wanted one"]),
        ({"annotations": {"k": "v"}}, {"annotations": {"k": "w"}}, ["linux/amd64: annotation k is 'w', wanted 'v'"]),
        ({"labels": {"k": "v"}}, {"labels": {"k": "v"}}, []),
        ({"labels": {"k": "v"}}, {"labels": {"k": "w"}}, ["linux/amd64: label k is 'w', wanted 'v'"]),
        ({"labels": {"k": True}}, {"labels": {"k": "true"}}, []),
        ({"labels": {"k": None}}, {}, ["linux/amd64: it has no label k, wanted one"]),
        ({"max_size": "100"}, {}, []),
        ({"max_size": "99"}, {}, ["linux/amd64: its config and layers have 100 bytes, wanted 99 at most"]),
        ({"sbom": True}, {"attestations": [statement(kind="https://spdx.dev/Document")]}, []),
        ({"sbom": False}, {"attestations": [statement({})]}, []),
        ({"sbom": True}, {}, ["linux/amd64: it has no SBOM, wanted one"]),
        (
            {"sbom": False},
            {"attestations": [statement(kind="https://spdx.dev/Document")]},
            ["linux/amd64: it has an SBOM, wanted none"],
        ),
        ({"provenance": {}}, {}, ["linux/amd64: it has no provenance, wanted some"]),
        ({"provenance": {}}, {"attestations": [statement({})]}, []),
        ({"max_age": "9h"}, {"created": ago(HOUR)}, []),
        (
            {"max_age": "1m"},
            {"created": "soon"},
            ["linux/amd64: its config says 'soon' of when it was created, wanted a time"],
        ),
    ],
)
def test_how_an_image_differs(options, found, expected):
    assert problems(Wanted.from_params(NAME, options), contents(**found)) == expected


def test_annotations_of_the_whole_go_before_those_of_platforms():
    found = contents(annotations={"k": "part"})
    found = Contents(
        **{**found.__dict__, "index": Index.parse(Document("d", OCI_INDEX, index(annotations={"k": "all"})))}
    )
    assert problems(Wanted.from_params(NAME, {"annotations": {"k": "all"}}), found)[1:] == []
    assert "annotation k is 'all', wanted 'part'" in problems(
        Wanted.from_params(NAME, {"annotations": {"k": "part"}}), found
    )


def test_what_is_gone_is_told_once():
    options = {"labels": {"k": "v"}, "max_size": "1", "annotations": {"k": "v"}}
    found = contents(missing=True, gone=["sha256:amd64"])
    assert problems(Wanted.from_params(NAME, options), found) == [
        "it names sha256:amd64, which the registry does not have"
    ]


@pytest.mark.parametrize(
    ("hours", "zone", "old"),
    [
        (20, "Z", True),
        (1, "Z", False),
        (1, ".123456789Z", False),
        # Times of day elsewhere, which would be too old, or not old enough, in UTC.
        (11, "-02:00", False),
        (9, "+0200", True),
        (10.75, "-01:30", False),
    ],
)
def test_ages(hours, zone, old):
    created = ago(hours * HOUR).replace("Z", zone)
    found = problems(Wanted.from_params(NAME, {"max_age": "10h"}), contents(created=created))
    assert len(found) == old and all("s ago, wanted 36000 s at most" in one for one in found)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"builder": r"^https://ci\.", "source": "example", "revision": "f", "bases": {"debian:13": None}}, []),
        ({"bases": {BASE: "sha256:" + "b" * 64}}, []),
        ({"builder": "^ci"}, ["its provenance names the builder 'https://ci.example.com/7', wanted a match of '^ci'"]),
        ({"source": "github"}, ["its provenance names the source 'git.example.com/a', wanted a match of 'github'"]),
        ({"revision": "e"}, ["its provenance names the revision 'f', wanted 'e'"]),
        (
            {"bases": {"alpine": None}},
            [f"its provenance names no base image docker.io/library/alpine:latest (base images found: {BASE})"],
        ),
        (
            {"bases": {BASE: "sha256:" + "a" * 64}},
            [f"it was built from {BASE} at sha256:{'b' * 64}, wanted sha256:{'a' * 64}"],
        ),
    ],
)
def test_what_provenance_has_to_say(wanted, expected):
    found = contents(attestations=[statement(STATEMENT)])
    assert problems(Wanted.from_params(NAME, {"provenance": wanted}), found) == [
        f"linux/amd64: {one}" for one in expected
    ]


@pytest.mark.parametrize(
    ("predicate", "expected"),
    [
        ({}, ("", "", "", {})),
        (
            {
                "buildDefinition": {
                    "externalParameters": {"configSource": {"uri": "u", "digest": {"sha1": "1"}}},
                    "resolvedDependencies": [{"uri": "pkg:docker/a/b", "digest": {"sha256": "c"}}, {"uri": "x"}, "odd"],
                },
                "runDetails": {"builder": {"id": "b"}},
            },
            ("b", "u", "1", {"docker.io/a/b:latest": "sha256:c"}),
        ),
        (
            {
                "invocation": {"configSource": {"uri": "u", "digest": {}}},
                "materials": [
                    {"uri": "pkg:docker/Not%20Valid@1", "digest": {"sha256": "c"}},
                    {"uri": "pkg:docker/a@1", "digest": {}},
                    {"uri": "pkg:docker/a@sha256:1", "digest": {"sha256": "c"}},
                ],
            },
            ("", "u", "", {"docker.io/library/a:latest": "sha256:c"}),
        ),
        (
            {"runDetails": {"metadata": {"buildkit_metadata": {"vcs": {"source": "s", "revision": "r"}}}}},
            ("", "s", "r", {}),
        ),
    ],
)
def test_provenance_of_both_versions(predicate, expected):
    found = Provenance.of(predicate)
    assert (found.builder, found.source, found.revision, found.bases) == expected


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("builder", "(", r"provenance: builder '\(' is no regular expression"),
        ("source", "(", r"provenance: source '\(' is no regular expression"),
        ("bases", {"App": None}, "image name 'App'"),
        ("bases", {"a": "sha256:1"}, "digest 'sha256:1': wanted sha256: and 64"),
    ],
)
def test_provenance_that_cannot_be_meant(option, value, words):
    with pytest.raises(FarmError, match=words):
        WantedProvenance.from_params({option: value})


@pytest.mark.parametrize(
    ("options", "found", "expected"),
    [
        ({}, None, True),
        ({}, contents(gone=["sha256:x"]), True),
        ({}, contents(), False),
        ({"digest": "sha256:" + "0" * 64}, contents(), True),
    ],
)
def test_what_a_registry_may_mend(options, found, expected):
    assert may_pass(Wanted.from_params(NAME, options), found) is expected


@pytest.mark.parametrize(
    ("options", "depth"),
    [
        ({}, Depth()),
        ({"labels": {"k": "v"}}, Depth(configs=True)),
        ({"programs": True}, Depth(configs=True)),
        ({"max_age": "0"}, Depth(configs=True)),
        ({"provenance": {}}, Depth(provenance=True)),
        ({"blobs": True, "annotations": {"k": "v"}, "sbom": True, "max_size": "1"}, Depth(blobs=True)),
    ],
)
def test_only_what_is_asked_for_is_read(options, depth):
    assert Wanted.from_params(NAME, options).depth == depth


@pytest.mark.parametrize(
    ("text", "seconds"), [("12h", 43200), ("30d", 2592000), ("2w", 1209600), ("1.5m", 90), ("7", 7), (" ", None)]
)
def test_ages_have_units(text, seconds):
    assert Wanted.from_params(NAME, {"max_age": text}).max_age == seconds


def test_options_of_an_image_go_before_those_of_the_task():
    params = {"images": [{"name": "a", "exact": False}, {"name": "b"}], "sbom": True, "platforms": ["linux/amd64"]}
    first, second = Declaration.from_params({**params, "wait": 3}).images
    assert (first.exact, second.exact, first.sbom, second.platforms) == (False, True, True, (AMD64,))
    assert (Declaration.from_params(params).wait, Declaration.from_params({**params, "wait": 3}).wait) == (0.0, 3.0)
    with pytest.raises(FarmError, match=r"^image b: digest 'x'"):
        Declaration.from_params({"images": [{"name": "b", "digest": "x"}]})
    with pytest.raises(FarmError, match=r"^image name 'B'"):
        Declaration.from_params({"images": [{"name": "B"}]})


@pytest.mark.parametrize(
    ("params", "run", "examine"),
    [
        ({"run": {"command": ["a"], "timeout": 5}}, True, True),
        ({"run": {"command": ["a"], "timeout": 5}, "programs": False}, True, False),
        ({"programs": True}, False, True),
        ({"programs": False}, None, None),
        ({}, None, None),
    ],
)
def test_what_an_image_is_put_to(params, run, examine):
    checks = ImageChecks.from_params(params)
    assert (checks and bool(checks.run), checks and checks.examine) == (run, examine)
    if checks:
        assert (checks.checks.run, checks.checks.programs) == (run, examine or not run)


@pytest.mark.parametrize(
    ("expected", "run", "problem"),
    [
        ({}, RunResult("x", "", 0, True), None),
        ({"expected": "{arch} of {platform}\n"}, RunResult("amd64 of linux/amd64", "", 0, True), None),
        ({"expected": ""}, RunResult("x", "", 0, True), "printed 'x', wanted ''"),
        ({"expected_regex": "^{platform}$"}, RunResult("linux/amd64", "", 0, True), None),
        ({}, RunResult("out", "err", 3, True), "exit status 3 (err)"),
        ({}, RunResult("out", "", 3, True), "exit status 3 (out)"),
        ({}, RunResult("", "", 3, True), "exit status 3 (no output)"),
    ],
)
def test_what_a_run_has_to_print(expected, run, problem):
    checks = ImageChecks.from_params({"run": {"timeout": 5, **expected}})
    assert checks.problem(AMD64, CheckResult(run=run)) == problem
    assert checks.problem(AMD64, CheckResult(Findings((), "wrong"))) == "wrong"
    assert checks.problem(AMD64, CheckResult()) is None


def attested_index():
    entries = [("sha256:amd64", AMD64), ("sha256:arm64", ARM64)]
    raw = json.loads(index(*entries))
    raw["manifests"] += [
        {
            "mediaType": OCI_MANIFEST,
            "digest": f"sha256:of-{platform.arch}",
            "size": 1,
            "platform": {"os": "unknown", "architecture": "unknown"},
            "annotations": {
                "vnd.docker.reference.type": "attestation-manifest",
                "vnd.docker.reference.digest": digest,
            },
        }
        for digest, platform in entries
    ]
    content = json.dumps(raw).encode()
    return ComposedPart(Document(digest_of(content), OCI_INDEX, content), (AMD64, ARM64))


def test_some_platforms_are_taken_over_with_their_attestations():
    part = attested_index()
    taken = subset(part, (ARM64,))
    listed = [one["digest"] for one in json.loads(taken.document.content)["manifests"]]
    assert listed == ["sha256:arm64", "sha256:of-arm64"]
    assert (taken.platforms, taken.document.media_type) == ((ARM64,), OCI_INDEX)
    assert taken.document.digest == digest_of(taken.document.content)
    assert json.loads(taken.document.content)["schemaVersion"] == 2
    all_of_it = whole(part)
    assert (all_of_it.content, all_of_it.digest) == (part.document.content, part.document.digest)
    assert all_of_it.children == ("sha256:amd64", "sha256:arm64", "sha256:of-amd64", "sha256:of-arm64")
    assert all_of_it.media_type == OCI_INDEX


def test_a_single_manifest_is_taken_over_as_it_is():
    content = json.dumps({"mediaType": OCI_MANIFEST, "config": {"mediaType": CONFIG}, "layers": []}).encode()
    part = ComposedPart(Document(digest_of(content), OCI_MANIFEST, content), (AMD64,))
    assert subset(part, (AMD64,)) is part
    assert (whole(part).content, whole(part).media_type) == (content, OCI_MANIFEST)


def test_a_platform_is_for_the_first_pinned_node_that_runs_it_itself(monkeypatch):
    nodes = tuple(Node(name, f"tcp://{name}:2375", (AMD64, ARM64)) for name in "ab")
    builder = Instance("farm", "docker-container", nodes)
    asked = []

    def probe_all(endpoints, _contexts, _timeout):
        asked.extend(map(str, endpoints))
        return [SimpleNamespace(platform=ARM64), SimpleNamespace(platform=None)]

    monkeypatch.setattr(_describe, "probe_all", probe_all)
    found = Nodes.of(builder, None)
    assert (found.natives, asked) == ({"a": ARM64}, ["tcp://a:2375", "tcp://b:2375"])
    known = Nodes(builder, {"a": ARM64, "b": AMD64})
    assert {platform: node.name for platform, node in known.pinned.items()} == {AMD64: "b", ARM64: "a"}
    assert [known.runs_natively(AMD64, name) for name in "abc"] == [False, True, None]
    assert (Nodes.of(None, None).pinned, Nodes.of(None, None).natives) == ({}, {})


def stored_image():
    """A registry with an index of one image, its attestation, and what these consist of."""
    registries = StoredDocuments()

    def put(document):
        text = json.dumps(document)
        digest = digest_of(text.encode())
        registries.documents[f"r.example.com/app@{digest}"] = text
        return digest

    said = put({"predicate": STATEMENT, "predicateType": PROVENANCE})
    config = put({"created": "2026-01-01T00:00:00Z", "config": {"Labels": {"k": "v"}}})
    layer = put({"a": "layer"})
    image = put(
        {"config": {"mediaType": CONFIG, "digest": config, "size": 40}, "layers": [{"digest": layer, "size": 2}]}
    )
    layers = [
        {"mediaType": kind, "digest": said, "size": 5, "annotations": {"in-toto.io/predicate-type": predicate}}
        for kind, predicate in (
            ("application/vnd.in-toto+json", PROVENANCE),
            ("application/vnd.in-toto+json", "https://spdx.dev/Document"),
            ("application/octet-stream", "https://spdx.dev/Document"),
        )
    ]
    attestation = put({"config": {"digest": put({}), "size": 1}, "layers": layers})
    raw = json.loads(index((image, AMD64)))
    raw["manifests"].append(
        {
            "mediaType": OCI_MANIFEST,
            "digest": attestation,
            "size": 1,
            "platform": {"os": "unknown", "architecture": "unknown"},
            "annotations": {
                "vnd.docker.reference.type": "attestation-manifest",
                "vnd.docker.reference.digest": image,
            },
        }
    )
    registries.documents[NAME] = json.dumps(raw)
    return registries, {"image": image, "layer": layer, "attestation": attestation, "said": said, "config": config}


def test_what_is_read_of_an_image_and_what_is_not():
    registries, names = stored_image()
    (image,) = read_contents(registries, Reference.parse(NAME), Depth()).images
    assert [(one.predicate_type, one.digest, one.size, one.predicate) for one in image.attestations] == [
        (PROVENANCE, names["said"], 5, None),
        ("https://spdx.dev/Document", names["said"], 5, None),
    ]
    assert (image.config, image.size, image.labels, image.created, image.provenance) == (None, 42, {}, "", None)
    assert not [one for one in registries.asked if names["config"] in one or names["said"] in one]
    whole_of_it = read_contents(registries, Reference.parse(NAME), Depth(configs=True, provenance=True))
    (image,) = whole_of_it.images
    assert (image.labels, image.created) == ({"k": "v"}, "2026-01-01T00:00:00Z")
    assert [one.predicate for one in image.attestations] == [STATEMENT, None]
    assert image.provenance.revision == "f" and (whole_of_it.kind, whole_of_it.gone) == ("image", ())
    assert [part.entry.digest for part in whole_of_it.others] == [names["attestation"]]
    deep = whole_of_it.as_dict(deep=True)["manifests"][0]
    assert (deep["compressed_size"], deep["provenance"]["builder"]) == (42, "https://ci.example.com/7")
    assert "config" not in whole_of_it.as_dict()["manifests"][0]
    assert read_contents(registries, Reference.parse("r.example.com/app:2"), Depth()) is None


@pytest.mark.parametrize("part", ["image", "attestation"])
def test_manifests_that_are_gone_are_told(part):
    registries, names = stored_image()
    del registries.documents[f"r.example.com/app@{names[part]}"]
    found = read_contents(registries, Reference.parse(NAME), Depth(configs=True, provenance=True))
    assert found.gone == (names[part],)
    assert (found.images[0].document is None) is (part == "image")


@pytest.mark.parametrize(
    ("document", "size"),
    [
        ({"config": {"size": 40}, "layers": [{"size": 1}, {}, {"size": None}]}, 41),
        ({"config": "odd", "layers": ["odd", {"size": 2}], "blobs": [{"size": 3}]}, 5),
        ({}, 0),
        (None, 0),
    ],
)
def test_what_has_no_size_counts_nothing(document, size):
    assert Part(contents().images[0].entry, document).size == size


def composed_part(**document):
    content = json.dumps(document).encode()
    return ComposedPart(Document(digest_of(content), "", content), (AMD64,))


OWN = {"annotations": {"a": "own", "b": "own"}}


@pytest.mark.parametrize(
    ("parts", "annotations", "expected"),
    [
        ([composed_part(manifests=[], **OWN)], {}, {"a": "own", "b": "own"}),
        ([composed_part(manifests=[], **OWN)], {"a": "x", "b": None}, {"a": "x"}),
        ([composed_part(manifests=[])], {"a": "x", "b": None}, {"a": "x"}),
        # Those of a manifest are its own, and of several sources none are those of the whole.
        ([composed_part(config={}, **OWN)], {"c": "x"}, {"c": "x"}),
        ([composed_part(manifests=[], **OWN), composed_part(manifests=[])], {"c": "x"}, {"c": "x"}),
    ],
)
def test_annotations_of_an_index_that_is_made_of_others(parts, annotations, expected):
    declaration = Tags.from_params({"tags": [NAME], "sources": [{"name": NAME}], "annotations": annotations})
    assert _annotations(declaration, parts) == expected
