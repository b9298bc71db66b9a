# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Engines whose answers a test determines, served over TCP."""

from __future__ import annotations

import contextlib
import http.server
import json
import socketserver
import threading
import urllib.parse
from typing import Any, Dict, Iterator, Mapping, Tuple


class FakeEngine:
    """The part that all of them have.

    :ivar containers: what is left of the containers that were created, by identifier.
    """

    def __init__(self) -> None:
        self.containers: Dict[str, Dict[str, Any]] = {}

    def answer(
        self, method: str, path: str, query: Mapping[str, str], body: bytes, headers: Mapping[str, str]
    ) -> Tuple[Any, ...]:
        """Return the status and the body of an answer, which is JSON unless it is bytes, and its headers if any."""
        raise NotImplementedError


@contextlib.contextmanager
def serving(engine: FakeEngine) -> Iterator[str]:
    """Serve an engine; gives its URL."""

    class Handler(http.server.BaseHTTPRequestHandler):
        # One packet for each answer; else each waits for an acknowledgement.
        protocol_version, wbufsize = "HTTP/1.1", -1

        def do_GET(self) -> None:
            path, _mark, query = self.path.partition("?")
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            values = dict(urllib.parse.parse_qsl(query))
            status, answer, *more = engine.answer(
                self.command, urllib.parse.unquote(path), values, body, dict(self.headers)
            )
            content = answer if isinstance(answer, bytes) else b"" if answer is None else json.dumps(answer).encode()
            self.send_response(status)
            for name, value in (more[0] if more else {}).items():
                self.send_header(name, value)
            if not more or "Transfer-Encoding" not in more[0]:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_DELETE = do_GET

        def log_message(self, *args: Any) -> None:
            pass

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield f"tcp://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
    assert not engine.containers, "containers stay on the engine"
