# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""buildx_imagetools_info on what buildx 0.13 and 0.29 themselves pushed."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_runs import task
from building import BUILDER, CONTROLLERS, PLATFORMS, BuildFarm

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
        ({"name": f"{images.registry}/x"}, f"registry {images.registry} speaks plain HTTP"),
        ({"name": "mid1:9/x", "builder": BUILDER}, "registry mid1:9 could not be asked"),
        (
            {"name": f"{images.farm.secure_registry}/x", "builder": BUILDER},
            "the registry's CA to the controller's trusted",
        ),
        ({"name": "x", "builder": "nobody"}, 'no builder "nobody" found'),
        ({"name": "X"}, "image name 'X': wanted"),
        ({"name": "x", "query": "]["}, "query '][' is not a JMESPath expression"),
    ]
    messages = images.refusals(on, "buildx_imagetools_info", [options for options, _words in cases])
    for message, (_options, words) in zip(messages, cases, strict=True):
        assert words in message
