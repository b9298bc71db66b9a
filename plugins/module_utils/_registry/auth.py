# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How registries demand credentials: HTTP Basic, or tokens of a token service.

Source of the protocol: distribution/distribution ``docs/content/spec/auth/{token,oauth}.md``, RFC 9110 section 11.
"""

from __future__ import annotations

import json
import re
import threading
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple
from urllib.parse import urlencode

from .._core.errors import FarmError
from .._docker.credentials import Credentials
from .connections import Response

_CLIENT = "buildfarm.multiarch"
#: A scheme, or a parameter of the scheme before it.
_PART = re.compile(r"([A-Za-z0-9!#$%&'*+.^_`|~-]+)(?:\s*=\s*(\"(?:[^\"\\]|\\.)*\"|[^\s,\"]+))?")
#: What may stand in a header (RFC 6750).
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=:-]+\Z")

#: Sends method, headers and body to a URL (method, URL, headers, body) and returns the response; raises what another
#: attempt may mend.
SendRequest = Callable[[str, str, Mapping[str, str], Optional[bytes]], Response]


class RegistryRefused(FarmError):
    """The registry demands other credentials, as some also do for what does not exist.

    :ivar reason: from its response.
    """

    reason = ""


@dataclass(frozen=True)
class Challenge:
    """One way in which a server wants to be shown credentials.

    :ivar scheme: in lower case.
    """

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=dict)


def parse_challenges(headers: Sequence[str]) -> List[Challenge]:
    """Read the headers ``WWW-Authenticate`` of an answer."""
    found: List[Tuple[str, Dict[str, str]]] = []
    for header in headers:
        for name, value in _PART.findall(header):
            if not value:
                found.append((name.lower(), {}))
            elif found:
                plain = re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value
                found[-1][1][name.lower()] = plain
    return [Challenge(scheme, parameters) for scheme, parameters in found]


class Authorizer:
    """The header ``Authorization`` for one registry; shared by threads.

    :param registry: as names of images have it.
    :param credentials: reads the credentials; called when the registry demands some.
    :param request: sends a request to the token service.
    """

    def __init__(self, registry: str, credentials: Callable[[], Optional[Credentials]], request: SendRequest) -> None:
        self._registry = registry
        self._read_credentials = credentials
        self._credentials_read: List[Optional[Credentials]] = []
        self._request = request
        self._headers: Dict[str, str] = {}
        self._lock = threading.Lock()

    @property
    def _credentials(self) -> Optional[Credentials]:
        if not self._credentials_read:
            self._credentials_read.append(self._read_credentials())
        return self._credentials_read[0]

    def header(self, scope: str) -> Optional[str]:
        """Return the header's value for a scope (``repository:PATH:pull``), None before one was demanded.

        Who may push may pull: that takes no second token.
        """
        return self._headers.get(scope) or self._headers.get(f"{scope},push")

    def satisfy(self, challenges: Sequence[Challenge], scope: str, refused: Optional[str]) -> Optional[str]:
        """Return the header's value that meets the registry's challenges, None where there is none that it might take.

        :param refused: the value that it did not take, None for none.
        :raises RegistryRefused: the token service refuses.
        :raises FarmError: the token service cannot be used.
        """
        with self._lock:
            known = self.header(scope)
            if known is not None and known != refused:
                return known  # by another thread, meanwhile
            by_scheme = {challenge.scheme: challenge for challenge in reversed(challenges)}
            if "bearer" in by_scheme:
                value = f"Bearer {self._token(by_scheme['bearer'].parameters, scope)}"
            elif "basic" in by_scheme and self._credentials and not self._credentials.identity_token:
                value = self._credentials.basic
            elif by_scheme and "basic" not in by_scheme:
                raise FarmError(
                    f"registry {self._registry} wants credentials as {', '.join(by_scheme)}, as docker does not "
                    f"send them; wanted Basic or Bearer"
                )
            else:
                return None
            self._headers[scope] = value
            return None if value == refused else value

    def refusal(self, reason: str) -> RegistryRefused:
        """Return the error for a registry that refused.

        :param reason: from its response.
        """
        # Not even the user's name is shown: some services take a token for it.
        what = "refused the credentials of the docker configuration"
        if self._credentials is None:
            what = "wants credentials, and the docker configuration has none for it"
        return refused(self._registry, what, reason)

    def _token(self, parameters: Mapping[str, str], scope: str) -> str:
        credentials = self._credentials
        demanded = parameters.get("scope", "")
        if not demanded or ("push" in scope and "push" not in demanded):
            # Of a read the registry demands less than the write after it takes.
            demanded = scope
        values = {"service": parameters.get("service", ""), "scope": demanded}
        values = {key: value for key, value in values.items() if value}
        realm = parameters.get("realm", "")
        if credentials and credentials.identity_token:
            form = {**values, "grant_type": "refresh_token", "refresh_token": credentials.identity_token}
            body = urlencode({**form, "client_id": _CLIENT}).encode()
            response = self._request("POST", realm, {"Content-Type": "application/x-www-form-urlencoded"}, body)
        else:
            headers = {"Authorization": credentials.basic} if credentials else {}
            separator = "&" if "?" in realm else "?"
            # Of several scopes each is a parameter of its own here.
            pairs = [(key, one) for key, value in values.items() for one in (value.split() or [value])]
            response = self._request("GET", f"{realm}{separator}{urlencode(pairs)}", headers, None)
        if response.status in (400, 401, 403):
            raise self.refusal(f"its token service: {response}{error_text(response)}")
        if response.status != 200:
            raise FarmError(f"registry {self._registry}: its token service answered {response}{error_text(response)}")
        document = json_object(response.body)
        token = document.get("token") or document.get("access_token")
        if not isinstance(token, str) or not _TOKEN.match(token):
            raise FarmError(f"registry {self._registry}: its token service answered without a token")
        return token


def refused(registry: str, what: str, reason: str, **details: Any) -> RegistryRefused:
    """Return the error for a registry that refused, with what to do.

    :param what: what it did, in words that follow its name.
    :param reason: from its response, or from the output of the tool that sent the request.
    :param details: as for ``FarmError``.
    """
    error = RegistryRefused(
        f"registry {registry} {what}: {reason}; log in with docker login {registry}, or name the right docker_config",
        **details,
    )
    error.reason = reason
    return error


def json_object(raw: bytes) -> Mapping[str, Any]:
    """Return a JSON object, an empty one for anything else."""
    try:
        document = json.loads(raw)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def error_text(response: Response) -> str:
    """Return the error in the body of a response, to follow the status in a message; empty if there is none."""
    document = json_object(response.body)
    errors = document.get("errors")
    first = errors[0] if isinstance(errors, list) and errors and isinstance(errors[0], dict) else document
    parts = [first.get(key) for key in ("code", "message", "error", "error_description", "details")]
    text = ": ".join(part for part in parts if isinstance(part, str) and part)
    return f", {' '.join(text.split())[:300]}" if text else ""
