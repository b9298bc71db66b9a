# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Modules that end before their time, and what they were running."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core import runner
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.ending import (
    Interrupted,
    Programs,
    interruptible,
)
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.lease import Lease
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.progress import SILENT, Progress
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.survival import survived

#: What an interrupted module was doing: a program with a child, in another thread.
MODULE = """
import sys, threading
sys.path[:0] = {path!r}
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core import ending, runner, survival

def work():
    runner.run(["sh", "-c", "sleep 0.1; setsid sh -c 'echo $$; touch {mark}; exec sleep 60' >{pids} & wait"])

with {around}:
    thread = threading.Thread(target=work)
    thread.start()
    try:
        thread.join()
    finally:
        print("cleaned up")
"""


@pytest.fixture
def programs(monkeypatch):
    """The programs of this process, as at its start."""
    fresh = Programs()
    monkeypatch.setattr(runner, "PROGRAMS", fresh)
    return fresh


def wait_for(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def module(tmp_path):
    """Start MODULE; returns its process and the id of its program's child, which has a session of its own."""
    started = []

    def start(around):
        mark, pids = tmp_path / "mark", tmp_path / "pids"
        script = MODULE.format(path=sys.path, mark=mark, pids=pids, around=around)
        process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        started.append(process)
        wait_for(mark.exists)
        return process, int(pids.read_text())

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_nothing_is_left_of_a_killed_module(module):
    process, child = module("survival.survived()")
    process.kill()
    assert process.communicate(timeout=10) == (b"", b"")
    wait_for(lambda: not is_running(child))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_programs_of_other_threads_and_then_the_module(module, number):
    process, _child = module("ending.interruptible()")
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=10)
    assert stdout == b"cleaned up\n"
    assert f"interrupted by {number.name}".encode() in stderr


def test_after_the_end_only_the_main_thread_goes_on(programs):
    caught = []

    def work():
        for argv in (["sleep", "60"], ["true"]):
            try:
                runner.run(argv)
            except Interrupted as exc:
                caught.append(str(exc))

    thread = threading.Thread(target=work)
    thread.start()
    wait_for(lambda: programs._groups)
    programs.end("no more")
    thread.join(10)
    assert caught == ["no more", "no more"]
    assert runner.run(["true"]).rc == 0
    assert not programs._groups


def test_a_signal_may_come_while_programs_are_being_listed():
    """Its handler runs in the thread that it interrupts, which may have what the handler needs."""
    programs = Programs()

    def interrupted():
        with programs._lock:
            programs.end("interrupted")

    thread = threading.Thread(target=interrupted, daemon=True)
    thread.start()
    thread.join(5)
    assert not thread.is_alive()


def test_signals_are_taken_for_a_while_only():
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)]
    programs, cleaned_up = Programs(), []
    with pytest.raises(Interrupted, match="interrupted by SIGTERM"), interruptible(programs):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            cleaned_up.append(True)
    assert cleaned_up
    assert before == [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)]


def test_what_is_left_on_purpose_stays(tmp_path):
    with survived():
        process = subprocess.Popen(["sleep", "60"])
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1)
    finally:
        process.kill()
        process.wait()


def test_a_lease_runs_out_where_nobody_renews_it(tmp_path):
    path, now = tmp_path / "lease", [100.0]
    path.touch()
    lease = Lease(str(path), 15, lambda: now[0])
    for _renewal in range(3):
        now[0] += 14
        # By the file's own clock, whatever that says.
        os.utime(path, (1000 - now[0], 1000 - now[0]))
        assert lease.check() == ""
    now[0] += 14.9
    assert lease.check() == ""
    now[0] += 0.2
    assert lease.check() == "interrupted, as Ansible has not been heard of for 15 seconds"


def test_who_watches_a_lease_is_told_once_that_it_has_ended(tmp_path):
    path, told = tmp_path / "lease", []
    path.touch()
    Lease(str(path)).watch(told.append, 0.01)
    time.sleep(0.1)
    assert told == []
    path.unlink()
    wait_for(lambda: told)
    time.sleep(0.05)
    assert told == ["interrupted by Ansible"]


def test_progress_is_for_its_user_only_and_without_secrets(tmp_path):
    path = tmp_path / "log"
    progress = Progress(str(path), lambda text: text.replace("t0k3n", "***"))
    progress.report("RUN git clone https://user:hunter2@host/x\n t0k3n \x1b[31mred")
    progress.report("x" * 1000)
    first, second = path.read_text().splitlines()
    assert '"text": "RUN git clone https://***@host/x *** red"' in first
    assert len(second) < 350
    assert path.stat().st_mode & 0o777 == 0o600
    SILENT.report("nobody reads it")


def test_lines_of_many_threads_stay_whole(tmp_path):
    path = tmp_path / "log"
    progress = Progress(str(path))
    threads = [
        threading.Thread(target=lambda: [progress.report("y" * 200) for _line in range(200)]) for _thread in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [json.loads(line)["text"] for line in path.read_text().splitlines()] == ["y" * 200] * 1600


@pytest.mark.parametrize(("length", "shown"), [(300, "x" * 300), (301, "x" * 299 + "…")])
def test_long_lines_of_progress_are_cut(tmp_path, length, shown):
    path = tmp_path / "log"
    Progress(str(path)).report("x" * length)
    assert json.loads(path.read_text())["text"] == shown
