# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the action makes of the options of images that have sources."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any, Dict, List

import pytest
from ansible_collections.buildfarm.multiarch.plugins.action.buildx_build import ActionModule
from ansible_collections.buildfarm.multiarch.plugins.plugin_utils.live import LiveAction


class Action(ActionModule):
    """The action on this machine; what it has another action do is noted."""

    def __init__(self, arguments: Dict[str, Any]) -> None:
        self.sent: List[Dict[str, Any]] = []
        self._connection = types.SimpleNamespace(transport="ssh")
        self._loader = types.SimpleNamespace(get_basedir=lambda: "/playbooks")
        # With async of its own a task sends all that it has before it decides.
        self._task = types.SimpleNamespace(args=arguments, async_val=60, get_search_path=list, check_mode=False)

    def _run_action(self, options: Dict[str, Any], variables: Dict[str, Any]) -> Dict[str, Any]:
        self.sent.append(options)
        return {}


@pytest.fixture(autouse=True)
def module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LiveAction, "run", lambda *_arguments: {"changed": True})


@pytest.mark.parametrize(
    ("given", "force"),
    [
        (True, True),
        ("yes", True),
        (1, True),
        (False, False),
        ("false", False),
        ("no", False),
        (None, False),
        ("", False),
    ],
)
@pytest.mark.parametrize("listed", [True, False])
def test_only_who_means_it_has_the_files_of_others_removed(
    tmp_path: Path, given: Any, force: bool, listed: bool
) -> None:
    """What comes from a survey or with -e is text, and the text false is not true."""
    image = {"source": str(tmp_path), "context": "/srv/app", "force": given, "tags": ["r.test/app"]}
    action = Action({"images": [image]} if listed else image)
    assert action.run(None, {}) == {"changed": True}
    assert [one["force"] for one in action.sent] == [force]


def test_what_is_no_boolean_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    action = Action({"source": str(tmp_path), "context": "/srv/app", "force": "perhaps"})
    result = action.run(None, {})
    assert (result["failed"], action.sent) == (True, [])
    assert "force: found 'perhaps', wanted true or false" in result["msg"]


def test_images_that_are_none_are_the_modules_to_refuse() -> None:
    arguments = {"images": ["r.test/app"]}
    action = Action(dict(arguments))
    assert action.run(None, {}) == {"changed": True}
    assert action._task.args == arguments
