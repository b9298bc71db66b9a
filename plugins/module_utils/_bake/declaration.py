# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a task of ``buildx_bake`` declares."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from .._build.contexts import is_url
from .._build.fields import text_of
from .._buildx.store import chosen_builder
from .._core.environment import expanded
from .._core.errors import FarmError
from .._core.urls import mask, secret_in
from .allow import Allowed

_VARIABLE_END = "\0="


@dataclass(frozen=True)
class Bake:
    """A definition and what is wanted of it, normalised.

    :ivar directory: the working directory, absolute.
    :ivar source: the URL of a remote definition, empty for files of this controller.
    :ivar files: as the user wrote them.
    :ivar variables: values of the definition's variables; as the environment may, they may be secret.
    :ivar overrides: ``TARGET.KEY=VALUE``.
    """

    directory: str
    source: str
    files: Tuple[str, ...]
    targets: Tuple[str, ...]
    variables: Mapping[str, str]
    overrides: Tuple[str, ...]
    push: bool
    load: bool
    no_cache: bool
    pull: bool
    allowed: Allowed
    builder: Optional[str]

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> Bake:
        """Read a task's options.

        :raises FarmError: an option's value is wrong by itself.
        """
        directory = expanded(params.get("chdir") or ".")
        source = params.get("url") or ""
        if source and not is_url(source):
            raise FarmError(f"url {source!r}: wanted the URL of a git repository or of an archive; files are local")
        if secret := secret_in(source):
            raise FarmError(
                f"url {mask(source)}: {secret} in a URL ends up in the process list and in provenance; check the "
                f"sources out first, and name that directory as chdir"
            )
        return cls(
            directory=directory,
            source=source,
            files=_words("files", params.get("files")),
            targets=_words("targets", params.get("targets")),
            variables=_variables(params.get("vars") or {}),
            overrides=tuple(_overrides(params.get("set"))),
            push=bool(params.get("push")),
            load=bool(params.get("load")),
            no_cache=bool(params.get("no_cache")),
            pull=bool(params.get("pull")),
            allowed=Allowed.from_param(params.get("allow") or (), directory),
            builder=chosen_builder(params),
        )

    @property
    def local_files(self) -> Tuple[str, ...]:
        """The paths of the definition's files on this controller, as far as they are named."""
        own = [
            file[len("cwd://") :] if file.startswith("cwd://") else file for file in self.files if self._is_here(file)
        ]
        return tuple(os.path.join(self.directory, file) for file in own)

    def _is_here(self, file: str) -> bool:
        return file.startswith("cwd://") or not self.source

    def arguments(self) -> List[str]:
        """Return the arguments of ``docker buildx bake`` that evaluate the definition."""
        args = ["bake", "--print"]
        # Only a remote definition is read with it.
        args += ["--builder", self.builder] if self.source and self.builder else []
        for name, values in (("--file", self.files), ("--set", self.overrides)):
            args += [word for value in values for word in (name, value)]
        flags = {"--push": self.push, "--load": self.load, "--no-cache": self.no_cache, "--pull": self.pull}
        args += [flag for flag, given in flags.items() if given]
        return [*args, *([self.source] if self.source else []), *self.targets]


def _words(option: str, raw: Optional[Sequence[Any]]) -> Tuple[str, ...]:
    words = tuple(text_of(option, item) for item in raw or ())
    for word in words:
        if not word or word.startswith("-"):
            raise FarmError(f"{option}: {word!r} would be an option of buildx, or its standard input; wanted a name")
    return words


def _variables(raw: Mapping[str, Any]) -> Dict[str, str]:
    found = {}
    for name, value in raw.items():
        if not name or any(character in name for character in _VARIABLE_END):
            raise FarmError(f"vars: {name!r} is no name of a variable")
        found[str(name)] = text_of(f"vars: {name}", value)
    return found


def _overrides(raw: Any) -> List[str]:
    """Return the values of ``--set``: of a dictionary, or as the command line has them."""
    if isinstance(raw, Mapping):
        pairs = [(key, item) for key, value in raw.items() for item in (value if isinstance(value, list) else [value])]
        texts = [f"{key}={text_of(f'set: {key}', value)}" for key, value in pairs]
    else:
        texts = [text_of("set", item) for item in ([raw] if isinstance(raw, str) else raw or ())]
    for text in texts:
        if "." not in text.partition("=")[0] or text.startswith("-"):
            raise FarmError(f"set: {text!r}: wanted TARGET.KEY=VALUE, or a dictionary with keys TARGET.KEY")
    return texts
