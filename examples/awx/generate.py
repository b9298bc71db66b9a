#!/usr/bin/env python3
# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Writes controller/templates.yml: job templates whose surveys ask for variables of the roles, as these describe them.

    generate.py [--check]

What is asked for is in surveys.yml. With --check nothing is written, and the exit status is 1 if the file is another.
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent
COLLECTION = HERE.parents[1]
TARGET = HERE / "controller/templates.yml"
HEADER = (
    "---\n# Written by generate.py, from surveys.yml and what roles and modules say of their variables. Do not edit.\n"
)
#: Types of answers, see "Surveys" in AWX's user guide. There is none for booleans, lists and dictionaries.
TYPES = {"int": "integer", "float": "float"}
LONGEST = 1024
HIGHEST = 2**31 - 1


class _Indented(yaml.SafeDumper):
    """Indents lists, as ansible-lint wants it, and writes no reference to what stands above."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: object) -> bool:
        return True


def variables() -> dict[str, dict[str, Any]]:
    """Return what the roles say of their variables."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(COLLECTION.glob("roles/*/meta/argument_specs.yml")):
        for entry in yaml.safe_load(path.read_text())["argument_specs"].values():
            found.update(entry.get("options") or {})
    return found


def module_option(name: str) -> dict[str, Any]:
    """Return what a module says of an option, by MODULE.OPTION."""
    module, _dot, option = name.partition(".")
    tree = ast.parse((COLLECTION / f"plugins/modules/{module}.py").read_text())
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "DOCUMENTATION":
            return dict(yaml.safe_load(ast.literal_eval(node.value))["options"][option])
    raise SystemExit(f"{module}: no documentation")


def plain(description: str | list[str]) -> str:
    """Return the first paragraph of a description without its markup."""
    text = description if isinstance(description, str) else description[0]
    text = re.sub(r"\bO\(([^)]*#module:)?([^)=]*)(=[^)]*)?\)", r"\2\3", text)
    return " ".join(re.sub(r"\b[BCEIMPV]\(([^)]*)\)", r"\1", text).split())


def question(name: str, spec: dict[str, Any], required: bool, default: str) -> dict[str, Any]:
    """Return one question of a survey."""
    kind, choices = TYPES.get(spec.get("type", "str"), "text"), list(spec.get("choices") or [])
    if spec.get("type") == "bool":
        # Text, as multiple choice has no other answers.
        choices = ["true", "false"]
    if choices:
        kind = "multiplechoice"
    hint = {"list": " Several with commas between them.", "dict": " As JSON."}.get(spec.get("type", ""), "")
    return {
        "question_name": name.partition("_")[2].replace("_", " ").capitalize(),
        "question_description": f"{plain(spec['description'])}{hint} ({name})",
        "required": required,
        "type": kind,
        "variable": name,
        "min": 0,
        "max": HIGHEST if kind in TYPES.values() else LONGEST,
        "default": default,
        "choices": choices,
        "new_question": False,
    }


def templates(table: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the job templates of a table."""
    known, found = variables(), []
    for playbook, given in table["templates"].items():
        specs = {name: known[name] for name in given["variables"] if name in known}
        specs |= {name: module_option(option) for name, option in given.get("options", {}).items()}
        unknown = set(given["variables"]) ^ set(specs)
        if unknown:
            raise SystemExit(f"surveys.yml, {playbook}: no role has the variable {', '.join(sorted(unknown))}")
        name = f"Build farm - {playbook.replace('_', ' ')}"
        questions = [
            question(
                variable,
                specs[variable],
                bool(specs[variable].get("required")) or variable in given.get("required", ()),
                str(given.get("defaults", {}).get(variable, "")),
            )
            for variable in given["variables"]
        ]
        found.append(
            {
                "name": name,
                "description": given["description"],
                **table["common"],
                "playbook": f"{playbook}.yml",
                "credentials": [*table["credentials"], *given.get("credentials", [])],
                **{f"ask_{prompt}_on_launch": True for prompt in given.get("prompts", [])},
                "survey_enabled": True,
                "survey_spec": {"name": name, "description": given["description"], "spec": questions},
            }
        )
    return found


def main(arguments: list[str]) -> int:
    """Run the command line; returns the exit status."""
    table = yaml.safe_load((HERE / "surveys.yml").read_text())
    data = {"controller_templates": templates(table)}
    text = HEADER + yaml.dump(data, Dumper=_Indented, sort_keys=False, width=100, default_flow_style=False)
    if arguments == ["--check"]:
        return 0 if TARGET.exists() and TARGET.read_text() == text else 1
    TARGET.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
