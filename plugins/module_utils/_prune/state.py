# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The engines and caches of a controller's nodes, and what else is left of its builders."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Collection, Dict, FrozenSet, List, Mapping, Optional, Sequence, Tuple
from urllib.parse import quote

from .._buildx.marks import Mark, marks
from .._buildx.store import PREFIX, Instance, Node, Store, StoreError
from .._context.owner import owner_of, uses
from .._context.state import StoredContext, read_context
from .._core.errors import FarmError
from .._core.parallel import each, each_within
from .._core.quantities import some_seconds
from .._docker.client import Conversation, conversation, execute, unanswered
from .._docker.config import config_dir
from .._docker.context_store import ContextStore
from .._docker.endpoint import Endpoint
from .._docker.transport import canonical
from .declaration import Declaration, Selection
from .notes import Note, read_notes
from .prediction import Record, parse_records, parse_time, predict

#: How the names of volumes with nodes' caches end, which begin as those of containers do.
#: Source: docker/buildx ``driver/manager.go``.
SUFFIX = "_state"
#: Seconds that a node's first mark may be younger than its container and cache, which are there when it has started.
_MARKED_WITHIN = 1800
#: How BuildKit says that a filter is none. Source: containerd ``pkg/filters/parser.go``.
_NO_FILTER = "filters: parse error"


@dataclass(frozen=True)
class Site:
    """Where is pruned: what steps act upon.

    :ivar timeout: seconds that an engine may take to answer.
    :ivar prune_timeout: seconds for which BuildKit may be silent while it counts or prunes.
    :ivar freed: the records that went, by the node's container and endpoint.
    :ivar failures: what steps could not do, each a sentence.
    """

    store: Store
    contexts: ContextStore
    timeout: float = 10
    prune_timeout: float = 600
    freed: Dict[Tuple[str, str], Tuple[Record, ...]] = field(default_factory=dict)
    failures: List[str] = field(default_factory=list)

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> Site:
        """Return where a module's parameters have builders.

        :raises FarmError: a time limit cannot be meant.
        """
        return cls(
            Store.of(params),
            ContextStore(config_dir(params)),
            timeout=some_seconds("timeout", params["timeout"]),
            prune_timeout=some_seconds("prune_timeout", params["prune_timeout"]),
        )

    def execute(self, node: Node, argv: Sequence[str]) -> Tuple[Record, ...]:
        """Run a program in a node's container that prints records.

        :raises FarmError: it failed, or the engine cannot be reached.
        """
        endpoint = Endpoint.parse(node.endpoint)
        status, output, errors = execute(endpoint, self.contexts, node.container, argv, self.prune_timeout)
        if status != 0:
            raise FarmError(
                f"engine {endpoint}: {' '.join(argv[:2])} in {node.container} failed with exit status {status}:"
                f" {errors.strip() or 'no message'}"
            )
        return parse_records(output.decode(errors="replace"))


@dataclass(frozen=True)
class EngineState:
    """An engine as far as builders are concerned.

    :ivar error: why it cannot be reached; empty where it can.
    :ivar now: its time, in seconds since 1970.
    :ivar containers: whether BuildKit's containers run, by their names.
    :ivar volumes: the names of the volumes with caches.
    :ivar networks: the names of networks that are named as the containers are.
    :ivar marks: the controllers that use a node, by its name.
    :ivar late: the nodes whose first mark was made long after their container or cache, so that others may be lost.
    """

    endpoint: str
    error: str = ""
    now: float = 0
    containers: Mapping[str, bool] = field(default_factory=dict)
    volumes: FrozenSet[str] = frozenset()
    networks: FrozenSet[str] = frozenset()
    marks: Mapping[str, Collection[str]] = field(default_factory=dict)
    late: FrozenSet[str] = frozenset()


@dataclass(frozen=True)
class Cache:
    """The cache of a node.

    :ivar builder: name of the builder.
    :ivar error: why it cannot be pruned; empty where it can.
    :ivar running: whether BuildKit runs, without which nothing is known of its cache.
    :ivar going: the records that are to go.
    """

    builder: str
    node: Node
    error: str = ""
    running: bool = False
    records: Tuple[Record, ...] = ()
    going: Tuple[Record, ...] = ()


@dataclass(frozen=True)
class State:
    """What there is to prune.

    :ivar known: the names of all nodes of all builders of this controller.
    :ivar other_drivers: builders whose caches are out of reach here, with their drivers.
    :ivar orphaned_contexts: contexts that were made for builders that no longer exist, with these.
    :ivar sizes: bytes of volumes that no builder has, by endpoint and name, as far as they are known.
    """

    caches: Tuple[Cache, ...] = ()
    engines: Tuple[EngineState, ...] = ()
    known: FrozenSet[str] = frozenset()
    other_drivers: Mapping[str, str] = field(default_factory=dict)
    orphaned_contexts: Mapping[str, Tuple[str, StoredContext]] = field(default_factory=dict)
    sizes: Mapping[Tuple[str, str], int] = field(default_factory=dict)
    notes: Tuple[Note, ...] = ()


def read_state(declaration: Declaration, site: Site) -> State:
    """Read builders, their engines and caches, side by side.

    :raises FarmError: there is no such builder or node, or the store cannot be read.
    """
    instances = _instances(site.store)
    chosen = _chosen(declaration, instances)
    ours = [one for one in instances if one.driver == "docker-container"]
    nodes = [
        (one.name, node)
        for one in chosen
        if one.driver == "docker-container"
        for node in one.nodes
        if declaration.nodes is None or node.name in declaration.nodes
    ]
    _refuse_unknown(declaration, nodes)
    endpoints = {canonical(node.endpoint, site.contexts): node.endpoint for _name, node in nodes}
    reports = declaration.orphans != "ignore"
    if reports and declaration.builder is None and declaration.nodes is None:
        # What is left of a builder that is gone may be on an engine that only a context leads to.
        for name in site.contexts.all():
            endpoints.setdefault(canonical(name, site.contexts), name)
    engines = dict(zip(endpoints, _read_engines(list(endpoints.values()), site)))
    needed = {canonical(node.endpoint, site.contexts) for _name, node in nodes}
    known = frozenset(node.name for one in ours for node in one.nodes)
    caches = _read_caches(nodes, engines, declaration.cache, site)
    found = tuple(engine for address, engine in engines.items() if address in needed or not engine.error)
    return State(
        caches=caches,
        engines=found if reports else (),
        known=known,
        other_drivers={one.name: one.driver for one in chosen if one.driver != "docker-container"},
        orphaned_contexts=_orphaned_contexts(site) if reports and declaration.builder is None else {},
        sizes=_sizes(found, known, site) if reports else {},
        notes=() if declaration.records is None else read_notes(site.store, site.contexts, declaration.records),
    )


def _instances(store: Store) -> List[Instance]:
    found = []
    for name in store.names():
        try:
            instance = store.get(name)
        except StoreError as exc:
            raise FarmError(f"{exc.message}; what its nodes are is not known, so nothing was pruned") from exc
        found += [instance] if instance else []
    return found


def _chosen(declaration: Declaration, instances: Sequence[Instance]) -> List[Instance]:
    if declaration.builder is None:
        return list(instances)
    chosen = [one for one in instances if one.name.lower() == declaration.builder]
    if not chosen:
        there = ", ".join(one.name for one in instances) or "none"
        raise FarmError(f"builder {declaration.builder!r} does not exist; there: {there}")
    if chosen[0].driver != "docker-container" and declaration.cache:
        raise FarmError(
            f"builder {declaration.builder!r} has the driver {chosen[0].driver}; only what docker-container keeps can"
            " be predicted and pruned here. 'docker buildx prune' knows the others"
        )
    return chosen


def _refuse_unknown(declaration: Declaration, nodes: Sequence[Tuple[str, Node]]) -> None:
    names = {node.name for _name, node in nodes}
    strangers = [name for name in declaration.nodes or () if name not in names]
    if strangers:
        raise FarmError(f"nodes: no builder that is to be pruned has a node {', '.join(map(repr, strangers))}")


def _read_engines(endpoints: Sequence[str], site: Site) -> List[EngineState]:
    def read(text: str) -> EngineState:
        try:
            with conversation(Endpoint.parse(text), site.contexts, site.timeout) as engine:
                return _read_engine(engine, text)
        except FarmError as exc:
            return EngineState(text, exc.message)

    found = each_within(site.timeout, endpoints, read)
    return [
        state or EngineState(text, unanswered(Endpoint.parse(text), site.timeout))
        for text, state in zip(endpoints, found)
    ]


def _read_engine(engine: Conversation, endpoint: str) -> EngineState:
    named = quote(json.dumps({"name": [PREFIX]}))
    containers = engine.get(f"/containers/json?all=1&filters={named}")
    volumes = engine.get(f"/volumes?filters={named}")["Volumes"] or ()
    marked = marks(engine)
    return EngineState(
        endpoint=endpoint,
        now=parse_time(engine.get("/info")["SystemTime"]),
        containers={
            name[1:]: one["State"] == "running"
            for one in containers
            for name in one["Names"]
            if name.startswith(f"/{PREFIX}")
        },
        volumes=frozenset(one["Name"] for one in volumes if one["Name"].startswith(PREFIX)),
        networks=frozenset(
            one["Name"] for one in engine.get(f"/networks?filters={named}") if one["Name"].startswith(PREFIX)
        ),
        marks=marked,
        late=_late(containers, volumes, marked),
    )


def _late(
    containers: Sequence[Mapping[str, Any]],
    volumes: Sequence[Mapping[str, Any]],
    marked: Mapping[str, Mapping[str, Mark]],
) -> FrozenSet[str]:
    made = {
        name[1 + len(PREFIX) :]: float(one.get("Created") or 0)
        for one in containers
        for name in one["Names"]
        if name.startswith(f"/{PREFIX}")
    }
    # A container may be made anew; the cache stays.
    made.update(
        (one["Name"][len(PREFIX) : -len(SUFFIX)], parse_time(one["CreatedAt"]))
        for one in volumes
        if one["Name"].endswith(SUFFIX) and one.get("CreatedAt")
    )
    since = {node: [one.since for one in several.values()] for node, several in marked.items()}
    return frozenset(
        node
        for node, times in since.items()
        if made.get(node) and all(times)
        if min(map(parse_time, times)) > made[node] + _MARKED_WITHIN
    )


def _read_caches(
    nodes: Sequence[Tuple[str, Node]],
    engines: Mapping[str, EngineState],
    selection: Optional[Selection],
    site: Site,
) -> Tuple[Cache, ...]:
    if selection is None:
        return ()
    # Builders may share a container.
    several = {
        (canonical(node.endpoint, site.contexts), node.container): (name, node) for name, node in reversed(nodes)
    }

    def read(key: Tuple[str, str]) -> Cache:
        (builder, node), engine = several[key], engines[key[0]]
        if engine.error or not engine.containers.get(node.container):
            return Cache(builder, node, engine.error)
        try:
            usage = ["buildctl", "du", "--format", "{{json .}}"]
            records = site.execute(node, usage)
            matching = None
            if selection.filters:
                options = [part for text in selection.filters for part in ("--filter", text)]
                matching = {record.identifier for record in site.execute(node, [*usage, *options])}
        except FarmError as exc:
            # Every node would say so.
            if _NO_FILTER in exc.message:
                raise FarmError(
                    f"filters: found {', '.join(map(repr, selection.filters))}; wanted BuildKit's, as in"
                    f" type==exec.cachemount or description~=golang; {exc.message}"
                ) from exc
            return Cache(builder, node, exc.message)
        return Cache(builder, node, "", True, records, predict(records, selection, engine.now, matching))

    return tuple(each(sorted(several, key=lambda key: several[key][1].name), read))


def _orphaned_contexts(site: Site) -> Dict[str, Tuple[str, StoredContext]]:
    builders, used = set(site.store.names()), uses(site.contexts, site.store)
    found = {}
    for name, meta in site.contexts.all().items():
        owner = owner_of(meta)
        if owner and owner.lower() not in builders and name not in used:
            stored = read_context(site.contexts, name)
            if stored:
                found[name] = (owner, stored)
    return found


def _sizes(engines: Sequence[EngineState], known: FrozenSet[str], site: Site) -> Dict[Tuple[str, str], int]:
    """Return the bytes of the volumes that no builder of this controller has; engines count them only then."""
    asked = [
        engine
        for engine in engines
        if any(name[len(PREFIX) : -len(SUFFIX)] not in known for name in engine.volumes if name.endswith(SUFFIX))
    ]

    def read(engine: EngineState) -> Dict[Tuple[str, str], int]:
        try:
            with conversation(Endpoint.parse(engine.endpoint), site.contexts, site.prune_timeout) as talk:
                volumes = talk.get("/system/df?type=volume")["Volumes"] or ()
        except FarmError:
            return {}
        return {
            (engine.endpoint, one["Name"]): int(one["UsageData"]["Size"])
            for one in volumes
            if one["Name"] in engine.volumes and (one.get("UsageData") or {}).get("Size", -1) >= 0
        }

    found: Dict[Tuple[str, str], int] = {}
    for sizes in each(asked, read):
        found.update(sizes)
    return found
