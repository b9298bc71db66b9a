# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Images of all kinds, as the integration tests have them in a real registry, here in one in memory."""

from __future__ import annotations

import json

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker.reference import Reference
from ansible_collections.buildfarm.multiarch.plugins.module_utils._image import verify as _verify
from ansible_collections.buildfarm.multiarch.plugins.module_utils._image.contents import Depth, read_contents
from ansible_collections.buildfarm.multiarch.plugins.module_utils._image.declaration import Wanted
from ansible_collections.buildfarm.multiarch.plugins.module_utils._image.info import run as inspect
from ansible_collections.buildfarm.multiarch.plugins.module_utils._image.promote import copy_image
from ansible_collections.buildfarm.multiarch.plugins.module_utils._image.verify import run as verify
from ansible_collections.buildfarm.multiarch.plugins.module_utils._imagetools import removal as _removal
from ansible_collections.buildfarm.multiarch.plugins.module_utils._imagetools.apply import run as imagetools
from ansible_collections.buildfarm.multiarch.plugins.module_utils._registry import client as _registry
from ansible_collections.buildfarm.multiarch.tests.unit.corpus import (
    BASE,
    BASE_DIGEST,
    BOTH,
    CASES,
    COSIGN,
    DOCKER_TYPES,
    GONE,
    NOTATION,
    OCI_TYPES,
    PROGRAMS,
    Corpus,
    attested,
    push_all,
    two,
    wanted_images,
    wrong_verdicts,
)
from ansible_collections.buildfarm.multiarch.tests.unit.documents import StoredRegistries

REPOSITORY, OTHER, FAR = "r.example.com/app", "r.example.com/other", "far.example.com/app"


@pytest.fixture
def corpus(monkeypatch, tmp_path):
    """A repository in a registry in memory."""
    for name in ("BUILDX_CONFIG", "BUILDX_BUILDER", "DOCKER_HOST", "DOCKER_CONTEXT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    stored = StoredRegistries()
    monkeypatch.setattr(_registry.Registries, "of", lambda params, nodes, mirrors=True: stored)
    return Corpus(stored, REPOSITORY)


def test_every_image_gets_the_verdict_that_is_expected(corpus):
    pytest.importorskip("jmespath")
    push_all(corpus, lambda digest: corpus.registries.blobs.pop((REPOSITORY, digest)))
    with pytest.raises(FarmError) as caught:
        verify({"images": wanted_images(corpus)}, False, None)
    images = caught.value.details["images"]
    assert wrong_verdicts(images) == {}
    said = caught.value.message.splitlines()
    faulty = [lines for _make, _wanted, lines in CASES.values() if lines]
    assert said[0] == f"{len(faulty)} of {len(CASES)} images are not as wanted:"
    assert said[1:] == [f"image {image['name']}: {line}" for image in images for line in image["problems"]]


def test_what_an_image_does_not_set_is_as_the_task_has_it(corpus):
    two(corpus, "1")
    task = {"platforms": ["linux/amd64"], "labels": {"a": None}, "exact": True}
    images = [
        {"name": corpus.name("1"), "exact": False, "labels": {}},
        {"name": corpus.name("1"), "platforms": BOTH, "labels": {}, "exact": None},
        {"name": corpus.name("1")},
    ]
    with pytest.raises(FarmError) as caught:
        verify({"images": images, **task}, False, None)
    assert [len(image["problems"]) for image in caught.value.details["images"]] == [0, 0, 3]
    assert "image" not in caught.value.details


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_size": "big"}, "max_size 'big': wanted a number with a unit, as 200MB or 1GiB"),
        ({"max_age": "1y"}, "max_age '1y': wanted a number with a unit, as 12h or 30d"),
        ({"digest": "x"}, "digest 'x': wanted sha256:"),
        ({"provenance": {"builder": "("}}, "provenance: builder '(' is no regular expression"),
        ({"provenance": {"bases": {"debian": "x"}}}, "digest 'x': wanted sha256:"),
        ({"provenance": {"bases": {"X": None}}}, "image name 'X': wanted"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(corpus, options, words):
    with pytest.raises(FarmError) as caught:
        verify({"name": "r.example.com/app:1", **options}, False, None)
    assert words in caught.value.message


@pytest.mark.parametrize(
    ("limit", "size"),
    [("1", 1), ("2 kB", 2000), ("1.5M", 1500000), ("1g", 10**9), ("1KiB", 1024), ("2Mi", 2 << 20), ("1GiB", 1 << 30)],
)
def test_sizes_have_units(limit, size):
    assert Wanted.from_params("app", {"max_size": limit}).max_size == size


@pytest.fixture
def clock(monkeypatch):
    """A clock that only sleeping moves; what is called then, by the time."""

    class Clock:
        now, events = 0.0, {}

        def monotonic(self):
            return self.now

        def sleep(self, seconds):
            self.now += seconds
            for when in [when for when in self.events if when <= self.now]:
                self.events.pop(when)()

    made = Clock()
    made.events = {}
    monkeypatch.setattr(_verify, "time", made)
    monkeypatch.setattr(_removal, "time", made)
    return made


def test_what_is_not_there_yet_is_waited_for(corpus, clock):
    params = {"name": corpus.name("1"), "wait": 10}
    with pytest.raises(FarmError, match="has none of this name"):
        verify(params, False, None)
    assert 7 < clock.now <= 10
    clock.events[clock.now + 2] = lambda: two(corpus, "1")
    verify({**params, "platforms": BOTH}, False, None)
    started = clock.now
    with pytest.raises(FarmError, match="missing linux/s390x"):
        verify({**params, "platforms": ["linux/s390x"], "exact": False}, False, None)
    assert clock.now == started, "no time mends that"
    with pytest.raises(FarmError, match="wanted sha256:000"):
        verify({**params, "digest": GONE}, False, None)
    assert clock.now > started + 7


def test_a_registry_that_fails_is_one_line_of_one_image(corpus, monkeypatch):
    two(corpus, "1")
    manifest = corpus.registries.manifest

    def failing(reference):
        if reference.tag == "2":
            raise FarmError("registry r.example.com could not be asked: no answer")
        return manifest(reference)

    monkeypatch.setattr(corpus.registries, "manifest", failing)
    with pytest.raises(FarmError) as caught:
        verify({"images": [{"name": corpus.name(tag)} for tag in "12"]}, False, None)
    assert caught.value.message.splitlines()[1:] == [
        f"image {corpus.name('2')}: registry r.example.com could not be asked: no answer"
    ]
    assert [image["digest"] is None for image in caught.value.details["images"]] == [False, True]


def test_whatever_stands_there_has_one_shape(corpus):
    tags = {
        "attested": "image",
        "single-docker": "image",
        "notation": "signature",
        "cosign": "signature",
        "sbom": "sbom",
        "helm": "artifact",
        "cache-index": "cache",
        "cache-manifest": "cache",
        "attestation": "attestation",
    }
    for tag in tags:
        CASES[tag][0](corpus, tag)
    found = {tag: inspect({"name": corpus.name(tag), "details": True}, False, None)["index"] for tag in tags}
    assert {tag: index["kind"] for tag, index in found.items()} == tags
    assert len({frozenset(index) for index in found.values()}) == 1
    assert (found["notation"]["artifact_type"], found["notation"]["referrers"]) == (NOTATION, [])
    assert found["attested"]["manifests"][0]["provenance"]["bases"] == {BASE: BASE_DIGEST}
    plain = inspect({"name": corpus.name("attested")}, False, None)["index"]
    assert plain["referrers"] is None and "config" not in plain["manifests"][0]


def test_an_old_artifact_manifest_is_an_artifact(corpus):
    kind = "application/vnd.oci.artifact.manifest.v1+json"
    blob = corpus.blob("application/x-own", b"own")
    corpus.manifest(kind, {"artifactType": "application/x-own", "blobs": [blob]}, "old")
    contents = read_contents(corpus.registries, Reference.parse(corpus.name("old")), Depth(blobs=True))
    assert (contents.kind, contents.gone) == ("artifact", ())


def test_what_refers_to_an_image_is_read(corpus):
    (image, *_images) = two(corpus, "1")
    signature = corpus.artifact("signature", NOTATION, "application/jose+json", subject=image)
    corpus.index(image.digest.replace(":", "-"), {**signature.descriptor, "artifactType": NOTATION})
    (found,) = inspect({"name": corpus.name("1"), "details": True}, False, None)["index"]["referrers"]
    assert found == {
        "digest": signature.digest,
        "media_type": OCI_TYPES[1],
        "artifact_type": NOTATION,
        "size": signature.descriptor["size"],
        "annotations": {},
    }


def tools(**params):
    """Predict, do, and do again what buildx_imagetools is told; the last changes nothing."""
    predicted, real, again = (imagetools(params, check, None).as_result() for check in (True, False, False))
    assert predicted == real
    assert (again["changed"], again["diff"]["before"]) == (False, real["diff"]["after"])
    return real


def test_an_index_is_made_of_sources(corpus):
    amd, arm, more = (corpus.image(platform) for platform in (*BOTH, "linux/s390x"))
    about = {image.digest: corpus.attestation(image) for image in (amd, arm, more)}
    corpus.index("amd", amd, about[amd.digest])
    corpus.index("rest", more, arm, about[arm.digest], about[more.digest], annotations={"x": "y"})
    sources = [{"name": corpus.name("amd")}, {"name": corpus.name("rest"), "platforms": ["linux/arm64"]}]
    made = tools(sources=sources, tags=[corpus.name("all")], annotations={"a": True})
    index = inspect({"name": corpus.name("all")}, False, None)["index"]
    assert index["digest"] == made["image"]["digest"] and index["annotations"] == {"a": "true"}
    assert [one["digest"] for one in index["manifests"]] == [amd.digest, arm.digest]
    assert [one["digest"] for one in index["attestations"]] == [about[amd.digest].digest, about[arm.digest].digest]
    assert made["actions"] == [["push", corpus.name("all"), index["digest"]]]
    assert made["diff"] == {"before": {corpus.name("all"): None}, "after": {corpus.name("all"): index["digest"]}}
    # One platform that both have is no trouble as long as it is the same image.
    tools(sources=[{"name": corpus.name("amd")}, {"name": corpus.name("all")}], tags=[corpus.name("again")])


def test_of_a_manifest_for_several_platforms_one_may_be_taken(corpus):
    arm = corpus.image("linux/arm/v7")
    older = {**arm.descriptor, "platform": {"os": "linux", "architecture": "arm", "variant": "v6"}}
    about = corpus.attestation(arm)
    corpus.index("both", arm, older, about, corpus.image("linux/amd64"))
    tools(sources=[{"name": corpus.name("both"), "platforms": ["linux/arm/v6"]}], tags=[corpus.name("one")])
    index = inspect({"name": corpus.name("one")}, False, None)["index"]
    assert [(one["platform"], one["digest"]) for one in index["manifests"]] == [("linux/arm/v6", arm.digest)]
    assert [one["digest"] for one in index["attestations"]] == [about.digest]


def test_annotations_of_an_only_source_stay_unless_they_are_removed(corpus):
    corpus.index("1", corpus.image("linux/amd64"), annotations={"a": "b", "c": "d"})
    tools(
        sources=[{"name": corpus.name("1")}],
        tags=[corpus.name("2")],
        annotations={"c": None, "e": "f"},
        platform_annotations={"all": {"g": "h"}},
    )
    index = inspect({"name": corpus.name("2")}, False, None)["index"]
    assert index["annotations"] == {"a": "b", "e": "f"}
    assert index["manifests"][0]["annotations"] == {"g": "h"}


def test_docker_images_make_a_manifest_list_unless_annotations_need_an_index(corpus):
    two(corpus, "docker", DOCKER_TYPES)
    corpus.image("linux/s390x", tag="z", types=DOCKER_TYPES)
    sources = [{"name": corpus.name("docker")}, {"name": corpus.name("z")}]
    made = tools(sources=sources, tags=[corpus.name("list")])
    assert made["image"]["media_type"] == DOCKER_TYPES[0]
    made = tools(sources=sources, tags=[corpus.name("list")], annotations={"a": "b"})
    assert made["image"]["media_type"] == OCI_TYPES[0]


def test_a_copy_is_whole_before_its_tags_stand_for_it(corpus):
    (index, *children) = attested(corpus, "1")
    tags = [f"{OTHER}:1", f"{OTHER}:2", f"{FAR}:1", corpus.name("2")]
    del corpus.registries.log[:]
    copied = tools(sources=[{"name": corpus.name("1")}], tags=tags)
    assert [action[0] for action in copied["actions"]] == ["copy"] * 8 + ["push"] * 4
    assert copied["actions"][0] == ["copy", f"{REPOSITORY}@{children[0].digest}", OTHER]
    log = corpus.registries.log
    assert [line for line in log if "@" not in line] == [f"put {tag}" for tag in tags]
    for repository in (OTHER, FAR):
        of_it = [line for line in log if line.startswith(f"put {repository}")]
        assert len(of_it) == 4 + (2 if repository == OTHER else 1)
        assert all("@" in line for line in of_it[:4])
    wanted = {"digest": index.digest, "blobs": True, "provenance": {}, "sbom": True}
    verify({"images": [{"name": tag} for tag in tags], **wanted}, False, None)


def signed(corpus):
    """An image of two platforms with signatures of all kinds; returns what it consists of, and the tags of cosign's."""
    (index, *images) = two(corpus, "1")
    notation = corpus.artifact("signature", NOTATION, "application/jose+json", subject=index)
    about = corpus.artifact("about", NOTATION, "application/jose+json", subject=notation)
    for subject, signature in ((index, notation), (notation, about)):
        gone = {"mediaType": OCI_TYPES[1], "digest": GONE, "size": 1}
        corpus.index(subject.digest.replace(":", "-"), {**signature.descriptor, "artifactType": NOTATION}, gone)
    tags = [f"{image.digest.replace(':', '-')}.{kind}" for image, kind in ((index, "sig"), (images[1], "att"))]
    for number, tag in enumerate(tags):
        corpus.manifest(OCI_TYPES[1], {"config": {}, "layers": [corpus.blob(COSIGN, b"%d" % number)]}, tag)
    for tag in ("signature", "about"):
        corpus.registries.tags.pop((REPOSITORY, tag))
    return index, notation, about, tags


def test_what_refers_to_an_image_is_copied_if_asked_for(corpus):
    index, notation, about, tags = signed(corpus)
    source = [{"name": corpus.name("1")}]
    assert tools(sources=source, tags=[f"{OTHER}:1"])["referrers"] is None
    assert not [tag for repository, tag in corpus.registries.tags if repository == OTHER and tag != "1"]
    # Also where the tag stands for the image already.
    for tag in (f"{OTHER}:1", f"{FAR}:1", corpus.name("2")):
        del corpus.registries.log[:]
        copied = tools(sources=source, tags=[tag], referrers=True)
        assert [(one["subject"], one["digest"]) for one in copied["referrers"] if not one["tag"]] == [
            (index.digest, notation.digest),
            (notation.digest, about.digest),
        ]
        assert sorted(one["tag"] for one in copied["referrers"] if one["tag"]) == sorted(tags)
    assert [action[0] for action in copied["actions"]] == ["push"]
    for repository in (OTHER, FAR):
        kept = {tag: digest for (held, tag), digest in corpus.registries.tags.items() if held == repository}
        lists = [subject.digest.replace(":", "-") for subject in (index, notation)]
        assert set(kept) == {"1", *tags, *lists}
        assert all(kept[tag] == corpus.registries.tags[REPOSITORY, tag] for tag in ("1", *tags))
        name = Reference.parse(f"{repository}:1")
        for subject, signature in ((index, notation), (notation, about)):
            listed = json.loads(corpus.registries.referrers(name, subject.digest))["manifests"]
            assert [(one["digest"], one["artifactType"]) for one in listed] == [(signature.digest, NOTATION)]
            assert (repository, signature.digest) in corpus.registries.manifests


def test_a_registry_that_lists_by_itself_gets_no_list_as_a_tag(corpus, monkeypatch):
    index, notation, _about, _tags = signed(corpus)
    known, ask = corpus.registries.manifests, corpus.registries.referrers

    def listed(reference, digest, to_push=False):
        if reference.repository != FAR:
            return ask(reference, digest)
        held = {
            one.digest: json.loads(one.content) for (repository, _digest), one in known.items() if repository == FAR
        }
        about = [one for one, raw in held.items() if raw.get("subject", {}).get("digest") == digest]
        return json.dumps({"manifests": [{"digest": one} for one in about]}).encode()

    monkeypatch.setattr(corpus.registries, "referrers", listed)
    tools(sources=[{"name": corpus.name("1")}], tags=[f"{FAR}:1"], referrers=True)
    assert notation.digest in listed(Reference.parse(FAR), index.digest).decode()
    assert (FAR, index.digest.replace(":", "-")) not in corpus.registries.tags


def test_signatures_are_there_before_the_tag(corpus):
    signed(corpus)
    del corpus.registries.log[:]
    made = tools(sources=[{"name": corpus.name("1")}], tags=[f"{FAR}:1"], referrers=True)
    assert corpus.registries.log[-1] == f"put {FAR}:1"
    assert [action[0] for action in made["actions"]] == ["copy"] * 4 + ["push"] * 3
    key = f"referrers in {FAR}"
    assert (made["diff"]["before"][key], len(made["diff"]["after"][key])) == ([], 4)


def test_what_else_is_signed_there_stays(corpus):
    index, notation, _about, tags = signed(corpus)
    there = Corpus(corpus.registries, FAR)
    other = there.artifact("other", NOTATION, "application/x-other", subject=index)
    there.index(index.digest.replace(":", "-"), other)
    more = [there.blob(COSIGN, content) for content in (b"0", b"more")]
    sources = {"sources": [{"name": corpus.name("1")}], "tags": [f"{FAR}:1"], "referrers": True}
    # Everything of the source's and more.
    kept = there.manifest(OCI_TYPES[1], {"config": {}, "layers": more}, tags[0])
    tools(**sources)
    assert corpus.registries.tags[FAR, tags[0]] == kept.digest
    listed = json.loads(corpus.registries.referrers(there.repository, index.digest))["manifests"]
    assert [one["digest"] for one in listed] == [other.digest, notation.digest]
    # Less than that.
    there.manifest(OCI_TYPES[1], {"config": {}, "layers": []}, tags[0])
    there.manifest(OCI_TYPES[1], {"config": {}, "layers": more[1:]}, tags[1])
    del corpus.registries.log[:]
    with pytest.raises(FarmError, match=rf"{tags[1]}: it has what .* does not have, and lacks what that has"):
        imagetools(sources, False, None)
    assert corpus.registries.log == []


def test_of_what_is_made_anew_the_platforms_keep_their_signatures(corpus):
    _index, _notation, _about, tags = signed(corpus)
    made = tools(sources=[{"name": corpus.name("1")}], tags=[f"{FAR}:1"], annotations={"a": "b"}, referrers=True)
    assert [one["tag"] for one in made["referrers"]] == tags[1:]


@pytest.mark.parametrize("tag", ["single-docker", "notation", "cache-index", "cache-manifest", "helm"])
def test_anything_is_copied_as_it_is(corpus, tag):
    CASES[tag][0](corpus, tag)
    digest = inspect({"name": corpus.name(tag)}, False, None)["index"]["digest"]
    assert tools(sources=[{"name": corpus.name(tag)}], tags=[f"{FAR}:{tag}"])["image"]["digest"] == digest
    blobs = {digest for repository, digest in corpus.registries.blobs if repository == REPOSITORY}
    assert blobs == {digest for repository, digest in corpus.registries.blobs if repository == FAR}


def test_an_index_that_names_blobs_too_is_copied_with_them(corpus):
    blob = corpus.blob("application/x-own", b"own")
    corpus.index("1", corpus.image("linux/amd64"), blob)
    tools(sources=[{"name": corpus.name("1")}], tags=[f"{FAR}:1"])
    assert ("far.example.com/app", blob["digest"]) in corpus.registries.blobs


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tags": []}, "tags: none is given"),
        ({"tags": [f"{REPOSITORY}@{GONE}"]}, "has a digest, wanted"),
        ({"sources": []}, "sources: none is given"),
        ({"sources": [{"name": f"{REPOSITORY}:no"}]}, f"image {REPOSITORY}:no: the registry r.example.com has none"),
        ({"sources": [{"name": f"{REPOSITORY}:no"}], "annotations": {"a": 1}}, "has none of this name"),
        (
            {"sources": [{"name": f"{REPOSITORY}:1", "platforms": ["linux/s390x"]}]},
            f"image {REPOSITORY}:1: no image for linux/s390x (platforms found: linux/amd64",
        ),
        ({"sources": [{"name": f"{REPOSITORY}:1"}, {"name": f"{REPOSITORY}:2"}]}, "both have an image for linux/amd64"),
        ({"sources": [{"name": f"{REPOSITORY}:cache"}], "annotations": {"a": 1}}, "it is for no platform"),
        (
            {"platform_annotations": {"linux/s390x": {"a": "b"}, "all": {"c": "d"}}},
            "platform_annotations: the sources have no image for linux/s390x (platforms found: linux/amd64, linux/arm",
        ),
        ({"platform_annotations": {"linux/amd64": "x"}}, "linux/amd64 has 'x', wanted a dictionary"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_moves(corpus, options, words):
    two(corpus, "1")
    corpus.index("2", corpus.image("linux/amd64", "another"))
    CASES["cache-index"][0](corpus, "cache")
    del corpus.registries.log[:]
    params = {"sources": [{"name": corpus.name("1")}], "tags": [corpus.name("refused")], **options}
    with pytest.raises(FarmError) as caught:
        imagetools(params, False, None)
    assert words in caught.value.message
    assert corpus.registries.log == []


def test_what_the_source_has_lost_is_named_and_no_tag_moves(corpus):
    image = corpus.image("linux/amd64")
    corpus.index("1", image)
    corpus.registries.blobs.pop((REPOSITORY, image.blobs[1]))
    params = {"sources": [{"name": corpus.name("1")}], "tags": [f"{FAR}:1"]}
    with pytest.raises(FarmError, match=f"does not have {image.blobs[1]}; push it again"):
        imagetools(params, False, None)
    assert corpus.registries.tags.keys() == {(REPOSITORY, "1")}


@pytest.mark.parametrize("refuses", [set(), {"tags"}])
def test_a_tag_is_removed_and_nothing_else_that_stands_for_the_same(corpus, clock, refuses):
    (index, *_images) = two(corpus, "1")
    two(corpus, "2")
    corpus.registries.refuses = refuses
    removed = tools(state="absent", tags=[corpus.name("1"), corpus.name("never")])
    assert removed["actions"] == [["remove", corpus.name("1")]] and removed["image"] is None
    assert corpus.registries.tags == {(REPOSITORY, "2"): index.digest}
    assert corpus.registries.manifests[REPOSITORY, index.digest]


def test_a_registry_that_removes_nothing_keeps_the_tag(corpus):
    (index, *_images) = two(corpus, "1")
    corpus.registries.refuses = {"tags", "manifests"}
    with pytest.raises(FarmError, match=r"removes neither tags nor manifests .*UNSUPPORTED"):
        imagetools({"state": "absent", "tags": [corpus.name("1")]}, False, None)
    assert corpus.registries.tags == {(REPOSITORY, "1"): index.digest}


def test_a_tag_that_does_not_go_is_an_error(corpus, clock, monkeypatch):
    two(corpus, "1")
    monkeypatch.setattr(corpus.registries, "remove", lambda reference: True)
    with pytest.raises(FarmError, match=r"was removed, and stands for sha256:.* still"):
        imagetools({"state": "absent", "tags": [corpus.name("1")]}, False, None)


def test_an_image_is_promoted_once(corpus):
    (index, *_images) = attested(corpus, "1")
    source, targets = corpus.repository.at(index.digest), [Reference.parse(f"{FAR}:1"), Reference.parse(f"{OTHER}:1")]
    assert copy_image(corpus.registries, source, targets).moved == tuple(targets)
    assert copy_image(corpus.registries, source, targets).unchanged == tuple(targets)
    with pytest.raises(FarmError, match="has none of this name"):
        copy_image(corpus.registries, corpus.repository.at(GONE), targets)
    assert json.loads(corpus.registries.manifest(targets[0]).content)["manifests"]


def test_programs_are_examined_by_the_layers_where_no_engine_is(corpus):
    for tag, (platform, files, entrypoint, _said) in PROGRAMS.items():
        corpus.index(tag, corpus.image(platform, tag, files=files, config={"Entrypoint": entrypoint}))
    with pytest.raises(FarmError) as caught:
        verify({"images": [{"name": corpus.name(tag)} for tag in PROGRAMS], "programs": True}, False, None)
    for image, (tag, (platform, _files, _entrypoint, said)) in zip(caught.value.details["images"], PROGRAMS.items()):
        assert len(image["problems"]) == (1 if said else 0), (tag, image["problems"])
        assert said is None or (image["problems"][0].startswith(f"{platform}: ") and said in image["problems"][0])
    assert caught.value.details["images"][2]["platforms"][0]["programs"] == [{"path": "/app", "architecture": "arm64"}]
    assert caught.value.details["images"][2]["platforms"][0]["endpoint"] is None


def test_an_image_that_starts_nothing_has_no_wrong_programs(corpus):
    corpus.index("1", corpus.image("linux/arm64"), corpus.image("windows/amd64"))
    image = verify({"name": corpus.name("1"), "programs": True}, False, None)["image"]
    assert [one["programs"] for one in image["platforms"]] == [[], None]


def test_layers_that_cannot_be_read_are_named(corpus):
    image = corpus.image("linux/arm64", config={"Cmd": ["/app"]})
    corpus.index("1", image)
    blobs = corpus.registries.blobs
    blobs[REPOSITORY, image.blobs[1]] = b"(\xb5/\xfd of zstd, say"
    with pytest.raises(FarmError, match=r"linux/arm64: a layer cannot be read .*; name an engine"):
        verify({"name": corpus.name("1"), "programs": True}, False, None)
    del blobs[REPOSITORY, image.blobs[1]]
    with pytest.raises(FarmError, match=r"linux/arm64: the registry r\.example\.com does not have the layer"):
        verify({"name": corpus.name("1"), "programs": True}, False, None)
