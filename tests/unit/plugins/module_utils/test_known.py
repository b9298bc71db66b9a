# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Contents that are known and need not be read, and those that are not to be trusted."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, List

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._source import known as _known
from ansible_collections.buildfarm.multiarch.plugins.module_utils._source import tree as _tree
from ansible_collections.buildfarm.multiarch.plugins.module_utils._source.known import KnownContents
from ansible_collections.buildfarm.multiarch.plugins.module_utils._source.tree import Tree, read_tree


class Context:
    """A context of a few files, which notes which of them are read."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.store = folder / "context", str(folder / "notes")
        self.root.mkdir()
        for name in ("a", "b", "c"):
            (self.root / name).write_text(name)
        self.opened: List[str] = []
        opening = os.open

        def noting(path: Any, *rest: Any, **options: Any) -> int:
            if os.path.dirname(os.fsdecode(path)) == str(self.root):
                self.opened.append(os.path.basename(os.fsdecode(path)))
            return opening(path, *rest, **options)

        monkeypatch.setattr(_tree.os, "open", noting)

    def read(self) -> List[str]:
        """Read it with what is known of it; what is found must be what is there. Returns which files were read."""
        self.opened = []
        known = KnownContents(self.store, str(self.root))
        found: Tree = read_tree(str(self.root), known=known)
        known.store()
        read, self.opened = sorted(self.opened), []
        assert found == read_tree(str(self.root))
        return read


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Context:
    made = Context(tmp_path, monkeypatch)
    # So that what was just written counts as settled.
    monkeypatch.setattr(_known, "_SETTLED", -(10**12))
    return made


def test_what_is_untouched_is_not_read_again(context: Context) -> None:
    assert context.read() == ["a", "b", "c"]
    assert context.read() == []
    (context.root / "d").write_text("d")
    assert context.read() == ["d"]
    assert context.read() == []


def test_what_was_touched_is_read_whatever_its_time(context: Context) -> None:
    moment = (1_600_000_000, 1_600_000_000)
    os.utime(context.root / "a", moment)
    context.read()
    for text in ("x", "y"):
        time.sleep(0.02)
        (context.root / "a").write_text(text)
        os.utime(context.root / "a", moment)
        assert context.read() == ["a"]
    time.sleep(0.02)
    (context.root / "b").chmod(0o600)
    os.replace(context.root / "c", context.root / "e")
    assert context.read() == ["b", "e"]


def test_times_may_be_of_any_century(context: Context) -> None:
    """A broken clock, or an archive, gives files times that no 64 bits of nanoseconds hold."""
    moment = 15 * 10**9
    os.utime(context.root / "a", (moment, moment))
    if os.stat(context.root / "a").st_mtime != moment:
        pytest.skip("this file system has no such times")
    # As it is no time in the past, the file is read each time.
    assert [context.read(), context.read()] == [["a", "b", "c"], ["a"]]


def test_what_was_written_a_moment_ago_is_read_again(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be written to once more without another time."""
    monkeypatch.setattr(_known, "_SETTLED", 3_000_000_000)
    assert context.read() == context.read() == ["a", "b", "c"]
    now = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: now + 10_000_000_000)
    assert context.read() == ["a", "b", "c"]
    assert context.read() == []


def test_damaged_notes_and_those_of_others_are_not_believed(context: Context, tmp_path: Path) -> None:
    context.read()
    (note,) = Path(context.store).iterdir()
    assert note.stat().st_mode & 0o777 == 0o600
    content = note.read_bytes()
    for damaged in (b"", content[:-1], content[:-1] + bytes([content[-1] ^ 1]), b"x" + content[1:]):
        note.write_bytes(damaged)
        assert context.read() == ["a", "b", "c"]
        assert context.read() == []
    other = KnownContents(context.store, str(tmp_path))
    assert other.content(b"a", (context.root / "a").lstat()) is None


def test_files_with_attributes_are_read(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "listxattr", lambda _file, **_options: ["user.a"], raising=False)
    monkeypatch.setattr(os, "getxattr", lambda _file, _name, **_options: b"x", raising=False)
    assert context.read() == context.read() == ["a", "b", "c"]


def test_where_nothing_can_be_stored_all_is_read(context: Context, tmp_path: Path) -> None:
    (tmp_path / "notes").touch()
    assert context.read() == context.read() == ["a", "b", "c"]
