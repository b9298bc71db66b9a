# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the host has: the kernel's handlers, what each declared platform runs by, and what is registered at boot."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Mapping, Optional, Sequence, Tuple

from .._core.files import read_bytes
from .._core.runner import Runner
from .._platform.elf import probe_here, program
from .._platform.platform import Platform, native_platform
from .binfmt_misc import BinfmtMisc
from .declaration import Declaration
from .image import UNIT_LINK, UNIT_PATH, unit_settings
from .rules import RuleFile, rule_for, update_binfmts_handlers
from .status import MISSING, NATIVE, NO_RULE, REGISTERED, Status, platform_status


@dataclass(frozen=True)
class State:
    """What the host has.

    :ivar statuses: of the declared platforms.
    :ivar unit: text of the boot unit, None where there is none.
    :ivar unit_enabled: whether that is started at boot.
    :ivar files: rules of the host's packages.
    :ivar update_binfmts: handler to the file by which update-binfmts(8) registers it at boot.
    """

    kernel: BinfmtMisc
    statuses: Mapping[Platform, Status]
    unit: Optional[str] = None
    unit_enabled: bool = False
    files: Sequence[RuleFile] = ()
    update_binfmts: Mapping[str, str] = field(default_factory=dict)

    def emulated(self, declaration: Declaration) -> Tuple[str, ...]:
        """Return the declared architectures that the host does not run by itself."""
        native = {platform.arch for platform, status in self.statuses.items() if status.text == NATIVE}
        return tuple(arch for arch in declaration.architectures if arch not in native)

    def conflicting(self, declaration: Declaration, architectures: Sequence[str]) -> Tuple[str, ...]:
        """Return the handlers that have to be removed before those of these architectures can be registered."""
        return tuple(
            name
            for arch in architectures
            for name in self.kernel.conflicting_handlers(arch, declaration.demand(arch, self.files).name)
        )

    def others(self, declaration: Declaration) -> Tuple[str, ...]:
        """Return QEMU's handlers that are not of the declared platforms."""
        own = set(self.conflicting(declaration, self.emulated(declaration)))
        return tuple(one.name for one in self.kernel.handlers.values() if one.is_qemu and one.name not in own)


def own_architectures() -> Tuple[str, ...]:
    """Return the architectures whose handlers this module registers at boot."""
    return unit_settings((read_bytes(UNIT_PATH) or b"").decode(errors="replace"))[1]


def read_state(declaration: Declaration, files: Sequence[RuleFile], runner: Runner) -> State:
    """Read this host's handlers, and run one tiny program for each declared platform.

    :param files: rules of its packages.
    :raises FarmError: programs cannot be run on this host at all.
    """
    kernel = BinfmtMisc.read(runner)
    unit = read_bytes(UNIT_PATH)
    return State(
        kernel,
        {platform: _status(platform, declaration, kernel, files, runner) for platform in declaration.platforms},
        unit.decode(errors="replace") if unit is not None else None,
        os.path.lexists(UNIT_LINK),
        files,
        update_binfmts_handlers(),
    )


def _status(
    platform: Platform, declaration: Declaration, kernel: BinfmtMisc, files: Sequence[RuleFile], runner: Runner
) -> Status:
    """Return the status of a declared platform; of one that is to be absent only the registration counts."""
    demand = declaration.demand(platform.arch, files)
    if not declaration.present:
        return Status(REGISTERED if kernel.conflicting_handlers(platform.arch, demand.name) else MISSING)
    native = native_platform(os.uname().machine)
    status = platform_status(platform, kernel, native, lambda arch: probe_here(arch, runner), demand)
    if declaration.image is None and status.text != NATIVE and not rule_for(program(platform.arch), files):
        return Status(NO_RULE)
    return status
