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
from typing import Any, Dict, Iterator, Mapping, Optional, Sequence, Tuple
from urllib.parse import quote

from .._core.errors import FarmError
from .._platform.platform import Platform
from .context_store import ContextStore, TlsFiles
from .endpoint import Endpoint
from .transport import Unreachable, classify_error, open_connection, resolve, timeout_message

#: Bytes that are read of an answer that may be anybody's.
MAXIMUM_ANSWER = 1 << 20
#: How Go's server answers one who speaks plain HTTP where it speaks TLS. Source: golang/go ``net/http/server.go``.
_WANTS_TLS = b"Client sent an HTTP request to an HTTPS server"
#: Seconds between two looks at what another client is removing.
_PAUSE = 0.2


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
        self.ask(method, path, body, headers)
        return self.answer(limit)

    def ask(
        self, method: str, path: str, body: Optional[bytes] = None, headers: Optional[Mapping[str, str]] = None
    ) -> None:
        """Send a request whose answer is waited for later."""
        self._connection.request(method, path, body, headers={"Host": "docker", **(headers or {})})

    def answer(self, limit: Optional[int] = None) -> Tuple[int, bytes]:
        """Wait for the answer to what was asked, and return its status and its body.

        :raises Unreachable: TLS is spoken there.
        """
        answer = self._connection.getresponse()
        body = answer.read(limit)
        if answer.status == 400 and body.startswith(_WANTS_TLS):
            raise Unreachable(
                "tls", "it wants TLS; reach it with ca, cert and key, or through a docker context with them"
            )
        return answer.status, body

    def send(self, method: str, path: str, document: Mapping[str, Any]) -> Tuple[int, bytes]:
        """Send a JSON object with a request and return the status and the body of the answer."""
        body = json.dumps(document).encode()
        return self.request(method, path, body=body, headers={"Content-Type": "application/json"})

    def delete(self, path: str, patience: float = 60) -> Tuple[int, bytes]:
        """Remove something, as ``request`` does; what another client is removing at the same time is waited for.

        :param patience: seconds for that.
        """
        deadline = time.monotonic() + patience
        while True:
            status, body = self.request("DELETE", path)
            if status != 409 or b"already in progress" not in body or time.monotonic() >= deadline:
                return status, body
            time.sleep(_PAUSE)

    def get(self, path: str) -> Any:
        """Return the JSON document that the engine has at a path.

        :raises FarmError: it has none, or says that something is wrong.
        """
        return self._document(path)

    def find(self, path: str) -> Any:
        """Return the JSON document that the engine has at a path, None where it has none.

        :raises FarmError: it says that something is wrong.
        """
        return self._document(path, absent=404)

    def _document(self, path: str, absent: Optional[int] = None) -> Any:
        status, body = self.request("GET", path)
        if status == absent:
            return None
        if status != 200:
            raise FarmError(f"GET {path} failed: {message(body)} (HTTP {status})")
        return json.loads(body)

    def version(self) -> Mapping[str, Any]:
        """Return what the engine says of itself, ``Os`` and ``Arch`` among it.

        :raises Unreachable: the answer is not an engine's, or TLS is spoken there.
        """
        status, body = self.request("GET", "/version", MAXIMUM_ANSWER)
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


def execute(
    endpoint: Endpoint,
    store: ContextStore,
    container: str,
    argv: Sequence[str],
    timeout: float,
    tls: Optional[TlsFiles] = None,
    limit: Optional[int] = None,
) -> Tuple[int, bytes, str]:
    """Run a program in a running container; return its exit status, its output, and what it says of errors.

    :param timeout: seconds for which it may be silent.
    :param tls: material for a ``tcp`` endpoint; a context brings its own.
    :param limit: bytes that are read of what it writes.
    :raises FarmError: the engine cannot be reached, or did not start it.
    """
    with conversation(endpoint, store, timeout, tls) as engine:
        wanted = {"Cmd": list(argv), "AttachStdout": True, "AttachStderr": True}
        status, body = engine.send("POST", f"/containers/{quote(container)}/exec", wanted)
        if status != 201:
            raise FarmError(f"engine {endpoint}: could not run {argv[0]} in {container}: {message(body)}")
        identifier = str(json.loads(body)["Id"])
        # The answer is the program's output, and the end of the connection its end.
        start = json.dumps({"Detach": False, "Tty": False}).encode()
        headers = {"Content-Type": "application/json"}
        status, body = engine.request("POST", f"/exec/{identifier}/start", limit, start, headers)
        if status != 200:
            raise FarmError(f"engine {endpoint}: could not run {argv[0]} in {container}: {message(body)}")
    streams = demultiplexed(body)
    with conversation(endpoint, store, timeout, tls) as engine:
        status, body = engine.request("GET", f"/exec/{identifier}/json")
    if status != 200:
        raise FarmError(f"engine {endpoint}: what became of {argv[0]} in {container} is not known: {message(body)}")
    return int(json.loads(body)["ExitCode"] or 0), streams.get(1, b""), streams.get(2, b"").decode(errors="replace")


def demultiplexed(body: bytes) -> Dict[int, bytes]:
    """Return what a program wrote, by stream, 1 or 2, each in frames: stream, three zeros, length, content.

    Source: moby ``api/docs``, "Stream format" of attaching to a container.
    """
    found: Dict[int, bytes] = {}
    position = 0
    while position + 8 <= len(body):
        stream, length = body[position], int.from_bytes(body[position + 4 : position + 8], "big")
        found[stream] = found.get(stream, b"") + body[position + 8 : position + 8 + length]
        position += 8 + length
    return found


def message(body: bytes) -> str:
    """Return what an engine says is wrong."""
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace").strip()


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
