# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._image.compose import Part, compose
from ansible_collections.buildfarm.multiarch.plugins.module_utils._platform.platform import Platform
from ansible_collections.buildfarm.multiarch.plugins.module_utils._registry.model import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
    Document,
    digest_of,
)

RECORDED = Path(__file__).parents[2] / "fixtures/buildx-0.13.1"
AMD64, ARM64, ARM = Platform("linux", "amd64"), Platform("linux", "arm64"), Platform("linux", "arm", "v7")
ORDER = (ARM64, AMD64, ARM)
#: How the recorded index was annotated.
ANNOTATIONS, OF_ENTRIES = {"org.x": "<a> & é"}, {ARM64: {"k": "v"}}


def document(content, media_type=OCI_INDEX):
    return Document(digest_of(content), media_type, content)


def recorded(name="index-of-one-node.json"):
    return (RECORDED / name).read_bytes()


def pushed(*platforms, content=None, media_type=OCI_INDEX):
    """What a node pushes that builds these platforms of the recorded image, without what only the whole has."""
    whole = json.loads(content or recorded())
    names = [str(platform) for platform in platforms]
    images = [
        {key: value for key, value in entry.items() if key != "annotations"}
        for entry in whole["manifests"]
        if "/".join(entry["platform"][key] for key in ("os", "architecture", "variant") if key in entry["platform"])
        in names
    ]
    images.sort(key=lambda entry: [platform.arch for platform in platforms].index(entry["platform"]["architecture"]))
    digests = [entry["digest"] for entry in images]
    subjects = {entry.get("annotations", {}).get("vnd.docker.reference.digest"): entry for entry in whole["manifests"]}
    attestations = [subjects[digest] for digest in digests if digest in subjects]
    of_part = {"schemaVersion": 2, "mediaType": media_type, "manifests": images + attestations}
    return Part(document(json.dumps(of_part).encode(), media_type), platforms)


def single(platform, media_type=OCI_MANIFEST, **more):
    raw = {"mediaType": media_type, "config": {"digest": f"sha256:{platform.arch}"}, "layers": []}
    return Part(document(json.dumps(raw).encode(), media_type), (platform,), **more)


def shown(composed):
    return [str(entry.platform) if entry.platform else "attestation" for entry in composed.entries]


@pytest.mark.parametrize(
    "split", [[(ARM64,), (AMD64,), (ARM,)], [(ARM,), (AMD64, ARM64)], [(ARM, ARM64, AMD64)], [(AMD64,), (ARM64, ARM)]]
)
def test_the_nodes_index_is_byte_by_byte_that_of_one_node(split):
    composed = compose([pushed(*platforms) for platforms in split], ORDER, ANNOTATIONS, OF_ENTRIES)
    assert composed.content.decode() == recorded().decode()
    assert (composed.digest, composed.media_type) == (digest_of(recorded()), OCI_INDEX)
    assert shown(composed) == ["linux/arm64", "linux/amd64", "linux/arm/v7", *["attestation"] * 3]
    assert list(composed.children) == [entry["digest"] for entry in json.loads(recorded())["manifests"]]
    assert dict(composed.entries[0].annotations) == {"k": "v"}


def test_a_docker_list_is_byte_by_byte_that_of_one_node():
    whole = recorded("docker-list-of-one-node.json")
    parts = [pushed(platform, content=whole, media_type=DOCKER_LIST) for platform in (ARM64, AMD64)]
    composed = compose(parts, (AMD64, ARM64), docker_types=True)
    assert (composed.content, composed.media_type) == (whole, DOCKER_LIST)


def test_one_nodes_index_keeps_its_bytes_where_nothing_is_added():
    part = pushed(AMD64, ARM64)  # in one line, as BuildKit does not write it
    composed = compose([part], (AMD64, ARM64))
    assert (composed.content, composed.digest) == (part.document.content, part.document.digest)
    assert compose([part], (ARM64, AMD64)).digest != part.document.digest
    assert compose([part], (AMD64, ARM64), ANNOTATIONS).digest != part.document.digest


def test_one_manifest_may_be_for_several_platforms():
    """As `docker manifest annotate` makes it of an image that runs on both."""
    older = Platform("linux", "arm", "v6")
    of_arm = {"mediaType": OCI_MANIFEST, "digest": f"sha256:{'a' * 64}", "size": 5}
    listed = [
        {**of_arm, "platform": {"architecture": "arm", "os": "linux", "variant": variant}} for variant in ("v7", "v6")
    ]
    raw = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed}).encode()
    composed = compose([Part(document(raw), (ARM, older))], (older, ARM), ANNOTATIONS)
    assert [one["platform"]["variant"] for one in json.loads(composed.content)["manifests"]] == ["v6", "v7"]


def test_a_single_manifest_stays_what_it_is():
    part = single(ARM)
    composed = compose([part], (ARM,))
    assert (composed.media_type, composed.content) == (OCI_MANIFEST, part.document.content)
    assert composed.digest == part.document.digest
    assert composed.children == (part.document.digest,)
    assert shown(composed) == ["linux/arm/v7"]


@pytest.mark.parametrize(
    "annotations", [{"index_annotations": {"a": "b"}}, {"descriptor_annotations": {ARM: {"a": "b"}}}]
)
def test_a_single_manifest_that_an_index_has_to_annotate_gets_one(annotations):
    part = single(ARM)
    composed = compose([part], (ARM,), **annotations)
    found = json.loads(composed.content)
    (entry,) = found["manifests"]
    assert (composed.media_type, composed.children) == (OCI_INDEX, (part.document.digest,))
    assert (entry["digest"], entry["size"]) == (part.document.digest, len(part.document.content))
    assert entry["platform"] == {"architecture": "arm", "os": "linux", "variant": "v7"}
    assert [found.get("annotations"), entry.get("annotations")].count({"a": "b"}) == 1


def test_single_manifests_become_an_index():
    windows = Platform("windows", "amd64")
    composed = compose([single(AMD64), single(windows, os_version="10.0.20348.1")], (windows, AMD64))
    platforms = [entry["platform"] for entry in json.loads(composed.content)["manifests"]]
    assert platforms == [
        {"architecture": "amd64", "os": "windows", "os.version": "10.0.20348.1"},
        {"architecture": "amd64", "os": "linux"},
    ]
    again = compose([single(windows, os_version="10.0.20348.1"), single(AMD64)], (windows, AMD64))
    assert again.content == composed.content


def test_annotations_for_every_entry_and_for_one():
    declared = {None: {"b": "all", "a": "all"}, AMD64: {"b": "one"}}
    composed = compose([pushed(AMD64), pushed(ARM64)], (AMD64, ARM64), descriptor_annotations=declared)
    images = json.loads(composed.content)["manifests"][:2]
    assert [list(entry["annotations"].items()) for entry in images] == [
        [("a", "all"), ("b", "one")],
        [("a", "all"), ("b", "all")],
    ]
    attestations = [dict(entry.annotations) for entry in composed.entries[2:]]
    assert not [entry for entry in attestations if "a" in entry]


@pytest.mark.parametrize(
    ("parts", "platforms", "words"),
    [
        ([(AMD64,)], (AMD64, ARM64), "linux/arm64 is missing"),
        ([(AMD64, ARM64)], (AMD64,), "linux/arm64 is not wanted"),
        ([(AMD64,), (AMD64, ARM64)], (AMD64, ARM64), "linux/amd64 is there 2 times"),
    ],
)
def test_an_image_that_is_not_whole_is_refused(parts, platforms, words):
    with pytest.raises(FarmError, match=words):
        compose([pushed(*one) for one in parts], platforms)


def entry(**change):
    platform = {"os": "linux", "architecture": "amd64"}
    return {"mediaType": OCI_MANIFEST, "digest": "sha256:1", "size": 5, "platform": platform, **change}


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([entry(mediaType=OCI_INDEX)], "wanted manifests only"),
        (
            [
                entry(),
                entry(
                    digest="sha256:2",
                    annotations={"vnd.docker.reference.digest": "sha256:3", "vnd.docker.reference.type": "x"},
                ),
            ],
            "sha256:2: neither an image",
        ),
        ([entry(), entry(digest="sha256:2", platform=None)], "sha256:2: neither an image"),
    ],
)
def test_what_no_build_makes_is_refused(entries, words):
    content = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode()
    with pytest.raises(FarmError, match=words):
        compose([Part(document(content), (AMD64,))], (AMD64,))


def test_a_manifest_without_a_platform_is_refused():
    with pytest.raises(FarmError, match="for no platform"):
        compose([Part(single(AMD64).document, ())], (AMD64,))


@pytest.mark.parametrize(
    "annotations", [{"index_annotations": {"a": "b"}}, {"descriptor_annotations": {None: {"a": "b"}}}]
)
def test_docker_media_types_have_no_annotations(annotations):
    with pytest.raises(FarmError, match="need OCI media types"):
        compose([single(AMD64, DOCKER_MANIFEST)], (AMD64,), docker_types=True, **annotations)


def test_a_docker_list_has_docker_manifests_only():
    parts = [single(AMD64, DOCKER_MANIFEST), single(ARM64)]
    with pytest.raises(FarmError, match=r"is application/vnd\.oci\.image\.manifest.*provenance: false"):
        compose(parts, (AMD64, ARM64), docker_types=True)
    composed = compose([parts[0]], (AMD64,), docker_types=True)
    assert composed.media_type == DOCKER_MANIFEST
