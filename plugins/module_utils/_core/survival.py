# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Ending a module's programs where the module itself is killed, and cannot do it."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import time
from typing import Iterator

#: Variable by which programs of this process are found, whoever their parent is by then.
_MARK = "BUILDFARM_TASK"


@contextlib.contextmanager
def survived() -> Iterator[None]:
    """Have programs that are run meanwhile killed if this process is killed, by a process that does nothing else.

    To be called before there are threads. A parent's death signal (prctl(2)) would not reach the programs' children:
    before version 25 docker leaves its plugins running.
    """
    mark = secrets.token_hex(16)
    reading, writing = os.pipe()
    watcher = os.fork()
    if watcher == 0:
        _watch(reading, f"{_MARK}={mark}".encode())
    os.close(reading)
    os.environ[_MARK] = mark
    try:
        yield
    finally:
        del os.environ[_MARK]
        with contextlib.suppress(BrokenPipeError):
            os.write(writing, b"\n")
        os.close(writing)
        os.waitpid(watcher, 0)


def _watch(reading: int, mark: bytes) -> None:
    """Wait until the other end is closed, kill what has the mark if nothing was said before, and end this process."""
    try:
        os.setsid()
        # Whoever reads this process's output must not wait for this one, and its locks must end with it.
        for name in os.listdir("/proc/self/fd"):
            if int(name) != reading:
                with contextlib.suppress(OSError):
                    os.close(int(name))
        if not os.read(reading, 1):
            _kill_marked(mark)
    finally:
        os._exit(0)


def _kill_marked(mark: bytes) -> None:
    # Once more, for what was about to be started: until then it has its parent's environment.
    for pause in (0.1, 0.5, 0.0):
        for name in os.listdir("/proc"):
            with contextlib.suppress(OSError):
                if name.isdigit() and mark in _environment(name):
                    os.kill(int(name), signal.SIGKILL)
        time.sleep(pause)


def _environment(process: str) -> bytes:
    with open(f"/proc/{process}/environ", "rb") as stream:
        return stream.read()
