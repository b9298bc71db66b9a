# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reading what an inventory is made of: a controller's builders and contexts, and the engines behind them.

All that is asked of an engine goes over its API, so that no docker CLI is needed where the inventory is read.
"""

from __future__ import annotations

import contextlib
import json
import re
from dataclasses import dataclass, field, replace
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple
from urllib.parse import quote

from .._builder.model import definition_of, key_of
from .._builder.nodes import Site, read_nodes
from .._buildx.marks import marked
from .._buildx.store import PREFIX, Instance, Node, StoreError
from .._core.errors import FarmError
from .._core.parallel import each
from .._core.runner import Runner
from .._docker.client import Conversation, conversation, execute
from .._docker.context_store import TlsFiles
from .._docker.endpoint import Endpoint
from .._docker.engine import EngineInfo, container_status, probe_all
from .._docker.transport import canonical
from .._platform.platform import Platform
from .model import FoundEngine, FoundNode, builder_of

_WORKERS = ["buildctl", "debug", "workers", "-v"]
_FIELD = re.compile(r"^(Platforms|BuildKit):[ \t]+(.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Sources:
    """Where to look.

    :ivar builders: whether the controller's builders count.
    :ivar contexts: whether docker contexts count that no builder uses.
    :ivar endpoints: engines that count in any case.
    :ivar tls: material for the ``tcp`` URLs among those.
    :ivar contact: whether engines are asked.
    :ivar detect: whether BuildKit on them is asked as well.
    """

    builders: bool = True
    contexts: bool = True
    endpoints: Tuple[Endpoint, ...] = ()
    tls: Optional[TlsFiles] = None
    contact: bool = True
    detect: bool = True


@dataclass
class _Way:
    """An engine that is to be asked.

    :ivar text: the endpoint by which it is reached.
    :ivar engine: whether an engine is there; else it is a BuildKit that listens by itself, or pods.
    :ivar open: whether what its containers tell counts, too.
    """

    text: str
    engine: bool = True
    open: bool = False
    tls: Optional[TlsFiles] = None
    contexts: List[str] = field(default_factory=list)
    nodes: List[Tuple[Instance, Node]] = field(default_factory=list)


def gather(
    sources: Sources, params: Mapping[str, Any], runner: Runner, warn: Callable[[str], object]
) -> Tuple[FoundEngine, ...]:
    """Return the engines of builders, contexts and endpoints, in this order, with the nodes that are on them.

    :param params: ``docker_config`` and ``timeout``.
    :param warn: gets what cannot be read and is left out.
    """
    site = Site.from_params(params, runner)
    current = site.store.in_use(site.contexts.current_endpoint())
    ways = _ways(sources, site, warn)
    return tuple(each(ways.items(), lambda pair: _found(pair[0], pair[1], sources, site, current)))


def _ways(sources: Sources, site: Site, warn: Callable[[str], object]) -> Dict[str, _Way]:
    ways: Dict[str, _Way] = {}
    for instance in _instances(site, warn) if sources.builders else ():
        for node in instance.nodes:
            # What listens at a remote node's endpoint is no engine, even if one has the same host.
            kind = "" if instance.driver == "docker-container" else f"{instance.driver} "
            key = kind + (canonical(node.endpoint, site.contexts) or node.name)
            way = ways.setdefault(key, _Way(node.endpoint, engine=not kind))
            way.nodes.append((instance, node))
    for name in site.contexts.all():
        key = canonical(name, site.contexts)
        if sources.contexts or key in ways:
            ways.setdefault(key, _Way(name, open=True)).contexts.append(name)
    for endpoint in sources.endpoints:
        way = ways.setdefault(canonical(endpoint.text, site.contexts), _Way(endpoint.text))
        way.open = True
        if endpoint.scheme == "tcp" and not way.contexts:
            way.tls = sources.tls
    return ways


def _instances(site: Site, warn: Callable[[str], object]) -> List[Instance]:
    found = []
    for name in site.store.names():
        try:
            instance = site.store.get(name)
        except StoreError as exc:
            warn(exc.message)
            continue
        found += [instance] if instance else []
    return found


def _found(key: str, way: _Way, sources: Sources, site: Site, current: str) -> FoundEngine:
    nodes = tuple(_stored(instance, node, current) for instance, node in way.nodes)
    if not way.engine:
        return _buildkit(way, nodes, sources, site)
    engine = FoundEngine(key, _url(key), tuple(way.contexts), nodes, asked=sources.contact)
    if not sources.contact:
        return engine
    try:
        (info,) = probe_all([Endpoint.parse(way.text)], site.contexts, site.timeout, way.tls, anonymous=False)
        engine = _with_info(engine, info)
        return engine if engine.error else replace(engine, nodes=_read(way, nodes, sources, site))
    except FarmError as exc:
        return _silent(engine, exc.message)


def _silent(engine: FoundEngine, error: str) -> FoundEngine:
    nodes = tuple(replace(node, status="unreachable", error=error) for node in engine.nodes)
    return replace(engine, nodes=nodes, error=error)


def _with_info(engine: FoundEngine, info: EngineInfo) -> FoundEngine:
    return replace(
        _silent(engine, info.error) if info.error else engine,
        native=info.platform,
        version=info.version or "",
        drained=info.drained or "",
        certificate_expires=info.certificate_expires,
    )


def _url(text: str) -> Optional[Endpoint]:
    try:
        url = Endpoint.parse(text)
    except FarmError:
        return None
    # A context that leads nowhere is still called one.
    return None if url.scheme == "context" else url


def _stored(instance: Instance, node: Node, current: str) -> FoundNode:
    shown = definition_of(node)
    return FoundNode(
        builder=instance.name,
        name=node.name,
        driver=instance.driver,
        endpoint=node.endpoint,
        pins=node.platforms or (),
        definition={option: shown[option] for option in ("driver_opts", "buildkitd_flags")},
        current=instance.name.lower() == current,
    )


def _buildkit(way: _Way, nodes: Sequence[FoundNode], sources: Sources, site: Site) -> FoundEngine:
    """Return what is known of nodes that have no engine; only buildx can tell of them."""
    engine = FoundEngine(way.text, _url(way.text), nodes=tuple(nodes))
    if not sources.contact:
        return engine
    made = []
    for found, (instance, node) in zip(nodes, way.nodes):
        state = read_nodes(instance.name, instance.driver, [node], site)[key_of(node)]
        made.append(
            replace(
                found,
                status=state.status,
                error=state.error,
                detected=None if state.detected is None else tuple(state.detected),
                version=state.version,
            )
        )
    known = [node for node in made if node.status != "unknown"]
    error = known[0].error if known and all(node.error for node in known) else ""
    return replace(engine, nodes=tuple(made), asked=bool(known), error=error)


def _read(way: _Way, stored: Sequence[FoundNode], sources: Sources, site: Site) -> Tuple[FoundNode, ...]:
    """Return the nodes on an engine that answers, with those that only their containers tell of.

    :raises FarmError: it does not answer as an engine does.
    """
    endpoint = Endpoint.parse(way.text)
    with conversation(endpoint, site.contexts, site.timeout, way.tls) as engine:
        containers = _containers(engine)
        marks = marked(engine)
    builders: Dict[str, List[str]] = {}
    controllers: Dict[str, List[str]] = {}
    for mark in marks:
        builders.setdefault(mark.node, []).append(mark.builder)
        controllers.setdefault(mark.node, []).append(mark.controller)
    nodes = list(stored)
    known = {node.name for node in stored}
    for name in sorted(set(containers) - known) if way.open else ():
        builder, source = builder_of(name, builders)
        nodes.append(FoundNode(builder, name, "docker-container", way.text, source))
    return tuple(
        _asked(
            replace(
                node,
                status=containers.get(node.name, "missing"),
                controllers=tuple(sorted(set(controllers.get(node.name, ())))),
            ),
            way,
            sources,
            site,
        )
        for node in nodes
    )


def _containers(engine: Conversation) -> Dict[str, str]:
    """Return the nodes that have a container, and its state in one word."""
    containers = engine.get(f"/containers/json?all=1&filters={quote(json.dumps({'name': [PREFIX]}))}")
    return {
        name[1 + len(PREFIX) :]: container_status(one["State"])
        for one in containers
        for name in one["Names"]
        if name.startswith(f"/{PREFIX}")
    }


def _asked(node: FoundNode, way: _Way, sources: Sources, site: Site) -> FoundNode:
    """Return a node with what BuildKit in its container says of itself."""
    if not sources.detect or node.status != "running":
        return node
    try:
        # That BuildKit does not answer is no reason to leave the rest out.
        status, output, errors = execute(
            Endpoint.parse(way.text), site.contexts, PREFIX + node.name, _WORKERS, site.timeout, way.tls
        )
    except FarmError as exc:
        return replace(node, error=exc.message)
    if status != 0:
        return replace(node, error=f"BuildKit of node {node.name!r} does not answer: {' '.join(errors.split())}")
    detected, version = parse_workers(output.decode(errors="replace"))
    return replace(node, detected=detected, version=version)


def parse_workers(text: str) -> Tuple[Tuple[Platform, ...], str]:
    """Return the platforms and the version that ``buildctl debug workers -v`` prints, the version empty if it does not.

    Source: moby/buildkit ``cmd/buildctl/debug/workers.go``.
    """
    fields = dict(_FIELD.findall(text))
    platforms: List[Platform] = []
    for part in fields.get("Platforms", "").split(","):
        # What this collection does not know nothing here is built for.
        with contextlib.suppress(FarmError):
            platforms += [Platform.parse(part)]
    version = fields.get("BuildKit", "").split()
    return tuple(dict.fromkeys(platforms)), version[1] if len(version) > 1 else ""
