# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The kernel's binfmt_misc: the handlers that are registered there.

Sources: the kernel's Documentation/admin-guide/binfmt-misc.rst; names and platforms as tonistiigi/binfmt has them.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

from .._core.errors import FarmError
from .._core.files import read_bytes
from .._core.runner import CommandError, Runner
from .._platform.elf import program
from .._platform.platform import Platform, parse_all
from .handler import Handler

#: Where the kernel's documentation mounts it. A file for each handler, ``register`` and ``status``.
ROOT = "/proc/sys/fs/binfmt_misc"

#: Architecture to handler.
ENTRIES: Dict[str, str] = {
    "386": "qemu-i386",
    "amd64": "qemu-x86_64",
    "arm": "qemu-arm",
    "arm64": "qemu-aarch64",
    "loong64": "qemu-loongarch64",
    "mips64": "qemu-mips64",
    "mips64le": "qemu-mips64el",
    "ppc64le": "qemu-ppc64le",
    "riscv64": "qemu-riscv64",
    "s390x": "qemu-s390x",
}
#: Flag F opens the interpreter when it is registered, so that containers, which do not have its file, can use it.
_FIRST_KERNEL = (4, 8)
#: Prints each entry's file, with the file system mounted in a mount namespace of its own.
_PRINT_ENTRIES = (
    'mount -t binfmt_misc binfmt_misc "$1"; cd "$1"; for name in *; do echo ":$name"; cat "$name" || :; done'
)


def entry_path(name: str) -> str:
    """Return the file of a handler, or of ``register`` or ``status``."""
    return os.path.join(ROOT, name)


def platforms_of(arch: str) -> Tuple[Platform, ...]:
    """Return the platforms that an architecture's handler runs."""
    variants = ("v7", "v6") if arch == "arm" else ("",)
    return tuple(Platform.make("linux", arch, variant) for variant in variants)


def read_platforms(texts: Sequence[str], everything: Sequence[str]) -> Tuple[Platform, ...]:
    """Read platforms as users write them; ``arm64`` is short for ``linux/arm64``.

    :param everything: the architectures that ``all`` stands for.
    :raises FarmError: no handler exists for one of them.
    """
    whole: List[str] = []
    for text in texts:
        whole += everything if text.strip() == "all" else [text]
    found = parse_all(text if "/" in text else f"linux/{text}" for text in whole)
    for platform in found:
        if platform.os != "linux" or platform.arch not in ENTRIES:
            known = ", ".join(f"linux/{arch}" for arch in ENTRIES)
            raise FarmError(
                f"platform {platform}: there is no QEMU handler for it; known: {known}, or all of them: all"
            )
    return found


def require_kernel(host: str, release: str) -> None:
    """Make sure that handlers can be of use to containers.

    :param release: of the kernel, as in ``uname -r``.
    :raises FarmError: it is too old.
    """
    found = re.match(r"(\d+)\.(\d+)", release)
    if found and (int(found.group(1)), int(found.group(2))) < _FIRST_KERNEL:
        raise FarmError(
            f"{host} runs Linux {release}; containers can use QEMU handlers since Linux 4.8, with which flag F came; "
            "use a newer kernel"
        )


@dataclass(frozen=True)
class BinfmtMisc:
    """The content of binfmt_misc.

    :ivar mounted: whether the file system is mounted, so that everyone can read it.
    :ivar enabled: the switch for all handlers together.
    """

    mounted: bool
    enabled: bool = True
    handlers: Mapping[str, Handler] = field(default_factory=dict)

    @classmethod
    def read(cls, runner: Runner) -> BinfmtMisc:
        """Read binfmt_misc; where systemd has an automount for it, this mounts it.

        Where it is not mounted, root reads it in a mount namespace of its own; other users find no handlers.

        :raises OSError: it is mounted and cannot be read.
        """
        status = read_bytes(entry_path("status"))
        if status is None:
            return cls._unmounted(runner)
        names = sorted(set(os.listdir(ROOT)) - {"register", "status"})
        contents = {name: read_bytes(entry_path(name)) for name in names}
        entries = {name: text.decode(errors="replace") for name, text in contents.items() if text is not None}
        return cls._of(True, status.decode(errors="replace"), entries)

    @classmethod
    def _unmounted(cls, runner: Runner) -> BinfmtMisc:
        try:
            output = runner(["unshare", "--mount", "sh", "-ec", _PRINT_ENTRIES, "sh", ROOT], timeout=20).stdout
        except CommandError:
            return cls(False)
        parts = [part.partition("\n") for part in re.split(r"^:", output, flags=re.MULTILINE)[1:]]
        entries = {name: text for name, _newline, text in parts if name != "register"}
        return cls._of(False, entries.pop("status", "enabled"), entries)

    @classmethod
    def _of(cls, mounted: bool, status: str, entries: Mapping[str, str]) -> BinfmtMisc:
        handlers = {name: Handler.parse(name, text) for name, text in entries.items()}
        return cls(mounted, status.strip() == "enabled", handlers)

    def emulating(self, arch: str) -> List[Handler]:
        """Return QEMU's handlers for an architecture, whatever they are called; the one with the usual name first."""
        head = program(arch)
        found = [handler for handler in self.handlers.values() if handler.is_qemu and handler.runs(head)]
        return sorted(found, key=lambda handler: handler.name != ENTRIES[arch])

    def conflicting_handlers(self, arch: str, name: Optional[str] = None) -> List[str]:
        """Return the names of the handlers that have to be removed before an architecture's can be registered.

        :param name: of the handler that is to be registered, the usual one if left out.
        """
        conflicting = {ENTRIES[arch], name or ENTRIES[arch], *(handler.name for handler in self.emulating(arch))}
        return sorted(conflicting & self.handlers.keys())
