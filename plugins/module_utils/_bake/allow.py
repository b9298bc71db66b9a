# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the targets of a bake file may use of this controller and of the nodes, and what of it a task allows.

It is compared here and not by buildx, whose versions differ: before 0.20 they allow every path, and those of 0.21 and
later do where their progress is read by a program. Source of the rights: docker/buildx ``bake/entitlements.go``.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, List, Sequence, Tuple

from .._build.fields import text_of
from .._core.errors import FarmError

READ, WRITE = "fs.read", "fs.write"
NETWORK, INSECURE, DEVICE, SSH = "network.host", "security.insecure", "device", "ssh"
_PATHS = {READ: (READ,), WRITE: (WRITE,), "fs": (READ, WRITE)}
_WITHOUT_VALUE = (NETWORK, INSECURE, SSH)
#: All paths.
_ANY = "*"


@dataclass(frozen=True)
class Need:
    """Something that a target uses.

    :ivar right: one of the rights.
    :ivar value: an absolute path, or the name of a device; empty where the right has none.
    :ivar use: what for, in the words of the bake file.
    """

    right: str
    value: str
    use: str

    @property
    def entry(self) -> str:
        """The entry of the option ``allow`` that allows just this."""
        return f"{self.right}={self.value}" if self.value else self.right


@dataclass(frozen=True)
class Allowed:
    """What a task allows.

    :ivar rights: pairs of a right and a path or device; empty for all devices, and where there is none.
    """

    rights: Tuple[Tuple[str, str], ...]

    @classmethod
    def from_param(cls, raw: Sequence[Any], directory: str) -> Allowed:
        """Read the option ``allow``.

        :param directory: the working directory, which may be read and written.
        :raises FarmError: an entry is no right.
        """
        rights: List[Tuple[str, str]] = [(READ, directory), (WRITE, directory)]
        for item in raw:
            text = text_of("allow", item)
            right, equals, value = text.partition("=")
            if right in _PATHS and value:
                path = value if value == _ANY else os.path.join(directory, os.path.expanduser(value))
                rights += [(one, path) for one in _PATHS[right]]
            elif (right in _WITHOUT_VALUE and not equals) or (right == DEVICE and (value or not equals)):
                rights.append((right, value))
            else:
                raise FarmError(
                    f"allow: {text!r}: wanted fs.read=PATH, fs.write=PATH, fs=PATH, network.host, security.insecure, "
                    f"device, device=NAME or ssh"
                )
        return cls(tuple(rights))

    def covers(self, need: Need) -> bool:
        """Return whether something may be used. Links are followed, in what is allowed as in what is used."""
        values = [value for right, value in self.rights if right == need.right]
        if need.right not in (READ, WRITE):
            return need.value in values or (bool(values) and "" in values)
        path = os.path.realpath(need.value)
        return any(value == _ANY or _is_below(path, os.path.realpath(value)) for value in values)

    def check(self, needs: Sequence[Tuple[str, Need]]) -> None:
        """Refuse what is not allowed.

        :param needs: with the names of the targets.
        :raises FarmError: naming all that is missing, and the entries that would allow it.
        """
        missing = [(target, need) for target, need in needs if not self.covers(need)]
        if not missing:
            return
        found = "; ".join(f"target {target}: {need.use}" for target, need in missing)
        entries = ", ".join(dict.fromkeys(need.entry for _target, need in missing))
        raise FarmError(
            f"the definition uses what the task does not allow: {found}. If that is meant, add to allow: {entries}"
        )


def _is_below(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory.rstrip("/") + "/")
