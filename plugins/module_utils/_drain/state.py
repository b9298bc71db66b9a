# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether nodes are drained, and what builds on them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Dict, Optional
from urllib.parse import quote

from .._buildx.store import PREFIX
from .._docker.client import Conversation
from .._docker.drain import Drained, read_drained

#: Builds in a container that somebody has paused go on when it does.
_RUNNING = quote(json.dumps({"name": [PREFIX], "status": ["running", "paused"]}))


@dataclass(frozen=True)
class NodeState:
    """A node as its engine tells it.

    :ivar mark: None where it is not drained.
    :ivar builds: how many clients are connected to BuildKit, by container; those without any are left out.
    """

    mark: Optional[Drained]
    builds: Dict[str, int]

    def as_dict(self) -> Dict[str, Any]:
        """Return what is managed of it, as JSON types."""
        return {"drained": self.mark is not None, "reason": self.mark.reason if self.mark else None}


def read_node(engine: Conversation) -> NodeState:
    """Return the state of a node.

    :raises FarmError: the engine does not answer as one does.
    """
    return NodeState(read_drained(engine), _builds(engine))


def _builds(engine: Conversation) -> Dict[str, int]:
    """Count the clients of BuildKit.

    buildx talks to BuildKit through a program that it has the engine start in the container, ``buildctl dial-stdio``,
    one for each buildx that builds there, and until the build has ended; BuildKit ends the builds of a client that is
    gone. So their number is known of every BuildKit and whatever controller builds, where its history of builds, since
    0.11, is not. Source: docker/buildx ``driver/docker-container/driver.go``.
    """
    found = {}
    for container in engine.get(f"/containers/json?filters={_RUNNING}"):
        name = next((name for name in container["Names"] if name.startswith(f"/{PREFIX}")), "")
        inspected = engine.find(f"/containers/{container['Id']}/json") if name else None
        clients = sum(_is_client(engine, one) for one in (inspected or {}).get("ExecIDs") or ())
        if clients:
            found[name[1:]] = clients
    return found


def _is_client(engine: Conversation, identifier: str) -> bool:
    # It may have ended meanwhile, as may the container.
    process = engine.find(f"/exec/{identifier}/json")
    return bool(process and process["Running"] and "dial-stdio" in process["ProcessConfig"]["arguments"])
