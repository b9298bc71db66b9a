# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Engines and the nodes on them as an inventory has them: hosts, their variables, their groups. All of it is pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

from .._docker.endpoint import Endpoint
from .._docker.names import DEFAULT_SOCKET
from .._platform.platform import Platform, runs_natively

#: What a host can be grouped by, with the variable whose value, or whose every element, is in the group's name.
GROUPINGS = {
    "builder": "buildfarm_builders",
    "platform": "buildfarm_platforms",
    "architecture": "buildfarm_architecture",
    "driver": "buildfarm_drivers",
    "status": "buildfarm_status",
}
#: The states of nodes. A host whose engine answers has the first of these that one of its nodes has.
_BEST_FIRST = ("running", "stopped", "missing", "paused", "unknown", "unreachable")
#: The socket of this machine's own engine, by both of its names.
_OWN_SOCKETS = (DEFAULT_SOCKET, "/run/docker.sock")


@dataclass(frozen=True)
class FoundNode:
    """A builder's node on an engine.

    :ivar builder: the builder's name; empty where nothing tells it.
    :ivar endpoint: as the builder has it.
    :ivar source: what tells the builder's name: ``store``, ``mark``, ``name``, or ``none``.
    :ivar pins: the pinned platforms; None where only the builder's own controller knows them.
    :ivar detected: what BuildKit says that it runs; None where it was not asked.
    :ivar status: one of ``_BEST_FIRST``.
    :ivar definition: what else the builder's definition says of it.
    :ivar current: whether buildx uses the builder where none is named.
    :ivar controllers: those that have marked the node as used.
    """

    builder: str
    name: str
    driver: str
    endpoint: str
    source: str = "store"
    pins: Optional[Tuple[Platform, ...]] = None
    detected: Optional[Tuple[Platform, ...]] = None
    status: str = "unknown"
    version: str = ""
    error: str = ""
    definition: Mapping[str, Any] = field(default_factory=dict)
    current: bool = False
    controllers: Tuple[str, ...] = ()

    def as_dict(self) -> Dict[str, Any]:
        """Return the values as JSON types."""
        return {
            "builder": self.builder or None,
            "builder_from": self.source,
            "current": self.current,
            "name": self.name,
            "driver": self.driver,
            "endpoint": self.endpoint,
            "platforms": _texts(self.pins),
            "detected": _texts(self.detected),
            "status": self.status,
            "version": self.version or None,
            "error": self.error or None,
            "controllers": list(self.controllers),
            **self.definition,
        }


@dataclass(frozen=True)
class FoundEngine:
    """An engine, or a BuildKit that listens by itself, with the builders' nodes on it.

    :ivar endpoint: the URL that is the same for all contexts which lead there, or what is known instead.
    :ivar url: the same as read; None where it is no URL.
    :ivar contexts: the docker contexts that lead there.
    :ivar asked: whether it was contacted.
    :ivar error: why it cannot be reached; empty where it can.
    :ivar native: the platform of its own processor.
    :ivar version: of the engine.
    :ivar drained: in words that it takes no builds; empty where it does.
    :ivar certificate_expires: ISO 8601 in UTC.
    """

    endpoint: str
    url: Optional[Endpoint] = None
    contexts: Tuple[str, ...] = ()
    nodes: Tuple[FoundNode, ...] = ()
    asked: bool = False
    error: str = ""
    native: Optional[Platform] = None
    version: str = ""
    drained: str = ""
    certificate_expires: Optional[str] = None

    @property
    def answers(self) -> bool:
        """Whether it was contacted and answered."""
        return self.asked and not self.error

    @property
    def host(self) -> str:
        """The name of the machine as a host: of an inventory, where it is the same for all ways to the machine."""
        if self.url is None:
            return self.nodes[0].name if self.nodes else self.endpoint
        if self.url.scheme == "unix":
            return "localhost" if self.url.path in _OWN_SOCKETS else self.endpoint
        return self.url.host

    @property
    def connection(self) -> Dict[str, Any]:
        """What the URL tells of the way on which Ansible reaches the machine."""
        if self.url is None:
            return {}
        if self.url.scheme == "unix":
            # Any other socket may lead to another machine.
            return {"ansible_connection": "local"} if self.url.path in _OWN_SOCKETS else {}
        # The port of a tcp URL is the engine's, and none that Ansible could use.
        login = {"ansible_user": self.url.user, "ansible_port": self.url.port} if self.url.scheme == "ssh" else {}
        return {"ansible_host": self.url.host, **{name: value for name, value in login.items() if value}}


def hosts_of(engines: Iterable[FoundEngine]) -> Dict[str, Dict[str, Any]]:
    """Return the variables of each host; all ways to one machine are one host."""
    machines: Dict[str, List[FoundEngine]] = {}
    for engine in engines:
        machines.setdefault(engine.host, []).append(engine)
    return {name: _variables(several) for name, several in machines.items()}


def groups_of(variables: Mapping[str, Any], groupings: Sequence[str], prefix: str) -> List[str]:
    """Return the names of a host's groups, not yet as Ansible wants them.

    :param variables: of ``hosts_of``.
    :param groupings: some of ``GROUPINGS``.
    """
    found = []
    for grouping in groupings:
        value = variables[GROUPINGS[grouping]]
        found += [f"{prefix}{grouping}_{one}" for one in (value if isinstance(value, list) else [value]) if one]
    return found


def builder_of(container: str, marked: Mapping[str, Sequence[str]]) -> Tuple[str, str]:
    """Return the builder that a node belongs to of which only the container is known, and what tells it.

    :param container: the node's name, which the container bears.
    :param marked: the builders that nodes are marked as used by, by the nodes' names.
    """
    if marked.get(container):
        return marked[container][0], "mark"
    # buildx itself numbers a builder's nodes. Source: docker/buildx ``store/nodegroup.go``.
    builder = container.rstrip("0123456789")
    return (builder, "name") if builder != container and builder else ("", "none")


def _variables(engines: Sequence[FoundEngine]) -> Dict[str, Any]:
    # What answers tells more, and what a builder uses is meant before what it does not.
    first = min(engines, key=lambda engine: (not engine.answers, not engine.nodes))
    nodes = [node for engine in engines for node in engine.nodes]
    platforms = list(dict.fromkeys(platform for engine in engines for platform in _platforms(engine)))
    native = first.native
    connection: Dict[str, Any] = {}
    for engine in (first, *engines):
        connection = {**engine.connection, **connection}
    return {
        **connection,
        "buildfarm_endpoint": first.endpoint,
        "buildfarm_endpoints": [engine.endpoint for engine in engines],
        "buildfarm_contexts": sorted({name for engine in engines for name in engine.contexts}),
        "buildfarm_builders": sorted({node.builder for node in nodes if node.builder}),
        "buildfarm_drivers": sorted({node.driver for node in nodes}),
        "buildfarm_nodes": [node.as_dict() for node in nodes],
        "buildfarm_status": _status(engines),
        "buildfarm_error": first.error or None,
        "buildfarm_drained": first.drained or None,
        "buildfarm_engine_version": first.version or None,
        "buildfarm_certificate_expires": first.certificate_expires,
        "buildfarm_platform": None if native is None else str(native),
        "buildfarm_architecture": None if native is None else native.arch,
        "buildfarm_platforms": _texts(platforms),
        "buildfarm_emulated": _texts([one for one in platforms if native and not runs_natively(one, native)]),
    }


def _status(engines: Sequence[FoundEngine]) -> str:
    answering = [engine for engine in engines if engine.answers]
    if any(engine.drained for engine in answering):
        return "drained"
    if answering:
        states = [node.status for engine in answering for node in engine.nodes]
        return min(states, key=_BEST_FIRST.index) if states else "unused"
    return "unreachable" if any(engine.error for engine in engines) else "unknown"


def _platforms(engine: FoundEngine) -> List[Platform]:
    """Return what is built on an engine: of each node what is pinned there, else what it can run."""
    own = (engine.native,) if engine.native else ()
    if not engine.nodes:
        return list(own)
    return [one for node in engine.nodes for one in (node.pins or node.detected or own)]


def _texts(platforms: Optional[Iterable[Platform]]) -> Optional[List[str]]:
    return None if platforms is None else [str(platform) for platform in platforms]
