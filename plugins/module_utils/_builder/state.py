# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The state of a builder before a run: its definition, its nodes, and who else uses them."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

from .._buildx.buildkitd import config_files
from .._buildx.store import Instance, Node, Store, StoreError, TruncatedInstance
from .._core.errors import FarmError
from .._core.files import read_bytes
from .._docker.transport import canonical
from . import nodes
from .declaration import Declaration
from .merge import merge
from .model import NodeKey, NodeState, key_of
from .nodes import Depth, Site

_DEFAULT_CONFIG = "buildkitd.default.toml"


@dataclass(frozen=True)
class State:
    """A builder as it was found.

    :ivar path: of the instance file.
    :ivar content: of the instance file, None if there is none.
    :ivar instance: the builder read from it; None if there is none, or if the file is broken.
    :ivar broken_copy: where a broken instance file is copied to.
    :ivar nodes: the states of stored and declared nodes; of none where none was to be contacted.
    :ivar current: whether buildx uses the builder, in the scope that is declared.
    :ivar shared: nodes whose container other builders use too, with the name of one of those.
    :ivar default_files: what buildx's own default configuration file comes to; used for new nodes.
    """

    path: str
    content: Optional[bytes] = None
    instance: Optional[Instance] = None
    broken_copy: str = ""
    nodes: Mapping[NodeKey, NodeState] = field(default_factory=dict)
    current: bool = False
    shared: Mapping[NodeKey, str] = field(default_factory=dict)
    default_files: Optional[Mapping[str, bytes]] = None

    def at(self, node: Node) -> NodeState:
        """Return the state of a node, one of an unknown node where it was not read."""
        return self.nodes.get(key_of(node), NodeState())


def read_state(declaration: Declaration, site: Site, depth: Depth) -> State:
    """Read a builder's definition and, as far as ``depth`` goes, all nodes that it has or is to have.

    :raises FarmError: the definition cannot be read.
    """
    store = site.store
    content = store.read(declaration.name)
    instance = None
    try:
        instance = None if content is None else Instance.from_json(content, str(store.path(declaration.name)))
    except TruncatedInstance:
        if declaration.nodes is None and declaration.state != "absent":
            raise
    # The remote driver refuses files, for which buildx's default configuration makes its every create fail.
    remote = declaration.driver_over(instance) == "remote"
    state = State(
        path=str(store.path(declaration.name)),
        content=content,
        instance=instance,
        broken_copy=str(store.directory / f"{declaration.name.lower()}.broken"),
        current=_is_current(declaration, site),
        default_files=None if remote else _default_files(store),
    )
    definitions = _definitions(declaration, state)
    states: Dict[NodeKey, NodeState] = {}
    for driver, several in definitions:
        states.update(nodes.read_nodes(declaration.name, driver, several, site, depth))
    shared = {} if site.share_nodes else _shared(declaration, site, definitions[-1][1])
    return replace(state, nodes=states, shared=shared)


def with_reports(state: State, declaration: Declaration, site: Site) -> State:
    """Return a state that was read without BuildKit with what BuildKit in running containers reports."""
    states = dict(state.nodes)
    for driver, several in _definitions(declaration, state):
        if driver == "docker-container":
            states = nodes.with_reports(declaration.name, several, states, site)
    return replace(state, nodes=states)


def _definitions(declaration: Declaration, state: State) -> List[Tuple[str, Sequence[Node]]]:
    """Return all definitions of nodes that a plan may have to do with, by driver.

    The last ones are those of the driver declared, of these the declared ones.
    """
    instance, driver = state.instance, declaration.driver_over(state.instance)
    stored = instance.nodes if instance else ()
    names = {node.name for node in stored}
    # buildx itself reports where the pods of a new node are; another node without endpoint is refused by the plan.
    specs = [spec for spec in declaration.nodes or () if spec.endpoint or spec.name in names or driver == "kubernetes"]
    wanted = (merge(spec, declaration, driver, stored, state.default_files) for spec in specs)
    # What BuildKit detects is wanted, beside which buildx would show pins.
    several = (*stored, *(replace(node, platforms=None, flags=None) for node in wanted))
    former = [(instance.driver, instance.nodes)] if instance and instance.driver != driver else []
    return [*former, (driver, several)]


def _is_current(declaration: Declaration, site: Site) -> bool:
    current = site.store.current()
    if current.name.lower() != declaration.name.lower():
        return False
    if declaration.use == "global":
        return current.is_global
    key = site.contexts.current_endpoint()
    return not current.is_global and current.key == key and site.store.default(key).lower() == declaration.name.lower()


def _shared(declaration: Declaration, site: Site, several: Sequence[Node]) -> Dict[NodeKey, str]:
    """Return the nodes whose container some other builder of this store uses, with that builder's name."""
    used: Dict[NodeKey, str] = {}
    for name in site.store.names():
        with contextlib.suppress(StoreError):
            other = site.store.get(name) if name != declaration.name.lower() else None
            for node in other.nodes if other and other.driver == "docker-container" else ():
                used[(node.name, canonical(node.endpoint, site.contexts))] = name
    found = {key_of(node): (node.name, canonical(node.endpoint, site.contexts)) for node in several}
    return {key: used[same] for key, same in found.items() if same in used}


def _default_files(store: Store) -> Optional[Mapping[str, bytes]]:
    path = store.directory / _DEFAULT_CONFIG
    try:
        content = read_bytes(path)
        return None if content is None else config_files(content.decode(), lambda name: Path(name).read_bytes())
    except (OSError, UnicodeDecodeError) as exc:
        raise FarmError(f"{path}: buildx's default buildkitd configuration cannot be used: {exc}") from exc
