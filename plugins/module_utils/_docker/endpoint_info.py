# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The logic of module ``docker_endpoint_info``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict

from .._core.environment import expanded
from .._core.errors import FarmError
from .._core.quantities import some_seconds
from .._core.runner import Runner
from .config import config_dir
from .context_store import ContextStore, TlsFiles
from .endpoint import Endpoint
from .engine import probe_all
from .names import TLS_NAMES


def endpoint_info(params: Dict[str, Any], check_mode: bool, runner: Runner) -> Dict[str, Any]:
    """Run module ``docker_endpoint_info``.

    :raises FarmError: an endpoint's text is none, or all must be reachable and one is not.
    """
    timeout = some_seconds("timeout", params["timeout"])
    endpoints = [Endpoint.parse(text) for text in params["endpoints"]]
    paths = {kind: Path(expanded(params[kind])) for kind in TLS_NAMES if params[kind]}
    tls = TlsFiles(**paths) if paths else None
    found = probe_all(endpoints, ContextStore(config_dir(params)), timeout, tls)
    result = {"endpoints": [info.as_dict() for info in found]}
    errors = [info.error for info in found if info.error]
    if errors and params["require_reachable"]:
        raise FarmError(f"{len(errors)} of {len(found)} engines cannot be reached: {' | '.join(errors)}", **result)
    return result
