# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a build task asks for, checked as far as that goes without asking buildx, an engine or a registry."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Any, Dict, Mapping, Optional, Sequence, Tuple

from .._buildx.store import chosen_builder
from .._core.environment import expanded
from .._core.errors import FarmError
from .._core.urls import mask, secret_in
from .._docker.reference import Reference
from .._platform.platform import Platform, parse_all
from .options import BuildOptions
from .output import Output, check_combination

_REMOTE = re.compile(r"[a-z]+://|github\.com/|[A-Za-z0-9_.-]+@[A-Za-z0-9_.-]+:")


@dataclass(frozen=True)
class Declaration:
    """A build task's options, normalised.

    :ivar context: an absolute path, or a git or http URL.
    :ivar file: the Dockerfile's absolute path; for a URL its path in the context; empty for buildx's choice.
    """

    context: str
    is_remote: bool
    file: str
    builder: Optional[str]
    platforms: Tuple[Platform, ...]
    tags: Tuple[str, ...]
    outputs: Tuple[Output, ...]
    options: BuildOptions
    timeout: Optional[float]

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> Declaration:
        """Read a task's options.

        :raises FarmError: an option's value is wrong by itself, or two contradict each other.
        """
        context, is_remote = _context(params["context"])
        platforms = parse_all(params.get("platforms") or ())
        tags = _tags(params.get("tags") or ())
        outputs = tuple(Output.from_params(raw) for raw in params.get("outputs") or ())
        outputs += (Output("registry"),) if params.get("push") and not any(item.pushes for item in outputs) else ()
        outputs += (Output("docker"),) if params.get("load") and Output("docker") not in outputs else ()
        declaration = cls(
            context=context,
            is_remote=is_remote,
            file=_file(params.get("file"), context, is_remote),
            builder=chosen_builder(params),
            platforms=platforms,
            tags=tags,
            outputs=outputs,
            options=BuildOptions.from_params(params),
            timeout=params.get("timeout"),
        )
        check_combination(outputs, tags, len(platforms), declaration.options.attested)
        return declaration

    def check_files(self, lenient: bool = False) -> Tuple[str, ...]:
        """Make sure that context, Dockerfile and the directories of the results are there.

        :param lenient: a missing context is one that an earlier task would have made.
        :returns: warnings.
        :raises FarmError: naming what is missing.
        """
        if lenient and not self.is_remote and not os.path.lexists(self.context):
            return (f"context {self.context}: nothing there yet, so what is built of it cannot be predicted",)
        if not self.is_remote and not os.path.isdir(self.context):
            found = "a file, not a directory" if os.path.lexists(self.context) else "nothing there"
            raise FarmError(
                f"context {self.context}: {found} on this controller; wanted a directory, or the URL of a git "
                f"repository or an archive"
            )
        if self.file and os.path.isabs(self.file) and not os.path.isfile(self.file):
            raise FarmError(
                f"context {self.context}: no Dockerfile at {self.file}; put one there, or name it with the option file"
            )
        for output in self.outputs:
            output.check_dest()
        return ()


def _context(text: str) -> Tuple[str, bool]:
    """Return a context's absolute path or URL, and whether it is a URL.

    As for buildx, a directory wins over a URL that looks the same.
    """
    path = expanded(text)
    if not text or os.path.isdir(path):
        return path, False
    if secret := secret_in(text):
        raise FarmError(
            f"context {mask(text)}: {secret} in a URL ends up in the process list and in the image's provenance; "
            f"check the sources out first and build from that directory"
        )
    return (text, True) if _REMOTE.match(text) else (path, False)


def _file(file: Optional[str], context: str, is_remote: bool) -> str:
    """Return the Dockerfile's path, for a local context absolute."""
    if is_remote:
        return file or ""
    if file:
        return os.path.join(context, expanded(file) if file.startswith("~") else file)
    lower = os.path.join(context, "dockerfile")
    usual = os.path.join(context, "Dockerfile")
    return lower if os.path.isfile(lower) and not os.path.isfile(usual) else usual


def _tags(texts: Sequence[str]) -> Tuple[str, ...]:
    found: Dict[Reference, str] = {}
    for text in texts:
        reference = Reference.parse(text)
        if reference.digest:
            raise FarmError(f"tags: {text!r} has a digest, which only a finished build can; wanted NAME[:TAG]")
        found.setdefault(reference, text)
    return tuple(found.values())
