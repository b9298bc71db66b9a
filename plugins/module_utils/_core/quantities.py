# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Sizes and times as people write them."""

from __future__ import annotations

import re

from .errors import FarmError

_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([kmgtp]?)(?:i?b)?\Z", re.IGNORECASE)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_DURATION = re.compile(r"(?:\d+[smhdw])+\Z")


def some_seconds(option: str, seconds: float) -> float:
    """Return a time limit.

    :raises FarmError: nothing could be done in it.
    """
    if not seconds > 0:
        raise FarmError(f"{option} is {seconds:g}; wanted seconds, more than 0")
    return seconds


def parse_size(text: str) -> int:
    """Return a size in bytes, written as docker takes it (``512m``, ``1.5g``); -1 means no limit.

    :raises FarmError: it is no size.
    """
    match = _SIZE.match(text.strip())
    if text.strip() == "-1":
        return -1
    if match is None:
        raise FarmError(f"{text!r} is no size; wanted a number of bytes, or one with k, m or g, as in 512m")
    return int(float(match.group(1)) * _UNITS[match.group(2).lower()])


def parse_duration(text: str) -> int:
    """Return a time in seconds, written as ``90m``, ``48h``, ``7d``, ``2w`` or ``1h30m``.

    A bare number is none but 0: whoever writes 7 means days, and would lose a cache that is older than 7 seconds.

    :raises FarmError: it is no time.
    """
    written = text.strip()
    if written == "0":
        return 0
    if not _DURATION.match(written):
        raise FarmError(f"{text!r} is no time; wanted a number with s, m, h, d or w, as in 48h or 7d")
    return sum(int(number) * _SECONDS[unit] for number, unit in re.findall(r"(\d+)([smhdw])", written))
