# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Limits of a node's cache, as the policy of buildkitd's garbage collector.

Each rule is written with the keys of all versions of BuildKit: before 0.17 it reads ``keepBytes`` and ignores the rest;
later it takes ``maxUsedSpace``, ``reservedSpace`` and ``minFreeSpace``, and ``keepBytes`` only where there is no
``reservedSpace``. Numbers are bytes and seconds, which every version reads. ``gckeepstorage`` is not used: it counted
megabytes once, and bytes now.
Source: moby/buildkit ``cmd/buildkitd/config/gcpolicy.go``, ``cmd/buildkitd/main.go`` (``getGCPolicy``) and
``cache/manager.go`` (``calculateKeepBytes``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Union

from .._core.errors import FarmError
from .._core.quantities import parse_duration, parse_size

#: BuildKit's types of records. Source: moby/buildkit ``client/diskusage.go``.
KINDS = ("regular", "internal", "frontend", "source.local", "source.git.checkout", "exec.cachemount")
#: Those that BuildKit spares unless a rule is for all.
_SPARED = ("internal", "frontend")
#: Keys of a worker that are about its garbage collection.
GC_KEYS = ("gc", "gckeepstorage", "reservedSpace", "maxUsedSpace", "minFreeSpace", "gcpolicy")
_SETS_GC = re.compile(rf"(?m)^[^#\n]*\b({'|'.join(GC_KEYS)})\b\"?\s*[=\].]")
_PERCENTAGE = re.compile(r"([1-9]\d?|100) ?%\Z")

#: Bytes, or a percentage of the disk, as ``20%``.
Amount = Union[int, str]


@dataclass(frozen=True)
class CacheLimits:
    """What a node's cache may take.

    :ivar max_used: what the whole cache is cut down to.
    :ivar reserved: what it may have however full the disk is.
    :ivar min_free: what is to be free on its disk.
    :ivar max_age: seconds without use after which a record goes.
    :ivar kinds: limits of single kinds of records, of which only ``max_used`` and ``max_age`` are set.
    """

    max_used: Optional[Amount] = None
    reserved: Optional[Amount] = None
    min_free: Optional[Amount] = None
    max_age: Optional[int] = None
    kinds: Mapping[str, CacheLimits] = field(default_factory=dict)

    @classmethod
    def from_params(cls, raw: Mapping[str, Any]) -> CacheLimits:
        """Return the limits that a user writes; those that are not given are none.

        :raises FarmError: they cannot be meant.
        """
        kinds = {}
        for kind, limits in (raw.get("kinds") or {}).items():
            if kind not in KINDS:
                raise FarmError(f"cache: {kind!r} is no kind of record; BuildKit has {', '.join(KINDS)}")
            if not isinstance(limits, dict) or not limits or set(limits) - {"max_used", "max_age"}:
                raise FarmError(f"cache: kind {kind}: found {limits!r}, wanted max_used, max_age or both")
            kinds[kind] = cls(_amount(limits, "max_used"), max_age=_age(limits))
        found = cls(_amount(raw, "max_used"), _amount(raw, "reserved"), _amount(raw, "min_free"), _age(raw), kinds)
        if found.min_free is not None and found.max_used is None and found.reserved is None:
            raise FarmError(
                "cache: min_free needs max_used or reserved beside it, as BuildKit before 0.17 does not know min_free,"
                " and would empty the cache"
            )
        both = (found.reserved, found.max_used)
        if isinstance(both[0], int) and isinstance(both[1], int) and both[0] > both[1]:
            raise FarmError(f"cache: reserved ({both[0]} bytes) is more than max_used ({both[1]} bytes)")
        return found

    def policy(self) -> List[Dict[str, Any]]:
        """Return the rules of the garbage collector, in the order in which BuildKit follows them."""
        rules = [
            {"filters": [f"type=={kind}"], **({"all": True} if kind in _SPARED else {}), **limits._rule()}
            for kind, limits in sorted(self.kinds.items())
        ]
        if self.max_age is not None:
            rules.append({"keepDuration": self.max_age})
        sizes = CacheLimits(self.max_used, self.reserved, self.min_free)._rule()
        if sizes:
            # What BuildKit needs for itself goes only where the rest was not enough.
            rules += [sizes, {"all": True, **sizes}]
        return rules

    def _rule(self) -> Dict[str, Any]:
        age = {} if self.max_age is None else {"keepDuration": self.max_age}
        keep = self.reserved if self.max_used is None else self.max_used
        if keep is None:
            return age
        return {
            **age,
            "keepBytes": keep,
            # Without it, keepBytes would be what is reserved.
            "reservedSpace": 1 if self.reserved is None else self.reserved,
            **({} if self.max_used is None else {"maxUsedSpace": self.max_used}),
            **({} if self.min_free is None else {"minFreeSpace": self.min_free}),
        }


def sets_policy(text: str) -> bool:
    """Return whether a buildkitd configuration says something on garbage collection itself."""
    return bool(_SETS_GC.search(text))


def _amount(raw: Mapping[str, Any], key: str) -> Optional[Amount]:
    if raw.get(key) in (None, ""):
        return None
    text = str(raw[key]).strip()
    match = _PERCENTAGE.match(text)
    if match:
        return f"{match.group(1)}%"
    try:
        size = parse_size(text)
    except FarmError as exc:
        raise FarmError(f"cache: {key}: {exc.message}, or a percentage of the disk, as in 20%") from exc
    if size <= 0:
        raise FarmError(f"cache: {key}: found {text!r}, wanted more than nothing; leave it out for no limit")
    return size


def _age(raw: Mapping[str, Any]) -> Optional[int]:
    if raw.get("max_age") in (None, ""):
        return None
    try:
        age = parse_duration(str(raw["max_age"]))
    except FarmError as exc:
        raise FarmError(f"cache: max_age: {exc.message}") from exc
    if age == 0:
        raise FarmError("cache: max_age: found 0, wanted a time; leave it out for no limit")
    return age
