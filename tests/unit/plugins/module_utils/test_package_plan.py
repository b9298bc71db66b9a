# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is planned for hosts of all families, from the os-release files of each: a table, and what goes beside it."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._packages.distribution import PACKAGES, distribution
from ansible_collections.buildfarm.multiarch.plugins.module_utils._packages.plan import package_plan

OS_RELEASE = Path(__file__).resolve().parents[2] / "fixtures" / "os-release"
DOCKER = ["docker-ce", "docker-ce-cli", "containerd.io"]
URL = "https://download.docker.com/linux"
#: By the names of tests/unit/fixtures/os-release: the family, the distribution's own packages, and where Docker's
#: repository has packages for it: path and, for apt, suite.
EXPECTED = {
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
VERSIONS = [
    (
        {"source": "docker", "version": "28.5.2"},
        {
            "debian-13": ["docker-ce=5:28.5.2-*", "docker-ce-cli=5:28.5.2-*", "containerd.io"],
            "rocky-9": ["docker-ce-28.5.2", "docker-ce-cli-28.5.2", "containerd.io"],
            # zypper wants to hear the epochs.
            "sles-15.6": ["docker-ce=3:28.5.2", "docker-ce-cli=1:28.5.2", "containerd.io"],
        },
    ),
    (
        {"source": "docker", "minimum_version": "28.0"},
        {
            "ubuntu-24.04": ["docker-ce>=5:28.0", "docker-ce-cli>=5:28.0", "containerd.io"],
            "fedora-42": ["docker-ce >= 3:28.0", "docker-ce-cli >= 1:28.0", "containerd.io"],
            "sles-15.6": ["docker-ce>=3:28.0", "docker-ce-cli>=1:28.0", "containerd.io"],
        },
    ),
    (
        {"minimum_version": "26.1"},
        {
            "debian-13": ["docker.io>=26.1", "docker-cli>=26.1"],
            "fedora-42": ["moby-engine >= 26.1", "docker-cli >= 26.1"],
            "opensuse-leap-15.6": ["docker>=26.1"],
        },
    ),
    (
        {"version": "28.5.1"},
        {
            "ubuntu-24.04": ["docker.io=28.5.1*"],
            "fedora-42": ["moby-engine-28.5.1", "docker-cli-28.5.1"],
            "amzn-2023": ["docker-28.5.1"],
            "opensuse-leap-15.6": ["docker=28.5.1_ce"],
        },
    ),
    (
        {"packages": ["docker.io", "runc"], "version": "26.1.5"},
        {"lmde-6": ["docker.io=26.1.5*", "runc"], "rhel-9": ["docker.io-26.1.5", "runc"]},
    ),
]
#: What controllers and emulating nodes get, by the same names.
OTHERS = {
    "debian-12": (["docker.io"], "qemu-user-static"),
    "debian-13": (["docker-cli", "docker-buildx"], "qemu-user-binfmt"),
    "debian-forky": (["docker-cli", "docker-buildx"], "qemu-user-binfmt"),
    "lmde-6": (["docker.io"], "qemu-user-static"),
    "ubuntu-24.04": (["docker.io", "docker-buildx"], "qemu-user-static"),
    "linuxmint-22": (["docker.io", "docker-buildx"], "qemu-user-static"),
    "fedora-42": (["docker-cli", "docker-buildx"], "qemu-user-static"),
    "amzn-2023": (["docker"], "qemu-user-static"),
    "sles-15.6": (["docker"], "qemu-linux-user"),
    "opensuse-leap-15.6": (["docker", "docker-buildx"], "qemu-linux-user"),
}
KALI = {"lineage": ["kali", "debian"], "release": None}


def facts(name="debian-13", **found):
    """The facts of a host that has nothing."""
    return {
        "system": "Linux",
        "systemd": True,
        **distribution([str(OS_RELEASE / name)]),
        "packages": {},
        "engine_package_version": None,
        "repository": None,
        "engine": False,
        "emulators": False,
        "python": {"executable": "/usr/bin/python3", "version": [3, 13]},
        "docker": None,
        "buildx": None,
        "missing_libraries": ["docker"],
        **found,
    }


def with_engine(version="28.5.2", package="docker-ce", whole="5:28.5.2-1~debian.13~trixie", **found):
    """The facts of a host with an engine."""
    return facts(engine=True, packages={package: version}, engine_package_version=whole, **found)


@pytest.mark.parametrize("name", EXPECTED)
def test_what_is_chosen(name):
    family, packages, repository = EXPECTED[name]
    plan = package_plan({}, facts(name))
    assert (plan.family, list(plan.names)) == (family, packages)
    assert list(plan.install) == packages
    assert plan.lacks == ("Docker's engine",)
    assert plan.repository is None

    plan = package_plan({"source": "docker"}, facts(name))
    path, _blank, suite = repository.partition(" ")
    assert list(plan.names) == (DOCKER if path else [])
    assert (plan.repository.url if plan.repository else "") == (f"{URL}/{path}" if path else "")
    if not path:
        assert "knows no packages" in plan.problem
        return
    lines = plan.repository.text.splitlines()
    if family == "Debian":
        assert lines[1:4] == [f"URIs: {URL}/{path}", f"Suites: {suite}", "Components: stable"]
        assert lines[4] == f"Signed-By: {plan.repository.key}"
        assert bool(plan.repository.key_checksum) == (path in ("debian", "ubuntu"))
    else:
        assert lines[0] == "[docker-ce-stable]"
        assert f"baseurl={URL}/{path}/$releasever/$basearch/stable" in lines
        assert "gpgcheck=1" in lines
        assert f"gpgkey=file://{plan.repository.key}" in lines
        assert ("autorefresh=1" in lines) == (family == "Suse")
    assert plan.repository.key_url == f"{URL}/{path}/gpg"
    assert plan.problem == ""


@pytest.mark.parametrize(("params", "wanted"), VERSIONS)
def test_versions_in_the_words_of_package_managers(params, wanted):
    assert {name: list(package_plan(params, facts(name)).install) for name in wanted} == wanted


@pytest.mark.parametrize("name", OTHERS)
def test_what_controllers_and_emulating_nodes_get(name):
    tools, emulators = OTHERS[name]
    libraries = ["cryptography", "docker", "jmespath"]
    prefix = "python313" if package_plan({}, facts(name)).family == "Suse" else "python3"
    # Versions are the engine's business.
    plan = package_plan({"version": "28.5.2"}, facts(name), "controller")
    assert list(plan.install) == [f"{prefix}-{library}" for library in libraries] + tools
    assert (plan.lacks, plan.problem) == (("docker", "the docker CLI"), "")
    assert package_plan({}, facts(name), "emulators").install == (emulators,)


def test_tools_that_are_there_are_left_alone():
    there = facts(docker="/usr/bin/docker", buildx="/usr/libexec/docker/cli-plugins/docker-buildx")
    assert [name for name in package_plan({}, there, "controller").install if "python3" not in name] == []
    assert not package_plan({}, {**there, "missing_libraries": []}, "controller").due
    dockers = package_plan({"source": "docker"}, {**there, "buildx": None}, "controller")
    assert dockers.install[-2:] == ("docker-ce-cli", "docker-buildx-plugin")
    assert dockers.repository is not None
    assert package_plan({"packages": ["x"]}, facts(), "controller").install == ("x",)


@pytest.mark.parametrize(
    ("name", "params", "found", "lacks", "tools"),
    [
        # A container, or whoever does not want the CLI: the plugin's package alone, where it is one of its own.
        ("debian-13", {}, {"systemd": False}, "buildx", ["docker-buildx"]),
        ("debian-13", {"docker_cli": False}, {}, "buildx", ["docker-buildx"]),
        ("debian-13", {"docker_cli": False, "source": "docker"}, {}, "buildx", ["docker-buildx-plugin"]),
        ("amzn-2023", {"docker_cli": False}, {}, "buildx", ["docker"]),
        # It comes from elsewhere, or is there.
        ("debian-13", {"docker_cli": False, "plugin": False}, {}, "", []),
        ("rocky-9", {"plugin": False}, {}, "", []),
        ("rocky-9", {}, {"buildx": "/x"}, "", []),
        ("debian-13", {"docker_cli": False}, {"buildx": "/x"}, "", []),
        ("debian-13", {"docker_cli": True}, {"systemd": False}, "the docker CLI", OTHERS["debian-13"][0]),
        ("debian-13", {}, {"buildx": "/x"}, "the docker CLI", OTHERS["debian-13"][0]),
        ("debian-13", {}, {"docker": "/usr/bin/docker"}, "", OTHERS["debian-13"][0]),
    ],
)  # fmt: skip
def test_controllers_with_and_without_the_docker_cli(name, params, found, lacks, tools):
    there = {"missing_libraries": [], **found}
    plan = package_plan(params, facts(name, **there), "controller")
    assert (plan.lacks, plan.problem) == ((lacks,) if lacks else (), "")
    assert [package for package in plan.install if not package.startswith("python3")] == tools
    # What is installed for another reason does not bring them along.
    other = package_plan(params, facts(name, **{**there, "missing_libraries": ["docker"]}), "controller")
    assert (other.problem, other.install) == ("", plan.install)


@pytest.mark.parametrize(
    ("name", "found", "params", "said"),
    [
        ("rocky-9", {}, {}, "lacks docker, buildx; name the release that is wanted in buildx_release, or a file in"),
        (
            "rocky-9",
            {},
            {"docker_cli": True},
            "lacks docker, the docker CLI; install the docker CLI, which",
        ),
        ("rocky-9", {"missing_libraries": []}, {}, "lacks buildx; name the release"),
        ("alpine-3.20", {}, {"packages": ["x"]}, "lacks docker, buildx; name the release"),
        ("opensuse-leap-15.6", {}, {"source": "docker"}, "lacks docker, buildx; name the release"),
        (
            "debian-13",
            {"python": {"executable": "/opt/venv/bin/python", "version": [3, 13]}},
            {},
            "lacks docker, the docker CLI; install the docker CLI, which",
        ),
        (
            "debian-13",
            {"python": {"executable": "/opt/venv/bin/python", "version": [3, 13]}, "buildx": "/x"},
            {"docker_cli": False},
            "lacks docker; install, with pip, the collection's meta/ee-requirements.txt for that interpreter",
        ),
    ],
)
def test_controllers_that_packages_cannot_mend(name, found, params, said):
    assert said in package_plan(params, facts(name, **found), "controller").problem


def test_emulators_where_no_packages_are_known():
    assert "found alpine, of which neither" in package_plan({}, facts("alpine-3.20"), "emulators").problem
    assert not package_plan({}, facts("alpine-3.20", emulators=True), "emulators").due


@pytest.mark.parametrize(
    ("params", "found", "lacks"),
    [
        ({}, with_engine(), ()),
        ({"source": "none"}, with_engine(), ()),
        ({}, with_engine("26.1.5", "docker.io"), ()),
        ({"version": "28.5.2"}, with_engine(), ()),
        ({"version": "v28.5.2"}, with_engine(), ()),
        ({"version": "28.5.2"}, with_engine("28.5.1"), ("version 28.5.2",)),
        # One that no package brought.
        ({"version": "28.5.2"}, facts(engine=True), ("version 28.5.2",)),
        ({"minimum_version": "28.0"}, facts(engine=True), ("version 28.0 or later",)),
        ({"minimum_version": "28.0"}, with_engine("28.0.0"), ()),
        ({"minimum_version": "28.10"}, with_engine("28.9.1"), ("version 28.10 or later",)),
        ({"minimum_version": "v28"}, with_engine("28.9.1"), ()),
        # As package managers print it.
        ({"version": "5:28.5.2-1~debian.13~trixie"}, with_engine(), ()),
        ({"version": "28.5.2-1~debian.13~trixie"}, with_engine(), ()),
        ({"version": "3:28.5.2-1.fc42"}, with_engine(whole="3:28.5.2-1.fc42"), ()),
        (
            {"source": "docker"},
            with_engine("26.1.5", "docker.io"),
            ("docker-ce, Docker's own package", "the declaration of Docker's repository"),
        ),
        ({"source": "docker", "packages": ["docker-ce"]}, facts(), ("Docker's engine",)),
    ],
)
def test_what_is_lacking(params, found, lacks):
    plan = package_plan(params, found)
    assert plan.lacks == lacks
    assert plan.due == bool(lacks)


def test_a_declaration_that_differs_is_lacking():
    repository = package_plan({"source": "docker"}, facts()).repository
    found = with_engine(repository=repository.text)
    assert not package_plan({"source": "docker"}, found).due
    for option in ({"channel": "test"}, {"repository": "https://mirror"}, {"repository_release": "bookworm"}):
        assert package_plan({"source": "docker", **option}, found).lacks == ("the declaration of Docker's repository",)


def test_the_repositorys_options():
    params = {
        "source": "docker",
        "repository": "https://mirror/ubuntu",
        "repository_release": "jammy",
        "repository_key": "https://keys/1",
        "channel": "test",
    }
    found = package_plan(params, facts()).repository
    assert found.text.splitlines()[1:4] == ["URIs: https://mirror/ubuntu", "Suites: jammy", "Components: test"]
    assert (found.name, found.key_url, found.key_checksum) == ("docker-ce-test", "https://keys/1", "")
    checksum = "sha256:" + "0" * 64
    assert package_plan({**params, "repository_key_checksum": checksum}, facts()).repository.key_checksum == checksum
    fedora = package_plan(params, facts("fedora-42")).repository
    assert "baseurl=https://mirror/ubuntu/jammy/$basearch/test" in fedora.text.splitlines()


def test_a_derivative_that_does_not_tell_its_parents_release():
    for purpose in ("engine", "controller"):
        plan = package_plan({"source": "docker"}, facts(**KALI), purpose)
        assert "found kali, whose os-release file does not state which release of debian" in plan.problem
        assert "name it in engine_repository_release" in plan.problem
        named = package_plan({"source": "docker", "repository_release": "trixie"}, facts(**KALI), purpose)
        assert (named.problem, named.repository.text.splitlines()[2]) == ("", "Suites: trixie")
    # Its own packages need none.
    assert package_plan({}, facts(**KALI)).problem == ""


@pytest.mark.parametrize(
    ("params", "problem"),
    [
        ({"source": "dokcer"}, "engine_source 'dokcer': wanted distribution, docker or none"),
        (
            {"version": "5:28.5.1-1~debian.13~trixie"},
            "engine_version '5:28.5.1-1~debian.13~trixie': wanted a form like",
        ),
        ({"version": "28.5.2-1"}, "engine_version '28.5.2-1': wanted a form like 28.5.2"),
        ({"version": "20.10"}, "engine_version '20.10': wanted a form like 28.5.2"),
        ({"version": 20.1}, "engine_version 20.1: wanted a form like 28.5.2, in quotes"),
        ({"minimum_version": 28.1}, "engine_minimum_version 28.1: wanted a form like 28.0, in quotes"),
        ({"minimum_version": "28.0-1"}, "engine_minimum_version '28.0-1': wanted a form like 28.0"),
        (
            {"version": "26.1.5", "minimum_version": "28.0"},
            "engine_version 26.1.5 is older than engine_minimum_version",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused_even_where_nothing_is_lacking(params, problem):
    found = with_engine(docker="/usr/bin/docker", missing_libraries=[])
    plan = package_plan(params, found)
    assert problem in plan.problem
    assert plan.due
    assert plan.install == ()
    # Versions are the engine's alone.
    assert package_plan(params, found, "controller").due == ("source" in params)


def test_unset_null_and_empty_are_the_default():
    unset = dict.fromkeys(("source", "packages", "version", "repository", "channel", "users"))
    assert package_plan(unset, facts()) == package_plan(dict.fromkeys(unset, ""), facts()) == package_plan({}, facts())


def test_what_is_in_the_way():
    found = with_engine("26.1.5", "docker.io", whole=None)
    found["packages"].update({"runc": "1.1", "containerd": "1.7"})
    plan = package_plan({"source": "docker"}, found)
    assert plan.remove == ("docker.io", "containerd", "runc")
    assert "found docker.io, containerd, runc, which cannot stand beside docker-ce, docker-ce-cli, containerd.io" in (
        plan.problem
    )
    assert not plan.has_engine
    assert package_plan({"source": "docker", "remove_conflicting": True}, found).problem == ""
    # What does not conflict with an engine, does not remove one.
    assert package_plan({"source": "docker", "packages": ["x"]}, found).remove == ()
    assert package_plan({}, found, "emulators").remove == ()
    own = package_plan({"version": "26.1.5"}, with_engine())
    assert own.remove == ("docker-ce",)
    # What gets into somebody's way is looked for on the host.
    assert set(plan.remove + own.remove) < set(PACKAGES)


def test_what_zypper_is_told():
    found = {**facts("opensuse-leap-15.6"), "packages": {"docker-ce": "28.5.2"}}
    plan = package_plan({"version": "28.5.1", "remove_conflicting": True}, found)
    assert plan.zypper == (
        *("--capability", "--no-recommends", "--allow-downgrade", "--force-resolution"),
        *("--", "docker=28.5.1_ce", "-docker-ce"),
    )
    assert package_plan({}, facts("opensuse-leap-15.6")).zypper == ("--capability", "--no-recommends", "--", "docker")


def test_who_starts_the_engine():
    assert package_plan({}, facts()).starts_engine
    assert not package_plan({}, facts("fedora-42")).starts_engine
    assert package_plan({"version": "28.5.1"}, with_engine()).downgrade
    assert not package_plan({"minimum_version": "29.0"}, with_engine()).downgrade
    assert package_plan({"minimum_version": "29.0", "packages": ["docker-ce"]}, with_engine()).has_engine


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (
            {"systemd": False},
            "found Linux debian without systemd, wanted Linux booted with systemd: a node's engine is",
        ),
        ({"system": "FreeBSD", "lineage": [], "systemd": True}, "found FreeBSD, wanted Linux booted with systemd"),
        ({"system": "FreeBSD", "lineage": [], "systemd": False}, "found FreeBSD without systemd, wanted Linux"),
    ],
)
def test_hosts_that_cannot_be_nodes(found, words):
    assert package_plan({}, facts(**found)).problem.startswith(words)
    # A controller needs neither.
    assert package_plan({}, facts(**{**found, "lineage": ["debian"]}), "controller").problem == ""


def test_emulators_of_packages():
    wanted = package_plan({}, facts(), "emulators")
    assert (wanted.lacks, wanted.install, wanted.due) == (
        ("packages with QEMU handlers",),
        ("qemu-user-binfmt",),
        True,
    )
    there = package_plan({}, facts(emulators=True), "emulators")
    assert (there.lacks, there.problem, there.due) == ((), "", False)
    assert not package_plan({}, facts("alpine-3.20", emulators=True), "emulators").due


@pytest.mark.parametrize(
    ("name", "python", "libraries"),
    [
        ("debian-13", [3, 13], ["python3-cryptography", "python3-docker", "python3-jmespath"]),
        ("sles-15.6", [3, 6], ["python36-cryptography", "python36-docker", "python36-jmespath"]),
    ],
)
def test_libraries_of_a_controllers_python(name, python, libraries):
    has_tools = {"docker": "/usr/bin/docker", "buildx": "/x"}
    python_there = {"executable": "/usr/bin/python3", "version": python}
    wanted = package_plan({}, facts(name, python=python_there, **has_tools), "controller")
    assert list(wanted.install) == libraries


@pytest.mark.parametrize(
    ("engine", "removed", "expected"),
    [
        (True, {}, True),
        (False, {}, False),
        (True, {"docker.io": "26.1"}, False),
        (True, {"podman-docker": "5"}, True),
    ],
)
def test_an_engine_that_is_removed_is_none_that_stays(engine, removed, expected):
    params = {"source": "docker", "remove_conflicting": True}
    plan = package_plan(params, facts(engine=engine, packages=removed))
    assert (plan.has_engine, list(plan.remove)) == (expected, list(removed))


@pytest.mark.parametrize(
    ("found", "params", "lacks"),
    [
        ("28.0.0", {"minimum_version": "28.0"}, ()),
        ("28.0", {"minimum_version": "28.0.1"}, ("version 28.0.1 or later",)),
        ("27.9", {"minimum_version": "28"}, ("version 28 or later",)),
        ("28.5.2", {"version": "28.5.2"}, ()),
        ("28.5.3", {"version": "28.5.2"}, ("version 28.5.2",)),
    ],
)
def test_versions_that_will_do(found, params, lacks):
    plan = package_plan(params, with_engine(found, "docker.io", found))
    assert (plan.lacks, plan.downgrade) == (lacks, "version" in params)
