# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Marks on engines that say which controllers use a node's container and cache.

buildx names both after the node alone, and whoever knows the engine may use them. So each controller that declares a
node leaves an empty volume of its own on the node's engine, whose labels say for which builder. The cache itself cannot
bear the marks, as Docker does not change the labels of a volume that is there.

Whatever no container uses can be pruned on an engine, and all marks at once with it. So when a mark was made is told
too: marks that are younger than what they are about may lack those that were there before.
"""

from __future__ import annotations

import hashlib
import json
import socket
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping
from urllib.parse import quote

from .._core.errors import FarmError
from .._docker.client import Conversation, message

_PREFIX = "buildfarm_mark_"
_LABEL = "io.github.buildfarm.multiarch"


@dataclass(frozen=True)
class Mark:
    """A controller's builder uses a node's container and cache.

    :ivar since: RFC 3339, empty where the engine does not tell.
    """

    node: str
    builder: str
    controller: str
    since: str = field(default="", compare=False)


def controller_name(params: Mapping[str, Any]) -> str:
    """Return what a controller calls itself on engines: option ``controller``, else its host name."""
    return str(params.get("controller") or socket.gethostname())


def mark_name(node: str, controller: str) -> str:
    """Return the name of the volume that marks a node for a controller."""
    return f"{_PREFIX}{node}_{hashlib.sha256(controller.encode()).hexdigest()[:8]}"


def mark(engine: Conversation, node: str, builder: str, controller: str) -> None:
    """Mark a node as used by a controller's builder; nothing happens where it is marked so already.

    :raises FarmError: the engine did not do it.
    """
    labels = {f"{_LABEL}.node": node, f"{_LABEL}.builder": builder, f"{_LABEL}.controller": controller}
    status, body = engine.send("POST", "/volumes/create", {"Name": mark_name(node, controller), "Labels": labels})
    if status != 201:
        raise FarmError(f"node {node!r} could not be marked as used: {message(body)}")


def unmark(engine: Conversation, node: str) -> None:
    """Remove all marks of a node whose cache is gone.

    :raises FarmError: the engine did not do it.
    """
    for volume in _listed(engine, f"{_LABEL}.node={node}"):
        status, body = engine.request("DELETE", f"/volumes/{quote(volume['Name'])}")
        if status not in (200, 204, 404):
            raise FarmError(f"the mark of node {node!r} could not be removed: {message(body)} (HTTP {status})")


def marks(engine: Conversation) -> Dict[str, Dict[str, Mark]]:
    """Return the marks of an engine by the node's name and the controller's.

    :raises FarmError: the engine did not tell.
    """
    found: Dict[str, Dict[str, Mark]] = {}
    for one in marked(engine):
        found.setdefault(one.node, {})[one.controller] = one
    return found


def marked(engine: Conversation) -> List[Mark]:
    """Return all marks of an engine.

    :raises FarmError: the engine did not tell.
    """
    found = []
    for volume in _listed(engine, f"{_LABEL}.controller"):
        node, builder, controller = (
            str(volume["Labels"].get(f"{_LABEL}.{part}", "")) for part in ("node", "builder", "controller")
        )
        found.append(Mark(node, builder, controller, since=str(volume.get("CreatedAt") or "")))
    return found


def _listed(engine: Conversation, label: str) -> List[Dict[str, Any]]:
    status, body = engine.request("GET", f"/volumes?filters={quote(json.dumps({'label': [label]}))}")
    if status != 200:
        raise FarmError(f"volumes could not be listed: {message(body)} (HTTP {status})")
    return list(json.loads(body).get("Volumes") or ())
