# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A lease: a module runs on only as long as somebody renews it."""

from __future__ import annotations

import os
import threading
import time
from typing import Callable, Optional

#: Seconds after which a lease that was not renewed has run out.
LEASE = 15.0
#: How often it is checked.
_INTERVAL = 1.0


class Lease:
    """A file whose time of modification is moved on by those for whom the module works; its removal ends the lease.

    :param path: the file.
    :param clock: seconds, of a clock that nobody sets; the file's times are only compared with each other.
    """

    def __init__(self, path: str, seconds: float = LEASE, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._seconds = seconds
        self._clock = clock
        self._seen: Optional[int] = None
        self._renewed = clock()

    def check(self) -> str:
        """Return why the lease has run out; empty where it has not."""
        try:
            found = os.stat(self._path).st_mtime_ns
        except FileNotFoundError:
            return "interrupted by Ansible"
        if found != self._seen:
            self._seen, self._renewed = found, self._clock()
        if self._clock() - self._renewed < self._seconds:
            return ""
        return f"interrupted, as Ansible has not been heard of for {self._seconds:g} seconds"

    def watch(self, ended: Callable[[str], None], interval: float = _INTERVAL) -> None:
        """Check the lease in a thread of its own until it has run out; then call, once, with the reason.

        :param interval: seconds between two checks.
        """

        def keep_checking() -> None:
            while not (reason := self.check()):
                time.sleep(interval)
            ended(reason)

        threading.Thread(target=keep_checking, name="lease", daemon=True).start()
