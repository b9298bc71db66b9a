# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is a platform, and who runs it."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.buildfarm.multiarch.plugins.test.native_platform import TestModule as NativePlatform
from ansible_collections.buildfarm.multiarch.plugins.test.platform import TestModule as PlatformTest


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("linux/amd64", True),
        ("Linux/AArch64", True),
        ("linux/arm/v7", True),
        ("arm64", False),
        ("all", False),
        ("linux/mips64r6", False),
        ("", False),
        (None, False),
        (["linux/amd64"], False),
    ],
)
def test_platform(value: Any, wanted: bool) -> None:
    assert PlatformTest().tests()["platform"](value) is wanted


@pytest.mark.parametrize(
    ("platform", "machine", "wanted"),
    [
        ("linux/arm64", "aarch64", True),
        ("linux/arm64/v8", "arm64", True),
        ("linux/arm64", "linux/arm64", True),
        ("linux/arm64", "x86_64", False),
        ("linux/386", "AMD64 ", True),
        ("linux/amd64", "i686", False),
        ("linux/arm/v7", "arm64", False),
        ("linux/arm/v6", "armv7l", True),
        ("windows/amd64", "x86_64", False),
        ("linux/amd64", "mips64r6", False),
        ("linux/amd64", "", False),
        ("linux/amd64", None, False),
    ],
)
def test_native_platform(platform: str, machine: Any, wanted: bool) -> None:
    assert NativePlatform().tests()["native_platform"](platform, machine) is wanted


@pytest.mark.parametrize(("platform", "machine"), [("arm64", "aarch64"), ("linux/arm64", "linux/x")])
def test_native_platform_refuses(platform: str, machine: str) -> None:
    with pytest.raises(AnsibleFilterError, match="platform '"):
        NativePlatform().tests()["native_platform"](platform, machine)
