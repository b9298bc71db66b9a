"""A file server with the faults of real ones: `python3 file_server.py DIRECTORY PORT`, on a host.

The first part of a path names the fault: /whole/FILE none; /cut/FILE breaks off after 20 MB; /stump/FILE does so too,
and knows no ranges; /slow/FILE sends nothing for 3 s half-way; /wrong/FILE has a wrong byte; /page/FILE is an HTML
page.
A line for each request goes to stdout: fault, file, and the first byte that was asked for.
"""

from __future__ import annotations

import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PIECE = 20_000_000
PAGE = b"<!DOCTYPE html><html><head><title>404 Not Found</title></head></html>"
directory, port = Path(sys.argv[1]), int(sys.argv[2])


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    def do_GET(self) -> None:
        """Send a file, or what its fault makes of it."""
        fault, _slash, name = self.path.partition("?")[0].lstrip("/").partition("/")
        start = int(self.headers.get("Range", "bytes=0-")[len("bytes=") : -1])
        print(fault, name, start, flush=True)
        path = directory / name
        if not path.is_file():
            self.send_error(404)
            return
        content = PAGE if fault == "page" else path.read_bytes()
        if fault == "wrong":
            content = content[:-1] + bytes([content[-1] ^ 1])
        start = 0 if fault == "stump" else start
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.send_header("Last-Modified", self.date_time_string(int(path.stat().st_mtime)))
        self.end_headers()
        if fault == "slow":
            half = (start + len(content)) // 2
            self.wfile.write(content[start:half])
            time.sleep(3)
            start = half
        end = start + PIECE if fault in ("cut", "stump") else len(content)
        self.wfile.write(content[start:end])

    def log_message(self, *_arguments: object) -> None:
        """Say nothing of one's own."""


ThreadingHTTPServer(("", port), Handler).serve_forever()
