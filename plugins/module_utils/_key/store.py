# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Records of results that cannot hold one themselves: files, and images in engines or of Docker's media types.

That of a file or a directory lies beside it, as ``NAME.buildfarm.json``. Others are kept by this controller, so that
another one builds once before it can tell.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Optional

from .._core.files import read_bytes, write_atomically
from .._source.notes import forget, note_path
from .record import ForeignRecord, Record

_SUFFIX = ".buildfarm.json"
_KIND = "json"
#: How many records of other results than files a controller keeps; those that were written first go first.
_KEPT = 1000


class Records:
    """The records that lie beside results, or in a directory of this controller.

    :param directory: of buildx's own files, in which one is made for the records.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory / "buildfarm" / "records"

    def read(self, result: str) -> Optional[Record]:
        """Return the record of a result, None where there is none.

        :param result: the path of a file or a directory, or another name.
        :raises ForeignRecord: another version wrote it, or it is broken.
        """
        try:
            content = read_bytes(self._path(result))
        except OSError as exc:
            raise ForeignRecord(str(exc)) from exc
        return Record.from_json(content) if content is not None else None

    def write(self, result: str, record: Record) -> None:
        """Store the record of a result. Where that cannot be done the result is built anew the next time."""
        path = self._path(result)
        with contextlib.suppress(OSError):
            if path.parent == self._directory:
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_atomically(path, record.to_json())
            if path.parent == self._directory:
                forget(str(self._directory), _KIND, _KEPT)

    def _path(self, result: str) -> Path:
        if os.path.isabs(result):
            return Path(result.rstrip("/") + _SUFFIX)
        return Path(note_path(str(self._directory), result, _KIND))
