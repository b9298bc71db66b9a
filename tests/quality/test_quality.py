# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the Ansible ecosystem's tools say about the collection, and what its own parts say about each other."""

from __future__ import annotations

import ast
import importlib
import json
import re
import runpy
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import bootstrap
import cores
import docs
import messages
from checkout import CHECKOUT
from specs import complaints, role_variables

Tool = Callable[..., str]

#: Top-level names that the tarball may hold: what users of the collection need, and nothing that only its authors need.
SHIPPED = set(
    "CHANGELOG.md CONTRIBUTING.md COPYING FILES.json LICENSES MANIFEST.json README.md changelogs docs meta"
    " playbooks plugins roles".split()
)


def modules(tree: Path) -> set[str]:
    return {path.stem for path in (tree / "plugins" / "modules").glob("[!_]*.py")}


def roles(tree: Path) -> set[str]:
    return {path.parent.parent.name for path in (tree / "roles").glob("*/tasks/main.yml")}


def load_yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text()) if path.exists() else None


def check_playbooks(venv: str, tree: Path, tool: Tool, **extra: Any) -> None:
    listed = json.loads(tool(venv, "ansible-doc", "--list", "--json", "buildfarm.multiarch", **extra))
    assert set(listed) == {f"buildfarm.multiarch.{name}" for name in modules(tree)}
    names = [f"buildfarm.multiarch.{path.stem}" for path in sorted((tree / "playbooks").glob("*.yml"))]
    tool(venv, "ansible-playbook", "--syntax-check", "--inventory=localhost,", *names, **extra)


@pytest.fixture(scope="session")
def tarball(tool: Tool, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the collection as ansible-galaxy packs it."""
    directory = tmp_path_factory.mktemp("tarball")
    tool("quality", "ansible-galaxy", "collection", "build", "--output-path", directory)
    (path,) = directory.glob("*.tar.gz")
    return path


def test_ruff(tool: Tool) -> None:
    tool("", "ruff", "check", "--no-cache")
    tool("", "ruff", "format", "--check", "--no-cache")


def test_mypy(tree: Path, tool: Tool) -> None:
    package = "ansible_collections.buildfarm.multiarch.plugins"
    tool("", "mypy", "--config-file", tree / "pyproject.toml", "--package", package, cwd=tree.parents[2])


def test_python38_syntax(tree: Path, tool: Tool) -> None:
    """What a node or ansible-test runs with Python 3.8 keeps to its grammar and its standard library."""
    tests = tree / "tests"
    files = [*(tree / "plugins").rglob("*.py"), *(tests / "unit").rglob("*.py"), tests / "conftest.py"]
    for path in files:
        ast.parse(path.read_text(), str(path.relative_to(tree)), feature_version=(3, 8))
    # Imported where Python has it, and done without where it does not; ansible-test's import test sees to that.
    optional = ["--exclude", "tomllib"]
    tool("quality", "vermin", "--target=3.8-", "--violations", "--no-tips", "--quiet", *optional, *files)


def test_ansible_test_sanity(own_tree: Path, tool: Tool) -> None:
    """All of its tests, none of them left out for want of a program other than one of the many Pythons."""
    output = tool("quality", "ansible-test", "sanity", "--color", "no", cwd=own_tree)
    assert not re.findall(r"Skipping (?!.* on Python [0-9.]+ because it could not be found).*", output), output


def keep_environments(own_tree: Path, folder: str) -> None:
    """Have ansible-test make its environments in a folder that stays: it takes those that it finds."""
    environments, kept = own_tree / "tests/output/.tmp/delegation", Path(folder) / "delegation"
    kept.mkdir(exist_ok=True)
    environments.parent.mkdir(parents=True, exist_ok=True)
    environments.symlink_to(kept)


def test_ansible_test_units(own_tree: Path, home: Path, tool: Tool) -> None:
    """The unit tests as ansible-test runs them, with the oldest Python that a node may have where it is at hand."""
    oldest = tool("", "python", "-c", "import shutil; print(shutil.which('python3.8') or '')").strip()
    version = "3.8" if oldest else f"{sys.version_info.major}.{sys.version_info.minor}"
    keep_environments(own_tree, str(home))
    tool("quality", "ansible-test", "units", "--color", "no", "--venv", "--python", version, cwd=own_tree)


def test_no_sanity_ignores(tree: Path) -> None:
    assert not list((tree / "tests" / "sanity").glob("ignore-*"))


def test_ansible_lint(tool: Tool) -> None:
    tool("quality", "ansible-lint", "--offline", "--strict")


def test_antsibull_docs(tool: Tool) -> None:
    references = ["--validate-collection-refs=all", "--disallow-unknown-collection-refs", "--check-extra-docs-refs"]
    tool("quality", "antsibull-docs", "lint-collection-docs", "--plugin-docs", *references, ".")


def test_all_messages_are_documented() -> None:
    assert messages.PAGE.read_text() == messages.page(), "please run: make docs"


def test_docs_site(tmp_path: Path) -> None:
    """The site of the documentation is made without a warning, and has a page for each module, filter and guide."""
    docs.build(tmp_path / "html")
    guides = load_yaml(CHECKOUT / "docs/docsite/extra-docs.yml")["sections"]
    wanted = {f"{name}_module" for name in modules(CHECKOUT)} | {f"{name}_role" for name in roles(CHECKOUT)}
    wanted |= {f"docsite/{guide}" for section in guides for guide in section["toctree"]}
    assert not [name for name in sorted(wanted) if not (tmp_path / f"html/{name}.html").exists()]


def test_antsibull_changelog(own_tree: Path, tool: Tool) -> None:
    """The changelog is valid, and lists all modules, filters and roles as they describe themselves."""
    tool("quality", "antsibull-changelog", "lint", cwd=own_tree)
    before = (own_tree / "CHANGELOG.md").read_text()
    tool("quality", "antsibull-changelog", "release", "--reload-plugins", "--refresh-plugins", cwd=own_tree)
    assert (own_tree / "CHANGELOG.md").read_text() == before, "please run: make changelog"


def test_galaxy_importer_without_warnings(tarball: Path, tool: Tool, tmp_path: Path) -> None:
    """Galaxy takes the tarball as it is. The same ansible-lint has seen all of it in a test of its own."""
    settings = {"GALAXY_IMPORTER_RUN_ANSIBLE_LINT": "false"}
    output = tool("importer", "python", "-m", "galaxy_importer.main", tarball, cwd=tmp_path, **settings)
    assert "Importer processing completed successfully" in output, output
    complaints = re.findall(r"^(?:WARNING|ERROR|CRITICAL): .*", output, re.MULTILINE)
    assert not complaints, "\n".join(complaints)


def test_collection_builds_and_installs(tree: Path, tarball: Path, tool: Tool, tmp_path: Path) -> None:
    """The tarball holds what it should, and what is installed from it is whole without the checkout."""
    with tarfile.open(tarball) as archive:
        names = archive.getnames()
    assert {name.split("/")[0] for name in names} <= SHIPPED
    assert not [name for name in names if name.endswith(".pyc") or "/tests/" in name]

    installed = {"cwd": tmp_path, "ANSIBLE_COLLECTIONS_PATH": str(tmp_path)}
    tool("quality", "ansible-galaxy", "collection", "install", "--offline", "-p", tmp_path, tarball, **installed)
    check_playbooks("quality", tree, tool, **installed)


def test_supported_versions_of_ansible_core(tree: Path) -> None:
    """What is tested is what meta/runtime.yml promises and what users are told."""
    promised = load_yaml(tree / "meta" / "runtime.yml")["requires_ansible"]
    assert re.findall(r"\d+\.\d+", promised) == [cores.OLDEST] == cores.ALL[:1]
    assert f"ansible-core {cores.OLDEST} to {cores.NEWEST}" in (tree / "README.md").read_text()
    for core in {*cores.ALL} - {cores.DEFAULT}:
        assert f"\nansible-core=={core}." in (CHECKOUT / f"tests/requirements-{cores.venv(core)}.txt").read_text()


@pytest.fixture(params=cores.chosen())
def core(request: pytest.FixtureRequest) -> str:
    """A version of ansible-core; some want a newer Python than this machine may have."""
    version = str(request.param)
    if reason := bootstrap.lacks(cores.venv(version)):
        pytest.skip(reason)
    return version


def test_ansible_core_reads_all(tree: Path, tool: Tool, core: str) -> None:
    """It finds all modules, and reads all roles and playbooks."""
    check_playbooks(cores.venv(core), tree, tool)


def test_ansible_core_finds_nothing_wrong(own_tree: Path, tool: Tool, core: str) -> None:
    """Its ansible-test is content with the collection, and runs the unit tests on the Python of a controller."""
    tool(cores.venv(core), "ansible-test", "sanity", "--color", "no", cwd=own_tree)
    keep_environments(own_tree, tool(cores.venv(core), "python", "-c", "import sys; print(sys.prefix)").strip())
    python = tool(cores.venv(core), "python", "-c", "import sys; print('%d.%d' % sys.version_info[:2])").strip()
    tool(cores.venv(core), "ansible-test", "units", "--color", "no", "--venv", "--python", python, cwd=own_tree)


def test_roles_defaults_match_argument_specs(tree: Path) -> None:
    """Each default is documented as what it is, and each documented default is set.

    A default that is a template has no value to document: its option's description says what it is.
    """
    wrong = []
    for role in sorted(roles(tree)):
        defaults = load_yaml(tree / "roles" / role / "defaults" / "main.yml") or {}
        specs = load_yaml(tree / "roles" / role / "meta" / "argument_specs.yml")["argument_specs"]
        options: dict[str, Any] = {}
        for spec in specs.values():
            options.update(spec.get("options") or {})
        for name in sorted({*defaults, *options}):
            if name not in options:
                wrong.append(f"{role}: {name} has a default and is not documented")
            elif name not in defaults and "default" in options[name]:
                wrong.append(f"{role}: {name} is documented with a default and has none")
            elif name in defaults and options[name].get("required"):
                wrong.append(f"{role}: {name} is required and has a default")
            elif name in defaults and "{{" not in str(defaults[name]):
                if options[name].get("default") != defaults[name]:
                    wrong.append(f"{role}: {name} defaults to {defaults[name]!r}, which is not what is documented")
            elif "default" in options[name]:
                wrong.append(f"{role}: {name} defaults to a template; describe it instead of documenting a default")
    assert not wrong, "\n".join(wrong)


def blocks(task: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A task, or those inside a block."""
    inside = [one for key in ("block", "rescue", "always") for one in task.get(key, [])]
    for one in inside:
        yield from blocks(one)
    if not inside:
        yield task


def test_examples_of_modules(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each example's options exist, have values that they take, and go together."""
    monkeypatch.syspath_prepend(str(tree.parents[2]))
    declared: list[Any] = []
    for name in ("module", "live_module"):
        adapter = importlib.import_module(f"ansible_collections.buildfarm.multiarch.plugins.module_utils._core.{name}")
        monkeypatch.setattr(adapter, "main", lambda spec, _logic, **rules: declared.append((spec, rules)))
    wrong = []
    for name in sorted(modules(tree)):
        examples = runpy.run_path(str(tree / f"plugins/modules/{name}.py"), run_name="__main__")["EXAMPLES"]
        spec, rules = declared.pop()
        items = yaml.safe_load(examples)
        tasks = [task for item in items for one in item.get("tasks", [item]) for task in blocks(one)]
        own = [task[f"buildfarm.multiarch.{name}"] or {} for task in tasks if f"buildfarm.multiarch.{name}" in task]
        assert own, f"{name} has no example of itself"
        wrong += [f"{name}: {text}: {one}" for one in own for text in complaints(spec, one, **rules)]
    assert not wrong, "\n".join(wrong)


def variables_of(example: Any) -> list[list[dict[str, Any]]]:
    """The variables in the plays, or in the groups of an inventory, of an example, by what they are given to."""
    if isinstance(example, list):
        return [[play.get("vars", {}), *play.get("roles", [])] for play in example]
    groups = list(example.values())
    return [[one or {}] for group in groups for one in (group.get("vars"), *(group.get("hosts") or {}).values())]


def test_examples_of_roles(tree: Path) -> None:
    """Each variable in the example of a role's README is one of a role, with a value that it takes."""
    specs = role_variables(tree)
    optional = {name: {**option, "required": False} for name, option in specs.items()}
    wrong = []
    for path in sorted(tree.glob("roles/*/README.md")):
        for block in re.findall(r"^```yaml\n(.*?)^```", path.read_text(), re.DOTALL | re.MULTILINE):
            for given in variables_of(yaml.safe_load(block)):
                found = {name: value for one in given for name, value in one.items() if name != "role"}
                wrong += [f"{path.parent.name}: {text}" for text in complaints(optional, found)]
    assert not wrong, "\n".join(wrong)


def test_names_do_not_collide(tree: Path) -> None:
    """ansible-test runs a role in place of a test target of the same name, and takes modules for targets."""
    targets = {path.name for path in (tree / "tests" / "integration" / "targets").glob("*")}
    assert not roles(tree) & modules(tree)
    assert not roles(tree) & targets


def test_each_module_has_a_target_of_ansible_test(tree: Path) -> None:
    """The targets run the examples of the documentation."""
    for name in modules(tree):
        tasks = tree / "tests" / "integration" / "targets" / name / "tasks" / "main.yml"
        assert f"setup_examples_module: {name}\n" in tasks.read_text(), name


def test_action_group_is_complete(tree: Path) -> None:
    """Every module that takes the controller's options can be given them once, with module_defaults."""
    group = load_yaml(tree / "meta" / "runtime.yml")["action_groups"]["controller"]
    sources = {name: (tree / "plugins" / "modules" / f"{name}.py").read_text() for name in modules(tree)}
    fragment = re.compile(r"^ *- buildfarm\.multiarch\.controller$", re.MULTILINE)
    assert group == sorted(name for name, source in sources.items() if fragment.search(source))


def test_local_links(tree: Path) -> None:
    """Links from one page to another file of the checkout lead somewhere."""
    link = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)")
    links = [(page, target) for page in tree.rglob("*.md") for target in link.findall(page.read_text())]
    assert not [f"{page.name}: {target}" for page, target in links if not (page.parent / target).exists()]
