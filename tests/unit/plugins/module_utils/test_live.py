# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.live import (
    ASKED,
    QUIET,
    SHOWN,
    STARTED,
    asked,
    remove_forgotten,
)


def session(parent, name, hours, files=("lease", "running", "log")):
    folder = parent / name
    folder.mkdir()
    for file in files:
        (folder / file).write_text("")
    then = time.time() - hours * 3600
    if "lease" in files:
        os.utime(folder / "lease", (then, then))
    return folder


def test_what_killed_modules_left_is_removed_after_an_hour(tmp_path):
    old = session(tmp_path, "buildfarm-live-old", 1.1)
    kept = [
        session(tmp_path, "buildfarm-live-waited-for", 0.9),
        session(tmp_path, "buildfarm-live-runs", 9),
        session(tmp_path, "buildfarm-live-starts", 9, files=()),
        session(tmp_path, "other-live-old", 9),
    ]
    (tmp_path / "buildfarm-live-link").symlink_to(session(tmp_path, "linked", 9))
    with open(kept[1] / "running", "w", encoding="utf-8") as running:
        fcntl.flock(running, fcntl.LOCK_EX)
        remove_forgotten(str(tmp_path))
    assert not old.exists()
    assert all(folder.exists() for folder in kept) and (tmp_path / "linked/log").exists()


def test_those_of_others_are_not_touched(tmp_path, monkeypatch):
    folder = session(tmp_path, "buildfarm-live-old", 9)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    remove_forgotten(str(tmp_path))
    assert folder.exists()


#: A module that tells its progress, prints its answer, and ends as the work says.
MODULE = """
import os, subprocess, sys, time
sys.path[:0] = {path!r}
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core import live
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.ending import PROGRAMS, interruptible

live._CLEANING = 0.1
session = live.Session.start({asked!r})
with interruptible(), session.watched():
    session.progress(str.upper).report("a step")
    print("the answer", flush=True)
    print("a word", file=sys.stderr)
    {work}
"""


@pytest.fixture
def started(tmp_path):
    """Start MODULE; returns its directory, and what the process that was started has printed."""
    folders = []

    def start(work="pass", asked=SHOWN):
        parent = tmp_path / str(len(folders))
        parent.mkdir()
        script = MODULE.format(path=sys.path, asked=asked, work=work)
        done = subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "TMPDIR": str(parent)},
            stdout=subprocess.PIPE,
            timeout=30,
            check=True,
        )
        answer = json.loads(done.stdout)[STARTED]
        folders.append(Path(answer["folder"]))
        assert folders[-1].parent == parent
        return folders[-1], answer["process"]

    yield start
    for folder in folders:
        with contextlib.suppress(FileNotFoundError):
            (folder / "lease").unlink()


def wait_for(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_locked(path):
    with open(path, "w", encoding="utf-8") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@pytest.mark.parametrize(
    ("work", "status"), [("raise SystemExit", 0), ("sys.exit(0)", 0), ("sys.exit(3)", 3), ("raise ValueError", 1)]
)
def test_a_module_goes_on_in_the_background_and_leaves_its_answer(started, work, status):
    folder, process = started(work)
    wait_for((folder / "ended").exists)
    wait_for(lambda: not is_locked(folder / "running"))
    assert (folder / "ended").read_text() == str(status)
    assert (folder / "result").read_text() == "the answer\n"
    assert (folder / "errors").read_text().startswith("a word\n")
    assert '"text": "A STEP"' in (folder / "log").read_text()
    assert sorted(path.name for path in folder.iterdir()) == ["ended", "errors", "lease", "log", "result", "running"]
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    assert process != os.getpid()


def test_what_a_killed_module_leaves_is_in_its_directory(started):
    folder, _process = started("import tempfile; tempfile.mkdtemp(prefix='left-'); os.kill(os.getpid(), 9)")
    wait_for(lambda: not is_locked(folder / "running"))
    assert list(folder.glob("left-*")) and [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_what_a_module_says_is_not_shown_where_it_may_be_secret(started):
    folder, _process = started(asked=QUIET)
    wait_for((folder / "ended").exists)
    assert (folder / "log").read_text() == "" and (folder / "result").read_text() == "the answer\n"


@pytest.mark.parametrize(
    "work", ["time.sleep(60)", "exec('''while True:\\n try: time.sleep(60)\\n except KeyboardInterrupt: pass''')"]
)
def test_a_module_whose_lease_ends_leaves_nothing(started, work):
    folder, process = started(work)
    assert is_locked(folder / "running") and os.getsid(process) == process != os.getsid(0)
    assert os.readlink(f"/proc/{process}/fd/0") == os.devnull
    (folder / "lease").unlink()
    wait_for(lambda: not folder.exists())
    wait_for(lambda: not os.path.exists(f"/proc/{process}") or " Z " in Path(f"/proc/{process}/stat").read_text())


def test_what_is_asked_for_is_asked_once(monkeypatch):
    monkeypatch.setenv(ASKED, SHOWN)
    assert [asked(), asked()] == [SHOWN, ""]
    assert ASKED not in os.environ
