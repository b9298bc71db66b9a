# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.lock import LockTimeout, locked

HOLD = (
    "import fcntl, os, sys, time; f = os.open(sys.argv[1], 0); fcntl.flock(f, 2); print(1, flush=True); time.sleep(9)"
)


@pytest.mark.parametrize("name", ["a directory", "a file"])
def test_another_process_is_waited_for_until_the_time_is_up_or_it_has_ended(tmp_path, name):
    path = tmp_path / name
    path.mkdir() if name == "a directory" else path.touch()
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE) as process:
        try:
            process.stdout.readline()
            with pytest.raises(LockTimeout), locked(path, 0.1):
                pytest.fail("held by two")
        finally:
            process.kill()
    with locked(path, 5), pytest.raises(LockTimeout), locked(path, 0):
        pytest.fail("held twice")
    with locked(path, 0):
        pass


def test_no_lock_is_left_open(tmp_path):
    handles = len(os.listdir("/proc/self/fd"))
    with locked(tmp_path, 0), pytest.raises(LockTimeout), locked(tmp_path, 0):
        pytest.fail("held twice")
    with pytest.raises(KeyError), locked(tmp_path, 0):
        raise KeyError
    assert len(os.listdir("/proc/self/fd")) == handles


def test_a_file_is_created_for_its_owner_only(tmp_path):
    with pytest.raises(FileNotFoundError), locked(tmp_path / "lock", 0):
        pytest.fail("there is no such file")
    with locked(tmp_path / "lock", 0, os.O_RDWR | os.O_CREAT):
        assert (tmp_path / "lock").stat().st_mode & 0o777 == 0o600
