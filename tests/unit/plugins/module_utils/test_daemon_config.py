# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._listener import daemon_config as _daemon_config


@pytest.mark.parametrize(
    ("current", "declared", "merged"),
    [
        ({"a": 1}, {"b": {"c": None, "d": 1}}, {"a": 1, "b": {"d": 1}}),
        (
            {"log-opts": {"max-size": "1m", "tag": "x"}},
            {"log-opts": {"tag": "y"}},
            {"log-opts": {"max-size": "1m", "tag": "y"}},
        ),
        ({"dns": ["1.1.1.1"]}, {"dns": ["9.9.9.9"]}, {"dns": ["9.9.9.9"]}),
        ({"dns": ["1.1.1.1"], "debug": True}, {"dns": None}, {"debug": True}),
        ({"dns": ["1.1.1.1"]}, {"dns": []}, {"dns": []}),
        ({"a": 1}, {"a": {"b": 2}}, {"a": {"b": 2}}),
        ({"a": 1}, {"gone": None}, {"a": 1}),
    ],
)
def test_merging_follows_rfc_7396(current, declared, merged):
    assert _daemon_config.merge(current, declared) == merged


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{\n  "a": 1\n  "b": 2\n}\n', "daemon.json, line 3, column 3: not JSON"),
        (b"[]", "found a JSON array, wanted an object"),
        (b"null", "found a JSON null, wanted an object"),
        (b'"tcp://0.0.0.0:2376"', "found a JSON string, wanted an object"),
        (b"# a comment\n{}", "daemon.json, line 1, column 1: not JSON"),
        (b'\xef\xbb\xbf{"debug": true}', "begins with a byte order mark, .* save it as UTF-8 without one"),
        ('{"debug": true}'.encode("utf-16"), "begins with a byte order mark"),
        (b'{"a": "\xff"}', "not UTF-8 text"),
    ],
)
def test_a_file_that_is_not_an_object_is_refused(content, said):
    with pytest.raises(FarmError, match=said):
        _daemon_config.parse(content, "/etc/docker/daemon.json")


@pytest.mark.parametrize("content", [None, b"", b" \n"])
def test_no_file_is_an_empty_configuration(content):
    assert _daemon_config.parse(content, "daemon.json") == {}


def test_rendering_keeps_order_and_letters():
    values = {"z": 1, "a": {"b": ["ä"]}}
    text = _daemon_config.render(values)
    assert list(json.loads(text.decode())) == ["z", "a"]
    assert "ä".encode() in text
    assert text.endswith(b"}\n")


def test_passwords_in_urls_are_not_shown():
    shown = "\n".join(_daemon_config.shown(b'{"proxies": {"http-proxy": "http://me:secret@proxy:3128"}}'))
    assert "secret" not in shown
    assert "http://***@proxy:3128" in shown
