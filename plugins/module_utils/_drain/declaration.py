# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which nodes are to take builds, and which are not: what a task says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Optional, Tuple

from .._core.environment import expanded
from .._core.errors import FarmError
from .._docker.context_store import TlsFiles
from .._docker.endpoint import Endpoint
from .._docker.names import TLS_NAMES


@dataclass(frozen=True)
class Declaration:
    """What a task says.

    :ivar drained: whether the nodes are to take no builds.
    :ivar reason: None leaves that of a mark which is there.
    :ivar timeout: seconds to wait for builds, 0 for not at all.
    :ivar tls: for ``tcp`` endpoints.
    """

    endpoints: Tuple[Endpoint, ...]
    drained: bool
    reason: Optional[str]
    timeout: float
    tls: Optional[TlsFiles]

    @classmethod
    def from_params(cls, params: Dict[str, Any]) -> Declaration:
        """Read the options.

        :raises FarmError: they contradict themselves.
        """
        endpoints = tuple(dict.fromkeys(Endpoint.parse(text) for text in params["endpoints"]))
        if params["timeout"] < 0:
            raise FarmError(f"timeout is {params['timeout']:g}; wanted seconds, 0 for not to wait")
        paths = {kind: Path(expanded(params[kind])) for kind in TLS_NAMES if params[kind]}
        tls = TlsFiles(**paths) if paths else None
        return cls(endpoints, params["state"] == "drained", params["reason"], params["timeout"], tls)
