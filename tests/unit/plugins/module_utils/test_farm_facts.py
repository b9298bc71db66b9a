# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The facts of a host that has everything, and of one that has nothing."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, Dict

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils import _farm_facts
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core import environment
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.runner import Result
from ansible_collections.buildfarm.multiarch.plugins.module_utils._host.systemd import UnitFiles
from ansible_collections.buildfarm.multiarch.plugins.module_utils._platform.elf import program
from ansible_collections.buildfarm.multiarch.tests.unit.certificates import issue

RULE = ":qemu-aarch64:M::\\x7fELF\\x02::/usr/bin/qemu-aarch64:F"


@pytest.fixture
def facts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Returns the facts of a host whose files lie in a directory, and whose packages are these."""
    (tmp_path / "binfmt.d").mkdir()
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.delenv(environment.CONTAINER_VARIABLE, raising=False)
    monkeypatch.setattr(environment, "CONTAINER_FILES", (str(tmp_path / "containerenv"),))
    monkeypatch.setattr(_farm_facts, "_ENGINE_PLACES", (str(tmp_path / "sbin"),))
    monkeypatch.setattr(_farm_facts, "TLS_DIRECTORY", str(tmp_path / "tls"))
    monkeypatch.setattr(_farm_facts, "BOOTED", str(tmp_path / "booted"))
    monkeypatch.setattr(_farm_facts, "LIBRARIES", ("json", "no_such_library_here"))
    monkeypatch.setattr(_farm_facts, "distribution", lambda: {"lineage": ["debian"], "release": "trixie"})
    monkeypatch.setattr(_farm_facts, "docker_repository", lambda: None)
    monkeypatch.setattr(_farm_facts, "plugin_candidates", lambda params: [tmp_path / "none", tmp_path / "plugin"])
    read = _farm_facts.read_rule_files
    monkeypatch.setattr(_farm_facts, "read_rule_files", lambda: read([str(tmp_path / "binfmt.d")]))
    find = UnitFiles.find
    monkeypatch.setattr(_farm_facts.UnitFiles, "find", lambda unit: find(unit, [str(tmp_path)]))

    def run(**packages: str) -> Dict[str, Any]:
        monkeypatch.setattr(_farm_facts, "installed", lambda runner: packages)
        return _farm_facts.run({}, False, lambda argv, **options: Result(tuple(argv), 0, "", ""))["ansible_facts"]

    return run


def test_a_host_with_nothing(facts: Any) -> None:
    found = facts()
    assert (found["architecture"], found["nodename"]) == (os.uname().machine, os.uname().nodename)
    assert found["buildfarm"] == {
        "system": "Linux",
        "systemd": False,
        "lineage": ["debian"],
        "release": "trixie",
        "packages": {},
        "engine_package_version": None,
        "repository": None,
        "engine": False,
        "engine_architecture": None,
        "listener": {"ca": None, "certificate": None},
        "emulators": False,
        "python": {"executable": sys.executable, "version": [sys.version_info.major, sys.version_info.minor]},
        "docker": None,
        "buildx": None,
        "docker_config_transience": None,
        "missing_libraries": ["no_such_library_here"],
    }


def test_a_host_with_everything(facts: Any, tmp_path: Path) -> None:
    (tmp_path / "booted").mkdir()
    (tmp_path / "sbin").mkdir()
    (tmp_path / "docker.service").touch()
    (tmp_path / "containerenv").touch()
    (tmp_path / "binfmt.d/qemu.conf").write_text(RULE + "\n")
    for name in ("bin/docker", "sbin/dockerd", "plugin"):
        (tmp_path / name).write_bytes(program("arm64"))
        (tmp_path / name).chmod(0o755)
    found = facts(**{"docker-ce": "5:28.5.2-1~debian.13~trixie", "containerd.io": "1.7.27-1"})["buildfarm"]
    assert found["docker_config_transience"] == "this is a container"
    assert found["packages"] == {"docker-ce": "28.5.2", "containerd.io": "1.7.27"}
    assert found["engine_package_version"] == "5:28.5.2-1~debian.13~trixie"
    assert (found["systemd"], found["engine"], found["emulators"]) == (True, True, True)
    assert found["engine_architecture"] == "arm64"
    assert (found["docker"], found["buildx"]) == (str(tmp_path / "bin/docker"), str(tmp_path / "plugin"))


def test_packages_beside_an_engine_are_none(facts: Any) -> None:
    assert facts(**{"podman-docker": "5.0-1"})["buildfarm"]["engine_package_version"] is None


def test_programs_that_tell_no_architecture(facts: Any, tmp_path: Path) -> None:
    (tmp_path / "bin/dockerd").write_text("#!/bin/sh\nexec /opt/dockerd\n")
    (tmp_path / "bin/dockerd").chmod(0o755)
    (tmp_path / "plugin").touch(mode=0o644)
    found = facts()["buildfarm"]
    assert (found["engine_architecture"], found["buildx"]) == (None, None)


def test_what_a_listener_has(facts: Any, tmp_path: Path) -> None:
    """A certificate whose key is missing, or another's, is as good as none; of the key nothing is said."""
    pytest.importorskip("cryptography")
    ca = issue("authority")
    (cert, key), (_other, foreign) = issue("node", ca), issue("other", ca)
    (tmp_path / "tls").mkdir()
    (tmp_path / "tls/ca.pem").write_bytes(ca[0])
    (tmp_path / "tls/cert.pem").write_bytes(cert)
    for held, reported in ((None, None), (foreign, None), (b"no key", None), (key, cert.decode())):
        if held is not None:
            (tmp_path / "tls/key.pem").write_bytes(held)
        assert facts()["buildfarm"]["listener"] == {"ca": ca[0].decode(), "certificate": reported}
