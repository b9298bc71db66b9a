# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""HTML from elements: whatever is not made here is text, and escaped."""

from __future__ import annotations

from html import escape
from typing import Iterable, Optional, Union

#: Elements that have no content, and no end.
_VOID = frozenset(("meta", "link", "wbr"))


class Markup:
    """HTML that was made here."""

    def __init__(self, text: str) -> None:
        self.text = text


Content = Union[str, Markup, Iterable[Union[str, Markup]], None]


def element(name: str, *content: Content, **attributes: Optional[str]) -> Markup:
    """Return an element.

    :param content: texts, elements, or several; None is nothing.
    :param attributes: by their names, with ``_`` for ``-`` and one at the end of a name that is Python's; None is left
        out.
    """
    shown = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_safe(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{name}{shown}>" if name in _VOID else f"<{name}{shown}>{join(*content).text}</{name}>")


def join(*content: Content) -> Markup:
    """Return several texts and elements as one."""
    parts = []
    for one in content:
        if isinstance(one, Markup):
            parts.append(one.text)
        elif isinstance(one, str):
            parts.append(_safe(one))
        elif one is not None:
            parts += [join(inner).text for inner in one]
    return Markup("".join(parts))


def _safe(text: str) -> str:
    """Escape a text; characters that no document may have, and those that turn the direction of text, are shown."""
    plain = "".join(one if one.isprintable() else " " if one.isspace() else f"\\u{ord(one):04x}" for one in text)
    return escape(plain, quote=True)
