# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Names under which contexts are sent: the same as long as nothing could be taken for unchanged."""

from __future__ import annotations

import os
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Dict

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.lock import LockTimeout
from ansible_collections.buildfarm.multiarch.plugins.module_utils._source import notes as _notes
from ansible_collections.buildfarm.multiarch.plugins.module_utils._source import sent as _sent
from ansible_collections.buildfarm.multiarch.plugins.module_utils._source.sent import name_for
from ansible_collections.buildfarm.multiarch.plugins.module_utils._source.tree import DIRECTORY, FILE, Entry, Tree

ONE = Entry(FILE, 0o644, "aa", 3, mtime=7)
TREE: Tree = {b"d": Entry(DIRECTORY, 0o755, mtime=1), b"d/f": ONE}


@pytest.fixture
def store(tmp_path: Path) -> str:
    return str(tmp_path / "state/sent")


@pytest.mark.parametrize(
    ("changed", "same"),
    [
        ({}, True),
        ({b"d/f": replace(ONE, value="bb")}, False),
        ({b"d/f": replace(ONE, xattrs="user.a=00")}, False),
        ({b"d/f": replace(ONE, value="bb", size=4)}, True),
        ({b"d/f": replace(ONE, value="bb", mtime=8)}, True),
        ({b"d/f": replace(ONE, mode=0o600)}, True),
        ({b"d": Entry(DIRECTORY, 0o700, mtime=2)}, False),
        ({b"d": Entry(DIRECTORY, 0o755, mtime=2)}, True),
        ({b"new": replace(ONE, value="bb")}, True),
    ],
)
def test_a_name_stays_while_that_is_safe(store: str, changed: Tree, same: bool) -> None:
    name = name_for(store, "/srv/app", TREE)
    assert re.fullmatch("app-[0-9a-f]{12}", name)
    assert (name_for(store, "/srv/app", {**TREE, **changed}) == name) is same


def test_a_node_may_have_what_was_sent_long_ago(store: str) -> None:
    """It was left out of the builds between."""
    name = name_for(store, "/srv/app", TREE)
    assert name_for(store, "/srv/app", {**TREE, b"d/f": replace(ONE, mtime=8, value="bb")}) == name
    assert name_for(store, "/srv/app", {}) == name
    assert name_for(store, "/srv/app", TREE) == name
    other = name_for(store, "/srv/app", {**TREE, b"d/f": replace(ONE, mtime=8, value="cc")})
    assert other != name
    # What was sent under the old name does not count for the new one.
    assert name_for(store, "/srv/app", {**TREE, b"d/f": replace(ONE, mtime=9)}) == other


def test_contexts_do_not_share_names(store: str) -> None:
    named: Dict[str, Tree] = {"docs=/srv/docs": {b"f": ONE}}
    names = [
        name_for(store, "/srv/a/app", TREE),
        name_for(store, "/srv/b/app", TREE),
        name_for(store, "/srv/b/app", TREE, named),
        name_for(store, "/srv/b/app", TREE, {"docs=/srv/other": {b"f": ONE}}),
    ]
    assert len(set(names)) == 4
    assert name_for(store, "/srv/b/app", TREE, named) == names[2]
    assert name_for(store, "/srv/b/app", TREE, {"docs=/srv/docs": {b"f": replace(ONE, value="bb")}}) != names[2]


@pytest.mark.parametrize(
    ("path", "start"), [("/srv/a b\n", "a-b-"), ("/", "context-"), ("/srv/" + "x" * 200, "x" * 40)]
)
def test_names_are_plain(store: str, path: str, start: str) -> None:
    name = name_for(store, path, TREE)
    assert name.startswith(start) and re.fullmatch("[A-Za-z0-9._-]{1,60}", name)


def test_notes_are_private_and_bounded(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_notes, "CONTEXTS", 3)
    monkeypatch.setattr(_sent, "_MORE", 5)
    names = [name_for(store, f"/srv/{number}", TREE) for number in range(5)]
    notes = [entry for entry in os.scandir(store) if entry.name.endswith(".sent")]
    assert len(notes) == 3 and all(entry.stat().st_mode & 0o777 == 0o600 for entry in notes)
    assert os.stat(store).st_mode & 0o777 == 0o700
    assert name_for(store, "/srv/4", TREE) == names[4]
    assert name_for(store, "/srv/0", TREE) != names[0]
    seen = {name_for(store, "/srv/4", {**TREE, b"d/f": replace(ONE, mtime=number)}) for number in range(50)}
    assert 1 < len(seen) < 10
    assert all(entry.stat().st_size < 1000 for entry in os.scandir(store))


@pytest.mark.parametrize("content", [b"", b"nonsense", _sent._MAGIC, _sent._MAGIC + b"name\n1", b"\xff" * 100])
def test_damaged_notes_are_no_notes(store: str, content: bytes) -> None:
    name = name_for(store, "/srv/app", TREE)
    (note,) = Path(store).glob("*.sent")
    note.write_bytes(content)
    other = name_for(store, "/srv/app", TREE)
    assert other not in (name, "", "name")
    assert name_for(store, "/srv/app", TREE) == other


def test_where_nothing_can_be_noted_each_name_is_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    where = str(tmp_path / "file/sent")
    assert name_for(where, "/srv/app", TREE) != name_for(where, "/srv/app", TREE)

    def held(*_all: object) -> None:
        raise LockTimeout

    monkeypatch.setattr(_sent, "locked", held)
    where = str(tmp_path / "sent")
    assert name_for(where, "/srv/app", TREE) != name_for(where, "/srv/app", TREE)


def test_runs_side_by_side_agree(store: str) -> None:
    start = threading.Barrier(4)

    def ask(_number: int) -> str:
        start.wait()
        return name_for(store, "/srv/app", TREE)

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(ask, range(4)))) == 1
