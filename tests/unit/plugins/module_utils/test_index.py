# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker.reference import Reference
from ansible_collections.buildfarm.multiarch.plugins.module_utils._image.index import (
    Index,
    Manifest,
    image_size,
    read_index,
)
from ansible_collections.buildfarm.multiarch.plugins.module_utils._platform.platform import Platform
from ansible_collections.buildfarm.multiarch.plugins.module_utils._registry.model import Document
from ansible_collections.buildfarm.multiarch.tests.unit.documents import digest_of

FIXTURES = Path(__file__).parents[2] / "fixtures"
VERSIONS = ("buildx-0.13.1", "buildx-0.29.1")
AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")
APP = Reference.parse("registry.farm.test:5000/app:1")
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def parsed(text):
    return Index.parse(Document(digest_of(text.encode()), "", text.encode()))


def recorded(version, name):
    return (FIXTURES / version / name).read_text()


@pytest.mark.parametrize("version", VERSIONS)
def test_attestations_are_no_platforms(version):
    index = parsed(recorded(version, "imagetools-index-attested.json"))
    assert index.media_type == "application/vnd.oci.image.index.v1+json"
    assert index.platforms == (AMD64, ARM64)
    assert [entry.as_dict()["subject"] for entry in index.attestations] == [item.digest for item in index.manifests]
    assert {entry.as_dict()["type"] for entry in index.attestations} == {"attestation-manifest"}


@pytest.mark.parametrize("version", VERSIONS)
def test_a_single_manifest_has_its_platform_in_its_config(registries, version):
    manifest = recorded(version, "imagetools-manifest.json")
    config = "sha256:b57e7d6d283741f138acab50040fcbee66a46f2338c2ea7573a9a358071c818d"
    registries.documents = {str(APP): manifest, str(APP.at(config)): recorded(version, "imagetools-config.json")}
    index = read_index(registries, APP)
    assert (index.platforms, index.attestations) == ((ARM64,), ())
    assert index.manifests[0].digest == index.digest
    assert registries.asked == [str(APP), str(APP.at(config))]
    registries.documents = {str(APP.at(index.digest)): manifest}
    assert image_size(registries, APP, index.digest) == 748 + 1074318 + 105


@pytest.mark.parametrize(
    ("entry", "platforms", "others"),
    [
        ({"platform": {"os": "linux", "architecture": "arm64", "variant": "v8"}}, [ARM64], 0),
        ({"platform": {"os": "linux", "architecture": "arm"}}, [Platform("linux", "arm", "v7")], 0),
        ({"platform": {"os": "plan9", "architecture": "mips"}}, [Platform("plan9", "mips")], 0),
        ({"platform": {"os": "unknown", "architecture": "unknown"}}, [], 1),
        ({"artifactType": "application/vnd.example.signature", "platform": None}, [], 1),
        (
            {"platform": {"os": "linux", "architecture": "amd64"}, "annotations": {"vnd.docker.reference.type": "x"}},
            [],
            1,
        ),
    ],
)
def test_entries_of_an_index(entry, platforms, others):
    index = parsed(json.dumps({"manifests": [{"digest": "sha256:1", "size": 5, "mediaType": MANIFEST, **entry}]}))
    assert [item.platform for item in index.manifests] == platforms
    assert len(index.attestations) == others


def test_repeats_are_of_one_platform_and_version_of_windows():
    def entry(number, os, arch, version=None):
        platform = {"os": os, "architecture": arch, **({"os.version": version} if version else {})}
        return {"digest": f"sha256:{number}", "size": 5, "mediaType": MANIFEST, "platform": platform}

    index = parsed(
        json.dumps(
            {
                "manifests": [
                    entry(1, "linux", "amd64"),
                    entry(2, "windows", "amd64", "10.0.1"),
                    entry(3, "linux", "amd64"),
                    entry(4, "windows", "amd64", "10.0.2"),
                    entry(5, "linux", "arm64"),
                ]
            }
        )
    )
    assert index.repeated == {AMD64: ("sha256:1", "sha256:3")}
    assert index.platforms == (AMD64, Platform("windows", "amd64"), ARM64)


def test_an_index_as_it_is_returned():
    attestation = {"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": "sha256:1"}
    entries = [
        {
            "digest": "sha256:1",
            "size": 5,
            "platform": {"os": "linux", "architecture": "arm64"},
            "annotations": {"a": "b"},
        },
        {"digest": "sha256:2", "size": 6, "mediaType": MANIFEST, "annotations": attestation},
    ]
    index = parsed(json.dumps({"manifests": entries, "annotations": {"c": "d"}}))
    assert index.as_dict() == {
        "digest": index.digest,
        "media_type": "application/vnd.oci.image.index.v1+json",
        "annotations": {"c": "d"},
        "manifests": [
            {
                "platform": "linux/arm64",
                "digest": "sha256:1",
                "size": 5,
                "media_type": MANIFEST,
                "annotations": {"a": "b"},
            }
        ],
        "attestations": [
            {
                "type": "attestation-manifest",
                "subject": "sha256:1",
                "digest": "sha256:2",
                "size": 6,
                "media_type": MANIFEST,
                "annotations": attestation,
            }
        ],
        "others": [],
    }


@pytest.mark.parametrize("body", [{"manifests": []}, {"config": {}, "layers": []}])
def test_the_media_type_is_the_documents_own_before_the_servers(body):
    usual = MANIFEST if "config" in body else "application/vnd.oci.image.index.v1+json"
    for own, sent, expected in (("a", "b", "a"), ("a", "", "a"), (None, "b", "b"), (None, "", usual)):
        text = json.dumps({**body, **({"mediaType": own} if own else {})}).encode()
        assert Index.parse(Document(digest_of(text), sent, text)).media_type == expected


def test_a_single_manifests_size_is_its_own():
    text = json.dumps({"config": {}, "layers": []})
    assert parsed(text).manifests == (Manifest(digest_of(text.encode()), len(text), MANIFEST),)


def test_sizes_of_images_with_parts_of_unknown_size(registries):
    registries.documents[str(APP.at("sha256:1"))] = '{"config": {"size": 5}, "layers": [{"size": 7}, {}]}'
    registries.documents[str(APP.at("sha256:2"))] = '{"layers": null}'
    assert [image_size(registries, APP, digest) for digest in ("sha256:1", "sha256:2")] == [12, 0]


@pytest.mark.parametrize("raw", ['{"config": {}}', '{"layers": []}', '{"config": [], "layers": []}'])
def test_half_a_manifest_is_none(raw):
    with pytest.raises(FarmError, match="is neither an image index nor a manifest"):
        parsed(raw)


@pytest.mark.parametrize("raw", ["<html>", "[]", "{}", '{"manifests": null, "fsLayers": []}'])
def test_what_is_no_image_is_an_error_that_names_it(registries, raw):
    registries.documents = {str(APP): raw}
    with pytest.raises(FarmError, match=r"image registry\.farm\.test:5000/app:1: "):
        read_index(registries, APP)


#: Media types of entries of indexes that are no images: of BuildKit's cache, an index, an image as before Docker 1.10.
NO_IMAGES = [
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.buildkit.cacheconfig.v0",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
]


def test_entries_that_are_no_images_are_listed_apart_and_not_fetched(registries):
    entries = [
        {"mediaType": media_type, "digest": f"sha256:{number}", "size": 975, "annotations": {"buildkit/createdat": "x"}}
        for number, media_type in enumerate(NO_IMAGES)
    ]
    registries.documents = {str(APP): json.dumps({"manifests": entries})}
    index = read_index(registries, APP)
    assert (index.platforms, index.manifests, index.attestations) == ((), (), ())
    assert [entry.media_type for entry in index.others] == NO_IMAGES
    assert index.as_dict()["others"][0]["annotations"] == {"buildkit/createdat": "x"}
    assert registries.asked == [str(APP)]


@pytest.mark.parametrize(
    "change",
    [
        {"config": {"mediaType": "application/vnd.buildkit.cacheconfig.v0", "digest": "sha256:c"}},
        {"config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": "sha256:c"}},
        {"artifactType": "application/vnd.dev.cosign.artifact.sig.v1+json"},
    ],
)
def test_an_artifact_has_no_platform_and_its_config_is_not_fetched(registries, change):
    manifest = {"config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": "sha256:c"}, "layers": []}
    registries.documents = {str(APP): json.dumps({**manifest, **change})}
    index = read_index(registries, APP)
    assert (index.manifests, len(index.attestations)) == ((), 1)
    assert registries.asked == [str(APP)]


def test_a_missing_image_is_no_failure_but_a_missing_part_of_one_is(registries):
    assert read_index(registries, APP) is None
    with pytest.raises(FarmError, match="its index names sha256:1, which the registry does not have; push it again"):
        image_size(registries, APP, "sha256:1")
