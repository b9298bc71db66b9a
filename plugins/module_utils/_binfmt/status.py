# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a host can run a platform, and whether it does so by the handler that is wanted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Optional

from .._platform.elf import ProbeResult
from .._platform.platform import Platform, runs_natively
from .binfmt_misc import BinfmtMisc
from .handler import Demand, Handler

#: Statuses with which nothing has to be done, but for the last; every other one is a sentence on what is wrong.
NATIVE, WORKS, REGISTERED, MISSING = "native", "works", "registered", "missing"
#: Of a platform whose handler is to be one of the host's packages, and these have none.
NO_RULE = "no package of this host registers it"

#: 64-bit processors, some of which run these 32-bit programs by themselves.
_COMPATIBLE_32BIT = {("arm64", "arm"), ("amd64", "386")}


@dataclass(frozen=True)
class Status:
    """Whether a host runs a platform as it is declared.

    :ivar text: one of the words above, or what is wrong.
    :ivar version: of the QEMU that ran the platform's program, None where none did or no program was run.
    """

    text: str
    version: Optional[str] = None

    @property
    def good(self) -> bool:
        """Whether the platform runs as declared."""
        return self.text in (NATIVE, WORKS, REGISTERED)


def platform_status(
    platform: Platform, kernel: BinfmtMisc, native: Platform, probe: Callable[[str], ProbeResult], demand: Demand
) -> Status:
    """Return the status of a platform on this host.

    :param native: the platform of the host's own processor.
    :param probe: runs an architecture's program.
    :param demand: what its handler has to be like.
    :raises FarmError: programs cannot be run on this host at all.
    """
    if runs_natively(platform, native):
        return Status(NATIVE)
    found = kernel.emulating(platform.arch)
    if not found:
        return _without_handler(platform, kernel, native, probe, demand)
    handler = next((one for one in found if one.name == demand.name), found[0])
    problem = _problem(handler, kernel, demand)
    others = [one.name for one in found if one is not handler]
    if not problem and demand.name and others:
        problem = f"also registered as {', '.join(others)}"
    answer = ProbeResult()
    if not problem and (demand.verify or demand.version):
        answer = probe(platform.arch)
    if answer.problem:
        where = f"handler {handler.name}, interpreter {handler.interpreter}"
        problem = f"registered, but does not work: {answer.problem} ({where})"
    problem = problem or demand.version_problem(answer.version)
    return Status(problem or (WORKS if demand.verify else REGISTERED), answer.version)


def _without_handler(
    platform: Platform, kernel: BinfmtMisc, native: Platform, probe: Callable[[str], ProbeResult], demand: Demand
) -> Status:
    """Return the status of a platform that has no handler: some processors run more than their own architecture."""
    if demand.verify or (native.arch, platform.arch) in _COMPATIBLE_32BIT:
        answer = probe(platform.arch)
        if not answer.problem:
            return Status(f"run by a handler that cannot be seen, QEMU {answer.version}" if answer.version else NATIVE)
    if demand.name in kernel.handlers:
        return Status(f"{demand.name} is registered for other programs")
    return Status(MISSING)


def _problem(handler: Handler, kernel: BinfmtMisc, demand: Demand) -> Optional[str]:
    """Return what is wrong with a registration, None if nothing."""
    if not (handler.enabled and kernel.enabled):
        return "disabled"
    if demand.name and handler.name != demand.name:
        return f"registered as {handler.name}, wanted {demand.name}"
    if demand.interpreter and handler.interpreter != demand.interpreter:
        return f"interpreter {handler.interpreter}, wanted {demand.interpreter}"
    return demand.flags_problem(handler.flags)
