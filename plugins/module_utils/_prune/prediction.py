# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which records of a cache BuildKit would prune. Everything here is pure.

Source: moby/buildkit ``cache/manager.go`` (``prune``, ``pruneOnce``, ``sortDeleteRecords``).
"""

from __future__ import annotations

import calendar
import json
import re
import time
from dataclasses import dataclass
from typing import AbstractSet, Any, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

from .._core.errors import FarmError
from .declaration import Selection

#: What BuildKit needs for itself: it goes only where all is to go.
_SPARED = ("internal", "frontend")
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)\Z")


@dataclass(frozen=True)
class Record:
    """A record of a cache, as ``buildctl du`` reports it.

    :ivar size: bytes.
    :ivar used: when it was last used, in seconds since 1970; None if it never was.
    :ivar count: how often it was used.
    :ivar in_use: whether something other than records that could go uses it.
    :ivar shared: whether an engine's images use it as well.
    """

    identifier: str
    size: int
    kind: str = "regular"
    used: Optional[float] = None
    count: int = 0
    in_use: bool = False
    shared: bool = False
    parents: Tuple[str, ...] = ()

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Record:
        """Read what BuildKit says of a record."""
        # Versions of BuildKit differ in how they spell the keys.
        values = {key.lower(): value for key, value in raw.items()}
        used = values.get("lastusedat")
        return cls(
            identifier=str(values["id"]),
            size=int(values.get("size") or 0),
            kind=str(values.get("recordtype") or "regular"),
            used=None if used is None else parse_time(used),
            count=int(values.get("usagecount") or 0),
            in_use=bool(values.get("inuse")),
            shared=bool(values.get("shared")),
            parents=tuple(values.get("parents") or ()),
        )


def parse_records(output: str) -> Tuple[Record, ...]:
    """Read the output of ``buildctl du`` or ``buildctl prune`` with the format ``{{json .}}``.

    :raises FarmError: it is something else.
    """
    try:
        found: List[Any] = []
        for line in filter(str.strip, output.splitlines()):
            document = json.loads(line)
            found += document if isinstance(document, list) else [] if document is None else [document]
        return tuple(Record.from_json(raw) for raw in found)
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise FarmError(f"BuildKit's answer cannot be read ({exc}): {output.strip()[:200]!r}") from exc


def parse_time(text: str) -> float:
    """Return a time of RFC 3339 in seconds since 1970.

    :raises ValueError: it is none.
    """
    match = _TIME.match(text)
    if match is None:
        raise ValueError(f"{text!r} is no time")
    whole, fraction, zone = match.groups()
    seconds = calendar.timegm(time.strptime(whole, "%Y-%m-%dT%H:%M:%S")) + float(fraction or 0)
    if zone == "Z":
        return seconds
    offset = int(zone[1:3]) * 3600 + int(zone[4:6]) * 60
    return seconds - offset if zone[0] == "+" else seconds + offset


def predict(
    records: Sequence[Record], selection: Selection, now: float, matching: Optional[AbstractSet[str]] = None
) -> Tuple[Record, ...]:
    """Return the records that BuildKit would prune, in its order.

    :param now: the time on the node, in seconds since 1970.
    :param matching: identifiers of the records that the filters match; None where there are no filters.
    """
    left = {record.identifier: record for record in records}
    users: Dict[str, int] = {}
    for record in records:
        for parent in record.parents:
            users[parent] = users.get(parent, 0) + 1
    eligible = {
        record.identifier
        for record in records
        if not record.in_use
        and (matching is None or record.identifier in matching)
        and (selection.everything or not (record.kind in _SPARED or record.shared))
        and (not selection.older_than or record.used is None or record.used <= now - selection.older_than)
    }
    total = sum(record.size for record in records if not record.shared)
    gone: List[Record] = []
    while eligible and (selection.keep is None or total >= selection.keep):
        ready = [left[name] for name in left if name in eligible and not users.get(name)]
        if not ready:
            break
        # Where a size is to be kept, one record goes after the other.
        for record in ready if selection.keep is None else _in_order(ready)[:1]:
            del left[record.identifier]
            eligible.discard(record.identifier)
            total -= record.size
            gone.append(record)
            for parent in record.parents:
                users[parent] -= 1
    return tuple(gone)


def total_of(records: Iterable[Record]) -> int:
    """Return the bytes that records take."""
    return sum(record.size for record in records)


def _in_order(records: Sequence[Record]) -> List[Record]:
    """Return records in the order in which they go: by the ranks of their last use and of how often they were used."""
    by_use = sorted(records, key=lambda record: (record.used is not None, record.used or 0))
    use, last_use = _ranks([record.used or 0 for record in by_use])
    used = {record.identifier: rank for record, rank in zip(by_use, use)}
    by_count = sorted(by_use, key=lambda record: record.count)
    count, last_count = _ranks([record.count for record in by_count])
    counted = {record.identifier: rank for record, rank in zip(by_count, count)}
    return sorted(
        by_count,
        key=lambda record: used[record.identifier] / last_use + counted[record.identifier] / last_count,
    )


def _ranks(values: Sequence[float]) -> Tuple[List[float], float]:
    """Return the rank of each of ascending values, from 1, or from 2 where the first is not 0, and the last rank."""
    ranks, rank, last = [], 1.0, 0.0
    for value in values:
        if value > last:
            last, rank = value, rank + 1
        ranks.append(rank)
    return ranks, rank
