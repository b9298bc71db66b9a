# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import sys
import time

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.runner import CommandError, checked, run


def test_streams_environment_and_status():
    script = "import os, sys; print(sys.stdin.read() + os.environ['WORD']); print('e', file=sys.stderr); sys.exit(3)"
    result = run([sys.executable, "-c", script], env={"WORD": "b"}, stdin="a")
    assert (result.rc, result.stdout, result.stderr) == (3, "ab\n", "e\n")


def test_failures_keep_the_programs_words():
    with pytest.raises(CommandError, match="wanted x: oops") as caught:
        checked(run, ["sh", "-c", "echo oops >&2; exit 2"], "wanted x")
    assert (caught.value.details["rc"], caught.value.details["cmd"][0]) == (2, "sh")
    with pytest.raises(CommandError, match="could not be started: No such file") as caught:
        run(["/nonexistent/program"])
    assert caught.value.result.rc == 127


def test_another_file_than_the_one_that_is_named():
    result = run(["docker", "-c", "echo $0"], executable="/bin/sh")
    assert (result.argv[0], result.rc) == ("docker", 0)
    with pytest.raises(CommandError, match="/nonexistent/plugin could not be started") as caught:
        run(["docker", "buildx"], executable="/nonexistent/plugin")
    assert caught.value.details["cmd"] == ["docker", "buildx"]


def test_progress_is_logged_while_the_program_runs(tmp_path):
    mark, lines, logged = tmp_path / "mark", [], []

    def follow(line):
        lines.append(line)
        mark.touch()
        return "" if line == "two" else line.upper()

    script = f"cat; echo one >&2; while [ ! -e {mark} ]; do sleep 0.01; done; printf 'two\\nthree' >&2; exit 3"
    result = run(["sh", "-c", script], stdin="in", timeout=10, follow=follow, log=logged.append)
    assert (result.rc, result.stdout, result.stderr) == (3, "in", "one\ntwo\nthree")
    assert (lines, logged) == (["one", "two", "three"], ["ONE", "THREE"])
    # Nothing has to take what would be logged.
    assert run(["sh", "-c", "echo four >&2"], follow=follow).stderr == "four\n" and lines[3:] == ["four"]


def test_a_program_whose_progress_cannot_be_followed_runs_to_its_end(tmp_path):
    mark = tmp_path / "mark"
    # More than a pipe holds.
    script = f"head -c 300000 /dev/zero | tr '\\0' '\\n' >&2; touch {mark}"
    with pytest.raises(ZeroDivisionError):
        run(["sh", "-c", script], timeout=20, follow=lambda _line: str(1 // 0))
    assert mark.exists()


@pytest.mark.parametrize("following", [{}, {"follow": str, "log": str}])
def test_a_timeout_ends_the_programs_children_too(tmp_path, following):
    """As `docker` before version 25 leaves its plugins running."""
    mark = tmp_path / "mark"
    began = time.monotonic()
    with pytest.raises(CommandError, match=r"ended after 0\.5 seconds") as caught:
        run(["sh", "-c", f"echo begun; (sleep 1; touch {mark}) & wait"], timeout=0.5, **following)
    assert time.monotonic() - began < 0.95
    assert (caught.value.result.rc, caught.value.result.stdout) == (124, "begun\n")
    time.sleep(0.8)
    assert not mark.exists()


def test_whoever_asks_is_told_the_process_group(tmp_path):
    groups = []
    result = run(["sh", "-c", "echo $$"], started=groups.append, cwd=str(tmp_path))
    assert groups == [int(result.stdout)]
    assert run(["pwd"], cwd=str(tmp_path)).stdout.strip() == str(tmp_path)
