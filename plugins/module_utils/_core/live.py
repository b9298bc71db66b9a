# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Modules that are seen while they run: they go on in the background, and tell where to read of them.

The action plugin (``plugins/plugin_utils/live.py``) asks for it in the environment. It reads the progress, renews the
lease, and in the end takes what the module has printed for the module's answer.

In the module's directory are ``log`` (see ``Progress``), ``lease``, ``result`` and ``errors`` (its standard output and
standard error), ``running`` (locked as long as it lives), its temporary files, and ``ended`` with its exit status, in
the end.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from typing import Callable, Iterator

from .ending import PROGRAMS
from .lease import Lease
from .lock import LockTimeout, locked
from .progress import SILENT, Progress

#: By which the action asks for it: SHOWN, or QUIET where what the module says must not be seen.
ASKED = "BUILDFARM_LIVE"
SHOWN, QUIET = "shown", "quiet"
#: The key of the answer in place of the module's own: its directory and process.
STARTED = "buildfarm_live"
_PREFIX = "buildfarm-live-"
#: Seconds after which nobody comes any more for what an ended module has left.
_FORGOTTEN = 3600.0
#: Seconds that a module has to clean up once its lease has run out.
_CLEANING = 3.0


def asked() -> str:
    """Return what the action asks for, empty for nothing; once, as it does not ask the module's programs."""
    return os.environ.pop(ASKED, "")


def remove_forgotten(parent: str) -> None:
    """Remove this user's directories of modules that were killed, and whose actions did not come back for them.

    :param parent: where they are.
    """
    for entry in os.scandir(parent):
        with contextlib.suppress(OSError):
            is_own = entry.is_dir(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_uid == os.geteuid()
            if entry.name.startswith(_PREFIX) and is_own and _is_forgotten(entry.path):
                shutil.rmtree(entry.path, ignore_errors=True)


def _is_forgotten(folder: str) -> bool:
    """Say whether a module has ended, and its lease was not renewed for long."""
    if time.time() - os.stat(os.path.join(folder, "lease")).st_mtime < _FORGOTTEN:
        return False
    try:
        with locked(os.path.join(folder, "running"), 0, os.O_RDWR):
            return True
    except LockTimeout:
        return False


@dataclass
class Session:
    """A module in the background.

    :ivar folder: its directory, for its user only.
    """

    folder: str
    asked: str
    _status: int = 1
    _abandoned: bool = False

    @classmethod
    def start(cls, asked: str) -> Session:
        """Go on in another process, which keeps its directory; this one answers and ends."""
        remove_forgotten(tempfile.gettempdir())
        folder = tempfile.mkdtemp(prefix=_PREFIX)
        ready, tell = os.pipe()
        process = os.fork()
        if process:
            os.close(tell)
            os.read(ready, 1)
            sys.stdout.write("\n" + json.dumps({STARTED: {"folder": folder, "process": process}}) + "\n")
            sys.stdout.flush()
            # Without the exit handlers: what they remove is the other process's now, such as the module's own code.
            os._exit(0)
        os.close(ready)
        session = cls(folder, asked)
        session._settle()
        os.close(tell)
        return session

    def progress(self, hide: Callable[[str], str]) -> Progress:
        """Return what takes the module's progress.

        :param hide: takes secrets out of a text that are known to the module only.
        """
        return SILENT if self.asked == QUIET else Progress(os.path.join(self.folder, "log"), hide)

    def _settle(self) -> None:
        """Let go of the process that started this one, of its output and of its terminal."""
        os.setsid()
        # What it leaves there goes with the directory, even where it is killed.
        tempfile.tempdir = self.folder
        for number, name in ((0, os.devnull), (1, "result"), (2, "errors")):
            path = os.path.join(self.folder, name)
            stream = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            os.dup2(stream, number)
            os.close(stream)
        for name in ("log", "lease"):
            os.close(self._create(name))
        # Held until the process has ended, in whatever way.
        fcntl.flock(self._create("running"), fcntl.LOCK_EX)
        # After whatever the module prints, and what Python prints of an exception.
        atexit.register(self._finish)

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """End the module once its lease has run out, and note the exit status; to be entered where signals end it."""
        Lease(os.path.join(self.folder, "lease")).watch(self._lost)
        try:
            yield
        except SystemExit as exc:
            self._status = int(exc.code or 0)
            raise

    def _create(self, name: str) -> int:
        return os.open(os.path.join(self.folder, name), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def _finish(self) -> None:
        """Tell the action that the answer is whole, if it still waits for it."""
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        if self._abandoned:
            shutil.rmtree(self.folder, ignore_errors=True)
            return
        ended = self._create("ended.partial")
        os.write(ended, str(self._status).encode())
        os.close(ended)
        os.rename(os.path.join(self.folder, "ended.partial"), os.path.join(self.folder, "ended"))

    def _lost(self, reason: str) -> None:
        """End the module as a signal does, and after a while in any case."""
        self._abandoned = True
        PROGRAMS.end(reason)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_CLEANING)
        PROGRAMS.end(reason)
        shutil.rmtree(self.folder, ignore_errors=True)
        os._exit(1)
