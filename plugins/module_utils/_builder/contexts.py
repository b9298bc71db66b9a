# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The docker contexts of a builder's nodes: there before the nodes are looked at, gone when no node needs them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Dict, List, Mapping, Optional

from .._context.apply import contexts
from .._core.errors import FarmError
from .._core.outcome import Outcome
from .._core.runner import Runner


def keep_contexts(params: Mapping[str, Any], check_mode: bool, runner: Runner) -> Outcome:
    """Make the contexts that the nodes bring what they are declared to be.

    :raises FarmError: a declaration is wrong, or a file cannot be read or written.
    """
    declared = _declared(params)
    if not (declared or params["purge_contexts"]):
        return Outcome({}, {}, values={"contexts": [], "leftover": []})
    return contexts(_options(params, declared), check_mode, runner)


def purge_contexts(
    params: Mapping[str, Any], builder: Optional[Mapping[str, Any]], kept: Outcome, check_mode: bool, runner: Runner
) -> Outcome:
    """Remove the contexts that were made for a builder and that it no longer needs.

    :param builder: as the module returns it, None where there is none any more.
    :param kept: of ``keep_contexts``.
    :raises FarmError: who uses them cannot be found out, or a file cannot be removed.
    """
    whole = params["nodes"] is not None or params["absent_nodes"] or params["state"] == "absent"
    if not (params["purge_contexts"] and whole and kept.values["leftover"]):
        return replace(kept, actions=())
    options = {**_options(params, _declared(params)), "purge": True, "builder": builder or {"name": params["name"]}}
    purged = contexts(options, check_mode, runner)
    # In check mode those that are declared are still to be made.
    return replace(purged, actions=[action for action in purged.actions if action not in kept.actions])


def with_contexts(builder: Outcome, kept: Outcome, purged: Outcome) -> Outcome:
    """Return the outcome of a builder and of what was done to its contexts before and after as one."""
    before = _with(builder.before, {**purged.before, **kept.before})
    after = _with(builder.after, purged.after)
    return Outcome(
        before,
        after,
        actions=[*kept.actions, *builder.actions, *purged.actions],
        values={**builder.values, "contexts": purged.values["contexts"]},
        warnings=(*builder.warnings, *purged.warnings),
    )


def _with(builder: Mapping[str, Any], shown: Mapping[str, Any]) -> Dict[str, Any]:
    """Add the contexts that there are to one side of the diff."""
    there = {name: context for name, context in shown.items() if context is not None}
    return {**builder, "contexts": there} if there else dict(builder)


def _declared(params: Mapping[str, Any]) -> List[Dict[str, Any]]:
    """Return the nodes' contexts as the module ``docker_context`` takes them.

    :raises FarmError: one has the name of the builder itself.
    """
    nodes = () if params["state"] == "absent" else params["nodes"] or ()
    found = [{**node["context"], "name": node["endpoint"]} for node in nodes if node["context"]]
    for context in found:
        if context["name"].lower() == params["name"].lower():
            raise FarmError(
                f"builder {params['name']!r}: the context of a node has this name, and buildx could not tell the two"
                " apart; use another for one of them"
            )
    return found


def _options(params: Mapping[str, Any], declared: List[Dict[str, Any]]) -> Dict[str, Any]:
    return {
        "docker_config": params.get("docker_config"),
        "state": "present",
        "contexts": declared,
        "owner": params["name"],
        "purge": False,
        "builder": None,
    }
