# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Secrets in URLs: finding them, and showing URLs without.

A URL may hold one in its user information (RFC 3986, 3.2.1) - a password, or a token in the place of the user's name,
as git hosts take it - and in the query, as signed and token-bearing download links have it.
"""

from __future__ import annotations

import re
from typing import Any, Iterator, Mapping, NamedTuple, Tuple
from urllib.parse import unquote

MASK = "***"

#: A URL in any text, up to a blank, a quotation mark or the next URL.
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,20})://(.*?)(?=[A-Za-z][A-Za-z0-9+.-]{0,20}://|[\s\"'<>]|\Z)", re.DOTALL)
#: ``user:password@host`` without a scheme, as in a proxy's address or a git address; not ``image:tag@sha256:digest``.
_BARE = re.compile(r"(?<![\w:/@.%+-])[\w.%+-]+:[^\s/@\"':]+(?=@(?!sha\d+:)[\w\[])")
#: Schemes with which a user name alone is a login and no secret.
_LOGINS = ("ssh", "git+ssh", "sftp")
#: What stands beside a token in the place of the user's name.
_NO_PASSWORDS = ("", "x-oauth-basic")
#: Names of query parameters whose values are shown: BuildKit's for git, and those of a registry's token service.
_OPEN = frozenset("ref tag branch commit subdir checksum submodules keep-git-dir mtime scope service".split())
#: Names of query parameters whose values are secrets for certain.
_SECRET = re.compile(r"token|secret|passw|pwd|sig\Z|signature|credential|auth|key|session|jwt", re.IGNORECASE)
_PORT = re.compile(r"[^:]*(:\d*)?\Z")
#: A shorter name or password is likely to stand elsewhere too, where it is none.
_SHORTEST_TOKEN, _SHORTEST_PASSWORD, _SHORTEST_VALUE = 12, 4, 8
#: How options of drivers begin that are variables, and the option that has them by themselves.
VARIABLE, _VARIABLES = "env.", "env"


class _Found(NamedTuple):
    """One secret: where it stands in the text, what it is, and what it is called."""

    start: int
    end: int
    secret: str
    name: str
    certain: bool


def mask(text: str) -> str:
    """Return a text, with all that may be secret in the URLs in it masked: user information and values of queries."""
    shown, done = [], 0
    for found in _look(text):
        shown += [text[done : found.start], MASK]
        done = found.end
    return "".join((*shown, text[done:]))


def secret_in(text: str) -> str:
    """Return what is secret in a URL, in words for a message; empty if nothing is for certain."""
    return next((found.name for found in _look(text) if found.certain), "")


def masked_variable(name: str, value: str) -> str:
    """Return the value of an environment's variable as it may be shown: not at all where its name says that."""
    return MASK if value and _SECRET.search(name) else mask(value)


def secrets_of(value: Any) -> Tuple[str, ...]:
    """Return the secrets in the URLs of a value, with all that is in it, as they are and as they are meant.

    So are values of environments' variables that are called secrets. Not those that are too short to be distinguished
    from other words.
    """
    if isinstance(value, str):
        found = (found.secret for found in _look(value) if found.certain)
        return tuple(dict.fromkeys(form for secret in found if secret for form in (secret, unquote(secret))))
    named: Tuple[str, ...] = ()
    if isinstance(value, Mapping):
        named = tuple(_of_variables(value))
        value = value.values()
    elif not isinstance(value, (list, tuple)):
        return ()
    return (*named, *(secret for item in value for secret in secrets_of(item)))


def _of_variables(options: Mapping[Any, Any]) -> Iterator[str]:
    """Yield the values of variables that are called secrets."""
    alone = options.get(_VARIABLES)
    variables = [(str(key)[len(VARIABLE) :], one) for key, one in options.items() if str(key).startswith(VARIABLE)]
    variables += [(str(key), one) for key, one in alone.items()] if isinstance(alone, Mapping) else []
    for name, one in variables:
        if isinstance(one, str) and len(one) >= _SHORTEST_VALUE and _SECRET.search(name):
            yield one


def _look(text: str) -> Iterator[_Found]:
    """Yield the secrets of a text in their order."""
    done = 0
    for url in _URL.finditer(text):
        yield from _look_outside(text, done, url.start())
        yield from _look_inside(url.group(1).lower(), url.group(2), url.start(2))
        done = url.end()
    yield from _look_outside(text, done, len(text))


def _look_outside(text: str, start: int, end: int) -> Iterator[_Found]:
    for match in _BARE.finditer(text, start, end):
        yield _of_user(match.group(), match.start(), "")


def _look_inside(scheme: str, rest: str, start: int) -> Iterator[_Found]:
    before_path = re.split(r"[/?#]", rest, maxsplit=1)[0]
    user, at, _host = before_path.rpartition("@")
    if not at and "@" in rest and not _PORT.match(before_path):
        # What should be a port is none: the beginning of a password with a slash in it, which should be escaped.
        user, at, _host = rest.rpartition("@")
    if at and user not in ("", "git", MASK) and (":" in user or scheme not in _LOGINS):
        yield _of_user(user, start, scheme)
    offset = start + len(user) + len(at)
    for part in re.finditer(r"[?&#;]([^?&#;]*)", rest[offset - start :]):
        name, equals, value = part.group(1).partition("=")
        is_query = part.group()[0] != "#"
        if not value and (equals or not name or not is_query or name in _OPEN):
            continue
        if name.lower() in _OPEN or MASK in (name, value):
            continue
        certain = bool(equals) and bool(_SECRET.search(name))
        secret = value if equals else name
        yield _Found(
            offset + part.end() - len(secret), offset + part.end(), secret if certain else "", f"its {name}", certain
        )


def _of_user(user: str, start: int, scheme: str) -> _Found:
    """Return what is secret in user information; all of it is masked, as either part may be a token."""
    name, _colon, password = user.partition(":")
    if password not in _NO_PASSWORDS:
        secret = password if len(password) >= _SHORTEST_PASSWORD else ""
        return _Found(start, start + len(user), secret, "a password", True)
    secret = name if len(name) >= _SHORTEST_TOKEN else ""
    return _Found(start, start + len(user), secret, "a user name without a password, which is a token,", True)
