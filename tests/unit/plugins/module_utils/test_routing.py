# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._platform.platform import Platform, parse_all
from ansible_collections.buildfarm.multiarch.plugins.module_utils._platform.routing import Worker, routes

AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")


def workers(text, natives=""):
    """`a=amd64:386+arm64` is a node with a pin and two detected platforms; without a colon none was asked."""
    made = []
    for item in text.split():
        name, _equals, rest = item.partition("=")
        pins, asked, detected = rest.partition(":")
        made.append(
            Worker(
                name,
                parse_all(f"linux/{arch}" for arch in pins.split("+") if arch),
                parse_all(f"linux/{arch}" for arch in detected.split("+") if arch) if asked else None,
                ARM64 if name in natives else AMD64,
            )
        )
    return made


# Nodes, requested platforms, where they go; the first block is what was seen with real builders.
ROWS = [
    ("a=amd64:amd64+arm64 b=arm64:amd64+arm64", "amd64 arm64", "a b"),
    ("a=amd64:amd64+arm64+riscv64 b=arm64:arm64+amd64+riscv64", "amd64 arm64 riscv64", "a a a"),
    ("a=arm64:amd64+arm64+386 b=amd64:amd64+arm64+386", "amd64 386", "a a"),
    ("a=arm64:amd64+386 b=amd64:amd64+386", "386", "a"),
    ("a=arm64:amd64 b=amd64:amd64", "arm64", "a"),
    # Pins alone, without asking anyone.
    ("a=amd64 b=arm64", "arm64 amd64", "b a"),
    ("a=amd64 b=amd64", "amd64", "a"),
    ("a= b=arm64", "arm64", "b"),
    ("a=arm64/v8", "arm64", "a"),
    # A pin is only that platform, and none that it could stand for.
    ("a=amd64:amd64 b=386:386", "386 amd64", "b a"),
    ("a=amd64/v2:amd64 b=:amd64", "amd64", "a"),
    ("a=arm:arm b=arm64:arm64", "arm/v6", "a"),
    # Detected ones: an exact match beats one that could stand for it, earlier nodes win ties.
    ("a=:amd64 b=:386", "386", "b"),
    ("a=:amd64 b=:arm64", "386", "a"),
    ("a=:arm64 b=:arm/v7", "arm/v7", "b"),
    ("a=:arm64", "arm/v7 arm/v6", "a a"),
    ("a=:amd64 b=:amd64", "amd64", "a"),
    ("a=:amd64/v3 b=:amd64/v2", "amd64/v2", "b"),
    # Nobody; buildx would send these to the first node without a word.
    ("a=amd64:amd64", "arm64", "-"),
    ("a=amd64", "arm64", "-"),
    ("a=amd64:amd64+386 b=arm64:arm64", "s390x amd64 arm64", "- a b"),
    ("", "amd64", "-"),
]


@pytest.mark.parametrize(("nodes", "requested", "expected"), ROWS)
def test_platforms_go_where_buildx_sends_them(nodes, requested, expected):
    wanted = parse_all(f"linux/{arch}" for arch in requested.split())
    served, missing = routes(wanted, workers(nodes))
    by_platform = {**{way.platform: way.node for way in served}, **dict.fromkeys(missing, "-")}
    assert [by_platform[platform] for platform in wanted] == expected.split()


@pytest.mark.parametrize(
    ("node", "platform", "source", "native"),
    [
        ("a=amd64", "linux/amd64", "pin", True),
        ("a=arm64", "linux/arm64", "pin", False),
        ("a=:386", "linux/386", "detected", True),
        ("a=:arm64", "linux/arm64", "detected", False),
        ("x=arm64", "linux/arm64", "pin", True),
        ("x=:arm", "linux/arm/v7", "detected", False),
    ],
)
def test_sources_and_emulation(node, platform, source, native):
    ((way,), _missing) = routes([Platform.parse(platform)], workers(node, natives="x"))
    name = node.partition("=")[0]
    assert way.as_dict() == {"platform": platform, "node": name, "source": source, "native": native}


def test_whether_it_is_native_may_not_be_known():
    assert routes([AMD64], [Worker("a", (AMD64,))])[0][0].native is None
