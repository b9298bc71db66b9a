# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a build may use of this controller and has no trace of in the image: secrets and ssh agents or keys.

Sources: docker/buildx ``util/buildflags/secrets.go`` and ``ssh.go``; BuildKit ``session/secrets/`` and
``session/sshforward/``.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Any, Mapping, Optional, Tuple

from .._core.environment import KEPT, expanded, treatment
from .._core.errors import FarmError
from .fields import joined

_ID = re.compile(r"[^\s,=\"]+\Z")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_AGENT = "SSH_AUTH_SOCK"
#: BuildKit's MaxSecretSize.
_LARGEST = 500 * 1024
#: Characters of a line that is more than a word which may stand anywhere.
_TELLING = 8
#: Linux's MAX_ARG_STRLEN, less than which a variable has to be with its name.
_LARGEST_VALUE = 128 * 1024 - 64


@dataclass(frozen=True)
class Secret:
    """A secret of a build, from one of a file, a variable or the task itself.

    :ivar variable: the variable that buildx reads it from.
    :ivar value: what that is set to; None leaves it as the task's environment has it.
    """

    id: str
    src: str = ""
    variable: str = ""
    value: Optional[str] = None

    def __repr__(self) -> str:
        return f"Secret(id={self.id!r}, src={self.src!r}, variable={self.variable!r})"

    @classmethod
    def from_params(cls, raw: Mapping[str, Any], number: int) -> Secret:
        """Read an entry of the option ``secrets``.

        :param number: of the entry, which no other has.
        :raises FarmError: it has not exactly one source, or a wrong one.
        """
        name, src, variable = raw["id"], raw.get("src"), raw.get("env")
        if not _ID.match(name):
            raise FarmError(f"secrets: id {name!r}: wanted a name without blanks, commas, equals signs and quotes")
        given = [key for key in ("src", "env", "value") if raw.get(key) is not None]
        if len(given) != 1:
            raise FarmError(f"secrets: {name}: wanted one of src, env and value, found {', '.join(given) or 'none'}")
        if src is not None:
            return cls(name, src=expanded(src))
        if variable is not None:
            if not _VARIABLE.match(variable) or treatment(variable) != KEPT:
                raise FarmError(f"secrets: {name}: env {variable!r}: no such variable reaches buildx; use another one")
            return cls(name, variable=variable)
        value = str(raw["value"])
        if "\0" in value or len(value.encode()) > _LARGEST_VALUE:
            raise FarmError(
                f"secrets: {name}: value is longer than {_LARGEST_VALUE} bytes or has a NUL in it, which no variable "
                f"can have; put it into a file and name that as src"
            )
        return cls(name, variable=f"BUILDFARM_SECRET_{number}", value=value)

    @property
    def argument(self) -> str:
        """The value of ``--secret``."""
        return joined([f"id={self.id}", f"src={self.src}" if self.src else f"env={self.variable}"])

    def words(self) -> Tuple[str, ...]:
        """Return what must not be shown of it: the whole, and each line that is long enough to be one by itself.

        BuildKit begins each line of what a step prints with the time.
        """
        text = self._text()
        lines = [line.strip() for line in text.splitlines()]
        return tuple(filter(None, (text.strip(), *(line for line in lines if len(line) >= _TELLING))))

    def _text(self) -> str:
        """Return the secret, empty where buildx could not read it either."""
        if not self.src:
            return os.environ.get(self.variable, "") if self.value is None else self.value
        try:
            with open(self.src, encoding="utf-8", errors="replace") as stream:
                return stream.read(_LARGEST)
        except OSError:
            return ""

    def problem(self) -> str:
        """Return why buildx could not read it here, empty if it can."""
        if self.src:
            return _file_problem(f"secrets: {self.id}", self.src, _LARGEST)
        if self.value is None and self.variable not in os.environ:
            return f"secrets: {self.id}: there is no variable {self.variable} in the task's environment; set it there"
        return ""


@dataclass(frozen=True)
class Agent:
    """An ssh agent, or keys, that a build may use.

    :ivar paths: of a socket or of keys; none for the agent of the environment.
    """

    id: str
    paths: Tuple[str, ...] = ()

    @classmethod
    def from_param(cls, text: str) -> Agent:
        """Read an entry of the option ``ssh``: ``default``, or ``ID[=PATH[,PATH...]]``.

        :raises FarmError: it is no such text.
        """
        name, equals, rest = text.partition("=")
        if not _ID.match(name) or (equals and not rest):
            raise FarmError(f"ssh: {text!r}: wanted default, or ID=PATH with the path of a key or of an agent's socket")
        return cls(name, tuple(expanded(path) for path in rest.split(",") if path))

    @property
    def argument(self) -> str:
        """The value of ``--ssh``."""
        return f"{self.id}={','.join(self.paths)}" if self.paths else self.id

    def problem(self) -> str:
        """Return why buildx could not use it here, empty if it can."""
        if self.paths:
            return next(filter(None, (_file_problem(f"ssh: {self.id}", path) for path in self.paths)), "")
        socket = os.environ.get(_AGENT, "")
        if socket and os.path.exists(socket):
            return ""
        found = f"{_AGENT} names {socket}, where there is nothing" if socket else f"{_AGENT} is not set"
        return f"ssh: {self.id}: there is no ssh agent: {found}; start one, or name a key as {self.id}=PATH"


def _file_problem(subject: str, path: str, largest: int = 0) -> str:
    if not os.path.exists(path):
        return f"{subject}: nothing at {path} on this controller; put it there, or name another path"
    if os.path.isdir(path) or not os.access(path, os.R_OK):
        found = "a directory" if os.path.isdir(path) else "not readable by this user"
        return f"{subject}: {path} is {found}; wanted a file that can be read"
    if largest and os.path.getsize(path) > largest:
        return f"{subject}: {path} has {os.path.getsize(path)} bytes; BuildKit takes {largest} at most"
    return ""
