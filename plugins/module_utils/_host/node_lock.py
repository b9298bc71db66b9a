# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One run at a time changes a node's engine and its handlers, from whatever controllers the runs come.

What changes them are processes on the node itself, so the kernel's lock of a file there is enough: it ends with the
process, however that ends.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from typing import Iterator

from .._core.environment import user
from .._core.errors import FarmError
from .._core.files import read_bytes
from .._core.lock import LockTimeout, locked

#: Not in the directory for locks, which everybody may write into.
PATH = "/run/buildfarm-multiarch.lock"
#: Seconds. An engine gets five minutes to restart, and a change that fails restarts it twice.
TIMEOUT = 900.0


@contextlib.contextmanager
def node_locked(module: str, timeout: float = TIMEOUT) -> Iterator[None]:
    """Hold the node; who may not, may not change it either, and will be told so by what it does next.

    :param module: that holds it, for those who wait.
    :raises FarmError: another run has held it all that time; the message names it.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(PATH, timeout, os.O_RDWR | os.O_CREAT))
        except LockTimeout as exc:
            raise FarmError(
                f"{socket.gethostname()}: another run changes this host, {_holder()}; waited {timeout:g} s for it,"
                " nothing was changed. Run again when it has ended"
            ) from exc
        except OSError:
            yield
            return
        with contextlib.suppress(OSError), open(PATH, "w", encoding="utf-8") as stream:
            stream.write(_described(module))
        yield


def _described(module: str) -> str:
    """Return in words who holds a node; sshd names the machine that a run comes from."""
    origin = os.environ.get("SSH_CONNECTION", "").partition(" ")[0]
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return f"module {module} by {user()}{f' from {origin}' if origin else ''}, process {os.getpid()}, since {since}"


def _holder() -> str:
    content = None
    with contextlib.suppress(OSError):
        content = read_bytes(PATH)
    return (content or b"").decode(errors="replace") or "which does not say what it is"
