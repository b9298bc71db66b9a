# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which distribution a host runs, from the os-release files of many, and which packages it has."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.runner import CommandError, Result
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.version import upstream
from ansible_collections.buildfarm.multiarch.plugins.module_utils._packages import distribution as _distribution
from ansible_collections.buildfarm.multiarch.plugins.module_utils._packages.distribution import (
    distribution,
    docker_repository,
    installed,
    parse_os_release,
)

OS_RELEASE = Path(__file__).resolve().parents[2] / "fixtures" / "os-release"


@pytest.mark.parametrize(
    ("name", "lineage", "release"),
    [
        ("debian-12", ["debian"], "bookworm"),
        ("debian-13", ["debian"], "trixie"),
        # Suites in development have no version.
        ("debian-forky", ["debian"], "forky"),
        ("ubuntu-24.04", ["ubuntu", "debian"], "noble"),
        # Derivatives have code names of their own, which no repository of their parents knows.
        ("linuxmint-22", ["linuxmint", "ubuntu", "debian"], "noble"),
        ("lmde-6", ["linuxmint", "debian"], "bookworm"),
        # An empty code name is none.
        ("fedora-42", ["fedora"], "42"),
        ("rocky-9", ["rocky", "rhel", "centos", "fedora"], "9.4"),
        ("opensuse-leap-15.6", ["opensuse-leap", "suse", "opensuse"], "15.6"),
    ],
)
def test_lineage_and_release(name, lineage, release):
    assert distribution(["/nowhere", str(OS_RELEASE / name)]) == {"lineage": lineage, "release": release}


@pytest.mark.parametrize(
    ("os_release", "release"),
    [
        # Code names of their own, and none of the parent's.
        ("ID=kali\nID_LIKE=debian\nVERSION_ID=2026.3\nVERSION_CODENAME=kali-rolling\n", None),
        ("ID=parrot\nID_LIKE=debian\nVERSION_ID=7.0\nVERSION_CODENAME=echo\n", None),
        ("ID=deepin\nID_LIKE=debian\nVERSION_ID=25\n", None),
        ("ID=neon\nID_LIKE='ubuntu debian'\nVERSION_CODENAME=user\n", None),
        # The parent's, beside their own or in its place.
        ("ID=pop\nID_LIKE='ubuntu debian'\nVERSION_CODENAME=noble\nUBUNTU_CODENAME=noble\n", "noble"),
        ("ID=zorin\nID_LIKE=ubuntu\nVERSION_CODENAME=17\nUBUNTU_CODENAME=jammy\n", "jammy"),
        ("ID=sparky\nID_LIKE=debian\nVERSION_CODENAME=orion-belt\nDEBIAN_CODENAME=trixie\n", "trixie"),
        ("ID=osmc\nID_LIKE=debian\nVERSION_CODENAME=bookworm\n", "bookworm"),
        # The other parent's is of no use.
        ("ID=mx\nID_LIKE=debian\nVERSION_CODENAME=libretto\nUBUNTU_CODENAME=noble\n", None),
        # What rpm's package managers know by themselves.
        ("ID=nobara\nID_LIKE='fedora rhel'\nVERSION_ID=42\nVERSION_CODENAME=''\n", "42"),
    ],
)
def test_release_of_derivatives(os_release, release):
    assert parse_os_release(os_release)["release"] == release


def test_comments_and_blank_lines():
    assert parse_os_release("# ID=no\n\nID='a b'\n") == {"lineage": ["a b"], "release": None}


def test_what_no_shell_would_read_is_taken_as_it_stands():
    text = "ID=debian\nPRETTY_NAME=Bob's Linux\nVERSION_CODENAME=\"trixie\nHOME_URL=x\n"
    assert parse_os_release(text) == {"lineage": ["debian"], "release": "trixie"}


def test_a_system_without_the_file():
    assert distribution(["/nowhere"]) == {"lineage": [], "release": None}
    assert docker_repository(["/nowhere"]) is None


def test_the_declaration_of_dockers_repository(tmp_path):
    paths = [tmp_path / name for name in ("none", "first", "second")]
    paths[1].write_bytes(b"Types: deb\xff\n")
    paths[2].write_text("[docker-ce-stable]\n")
    assert docker_repository([str(path) for path in paths]) == "Types: deb\ufffd\n"
    paths[1].write_text("")
    assert docker_repository([str(path) for path in paths]) == ""


@pytest.mark.parametrize(
    ("program", "said"),
    [
        # A removed package whose configuration files are left is not installed.
        ("dpkg-query", "docker-ce 5:28.5.2-1~debian.13~trixie installed\ndocker.io 26.1.5+dfsg1-9 config-files\n"),
        (
            "rpm",
            "docker-ce 3:28.5.2-1.el9 installed\npackage docker.io is not installed\npackage runc is not installed\n",
        ),
    ],
)
def test_installed_packages(monkeypatch, program, said):
    monkeypatch.setattr(_distribution.shutil, "which", lambda name: name if name == program else None)
    asked = []

    def runner(argv, **options):
        asked.append(argv[0])
        return Result(tuple(argv), 1, said, "dpkg-query: no packages found matching runc\n")

    assert {name: upstream(version) for name, version in installed(runner).items()} == {"docker-ce": "28.5.2"}
    assert asked == [program]


def test_packages_of_rpm_where_there_is_dpkg_too(monkeypatch):
    monkeypatch.setattr(_distribution.shutil, "which", lambda name: name)
    said = {"dpkg-query": "", "rpm": "moby-engine 0:28.5.1-1.fc42 installed\n"}

    def runner(argv, **options):
        return Result(tuple(argv), 1, said[argv[0]], "")

    assert installed(runner) == {"moby-engine": "0:28.5.1-1.fc42"}


def test_a_system_without_either_package_manager(monkeypatch):
    monkeypatch.setattr(_distribution.shutil, "which", lambda name: None)

    def runner(argv, **options):
        raise CommandError("not to be called", Result(tuple(argv), 127, "", ""))

    assert installed(runner) == {}
    monkeypatch.setattr(_distribution.shutil, "which", lambda name: name)
    assert installed(runner) == {}
