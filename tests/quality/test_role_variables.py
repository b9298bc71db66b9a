# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The roles' variables as Ansible itself reads them, from every place where they may be given."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml

import cores
from specs import role_variables

Tool = Callable[..., str]

PLAYBOOK = """
- hosts: all
  gather_facts: false
  connection: local
  tasks:
    - buildfarm.multiarch.farm_facts:
    - ansible.builtin.copy:
        dest: "{{ answer }}"
        content: "{{ found | to_json }}"
        mode: "0600"
      vars:
        found: "{{ dict(roles | zip(query('buildfarm.multiarch.role_options', *roles))) }}"
"""
ANSIBLE_CORES = ["", cores.venv(cores.OLDEST)]


def roles(tree: Path) -> list[str]:
    return sorted(path.parent.parent.name for path in tree.glob("roles/*/meta/argument_specs.yml"))


def example(name: str, spec: dict[str, Any]) -> Any:
    """A value that is not the default, where there is another one that is sure to be right."""
    kind = spec.get("type", "str")
    if kind == "bool":
        return not spec.get("default", False)
    if kind == "int":
        return 2400
    if kind == "dict" and "options" in spec:
        return {key: example(key, option) for key, option in spec["options"].items()}
    if name == "engine_registry_authorities":
        return {"r.example.com:5000": "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"}
    if kind == "dict":
        return {"image": "registry.example.com/a:1", "quoted": 'a "b"'}
    if kind == "list" and spec.get("elements") == "dict":
        return [{"name": "registry.example.com/a:1", "platforms": ["linux/arm64"], "build_args": {"A": "1"}}]
    if kind == "list":
        return ["linux/amd64", "linux/arm64"]
    if "choices" in spec:
        return spec["choices"][-1]
    return "26.1.5" if "version" in name or "release" in name else "tcp://amd1:2376" if "endpoint" in name else "text"


def as_text(value: Any) -> str:
    """What a survey or a command line sends for a value."""
    return value if isinstance(value, str) else json.dumps(value)


@pytest.mark.parametrize("venv", ANSIBLE_CORES)
def test_variables_mean_the_same_wherever_they_are_given(tree: Path, tool: Tool, tmp_path: Path, venv: str) -> None:
    declared = {name: example(name, spec) for name, spec in role_variables(tree).items()}
    playbook, here = tmp_path / "play.yml", "h1 ansible_python_interpreter=/usr/bin/python3\n"
    playbook.write_text(PLAYBOOK)
    (tmp_path / "bare").write_text(here)
    (tmp_path / "yaml").write_text(here)
    (tmp_path / "variables.yml").write_text(yaml.safe_dump(declared))
    text = {name: as_text(value) for name, value in declared.items()}
    (tmp_path / "ini").write_text(here + "[all:vars]\n" + "".join(f"{name}={value}\n" for name, value in text.items()))
    options = {
        "yaml": ["-e", f"@{tmp_path}/variables.yml"],
        "ini": [],
        "bare": ["-e", json.dumps(text)],  # As AWX passes the answers of a survey.
    }
    found = {}
    for inventory, given in options.items():
        answer = tmp_path / f"{inventory}.json"
        own = ["-e", json.dumps({"answer": str(answer), "roles": roles(tree)})]
        tool(venv, "ansible-playbook", "-i", tmp_path / inventory, *given, *own, playbook)
        found[inventory] = json.loads(answer.read_text())
    for role, values in found["yaml"].items():
        assert values == {name[len(role) + 1 :]: declared[name] for name in declared if name.startswith(f"{role}_")}
    assert found["ini"] == found["yaml"]
    assert found["bare"] == found["yaml"]


def expressions(part: Any, key: str = "") -> Iterator[str]:
    """The templates in a task, a list of them or a file of variables; a condition is one without its braces."""
    if isinstance(part, dict):
        for name, value in part.items():
            yield from expressions(value, name)
    elif isinstance(part, list):
        for one in part:
            yield from expressions(one, key)
    elif isinstance(part, str) and ("{{" in part or "{%" in part):
        yield part
    elif isinstance(part, str) and key in ("when", "that", "failed_when", "changed_when", "until"):
        yield f"{{{{ {part} }}}}"


def test_roles_read_their_variables_through_the_lookup(tree: Path) -> None:
    """Nothing but C(role_options) reads a role's variable, as only that knows what a text stands for."""
    names = set(role_variables(tree))
    paths = [*tree.glob("roles/*/tasks/*.yml"), *tree.glob("roles/*/vars/*.yml"), *tree.glob("playbooks/*.yml")]
    reads = [
        f"{path.relative_to(tree)}: {name}"
        for path in sorted(paths)
        for text in expressions(yaml.safe_load(path.read_text()))
        for name in sorted(names & {node.name for node in jinja2.Environment().parse(text).find_all(jinja2.nodes.Name)})
    ]
    assert not reads, "\n".join(reads)


def set_by(part: Any) -> Iterator[str]:
    """The variables that tasks register, and those that they give to what they include."""
    if isinstance(part, dict):
        yield from [part["register"]] if isinstance(part.get("register"), str) else []
        yield from part["vars"] if isinstance(part.get("vars"), dict) else []
        for value in part.values():
            yield from set_by(value)
    elif isinstance(part, list):
        for one in part:
            yield from set_by(one)


def test_a_role_s_own_variables_are_marked_by_their_name(tree: Path) -> None:
    """What users set looks like C(listener_x); what begins with an underscore is nobody's but the role's."""
    given = set(role_variables(tree))
    wrong = []
    for role in roles(tree):
        own = {
            name for path in tree.glob(f"roles/{role}/tasks/*.yml") for name in set_by(yaml.safe_load(path.read_text()))
        }
        for path in tree.glob(f"roles/{role}/vars/*.yml"):
            own |= set(yaml.safe_load(path.read_text()))
        wrong += [f"{role}: {name}" for name in sorted(own - given) if not name.startswith("_")]
    assert not wrong, "\n".join(wrong)
