# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The guides name nothing that there is not: modules with options they take, variables, playbooks, files."""

from __future__ import annotations

import importlib
import re
import runpy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import guides
import specs
from checkout import CHECKOUT
from guides import GUIDES

Check = Callable[[str, dict[str, Any]], list[str]]
NAME = "buildfarm.multiarch"
#: What variables of the roles begin with; names of theirs in a text are followed by more letters.
PREFIXES = ("buildx", "emulators", "engine", "farm", "images", "listener", "mirror")
#: What groups of the inventory plugin begin with.
GROUPS = tuple(f"buildx_{kind}_" for kind in ("architecture", "builder", "driver", "platform", "status"))
#: Languages of blocks.
_LANGUAGES = {"yaml", "console", "text", "ini", "toml", "json", "dockerfile", "hcl", "shell", "yaml+jinja", "html"}


def names() -> set[str]:
    """All that the collection calls something: variables, modules, filters, roles, playbooks, options of modules."""
    found = {path.stem for folder in ("plugins/*", "playbooks") for path in CHECKOUT.glob(f"{folder}/*.*")}
    found |= {path.name for path in CHECKOUT.glob("roles/*")} | set(specs.role_variables(CHECKOUT))
    for path in CHECKOUT.glob("plugins/modules/*.py"):
        found |= set(re.findall(r"^ +([a-z_]+):", path.read_text(), re.MULTILINE))
    return found | set(re.findall(r"[a-z]+_[a-z_]+", "".join(p.read_text() for p in CHECKOUT.glob("playbooks/*.yml"))))


@pytest.fixture(scope="module")
def complaints(tree: Path) -> Iterator[Check]:
    """What is wrong with a module's options, as Ansible says it; the value of a template is taken to be right."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.syspath_prepend(str(tree.parents[2]))
        declared: list[Any] = []
        for name in ("module", "live_module"):
            adapter = importlib.import_module(f"ansible_collections.{NAME}.plugins.module_utils._core.{name}")
            monkeypatch.setattr(adapter, "main", lambda spec, _logic, **rules: declared.append((spec, rules)))

        def check(module: str, values: dict[str, Any]) -> list[str]:
            runpy.run_path(str(tree / f"plugins/modules/{module}.py"), run_name="__main__")
            spec, rules = declared.pop()
            return specs.complaints(spec, values, **rules)

        yield check


def mappings(item: Any) -> Iterator[dict[str, Any]]:
    """All dictionaries in a document, the outermost first."""
    if isinstance(item, dict):
        yield item
    for one in item.values() if isinstance(item, dict) else item if isinstance(item, list) else ():
        yield from mappings(one)


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.stem)
def test_what_a_guide_shows_is_what_the_collection_takes(guide: Path, complaints: Check) -> None:
    optional = {name: {**option, "required": False} for name, option in specs.role_variables(CHECKOUT).items()}
    wrong = []
    for block in guides.blocks(guide):
        if block.language not in _LANGUAGES:
            wrong.append(f"a block of {block.language}")
        for item in mappings(yaml.safe_load(block.text)) if block.language.startswith("yaml") else ():
            for key, value in item.items():
                if isinstance(key, str) and key.startswith(f"{NAME}.") and isinstance(value, dict):
                    wrong += [f"{key}: {one}" for one in complaints(key.rpartition(".")[2], value)]
            given = {key: value for key, value in item.items() if key in optional}
            wrong += specs.complaints({key: optional[key] for key in given}, given)
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.stem)
def test_a_guide_names_nothing_that_there_is_not(guide: Path) -> None:
    text, known = guide.read_text(), names()
    said = set(re.findall(rf"\b(?:{'|'.join(PREFIXES)})_[a-z][a-z_]*\b(?![./@-])", text))
    said = {name for name in said if not name.startswith(GROUPS)}
    plugins = set(re.findall(rf"\b{re.escape(NAME)}\.([a-z][a-z_]*)", text)) - {"docsite"}
    files = set(re.findall(r"``((?:examples|playbooks|roles|docs|meta)/[^`{<…*]+)``", text))
    assert not sorted((said | plugins) - known)
    assert not sorted(name for name in files if not (CHECKOUT / name).exists())


def test_each_guide_is_listed() -> None:
    sections = yaml.safe_load((CHECKOUT / "docs/docsite/extra-docs.yml").read_text())["sections"]
    listed = [name for section in sections for name in section["toctree"]]
    assert sorted(listed) == sorted(path.stem for path in (CHECKOUT / "docs/docsite/rst").glob("*.rst"))


@pytest.mark.parametrize("role", sorted(path.name for path in CHECKOUT.glob("roles/*")))
def test_a_role_names_its_variables(role: str) -> None:
    text = (CHECKOUT / f"roles/{role}/README.md").read_text()
    own = (name for name in specs.role_variables(CHECKOUT) if name.startswith(f"{role}_"))
    assert not [name for name in own if not re.search(rf"\b{name}\b", text)]
