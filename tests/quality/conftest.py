# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where the ecosystem's tools run: a copy of the collection at the only place they accept, and a home of their own."""

from __future__ import annotations

import ast
import fcntl
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from checkout import CHECKOUT, copy_collection

sys.path.insert(0, str(CHECKOUT / "tests"))

import bootstrap

#: Runs a tool (venv's name, argv, working directory) and returns what it printed; fails the test where the tool fails.
Tool = Callable[..., str]


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the collection, to be left as it is."""
    return copy_collection(tmp_path_factory.mktemp("quality"))


@pytest.fixture
def own_tree(tmp_path: Path) -> Path:
    """Return a copy of the collection for a tool that writes into it."""
    return copy_collection(tmp_path)


@pytest.fixture(scope="session")
def home() -> Path:
    """Return a home directory for the tools, kept with their environment because ansible-test fills it with others."""
    path = bootstrap.ensure_venv("quality").parent.resolve() / "home"
    (path / ".config" / "pip").mkdir(parents=True, exist_ok=True)
    (path / ".config" / "pip" / "pip.conf").write_text(_pip_configuration())
    return path


@pytest.fixture(scope="session")
def tool(tree: Path, home: Path) -> Tool:
    """Return the function that runs a tool of a virtual environment."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("ANSIBLE_", "PYTEST_"))}
    environment.update(
        HOME=str(home),
        LC_ALL="C.UTF-8",
        NO_COLOR="1",
        ANSIBLE_NOCOLOR="1",
        ANSIBLE_COLLECTIONS_PATH=str(tree.parents[2]),
        XDG_CACHE_HOME=str(home / ".cache"),
    )
    # ansible-test takes every pythonX.Y on the path for one that works; pyenv's wrappers do not, unless selected.
    pythons = [str(path.parent) for path in bootstrap.pythons().values()]

    def run(venv: str, *argv: str | Path, cwd: Path = tree, **extra: str) -> str:
        tools = bootstrap.ensure_venv(venv)
        with (home / "lock").open("w") as lock:
            if argv[0] == "ansible-test":
                # It does not expect another one at work on its environments.
                fcntl.flock(lock, fcntl.LOCK_EX)
                _provide_pip(tools, home)
            done = subprocess.run(
                [tools / argv[0], *argv[1:]],
                cwd=cwd,
                env={**environment, "PATH": os.pathsep.join([str(tools), *pythons, environment["PATH"]]), **extra},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
        if done.returncode != 0:
            pytest.fail(f"{argv[0]} ended with {done.returncode}:\n{done.stdout}", pytrace=False)
        return done.stdout

    return run


def _provide_pip(tools: Path, home: Path) -> None:
    """Keep ansible-test from downloading get-pip.py of the version that it wants, from a site of its own.

    Python has a pip aboard, and a file of that name in its cache is taken instead.
    """
    (source,) = tools.parent.glob("lib/python*/site-packages/ansible_test/_internal/python_requirements.py")
    (version,) = re.findall(r"\bpip='([0-9.]+)'", source.read_text())
    get_pip = home / ".ansible" / "test" / "cache" / f"get_pip_{version.replace('.', '_')}.py"
    get_pip.parent.mkdir(parents=True, exist_ok=True)
    get_pip.write_text("import ensurepip\nensurepip.bootstrap(default_pip=True)\n")


def _pip_configuration() -> str:
    """Return this machine's pip settings as one pip.conf.

    ansible-test takes all PIP_* variables away, and the user's own pip.conf is out of sight in another home.
    """
    listing = [bootstrap.ensure_venv() / "pip", "config", "list"]
    output = subprocess.run(listing, check=True, capture_output=True, text=True).stdout
    sections: dict[str, dict[str, str]] = {}
    # A line is section.option='value'; variables come last, in a section named :env:, and win.
    for section, option, value in re.findall(r"^([^.]+)\.([^=]+)=('.*'|\".*\")$", output, re.MULTILINE):
        name = "global" if section == ":env:" else section
        sections.setdefault(name, {})[option] = ast.literal_eval(value).strip().replace("\n", "\n    ")
    return "".join(
        f"[{section}]\n" + "".join(f"{option} = {value}\n" for option, value in options.items())
        for section, options in sections.items()
    )
