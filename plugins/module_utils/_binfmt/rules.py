# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the host itself registers at boot: the rules of its packages, and files of this collection that override them.

Sources: binfmt.d(5), by which a file in /etc/binfmt.d takes the place of a package's file of the same name, and
update-binfmts(8), Debian's older mechanism.
"""

from __future__ import annotations

import glob
import os
import re
from dataclasses import dataclass, replace
from typing import Dict, List, Mapping, Optional, Sequence

from .._core.errors import FarmError
from .._core.files import read_bytes
from .handler import Demand, Handler

OVERRIDES = "/etc/binfmt.d"
#: The first wins.
DIRECTORIES = (OVERRIDES, "/run/binfmt.d", "/usr/local/lib/binfmt.d", "/usr/lib/binfmt.d", "/lib/binfmt.d")
_UPDATE_BINFMTS = "/var/lib/binfmts/*"
#: By this ending Debian's QEMU knows that it gets the arguments that come with flag P, and refuses all others.
_NEEDS_P = "-binfmt-P"
MARK = "# Written by the Ansible module buildfarm.multiarch.binfmt, which overwrites changes.\n"


@dataclass(frozen=True)
class Rule:
    """A line that registers a handler, in the kernel's syntax ``:name:type:offset:magic:mask:interpreter:flags``."""

    line: str
    handler: Handler

    @classmethod
    def parse(cls, line: str) -> Optional[Rule]:
        """Read a line of a binfmt.d file, None where it registers nothing by magic; the first character separates."""
        fields = line.split(line[0]) if line and line[0] not in "#;" else []
        if len(fields) != 8 or fields[2] != "M" or not re.match(r"[0-9]*\Z", fields[3]):
            return None
        _empty, name, _type, offset, magic, mask, interpreter, flags = fields
        mask_bytes = _unescaped(mask) or b"\xff" * len(_unescaped(magic))
        handler = Handler(name, True, interpreter, flags, _unescaped(magic), mask_bytes, int(offset or 0))
        return cls(line, handler)

    def with_flags(self, demand: Demand) -> Rule:
        """Return the rule with F and whatever else is demanded; what is not demanded stays.

        :raises FarmError: its interpreter does not work so.
        """
        if demand.preserve_argv0 is False and self.handler.interpreter.endswith(_NEEDS_P):
            raise FarmError(
                f"preserve_argv0 is false; {self.handler.interpreter} of this host's packages works with flag P only; "
                "leave it unset, or use source: image"
            )
        wanted = set(self.handler.flags) | {"F"}
        for flag, there in (("C", demand.credentials), ("P", demand.preserve_argv0)):
            wanted = wanted if there is None else wanted | {flag} if there else wanted - {flag}
        if wanted == set(self.handler.flags):
            return self
        flags = "".join(flag for flag in "POCF" if flag in wanted)
        line = self.line[: len(self.line) - len(self.handler.flags)] + flags
        return Rule(line, replace(self.handler, flags=flags))


def _unescaped(text: str) -> bytes:
    return re.sub(r"\\x([0-9a-fA-F]{2})", lambda found: chr(int(found.group(1), 16)), text).encode("latin-1", "replace")


@dataclass(frozen=True)
class RuleFile:
    """A file of rules by its name, as the host has it.

    :ivar path: of the package's file, or the administrator's; empty where only an override is left of it.
    :ivar text: that file's.
    :ivar override: text of this collection's file in /etc/binfmt.d, None where there is none.
    """

    name: str
    path: str
    text: str
    override: Optional[str] = None

    @property
    def override_path(self) -> str:
        """The file by which this collection overrides it."""
        return os.path.join(OVERRIDES, self.name)

    @property
    def can_be_overridden(self) -> bool:
        """Whether it does not lie itself where its override would."""
        return self.path != self.override_path

    def rules(self) -> List[Rule]:
        """Return the rules of the package's file."""
        return _rules(self.text)

    def at_boot(self) -> Dict[str, Rule]:
        """Return what is registered at boot, by name."""
        return {rule.handler.name: rule for rule in _rules(self.text if self.override is None else self.override)}

    def render_override(self, wanted: Mapping[str, Optional[str]]) -> Optional[str]:
        """Return the text of the override that gives these rules other lines, None where no override is needed.

        :param wanted: handler to its line, None for one that is not to be registered at boot; others stay as they are.
        """
        now = {name: rule.line for name, rule in self.at_boot().items()}
        names = {rule.line: rule.handler.name for rule in self.rules()}
        lines: List[str] = []
        for line in self.text.splitlines():
            name = names.get(line)
            chosen = line if name is None else wanted[name] if name in wanted else now.get(name)
            lines += [] if chosen is None else [chosen]
        return None if lines == self.text.splitlines() else MARK + "".join(f"{line}\n" for line in lines)


def _rules(text: str) -> List[Rule]:
    parsed = (Rule.parse(line) for line in text.splitlines())
    return [rule for rule in parsed if rule]


def read_rule_files(directories: Sequence[str] = DIRECTORIES) -> List[RuleFile]:
    """Read all files of rules, by name."""
    overrides: Dict[str, str] = {}
    found: Dict[str, RuleFile] = {}
    for path in (path for directory in directories for path in sorted(glob.glob(f"{directory}/*.conf"))):
        name, text = os.path.basename(path), (read_bytes(path) or b"").decode(errors="replace")
        if text.startswith(MARK):
            overrides[name] = text
        else:
            found.setdefault(name, RuleFile(name, path, text, overrides.get(name)))
    orphaned = [RuleFile(name, "", "", text) for name, text in overrides.items() if name not in found]
    return sorted([*found.values(), *orphaned], key=lambda one: one.name)


def rule_for(head: bytes, files: Sequence[RuleFile]) -> Optional[Rule]:
    """Return the packages' rule for programs that begin so, None where they have none."""
    rules = (rule for file in files for rule in file.rules())
    return next((rule for rule in rules if rule.handler.is_qemu and rule.handler.runs(head)), None)


def update_binfmts_handlers(pattern: str = _UPDATE_BINFMTS) -> Dict[str, str]:
    """Return the handlers that update-binfmts(8) registers at boot, each with the file that declares it."""
    return {os.path.basename(path): path for path in sorted(glob.glob(pattern))}
