# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Starting the nodes of a builder with buildx."""

from __future__ import annotations

from dataclasses import replace
from typing import Callable, Sequence

from .._buildx.cli import BootProgress, Inspection, parse_boot_errors, parse_inspect, without_secrets
from .._buildx.store import Instance, Node
from .._core.errors import FarmError
from .._core.runner import CommandError, Result
from .._docker.mistrust import advice
from .nodes import Site, scratch

#: buildx reads the nodes after the start in what is left of 20 seconds that began before it
#: (docker/buildx commands/inspect.go), so a start that takes longer is reported as a failure. The next call succeeds.
_BUILDX_DEADLINE, _ATTEMPTS = "context deadline exceeded", 5


def start_nodes(builder: Instance, nodes: Sequence[Node], site: Site) -> Inspection:
    """Start nodes, all at once, and return what buildx reports of them.

    :raises FarmError: buildx did not start one of them.
    """
    failed = [node.name for node in nodes]
    with scratch(replace(builder, nodes=tuple(nodes))) as env:
        for _attempt in range(_ATTEMPTS):
            try:
                result = site.buildx.run(
                    ["inspect", "--bootstrap", builder.name],
                    env=env,
                    timeout=site.bootstrap_timeout,
                    # buildx does not name a single node that is left to be started.
                    follow=_log_of(builder.name, failed),
                )
            except CommandError as exc:
                exc.details["stdout"] = without_secrets(exc.result.stdout)
                raise
            inspection = parse_inspect(result.stdout)
            # buildx exits with 0 although nodes failed, and names none where it does not.
            failed = [node.name for node in nodes if not _is_running(inspection, node.name)]
            if not failed or _BUILDX_DEADLINE not in result.stdout + result.stderr:
                break
    if failed:
        reasons = _reasons(failed, inspection, result)
        raise FarmError(
            f"builder {builder.name!r}: buildx could not start {reasons}{advice(reasons, 'the engine')}",
            cmd=list(result.argv),
            rc=result.rc,
            stdout=without_secrets(result.stdout),
            stderr=result.stderr,
        )
    return inspection


def _log_of(builder: str, nodes: Sequence[str]) -> Callable[[str], str]:
    """Return what makes of a line of buildx's progress a line of the system's log.

    :param nodes: the names of those that are started.
    """
    progress = BootProgress()

    def render(line: str) -> str:
        step = progress.read(line)
        return f"builder {builder!r}, node {step[0] or nodes[0]!r}: {step[1]}" if step else ""

    return render


def _is_running(inspection: Inspection, name: str) -> bool:
    status = inspection.node(name)
    return status is not None and status.status == "running"


def _reasons(failed: Sequence[str], inspection: Inspection, result: Result) -> str:
    """Return of each failed node why; where buildx ended at the first failure, only it is known of what."""
    errors = parse_boot_errors(result.stderr)
    whole = errors.get("") or inspection.error or result.stderr.strip().rpartition("\n")[2]
    known = {}
    for name in failed:
        status = inspection.node(name)
        known[name] = errors.get(name) or (status.error if status else "") or ("" if len(errors) > 1 else whole)
    blamed = {name: error for name, error in known.items() if error} or dict.fromkeys(failed, "no reason given")
    return "; ".join(f"node {name!r} ({error})" for name, error in blamed.items())
