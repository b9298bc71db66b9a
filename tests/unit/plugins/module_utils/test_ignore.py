# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Ignore files: each case is what BuildKit 0.25 made of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import List, Optional

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._source.ignore import (
    NO_RULES,
    CannotTell,
    IgnoreRules,
    ignore_file,
    rules_of,
    way_to,
)
from ansible_collections.buildfarm.multiarch.plugins.module_utils._source.tree import read_tree


def kept(tmp_path: Path, rules: bytes, *names: str) -> List[str]:
    """Return which of some files, and directories that end with a slash, are left."""
    root = tmp_path / "context"
    for name in names:
        path = root / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.write_text("x")
    return [os.fsdecode(name) for name in read_tree(str(root), IgnoreRules.parse(rules))]


@pytest.mark.parametrize(
    ("rules", "names", "left"),
    [
        # Reading.
        (b"a\r\nb", ["a", "b", "c"], ["c"]),
        (b"\xef\xbb\xbfa\n\xef\xbb\xbf#", ["a", "b"], None),
        (b"\xef\xbb\xbfa", ["a", "b"], ["b"]),
        (b"#a\n #b", ["#a", "#b"], ["#a"]),
        (b"  a   \n\xc2\x85b\xc2\xa0", ["a", "b", "c"], ["c"]),
        (b"a\n! a", ["a"], ["a"]),
        (b"*\n!!a", ["!a", "a"], ["!a"]),
        (b"\\!a", ["!a", "a"], ["a"]),
        (b"/a\n./b\nc/\nd//\nx/../e", ["a", "b", "c", "d", "e", "f"], ["f"]),
        (b"../a\n.\n/\n..", ["a"], ["a"]),
        (b"/!a", ["a"], ["a"]),
        (b"\n\n", ["a"], ["a"]),
        # Matching.
        (b"foo", ["foo", "d/foo", "Foo"], ["Foo", "d", "d/foo"]),
        (b"a^b", ["a^b", "ab"], ["ab"]),
        (b"*", ["a", ".b", "c/d"], []),
        (b"?", ["a", "bc"], ["bc"]),
        (b"*/a", ["a", "b/a", "b/c/a"], ["a", "b", "b/c", "b/c/a"]),
        (b"**/foo", ["foo", "xfoo", "d/foo"], ["d", "xfoo"]),
        (b"**foo", ["xfoo", "d/foo", "food"], ["d", "food"]),
        (b"**fo?", ["xfoo", "foo", "d/foo"], ["d", "xfoo"]),
        (b"a**", ["ab/c", "a", "b/a"], ["b", "b/a"]),
        (b"a**b", ["ab", "axx/b", "axb"], ["axb", "axx"]),
        (b"**", ["a", "b/c"], []),
        (b"x/**/y", ["x/y", "x/a/b/y", "x/ay"], ["x", "x/a", "x/a/b", "x/ay"]),
        (b"a/**", ["a/b", "c"], ["a", "c"]),
        (b"a/*", ["a/b/c", "c"], ["a", "c"]),
        (b"a/*/**", ["a/b/c", "a/d"], ["a", "a/b", "a/d"]),
        (b"[ab]", ["a", "c"], ["c"]),
        (b"[a-c]x", ["ax", "dx"], ["dx"]),
        (b"a[^x]b", ["a/b", "axb", "ayb"], ["a", "axb"]),
        (b"[!a]", ["!", "a", "b"], ["b"]),
        (b"[*]", ["*", "]", "[]", "a"], ["*", "a"]),
        (b"[\\]]", ["]", "a"], ["a"]),
        (b"\\*", ["*", "a"], ["a"]),
        (b"a.b", ["a.b", "axb"], ["axb"]),
        (b"a.*", ["a.b", "axb"], ["axb"]),
        (b"(a)*", ["(a)b", "ab"], ["ab"]),
        (b"a^b*", ["a^bc"], ["a^bc"]),
        (b"\xc3\xa4*", ["äb", "b"], ["b"]),
        # Directories and exceptions.
        (b"d\n!d/a", ["d/a", "d/b"], ["d", "d/a"]),
        (b"d\n!d/*/x", ["d/a/x", "d/b/y"], ["d", "d/a", "d/a/x"]),
        (b"d\n!**/*.md", ["d/e/a.md", "d/b"], ["d", "d/e", "d/e/a.md"]),
        (b"d/f\n!d", ["d/f", "d/g"], ["d", "d/g"]),
        (b"d/f\n!d/**", ["d/f", "d/g"], ["d", "d/f", "d/g"]),
        (b"d\n!d", ["d/f"], ["d", "d/f"]),
        (b"*\n!d\nd/e", ["d/e/f", "d/g", "h"], ["d", "d/g"]),
        (b"d\n!e/f", ["d/f", "e/f"], ["e", "e/f"]),
        (b"d/**\n!d/e/**", ["d/e/f", "d/g/h"], ["d", "d/e", "d/e/f"]),
        (b"*\n!d/", ["d/e/", "f/"], ["d", "d/e"]),
    ],
)
def test_what_is_left(tmp_path: Path, rules: bytes, names: List[str], left: Optional[List[str]]) -> None:
    if left is None:
        with pytest.raises(CannotTell):
            IgnoreRules.parse(rules)
    else:
        assert kept(tmp_path, rules, *names) == left


@pytest.mark.parametrize("line", ["!", "! ", "!/", "a[", "[]a]", "a\\", "a\\ ", "[^]", "[^-a]", "[a-]", "*["])
def test_what_buildkit_refuses_is_refused(line: str) -> None:
    with pytest.raises(FarmError, match=r"^x/\.dockerignore, line 3: .*BuildKit refuses") as caught:
        IgnoreRules.parse(f"a\n#\n{line}\nb".encode(), "x/.dockerignore")
    assert not isinstance(caught.value, CannotTell)


@pytest.mark.parametrize(
    "line",
    [
        "\\d",
        "\\a",
        "\\ä",
        "[z-a]",
        "x*/[",
        "x*[a-]",
        "[[:alpha:]]",
        "a\ra",
        "a\x01",
        "a\r/",
        "[\\w]",
        "a" * 65536,
        "a\ufeff",
    ],
)
def test_of_what_is_exotic_nothing_is_said(line: str) -> None:
    with pytest.raises(CannotTell, match=r"^\.dockerignore, line 1: "):
        IgnoreRules.parse(line.encode())
    with pytest.raises(CannotTell):
        IgnoreRules.parse(b"\xff*")


def test_a_file_that_arrives_without_its_content_is_told(tmp_path: Path) -> None:
    assert kept(tmp_path, b"d\n!d/b\nd", "d/e/") == []
    with pytest.raises(CannotTell, match="context/d/b: rules of the ignore file bring it back and exclude it again"):
        kept(tmp_path, b"d\n!d/b\nd", "d/b")
    # Nothing is lost of an empty one.
    (tmp_path / "context/d/b").write_text("")
    assert kept(tmp_path, b"d\n!d/b\nd") == ["d", "d/b"]


def test_no_rules_leave_everything() -> None:
    assert not NO_RULES
    assert not IgnoreRules.parse(b"# a\n")
    assert IgnoreRules.parse(b"a")
    assert NO_RULES.excludes("a") == (False, [])


def test_which_file_counts(tmp_path: Path) -> None:
    context, beside = tmp_path / "context", tmp_path / "beside"
    for folder in (context, beside):
        folder.mkdir()
    own = context / ".dockerignore"
    assert ignore_file(str(context), str(beside / "Dockerfile")) is None
    assert rules_of(str(context)) is NO_RULES
    own.write_text("a")
    assert ignore_file(str(context), str(beside / "Dockerfile")) == ignore_file(str(context)) == str(own)
    # One of the Dockerfile's own counts, even an empty one; it is looked for beside the Dockerfile.
    (context / "Dockerfile.dockerignore").touch()
    (beside / "x.dockerignore").touch()
    assert rules_of(str(context), str(beside / "Dockerfile"))
    assert not rules_of(str(context), str(context / "Dockerfile"))
    assert not rules_of(str(context), str(beside / "x"))
    assert ignore_file(str(context)) == str(own)
    # buildx uses this one where the usual is missing.
    (context / "dockerfile").touch()
    (context / "dockerfile.dockerignore").touch()
    assert ignore_file(str(context), str(context / "Dockerfile")) == str(context / "dockerfile.dockerignore")
    (context / "Dockerfile").touch()
    assert ignore_file(str(context), str(context / "Dockerfile")) == str(context / "Dockerfile.dockerignore")


def test_links_to_an_ignore_file_stay_in_its_directory(tmp_path: Path) -> None:
    root = tmp_path / "context"
    (root / "sub").mkdir(parents=True)
    (tmp_path / "rules").write_text("a")
    link = root / ".dockerignore"
    for target, found in (
        ("rules", None),
        ("sub/rules", ["sub", "sub/rules"]),
        ("/sub/rules", ["sub", "sub/rules"]),
        ("../sub/./rules", ["sub", "sub/rules"]),
        ("../rules", None),
        ("sub", None),
        (".dockerignore", None),
        ("sub/rules/x", None),
    ):
        (root / "sub/rules").write_text("b")
        if link.is_symlink():
            link.unlink()
        link.symlink_to(target)
        assert ignore_file(str(root)) == (str(root / "sub/rules") if found else None), target
        assert way_to(str(root), ".dockerignore") == ([".dockerignore", *found] if found else [])


def test_an_ignore_file_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".dockerignore").touch()

    def denied(*_all: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", denied)
    with pytest.raises(CannotTell, match="dockerignore cannot be read: Permission denied"):
        rules_of(str(tmp_path))


@pytest.mark.parametrize(
    ("rules", "folder", "entered"),
    [
        (b"d", "d", False),
        (b"d\n!e/f", "d", False),
        (b"d\n!d/e/f", "d", True),
        (b"d\n!d/e/f", "d/e", True),
        (b"d\n!d/e/f", "d/f", False),
        (b"d\n!e/**", "d", False),
        (b"d\n!e/*", "d", False),
        (b"d\n!d/**", "d", True),
        (b"d\n!e/*/f", "d", True),
        (b"d\n!e^", "d", True),
        (b"*/x\nd", "d", False),
    ],
)
def test_which_excluded_directories_are_searched(rules: bytes, folder: str, entered: bool) -> None:
    assert IgnoreRules.parse(rules).enters(folder) is entered


def test_a_line_that_gos_reader_would_not_take_is_not_judged() -> None:
    IgnoreRules.parse(b"#" + b"x" * 65533)
    with pytest.raises(CannotTell, match="the line is too long"):
        IgnoreRules.parse(b"#" + b"x" * 65534)
