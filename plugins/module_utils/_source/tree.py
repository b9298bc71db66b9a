# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A directory tree as BuildKit takes it for a build context, and what turns one tree into another.

Names are bytes, relative to the tree's root: a file system may hold names that are no text in any encoding.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import stat
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Dict, Iterable, List, Optional, Tuple, Union

from .._core.errors import FarmError
from .ignore import NO_RULES, CannotTell, IgnoreRules, Matches
from .known import KnownContents
from .packing import inflated

FILE, DIRECTORY, LINK = "file", "directory", "link"
#: A device or a FIFO. Its content cannot be read, so it is never sent.
SPECIAL = "special file"

#: What setcap(8) gives a file: the one extended attribute that images are made for.
CAPABILITY = "security.capability"
#: What the extended attributes begin with that BuildKit does not count, that one excepted: labels and access lists of
#: the machine (``cache/contenthash``), and what macOS notes.
_LOCAL = ("security.", "system.", "com.apple.")

_CHUNK = 1 << 20
#: Bytes of a tree as JSON, of some millions of names.
_LARGEST = 256 << 20
_EMPTY = hashlib.sha256().hexdigest()
#: Files that are read at a time, at most, and bytes of those for which that is quicker.
_READERS, _LARGE = 4, 256 << 10
#: How many names a result lists; a tree may have many thousands.
_SHOWN = 200


@dataclass(frozen=True)
class Entry:
    """One name of a tree, with all that BuildKit makes a cache key of.

    :ivar kind: one of the constants above.
    :ivar mode: permission bits with setuid, setgid and sticky; 0 for a link, which has none of its own.
    :ivar value: SHA-256 of a file's content as hex, a link's target, type and numbers of a special file, else empty.
    :ivar size: bytes of a file, else 0.
    :ivar xattrs: extended attributes that count, each ``NAME=HEX``, in the order of their names, a NUL between them.
    :ivar mtime: nanoseconds since 1970. Two entries that differ in nothing else are equal, as they are to BuildKit.
    """

    kind: str
    mode: int
    value: str = ""
    size: int = 0
    xattrs: str = ""
    mtime: int = field(default=0, compare=False)

    def __str__(self) -> str:
        if self.kind == LINK:
            return f"link to {shown(target(self))}"
        if self.kind == FILE:
            more = ", with capabilities" if capability(self) else ""
            return f"file, mode {self.mode:04o}, {self.size} bytes, sha256:{self.value[:12]}{more}"
        return f"{self.kind}, mode {self.mode:04o}"


#: Entries by name, each directory before what is in it. The root itself is not among them.
Tree = Dict[bytes, Entry]


def read_tree(
    root: str, rules: IgnoreRules = NO_RULES, every_xattr: bool = True, known: Optional[KnownContents] = None
) -> Tree:
    """Return what is below a directory, as BuildKit would be sent it; links are never followed.

    A socket counts as an empty file, as BuildKit clears the bit that distinguishes them (``mkstat`` in fsutil's
    ``stat.go``). Directories that the rules exclude are in the tree if something in them is. Of files' contents no more
    than a few MiB are in memory at a time.

    :param rules: what is left out.
    :param every_xattr: whether extended attributes other than capabilities count, as they do for BuildKit.
    :param known: contents that need not be read; what is read is noted there.
    :raises CannotTell: something in it cannot be read. BuildKit would be sent an empty file, or fail. It names what.
    """
    walk = _Walk(os.fsencode(root), rules, every_xattr, known)
    try:
        walk.enter(b"", None)
        walk.read_files()
    except OSError as exc:
        raise _unreadable(root, exc) from exc
    return dict(sorted(walk.found.items()))


def read_names(root: str, names: Iterable[bytes]) -> Tree:
    """Return some names of a directory, with the directories that they are in, as ``read_tree`` would.

    :raises CannotTell: one of them cannot be read.
    """
    walk = _Walk(os.fsencode(root), NO_RULES, False, None)
    try:
        for name in names:
            walk.note(name)
        walk.read_files()
    except OSError as exc:
        raise _unreadable(root, exc) from exc
    return walk.found


class _Walk:
    """One reading of a directory.

    :ivar found: what was found so far.
    """

    def __init__(self, root: bytes, rules: IgnoreRules, every_xattr: bool, known: Optional[KnownContents]) -> None:
        self._root, self._rules, self._every_xattr, self._known = root, rules, every_xattr, known
        self.found: Tree = {}
        self._files: List[Tuple[bytes, bytes, os.stat_result]] = []

    def enter(self, folder: bytes, matches: Matches) -> None:
        """Note all that is in a directory, contents of files excepted.

        :param matches: the rules that match the directory.
        """
        prefix = folder + b"/" if folder else b""
        with os.scandir(os.path.join(self._root, folder)) as listed:
            entries = list(listed)
        for one in entries:
            name = prefix + one.name
            is_folder = one.is_dir(follow_symlinks=False)
            excluded, below = self._rules.excludes(_text(name), matches) if self._rules else (False, None)
            if not excluded:
                self._note(folder, name, one.path, one.stat(follow_symlinks=False))
            elif not is_folder or not self._rules.enters(_text(name)):
                continue
            if is_folder:
                try:
                    self.enter(name, below)
                except PermissionError:
                    if not excluded:
                        raise

    def note(self, name: bytes) -> None:
        """Note one name."""
        path = os.path.join(self._root, name)
        self._note(os.path.dirname(name), name, path, os.lstat(path))

    def _note(self, folder: bytes, name: bytes, path: bytes, status: os.stat_result) -> None:
        if folder and folder not in self.found:
            self.note(folder)
        mode, mtime = stat.S_IMODE(status.st_mode), status.st_mtime_ns
        if stat.S_ISREG(status.st_mode):
            if status.st_size and self._rules.withholds(_text(name)):
                raise CannotTell(
                    f"file {shown(path)}: rules of the ignore file bring it back and exclude it again, for which "
                    f"BuildKit sends it without its content; remove one of these rules"
                )
            self._files.append((name, path, status))
        elif stat.S_ISDIR(status.st_mode):
            self.found[name] = Entry(DIRECTORY, mode, xattrs=self._xattrs(path), mtime=mtime)
        elif stat.S_ISLNK(status.st_mode):
            self.found[name] = Entry(LINK, 0, _text(os.readlink(path)), xattrs=self._xattrs(path), mtime=mtime)
        elif stat.S_ISSOCK(status.st_mode):
            self.found[name] = Entry(FILE, mode, _EMPTY, xattrs=self._xattrs(path), mtime=mtime)
        else:
            device = f"{stat.S_IFMT(status.st_mode):o}:{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
            self.found[name] = Entry(SPECIAL, mode, device, xattrs=self._xattrs(path), mtime=mtime)

    def read_files(self) -> None:
        """Read the contents of the files that were noted; large ones side by side: hashlib lets other threads run."""
        if self._known:
            self._files = [file for file in self._files if not self._is_known(*file)]
        large = [file for file in self._files if file[2].st_size >= _LARGE]
        threads = min(_READERS, len(large), len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1)
        if threads > 1:
            large.sort(key=lambda file: file[2].st_size, reverse=True)
            with ThreadPoolExecutor(threads) as pool:
                parts = [pool.submit(self._read, large[number::threads]) for number in range(threads)]
            for part in parts:
                self.found.update(part.result())
            self._files = [file for file in self._files if file[2].st_size < _LARGE]
        self.found.update(self._read(self._files))

    def _is_known(self, name: bytes, _path: bytes, status: os.stat_result) -> bool:
        content = self._known.content(name, status) if self._known else None
        if content is None:
            return False
        mode = stat.S_IMODE(status.st_mode)
        self.found[name] = Entry(FILE, mode, content, status.st_size, "", status.st_mtime_ns)
        return True

    def _read(self, files: Iterable[Tuple[bytes, bytes, os.stat_result]]) -> Tree:
        read: Tree = {}
        buffer = memoryview(bytearray(_CHUNK))
        for name, path, status in files:
            try:
                size, content, xattrs = self._content(path, status.st_size, buffer)
            except OSError as exc:
                exc.filename = path
                raise
            read[name] = Entry(FILE, stat.S_IMODE(status.st_mode), content, size, xattrs, status.st_mtime_ns)
            if self._known and not xattrs and size == status.st_size:
                self._known.note(name, status, content)
        return read

    def _content(self, path: bytes, expected: int, buffer: memoryview) -> Tuple[int, str, str]:
        """Return a file's size, the digest of its content, both of the same reading, and its extended attributes."""
        size, digest = 0, hashlib.sha256()
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            while True:
                count = os.readv(handle, (buffer,))
                digest.update(buffer[:count])
                size += count
                # Of small files one call reads all.
                if not count or (count < len(buffer) and size == expected):
                    return size, digest.hexdigest(), self._xattrs(handle)
        finally:
            os.close(handle)

    def _xattrs(self, file: Union[bytes, int]) -> str:
        # Only Linux has them, and not on each of its file systems.
        if not hasattr(os, "listxattr"):
            return ""
        follow = isinstance(file, int)
        try:
            names = os.listxattr(file, follow_symlinks=follow)
        except OSError:
            return ""
        counted = [name for name in names if name == CAPABILITY or (self._every_xattr and not name.startswith(_LOCAL))]
        values = [(name, os.getxattr(file, name, follow_symlinks=follow)) for name in sorted(counted)]
        return "\0".join(f"{name}={value.hex()}" for name, value in values)


def names_in(root: str) -> List[bytes]:
    """Return the names in a directory itself.

    :raises FarmError: it cannot be read.
    """
    try:
        return os.listdir(os.fsencode(root))
    except OSError as exc:
        raise _unreadable(root, exc) from exc


def _unreadable(root: str, exc: OSError) -> CannotTell:
    return CannotTell(
        f"directory {root}: {shown(os.fsencode(exc.filename or root))} cannot be read: {exc.strerror}; make it "
        f"readable for the user that reads it, or run again if it was changed meanwhile"
    )


def digest(tree: Tree) -> str:
    """Return a digest that two trees share if they are equal: ``sha256:`` and 64 hex digits."""
    rows = [[_text(name), one.kind, one.mode, one.value, one.xattrs] for name, one in tree.items()]
    return "sha256:" + hashlib.sha256(json.dumps(rows).encode("ascii")).hexdigest()


def dump(tree: Tree) -> str:
    """Return a tree as ASCII that ``load`` reads."""
    rows = [[_text(name), one.kind, one.mode, one.value, one.size, one.xattrs, one.mtime] for name, one in tree.items()]
    return base64.b64encode(zlib.compress(json.dumps(rows).encode("ascii"), 1)).decode("ascii")


def load(text: str) -> Tree:
    """Return the tree that ``dump`` wrote.

    :raises FarmError: it is none, or a name in it would lead out of the tree.
    """
    tree: Tree = {}
    try:
        rows = json.loads(inflated(text, _LARGEST))
    except (ValueError, RecursionError) as exc:
        raise FarmError(f"a list of files cannot be read ({exc}); nothing was written") from exc
    for name, *values in rows:
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


def capability(file: Entry) -> bytes:
    """Return what setcap(8) gave a file, empty for nothing."""
    values = dict(one.split("=") for one in file.xattrs.split("\0") if one.startswith(CAPABILITY + "="))
    return bytes.fromhex(values.get(CAPABILITY, ""))


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
        return (found.kind, found.value, found.xattrs) == (wanted.kind, wanted.value, wanted.xattrs)

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
