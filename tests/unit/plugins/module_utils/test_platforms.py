# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a host runs natively, from what its kernel and its engine call themselves."""

from __future__ import annotations

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._platform.platform import (
    native_platform,
    platform_of_host,
)


@pytest.mark.parametrize(
    ("machine", "platform"),
    [
        ("x86_64", "linux/amd64"),
        ("i686", "linux/386"),
        ("aarch64", "linux/arm64"),
        ("armv5tel", "linux/arm/v5"),
        ("armv5tejl", "linux/arm/v5"),
        ("armv6l", "linux/arm/v6"),
        ("armv7l", "linux/arm/v7"),
        ("armv7ml", "linux/arm/v7"),
        ("armv8l", "linux/arm/v7"),
        ("loongarch64", "linux/loong64"),
        ("mips", "linux/mipsle"),
        ("mips64", "linux/mips64le"),
        ("ppc64", "linux/ppc64"),
        ("ppc64le", "linux/ppc64le"),
        ("riscv64", "linux/riscv64"),
        ("s390x", "linux/s390x"),
    ],
)
def test_machines_that_images_are_made_for(machine: str, platform: str) -> None:
    assert str(native_platform(machine)) == platform


@pytest.mark.parametrize(
    "machine",
    ["aarch64_be", "alpha", "armv4tl", "armv7b", "i86pc", "ia64", "m68k", "ppc", "riscv32", "s390", "sparc64", "sun4u"],
)
def test_machines_that_no_images_are_made_for(machine: str) -> None:
    with pytest.raises(FarmError, match="unknown architecture"):
        native_platform(machine)
    assert platform_of_host(machine) is None


@pytest.mark.parametrize(
    ("machine", "engine", "platform"),
    [
        # A 32-bit system on a 64-bit kernel.
        ("aarch64", "arm", "linux/arm/v7"),
        ("x86_64", "386", "linux/386"),
        # The other way round, as a container that was started with linux32 sees it.
        ("armv8l", "arm64", "linux/arm64"),
        ("s390", "s390x", "linux/s390x"),
        # The variant is the kernel's to tell.
        ("armv6l", "arm", "linux/arm/v6"),
        ("mips64", "mips64", "linux/mips64"),
        ("x86_64", None, "linux/amd64"),
        ("x86_64", "an unknown architecture (9)", "linux/amd64"),
        ("sparc", "an unknown architecture (2)", "None"),
    ],
)
def test_the_engines_word_counts(machine: str, engine: str | None, platform: str) -> None:
    assert str(platform_of_host(machine, engine)) == platform
