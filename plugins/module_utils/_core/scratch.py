# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Temporary directories; those of processes that were killed are removed by the next one that needs its own."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
import tempfile
import time
from pathlib import Path
from typing import Iterator

from .lock import LockTimeout, locked

#: Seconds within which whoever makes a directory has locked it.
_MAKING = 2.0
#: How the names end: a person's own directory may well begin in the same way, /tmp/buildx-build-cache for one.
_SUFFIX = ".buildfarm"
#: What ``tempfile`` puts before that, and the permission bits that it gives a directory.
_RANDOM, _MODE = re.compile(r"[a-z0-9_]{8}\Z"), 0o700


@contextlib.contextmanager
def scratch_directory(prefix: str) -> Iterator[str]:
    """Make a directory that only this user may enter; it is removed at the end.

    :param prefix: the beginning of its name, the same for all of one purpose.
    :raises OSError: none can be made.
    """
    _sweep(prefix)
    with tempfile.TemporaryDirectory(_SUFFIX, prefix) as directory, locked(directory, _MAKING):
        yield directory


def _sweep(prefix: str) -> None:
    """Remove this user's directories that were made here and that nobody holds."""
    for path in Path(tempfile.gettempdir()).glob(f"{prefix}*{_SUFFIX}"):
        with contextlib.suppress(OSError, LockTimeout):
            found = path.lstat()
            is_own = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
            is_made = found.st_mode & 0o777 == _MODE and _RANDOM.match(path.name[len(prefix) : -len(_SUFFIX)])
            if is_own and is_made and time.time() - found.st_mtime > _MAKING:
                with locked(path, 0):
                    shutil.rmtree(path)
