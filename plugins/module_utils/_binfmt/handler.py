# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A handler in the terms of binfmt_misc, and what one is required to be like.

Source: the kernel's Documentation/admin-guide/binfmt-misc.rst.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Optional

_QEMU = re.compile(r"(?:^|/)qemu-")


@dataclass(frozen=True)
class Handler:
    """An entry of binfmt_misc, or a line that registers one.

    :ivar magic, mask, offset: what a file has to hold to be run by it; no magic where it goes by a file's name.
    """

    name: str
    enabled: bool
    interpreter: str
    flags: str
    magic: bytes = b""
    mask: bytes = b""
    offset: int = 0

    @classmethod
    def parse(cls, name: str, text: str) -> Handler:
        """Read an entry's file: ``enabled`` or ``disabled``, then lines of a key and its value."""
        lines = text.splitlines()
        values = {key: value.strip() for key, _blank, value in (line.partition(" ") for line in lines)}
        magic = bytes.fromhex(values.get("magic", ""))
        mask = bytes.fromhex(values.get("mask", "")) or b"\xff" * len(magic)
        offset = int(values.get("offset") or 0)
        start = (lines[:1] == ["enabled"], values.get("interpreter", ""), values.get("flags:", ""))
        return cls(name, *start, magic, mask, offset)

    @property
    def is_qemu(self) -> bool:
        """Whether it is QEMU's, by its name or by its interpreter's."""
        return any(_QEMU.search(text) for text in (self.name, self.interpreter))

    def runs(self, head: bytes) -> bool:
        """Whether the kernel would choose it for a file that begins so, by its rule for magic and mask."""
        compared = zip(head[self.offset :], self.magic, self.mask)
        matches = all((byte ^ wanted) & bits == 0 for byte, wanted, bits in compared)
        return bool(self.magic) and matches


@dataclass(frozen=True)
class Demand:
    """What a handler has to be like; None is not compared.

    :ivar verify: run a program of the platform rather than trust the registration.
    :ivar version: that the handler's QEMU has to have, or to begin with.
    :ivar credentials, preserve_argv0: whether it has flag C, flag P.
    """

    verify: bool = True
    version: Optional[str] = None
    name: Optional[str] = None
    interpreter: Optional[str] = None
    credentials: Optional[bool] = None
    preserve_argv0: Optional[bool] = None

    def flags_problem(self, flags: str) -> Optional[str]:
        """Return what is wrong with a handler's flags, None if nothing."""
        wanted = {"F": True, "C": self.credentials, "P": self.preserve_argv0}
        wrong = [flag for flag, there in wanted.items() if there is not None and there != (flag in flags)]
        if not wrong:
            return None
        words = " and ".join(f"{flag} among them" if wanted[flag] else f"not {flag}" for flag in wrong)
        why = "not usable in containers: " if "F" in wrong else ""
        return f"{why}flags {flags or 'none'}, wanted {words}"

    def version_problem(self, found: Optional[str]) -> Optional[str]:
        """Return what is wrong with a QEMU's version, None if nothing."""
        if not self.version or found == self.version or f"{found}".startswith(self.version + "."):
            return None
        return f"QEMU {found or 'of an unknown version'}, wanted {self.version}"
