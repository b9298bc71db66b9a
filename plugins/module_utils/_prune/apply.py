# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Pruning: read, plan, apply."""

from __future__ import annotations

from typing import Any, Dict, Mapping

from .._core.errors import FarmError
from .._core.outcome import Outcome
from .._core.runner import Runner
from .declaration import Declaration
from .plan import PrunePlan, plan
from .prediction import total_of
from .state import Cache, Site, State, read_state


def run(params: Mapping[str, Any], check_mode: bool, runner: Runner) -> Outcome:
    """Run the module ``buildx_prune``.

    :raises FarmError: the declaration is wrong, or something could not be pruned; all else has been.
    """
    site = Site.from_params(params)
    declaration = Declaration.from_params(params)
    state = read_state(declaration, site)
    planned = plan(declaration, state, str(site.store.directory))
    if not check_mode:
        planned.apply(site)
    values = _values(state, planned, site, check_mode)
    if site.failures:
        raise FarmError(
            f"{'; '.join(site.failures)}. All else was pruned; run again when that is repaired",
            **planned.outcome(**values).as_result(),
        )
    return planned.outcome(**values)


def _values(state: State, planned: PrunePlan, site: Site, check_mode: bool) -> Dict[str, Any]:
    nodes = [_describe(cache, site, check_mode) for cache in state.caches]
    return {
        "nodes": nodes,
        "freed": sum(node["freed"] for node in nodes),
        "orphans": [orphan.as_dict() for orphan in planned.orphans],
    }


def _describe(cache: Cache, site: Site, check_mode: bool) -> Dict[str, Any]:
    gone = cache.going if check_mode else site.freed.get((cache.node.container, cache.node.endpoint), ())
    return {
        "builder": cache.builder,
        "name": cache.node.name,
        "endpoint": cache.node.endpoint,
        "running": cache.running,
        "error": cache.error or None,
        "bytes": total_of(cache.records),
        "records": len(cache.records),
        "predicted": total_of(cache.going),
        "freed": total_of(gone),
        "freed_records": len(gone),
    }
