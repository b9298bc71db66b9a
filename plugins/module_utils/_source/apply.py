# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A build context on a host, synchronised with a directory of the Ansible machine.

The action plugin reads the source and has the module report what the host has, once; only what differs is sent.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import tarfile
from pathlib import Path
from typing import Any, Dict, Iterable, List, Optional, Sequence, Set

from .._core.environment import expanded
from .._core.errors import FarmError
from .._core.files import read_bytes, write_atomically
from .._core.outcome import Outcome
from .._core.runner import Runner
from .ignore import CannotTell, ignore_file, rules_of, spelled, way_to
from .transfer import apply, read_wanted
from .tree import (
    FILE,
    SPECIAL,
    Changes,
    Tree,
    digest,
    dump,
    dump_names,
    listed,
    load_names,
    names_in,
    read_names,
    read_tree,
    shown,
)

#: How many names an error lists.
_NAMED = 5


def find_source(source: str, folders: Sequence[str]) -> str:
    """Return the absolute path of a source directory.

    :param folders: where a relative one is searched, in this order.
    :raises FarmError: there is no such directory; it names all that were searched.
    """
    candidates = list(dict.fromkeys(os.path.normpath(os.path.join(folder, source)) for folder in folders))
    if os.path.isabs(source):
        candidates = [os.path.normpath(source)]
    for candidate in candidates if source else ():
        if os.path.isdir(candidate):
            return candidate
    raise FarmError(
        f"source {source!r}: no such directory on the Ansible machine; searched {', '.join(candidates)}; make one of "
        f"these, or give an absolute path"
    )


def read_source(path: str, dockerfiles: Sequence[str] = ("Dockerfile",), send_ignored: bool = False) -> Tree:
    """Return the tree of a source directory, as it is to be sent.

    :param dockerfiles: what it is built with, paths relative to it; none for one that is not in a file. What the ignore
        file of each excludes is not sent, but these files are, as they do not travel with the context in a build.
    :param send_ignored: whether everything is sent.
    :raises FarmError: something in it cannot be read or sent, or an ignore file is wrong.
    """
    try:
        tree = read_tree(path, every_xattr=False) if send_ignored else _seen(path, dockerfiles)
    except CannotTell:
        # Rather too much than too little: what BuildKit makes of the rules is seen in the build.
        tree = read_tree(path, every_xattr=False)
    special = [name for name, entry in tree.items() if entry.kind == SPECIAL]
    if special:
        raise FarmError(
            f"source {path}: {', '.join(listed(special, _NAMED))}: found a device or a FIFO, wanted files, directories "
            f"and links; remove it, or name it in .dockerignore, and make it in the Dockerfile where the image needs it"
        )
    return tree


def _seen(path: str, dockerfiles: Sequence[str]) -> Tree:
    """Return what builds with these Dockerfiles see of a source, and the files that decide it."""
    inside = [name for name in map(posixpath.normpath, dockerfiles) if not name.startswith(("/", "../"))]
    places: List[Optional[str]] = [os.path.join(path, name) for name in inside]
    if len(inside) < len(dockerfiles) or not places:
        places.append(None)
    tree: Tree = {}
    # Of several with the same ignore file the context is read once.
    for place in {ignore_file(path, place): place for place in places}.values():
        tree.update(read_tree(path, rules_of(path, place), every_xattr=False))
    needed = [os.fsencode(name) for name in _needed(path, inside)]
    return dict(sorted({**read_names(path, needed), **tree}.items()))


def _needed(path: str, dockerfiles: Sequence[str]) -> List[str]:
    """Return the Dockerfiles of a source and their ignore files, with the links on the way to them."""
    needed = way_to(path, ".dockerignore")
    for dockerfile in dockerfiles:
        folder, name = posixpath.split(dockerfile)
        name = spelled(os.path.join(path, folder), name)
        for file in (name, f"{name}.dockerignore"):
            needed += way_to(path, posixpath.join(folder, file))
    return needed


def check_foreign(path: str, extra: Iterable[bytes], owned: Iterable[bytes]) -> None:
    """Make sure that nothing is removed from a context that was not sent there.

    :param extra: names in it that the source does not have.
    :param owned: the names that were sent.
    :raises FarmError: something would be.
    """
    foreign = sorted(set(extra).difference(owned))
    if foreign:
        raise FarmError(
            f"context {path}: found {', '.join(listed(foreign, _NAMED))}, which the source does not have or its ignore "
            f"file leaves out, and which were not sent there; wanted a directory of its own for these sources; remove "
            f"what is no longer needed, name another directory, or set force to have it removed"
        )


def outcome(path: str, exists: bool, source: str, changes: Changes) -> Outcome:
    """Return the result of a run that makes these changes.

    :param exists: whether the context's directory is there.
    """
    wanted = changes.wanted
    return Outcome(
        before=changes.as_state(changes.found),
        after=changes.as_state(wanted),
        actions=[*([] if exists else [["create", path]]), *changes.as_actions()],
        values={
            "context": {
                "path": path,
                "source": source,
                "digest": digest(wanted),
                "files": sum(entry.kind == FILE for entry in wanted.values()),
                "size": sum(entry.size for entry in wanted.values()),
            }
        },
    )


class _Record:
    """Which names in a context were sent there.

    It is stored in the user's state directory: all that is in the context itself gets into builds.
    """

    def __init__(self, context: str) -> None:
        state = os.environ.get("XDG_STATE_HOME") or expanded("~/.local/state")
        # No part of a path may be longer than 255 bytes, so it is not the context's own, quoted.
        name = hashlib.sha256(os.fsencode(context)).hexdigest()
        self._path = Path(state) / "buildfarm" / "contexts" / f"{name}.json"

    def read(self) -> Set[bytes]:
        """Return the names; none where nothing was sent yet, or what is recorded cannot be read."""
        try:
            content = read_bytes(self._path) or b""
            return set(load_names(content.decode("ascii")))
        except (OSError, ValueError):
            return set()

    def write(self, names: Set[bytes]) -> None:
        """Store the names.

        :raises OSError: they cannot be stored.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self._path, dump_names(sorted(names)).encode("ascii"), mode=0o600)


def build_context(params: Dict[str, Any], check_mode: bool, runner: Runner) -> Dict[str, Any]:
    """The logic of the module ``build_context``, the host's part.

    Without an archive it says what is there; with one it makes the context what the archive says.
    """
    path = _destination(params["dest"])
    record = _Record(path)
    request, force = params["request"] or {}, params["force"]
    if "archive" in request:
        _receive(path, record, force, request["archive"])
        return {}
    if request["identity"] == identity(path):
        # Nothing of the source is removed because a build does not see it.
        return {"path": path, "exists": True}
    return _look(path, record, force, request["digest"], load_names(request["top"]))


def identity(path: str) -> str:
    """Return what tells whether a directory is another one; empty where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return ""
    return f"{found.st_ino}:{found.st_ctime_ns}"


def _look(path: str, record: _Record, force: bool, wanted: str, names: List[bytes]) -> Dict[str, Any]:
    """Return what is in a context.

    :param wanted: the digest of the source; if the context has it too, that is all there is to say.
    :param names: those in the source itself.
    """
    exists, owned = os.path.isdir(path), record.read()
    if exists and not force:
        # Before all is read: a directory that was named by mistake may be a large one.
        check_foreign(path, set(names_in(path)).difference(names), owned)
    found = read_tree(path, every_xattr=False) if exists else {}
    found_path: Dict[str, Any] = {"path": path, "exists": exists}
    if digest(found) == wanted:
        return found_path
    # Results go through JSON that must be text, which names need not be.
    return {**found_path, "tree": dump(found), "owned": dump_names(owned)}


def _receive(path: str, record: _Record, force: bool, sent: str) -> None:
    exists, owned = os.path.isdir(path), record.read()
    found = read_tree(path, every_xattr=False) if exists else {}
    try:
        with tarfile.open(sent, "r:") as archive:
            wanted = read_wanted(archive)
            changes = Changes.between(found, wanted)
            if not force:
                check_foreign(path, changes.removed, owned)
            # Before the first change: a run that is cut short must not leave names that count as somebody else's.
            record.write({*owned.intersection(found), *wanted})
            if not exists:
                os.makedirs(path)
            apply(archive, path, changes)
            record.write(set(wanted))
    except OSError as exc:
        # A full disk, for one, names none.
        name = shown(os.fsencode(exc.filename or path))
        raise FarmError(
            f"context {path}: {name} cannot be written: {exc.strerror}; what was sent so far stays, and a re-run "
            f"continues"
        ) from exc
    differing = Changes.between(read_tree(path, every_xattr=False), wanted)
    if differing:
        names = sorted({*differing.added, *differing.changed, *differing.removed})
        raise FarmError(
            f"context {path}: differs from the source after it was sent: {', '.join(listed(names, _NAMED))}; the "
            f"source or the context was changed meanwhile, or this user may not set such a mode; run again"
        )


def _destination(text: str) -> str:
    """Return the real path of a context.

    :raises FarmError: it is one that must never be emptied.
    """
    path = os.path.normpath(text)
    if not os.path.isabs(path):
        raise FarmError(f"context {text!r}: wanted an absolute path on this host, or one that begins with ~")
    if os.path.islink(path):
        raise FarmError(f"context {path}: found a link to {os.path.realpath(path)}; name the directory itself")
    real = os.path.realpath(path)
    if real == "/" or real == os.path.realpath(os.path.expanduser("~")):
        raise FarmError(f"context {real}: found a home directory or the root; wanted a directory of its own")
    if os.path.lexists(real) and not os.path.isdir(real):
        raise FarmError(f"context {real}: found something else than a directory there; remove it, or name another")
    return real
