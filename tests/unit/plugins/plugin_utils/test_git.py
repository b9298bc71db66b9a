# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Versions of real git checkouts."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any, Optional

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._build.annotations import Annotations
from ansible_collections.buildfarm.multiarch.plugins.module_utils._build.inputs import OF_ORIGIN
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.environment import REMOVED, treatment
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.runner import run
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker.reference import Reference
from ansible_collections.buildfarm.multiarch.plugins.plugin_utils.git import (
    Wanted,
    describe,
    public_address,
    read_checkout,
)


class Checkout:
    """A checkout with one commit."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()
        self("init", "--quiet", "--initial-branch=main")
        self("config", "user.name", "Somebody")
        self("config", "user.email", "somebody@example.com")
        self.commit("first")

    def __call__(self, *words: str) -> str:
        argv = ["git", "-C", str(self.path), *words]
        # 2026-03-01T10:30:00+01:00
        environment = {**os.environ, "GIT_COMMITTER_DATE": "1772357400 +0100"}
        return subprocess.run(argv, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()

    def commit(self, text: str) -> str:
        """Commit a file of this content; returns the commit."""
        (self.path / "file").write_text(text)
        self("add", "file")
        self("commit", "--quiet", "--message", text)
        return self.head

    @property
    def head(self) -> str:
        return self("rev-parse", "HEAD")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Nobody's own settings."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    return monkeypatch


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path / "checkout")


def of(path: Path, match: Optional[str] = None, **options: Any) -> dict[str, Any]:
    return describe(str(path), read_checkout(run, str(path), match), Wanted(match=match, **options))


def test_a_tagged_commit(checkout: Checkout) -> None:
    checkout("tag", "1.1.0")
    checkout("remote", "add", "origin", "https://git.example.com/team/hello.git")
    head = checkout.head
    labels = {
        "org.opencontainers.image.created": "2026-03-01T09:30:00Z",
        "org.opencontainers.image.revision": head,
        "org.opencontainers.image.source": "https://git.example.com/team/hello.git",
        "org.opencontainers.image.version": "1.1.0",
    }
    assert of(checkout.path) == {
        "version": "1.1.0",
        "tag": "1.1.0",
        "commit": head,
        "short": head[:7],
        "branch": "main",
        "dirty": False,
        "source": "https://git.example.com/team/hello.git",
        "created": "2026-03-01T09:30:00Z",
        "labels": labels,
        "annotations": {f"index,manifest:{name}": value for name, value in labels.items()},
    }
    assert tuple(labels) == OF_ORIGIN


def test_annotations_are_what_a_build_takes(checkout: Checkout) -> None:
    found = of(checkout.path, fallback="1")
    entries = Annotations.from_param(found["annotations"], ()).entries
    assert {(one.type, one.key, one.value) for one in entries} == {
        (kind, key, value) for kind in ("index", "manifest") for key, value in found["labels"].items()
    }


def test_a_commit_after_the_tag(checkout: Checkout) -> None:
    checkout("tag", "--annotate", "--message", "A release", "1.1.0")
    second = checkout.commit("second")
    found = of(checkout.path)
    assert (found["version"], found["tag"], found["commit"]) == (f"1.1.0-{second[:7]}", "1.1.0", second)
    assert of(checkout.path, abbrev=12)["version"] == f"1.1.0-{second[:12]}"
    checkout("tag", "1.2.0")
    assert of(checkout.path)["version"] == "1.2.0"


def test_a_tag_with_what_separates_the_commit(checkout: Checkout) -> None:
    checkout("tag", "2.0-rc-1")
    assert of(checkout.path)["version"] == "2.0-rc-1"
    second = checkout.commit("second")
    assert of(checkout.path)["version"] == f"2.0-rc-1-{second[:7]}"


@pytest.mark.parametrize("staged", [False, True])
def test_tracked_files_that_changed(checkout: Checkout, staged: bool) -> None:
    checkout("tag", "1.1.0")
    (checkout.path / "file").write_text("changed")
    if staged:
        checkout("add", "file")
    found = of(checkout.path)
    assert (found["version"], found["dirty"]) == (f"1.1.0-{checkout.head[:7]}-dirty", True)


def test_a_file_with_another_time_and_one_that_is_not_tracked_are_no_change(checkout: Checkout) -> None:
    checkout("tag", "1.1.0")
    (checkout.path / "another").touch()
    os.utime(checkout.path / "file", (1, 1))
    index = (checkout.path / ".git/index").read_bytes()
    assert of(checkout.path)["dirty"] is False
    assert (checkout.path / ".git/index").read_bytes() == index


def test_a_directory_in_a_checkout(checkout: Checkout) -> None:
    checkout("tag", "1.1.0")
    (checkout.path / "part").mkdir()
    (checkout.path / "file").write_text("changed")
    assert of(checkout.path / "part")["version"].endswith("-dirty")


def test_without_a_branch_and_a_remote(checkout: Checkout) -> None:
    checkout("checkout", "--quiet", "--detach")
    found = of(checkout.path, fallback="0")
    assert (found["branch"], found["source"]) == (None, None)
    assert "org.opencontainers.image.source" not in found["labels"]


def test_without_a_tag(checkout: Checkout) -> None:
    with pytest.raises(FarmError, match=rf"checkout: no tag at commit {checkout.head} .*--unshallow"):
        of(checkout.path)
    found = of(checkout.path, fallback="0.0.0")
    assert (found["version"], found["tag"]) == (f"0.0.0-{checkout.head[:7]}", None)


def test_a_shallow_clone(checkout: Checkout, tmp_path: Path) -> None:
    checkout("tag", "1.1.0")
    second = checkout.commit("second")
    checkout("clone", "--quiet", "--depth=1", f"file://{checkout.path}", str(tmp_path / "clone"))
    assert of(tmp_path / "clone", fallback="0")["version"] == f"0-{second[:7]}"


def test_a_worktree(checkout: Checkout, tmp_path: Path) -> None:
    checkout("tag", "1.1.0")
    checkout("worktree", "add", "--quiet", "-b", "fix", str(tmp_path / "worktree"))
    found = of(tmp_path / "worktree")
    assert (found["version"], found["branch"]) == ("1.1.0", "fix")


@pytest.mark.parametrize("initialised", [False, True])
def test_without_a_commit(tmp_path: Path, initialised: bool) -> None:
    if initialised:
        subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    with pytest.raises(FarmError, match=r"no git checkout with a commit.*fallback"):
        of(tmp_path)
    found = of(tmp_path, fallback="0.0.0")
    assert found.pop("version") == "0.0.0"
    assert found.pop("labels") == {"org.opencontainers.image.version": "0.0.0"}
    assert found.pop("annotations") == {"index,manifest:org.opencontainers.image.version": "0.0.0"}
    assert set(found.values()) == {None}


def test_only_tags_that_match_count(checkout: Checkout) -> None:
    checkout("tag", "api/1.1")
    second = checkout.commit("second")
    checkout("tag", "web/3")
    assert of(checkout.path, "web/*", strip_prefix="web/")["version"] == "3"
    assert of(checkout.path, "api/*", strip_prefix="api/")["version"] == f"1.1-{second[:7]}"
    assert of(checkout.path, "api/*", strip_prefix="v")["version"] == f"api-1.1-{second[:7]}"
    with pytest.raises(FarmError, match=r"no tag that matches '--all\*'"):
        of(checkout.path, "--all*")


@pytest.mark.parametrize(
    ("tag", "version"),
    [
        ("v1.1.0", "1.1.0"),
        ("1.1.0+build", "1.1.0-build"),
        ("release/1.1", "release-1.1"),
        ("-._1", "_1"),
        ("{{1}}", "1--"),
        ("é1", "1"),
        ("x" * 200, "x" * 128),
    ],
)
def test_a_version_can_be_the_tag_of_an_image(checkout: Checkout, tag: str, version: str) -> None:
    checkout("update-ref", f"refs/tags/{tag}", "HEAD")
    found = of(checkout.path, strip_prefix="v")
    assert (found["version"], found["tag"]) == (version, tag)
    second = checkout.commit("second")
    later = of(checkout.path, strip_prefix="v")["version"]
    assert later == f"{version[:120]}-{second[:7]}"
    for one in (found["version"], later):
        assert Reference.parse(f"r.example.com/app:{one}").tag == one


@pytest.mark.parametrize("tag", ["v", "版"])
def test_a_tag_of_which_nothing_is_left(checkout: Checkout, tag: str) -> None:
    checkout("tag", tag)
    with pytest.raises(FarmError, match=r"cannot be the tag of an image"):
        of(checkout.path, strip_prefix="v")


@pytest.mark.parametrize("abbrev", [3, 41])
def test_a_commit_that_is_too_short_or_long(abbrev: int) -> None:
    with pytest.raises(FarmError, match=rf"abbrev: {abbrev}; wanted a number of digits, 4 to 40"):
        Wanted(abbrev=abbrev)


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("https://git.example.com/a/b.git", "https://git.example.com/a/b.git"),
        ("https://somebody:pass@git.example.com:8443/a/b.git", "https://git.example.com:8443/a/b.git"),
        ("https://ghp_0123456789abcdef@git.example.com/a/b.git", "https://git.example.com/a/b.git"),
        ("https://oauth2:glpat-0123@git.example.com/a/b.git", "https://git.example.com/a/b.git"),
        ("https://git.example.com/a/b.git?private_token=0123", "https://git.example.com/a/b.git"),
        ("git@git.example.com:a/b.git", "git@git.example.com:a/b.git"),
        ("somebody:pass@git.example.com:a/b.git", "git.example.com:a/b.git"),
        ("ssh://git@git.example.com:2222/a/b.git", "ssh://git@git.example.com:2222/a/b.git"),
        ("ssh://somebody:pass@git.example.com/a/b.git", "ssh://git.example.com/a/b.git"),
        ("/srv/git/a/b.git", "/srv/git/a/b.git"),
    ],
)
def test_an_address_without_credentials(address: str, public: str) -> None:
    assert public_address(address) == public


def test_no_credentials_of_a_rewritten_address(checkout: Checkout) -> None:
    checkout("remote", "add", "origin", "forge:a/b.git")
    checkout("config", "url.https://ci:0123@git.example.com/.insteadOf", "forge:")
    assert of(checkout.path, fallback="0")["source"] == "https://git.example.com/a/b.git"


def test_the_repository_is_that_of_the_directory(
    checkout: Checkout, tmp_path: Path, environment: pytest.MonkeyPatch
) -> None:
    checkout("tag", "1.1.0")
    other = Checkout(tmp_path / "other")
    environment.setenv("GIT_DIR", str(other.path / ".git"))
    environment.setenv("GIT_WORK_TREE", str(other.path))
    environment.setenv("GIT_INDEX_FILE", str(tmp_path / "index"))
    environment.setenv("GIT_CONFIG_PARAMETERS", "'core.worktree'='/'")
    found = of(checkout.path)
    assert (found["version"], found["dirty"]) == ("1.1.0", False)


def test_no_variable_by_which_git_names_a_repository_reaches_it() -> None:
    listed = subprocess.run(["git", "rev-parse", "--local-env-vars"], stdout=subprocess.PIPE, text=True, check=True)
    # How many settings there are, of the user's.
    assert {name for name in listed.stdout.split() if treatment(name) != REMOVED} == {"GIT_CONFIG_COUNT"}


def test_settings_of_the_user_do_not_change_what_is_read(checkout: Checkout, tmp_path: Path) -> None:
    checkout("tag", "1.1.0")
    started = tmp_path / "started"
    program = tmp_path / "monitor"
    program.write_text(f"#!/bin/sh\ntouch {started}\n")
    program.chmod(0o755)
    for name, value in {
        "core.abbrev": "20",
        "core.fsmonitor": str(program),
        "log.showSignature": "true",
        "log.decorate": "full",
        "color.ui": "always",
        "status.short": "true",
        "status.showStash": "true",
        "status.showUntrackedFiles": "all",
    }.items():
        checkout("config", name, value)
    (checkout.path / "another").touch()
    found = of(checkout.path)
    assert (found["version"], found["created"]) == ("1.1.0", "2026-03-01T09:30:00Z")
    assert not started.exists()


def test_a_checkout_of_another_user(checkout: Checkout, environment: pytest.MonkeyPatch) -> None:
    checkout("tag", "1.1.0")
    environment.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    with pytest.raises(FarmError, match=r"belongs to another user.*safe\.directory"):
        of(checkout.path, fallback="0")
    settings = checkout.path.parent / "settings"
    settings.write_text(f"[safe]\n\tdirectory = {checkout.path}\n")
    environment.setenv("GIT_CONFIG_GLOBAL", str(settings))
    assert of(checkout.path)["version"] == "1.1.0"


def test_a_damaged_checkout_is_none_without_a_repository(checkout: Checkout) -> None:
    (checkout.path / ".git/index").write_text("nothing of git's")
    with pytest.raises(FarmError, match=r"git cannot read the checkout: .*index"):
        of(checkout.path, fallback="0")


def test_a_worktree_without_its_repository(tmp_path: Path) -> None:
    (tmp_path / ".git").write_text(f"gitdir: {tmp_path}/gone\n")
    with pytest.raises(FarmError, match=r"git cannot read the checkout: .*gone"):
        of(tmp_path, fallback="0")


def test_without_git(checkout: Checkout, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("PATH", "/nowhere")
    with pytest.raises(FarmError, match=r"git could not be started"):
        of(checkout.path, fallback="0")
