# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Text of programs without what moves a terminal's cursor or colours it, which logs and web pages show as litter."""

from __future__ import annotations

import re

#: Control sequences (ECMA-48, 5.4), commands to the terminal up to their end, and other escapes.
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])")


def plain(text: str) -> str:
    """Return a text as a terminal would leave it: of a line that was written over, what was written last."""
    lines = _ESCAPES.sub("", text).replace("\r\n", "\n").split("\n")
    return "\n".join(_shown(line) for line in lines)


def _shown(line: str) -> str:
    last = next((part for part in reversed(line.split("\r")) if part.strip()), "")
    return "".join(
        letter if letter.isprintable() else " " if letter == "\t" else "\N{REPLACEMENT CHARACTER}" for letter in last
    )
