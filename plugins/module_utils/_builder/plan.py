# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The least work that makes a builder what it is declared to be. Everything here is pure.

The definition is written as a whole rather than with ``docker buildx create``, whose ``--append`` resets flags, keeps
options that were taken away, takes pins from other nodes, and after a failure empties the settings of every node.
"""

from __future__ import annotations

from dataclasses import replace
from typing import AbstractSet, Any, Dict, FrozenSet, List, Optional, Sequence

from .._buildx.store import Instance, Node
from .._core.errors import FarmError
from .._core.plan import Step
from .declaration import Declaration
from .drift import drift
from .model import definition_of, key_of, same_endpoint
from .nodes import Site
from .platforms import check_pins, check_platforms, pinned
from .state import State
from .steps import (
    BuilderPlan,
    CopyDefinition,
    RemoveContainer,
    RemoveDefinition,
    RemovePods,
    StartNodes,
    StopContainer,
    UnpauseContainer,
    UseBuilder,
    WriteDefinition,
)
from .target import loses_all_nodes, target_of, unreachable_nodes


def plan(declaration: Declaration, state: State) -> BuilderPlan:
    """Return the least work that makes a builder what it is declared to be.

    :raises FarmError: the declaration cannot be met; nothing has been changed.
    """
    if declaration.state == "absent" or loses_all_nodes(declaration, state.instance):
        return _plan_removal(declaration, state)
    target = target_of(declaration, state)
    instance = replace(target.instance, nodes=pinned(declaration, target.instance.nodes, state))
    _refuse_shared(instance, target.untouched, state)
    pin_warnings = check_pins(declaration, instance, state)
    check_platforms(declaration, instance, state.nodes, final=False)
    active = tuple(node for node in instance.nodes if node.name not in target.untouched)
    node_steps = _node_steps(declaration, instance, active, state)
    started = {node.name for step in node_steps if isinstance(step, StartNodes) for node in step.nodes}
    started |= {step.node.name for step in node_steps if isinstance(step, UnpauseContainer)}
    statuses = {
        node.name: _status_before(node, instance.driver, state)
        if node.name in target.untouched
        else _status_after(node, declaration, started, state)
        for node in instance.nodes
    }
    return BuilderPlan(
        before=_with_current(_shown_before(state), declaration, state.current),
        after=_with_current(_shown(instance, statuses), declaration, True),
        steps=(
            *node_steps,
            *_leave_steps(declaration, state.instance, instance, state),
            *_definition_steps(instance, state, marks=declaration.state != "defined"),
            *_use_steps(declaration, instance, state),
        ),
        warnings=(*target.warnings, *pin_warnings, *_other_warnings(declaration, instance, state)),
        target=instance,
    )


def _refuse_shared(target: Instance, untouched: FrozenSet[str], state: State) -> None:
    for node in (node for node in target.nodes if node.name not in untouched):
        other = state.shared.get(key_of(node))
        if other and target.driver == "docker-container":
            raise FarmError(
                f"builder {target.name!r}: node {node.name!r} would use the container {node.container} on"
                f" {node.endpoint}, which belongs to builder {other!r}; give the node another name, or set share_nodes"
            )


def _other_warnings(declaration: Declaration, target: Instance, state: State) -> List[str]:
    warnings = [
        f"builder {target.name!r}: container {node.container} on {node.endpoint} runs, but BuildKit does not answer:"
        f" {state.at(node).trouble}"
        for node in target.nodes
        if state.at(node).trouble and declaration.state == "present"
    ]
    warnings += [
        f"builder {target.name!r}, node {node.name!r}: {state.at(node).drained}; it gets no builds, and stays drained"
        for node in target.nodes
        if state.at(node).drained and declaration.state == "present"
    ]
    if _is_broken(state):
        warnings.append(f"{state.path} was broken and is rewritten; a copy is {state.broken_copy}")
    return warnings


def _is_broken(state: State) -> bool:
    return state.content is not None and state.instance is None


def _definition_steps(target: Instance, state: State, marks: bool) -> List[Step[Site]]:
    """Return the steps that write the builder's definition where it is another one.

    :param marks: whether engines are told that their nodes are used.
    """
    steps: List[Step[Site]] = []
    if _is_broken(state):
        steps.append(CopyDefinition(state.path, state.broken_copy, state.content or b""))
    if state.instance != target:
        steps.append(WriteDefinition(state.path, target, state.content, marks))
    return steps


def _use_steps(declaration: Declaration, target: Instance, state: State) -> List[Step[Site]]:
    if declaration.use is None or state.current:
        return []
    return [UseBuilder(target.name, everywhere=declaration.use == "global")]


def _node_steps(declaration: Declaration, target: Instance, active: Sequence[Node], state: State) -> List[Step[Site]]:
    """Return the steps for the nodes that stay or come.

    :param active: those of the target's nodes that may be changed.
    """
    if declaration.state == "defined":
        return []
    if target.driver != "docker-container":
        return _daemonless_steps(declaration, target, active, state)
    remove: List[Step[Site]] = []
    unpause: List[Step[Site]] = []
    stop: List[Step[Site]] = []
    start = []
    for node in active:
        found = state.at(node)
        outdated = found.container is not None and bool(drift(node, found.container))
        if outdated:
            remove.append(RemoveContainer(node, declaration.keep_state is False, _former(node, state)))
        running, paused = found.is_running and not outdated, found.is_paused and not outdated
        if declaration.state == "stopped" and (running or paused):
            stop.append(StopContainer(node))
        # No build lets it go on, as one would start a container that is stopped.
        if declaration.state == "present" and paused:
            unpause.append(UnpauseContainer(node))
        if _is_started(declaration) and not running and (found.known or _is_changed(node, state)):
            start.append(node)
    return [*remove, *unpause, *_start_steps(declaration, target, start, state), *stop]


def _daemonless_steps(
    declaration: Declaration, target: Instance, active: Sequence[Node], state: State
) -> List[Step[Site]]:
    """Return the steps for the nodes of drivers whose BuildKit is no container of ours."""
    steps: List[Step[Site]] = []
    changed = [node for node in active if _is_changed(node, state)]
    missing = [node for node in active if target.driver == "kubernetes" and state.at(node).status == "missing"]
    if target.driver == "kubernetes" and state.instance and state.instance.driver == "kubernetes":
        # Its bootstrap leaves an existing deployment as it is.
        names = {node.name for node in changed}
        stale = [node for node in state.instance.nodes if node.name in names]
        if stale:
            steps.append(_remove_pods(state.instance, stale, declaration.keep_state is not False, state))
    start = [node for node in active if node in changed or node in missing]
    return [*steps, *(_start_steps(declaration, target, start, state) if _is_started(declaration) else ())]


def _start_steps(declaration: Declaration, target: Instance, nodes: Sequence[Node], state: State) -> List[Step[Site]]:
    if not nodes:
        return []
    unchanged = frozenset(node.name for node in nodes if not _is_changed(node, state))
    return [StartNodes(target, tuple(nodes), declaration, state.nodes, unchanged)]


def _is_started(declaration: Declaration) -> bool:
    return declaration.state == "present" and declaration.bootstrap


def _is_changed(node: Node, state: State) -> bool:
    """Return whether a node is new or defined otherwise than it was."""
    return state.instance is None or state.instance.node(node.name) != node


def _remove_pods(builder: Instance, nodes: Sequence[Node], keep_state: bool, state: State) -> RemovePods:
    running = frozenset(node.name for node in nodes if state.at(node).detected is not None)
    return RemovePods(replace(builder, nodes=tuple(nodes)), keep_state, running)


def _former(node: Node, state: State) -> Optional[Instance]:
    """Return the builder with a node as it was, None where the node's container did not run, or was another's."""
    found = state.instance
    old = found.node(node.name) if found else None
    if found is None or old is None or old.endpoint != node.endpoint or not state.at(node).is_running:
        return None
    return replace(found, nodes=(old,))


def _leave_steps(
    declaration: Declaration, found: Optional[Instance], target: Optional[Instance], state: State
) -> List[Step[Site]]:
    """Return the steps that remove the containers of nodes that the builder no longer has.

    :param found: the builder before.
    :param target: the builder afterwards, None if there is none then.
    """
    if found is None or declaration.state == "defined":
        return []
    remaining = target.nodes if target and target.driver == found.driver else ()
    left = [node for node in found.nodes if not any(_same_node(node, new) for new in remaining)]
    keep_state = declaration.keep_state is True
    if found.driver == "kubernetes" and left:
        return [_remove_pods(found, left, keep_state, state)]
    if found.driver != "docker-container":
        return []
    # A node that only is reached in another way now has its container at both endpoints.
    stay = {at.container.identifier for at in map(state.at, target.nodes if target else ()) if at.container}
    names = {node.name for node in target.nodes} if target else set()
    steps: List[Step[Site]] = []
    for node in left:
        container = state.at(node).container
        # A run that was ended between removing the container and removing the cache leaves the cache alone.
        remains = not keep_state and state.at(node).cache and node.name not in names
        if container is not None:
            remains = container.identifier not in stay
        if remains and key_of(node) not in state.shared:
            steps.append(RemoveContainer(node, not keep_state, _former(node, state)))
    return steps


def _same_node(left: Node, right: Node) -> bool:
    return left.name == right.name and same_endpoint(left.endpoint, right.endpoint)


def _plan_removal(declaration: Declaration, state: State) -> BuilderPlan:
    """Return the steps that remove a builder, and what it may have left on declared nodes if its definition is lost."""
    found = state.instance
    if found is None and declaration.nodes and declaration.driver in (None, "docker-container"):
        nodes = tuple(Node(spec.name, spec.endpoint or "") for spec in declaration.nodes)
        found = Instance(declaration.name, "docker-container", nodes)
    nodes = found.nodes if found else ()
    if declaration.state == "absent":
        unreachable_nodes(nodes, declaration, state)
    steps = _leave_steps(declaration, found, None, state)
    if state.content is not None:
        steps.append(RemoveDefinition(state.path, declaration.name, state.content))
    errors = ((node, state.at(node).error) for node in nodes)
    return BuilderPlan(
        before=_shown_before(state if state.content is not None or not steps else replace(state, instance=found)),
        after={"state": "absent"},
        steps=tuple(steps),
        warnings=tuple(f"{error}: container {node.container} may stay there" for node, error in errors if error),
    )


def _status_before(node: Node, driver: str, state: State) -> str:
    found = state.at(node)
    differs = drift(node, found.container) if found.container is not None and driver == "docker-container" else ()
    return found.status + (f", outdated ({', '.join(differs)})" if differs else "")


def _status_after(node: Node, declaration: Declaration, started: AbstractSet[str], state: State) -> str:
    found = state.at(node)
    if node.name in started:
        return "running"
    if found.container is not None and not found.error:
        if drift(node, found.container):
            return "missing"
        if declaration.state == "stopped":
            return "stopped"
    return found.status


def _shown_before(state: State) -> Dict[str, Any]:
    if state.instance is None:
        return {"state": "absent" if state.content is None else "broken"}
    driver = state.instance.driver
    return _shown(state.instance, {node.name: _status_before(node, driver, state) for node in state.instance.nodes})


def _shown(instance: Instance, statuses: Dict[str, str]) -> Dict[str, Any]:
    """Return a builder as one side of the diff.

    :param statuses: of the nodes' containers, by the nodes' names.
    """
    nodes = [{**definition_of(node), "container": statuses[node.name]} for node in instance.nodes]
    return {"state": "present", "name": instance.name, "driver": instance.driver, "nodes": nodes}


def _with_current(shown: Dict[str, Any], declaration: Declaration, current: bool) -> Dict[str, Any]:
    return {**shown, "current": current} if declaration.use and shown["state"] == "present" else shown
