# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""buildx_imagetools_info on what buildx 0.13 and 0.29 themselves pushed, and on what is no image."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

import registry
from ansible_runs import shell, task
from building import AMD, BUILDER, CONTROLLERS, ONE_NODE, PLATFORMS, BuildFarm

FILES = "FROM scratch\nARG TARGETARCH\nCOPY note /note-$TARGETARCH\n"


def read(images: BuildFarm, on: str, name: str, **options: Any) -> dict[str, Any]:
    """Run the module."""
    full = f"{images.repository}/{name}"
    return images.farm.module(on, "buildx_imagetools_info", name=full, builder=BUILDER, **options)


#: Tag, options of the build, and the number of attestations that it leads to.
PUSHED: list[tuple[str, dict[str, Any], int]] = [
    ("plain", {"platforms": PLATFORMS}, 0),
    ("attested", {"platforms": PLATFORMS, "provenance": "mode=max"}, 2),
    ("single", {"platforms": PLATFORMS[1:]}, 0),
    ("single-attested", {"platforms": PLATFORMS[1:], "provenance": "true"}, 1),
]


@pytest.mark.parametrize("on", CONTROLLERS)
def test_what_was_pushed_is_read(images: BuildFarm, on: str) -> None:
    context = images.context(on, "files", FILES, note="text")
    name = f"{images.repository}/{on}"
    read = [
        task("buildx_imagetools_info", name=f"{name}:{tag}", builder=BUILDER, query="manifests[].platform")
        for tag, _options, _count in PUSHED
    ]
    build = [
        task("buildx_build", builder=BUILDER, context=context, tags=[f"{name}:{tag}"], push=True, **options)
        for tag, options, _count in PUSHED
    ]
    results = images.farm.tasks(on, *build, *read)
    digests = []
    for (tag, options, attestations), built, found in zip(PUSHED, results, results[len(PUSHED) :]):
        assert (found["exists"], found["changed"], found["result"]) == (True, False, options["platforms"])
        index, image = found["index"], built["image"]
        assert (index["name"], index["digest"]) == (f"{name}:{tag}", image["digest"])
        assert [item["digest"] for item in index["manifests"]] == [item["digest"] for item in image["platforms"]]
        assert [item["type"] for item in index["attestations"]] == ["attestation-manifest"] * attestations
        subjects = {item["digest"] for item in index["manifests"]} if attestations else set()
        assert {item["subject"] for item in index["attestations"]} == subjects
        digests.append(index["manifests"][-1]["digest"])
    by_digest = [task("buildx_imagetools_info", name=f"{name}@{digest}", builder=BUILDER) for digest in digests]
    for found in images.farm.tasks(on, *by_digest):
        assert [item["platform"] for item in found["index"]["manifests"]] == ["linux/arm64"]


@pytest.mark.parametrize("on", CONTROLLERS)
def test_a_missing_image_is_no_failure_but_a_registry_out_of_reach_is(images: BuildFarm, on: str) -> None:
    missing = read(images, on, "nowhere:1", query="digest")
    assert (missing["exists"], missing["index"], missing["result"]) == (False, None, None)
    cases = [
        (
            {"name": f"{images.registry}/x"},
            f"registry {images.registry} could not be asked for x/manifests/latest: it speaks plain HTTP",
        ),
        ({"name": "mid1:9/x", "builder": BUILDER}, "registry mid1:9 could not be asked"),
        (
            {"name": f"{images.farm.secure_registry}/x"},
            "name its authority in engine_registry_authorities",
        ),
        ({"name": "x", "builder": "nobody"}, 'no builder "nobody" found'),
        ({"name": "X"}, "image name 'X': wanted"),
        ({"name": "x", "query": "]["}, "query '][' is not a JMESPath expression"),
    ]
    messages = images.refusals(on, "buildx_imagetools_info", [options for options, _words in cases])
    for message, (_options, words) in zip(messages, cases, strict=True):
        assert words in message


@pytest.mark.parametrize("on", CONTROLLERS)
def test_a_cache_in_a_registry_is_no_image(images: BuildFarm, on: str) -> None:
    context = images.context(on, "files", FILES, note="text")
    name = f"{images.repository}/cache"
    cached = [
        shell(
            f"docker buildx build --builder {ONE_NODE} --platform linux/amd64 {context}"
            f" --cache-to type=registry,mode=max,ref={name}:{manifest},image-manifest={manifest},oci-mediatypes=true"
        )
        for manifest in ("false", "true")
    ]
    look = [
        task("buildx_imagetools_info", name=f"{name}:{manifest}", builder=BUILDER) for manifest in ("false", "true")
    ]
    *_built, index, manifest = images.farm.tasks(on, *cached, *look)
    layers = [item["media_type"] for item in index["index"].pop("others")]
    assert layers[-1] == "application/vnd.buildkit.cacheconfig.v0" and "layer" in layers[0]
    assert (index["exists"], index["index"]["manifests"], index["index"]["attestations"]) == (True, [], [])
    found = manifest["index"]
    assert (found["manifests"], found["others"]) == ([], [])
    assert [item["digest"] for item in found["attestations"]] == [found["digest"]]


@pytest.mark.parametrize("on", CONTROLLERS)
def test_a_private_authority_is_that_of_the_builder_and_credentials_those_of_docker_login(
    images: BuildFarm, on: str
) -> None:
    ssh, secure = images.farm.ssh, images.farm.secure_registry
    context = images.context(on, "files", FILES, note="text")
    name = f"{images.repository}/secure:1"
    built = images.build(on, builder=BUILDER, context=context, platforms=PLATFORMS, tags=[name], push=True)
    login = base64.b64encode(f"{registry.USER}:{registry.PASSWORD}".encode()).decode()
    authority = (images.farm.farm.directory / "registry/farm/certificate.pem").read_text()
    try:
        ssh(on, "mkdir -p /srv/images/docker && cp -r ~/.docker/buildx /srv/images/docker/")
        ssh(on, "cat > /srv/images/ca.pem", stdin=authority)
        ssh(on, "cat > /srv/images/docker/config.json", stdin=json.dumps({"auths": {secure: {"auth": login}}}))
        ssh(on, "cat > /srv/images/toml", stdin=f'[registry."{secure}"]\n  ca = ["/srv/images/ca.pem"]\n')
        create = f"buildx create --name secure --driver docker-container --config /srv/images/toml tcp://{AMD}:2375"
        ssh(on, f"docker --config /srv/images/docker {create}")
        options = {"name": name.replace(images.registry, secure), "builder": "secure"}
        builders = {"BUILDX_CONFIG": "/srv/images/docker/buildx"}
        found, refused = images.farm.tasks(
            on,
            task("buildx_imagetools_info", docker_config="/srv/images/docker", **options),
            task("buildx_imagetools_info", fails=True, environment=builders, **options),
        )
    finally:
        ssh(on, "rm -rf /srv/images/docker /srv/images/ca.pem /srv/images/toml")
    assert found["index"]["digest"] == built["image"]["digest"]
    assert registry.PASSWORD not in json.dumps(found) and login not in json.dumps(found)
    assert refused["msg"].startswith(
        f"registry {secure} wants credentials, and the docker configuration has none for it"
    )
