# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.urls import (
    mask,
    masked_variable,
    secret_in,
    secrets_of,
)

TOKEN = "ghp_EXAMPLEexample"

SECRET = [
    ("https://me:s3cret@h/x.git#main", "https://***@h/x.git#main", ("s3cret",)),
    ("https://:s3cret@h/x.git", "https://***@h/x.git", ("s3cret",)),
    ("HTTPS://me:s3cret@h/x", "HTTPS://***@h/x", ("s3cret",)),
    ("git+https://me:s3cret@h/x", "git+https://***@h/x", ("s3cret",)),
    (f"https://{TOKEN}@h/x.git", "https://***@h/x.git", (TOKEN,)),
    (f"https://{TOKEN}:@h/x.git", "https://***@h/x.git", (TOKEN,)),
    (f"https://{TOKEN}:x-oauth-basic@h/x.git", "https://***@h/x.git", (TOKEN,)),
    ("ssh://root:s3cret@h/x", "ssh://***@h/x", ("s3cret",)),
    ("me:s3cret@h:acme/x.git", "***@h:acme/x.git", ("s3cret",)),
    ("me:s3cret@proxy:3128", "***@proxy:3128", ("s3cret",)),
    # Characters that should be escaped in a password.
    ("https://me:s3@cret@h/x", "https://***@h/x", ("s3@cret",)),
    ("https://me:s3/cret@h/x", "https://***@h/x", ("s3/cret",)),
    ("https://me:s3#c?ret@h/x", "https://***@h/x", ("s3#c?ret",)),
    ("https://me:s3%2Fcret@h/x", "https://***@h/x", ("s3%2Fcret", "s3/cret")),
    ("https://h/x?access_token=s3cret", "https://h/x?access_token=***", ("s3cret",)),
    ("https://h/x?ref=main&private_token=s3cret#f", "https://h/x?ref=main&private_token=***#f", ("s3cret",)),
    ("https://h/x?X-Amz-Signature=ab12&X-Amz-Date=1", "https://h/x?X-Amz-Signature=***&X-Amz-Date=***", ("ab12",)),
    ("https://h/x?sv=1&sig=s3cret", "https://h/x?sv=***&sig=***", ("s3cret",)),
    ("https://h/x#access_token=s3cret", "https://h/x#access_token=***", ("s3cret",)),
    ("http://a:s3cret@b,http://c@d", "http://***@b,http://***@d", ("s3cret",)),
    ('{"http": "http://me:s3cret@h:1"}', '{"http": "http://***@h:1"}', ("s3cret",)),
    # Too short to be told from other words in a result, masked all the same.
    ("http://root:x@h", "http://***@h", ()),
    ("http://root@h", "http://***@h", ()),
]
OPEN = [
    "https://github.com/acme/x.git#main:sub",
    "https://git@github.com/acme/x.git",
    "https://h:8080/x@y",
    "https://h/x?ref=main&subdir=a#main",
    "https://auth.docker.io/token?scope=repository:a:pull&service=registry",
    "ssh://git@h/x.git",
    "ssh://deploy-user-of-the-farm@h:22",
    "git@github.com:acme/x.git",
    "registry.example.com:5000/a/b:1@sha256:" + "0" * 64,
    "name:tag@sha256:" + "0" * 64,
    "https://[2001:db8::5]:5000/x",
    "tcp://h:2376",
    "/srv/a:b@c/d",
    "",
]


@pytest.mark.parametrize(("text", "shown", "secrets"), SECRET)
def test_what_may_be_secret_is_masked(text, shown, secrets):
    assert mask(text) == shown
    assert mask(shown) == shown
    assert mask(f"fatal: '{text}' failed") == f"fatal: '{shown}' failed"
    assert secret_in(text)
    assert secrets_of({"a": [{"b": text}], "c": 1, "d": None}) == secrets


@pytest.mark.parametrize("text", OPEN)
def test_what_is_no_secret_is_shown(text):
    assert (mask(text), secret_in(text), secrets_of(text)) == (text, "", ())


def test_values_of_a_query_that_are_not_known_are_not_shown_and_not_refused():
    for text, shown in (("https://h/x?sha=abc", "https://h/x?sha=***"), ("https://h/x?abc", "https://h/x?***")):
        assert (mask(text), secret_in(text), secrets_of(text)) == (shown, "", ())


def test_variables_that_are_called_secrets_are_some():
    nodes = [
        {"driver_opts": {"env.AWS_SECRET_ACCESS_KEY": "hush-hush", "env.LANG": "C.UTF-8", "env.A_TOKEN": "short"}},
        {"env": {"ACTIONS_RUNTIME_TOKEN": "hush-hush-too", "N_KEYS": 12345678}, "key": "/etc/key.pem"},
    ]
    assert secrets_of({"nodes": nodes}) == ("hush-hush", "hush-hush-too")
    assert masked_variable("AWS_SECRET_ACCESS_KEY", "hush") == "***"
    assert masked_variable("HTTP_PROXY", "http://me:hush@proxy") == "http://***@proxy"
    assert masked_variable("A_TOKEN", "") == ""


def test_a_secret_is_called_by_its_name():
    assert secret_in("https://me:pw@h/x") == "a password"
    assert secret_in("https://token@h/x").startswith("a user name")
    assert secret_in("https://h/x?ref=a&job_token=b") == "its job_token"


@pytest.mark.parametrize(
    ("text", "secrets"),
    [
        ("https://abcdefghijk@h/x", ()),
        ("https://abcdefghijkl@h/x", ("abcdefghijkl",)),
        ("https://me:abc@h/x", ()),
        ("https://me:abcd@h/x", ("abcd",)),
    ],
)
def test_what_is_long_enough_to_be_told_from_other_words(text, secrets):
    assert secrets_of(text) == secrets and "***" in mask(text)
