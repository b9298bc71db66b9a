# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Ending a module before its time, so that none of the programs that it runs is left.

Programs run in sessions of their own, which no terminal's signals reach. Three things end them all the same: a signal
to the module (``interruptible``), a lease that is not renewed (``lease.py``), and the module's own sudden death
(``survival.py``).
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from typing import Any, Iterator, Set

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Interrupted(KeyboardInterrupt):
    """The module is to end now. No FarmError: nobody may take it for a failure of the work and go on."""


class Programs:
    """The process groups of running programs, for any number of threads."""

    def __init__(self) -> None:
        # A signal's handler, which ends them, runs in the main thread, whatever that has at the moment.
        self._lock = threading.RLock()
        self._groups: Set[int] = set()
        self._reason = ""

    def check(self) -> None:
        """Refuse to go on after the end; only the main thread may, which cleans up.

        :raises Interrupted: the programs have been ended.
        """
        if self._reason and threading.current_thread() is not threading.main_thread():
            raise Interrupted(self._reason)

    @contextlib.contextmanager
    def listed(self, group: int) -> Iterator[None]:
        """Have a process group ended with the others while the context lasts.

        :raises Interrupted: they have been, and this one with them.
        """
        with self._lock:
            self._groups.add(group)
        try:
            # It may have been started while the others were being ended.
            self.check()
            yield
        finally:
            with self._lock:
                self._groups.discard(group)

    def end(self, reason: str) -> None:
        """Kill all that runs; what other threads start afterwards is refused.

        :param reason: why, as the message of Interrupted.
        """
        self._reason = reason
        with self._lock:
            for group in self._groups:
                kill(group)


#: What ``runner.run`` has running in this process.
PROGRAMS = Programs()


def kill(group: int) -> None:
    """Kill a process group, which may have ended already."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


@contextlib.contextmanager
def interruptible(programs: Programs = PROGRAMS) -> Iterator[None]:
    """Let signals end the programs, and then what the main thread does, which cleans up as after a failure.

    :raises Interrupted: one came.
    """

    def interrupt(number: int, _frame: Any) -> None:
        for one in _SIGNALS:
            # A second one must not interrupt the cleaning up.
            signal.signal(one, signal.SIG_IGN)
        reason = f"interrupted by {signal.Signals(number).name}"
        programs.end(reason)
        raise Interrupted(reason)

    before = {one: signal.signal(one, interrupt) for one in _SIGNALS}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
