# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Versions as people declare them and as packages carry them."""

from __future__ import annotations

import re
from typing import Any, Tuple

from .errors import FarmError

# Tags have the v: v28.5.2 of Docker, v0.29.1 of buildx, v10.0.4 of QEMU.
_DECLARED = re.compile(r"v?(\d+(?:\.\d+)*)(-[0-9A-Za-z.]+)?\Z")
# Epoch, upstream's version, and what the distribution adds to it.
_PACKAGED = re.compile(r"(?:\d+:)?(\d+(?:\.\d+)*)")


def upstream(version: str) -> str:
    """Return upstream's part of a package's version: 28.5.2 of ``5:28.5.2-1~debian.13~trixie``."""
    found = _PACKAGED.match(version)
    return found.group(1) if found else version


def declared_version(option: str, value: Any, example: str, fewest: int = 1, candidates: bool = False) -> str:
    """Return a version that was declared, without the ``v`` of a tag.

    :param option: its name, for the error.
    :param value: the text that was given.
    :param example: an example of the wanted form.
    :param fewest: how many numbers it has to have; never more than three.
    :param candidates: release candidates will do: 0.30.0-rc1.
    :raises FarmError: it has another form, or is a number, which has lost the zeros at its end.
    """
    if not isinstance(value, str):
        raise FarmError(f"{option} {value}: wanted a form like {example}, in quotes: a number has lost its last zeros")
    found = _DECLARED.match(value.strip())
    if not found or not fewest <= found.group(1).count(".") + 1 <= 3 or (found.group(2) and not candidates):
        raise FarmError(f"{option} {value!r}: wanted a form like {example}, without what packages add to it")
    return found.group(1) + (found.group(2) or "")


def numbers(version: str) -> Tuple[int, ...]:
    """Return the numbers of a version, to compare it by; 28.0 and 28.0.0 are the same."""
    parts = [int(part) for part in version.split(".")]
    while parts and not parts[-1]:
        parts.pop()
    return tuple(parts)
