# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import fcntl
import os
import time

from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.live import remove_forgotten


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
