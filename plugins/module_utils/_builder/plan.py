# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The least work that makes a builder what it is declared to be. Everything here is pure.

The definition is written as a whole rather than with ``docker buildx create``, whose ``--append`` resets flags, keeps
options that were taken away, takes pins from other nodes, and after a failure empties the settings of every node.
"""

from __future__ import annotations

from dataclasses import replace
from typing import AbstractSet, Any, Dict, FrozenSet, List, Mapping, Optional, Sequence, Tuple
from urllib.parse import urlencode

from .._buildx.buildkitd import same_config, stored_flags
from .._buildx.store import Instance, Node, pins_by_platform
from .._core.errors import FarmError
from .._platform.pinning import Candidate, assign
from .._platform.platform import runs_natively
from .._platform.routing import routes
from .container import drift
from .model import (
    Declaration,
    Found,
    NodeSpec,
    Observation,
    Place,
    Plan,
    Step,
    container_before,
    names_of,
    same_endpoint,
    show,
    show_before,
    status_of,
    workers_of,
)


def plan(declared: Declaration, observed: Observation) -> Plan:
    """Return the least work that makes a builder what it is declared to be.

    :raises FarmError: the declaration cannot be met; nothing has been changed.
    """
    if declared.state == "absent" or _loses_all(declared, observed.instance):
        return _plan_removal(declared, observed)
    target, untouched, warnings = _target(declared, observed)
    target = replace(target, nodes=_pinned(declared, target.nodes, observed))
    _refuse_shared(target, untouched, observed)
    warnings += _check_pins(declared, target, observed)
    warnings += [
        f"builder {target.name!r}: container {node.container} on {node.endpoint} runs, but BuildKit does not answer:"
        f" {observed.at(node).trouble}"
        for node in target.nodes
        if observed.at(node).trouble and declared.state == "present"
    ]
    check_platforms(declared, target, observed.places, final=False)
    active = tuple(node for node in target.nodes if node.name not in untouched)
    steps = _node_steps(declared, target, active, observed)
    boots = {node.name for step in steps if step.kind == "boot" for node in step.nodes}
    steps += _leave_steps(declared, target, observed)
    if observed.content is not None and observed.instance is None:
        steps.append(Step("save", ("copy", observed.path, observed.broken_copy)))
        warnings.append(f"{observed.path} was broken and is written anew; a copy is {observed.broken_copy}")
    if observed.instance != target:
        steps.append(Step("write", ("write", observed.path)))
    if declared.use and not observed.current:
        scope = "--global" if declared.use == "global" else "--default"
        steps.append(Step("use", ("docker", "buildx", "use", scope, target.name)))
    containers = {
        node.name: container_before(observed, node, target.driver)
        if node.name in untouched
        else _container_after(declared, node, boots, observed)
        for node in target.nodes
    }
    after = show(target, containers)
    return Plan(
        target,
        tuple(steps),
        _with_current(declared, show_before(observed), observed.current),
        _with_current(declared, after, True),
        tuple(warnings),
    )


def is_open(declared: Declaration, planned: Plan) -> bool:
    """Say whether a requested platform has no pin of its own, so that only BuildKit can tell who serves them all.

    A pin that runs it too, amd64 for 386, is not enough: buildx then counts what is detected as well.
    """
    pins = {pin for node in (planned.target.nodes if planned.target else ()) for pin in node.platforms or ()}
    return planned.target is not None and not pins.issuperset(declared.platforms)


def check_platforms(declared: Declaration, target: Instance, places: Mapping[Place, Found], final: bool = True) -> None:
    """Refuse a builder that does not serve a requested platform, or only by emulation where that is forbidden.

    :param final: False before nodes are started: what only a started node can tell is left for then.
    :raises FarmError: a platform is not served as declared.
    """
    workers = workers_of(target, places)
    # Of a node that cannot be reached nothing more will be known later.
    open_questions = not final and any(
        worker.detected is None and not places.get((node.name, node.endpoint), Found()).error
        for node, worker in zip(target.nodes, workers)
    )
    served, missing = routes(declared.platforms, workers)
    if missing and not open_questions:
        offers = "; ".join(f"{worker.name}: {names_of({*worker.pins, *(worker.detected or ())})}" for worker in workers)
        raise FarmError(
            f"builder {target.name!r}: no node serves {names_of(missing)} (found {offers}); pin the platform on a node"
            " that can run it, add such a node, or register QEMU handlers on one (module buildfarm.multiarch.binfmt)"
        )
    emulated = [route for route in served if route.native is False]
    if declared.emulation == "forbid" and emulated and not (open_questions and missing):
        shown = ", ".join(f"{route.platform} on {route.node}" for route in emulated)
        raise FarmError(
            f"builder {target.name!r}: emulation is forbidden, and only QEMU could serve {shown}; add a node whose own"
            " processor runs it, or allow emulation"
        )


def _loses_all(declared: Declaration, found: Optional[Instance]) -> bool:
    """Say whether nothing is declared but nodes that leave, and the builder has no others."""
    leave = declared.nodes is None and bool(declared.absent)
    return leave and all(node.name in declared.absent for node in (found.nodes if found else ()))


def _target(declared: Declaration, observed: Observation) -> Tuple[Instance, FrozenSet[str], List[str]]:
    """Return the builder to be, the names of nodes in it that stay as they are, and warnings."""
    found = observed.instance
    driver = declared.driver or (found.driver if found else "docker-container")
    if found is None and declared.nodes is None:
        raise FarmError(f"builder {declared.name!r} does not exist; declare its nodes to create it")
    stored = found.nodes if found and found.driver == driver else ()
    specs = declared.nodes
    if specs is None:
        specs = () if declared.absent else tuple(NodeSpec(node.name) for node in stored)
    elif not specs:
        raise FarmError(f"builder {declared.name!r}: a builder has one node at least; remove it with state: absent")
    named = {spec.name: merge(spec, declared, driver, stored, observed.default_files) for spec in specs}
    others = [node for node in stored if node.name not in named]
    leaving = [node for node in others if declared.purge_nodes or node.name in declared.absent]
    kept = [node for node in others if node not in leaving]
    declared_nodes, warnings = _beside(kept, named, declared)
    answering = [node for node in (*declared_nodes, *leaving) if node.name not in declared.absent]
    dead = _unreachable(answering, declared, observed)
    untouched = {node.name for node in kept}
    nodes = []
    for node in [*_in_order(stored, declared_nodes, leaving), *(node for node in leaving if node.name in dead)]:
        old = next((item for item in stored if item.name == node.name), None)
        if node.name not in dead:
            nodes.append(node)
        elif declared.on_unreachable == "skip" and old is not None:
            nodes.append(old)
            untouched.add(node.name)
            warnings.append(f"{dead[node.name]}: skipped, node {node.name!r} stays as it was")
        elif declared.on_unreachable == "skip" or old is None:
            warnings.append(f"{dead[node.name]}: node {node.name!r} is left out of the builder")
        else:
            warnings.append(_left_behind(old, dead[node.name]))
    warnings += [
        _left_behind(node, observed.at(node).error)
        for node in leaving
        if node.name in declared.absent and observed.at(node).error
    ]
    if not nodes:
        raise FarmError(f"builder {declared.name!r}: none of its nodes can be reached: {'; '.join(dead.values())}")
    base = found if found and found.driver == driver else Instance(found.name if found else declared.name, driver)
    return replace(base, nodes=tuple(nodes)), frozenset(untouched), warnings


def _in_order(stored: Sequence[Node], declared: Sequence[Node], leaving: Sequence[Node]) -> List[Node]:
    """Return a builder's nodes in order: the declared ones in theirs, in the places of those that were there.

    So two runs that declare different nodes do not move each other's.
    """
    names, rest = {node.name for node in declared}, list(declared)
    nodes = [rest.pop(0) if node.name in names else node for node in stored if node not in leaving]
    return [*nodes, *rest]


def _beside(
    kept: Sequence[Node], named: Mapping[str, Node], declared: Declaration
) -> Tuple[Tuple[Node, ...], List[str]]:
    """Return the declared nodes without the pins of nodes that stay undeclared, and warnings on those.

    A builder's platform belongs to one node, and what is not declared is left alone.
    """
    owner = {pin: node.name for node in kept for pin in node.platforms or ()}
    fixed = {spec.name for spec in declared.nodes or () if spec.platforms is not None}
    nodes, withheld = [], []
    for node in named.values():
        taken = [pin for pin in node.platforms or () if pin in owner and node.name in fixed]
        own = tuple(pin for pin in node.platforms or () if pin not in taken)
        nodes.append(replace(node, platforms=own or None) if taken else node)
        withheld += [f"{pin} to {node.name!r}" for pin in taken]
    if not (withheld or (kept and declared.nodes is not None and declared.purge_nodes is None)):
        return tuple(nodes), []
    several = len(kept) > 1
    shown = ", ".join(f"{node.name!r}" + (f" ({names_of(node.platforms)})" if node.platforms else "") for node in kept)
    return tuple(nodes), [
        f"builder {declared.name!r}: {'nodes' if several else 'node'} {shown} {'are' if several else 'is'} not declared"
        f" and {'stay as they are' if several else 'stays as it is'}"
        + (f", so this does not pin {', '.join(withheld)}" if withheld else "")
        + f"; if {'they are' if several else 'it is'} gone for good, name {'them' if several else 'it'} in absent_nodes"
        " (with the roles: farm_absent_nodes, or the playbook teardown with --limit)"
    ]


def _left_behind(node: Node, error: str) -> str:
    return f"{error}: node {node.name!r} leaves the builder; container {node.container} may stay there"


def _unreachable(nodes: Sequence[Node], declared: Declaration, observed: Observation) -> Dict[str, str]:
    dead = {node.name: observed.at(node).error for node in nodes if observed.at(node).error}
    if dead and declared.on_unreachable == "fail":
        shown = "; ".join(f"node {name!r}: {error}" for name, error in dead.items())
        raise FarmError(
            f"builder {declared.name!r}: {shown}. Nothing was changed; repair the node, or set on_unreachable"
            " to skip (it stays as it is) or detach (it leaves the builder)",
            unreachable=sorted(dead),
        )
    return dead


def merge(
    spec: NodeSpec,
    declared: Declaration,
    driver: str,
    stored: Sequence[Node],
    default_files: Optional[Mapping[str, bytes]],
) -> Node:
    """Return a node as it is to be stored; what is not declared stays as stored, and is buildx's default if new.

    :raises FarmError: it is new and has no endpoint.
    """
    old = next((node for node in stored if node.name == spec.name), None)
    base = old or Node(spec.name, _new_endpoint(spec, declared, driver), files=default_files)
    endpoint = base.endpoint
    if spec.endpoint is not None and not same_endpoint(spec.endpoint, base.endpoint):
        endpoint = spec.endpoint
    platforms, opts, files = base.platforms, base.driver_opts, base.files
    if spec.platforms is not None and spec.platforms != (platforms or ()):
        platforms = spec.platforms or None
    wanted_opts = _options(spec, opts or {})
    if wanted_opts != dict(opts or {}):
        opts = wanted_opts or None
    if spec.files is not None and not same_config(spec.files, files or {}):
        files = dict(spec.files) or None
    flags = base.flags
    if old is None or spec.flags is not None:
        wanted = stored_flags(spec.flags or (), driver, opts or {}, files or {})
        flags = wanted if wanted != (flags or ()) else flags
    return replace(base, endpoint=endpoint, platforms=platforms, driver_opts=opts, flags=flags, files=files)


def _options(spec: NodeSpec, stored: Mapping[str, str]) -> Dict[str, str]:
    opts = dict(stored if spec.driver_opts is None else spec.driver_opts)
    if spec.env is None:
        return opts
    plain = {key: value for key, value in opts.items() if not key.startswith("env.")}
    return {**plain, **{f"env.{name}": value for name, value in spec.env.items()}}


def _new_endpoint(spec: NodeSpec, declared: Declaration, driver: str) -> str:
    if driver == "kubernetes":
        # buildx needs a name that differs between nodes; nothing is ever connected to by it.
        query = urlencode(sorted({"deployment": spec.name, "kubeconfig": declared.kubeconfig}.items()))
        return f"kubernetes:///{declared.name}?{query}"
    if spec.endpoint is None:
        raise FarmError(f"builder {declared.name!r}: node {spec.name!r} is new and has no endpoint; declare one")
    return spec.endpoint


def _pinned(declared: Declaration, nodes: Tuple[Node, ...], observed: Observation) -> Tuple[Node, ...]:
    """Return the nodes with the pins that keep native builds on native nodes, where that is asked for."""
    if declared.emulation == "allow" or not declared.platforms:
        return nodes
    free = {spec.name for spec in declared.nodes or () if spec.platforms is None}
    named = {spec.name for spec in declared.nodes or ()}
    candidates = [
        Candidate(node.name, native, None if node.name in free else node.platforms or ())
        for node, native in ((node, observed.at(node).native) for node in nodes)
        if native is not None or node.name not in named
    ]
    if not any(candidate.pins is None for candidate in candidates):
        return nodes
    pins = {item.name: item.pins for item in assign(candidates, declared.platforms) if item.name in free}
    return tuple(
        replace(node, platforms=pins[node.name] or None)
        if pins.get(node.name, node.platforms or ()) != (node.platforms or ())
        else node
        for node in nodes
    )


def _check_pins(declared: Declaration, target: Instance, observed: Observation) -> List[str]:
    """Return warnings on pins that do not do what they seem to; refuse emulated ones where emulation is forbidden."""
    warnings = [
        f"builder {target.name!r}: {platform} is pinned on {' and '.join(names)}; buildx builds it on {names[0]!r} only"
        for platform, names in pins_by_platform(target.nodes).items()
        if len(names) > 1
    ]
    natives = {node.name: observed.at(node).native for node in target.nodes}
    for node in target.nodes:
        native = natives[node.name]
        for pin in node.platforms or () if native else ():
            if native is None or runs_natively(pin, native):
                continue
            better = [name for name, other in natives.items() if other and runs_natively(pin, other)]
            found = f"builder {target.name!r}: node {node.name!r} is pinned to {pin}, and its engine is {native}"
            if declared.emulation == "forbid":
                raise FarmError(f"{found}, which would emulate it; correct the pin, or allow emulation")
            if better:
                warnings.append(f"{found}: it would emulate what {better[0]!r} runs natively")
    return warnings


def _refuse_shared(target: Instance, untouched: FrozenSet[str], observed: Observation) -> None:
    for node in (node for node in target.nodes if node.name not in untouched):
        other = observed.shared.get((node.name, node.endpoint))
        if other and target.driver == "docker-container":
            raise FarmError(
                f"builder {target.name!r}: node {node.name!r} would use the container {node.container} on"
                f" {node.endpoint}, which belongs to builder {other!r}; give the node another name, or set share_nodes"
            )


def _node_steps(declared: Declaration, target: Instance, active: Sequence[Node], observed: Observation) -> List[Step]:
    """Return the steps for the nodes that stay or come."""
    old = {node.name: node for node in observed.instance.nodes} if observed.instance else {}
    changed = [node for node in active if old.get(node.name) != node]
    if target.driver != "docker-container":
        idle = [node for node in active if target.driver == "kubernetes" and status_of(observed.at(node)) == "missing"]
        return _daemonless_steps(declared, target, changed, [node for node in active if node in changed + idle], old)
    steps, boot, stop = [], [], []
    for node in active:
        found = observed.at(node)
        container = found.container
        outdated = container is not None and bool(drift(node, container))
        if outdated:
            steps.append(_drop(node, volumes=declared.keep_state is False))
        running = container is not None and container.running and not outdated
        if declared.state == "stopped" and running:
            stop.append(node)
        elif declared.state == "present" and declared.bootstrap and not running and (found.known or node in changed):
            boot.append(node)
    if boot:
        steps.append(_boot(target, boot))
    return steps + [Step("stop", ("stop-container", node.endpoint, node.container), (node,)) for node in stop]


def _daemonless_steps(
    declared: Declaration, target: Instance, changed: Sequence[Node], boot: Sequence[Node], old: Mapping[str, Node]
) -> List[Step]:
    """Return the steps for drivers whose BuildKit is no container of ours.

    :param boot: the nodes to start, the changed ones among them.
    """
    steps = []
    stale = tuple(old[node.name] for node in changed if node.name in old)
    if stale and target.driver == "kubernetes":
        # Its bootstrap leaves an existing deployment as it is.
        steps.append(_uninstall(target, stale, keep=declared.keep_state is not False))
    if boot and declared.bootstrap and declared.state == "present":
        steps.append(_boot(target, boot))
    return steps


def _leave_steps(declared: Declaration, target: Optional[Instance], observed: Observation) -> List[Step]:
    """Return the steps that remove the containers of places that the builder no longer has."""
    found = observed.instance
    if found is None:
        return []
    left = [
        node
        for node in found.nodes
        if not any(
            node.name == new.name and same_endpoint(node.endpoint, new.endpoint)
            for new in (target.nodes if target and target.driver == found.driver else ())
        )
    ]
    keep = declared.keep_state is True
    if found.driver == "kubernetes" and left:
        return [_uninstall(found, tuple(left), keep)]
    if found.driver != "docker-container":
        return []
    # A node that only is reached in another way now has its container at both places.
    stay = {at.container.identifier for at in map(observed.at, target.nodes if target else ()) if at.container}
    names = {node.name for node in target.nodes} if target else set()
    steps = []
    for node in left:
        container = observed.at(node).container
        # A run that was ended between the two leaves the cache alone behind.
        remains = not keep and observed.at(node).cache and node.name not in names
        if container is not None:
            remains = container.identifier not in stay
        if remains and (node.name, node.endpoint) not in observed.shared:
            steps.append(_drop(node, volumes=not keep))
    return steps


def _plan_removal(declared: Declaration, observed: Observation) -> Plan:
    """Return the steps that remove a builder, and what it may have left on declared nodes if its definition is lost."""
    found = observed.instance
    if found is None and declared.nodes and declared.driver in (None, "docker-container"):
        nodes = tuple(Node(spec.name, spec.endpoint or "") for spec in declared.nodes)
        found = Instance(declared.name, "docker-container", nodes)
    nodes = found.nodes if found else ()
    if declared.state == "absent":
        _unreachable(nodes, declared, observed)
    steps = _leave_steps(declared, None, replace(observed, instance=found))
    if observed.content is not None:
        steps.append(Step("remove", ("remove", observed.path)))
    errors = ((node, observed.at(node).error) for node in nodes)
    warnings = tuple(f"{error}: container {node.container} may stay there" for node, error in errors if error)
    before = (
        show_before(observed)
        if observed.content is not None or not steps
        else show_before(replace(observed, instance=found))
    )
    return Plan(None, tuple(steps), before, {"state": "absent"}, warnings)


def _drop(node: Node, volumes: bool) -> Step:
    what = "remove-container-and-cache" if volumes else "remove-container"
    return Step("drop", (what, node.endpoint, node.container), (node,), volumes)


def _boot(target: Instance, nodes: Sequence[Node]) -> Step:
    return Step("boot", ("docker", "buildx", "inspect", "--bootstrap", target.name), tuple(nodes))


def _uninstall(target: Instance, nodes: Tuple[Node, ...], keep: bool) -> Step:
    options = ("--keep-state",) if keep else ()
    return Step("uninstall", ("docker", "buildx", "rm", *options, target.name), nodes)


def _container_after(declared: Declaration, node: Node, boots: AbstractSet[str], observed: Observation) -> str:
    found = observed.at(node)
    if node.name in boots:
        return "running"
    if found.container is not None and not found.error:
        if drift(node, found.container):
            return "missing"
        if declared.state == "stopped":
            return "stopped"
    return status_of(found)


def _with_current(declared: Declaration, state: Dict[str, Any], current: bool) -> Dict[str, Any]:
    return {**state, "current": current} if declared.use and state["state"] == "present" else state
