# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker.endpoint import Endpoint, context_name


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("tcp://arm1", Endpoint("tcp", "tcp://arm1:2375", "arm1", 2375)),
        ("tcp://Arm1.Example.com:2376/", Endpoint("tcp", "tcp://arm1.example.com:2376", "arm1.example.com", 2376)),
        ("tcp://192.0.2.7:2376", Endpoint("tcp", "tcp://192.0.2.7:2376", "192.0.2.7", 2376)),
        ("tcp://[2001:db8::7]", Endpoint("tcp", "tcp://[2001:db8::7]:2375", "2001:db8::7", 2375)),
        ("unix://", Endpoint("unix", "unix:///var/run/docker.sock", path="/var/run/docker.sock")),
        ("unix:///run/x.sock", Endpoint("unix", "unix:///run/x.sock", path="/run/x.sock")),
        ("ssh://arm1", Endpoint("ssh", "ssh://arm1", "arm1")),
        (
            "ssh://me@arm1:2222/run/x.sock",
            Endpoint("ssh", "ssh://me@arm1:2222/run/x.sock", "arm1", 2222, "/run/x.sock", "me"),
        ),
        (" arm_1.x+y ", Endpoint("context", "arm_1.x+y")),
    ],
)
def test_parse(text: str, wanted: Endpoint) -> None:
    assert Endpoint.parse(text) == wanted
    assert Endpoint.parse(wanted.text) == wanted


def test_default_port() -> None:
    assert Endpoint.parse("tcp://arm1", 2376).port == 2376
    assert Endpoint.parse("ssh://arm1", 2376).port is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "-H",
        "arm1:2376",
        "http://arm1:2375",
        "npipe:////./pipe/docker_engine",
        "unix://run/x.sock",
        "tcp://",
        "tcp://arm1:port",
        "tcp://arm1:70000",
        "tcp://me@arm1:2376",
        "tcp://arm1:2376/path",
        "tcp://arm1:2376?x=1",
        "ssh://-oProxyCommand=x",
        "ssh://-oProxyCommand=x@arm1",
        "tcp://arm 1",
    ],
)
def test_refuses(text: str) -> None:
    with pytest.raises(FarmError, match="endpoint"):
        Endpoint.parse(text)


def test_password_is_not_repeated() -> None:
    with pytest.raises(FarmError) as caught:
        Endpoint.parse("ssh://me:secret@arm1")
    assert "secret" not in caught.value.message


@pytest.mark.parametrize("name", ["default", "a", "_a", "a b", "a/b", "../x", "ab\n"])
def test_context_name_refuses(name: str) -> None:
    with pytest.raises(FarmError, match="context"):
        context_name(name)
