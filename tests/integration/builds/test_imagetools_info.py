# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""buildx_imagetools_info on what buildx 0.13 and 0.29 themselves pushed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from ansible_runs import LiveFarm
from building import BUILDER, CONTROLLERS, PLATFORMS, BuildFarm, build_farm

FILES = "FROM scratch\nARG TARGETARCH\nCOPY note /note-$TARGETARCH\n"


@pytest.fixture(scope="module")
def images(farm: LiveFarm) -> Iterator[BuildFarm]:
    """Both controllers with their builders."""
    with build_farm(farm) as made:
        yield made


def read(images: BuildFarm, on: str, name: str, **options: Any) -> dict[str, Any]:
    """Run the module."""
    full = f"{images.repository}/{name}"
    return images.farm.module(on, "buildx_imagetools_info", name=full, builder=BUILDER, **options)


@pytest.mark.parametrize("on", CONTROLLERS)
@pytest.mark.parametrize(
    ("tag", "options", "attestations"),
    [
        ("plain", {"platforms": PLATFORMS}, 0),
        ("attested", {"platforms": PLATFORMS, "provenance": "mode=max"}, 2),
        ("single", {"platforms": PLATFORMS[1:]}, 0),
        ("single-attested", {"platforms": PLATFORMS[1:], "provenance": "true"}, 1),
    ],
)
def test_what_was_pushed_is_read(
    images: BuildFarm, on: str, tag: str, options: dict[str, Any], attestations: int
) -> None:
    context = images.context(on, "files", FILES, note="text")
    name = f"{images.repository}/{on}:{tag}"
    built = images.build(on, builder=BUILDER, context=context, tags=[name], push=True, **options)
    found = read(images, on, f"{on}:{tag}", query="manifests[].platform")
    assert (found["exists"], found["changed"], found["result"]) == (True, False, options["platforms"])
    index = found["index"]
    assert (index["name"], index["digest"]) == (name, built["image"]["digest"])
    assert [item["digest"] for item in index["manifests"]] == [item["digest"] for item in built["image"]["platforms"]]
    assert [item["type"] for item in index["attestations"]] == ["attestation-manifest"] * attestations
    subjects = {item["digest"] for item in index["manifests"]} if attestations else set()
    assert {item["subject"] for item in index["attestations"]} == subjects
    one = read(images, on, f"{on}@{index['manifests'][-1]['digest']}")["index"]
    assert [item["platform"] for item in one["manifests"]] == ["linux/arm64"]


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
