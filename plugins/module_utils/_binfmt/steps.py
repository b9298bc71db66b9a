# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The steps of module ``binfmt``.

Those that change the kernel's handlers are not reverted: what has been registered is found by the next run. Files are.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import List, Optional, Tuple

from .._core.errors import FarmError
from .._core.files import restore
from .._core.plan import Step
from .._core.runner import CommandError, Runner, checked
from .._host.journal import read_journal
from .binfmt_misc import ROOT, entry_path
from .engine import Engine
from .image import UNIT, EmulatorImage

#: Seconds.
_TIMEOUT = 600


@dataclass(frozen=True)
class Host:
    """Where the handlers are.

    :ivar name: of the host, or its engine's endpoint.
    """

    name: str
    engine: Engine
    runner: Runner


class KernelStep(Step[Host]):
    """A change of the kernel's handlers."""


class BootStep(Step[Host]):
    """A change of what the host registers at boot."""


@dataclass(frozen=True)
class Mount(KernelStep):
    """Mount binfmt_misc."""

    @property
    def action(self) -> List[str]:
        return ["mount", "-t", "binfmt_misc", "binfmt_misc", ROOT]

    def apply(self, world: Host) -> None:
        failure = f"{world.name}: {' '.join(self.action)} failed"
        hint = "the kernel may have no binfmt_misc, or the task no right to mount"
        checked(world.runner, self.action, f"{failure}; {hint}", timeout=_TIMEOUT)


@dataclass(frozen=True)
class Write(KernelStep):
    """Write a value to a file of binfmt_misc.

    :ivar entry: a handler, ``register`` or ``status``.
    """

    entry: str
    value: str

    @property
    def action(self) -> List[str]:
        return ["write", entry_path(self.entry), self.value]

    def apply(self, world: Host) -> None:
        path = entry_path(self.entry)
        try:
            with open(path, "wb", buffering=0) as stream:
                stream.write(self.value.encode())
        except OSError as exc:
            hint = "a container needs to be privileged for that"
            if self.entry == "register":
                hint = f"the rule is {self.value}; is its interpreter installed?"
            raise _unchanged(world, path, exc, hint) from exc


def enable_all() -> Write:
    """Return the step that turns the switch for all handlers on."""
    return Write("status", "1")


def unregister(handler: str) -> Write:
    """Return the step that removes a handler."""
    return Write(handler, "-1")


def register(rule: str) -> Write:
    """Return the step that registers a handler by its rule."""
    return Write("register", rule)


@dataclass(frozen=True)
class RunImage(KernelStep):
    """Run the emulator image, which removes handlers and registers others.

    :ivar docker: the docker CLI with the arguments that lead to the engine, for the report.
    :ivar uninstall: handlers.
    :ivar install: architectures.
    """

    docker: Tuple[str, ...]
    image: EmulatorImage
    uninstall: Tuple[str, ...] = ()
    install: Tuple[str, ...] = ()

    @property
    def action(self) -> List[str]:
        return [*self.docker, *self.image.run_argv(self.uninstall, self.install)]

    def apply(self, world: Host) -> None:
        world.engine.change_handlers(self.image, self.uninstall, self.install)


@dataclass(frozen=True)
class ChangeFile(BootStep):
    """Write or remove a file.

    :ivar before, after: its text, None where there is no such file.
    """

    path: str
    before: Optional[str]
    after: Optional[str]

    @property
    def action(self) -> List[str]:
        return ["remove" if self.after is None else "write", self.path]

    def apply(self, world: Host) -> None:
        try:
            if self.after is not None:
                os.makedirs(os.path.dirname(self.path), exist_ok=True)
            _put(self.path, self.after)
        except OSError as exc:
            raise _unchanged(world, self.path, exc, "a container needs to be privileged for that") from exc

    def revert(self, world: Host) -> None:
        _put(self.path, self.before)


@dataclass(frozen=True)
class Systemctl(BootStep):
    """Run systemctl.

    :ivar arguments: its command, and the boot unit where it is about that.
    """

    arguments: Tuple[str, ...]

    @property
    def action(self) -> List[str]:
        return ["systemctl", *self.arguments]

    def apply(self, world: Host) -> None:
        began = time.time()
        result = world.runner(self.action, timeout=_TIMEOUT)
        if result.rc != 0:
            # The reason is what the unit's program said, not what systemctl says.
            said = read_journal(UNIT, began, world.runner, "docker")[-1:] if self.arguments[0] == "restart" else []
            raise CommandError(": ".join([f"{world.name}: {' '.join(self.action)} failed", *said]), result)


def _put(path: str, text: Optional[str]) -> None:
    restore(path, None if text is None else text.encode())


def _unchanged(host: Host, path: str, exc: OSError, hint: str) -> FarmError:
    return FarmError(f"{host.name}: {path} could not be changed: {exc.strerror or exc}; {hint}")
