# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Emulator images: how one is run, and the systemd unit that runs it at boot.

Sources: tonistiigi/binfmt ``cmd/binfmt``; docker/binfmt, whose program comes from linuxkit ``pkg/binfmt``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Optional, Sequence, Tuple

from .._core.errors import FarmError
from .binfmt_misc import ENTRIES

UNIT = "buildfarm-binfmt.service"
UNIT_PATH = "/etc/systemd/system/" + UNIT
UNIT_LINK = "/etc/systemd/system/multi-user.target.wants/" + UNIT
#: What docker/binfmt registers, whatever its arguments are.
LEGACY_ARCHITECTURES = ("arm", "arm64", "ppc64le", "riscv64", "s390x")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]*\Z")
_LEGACY = re.compile(r"(?:^|/)docker/binfmt(?:[:@]|\Z)")
_ARGV0 = "QEMU_PRESERVE_ARGV0"


@dataclass(frozen=True)
class EmulatorImage:
    """An image with QEMU and a program that registers it.

    :ivar preserve_argv0: whether handlers get flag P; None leaves that to the image.
    """

    name: str
    preserve_argv0: Optional[bool] = None

    @classmethod
    def parse(cls, name: str, preserve_argv0: Optional[bool] = None) -> EmulatorImage:
        """Check an image's name.

        :raises FarmError: it could be taken for something else.
        """
        if not _NAME.match(name):
            raise FarmError(f"image {name!r}: wanted the name of an image, as in registry/name:tag")
        return cls(name, preserve_argv0)

    @property
    def is_legacy(self) -> bool:
        """Whether it is docker/binfmt, which takes no arguments, replaces handlers and cannot remove any."""
        return bool(_LEGACY.search(self.name))

    @property
    def architectures(self) -> Tuple[str, ...]:
        """The architectures that ``all`` stands for: all known ones, or the five of docker/binfmt."""
        return LEGACY_ARCHITECTURES if self.is_legacy else tuple(ENTRIES)

    def run_argv(self, uninstall: Sequence[str] = (), install: Sequence[str] = ()) -> Tuple[str, ...]:
        """Return the docker CLI's arguments that run it as an engine is to run it."""
        variables = [word for variable in self.environment for word in ("--env", variable)]
        command = self.command(uninstall, install)
        return ("run", "--rm", "--privileged", "--network", "none", *variables, self.name, *command)

    @property
    def environment(self) -> Tuple[str, ...]:
        """The variables that its program is run with, as ``NAME=VALUE``."""
        return () if self.preserve_argv0 is None else (f"{_ARGV0}={'1' if self.preserve_argv0 else ''}",)

    def command(self, uninstall: Sequence[str] = (), install: Sequence[str] = ()) -> Tuple[str, ...]:
        """Return the arguments of its program; it removes handlers before it registers any.

        :param uninstall: handlers.
        :param install: architectures.
        """
        removing = ("--uninstall", ",".join(uninstall)) if uninstall else ()
        installing = ("--install", ",".join(install)) if install else ()
        return () if self.is_legacy else (*removing, *installing)


def unit_text(image: EmulatorImage, architectures: Sequence[str]) -> str:
    """Return the boot unit: handlers that a container registered are gone after a reboot.

    systemd-binfmt removes all handlers when it is stopped or restarted, and registers those of the host's packages;
    PartOf lets this unit follow it and put its own in their place. Keys that begin with X- are for this module.
    """
    command = " ".join(("docker", *image.run_argv([ENTRIES[arch] for arch in architectures], architectures)))
    return f"""\
# Written by the Ansible module buildfarm.multiarch.binfmt, which overwrites changes.
[Unit]
Description=QEMU handlers for foreign platforms
Wants=docker.service
After=docker.service systemd-binfmt.service
PartOf=systemd-binfmt.service
X-Architectures={",".join(architectures)}

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/bin/env {command}

[Install]
WantedBy=multi-user.target
"""


def unit_settings(text: Optional[str]) -> Tuple[Optional[EmulatorImage], Tuple[str, ...]]:
    """Return the image and the architectures of a boot unit, nothing where there is none."""
    command = re.search(rf"^ExecStart=.* none (?:--env {_ARGV0}=(1?) )?(\S+)", text or "", re.MULTILINE)
    registered = re.search(r"^X-Architectures=(\S+)$", text or "", re.MULTILINE)
    if not command or not registered:
        return None, ()
    argv0 = None if command.group(1) is None else bool(command.group(1))
    return EmulatorImage(command.group(2), argv0), tuple(registered.group(1).split(","))
