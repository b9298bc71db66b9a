# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Making a builder what it is declared to be: read, plan, apply, verify.

Nodes are started before the definition is written, which happens in one step when all that it promises is there.
A run that is killed before leaves the old definition, and the next one goes on from what it finds.
"""

from __future__ import annotations

from typing import Any, Dict, Sequence

from .._buildx.store import Store, StoreConflict, TruncatedInstance
from .._core.errors import FarmError
from .._core.outcome import Outcome
from .._core.plan import Step
from .._core.runner import CommandError, Runner
from .contexts import declared_contexts, plan_ensuring, plan_purging, with_contexts
from .declaration import OPTION_FLOORS, Declaration
from .model import describe
from .nodes import Depth, Site
from .plan import plan
from .platforms import needs_detected_platforms
from .state import State, read_state, with_reports
from .steps import BuilderPlan

#: How often a run plans again because buildx changed the builder meanwhile.
_ATTEMPTS = 3


def run(params: Dict[str, Any], check_mode: bool, runner: Runner) -> Outcome:
    """Run the module ``buildx_builder``.

    :raises FarmError: the declaration is wrong or cannot be met, or a step failed.
    """
    site = Site.from_params(params, runner)
    contexts = declared_contexts(params)
    ensured = plan_ensuring(contexts, site, lenient=check_mode)
    # A context that is still to be made leads nowhere yet.
    probe = params["state"] != "defined" and (not check_mode or (params["probe"] and not ensured.steps))
    declaration = Declaration.from_params(
        params,
        site.contexts,
        {spec.name: spec.host for spec in contexts.present},
        stored_driver=_stored_driver(params["name"], site.store),
        lenient=check_mode and not probe,
    )
    if not check_mode:
        ensured.apply(site.contexts)
    outcome = _reconcile(declaration, site, check_mode, probe)
    purged = plan_purging(params, contexts, ensured, outcome.values["builder"], site)
    if not check_mode:
        purged.apply(site.contexts)
    return with_contexts(outcome, ensured, purged, site)


def _reconcile(declaration: Declaration, site: Site, check_mode: bool, probe: bool) -> Outcome:
    """Make a builder what it is declared to be.

    :param probe: False predicts without contacting any node, as if none had a container.
    :raises FarmError: it cannot be met, or a step failed; the message names what was not undone.
    """
    state = read_state(declaration, site, Depth.ENGINES if probe else Depth.DEFINITION)
    planned = plan(declaration, state)
    if needs_detected_platforms(declaration, planned.target) or (check_mode and planned.steps):
        state = with_reports(state, declaration, site)
        planned = plan(declaration, state)
    if planned.steps:
        _require_buildx(site, planned, must_exist=not check_mode)
    if planned.steps and not check_mode:
        with site.store.lock(site.bootstrap_timeout, f".multiarch.{declaration.name.lower()}.lock"):
            planned = _apply(declaration, site, Depth.BUILDKIT if probe else Depth.DEFINITION)
        state = _verify(declaration, site, planned, Depth.ENGINES if probe else Depth.DEFINITION)
    builder = None if planned.target is None else describe(planned.target, state.nodes, declaration.platforms)
    return planned.outcome(builder=builder)


def _apply(declaration: Declaration, site: Site, depth: Depth) -> BuilderPlan:
    """Read, plan and apply while no other run of this module works on the builder, which one may have done before.

    :return: the plan that was carried out.
    :raises FarmError: a step failed, or buildx kept changing the builder.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        planned = plan(declaration, read_state(declaration, site, depth))
        try:
            planned.apply(site)
            break
        except StoreConflict:
            if attempt == _ATTEMPTS:
                raise
    return planned


def _verify(declaration: Declaration, site: Site, done: BuilderPlan, depth: Depth) -> State:
    """Return the state after a plan was carried out.

    :raises FarmError: it is not the one that is declared.
    """
    state = read_state(declaration, site, depth)
    left = plan(declaration, state).steps
    if left:
        raise FarmError(
            f"builder {declaration.name!r}: all steps were done, and still {_texts(left)} would be needed; has"
            " something else changed the builder or its nodes meanwhile?",
            actions=[step.action for step in done.steps],
        )
    return state


def _stored_driver(name: str, store: Store) -> str:
    try:
        instance = store.get(name)
    except TruncatedInstance:
        return ""
    return instance.driver if instance else ""


def _require_buildx(site: Site, planned: BuilderPlan, must_exist: bool) -> None:
    """Refuse a buildx that does not know what the plan writes; one that is yet to be installed is no fault."""
    try:
        site.buildx.version()
    except CommandError:
        if must_exist:
            raise
        return
    site.buildx.require("the module buildx_builder", (0, 7, 0))
    if planned.target is None:
        return
    if planned.target.driver == "remote":
        site.buildx.require("the remote driver", (0, 9, 0))
    used = {option for node in planned.target.nodes for option in node.driver_opts or ()}
    for option in sorted(used & OPTION_FLOORS.keys()):
        site.buildx.require(f"the driver option {option}", OPTION_FLOORS[option])


def _texts(steps: Sequence[Step[Site]]) -> str:
    return "; ".join(" ".join(step.action) for step in steps)
