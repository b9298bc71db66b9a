# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether systemd is the init of this host."""

from __future__ import annotations

import os

from .._core.errors import FarmError

#: There where systemd is the init, sd_booted(3).
BOOTED = "/run/systemd/system"


def require_systemd(host: str, marker: str = BOOTED) -> None:
    """Make sure that systemd is this host's init, by the test of sd_booted(3).

    :raises FarmError: it is not.
    """
    if not os.path.isdir(marker):
        raise FarmError(
            f"{host} was not booted with systemd ({marker} is missing), and the task manages a systemd unit"
        )
