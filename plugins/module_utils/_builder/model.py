# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A builder's nodes as they were found, and builders as the modules return them. Everything here is pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any, Dict, FrozenSet, Mapping, Optional, Sequence, Tuple

from .._buildx.store import Instance, Node
from .._core.errors import FarmError
from .._core.urls import VARIABLE, mask, masked_variable
from .._docker.endpoint import Endpoint
from .._platform.platform import Platform
from .._platform.routing import Worker, routes

#: What identifies a node's container: the node's name, from which its own derives, and the endpoint of its engine.
NodeKey = Tuple[str, str]


@dataclass(frozen=True)
class Container:
    """A BuildKit container as its engine describes it.

    :ivar restarting: BuildKit ends again and again; the engine calls this running, and so does buildx.
    :ivar paused: somebody has frozen it (``docker pause``); the engine calls this running, and so does buildx.
    :ivar identifier: the engine's, the same however the engine is reached.
    :ivar env: its environment without what its image sets.
    :ivar limits: the engine's HostConfig.
    :ivar files: contents below ``/etc/buildkit``; empty where no definition of the node has files.
    :ivar unsupported: limits that the engine's kernel cannot set; the engine drops them with a warning.
    """

    running: bool
    image: str
    restarting: bool = False
    paused: bool = False
    args: Tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    identifier: str = ""
    unsupported: FrozenSet[str] = frozenset()


@dataclass(frozen=True)
class NodeState:
    """A node as it was found.

    :ivar known: whether the node was probed.
    :ivar error: why the engine (or the remote BuildKit) cannot be reached; empty where it can.
    :ivar native: the platform of the engine's own processor.
    :ivar cache: whether there is no container, but the volume with its cache.
    :ivar detected: the platforms that the running BuildKit reports; None where it was not read.
    :ivar version: BuildKit's; empty where it does not run or was not read.
    :ivar trouble: why BuildKit does not answer although its container runs.
    :ivar drained: in words that the node takes no builds; empty where it does.
    """

    known: bool = False
    error: str = ""
    native: Optional[Platform] = None
    container: Optional[Container] = None
    cache: bool = False
    detected: Optional[Tuple[Platform, ...]] = None
    version: str = ""
    trouble: str = ""
    drained: str = ""

    @property
    def is_running(self) -> bool:
        """Whether the node has a container that runs, and is not paused."""
        return self.container is not None and self.container.running and not self.container.paused

    @property
    def is_paused(self) -> bool:
        """Whether the node has a container that somebody has paused."""
        return self.container is not None and self.container.running and self.container.paused

    @property
    def status(self) -> str:
        """One word: ``unreachable``, ``unknown``, ``missing``, ``running``, ``paused`` or ``stopped``."""
        if self.error:
            return "unreachable"
        if not self.known:
            return "unknown"
        if self.container is None:
            return "missing" if self.detected is None else "running"
        if self.is_paused:
            return "paused"
        return "running" if self.container.running else "stopped"


def key_of(node: Node) -> NodeKey:
    """Return what identifies a node's container."""
    return node.name, node.endpoint


def workers_of(instance: Instance, nodes: Mapping[NodeKey, NodeState]) -> Tuple[Worker, ...]:
    """Return a builder's nodes as buildx sees them when it chooses one."""
    found = ((node, nodes.get(key_of(node), NodeState())) for node in instance.nodes)
    return tuple(Worker(node.name, node.platforms or (), state.detected, state.native) for node, state in found)


def describe(
    instance: Instance, nodes: Mapping[NodeKey, NodeState], requested: Sequence[Platform] = ()
) -> Dict[str, Any]:
    """Return a builder as the modules return it.

    :param requested: the platforms whose nodes are named; all that are pinned or detected if there are none.
    """
    workers = workers_of(instance, nodes)
    offered = dict.fromkeys(offer for worker in workers for offer in (*worker.pins, *(worker.detected or ())))
    served = routes(requested, workers)[0] if requested else _each_alone(tuple(offered), workers)
    return {
        "name": instance.name,
        "driver": instance.driver,
        "nodes": [_describe_node(node, nodes.get(key_of(node), NodeState())) for node in instance.nodes],
        "platforms": [route.as_dict() for route in served],
    }


def definition_of(node: Node) -> Dict[str, Any]:
    """Return a node's definition without the contents of its files (private keys) and secrets.

    Those are in URLs (proxies), and in variables whose names say so.
    """
    return {
        "name": node.name,
        "endpoint": node.endpoint,
        "platforms": [str(platform) for platform in node.platforms or ()],
        "driver_opts": {key: _shown_option(key, value) for key, value in sorted((node.driver_opts or {}).items())},
        "buildkitd_flags": [mask(flag) for flag in node.flags or ()],
        "files": {
            path: f"sha256:{hashlib.sha256(content).hexdigest()}"
            for path, content in sorted((node.files or {}).items())
        },
    }


def _shown_option(key: str, value: str) -> str:
    return masked_variable(key[len(VARIABLE) :], value) if key.startswith(VARIABLE) else mask(value)


def same_endpoint(left: str, right: str) -> bool:
    """Return whether two endpoints are spellings of one."""
    if left == right:
        return True
    try:
        return Endpoint.parse(left) == Endpoint.parse(right)
    except FarmError:
        return False


def _describe_node(node: Node, state: NodeState) -> Dict[str, Any]:
    return {
        **definition_of(node),
        "detected": None if state.detected is None else [str(platform) for platform in state.detected],
        "native": None if state.native is None else str(state.native),
        "status": state.status,
        "version": state.version or None,
        "error": state.error or state.trouble or None,
    }


def _each_alone(platforms: Sequence[Platform], workers: Sequence[Worker]) -> Tuple[Any, ...]:
    return tuple(route for platform in platforms for route in routes([platform], workers)[0])
