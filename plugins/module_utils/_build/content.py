# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the content of a file or directory is, so that a change shows and another export of the same does not."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import tarfile
from typing import Any, Iterator, List, Optional, Sequence

from .._core.errors import FarmError
from .layout import CREATED, names_in
from .output import Output


def content_digest(output: Output, path: str, names: Sequence[str] = ()) -> Optional[str]:
    """Return a digest that changes exactly when the content at a path does, None if there is nothing.

    :param path: where the result lies, the output's dest or a file that is to replace it.
    :param names: of the image; in a directory that images of several names share, it is that of theirs.
    :raises FarmError: it cannot be read, or is no archive of this output's format.
    """
    if not os.path.lexists(path):
        return None
    try:
        if output.type == "local":
            return _hash(_tree_lines(path))
        if output.type in ("oci", "docker"):
            return _archive_identity(path, names if output.is_shared else ())
        with open(path, "rb") as stream:
            return _hash(iter(lambda: stream.read(1 << 20), b""))
    except (OSError, ValueError, KeyError, tarfile.TarError) as exc:
        raise FarmError(
            f"output {output.type}: {path} cannot be compared with what is built: {exc}; "
            f"remove it, or choose another dest"
        ) from exc


def _hash(parts: Iterator[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return f"sha256:{digest.hexdigest()}"


def _tree_lines(root: str) -> Iterator[bytes]:
    """Yield what makes two trees equal: names, types, permissions, link targets and contents; no times, no owners."""
    for folder, folders, files in os.walk(root):
        folders.sort()
        for name in sorted(files + folders):
            path = os.path.join(folder, name)
            status = os.lstat(path)
            line: List[Any] = [os.path.relpath(path, root), stat.S_IFMT(status.st_mode)]
            if stat.S_ISLNK(status.st_mode):
                line.append(os.readlink(path))
            else:
                line.append(stat.S_IMODE(status.st_mode))
            if stat.S_ISREG(status.st_mode):
                with open(path, "rb") as stream:
                    line.append(_hash(iter(lambda: stream.read(1 << 20), b"")))  # pylint: disable=cell-var-from-loop
            yield json.dumps(line).encode() + b"\n"


def _archive_identity(path: str, names: Sequence[str]) -> Optional[str]:
    """Return the digest of an image archive's index without the time it was exported at.

    The bytes of the file differ with every export.

    :param names: whose entries count, all if there are none; None is returned where none of them has one.
    """
    if os.path.isdir(path):
        with open(os.path.join(path, "index.json"), "rb") as stream:
            documents = [json.load(stream)]
    else:
        with tarfile.open(path, "r:") as archive:
            members = [name for name in ("index.json", "manifest.json") if name in archive.getnames()]
            documents = [json.load(stream) for stream in map(archive.extractfile, members) if stream]
    for document in documents:
        entries = document.get("manifests", []) if isinstance(document, dict) else []
        for entry in entries:
            (entry.get("annotations") or {}).pop(CREATED, None)
        if names:
            own = [entry for entry in entries if set(names).intersection(names_in(entry))]
            if not own:
                return None
            documents = [sorted(own, key=names_in)]
    if not documents:
        raise ValueError("neither index.json nor manifest.json in it")
    return _hash(iter([json.dumps(documents, sort_keys=True).encode()]))
