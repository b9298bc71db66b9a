# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What was read of secrets stays hidden, also from the connection's own messages; what went wrong does not."""

from __future__ import annotations

import types
from typing import Any, List

import pytest
from ansible.errors import AnsibleConnectionFailure
from ansible_collections.buildfarm.multiarch.plugins.action.slurp_secrets import ActionModule


class Action(ActionModule):
    """The action on a host whose module answers so; notes whether the connection prints meanwhile."""

    def __init__(self, *answers: Any) -> None:
        self.answers, self.hidden, self.commands = list(answers), [], []
        self._play_context = types.SimpleNamespace(no_log=False)
        self._connection = types.SimpleNamespace(_play_context=self._play_context)
        self._task = types.SimpleNamespace(async_val=0, check_mode=False, environment=None)
        self.hidden: List[bool]
        self.commands: List[str]

    def _execute_module(self, *_arguments: Any, **_options: Any) -> Any:
        self.hidden.append(self._play_context.no_log)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _low_level_execute_command(self, cmd: str, **_options: Any) -> Any:
        self.commands.append(cmd)
        assert self._play_context.no_log is False, "if this fails, it has to be seen why"


def run(*answers: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr("ansible.plugins.action.ActionBase.run", lambda *_arguments: {})
    action = Action(*answers)
    result = action.run(None, {})
    assert action._play_context.no_log is False
    return action, result


def test_contents_are_censored(monkeypatch: pytest.MonkeyPatch) -> None:
    action, result = run({"contents": {"/a": "c2VjcmV0"}}, monkeypatch=monkeypatch)
    assert result == {"contents": {"/a": "c2VjcmV0"}, "_ansible_no_log": True}
    assert (action.hidden, action.commands) == ([True], [])


def test_a_failure_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run({"failed": True, "msg": "no such file"}, monkeypatch=monkeypatch)[1] == {
        "failed": True,
        "msg": "no such file",
    }


def test_a_host_that_could_not_be_reached_is_tried_again_in_the_open(monkeypatch: pytest.MonkeyPatch) -> None:
    action, result = run(AnsibleConnectionFailure("hidden"), {"contents": {}}, monkeypatch=monkeypatch)
    assert result == {"contents": {}, "_ansible_no_log": True}
    assert (action.hidden, action.commands) == ([True, True], ["true"])


def test_nothing_stays_hidden_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ansible.plugins.action.ActionBase.run", lambda *_arguments: {})
    action = Action(ValueError("odd"))
    with pytest.raises(ValueError, match="odd"):
        action.run(None, {})
    assert action._play_context.no_log is False
