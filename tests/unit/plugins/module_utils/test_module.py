# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The adapter between Ansible and the logic of modules."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import time

import pytest
from ansible.module_utils import basic
from ansible.module_utils.common.parameters import PASS_VARS
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core import ending, live, live_module
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core import module as adapter
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.outcome import Outcome

SEEN = {"progress": live_module.PROGRESS}
SPEC = {"name": {"type": "str", "required": True}, "url": {"type": "str"}, "token": {"type": "str", "no_log": True}}
SPEC["vars"] = {"type": "dict"}


@pytest.fixture
def call(monkeypatch, capsys):
    """Run a module as Ansible does: parameters as JSON, the result as JSON on standard output."""

    def make(logic, check=False, seen=False, unshown=(), **params):
        asked = {"_ansible_check_mode": check}
        if "inject_invocation" in PASS_VARS:
            # Since ansible-core 2.21 only those who ask get the module's options back.
            asked["_ansible_inject_invocation"] = True
        arguments = {"ANSIBLE_MODULE_ARGS": {**asked, **params}}
        # What ansible-core keeps of a process's input, and since 2.19 how it writes results; warnings go another way
        # once a process has imported what belongs to a controller.
        monkeypatch.setattr(adapter.Module, "warn", lambda self, text, *_options: make.warned.append(text))
        monkeypatch.setattr(basic, "_ANSIBLE_ARGS", json.dumps(arguments).encode())
        monkeypatch.setattr(basic, "_ANSIBLE_PROFILE", "legacy", raising=False)
        monkeypatch.setattr(adapter, "settle", lambda: None)
        monkeypatch.setattr(adapter.Module, "_log_to_syslog", lambda self, text: make.logged.append(text))
        monkeypatch.setattr(basic, "has_journal", False)
        with pytest.raises(SystemExit) as ended:
            if seen:
                live_module.main({**SPEC, **SEEN}, logic)
            else:
                adapter.main(SPEC, logic, unshown=unshown)
        make.output = capsys.readouterr().out
        return ended.value.code, json.loads(make.output)

    make.logged, make.warned = [], []
    return make


@pytest.mark.parametrize("check", [True, False])
def test_parameters_check_mode_and_outcome(call, check):
    seen = []

    def logic(params, check_mode, runner):
        seen.append((params["name"], check_mode, runner(["printf", "%s", "x"]).stdout))
        return Outcome({"a": 1}, {"a": 2}, [["write", "a"]], {"resource": {"name": "a"}}, ("mind this",))

    rc, result = call(logic, check, name="a")
    assert (rc, seen) == (0, [("a", check, "x")])
    assert (result["changed"], result["actions"], result["resource"]) == (True, [["write", "a"]], {"name": "a"})
    assert result["diff"] == {"before": {"a": 1}, "after": {"a": 2}}
    assert call.warned == ["mind this"]


def test_nothing_done_is_unchanged(call):
    _rc, result = call(lambda *_: Outcome({}, {}), name="a")
    assert (result["changed"], result["actions"]) == (False, [])


def test_an_info_module_returns_values_and_never_changes(call):
    rc, result = call(lambda *_: {"builders": []}, name="a")
    assert (rc, result["changed"], result["builders"]) == (0, False, [])


def test_an_error_is_the_tasks_failure_with_its_details(call):
    def logic(params, check_mode, runner):
        raise FarmError("engine 'a': refused; start it", cmd=["docker"], rc=3)

    rc, result = call(logic, name="a")
    assert (rc, result["failed"], result["msg"]) == (1, True, "engine 'a': refused; start it")
    assert (result["cmd"], result["rc"]) == (["docker"], 3)


def test_what_others_say_moves_no_terminal(call):
    said = "\x1b]0;title\x07registry \x1b[2Jx: 10 %\rno \u202egnp.exe\x9b2J"
    shown = "no \N{REPLACEMENT CHARACTER}gnp.exe\N{REPLACEMENT CHARACTER}2J"

    def fails(params, check_mode, runner):
        raise FarmError(f"a\n{said}").about("image b")

    _rc, result = call(fails, name="a")
    assert result["msg"] == f"image b: a\n{shown}"
    call(lambda *_: Outcome({}, {}, warnings=(said,)), name="a")
    assert call.warned == [shown]


def test_a_mistake_of_ours_is_told_apart(call):
    def logic(params, check_mode, runner):
        return {}["missing"]

    rc, result = call(logic, name="a")
    assert (rc, result["msg"]) == (1, "unexpected KeyError: 'missing'; please report it")


@pytest.mark.parametrize(
    "fault, message",
    [
        (OSError(errno.ENOSPC, "No space left", "/etc/x"), "/etc/x: No space left; make"),
        (OSError(errno.ENOSPC, "No space left on device"), "this host: No space left on device; make room there"),
        (PermissionError(errno.EACCES, "Permission denied", "/root/x"), "/root/x: Permission denied; run the task as"),
        (FileNotFoundError(errno.ENOENT, "No such file", "/x"), "unexpected FileNotFoundError: "),
    ],
)
def test_a_fault_of_the_host_says_what_to_do(call, fault, message):
    def logic(params, check_mode, runner):
        raise fault

    rc, result = call(logic, name="a")
    assert rc == 1 and result["msg"].startswith(message)


def test_what_the_options_do_not_allow_never_reaches_the_logic(call):
    rc, result = call(lambda *_: pytest.fail("called"), other="x")
    assert (rc, result["failed"]) == (1, True)


def test_secrets_of_urls_and_of_hidden_options_are_neither_returned_nor_logged(call):
    url = "https://user:hunter2@host/x"

    def logic(params, check_mode, runner):
        assert params["url"] == url and params["token"] == "t0k3n-value"
        return {"text": f"got {url} and t0k3n-value"}

    _rc, result = call(logic, name="a", url=url, token="t0k3n-value")
    assert result["text"].startswith("got https://")
    assert call.logged
    for text in (call.output, *call.logged):
        assert "hunter2" not in text and "t0k3n-value" not in text


@pytest.mark.parametrize("fails", [False, True])
def test_values_that_may_be_secret_are_hidden_as_options_only(call, fails):
    def logic(params, check_mode, runner):
        assert params["vars"] == {"TOKEN": "hunter2", "V": "1"}
        if fails:
            raise FarmError("image app:1 failed")
        return {"image": "app:1"}

    _rc, result = call(logic, name="a", vars={"TOKEN": "hunter2", "V": "1"}, unshown=["vars"])
    assert result["invocation"]["module_args"]["vars"] == {"TOKEN": "***", "V": "***"}
    assert result.get("image", result.get("msg", "")).startswith("app:1" if not fails else "image app:1")
    assert call.logged and "hunter2" not in "".join((call.output, *call.logged))


@pytest.mark.parametrize(
    ("asked", "check", "progress", "background", "shown"),
    [
        ("shown", False, "auto", True, ["working on https://***@host/x with ********"]),
        ("shown", False, "none", True, []),
        ("shown", True, "auto", False, []),
        ("", False, "auto", False, []),
    ],
)
def test_a_module_that_is_seen(call, monkeypatch, tmp_path, asked, check, progress, background, shown):
    started = []

    def start(asked):
        started.append(asked)
        return live.Session(str(tmp_path), asked)

    monkeypatch.setenv(live.ASKED, asked)
    monkeypatch.setattr(live.Session, "start", start)
    # What ends the process.
    monkeypatch.setattr(live.Session, "watched", lambda self: contextlib.nullcontext())

    def logic(params, check_mode, runner, progress):
        progress.report("working on https://user:hunter2@host/x with t0k3n-value")
        return {"marked": runner(["sh", "-c", "echo $BUILDFARM_TASK"]).stdout}

    options = {"token": "t0k3n-value", "progress": progress}
    rc, result = call(logic, check, seen=True, name="a", **options)
    assert (rc, started) == (0, [asked] if background else [])
    log = tmp_path / "log"
    lines = [json.loads(line)["text"] for line in log.read_text().splitlines()] if log.exists() else []
    assert lines == shown
    # By which a killed module's programs are found.
    assert len(result["marked"]) == 33


def test_a_module_that_is_interrupted_fails(call, monkeypatch):
    def logic(params, check_mode, runner):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)

    # The programs of this process are not at their end.
    monkeypatch.setattr(adapter, "interruptible", lambda: ending.interruptible(ending.Programs()))
    rc, result = call(logic, name="a")
    assert (rc, result["msg"]) == (1, "interrupted by SIGTERM; what was running has been ended")
