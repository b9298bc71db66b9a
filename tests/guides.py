# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the guides and the README show: their blocks, the commands in those, and what these are said to print."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
GUIDES = sorted((CHECKOUT / "docs/docsite/rst").glob("guide_*.rst"))
README = CHECKOUT / "README.md"

_RST = re.compile(r"^\.\. code-block:: (\S+)\n(?:   :.*\n)*\n((?:   .*\n|\n)+)", re.MULTILINE)
#: A fenced block, or commands that are indented.
_MARKDOWN = re.compile(r"^```(\S+)\n((?:.*\n)*?)```$|^\n((?:    .*\n)+)$", re.MULTILINE)
_VARYING = (
    # A digest, whole or shortened, and how long something took.
    (re.compile(r"sha256:(?:[0-9a-f]{64}|[0-9a-f]+…|…)"), "sha256:DIGEST"),
    (re.compile(r" *\b[0-9]+\.[0-9]s\b"), " SECONDS"),
)


@dataclass(frozen=True)
class Block:
    """A block of a page, as a reader takes it from there."""

    page: str
    language: str
    text: str

    @property
    def name(self) -> str:
        """What it is called where something is said of it: how it begins."""
        return f"{self.page}: {re.split('  +', self.text.strip())[0].splitlines()[0]}"

    @property
    def commands(self) -> list[tuple[str, str]]:
        """Its commands, each with what it is shown to print: none where no line begins with a prompt."""
        if not self.text.startswith("$ "):
            return [(line, "") for line in self.text.splitlines() if line and not line.startswith("#")]
        parts = re.split(r"^\$ ", self.text, flags=re.MULTILINE)[1:]
        # A command goes on after a backslash.
        return [(found[0], found[1]) for found in (re.split(r"(?<!\\)\n", part, maxsplit=1) for part in parts)]


def blocks(page: Path) -> list[Block]:
    """The code blocks of a page."""
    text = page.read_text()
    if page.suffix == ".md":
        found = [(language or "console", fenced or shown) for language, fenced, shown in _MARKDOWN.findall(text)]
    else:
        found = _RST.findall(text)
    return [Block(page.stem, language.lower(), textwrap.dedent(text).strip("\n") + "\n") for language, text in found]


def comparable(output: str, names: Iterable[tuple[str, str]] = ()) -> list[str]:
    """The lines of what a program printed, with a word for what is another each time, and without trailing blanks.

    :param names: what else is called differently there, and what it is to be called.
    """
    for name, documented in names:
        output = re.sub(rf"(?<![\w.]){re.escape(name)}(?![\w.-])", documented, output)
    for pattern, word in _VARYING:
        output = pattern.sub(word, output)
    return [line.rstrip() for line in output.strip("\n").splitlines()]
