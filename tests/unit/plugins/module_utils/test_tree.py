# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Trees: read as they are, compared, packed and applied to another directory."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import os
import socket
import tarfile
from pathlib import Path
from typing import Any, Callable, Dict

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._source import tree as _tree
from ansible_collections.buildfarm.multiarch.plugins.module_utils._source.ignore import CannotTell, IgnoreRules
from ansible_collections.buildfarm.multiarch.plugins.module_utils._source.transfer import (
    apply,
    read_wanted,
    write_archive,
)
from ansible_collections.buildfarm.multiarch.plugins.module_utils._source.tree import (
    DIRECTORY,
    FILE,
    LINK,
    SPECIAL,
    Changes,
    Entry,
    Tree,
    capability,
    digest,
    dump,
    dump_names,
    load,
    load_names,
    read_names,
    read_tree,
    shown,
)

ODD = [b"-rf", b"two words", b"a\nb", b"*", "äß€".encode(), b"\xff\xfe", b".hidden", b"..."]


def mirrored(source: Path, destination: Path) -> Changes:
    """Make the destination what the source is; returns what that took."""
    changes = Changes.between(read_tree(str(destination)), read_tree(str(source)))
    stream = io.BytesIO()
    write_archive(stream, str(source), changes)
    stream.seek(0)
    with tarfile.open(fileobj=stream) as archive:
        assert list(read_wanted(archive)) == list(changes.wanted)
        apply(archive, str(destination), changes)
    assert read_tree(str(destination)) == changes.wanted
    return changes


def mode(path: Path) -> int:
    return path.lstat().st_mode & 0o7777


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.mkdir()
    return path


@pytest.fixture
def destination(tmp_path: Path) -> Path:
    path = tmp_path / "destination"
    path.mkdir()
    return path


def test_links_are_read_and_never_followed(source: Path) -> None:
    (source / "etc").mkdir()
    (source / "etc/hostname").symlink_to("/etc/hostname")
    (source / "cfg").symlink_to("etc")
    (source / "dangling").symlink_to("no where")
    (source / "up").symlink_to("..")
    found = {name: (entry.kind, entry.value) for name, entry in read_tree(str(source)).items()}
    assert found == {
        b"cfg": (LINK, "etc"),
        b"dangling": (LINK, "no where"),
        b"etc": (DIRECTORY, ""),
        b"etc/hostname": (LINK, "/etc/hostname"),
        b"up": (LINK, ".."),
    }


def test_special_files_are_told_from_files(source: Path) -> None:
    os.mkfifo(source / "fifo")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(source / "sock"))
    (source / "empty").touch(0o755)
    (source / "sock").chmod(0o755)
    (source / "empty").chmod(0o755)
    tree = read_tree(str(source))
    assert tree[b"fifo"].kind == SPECIAL
    assert tree[b"sock"] == tree[b"empty"]


def test_what_cannot_be_read_is_named(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (source / "sub").mkdir()
    (source / "sub/secret").write_text("shh")

    def denied(path: bytes, *rest: Any) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(_tree.os, "open", denied)
    with pytest.raises(FarmError, match="sub/secret cannot be read: Permission denied"):
        read_tree(str(source))


def test_any_name_survives_text(source: Path) -> None:
    for name in ODD:
        Path(os.fsdecode(os.fsencode(source) + b"/" + name)).write_bytes(name)
    tree = read_tree(str(source))
    assert set(tree) == set(ODD)
    text = dump(tree)
    assert text.isascii()
    assert load(text) == tree
    names = dump_names(ODD)
    assert names.isascii()
    assert load_names(names) == ODD
    assert shown(b"\xff\xfe") == "\\xff\\xfe"


def test_a_tree_that_would_fill_the_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_tree, "_LARGEST", 900)
    tree = {b"a" * 300: Entry(FILE, 0o644), b"b" * 300: Entry(FILE, 0o644)}
    assert load(dump(tree)) == tree
    with pytest.raises(FarmError, match="more than 900 bytes"):
        load(dump({**tree, b"c" * 300: Entry(FILE, 0o644)}))


@pytest.mark.parametrize(
    "name", [b"../up", b"/etc/passwd", b"a/../../b", b"a/b", b"..", b".", b"", b"l/x", b"d//x", b"a\0b"]
)
def test_names_that_lead_out_of_a_tree_are_refused(name: bytes) -> None:
    text = dump({b"d": Entry(DIRECTORY, 0o755), b"l": Entry(LINK, 0, "/etc"), name: Entry(FILE, 0o644)})
    with pytest.raises(FarmError, match="does not belong to a tree"):
        load(text)


def test_a_digest_tells_all_but_times() -> None:
    file = Entry(FILE, 0o644, "aa", 1, mtime=1)
    different = [
        {b"a": Entry(FILE, 0o755, "aa", 1)},
        {b"a": Entry(FILE, 0o644, "bb", 1)},
        {b"b": file},
        {b"a": file, b"b": file},
        {b"a": Entry(LINK, 0o644, "aa")},
        {b"a": Entry(FILE, 0o644, "aa", 1, "01")},
        {},
    ]
    digests = {digest(tree) for tree in different}
    assert len(digests) == len(different)
    assert digest({b"a": file}) not in digests
    assert digest({b"a": file}) == digest({b"a": Entry(FILE, 0o644, "aa", 1, mtime=2)})


def test_content_modes_links_and_times_arrive(source: Path, destination: Path) -> None:
    (source / "empty").mkdir()
    (source / "empty").chmod(0o1777)
    (source / "closed").mkdir()
    (source / "closed/su").write_bytes(b"\0" * 3_000_000)
    (source / "closed/su").chmod(0o4711)
    (source / "closed").chmod(0o500)
    (source / "hard").write_text("hard")
    os.link(source / "hard", source / "link")
    (source / "soft").symlink_to("/nowhere")
    os.utime(source / "hard", ns=(1, 1_600_000_000_123_456_789))
    os.utime(source / "empty", ns=(1, 1_500_000_000_000_000_000))
    mirrored(source, destination)
    assert mode(destination / "closed/su") == 0o4711
    assert (mode(destination / "empty"), mode(destination / "closed")) == (0o1777, 0o500)
    assert os.readlink(destination / "soft") == "/nowhere"
    assert (destination / "link").read_text() == "hard"
    assert (destination / "hard").stat().st_mtime_ns == 1_600_000_000_123_456_789
    assert (destination / "empty").stat().st_mtime_ns == 1_500_000_000_000_000_000
    assert not mirrored(source, destination)
    # Below a directory that its owner may not write.
    (source / "closed").chmod(0o700)
    (source / "closed/su").unlink()
    (source / "closed/new").touch()
    (source / "closed").chmod(0o500)
    assert mirrored(source, destination).as_actions() == [["remove", "closed/su"], ["add", "closed/new"]]
    for folder in (source, destination):
        (folder / "closed").chmod(0o700)


def file(path: Path) -> None:
    path.write_text("a file")


def directory(path: Path) -> None:
    (path / "sub").mkdir(parents=True)
    (path / "sub/file").write_text("in it")


def link(path: Path) -> None:
    path.symlink_to("elsewhere")


def other_link(path: Path) -> None:
    path.symlink_to("/")


def nothing(path: Path) -> None:
    pass


KINDS = [file, directory, link, other_link, nothing]


@pytest.mark.parametrize("before", KINDS)
@pytest.mark.parametrize("after", KINDS)
def test_a_name_becomes_anything(
    source: Path, destination: Path, before: Callable[[Path], None], after: Callable[[Path], None]
) -> None:
    before(destination / "name")
    after(source / "name")
    changes = mirrored(source, destination)
    assert bool(changes) == (before is not after)


def test_what_a_link_points_to_and_other_names_of_a_file_are_left(
    source: Path, destination: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").write_text("kept")
    (destination / "tree").symlink_to(kept)
    (destination / "file").symlink_to(kept / "file")
    os.link(kept / "file", destination / "hard")
    (source / "tree").mkdir()
    for name in ("tree/file", "file", "hard"):
        (source / name).write_text("new")
    mirrored(source, destination)
    assert [path.name for path in kept.iterdir()] == ["file"]
    assert (kept / "file").read_text() == "kept"


def test_new_content_gets_a_new_time_however_often(source: Path, destination: Path) -> None:
    """What BuildKit has may be any content that was there before."""
    times = []
    for text in ("one", "two", "ten"):
        (source / "file").write_text(text)
        os.utime(source / "file", (1_600_000_000, 1_600_000_000))
        mirrored(source, destination)
        times.append((destination / "file").stat().st_mtime_ns)
    assert times[0] == 1_600_000_000_000_000_000
    assert times == sorted(set(times))
    os.utime(source / "file", (1_700_000_000, 1_700_000_000))
    assert not Changes.between(read_tree(str(destination)), read_tree(str(source)))


def test_only_new_content_is_sent(source: Path, destination: Path) -> None:
    for name in ("same", "mode", "content"):
        (source / name).write_text(name)
    mirrored(source, destination)
    (source / "mode").chmod(0o600)
    (source / "content").write_text("changed")
    changes = mirrored(source, destination)
    assert changes.contents == [b"content"]
    assert changes.as_actions() == [["change", "content", "mode"]]
    assert list(changes.as_state(changes.found)) == ["content", "mode"]
    assert changes.as_state(changes.wanted)["mode"].startswith("file, mode 0600, 4 bytes, sha256:")


def test_many_names_are_not_all_listed() -> None:
    wanted: Tree = {b"%05d" % number: Entry(FILE, 0o644) for number in range(1000)}
    changes = Changes.between({}, wanted)
    (added,) = changes.as_actions()
    assert added[-1] == "… and 800 more"
    state: Dict[str, Any] = changes.as_state(wanted)
    assert (len(state), state["… and 800 more"]) == (201, "not shown")
    assert changes.as_state({}) == {}
    few: Tree = {b"%05d" % number: Entry(FILE, 0o644) for number in range(200)}
    (shown_all,) = Changes.between({}, few).as_actions()
    assert shown_all == ["add", *(f"{number:05d}" for number in range(200))]
    assert len(Changes.between({}, few).as_state(few)) == 200


@pytest.mark.parametrize("text", ["short", None])
def test_a_source_that_changes_meanwhile_is_told(source: Path, destination: Path, text: str) -> None:
    (source / "file").write_text("a longer text")
    changes = Changes.between({}, read_tree(str(source)))
    (source / "file").unlink()
    if text:
        (source / "file").write_text(text)
    with pytest.raises(FarmError, match="file was changed while it was sent"):
        write_archive(io.BytesIO(), str(source), changes)


def test_an_archive_without_what_is_needed_is_refused(source: Path, destination: Path) -> None:
    (source / "file").write_text("a text")
    stream = io.BytesIO()
    wanted = read_tree(str(source))
    write_archive(stream, str(source), Changes.between(wanted, wanted))
    stream.seek(0)
    with tarfile.open(fileobj=stream) as archive:
        read_wanted(archive)
        with pytest.raises(FarmError, match="file was changed by somebody else"):
            apply(archive, str(destination), Changes.between({}, wanted))
    other = io.BytesIO()
    with tarfile.open(fileobj=other, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("../../etc/passwd"))
    other.seek(0)
    with tarfile.open(fileobj=other) as archive:
        with pytest.raises(FarmError, match="does not begin with a tree"):
            read_wanted(archive)


def test_new_content_is_later_than_the_last_even_where_that_lies_in_the_future(source: Path, destination: Path) -> None:
    (source / "file").write_text("one")
    (destination / "file").write_text("two")
    os.utime(source / "file", (1_600_000_000, 1_600_000_000))
    os.utime(destination / "file", (4_000_000_000, 4_000_000_000))
    mirrored(source, destination)
    assert (destination / "file").stat().st_mtime_ns == 4_000_000_002_000_000_000


def test_a_directory_that_its_owner_may_not_write_is_opened_first(
    source: Path, destination: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever runs this as root could write without."""
    (destination / "closed").mkdir(mode=0o500)
    (source / "closed").mkdir()
    (source / "closed/new").touch()
    (source / "closed").chmod(0o500)
    changed, chmod = [], os.chmod

    def noting(path: Any, mode: int, **options: Any) -> None:
        changed.append((os.fsdecode(path), mode))
        chmod(path, mode, **options)

    monkeypatch.setattr(os, "chmod", noting)
    mirrored(source, destination)
    assert [mode for path, mode in changed if path == str(destination / "closed")] == [0o700, 0o500]
    for folder in (source, destination):
        (folder / "closed").chmod(0o700)


def test_capabilities_of_a_file_arrive_with_its_content(
    source: Path, destination: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source / "ping").write_text("ping")
    wanted = read_tree(str(source))
    wanted = {
        name: dataclasses.replace(entry, xattrs="security.capability=0100000200200000")
        for name, entry in wanted.items()
    }
    changes, stream, given = Changes.between({}, wanted), io.BytesIO(), []
    write_archive(stream, str(source), changes)
    stream.seek(0)
    monkeypatch.setattr(os, "setxattr", lambda _handle, name, value: given.append((name, value.hex())))
    with tarfile.open(fileobj=stream) as archive:
        apply(archive, str(destination), changes)
    assert given == [("security.capability", "0100000200200000")]


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        (Entry("link", 0, "a/b"), "link to a/b"),
        (Entry("directory", 0o1777), "directory, mode 1777"),
        (Entry(FILE, 0o644, "0123456789abcdef", 7), "file, mode 0644, 7 bytes, sha256:0123456789ab"),
        (
            Entry(FILE, 0o755, "00", 7, "security.capability=01"),
            "file, mode 0755, 7 bytes, sha256:00, with capabilities",
        ),
    ],
)
def test_entries_in_a_diff(entry: Entry, text: str) -> None:
    assert str(entry) == text


def test_extended_attributes_that_buildkit_counts(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (source / "file").write_text("x")
    (source / "folder").mkdir()
    (source / "link").symlink_to("file")
    names = ["user.b", "security.selinux", "system.posix_acl_access", "security.capability", "user.a", "com.apple.x"]
    monkeypatch.setattr(os, "listxattr", lambda _file, **_options: names, raising=False)
    monkeypatch.setattr(os, "getxattr", lambda _file, name, **_options: name[-1].encode(), raising=False)
    counted = "security.capability=79\0user.a=61\0user.b=62"
    assert {entry.xattrs for entry in read_tree(str(source)).values()} == {counted}
    plain = read_tree(str(source), every_xattr=False)
    assert {entry.xattrs for entry in plain.values()} == {"security.capability=79"}
    assert capability(read_tree(str(source))[b"file"]) == b"y"
    assert capability(Entry(FILE, 0o644)) == b""

    def none(*_all: Any, **_options: Any) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "listxattr", none)
    assert {entry.xattrs for entry in read_tree(str(source)).values()} == {""}
    monkeypatch.delattr(os, "listxattr")
    assert {entry.xattrs for entry in read_tree(str(source)).values()} == {""}


def test_rules_leave_out_what_they_exclude_and_keep_what_leads_to_the_rest(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("closed/deep/kept.md", "closed/other", "skipped/file", "locked/file", "plain"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(name)
    (source / "closed").chmod(0o750)
    rules = IgnoreRules.parse(b"closed\nskipped\nlocked\n!closed/deep/*\n!locked/file\n")
    # A directory that is excluded may be unreadable, one that is not may not; others are not even looked at.
    denied, scandir = [b"locked", b"skipped"], os.scandir

    def guarded(path: bytes) -> Any:
        if os.path.basename(path) in denied:
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(_tree.os, "scandir", guarded)
    found = read_tree(str(source), rules)
    assert list(found) == [b"closed", b"closed/deep", b"closed/deep/kept.md", b"plain"]
    assert found[b"closed"].mode == 0o750
    with pytest.raises(CannotTell, match="locked cannot be read: Permission denied"):
        read_tree(str(source), IgnoreRules.parse(b"skipped"))


def test_large_files_are_read_side_by_side_and_in_pieces(source: Path) -> None:
    contents = {f"{number}": bytes([number]) * (3_000_000 + number) for number in range(5)}
    contents["chunk"] = b"x" * (1 << 20)
    for name, content in contents.items():
        (source / name).write_bytes(content)
    found = read_tree(str(source))
    assert {os.fsdecode(name): (entry.size, entry.value) for name, entry in found.items()} == {
        name: (len(content), hashlib.sha256(content).hexdigest()) for name, content in contents.items()
    }


def test_special_files_are_told_by_their_numbers(source: Path) -> None:
    os.mkfifo(source / "fifo")
    assert read_tree(str(source))[b"fifo"].value == "10000:0:0"


def test_names_are_read_with_the_directories_that_they_are_in(source: Path) -> None:
    (source / "a/b").mkdir(parents=True)
    (source / "a/b/c").write_text("c")
    (source / "a/d").write_text("d")
    assert list(read_names(str(source), [b"a/b/c"])) == [b"a", b"a/b", b"a/b/c"]
    with pytest.raises(CannotTell, match="x cannot be read"):
        read_names(str(source), [b"x"])
