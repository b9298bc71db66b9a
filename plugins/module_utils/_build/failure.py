# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Why a build failed, from what buildx and BuildKit print."""

from __future__ import annotations

import re
from typing import Any, Mapping, Sequence

from .._buildx.settling import RESTARTING
from .._core.errors import FarmError
from .._core.plain import plain
from .._core.runner import CommandError
from .._core.urls import mask
from .._docker.mistrust import advice
from .._docker.reference import Reference
from .._registry.auth import refused
from .declaration import Image

#: Exit status of a program that the runner ended.
_ENDED = 124
_SHOWN_LINES = 30
#: What begins BuildKit's summary: a dashed line, or a line number of the Dockerfile.
_SUMMARY = re.compile(r"------\Z|\S+:\d+\Z")
#: What the summary can do without: its dashed lines, and the Dockerfile's lines around the one that failed.
_FRAME = re.compile(r"-{6,}\Z| +\d+ \| (?!>>>)")
#: Registries word their refusals differently; these are containerd's, which buildx passes on.
_REFUSED = re.compile(
    r"401 Unauthorized|403 Forbidden|authorization failed|failed to authorize|access denied|insufficient_scope"
    r"|no basic auth credentials|denied: |unauthorized: ",
    re.IGNORECASE,
)

#: What the kernel says of a program for another processor, and what to do about it.
_NOT_RUN = "exec format error"
_NO_HANDLER = (
    "exec format error: a program for another processor, and no QEMU handler on the node that runs it: the playbook"
    " site, or the module buildfarm.multiarch.binfmt, registers it again; or a script whose first line is no #!"
)
#: What buildx asks registries for itself, for BuildKit (moby/buildkit ``session/auth``).
_TOKEN = re.compile(r"failed to fetch (?:oauth|anonymous) token")
#: How buildx words that the connection to BuildKit ended, or that there is no BuildKit to connect to: gRPC's statuses,
#: docker's client, buildx's driver. A registry that cannot be reached is none of these.
_NODE_WENT = re.compile(
    r"code = Unavailable|error reading from server|failed to receive status|failed to list workers"
    r"|closing transport|error during connect|Cannot connect to the Docker daemon|No such container|is not running|"
    + RESTARTING.pattern,
)


def last_line(error: CommandError) -> str:
    """Return what buildx printed last, secrets in URLs masked; of one that was ended, why."""
    if error.result.rc < 0:
        return "the node does not answer any more"
    return mask(_last_lines(error.result.stderr, 1)) or error.message.splitlines()[-1]


def is_of_the_node(stderr: str) -> bool:
    """Return whether a build ended because its node went away, and not by its own fault.

    :param stderr: buildx's.
    """
    return bool(_NODE_WENT.search(_last_lines(stderr, 3)))


def build_error(error: CommandError, image: Image, where: str, cmd: Sequence[str]) -> FarmError:
    """Return the error for a build that failed.

    :param where: follows the context: for which platforms on which node, or with which builder.
    :param cmd: the command as it is reported.
    """
    stderr = image.options.hide(mask(error.result.stderr))
    stdout = image.options.hide(mask(error.result.stdout))
    details = {**error.details, "cmd": list(cmd), "stdout": stdout, "stderr": stderr}
    if _REFUSED.search(_last_lines(stderr, 3)):
        what = "refused the credentials of the docker configuration, or wants some where there are none"
        return refused(_refusing_registry(stderr, image.tags), what, _last_lines(stderr, 1), **details)
    subject = f"building {image.context} {where} failed"
    if error.result.rc == _ENDED and image.timeout:
        subject = f"building {image.context} took longer than {image.timeout:g} s and was ended"
    step, last = failing_step(stderr), _last_lines(stderr, 3)
    who = "buildx on this controller" if _TOKEN.search(last) else "BuildKit there"
    # At the end, where the last lines of a long message are shown as well.
    hint = f"\n{_NO_HANDLER}" if _NOT_RUN in step else advice(last, who)
    return FarmError(f"{subject}: {step}{hint}", **details)


def describe_leftovers(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Return which destinations a failed build has changed, as the end of a message; empty if none.

    :param before: what the destinations held, as ``State.as_dict`` returns it; likewise ``after``.

    buildx pushes tag by tag and platform by platform (docker/buildx#4058, #177).
    """
    changed = [
        f"{name} is now {value['digest']} ({', '.join(value.get('platforms') or ())})"
        for name, value in after.items()
        if value and value != before.get(name)
    ]
    return f"; it left behind: {'; '.join(changed)}; a new run continues from there" if changed else ""


def failing_step(stderr: str) -> str:
    """Return from BuildKit's plain progress what failed: the step, its last output, and its line in the Dockerfile.

    BuildKit ends a failed build with the failing steps between dashed lines, the Dockerfile's lines, and the error.
    """
    lines = plain(stderr).strip().splitlines()
    start = next((number for number, line in enumerate(lines) if _SUMMARY.match(line)), None)
    if start is None:
        errors = [number for number, line in enumerate(lines) if "ERROR" in line]
        start = errors[-1] if errors else max(0, len(lines) - 3)
    shown = [line for line in lines[start:] if not _FRAME.match(line)]
    if len(shown) > _SHOWN_LINES:
        shown = ["…", *shown[-_SHOWN_LINES:]]
    return "\n".join(shown).lstrip() or "nothing said"


def _refusing_registry(stderr: str, tags: Sequence[str]) -> str:
    """Return the registry that the last lines of a failed build are about."""
    ending = _last_lines(stderr, 3)
    registries = [Reference.parse(tag).registry for tag in tags]
    urls = re.findall(r"https?://([^/\s\"]+)/v2/", ending)
    named = [registry for registry in registries if registry in ending]
    return str((urls + named + registries + ["of a base image"])[0])


def _last_lines(text: str, count: int) -> str:
    return "\n".join(text.strip().splitlines()[-count:])
