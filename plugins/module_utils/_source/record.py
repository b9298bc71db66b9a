# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is kept of a tree with the image that was built of it: its digest, and as much as there is room for.

A record is made of JSON types: file by file where all fit, by the digests of directories where they do not. It tells
later what has changed since.
"""

from __future__ import annotations

import base64
import hashlib
import json
import posixpath
import zlib
from collections import Counter
from dataclasses import dataclass
from typing import Any, Dict, Iterable, List, Mapping, Optional, Tuple

from .packing import inflated
from .tree import DIRECTORY, FILE, LINK, Entry, Tree, shown, target

SCHEMA = 1
#: Bytes of a record before it is packed: far more than any that is made here.
LARGEST = 64 << 20
#: Hex digits of digests in a record. They only serve to say what has changed; that something has, the whole one says.
_DIGITS = 8
#: What a name costs in a record beside its own letters, in bytes of its packed form: a file, a closed directory.
_FILE_COST, _FOLDER_COST, _LETTER_COST = 10, 17, 0.7
_LONGEST_TARGET = 200
#: How many lines ``words`` gives, and how many entries with a common change of mode have a line each.
_LINES, _SINGLE_MODES = 10, 3


@dataclass(frozen=True)
class _Digests:
    """Two digests of all that is below a directory, as hex: of everything, and of everything but modes."""

    whole: str
    modeless: str


def digest(tree: Tree) -> str:
    """Return the digest of a tree, 64 hex digits; two trees that BuildKit takes for the same share it."""
    return _summed(tree, _folders(tree))[b""].whole


def compact(tree: Tree, room: int) -> Dict[str, Any]:
    """Return the record of a tree.

    :param room: how many bytes ``packed`` may make of it. Where they are too few for anything else, digests remain.
    """
    folders = _folders(tree)
    digests = _summed(tree, folders)
    record: Dict[str, Any] = {
        "schema": SCHEMA,
        "digest": digests[b""].whole,
        "modeless": digests[b""].modeless[:_DIGITS],
        "modes": dict(_modes(tree)),
        "tree": None,
    }
    share = float(room)
    for _try in range(6):
        record["tree"] = _expanded(tree, folders, digests, share)
        size = len(packed(record))
        if size <= room:
            return record
        share *= 0.95 * room / size
    record["tree"] = None
    return record


def packed(record: Mapping[str, Any]) -> str:
    """Return a record as ASCII: JSON, compressed by zlib, in base64. ``unpacked`` reads it."""
    text = json.dumps(record, separators=(",", ":"), sort_keys=True).encode("ascii")
    return base64.b64encode(zlib.compress(text, 9)).decode("ascii")


def unpacked(text: str) -> Dict[str, Any]:
    """Return the record that ``packed`` wrote.

    :raises ValueError: it is none, or one of another version.
    """
    record = json.loads(inflated(text, LARGEST))
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        raise ValueError("a record of another version")
    return record


def _folders(tree: Tree) -> Dict[bytes, List[bytes]]:
    """Return the names in each directory, the root among them."""
    folders: Dict[bytes, List[bytes]] = {b"": []}
    for name, entry in sorted(tree.items()):
        folders[posixpath.dirname(name)].append(name)
        if entry.kind == DIRECTORY:
            folders[name] = []
    return folders


def _summed(tree: Tree, folders: Mapping[bytes, List[bytes]]) -> Dict[bytes, _Digests]:
    """Return the digests of all directories."""
    found: Dict[bytes, _Digests] = {}
    nothing = _Digests("", "")
    # What is in a directory comes behind it.
    for folder in reversed(list(folders)):
        whole, modeless = [], []
        for name in folders[folder]:
            entry, below = tree[name], found.get(name, nothing)
            row = [shown_as_key(name), entry.kind, entry.value, entry.xattrs]
            modeless.append([*row, below.modeless])
            whole.append([*row, below.whole, entry.mode])
        found[folder] = _Digests(_digest_of(whole), _digest_of(modeless))
    return found


def _digest_of(rows: Any) -> str:
    return hashlib.sha256(json.dumps(rows).encode("ascii")).hexdigest()


def shown_as_key(name: bytes) -> str:
    """Return the last part of a name, so that different ones stay different."""
    return posixpath.basename(name).decode("utf-8", "surrogateescape")


def _modes(tree: Tree) -> Counter[str]:
    return Counter(f"{entry.kind} {entry.mode:04o}" for entry in tree.values() if entry.kind != LINK)


def _expanded(
    tree: Tree, folders: Mapping[bytes, List[bytes]], digests: Mapping[bytes, _Digests], share: float
) -> Optional[Dict[str, Any]]:
    """Return the names in the root, and below it those of the directories that are worth their cost.

    The upper ones come first, and of these the cheaper ones.
    """

    def cost(folder: bytes) -> float:
        return sum(
            len(posixpath.basename(name)) * _LETTER_COST
            + (_FOLDER_COST if tree[name].kind == DIRECTORY else _FILE_COST)
            for name in folders[folder]
        )

    opened: Dict[bytes, Dict[str, Any]] = {}
    level = [b""]
    while level:
        following = []
        for price, folder in sorted((cost(folder), folder) for folder in level):
            if price > share:
                break
            share -= price
            opened[folder] = {shown_as_key(name): _leaf(tree[name], digests.get(name)) for name in folders[folder]}
            if folder:
                parent, key = opened[posixpath.dirname(folder)], shown_as_key(folder)
                parent[key] = [_own(tree[folder]), opened[folder]]
            following += [name for name in folders[folder] if tree[name].kind == DIRECTORY]
        level = following
    return opened.get(b"")


def _own(entry: Entry) -> str:
    """Return what a record holds of an entry itself: its kind, mode and what else counts, shortened."""
    extended = f" {_digest_of(entry.xattrs)[:_DIGITS]}" if entry.xattrs else ""
    return f"{entry.kind[0]}{entry.mode:04o}{extended}"


def _leaf(entry: Entry, below: Optional[_Digests]) -> str:
    if below:
        return f"{_own(entry)}/{below.whole[:_DIGITS]}/{below.modeless[:_DIGITS]}"
    if entry.kind == LINK:
        value = shown(target(entry))
        return f"{_own(entry)}/{value if len(value) <= _LONGEST_TARGET else _digest_of(entry.value)}"
    return f"{_own(entry)}/{entry.value[:_DIGITS] if entry.kind == FILE else entry.value}"


@dataclass(frozen=True)
class Difference:
    """One thing that is another than it was.

    :ivar kind: one of the constants below.
    :ivar name: of what, as shown; that of a directory ends with a slash, the context itself is empty.
    :ivar before: what it was, where that is known and short: a mode, a link's target.
    :ivar after: what it is.
    :ivar count: of how many entries it is told.
    """

    kind: str
    name: str
    before: str = ""
    after: str = ""
    count: int = 1


#: Kinds of differences, most important first.
CHANGED, TYPE, TARGET, NEW, GONE, BELOW, XATTRS, MODE, MODES_BELOW = (
    "changed",
    "type",
    "target",
    "new",
    "gone",
    "below",
    "xattrs",
    "mode",
    "modes below",
)
_ORDER = (CHANGED, TYPE, TARGET, NEW, GONE, BELOW, XATTRS, MODE, MODES_BELOW)
_KINDS = {"f": "a file", "d": "a directory", "l": "a link", "s": "a special file"}


def differences(record: Mapping[str, Any], tree: Tree) -> List[Difference]:
    """Return in what a tree differs from the one that was recorded, as far as the record tells; none if it is the same.

    :raises ValueError: the record is of another version.
    """
    if record.get("schema") != SCHEMA:
        raise ValueError("a record of another version")
    folders = _folders(tree)
    digests = _summed(tree, folders)
    root = digests[b""]
    if record["digest"] == root.whole:
        return []
    found: List[Difference] = []
    if record["tree"] is None:
        only_modes = record["modeless"] == root.modeless[:_DIGITS]
        found.append(Difference(MODES_BELOW if only_modes else BELOW, ""))
    else:
        _compare(record["tree"], b"", tree, folders, digests, found)
    if any(one.kind == MODES_BELOW for one in found):
        found = _with_modes(found, Counter(record["modes"]), _modes(tree))
    # What was shortened too much to tell.
    found = found or [Difference(BELOW, "")]
    return sorted(found, key=lambda one: (_ORDER.index(one.kind), one.name))


def _compare(
    recorded: Mapping[str, Any],
    folder: bytes,
    tree: Tree,
    folders: Mapping[bytes, List[bytes]],
    digests: Mapping[bytes, _Digests],
    found: List[Difference],
) -> None:
    present = {shown_as_key(name): name for name in folders[folder]}
    for key, node in recorded.items():
        opened = isinstance(node, list)
        text = node[0] if opened else node
        name = present.get(key)
        if name is None:
            path = posixpath.join(folder, key.encode("utf-8", "surrogateescape"))
            found.append(Difference(GONE, shown(path) + ("/" if text[0] == "d" else "")))
            continue
        label = shown(name) + ("/" if tree[name].kind == DIRECTORY else "")
        now = _own(tree[name]) if opened else _leaf(tree[name], digests.get(name))
        if text[0] != now[0]:
            found.append(Difference(TYPE, label, _KINDS[text[0]], _KINDS[now[0]]))
            continue
        (own, *values), (own_now, *values_now) = text.split("/"), now.split("/")
        (mode, *extended), (mode_now, *extended_now) = own[1:].split(" "), own_now[1:].split(" ")
        if mode != mode_now:
            found.append(Difference(MODE, label, mode, mode_now))
        if extended != extended_now:
            found.append(Difference(XATTRS, label))
        if opened:
            _compare(node[1], name, tree, folders, digests, found)
        elif values != values_now:
            if text[0] == "d":
                found.append(Difference(MODES_BELOW if values[1] == values_now[1] else BELOW, label))
            elif text[0] == "l":
                found.append(Difference(TARGET, label, "/".join(values), "/".join(values_now)))
            else:
                found.append(Difference(CHANGED, label))
    for key, name in present.items():
        if key not in recorded:
            below = name + b"/"
            is_folder = tree[name].kind == DIRECTORY
            files = sum(other.startswith(below) for other in tree) if is_folder else 0
            found.append(Difference(NEW, shown(name) + ("/" if is_folder else ""), count=1 + files))


def _with_modes(found: List[Difference], before: Counter[str], after: Counter[str]) -> List[Difference]:
    """Say which modes differ in directories whose entries are not recorded, where all of a kind changed alike."""
    lost, gained = before - after, after - before
    told = Counter(f"{one.before} {one.after}" for one in found if one.kind == MODE)
    added = []
    for kind in (FILE, DIRECTORY):
        old = [(key, number) for key, number in lost.items() if key.startswith(kind)]
        new = [(key, number) for key, number in gained.items() if key.startswith(kind)]
        if len(old) != 1 or len(new) != 1 or old[0][1] != new[0][1]:
            if old or new:
                return found
            continue
        (was, number), (now, _number) = old[0], new[0]
        modes = was.split(" ")[1], now.split(" ")[1]
        number -= told[" ".join(modes)]
        if number > 0:
            added.append(Difference(MODE, "/" if kind == DIRECTORY else "", *modes, count=number))
    return [one for one in found if one.kind != MODES_BELOW] + added if added else found


def words(found: Iterable[Difference]) -> List[str]:
    """Return differences in words, most important first, ten lines at most; many of one kind are told in one."""
    lines: List[Tuple[str, int]] = []
    modes: Dict[Tuple[bool, str, str], List[Difference]] = {}
    for one in found:
        if one.kind == MODE:
            modes.setdefault((one.name.endswith("/"), one.before, one.after), []).append(one)
        else:
            lines.append((_in_words(one), 1))
    for (is_folder, before, after), group in modes.items():
        number = sum(one.count for one in group)
        if number <= _SINGLE_MODES and all(one.name.strip("/") for one in group):
            lines += [(f"{one.name} has another mode ({before} → {after})", 1) for one in group]
        else:
            kind = ("directories" if is_folder else "files") if number > 1 else ("directory" if is_folder else "file")
            verb, asked = ("have", ": another umask?") if number > 1 else ("has", "")
            lines.append((f"{number} {kind} {verb} another mode ({before} → {after}){asked}", number))
    if len(lines) <= _LINES:
        return [line for line, _number in lines]
    hidden = sum(number for _line, number in lines[_LINES - 1 :])
    return [line for line, _number in lines[: _LINES - 1]] + [f"… and {hidden} more"]


def _in_words(one: Difference) -> str:
    if one.kind == TYPE:
        return f"{one.name} is {one.after}, was {one.before}"
    if one.kind == TARGET:
        return f"link {one.name} points to {one.after}, pointed to {one.before}"
    if one.kind == NEW:
        return f"{one.name} is new" + (f", with {one.count - 1} names in it" if one.count > 1 else "")
    if one.kind == BELOW:
        return f"something below {one.name} changed" if one.name else "something in the context changed"
    if one.kind == MODES_BELOW:
        return f"modes below {one.name} changed: another umask?" if one.name else "modes changed: another umask?"
    return f"{one.name} " + {CHANGED: "changed", GONE: "is gone", XATTRS: "has other extended attributes"}[one.kind]
