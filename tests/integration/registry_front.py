"""A registry that does not tell what there is from what may be looked at: `python3 registry_front.py PORT UPSTREAM`.

In front of a registry that speaks plain HTTP, it does what Quay does: it wants a token, gives one to everybody, and
answers 401 for a repository that is not there to those who do not come to push.
"""

from __future__ import annotations

import base64
import http.client
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

port, upstream = int(sys.argv[1]), sys.argv[2]
UNAUTHORIZED = json.dumps(
    {"errors": [{"code": "UNAUTHORIZED", "message": "access to the requested resource"}]}
).encode()


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        """Ask for a token, give one, or pass the request on."""
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else self.chunks()
        parts = urlsplit(self.path)
        if parts.path == "/token":
            scopes = parse_qs((body.decode() if self.command == "POST" else "") or parts.query).get("scope", [])
            token = base64.urlsafe_b64encode(json.dumps(" ".join(scopes)).encode()).decode()
            self.send(
                200, {"Content-Type": "application/json"}, json.dumps({"token": token, "access_token": token}).encode()
            )
            return
        repository = parts.path.removeprefix("/v2/").partition("/manifests/")[0].partition("/blobs/")[0]
        action = "pull" if self.command in ("GET", "HEAD") else "pull,push"
        host = self.headers["Host"]
        challenge = f'Bearer realm="http://{host}/token",service="{host}",scope="repository:{repository}:{action}"'
        authorization = self.headers.get("Authorization", "")
        if not authorization.startswith("Bearer "):
            self.send(401, {"WWW-Authenticate": challenge}, UNAUTHORIZED)
            return
        connection = http.client.HTTPConnection(upstream, timeout=60)
        passed = {
            name: value
            for name, value in self.headers.items()
            if name.lower() not in ("authorization", "transfer-encoding")
        }
        connection.request(self.command, self.path, body, {**passed, "Content-Length": str(len(body))})
        found = connection.getresponse()
        content = found.read()
        may_push = "push" in json.loads(base64.urlsafe_b64decode(authorization[len("Bearer ") :]))
        if found.status == 404 and not may_push:
            self.send(401, {"WWW-Authenticate": challenge}, UNAUTHORIZED)
            return
        headers = {name: value for name, value in found.getheaders() if name not in ("Connection", "Transfer-Encoding")}
        # To HEAD the length of what is not sent.
        self.send(found.status, headers, content, headers.get("Content-Length") if self.command == "HEAD" else None)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = answer

    def chunks(self) -> bytes:
        """Read a body of unknown length."""
        content = b""
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                content += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        return content

    def send(self, status: int, headers: dict[str, str], content: bytes, length: str | None = None) -> None:
        """Send an answer."""
        self.send_response(status)
        for name, value in {**headers, "Content-Length": length or str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_arguments: object) -> None:
        """Say what was asked for and how it was answered."""
        print(self.command, self.path, _arguments[1:2], flush=True)


ThreadingHTTPServer(("", port), Handler).serve_forever()
