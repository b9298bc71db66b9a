# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.buildfarm.multiarch.plugins.filter.farm_images import farm_images
from ansible_collections.buildfarm.multiarch.plugins.filter.farm_images_wanted import FilterModule, farm_images_wanted

IMAGES = [
    {"name": "r/a:1", "context": "/a", "build": {"labels": {"a": "b"}}, "tags": ["r/a:2"], "run": None},
    {
        "name": "r/b:1",
        "context": "/b",
        "platforms": ["linux/s390x"],
        "run": {"command": ["x"]},
        "verify": {"sbom": True},
    },
]


def test_of_each_image_its_platforms_and_what_is_said_of_checks_is_wanted():
    assert FilterModule().filters() == {"farm_images_wanted": farm_images_wanted}
    assert farm_images_wanted(IMAGES, ["linux/amd64"]) == [
        {"name": "r/a:1", "platforms": ["linux/amd64"]},
        {"name": "r/b:1", "platforms": ["linux/s390x"], "run": {"command": ["x"]}, "sbom": True},
    ]
    assert farm_images_wanted([]) == []


def test_what_is_for_checks_is_none_of_the_build():
    assert "verify" not in farm_images(IMAGES)[1]
