# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The builder to be: which nodes it has, which of them stay as they are, and what users must know. All is pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Dict, FrozenSet, List, Mapping, Optional, Sequence, Tuple

from .._buildx.store import Instance, Node
from .._core.errors import FarmError
from .._platform.platform import Platform, runs_natively
from .declaration import Declaration, NodeSpec
from .merge import merge
from .platforms import names_of
from .state import State


@dataclass(frozen=True)
class Target:
    """The builder to be.

    :ivar untouched: the names of nodes in it that stay as they are.
    :ivar warnings: sentences on nodes that were skipped, detached, left behind or not declared.
    """

    instance: Instance
    untouched: FrozenSet[str]
    warnings: Tuple[str, ...]


def target_of(declaration: Declaration, state: State) -> Target:
    """Return the builder to be.

    :raises FarmError: it would have no node, or one that cannot be reached where that is not allowed.
    """
    found = state.instance
    driver = declaration.driver_over(found)
    stored = found.nodes if found and found.driver == driver else ()
    specs = _specs(declaration, found, stored)
    named = {spec.name: merge(spec, declaration, driver, stored, state.default_files) for spec in specs}
    others = [node for node in stored if node.name not in named]
    purges = declaration.purge_nodes and declaration.nodes is not None
    leaving = [node for node in others if purges or node.name in declaration.absent]
    staying = [node for node in others if node not in leaving]
    declared, warnings = _beside(staying, named, declaration, state)
    expected = [node for node in (*declared, *leaving) if node.name not in declaration.absent]
    dead = unreachable_nodes(expected, declaration, state)
    untouched = {node.name for node in staying}
    nodes = []
    for node in [*_in_order(stored, declared, leaving), *(node for node in leaving if node.name in dead)]:
        old = next((item for item in stored if item.name == node.name), None)
        if node.name not in dead:
            nodes.append(node)
        elif declaration.on_unreachable == "skip" and old is not None:
            nodes.append(old)
            untouched.add(node.name)
            warnings.append(f"{dead[node.name]}: skipped, node {node.name!r} stays as it was")
        elif declaration.on_unreachable == "skip" or old is None:
            warnings.append(f"{dead[node.name]}: node {node.name!r} is left out of the builder")
        else:
            warnings.append(_left_behind(old, dead[node.name]))
    absent = [node for node in leaving if node.name in declaration.absent and state.at(node).error]
    warnings += [_left_behind(node, state.at(node).error) for node in absent]
    if not nodes:
        raise FarmError(f"builder {declaration.name!r}: none of its nodes can be reached: {'; '.join(dead.values())}")
    base = found if found and found.driver == driver else Instance(found.name if found else declaration.name, driver)
    return Target(replace(base, nodes=tuple(nodes)), frozenset(untouched), tuple(warnings))


def loses_all_nodes(declaration: Declaration, found: Optional[Instance]) -> bool:
    """Return whether nothing is declared but nodes that leave, and the builder has no others."""
    leave = declaration.nodes is None and bool(declaration.absent)
    return leave and all(node.name in declaration.absent for node in (found.nodes if found else ()))


def unreachable_nodes(nodes: Sequence[Node], declaration: Declaration, state: State) -> Dict[str, str]:
    """Return the names of the nodes that cannot be reached, each with the reason.

    :raises FarmError: there are such nodes, and the declaration does not allow for that.
    """
    dead = {node.name: state.at(node).error for node in nodes if state.at(node).error}
    if dead and declaration.on_unreachable == "fail":
        shown = "; ".join(f"node {name!r}: {error}" for name, error in dead.items())
        raise FarmError(
            f"builder {declaration.name!r}: {shown}. Nothing was changed; repair the node, or set on_unreachable"
            " to skip (it stays as it is) or detach (it leaves the builder)",
            unreachable_nodes=sorted(dead),
        )
    return dead


def _specs(declaration: Declaration, found: Optional[Instance], stored: Sequence[Node]) -> Tuple[NodeSpec, ...]:
    """Return the nodes that are declared, which are all stored ones where none are."""
    if declaration.nodes is None:
        if found is None:
            raise FarmError(f"builder {declaration.name!r} does not exist; declare its nodes to create it")
        return () if declaration.absent else tuple(NodeSpec(node.name) for node in stored)
    if not declaration.nodes:
        raise FarmError(
            f"builder {declaration.name!r}: a builder has one node at least, in the playbooks a host of group"
            " buildx_nodes; remove it with state: absent"
        )
    return declaration.nodes


def _in_order(stored: Sequence[Node], declared: Sequence[Node], leaving: Sequence[Node]) -> List[Node]:
    """Return a builder's nodes in order: the declared ones in theirs, at the positions of those that were there.

    So two runs that declare different nodes do not move each other's.
    """
    names, rest = {node.name for node in declared}, list(declared)
    nodes = [rest.pop(0) if node.name in names else node for node in stored if node not in leaving]
    return [*nodes, *rest]


def _beside(
    staying: Sequence[Node], named: Mapping[str, Node], declaration: Declaration, state: State
) -> Tuple[Tuple[Node, ...], List[str]]:
    """Return the declared nodes without pins that they would emulate for undeclared nodes, and warnings on those.

    A run that knows only some of the nodes cannot tell what the processors of the others run.
    """
    fixed = {spec.name for spec in declaration.nodes or () if spec.platforms is not None}
    nodes, withheld = [], []
    for node in named.values():
        taken = [
            pin for pin in node.platforms or () if node.name in fixed and _runs_elsewhere(pin, node, staying, state)
        ]
        own = tuple(pin for pin in node.platforms or () if pin not in taken)
        nodes.append(replace(node, platforms=own or None) if taken else node)
        withheld += [f"{pin} to {node.name!r}" for pin in taken]
    if not (withheld or (staying and declaration.nodes is not None and declaration.purge_nodes is None)):
        return tuple(nodes), []
    several = len(staying) > 1
    shown = ", ".join(
        f"{node.name!r}" + (f" ({names_of(node.platforms)})" if node.platforms else "") for node in staying
    )
    return tuple(nodes), [
        f"builder {declaration.name!r}: {'nodes' if several else 'node'} {shown} {'are' if several else 'is'} not"
        " declared"
        f" and {'stay as they are' if several else 'stays as it is'}"
        + (f", so this does not pin {', '.join(withheld)}" if withheld else "")
        + f"; if {'they are' if several else 'it is'} gone for good, name {'them' if several else 'it'} in absent_nodes"
        " (with the roles: farm_absent_nodes, or the playbook teardown with --limit)"
    ]


def _runs_elsewhere(pin: Platform, node: Node, staying: Sequence[Node], state: State) -> bool:
    """Say whether a node would emulate what an undeclared node with the same pin runs natively, as far as is known.

    Where that one does not answer, nothing changes: a pin that the node has stays, and no new one comes to it.
    """
    native = state.at(node).native
    if native is None or runs_natively(pin, native):
        return False
    stored = next((item for item in state.instance.nodes if item.name == node.name), None) if state.instance else None
    has_it = stored is not None and pin in (stored.platforms or ())
    others = [state.at(other).native for other in staying if pin in (other.platforms or ())]
    return any(not has_it if other is None else runs_natively(pin, other) for other in others)


def _left_behind(node: Node, error: str) -> str:
    return f"{error}: node {node.name!r} leaves the builder; container {node.container} may stay there"
