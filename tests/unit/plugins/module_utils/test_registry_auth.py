# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a registry is shown where it demands credentials, and to whom they are not given."""

from __future__ import annotations

import http.client
import json
from urllib.parse import parse_qsl

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker.credentials import Credentials
from ansible_collections.buildfarm.multiarch.plugins.module_utils._registry.auth import (
    Authorizer,
    Challenge,
    RegistryRefused,
    error_text,
    parse_challenges,
)
from ansible_collections.buildfarm.multiarch.plugins.module_utils._registry.host import Response

USER, TOKEN = Credentials("farmer", "corn"), Credentials(identity_token="t0ken")
PULL, PUSH = "repository:app:pull", "repository:app:pull,push"
BASIC = Challenge("basic", {"realm": "x"})


def bearer(**parameters):
    return Challenge("bearer", {"realm": "https://auth.example.com/token", "service": "reg", **parameters})


def answer(status=200, document=None):
    content = json.dumps({"token": "fresh"} if document is None else document).encode()
    return Response(status, "", http.client.HTTPMessage(), content)


def authorizer(credentials=None, response=None):
    asked, read = [], []

    def request(method, url, headers, body):
        asked.append(
            (method, url.partition("?")[0], parse_qsl((body or b"").decode() or url.partition("?")[2]), headers)
        )
        return response or answer()

    def stored():
        read.append(1)
        return credentials

    made = Authorizer("r.example.com", stored, request)
    made.asked, made.read = asked, read
    return made


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (['Basic realm="a b"'], [("basic", {"realm": "a b"})]),
        (['Bearer realm="https://x/t",service="s",scope="a:b:pull,push"'],
         [("bearer", {"realm": "https://x/t", "service": "s", "scope": "a:b:pull,push"})]),
        (["Negotiate", 'BASIC Realm="q\\"uoted"'], [("negotiate", {}), ("basic", {"realm": 'q"uoted'})]),
        (['Basic realm="a", Bearer realm=b'], [("basic", {"realm": "a"}), ("bearer", {"realm": "b"})]),
        ([], []),
    ],
)  # fmt: skip
def test_challenges_are_read(headers, expected):
    assert [(one.scheme, one.parameters) for one in parse_challenges(headers)] == expected


@pytest.mark.parametrize(
    ("credentials", "challenges", "expected"),
    [
        (USER, [BASIC], USER.basic),
        (None, [BASIC], None),
        (TOKEN, [BASIC], None),
        (USER, [], None),
        (USER, [Challenge("negotiate"), BASIC], USER.basic),
        (USER, [bearer(), BASIC], "Bearer fresh"),
        (None, [bearer()], "Bearer fresh"),
    ],
)
def test_what_is_shown(credentials, challenges, expected):
    made = authorizer(credentials)
    assert made.header(PULL) is None
    assert made.satisfy(challenges, PULL, None) == expected
    assert made.header(PULL) == expected and made.header("repository:other:pull") is None


def test_schemes_that_docker_does_not_know_are_named():
    with pytest.raises(FarmError, match=r"registry r\.example\.com wants credentials as negotiate, as docker does not"):
        authorizer(USER).satisfy([Challenge("negotiate")], PULL, None)


def test_who_may_push_may_pull():
    made = authorizer(USER)
    assert made.satisfy([bearer()], PUSH, None) == made.header(PULL) == "Bearer fresh"
    assert made.satisfy([bearer()], PULL, None) == "Bearer fresh" and len(made.asked) == 1


def test_what_was_refused_is_not_shown_again():
    made = authorizer(USER)
    assert made.satisfy([BASIC], PULL, None) == USER.basic
    assert made.satisfy([BASIC], PULL, USER.basic) is None
    assert made.satisfy([bearer()], PULL, USER.basic) == "Bearer fresh"
    assert len(made.read) == 1, "credentials are read once"


@pytest.mark.parametrize(
    ("demanded", "scope", "scopes"),
    [
        ("", PULL, [PULL]),
        ("repository:app:pull", PULL, ["repository:app:pull"]),
        ("repository:other:pull", PULL, ["repository:other:pull"]),
        # Of a read the registry demands less than the write after it takes.
        ("repository:app:pull", PUSH, [PUSH]),
        ("repository:app:pull,push", PUSH, [PUSH]),
        ("", f"{PUSH} repository:b:pull", [PUSH, "repository:b:pull"]),
    ],
)
def test_for_what_a_token_is_asked(demanded, scope, scopes):
    made = authorizer(USER)
    made.satisfy([bearer(scope=demanded)], scope, None)
    ((method, url, query, headers),) = made.asked
    assert (method, url, headers) == ("GET", "https://auth.example.com/token", {"Authorization": USER.basic})
    assert query == [("service", "reg"), *(("scope", one) for one in scopes)]


def test_an_identity_token_is_not_in_the_address():
    made = authorizer(TOKEN)
    made.satisfy([bearer()], PULL, None)
    ((method, url, form, headers),) = made.asked
    assert (method, url, "Authorization" in headers) == ("POST", "https://auth.example.com/token", False)
    assert {"grant_type": "refresh_token", "refresh_token": "t0ken", "scope": PULL}.items() <= dict(form).items()


def test_without_credentials_none_are_sent():
    made = authorizer()
    made.satisfy([bearer(realm="https://auth.example.com/token?a=b")], PULL, None)
    ((_method, _url, query, headers),) = made.asked
    assert headers == {} and query[0] == ("a", "b")


@pytest.mark.parametrize(
    ("credentials", "response", "kind", "words"),
    [
        (
            USER,
            answer(401, {"errors": [{"code": "UNAUTHORIZED"}]}),
            RegistryRefused,
            "refused the credentials.*401, UNA",
        ),
        (None, answer(403, {}), RegistryRefused, "wants credentials, and the docker configuration has none for it"),
        (USER, answer(400, {}), RegistryRefused, "its token service: 400"),
        (USER, answer(500, {}), FarmError, "its token service answered 500"),
        (USER, answer(201, {"token": "x"}), FarmError, "its token service answered 201"),
        (USER, answer(200, {}), FarmError, "answered without a token"),
        (USER, answer(200, {"token": 5}), FarmError, "answered without a token"),
        (USER, answer(200, {"token": "a\r\nX: y"}), FarmError, "answered without a token"),
        (USER, answer(200, ["token"]), FarmError, "answered without a token"),
    ],
)
def test_a_token_service_that_gives_none(credentials, response, kind, words):
    made = authorizer(credentials, response)
    with pytest.raises(FarmError, match=words) as caught:
        made.satisfy([bearer()], PULL, None)
    assert caught.type is kind and "corn" not in str(caught.value.details) + caught.value.message


@pytest.mark.parametrize("member", ["token", "access_token"])
def test_a_token_has_one_of_two_names(member):
    assert authorizer(None, answer(200, {member: "x"})).satisfy([bearer()], PULL, None) == "Bearer x"


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ({"errors": [{"code": "DENIED", "message": "no  way", "detail": 1}]}, ", DENIED: no way"),
        ({"errors": []}, ""),
        ({"errors": ["x"], "error": "e", "error_description": "d"}, ", e: d"),
        ({"details": "x" * 400}, f", {'x' * 300}"),
        ({"message": ""}, ""),
        ([1], ""),
    ],
)
def test_errors_of_answers(document, text):
    assert error_text(answer(400, document)) == text
