# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import stat

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.files import (
    abandoned,
    read_bytes,
    restore,
    write_atomically,
    write_together,
)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def names(directory):
    return sorted(path.name for path in directory.iterdir())


@pytest.fixture
def calls(monkeypatch):
    """The calls that decide what a crash leaves, in order: what is on the disk, and what becomes visible."""
    made = []
    sync, replace = os.fsync, os.replace

    def fsync(handle):
        path = os.readlink(f"/proc/self/fd/{handle}")
        with open(path, "rb") as stream:
            made.append(("sync", os.path.basename(path).split(".")[1], stream.read()))
        sync(handle)

    def renamed(source, target):
        made.append(("rename", os.path.basename(target)))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", renamed)
    return made


def test_all_is_on_disk_before_the_first_is_visible_and_in_order(tmp_path, calls):
    write_together([(tmp_path / "key", b"secret", 0o600), (tmp_path / "cert", b"public", 0o644)])
    assert calls == [("sync", "key", b"secret"), ("sync", "cert", b"public"), ("rename", "key"), ("rename", "cert")]
    assert {path.name: (path.read_bytes(), mode(path)) for path in tmp_path.iterdir()} == {
        "key": (b"secret", 0o600),
        "cert": (b"public", 0o644),
    }


def test_a_secret_is_never_readable_by_others(tmp_path, monkeypatch):
    """Not even while it is written, and not where the file that it replaces was."""
    (tmp_path / "key").write_bytes(b"old")
    (tmp_path / "key").chmod(0o644)
    seen = []

    def fsync(handle):
        seen.append(stat.S_IMODE(os.fstat(handle).st_mode))

    monkeypatch.setattr(os, "fsync", fsync)
    old = os.umask(0)
    try:
        write_atomically(tmp_path / "key", b"secret", 0o600)
    finally:
        os.umask(old)
    assert (seen, mode(tmp_path / "key")) == ([0o600], 0o600)


@pytest.mark.parametrize("call", ["fsync", "write", "fchmod"])
def test_a_failure_before_the_first_rename_leaves_all_as_it_was(tmp_path, monkeypatch, call):
    for name in ("one", "two"):
        (tmp_path / name).write_bytes(b"old")
    done = []

    def full(*args):
        done.append(args)
        if len(done) == 2:
            raise OSError(28, "No space left on device")

    def opened(handle, how):
        stream = real(handle, how)

        class Stream:
            def __enter__(self):
                stream.__enter__()
                return self

            def __exit__(self, *exc):
                return stream.__exit__(*exc)

            def __getattr__(self, name):
                return full if name == "write" else getattr(stream, name)

        return Stream()

    real = os.fdopen
    if call == "write":
        monkeypatch.setattr(os, "fdopen", opened)
    else:
        monkeypatch.setattr(os, call, full)
    with pytest.raises(OSError, match="No space left") as caught:
        write_together([(tmp_path / "one", b"new", 0o644), (tmp_path / "two", b"new", 0o644)])
    assert caught.value.filename == str(tmp_path / "two")
    assert names(tmp_path) == ["one", "two"]
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes() == b"old"


def test_a_rename_that_fails_leaves_whole_files_and_no_temporary_ones(tmp_path):
    (tmp_path / "two").mkdir()
    with pytest.raises(OSError) as caught:
        write_together([(tmp_path / "one", b"new", 0o644), (tmp_path / "two", b"new", 0o644)])
    assert caught.value.filename == str(tmp_path / "two")
    assert names(tmp_path) == ["one", "two"] and (tmp_path / "one").read_bytes() == b"new"


def test_what_a_kill_leaves_is_found_and_is_not_the_file(tmp_path, monkeypatch):
    (tmp_path / "file[1]").write_bytes(b"old")

    def killed(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        # Neither renamed nor cleaned up, as after SIGKILL.
        patch.setattr(os, "replace", killed)
        patch.setattr(os, "unlink", lambda path: None)
        with pytest.raises(KeyboardInterrupt):
            write_atomically(tmp_path / "file[1]", b"new")
    (left,) = abandoned(tmp_path / "file[1]")
    assert (tmp_path / "file[1]").read_bytes() == b"old"
    assert names(tmp_path) == sorted(["file[1]", os.path.basename(left)])
    assert abandoned(tmp_path / "file") == []


def test_a_link_stays_and_its_target_is_replaced(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to("elsewhere/file")
    for content in (b"first", b"second"):
        write_atomically(tmp_path / "link", content)
        assert (tmp_path / "link").is_symlink() and (tmp_path / "elsewhere/file").read_bytes() == content
    assert names(tmp_path / "elsewhere") == ["file"]


@pytest.mark.parametrize(
    ("before", "wanted", "expected"),
    [(None, None, 0o644), (None, 0o600, 0o600), (0o640, None, 0o640), (0o640, 0o644, 0o644), (0o4755, None, 0o4755)],
)
def test_mode(tmp_path, before, wanted, expected):
    path = tmp_path / "file"
    if before is not None:
        path.touch()
        path.chmod(before)
    write_atomically(path, b"x", wanted)
    assert mode(path) == expected


def test_owner_and_group_stay(tmp_path):
    path = tmp_path / "file"
    path.touch()
    owner = (4321, 1234) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
    os.chown(path, *owner)
    path.chmod(0o640)
    write_atomically(path, b"x")
    assert (path.stat().st_uid, path.stat().st_gid, mode(path)) == (*owner, 0o640)


def test_the_selinux_context_stays(tmp_path, monkeypatch):
    """Kept in memory here, as few machines that run unit tests have SELinux."""
    path = tmp_path / "file"
    contexts = {str(path): b"system_u:object_r:container_config_t:s0"}
    given = {}
    monkeypatch.setattr(os, "getxattr", lambda at, name: contexts[at] if name == "security.selinux" else b"")
    monkeypatch.setattr(os, "setxattr", lambda at, name, value: given.update({name: value}))
    write_atomically(path, b"new")
    assert given == {}
    write_atomically(path, b"replaced")
    assert given == {"security.selinux": b"system_u:object_r:container_config_t:s0"}


def test_another_owner_that_cannot_be_given_is_no_failure(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def refused(*args):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "fchown", refused)
    monkeypatch.setattr(os, "getxattr", refused)
    write_atomically(path, b"new", 0o600)
    assert (path.read_bytes(), mode(path)) == (b"new", 0o600)


def test_what_is_not_there_is_none_and_what_cannot_be_read_an_error(tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    assert read_bytes(tmp_path / "file") == b"x"
    assert read_bytes(tmp_path / "missing") is None
    assert read_bytes(tmp_path / "file/below") is None
    with pytest.raises(IsADirectoryError):
        read_bytes(tmp_path)


def test_restored(tmp_path):
    path = tmp_path / "file"
    restore(path, b"found", 0o600)
    assert (path.read_bytes(), mode(path)) == (b"found", 0o600)
    restore(path, None)
    restore(path, None)
    assert names(tmp_path) == []
    path.symlink_to("nowhere")
    restore(path, None)
    assert names(tmp_path) == []
