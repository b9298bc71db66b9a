# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a builder is declared to be, what it was found to be, and how both are shown. Everything here is pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any, Dict, FrozenSet, Mapping, Optional, Sequence, Tuple

from .._buildx.store import Instance, Node
from .._core.errors import FarmError
from .._core.urls import mask
from .._docker.endpoint import Endpoint
from .._platform.platform import Platform
from .._platform.routing import Worker, routes
from .container import Container, drift

#: A container's place: the node's name, from which its own derives, and the endpoint of its engine.
Place = Tuple[str, str]


@dataclass(frozen=True)
class NodeSpec:
    """A node as declared; None is left as it is found, an empty value clears.

    :ivar endpoint: normalised; None for the kubernetes driver, which has none.
    :ivar env: the part ``env.NAME`` of the driver options, declared by itself.
    :ivar files: what the buildkitd configuration comes to.
    """

    name: str
    endpoint: Optional[str] = None
    platforms: Optional[Tuple[Platform, ...]] = None
    driver_opts: Optional[Mapping[str, str]] = None
    env: Optional[Mapping[str, str]] = None
    flags: Optional[Tuple[str, ...]] = None
    files: Optional[Mapping[str, bytes]] = None


@dataclass(frozen=True)
class Declaration:
    """A builder as declared.

    :ivar driver: None keeps the one found, and is docker-container for a new builder.
    :ivar nodes: None leaves the nodes as they are found.
    :ivar state: ``present``, ``stopped`` or ``absent``.
    :ivar use: ``default`` (for docker's current endpoint), ``global``, or None to leave the choice alone.
    :ivar purge_nodes: whether nodes that are not declared leave; None lets them stay, with a warning.
    :ivar absent: names of nodes that leave in any case, as they are stored.
    :ivar keep_state: whether caches survive; None keeps them when a node is made anew and drops them with their node.
    :ivar on_unreachable: ``fail``, ``skip`` or ``detach``.
    :ivar platforms: those that the builder must serve.
    :ivar emulation: ``allow``, ``prefer_native`` or ``forbid``.
    :ivar kubeconfig: what buildx notes in the endpoints of the kubernetes driver.
    """

    name: str
    driver: Optional[str] = None
    nodes: Optional[Tuple[NodeSpec, ...]] = None
    state: str = "present"
    bootstrap: bool = True
    use: Optional[str] = None
    purge_nodes: Optional[bool] = None
    absent: FrozenSet[str] = frozenset()
    keep_state: Optional[bool] = None
    on_unreachable: str = "fail"
    platforms: Tuple[Platform, ...] = ()
    emulation: str = "allow"
    kubeconfig: str = ""


@dataclass(frozen=True)
class Found:
    """What was found at a node's place.

    :ivar known: False where nobody looked.
    :ivar error: why the engine (or the remote BuildKit) cannot be reached; empty where it can.
    :ivar native: the platform of the engine's own processor.
    :ivar cache: whether the container's cache was left there without it.
    :ivar detected: the platforms that the running BuildKit reports; None where it was not asked.
    :ivar version: BuildKit's; empty where it does not run.
    :ivar trouble: why BuildKit does not answer although its container runs.
    """

    known: bool = False
    error: str = ""
    native: Optional[Platform] = None
    container: Optional[Container] = None
    cache: bool = False
    detected: Optional[Tuple[Platform, ...]] = None
    version: str = ""
    trouble: str = ""


@dataclass(frozen=True)
class Observation:
    """The state of a builder before a run.

    :ivar path: of the instance file.
    :ivar content: of the instance file, None if there is none.
    :ivar instance: the builder read from it; None if there is none, or if the file is broken.
    :ivar broken_copy: where a broken instance file is kept.
    :ivar places: by the node's name and endpoint.
    :ivar current: whether buildx uses the builder, in the scope that is declared.
    :ivar shared: places whose container other builders use too, with the name of one of them.
    :ivar default_files: what buildx's own default configuration file comes to; used for new nodes.
    """

    path: str
    content: Optional[bytes] = None
    instance: Optional[Instance] = None
    broken_copy: str = ""
    places: Mapping[Place, Found] = field(default_factory=dict)
    current: bool = False
    shared: Mapping[Place, str] = field(default_factory=dict)
    default_files: Optional[Mapping[str, bytes]] = None

    def at(self, node: Node) -> Found:
        """Return what was found at a node's place."""
        return self.places.get((node.name, node.endpoint), Found())


@dataclass(frozen=True)
class Step:
    """One thing to do.

    :ivar kind: ``save``, ``drop``, ``uninstall``, ``boot``, ``stop``, ``write``, ``remove`` or ``use``.
    :ivar action: as it is reported.
    :ivar nodes: those that it is about.
    :ivar volumes: of ``drop``: whether the caches go as well.
    """

    kind: str
    action: Tuple[str, ...]
    nodes: Tuple[Node, ...] = ()
    volumes: bool = False


@dataclass(frozen=True)
class Plan:
    """What is to be done, and what comes of it.

    :ivar target: the builder afterwards; None if there is none then.
    :ivar steps: in order.
    :ivar before: the state found, for the diff.
    :ivar after: the state afterwards, for the diff.
    :ivar unreachable: sentences on nodes that were skipped, detached or left behind.
    """

    target: Optional[Instance]
    steps: Tuple[Step, ...]
    before: Mapping[str, Any]
    after: Mapping[str, Any]
    warnings: Tuple[str, ...] = ()


def workers_of(target: Instance, places: Mapping[Place, Found]) -> Tuple[Worker, ...]:
    """Return a builder's nodes as buildx sees them when it looks for one."""
    found = ((node, places.get((node.name, node.endpoint), Found())) for node in target.nodes)
    return tuple(Worker(node.name, node.platforms or (), at.detected, at.native) for node, at in found)


def describe(target: Instance, places: Mapping[Place, Found], requested: Sequence[Platform] = ()) -> Dict[str, Any]:
    """Return a builder as the modules return it.

    :param requested: the platforms whose nodes are named; all that are pinned or detected if there are none.
    """
    workers = workers_of(target, places)
    offered = dict.fromkeys(offer for worker in workers for offer in (*worker.pins, *(worker.detected or ())))
    served = routes(requested, workers)[0] if requested else _each_alone(tuple(offered), workers)
    nodes = []
    for node in target.nodes:
        found = places.get((node.name, node.endpoint), Found())
        nodes.append(
            {
                **_shown_node(node),
                "detected": None if found.detected is None else [str(platform) for platform in found.detected],
                "native": None if found.native is None else str(found.native),
                "status": status_of(found),
                "version": found.version or None,
                "error": found.error or found.trouble or None,
            }
        )
    return {
        "name": target.name,
        "driver": target.driver,
        "nodes": nodes,
        "platforms": [route.as_dict() for route in served],
    }


def same_endpoint(left: str, right: str) -> bool:
    """Say whether two endpoints are written for the same way to an engine."""
    if left == right:
        return True
    try:
        return Endpoint.parse(left) == Endpoint.parse(right)
    except FarmError:
        return False


def show(instance: Instance, statuses: Mapping[str, str]) -> Dict[str, Any]:
    nodes = [{**_shown_node(node), "container": statuses[node.name]} for node in instance.nodes]
    return {"state": "present", "name": instance.name, "driver": instance.driver, "nodes": nodes}


def show_before(observed: Observation) -> Dict[str, Any]:
    if observed.instance is None:
        return {"state": "absent" if observed.content is None else "broken"}
    driver = observed.instance.driver
    return show(
        observed.instance, {node.name: container_before(observed, node, driver) for node in observed.instance.nodes}
    )


def container_before(observed: Observation, node: Node, driver: str) -> str:
    """Say how a node's container was found."""
    found = observed.at(node)
    differs = drift(node, found.container) if found.container is not None and driver == "docker-container" else ()
    return status_of(found) + (f", outdated ({', '.join(differs)})" if differs else "")


def _each_alone(platforms: Sequence[Platform], workers: Sequence[Worker]) -> Tuple[Any, ...]:
    return tuple(route for platform in platforms for route in routes([platform], workers)[0])


def status_of(found: Found) -> str:
    if found.error:
        return "unreachable"
    if not found.known:
        return "unknown"
    if found.container is None:
        return "missing" if found.detected is None else "running"
    return "running" if found.container.running else "stopped"


def _shown_node(node: Node) -> Dict[str, Any]:
    """Return a node without the contents of its files, among which are private keys, and without secrets in URLs."""
    # A proxy with its password is what environments of build nodes are used for.
    return {
        "name": node.name,
        "endpoint": node.endpoint,
        "platforms": [str(platform) for platform in node.platforms or ()],
        "driver_opts": {key: mask(value) for key, value in sorted((node.driver_opts or {}).items())},
        "buildkitd_flags": [mask(flag) for flag in node.flags or ()],
        "files": {
            path: f"sha256:{hashlib.sha256(content).hexdigest()}"
            for path, content in sorted((node.files or {}).items())
        },
    }


def names_of(platforms: Any) -> str:
    return ", ".join(str(platform) for platform in sorted(platforms)) or "none"
