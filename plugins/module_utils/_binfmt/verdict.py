# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a host can run a platform, and whether it does so by the handler that is wanted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Optional

from .._platform.elf import Answer
from .._platform.platform import Platform, runs_natively
from .handler import Demand, Handler
from .registry import Registry

#: Verdicts that need no work; every other one is a sentence on what is wrong.
NATIVE, WORKS, REGISTERED, MISSING = "native", "works", "registered", "missing"

#: 64-bit processors, some of which run these 32-bit programs by themselves.
_KIN = {("arm64", "arm"), ("amd64", "386")}


@dataclass(frozen=True)
class Verdict:
    """What is to be said of a platform on a host.

    :ivar text: one of the words above, or what is wrong.
    :ivar version: of the QEMU that answered, None where none did or none was asked.
    """

    text: str
    version: Optional[str] = None

    @property
    def good(self) -> bool:
        """Whether the platform runs as it should."""
        return self.text in (NATIVE, WORKS, REGISTERED)


def judge(
    platform: Platform, registry: Registry, native: Platform, ask: Callable[[str], Answer], demand: Demand
) -> Verdict:
    """Return a platform's verdict on this host.

    :param ask: runs an architecture's program.
    :raises FarmError: programs cannot be run on this host at all.
    """
    if runs_natively(platform, native):
        return Verdict(NATIVE)
    found = registry.emulating(platform.arch)
    if not found:
        return _without_handler(platform, registry, native, ask, demand)
    handler = next((one for one in found if one.name == demand.name), found[0])
    problem = _problem(handler, registry, demand)
    others = [one.name for one in found if one is not handler]
    if not problem and demand.name and others:
        problem = f"also registered as {', '.join(others)}"
    answer = Answer()
    if not problem and (demand.verify or demand.version):
        answer = ask(platform.arch)
    if answer.problem:
        where = f"handler {handler.name}, interpreter {handler.interpreter}"
        problem = f"registered, but does not work: {answer.problem} ({where})"
    problem = problem or demand.version_problem(answer.version)
    return Verdict(problem or (WORKS if demand.verify else REGISTERED), answer.version)


def _without_handler(
    platform: Platform, registry: Registry, native: Platform, ask: Callable[[str], Answer], demand: Demand
) -> Verdict:
    """Judge a platform that has no handler: some processors run more than their own architecture."""
    if demand.verify or (native.arch, platform.arch) in _KIN:
        answer = ask(platform.arch)
        if not answer.problem:
            return Verdict(f"run by a handler that cannot be seen, QEMU {answer.version}" if answer.version else NATIVE)
    if demand.name in registry.handlers:
        return Verdict(f"{demand.name} is registered for other programs")
    return Verdict(MISSING)


def _problem(handler: Handler, registry: Registry, demand: Demand) -> Optional[str]:
    """Say what is wrong with a registration, None if nothing."""
    if not (handler.enabled and registry.enabled):
        return "disabled"
    if demand.name and handler.name != demand.name:
        return f"registered as {handler.name}, wanted {demand.name}"
    if demand.interpreter and handler.interpreter != demand.interpreter:
        return f"interpreter {handler.interpreter}, wanted {demand.interpreter}"
    return demand.flags_problem(handler.flags)
