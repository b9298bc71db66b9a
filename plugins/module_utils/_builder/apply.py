# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Making a builder what it is declared to be: read, plan, apply, verify.

Nodes are started before the definition is written, which happens in one step when all that it promises is there.
A run that is killed before leaves the old definition, and the next one goes on from what it finds.

Several runs may be made to do the same at the same moment. Those of one controller wait for each other at the builder's
definition, those of several at the engines. What nobody keeps others from, as a build that starts a node or an engine
that is restarted, is answered by another plan.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any, Dict, Optional, Sequence, Tuple

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

#: How often a run plans again because buildx, another run or a restarted engine changed something meanwhile.
_ATTEMPTS = 3
#: How often it may be found that what was just done does not hold: a build of another controller that defines a node
#: otherwise may have started it in between.
_VERIFIED = 2
#: Seconds for which a restarted engine is waited for.
_RESTART = 60.0
#: What is said of an engine that another run is restarting, and seconds between two looks at it.
_STARTING, _PAUSE = ("connection refused", "connection was closed"), 0.5


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
    if check_mode or not probe:
        state = read_state(declaration, site, Depth.ENGINES if probe else Depth.DEFINITION)
    else:
        state = _read_patiently(declaration, site, site.timeout)
    planned = plan(declaration, state)
    if needs_detected_platforms(declaration, planned.target) or (check_mode and planned.steps):
        state = with_reports(state, declaration, site)
        planned = plan(declaration, state)
    if planned.steps:
        _require_buildx(site, planned, must_exist=not check_mode)
    warnings: Tuple[str, ...] = ()
    if planned.steps and not check_mode:
        with site.store.lock(site.bootstrap_timeout, f".multiarch.{declaration.name.lower()}.lock"):
            planned, state = _converge(declaration, site, planned, probe)
        warnings = tuple(site.locks.warnings)
    builder = None if planned.target is None else describe(planned.target, state.nodes, declaration.platforms)
    return replace(planned, warnings=(*planned.warnings, *warnings)).outcome(builder=builder)


def _converge(declaration: Declaration, site: Site, planned: BuilderPlan, probe: bool) -> Tuple[BuilderPlan, State]:
    """Read, plan, apply and verify while no other run of this module works on the builder or on its nodes.

    :param planned: before: another run may have done it since.
    :param probe: False contacts no node: only the definition is written.
    :return: all that was carried out, as one plan, and the state after it.
    :raises FarmError: a step failed, others worked on a node for too long, or something kept changing the builder.
    """
    engines, verified = planned.engines, 0
    done: Optional[BuilderPlan] = None
    for attempt in range(1, _ATTEMPTS + 1):
        last = attempt == _ATTEMPTS
        with site.locks.held(engines):
            planned = plan(declaration, read_state(declaration, site, Depth.BUILDKIT if probe else Depth.DEFINITION))
            if not planned.engines.keys() <= engines.keys() and not last:
                engines = {**engines, **planned.engines}
                continue
            try:
                planned.apply(site)
            except StoreConflict:
                if last:
                    raise
                continue
            except FarmError:
                if last or not site.locks.lost():
                    raise
                site.unreachable.clear()
                site.reports.clear()
                _read_patiently(declaration, site, _RESTART)
                continue
            done, verified = _together(done, planned), verified + 1
            state = read_state(declaration, site, Depth.ENGINES if probe else Depth.DEFINITION)
            left = plan(declaration, state)
            if not left.steps:
                return done, state
            if last or verified == _VERIFIED:
                break
            engines = {**engines, **left.engines}
    raise FarmError(
        f"builder {declaration.name!r}: all steps were done, and still {_texts(left.steps)} would be needed; has"
        " something else changed the builder or its nodes meanwhile?",
        actions=[step.action for step in done.steps] if done else [],
    )


def _together(done: Optional[BuilderPlan], again: BuilderPlan) -> BuilderPlan:
    """Return as one plan what was carried out one after the other."""
    if done is None:
        return again
    return replace(again, before=done.before, steps=(*done.steps, *again.steps))


def _read_patiently(declaration: Declaration, site: Site, patience: float) -> State:
    """Return the state; engines that are about to listen again are waited for.

    :param patience: seconds for that.
    """
    deadline = time.monotonic() + patience
    while True:
        state = read_state(declaration, site, Depth.ENGINES)
        starting = [text for text, error in site.unreachable.items() if any(sign in error for sign in _STARTING)]
        if not starting or time.monotonic() >= deadline:
            return state
        time.sleep(_PAUSE)
        for text in starting:
            del site.unreachable[text]


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
