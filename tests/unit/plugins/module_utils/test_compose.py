# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Indexes of what several nodes have pushed, and the tags that are let stand for them."""

from __future__ import annotations

import dataclasses
import json

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker.reference import Reference
from ansible_collections.buildfarm.multiarch.plugins.module_utils._image.compose import Part, compose
from ansible_collections.buildfarm.multiarch.plugins.module_utils._image.index import Index
from ansible_collections.buildfarm.multiarch.plugins.module_utils._image.publish import publish
from ansible_collections.buildfarm.multiarch.plugins.module_utils._platform.platform import Platform
from ansible_collections.buildfarm.multiarch.plugins.module_utils._registry.auth import RegistryRefused
from ansible_collections.buildfarm.multiarch.plugins.module_utils._registry.model import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
    Document,
    digest_of,
)

AMD64, ARM64, ARM7 = Platform("linux", "amd64"), Platform("linux", "arm64"), Platform("linux", "arm", "v7")
ONE, LATEST = Reference.parse("r.example.com/app:1"), Reference.parse("r.example.com/app:latest")
OTHER = Reference.parse("r.example.com/other:1")


def single(platform, media_type=OCI_MANIFEST):
    """What a node has pushed of one platform."""
    content = json.dumps({"mediaType": media_type, "config": {"digest": f"c-{platform}"}, "layers": []}).encode()
    document = Document(digest_of(content), media_type, content)
    index = Index.parse(document)
    return Part(
        document, dataclasses.replace(index, manifests=(dataclasses.replace(index.manifests[0], platform=platform),))
    )


def attested(*platforms):
    """What a node has pushed of platforms with attestations."""
    images = [
        {
            "mediaType": OCI_MANIFEST,
            "digest": f"sha256:{platform.arch}",
            "size": 5,
            "platform": {"architecture": platform.arch, "os": "linux"},
        }
        for platform in platforms
    ]
    attestations = [
        {
            "mediaType": OCI_MANIFEST,
            "digest": f"sha256:about-{platform.arch}",
            "size": 6,
            "annotations": {
                "vnd.docker.reference.digest": f"sha256:{platform.arch}",
                "vnd.docker.reference.type": "attestation-manifest",
            },
            "platform": {"architecture": "unknown", "os": "unknown"},
        }
        for platform in platforms
    ]
    content = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": images + attestations}).encode()
    document = Document(digest_of(content), OCI_INDEX, content)
    return Part(document, Index.parse(document))


def test_what_one_node_has_pushed_stays_as_it_is():
    for part, platforms in ((single(AMD64), [AMD64]), (attested(AMD64, ARM64), [AMD64, ARM64])):
        composed = compose([part], platforms)
        assert composed.document == part.document
    assert compose([single(AMD64)], [AMD64]).children == ()
    assert compose([attested(AMD64)], [AMD64]).children == ("sha256:amd64", "sha256:about-amd64")


def test_the_parts_of_several_nodes_become_one_index_in_the_declared_order():
    arm7, amd64 = single(ARM7), single(AMD64)
    composed = compose([arm7, amd64], [AMD64, ARM7])
    raw = json.loads(composed.document.content)
    assert (raw["schemaVersion"], raw["mediaType"], composed.document.media_type) == (2, OCI_INDEX, OCI_INDEX)
    assert raw["manifests"] == [
        {
            "mediaType": OCI_MANIFEST,
            "digest": amd64.document.digest,
            "size": len(amd64.document.content),
            "platform": {"architecture": "amd64", "os": "linux"},
        },
        {
            "mediaType": OCI_MANIFEST,
            "digest": arm7.document.digest,
            "size": len(arm7.document.content),
            "platform": {"architecture": "arm", "os": "linux", "variant": "v7"},
        },
    ]
    assert composed.document.digest == digest_of(composed.document.content)
    assert composed.platforms == {AMD64: amd64.document.digest, ARM7: arm7.document.digest}
    assert composed.children == (amd64.document.digest, arm7.document.digest)
    assert compose([amd64, arm7], [AMD64, ARM7]) == composed, "the order of the nodes does not count"


def test_attestations_come_after_the_images():
    composed = compose([attested(AMD64), attested(ARM64)], [ARM64, AMD64])
    entries = json.loads(composed.document.content)["manifests"]
    assert [entry["digest"] for entry in entries] == [
        "sha256:arm64",
        "sha256:amd64",
        "sha256:about-amd64",
        "sha256:about-arm64",
    ]
    assert entries[3]["annotations"]["vnd.docker.reference.digest"] == "sha256:arm64"
    assert composed.platforms == {ARM64: "sha256:arm64", AMD64: "sha256:amd64"}
    assert len(composed.children) == 4


def test_annotations_of_the_index_and_of_descriptors():
    descriptors = [(None, "all", "x"), (AMD64, "own", "y")]
    composed = compose([attested(AMD64), attested(ARM64)], [AMD64, ARM64], [("b", "2"), ("a", "1")], descriptors)
    raw = json.loads(composed.document.content)
    assert list(raw["annotations"].items()) == [("a", "1"), ("b", "2")]
    assert [entry.get("annotations") for entry in raw["manifests"][:2]] == [{"all": "x", "own": "y"}, {"all": "x"}]
    assert list(raw["manifests"][0]) == ["mediaType", "digest", "size", "annotations", "platform"]
    # A manifest cannot carry those of an index.
    assert compose([single(AMD64)], [AMD64], [("a", "1")]).document.media_type == OCI_INDEX


def test_dockers_media_types_have_no_place_for_annotations():
    parts = [single(AMD64, DOCKER_MANIFEST), single(ARM64, DOCKER_MANIFEST)]
    assert compose(parts, [AMD64, ARM64]).document.media_type == DOCKER_LIST
    with pytest.raises(FarmError, match="leave oci-mediatypes=false out"):
        compose(parts, [AMD64, ARM64], [("a", "1")])
    with pytest.raises(FarmError, match="leave oci-mediatypes=false out"):
        compose(parts, [AMD64, ARM64], [], [(AMD64, "a", "1")])


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ([single(AMD64)], "linux/arm64 is missing"),
        ([single(AMD64), attested(AMD64, ARM64)], "linux/amd64 is there twice"),
        ([attested(AMD64, ARM64), single(ARM7)], "linux/arm/v7 is not wanted"),
    ],
)
def test_platforms_are_those_that_were_asked_for(parts, words):
    with pytest.raises(FarmError, match=f"what the nodes pushed is not what was asked for: {words}$"):
        compose(parts, [AMD64, ARM64])


class Registry:
    """A registry; what is asked of it is noted."""

    def __init__(self, *there):
        self.digests = {str(one): one.digest for one in there}
        self.log = []
        self.broken = {}

    def digest(self, reference):
        if str(reference) in self.broken.get("HEAD", ()):
            raise RegistryRefused("registry r refused")
        return self.digests.get(str(reference))

    def write(self, reference, media_type, content):
        self.log.append(f"PUT {reference}")
        if str(reference) in self.broken.get("PUT", ()):
            raise FarmError("registry r did not take it")
        self.digests[str(reference)] = self.broken.get("instead", digest_of(content))
        return digest_of(content)


COMPOSED = compose([attested(AMD64), attested(ARM64)], [AMD64, ARM64])


def complete(*tags):
    return Registry(*(tag.at(child) for tag in tags for child in COMPOSED.children))


def test_each_tag_is_written_once_and_only_where_it_stands_for_something_else():
    registry = complete(ONE)
    assert publish(registry, [ONE, LATEST], COMPOSED).moved == (ONE, LATEST)
    assert registry.log == [f"PUT {ONE}", f"PUT {LATEST}"]
    published = publish(registry, [ONE, LATEST], COMPOSED)
    assert (published.moved, published.unchanged, len(registry.log)) == ((), (ONE, LATEST), 2)
    registry.digests[str(LATEST)] = "sha256:of-someone-else"
    assert publish(registry, [ONE, LATEST], COMPOSED).moved == (LATEST,)


def test_no_tag_moves_where_a_part_is_gone_from_one_of_the_repositories():
    registry = complete(ONE, OTHER)
    del registry.digests[str(OTHER.at("sha256:about-arm64"))]
    with pytest.raises(FarmError, match=r"r\.example\.com/other@sha256:about-arm64, pushed a moment ago, is gone"):
        publish(registry, [ONE, OTHER], COMPOSED)
    assert registry.log == []


@pytest.mark.parametrize(
    ("there", "tags", "words"),
    [
        ([], [ONE, LATEST], f"now: {ONE}; not yet: {LATEST}; a new run finishes that"),
        ([], [LATEST, ONE], f"now: none; not yet: {LATEST}, {ONE}; a new run finishes that"),
        ([ONE], [ONE, LATEST], f"now: {ONE}; not yet: {LATEST}; a new run finishes that"),
    ],
)
def test_a_failure_says_which_tags_stand_for_the_image(there, tags, words):
    registry = complete(ONE)
    registry.digests.update({str(tag): COMPOSED.document.digest for tag in there})
    registry.broken = {"PUT": [str(LATEST)]}
    with pytest.raises(FarmError, match=f"^registry r did not take it; tags that stand for .* {words}$"):
        publish(registry, tags, COMPOSED)


def test_a_tag_is_read_back():
    registry = complete(ONE)
    registry.broken = {"instead": "sha256:other"}
    with pytest.raises(FarmError, match=r"stands for sha256:other; does something else push to the same name\?"):
        publish(registry, [ONE], COMPOSED)


def test_a_registry_that_says_only_to_those_who_push_what_is_not_there():
    registry = complete(ONE)
    registry.broken = {"HEAD": [str(ONE)]}
    with pytest.raises(RegistryRefused):
        publish(registry, [ONE], COMPOSED)
    assert registry.log == [f"PUT {ONE}"], "it was written all the same"
