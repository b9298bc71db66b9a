# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Locks between processes, waited for a limited time."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from typing import Iterator

from .files import PathLike

_POLL_INTERVAL = 0.05


class LockTimeout(Exception):
    """Another process held the lock until the time was up."""


@contextlib.contextmanager
def locked(path: PathLike, timeout: float, flags: int = os.O_RDONLY) -> Iterator[None]:
    """Hold the lock (flock(2)) of a file or a directory; it ends with the process, however that ends.

    :param timeout: seconds to wait for it.
    :param flags: how to open the file, ``O_CREAT`` to create it with mode 0600 for example.
    :raises OSError: it cannot be opened.
    :raises LockTimeout: another process held the lock all that time.
    """
    handle = os.open(path, flags | os.O_CLOEXEC, 0o600)
    try:
        _acquire(handle, time.monotonic() + timeout)
        yield
    finally:
        os.close(handle)


def _acquire(handle: int, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise LockTimeout from None
            time.sleep(_POLL_INTERVAL)
