# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Platforms and processors by the names that others have for them."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.buildfarm.multiarch.plugins.filter import platform_normalize, platform_of_architecture

normalize = platform_normalize.FilterModule().filters()["platform_normalize"]
of_architecture = platform_of_architecture.FilterModule().filters()["platform_of_architecture"]


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("linux/arm64/v8", "linux/arm64"),
        (" Linux/X86_64", "linux/amd64"),
        (["linux/arm", "linux/aarch64", "linux/armhf"], ["linux/arm/v7", "linux/arm64"]),
        ((), []),
    ],
)
def test_normalize(value: Any, wanted: Any) -> None:
    assert normalize(value) == wanted


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("x86_64", "linux/amd64"),
        ("amd64", "linux/amd64"),
        ("AArch64 ", "linux/arm64"),
        ("armv6l", "linux/arm/v6"),
        ("armel", "linux/arm/v6"),
        ("mips64", "linux/mips64le"),
    ],
)
def test_of_architecture(value: str, wanted: str) -> None:
    assert of_architecture(value) == wanted


@pytest.mark.parametrize(
    ("work", "value"), [(normalize, "arm64"), (normalize, ["linux/vax"]), (of_architecture, "vax")]
)
def test_what_is_none_is_refused(work: Any, value: Any) -> None:
    with pytest.raises(AnsibleFilterError, match=r"arm64|unknown architecture 'vax'"):
        work(value)
