# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Values as buildx's command line takes them: text, ``key=value`` pairs, and fields in one line of CSV.

Source: docker/buildx ``util/buildflags/``.
"""

from __future__ import annotations

import csv
import io
from typing import Any, Iterator, List, Mapping, Sequence, Tuple

from .._core.errors import FarmError


def text_of(subject: str, value: Any) -> str:
    """Return a value as the command line takes it.

    :param subject: what it is the value of, for the message.
    :raises FarmError: it is no text, number or boolean.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int, float)):
        return str(value)
    raise FarmError(f"{subject}: wanted text, found {type(value).__name__}")


def joined(fields: Sequence[str]) -> str:
    """Return fields as one line of CSV, quoted as buildx's parser wants it."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(fields)
    return text.getvalue()


def pairs_of(subject: str, raw: Any, separators: str = "=") -> Iterator[Tuple[str, str]]:
    """Yield the keys and values of an option that takes a dictionary or a list in the command line's syntax.

    :param raw: a dictionary, a list of texts, or a single one; None yields nothing.
    :param separators: characters, any of which may stand between a key and its value.
    :raises FarmError: an entry is no such pair, or a value is no text.
    """
    if isinstance(raw, Mapping):
        for key, value in raw.items():
            yield str(key), text_of(f"{subject}: {key}", value)
        return
    for item in [raw] if isinstance(raw, str) else raw or ():
        text = text_of(subject, item)
        position = min((text.index(one) for one in separators if one in text), default=-1)
        if position < 1:
            raise FarmError(f"{subject}: {text!r}: wanted KEY{separators[0]}VALUE, or a dictionary of keys and values")
        yield text[:position], text[position + 1 :]


def attributes_of(subject: str, raw: Any) -> Tuple[Tuple[str, str], ...]:
    """Return the attributes of an entry that is a dictionary or a line of CSV, keys in lower case.

    :raises FarmError: it is neither, a field is no ``key=value`` pair, or a key is there twice.
    """
    if not isinstance(raw, (str, Mapping)):
        raise FarmError(f"{subject}: wanted a dictionary or text such as type=TYPE, found {type(raw).__name__}")
    fields: Any = next(csv.reader([raw]), []) if isinstance(raw, str) else raw
    found: List[Tuple[str, str]] = []
    for key, value in pairs_of(subject, fields):
        name = key.strip().lower()
        if name in dict(found):
            raise FarmError(f"{subject}: {name} is there twice; give it once")
        found.append((name, value))
    return tuple(found)
