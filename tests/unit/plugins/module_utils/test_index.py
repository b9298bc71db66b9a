# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._buildx import Buildx
from ansible_collections.buildfarm.multiarch.plugins.module_utils._errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._index import (
    Index,
    RegistryRefused,
    fetch,
    image_size,
    read_index,
)
from ansible_collections.buildfarm.multiarch.plugins.module_utils._platforms import Platform
from ansible_collections.buildfarm.multiarch.plugins.module_utils._reference import Reference
from ansible_collections.buildfarm.multiarch.plugins.module_utils._runner import Result

FIXTURES = Path(__file__).parents[2] / "fixtures"
VERSIONS = ("buildx-0.13.1", "buildx-0.29.1")
AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")
APP = Reference.parse("registry.farm.test:5000/app:1")
SECURE = Reference.parse("registry.farm.test:5443/app:1")


class Registry:
    """Answers ``imagetools inspect --raw`` from a table; notes what it was asked for."""

    def __init__(self, documents):
        self.documents = documents
        self.asked = []

    def __call__(self, argv, **_options):
        assert argv[:5] == ["docker", "buildx", "imagetools", "inspect", "--raw"]
        self.asked.append(argv[5:])
        text = self.documents.get(argv[-1])
        if text is None:
            return Result(tuple(argv), 1, "", f"ERROR: {argv[-1]}: not found\n")
        return Result(tuple(argv), 0, text, "")


def failing(words):
    return Buildx(lambda argv, **_options: Result(tuple(argv), 1, "", words))


def recorded(version, name):
    return (FIXTURES / version / name).read_text()


@pytest.mark.parametrize("version", VERSIONS)
def test_attestations_are_no_platforms(version):
    index = Index.parse(recorded(version, "imagetools-index-attested.json").encode())
    assert index.media_type == "application/vnd.oci.image.index.v1+json"
    assert index.platforms == (AMD64, ARM64)
    assert [entry.as_dict()["subject"] for entry in index.attestations] == [item.digest for item in index.manifests]
    assert {entry.as_dict()["type"] for entry in index.attestations} == {"attestation-manifest"}


@pytest.mark.parametrize("version", VERSIONS)
def test_a_single_manifest_has_its_platform_in_its_config(version):
    manifest = recorded(version, "imagetools-manifest.json")
    config = "sha256:b57e7d6d283741f138acab50040fcbee66a46f2338c2ea7573a9a358071c818d"
    registry = Registry({str(APP): manifest, str(APP.at(config)): recorded(version, "imagetools-config.json")})
    index = read_index(Buildx(registry), APP, "farm")
    assert (index.platforms, index.attestations) == ((ARM64,), ())
    assert index.manifests[0].digest == index.digest
    assert registry.asked == [["--builder", "farm", str(APP)], ["--builder", "farm", str(APP.at(config))]]
    documents = Registry({str(APP.at(index.digest)): manifest})
    assert image_size(Buildx(documents), APP, index.digest, None) == 748 + 1074318 + 105


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
    document = {"manifests": [{"digest": "sha256:1", "size": 5, "mediaType": "m", **entry}]}
    index = Index.parse(repr(document).replace("'", '"').replace("None", "null").encode())
    assert [item.platform for item in index.manifests] == platforms
    assert len(index.attestations) == others


@pytest.mark.parametrize("raw", [b"<html>", b"[]", b"{}", b'{"manifests": null, "fsLayers": []}'])
def test_what_is_no_image_is_an_error_that_names_it(raw):
    with pytest.raises(FarmError, match=r"image registry\.farm\.test:5000/app:1: "):
        read_index(Buildx(Registry({str(APP): raw.decode()})), APP, None)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("file", "reference", "kind", "words"),
    [
        (
            "imagetools-no-password.txt",
            SECURE,
            RegistryRefused,
            "registry registry.farm.test:5443 refused the credentials",
        ),
        ("imagetools-wrong-password.txt", SECURE, RegistryRefused, "401 Unauthorized; log in with docker login"),
        ("imagetools-plain-http.txt", APP, FarmError, "registry registry.farm.test:5000 speaks plain HTTP"),
        ("imagetools-unknown-builder.txt", APP, FarmError, 'no builder "farm" found; declare it'),
        ("imagetools-unknown-authority.txt", SECURE, FarmError, "add the registry's CA to the controller's trusted"),
        ("imagetools-unreachable.txt", APP, FarmError, "could not be asked: .*connection refused"),
    ],
)
def test_failures_say_what_to_do(version, file, reference, kind, words):
    with pytest.raises(kind, match=words) as caught:
        fetch(failing(recorded(version, file)), reference, "farm")
    assert caught.value.details["rc"] == 1


@pytest.mark.parametrize("version", VERSIONS)
def test_a_missing_image_is_no_failure(version):
    missing = Reference.parse("registry.farm.test:5000/app:nope")
    assert fetch(failing(recorded(version, "imagetools-missing.txt")), missing, "farm") is None
    with pytest.raises(FarmError):
        fetch(failing("ERROR: registry.farm.test:5000/other:nope2: not found"), missing, "farm")
