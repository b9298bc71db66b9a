# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Temporary directories, and what becomes of those of killed processes."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.scratch import scratch_directory

PREFIX, SUFFIX = "buildx-it-", ".buildfarm"


@pytest.fixture
def left(monkeypatch, tmp_path):
    """Make a directory as a killed process leaves it, seconds ago."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def make(name=f"{PREFIX}0ld_left{SUFFIX}", seconds=60, mode=0o700):
        folder = tmp_path / name
        (folder / "instances").mkdir(parents=True)
        folder.chmod(mode)
        os.utime(folder, (time.time() - seconds,) * 2)
        return folder

    return make


def test_it_is_for_this_user_and_for_a_while(left):
    with scratch_directory(PREFIX) as directory:
        assert Path(directory).name.startswith(PREFIX) and os.stat(directory).st_mode & 0o777 == 0o700
        (Path(directory) / "file").write_text("text")
    assert not os.path.exists(directory)


def test_what_a_killed_process_left_goes_with_the_next(left):
    gone = left()
    with scratch_directory(PREFIX):
        assert not gone.exists()


def test_what_is_held_or_just_made_or_somebody_elses_stays(left, tmp_path):
    stay = [
        left(f"{PREFIX}just_now{SUFFIX}", seconds=0),
        left(f"buildx-other-0ld_left{SUFFIX}"),
        tmp_path / f"{PREFIX}a_link_1{SUFFIX}",
        tmp_path / f"{PREFIX}a_file_1{SUFFIX}",
    ]
    stay[2].symlink_to(stay[1])
    stay[3].write_text("")
    os.utime(stay[3], (0, 0))
    with scratch_directory(PREFIX) as held:
        os.utime(held, (0, 0))
        with scratch_directory(PREFIX) as other:
            assert all(path.exists() for path in (*stay, Path(held), Path(other)))
            assert (stay[1] / "instances").exists()


def test_what_a_person_has_named_alike_stays(left):
    stay = [
        left(f"{PREFIX}cache"),
        left(f"{PREFIX}artifact"),
        left(f"{PREFIX}of{SUFFIX}"),
        left(f"{PREFIX}0ld_left{SUFFIX}", mode=0o755),
    ]
    with scratch_directory(PREFIX):
        assert all(path.exists() for path in stay)
