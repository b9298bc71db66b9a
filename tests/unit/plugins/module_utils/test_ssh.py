# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The file with the keys of hosts that the environment names, as programs get it that start ``ssh`` by its name."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.ssh import KNOWN_HOSTS, arguments, configured


@pytest.fixture
def real(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program ``ssh`` that prints its arguments, a line each, in a PATH that has ``sh`` too."""
    program = tmp_path / "bin/ssh"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\nprintf "%s\\n" real "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    return program


def started(*args: str) -> list[str]:
    """What comes of starting ``ssh`` as docker does."""
    return subprocess.run(["ssh", *args], check=True, capture_output=True, text=True).stdout.splitlines()


def test_without_a_file_all_is_as_it_was(real: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for value in (None, ""):
        monkeypatch.delenv(KNOWN_HOSTS, raising=False) if value is None else monkeypatch.setenv(KNOWN_HOSTS, value)
        with configured():
            assert (shutil.which("ssh"), arguments()) == (str(real), [])


def test_programs_get_the_file_before_their_own_arguments(
    real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "of 100% trust"
    file.touch()
    monkeypatch.setenv(KNOWN_HOSTS, str(file))
    files = f'UserKnownHostsFile="{tmp_path}/of 100%% trust" ~/.ssh/known_hosts'
    given = ["-o", files, "-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes"]
    before = os.environ["PATH"]
    with configured():
        assert arguments() == given
        assert started("-l", "me", "--", "arm1", "docker system dial-stdio") == [
            *("real", *given, "-l", "me", "--", "arm1", "docker system dial-stdio")
        ]
        folder = Path(shutil.which("ssh") or "").parent
        assert (folder.stat().st_mode & 0o777, folder.parent) == (0o700, Path(os.environ.get("TMPDIR", "/tmp")))
    assert os.environ["PATH"] == before and not folder.exists()
    # OpenSSH's own reading of it.
    if os.access("/usr/bin/ssh", os.X_OK):
        said = subprocess.run(["/usr/bin/ssh", "-G", *given, "h"], check=True, capture_output=True, text=True).stdout
        (known,) = [line for line in said.splitlines() if line.startswith("userknownhostsfile ")]
        assert str(file) in known.replace("%%", "%")


def test_a_path_that_was_not_set_is_not_set_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KNOWN_HOSTS, str(tmp_path / "hosts"))
    (tmp_path / "hosts").touch()
    monkeypatch.delenv("PATH")
    with configured():
        pass
    assert "PATH" not in os.environ


def test_without_ssh_nothing_is_put_in_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hosts").touch()
    monkeypatch.setenv(KNOWN_HOSTS, str(tmp_path / "hosts"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with configured():
        assert shutil.which("ssh") is None


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("none", "BUILDFARM_SSH_KNOWN_HOSTS in the environment: {tmp}/none: there is no such file, or user"),
        ('a"b', "wanted a path without quotes and dollar signs"),
        ("${HOME}", "wanted a path without quotes and dollar signs"),
    ],
)
def test_a_file_that_cannot_be_used_is_told_to_those_who_need_it(
    real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, words: str
) -> None:
    monkeypatch.setenv(KNOWN_HOSTS, str(tmp_path / name))
    with pytest.raises(FarmError) as caught:
        arguments()
    assert words.format(tmp=tmp_path) in caught.value.message
    with configured():
        done = subprocess.run(["ssh", "arm1"], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (255, "", f"{caught.value.message}\n")


def test_a_directory_that_starts_no_programs_is_named(
    real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hosts").touch()
    monkeypatch.setenv(KNOWN_HOSTS, str(tmp_path / "hosts"))
    monkeypatch.setattr(Path, "chmod", lambda self, mode: None)
    with pytest.raises(
        FarmError, match=r"which BUILDFARM_SSH_KNOWN_HOSTS takes \(is it mounted noexec\?\)"
    ), configured():
        pass
