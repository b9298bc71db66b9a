# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What ``daemon.json`` had before settings were merged into it, so that just these can be taken out again.

It is kept beside the file, for the keys that were changed only: what somebody else writes there meanwhile stays.
"""

from __future__ import annotations

import json
import os
from typing import Any, Dict, Iterator, List, Mapping, Optional, Tuple

from . import daemon_config
from .daemon_config import NETWORK_KEYS

#: A key with those that it is within, and its value: nothing where there is no such key.
_Leaf = Tuple[Tuple[str, ...], List[Any]]


def record_path(config_path: str) -> str:
    """Return where the record of a configuration file is."""
    folder, name = os.path.split(config_path)
    return os.path.join(folder, f".{name}.former")


def recorded(record: Optional[bytes], held: Optional[bytes], content: bytes, path: str) -> bytes:
    """Return the record after a change.

    :param record: as it is, None where nothing was changed before.
    :param held: the configuration file before the change, None where there is none.
    :param content: the file after the change.
    :raises FarmError: one of them is not a JSON object.
    """
    # Of a file that somebody has removed since, nothing is left to go back to.
    whole = {} if held is None else daemon_config.parse(record, record_path(path))
    whole = whole or {"text": None if held is None else held.decode(), "changed": []}
    known = {tuple(one["key"]): one for one in whole["changed"]}
    before, after = (dict(_leaves(daemon_config.parse(text, path))) for text in (held, content))
    for key in [*before, *(key for key in after if key not in before)]:
        now, then = after.get(key, []), before.get(key, [])
        if now != then and key[0] not in NETWORK_KEYS:
            known[key] = {"key": list(key), "before": known.get(key, {"before": then})["before"], "after": now}
    whole["changed"] = [one for one in known.values() if one["before"] != one["after"]]
    return (json.dumps(whole, indent=2) + "\n").encode()


def put_back(record: Optional[bytes], held: Optional[bytes], path: str) -> Optional[bytes]:
    """Return the configuration file as it was before, in what is still as it was set; None where there was no file.

    With the same values as before it has the same bytes. One that somebody has removed stays away.

    :raises FarmError: one of them is not a JSON object.
    """
    if held is None:
        return None
    whole = daemon_config.parse(record, record_path(path))
    current = daemon_config.parse(held, path)
    found = dict(_leaves(current))
    values = current
    for one in whole.get("changed", ()):
        key = tuple(one["key"])
        if found.get(key, []) == one["after"]:
            values = _with(values, key, one["before"])
    if values == current:
        return held
    text = whole.get("text")
    former = None if text is None else text.encode()
    return former if values == daemon_config.parse(former, path) else daemon_config.render(values)


def _leaves(values: Mapping[str, Any], above: Tuple[str, ...] = ()) -> Iterator[_Leaf]:
    """Yield what stands in a configuration; an object without a key is a value too."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, (*above, key))
        else:
            yield (*above, key), [value]


def _with(values: Mapping[str, Any], key: Tuple[str, ...], value: List[Any]) -> Dict[str, Any]:
    """Return a configuration with another value of a key; objects that are left without a key go with it."""
    changed = dict(values)
    first, rest = key[0], key[1:]
    below = changed.get(first)
    if rest:
        inner = _with(below if isinstance(below, Mapping) else {}, rest, value)
        value = [inner] if inner else []
    if value:
        changed[first] = value[0]
    else:
        changed.pop(first, None)
    return changed
