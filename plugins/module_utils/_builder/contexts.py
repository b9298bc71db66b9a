# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The docker contexts of a builder's nodes: there before the nodes are read, removed when no node needs them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Dict, Mapping, Optional

from .._context.apply import describe, plan_contexts
from .._context.declaration import ContextSpec, Declaration, refuse_repeats
from .._context.plan import ContextsPlan
from .._context.steps import RemoveContext
from .._core.errors import FarmError
from .._core.outcome import Outcome
from .nodes import Site


def declared_contexts(params: Mapping[str, Any]) -> Declaration:
    """Return the contexts that the nodes bring.

    :raises FarmError: one cannot be meant, or has the name of the builder itself.
    """
    nodes = () if params["state"] == "absent" else params["nodes"] or ()
    specs = tuple(
        ContextSpec.from_params({**node["context"], "name": node["endpoint"]}) for node in nodes if node["context"]
    )
    for spec in specs:
        if spec.name.lower() == params["name"].lower():
            raise FarmError(
                f"builder {params['name']!r}: the context of a node has this name, and buildx could not distinguish the"
                " two; use another for one of them"
            )
    refuse_repeats([spec.name for spec in specs])
    return Declaration(specs, owner=params["name"])


def plan_ensuring(declaration: Declaration, site: Site, lenient: bool) -> ContextsPlan:
    """Return the plan that makes the contexts what they are declared to be.

    :param lenient: True accepts declared files that do not exist yet.
    :raises FarmError: the declaration cannot be met, or a file cannot be read.
    """
    if not declaration.present:
        return ContextsPlan({}, {})
    return plan_contexts(declaration, site.contexts, site.store, lenient)


def plan_purging(
    params: Mapping[str, Any],
    declaration: Declaration,
    ensured: ContextsPlan,
    builder: Optional[Mapping[str, Any]],
    site: Site,
) -> ContextsPlan:
    """Return the plan that removes the contexts that were made for a builder and that it no longer needs.

    :param ensured: of ``plan_ensuring``.
    :param builder: as the module returns it, None where there is none any more.
    :raises FarmError: who uses them cannot be found out, or a file cannot be read.
    """
    all_known = params["nodes"] is not None or params["absent_nodes"] or params["state"] == "absent"
    if not (params["purge_contexts"] and all_known):
        return replace(ensured, steps=())
    purge = replace(declaration, purge=True, builder=builder or {"name": params["name"]})
    planned = plan_contexts(purge, site.contexts, site.store, lenient=True)
    # In check mode those that are declared are still to be made.
    return replace(planned, steps=tuple(step for step in planned.steps if isinstance(step, RemoveContext)))


def with_contexts(builder: Outcome, ensured: ContextsPlan, purged: ContextsPlan, site: Site) -> Outcome:
    """Return the outcome of a builder and of what was done to its contexts before and after as one."""
    first, last = ensured.outcome(), purged.outcome()
    return Outcome(
        before=_with(builder.before, {**last.before, **first.before}),
        after=_with(builder.after, last.after),
        actions=[*first.actions, *builder.actions, *last.actions],
        values={**builder.values, "contexts": describe(purged, site.contexts)},
        warnings=(*builder.warnings, *last.warnings),
    )


def _with(builder: Mapping[str, Any], shown: Mapping[str, Any]) -> Dict[str, Any]:
    """Add the contexts that there are to one side of the diff."""
    there = {name: context for name, context in shown.items() if context is not None}
    return {**builder, "contexts": there} if there else dict(builder)
