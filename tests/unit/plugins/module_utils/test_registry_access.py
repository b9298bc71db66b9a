# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._buildx.access import registry_access
from ansible_collections.buildfarm.multiarch.plugins.module_utils._buildx.cli import Buildx
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.runner import Result
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker.mistrust import advice

LOGINS = {"auths": {"r.test": {"auth": "eDp5"}}}


@pytest.fixture
def own(monkeypatch, tmp_path):
    """The user's docker configuration."""
    for name in ("DOCKER_AUTH_CONFIG", "SSL_CERT_DIR", "BUILDX_CONFIG", "DOCKER_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "contexts").mkdir()
    return tmp_path


def test_nothing_is_made_where_nothing_is_given(own):
    with registry_access(str(own), ()) as environment:
        assert environment == {}


@pytest.mark.parametrize(
    ("config", "helpers"),
    [
        (None, None),
        ({"auths": {"r.test": {"auth": "old"}, "s.test": {}}}, None),
        ({"credsStore": "pass", "proxies": {}}, {"r.test": ""}),
        ({"credHelpers": {"r.test": "pass", "s.test": "ecr"}}, {"r.test": "", "s.test": "ecr"}),
    ],
)
def test_logins_of_the_environment_are_in_a_configuration_for_the_time_of_a_command(own, monkeypatch, config, helpers):
    if config:
        (own / "config.json").write_text(json.dumps(config))
    monkeypatch.setenv("DOCKER_AUTH_CONFIG", json.dumps(LOGINS))
    with registry_access(str(own), ()) as environment:
        folder = Path(environment["DOCKER_CONFIG"])
        written = json.loads((folder / "config.json").read_text())
        assert written["auths"] == {**(config or {}).get("auths", {}), **LOGINS["auths"]}
        assert written.get("credHelpers") == helpers
        assert {key: written[key] for key in config or {} if key not in ("auths", "credHelpers")}.items() <= (
            config or {}
        ).items()
        assert (folder / "config.json").stat().st_mode & 0o777 == 0o600 and folder.stat().st_mode & 0o777 == 0o700
        assert (folder / "contexts").resolve() == own / "contexts"
        # What it stores stays where it is.
        assert environment["BUILDX_CONFIG"] == str(own / "buildx") and environment["DOCKER_AUTH_CONFIG"] == ""
    assert not folder.exists()


def test_a_user_without_a_home_directory(own, monkeypatch):
    monkeypatch.setenv("DOCKER_AUTH_CONFIG", json.dumps(LOGINS))
    monkeypatch.setenv("HOME", "")
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)
    with registry_access("", ()) as environment:
        assert json.loads(Path(environment["DOCKER_CONFIG"], "config.json").read_text()) == LOGINS
        assert "BUILDX_CONFIG" not in environment


@pytest.mark.parametrize("text", ["{", "[]", '{"auths": 1}'])
def test_logins_that_cannot_be_read_are_not_shown(own, monkeypatch, text):
    monkeypatch.setenv("DOCKER_AUTH_CONFIG", text)
    with pytest.raises(FarmError, match="DOCKER_AUTH_CONFIG is not what docker reads"):
        with registry_access(str(own), ()):
            pass


@pytest.mark.parametrize(("given", "others"), [(None, "/etc/ssl/certs:/etc/pki/tls/certs"), ("/mine", "/mine")])
def test_authorities_are_trusted_beside_those_of_the_host(own, monkeypatch, given, others):
    if given:
        monkeypatch.setenv("SSL_CERT_DIR", given)
    seen = {}

    def runner(argv, env, **_options):
        folder, _colon, rest = env["SSL_CERT_DIR"].partition(":")
        seen.update(rest=rest, content=[(Path(folder) / name).read_bytes() for name in sorted(os.listdir(folder))])
        return Result(tuple(argv), 0, "", "")

    buildx = Buildx(runner, str(own))
    buildx.authorities = (b"a", b"b")
    buildx.run(["build"])
    assert seen == {"rest": others, "content": [b"a", b"b"]}


def test_advice_is_for_what_is_not_trusted_only():
    said = 'Get "https://r/v2/": tls: failed to verify certificate: x509: certificate signed by unknown authority'
    assert advice(said, "the engine").startswith("; the engine does not trust the registry's certificate: name its")
    assert advice("x509: certificate is valid for a, not b", "the engine") == ""
