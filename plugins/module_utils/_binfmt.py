# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""QEMU handlers in binfmt_misc: what the kernel has registered, and whether it is of use to containers.

Sources: the kernel's Documentation/admin-guide/binfmt-misc.rst; names and platforms as tonistiigi/binfmt has them.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Dict, List, Mapping, Optional, Tuple

from . import _smoke_test
from ._errors import FarmError
from ._files import read_bytes
from ._platforms import Platform, native_platform, parse_all, runs_natively
from ._runner import Runner

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

#: Verdicts that need no work; every other one is a sentence on what is wrong.
NATIVE, WORKS, REGISTERED, MISSING = "native", "works", "registered", "missing"


def platforms_of(arch: str) -> Tuple[Platform, ...]:
    """Return the platforms that an architecture's handler runs."""
    variants = ("v7", "v6") if arch == "arm" else ("",)
    return tuple(Platform.make("linux", arch, variant) for variant in variants)


def read_platforms(texts: List[str]) -> Tuple[Platform, ...]:
    """Read platforms as users write them; ``arm64`` is short for ``linux/arm64``.

    :raises FarmError: no handler exists for one of them.
    """
    found = parse_all(text if "/" in text else f"linux/{text}" for text in texts)
    for platform in found:
        if platform.os != "linux" or platform.arch not in ENTRIES:
            known = ", ".join(f"linux/{arch}" for arch in ENTRIES)
            raise FarmError(f"platform {platform}: there is no QEMU handler for it; known: {known}")
    return found


@dataclass(frozen=True)
class Handler:
    """An entry of binfmt_misc.

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

    def runs(self, arch: str) -> bool:
        """Whether the kernel would choose it for an architecture's programs, by its rule for magic and mask."""
        head = _smoke_test.program(arch)[self.offset :]
        matches = all((byte ^ wanted) & bits == 0 for byte, wanted, bits in zip(head, self.magic, self.mask))
        return bool(self.magic) and matches


@dataclass(frozen=True)
class Registry:
    """All that the kernel has registered.

    :ivar mounted: False where the file system is not mounted, so that nothing can be known.
    :ivar enabled: the switch for all handlers together.
    """

    mounted: bool
    enabled: bool = True
    handlers: Mapping[str, Handler] = field(default_factory=dict)

    @classmethod
    def read(cls) -> Registry:
        """Read binfmt_misc; where systemd has an automount for it, looking mounts it.

        :raises OSError: it is mounted and cannot be read.
        """
        status = read_bytes(os.path.join(ROOT, "status"))
        if status is None:
            return cls(False)
        names = sorted(set(os.listdir(ROOT)) - {"register", "status"})
        contents = {name: read_bytes(os.path.join(ROOT, name)) for name in names}
        return cls(
            True,
            status.strip() == b"enabled",
            {
                name: Handler.parse(name, content.decode(errors="replace"))
                for name, content in contents.items()
                if content is not None
            },
        )

    def serving(self, arch: str) -> List[Handler]:
        """Return the handlers for an architecture, whatever they are called; those that containers can use first."""
        found = [handler for handler in self.handlers.values() if handler.runs(arch)]
        return sorted(found, key=lambda handler: (not handler.enabled, "F" not in handler.flags))


def judge(
    platform: Platform,
    registry: Registry,
    native: Platform,
    runner: Runner,
    smoke_test: bool,
    qemu_version: Optional[str] = None,
) -> str:
    """Return a platform's verdict on this host.

    :param smoke_test: run a program of the platform rather than trust the registration.
    :param qemu_version: the version that the handler's QEMU has to have, or to begin with.
    :raises FarmError: programs cannot be run on this host at all.
    """
    if runs_natively(platform, native):
        return NATIVE
    serving = registry.serving(platform.arch)
    if not serving:
        # Some processors run more than their own architecture: 32-bit arm on arm64, for one.
        return NATIVE if smoke_test and not _smoke_test.problem(platform.arch, runner) else MISSING
    if not (serving[0].enabled and registry.enabled):
        return "disabled"
    if "F" not in serving[0].flags:
        return f"not usable in containers: flags {serving[0].flags or 'none'}, wanted F among them"
    found = _smoke_test.problem(platform.arch, runner) if smoke_test else None
    if found:
        return f"registered, but does not work: {found}"
    version = _smoke_test.qemu_version(platform.arch, runner) if qemu_version else None
    if qemu_version and version != qemu_version and not f"{version}".startswith(qemu_version + "."):
        return f"QEMU {version or 'of an unknown version'}, wanted {qemu_version}"
    return WORKS if smoke_test else REGISTERED


def info(params: Mapping[str, object], check_mode: bool, runner: Runner) -> Dict[str, object]:
    """Return the values of binfmt_info.

    :raises FarmError: the host's own architecture is unknown.
    """
    native = native_platform(os.uname().machine)
    registry = Registry.read()
    smoke_test = bool(params["smoke_test"])
    verdicts = {arch: judge(platforms_of(arch)[0], registry, native, runner, smoke_test) for arch in ENTRIES}
    handlers = []
    for handler in registry.handlers.values():
        arch = next((arch for arch in ENTRIES if handler.runs(arch)), None)
        failure = _smoke_test.problem(arch, runner) if arch and smoke_test else None
        handlers.append(
            {
                "name": handler.name,
                "platforms": [str(platform) for platform in platforms_of(arch)] if arch else [],
                "enabled": handler.enabled and registry.enabled,
                "interpreter": handler.interpreter,
                "flags": handler.flags,
                "works": failure is None if arch and smoke_test else None,
                "problem": failure,
                "qemu_version": _smoke_test.qemu_version(arch, runner) if arch and smoke_test else None,
            }
        )
    return {
        "mounted": registry.mounted,
        "handlers": handlers,
        "native": _named(verdicts, (NATIVE,)),
        "platforms": _named(verdicts, (NATIVE, WORKS, REGISTERED)),
    }


def _named(verdicts: Mapping[str, str], wanted: Tuple[str, ...]) -> List[str]:
    return sorted(str(platform) for arch in verdicts if verdicts[arch] in wanted for platform in platforms_of(arch))
