# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Digests of files that have not been touched since they were last read, so that they need not be read again.

A file counts as untouched while its inode, size, and times of modification and of change are what they were: the kernel
sets the last one whenever content, mode or attributes change, and no program can set it to a time of its choice. A file
that had been changed just before it was read is not noted, as another change may bear the same time.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
import time
from typing import Dict, Optional

from .._core.files import read_bytes, write_atomically
from .notes import forget, note_path

_MAGIC = b"buildfarm contents 1\n"
_PAIR = struct.Struct("<16s32s")
#: Nanoseconds for which a file must have been left alone before it was read: some file systems store times in units of
#: two seconds.
_SETTLED = 3_000_000_000


class KnownContents:
    """What is known of the files of one context.

    :param store_dir: a directory of this user for such notes, made where it is missing.
    :param context: the context's path.
    """

    def __init__(self, store_dir: str, context: str) -> None:
        self._store_dir, self._path = store_dir, note_path(store_dir, os.path.realpath(context), "contents")
        self._started = time.time_ns()
        self._known = self._read()
        self._used: Dict[bytes, bytes] = {}

    def content(self, name: bytes, status: os.stat_result) -> Optional[str]:
        """Return the SHA-256 of a file as hex, None where it has to be read. It has no extended attributes then."""
        key = _key(name, status)
        value = self._known.get(key)
        if value is None:
            return None
        self._used[key] = value
        return value.hex()

    def note(self, name: bytes, status: os.stat_result, content: str) -> None:
        """Note what was read of a file without extended attributes.

        :param status: of the file, from before it was read.
        """
        if max(status.st_mtime_ns, status.st_ctime_ns) < self._started - _SETTLED:
            self._used[_key(name, status)] = bytes.fromhex(content)

    def store(self) -> None:
        """Keep what was used or noted for the next run, if that is possible."""
        if self._used == self._known:
            return
        pairs = b"".join(_PAIR.pack(*pair) for pair in self._used.items())
        with contextlib.suppress(OSError):
            os.makedirs(self._store_dir, mode=0o700, exist_ok=True)
            write_atomically(self._path, _MAGIC + hashlib.sha256(pairs).digest() + pairs, 0o600)
            forget(self._store_dir, "contents")

    def _read(self) -> Dict[bytes, bytes]:
        with contextlib.suppress(OSError):
            content = read_bytes(self._path) or b""
            start = len(_MAGIC) + hashlib.sha256().digest_size
            magic, summed, pairs = content[: len(_MAGIC)], content[len(_MAGIC) : start], content[start:]
            # What decides whether an image is up to date must not be a damaged file's word.
            if magic == _MAGIC and summed == hashlib.sha256(pairs).digest():
                return dict(_PAIR.iter_unpack(pairs))
        return {}


def _key(name: bytes, status: os.stat_result) -> bytes:
    # As text, as there are files with times of any century.
    numbers = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_mode)
    return hashlib.blake2b(repr(numbers).encode("ascii") + name, digest_size=16).digest()
