# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A directory tree as BuildKit takes it for a build context, and what turns one tree into another.

Names are bytes, relative to the tree's root: a file system may hold names that are no text in any encoding.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import stat
import zlib
from dataclasses import dataclass, field
from typing import Any, Dict, Iterable, Iterator, List, Tuple

from .._core.errors import FarmError

FILE, DIRECTORY, LINK = "file", "directory", "link"
#: A device or a FIFO. Its content cannot be read, so it is never sent.
SPECIAL = "special file"

#: The one extended attribute that images are made for.
CAPABILITY = "security.capability"

_CHUNK = 1 << 20
#: How many names a result lists; a tree may have many thousands.
_SHOWN = 200


@dataclass(frozen=True)
class Entry:
    """One name of a tree, with all that BuildKit makes a cache key of.

    :ivar kind: one of the constants above.
    :ivar mode: permission bits with setuid, setgid and sticky; 0 for a link, which has none of its own.
    :ivar value: SHA-256 of a file's content as hex, a link's target, else empty.
    :ivar size: bytes of a file, else 0.
    :ivar capability: of a file, what setcap(8) gave it, as hex; empty for none.
    :ivar mtime: nanoseconds since 1970. Two entries that differ in nothing else are equal, as they are to BuildKit.
    """

    kind: str
    mode: int
    value: str = ""
    size: int = 0
    capability: str = ""
    mtime: int = field(default=0, compare=False)

    def __str__(self) -> str:
        if self.kind == LINK:
            return f"link to {shown(target(self))}"
        if self.kind == FILE:
            more = ", with capabilities" if self.capability else ""
            return f"file, mode {self.mode:04o}, {self.size} bytes, sha256:{self.value[:12]}{more}"
        return f"{self.kind}, mode {self.mode:04o}"


#: Entries by name, each directory before what is in it. The root itself is not among them.
Tree = Dict[bytes, Entry]


def read_tree(root: str) -> Tree:
    """Return what is below a directory; links are never followed.

    A socket counts as an empty file, as BuildKit clears the bit that distinguishes them (``mkstat`` in fsutil's
    ``stat.go``).

    :raises FarmError: something in it cannot be read. It names what.
    """
    try:
        return dict(sorted(_walk(os.fsencode(root), b"")))
    except OSError as exc:
        raise _unreadable(root, exc) from exc


def names_in(root: str) -> List[bytes]:
    """Return the names in a directory itself.

    :raises FarmError: it cannot be read.
    """
    try:
        return os.listdir(os.fsencode(root))
    except OSError as exc:
        raise _unreadable(root, exc) from exc


def _unreadable(root: str, exc: OSError) -> FarmError:
    return FarmError(
        f"directory {root}: {shown(os.fsencode(exc.filename or root))} cannot be read: {exc.strerror}; make it "
        f"readable for the user that reads it, or run again if it was changed meanwhile"
    )


def _walk(root: bytes, folder: bytes) -> Iterator[Tuple[bytes, Entry]]:
    with os.scandir(os.path.join(root, folder)) as listed:
        for found in listed:
            name = os.path.join(folder, found.name)
            yield name, _entry(found.path, found.stat(follow_symlinks=False))
            if found.is_dir(follow_symlinks=False):
                yield from _walk(root, name)


def _entry(path: bytes, status: os.stat_result) -> Entry:
    mode, mtime = stat.S_IMODE(status.st_mode), status.st_mtime_ns
    if stat.S_ISLNK(status.st_mode):
        return Entry(LINK, 0, _text(os.readlink(path)), mtime=mtime)
    if stat.S_ISDIR(status.st_mode):
        return Entry(DIRECTORY, mode, mtime=mtime)
    if stat.S_ISREG(status.st_mode):
        size, content = _content(path)
        return Entry(FILE, mode, content, size, _capability(path), mtime)
    if stat.S_ISSOCK(status.st_mode):
        return Entry(FILE, mode, hashlib.sha256().hexdigest(), mtime=mtime)
    return Entry(SPECIAL, mode, mtime=mtime)


def _capability(path: bytes) -> str:
    # Only Linux has it, and not on each of its file systems.
    with contextlib.suppress(AttributeError, OSError):
        return os.getxattr(path, CAPABILITY, follow_symlinks=False).hex()
    return ""


def _content(path: bytes) -> Tuple[int, str]:
    """Return a file's size and the digest of its content, both of the same reading."""
    size, digest = 0, hashlib.sha256()
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb", buffering=0) as stream:
            while True:
                chunk = stream.read(_CHUNK)
                if not chunk:
                    return size, digest.hexdigest()
                size += len(chunk)
                digest.update(chunk)
    except OSError as exc:
        exc.filename = path
        raise


def digest(tree: Tree) -> str:
    """Return a digest that two trees share if they are equal: ``sha256:`` and 64 hex digits."""
    rows = [[_text(name), one.kind, one.mode, one.value, one.capability] for name, one in tree.items()]
    return "sha256:" + hashlib.sha256(json.dumps(rows).encode("ascii")).hexdigest()


def dump(tree: Tree) -> str:
    """Return a tree as ASCII that ``load`` reads."""
    rows = [
        [_text(name), one.kind, one.mode, one.value, one.size, one.capability, one.mtime] for name, one in tree.items()
    ]
    return base64.b64encode(zlib.compress(json.dumps(rows).encode("ascii"), 1)).decode("ascii")


def load(text: str) -> Tree:
    """Return the tree that ``dump`` wrote.

    :raises FarmError: a name in it would lead out of the tree.
    """
    tree: Tree = {}
    for name, *values in json.loads(zlib.decompress(base64.b64decode(text))):
        path = _bytes(name)
        folder, slash, base = path.rpartition(b"/")
        if base in (b"", b".", b"..") or b"\0" in path or (slash and tree.get(folder, _NOTHING).kind != DIRECTORY):
            raise FarmError(f"the name {shown(path)!r} does not belong to a tree of directories; nothing was written")
        tree[path] = Entry(*values)
    return tree


_NOTHING = Entry("", 0)


def top(tree: Tree) -> List[bytes]:
    """Return the names that are in the root itself."""
    return [name for name in tree if b"/" not in name]


def dump_names(names: Iterable[bytes]) -> str:
    """Return names as ASCII that ``load_names`` reads."""
    return json.dumps([_text(name) for name in names])


def load_names(text: str) -> List[bytes]:
    """Return the names that ``dump_names`` wrote."""
    return [_bytes(name) for name in json.loads(text)]


def target(link: Entry) -> bytes:
    """Return what a link points to."""
    return _bytes(link.value)


def shown(name: bytes) -> str:
    """Return how messages and results show a name: text, with the bytes that are none escaped."""
    return name.decode("utf-8", "backslashreplace")


# Neither depends on the locale, which differs between hosts.
def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


@dataclass(frozen=True)
class Changes:
    """What turns the tree ``found`` into the tree ``wanted``; an empty one is false.

    :ivar added: names that are only wanted.
    :ivar changed: names of which something differs.
    :ivar removed: names that are only found.
    """

    found: Tree
    wanted: Tree
    added: List[bytes]
    changed: List[bytes]
    removed: List[bytes]

    @classmethod
    def between(cls, found: Tree, wanted: Tree) -> Changes:
        """Compare two trees."""
        return cls(
            found,
            wanted,
            [name for name in wanted if name not in found],
            [name for name in wanted if name in found and found[name] != wanted[name]],
            [name for name in found if name not in wanted],
        )

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)

    @property
    def written(self) -> List[bytes]:
        """The names that are added or changed, each directory before what is in it."""
        return sorted([*self.added, *self.changed])

    @property
    def contents(self) -> List[bytes]:
        """The files of which the content is new."""
        return [name for name in self.written if self.wanted[name].kind == FILE and not self.keeps_content(name)]

    def keeps_content(self, name: bytes) -> bool:
        """Say whether the file of this name has the wanted content already, and capabilities, which go with it."""
        found, wanted = self.found.get(name, _NOTHING), self.wanted[name]
        return (found.kind, found.value, found.capability) == (wanted.kind, wanted.value, wanted.capability)

    def as_state(self, tree: Tree) -> Dict[str, Any]:
        """Return what a diff shows of one of the two trees: the names that differ, described."""
        names = sorted({*self.added, *self.changed, *self.removed})
        state: Dict[str, Any] = {shown(name): str(tree[name]) for name in names[:_SHOWN] if name in tree}
        hidden = sum(name in tree for name in names[_SHOWN:])
        if hidden:
            state[_more(hidden)] = "not shown"
        return state

    def as_actions(self) -> List[List[str]]:
        """Return what is done, by what is done with the names."""
        groups: List[Tuple[str, List[bytes]]] = [
            ("remove", self.removed),
            ("add", self.added),
            ("change", self.changed),
        ]
        return [[verb, *listed(names)] for verb, names in groups if names]


def listed(names: List[bytes], limit: int = _SHOWN) -> List[str]:
    """Return names to be shown, the last one telling how many others there are."""
    hidden = len(names) - limit
    return [shown(name) for name in names[:limit]] + ([_more(hidden)] if hidden > 0 else [])


def _more(number: int) -> str:
    return f"… and {number} more"
