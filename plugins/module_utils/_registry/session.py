# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Requests to one server of a registry: in the scheme that it speaks, authorized, redirects followed.

Source of the protocol: distribution/distribution ``docs/content/spec/auth``; of the order in which schemes are tried:
containerd ``core/remotes/docker`` and moby/buildkit ``util/resolver/resolver.go``.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import BinaryIO, Callable, Mapping, Optional, Sequence

from .._core.errors import FarmError
from .._docker.credentials import Credentials
from .auth import Authorizer, RegistryRefused, error_text, parse_challenges
from .connections import Body, Connections, InterruptedRequest, Origin, Response, Unreachable, WrongScheme
from .model import DOCKER_LIST, DOCKER_MANIFEST, DOCUMENT_LIMIT, OCI_INDEX, OCI_MANIFEST

#: Seconds for a token, with all redirects.
_TOKEN_TIMEOUT = 120.0
_MAX_REDIRECTS = 5
#: Statuses that point to another place, and those of them that mean the same request with its body (RFC 9110, 15.4).
_REDIRECT_STATUSES = (301, 302, 303, 307, 308)
_SAME_REQUEST = (307, 308)
#: Statuses of who is not let in.
_REFUSALS = (401, 403)
_HEADERS = {"Accept": ", ".join((OCI_INDEX, DOCKER_LIST, OCI_MANIFEST, DOCKER_MANIFEST, "*/*"))}


@dataclass(frozen=True)
class Content:
    """What a request sends."""

    media_type: str
    body: Body


class Session:
    """Requests to one server; shared by threads.

    :param registry: the server's name in images' names, for messages.
    :param origins: to be tried in this order until one speaks the scheme.
    :param credentials: reads the credentials; called when the server demands some.
    """

    def __init__(
        self,
        registry: str,
        origins: Sequence[Origin],
        connections: Connections,
        credentials: Callable[[], Optional[Credentials]],
    ) -> None:
        self._registry = registry
        self._origins = tuple(origins)
        self._connections = connections
        self._authorizer = Authorizer(registry, credentials, self._request_token)

    def request(
        self,
        method: str,
        target: str,
        scope: str,
        deadline: float,
        content: Optional[Content] = None,
        sink: Optional[BinaryIO] = None,
    ) -> Response:
        """Send a request with the credentials that the server demands, and return the response.

        :param target: path and query, or the URL that the server gave.
        :param scope: what credentials are needed for, ``repository:PATH:pull`` or ``repository:PATH:pull,push``, or
            several of these with blanks between them.
        :param deadline: of the monotonic clock.
        :param content: None for nothing.
        :param sink: takes the body of a response of status 200 in its place.
        :raises RegistryRefused: the credentials do not suffice.
        :raises InterruptedRequest: another attempt may succeed.
        :raises Unreachable: the server cannot be reached.
        :raises WrongScheme: it speaks none of the schemes that are allowed.
        """
        header = self._authorizer.header(scope)
        response = self._send(method, target, header, deadline, content, sink)
        challenges = response.headers.get_all("WWW-Authenticate") if response.status == 401 else None
        if challenges:
            header = self._authorizer.satisfy(parse_challenges(challenges), scope, header)
            response = self._send(method, target, header, deadline, content, sink) if header else response
        if response.status in _REFUSALS:
            raise self._authorizer.refusal(f"{response}{error_text(response)}")
        return response

    def _send(
        self,
        method: str,
        target: str,
        authorization: Optional[str],
        deadline: float,
        content: Optional[Content],
        sink: Optional[BinaryIO],
    ) -> Response:
        """Send a request in the first scheme that the server speaks, and in that from then on."""
        headers = {**_HEADERS, **({"Authorization": authorization} if authorization else {})}
        body = None
        if content:
            headers["Content-Type"], body = content.media_type, content.body
            headers["Content-Length"] = str(_length(body))
        problem: Exception = WrongScheme("no scheme is allowed")
        for origin in self._origins:
            try:
                response = self._follow(method, origin, target, headers, body, deadline, sink)
            except WrongScheme as exc:
                problem = problem if isinstance(problem, InterruptedRequest) else exc
            except InterruptedRequest as exc:
                if not exc.silent:
                    raise
                problem = exc
            else:
                self._origins = (origin,)
                return response
        raise problem

    def _follow(
        self,
        method: str,
        origin: Origin,
        target: str,
        headers: Mapping[str, str],
        body: Optional[Body],
        deadline: float,
        sink: Optional[BinaryIO] = None,
    ) -> Response:
        """Send a request, and again to where the response points; credentials are for the first server only.

        :raises RegistryRefused: another server refuses. Whatever it demands is not answered: it would get them so.
        """
        sent, is_own = {"User-Agent": "buildfarm.multiarch", **headers}, True
        if not target.startswith("/"):
            own = origin
            origin, target = Origin.parse(target)
            is_own = origin.may_share_credentials_of(own)
        for _redirect in range(_MAX_REDIRECTS):
            if not is_own:
                sent.pop("Authorization", None)
            response = self._connections.request(method, origin, target, sent, DOCUMENT_LIMIT, deadline, body, sink)
            location = response.headers.get("Location")
            followed = _SAME_REQUEST if method in ("PUT", "DELETE") else _REDIRECT_STATUSES
            if response.status not in followed or not location:
                if response.status in _REFUSALS and not is_own:
                    raise self._refused_elsewhere(origin, response)
                return response
            redirected, target = Origin.parse(location, f"{origin}{target}")
            is_own = is_own and redirected.may_share_credentials_of(origin)
            origin = redirected
        raise Unreachable(f"it sent this client on more than {_MAX_REDIRECTS} times, at last to {origin}")

    def _refused_elsewhere(self, origin: Origin, response: Response) -> RegistryRefused:
        reason = f"{origin}, where it sent this client, answered {response}{error_text(response)}"
        error = RegistryRefused(
            f"registry {self._registry}: {reason}; the credentials are for the registry alone and were not sent there"
        )
        error.reason = reason
        return error

    def _request_token(self, method: str, url: str, headers: Mapping[str, str], body: Optional[bytes]) -> Response:
        try:
            origin, target = Origin.parse(url, f"{self._origins[0]}/")
            response = self._follow(method, origin, target, headers, body, time.monotonic() + _TOKEN_TIMEOUT)
        except FarmError as exc:
            raise FarmError(f"registry {self._registry}: its token service has {exc.message}") from exc
        except (Unreachable, WrongScheme, InterruptedRequest) as exc:
            raise type(exc)(f"its token service {origin}: {exc}") from exc
        if response.is_transient:
            text = f"its token service {origin} answered {response}{error_text(response)}"
            raise InterruptedRequest(text, response.retry_after)
        return response


def _length(body: Body) -> int:
    """Return how many bytes a request sends."""
    return len(body) if isinstance(body, bytes) else body.seek(0, 2)
