# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reading what an image's name stands for: the logic of ``buildx_imagetools_info``."""

from __future__ import annotations

from typing import Any, Dict, Mapping, Optional

from .._buildx.cli import Buildx
from .._core.runner import Runner
from .._docker.reference import Reference
from .contents import Depth, read_contents
from .query import compiled
from .state import reached_registries


def run(params: Dict[str, Any], _check_mode: bool, runner: Runner) -> Mapping[str, Any]:
    """Return what an image's name stands for in its registry.

    :raises FarmError: the registry cannot be read, or the query is not JMESPath; a missing image is no error.
    """
    reference, details = Reference.parse(params["name"]), bool(params.get("details"))
    query = compiled(params["query"]) if params.get("query") else None
    registries = reached_registries(params, Buildx.of(params, runner))
    depth = Depth(configs=details, provenance=details, referrers=details)
    contents = read_contents(registries, reference, depth)
    found: Optional[Dict[str, Any]] = contents.as_dict(deep=details) if contents else None
    values: Dict[str, Any] = {"exists": contents is not None, "index": found}
    if query:
        values["result"] = query(found) if found else None
    return values
