# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which nodes of a builder serve which platforms, and whether that is what is declared. Everything here is pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, List, Mapping, Optional, Tuple

from .._buildx.store import Instance, Node
from .._core.errors import FarmError
from .._platform.pinning import Candidate, assign
from .._platform.platform import runs_natively
from .._platform.routing import routes
from .declaration import Declaration
from .model import NodeKey, NodeState, key_of, workers_of
from .state import State


def needs_detected_platforms(declaration: Declaration, target: Optional[Instance]) -> bool:
    """Return whether a requested platform has no pin of its own, so that only BuildKit can report who serves them all.

    A pin that runs it too, amd64 for 386, is not enough: buildx then counts what is detected as well.

    :param target: the builder to be, None if there is none then.
    """
    pins = {pin for node in (target.nodes if target else ()) for pin in node.platforms or ()}
    return target is not None and not pins.issuperset(declaration.platforms)


def check_platforms(
    declaration: Declaration, target: Instance, nodes: Mapping[NodeKey, NodeState], final: bool = True
) -> None:
    """Refuse a builder that does not serve a requested platform, or only by emulation where that is forbidden.

    :param final: False before nodes are started: what only a started node can report is decided then.
    :raises FarmError: a platform is not served as declared.
    """
    workers = workers_of(target, nodes)
    # Of a node that cannot be reached nothing more will be known later.
    undecided = not final and any(
        worker.detected is None and not nodes.get(key_of(node), NodeState()).error
        for node, worker in zip(target.nodes, workers)
    )
    served, missing = routes(declaration.platforms, workers)
    if missing and not undecided:
        offers = "; ".join(f"{worker.name}: {names_of({*worker.pins, *(worker.detected or ())})}" for worker in workers)
        raise FarmError(
            f"builder {target.name!r}: no node serves {names_of(missing)} (found {offers}); pin the platform on a node"
            " that can run it, add such a node, or register QEMU handlers on one (module buildfarm.multiarch.binfmt)"
        )
    emulated = [route for route in served if route.native is False]
    if declaration.emulation == "forbid" and emulated and not (undecided and missing):
        shown = ", ".join(f"{route.platform} on {route.node}" for route in emulated)
        raise FarmError(
            f"builder {target.name!r}: emulation is forbidden, and only QEMU could serve {shown}; add a node whose own"
            " processor runs it, or allow emulation"
        )


def pinned(declaration: Declaration, nodes: Tuple[Node, ...], state: State) -> Tuple[Node, ...]:
    """Return the nodes with the pins by which native builds run on native nodes, where that is declared."""
    if declaration.emulation == "allow" or not declaration.platforms:
        return nodes
    free = {spec.name for spec in declaration.nodes or () if spec.platforms is None}
    named = {spec.name for spec in declaration.nodes or ()}
    candidates = [
        Candidate(node.name, native, None if node.name in free else node.platforms or ())
        for node, native in ((node, state.at(node).native) for node in nodes)
        if native is not None or node.name not in named
    ]
    if not any(candidate.pins is None for candidate in candidates):
        return nodes
    pins = {item.name: item.pins for item in assign(candidates, declaration.platforms) if item.name in free}
    return tuple(
        replace(node, platforms=pins[node.name] or None)
        if pins.get(node.name, node.platforms or ()) != (node.platforms or ())
        else node
        for node in nodes
    )


def check_pins(declaration: Declaration, target: Instance, state: State) -> List[str]:
    """Return warnings on pins that do not do what they seem to; refuse emulated ones where emulation is forbidden."""
    warnings = []
    natives = {node.name: state.at(node).native for node in target.nodes}
    for node in target.nodes:
        native = natives[node.name]
        for pin in node.platforms or () if native else ():
            if native is None or runs_natively(pin, native):
                continue
            better = [name for name, other in natives.items() if other and runs_natively(pin, other)]
            found = f"builder {target.name!r}: node {node.name!r} is pinned to {pin}, and its engine is {native}"
            if declaration.emulation == "forbid":
                raise FarmError(f"{found}, which would emulate it; correct the pin, or allow emulation")
            # Where the pins of several nodes are the same, buildx takes the first.
            first = next(other for other in target.nodes if pin in (other.platforms or ()))
            if better and first.name not in better:
                warnings.append(f"{found}: it would emulate what {better[0]!r} runs natively")
    return warnings


def names_of(platforms: Any) -> str:
    """Return platforms as they are listed in messages."""
    return ", ".join(str(platform) for platform in sorted(platforms)) or "none"
