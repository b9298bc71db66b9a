# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a unit has written to systemd's journal."""

from __future__ import annotations

from typing import List, Optional

from .._core.runner import CommandError, Runner

_LINES = 20


def read_journal(unit: str, since: float, runner: Runner, program: Optional[str] = None) -> List[str]:
    """Return a unit's last lines since a time, none where there is no journal.

    :param since: seconds since the epoch.
    :param program: whose lines alone are wanted, by the name that the journal has for it.
    """
    argv = ["journalctl", "--no-pager", "--output=cat", f"--lines={_LINES}", f"--since=@{int(since)}", "--unit", unit]
    argv += [f"--identifier={program}"] if program else []
    try:
        return runner(argv, timeout=30).stdout.splitlines()
    except CommandError:
        return []
