# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From what nodes are to what they are declared to be."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from typing import List, Mapping, Optional, Tuple, Union

from .._core.errors import FarmError
from .._core.plan import Plan, Step
from .._docker.client import conversation
from .._docker.context_store import ContextStore, TlsFiles
from .._docker.drain import LABEL, VOLUME
from .._docker.endpoint import Endpoint
from .declaration import Declaration
from .state import NodeState

_TIMEOUT = 60.0


@dataclass(frozen=True)
class Site:
    """How engines are reached."""

    contexts: ContextStore
    tls: Optional[TlsFiles]

    def mark(self, endpoint: Endpoint, reason: str) -> None:
        """Make an engine's mark.

        :raises FarmError: it could not be made.
        """
        body = json.dumps({"Name": VOLUME, "Labels": {LABEL: reason}}).encode()
        self._change(endpoint, "POST", "/volumes/create", body)

    def unmark(self, endpoint: Endpoint) -> None:
        """Remove an engine's mark, which may be gone already.

        :raises FarmError: it could not be removed.
        """
        self._change(endpoint, "DELETE", f"/volumes/{VOLUME}")

    def _change(self, endpoint: Endpoint, method: str, path: str, body: Optional[bytes] = None) -> None:
        headers = {"Content-Type": "application/json"} if body else None
        with conversation(endpoint, self.contexts, _TIMEOUT, self.tls) as engine:
            status, answer = engine.request(method, path, body=body, headers=headers)
        if status not in (200, 201, 204, 404):
            text = answer.decode(errors="replace").strip()
            raise FarmError(f"engine {endpoint}: {method} {path} failed: {text} (HTTP {status})")


@dataclass(frozen=True)
class Mark(Step[Site]):
    """Have a node take no more builds."""

    endpoint: Endpoint
    reason: str

    @property
    def action(self) -> List[str]:
        """Its name."""
        return ["drain", self.endpoint.text]

    def apply(self, world: Site) -> None:
        """Make the volume."""
        world.mark(self.endpoint, self.reason)

    def revert(self, world: Site) -> None:
        """Remove the volume."""
        with contextlib.suppress(FarmError):
            world.unmark(self.endpoint)


@dataclass(frozen=True)
class Unmark(Step[Site]):
    """Have a node take builds again."""

    endpoint: Endpoint
    reason: str

    @property
    def action(self) -> List[str]:
        """Its name."""
        return ["activate", self.endpoint.text]

    def apply(self, world: Site) -> None:
        """Remove the volume."""
        world.unmark(self.endpoint)

    def revert(self, world: Site) -> None:
        """Make the volume again."""
        with contextlib.suppress(FarmError):
            world.mark(self.endpoint, self.reason)


def plan(declaration: Declaration, found: Mapping[Endpoint, NodeState]) -> Plan[Site]:
    """Return what has to be done."""
    steps: List[Union[Mark, Unmark]] = []
    after = {}
    for endpoint, node in found.items():
        here, reason = _planned(endpoint, declaration, node)
        steps += here
        after[endpoint.text] = {"drained": declaration.drained, "reason": reason}
    before = {endpoint.text: node.as_dict() for endpoint, node in found.items()}
    return Plan(before, after, tuple(steps))


def _planned(
    endpoint: Endpoint, declaration: Declaration, node: NodeState
) -> Tuple[List[Union[Mark, Unmark]], Optional[str]]:
    """Return what has to be done on a node, and the reason that its mark then gives."""
    if not declaration.drained:
        return ([Unmark(endpoint, node.mark.reason)] if node.mark else []), None
    if node.mark is None:
        reason = declaration.reason or ""
        return [Mark(endpoint, reason)], reason
    if declaration.reason in (None, node.mark.reason):
        return [], node.mark.reason
    # A volume's labels cannot be changed.
    return [Unmark(endpoint, node.mark.reason), Mark(endpoint, str(declaration.reason))], declaration.reason
