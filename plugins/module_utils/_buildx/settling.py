# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Waiting for BuildKit to start again on a node whose engine has just come back."""

from __future__ import annotations

import re
import time
from typing import Optional

from .._core.runner import Result

#: buildx takes a container that the engine is about to start again for one that runs (docker/buildx
#: ``driver/docker-container/driver.go``); the engine refuses to run anything in it (moby ``daemon/exec.go``).
RESTARTING = re.compile(r"Container \S+ is restarting, wait until the container is running")
#: Seconds to wait. The engine starts a container again after 0.1 s, and waits twice as long each time that it ends.
_LIMIT = 20.0
_PAUSE = 0.5


class Settling:
    """How long one command of buildx may still be tried again."""

    def __init__(self) -> None:
        self._deadline: Optional[float] = None

    def again(self, result: Result) -> bool:
        """Return, after a pause, whether to run the command again, as a node's BuildKit was about to start.

        :param result: its last.
        """
        if not RESTARTING.search(result.stdout + result.stderr):
            return False
        now = time.monotonic()
        self._deadline = self._deadline or now + _LIMIT
        if now >= self._deadline:
            return False
        time.sleep(_PAUSE)
        return True
