# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Credentials for registries: files, helpers and the environment as docker/cli has them."""

from __future__ import annotations

import base64
import json
import re

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.runner import CommandError, Result
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker.credentials import (
    Credentials,
    auth_config,
    pull_headers,
    stored_credentials,
)

HUB = "https://index.docker.io/v1/"
LOGIN = base64.b64encode(b"farmer:co:rn").decode()
FARMER = {"username": "farmer", "password": "co:rn"}


def headers(tmp_path, config, registry="r.example.com:5000", answer=(1, "credentials not found in native keychain")):
    """What is sent; helpers answer with an exit status and an output."""
    (tmp_path / "config.json").write_text(json.dumps(config))
    calls = []

    def runner(argv, stdin=None, **options):
        calls.append((argv, stdin))
        return Result(tuple(argv), *answer, "")

    found = pull_headers(tmp_path, registry, runner)
    return json.loads(base64.urlsafe_b64decode(found["X-Registry-Auth"])) if found else {}, calls


@pytest.mark.parametrize(
    ("config", "registry", "sent"),
    [
        ({}, "r.example.com", {}),
        ({"auths": {"r.example.com": {"auth": LOGIN}}}, "r.example.com", {**FARMER, "serveraddress": "r.example.com"}),
        ({"auths": {"https://r.example.com/v1/": {"auth": LOGIN}}}, "r.example.com", {**FARMER, "serveraddress": ...}),
        ({"auths": {"r.example.com": {"auth": LOGIN}}}, "r.example.com:5000", {}),
        ({"auths": {HUB: {"auth": LOGIN}}}, "docker.io", {**FARMER, "serveraddress": HUB}),
        (
            {"auths": {"r.example.com": {"identitytoken": "t", "auth": LOGIN}}},
            "r.example.com",
            {"identitytoken": "t", "serveraddress": ...},
        ),
        # Written by hand, as docker/cli reads it too.
        (
            {"auths": {"r.example.com": {"username": "farmer", "password": "co:rn"}}},
            "r.example.com",
            {**FARMER, "serveraddress": ...},
        ),
        ({"auths": {"r.example.com": {"auth": LOGIN}}}, "other.example.com", {}),
        ({"auths": None, "credHelpers": None}, "r.example.com", {}),
        # What logged in by a helper leaves an empty entry.
        ({"auths": {"r.example.com": {}}}, "r.example.com", {}),
    ],
)
def test_of_files(tmp_path, config, registry, sent):
    found, _calls = headers(tmp_path, config, registry)
    assert found == {key: found[key] if value is ... else value for key, value in sent.items()}


def test_of_helpers(tmp_path):
    answer = (0, json.dumps({"ServerURL": "x", "Username": "farmer", "Secret": "co:rn"}))
    for config, helper in (
        ({"credsStore": "pass"}, "pass"),
        ({"credsStore": "pass", "credHelpers": {"r.example.com:5000": "ecr"}}, "ecr"),
    ):
        found, calls = headers(tmp_path, config, answer=answer)
        assert found == {**FARMER, "serveraddress": "r.example.com:5000"}
        assert calls == [([f"docker-credential-{helper}", "get"], "r.example.com:5000")]
    token = (0, json.dumps({"Username": "<token>", "Secret": "t"}))
    assert headers(tmp_path, {"credsStore": "pass"}, answer=token)[0]["identitytoken"] == "t"
    assert headers(tmp_path, {"credsStore": "pass"})[0] == {}


@pytest.mark.parametrize("output", ["co:rn", '["co:rn"]', '"co:rn"'])
def test_what_a_helper_prints_is_not_shown(tmp_path, output):
    with pytest.raises(FarmError, match="docker-credential-pass: its output is not what docker reads; repair") as info:
        headers(tmp_path, {"credsStore": "pass"}, answer=(0, output))
    assert "co:rn" not in f"{info.value} {info.value.details}"


def test_why_a_helper_fails_is_shown(tmp_path):
    with pytest.raises(FarmError, match=r"read from docker-credential-pass: the keychain is locked; repair it, or log"):
        headers(tmp_path, {"credsStore": "pass"}, answer=(1, "the keychain is locked\n"))
    with pytest.raises(FarmError, match="docker-credential-pass: exit status 3;"):
        headers(tmp_path, {"credsStore": "pass"}, answer=(3, ""))


def test_a_helper_that_is_missing_or_hangs(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text(json.dumps({"credsStore": "none-such"}))
    with pytest.raises(FarmError, match="docker-credential-none-such: No such file or directory; repair it"):
        stored_credentials(tmp_path, "r.example.com")

    def hangs(argv, **_options):
        raise CommandError("ended", Result(tuple(argv), 124, "co:rn", ""))

    with pytest.raises(FarmError, match="docker-credential-none-such: not finished in time") as info:
        stored_credentials(tmp_path, "r.example.com", hangs)
    assert "co:rn" not in f"{info.value} {info.value.details}"


def test_of_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("DOCKER_AUTH_CONFIG", json.dumps({"auths": {"r.example.com:5000": {"auth": LOGIN}}}))
    assert headers(tmp_path, {"credsStore": "pass"})[0]["password"] == "co:rn"
    monkeypatch.setenv("DOCKER_AUTH_CONFIG", "co:rn")
    with pytest.raises(FarmError, match="DOCKER_AUTH_CONFIG is not") as info:
        headers(tmp_path, {})
    assert "co:rn" not in str(info.value)
    # What it does not name is looked up as without it.
    monkeypatch.setenv("DOCKER_AUTH_CONFIG", json.dumps({"auths": {"other.example.com": {"auth": LOGIN}}}))
    assert headers(tmp_path, {"auths": {"r.example.com:5000": {"auth": LOGIN}}})[0]["password"] == "co:rn"


@pytest.mark.parametrize(
    "config",
    [
        {"auths": {"r.example.com": {"auth": "corn!"}}},
        # Without a colon between user and password.
        {"auths": {"r.example.com": {"auth": "c2VjcmV0"}}},
        {"auths": {"r.example.com": "secret"}},
        {"auths": ["secret"]},
        {"credHelpers": "secret"},
    ],
)
def test_what_cannot_be_decoded(tmp_path, config):
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(FarmError, match=r"r\.example\.com: its credentials cannot be read from .*; repair it") as info:
        stored_credentials(tmp_path, "r.example.com")
    assert not re.search("corn!|c2VjcmV0|secret", info.value.message)


def test_no_secret_is_shown():
    shown = repr(Credentials("farmer", "co:rn", "t0ken"))
    assert "co:rn" not in shown
    assert "t0ken" not in shown


@pytest.mark.parametrize("entry", [{}, {"auth": ""}, {"username": "", "password": ""}])
def test_without_credentials_there_are_no_headers(tmp_path, entry):
    (tmp_path / "config.json").write_text(json.dumps({"auths": {"r.example.com": entry}}))
    assert pull_headers(tmp_path, "r.example.com", None) == {}
    assert stored_credentials(tmp_path, "r.example.com") is None
    assert auth_config(None, "r.example.com") == {}


def test_what_basic_authentication_sends():
    assert Credentials("farmer", "co:rn").basic == f"Basic {base64.b64encode(b'farmer:co:rn').decode()}"
