# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is to be pruned, as declared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, List, Mapping, Optional, Tuple

from .._buildx.marks import controller_name
from .._core.errors import FarmError
from .._core.quantities import parse_duration, parse_size


@dataclass(frozen=True)
class Selection:
    """Which records of a cache go. Without any limit all go that nothing uses.

    :ivar older_than: seconds without use; None for any age.
    :ivar keep: bytes to which the cache is cut down; None for no such limit.
    :ivar filters: BuildKit's, of which one has to match.
    :ivar everything: whether what BuildKit needs for itself goes too.
    """

    older_than: Optional[int] = None
    keep: Optional[int] = None
    filters: Tuple[str, ...] = ()
    everything: bool = False

    def command(self) -> List[str]:
        """Return the command that prunes, as it is run in a node's container.

        ``--keep-storage`` is there in every version of BuildKit, in megabytes.
        Source: moby/buildkit ``cmd/buildctl/prune.go``.
        """
        return [
            *("buildctl", "prune", "--format", "{{json .}}"),
            *(["--all"] if self.everything else []),
            *([] if self.older_than is None else ["--keep-duration", f"{self.older_than}s"]),
            *([] if self.keep is None else ["--keep-storage", str(self.keep / 1e6)]),
            *(part for text in self.filters for part in ("--filter", text)),
        ]


@dataclass(frozen=True)
class Declaration:
    """What is to be pruned.

    :ivar builder: the one whose nodes are pruned, in lower case; None for all.
    :ivar nodes: names of the nodes that are pruned; None for all.
    :ivar cache: None leaves the caches alone.
    :ivar orphans: ``ignore``, ``report`` or ``remove``.
    :ivar controller: what this controller calls itself on engines.
    :ivar records: how many of buildx's notes on builds are kept; None for all.
    """

    builder: Optional[str] = None
    nodes: Optional[Tuple[str, ...]] = None
    cache: Optional[Selection] = None
    orphans: str = "report"
    controller: str = ""
    records: Optional[int] = None

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> Declaration:
        """Return what a module's parameters declare.

        :raises FarmError: they cannot be meant.
        """
        kept = params["keep_records"]
        if kept is not None and kept < 0:
            raise FarmError(f"keep_records: found {kept}, wanted 0 or more")
        cache = None
        if params["cache"]:
            cache = Selection(_age(params), _keep(params), tuple(params["filters"] or ()), params["all"])
        return cls(
            builder=params["builder"].lower() if params["builder"] else None,
            nodes=None if params["nodes"] is None else tuple(name.lower() for name in params["nodes"]),
            cache=cache,
            orphans=params["orphans"],
            controller=controller_name(params),
            records=kept,
        )


def _age(params: Mapping[str, Any]) -> Optional[int]:
    if not params["older_than"]:
        return None
    try:
        return parse_duration(params["older_than"])
    except FarmError as exc:
        raise FarmError(f"older_than: {exc.message}") from exc


def _keep(params: Mapping[str, Any]) -> Optional[int]:
    if not params["keep"]:
        return None
    try:
        size = parse_size(params["keep"])
    except FarmError as exc:
        raise FarmError(f"keep: {exc.message}") from exc
    if size <= 0:
        raise FarmError(f"keep: found {params['keep']!r}, wanted more than nothing; leave it out for no limit")
    return size
