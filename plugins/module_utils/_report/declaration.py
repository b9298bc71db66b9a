# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is to be reported, and where it is written."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Mapping, Optional, Tuple

from .._core.environment import expanded
from .._core.errors import FarmError
from .._core.quantities import some_seconds
from .._docker.context_store import TlsFiles
from .._docker.endpoint import Endpoint
from .._docker.names import TLS_NAMES
from .._docker.reference import Reference

#: The forms of a report; each is an option too, the path of its file.
FORMATS = ("html", "text", "json", "prometheus")


@dataclass(frozen=True)
class Declaration:
    """What is declared.

    :ivar builder: the only builder that is of interest, in lower case; None for all.
    :ivar endpoints: engines whose nodes are of interest, whatever builders this controller has.
    :ivar tls: material for the ``tcp`` URLs among them.
    :ivar builds: how many of the last builds of each node are read.
    :ivar timeout: seconds that all engines together have to answer, and then all BuildKits.
    :ivar hosts: what is known of nodes' hosts from elsewhere, by the nodes' names.
    :ivar files: where the report is written, by its format.
    """

    builder: Optional[str] = None
    endpoints: Tuple[Endpoint, ...] = ()
    tls: Optional[TlsFiles] = None
    images: Tuple[Reference, ...] = ()
    builds: int = 10
    timeout: float = 30
    hosts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> Declaration:
        """Return what a module's parameters declare.

        :raises FarmError: they cannot be meant.
        """
        timeout = some_seconds("timeout", params["timeout"])
        if params["builds"] < 0:
            raise FarmError(f"builds is {params['builds']}; wanted a number of builds, 0 for none")
        strangers = [name for name, host in (params["hosts"] or {}).items() if not isinstance(host, dict)]
        if strangers:
            raise FarmError(f"hosts: {strangers[0]}: wanted a dictionary with handlers or df")
        paths = {kind: Path(expanded(params[kind])) for kind in TLS_NAMES if params[kind]}
        files = {kind: Path(expanded(params[kind])) for kind in FORMATS if params[kind]}
        twice = [str(path) for path in files.values() if list(files.values()).count(path) > 1]
        if twice:
            raise FarmError(f"{twice[0]} is the file of two formats; wanted one for each")
        return cls(
            builder=params["builder"].lower() if params["builder"] else None,
            endpoints=tuple(Endpoint.parse(text) for text in params["endpoints"] or ()),
            tls=TlsFiles(**paths) if paths else None,
            images=tuple(dict.fromkeys(Reference.parse(name) for name in params["images"] or ())),
            builds=params["builds"],
            timeout=timeout,
            hosts=params["hosts"] or {},
            files=files,
        )
