# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which jobs get a docker configuration of their own, and what is in it."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any, Dict

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils import _farm_job
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core import environment
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError

DEFAULTS: Dict[str, Any] = {
    "docker_config": None,
    "state": "present",
    "builder": "farm",
    "force": None,
    "lasting": False,
    "certificate": None,
    "directory": None,
}
CERTIFICATE = {"ca": "CA\n", "cert": " CERT", "key": "KEY"}


@pytest.fixture
def config(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The user's configuration directory, on a host that is no container."""
    (tmp_path / "home/.docker").mkdir(parents=True)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setattr(environment, "CONTAINER_FILES", (str(tmp_path / "containerenv"),))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in (
        "DOCKER_CONFIG",
        "DOCKER_AUTH_CONFIG",
        "BUILDX_CONFIG",
        "XDG_STATE_HOME",
        environment.CONTAINER_VARIABLE,
    ):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "home/.docker"


def run(**options: Any) -> Dict[str, Any]:
    return _farm_job.run({**DEFAULTS, **options}, False, lambda *argv, **more: pytest.fail("nothing is run"))  # type: ignore[arg-type]


def _builder(config: Path) -> None:
    (config / "buildx/instances").mkdir(parents=True)
    (config / "buildx/instances/farm").write_text("{}")


def _container(config: Path) -> None:
    (config.parents[1] / "containerenv").touch()


def _pod(config: Path) -> None:
    os.environ[environment.CONTAINER_VARIABLE] = "10.0.0.1"


@pytest.mark.parametrize(
    "given, options, reason",
    [
        ([], {}, "there is no builder 'farm' here"),
        ([_builder], {}, None),
        ([_builder], {"builder": "other"}, "there is no builder 'other' here"),
        ([_builder, _container], {}, None),
        ([], {"lasting": True}, None),
        ([_container], {"lasting": True}, "this is a container"),
        ([_pod], {"lasting": True}, "this is a container"),
        ([_builder, _container], {"lasting": True}, None),
        ([_container], {"force": False}, None),
        ([_builder], {"force": True}, "it is wanted"),
        ([_builder], {"certificate": CERTIFICATE}, "the client's certificate is kept nowhere"),
    ],
)
def test_which_jobs_have_a_directory(
    config: Path, given: Any, options: Dict[str, Any], reason: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", dict(os.environ))
    for make in given:
        make(config)
    found = run(**options)
    assert found["reason"] == reason
    assert bool(found["directory"]) == bool(found["environment"]) == bool(reason)


def test_a_configuration_that_cannot_be_written(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) != str(config))
    assert run(lasting=True)["reason"] == f"{config} cannot be written"
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) != str(config.parent))
    assert set(run()["environment"]) == {"DOCKER_CONFIG", "BUILDX_CONFIG", "XDG_STATE_HOME"}
    monkeypatch.setattr(os, "access", lambda path, mode: True)
    # One that does not exist, below what can be written.
    assert run(lasting=True, docker_config=str(config / "../new/deep"))["reason"] is None


def test_what_is_in_it(config: Path) -> None:
    said = {"auths": {"r.example": {"auth": "c2VjcmV0"}}, "credsStore": "pass", "proxies": {}, "currentContext": "mine"}
    (config / "config.json").write_text(json.dumps(said))
    (config / "cli-plugins").mkdir()
    (config / "contexts/meta/x").mkdir(parents=True)
    (config / "contexts/meta/x/meta.json").write_text("{}")
    (config / "buildx/instances").mkdir(parents=True)
    (config / "buildx/instances/mine").write_text("{}")
    (config / "buildx/buildkitd.default.toml").write_text("debug = true")
    found = run(certificate=CERTIFICATE)
    made = Path(found["directory"])
    assert found["environment"] == {"DOCKER_CONFIG": str(made), "BUILDX_CONFIG": str(made / "buildx")}
    assert made.stat().st_mode & 0o777 == 0o700
    del said["currentContext"]
    assert json.loads((made / "config.json").read_text()) == said
    assert (made / "cli-plugins").resolve() == config / "cli-plugins"
    assert (made / "contexts/meta/x/meta.json").read_text() == "{}"
    assert [path.name for path in (made / "buildx").iterdir()] == ["buildkitd.default.toml"]
    assert {path.name: path.read_text() for path in (made / "client").iterdir()} == {
        "ca.pem": "CA\n",
        "cert.pem": "CERT\n",
        "key.pem": "KEY\n",
    }
    assert found["certificate"] == {f"{name}_path": str(made / f"client/{name}.pem") for name in CERTIFICATE}
    assert not any(path.stat().st_mode & 0o077 for path in [*made.glob("*.json"), *(made / "client").iterdir()])
    run(state="absent", directory=str(made))
    assert not made.exists()
    # What it had a link to is the user's.
    assert (config / "cli-plugins").exists()
    run(state="absent", directory=str(made))
    run(state="absent")


def test_logins_of_the_environment_come_first(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"one": {"auth": "MTox"}, "two": {"auth": "MToy"}}
    (config / "config.json").write_text(json.dumps({"auths": given, "proxies": {}}))
    newer = {"two": {"username": "1", "password": "3"}}
    monkeypatch.setenv("DOCKER_AUTH_CONFIG", json.dumps({"auths": newer}))
    made = Path(run()["directory"]) / "config.json"
    assert json.loads(made.read_text()) == {"auths": {**given, **newer}, "proxies": {}}
    assert made.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("text", ["no JSON: s3cret", "[]", '{"auths": "s3cret"}'])
def test_logins_that_cannot_be_read(config: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("DOCKER_AUTH_CONFIG", text)
    with pytest.raises(FarmError, match="not what docker reads") as caught:
        run()
    assert "s3cret" not in str(caught.value)
    assert list((config.parents[1] / "tmp").iterdir()) == []


def test_nothing_else_is_taken_away(config: Path) -> None:
    with pytest.raises(FarmError, match="not the directory of a job"):
        run(state="absent", directory=str(config))
    assert config.exists()


def test_a_user_without_home(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ansible_collections.buildfarm.multiarch.plugins.module_utils._core import environment

    monkeypatch.setenv("HOME", "")
    monkeypatch.setattr(environment, "_account", lambda: None)
    found = run(lasting=True)
    assert found["reason"] == "the user has no home directory"
    assert json.loads(Path(found["directory"], "config.json").read_text()) == {}


@pytest.mark.parametrize("certificate", [{**CERTIFICATE, "key": ""}, {"ca": "CA", "cert": "CERT", "key": None}])
def test_nothing_is_left_of_what_cannot_be_made(config: Path, certificate: Dict[str, Any]) -> None:
    with pytest.raises(FarmError, match="certificate: key is missing"):
        run(certificate=certificate)
    (config / "config.json").write_text("{")
    with pytest.raises(FarmError, match="not docker's configuration"):
        run(force=True)
    assert list((config.parents[1] / "tmp").iterdir()) == []


def test_a_text_needs_a_directory(config: Path) -> None:
    with pytest.raises(FarmError, match="wanted no force=false"):
        run(certificate=CERTIFICATE, force=False)


def test_what_killed_runs_have_left_goes_after_a_day(config: Path) -> None:
    old, new = (Path(run()["directory"]) for _number in range(2))
    os.utime(old, (1, 1))
    third = Path(run()["directory"])
    assert (old.exists(), new.exists(), third.exists()) == (False, True, True)
