# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The logic of module ``binfmt_info``."""

from __future__ import annotations

import os
from functools import lru_cache, partial
from typing import Dict, List, Mapping

from .._core.runner import Runner
from .._platform.elf import probe_here, program
from .._platform.platform import native_platform
from .binfmt_misc import ENTRIES, BinfmtMisc, platforms_of
from .handler import Demand
from .status import NATIVE, Status, platform_status


def run(params: Mapping[str, object], check_mode: bool, runner: Runner) -> Dict[str, object]:
    """Return the values of binfmt_info.

    :raises FarmError: the host's own architecture is unknown.
    """
    native = native_platform(os.uname().machine)
    kernel = BinfmtMisc.read(runner)
    verify = bool(params["verify"])
    probe = lru_cache(maxsize=None)(partial(probe_here, runner=runner))
    statuses = {arch: platform_status(platforms_of(arch)[0], kernel, native, probe, Demand(verify)) for arch in ENTRIES}
    handlers = []
    for handler in kernel.handlers.values():
        arch = next((arch for arch in ENTRIES if handler.runs(program(arch))), None)
        answer = probe(arch) if arch and verify else None
        handlers.append(
            {
                "name": handler.name,
                "platforms": [str(platform) for platform in platforms_of(arch)] if arch else [],
                "enabled": handler.enabled and kernel.enabled,
                "interpreter": handler.interpreter,
                "flags": handler.flags,
                "works": answer.problem is None if answer else None,
                "problem": answer.problem if answer else None,
                "qemu_version": answer.version if answer else None,
            }
        )
    return {
        "mounted": kernel.mounted,
        "handlers": handlers,
        "native": _platforms({arch: status for arch, status in statuses.items() if status.text == NATIVE}),
        "platforms": _platforms({arch: status for arch, status in statuses.items() if status.good}),
    }


def _platforms(statuses: Mapping[str, Status]) -> List[str]:
    return sorted(str(platform) for arch in statuses for platform in platforms_of(arch))
