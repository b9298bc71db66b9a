# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Versions as people declare them and as packages carry them."""

from __future__ import annotations

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.version import (
    declared_version,
    numbers,
    upstream,
)


@pytest.mark.parametrize(
    ("version", "upstreams"),
    [
        ("5:28.5.2-1~debian.13~trixie", "28.5.2"),
        ("26.1.5+dfsg1-9+deb13u1", "26.1.5"),
        ("20.10.24+dfsg1-1+b3", "20.10.24"),
        ("28.5.1_ce", "28.5.1"),
        ("unknown", "unknown"),
    ],
)
def test_upstreams_version(version, upstreams):
    assert upstream(version) == upstreams


@pytest.mark.parametrize(
    ("value", "version"), [("28.5.2", "28.5.2"), ("v28.5.2", "28.5.2"), (" 28.5.2\n", "28.5.2"), ("20.10.0", "20.10.0")]
)
def test_forms_that_are_taken(value, version):
    assert declared_version("engine_version", value, "28.5.2", fewest=3) == version


@pytest.mark.parametrize(
    "value",
    [
        "5:28.5.2-1~debian.13~trixie",
        "28.5.2-1",
        "28.5.2*",
        "26.1.5+dfsg1",
        "20.10",
        "28",
        "28.5.2.1",
        "28.5.",
        "new",
        "",
    ],
)
def test_forms_that_are_refused(value):
    with pytest.raises(FarmError, match=r"engine_version '.*': wanted a form like 28\.5\.2, without"):
        declared_version("engine_version", value, "28.5.2", fewest=3)


@pytest.mark.parametrize("value", [20.1, 28, True])
def test_numbers_are_refused(value):
    with pytest.raises(FarmError, match=f"minimum {value}: wanted a form like 28.0, in quotes"):
        declared_version("minimum", value, "28.0")


def test_release_candidates_where_they_will_do():
    assert declared_version("release", "v0.30.0-rc1", "0.29.1", 3, candidates=True) == "0.30.0-rc1"
    with pytest.raises(FarmError):
        declared_version("release", "v0.30.0-rc1", "0.29.1", 3)


def test_order_of_versions():
    assert numbers("28.0") == numbers("28.0.0") < numbers("28.0.1") < numbers("28.10") < numbers("100")
    assert numbers("0") == ()
