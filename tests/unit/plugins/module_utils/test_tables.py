# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What package managers are told, family by family."""

from __future__ import annotations

from typing import List

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._packages.tables import (
    FAMILIES,
    as_of,
    at_version,
    conflicting,
    known_distribution,
    repository_text,
    zypper_arguments,
)

KEY = "/etc/pki/rpm-gpg/RPM-GPG-KEY-docker-ce"


@pytest.mark.parametrize(
    ("lineage", "family", "engine", "tools", "repository"),
    [
        (["debian"], "Debian", "docker.io docker-cli", "docker-cli docker-buildx", "debian"),
        (["raspbian", "debian"], "Debian", "docker.io docker-cli", "docker-cli docker-buildx", "raspbian"),
        (["pop", "ubuntu", "debian"], "Debian", "docker.io", "docker.io docker-buildx", "ubuntu"),
        (["fedora"], "RedHat", "moby-engine docker-cli", "docker-cli docker-buildx", "fedora"),
        (["rocky", "rhel", "centos", "fedora"], "RedHat", "", "", "rhel"),
        (["amzn", "fedora"], "RedHat", "docker", "docker", ""),
        (["sles", "suse"], "Suse", "docker", "docker", "sles"),
        (["sled", "suse"], "Suse", "docker", "docker", ""),
        (["opensuse-leap", "suse", "opensuse"], "Suse", "docker", "docker docker-buildx", ""),
    ],
)
def test_the_first_known_of_a_lineage_counts(
    lineage: List[str], family: str, engine: str, tools: str, repository: str
) -> None:
    found = known_distribution(lineage)
    assert found is not None
    assert (found.family, " ".join(found.engine), " ".join(found.tools)) == (family, engine, tools)
    assert found.repository == repository


@pytest.mark.parametrize("lineage", [[], ["alpine"]])
def test_distributions_that_are_not_known(lineage: List[str]) -> None:
    assert known_distribution(lineage) is None


@pytest.mark.parametrize(
    ("release", "expected"),
    [
        ("trixie", "docker.io docker-cli docker-buildx qemu-user-binfmt"),
        # One package, though two names stand for it, and none where there is none.
        ("bookworm", "docker.io qemu-user-static"),
        ("bullseye", "docker.io qemu-user-static"),
        ("noble", "docker.io docker-cli docker-buildx qemu-user-static"),
        ("plucky", "docker.io docker-cli docker-buildx qemu-user-binfmt"),
    ],
)
def test_earlier_releases_have_other_packages(release: str, expected: str) -> None:
    names = ("docker.io", "docker-cli", "docker-buildx", "qemu-user-binfmt")
    assert " ".join(as_of(release, names)) == expected


@pytest.mark.parametrize(
    ("family", "is_dockers", "version", "minimum", "expected"),
    [
        ("Debian", True, "28.5.2", "", "docker-ce=5:28.5.2-* docker-ce-cli=5:28.5.2-*"),
        ("Debian", True, "", "28.0", "docker-ce>=5:28.0 docker-ce-cli>=5:28.0"),
        ("RedHat", True, "28.5.2", "", "docker-ce-28.5.2 docker-ce-cli-28.5.2"),
        ("RedHat", True, "", "28.0", "docker-ce >= 3:28.0 docker-ce-cli >= 1:28.0"),
        ("Suse", True, "28.5.2", "", "docker-ce=3:28.5.2 docker-ce-cli=1:28.5.2"),
        ("Suse", True, "", "", "docker-ce docker-ce-cli"),
        # Both are given: the one version counts.
        ("Suse", True, "28.5.2", "28.0", "docker-ce=3:28.5.2 docker-ce-cli=1:28.5.2"),
    ],
)
def test_dockers_packages_at_a_version(
    family: str, is_dockers: bool, version: str, minimum: str, expected: str
) -> None:
    names = ("docker-ce", "docker-ce-cli", "containerd.io")
    found = at_version(FAMILIES[family], names, is_dockers, version, minimum)
    assert " ".join(found) == f"{expected} containerd.io"


@pytest.mark.parametrize(
    ("family", "name", "expected"),
    [
        ("Debian", "docker.io", ["docker.io=26.1*", "docker.io>=26.1"]),
        ("RedHat", "moby-engine", ["moby-engine-26.1", "moby-engine >= 26.1"]),
        ("Suse", "docker", ["docker=26.1_ce", "docker>=26.1"]),
    ],
)
def test_a_distributions_packages_at_a_version(family: str, name: str, expected: List[str]) -> None:
    said = [at_version(FAMILIES[family], (name, "x"), False, *limits) for limits in (("26.1", ""), ("", "26.1"))]
    assert said == [(told, "x") for told in expected]


@pytest.mark.parametrize(
    ("names", "source", "expected"),
    [
        (["docker-ce"], "docker", ["docker.io", "containerd", "podman-docker"]),
        (["docker.io"], "distribution", ["containerd.io", "podman-docker"]),
        # What is installed with them stays, and so does all where no engine is concerned.
        (["docker.io", "containerd.io"], "distribution", ["podman-docker"]),
        (["qemu-user-binfmt"], "docker", []),
        (["docker-ce"], "none", []),
    ],
)
def test_packages_that_have_to_go(names: List[str], source: str, expected: List[str]) -> None:
    there = dict.fromkeys(("docker.io", "containerd", "containerd.io", "podman-docker", "qemu-user-static"), "1")
    assert list(conflicting(names, source, there)) == expected


def test_dockers_repository_for_apt() -> None:
    assert repository_text("Debian", "https://m/debian", "trixie", "stable") == (
        "Types: deb\nURIs: https://m/debian\nSuites: trixie\nComponents: stable\n"
        "Signed-By: /etc/apt/keyrings/docker.asc\n"
    )


@pytest.mark.parametrize(
    ("family", "release", "path", "more"),
    [
        ("RedHat", "", "$releasever", ""),
        ("RedHat", "9", "9", ""),
        ("Suse", "15", "15", "repo_gpgcheck=0\nautorefresh=1\n"),
    ],
)
def test_dockers_repository_for_rpm(family: str, release: str, path: str, more: str) -> None:
    assert repository_text(family, "https://m", release, "test") == (
        f"[docker-ce-test]\nname=Docker CE test\nbaseurl=https://m/{path}/$basearch/test\n"
        f"enabled=1\ngpgcheck=1\ngpgkey=file://{KEY}\n{more}"
    )


@pytest.mark.parametrize(
    ("packages", "removed", "downgrade", "expected"),
    [
        (["a"], [], False, "--capability --no-recommends -- a"),
        (["a"], [], True, "--capability --no-recommends --allow-downgrade -- a"),
        (["a", "b"], ["c"], False, "--capability --no-recommends --force-resolution -- a b -c"),
    ],
)
def test_zypper(packages: List[str], removed: List[str], downgrade: bool, expected: str) -> None:
    assert " ".join(zypper_arguments(packages, removed, downgrade)) == expected
