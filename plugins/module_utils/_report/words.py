# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Sizes, times and names as a report shows them to people."""

from __future__ import annotations

import calendar
import time
from typing import Any, List, Mapping, Optional, Sequence

from .history import SUCCEEDED

#: What stands where nothing is known.
NONE = "\u2013"
_MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()


def size(count: Optional[int]) -> str:
    """Return a number of bytes with two or three digits, in powers of 1000 as BuildKit shows them."""
    if count is None:
        return NONE
    value, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB", "PB"):
        if value < 999.5:
            break
        value, unit = value / 1000, larger
    return f"{value:.0f} {unit}" if unit == "B" or value >= 9.95 else f"{value:.1f} {unit}"


def memory(count: int) -> str:
    """Return a number of bytes of memory, which is counted in powers of 1024; empty where it is not known."""
    gibibytes = count / (1 << 30)
    return "" if not count else f"{gibibytes:.0f} GiB" if gibibytes >= 9.5 else f"{gibibytes:.1f} GiB"


def duration(seconds: Optional[float]) -> str:
    """Return a time span, with two units at most."""
    if seconds is None:
        return NONE
    if seconds < 0.9995:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def share(value: Optional[float]) -> str:
    """Return a share as a percentage; what is not all is never shown as all."""
    return NONE if value is None else f"{int(round(100 * value, 6))} %"


def seconds_of(moment: str) -> int:
    """Return a time of the report in seconds since 1970."""
    return calendar.timegm(time.strptime(moment, "%Y-%m-%dT%H:%M:%SZ"))


def when(moment: str, day: bool = True) -> str:
    """Return a time of the report as people write it, in UTC.

    :param day: with the day, not only the hour.
    """
    parsed = time.strptime(moment, "%Y-%m-%dT%H:%M:%SZ")
    clock = time.strftime("%H:%M", parsed)
    return f"{parsed.tm_mday} {_MONTHS[parsed.tm_mon - 1]} {clock}" if day else clock


def date(moment: str) -> str:
    """Return the day of a time in RFC 3339, of any precision."""
    return moment[:10]


def short(digest: Optional[str]) -> str:
    """Return the beginning of a digest, enough to recognise it."""
    return NONE if not digest else digest.split(":")[-1][:12]


def days(count: int) -> str:
    """Return a number of days that are left."""
    if count < 0:
        return "ended"
    return "1 day" if count == 1 else f"{count} days"


def count(number: int, singular: str, plural: str = "") -> str:
    """Return a number with its noun."""
    return f"{number} {noun(number, singular, plural)}"


def noun(number: int, singular: str, plural: str = "") -> str:
    """Return a noun as it is said of a number."""
    return singular if number == 1 else plural or f"{singular}s"


def answers(node: Mapping[str, Any]) -> bool:
    """Say whether a node's BuildKit runs, and answers as one."""
    return bool(node["status"] == "running" and not node["error"])


def state(node: Mapping[str, Any]) -> str:
    """Return a node's state in one word."""
    return "drained" if node["drained"] else str(node["status"])


def newest(report: Mapping[str, Any], limit: Optional[int] = None) -> List[Any]:
    """Return the builds of all nodes, the newest first, each as a pair of its node and itself."""
    pairs = [(node, build) for node in report["nodes"] for build in node["builds"]]
    pairs.sort(key=lambda pair: (pair[1]["started"], pair[0]["name"], pair[1]["ref"]), reverse=True)
    return pairs[:limit]


def remarks(build: Mapping[str, Any]) -> Sequence[str]:
    """Return what is to be said of a build: why it failed, and why it was not all in the cache."""
    error = [build["error"]] if build["error"] and build["status"] != SUCCEEDED else []
    return [*error, *build["reasons"]]


def trouble(image: Mapping[str, Any]) -> str:
    """Return what is wrong with an image; empty where nothing is."""
    if image["error"]:
        return str(image["error"])
    if not image["digest"]:
        return "the registry has nothing of this name"
    return f"the registry lacks {', '.join(map(short, image['missing']))}" if image["missing"] else ""


def handlers(node: Mapping[str, Any]) -> str:
    """Return the names of a node's handlers, and what is wrong with one."""
    if node["handlers"] is None:
        return NONE
    shown = []
    for one in node["handlers"]:
        name = str(one["name"]).replace("qemu-", "", 1)
        broken = "" if one["works"] is not False else " (broken)"
        off = "" if one["enabled"] is not False else " (off)"
        shown.append(f"{name}{broken}{off}")
    return ", ".join(shown) or "none"
