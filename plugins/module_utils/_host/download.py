# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Downloads over HTTP that survive a bad line, and words for what came instead of what was wanted."""

from __future__ import annotations

import base64
import contextlib
import http.client
import re
import socket
import time
import urllib.error
import urllib.request
from typing import Any, BinaryIO, Optional
from urllib.parse import unquote, urlsplit

from .._core.errors import FarmError
from .._core.urls import mask
from .._platform.elf import arch_of

#: Bytes at the beginning of a file by which its format is recognised.
HEAD = 4096
_CHUNK = 1 << 20
#: Seconds before a request is repeated, and as many more with each that brought nothing new.
_PAUSE = 1.0
#: Answers that another attempt may not get (RFC 9110, RFC 6585).
_PASSING = (408, 425, 429, 500, 502, 503, 504)
_TITLE = re.compile(rb"<title[^>]*>\s*(.*?)\s*</title", re.IGNORECASE | re.DOTALL)


class _BrokenError(Exception):
    """A download did not come to its end, and another attempt may."""


def download(url: str, target: BinaryIO, timeout: float, retries: int, most: Optional[int] = None) -> None:
    """Write what a URL holds to an empty file.

    What broke is taken up again where it broke if the server can (RFC 9110, section 14), else from the beginning.
    Proxies are those of the environment.

    :param target: open for writing; can be sought in.
    :param timeout: seconds that the server may let pass without sending anything.
    :param retries: how many requests in a row may bring nothing new; with 0 there is one request.
    :param most: bytes that it may have, None for any number.
    :raises FarmError: the file could not be had as a whole.
    """
    transfer = _Transfer(url, target, timeout, most)
    furthest = fruitless = 0
    while True:
        try:
            transfer.attempt()
            return
        except _BrokenError as exc:
            got = target.tell()
            fruitless = 0 if got > furthest else fruitless + 1
            furthest = max(furthest, got)
            if fruitless > retries or not retries:
                often = f", {fruitless} times in a row" if fruitless > 1 else ""
                raise FarmError(f"{mask(url)}: {exc}{often}; nothing was changed") from exc
        time.sleep(_PAUSE * (1 + fruitless))


def describe(head: bytes, size: int) -> str:
    """Say what a file is, for a person who expected a program.

    :param head: its first HEAD bytes, or all of it.
    :param size: of all of it, in bytes.
    """
    arch, text = arch_of(head), head.lstrip().lower()
    if not size:
        return "an empty file"
    if arch:
        return f"an executable for {arch} of {size} bytes"
    if text.startswith((b"<!doctype html", b"<html")):
        title = _TITLE.search(head)
        return f"an HTML page, {title.group(1).decode(errors='replace')!r}" if title else "an HTML page"
    if head.startswith((b"\x1f\x8b", b"PK\x03\x04", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")):
        return f"an archive of {size} bytes"
    if head.startswith(b"#!"):
        return f"a script of {size} bytes"
    return f"{size} bytes that are no executable"


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows the server, but to none without TLS from one with it: what comes from there could be anybody's."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if req.type == "https" and not newurl.startswith("https://"):
            raise FarmError(
                f"{mask(req.full_url)}: the server sent this host on to {mask(newurl)}, without TLS; nothing was"
                " changed. Give the address of a server that keeps to TLS"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _Transfer:
    """One file on its way, over as many connections as it takes."""

    def __init__(self, url: str, target: BinaryIO, timeout: float, most: Optional[int] = None) -> None:
        self._url = url
        self._target = target
        self._timeout = timeout
        self._most = most
        self._total: Optional[int] = None
        self._validator: Optional[str] = None

    def attempt(self) -> None:
        """Get what is still missing.

        :raises _BrokenError: it ended early; what came is in the target.
        :raises FarmError: another attempt would not get it either.
        """
        try:
            with urllib.request.build_opener(_Redirects).open(self._request(), timeout=self._timeout) as response:
                self._begin(response)
                for chunk in iter(lambda: response.read1(_CHUNK), b""):
                    self._write(chunk)
        except urllib.error.HTTPError as exc:
            self._refused(exc)
        except http.client.InvalidURL as exc:
            raise FarmError(f"{mask(self._url)}: not an address: {exc}") from exc
        except (OSError, http.client.HTTPException) as exc:
            raise _BrokenError(self._so_far(self._reason(exc))) from exc
        if self._total is not None and self._target.tell() < self._total:
            raise _BrokenError(self._so_far("the connection was cut"))

    def _request(self) -> urllib.request.Request:
        parts = urlsplit(self._url)
        request = urllib.request.Request(parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl())
        if parts.username is not None:
            secret = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
            # Not for another host that the server may redirect to.
            request.add_unredirected_header("Authorization", f"Basic {base64.b64encode(secret).decode()}")
        if self._target.tell():
            request.add_header("Range", f"bytes={self._target.tell()}-")
            if self._validator:
                # The whole file comes instead if it is another one by now.
                request.add_header("If-Range", self._validator)
        return request

    def _begin(self, response: Any) -> None:
        """Put the target to where the response's content belongs."""
        if response.status != 206:
            self._restart()
        elif not response.headers.get("Content-Range", "").startswith(f"bytes {self._target.tell()}-"):
            self._restart()
            raise _BrokenError("the server sent another part of the file than was requested")
        length, tag = response.headers.get("Content-Length", ""), response.headers.get("ETag", "")
        self._total = self._target.tell() + int(length) if length.isdigit() else None
        self._validator = tag if tag.startswith('"') else response.headers.get("Last-Modified")

    def _write(self, chunk: bytes) -> None:
        if self._most is not None and self._target.tell() + len(chunk) > self._most:
            raise FarmError(f"{mask(self._url)}: more than {self._most} bytes, which it cannot be; nothing was changed")
        try:
            self._target.write(chunk)
        except OSError as exc:
            raise FarmError(f"{mask(self._url)}: cannot be stored: {exc.strerror}; nothing was changed") from exc

    def _restart(self) -> None:
        self._target.seek(0)
        self._target.truncate()

    def _refused(self, answer: urllib.error.HTTPError) -> None:
        if answer.code == 416 and self._target.tell():
            self._restart()
            raise _BrokenError("the file on the server has become shorter meanwhile")
        head = b""
        with contextlib.suppress(OSError, http.client.HTTPException):
            head = answer.read(HEAD)
        refusal = f"the server answered {answer.code} {answer.reason} with {describe(head, len(head))}"
        if answer.code in _PASSING:
            raise _BrokenError(self._so_far(refusal))
        raise FarmError(f"{mask(self._url)}: {refusal}; nothing was changed")

    def _so_far(self, reason: str) -> str:
        got = self._target.tell()
        if not got and not self._total:
            return reason
        return (
            f"{got} of {self._total} bytes came, then {reason}" if self._total else f"{got} bytes came, then {reason}"
        )

    def _reason(self, exc: Exception) -> str:
        cause = getattr(exc, "reason", exc)
        if isinstance(cause, socket.timeout):
            return f"nothing for {self._timeout:g} s"
        if isinstance(cause, http.client.IncompleteRead):
            return "the connection was cut"
        return str(getattr(cause, "strerror", None) or cause)
