"""A registry that wants tokens: `python3 registry_front.py PORT UPSTREAM [FILES]`.

In front of a registry that speaks plain HTTP, it does what Quay does: it gives a token to everybody, and does not tell
what there is from what may be looked at: it answers 401 for a repository that is not there to those who do not come to
push. With a directory FILES it does what Harbor and GitLab do: registry and token service speak TLS with
`certificate.pem` and `key.pem`, and tokens are for the `USER:PASSWORD` in `login` only.
"""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

port, upstream = int(sys.argv[1]), sys.argv[2]
files = Path(sys.argv[3]) if sys.argv[3:] else None
login = (files / "login").read_text().strip() if files else ""
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
            asked = parse_qs((body.decode() if self.command == "POST" else "") or parts.query)
            if login and login not in self.logins(asked):
                self.send(401, {}, UNAUTHORIZED)
                return
            scopes = asked.get("scope", [])
            token = base64.urlsafe_b64encode(json.dumps(" ".join(scopes)).encode()).decode()
            self.send(
                200, {"Content-Type": "application/json"}, json.dumps({"token": token, "access_token": token}).encode()
            )
            return
        repository = parts.path.removeprefix("/v2/").partition("/manifests/")[0].partition("/blobs/")[0]
        action = "pull" if self.command in ("GET", "HEAD") else "pull,push"
        host = self.headers["Host"]
        scheme = "https" if files else "http"
        challenge = f'Bearer realm="{scheme}://{host}/token",service="{host}",scope="repository:{repository}:{action}"'
        authorization = self.headers.get("Authorization", "")
        if not authorization.startswith("Bearer "):
            self.send(401, {"WWW-Authenticate": challenge}, UNAUTHORIZED)
            return
        connection = http.client.HTTPConnection(upstream, timeout=60)
        # Engines send several lines of Accept.
        passed = {
            name: ", ".join(self.headers.get_all(name, []))
            for name in self.headers
            if name.lower() not in ("authorization", "transfer-encoding")
        }
        passed |= {"Content-Length": str(len(body)), "X-Forwarded-Proto": scheme}
        connection.request(self.command, self.path, body, passed)
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

    def logins(self, asked: dict[str, list[str]]) -> list[str]:
        """Return who asks for a token: as OAuth and as HTTP itself have it."""
        basic = self.headers.get("Authorization", "").removeprefix("Basic ")
        given = [asked.get(name, [""])[0] for name in ("username", "password")]
        return [":".join(given), base64.b64decode(basic).decode()]

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


server = ThreadingHTTPServer(("", port), Handler)
if files:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files / "certificate.pem", files / "key.pem")
    # Each connection shakes hands in its own thread: one that does not would hold up all others.
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
server.serve_forever()
