# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Draining nodes: mark them, and wait until nothing builds on them."""

from __future__ import annotations

import time
from typing import Any, Dict, List, Mapping, Sequence

from .._core.errors import FarmError
from .._core.outcome import Outcome
from .._core.parallel import each
from .._core.runner import Runner
from .._docker.client import conversation
from .._docker.config import config_dir
from .._docker.context_store import ContextStore
from .._docker.drain import LABEL, VOLUME
from .._docker.endpoint import Endpoint
from .declaration import Declaration
from .plan import Site, plan
from .state import NodeState, read_node

#: Seconds between two looks.
_INTERVAL = 1.0
#: Seconds for which nothing has to build on a node whose mark is new: a controller that has not seen it may begin to.
_SETTLES = 4.0
_TIMEOUT = 10.0


def run(params: Dict[str, Any], check_mode: bool, runner: Runner) -> Outcome:
    """Run module ``buildx_drain``.

    :raises FarmError: an engine cannot be reached, and nothing was changed; or builds went on for longer than was to be
        waited for.
    """
    declaration = Declaration.from_params(params)
    site = Site(ContextStore(config_dir(params)), declaration.tls)
    found: Mapping[Endpoint, NodeState] = _read(declaration.endpoints, site)
    planned = plan(declaration, found)
    if planned.steps and not check_mode:
        planned.apply(site)
    if not check_mode:
        found = _awaited(declaration, site, found, fresh=bool(planned.steps))
    nodes = [_described(endpoint, node, planned.after[endpoint.text]) for endpoint, node in found.items()]
    busy = [f"{one['endpoint']} ({one['builds']})" for one in nodes if one["builds"]]
    outcome = planned.outcome(nodes=nodes)
    if declaration.drained and declaration.timeout and busy and not check_mode:
        raise FarmError(
            f"builds still run after {declaration.timeout:g} s on {', '.join(busy)}; no new ones begin there. Run"
            " again to wait on, or set timeout to 0 not to wait",
            **outcome.as_result(),
        )
    return outcome


def _read(endpoints: Sequence[Endpoint], site: Site) -> Dict[Endpoint, NodeState]:
    def look(endpoint: Endpoint) -> NodeState:
        with conversation(endpoint, site.contexts, _TIMEOUT, site.tls) as engine:
            try:
                return read_node(engine)
            except FarmError as exc:
                raise FarmError(f"engine {endpoint}: {exc.message}") from exc

    return dict(zip(endpoints, each(endpoints, look)))


def _awaited(
    declaration: Declaration, site: Site, found: Mapping[Endpoint, NodeState], fresh: bool
) -> Mapping[Endpoint, NodeState]:
    """Return the nodes once nothing builds on them, or the time is over."""
    now = time.monotonic()
    deadline, quiet_since = now + declaration.timeout, now
    settles = _SETTLES if fresh and declaration.drained and declaration.timeout else 0.0
    if fresh:
        found = _read(declaration.endpoints, site)
        for endpoint, node in found.items():
            if (node.mark is not None) != declaration.drained:
                raise FarmError(
                    f"engine {endpoint}: volume {VOLUME} was {'made' if declaration.drained else 'removed'}, and still"
                    f" the engine is {'not ' if declaration.drained else ''}marked by a volume with label {LABEL}; see"
                    " docker volume ls, and remove what has the name or the label there"
                )
    while declaration.drained:
        now = time.monotonic()
        if any(node.builds for node in found.values()):
            quiet_since = now
        elif now - quiet_since >= settles:
            break
        if now >= deadline:
            break
        time.sleep(_INTERVAL)
        found = _read(declaration.endpoints, site)
    return found


def _described(endpoint: Endpoint, node: NodeState, after: Mapping[str, Any]) -> Dict[str, Any]:
    names: List[str] = sorted(node.builds)
    return {
        "endpoint": endpoint.text,
        **after,
        "since": node.mark.since if node.mark and after["drained"] else None,
        "builds": sum(node.builds.values()),
        "containers": names,
    }
