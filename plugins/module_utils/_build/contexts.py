# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where the files of a build come from: its context, and further ones that a Dockerfile uses by name."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Any, List, Mapping, Optional, Sequence, Tuple

from .._buildx.cli import Version
from .._core.environment import expanded
from .._core.errors import FarmError
from .._core.urls import mask, secret_in
from .._docker.reference import Reference
from .fields import text_of

_REMOTE = re.compile(r"[a-z]+://|github\.com/|[A-Za-z0-9_.-]+@[A-Za-z0-9_.-]+:")
IMAGE, LAYOUT, TARGET = "docker-image://", "oci-layout://", "target:"
_CONTEXTS: Version = (0, 8, 0)
#: With BuildKit 0.11.
_LAYOUTS: Version = (0, 10, 0)


def is_url(text: str) -> bool:
    """Return whether a context is a URL, unless there is a directory of that name."""
    return bool(_REMOTE.match(text))


def located(text: str, subject: str = "context") -> Tuple[str, bool]:
    """Return a context's absolute path or URL, and whether it is a URL.

    As for buildx, a directory wins over a URL that looks the same.

    :param subject: what it is, for the message.
    :raises FarmError: a secret is in the URL.
    """
    path = expanded(text)
    if not text or os.path.isdir(path):
        return path, False
    if secret := secret_in(text):
        raise FarmError(
            f"{subject} {mask(text)}: {secret} in a URL ends up in the process list and in the image's provenance; "
            f"check the sources out first and build from that directory"
        )
    return (text, True) if is_url(text) else (path, False)


@dataclass(frozen=True)
class NamedContext:
    """A further context of a build: what ``FROM NAME``, ``COPY --from=NAME`` and mounts of a Dockerfile mean.

    :ivar value: as buildx takes it.
    :ivar path: the directory that has to be on this controller; empty where none has to.
    """

    name: str
    value: str
    path: str = ""

    @classmethod
    def from_param(cls, name: str, raw: Any) -> NamedContext:
        """Read an entry of the option ``contexts``.

        Source of names and schemes: docker/buildx ``commands/build.go``, ``build/opt.go``.

        :raises FarmError: buildx would refuse the name or the value.
        """
        subject = f"contexts: {name}:"
        text = text_of(subject, raw)
        Reference.parse(name)
        if text.startswith(TARGET):
            raise FarmError(
                f"{subject} {text} is another target of a bake file, and this build has none; build that one first "
                f"and name its image as {IMAGE}IMAGE, or use the module buildfarm.multiarch.buildx_bake"
            )
        if text.startswith(IMAGE):
            Reference.parse(text[len(IMAGE) :])
            return cls(name, text)
        if text.startswith(LAYOUT):
            path, mark, rest = _split_layout(text[len(LAYOUT) :])
            return cls(name, f"{LAYOUT}{expanded(path)}{mark}{rest}", expanded(path))
        value, is_remote = located(text, subject)
        return cls(name, value, "" if is_remote else value)

    @property
    def image(self) -> str:
        """The name of the image that it is; empty for anything else."""
        return self.value[len(IMAGE) :] if self.value.startswith(IMAGE) else ""

    @property
    def is_layout(self) -> bool:
        """Whether it is an image in an OCI layout."""
        return self.value.startswith(LAYOUT)

    def problem(self) -> str:
        """Return why buildx could not read it here, empty if it can."""
        if self.path and not os.path.isdir(self.path):
            found = "a file, not a directory" if os.path.lexists(self.path) else "nothing there"
            return f"contexts: {self.name}: {self.path}: {found} on this controller; wanted a directory"
        if self.is_layout and not os.path.isfile(os.path.join(self.path, "index.json")):
            return f"contexts: {self.name}: {self.path} is no OCI layout, as it has no index.json; wanted one"
        return ""


def named_contexts(raw: Optional[Mapping[str, Any]]) -> Tuple[NamedContext, ...]:
    """Read the option ``contexts``.

    :raises FarmError: an entry is wrong.
    """
    return tuple(NamedContext.from_param(str(name), value) for name, value in sorted((raw or {}).items()))


def context_requirements(contexts: Sequence[NamedContext]) -> List[Tuple[str, Version]]:
    """Return what of named contexts not every buildx has, in the user's words, and its first version with that."""
    found = [("contexts", _CONTEXTS)] if contexts else []
    return found + ([("a context in an OCI layout", _LAYOUTS)] if any(one.is_layout for one in contexts) else [])


def _split_layout(text: str) -> Tuple[str, str, str]:
    """Return the path of a layout, the character after it and what follows: a tag, a digest, or nothing."""
    path = re.split("[:@]", text, maxsplit=1)[0]
    return path, text[len(path) : len(path) + 1], text[len(path) + 1 :]
