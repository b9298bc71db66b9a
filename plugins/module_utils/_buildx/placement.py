# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Finding a builder, and the node of it that each platform of a build goes to.

What no node offers buildx sends to the first node without a word: here that is an error.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from typing import Mapping, Optional, Sequence, Tuple

from .._core.errors import FarmError
from .._core.runner import CommandError, Result
from .._docker.context_store import ContextStore
from .._platform.platform import Platform, listed
from .._platform.routing import Worker, routes, serves
from .cli import Buildx, Inspection, parse_inspect
from .settling import Settling
from .store import Instance, Node, Store


@dataclass(frozen=True)
class Placement:
    """Where the platforms of a build go.

    :ivar nodes: by platform, in the order requested; None where only a started node can report whether it serves it.
    """

    nodes: Mapping[Platform, Optional[Node]]

    @property
    def names(self) -> Tuple[str, ...]:
        """The names of the nodes that take part, as far as they are known."""
        return tuple(dict.fromkeys(node.name for node in self.nodes.values() if node))


def find_builder(buildx: Buildx, store: Store, name: Optional[str]) -> Instance:
    """Return a builder's definition.

    A builder that buildx makes up itself, of the docker driver and named after a context, is none of the store's;
    buildx is queried for it.

    :param name: None for the builder that buildx uses where none is named.
    :raises FarmError: there is none of that name.
    """
    stored = store.get(name) if name else None
    if stored is not None:
        return stored
    result = buildx.run(["inspect", *([name] if name else [])])
    known = ", ".join(store.names()) or "none"
    if result.rc != 0 and "no builder" in result.stderr:
        raise FarmError(
            f'no builder "{name}" found in {store.directory}; builders there: {known}; '
            f"declare it with the module buildfarm.multiarch.buildx_builder",
            **CommandError("", result).details,
        )
    found = {key: re.search(rf"^{key}:[ \t]+(\S+)", result.stdout, re.MULTILINE) for key in ("Name", "Driver")}
    if result.rc != 0 or not found["Name"] or not found["Driver"]:
        trouble = re.search(r"^Error:[ \t]+(\S.*)", result.stdout, re.MULTILINE)
        if trouble and found["Name"]:
            raise FarmError(
                f"builder {found['Name'].group(1)!r} is that of an engine, which cannot be used: "
                f"{trouble.group(1).strip()}; name another builder with the option builder (builders there: {known}), "
                f"or start the engine",
                **CommandError("", result).details,
            )
        raise CommandError(f"builder {name or '(current)'}: docker buildx inspect did not describe it", result)
    actual = found["Name"].group(1)
    nodes = tuple(Node(node.name, node.endpoint) for node in parse_inspect(result.stdout).nodes)
    return store.get(actual) or Instance(actual, found["Driver"].group(1), nodes)


def nodes_in_use(store: Store, contexts: ContextStore) -> Tuple[Node, ...]:
    """Return the nodes of the builder that buildx uses where none is named, none where that is the engine's own.

    :raises FarmError: its definition cannot be read.
    """
    name = os.environ.get("BUILDX_BUILDER") or store.in_use(contexts.current_endpoint())
    builder = store.get(name) if name else None
    return builder.nodes if builder else ()


def route_platforms(buildx: Buildx, builder: Instance, platforms: Sequence[Platform], start: bool) -> Placement:
    """Find the node for each platform.

    :param start: whether nodes that do not run may be started to see what they can run.
    :raises FarmError: no node serves a platform, or a node that buildx would need to query is out of reach.
    """
    workers = [Worker(node.name, node.platforms or ()) for node in builder.nodes]
    if not all(any(platform in worker.pins for worker in workers) for platform in platforms):
        inspection = _inspect(buildx, builder, start)
        workers = [replace(worker, detected=_detected(inspection, worker.name)) for worker in workers]
        missing = [platform for platform in platforms if not any(_offers(worker, platform) for worker in workers)]
        if missing and _all_running(inspection):
            raise FarmError(
                f"builder {builder.name!r}: no node serves {listed(missing)}; {_shown(workers)}; have a node "
                f"emulate it (farm_platforms of the playbook site, or module buildfarm.multiarch.binfmt), or, for "
                f"a Dockerfile that cross-compiles, pin the platform to a node (module "
                f"buildfarm.multiarch.buildx_builder)"
            )
    served, _unserved = routes(platforms, workers)
    names = {route.platform: route.node for route in served}
    return Placement({platform: builder.node(names.get(platform, "")) for platform in platforms})


def workers_of(
    buildx: Buildx,
    builder: Instance,
    nodes: Sequence[Node],
    natives: Mapping[str, Platform],
    platforms: Sequence[Platform],
    start: bool,
) -> Tuple[Worker, ...]:
    """Return nodes of a builder with the platforms that they serve.

    Those are their pins, and of platforms that none of them has pinned those that BuildKit detects.

    :param nodes: those that may take builds.
    :param natives: the platforms of the nodes' engines, as far as they are known.
    :param platforms: that are to be built.
    :param start: whether nodes that do not run may be started to see what they can run. Where they may not, a node that
        does not run serves everything, as only a started one could tell.
    :raises FarmError: buildx cannot describe the builder.
    """
    workers = [Worker(node.name, node.platforms or (), native=natives.get(node.name)) for node in nodes]
    unpinned = [platform for platform in platforms if not any(serves(worker.pins, platform) for worker in workers)]
    if not unpinned or not workers:
        return tuple(workers)
    inspection = parse_inspect(_described(buildx, builder, start).stdout)
    served = []
    for worker in workers:
        status = inspection.node(worker.name)
        unknown = not start and (status is None or status.status != "running")
        asked = replace(worker, detected=status.platforms if status else ())
        detected = [platform for platform in unpinned if unknown or _offers(asked, platform)]
        served.append(replace(worker, pins=(*worker.pins, *detected)))
    return tuple(served)


def _offers(worker: Worker, platform: Platform) -> bool:
    """Say whether a node runs a platform's architecture by its own account.

    buildx takes any arm64 node for one of 32-bit arm too; BuildKit reports whether it is.
    """
    return any(
        (offer.os, offer.arch) == (platform.os, platform.arch) for offer in worker.pins + (worker.detected or ())
    )


def _inspect(buildx: Buildx, builder: Instance, start: bool) -> Inspection:
    result = _described(buildx, builder, start)
    inspection = parse_inspect(result.stdout)
    broken = [f"node {node.name!r}: {node.error}" for node in inspection.nodes if node.error]
    if broken or inspection.error:
        raise FarmError(
            f"builder {builder.name!r}: not all requested platforms are pinned, so buildx needs every node, and "
            f"not all can be used: {'; '.join(broken) or inspection.error}; repair the node, remove it, or pin the "
            f"platforms",
            **CommandError("", result).details,
        )
    return inspection


def _described(buildx: Buildx, builder: Instance, start: bool) -> Result:
    """Have buildx describe a builder, once each BuildKit is up that was just starting again."""
    settling = Settling()
    while True:
        result = buildx.run(
            ["inspect", *(["--bootstrap"] if start else []), builder.name],
            failure=f"builder {builder.name!r}: the platforms of its nodes could not be read",
        )
        if not settling.again(result):
            return result


def _detected(inspection: Inspection, name: str) -> Tuple[Platform, ...]:
    status = inspection.node(name)
    return status.platforms if status else ()


def _all_running(inspection: Inspection) -> bool:
    return all(node.status == "running" for node in inspection.nodes)


def _shown(workers: Sequence[Worker]) -> str:
    shown = [(worker.name, dict.fromkeys(worker.pins + (worker.detected or ()))) for worker in workers]
    return "; ".join(f"node {name!r} serves {listed(offers) or 'none'}" for name, offers in shown)
