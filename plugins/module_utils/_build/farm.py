# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What images are built with: a builder, those of its nodes that answer, and what its results are read with."""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Sequence, Tuple

from .._buildx.buildkitd import CONFIG_FILE, toml_loads
from .._buildx.cli import Buildx
from .._buildx.placement import find_builder, workers_of
from .._buildx.store import Instance, Node, Store
from .._core.environment import NO_ENGINE
from .._core.errors import FarmError
from .._core.parallel import each
from .._docker.config import config_dir
from .._docker.context_store import ContextStore
from .._docker.endpoint import Endpoint
from .._docker.engine import EngineInfo, probe_all
from .._platform.platform import Platform, runs_natively
from .._platform.routing import Worker
from .._registry.client import Registries
from .declaration import Declaration
from .destination import Destination, resolve
from .output import ENGINE
from .schedule import PER_NODE

#: The driver whose nodes are engines; the only other one that has engines, ``docker``, has a single node.
ENGINES = "docker-container"
#: How a drained node takes builds again.
ACTIVATE = "end that with the module buildfarm.multiarch.buildx_drain, state active"
#: Seconds for the answers of all engines.
PROBE_TIMEOUT = 3.0
#: Seconds for which a restarted engine is waited for, and between two looks at it.
_RESTART, _PAUSE = 60.0, 0.5


@dataclass(frozen=True)
class Farm:
    """A builder for images, and what its results are read with.

    :ivar workers: the nodes that may take builds.
    :ivar natives: the platforms of the nodes' own processors by the nodes' names, as far as they are known.
    :ivar unreachable: why other nodes may not, by their names.
    :ivar registries: as the builder's nodes reach them, without mirrors.
    :ivar contexts: the docker contexts of engines.
    :ivar store: where buildx has the builder's definition.
    :ivar docker_config: the directory of the docker configuration.
    :ivar destinations: of each image of the task.
    :ivar drained: in words since when other nodes are drained, by their names.
    """

    builder: Instance
    workers: Tuple[Worker, ...]
    natives: Mapping[str, Platform]
    unreachable: Mapping[str, str]
    registries: Registries
    contexts: ContextStore
    store: Store
    docker_config: Path
    destinations: Tuple[Tuple[Destination, ...], ...]
    drained: Mapping[str, str] = field(default_factory=dict)

    @property
    def routes(self) -> bool:
        """Whether each node can be given its own builds; a builder of the docker driver is its engine's own."""
        return self.builder.driver != "docker"

    def node(self, name: str) -> Node:
        """Return a node of the builder."""
        return next(node for node in self.builder.nodes if node.name == name)

    def how(self, name: str, platforms: Sequence[Platform]) -> str:
        """Return ``native`` or ``emulated``, empty where neither holds for all, or it is not known."""
        native = self.natives.get(name)
        if native is None:
            return ""
        found = [runs_natively(platform, native) for platform in platforms]
        return "native" if all(found) else "" if any(found) else "emulated"

    def limits(self, declared: int) -> Dict[str, int]:
        """Return how many builds each node takes at the same time.

        :param declared: what the task says, 0 where it leaves it to the nodes.
        """
        return {node.name: declared or _own_limit(node) for node in self.builder.nodes}

    def refuse_drained(self, names: Sequence[str]) -> None:
        """Refuse nodes that take no builds, where others cannot be chosen instead.

        :raises FarmError: one of them is drained.
        """
        for name in names:
            if name in self.drained:
                raise FarmError(
                    f"builder {self.builder.name!r}: buildx would build on node {name!r}, and {self.drained[name]};"
                    f" {ACTIVATE}"
                )

    def unanswering(
        self, names: Sequence[str], drained: Callable[[str], object] = lambda name: None
    ) -> Dict[str, bool]:
        """Return those of the nodes whose engines do not answer, with whether they take connections all the same.

        Only nodes that are engines can be asked.

        :param drained: is told the names of those that are drained.
        """
        nodes = [self.node(name) for name in names] if self.builder.driver == ENGINES else []
        found = _probe(nodes, self.contexts)
        for name, info in found.items():
            if info.drained:
                drained(name)
        silent = {name: info for name, info in found.items() if not info.reachable}
        late = [name for name, info in silent.items() if info.error_kind == "timeout"]
        connected = dict(zip(late, each(late, lambda name: _connects(Endpoint.parse(self.node(name).endpoint)))))
        return {name: connected.get(name, False) for name in silent}

    def returned(self, names: Sequence[str]) -> List[str]:
        """Return those of lost nodes that may take builds again; engines that are being restarted are waited for.

        One that refuses connections is on a machine that answers, as while another job gives its engine a setting.
        """
        nodes = [self.node(name) for name in names] if self.builder.driver == ENGINES else []
        deadline = time.monotonic() + _RESTART
        while True:
            found = _probe(nodes, self.contexts)
            back = [name for name, info in found.items() if info.reachable and not info.drained]
            starting = any(info.error_kind in ("refused", "answer") for info in found.values())
            if back or not starting or time.monotonic() >= deadline:
                return back
            time.sleep(_PAUSE)


def find_farm(params: Mapping[str, Any], declaration: Declaration, buildx: Buildx) -> Farm:
    """Return the builder of a task, before anything is known of its nodes: see ``with_workers``.

    :raises FarmError: there is no such builder, or it cannot be described.
    """
    contexts, store = ContextStore(config_dir(params)), Store.of(params)
    builder = find_builder(buildx, store, declaration.builder)
    destinations = tuple(resolve(image.outputs, builder) for image in declaration.images)
    loads = any(destination.kind == ENGINE for of_image in destinations for destination in of_image)
    if builder.driver != "docker" and not loads:
        # The engine that the environment names has nothing to do with this build.
        buildx.env.update(NO_ENGINE)
    # What was just pushed is in the registry itself, whatever a mirror has.
    registries = Registries.of(params, builder.nodes, mirrors=False)
    buildx.authorities = registries.authorities
    return Farm(builder, (), {}, {}, registries, contexts, store, config_dir(params), destinations)


def with_workers(farm: Farm, buildx: Buildx, platforms: Sequence[Platform], start: bool) -> Farm:
    """Return the farm with those of its nodes that may take builds: they are asked whether they answer.

    :param platforms: that are to be built.
    :param start: whether nodes that do not run may be started to see what they can run.
    :raises FarmError: a node cannot be described.
    """
    builder = farm.builder
    found = _probe(builder.nodes, farm.contexts) if builder.driver in (ENGINES, "docker") else {}
    unreachable = {name: info.error or "no answer" for name, info in found.items() if not info.reachable}
    natives = {name: info.platform for name, info in found.items() if info.platform}
    drained = {name: info.drained for name, info in found.items() if info.drained}
    nodes = [node for node in builder.nodes if node.name not in unreachable and node.name not in drained]
    workers = workers_of(buildx, builder, nodes, natives, platforms, start) if farm.routes else ()
    asked = replace(farm, workers=tuple(workers), natives=natives, unreachable=unreachable, drained=drained)
    if not farm.routes:
        asked.refuse_drained([node.name for node in builder.nodes])
    return asked


def _probe(nodes: Sequence[Node], contexts: ContextStore) -> Dict[str, EngineInfo]:
    endpoints = [Endpoint.parse(node.endpoint) for node in nodes]
    answers: List[EngineInfo] = (
        list(probe_all(endpoints, contexts, PROBE_TIMEOUT, anonymous=False)) if endpoints else []
    )
    return {node.name: info for node, info in zip(nodes, answers)}


def _connects(endpoint: Endpoint) -> bool:
    """Return whether a machine takes connections for an engine, which its kernel does however busy the engine is."""
    if endpoint.scheme != "tcp":
        return False
    try:
        socket.create_connection((endpoint.host, endpoint.port or 0), PROBE_TIMEOUT).close()
    except OSError:
        return False
    return True


def _own_limit(node: Node) -> int:
    """Return how many builds a node takes: those whose steps BuildKit runs at once, and one whose files arrive.

    Source of the key: moby/buildkit ``docs/buildkitd.toml.md``.
    """
    loads = toml_loads()
    text = (node.files or {}).get(CONFIG_FILE, b"").decode(errors="replace")
    try:
        workers = loads(text).get("worker") if loads else None
    except ValueError:
        workers = None
    settings = [worker for worker in workers.values() if isinstance(worker, dict)] if isinstance(workers, dict) else []
    steps: List[int] = [one["max-parallelism"] for one in settings if isinstance(one.get("max-parallelism"), int)]
    return min([PER_NODE, *(number + 1 for number in steps if number > 0)])
