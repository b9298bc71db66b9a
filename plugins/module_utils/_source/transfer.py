# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From one host's tree to another's: an archive of what is new, and its application.

The archive is a tar file. Its first member is the wanted tree, the others are contents, each named by the number of its
entry in that tree: so no name in the archive is ever taken for a path.
"""

from __future__ import annotations

import io
import os
import shutil
import tarfile
import time
from typing import IO, List, Mapping, Optional

from .._core.errors import FarmError
from .tree import CAPABILITY, DIRECTORY, FILE, LINK, Changes, Entry, Tree, capability, dump, load, shown, target

_TREE = "tree"
_CHUNK = 1 << 20
#: Nanoseconds by which the time of a changed file moves on at least; some file systems store no smaller unit.
_STEP = 2_000_000_000


def write_archive(stream: IO[bytes], root: str, changes: Changes) -> None:
    """Write what a host needs to apply changes.

    :param root: where the wanted tree is.
    :raises FarmError: a file cannot be read, or is shorter than it was.
    """
    numbers = {name: str(number) for number, name in enumerate(changes.wanted)}
    text = dump(changes.wanted).encode("ascii")
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(_member(_TREE, len(text)), io.BytesIO(text))
        for name in changes.contents:
            size = changes.wanted[name].size
            path = os.path.join(os.fsencode(root), name)
            try:
                # A socket is an empty file, and cannot be opened.
                handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW) if size else os.open(os.devnull, os.O_RDONLY)
                with open(handle, "rb") as content:
                    archive.addfile(_member(numbers[name], size), content)
            except OSError as exc:
                raise FarmError(
                    f"file {shown(path)} was changed while it was sent ({exc.strerror or exc}); run again"
                ) from exc


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size = size
    return member


def read_wanted(archive: tarfile.TarFile) -> Tree:
    """Return the tree that an archive stands for.

    :raises FarmError: it has none, or a name in it would lead out of the tree.
    """
    first = archive.next()
    content = archive.extractfile(first) if first and first.name == _TREE else None
    if not content:
        raise FarmError("the archive does not begin with a tree; nothing was written")
    return load(content.read().decode("ascii"))


def apply(archive: tarfile.TarFile, root: str, changes: Changes) -> None:
    """Make changes below a directory.

    :param archive: one with the wanted tree of these changes.
    :raises FarmError: it lacks the content of a file that has changed meanwhile.
    :raises OSError: something cannot be written.
    """
    found, wanted = changes.found, changes.wanted
    paths = {name: os.path.join(os.fsencode(root), name) for name in (*wanted, *changes.removed)}
    _make_writable(changes, paths)
    _remove(changes, paths)
    for name in changes.written:
        if wanted[name].kind == DIRECTORY and (name not in found or found[name].kind != DIRECTORY):
            os.mkdir(paths[name], 0o700)
    for name in changes.written:
        entry = wanted[name]
        if entry.kind == LINK:
            os.symlink(target(entry), paths[name])
            os.utime(paths[name], ns=(entry.mtime, entry.mtime), follow_symlinks=False)
    _write_files(archive, changes, paths)
    for name in changes.changed:
        if wanted[name].kind == FILE and changes.keeps_content(name):
            os.chmod(paths[name], wanted[name].mode)
    # Last, as each new name in a directory changes its time, and its mode may forbid new ones.
    for name, entry in reversed(list(wanted.items())):
        if entry.kind == DIRECTORY:
            os.chmod(paths[name], entry.mode)
            os.utime(paths[name], ns=(entry.mtime, entry.mtime))


def _write_files(archive: tarfile.TarFile, changes: Changes, paths: Mapping[bytes, bytes]) -> None:
    names = list(changes.wanted)
    missing = set(changes.contents)
    for member in archive:
        name = b"" if member.name == _TREE else names[int(member.name)]
        content = archive.extractfile(member)
        if content is None or name not in missing:
            continue
        missing.remove(name)
        entry = changes.wanted[name]
        # Never into a file that is there already: it may have other names, outside of this tree.
        handle = os.open(paths[name], os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with open(handle, "wb") as stream:
            shutil.copyfileobj(content, stream, _CHUNK)
            stream.flush()
            os.fchmod(handle, entry.mode)
            if capability(entry):
                os.setxattr(handle, CAPABILITY, capability(entry))
            moment = _time(changes.found.get(name), entry)
            os.utime(handle, ns=(moment, moment))
    if missing:
        raise FarmError(f"{shown(paths[min(missing)])} was changed by somebody else meanwhile; run again")


def _make_writable(changes: Changes, paths: Mapping[bytes, bytes]) -> None:
    """Let the owner change directories in which names come or go; their own modes are set at the end."""
    altered = {os.path.dirname(name) for name in (*changes.added, *changes.changed, *changes.removed)}
    for name in sorted(altered):
        entry = changes.found.get(name)
        if entry and entry.kind == DIRECTORY and entry.mode & 0o700 != 0o700:
            path = paths[name]
            os.chmod(path, entry.mode | 0o700)


def _remove(changes: Changes, paths: Mapping[bytes, bytes]) -> None:
    """Remove what is not wanted, or is to be replaced by something new of the same name."""
    replaced: List[bytes] = [
        name
        for name in changes.changed
        if changes.wanted[name].kind != changes.found[name].kind or not changes.keeps_content(name)
    ]
    # What is in a directory before the directory itself.
    for name in sorted([*changes.removed, *replaced], reverse=True):
        (os.rmdir if changes.found[name].kind == DIRECTORY else os.unlink)(paths[name])


def _time(found: Optional[Entry], wanted: Entry) -> int:
    """Return the time of modification for a file's new content.

    It is the source's, unless the file's last content had that time or a later one: BuildKit takes a file of the same
    size and time for unchanged (``DiffMetadata`` in fsutil), and what it has may be older than what is there now.
    """
    if found is None or wanted.mtime > found.mtime:
        return wanted.mtime
    return max(time.time_ns(), found.mtime + _STEP)
