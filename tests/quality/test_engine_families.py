# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the role engine would install on distributions of all families, from the os-release files of each.

Ansible itself evaluates the role, on this machine, with facts made of those files; nothing is installed.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

Tool = Callable[..., str]

DOCKER = ["docker-ce", "docker-ce-cli", "containerd.io"]
URL = "https://download.docker.com/linux"
#: By the names of tests/unit/fixtures/os-release: the family, the distribution's own packages, and where Docker's
#: repository has packages for it: path and, for apt, suite.
EXPECTED: dict[str, tuple[str, list[str], str]] = {
    "debian-12": ("Debian", ["docker.io"], "debian bookworm"),
    "debian-13": ("Debian", ["docker.io", "docker-cli"], "debian trixie"),
    "debian-forky": ("Debian", ["docker.io", "docker-cli"], "debian forky"),
    "raspbian-12": ("Debian", ["docker.io"], "raspbian bookworm"),
    "lmde-6": ("Debian", ["docker.io"], "debian bookworm"),
    "ubuntu-24.04": ("Debian", ["docker.io"], "ubuntu noble"),
    "linuxmint-22": ("Debian", ["docker.io"], "ubuntu noble"),
    "fedora-42": ("RedHat", ["moby-engine", "docker-cli"], "fedora"),
    "rhel-9": ("RedHat", [], "rhel"),
    "centos-9": ("RedHat", [], "centos"),
    "rocky-9": ("RedHat", [], "rhel"),
    "almalinux-10": ("RedHat", [], "rhel"),
    "ol-9": ("RedHat", [], "rhel"),
    "amzn-2023": ("RedHat", ["docker"], ""),
    "sles-15.6": ("Suse", ["docker"], "sles"),
    "opensuse-leap-15.6": ("Suse", ["docker"], ""),
    "alpine-3.20": ("", [], ""),
}
#: The role's variables for a version, and what the package manager of each of some distributions is told.
VERSIONS: list[tuple[dict[str, Any], dict[str, list[str]]]] = [
    (
        {"engine_source": "docker", "engine_version": "28.5.2"},
        {
            "debian-13": ["docker-ce=5:28.5.2-*", "docker-ce-cli=5:28.5.2-*", "containerd.io"],
            "rocky-9": ["docker-ce-28.5.2", "docker-ce-cli-28.5.2", "containerd.io"],
            # zypper wants to hear the epochs.
            "sles-15.6": ["docker-ce=3:28.5.2", "docker-ce-cli=1:28.5.2", "containerd.io"],
        },
    ),
    (
        {"engine_source": "docker", "engine_minimum_version": "28.0"},
        {
            "ubuntu-24.04": ["docker-ce>=5:28.0", "docker-ce-cli>=5:28.0", "containerd.io"],
            "fedora-42": ["docker-ce >= 3:28.0", "docker-ce-cli >= 1:28.0", "containerd.io"],
            "sles-15.6": ["docker-ce>=3:28.0", "docker-ce-cli>=1:28.0", "containerd.io"],
        },
    ),
    (
        {"engine_minimum_version": "26.1"},
        {
            "debian-13": ["docker.io>=26.1", "docker-cli>=26.1"],
            "fedora-42": ["moby-engine >= 26.1", "docker-cli >= 26.1"],
            "opensuse-leap-15.6": ["docker>=26.1"],
        },
    ),
    (
        {"engine_version": "28.5.1"},
        {
            "ubuntu-24.04": ["docker.io=28.5.1*"],
            "fedora-42": ["moby-engine-28.5.1", "docker-cli-28.5.1"],
            "amzn-2023": ["docker-28.5.1"],
            "opensuse-leap-15.6": ["docker=28.5.1_ce"],
        },
    ),
    (
        {"engine_packages": ["docker.io", "runc"], "engine_version": "26.1.5"},
        {"lmde-6": ["docker.io=26.1.5*", "runc"], "rhel-9": ["docker.io-26.1.5", "runc"]},
    ),
]
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
#: The values of the role's variables that are compared, and the repository's file, by host.
NOTED = """{% set noted = {} %}
{% for host in ansible_play_hosts %}
{%   set own = hostvars[host] %}
{%   set _ = noted.update({host: {
       "engine_family": own.engine_family,
       "engine_names": own.engine_names,
       "engine_wanted": own.engine_wanted,
       "engine_repository_url": own.engine_repository_url,
       "engine_lacks": own.engine_lacks,
       "text": own.engine_repository_texts[own.engine_family] if own.engine_family else "",
     }}) %}
{% endfor %}
{{ noted | to_json }}
"""


def facts(tree: Path, name: str) -> dict[str, Any]:
    """The facts of a host without an engine; without a name of a system that has no os-release file."""
    module = importlib.import_module("ansible_collections.buildfarm.multiarch.plugins.module_utils._distribution")
    found = module.distribution([str(tree / "tests/unit/fixtures/os-release" / (name or "none"))])
    return {"system": "Linux", "systemd": True, **found, "packages": {}, "repository": None, "engine": False}


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


def evaluated(
    tree: Path, tool: Tool, folder: Path, declared: dict[str, tuple[str, dict[str, Any]]], venv: str = ""
) -> dict[str, Any]:
    """The values that the role's variables have, by host; what is declared are its distribution and own variables."""
    files = (tree / "roles/engine" / kind / "main.yml" for kind in ("defaults", "vars"))
    defaults, variables = (yaml.safe_load(file.read_text()) for file in files)
    hosts = {
        host: {**variables, **defaults, "recorded": facts(tree, name), **own} for host, (name, own) in declared.items()
    }
    write = {
        "name": "Write",
        "ansible.builtin.template": {"src": str(folder / "noted.j2"), "dest": str(folder / "noted.json")},
        "run_once": True,
    }
    (folder / "noted.j2").write_text(NOTED)
    play(venv, tool, folder, hosts, write)
    return json.loads((folder / "noted.json").read_text())


@pytest.mark.parametrize("venv", ["", "oldest"])
def test_what_is_chosen(tree: Path, tool: Tool, tmp_path: Path, venv: str) -> None:
    """The distributions' own packages and Docker's, and versions in the words of each package manager."""
    own = {f"{name} own": (name, {}) for name in EXPECTED}
    dockers = {f"{name} docker's": (name, {"engine_source": "docker"}) for name in EXPECTED}
    versions = {
        f"{name} {number}": (name, variables)
        for number, (variables, packages) in enumerate(VERSIONS)
        for name in packages
    }
    found = evaluated(tree, tool, tmp_path, {**own, **dockers, **versions}, venv)

    for name, (family, packages, repository) in EXPECTED.items():
        values = found[f"{name} own"]
        assert (values["engine_family"], values["engine_names"]) == (family, packages), name
        assert values["engine_wanted"] == packages, name
        assert values["engine_lacks"] == ["Docker's engine"], name

        values = found[f"{name} docker's"]
        path, _blank, suite = repository.partition(" ")
        assert values["engine_repository_url"] == (f"{URL}/{path}" if path else ""), name
        assert values["engine_names"] == (DOCKER if path else []), name
        lines = values["text"].splitlines()
        if family == "Debian":
            assert lines[1:4] == [f"URIs: {URL}/{path}", f"Suites: {suite}", "Components: stable"], name
        elif path:
            assert lines[0] == "[docker-ce-stable]", name
            assert f"baseurl={URL}/{path}/$releasever/$basearch/stable" in lines, name
            assert "gpgcheck=1" in lines, name

    for number, (_variables, wanted) in enumerate(VERSIONS):
        assert {name: found[f"{name} {number}"]["engine_wanted"] for name in wanted} == wanted


def test_hosts_that_cannot_have_an_engine(tree: Path, tool: Tool, tmp_path: Path) -> None:
    """The role ends with one error, before it has connected to the host."""
    # The address of nothing: whatever connects, fails otherwise.
    nowhere = {"ansible_connection": "ssh", "ansible_host": "192.0.2.1"}
    hosts = {
        f"node{number}": {"recorded": {**facts(tree, name), **found}, "engine_source": source, **nowhere}
        for number, (name, found, source, _said) in enumerate(REFUSED)
    }
    role = {"name": "Apply", "ansible.builtin.import_role": {"name": "buildfarm.multiarch.engine"}}
    with pytest.raises(pytest.fail.Exception) as caught:
        play("", tool, tmp_path, hosts, role)
    _start, *errors = " ".join(str(caught.value).split()).split("fatal: [")
    assert len(errors) == len(REFUSED)
    for host, (_name, _found, _source, said) in zip(hosts, REFUSED):
        (error,) = [error for error in errors if error.startswith(f"{host}]")]
        assert said in error
