# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Evaluating a Dockerfile without building it.

Source of the results: BuildKit ``frontend/subrequests/``; of exit statuses: docker/buildx ``commands/build.go``, as run
with 0.29.
"""

from __future__ import annotations

import json
from typing import Any, Dict, Sequence

from .._buildx.cli import Buildx
from .._core.runner import CommandError
from .options import BuildOptions


def evaluate(buildx: Buildx, options: BuildOptions, args: Sequence[str]) -> Dict[str, Any]:
    """Return what the option ``call`` found, as the module returns it.

    :param args: of buildx, with these options and without outputs.
    :raises CommandError: there is no result.
    """
    # It exits with 1 where the Dockerfile has faults, with the result all the same.
    done = buildx.run(args, env=options.environment(), stdin=options.dockerfile or None)
    try:
        found = json.loads(done.stdout)
    except ValueError as exc:
        raise CommandError(f"call {options.call}: buildx returned no result", done) from exc
    result = {name: value for name, value in found.items() if name != "sources"}
    if options.call == "check":
        result["warnings"] = result.get("warnings") or []
    passed = not result.get("warnings") and not result.get("buildError")
    return {"method": options.call, "passed": passed, "result": result}
