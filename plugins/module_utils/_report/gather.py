# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reading a farm: all engines side by side, then all BuildKits, then the images; each within a time limit.

What does not answer is a status. What of a BuildKit was read in time is kept.
"""

from __future__ import annotations

import contextlib
import copy
import json
import time
from dataclasses import dataclass, replace
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple
from urllib.parse import quote

from .._builder.containers import read_files
from .._builder.nodes import Site as BuilderSite
from .._builder.nodes import read_nodes
from .._buildx.marks import controller_name, marks
from .._buildx.store import PREFIX, Instance, Node, Store
from .._core.errors import FarmError
from .._core.parallel import each, each_within
from .._core.runner import Runner
from .._docker.client import conversation, execute, unanswered
from .._docker.config import config_dir
from .._docker.context_store import ContextStore, TlsFiles
from .._docker.endpoint import Endpoint
from .._docker.engine import EngineInfo, probe
from .._docker.reference import Reference
from .._docker.transport import canonical
from .._image.contents import Contents, Depth, read_contents
from .._key.record import ForeignRecord, Record
from .._prune.prediction import parse_records, total_of
from .._registry.client import Registries
from .declaration import Declaration
from .history import HISTORIES, RUNNING, STEPS, parse_histories, parse_steps, with_reasons
from .state import (
    DIRECTORY,
    DISK,
    USAGE,
    WORKERS,
    Daemon,
    EngineState,
    FoundContainer,
    FoundImage,
    FoundNode,
    State,
    elsewhere,
    read_disk,
    read_worker,
)

#: Bytes that are read of what a program in a container writes: logs of builds may be long.
_LIMIT = 16 << 20
_NAMED = quote(json.dumps({"name": [PREFIX]}))
#: How a BuildKit without a history says so: before 0.12 its buildctl has no such command.
_OLD = ("No help topic", "unknown command", "not implemented", "Unimplemented")


@dataclass(frozen=True)
class _Engine:
    """An engine that is to be queried.

    :ivar declared: whether its nodes are of interest whoever they belong to.
    """

    endpoint: Endpoint
    tls: Optional[TlsFiles] = None
    declared: bool = False


def read_state(declaration: Declaration, params: Mapping[str, Any], runner: Runner) -> State:
    """Read what is declared to be of interest.

    :raises FarmError: there is nothing of interest, or what there is cannot be known.
    """
    store, contexts = Store.of(params), ContextStore(config_dir(params))
    instances, broken = _instances(declaration, store)
    # Images are worth a report of their own, but not where a builder is meant that is not here.
    if not (instances or broken or declaration.endpoints or (declaration.images and not declaration.builder)):
        raise FarmError(
            f"there is nothing to report: {store.directory} has no builder"
            f"{f' of the name {declaration.builder}' if declaration.builder else 's'}; name the nodes' engines with"
            " endpoints"
        )
    engines = _engines(declaration, instances, contexts)
    states = dict(zip(engines, _read_engines(list(engines.values()), contexts, declaration.timeout)))
    nodes = [*_nodes_of_builders(instances, states, contexts, params, runner)]
    nodes += _nodes_of_engines(declaration, engines, states, nodes)
    tls = {engine.endpoint.text: engine.tls for engine in engines.values()}
    daemons = _read_daemons(nodes, contexts, tls, declaration)
    nodes = [replace(node, daemon=daemons.get((node.endpoint, node.name))) for node in nodes]
    images: Tuple[FoundImage, ...] = ()
    if declaration.images:
        stored = [node for instance in instances for node in instance.nodes]
        registries = Registries.of(params, stored or _configured(nodes, contexts, tls, declaration.timeout))
        images = tuple(each(declaration.images, lambda reference: _read_image(registries, reference)))
    return State(
        controller=controller_name(params),
        now=time.time(),
        builders=tuple(instances),
        current=store.in_use(contexts.current_endpoint()),
        broken=broken,
        nodes=tuple(nodes),
        images=images,
    )


def _instances(declaration: Declaration, store: Store) -> Tuple[List[Instance], Dict[str, str]]:
    found: List[Instance] = []
    broken: Dict[str, str] = {}
    for name in store.names():
        if declaration.builder in (None, name):
            try:
                instance = store.get(name)
                for node in _engine_nodes(instance) if instance else ():
                    Endpoint.parse(node.endpoint)
                found += [instance] if instance else []
            except FarmError as exc:
                broken[name] = exc.message
    return found, broken


def _engine_nodes(instance: Instance) -> Tuple[Node, ...]:
    """Return the nodes of a builder that are engines."""
    return instance.nodes if instance.driver == "docker-container" else ()


def _engines(declaration: Declaration, instances: Sequence[Instance], contexts: ContextStore) -> Dict[str, _Engine]:
    """Return the engines by where they are: a context and its URL are one."""
    found: Dict[str, _Engine] = {}
    for endpoint in declaration.endpoints:
        tls = declaration.tls if endpoint.scheme == "tcp" else None
        found.setdefault(canonical(endpoint.text, contexts), _Engine(endpoint, tls, True))
    for instance in instances:
        for node in _engine_nodes(instance):
            found.setdefault(canonical(node.endpoint, contexts), _Engine(Endpoint.parse(node.endpoint)))
    return found


def _read_engines(engines: Sequence[_Engine], contexts: ContextStore, timeout: float) -> List[EngineState]:
    def read(engine: _Engine) -> EngineState:
        probed = probe(engine.endpoint, contexts, timeout, engine.tls)
        if probed.error:
            return EngineState(probed)
        try:
            with conversation(engine.endpoint, contexts, timeout, engine.tls) as talk:
                containers = talk.get(f"/containers/json?all=1&filters={_NAMED}")
                return EngineState(
                    probed,
                    facts=talk.get("/info"),
                    containers={
                        name[1 + len(PREFIX) :]: FoundContainer(str(one["State"]), str(one["Image"]), str(one["Id"]))
                        for one in containers
                        for name in one["Names"]
                        if name.startswith(f"/{PREFIX}")
                    },
                    marks=marks(talk),
                )
        except FarmError as exc:
            return EngineState(replace(probed, error=exc.message, error_kind="answer"))

    found = each_within(timeout, engines, read)
    return [
        state or EngineState(EngineInfo(one.endpoint, error=unanswered(one.endpoint, timeout), error_kind="timeout"))
        for one, state in zip(engines, found)
    ]


def _nodes_of_builders(
    instances: Sequence[Instance],
    states: Mapping[str, EngineState],
    contexts: ContextStore,
    params: Mapping[str, Any],
    runner: Runner,
) -> List[FoundNode]:
    found: Dict[Tuple[str, str], FoundNode] = {}
    for instance in instances:
        others = {}
        if instance.driver != "docker-container":
            others = read_nodes(instance.name, instance.driver, instance.nodes, BuilderSite.from_params(params, runner))
        for node in instance.nodes:
            key = (node.endpoint, node.name)
            known = found.get(key)
            if known is not None:
                pins = tuple(dict.fromkeys((*(known.pins or ()), *(node.platforms or ()))))
                found[key] = replace(known, builders=(*known.builders, instance.name), pins=pins)
                continue
            one = FoundNode(
                name=node.name,
                endpoint=node.endpoint,
                driver=instance.driver,
                builders=(instance.name,),
                pins=node.platforms or (),
                elsewhere=elsewhere(instances, node),
            )
            state = others.get((node.name, node.endpoint))
            if state is not None:
                daemon = Daemon(state.version, state.detected, history=f"it is not read with driver {instance.driver}")
                found[key] = replace(one, trouble=state.error, status_elsewhere=state.status, daemon=daemon)
            else:
                engine = states.get(canonical(node.endpoint, contexts))
                marked = engine.marks.get(node.name, {}) if engine else {}
                found[key] = replace(one, engine=engine, controllers=tuple(sorted(marked)))
    return list(found.values())


def _nodes_of_engines(
    declaration: Declaration,
    engines: Mapping[str, _Engine],
    states: Mapping[str, EngineState],
    known: Sequence[FoundNode],
) -> List[FoundNode]:
    """Return the nodes on declared engines that are of no builder of this controller, as far as engines know them."""
    found: List[FoundNode] = []
    # An engine may be reached in several ways.
    there = {node.container for node in known}
    for address, engine in engines.items():
        if not engine.declared:
            continue
        state, here = states[address], []
        for name in sorted(state.containers):
            marked = state.marks.get(name, {})
            builders = tuple(dict.fromkeys(one.builder for _who, one in sorted(marked.items()) if one.builder))
            if state.containers[name].identifier in there:
                continue
            if declaration.builder and declaration.builder not in builders:
                continue
            there.add(state.containers[name].identifier)
            here.append(
                FoundNode(
                    name=name,
                    endpoint=engine.endpoint.text,
                    driver="docker-container",
                    builders=builders,
                    engine=state,
                    controllers=tuple(sorted(marked)),
                )
            )
        if not here and not any(one.identifier in there for one in state.containers.values()):
            # An engine without a BuildKit, or one that cannot be asked for it.
            here = [FoundNode(engine.endpoint.text, engine.endpoint.text, "docker-container", engine=state)]
        found += here
    return found


def _read_daemons(
    nodes: Sequence[FoundNode],
    contexts: ContextStore,
    tls: Mapping[str, Optional[TlsFiles]],
    declaration: Declaration,
) -> Dict[Tuple[str, str], Daemon]:
    known = {(node.endpoint, node.name): node.daemon for node in nodes if node.daemon}
    asked = [node for node in nodes if node.engine and node.status == "running"]
    daemons = [Daemon() for _node in asked]
    deadline = time.monotonic() + declaration.timeout

    def read(position: int) -> bool:
        node = asked[position]
        _read_daemon(node, daemons[position], contexts, tls.get(node.endpoint), declaration.builds, deadline)
        return True

    done = each_within(declaration.timeout, range(len(asked)), read)
    for node, daemon, ended in zip(asked, daemons, done):
        # One that is late goes on writing into its own.
        copied = copy.copy(daemon)
        if not ended and copied.platforms is None and not copied.problem:
            copied.problem = f"BuildKit in {PREFIX}{node.name} did not answer within {declaration.timeout:g} s"
        known[(node.endpoint, node.name)] = copied
    return known


def _read_daemon(
    node: FoundNode,
    daemon: Daemon,
    contexts: ContextStore,
    tls: Optional[TlsFiles],
    builds: int,
    deadline: float,
) -> None:
    """Read what a BuildKit says, what matters most first."""

    def run(argv: Sequence[str]) -> str:
        left = max(0.1, deadline - time.monotonic())
        endpoint = Endpoint.parse(node.endpoint)
        status, output, errors = execute(endpoint, contexts, f"{PREFIX}{node.name}", argv, left, tls, _LIMIT)
        if status != 0:
            raise FarmError(f"{' '.join(argv[:3])} failed: {(errors or output.decode(errors='replace')).strip()[:300]}")
        return output.decode(errors="replace")

    try:
        read_worker(run(WORKERS), daemon)
    except FarmError as exc:
        daemon.problem = daemon.history = exc.message
        return
    try:
        listed = parse_histories(run(HISTORIES)) if builds else ()
        # What an older one has of it decides the reasons of the oldest that is shown.
        daemon.builds, daemon.history = listed[:builds], ""
    except FarmError as exc:
        listed = ()
        old = any(words in exc.message for words in _OLD)
        daemon.history = (
            f"it is not available with BuildKit {daemon.version or 'of this version'}" if old else exc.message
        )
    try:
        records = parse_records(run(USAGE))
        daemon.cache = (total_of(records), len(records))
    except FarmError as exc:
        daemon.problem = exc.message
    # Images of BuildKit need not have the program.
    with contextlib.suppress(FarmError):
        daemon.disk = read_disk(run(DISK), DIRECTORY)
    timelines = list(listed)
    for position, build in enumerate(daemon.builds):
        # The log of one that runs does not end.
        if build.status != RUNNING and time.monotonic() < deadline:
            try:
                steps = parse_steps(run((*STEPS, build.ref)), build)
                timelines[position] = replace(build, timeline=steps)
            except FarmError:
                continue
            daemon.builds = with_reasons(timelines)[:builds]


def _configured(
    nodes: Sequence[FoundNode], contexts: ContextStore, tls: Mapping[str, Optional[TlsFiles]], timeout: float
) -> List[Node]:
    """Return nodes with the configuration that their containers have: how they reach registries."""

    def read(node: FoundNode) -> Optional[Node]:
        try:
            with conversation(Endpoint.parse(node.endpoint), contexts, timeout, tls.get(node.endpoint)) as engine:
                files = read_files(engine, f"{PREFIX}{node.name}")
                return Node(node.name, node.endpoint, files=files)
        except FarmError:
            return None

    running = [node for node in nodes if node.engine and node.status == "running"]
    return [node for node in each_within(timeout, running, read) if node]


def _read_image(registries: Registries, reference: Reference) -> FoundImage:
    try:
        contents = read_contents(registries, reference, Depth(configs=True))
    except FarmError as exc:
        return FoundImage(str(reference), exc.message)
    if contents is None:
        return FoundImage(str(reference))
    record = _record(contents)
    return FoundImage(
        name=str(reference),
        digest=contents.index.digest,
        platforms=tuple(
            (str(part.entry.platform), part.entry.digest, part.size, part.created)
            for part in contents.images
            if part.entry.platform
        ),
        attested=any(part.attestations for part in contents.images),
        missing=contents.gone,
        key=record.key if record else "",
        sources=tuple(dict.fromkeys((str(one), one.digest) for one in record.sources)) if record else (),
    )


def _record(contents: Contents) -> Optional[Record]:
    annotations = contents.document.get("annotations")
    try:
        return Record.from_annotations(annotations) if isinstance(annotations, dict) else None
    except ForeignRecord:
        return None
