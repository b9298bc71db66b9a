# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Limits of the cache: what users write, and what becomes of it in buildkitd's configuration."""

from __future__ import annotations

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._buildx import buildkitd
from ansible_collections.buildfarm.multiarch.plugins.module_utils._buildx.buildkitd import (
    CONFIG_FILE,
    config_files,
    limited,
    with_cache_limits,
)
from ansible_collections.buildfarm.multiarch.plugins.module_utils._buildx.cache_limits import CacheLimits, sets_policy
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError

GIB = 1 << 30
SIZES = {"keepBytes": GIB, "reservedSpace": 1, "maxUsedSpace": GIB}
ONE = {"max_used": "1g"}


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({}, []),
        (ONE, [SIZES, {"all": True, **SIZES}]),
        ({"max_age": "2d"}, [{"keepDuration": 172800}]),
        (
            {"max_used": "50%", "reserved": 1000, "min_free": "20 %"},
            [
                {"keepBytes": "50%", "reservedSpace": 1000, "maxUsedSpace": "50%", "minFreeSpace": "20%", **more}
                for more in ({}, {"all": True})
            ],
        ),
        # Older versions keep what is reserved, and never empty the cache.
        ({"reserved": "1g", "min_free": "1g"}, None),
        (
            {"kinds": {"source.local": {"max_age": "48h", "max_used": "1g"}, "frontend": {"max_age": "60s"}}},
            [
                {"filters": ["type==frontend"], "all": True, "keepDuration": 60},
                {"filters": ["type==source.local"], "keepDuration": 172800, **SIZES},
            ],
        ),
    ],
)
def test_policy(raw, expected):
    policy = CacheLimits.from_params(raw).policy()
    if expected is None:
        rule = {"keepBytes": GIB, "reservedSpace": GIB, "minFreeSpace": GIB}
        expected = [rule, {"all": True, **rule}]
    assert policy == expected
    # No rule without a size or an age: that would be everything.
    assert all({"keepBytes", "keepDuration"} & set(rule) for rule in policy)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"max_used": "much"}, "cache: max_used: 'much' is no size"),
        ({"max_used": "0"}, "wanted more than nothing"),
        ({"max_used": "-1"}, "wanted more than nothing"),
        ({"max_used": "120%"}, "'120%' is no size"),
        ({"max_age": "soon"}, "cache: max_age: 'soon' is no time"),
        ({"max_age": "0h"}, "found 0, wanted a time"),
        ({"min_free": "1g"}, "min_free needs max_used or reserved"),
        ({"max_used": "1g", "reserved": "2g"}, "reserved .* is more than max_used"),
        ({"kinds": {"local": {"max_age": "1h"}}}, "'local' is no kind of record; BuildKit has regular"),
        ({"kinds": {"regular": {}}}, "wanted max_used, max_age or both"),
        ({"kinds": {"regular": {"min_free": "1g"}}}, "wanted max_used, max_age or both"),
    ],
)
def test_what_cannot_be_meant(raw, message):
    with pytest.raises(FarmError, match=message):
        CacheLimits.from_params(raw)


RULES = """\
[[worker.oci.gcpolicy]]
  keepBytes = 1073741824
  maxUsedSpace = 1073741824
  reservedSpace = 1

[[worker.oci.gcpolicy]]
  all = true
  keepBytes = 1073741824
  maxUsedSpace = 1073741824
  reservedSpace = 1
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", RULES),
        ("debug = true", f"debug = true\n\n{RULES}"),
        # Of the same worker, and of another.
        ("[worker.oci]\n  max-parallelism = 4\n", f"[worker.oci]\n  max-parallelism = 4\n\n{RULES}"),
        ("# gc = false\n", f"# gc = false\n\n{RULES}"),
        # What the configuration says itself.
        ("[worker.oci]\n  gc = false\n", None),
        ('[worker.oci]\n  "gckeepstorage" = 9000\n', None),
        ("[[worker.oci.gcpolicy]]\n  all = true\n", None),
        ("worker.oci.reservedSpace = '1GB'\n", None),
    ],
)
def test_a_configuration_with_limits(text, expected):
    limits = CacheLimits.from_params(ONE)
    assert with_cache_limits(text, limits) == (text if expected is None else expected)
    assert with_cache_limits(text, CacheLimits()) == text
    config_files(with_cache_limits(text, limits), lambda path: b"")  # It is TOML.
    assert sets_policy(text) == (expected is None)


def test_limits_within_a_configuration_that_is_there():
    found = config_files("debug = true\n[worker.oci]\n  gc = true\n  max-parallelism = 4\n", lambda path: b"")
    found["certs/r/ca.pem"] = b"CA"
    limits = CacheLimits.from_params(ONE)
    changed = limited(found, limits)
    assert changed["certs/r/ca.pem"] == b"CA"
    text = changed[CONFIG_FILE].decode()
    assert text == (
        "debug = true\n\n[worker]\n\n  [worker.oci]\n    max-parallelism = 4\n"
        + "".join(
            f"\n    [[worker.oci.gcpolicy]]\n{more}      keepBytes = 1073741824\n"
            "      maxUsedSpace = 1073741824\n      reservedSpace = 1\n"
            for more in ("", "      all = true\n")
        )
    )
    assert limited(changed, limits) == changed
    # Without limits the rest is as it was.
    assert limited(changed, CacheLimits())[CONFIG_FILE] == (
        b"debug = true\n\n[worker]\n\n  [worker.oci]\n    max-parallelism = 4\n"
    )
    assert limited(limited({}, limits), CacheLimits()) == {}


def test_limits_without_a_toml_parser(monkeypatch):
    monkeypatch.setattr(buildkitd, "toml_loads", lambda: None)
    limits = CacheLimits.from_params(ONE)
    made = limited({}, limits)
    assert made == {CONFIG_FILE: RULES.encode()}
    assert limited(made, limits) == made
    with pytest.raises(FarmError, match=r"needs Python 3\.11 or the Python library tomli"):
        limited({CONFIG_FILE: b"debug = true\n"}, limits)
