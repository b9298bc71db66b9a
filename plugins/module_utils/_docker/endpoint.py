# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a controller reaches an engine: ``tcp://``, ``unix://`` and ``ssh://`` URLs, and docker contexts' names.

Source of the rules: docker/cli ``opts/hosts.go`` and ``cli/context/store/store.go``; buildx ``store/nodegroup.go``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Optional
from urllib.parse import SplitResult, urlsplit

from .._core.errors import FarmError
from .._core.urls import mask
from .names import DEFAULT_SOCKET

#: The docker CLI's rule for the names of contexts.
_CONTEXT_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.+-]+\Z")
_HOST = re.compile(r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?\.?\Z|[0-9a-f.]*:[0-9a-f:.]+(%[a-z0-9._-]+)?\Z")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]*\Z")

#: The port that docker and buildx add to a ``tcp://`` URL without one, and docker's usual one with TLS.
PLAIN_PORT, TLS_PORT = 2375, 2376
_WANTED = "wanted tcp://HOST:PORT, unix:///PATH, ssh://[USER@]HOST[:PORT] or the name of a docker context"


@dataclass(frozen=True)
class Endpoint:
    """A way to an engine, normalised: two endpoints are equal when they say the same.

    :ivar scheme: ``tcp``, ``unix``, ``ssh``, or ``context``.
    :ivar text: the normalised text, as docker and buildx take it: a URL (a port added to ``tcp``), or a context's name.
    :ivar host: of ``tcp`` and ``ssh``, in lower case; an IPv6 address without its brackets.
    :ivar port: of ``tcp``, and of ``ssh`` where given.
    :ivar path: the socket of ``unix``, and of ``ssh`` where given.
    :ivar user: of ``ssh`` where given.
    """

    scheme: str
    text: str
    host: str = ""
    port: Optional[int] = None
    path: str = ""
    user: str = ""

    def __str__(self) -> str:
        return self.text

    @classmethod
    def parse(cls, text: str, default_port: int = PLAIN_PORT) -> Endpoint:
        """Read an endpoint as a user writes it.

        :param default_port: for a ``tcp`` URL without one.
        :raises FarmError: it is neither a URL that docker knows on Linux nor a possible name of a context.
        """
        text = text.strip()
        if "://" not in text:
            if _CONTEXT_NAME.match(text):
                return cls("context", text)
            raise FarmError(f"endpoint {mask(text)!r}: {_WANTED}")
        try:
            url = urlsplit(text)
            port = url.port
        except ValueError as exc:
            raise FarmError(f"endpoint {mask(text)!r}: {exc}; {_WANTED}") from exc
        if url.scheme not in ("tcp", "ssh", "unix") or url.query or url.fragment or url.password is not None:
            # A password is refused by docker too.
            raise FarmError(f"endpoint {mask(text)!r}: {_WANTED}")
        if url.scheme == "unix":
            return cls._unix(text)
        return cls._network(text, url, port or (default_port if url.scheme == "tcp" else None))

    @classmethod
    def _unix(cls, text: str) -> Endpoint:
        path = text[len("unix://") :] or DEFAULT_SOCKET
        if not path.startswith("/"):
            raise FarmError(f"endpoint {text!r}: the socket's path is not absolute; wanted unix:///PATH")
        return cls("unix", f"unix://{path}", path=path)

    @classmethod
    def _network(cls, text: str, url: SplitResult, port: Optional[int]) -> Endpoint:
        host, user, path = url.hostname or "", url.username or "", url.path.rstrip("/")
        if not _HOST.match(host) or (user and not _USER.match(user)):
            raise FarmError(f"endpoint {mask(text)!r}: {_WANTED}")
        shown = f"[{host}]" if ":" in host else host
        if url.scheme == "tcp":
            if user or path:
                raise FarmError(f"endpoint {mask(text)!r}: a tcp URL has neither user nor path; wanted tcp://HOST:PORT")
            return cls("tcp", f"tcp://{shown}:{port}", host, port)
        login = f"{user}@" if user else ""
        suffix = f":{port}" if port else ""
        return cls("ssh", f"ssh://{login}{shown}{suffix}{path}", host, port, path, user)


def context_name(text: str) -> str:
    """Return a name that a docker context may have.

    :raises FarmError: docker would refuse the name, or reserves it.
    """
    if text == "default":
        raise FarmError("context 'default': docker reserves this name for the engine of its environment; use another")
    if not _CONTEXT_NAME.match(text):
        raise FarmError(
            f"context {text!r}: wanted two or more letters, digits and _ . + -, beginning with a letter or a digit"
        )
    return text
