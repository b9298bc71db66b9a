# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Looking at builders and their nodes.

buildx is asked through a scratch store that holds just the nodes in question. So a dead node cannot hold it up, and no
lock of the real store is held meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple, TypeVar

from .._buildx.buildkitd import config_files
from .._buildx.cli import Buildx, Inspection, parse_inspect
from .._buildx.store import Instance, Node, Store, StoreError, TruncatedInstance
from .._core.environment import NO_ENGINE
from .._core.errors import FarmError
from .._core.files import read_bytes, write_atomically
from .._core.runner import CommandError, Runner
from .._docker.config import config_dir
from .._docker.context_store import ContextStore
from .._docker.endpoint import Endpoint
from .._docker.engine import conversation, each_within, platform_of, unanswered
from .container import cache_exists, read_container
from .declaration import canonical
from .model import Declaration, Found, Observation, Place, describe
from .plan import merge

Item = TypeVar("Item")
Made = TypeVar("Made")

_DEFAULT_CONFIG = "buildkitd.default.toml"


@dataclass(frozen=True)
class Site:
    """Where a builder lives.

    :ivar timeout: seconds that a node may take to answer.
    :ivar boot_timeout: seconds that starting nodes may take, pulling the image included.
    :ivar share_nodes: whether containers of other builders may be used.
    :ivar unreachable: endpoints that did not answer in this run, with the reason: none is waited for twice.
    """

    store: Store
    contexts: ContextStore
    buildx: Buildx
    timeout: float = 10
    boot_timeout: float = 600
    share_nodes: bool = False
    unreachable: Dict[str, str] = field(default_factory=dict)


def site_of(params: Mapping[str, Any], runner: Runner) -> Site:
    """Return where the builders of a module's parameters live."""
    return Site(
        store=Store.of(params),
        contexts=ContextStore(config_dir(params)),
        buildx=Buildx.of(params, runner),
        timeout=params["timeout"],
        boot_timeout=params.get("bootstrap_timeout", 0),
        share_nodes=params.get("share_nodes", False),
    )


def info(params: Dict[str, Any], check_mode: bool, runner: Runner) -> Dict[str, Any]:
    """The logic of the module ``buildx_builder_info``."""
    site = site_of(params, runner)
    wanted = params["name"].lower() if params["name"] else None
    current = current_builder(site)
    names = [name for name in site.store.names() if wanted in (None, name)]
    return {"builders": in_parallel(names, lambda name: {**_report(name, site), "current": name == current})}


def _report(name: str, site: Site) -> Dict[str, Any]:
    try:
        instance = site.store.get(name)
    except StoreError as exc:
        return {"name": name, "driver": None, "nodes": [], "platforms": [], "error": exc.message}
    if instance is None:  # removed since it was listed
        return {"name": name, "driver": None, "nodes": [], "platforms": [], "error": "the builder was just removed"}
    return {**describe(instance, look(instance.name, instance.driver, instance.nodes, site)), "error": None}


def observe(declared: Declaration, site: Site, probe: bool = True, ask: bool = True) -> Observation:
    """Look at a builder's definition and, unless told not to, at all nodes that it has or shall have, in parallel.

    :param ask: whether the BuildKits that run are asked as well, see ``look``.
    :raises FarmError: the definition cannot be read.
    """
    store = site.store
    content = store.read(declared.name)
    instance = None
    try:
        instance = None if content is None else Instance.from_json(content, str(store.path(declared.name)))
    except TruncatedInstance:
        if declared.nodes is None and declared.state != "absent":
            raise
    driver = declared.driver or (instance.driver if instance else "docker-container")
    # The remote driver refuses files, for which buildx's default configuration makes its every create fail.
    default_files = None if driver == "remote" else _default_files(store)
    nodes = _nodes_to_see(declared, driver, instance, default_files)
    places: Mapping[Place, Found] = {}
    if probe:
        places = look(declared.name, driver, nodes, site, ask)
        if instance is not None and instance.driver != driver:
            places = {**look(declared.name, instance.driver, instance.nodes, site, ask), **places}
    return Observation(
        path=str(store.path(declared.name)),
        content=content,
        instance=instance,
        broken_copy=str(store.directory / f"{declared.name.lower()}.broken"),
        places=places,
        current=_is_current(declared, site),
        shared={} if site.share_nodes else _shared(declared, site, nodes),
        default_files=default_files,
    )


def look(builder: str, driver: str, nodes: Sequence[Node], site: Site, ask: bool = True) -> Dict[Place, Found]:
    """Look at nodes in parallel, never longer than the time limits of the site.

    :param nodes: several with one name and endpoint are definitions of the same node.
    :param ask: False leaves BuildKit in containers alone. It is asked by starting a program in each container, which
        takes engines more work than all the rest.
    """
    places: Dict[Place, List[Node]] = {}
    for node in nodes:
        places.setdefault((node.name, node.endpoint), []).append(node)
    if driver == "docker-container":
        found = _look_at_engines(places, site)
        running = [place for place in places if ask and runs(found[place])]
        asked = [replace(places[place][-1], driver_opts=None) for place in running]
    else:
        found = _look_at_sockets(places, site) if driver == "remote" else {place: Found() for place in places}
        asked = [nodes[-1] for place, nodes in places.items() if not found[place].error]
    inspection = inspect(builder, driver, asked, site)
    for node in asked:
        found[(node.name, node.endpoint)] = with_status(found[(node.name, node.endpoint)], node, driver, inspection)
    return found


def inspect(builder: str, driver: str, nodes: Sequence[Node], site: Site) -> Optional[Inspection]:
    """Return what buildx says of nodes; None if it has not said it in time, or there is no buildx."""
    if not nodes:
        return Inspection()
    with scratch(Instance(builder, driver, tuple({node.name: node for node in nodes}.values()))) as env:
        try:
            result = site.buildx.run(["inspect", builder], env=env, timeout=site.timeout)
        except CommandError:
            return None
    return parse_inspect(result.stdout) if result.rc == 0 else None


def with_status(found: Found, node: Node, driver: str, inspection: Optional[Inspection]) -> Found:
    status = inspection.node(node.name) if inspection else None
    if status is None:
        return found
    detected = status.platforms if status.status == "running" else None
    if driver == "docker-container":
        return replace(found, detected=detected, version=status.version, trouble=status.error)
    return replace(found, known=True, detected=detected, version=status.version, error=status.error)


def runs(found: Found) -> bool:
    return found.container is not None and found.container.running


@contextlib.contextmanager
def scratch(instance: Instance) -> Iterator[Dict[str, str]]:
    """Give buildx a store that holds a builder and nothing else; yields the environment that names it."""
    with tempfile.TemporaryDirectory(prefix="buildx-") as directory:
        store = Store(Path(directory))
        os.mkdir(store.path(instance.name).parent, 0o700)
        write_atomically(store.path(instance.name), instance.to_json(), 0o600)
        yield {"BUILDX_CONFIG": directory, **NO_ENGINE}


def stored_driver(name: str, store: Store) -> str:
    try:
        instance = store.get(name)
    except TruncatedInstance:
        return ""
    return instance.driver if instance else ""


def current_builder(site: Site) -> str:
    """Return the name of the builder that buildx uses where none is named, empty if that is the engine's own."""
    return site.store.in_use(site.contexts.current_endpoint())


def in_parallel(items: Iterable[Item], work: Callable[[Item], Made]) -> List[Made]:
    """Do the same to each of many, at the same time.

    :return: the results in order.
    :raises FarmError: the first failure in order, after all have ended.
    """
    items = list(items)
    if len(items) < 2:
        return [work(item) for item in items]
    with ThreadPoolExecutor(max_workers=min(32, len(items))) as pool:
        return list(pool.map(work, items))


def _nodes_to_see(
    declared: Declaration, driver: str, instance: Optional[Instance], default_files: Optional[Mapping[str, bytes]]
) -> Tuple[Node, ...]:
    """Return all definitions, stored and declared, of nodes that a plan may have to do with; the declared ones last."""
    stored = instance.nodes if instance else ()
    places = {node.name for node in stored}
    # buildx itself says where the pods of a new node are; another node that has no endpoint is refused by the plan.
    specs = [spec for spec in declared.nodes or () if spec.endpoint or spec.name in places or driver == "kubernetes"]
    wanted = (merge(spec, declared, driver, stored, default_files) for spec in specs)
    # BuildKit is asked for what it detects, beside which buildx would show pins.
    return (*stored, *(replace(node, platforms=None, flags=None) for node in wanted))


def _look_at_engines(places: Mapping[Place, Sequence[Node]], site: Site) -> Dict[Place, Found]:
    """Look at the engines of places, each over one connection: a handshake costs more than all that is asked."""
    endpoints: Dict[str, Endpoint] = {}
    for _name, text in places:
        try:
            endpoints.setdefault(text, Endpoint.parse(text))
        except FarmError as exc:
            site.unreachable[text] = exc.message
    open_ones = [text for text in endpoints if text not in site.unreachable]

    def visit(text: str) -> Dict[Place, Found]:
        endpoint, seen = endpoints[text], {}
        try:
            with conversation(endpoint, site.contexts, site.timeout) as engine:
                native = platform_of(engine.version())
                for place in (place for place in places if place[1] == text):
                    try:
                        container = read_container(engine, endpoint, places[place])
                        cache = container is None and cache_exists(engine, endpoint, places[place][0])
                        seen[place] = Found(known=True, native=native, container=container, cache=cache)
                    except FarmError as exc:
                        seen[place] = Found(known=True, native=native, error=exc.message)
        except FarmError as exc:
            site.unreachable[text] = exc.message
        return seen

    found: Dict[Place, Found] = {}
    for text, seen in zip(open_ones, each_within(site.timeout, open_ones, visit)):
        if seen is None:
            site.unreachable[text] = unanswered(endpoints[text], site.timeout)
        found.update(seen or {})
    for place in places:
        if place[1] in site.unreachable:
            found[place] = Found(known=True, error=site.unreachable[place[1]])
    return found


def _look_at_sockets(places: Mapping[Place, Sequence[Node]], site: Site) -> Dict[Place, Found]:
    """Try to connect where a remote BuildKit listens; what cannot be tried is left to buildx."""

    def see(place: Place) -> Found:
        try:
            endpoint = Endpoint.parse(place[1])
            if endpoint.scheme == "tcp":
                socket.create_connection((endpoint.host, endpoint.port or 0), timeout=site.timeout).close()
            elif endpoint.scheme == "unix":
                with socket.socket(socket.AF_UNIX) as stream:
                    stream.connect(endpoint.path)
        except OSError as exc:
            return Found(known=True, error=f"BuildKit at {place[1]}: {exc.strerror or exc}; is it running there?")
        except FarmError:
            pass  # a scheme that only buildx knows
        return Found()

    return dict(zip(places, in_parallel(places, see)))


def _is_current(declared: Declaration, site: Site) -> bool:
    current = site.store.current()
    if current.name.lower() != declared.name.lower():
        return False
    if declared.use == "global":
        return current.is_global
    key = site.contexts.current_endpoint()
    return not current.is_global and current.key == key and site.store.default(key).lower() == declared.name.lower()


def _shared(declared: Declaration, site: Site, nodes: Sequence[Node]) -> Dict[Place, str]:
    """Return the places whose container some other builder of this store uses, with that builder's name."""
    used: Dict[Place, str] = {}
    for name in site.store.names():
        with contextlib.suppress(StoreError):
            other = site.store.get(name) if name != declared.name.lower() else None
            for node in other.nodes if other and other.driver == "docker-container" else ():
                used[(node.name, canonical(node.endpoint, site.contexts))] = name
    places = {(node.name, node.endpoint): (node.name, canonical(node.endpoint, site.contexts)) for node in nodes}
    return {place: used[same] for place, same in places.items() if same in used}


def _default_files(store: Store) -> Optional[Mapping[str, bytes]]:
    path = store.directory / _DEFAULT_CONFIG
    try:
        content = read_bytes(path)
        return None if content is None else config_files(content.decode(), lambda name: Path(name).read_bytes())
    except (OSError, UnicodeDecodeError) as exc:
        raise FarmError(f"{path}: buildx's default buildkitd configuration cannot be used: {exc}") from exc
