# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where a source is looked for, what a context may be, and what in it may be removed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Dict, List

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.runner import run
from ansible_collections.buildfarm.multiarch.plugins.module_utils._source import transfer as _tree_transfer
from ansible_collections.buildfarm.multiarch.plugins.module_utils._source.apply import (
    build_context,
    check_foreign,
    find_source,
    identity,
    outcome,
    read_source,
)
from ansible_collections.buildfarm.multiarch.plugins.module_utils._source.tree import (
    Changes,
    digest,
    dump_names,
    load,
    load_names,
    top,
)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "home"
    path.mkdir()
    monkeypatch.setenv("HOME", str(path))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.mkdir()
    (path / "Dockerfile").write_text("FROM scratch\n")
    return path


def send(source: Path, dest: str, force: bool = False, **which: Any) -> List[List[str]]:
    """Do what the action plugin does, on one host; returns the actions."""
    wanted = read_source(str(source), **which)
    options: Dict[str, Any] = {"src": str(source), "dest": dest, "force": force}
    request = {"digest": digest(wanted), "top": dump_names(top(wanted)), "identity": identity(str(source))}
    look = build_context({**options, "request": request}, False, run)
    changes = Changes.between(load(look["tree"]) if "tree" in look else wanted, wanted)
    if changes and not force:
        check_foreign(look["path"], changes.removed, load_names(look["owned"]))
    result = outcome(look["path"], look["exists"], str(source), changes)
    if result.changed:
        archive = source.parent / "archive"
        with archive.open("wb") as stream:
            _tree_transfer.write_archive(stream, str(source), changes)
        build_context({**options, "request": {"archive": str(archive)}}, False, run)
    return [list(action) for action in result.actions]


def test_a_source_is_found_in_the_first_place_that_has_it(tmp_path: Path) -> None:
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    for folder in (second, third):
        (folder / "hello").mkdir(parents=True)
    first.mkdir()
    (first / "hello").write_text("a program of that name")
    folders = [str(folder) for folder in (first, second, third)]
    assert find_source("./hello", folders) == f"{second}/hello"
    assert find_source("hello/", folders) == f"{second}/hello"
    assert find_source(f"{third}/hello", folders) == f"{third}/hello"
    with pytest.raises(FarmError) as caught:
        find_source("helo", [*folders, str(first)])
    assert f"searched {first}/helo, {second}/helo, {third}/helo;" in caught.value.message
    with pytest.raises(FarmError, match="searched /no/where;"):
        find_source("/no/where", folders)
    with pytest.raises(FarmError):
        find_source("", folders)


def test_devices_are_refused_by_name(source: Path) -> None:
    (source / "dev").mkdir()
    os.mkfifo(source / "dev/initctl")
    with pytest.raises(FarmError, match="dev/initctl: found a device or a FIFO"):
        read_source(str(source))


def test_what_was_sent_is_removed_and_nothing_else(source: Path, tmp_path: Path) -> None:
    context = tmp_path / "deep/context"
    (source / "old").mkdir()
    (source / "old/file").touch()
    assert send(source, str(context)) == [["create", str(context)], ["add", "Dockerfile", "old", "old/file"]]
    assert send(source, str(context)) == []
    (source / "old/file").unlink()
    (source / "old").rmdir()
    assert send(source, str(context)) == [["remove", "old", "old/file"]]
    # A name that was removed is not the sender's any more.
    (context / "old").touch()
    with pytest.raises(FarmError, match="found old, which the source does not have or"):
        send(source, str(context))
    (context / "old").unlink()
    (context / "mine").touch()
    with pytest.raises(FarmError, match="found mine, which the source does not have or"):
        send(source, str(context))
    assert send(source, str(context), force=True) == [["remove", "mine"]]


def test_a_directory_of_somebody_else_is_not_even_read(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = tmp_path / "full"
    (context / "library").mkdir(parents=True)
    os.mkfifo(context / "library/pipe")
    monkeypatch.setattr("ansible_collections.buildfarm.multiarch.plugins.module_utils._source.apply.read_tree", None)
    with pytest.raises(FarmError, match="found library, which the source does not have or"):
        build_context(
            {"dest": str(context), "force": False, "request": {"digest": "", "top": "[]", "identity": ""}}, False, run
        )


def test_a_directory_with_no_other_names_is_taken_over(source: Path, tmp_path: Path) -> None:
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text("FROM scratch\n")
    (source / "Dockerfile").chmod(0o644)
    (context / "Dockerfile").chmod(0o644)
    # Equal: nothing is done, so nothing in it counts as sent.
    assert send(source, str(context)) == []
    (source / "file").touch()
    assert send(source, str(context)) == [["add", "file"]]
    (source / "Dockerfile").rename(source / "Containerfile")
    assert send(source, str(context)) == [["remove", "Dockerfile"], ["add", "Containerfile"]]


def test_an_interrupted_run_is_continued(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = tmp_path / "context"
    (source / "first").write_text("first")
    with monkeypatch.context() as patched:

        def full(*_all: Any) -> None:
            raise OSError(28, "No space left on device")

        patched.setattr(_tree_transfer.shutil, "copyfileobj", full)
        with pytest.raises(FarmError, match="No space left on device; what was sent so far stays"):
            send(source, str(context))
    (source / "Dockerfile").unlink()
    assert send(source, str(context)) == [["remove", "Dockerfile"], ["add", "first"]]


def test_places_that_must_not_be_emptied_are_refused(source: Path, home: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(home)
    (tmp_path / "file").touch()
    for dest, reason in (
        ("/", "the root"),
        (str(home), "a home directory"),
        (f"{tmp_path}/link/", "found a link"),
        ("relative", "wanted an absolute path"),
        (str(tmp_path / "file"), "something else than a directory"),
    ):
        with pytest.raises(FarmError, match=reason):
            send(source, dest, force=True)


def test_an_empty_source_makes_an_empty_context(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    context = tmp_path / "context"
    assert send(tmp_path / "empty", str(context)) == [["create", str(context)]]
    assert send(tmp_path / "empty", str(context)) == []


def test_a_context_as_it_is_returned(source: Path) -> None:
    (source / "sub").mkdir()
    (source / "sub/app").write_text("12345")
    (source / "link").symlink_to("sub/app")
    found = outcome("/there", True, str(source), Changes.between({}, read_source(str(source)))).values["context"]
    assert (found["path"], found["source"], found["files"], found["size"]) == ("/there", str(source), 2, 13 + 5)


def test_what_a_build_does_not_see_is_not_sent(source: Path, tmp_path: Path) -> None:
    context = tmp_path / "context"
    (source / "secret").write_text("shh")
    (source / "docker").mkdir()
    (source / "docker/Dockerfile.prod").symlink_to("prod")
    (source / "docker/prod").write_text("FROM scratch")
    (source / "docker/Dockerfile.prod.dockerignore").write_text("secret\ndocker\n")
    (source / "docker/notes").touch()
    assert send(source, str(context), send_ignored=True)[1][-1] == "secret"
    (source / ".dockerignore").write_text("*\n")
    # What was sent once is the sender's, whatever the rules say now.
    removed = ["docker", "docker/Dockerfile.prod", "docker/Dockerfile.prod.dockerignore", "docker/notes", "docker/prod"]
    assert send(source, str(context)) == [["remove", *removed, "secret"], ["add", ".dockerignore"]]
    kept = ["docker", "docker/Dockerfile.prod", "docker/Dockerfile.prod.dockerignore", "docker/prod"]
    assert send(source, str(context), dockerfiles=["docker/Dockerfile.prod"]) == [["add", *kept]]
    (source / ".dockerignore").write_text("*\n!secret\n")
    both = ["docker/Dockerfile.prod", "Dockerfile"]
    assert send(source, str(context), dockerfiles=both) == [["add", "secret"], ["change", ".dockerignore"]]
    assert send(source, str(context), dockerfiles=[])[0][:2] == ["remove", "Dockerfile"]
    assert send(source, str(context), dockerfiles=["../x", str(source / "docker/Dockerfile.prod")]) == []
    (context / "Dockerfile").touch()
    with pytest.raises(
        FarmError, match="found Dockerfile, which the source does not have or its ignore file leaves out"
    ):
        send(source, str(context), dockerfiles=[])
    (source / ".dockerignore").write_text("a\n[\n")
    with pytest.raises(FarmError, match="line 2: '\\['"):
        send(source, str(context))
    (source / ".dockerignore").write_text("[[:alpha:]]*\n")
    assert set(read_source(str(source))) > {b"secret", b"docker/notes"}
    (source / ".dockerignore").unlink()
    os.mkfifo(source / "fifo")
    (source / "Dockerfile.dockerignore").write_text("fifo")
    assert send(source, str(context), force=True)


def test_a_source_that_is_its_own_context_loses_nothing(source: Path, tmp_path: Path) -> None:
    """Whatever path it has on the host: what the rules leave out is not removed there, even by force."""
    (source / "secret").write_text("shh")
    (source / ".dockerignore").write_text("*\n")
    assert send(source, str(source), force=True) == []
    assert (source / "secret").read_text() == "shh"
