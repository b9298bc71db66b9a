# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Carrying the plan for a builder out, and undoing it where a step fails.

Nodes are started before the definition is written, which happens in one step when all that it promises is there.
A run that is killed before leaves the old definition, and the next one goes on from what it finds.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

from .._buildx.cli import BootProgress, Inspection, parse_boot_errors, parse_inspect, without_secrets
from .._buildx.store import Instance, Node, StoreConflict
from .._core.errors import FarmError
from .._core.files import write_atomically
from .._core.outcome import Outcome
from .._core.runner import CommandError, Result, Runner
from .._docker.endpoint import Endpoint
from .container import remove_container, remove_volume, stop_container
from .contexts import keep_contexts, purge_contexts, with_contexts
from .declaration import OPTION_FLOORS, read_declaration
from .model import Declaration, Found, Observation, Place, Plan, Step, describe
from .observe import Site, in_parallel, observe, runs, scratch, site_of, stored_driver, with_status
from .plan import check_platforms, is_open, plan

#: Looking at the nodes after the start has what is left of 20 seconds that began before it
#: (docker/buildx commands/inspect.go), so a start that takes longer is told as a failure. The next call finds it done.
_BUILDX_DEADLINE, _BOOT_ATTEMPTS = "context deadline exceeded", 5
#: How often a run starts again because buildx changed the builder under it.
_ATTEMPTS = 3


def run_module(params: Dict[str, Any], check_mode: bool, runner: Runner) -> Outcome:
    """The logic of the module ``buildx_builder``."""
    site = site_of(params, runner)
    driver = stored_driver(params["name"], site.store)
    kept = keep_contexts(params, True, runner)
    # A context that is still to be made leads nowhere yet.
    probe = not check_mode or (params["probe"] and not kept.changed)
    if kept.changed and not check_mode:
        # What is wrong with the declaration is told before anything is written.
        read_declaration(params, site.contexts, driver, lenient=True)
        keep_contexts(params, False, runner)
    declared = read_declaration(params, site.contexts, driver, lenient=not probe)
    outcome = reconcile(declared, site, check_mode, probe)
    purged = purge_contexts(params, outcome.values["builder"], kept, check_mode, runner)
    return with_contexts(outcome, kept, purged)


def reconcile(declared: Declaration, site: Site, check_mode: bool, probe: bool = True) -> Outcome:
    """Make a builder what it is declared to be.

    :param probe: False predicts without contacting any node, as if none had a container.
    :raises FarmError: it cannot be met, or a step failed; the message says what was left.
    """
    observed = observe(declared, site, probe, ask=False)
    planned = plan(declared, observed)
    if is_open(declared, planned) or (check_mode and planned.steps):
        observed = observe(declared, site, probe)
        planned = plan(declared, observed)
    if not planned.steps or check_mode:
        if planned.steps:
            _require_buildx(site, planned, must_exist=False)
        return _outcome(declared, planned, observed.places)
    _require_buildx(site, planned, must_exist=True)
    with site.store.lock(timeout=site.boot_timeout, file=f".multiarch.{declared.name.lower()}.lock"):
        for attempt in range(_ATTEMPTS):
            # Another run may have worked on the builder while this one waited for the lock.
            observed = observe(declared, site)
            planned = plan(declared, observed)
            application = _Application(declared, site, observed, planned)
            try:
                application.run()
                break
            except StoreConflict:
                if attempt == _ATTEMPTS - 1:
                    raise
    after = application.with_answers(observe(declared, site, ask=False))
    left = plan(declared, after).steps
    if left:
        raise FarmError(
            f"builder {declared.name!r}: all steps were done, and still {_texts(left)} would be needed; has something"
            " else changed the builder or its nodes meanwhile?",
            actions=[list(step.action) for step in planned.steps],
        )
    return _outcome(declared, planned, after.places)


class _Application:
    """One plan being carried out, and what it takes to undo it."""

    def __init__(self, declared: Declaration, site: Site, observed: Observation, planned: Plan) -> None:
        self._declared, self._site, self._observed, self._planned = declared, site, observed, planned
        self._touched: List[Node] = []
        self._content = observed.content
        self._answers: Dict[Place, Found] = dict(observed.places)

    def with_answers(self, observed: Observation) -> Observation:
        """Return what was found with what BuildKits have said in this run: they need not be asked again."""
        places = dict(observed.places)
        for place, told in self._answers.items():
            found = places.get(place, Found())
            if runs(found):
                places[place] = replace(found, detected=told.detected, version=told.version, trouble=told.trouble)
        return replace(observed, places=places)

    def run(self) -> None:
        """Do all steps.

        :raises StoreConflict: the definition was changed by another process; nothing was written.
        :raises FarmError: a step failed; all that can be undone has been undone.
        """
        work: Mapping[str, Callable[[Tuple[Step, ...]], None]] = {
            "drop": self._drop,
            "stop": self._stop,
            "boot": self._boot,
            "uninstall": self._uninstall,
            "save": self._save,
            "write": self._write,
            "remove": self._remove,
            "use": self._use,
        }
        try:
            for kind, steps in groupby(self._planned.steps, key=lambda step: step.kind):
                work[kind](tuple(steps))
        except StoreConflict:
            raise
        except FarmError as exc:
            raise FarmError(f"{exc.message.rstrip('.')}. {self._undo()}", **exc.details) from exc

    def _drop(self, steps: Tuple[Step, ...]) -> None:
        in_parallel(steps, lambda step: self._drop_node(step.nodes[0], step.volumes))

    def _drop_node(self, node: Node, volume: bool) -> None:
        endpoint, contexts = Endpoint.parse(node.endpoint), self._site.contexts
        self._touched.append(node)
        remove_container(endpoint, contexts, node.container)
        if volume:
            remove_volume(endpoint, contexts, node.volume)

    def _stop(self, steps: Tuple[Step, ...]) -> None:
        nodes = [step.nodes[0] for step in steps]
        in_parallel(
            nodes, lambda node: stop_container(Endpoint.parse(node.endpoint), self._site.contexts, node.container)
        )

    def _boot(self, steps: Tuple[Step, ...]) -> None:
        target = _existing(self._planned.target)
        nodes = [node for step in steps for node in step.nodes]
        self._touched += nodes
        inspection = self._start(target, nodes)
        for node in nodes:
            place = (node.name, node.endpoint)
            self._answers[place] = with_status(self._answers.get(place, Found()), node, target.driver, inspection)
        check_platforms(self._declared, target, self._answers)

    def _start(self, builder: Instance, nodes: Sequence[Node]) -> Inspection:
        """Start nodes with buildx, all at once.

        :raises FarmError: buildx did not bring one of them up.
        """
        site = self._site
        failed = [node.name for node in nodes]
        with scratch(replace(builder, nodes=tuple(nodes))) as env:
            for _attempt in range(_BOOT_ATTEMPTS):
                try:
                    result = site.buildx.run(
                        ["inspect", "--bootstrap", builder.name],
                        env=env,
                        timeout=site.boot_timeout,
                        # Of a single node that is left to be started buildx does not say the name.
                        follow=_boot_log(builder.name, failed),
                    )
                except CommandError as exc:
                    exc.details["stdout"] = without_secrets(exc.result.stdout)
                    raise
                inspection = parse_inspect(result.stdout)
                # buildx exits with 0 although nodes failed, and names none where it does not.
                failed = [node.name for node in nodes if not _is_running(inspection, node.name)]
                if not failed or _BUILDX_DEADLINE not in result.stdout + result.stderr:
                    break
        if failed:
            raise FarmError(
                f"builder {builder.name!r}: buildx could not start {_why(failed, inspection, result)}",
                cmd=list(result.argv),
                rc=result.rc,
                stdout=without_secrets(result.stdout),
                stderr=result.stderr,
            )
        return inspection

    def _uninstall(self, steps: Tuple[Step, ...]) -> None:
        present = _existing(self._observed.instance)
        for step in steps:
            self._rm(replace(present, nodes=step.nodes), step.action[2:])

    def _rm(self, part: Instance, argv: Sequence[str]) -> None:
        with scratch(part) as env:
            self._site.buildx.run(
                argv,
                failure=f"builder {part.name!r}: buildx could not remove {_names(part.nodes)}",
                env=env,
                timeout=self._site.boot_timeout,
            )

    def _save(self, steps: Tuple[Step, ...]) -> None:
        write_atomically(self._observed.broken_copy, self._observed.content or b"", 0o600)

    def _write(self, steps: Tuple[Step, ...]) -> None:
        self._content = self._site.store.write(_existing(self._planned.target), self._observed.content)

    def _remove(self, steps: Tuple[Step, ...]) -> None:
        self._site.store.remove(self._declared.name, self._observed.content)
        self._content = None

    def _use(self, steps: Tuple[Step, ...]) -> None:
        for step in steps:
            self._site.buildx.run(
                step.action[2:], failure=f"builder {self._declared.name!r}: buildx could not make it the current one"
            )

    def _undo(self) -> str:
        """Put back what was there, as far as that is possible; returns what a person must know of it."""
        troubles = []
        for node in self._touched:
            try:
                self._put_back(node)
            except FarmError as exc:
                troubles.append(f"node {node.name!r} could not be put back ({exc.message})")
        try:
            if self._content != self._observed.content:
                self._site.store.restore(self._declared.name, self._content, self._observed.content)
        except FarmError as exc:
            troubles.append(exc.message)
        if troubles:
            return (
                f"The builder's definition was left as it was, but {'; '.join(troubles)}: run again when it is repaired"
            )
        return "The builder was put back as it was"

    def _put_back(self, node: Node) -> None:
        """Take away what this run has put at a node's place, and start what ran there before."""
        found, target, at = self._observed.instance, self._planned.target, self._observed.at(node)
        old = found.node(node.name) if found else None
        ran = runs(at)
        if target and target.driver == "docker-container" and at.known:
            endpoint, contexts = Endpoint.parse(node.endpoint), self._site.contexts
            remove_container(endpoint, contexts, node.container)
            if at.container is None and not at.cache:
                remove_volume(endpoint, contexts, node.volume)
        elif target and target.driver == "kubernetes":
            ran = at.detected is not None
            if node != old:
                self._rm(replace(target, nodes=(node,)), ["rm", target.name])
        if found and old and old.endpoint == node.endpoint and ran:
            self._start(found, [old])


def _boot_log(builder: str, nodes: Sequence[str]) -> Callable[[str], str]:
    """Return what makes of a line of buildx's progress a line of the system's log.

    :param nodes: the names of those that are started.
    """
    progress = BootProgress()

    def tell(line: str) -> str:
        step = progress.read(line)
        return f"builder {builder!r}, node {step[0] or nodes[0]!r}: {step[1]}" if step else ""

    return tell


def _is_running(inspection: Inspection, name: str) -> bool:
    status = inspection.node(name)
    return status is not None and status.status == "running"


def _why(failed: Sequence[str], inspection: Inspection, result: Result) -> str:
    """Say of each failed node why; where buildx ended at the first failure, only it knows of what."""
    said = parse_boot_errors(result.stderr)
    whole = said.get("") or inspection.error or result.stderr.strip().rpartition("\n")[2]
    known = {}
    for name in failed:
        status = inspection.node(name)
        known[name] = said.get(name) or (status.error if status else "") or ("" if len(said) > 1 else whole)
    blamed = {name: error for name, error in known.items() if error} or dict.fromkeys(failed, "no reason given")
    return "; ".join(f"node {name!r} ({error})" for name, error in blamed.items())


def _require_buildx(site: Site, planned: Plan, must_exist: bool) -> None:
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


def _outcome(declared: Declaration, planned: Plan, places: Mapping[Place, Found]) -> Outcome:
    builder = None if planned.target is None else describe(planned.target, places, declared.platforms)
    return Outcome(
        before=planned.before,
        after=planned.after,
        actions=[step.action for step in planned.steps],
        values={"builder": builder},
        warnings=planned.warnings,
    )


def _existing(instance: Optional[Instance]) -> Instance:
    """Return an instance that the plan would not have this step without."""
    if instance is None:
        raise AssertionError("a step of the plan works on an instance that is not there")
    return instance


def _names(nodes: Iterable[Node]) -> str:
    return ", ".join(f"node {node.name!r}" for node in nodes)


def _texts(steps: Sequence[Step]) -> str:
    return "; ".join(" ".join(step.action) for step in steps)
