# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""By which name a build context is sent, so that BuildKit never takes a file that has changed for one that it has.

BuildKit keeps what it was sent, by the last part of the context's path and the client's id (buildx's ``build/opt.go``),
and asks only for what is new: files of another size, time or mode (``diff_containerd.go`` in tonistiigi/fsutil).
Content and extended attributes that changed without these do not reach it, and neither do modes of directories,
whatever their time. Local named contexts are kept by the name of the main one and their own. Dockerfiles and ignore
files are asked for each time. Under a name that it has not met BuildKit asks for everything; its cache of steps goes by
what arrives.

So it is noted here what was sent under the present name of a context. What BuildKit has may be any of that: a node may
have been left out of builds for a while. Where something in it could be mistaken for what is to be sent, or nothing is
known, the context gets another name.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import struct
from typing import Dict, Iterator, Mapping, Optional, Tuple

from .._core.files import read_bytes, write_atomically
from .._core.lock import LockTimeout, locked
from .notes import forget, note_path
from .tree import DIRECTORY, Entry, Tree

_MAGIC = b"buildfarm sent 1\n"
_PAIR = struct.Struct("<QQ")
#: How much more than what a context has now may be noted of it: so many times its entries, and so many.
_TIMES, _MORE = 4, 1000
_WAIT = 10.0


def name_for(store_dir: str, context: str, tree: Tree, others: Optional[Mapping[str, Tree]] = None) -> str:
    """Return the last part of the path by which a context is to be sent, and note what is sent.

    A link of that name to the context will do: BuildKit's client resolves the link, but not its name. The name stays
    the same from run to run as long as that is safe, so that only what is new is sent. Where nothing can be noted it is
    one that was never used.

    :param store_dir: a directory of this user for such notes, made where it is missing.
    :param context: the context's path.
    :param tree: what is in it.
    :param others: local named contexts of the same build, by their names and where they are (``NAME=PATH``). The same
        context has another name with others of these.
    """
    trees = {"": tree, **(others or {})}
    origin = "\0".join([os.path.realpath(context), *sorted(trees)])
    made = f"{_readable(context)}-{secrets.token_hex(6)}"
    try:
        os.makedirs(store_dir, mode=0o700, exist_ok=True)
        with locked(store_dir, _WAIT):
            path = note_path(store_dir, origin, "sent")
            name, noted = _read(path)
            now = dict(_pairs(trees))
            mistaken = any(noted.get(one, value) != value for one, value in now.items())
            if not name or mistaken or len({*noted, *now}) > _TIMES * len(now) + _MORE:
                name, noted = made, {}
            if not now.keys() <= noted.keys():
                _write(path, name, {**noted, **now})
                forget(store_dir, "sent")
            else:
                os.utime(path)
            return name
    except (OSError, LockTimeout):
        return made


def _readable(context: str) -> str:
    base = os.path.basename(os.path.realpath(context))
    return re.sub(r"[^A-Za-z0-9._-]+", "-", base)[:40].strip("-.") or "context"


def _pairs(trees: Mapping[str, Tree]) -> Iterator[Tuple[int, int]]:
    """Return for each entry a number for what BuildKit compares, and one for all that it should."""
    for label, tree in trees.items():
        start = label.encode("utf-8", "surrogateescape") + b"\0"
        for name, entry in tree.items():
            yield _number(start + name + b"\0" + _compared(entry)), _number(_counting(entry))


def _compared(entry: Entry) -> bytes:
    if entry.kind == DIRECTORY:
        # Modes of directories are compared, and nevertheless stay as they were in some cases (moby/buildkit#7176).
        return b"directory"
    return repr((entry.kind, entry.mode, entry.size, entry.mtime)).encode("ascii")


def _counting(entry: Entry) -> bytes:
    return repr((entry.kind, entry.mode, entry.value, entry.xattrs)).encode("utf-8", "backslashreplace")


def _number(text: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def _read(path: str) -> Tuple[str, Dict[int, int]]:
    """Return the present name and what was sent under it; no name where nothing is known."""
    content = read_bytes(path) or b""
    magic, name, pairs = content[: len(_MAGIC)], *content[len(_MAGIC) :].partition(b"\n")[::2]
    if magic != _MAGIC or len(pairs) % _PAIR.size:
        return "", {}
    return name.decode("ascii", "replace"), dict(_PAIR.iter_unpack(pairs))


def _write(path: str, name: str, noted: Mapping[int, int]) -> None:
    pairs = b"".join(_PAIR.pack(key, value) for key, value in noted.items())
    write_atomically(path, _MAGIC + name.encode("ascii") + b"\n" + pairs, 0o600)
