# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What git says of a checkout, and the version, labels and annotations of an image that is built of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Dict, Optional

from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.runner import CommandError, Result, Runner
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.urls import MASK, mask

#: Nothing is asked, fetched or written: not even the index, which ``git status`` would write anew.
_ENVIRONMENT = {"GIT_TERMINAL_PROMPT": "0", "GIT_NO_LAZY_FETCH": "1", "GIT_OPTIONAL_LOCKS": "0"}
#: Seconds for one command, in a large checkout on a slow disk.
_TIMEOUT = 120.0
#: How git says that a directory is in no checkout; it says other things of a damaged one.
_NO_REPOSITORY = "not a git repository (or any"
_OTHER_OWNER = re.compile(r"dubious ownership|unsafe repository")
_NO_TAG = re.compile(r"No names found|No tags can describe")
_NO_COMMIT = "(initial)"
_DETACHED = "(detached)"

#: What the tag of an image cannot have, and how long it can be.
#: Source: distribution/reference ``regexp.go``.
_UNFIT = re.compile(r"[^A-Za-z0-9_.-]")
_LONGEST_TAG = 128
_LEAST_ABBREV, _LONGEST_ABBREV = 4, 40


@dataclass(frozen=True)
class Checkout:
    """A git checkout with at least one commit.

    :ivar branch: None where HEAD is detached.
    :ivar dirty: whether files that git tracks are not as in the commit.
    :ivar tag: the nearest one among the commit and those before it, None where there is none.
    :ivar tagged: whether that is the commit's own.
    :ivar source: the address of the remote repository C(origin) without credentials, None where there is none.
    :ivar created: when the commit was made, RFC 3339, in UTC.
    """

    commit: str
    branch: Optional[str]
    dirty: bool
    tag: Optional[str]
    tagged: bool
    source: Optional[str]
    created: str


@dataclass(frozen=True)
class Wanted:
    """How a version is to look.

    :ivar abbrev: digits of the commit.
    :ivar fallback: stands where there is no tag; None makes that an error.
    :ivar match: the pattern of tags that count, in git's syntax; None for all.
    :ivar strip_prefix: what the version does not have of the tag's beginning.
    """

    abbrev: int = 7
    fallback: Optional[str] = None
    match: Optional[str] = None
    strip_prefix: str = ""

    def __post_init__(self) -> None:
        if not _LEAST_ABBREV <= self.abbrev <= _LONGEST_ABBREV:
            raise FarmError(f"abbrev: {self.abbrev}; wanted a number of digits, {_LEAST_ABBREV} to {_LONGEST_ABBREV}")


def read_checkout(runner: Runner, directory: str, match: Optional[str] = None) -> Optional[Checkout]:
    """Return what git says of a directory, None where it is in no checkout, or in one without a commit.

    :param directory: an absolute path.
    :param match: the pattern of tags that count, None for all.
    :raises FarmError: git is missing or fails, or does not trust the checkout.
    """

    def git(*words: str) -> Result:
        # The setting may name a program, or have git start one that stays.
        argv = ["git", "-C", directory, "-c", "core.fsmonitor=false", *words]
        return runner(argv, env=_ENVIRONMENT, timeout=_TIMEOUT)

    status = git(
        "status",
        "--porcelain=v2",
        "--branch",
        "--no-ahead-behind",
        "--untracked-files=no",
        "--ignore-submodules=untracked",
    )
    if status.rc:
        if _NO_REPOSITORY in status.stderr:
            return None
        raise CommandError(_refusal(directory, status), status)
    lines = status.stdout.splitlines()
    heads = dict(line.split(" ", 2)[1:] for line in lines if line.startswith("# branch."))
    commit, branch = heads["branch.oid"], heads["branch.head"]
    if commit == _NO_COMMIT:
        return None
    pattern = [] if match is None else [f"--match={match}"]
    nearest = git("describe", "--tags", "--long", f"--abbrev={len(commit)}", *pattern, commit)
    if nearest.rc and not _NO_TAG.search(nearest.stderr):
        raise CommandError(f"{directory}: git cannot tell the tag of commit {commit}", nearest)
    tag, distance = "", ""
    if not nearest.rc:
        tag, distance, _commit = nearest.stdout.strip().rsplit("-", 2)
    # log.showSignature would put signatures among the output.
    log = git("log", "-1", "--no-show-signature", "--format=%ct", commit)
    if log.rc:
        raise CommandError(f"{directory}: git cannot read commit {commit}", log)
    origin = git("remote", "get-url", "origin")
    return Checkout(
        commit=commit,
        branch=None if branch == _DETACHED else branch,
        dirty=any(not line.startswith("# ") for line in lines),
        tag=tag or None,
        tagged=distance == "0",
        source=public_address(origin.stdout.strip()) or None if not origin.rc else None,
        created=datetime.fromtimestamp(int(log.stdout), timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
    )


def describe(directory: str, checkout: Optional[Checkout], wanted: Wanted) -> Dict[str, Any]:
    """Return the version of a checkout and what it is made of, as the lookup C(git_version) documents it.

    :param directory: what errors name.
    :param checkout: None where there is none.
    :raises FarmError: there is no tag and no fallback, or the tag has nothing that an image's tag may have.
    """
    version = _version(directory, checkout, wanted)
    found: Dict[str, Any] = {
        "version": version,
        "tag": checkout.tag if checkout else None,
        "commit": checkout.commit if checkout else None,
        "short": checkout.commit[: wanted.abbrev] if checkout else None,
        "branch": checkout.branch if checkout else None,
        "dirty": checkout.dirty if checkout else None,
        "source": checkout.source if checkout else None,
        "created": checkout.created if checkout else None,
    }
    values = {
        "created": found["created"],
        "revision": found["commit"],
        "source": found["source"],
        "version": version,
    }
    found["labels"] = {f"org.opencontainers.image.{name}": value for name, value in values.items() if value}
    found["annotations"] = {f"index,manifest:{name}": value for name, value in found["labels"].items()}
    return found


def public_address(address: str) -> str:
    """Return the address of a repository without credentials; the name C(git) and one for ssh are none."""
    shown = mask(address).replace(f"{MASK}@", "")
    return re.split(r"[?#]", shown, maxsplit=1)[0] if MASK in shown else shown


def _version(directory: str, checkout: Optional[Checkout], wanted: Wanted) -> str:
    tag = checkout.tag if checkout else None
    if tag is None and wanted.fallback is None:
        raise FarmError(_missing(directory, checkout, wanted.match))
    if tag is None:
        base = wanted.fallback or ""
    else:
        base = tag[len(wanted.strip_prefix) :] if tag.startswith(wanted.strip_prefix) else tag
    end = ""
    if checkout and (checkout.dirty or not checkout.tagged):
        end = f"-{checkout.commit[: wanted.abbrev]}{'-dirty' if checkout.dirty else ''}"
    fit = _UNFIT.sub("-", base).lstrip(".-")
    if not fit:
        raise FarmError(
            f"{directory}: the version {base!r} cannot be the tag of an image; wanted one with a letter, a digit or _ "
            f"of ASCII; name other tags with match, or another fallback"
        )
    return fit[: _LONGEST_TAG - len(end)] + end


def _missing(directory: str, checkout: Optional[Checkout], match: Optional[str]) -> str:
    if checkout is None:
        return (
            f"{directory}: no git checkout with a commit; wanted one with a tag; name a directory of one, or give a "
            f"fallback"
        )
    pattern = "" if match is None else f" that matches {match!r}"
    return (
        f"{directory}: no tag{pattern} at commit {checkout.commit} or before it; make one, give a fallback, or fetch "
        f"them where the clone is a shallow one (git fetch --unshallow --tags)"
    )


def _refusal(directory: str, status: Result) -> str:
    if _OTHER_OWNER.search(status.stderr):
        return (
            f"{directory}: the checkout belongs to another user, whose settings in it could have git start programs; "
            f"if you trust it, make it your own, or name it in safe.directory of your git configuration"
        )
    return f"{directory}: git cannot read the checkout"
