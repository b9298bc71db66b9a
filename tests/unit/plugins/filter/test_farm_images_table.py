# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from typing import Any, Dict

from ansible_collections.buildfarm.multiarch.plugins.filter.farm_images_table import farm_images_table


def _image(name: str, error: str = "", changed: bool = True, reasons: Any = (), platforms: int = 1) -> Dict[str, Any]:
    platform = {"platform": "linux/amd64", "node": "farm-amd1", "native": True, "seconds": 1.25, "size": 2_500_000}
    built = [{**platform, "digest": f"sha256:{'ab' * 32}"}] * platforms
    return {
        "name": name,
        "error": error or None,
        "changed": changed,
        "reasons": list(reasons),
        "platforms": [] if error else built,
        "outputs": [],
    }


def test_what_failed_comes_last_in_plain_text() -> None:
    broken = "building /srv/b failed:\n\n" + "".join(f"{n} step\r{n} \x1b[31mred\x1b[0m\x07\n" for n in range(20))
    why = [f"{name} changed" for name in "abcdefg"]
    images = [_image("reg/b:1", error=broken), _image("reg/a:1", reasons=why), _image("c", changed=False)]
    assert farm_images_table(images) == [
        "IMAGE             PLATFORM     NODE       RUNS    TIME   SIZE    DIGEST",
        "reg/b:1 (failed)",
        "reg/a:1           linux/amd64  farm-amd1  native  1.2 s  2.5 MB  sha256:abababababab",
        "c (unchanged)     linux/amd64  farm-amd1  native  1.2 s  2.5 MB  sha256:abababababab",
        "reg/a:1, why: a changed",
        *(f"  {name} changed" for name in "bcde"),
        "  and 2 more",
        "reg/b:1 failed: building /srv/b failed:",
        *(f"  {number} red\N{REPLACEMENT CHARACTER}" for number in range(10, 20)),
    ]


def test_what_is_known_of_files_is_shown() -> None:
    pushed, archive, unchanged, own = (_image(name) for name in ("reg/a:1", "b", "c", "d"))
    known = {"native": False, "size": None, "digest": None, "seconds": None}
    for image, cells in ((archive, {"seconds": 3.0}), (unchanged, {"node": None, "native": None})):
        image["platforms"] = [{**image["platforms"][0], **known, **cells}] * 2
    own["platforms"] = []
    for image in (pushed, archive, own):
        image["outputs"] = [{"type": "registry", "digest": None}, {"type": "oci", "digest": f"sha256:{'cd' * 32}"}]
    assert farm_images_table([pushed, archive, unchanged, own]) == [
        "IMAGE    PLATFORM     NODE       RUNS      TIME   SIZE    DIGEST",
        "reg/a:1  linux/amd64  farm-amd1  native    1.2 s  2.5 MB  sha256:abababababab",
        "b        linux/amd64  farm-amd1  emulated  3.0 s  -       sha256:cdcdcdcdcdcd",
        "         linux/amd64  farm-amd1  emulated  3.0 s  -       sha256:cdcdcdcdcdcd",
        "c        linux/amd64  -          -         -      -       -",
        "         linux/amd64  -          -         -      -       -",
        "d        -            -          -         -      -       sha256:cdcdcdcdcdcd",
    ]


def test_each_page_fits_into_what_awx_shows() -> None:
    images = [_image(f"registry.example.com:5000/{'long/' * 40}image-{n}:1", platforms=2) for n in range(20)]
    images += [_image("ä" * 300, error="ö" * 2000 + '\n"\\' * 500), _image("x", reasons=["because " * 90])]
    lines, pages = farm_images_table(images), farm_images_table(images, page=900)
    assert [line for page in pages for line in page] == lines
    assert max(len(json.dumps({"msg": page}, indent=4, ensure_ascii=False).encode()) for page in pages) <= 950
    assert len(pages) < 10
    assert "…long/long/" in lines[1] and "image-0:1" in lines[1]


def test_nothing_was_built() -> None:
    assert farm_images_table([], page=900) == farm_images_table([]) == []
