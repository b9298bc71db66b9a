# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Modules in the background, and the actions that show what they do: with a shell of this host as connection."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Dict, List

import pytest
from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action.normal import ActionModule as NormalAction
from ansible_collections.buildfarm.multiarch.plugins.plugin_utils import live
from ansible_collections.buildfarm.multiarch.plugins.plugin_utils.live import LiveAction, News, Started

#: As module_utils/_core/live_module.py does it, without AnsibleModule.
MODULE = """
import atexit, os, sys, time
sys.path[:0] = {path!r}
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core import ending, live

asked = live.asked()
assert not live.asked()
atexit.register(lambda: open(os.environ["TMPDIR"] + "/exits", "a").write("x"))
session = live.Session.start(asked)
progress = session.progress(str)
with ending.interruptible(), session.watched():
    {work}
    print("the answer")
    print("a warning", file=sys.stderr)
    sys.exit({status})
"""


class Connection:
    """In the place of ActionBase's: a shell here.

    :ivar failures: how many commands fail before the next one is run; of those that ask for progress.
    """

    def __init__(self) -> None:
        self.commands: List[str] = []
        self.failures = 0

    def run(self, command: str) -> Dict[str, Any]:
        self.commands.append(command)
        if "tail -c" in command and self.failures:
            self.failures -= 1
            raise AnsibleConnectionFailure("cut off")
        done = subprocess.run(["sh", "-c", f"{command} && sleep 0"], capture_output=True, text=True, check=False)
        return {"rc": done.returncode, "stdout": done.stdout, "stderr": done.stderr}


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Connection:
    connection = Connection()
    monkeypatch.setattr(
        NormalAction, "_low_level_execute_command", lambda _self, command, *_more, **_options: connection.run(command)
    )
    return connection


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> List[Any]:
    """What is displayed: when, the text, and whether on standard error."""
    texts: List[Any] = []

    def display(text: str, stderr: bool = False) -> None:
        texts.append((time.monotonic(), text, stderr))

    monkeypatch.setattr(live.display, "display", display)
    return texts


def action(**task: Any) -> LiveAction:
    made = LiveAction.__new__(LiveAction)
    known = {"action": "buildfarm.multiarch.x", "loop": None, "loop_with": None, "loop_control": None}
    made._task = SimpleNamespace(**known, **task)
    made._label = "ctl"
    return made


def module(tmp_path: Path, work: str, status: int = 0, asked: str = "shown") -> str:
    script = tmp_path / "module.py"
    script.write_text(MODULE.format(path=sys.path, work=work, status=status))
    return f"{live.ASKED}={asked} TMPDIR={tmp_path} {sys.executable} {script}"


def left(tmp_path: Path) -> List[str]:
    return [path.name for path in tmp_path.glob("buildfarm-live-*")]


def wait_for(condition: Any) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("status", [0, 3])
def test_progress_is_shown_while_the_module_runs(
    tmp_path: Path, host: Connection, shown: List[Any], status: int
) -> None:
    work = "progress.report('a …'); time.sleep(1.4); progress.report('a done'); progress.report('b …'); time.sleep(0.8)"
    result = action()._low_level_execute_command(module(tmp_path, work, status))
    assert (result["rc"], result["stdout"]) == (status, "the answer\n")
    assert result["stderr"] == "a warning\n"
    lines = "\n".join(text for _when, text, _stderr in shown).splitlines()
    assert [re.sub(r" +\d\.\ds  ", "|", line) for line in lines] == ["[ctl]|a …", "[ctl]|a done", "[ctl]|b …"]
    # The host waits for its end: it is told in time, by few commands.
    assert shown[0][0] < shown[1][0] - 0.5 and time.monotonic() - shown[1][0] < 2
    assert len(host.commands) <= 6
    # What a module removes at its exit is removed once.
    assert (tmp_path / "exits").read_text() == "x"
    assert not left(tmp_path)


def test_what_is_decided_in_a_moment_is_not_shown(
    tmp_path: Path, host: Connection, shown: List[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # A moment is what it takes here, however busy this machine is.
    monkeypatch.setattr(live, "_WAIT", 60)
    result = action()._low_level_execute_command(module(tmp_path, "progress.report('a …')"))
    assert (result["rc"], shown) == (0, [])
    assert len(host.commands) == 3


def test_other_commands_and_modules_that_stay_are_run_as_they_are(host: Connection) -> None:
    assert action()._low_level_execute_command("echo '{}'")["stdout"] == "{}\n"
    assert len(host.commands) == 1


def test_a_module_that_was_killed_is_a_failure(tmp_path: Path, host: Connection, shown: List[Any]) -> None:
    work = "progress.report('a …'); import os; time.sleep(1.2); os.kill(os.getpid(), 9)"
    result = action()._low_level_execute_command(module(tmp_path, work))
    answer = json.loads(result["stdout"])
    assert answer["failed"] and "gone without a result" in answer["msg"] and len(shown) == 1
    assert not left(tmp_path)


def test_a_module_ends_with_the_action(tmp_path: Path, host: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live.display, "display", lambda *_arguments, **_options: os.kill(os.getpid(), signal.SIGINT))
    mark = tmp_path / "mark"
    work = f"progress.report('a …')\n    try:\n        time.sleep(60)\n    finally:\n        open({str(mark)!r}, 'w')"
    # Ignored in what a shell has started in the background.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            action()._low_level_execute_command(module(tmp_path, work))
    finally:
        signal.signal(signal.SIGINT, before)
    wait_for(mark.exists)
    wait_for(lambda: not left(tmp_path))


def test_a_connection_that_fails_for_a_while(tmp_path: Path, host: Connection, shown: List[Any]) -> None:
    host.failures = 2
    assert action()._low_level_execute_command(module(tmp_path, "time.sleep(1.5)"))["rc"] == 0


def test_a_connection_that_does_not_come_back(
    tmp_path: Path, host: Connection, shown: List[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    host.failures = 1000
    monkeypatch.setattr(live, "_PATIENCE", 1)
    with pytest.raises(AnsibleConnectionFailure, match="cut off"):
        action()._low_level_execute_command(module(tmp_path, "time.sleep(60)"))
    wait_for(lambda: not left(tmp_path))


def test_a_chunk_of_the_log_may_end_within_a_line() -> None:
    line = '{"seconds": 1.5, "text": "a \\u2026"}\n'
    news = News.parse(f"running\n{line}{line}".replace("\n", "\r\n") + line[:9])
    assert (news.state, len(news.events), news.read, news.whole) == ("running", 2, 2 * len(line), True)
    assert str(news.events[0]) == "    1.5s  a …"
    assert not News.parse("ended\n" + "x" * 65536).whole


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ({"seconds": 1, "text": "\x1b]0;x\x07a\n[other] b\x1b[2J"}, ["    1.0s  a [other] b"]),
        ({"seconds": "soon", "text": "a"}, []),
        ({"seconds": 1}, []),
        ([], []),
    ],
)
def test_a_host_that_says_something_else_moves_no_terminal(line: Any, shown: List[str]) -> None:
    assert [str(event) for event in News.parse(f"running\n{json.dumps(line)}\nno JSON\n").events] == shown


def test_what_has_ended_by_now_does_not_begin_any_more() -> None:
    texts = ["a …", "b …", "a done", "c"]
    assert [one.text for one in live.current([live.Event(1.0, text) for text in texts])] == ["b …", "a done", "c"]


@pytest.mark.parametrize(
    ("lines", "limit", "wanted"),
    [
        ([], 10, []),
        (["a" * 9], 10, ["a" * 9]),
        (["a", "b"], 4, ["a", "b"]),
        (["a" * 50, "b", "c"], 50, ["(1 lines before these are left out)", "b", "c"]),
        (["a", "ä" * 30], 50, ["ä" * 30]),
    ],
)
def test_an_event_of_awx_has_the_last_lines(lines: List[str], limit: int, wanted: List[str]) -> None:
    assert live.fitting(lines, limit) == wanted


@pytest.mark.parametrize(("callback", "shortened"), [("awx_display", True), ("ansible.builtin.default", False)])
def test_only_awx_gets_less(shown: List[Any], monkeypatch: pytest.MonkeyPatch, callback: str, shortened: bool) -> None:
    monkeypatch.setattr(live.constants, "DEFAULT_STDOUT_CALLBACK", callback)
    action()._show([live.Event(1.0, "x" * 200)] * 9)
    assert (len(shown[0][1].encode()) <= 1024) == shortened


def test_a_job_gets_an_event_a_second_at_most(
    tmp_path: Path, host: Connection, shown: List[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # As on a host without flock, and faster.
    monkeypatch.setattr(live, "_WAIT", 0)
    monkeypatch.setattr(live, "_PAUSE", 0.05)
    work = "[(progress.report(f'step {n}'), time.sleep(0.1)) for n in range(25)]"
    action()._low_level_execute_command(module(tmp_path, work))
    assert "\n".join(text for _when, text, _stderr in shown).count("step") == 25
    assert len(shown) <= shown[-1][0] - shown[0][0] + 2


def test_the_answer_of_a_module_in_the_background_is_found_among_others() -> None:
    answer = '{"buildfarm_live": {"folder": "/tmp/a b", "process": 7}}'
    assert Started.parse(f"Welcome\r\n\r\n{answer}\r\n") == Started("'/tmp/a b'", 7)
    assert Started.parse('{"changed": false}') is None


@pytest.mark.parametrize(("callback", "stderr"), [("ansible.posix.json", True), ("awx_display", False)])
def test_callbacks_that_print_json_are_left_alone(
    shown: List[Any], monkeypatch: pytest.MonkeyPatch, callback: str, stderr: bool
) -> None:
    monkeypatch.setattr(live.constants, "DEFAULT_STDOUT_CALLBACK", callback)
    action()._show([live.Event(1.0, "a"), live.Event(2.0, "b")])
    ((_when, text, on_stderr),) = shown
    assert (text.count("\n"), on_stderr) == (1, stderr)


@pytest.mark.parametrize(
    ("control", "variables", "label"),
    [
        ({}, {"item": "app"}, "ctl app"),
        ({}, {"item": {"name": "app"}}, "ctl"),
        ({"loop_var": "image"}, {"image": "app", "item": "x"}, "ctl app"),
        ({"label": "{{ item.name }}"}, {"item": {"name": "app"}}, "ctl app"),
    ],
)
def test_items_of_loops(control: Dict[str, str], variables: Dict[str, Any], label: str) -> None:
    looped = action()
    looped._task.loop = ["x"]
    looped._task.loop_control = SimpleNamespace(**{"loop_var": "item", "label": None, **control})
    looped._templar = SimpleNamespace(template=lambda _text: variables["item"]["name"])
    assert looped._labelled({"inventory_hostname": "ctl", **variables}) == label
    looped._task.loop = None
    assert looped._labelled({"inventory_hostname": "ctl", **variables}) == "ctl"


@pytest.mark.parametrize(
    ("task", "asked"),
    [({}, [{live.ASKED: "shown"}]), ({"no_log": True}, [{live.ASKED: "quiet"}]), ({"async_val": 9}, [])],
)
def test_what_modules_are_asked_for(task: Dict[str, Any], asked: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    one = action(**{"no_log": False, "async_val": 0, "environment": [{"A": "b"}], **task})
    seen = []
    monkeypatch.setattr(NormalAction, "run", lambda self, *_arguments: seen.append(self._task.environment) or {})
    one.run(None, {"inventory_hostname": "ctl"})
    assert seen == [[{"A": "b"}, *asked]] and one._task.environment == [{"A": "b"}]


def test_what_must_not_be_seen_is_not_written(tmp_path: Path, host: Connection, shown: List[Any]) -> None:
    work = "progress.report('a'); time.sleep(1.3)"
    result = action()._low_level_execute_command(module(tmp_path, work, asked="quiet"))
    assert (result["stdout"], shown) == ("the answer\n", [])
