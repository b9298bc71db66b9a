# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the role engine says of systems that cannot have an engine, from their os-release files.

Ansible itself evaluates the role, on this machine, with facts made of those files; nothing is installed. What is
planned for each distribution is shown by tests/unit/plugins/module_utils/test_package_plan.py.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import cores

Tool = Callable[..., str]

BSD = {"system": "FreeBSD", "systemd": False, "lineage": ["freebsd"], "release": "14.1"}
MACOS = {"system": "Darwin", "systemd": False, "lineage": [], "release": None}
#: A system, what differs there, the role's source of packages, and what it says.
REFUSED: list[tuple[str, dict[str, Any], str, str]] = [
    ("", MACOS, "distribution", "found Darwin without systemd, wanted Linux booted with systemd"),
    ("", BSD, "distribution", "found FreeBSD freebsd without systemd, wanted Linux booted with systemd"),
    ("alpine-3.20", {"systemd": False}, "distribution", "found Linux alpine without systemd, wanted Linux booted"),
    ("alpine-3.20", {}, "none", "found alpine without Docker's engine, wanted Docker's engine, and engine_source is"),
    ("rocky-9", {}, "distribution", "it knows no packages for this distribution; choose 'docker', or name"),
    ("opensuse-leap-15.6", {}, "docker", "it knows no packages for this distribution; choose 'distribution', or"),
]


def facts(tree: Path, name: str) -> dict[str, Any]:
    """The facts of a host without an engine; without a name of a system that has no os-release file."""
    module = importlib.import_module(
        "ansible_collections.buildfarm.multiarch.plugins.module_utils._packages.distribution"
    )
    found = module.distribution([str(tree / "tests/unit/fixtures/os-release" / (name or "none"))])
    nothing = {"packages": {}, "engine_package_version": None, "repository": None, "engine": False}
    return {"system": "Linux", "systemd": True, **found, **nothing}


def play(venv: str, tool: Tool, folder: Path, hosts: dict[str, Any], task: dict[str, Any]) -> str:
    """Run a task for hosts with these variables; `recorded` becomes what farm_facts tells. Returns the output."""
    local = {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"}
    (folder / "inventory.json").write_text(json.dumps({"all": {"vars": local, "hosts": hosts}}))
    # By one process for all hosts.
    remember = {
        "name": "Remember",
        "ansible.builtin.set_fact": {"buildfarm": "{{ hostvars[item].recorded }}", "cacheable": True},
        "loop": "{{ ansible_play_hosts }}",
        "delegate_to": "{{ item }}",
        "delegate_facts": True,
        "run_once": True,
    }
    plays = [{"hosts": "all", "gather_facts": False, "tasks": [remember, task]}]
    (folder / "play.json").write_text(json.dumps(plays))
    return tool(venv, "ansible-playbook", "--inventory", folder / "inventory.json", folder / "play.json", cwd=folder)


@pytest.fixture(autouse=True)
def importable(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the collection's Python importable."""
    monkeypatch.syspath_prepend(tree.parents[2])


@pytest.mark.parametrize("venv", ["", cores.venv(cores.OLDEST)])
def test_hosts_that_cannot_have_an_engine(tree: Path, tool: Tool, tmp_path: Path, venv: str) -> None:
    """The role ends with one error, before it has connected to the host."""
    # The address of nothing: whatever connects, fails otherwise.
    nowhere = {"ansible_connection": "ssh", "ansible_host": "192.0.2.1"}
    hosts = {
        f"node{number}": {"recorded": {**facts(tree, name), **found}, "engine_source": source, **nowhere}
        for number, (name, found, source, _said) in enumerate(REFUSED)
    }
    role = {"name": "Apply", "ansible.builtin.import_role": {"name": "buildfarm.multiarch.engine"}}
    with pytest.raises(pytest.fail.Exception) as caught:
        play(venv, tool, tmp_path, hosts, role)
    _start, *errors = " ".join(str(caught.value).split()).split("fatal: [")
    assert len(errors) == len(REFUSED)
    for host, (_name, _found, _source, said) in zip(hosts, REFUSED):
        (error,) = [error for error in errors if error.startswith(f"{host}]")]
        assert said in error
