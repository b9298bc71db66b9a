# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where code lies: packages by subject, whose imports point one way."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import yaml

#: Each package with those that it may import, all of which stand above it.
PACKAGES = {
    "_core": [],
    "_platform": ["_core"],
    "_host": ["_core", "_platform"],
    "_packages": ["_core"],
    "_docker": ["_core", "_platform"],
    "_buildx": ["_core", "_platform", "_docker"],
    "_registry": ["_core", "_docker", "_buildx"],
    "_source": ["_core"],
    "_image": ["_core", "_platform", "_docker", "_buildx", "_registry"],
    "_key": ["_core", "_platform", "_docker", "_registry", "_source", "_image"],
    "_imagetools": ["_core", "_platform", "_docker", "_buildx", "_registry", "_image"],
    "_context": ["_core", "_docker", "_buildx"],
    "_plugin": ["_core", "_platform", "_host", "_docker", "_buildx"],
    "_binfmt": ["_core", "_platform", "_host", "_docker"],
    "_drain": ["_core", "_docker", "_buildx"],
    "_listener": ["_core", "_host", "_docker"],
    "_certificate": ["_core", "_docker"],
    "_builder": ["_core", "_platform", "_docker", "_buildx", "_context"],
    "_inventory": ["_core", "_platform", "_docker", "_buildx", "_builder"],
    "_prune": ["_core", "_docker", "_buildx", "_context"],
    "_report": ["_core", "_platform", "_docker", "_buildx", "_registry", "_image", "_key", "_builder", "_prune"],
    "_build": ["_core", "_platform", "_docker", "_buildx", "_registry", "_source", "_image", "_key"],
    "_bake": ["_core", "_buildx", "_image", "_build"],
}
#: What is of no package: it draws on several.
ALONE = {"_farm_facts", "_farm_job"}
#: Keys of a task's result that Ansible, its strategies and its callbacks take for their own.
RESERVED = set(
    "failed skipped unreachable results invocation warnings deprecations attempts retries add_host add_group".split()
)
_COLLECTION = ("ansible_collections", "buildfarm", "multiarch")


def imported(path: Path, tree: Path) -> set[Path]:
    """The collection's own files that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.ImportFrom):
            continue
        if node.level:
            base = path.parents[node.level - 1].joinpath(*(node.module or "").split(".") if node.module else ())
        elif tuple((node.module or "").split(".")[:3]) == _COLLECTION:
            base = tree.joinpath(*(node.module or "").split(".")[3:])
        else:
            continue
        candidates = [base.with_suffix(".py"), *(base / f"{alias.name}.py" for alias in node.names)]
        found |= {candidate for candidate in candidates if candidate.is_file()}
    return found


def payload(module: Path, tree: Path) -> set[Path]:
    """The collection's files that travel to a host with a module."""
    seen: set[Path] = set()
    waiting = [module]
    while waiting:
        path = waiting.pop()
        if path not in seen:
            seen.add(path)
            waiting += imported(path, tree)
    return seen


def test_each_file_lies_in_a_package(tree: Path) -> None:
    utils = tree / "plugins/module_utils"
    assert {path.stem for path in utils.glob("*.py")} == ALONE
    assert {path.name for path in utils.iterdir() if path.is_dir() and path.name != "__pycache__"} == set(PACKAGES)


def test_imports_between_packages_point_one_way(tree: Path) -> None:
    utils = tree / "plugins/module_utils"
    order = list(PACKAGES)
    assert not [name for name, below in PACKAGES.items() if any(order.index(one) > order.index(name) for one in below)]
    wrong = []
    for path in sorted(utils.glob("*/*.py")):
        package = path.parent.name
        for other in sorted(imported(path, tree)):
            allowed = {package, *PACKAGES[package]}
            if other.parent.name not in allowed:
                wrong.append(f"{path.relative_to(utils)} imports {other.relative_to(utils)}")
    assert not wrong, "\n".join(wrong)


def test_packages_import_nothing_that_they_need_not_be_allowed(tree: Path) -> None:
    """The table says what is, so that it can be read instead of the code."""
    utils = tree / "plugins/module_utils"
    for package, allowed in PACKAGES.items():
        used = {other.parent.name for path in utils.glob(f"{package}/*.py") for other in imported(path, tree)}
        assert set(allowed) == used - {package}


def test_payloads(tree: Path, record_property: Callable[[str, str], None]) -> None:
    """Say how much of the collection travels with each module, in KiB and files."""
    for module in sorted((tree / "plugins/modules").glob("*.py")):
        files = payload(module, tree)
        size = sum(path.stat().st_size for path in files if path != module)
        record_property(module.stem, f"{size / 1024:.0f} KiB in {len(files) - 1} files")
        assert files


def returned(path: Path) -> Iterator[str]:
    """The keys of results that a file documents, or gives to a failure."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "RETURN":
            yield from yaml.safe_load(ast.literal_eval(node.value)) or ()
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("Error"):
            yield from (one.arg for one in node.keywords if one.arg)


def test_results_have_no_key_that_is_ansibles_own(tree: Path) -> None:
    """A failure with the key `unreachable`, say, is taken for that of a host that does not answer."""
    files = [*(tree / "plugins/modules").glob("*.py"), *(tree / "plugins/module_utils").rglob("*.py")]
    found = {path.name: RESERVED.intersection(returned(path)) for path in files}
    assert {name: keys for name, keys in found.items() if keys} == {}
    assert "journal" in returned(tree / "plugins/module_utils/_listener/apply.py")
