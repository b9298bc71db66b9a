# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What modules that look at images find: registries, and the builder whose nodes the images are for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, Mapping, Optional

from .._buildx.cli import Buildx
from .._buildx.placement import find_builder, nodes_in_use
from .._buildx.store import Instance, Node, Store, chosen_builder, pins_by_platform
from .._docker.config import config_dir
from .._docker.context_store import ContextStore
from .._platform.platform import Platform, runs_natively
from .._registry.client import Registries
from .describe import engine_platforms


@dataclass(frozen=True)
class Nodes:
    """The builder whose nodes run images.

    :ivar builder: None for none.
    :ivar natives: the platforms of its nodes' engines, by the nodes' names, as far as these answer.
    """

    builder: Optional[Instance] = None
    natives: Mapping[str, Platform] = field(default_factory=dict)

    @classmethod
    def of(cls, builder: Optional[Instance], contexts: ContextStore) -> Nodes:
        """Ask the engines of a builder's nodes what they are."""
        return cls(builder, engine_platforms(builder.nodes, contexts) if builder else {})

    @property
    def pinned(self) -> Dict[Platform, Optional[Node]]:
        """The node of each platform that is pinned to some: the first whose processor runs it, else the first."""
        if self.builder is None:
            return {}
        found: Dict[Platform, Optional[Node]] = {}
        for platform, names in pins_by_platform(self.builder.nodes).items():
            native = [name for name in names if self.runs_natively(platform, name)]
            found[platform] = self.builder.node((native or names)[0])
        return found

    def runs_natively(self, platform: Platform, node: str) -> Optional[bool]:
        """Return whether a node's own processor runs a platform, None where that is not known."""
        native = self.natives.get(node)
        return runs_natively(platform, native) if native else None


def named_builder(params: Mapping[str, Any], buildx: Buildx) -> Optional[Instance]:
    """Return the builder that a task names, None where it names none.

    :raises FarmError: there is none of that name.
    """
    name = chosen_builder(params)
    return find_builder(buildx, Store.of(params), name) if name else None


def reached_registries(params: Mapping[str, Any], buildx: Buildx, builder: Optional[Instance] = None) -> Registries:
    """Return the registries, as the builder that a task means reaches them: the one in use where it names none.

    :param builder: from ``named_builder``, where that is known.
    :raises FarmError: there is no such builder, or its buildkitd configuration cannot be read.
    """
    builder = builder or named_builder(params, buildx)
    if builder is None:
        nodes = nodes_in_use(Store.of(params), ContextStore(config_dir(params)))
        return Registries.of(params, nodes)
    return Registries.of(params, builder.nodes)
