# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The one exception that this collection's logic raises on purpose."""

from __future__ import annotations

import errno
import sys
from typing import Any, Dict, Optional

from .plain import plain

#: What to do about failures of the host that no code can foresee everywhere, by their numbers.
_REMEDIES = {
    errno.ENOSPC: "make room there (df -h and df -i show where none is left), and run again",
    errno.EDQUOT: "make room there, or raise the user's quota, and run again",
    errno.EROFS: "mount its file system so that it can be written, and run again",
    errno.EACCES: "run the task as a user who may, as with become",
    errno.EPERM: "run the task as a user who may, as with become",
    errno.EIO: "its disk or file system is faulty; see the kernel's log",
    errno.EMFILE: "raise the limit of open files (ulimit -n), and run again",
    errno.ENFILE: "raise the limit of open files (fs.file-max), and run again",
}


class FarmError(Exception):
    """A failure that a person can act on.

    The message names the subject, what was found, what was wanted and what to do. It may hold what registries, engines
    and builds say, and stands on terminals: what would move one's cursor is left out.

    :param message: the whole message, one sentence or two.
    :param details: further keys of the task's result (JSON types only, no secrets).
    """

    def __init__(self, message: str, **details: Any) -> None:
        self.message = plain(message)
        super().__init__(self.message)
        self.details: Dict[str, Any] = details

    def about(self, subject: str) -> FarmError:
        """Return the failure with its subject first, unless the message begins with one of this kind.

        :param subject: kind and name, ``image registry.example.com/app:1``.
        """
        if self.message.startswith(f"{subject.partition(' ')[0]} "):
            return self
        return type(self)(f"{subject}: {self.message}", **self.details)


def fault_of_host(exc: OSError) -> Optional[FarmError]:
    """Return the error for a fault of the host, as a full disk, None where a fault of the code is as likely."""
    remedy = _REMEDIES.get(exc.errno or 0)
    return FarmError(f"{exc.filename or 'this host'}: {exc.strerror}; {remedy}") if remedy else None


def missing_library(library: str, exc: ImportError) -> FarmError:
    """Return the error for a Python library of the controller that is not installed, for the logic to raise.

    :param library: its name on PyPI.
    """
    return FarmError(
        f"the Python library {library!r} is not installed for {sys.executable} on this controller; install it there, "
        f"from the distribution's packages or the collection's meta/ee-requirements.txt",
        exception=str(exc),
    )
