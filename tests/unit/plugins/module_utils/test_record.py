# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Records of trees: how much room they take, and what they tell of a later tree."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any, Dict, List

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._source.record import (
    compact,
    differences,
    digest,
    packed,
    unpacked,
    words,
)
from ansible_collections.buildfarm.multiarch.plugins.module_utils._source.tree import (
    DIRECTORY,
    FILE,
    LINK,
    SPECIAL,
    Entry,
    Tree,
)

ROOM = 20_000


def file(content: str = "x", mode: int = 0o644, **more: Any) -> Entry:
    return Entry(FILE, mode, hashlib.sha256(content.encode()).hexdigest(), len(content), **more)


def folder(mode: int = 0o755) -> Entry:
    return Entry(DIRECTORY, mode)


def small() -> Tree:
    return {
        b"Dockerfile": file(),
        b"current": Entry(LINK, 0, "releases/1"),
        b"docs": folder(),
        b"docs/a.md": file(),
        b"docs/b.md": file(),
        b"src": folder(),
        b"src/main.c": file("main"),
        b"src/sub": folder(),
        b"src/sub/x.so": file("x", 0o755),
    }


def large(folders: int = 30, files: int = 400) -> Tree:
    tree: Tree = {}
    for number in range(folders):
        tree[b"d%02d" % number] = folder()
        for other in range(files):
            tree[b"d%02d/%04d" % (number, other)] = file(f"{number}-{other}")
    return tree


def told(before: Tree, after: Tree, room: int = ROOM) -> List[str]:
    """What is said of a change, once the record was written and read."""
    record = compact(before, room)
    assert len(packed(record)) <= room
    return words(differences(unpacked(packed(record)), after))


def with_(tree: Tree, **entries: Any) -> Tree:
    changed = {**tree, **{name.encode(): entry for name, entry in entries.items()}}
    return dict(sorted((name, entry) for name, entry in changed.items() if entry is not None))


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ({}, []),
        ({"src/main.c": file("other")}, ["src/main.c changed"]),
        ({"docs/c.md": file()}, ["docs/c.md is new"]),
        ({"docs/b.md": None}, ["docs/b.md is gone"]),
        ({"current": Entry(LINK, 0, "releases/2")}, ["link current points to releases/2, pointed to releases/1"]),
        ({"src/main.c": file("main", 0o755)}, ["src/main.c has another mode (0644 → 0755)"]),
        ({"docs": folder(0o700)}, ["docs/ has another mode (0755 → 0700)"]),
        ({"docs/a.md": Entry(LINK, 0, "b.md")}, ["docs/a.md is a link, was a file"]),
        ({"docs/a.md": folder()}, ["docs/a.md/ is a directory, was a file"]),
        ({"new": folder(), "new/a": file(), "new/b": file()}, ["new/ is new, with 2 names in it"]),
        ({"src/sub": None, "src/sub/x.so": None}, ["src/sub/ is gone"]),
        ({"src/sub/x.so": file("x", 0o755, xattrs="user.a=00")}, ["src/sub/x.so has other extended attributes"]),
        ({"docs/a.md": Entry(SPECIAL, 0o644, "10000:0:0")}, ["docs/a.md is a special file, was a file"]),
        (
            {"docs/a.md": file("o", 0o600), "docs/b.md": None, "a": file(), "current": Entry(LINK, 0, "x")},
            [
                "docs/a.md changed",
                "link current points to x, pointed to releases/1",
                "a is new",
                "docs/b.md is gone",
                "docs/a.md has another mode (0644 → 0600)",
            ],
        ),
    ],
)
def test_what_is_told_of_a_small_context(entries: Dict[str, Any], expected: List[str]) -> None:
    assert told(small(), with_(small(), **entries)) == expected
    assert (digest(small()) == digest(with_(small(), **entries))) is not bool(expected)


def test_a_umask_is_told_in_one_line() -> None:
    def masked(tree: Tree) -> Tree:
        return {
            name: dataclasses.replace(one, mode=one.mode | 0o020 * (one.kind != LINK)) for name, one in tree.items()
        }

    assert told(small(), masked(small())) == [
        "4 files have another mode (0644 → 0664): another umask?",
        "docs/ has another mode (0755 → 0775)",
        "src/ has another mode (0755 → 0775)",
        "src/sub/ has another mode (0755 → 0775)",
        "src/sub/x.so has another mode (0755 → 0775)",
    ]
    assert told(large(), masked(large()), 2000) == [
        "12000 files have another mode (0644 → 0664): another umask?",
        "30 directories have another mode (0755 → 0775): another umask?",
    ]
    partly = with_(large(), **{"d03/0003": file("3-3", 0o600), "d04/0003": file("4-3", 0o640)})
    assert told(large(), partly, 2000) == [
        "modes below d03/ changed: another umask?",
        "modes below d04/ changed: another umask?",
    ]


def test_of_a_large_context_directories_are_told() -> None:
    changed = with_(large(), **{"d03/0003": file("other"), "d30": folder()})
    assert told(large(), changed, 2000) == ["d30/ is new", "something below d03/ changed"]
    assert told(large(), changed, 300) == ["something in the context changed"]
    assert told(large(), with_(large(), **{"d03/0003": file("3-3", 0o600)}), 300) == [
        "1 file has another mode (0644 → 0600)"
    ]
    # The cheaper directories first, so that one huge one does not hide the others.
    mixed = {**large(1, 20_000), b"src": folder(), b"src/a": file()}
    assert told(dict(sorted(mixed.items())), with_(mixed, **{"src/a": file("other")})) == ["src/a changed"]


@pytest.mark.parametrize("room", [400, 2000, 20_000, 32_768])
@pytest.mark.parametrize("shape", [(1, 10), (30, 400), (1, 20_000), (1000, 3)])
def test_records_keep_to_their_room(room: int, shape: Any) -> None:
    record = compact(large(*shape), room)
    assert len(packed(record)) <= room
    assert json.loads(json.dumps(record)) == record == unpacked(packed(record))
    # What can be told in that much room is.
    assert record["tree"] is not None or room < 20_000
    # Where everything fits, nothing is left out.
    if shape == (1, 10):
        assert record["tree"]["d00"][1]["0003"].startswith("f0644/")


@pytest.mark.parametrize("room", [0, 10, 200])
def test_where_there_is_no_room_digests_remain(room: int) -> None:
    record = compact(small(), room)
    assert record["tree"] is None and record["digest"] == digest(small())
    assert list(differences(record, small())) == []
    changed = with_(small(), **{"docs/a.md": file("o")})
    assert words(differences(record, changed)) == ["something in the context changed"]


def test_many_differences_are_counted() -> None:
    names = {f"docs/{number:03}": file() for number in range(50)}
    lines = told(small(), with_(small(), **names))
    assert (len(lines), lines[0], lines[-1]) == (10, "docs/000 is new", "… and 41 more")


def test_names_and_targets_may_be_anything() -> None:
    odd: Tree = {b"\xff\n": file(), "ä/".encode()[:-1]: folder(), b"l": Entry(LINK, 0, "x" * 5000)}
    assert told(odd, odd) == []
    assert told(odd, {**odd, b"\xff\n": file("y")}) == ["\\xff\n changed"]
    assert told(odd, {}) == ["\\xff\n is gone", "l is gone", "ä/ is gone"]
    assert len(told(odd, {**odd, b"l": Entry(LINK, 0, "x" * 4999)})) == 1
    assert told({}, odd)[0].endswith("is new")


def test_digests_tell_what_counts() -> None:
    different: List[Tree] = [
        {},
        {b"a": file()},
        {b"b": file()},
        {b"a": file("y")},
        {b"a": file(mode=0o600)},
        {b"a": file(xattrs="user.a=00")},
        {b"a": folder()},
        {b"a": Entry(LINK, 0, "x")},
        {b"a": folder(), b"a/b": file()},
        {b"a": folder(), b"a/b": folder()},
        {b"a": folder(), b"b": file()},
    ]
    digests = [digest(tree) for tree in different]
    assert len(set(digests)) == len(different)
    assert all(len(one) == 64 for one in digests)
    assert digest({b"a": file(mtime=1)}) == digest({b"a": file(mtime=2)})


@pytest.mark.parametrize("text", ["", "?", "eJw=", packed({"schema": 99}), packed(["schema"])])  # type: ignore[arg-type]
def test_what_is_no_record_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        unpacked(text)
    with pytest.raises(ValueError):
        differences({"schema": 99}, {})
