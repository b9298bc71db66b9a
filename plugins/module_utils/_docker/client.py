# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The Engine API over one connection, with the standard library alone: reading state must not cost the SDK's import.

Source of the protocol: moby ``api/docs`` (``GET /version``, unversioned).
"""

from __future__ import annotations

import contextlib
import http.client
import json
import time
from typing import Any, Dict, Iterator, Mapping, Optional, Tuple

from .._core.errors import FarmError
from .._platform.platform import Platform
from .context_store import ContextStore, TlsFiles
from .endpoint import Endpoint
from .transport import Unreachable, classify_error, open_connection, resolve, timeout_message

#: Bytes that are read of an answer that may be anybody's.
MAXIMUM_ANSWER = 1 << 20


class Conversation:
    """Requests to one engine over one connection, without the SDK: reading state must not cost its import."""

    def __init__(self, connection: http.client.HTTPConnection) -> None:
        self._connection = connection

    def request(
        self,
        method: str,
        path: str,
        limit: Optional[int] = None,
        body: Optional[bytes] = None,
        headers: Optional[Mapping[str, str]] = None,
    ) -> Tuple[int, bytes]:
        """Send a request of the Engine API and return the status and the body of the answer.

        :param path: with its query, escaped.
        :param limit: bytes of the body that are read at most, for an answer that may be anybody's.
        :param body: of the request.
        :param headers: in addition to ``Host``.
        """
        self._connection.request(method, path, body, headers={"Host": "docker", **(headers or {})})
        answer = self._connection.getresponse()
        return answer.status, answer.read(limit)

    def version(self) -> Mapping[str, Any]:
        """Return what the engine says of itself, ``Os`` and ``Arch`` among it.

        :raises Unreachable: the answer is not an engine's.
        """
        status, body = self.request("GET", "/version", MAXIMUM_ANSWER)
        if status == 400 and b"HTTPS server" in body:
            raise Unreachable(
                "tls", "it wants TLS; reach it with ca, cert and key, or through a docker context with them"
            )
        try:
            document: Dict[str, Any] = json.loads(body)
            if status == 200 and document["Os"] and document["Arch"]:
                return document
        except (ValueError, KeyError, TypeError):
            pass
        raise Unreachable("answer", f"the answer (HTTP {status}) is not a Docker engine's; what listens there?")


@contextlib.contextmanager
def conversation(
    endpoint: Endpoint, store: ContextStore, timeout: float = 60, tls: Optional[TlsFiles] = None
) -> Iterator[Conversation]:
    """Connect to an engine; close the connection at the end.

    :param timeout: seconds that each step may take.
    :raises FarmError: the engine cannot be reached, or breaks the connection off; the message says why.
    """
    route, opened = resolve(endpoint, store, tls), False
    try:
        with contextlib.ExitStack() as cleanup:
            connection = open_connection(route, time.monotonic() + timeout, cleanup)
            opened = True
            yield Conversation(connection)
    except (OSError, http.client.HTTPException, Unreachable) as exc:
        reason = classify_error(exc, route, timeout, trusted=opened)
        raise FarmError(failure(endpoint, reason, route.url)) from exc


def failure(endpoint: Endpoint, reason: Unreachable, url: Optional[Endpoint] = None) -> str:
    """Return one sentence on why an engine cannot be reached.

    :param url: what a context leads to, where that is known.
    """
    if reason.kind == "context":
        return str(reason)
    name = endpoint.text if url in (None, endpoint) else f"{endpoint} ({url})"
    return f"engine {name}: {reason}"


def unanswered(endpoint: Endpoint, timeout: float) -> str:
    """Say that an engine has not answered in time."""
    return f"engine {endpoint}: {timeout_message(timeout)}"


def platform_of(version: Mapping[str, Any]) -> Optional[Platform]:
    """Return the platform that an engine runs natively, None where that is none that images are made for."""
    try:
        return Platform.make(str(version["Os"]).lower(), str(version["Arch"]).lower())
    except FarmError:
        return None
