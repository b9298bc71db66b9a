# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files that another process must never see half written."""

from __future__ import annotations

import os
import tempfile
from typing import Optional, Union

PathLike = Union[str, "os.PathLike[str]"]


def read_bytes(path: PathLike) -> Optional[bytes]:
    """Return a file's content, None where there is no such file.

    :raises OSError: it exists and cannot be read.
    """
    try:
        with open(path, "rb") as handle:
            return handle.read()
    except (FileNotFoundError, NotADirectoryError):
        return None


def write_atomically(path: PathLike, content: bytes, mode: int = 0o644) -> None:
    """Replace a file's content in one step, on disk before it is visible.

    A link is followed, so that a linked configuration file stays linked.

    :param mode: permission bits of the file; set before its content is written.
    :raises OSError: the directory is missing or cannot be written.
    """
    path = os.path.realpath(path)
    handle, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix=f".{os.path.basename(path)}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            os.fchmod(stream.fileno(), mode)
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def restore(path: PathLike, content: Optional[bytes], mode: int = 0o644) -> None:
    """Put a file back as ``read_bytes`` found it: removed where the content is None.

    :raises OSError: it cannot be written or removed.
    """
    if content is not None:
        write_atomically(path, content, mode)
    elif os.path.lexists(path):
        os.unlink(path)
