# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reading the nodes of a builder: their engines, their containers, and what BuildKit in them reports.

buildx is run with a scratch store that holds just the nodes in question. So a dead node cannot hold it up, and no
lock of the real store is held meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import socket
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, TypeVar

from .._buildx.cli import Buildx, Inspection, parse_inspect
from .._buildx.marks import controller_name
from .._buildx.store import Instance, Node, Store
from .._core.environment import NO_ENGINE
from .._core.errors import FarmError
from .._core.files import write_atomically
from .._core.parallel import each, each_within
from .._core.quantities import some_seconds
from .._core.runner import CommandError, Runner
from .._core.scratch import scratch_directory
from .._docker.client import unanswered
from .._docker.config import config_dir
from .._docker.context_store import ContextStore
from .._docker.endpoint import Endpoint
from .._docker.engine_lock import EngineLocks, describe_holder
from .containers import Engines
from .model import NodeKey, NodeState, key_of

Item = TypeVar("Item")
Made = TypeVar("Made")
#: The definitions of each node, as stored and as declared.
Definitions = Mapping[NodeKey, Sequence[Node]]


class Depth(Enum):
    """How far nodes are read."""

    #: No node is contacted.
    DEFINITION = 0
    #: Containers are read from the engines; BuildKit in them is not queried.
    ENGINES = 1
    #: BuildKit in containers reports as well, for which engines start a program in each: more work than all the rest.
    BUILDKIT = 2


@dataclass(frozen=True)
class Site:
    """Where a builder lives: what its steps act upon.

    :ivar locks: that runs of other controllers respect.
    :ivar timeout: seconds that a node may take to answer.
    :ivar bootstrap_timeout: seconds that starting nodes may take, pulling the image included.
    :ivar share_nodes: whether containers of other builders may be used.
    :ivar unreachable: endpoints that did not answer in this run, with the reason: none is waited for twice.
    :ivar reports: nodes with what BuildKit in their containers reported in this run, which need not be read again.
    """

    store: Store
    contexts: ContextStore
    buildx: Buildx
    engines: Engines
    locks: EngineLocks
    timeout: float = 10
    bootstrap_timeout: float = 600
    share_nodes: bool = False
    unreachable: Dict[str, str] = field(default_factory=dict)
    reports: Dict[NodeKey, NodeState] = field(default_factory=dict)

    @classmethod
    def from_params(cls, params: Mapping[str, Any], runner: Runner) -> Site:
        """Return where the builders of a module's parameters live.

        :raises FarmError: a time limit cannot be meant.
        """
        timeout, bootstrap = some_seconds("timeout", params["timeout"]), params.get("bootstrap_timeout")
        contexts, controller = ContextStore(config_dir(params)), controller_name(params)
        holder = describe_holder(f"module buildx_builder for builder {params.get('name')!r}", controller)
        return cls(
            store=Store.of(params),
            contexts=contexts,
            buildx=Buildx.of(params, runner),
            engines=Engines(contexts, timeout, controller),
            locks=EngineLocks(contexts, runner, holder, params.get("lock_timeout", 0)),
            timeout=timeout,
            bootstrap_timeout=0 if bootstrap is None else some_seconds("bootstrap_timeout", bootstrap),
            share_nodes=params.get("share_nodes", False),
        )


def read_nodes(
    builder: str, driver: str, nodes: Sequence[Node], site: Site, depth: Depth = Depth.BUILDKIT
) -> Dict[NodeKey, NodeState]:
    """Return the states of nodes, read in parallel, never longer than the time limits of the site.

    :param nodes: several with one name and endpoint are definitions of the same node.
    :param depth: for the driver docker-container; the nodes of others are known to BuildKit only.
    """
    if depth is Depth.DEFINITION:
        return {}
    definitions: Dict[NodeKey, List[Node]] = {}
    for node in nodes:
        definitions.setdefault(key_of(node), []).append(node)
    if driver == "docker-container":
        found = _read_engines(definitions, site)
        return (
            with_reports(builder, nodes, found, site) if depth is Depth.BUILDKIT else _with_known_reports(found, site)
        )
    found = _probe_sockets(definitions, site) if driver == "remote" else {key: NodeState() for key in definitions}
    reachable = [nodes[-1] for key, nodes in definitions.items() if not found[key].error]
    inspection = inspect(builder, driver, reachable, site)
    return {**found, **{key_of(node): with_status(found[key_of(node)], node, driver, inspection) for node in reachable}}


def with_reports(
    builder: str, nodes: Sequence[Node], found: Mapping[NodeKey, NodeState], site: Site
) -> Dict[NodeKey, NodeState]:
    """Return the states of nodes in containers with what BuildKit in those that run reports.

    :param nodes: the definitions of the nodes.
    :param found: the states without it.
    """
    last = {key_of(node): replace(node, driver_opts=None) for node in nodes}
    running = [node for key, node in last.items() if key in found and found[key].is_running]
    inspection = inspect(builder, "docker-container", running, site)
    for node in running:
        site.reports[key_of(node)] = with_status(found[key_of(node)], node, "docker-container", inspection)
    return {**found, **{key_of(node): site.reports[key_of(node)] for node in running}}


def inspect(builder: str, driver: str, nodes: Sequence[Node], site: Site) -> Optional[Inspection]:
    """Return what buildx reports of nodes; None if it has not done so in time, or there is no buildx."""
    if not nodes:
        return Inspection()
    with scratch(Instance(builder, driver, tuple({node.name: node for node in nodes}.values()))) as env:
        try:
            result = site.buildx.run(["inspect", builder], env=env, timeout=site.timeout)
        except CommandError:
            return None
    return parse_inspect(result.stdout) if result.rc == 0 else None


def with_status(state: NodeState, node: Node, driver: str, inspection: Optional[Inspection]) -> NodeState:
    """Return a node's state with what buildx reports of it, as far as it does."""
    status = inspection.node(node.name) if inspection else None
    if status is None:
        return state
    detected = status.platforms if status.status == "running" else None
    if driver == "docker-container":
        return replace(state, detected=detected, version=status.version, trouble=status.error)
    return replace(state, known=True, detected=detected, version=status.version, error=status.error)


@contextlib.contextmanager
def scratch(instance: Instance) -> Iterator[Dict[str, str]]:
    """Give buildx a store that holds a builder and nothing else; yields the environment that names it."""
    with scratch_directory("buildx-scratch-") as directory:
        store = Store(Path(directory))
        os.mkdir(store.path(instance.name).parent, 0o700)
        write_atomically(store.path(instance.name), instance.to_json(), 0o600)
        yield {"BUILDX_CONFIG": directory, **NO_ENGINE}


def _with_known_reports(found: Mapping[NodeKey, NodeState], site: Site) -> Dict[NodeKey, NodeState]:
    """Return the states of nodes with what BuildKit in those that run has reported earlier in this run."""
    states = dict(found)
    for key, report in site.reports.items():
        state = found.get(key, NodeState())
        if state.is_running:
            states[key] = replace(state, detected=report.detected, version=report.version, trouble=report.trouble)
    return states


def _read_engines(definitions: Definitions, site: Site) -> Dict[NodeKey, NodeState]:
    endpoints: Dict[str, Endpoint] = {}
    for _name, text in definitions:
        try:
            endpoints.setdefault(text, Endpoint.parse(text))
        except FarmError as exc:
            site.unreachable[text] = exc.message
    awaited = [text for text in endpoints if text not in site.unreachable]

    def read(text: str) -> Dict[NodeKey, NodeState]:
        try:
            return site.engines.read(
                endpoints[text], {key: nodes for key, nodes in definitions.items() if key[1] == text}
            )
        except FarmError as exc:
            site.unreachable[text] = exc.message
            return {}

    found: Dict[NodeKey, NodeState] = {}
    for text, states in zip(awaited, each_within(site.timeout, awaited, read)):
        if states is None:
            site.unreachable[text] = unanswered(endpoints[text], site.timeout)
        found.update(states or {})
    for key in definitions:
        if key[1] in site.unreachable:
            found[key] = NodeState(known=True, error=site.unreachable[key[1]])
    return found


def _probe_sockets(definitions: Definitions, site: Site) -> Dict[NodeKey, NodeState]:
    """Try to connect where a remote BuildKit listens; what cannot be tried is left to buildx."""

    def connect(key: NodeKey) -> NodeState:
        try:
            endpoint = Endpoint.parse(key[1])
            if endpoint.scheme == "tcp":
                socket.create_connection((endpoint.host, endpoint.port or 0), timeout=site.timeout).close()
            elif endpoint.scheme == "unix":
                with socket.socket(socket.AF_UNIX) as stream:
                    stream.connect(endpoint.path)
        except OSError as exc:
            return NodeState(known=True, error=f"BuildKit at {key[1]}: {exc.strerror or exc}; is it running there?")
        except FarmError:
            pass  # a scheme that only buildx knows
        return NodeState()

    return dict(zip(definitions, each(definitions, connect)))
