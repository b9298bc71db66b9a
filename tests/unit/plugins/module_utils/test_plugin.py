# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
import json

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils import _plugin
from ansible_collections.buildfarm.multiarch.plugins.module_utils._errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._plugin import Source, parse_version, run_module
from ansible_collections.buildfarm.multiarch.plugins.module_utils._runner import run

PLUGIN = """#!/bin/sh
case "$1" in
docker-cli-plugin-metadata) echo '{"Vendor": "Docker Inc.", "Version": "v0.%s"}' ;;
version) echo github.com/docker/buildx v0.%s 1a2b3c ;;
esac
"""
DEFAULTS = dict.fromkeys(["url", "src", "checksum", "path", "version"], None)


def checksum(text):
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


@pytest.fixture
def call(tmp_path, monkeypatch):
    """The module on a host with nothing but what the test installs."""
    monkeypatch.setattr(_plugin, "plugin_directories", lambda config: (config / "cli-plugins", tmp_path / "system"))
    (tmp_path / "system").mkdir()

    def make(check=False, **params):
        given = {**DEFAULTS, "state": "present", "timeout": 5, "docker_config": str(tmp_path / "config"), **params}
        return run_module(given, check, run).as_result()

    make.at = tmp_path / "config/cli-plugins/docker-buildx"
    make.system = tmp_path / "system/docker-buildx"
    make.source = tmp_path / "source"
    return make


def write(path, text, mode=0o755):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def test_installed_upgraded_and_removed(call):
    for minor in ("13.1", "14.0"):
        write(call.source, PLUGIN % (minor, minor), 0o600)
        predicted, result, again = (
            call(check=True, src=str(call.source)),
            call(src=str(call.source)),
            call(src=str(call.source)),
        )
        assert predicted["actions"] == result["actions"] == [["write", str(call.at)]]
        assert predicted["diff"] == result["diff"]
        assert (again["changed"], again["plugin"]["source"]) == (False, None)
        assert result["plugin"] == {
            "path": str(call.at),
            "version": f"v0.{minor}",
            "revision": "1a2b3c",
            "checksum": checksum(PLUGIN % (minor, minor)),
            "source": str(call.source),
        }
    assert call(check=True, state="absent")["changed"] and call.at.exists()
    assert call(state="absent")["actions"] == [["remove", str(call.at)]]
    assert not call(state="absent")["changed"]


@pytest.mark.parametrize(
    ("content", "params", "message"),
    [
        ("#!/bin/sh\necho no\n", {}, "no docker CLI plugin that runs on this host"),
        ("\x7fELF", {}, "another architecture"),
        (PLUGIN % ("12.0", "12.0"), {"version": "0.13"}, "is older than the wanted 0.13.0"),
        ("x", {"checksum": "sha256:" + "0" * 64}, "its checksum is"),
    ],
)
def test_what_does_not_run_never_takes_the_place(call, content, params, message):
    write(call.at, PLUGIN % ("13.1", "13.1"))
    before = call.at.read_bytes()
    write(call.source, content)
    with pytest.raises(FarmError) as caught:
        call(src=str(call.source), **params)
    assert message in caught.value.message
    assert call.at.read_bytes() == before and [path.name for path in call.at.parent.iterdir()] == ["docker-buildx"]


def test_the_first_one_that_runs_is_found(call):
    with pytest.raises(FarmError, match="install the package docker-buildx"):
        call()
    write(call.system, PLUGIN % ("13.1", "13.1"))
    assert call()["plugin"]["path"] == str(call.system)
    write(call.at, "broken", 0o755)
    assert call()["plugin"]["path"] == str(call.system)
    write(call.at, PLUGIN % ("29.1", "29.1"))
    assert call(version="0.29")["plugin"]["path"] == str(call.at)
    with pytest.raises(FarmError, match=r"older than the wanted 0\.30\.0"):
        call(version="0.30")


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"url": "https://h/x"}, "needs the checksum"),
        ({"url": "ftp://h/x", "checksum": checksum("")}, "wanted http or https"),
        ({"src": "/x", "checksum": "md5:1"}, "wanted sha256:"),
        ({"src": "/no/such"}, "there is no such file"),
        ({"path": "/x/buildx", "src": "/x"}, "must end in /docker-buildx"),
        ({"version": "new"}, "wanted a form like 0.13"),
    ],
)
def test_what_cannot_be_meant_is_refused(call, params, message):
    with pytest.raises(FarmError) as caught:
        call(**params)
    assert message in caught.value.message


def test_secrets_of_a_url_are_not_shown(call):
    assert str(Source("https://user:pw@h:8/p?token=x#f", "", 1)) == "https://h:8/p"
    url = "http://user:pw@127.0.0.1:1/x?token=y"
    predicted = call(check=True, url=url, checksum=checksum("x"))
    assert predicted["actions"][0] == ["download", "http://127.0.0.1:1/x"]
    with pytest.raises(FarmError) as caught:
        call(url=url, checksum=checksum("x"))
    shown = json.dumps([predicted, caught.value.message, caught.value.details])
    assert "pw" not in shown and "token" not in shown


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("v0.13.1", (0, 13, 1)),
        ("0.13.1+ds1", (0, 13, 1)),
        ("0.9", (0, 9, 0)),
        ("v0.14.0-rc1", (0, 14, 0)),
        ("main", None),
    ],
)
def test_versions(text, expected):
    assert parse_version(text) == expected
