# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The steps of a plan for a builder, each of which carries itself out and undoes itself, and their plan."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Dict, FrozenSet, List, Mapping, Optional, Sequence, Tuple

from .._buildx.cli import Buildx
from .._buildx.store import Instance, Node, StoreConflict
from .._core.errors import FarmError
from .._core.files import write_atomically
from .._core.parallel import each
from .._core.plan import Plan, Step
from .bootstrap import start_nodes
from .declaration import Declaration
from .drift import DEFAULT_IMAGE, drift
from .model import NodeKey, NodeState, key_of
from .nodes import Site, scratch, with_status
from .platforms import check_platforms


@dataclass(frozen=True)
class RemoveContainer(Step[Site]):
    """Remove a node's container.

    :ivar with_cache: whether its cache goes as well.
    :ivar former: the builder with the node as it was if it ran; None if nothing is to be started again.
    """

    node: Node
    with_cache: bool = False
    former: Optional[Instance] = None

    @property
    def action(self) -> List[str]:
        verb = "remove-container-and-cache" if self.with_cache else "remove-container"
        return [verb, self.node.endpoint, self.node.container]

    def apply(self, world: Site) -> None:
        world.engines.remove_container(self.node)
        if self.with_cache:
            world.engines.remove_cache(self.node)

    def revert(self, world: Site) -> None:
        try:
            # What is left of a container that could not be removed would be started as it is.
            world.engines.remove_container(self.node)
            if self.former:
                start_nodes(self.former, self.former.nodes, world)
        except FarmError as exc:
            raise FarmError(_not_put_back(self.node, exc)) from exc


@dataclass(frozen=True)
class StopContainer(Step[Site]):
    """Stop a node's container; there is no undoing, as a later failure leaves nothing that needs it."""

    node: Node

    @property
    def action(self) -> List[str]:
        return ["stop-container", self.node.endpoint, self.node.container]

    def apply(self, world: Site) -> None:
        world.engines.stop_container(self.node)


@dataclass(frozen=True)
class UnpauseContainer(Step[Site]):
    """Let a node's container go on that somebody has paused; buildx takes it for one that runs."""

    node: Node

    @property
    def action(self) -> List[str]:
        return ["unpause-container", self.node.endpoint, self.node.container]

    def apply(self, world: Site) -> None:
        world.engines.unpause_container(self.node)

    def revert(self, world: Site) -> None:
        try:
            world.engines.pause_container(self.node)
        except FarmError as exc:
            raise FarmError(_not_put_back(self.node, exc)) from exc


@dataclass(frozen=True)
class StartNodes(Step[Site]):
    """Start nodes with buildx, and check that the builder then serves the platforms that are declared.

    :ivar target: the builder to be.
    :ivar nodes: those of its nodes that are started.
    :ivar found: the states of the builder's nodes before.
    :ivar unchanged: the names of nodes that are started as they were defined before.
    """

    target: Instance
    nodes: Tuple[Node, ...]
    declaration: Declaration
    found: Mapping[NodeKey, NodeState]
    unchanged: FrozenSet[str] = frozenset()

    @property
    def action(self) -> List[str]:
        return Buildx.argv(["inspect", "--bootstrap", self.target.name])

    def apply(self, world: Site) -> None:
        inspection = start_nodes(self.target, self.nodes, world)
        states = dict(self.found)
        for node in self.nodes:
            key = key_of(node)
            states[key] = with_status(states.get(key, NodeState()), node, self.target.driver, inspection)
            world.reports[key] = states[key]
        check_platforms(self.declaration, self.target, states)
        _mark(self.target, self.nodes, world)

    def revert(self, world: Site) -> None:
        failures = []
        for node in self.nodes:
            try:
                self._remove(node, world)
            except FarmError as exc:
                failures.append(_not_put_back(node, exc))
        if failures:
            raise FarmError("; ".join(failures))

    def _remove(self, node: Node, world: Site) -> None:
        """Remove what was started of a node; of a remote BuildKit that is nothing."""
        before = self.found.get(key_of(node), NodeState())
        if before.is_paused and before.container and not drift(node, before.container):
            return  # It went on, which is a step of its own.
        if self.target.driver == "docker-container":
            world.engines.remove_container(node)
            if before.container is None and not before.cache:
                world.engines.remove_cache(node)
        elif self.target.driver == "kubernetes" and node.name not in self.unchanged:
            _remove_pods(replace(self.target, nodes=(node,)), (), world)


@dataclass(frozen=True)
class RemovePods(Step[Site]):
    """Remove the pods of nodes of the kubernetes driver.

    :ivar builder: the builder with these nodes alone.
    :ivar running: the names of those that run.
    """

    builder: Instance
    keep_state: bool
    running: FrozenSet[str] = frozenset()

    @property
    def action(self) -> List[str]:
        return Buildx.argv(["rm", *self._options(), self.builder.name])

    def apply(self, world: Site) -> None:
        _remove_pods(self.builder, self._options(), world)

    def revert(self, world: Site) -> None:
        nodes = tuple(node for node in self.builder.nodes if node.name in self.running)
        if nodes:
            try:
                start_nodes(self.builder, nodes, world)
            except FarmError as exc:
                raise FarmError("; ".join(_not_put_back(node, exc) for node in nodes)) from exc

    def _options(self) -> Sequence[str]:
        return ["--keep-state"] if self.keep_state else []


@dataclass(frozen=True)
class CopyDefinition(Step[Site]):
    """Copy a definition that cannot be read, before it is rewritten."""

    path: str
    copy: str
    content: bytes

    @property
    def action(self) -> List[str]:
        return ["copy", self.path, self.copy]

    def apply(self, world: Site) -> None:
        write_atomically(self.copy, self.content, 0o600)


@dataclass(frozen=True)
class WriteDefinition(Step[Site]):
    """Write a builder's definition.

    :ivar path: of the instance file.
    :ivar before: what the file is found to hold, None if there is none; else the step fails with a StoreConflict.
    :ivar marks: whether engines are told that their nodes are used.
    """

    path: str
    target: Instance
    before: Optional[bytes]
    marks: bool = True

    @property
    def action(self) -> List[str]:
        return ["write", self.path]

    def apply(self, world: Site) -> None:
        if self.marks:
            _mark(self.target, self.target.nodes, world)
        world.store.write(self.target, self.before)

    def revert(self, world: Site) -> None:
        if world.store.read(self.target.name) != self.before:
            world.store.restore(self.target.name, self.target.to_json(), self.before)


@dataclass(frozen=True)
class RemoveDefinition(Step[Site]):
    """Forget a builder.

    :ivar path: of the instance file.
    :ivar before: what the file is found to hold; else the step fails with a StoreConflict.
    """

    path: str
    name: str
    before: Optional[bytes]

    @property
    def action(self) -> List[str]:
        return ["remove", self.path]

    def apply(self, world: Site) -> None:
        world.store.remove(self.name, self.before)

    def revert(self, world: Site) -> None:
        if world.store.read(self.name) != self.before:
            world.store.restore(self.name, None, self.before)


@dataclass(frozen=True)
class UseBuilder(Step[Site]):
    """Make a builder the one that buildx uses where none is named.

    :ivar everywhere: whether that holds for every endpoint, not only docker's current one.
    """

    name: str
    everywhere: bool

    @property
    def action(self) -> List[str]:
        return Buildx.argv(self._args())

    def apply(self, world: Site) -> None:
        world.buildx.run(self._args(), failure=f"builder {self.name!r}: buildx could not make it the current one")

    def _args(self) -> Sequence[str]:
        return ["use", "--global" if self.everywhere else "--default", self.name]


@dataclass(frozen=True)
class BuilderPlan(Plan[Site]):
    """Steps that make a builder what it is declared to be.

    :ivar target: the builder afterwards; None if there is none then.
    """

    target: Optional[Instance] = None

    @property
    def engines(self) -> Dict[str, str]:
        """The endpoints of the engines whose containers the steps change, each with the image of BuildKit there."""
        nodes = [node for step in self.steps for node in _nodes_of(step)]
        return {node.endpoint: (node.driver_opts or {}).get("image") or DEFAULT_IMAGE for node in nodes}

    def apply(self, world: Site) -> None:
        """Carry out the steps in order, neighbours of one kind at the same time.

        :raises StoreConflict: the definition was changed by another process; it is left so, and nodes that were started
            run: a new plan starts from there.
        :raises FarmError: a step failed; all that can be undone has been undone, and the message names the rest.
        """
        begun: List[Step[Site]] = []
        try:
            for _kind, steps in groupby(self.steps, key=type):
                group = tuple(steps)
                begun += group
                each(group, lambda step: step.apply(world))
        except StoreConflict:
            raise
        except FarmError as exc:
            raise FarmError(f"{exc.message.rstrip('.')}. {_revert(begun, world)}", **exc.details) from exc


def _nodes_of(step: Step[Site]) -> Sequence[Node]:
    """Return the nodes whose containers a step changes through their engines."""
    if isinstance(step, (RemoveContainer, StopContainer, UnpauseContainer)):
        return (step.node,)
    if isinstance(step, StartNodes) and step.target.driver == "docker-container":
        return step.nodes
    return ()


def _revert(steps: Sequence[Step[Site]], world: Site) -> str:
    """Undo steps, the last one first, as far as that is possible; return what users must know of it."""
    failures = []
    for step in reversed(steps):
        try:
            step.revert(world)
        except FarmError as exc:
            failures.append(exc.message)
    if failures:
        return f"The builder's definition was left as it was, but {'; '.join(failures)}: run again when it is repaired"
    return "The builder was put back as it was"


def _remove_pods(part: Instance, options: Sequence[str], world: Site) -> None:
    names = ", ".join(f"node {node.name!r}" for node in part.nodes)
    with scratch(part) as env:
        world.buildx.run(
            ["rm", *options, part.name],
            failure=f"builder {part.name!r}: buildx could not remove {names}",
            env=env,
            timeout=world.bootstrap_timeout,
        )


def _mark(builder: Instance, nodes: Sequence[Node], world: Site) -> None:
    """Tell engines who uses their nodes. One without a mark is never taken for something that may be removed."""

    def mark(node: Node) -> None:
        with contextlib.suppress(FarmError):
            world.engines.mark(node, builder.name)

    if builder.driver == "docker-container":
        each([node for node in nodes if node.endpoint not in world.unreachable], mark)


def _not_put_back(node: Node, exc: FarmError) -> str:
    return f"node {node.name!r} could not be put back ({exc.message})"
