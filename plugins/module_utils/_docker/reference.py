# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Names of images, as docker reads them.

Source of the grammar: distribution/reference (``regexp.go``, ``normalize.go``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from .._core.errors import FarmError

_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REFERENCE = re.compile(
    rf"(?P<name>(?:{_DOMAIN}/)?{_COMPONENT}(?:/{_COMPONENT})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?"
    r"(?:@(?P<digest>sha(?:256:[0-9a-f]{64}|512:[0-9a-f]{128})))?\Z"
)
_IDENTIFIER = re.compile(r"[0-9a-f]{64}\Z")
_LONGEST_NAME = 255
_HUB = "docker.io"


@dataclass(frozen=True)
class Reference:
    """A normalised image name.

    :ivar registry: host and port; ``docker.io`` where none is given.
    :ivar path: the repository's name in the registry, with ``library/`` for the Hub's own images.
    :ivar tag: empty where none is given and there is a digest, else ``latest``.
    :ivar digest: empty where none is given.
    """

    registry: str
    path: str
    tag: str = ""
    digest: str = ""

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.repository}{tag}{digest}"

    @property
    def repository(self) -> str:
        """The name without tag and digest."""
        return f"{self.registry}/{self.path}"

    def at(self, digest: str) -> Reference:
        """Return the name of one manifest of the same repository."""
        return replace(self, tag="", digest=digest)

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Read an image's name as a user writes it.

        :raises FarmError: docker would refuse it.
        """
        match = _REFERENCE.match(text)
        if not match or _IDENTIFIER.match(text):
            raise FarmError(
                f"image name {text!r}: wanted [REGISTRY[:PORT]/]NAME[:TAG][@sha256:DIGEST], the name in lower case"
            )
        name, digest = match["name"], match["digest"] or ""
        first, _slash, rest = name.partition("/")
        is_registry = bool(rest) and ("." in first or ":" in first or first == "localhost" or first != first.lower())
        registry, path = (first, rest) if is_registry else (_HUB, name)
        if registry == "index.docker.io":
            registry = _HUB
        if registry == _HUB and "/" not in path:
            path = f"library/{path}"
        if len(registry) + 1 + len(path) > _LONGEST_NAME:
            raise FarmError(f"image name {text!r}: longer than {_LONGEST_NAME} characters")
        return cls(registry, path, match["tag"] or ("" if digest else "latest"), digest)
