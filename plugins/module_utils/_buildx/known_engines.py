# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The engines that a docker command may connect to: of contexts, of builders, of its environment and its arguments."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Iterator, List, Mapping, Sequence

from .._core.errors import FarmError
from .._docker.config import config_dir
from .._docker.context_store import ContextStore
from .._docker.endpoint import Endpoint
from .store import Store


def addresses(argv: Sequence[str], environment: Mapping[str, str]) -> List[str]:
    """Return ``HOST:PORT`` of the engines on TCP.

    :param argv: of the command.
    :param environment: of the command.
    """
    found = []
    for text in _endpoints(argv, environment):
        with contextlib.suppress(FarmError):
            # Docker takes a context's address as it is.
            endpoint = Endpoint.parse(text, default_port=0)
            if endpoint.scheme == "tcp":
                host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
                found.append(f"{host}:{endpoint.port}" if endpoint.port else endpoint.host)
    return sorted(set(found))


def _endpoints(argv: Sequence[str], environment: Mapping[str, str]) -> Iterator[str]:
    if argv[1:2] == ["--host"]:
        yield argv[2]
    yield environment.get("DOCKER_HOST") or ""
    # What cannot be read, docker and buildx do not go by either.
    with contextlib.suppress(FarmError, OSError):
        directory = config_dir({"docker_config": environment.get("DOCKER_CONFIG")})
        for meta in ContextStore(directory).all().values():
            yield str(((meta.get("Endpoints") or {}).get("docker") or {}).get("Host") or "")
        chosen = environment.get("BUILDX_CONFIG")
        store = Store(Path(chosen) if chosen else directory / "buildx")
        for name in store.names():
            with contextlib.suppress(FarmError):
                instance = store.get(name)
                for node in instance.nodes if instance else ():
                    yield node.endpoint
