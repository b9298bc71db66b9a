# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Platforms: ``os/arch[/variant]``, always normalised as containerd and BuildKit do.

Source of the rules: containerd's platforms package (``database.go``), which buildx and BuildKit use.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from typing import Dict, Iterable, Optional, Tuple

from .._core.errors import FarmError

_ARCH_ALIASES: Dict[str, Tuple[str, str]] = {
    "aarch64": ("arm64", ""),
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "i386": ("386", ""),
    "i486": ("386", ""),
    "i586": ("386", ""),
    "i686": ("386", ""),
    "armhf": ("arm", "v7"),
    "armv7l": ("arm", "v7"),
    "armel": ("arm", "v6"),
    "armv6l": ("arm", "v6"),
    "mips64el": ("mips64le", ""),
    "loongarch64": ("loong64", ""),
}
#: Machines that ``uname -m`` calls by another architecture's name: MIPS kernels do not tell their byte order, and the
#: distributions that have engines are all little-endian.
_MACHINES = {"mips": "mipsle", "mips64": "mips64le"}
#: 32-bit arm: the version of the architecture, letters for its features, and l for little-endian (Linux
#: ``arch/arm/kernel/setup.c``).
_ARM_MACHINE = re.compile(r"armv([5-8])[a-z]*l\Z")
_DEFAULT_VARIANTS = {"arm64": ("", "v8"), "amd64": ("", "v1")}
_ARCHITECTURES = frozenset(
    "386 amd64 arm arm64 loong64 mips mipsle mips64 mips64le ppc64 ppc64le riscv64 s390x wasm".split()
)
_SYSTEMS = frozenset("linux windows darwin freebsd netbsd openbsd wasi wasip1".split())
_VARIANT = re.compile(r"v?[0-9][0-9a-z.]*\Z")


@dataclass(frozen=True, order=True)
class Platform:
    """A normalised platform; ``variant`` is empty where it is the architecture's default."""

    os: str
    arch: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.arch, self.variant) if part)

    @classmethod
    def parse(cls, text: str) -> Platform:
        """Read and normalise a platform as a user writes it (``linux/arm64/v8``, ``linux/armhf``).

        :raises FarmError: the text is no platform that BuildKit knows.
        """
        parts = [part.strip().lower() for part in text.split("/")]
        if not 2 <= len(parts) <= 3 or not all(parts):
            raise FarmError(f"platform {text!r}: wanted os/arch or os/arch/variant, as in linux/arm64")
        return cls.make(parts[0], parts[1], parts[2] if len(parts) == 3 else "", text)

    @classmethod
    def make(cls, os: str, arch: str, variant: str = "", text: Optional[str] = None) -> Platform:
        """Normalise a platform given in parts, as in an image index.

        :raises FarmError: BuildKit does not know the operating system, the architecture or the variant.
        """
        shown = text or "/".join(part for part in (os, arch, variant) if part)
        arch, implied = _ARCH_ALIASES.get(arch, (arch, ""))
        variant = variant or implied
        if os not in _SYSTEMS:
            raise FarmError(
                f"platform {shown!r}: unknown operating system {os!r}; known: {', '.join(sorted(_SYSTEMS))}"
            )
        if arch not in _ARCHITECTURES:
            raise FarmError(
                f"platform {shown!r}: unknown architecture {arch!r}; known: {', '.join(sorted(_ARCHITECTURES))}"
            )
        if variant and not _VARIANT.match(variant):
            raise FarmError(f"platform {shown!r}: unknown variant {variant!r}; wanted a form like v7")
        if variant and variant[0] != "v":
            variant = "v" + variant
        if arch == "arm" and not variant:
            variant = "v7"
        if variant in _DEFAULT_VARIANTS.get(arch, ()):
            variant = ""
        return cls(os, arch, variant)


def parse_all(texts: Iterable[str]) -> Tuple[Platform, ...]:
    """Normalise platforms and drop repeats, keeping the order.

    :raises FarmError: one of them is unknown.
    """
    return tuple(dict.fromkeys(Platform.parse(text) for text in texts))


def listed(platforms: Iterable[Platform]) -> str:
    """Return platforms as messages name them, with commas between them."""
    return ", ".join(str(platform) for platform in platforms)


def native_platform(machine: str) -> Platform:
    """Return the platform that a host runs natively from its machine's name, as ``uname -m`` prints it.

    :raises FarmError: no images are made for it that BuildKit knows.
    """
    arm = _ARM_MACHINE.match(machine)
    if arm:
        # A 32-bit system on an ARMv8 processor is v7 to containerd (``platforms/cpuinfo_linux.go``).
        return Platform("linux", "arm", f"v{min(int(arm.group(1)), 7)}")
    return Platform.make("linux", _MACHINES.get(machine, machine))


def platform_of_host(machine: str, engine: Optional[str] = None) -> Optional[Platform]:
    """Return the platform that a node runs natively, None where images cannot be made for it.

    :param machine: as ``uname -m`` prints it.
    :param engine: the architecture of the node's engine, as Go names it, whose word counts: a 32-bit system may run on
        a 64-bit kernel. None where it is not known.
    """
    own = host = None
    with contextlib.suppress(FarmError):
        own = Platform.make("linux", engine) if engine else None
    with contextlib.suppress(FarmError):
        host = native_platform(machine)
    # Of one architecture the machine tells the variant.
    return own if own and (host is None or host.arch != own.arch) else host


def runs_natively(platform: Platform, native: Platform) -> bool:
    """Say whether a processor runs a platform without QEMU.

    amd64 runs 386, and variants of one architecture (``arm/v6`` on ``arm/v7``, ``amd64/v2``) count as native.
    arm64 is not taken to run 32-bit arm: many arm64 server processors cannot.
    """
    return platform.os == native.os and (
        platform.arch == native.arch or (native.arch, platform.arch) == ("amd64", "386")
    )
