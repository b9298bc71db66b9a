# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where a source is looked for, where it may not be put, and when it is sent at all."""

from __future__ import annotations

import os
import tarfile
import types
from pathlib import Path
from typing import Any, Dict, List

import pytest
from ansible import constants, context
from ansible_collections.buildfarm.multiarch.plugins.action.build_context import ActionModule, _check_apart
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._source.apply import build_context
from ansible_collections.buildfarm.multiarch.plugins.plugin_utils.folders import source_folders


class Action(ActionModule):
    """The action on this machine, with the module's own logic in place of a module that was sent."""

    def __init__(self, options: Dict[str, Any], transport: str = "ssh", check_mode: bool = False) -> None:
        self._options, self.requests = options, []
        self.requests: List[Dict[str, Any]]
        self.fails_at = ""
        self._connection = types.SimpleNamespace(transport=transport)
        self._loader = types.SimpleNamespace(get_basedir=lambda: "/playbooks")
        self._task = types.SimpleNamespace(check_mode=check_mode, get_search_path=lambda: ["/roles/x", "/playbooks"])

    def validate_argument_spec(self, *_arguments: Any, **_options: Any) -> Any:
        return None, self._options

    def _execute_module(self, module_args: Any = None, **_options: Any) -> Any:
        request = module_args["request"]
        self.requests.append(request)
        if self.fails_at in request:
            return {"failed": True, "msg": f"{self.fails_at} fails"}
        return {**build_context(module_args, self._task.check_mode, None), "warnings": ["mind"]}

    def _put(self, archive: str) -> str:
        with tarfile.open(archive) as packed:
            self.names = sorted(member.name for member in packed)
        return archive


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("ansible.plugins.action.ActionBase.run", lambda *_arguments: {})
    monkeypatch.setattr(constants, "DEFAULT_LOCAL_TMP", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "src/sub").mkdir(parents=True)
    (tmp_path / "src/Dockerfile").write_text("FROM scratch\n")
    (tmp_path / "src/sub/app").write_text("app\n")
    return tmp_path / "src"


DEFAULTS: Dict[str, Any] = {"force": False, "dockerfiles": ["Dockerfile"], "send_ignored": False}


def options(source: Path, **more: Any) -> Dict[str, Any]:
    return {"src": str(source), "dest": str(source.parent / "dest"), **DEFAULTS, **more}


def test_a_source_is_sent_once(source: Path) -> None:
    predicted = Action(options(source), check_mode=True)
    assert predicted.run(None, {})["changed"] is True
    assert [set(request) for request in predicted.requests] == [{"digest", "top", "identity"}]
    action = Action(options(source))
    result = action.run(None, {})
    assert (result["changed"], result["warnings"]) == (True, ["mind"])
    assert [set(request) for request in action.requests] == [{"digest", "top", "identity"}, {"archive"}]
    assert (source.parent / "dest/sub/app").read_text() == "app\n"
    again = Action(options(source))
    assert again.run(None, {})["changed"] is False
    assert len(again.requests) == 1


@pytest.mark.parametrize("request_that_fails", ["digest", "archive"])
def test_a_failure_of_the_host_is_the_tasks(source: Path, request_that_fails: str) -> None:
    action = Action(options(source))
    action.fails_at = request_that_fails
    assert action.run(None, {}) == {"failed": True, "msg": f"{request_that_fails} fails"}


@pytest.mark.parametrize("force", [True, False])
def test_files_of_others_go_only_where_that_is_wanted(source: Path, force: bool) -> None:
    (source.parent / "dest").mkdir()
    (source.parent / "dest/mine").touch()
    result = Action(options(source, force=force)).run(None, {})
    assert result.get("failed", False) is not force
    assert (source.parent / "dest/mine").exists() is not force


def test_a_source_that_is_not_there_is_an_error_of_the_task(tmp_path: Path) -> None:
    result = Action(options(tmp_path / "none")).run(None, {})
    assert result["failed"] is True
    assert "none" in result["msg"]


@pytest.mark.parametrize(("transport", "refused"), [("local", True), ("ssh", False)])
def test_a_directory_is_not_copied_into_itself(source: Path, transport: str, refused: bool) -> None:
    result = Action(options(source, dest=str(source / "deeper")), transport, check_mode=True).run(None, {})
    assert bool(result.get("failed")) is refused
    if refused:
        assert f"context {source}/deeper: lies in its own source {source}" in result["msg"]


def test_a_source_is_its_own_context_and_neighbours_are_apart(source: Path) -> None:
    _check_apart(str(source), str(source))
    _check_apart(str(source), f"{source}-context")
    (source.parent / "link").symlink_to(source)
    with pytest.raises(FarmError, match="lies in its own source"):
        _check_apart(str(source), str(source.parent / "link/sub"))


def test_folders_in_their_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    arguments = {"extra_vars": ("a=b", "@~/vars/images.yml", "@here.yml")}
    monkeypatch.setattr(context, "CLIARGS", arguments)
    (tmp_path / "inventory").mkdir()
    sources = {"ansible_inventory_sources": [str(tmp_path / "inventory"), "/etc/hosts.yml", "host1,host2"]}
    assert source_folders(Action({}), sources) == [
        *(os.getcwd(), "/home/me/vars", str(tmp_path), "/playbooks"),
        *(str(tmp_path / "inventory"), "/etc"),
        *("/roles/x/files", "/roles/x", "/playbooks/files", "/playbooks"),
    ]
