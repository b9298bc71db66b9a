# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The engine's configuration file, ``daemon.json``: read, merged with what is declared, written."""

from __future__ import annotations

import codecs
import json
from typing import Any, Dict, List, Mapping, Optional

from .._core.errors import FarmError
from .._core.urls import mask

#: The keys that make a TCP listener; none of them can stand beside the flag of its name.
NETWORK_KEYS = ("hosts", "tls", "tlsverify", "tlscacert", "tlscert", "tlskey")
#: What JSON calls the types of its values.
_TYPES = {list: "array", str: "string", bool: "boolean", int: "number", float: "number", type(None): "null"}


def parse(content: Optional[bytes], path: str) -> Dict[str, Any]:
    """Read the file's content; a missing or an empty file is an empty configuration, as it is to the engine.

    :raises FarmError: it is not a JSON object; names the line.
    """
    if content is None or not content.strip():
        return {}
    if content.startswith((codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise FarmError(
            f"{path}: begins with a byte order mark, which Docker before 23.0 does not read; save it as UTF-8 without "
            "one, it was not touched"
        )
    try:
        value = json.loads(content.decode())
    except UnicodeDecodeError as exc:
        raise FarmError(
            f"{path}: not UTF-8 text ({exc.reason} at byte {exc.start}); correct the file, it was not touched"
        ) from exc
    except json.JSONDecodeError as exc:
        raise FarmError(
            f"{path}, line {exc.lineno}, column {exc.colno}: not JSON: {exc.msg}; correct the file, it was not touched"
        ) from exc
    if not isinstance(value, dict):
        raise FarmError(
            f"{path}: found a JSON {_TYPES[type(value)]}, wanted an object, as in {{}}; correct the file, it was not "
            "touched"
        )
    return value


def merge(current: Mapping[str, Any], declared: Mapping[str, Any]) -> Dict[str, Any]:
    """Apply a declaration as a JSON merge patch (RFC 7396): objects are merged, null removes, the rest replaces."""
    merged = dict(current)
    for key, value in declared.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, Mapping):
            below = merged.get(key)
            merged[key] = merge(below if isinstance(below, Mapping) else {}, value)
        else:
            merged[key] = value
    return merged


def render(values: Mapping[str, Any]) -> bytes:
    """Return the file's content for a configuration, keys in their order."""
    return (json.dumps(values, indent=2, ensure_ascii=False) + "\n").encode()


def shown(content: Optional[bytes]) -> List[str]:
    """Return a configuration file's lines for a diff, without the secrets of URLs: proxies have passwords."""
    return mask((content or b"").decode(errors="replace")).splitlines()
