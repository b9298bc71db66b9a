# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import json

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._image.check import _auth_config

LOGIN = {"auth": base64.b64encode(b"me:secret").decode()}


@pytest.fixture(autouse=True)
def sdk():
    """The docker SDK, which reads what ``docker login`` stored."""
    return pytest.importorskip("docker")


@pytest.mark.parametrize(
    ("registry", "stored", "expected"),
    [
        (
            "r.example.com:5000",
            {"r.example.com:5000": LOGIN},
            {"username": "me", "password": "secret", "serveraddress": "r.example.com:5000"},
        ),
        (
            "docker.io",
            {"https://index.docker.io/v1/": LOGIN},
            {"username": "me", "password": "secret", "serveraddress": "https://index.docker.io/v1/"},
        ),
        (
            "r.example.com",
            {"r.example.com": {**LOGIN, "identitytoken": "token"}},
            {"identitytoken": "token", "serveraddress": "r.example.com"},
        ),
        ("other.example.com", {"r.example.com": LOGIN}, {}),
        ("r.example.com", None, {}),
    ],
)
def test_engines_are_given_the_stored_credentials_of_the_one_registry(tmp_path, registry, stored, expected):
    if stored is not None:
        tmp_path.joinpath("config.json").write_text(json.dumps({"auths": stored}))
    assert _auth_config(tmp_path, registry) == expected


def test_credentials_that_cannot_be_read_are_an_error_without_them(tmp_path):
    tmp_path.joinpath("config.json").write_text(json.dumps({"auths": {"r.example.com": {"auth": "c2VjcmV0"}}}))
    with pytest.raises(FarmError, match=r"registry r\.example\.com: its credentials cannot be read") as caught:
        _auth_config(tmp_path, "r.example.com")
    assert "c2VjcmV0" not in caught.value.message
