# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files that another process must never see half written."""

from __future__ import annotations

import contextlib
import glob
import os
import stat
import tempfile
from typing import Iterable, List, Optional, Tuple, Union

PathLike = Union[str, "os.PathLike[str]"]

#: Suffix of temporary files before the rename.
_STAGED = ".new"
#: The extended attribute that holds a file's SELinux context (security(7), selinux(8)).
_CONTEXT = "security.selinux"


def read_bytes(path: PathLike) -> Optional[bytes]:
    """Return a file's content, None where there is no such file.

    :raises OSError: it exists and cannot be read.
    """
    try:
        with open(path, "rb") as handle:
            return handle.read()
    except (FileNotFoundError, NotADirectoryError):
        return None


def write_atomically(path: PathLike, content: bytes, mode: Optional[int] = None) -> None:
    """Replace a file's content in one step, on disk before it is visible.

    A link is followed, so that a linked configuration file stays linked. Owner, group and SELinux context of the file
    that is replaced stay, as far as this process may set them.

    :param mode: permission bits of the file, set before its content is written; None for those of the file that is
        replaced, 0644 where there is none.
    :raises OSError: the directory is missing or cannot be written.
    """
    write_together([(path, content, mode)])


def write_together(files: Iterable[Tuple[PathLike, bytes, Optional[int]]]) -> None:
    """Replace files that belong together, a key and its certificate, with the least time between them.

    All are on disk before the first is visible; each is replaced as ``write_atomically`` does it, in the order given.

    :param files: path, content and permission bits of each, see ``write_atomically``.
    :raises OSError: a directory is missing or cannot be written; nothing is replaced then. It names the file.
    """
    staged: List[Tuple[str, str]] = []
    path = ""
    try:
        for name, content, mode in files:
            path = os.path.realpath(name)
            folder, base = os.path.split(path)
            handle, temporary = tempfile.mkstemp(dir=folder, prefix=f".{base}.", suffix=_STAGED)
            staged.append((temporary, path))
            with os.fdopen(handle, "wb") as stream:
                _set_metadata(stream.fileno(), path, mode)
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
        while staged:
            temporary, path = staged[0]
            os.replace(temporary, path)
            del staged[0]
    except OSError as exc:
        # A full disk, for one, names none.
        exc.filename = path
        raise
    finally:
        for temporary, _path in staged:
            os.unlink(temporary)


def _set_metadata(handle: int, path: str, mode: Optional[int]) -> None:
    """Give a new file the mode, and owner, group and SELinux context of the one that it is to replace."""
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        os.fchmod(handle, 0o644 if mode is None else mode)
        return
    with contextlib.suppress(OSError):
        # Another's file can be replaced by whoever may write to its directory, but only root can give it back to him.
        os.fchown(handle, found.st_uid, found.st_gid)
    with contextlib.suppress(OSError):
        # Most file systems of hosts without SELinux have none.
        os.setxattr(handle, _CONTEXT, os.getxattr(path, _CONTEXT))
    os.fchmod(handle, stat.S_IMODE(found.st_mode) if mode is None else mode)


def is_writable(directory: PathLike) -> bool:
    """Say whether a directory could be made or written; nothing is made to find out."""
    there = os.path.abspath(directory)
    while not os.path.exists(there) and there != os.path.dirname(there):
        there = os.path.dirname(there)
    return os.access(there, os.W_OK | os.X_OK)


def abandoned(path: PathLike) -> List[str]:
    """Return the temporary files that were to become this one when ``write_together`` was killed."""
    folder, base = os.path.split(os.path.realpath(path))
    return glob.glob(f"{glob.escape(folder)}/.{glob.escape(base)}.*{_STAGED}")


def restore(path: PathLike, content: Optional[bytes], mode: Optional[int] = None) -> None:
    """Put a file back as ``read_bytes`` found it: removed where the content is None, else see ``write_atomically``.

    :raises OSError: it cannot be written or removed.
    """
    if content is not None:
        write_atomically(path, content, mode)
    elif os.path.lexists(path):
        os.unlink(path)
