# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the host has: the engine's service, its command, the files that a plan may change."""

from __future__ import annotations

import glob
import os
import time
from dataclasses import dataclass, field
from typing import Mapping, Optional, Sequence, Tuple

from .._core.files import read_bytes
from .._core.runner import Runner
from .._host.systemd import (
    UNIT_DIRECTORIES,
    Service,
    UnitFiles,
    Variable,
    environment,
    exec_start,
    read_service,
    split_command,
)
from .checkpoint import Checkpoint
from .declaration import DROP_IN, Declaration
from .dockerd import DEFAULT_CONFIG, options, without_network
from .former import record_path
from .tls_material import Findings, inspect

#: Other engines than the system's own that a host may have, and by which file each is known.
_OTHERS = {
    "Docker from a snap": "/var/snap/docker",
    "a rootless Docker engine": "/run/user/*/docker.sock",
}


@dataclass(frozen=True)
class Content:
    """A file as found: content None where there is none."""

    content: Optional[bytes] = None
    mode: int = 0o644
    modified: float = 0.0

    @classmethod
    def read(cls, path: str) -> Content:
        """Read a file.

        :raises OSError: it exists and cannot be read.
        """
        content = read_bytes(path)
        if content is None:
            return cls()
        status = os.stat(path)
        return cls(content, status.st_mode & 0o7777, status.st_mtime)


@dataclass(frozen=True)
class State:
    """The state of the host.

    :ivar command: the unit's ``ExecStart=`` without this module's drop-in, None where the engine is not installed.
    :ivar others: engines that are there instead, which this module does not manage.
    :ivar source: the file that the command stands in.
    :ivar variables: those that the unit's files give the command, also while the engine does not run.
    :ivar overriding: a drop-in that is applied after this module's and replaces the command.
    :ivar files: by path; only those that a plan may touch.
    :ivar tls_directory_mode: None where there is no such directory.
    :ivar material: what is wrong with the declared certificates and the key that belongs to them.
    :ivar checkpoint: of a change that is not final; None where there is none.
    :ivar former: the contents that the checkpoint leads back to, by path; None where there was no file.
    :ivar now: seconds since the epoch.
    """

    service: Service
    command: Optional[str] = None
    others: Tuple[str, ...] = ()
    source: str = ""
    variables: Mapping[str, Variable] = field(default_factory=dict)
    overriding: Optional[str] = None
    config_path: str = DEFAULT_CONFIG
    files: Mapping[str, Content] = field(default_factory=dict)
    tls_directory_mode: Optional[int] = None
    material: Findings = field(default_factory=Findings)
    checkpoint: Optional[Checkpoint] = None
    former: Mapping[str, Optional[bytes]] = field(default_factory=dict)
    now: float = 0.0

    def file(self, path: str) -> Content:
        """Return a file as found."""
        return self.files.get(path, Content())

    @property
    def local_command(self) -> str:
        """The command without a TCP listener of its own, which the declared one replaces."""
        return without_network(self.command or "")[0]

    @property
    def replaced(self) -> Tuple[str, ...]:
        """The flags of the command that make a TCP listener."""
        return without_network(self.command or "")[1]

    @property
    def words(self) -> Tuple[str, ...]:
        """The words of the local command, with its variables replaced."""
        return split_command(self.local_command, self.variables)


def read_state(declaration: Declaration, runner: Runner, directories: Sequence[str] = UNIT_DIRECTORIES) -> State:
    """Read the state of the host: one call of systemctl, the rest are files.

    :raises FarmError: systemd does not answer.
    :raises OSError: a file cannot be read.
    """
    service = read_service(runner, declaration.unit)
    texts = list(UnitFiles.find(declaration.unit, directories).texts())
    others = [(path, text) for path, text in texts if os.path.basename(path) != DROP_IN]
    source, command = exec_start(others) or ("", None)
    overriding = source.endswith(".conf") and os.path.basename(source) > DROP_IN
    variables = environment(others)
    flags = {flag: value for flag, value, _words in options(split_command(command or "", variables))}
    config_path = flags.get("--config-file") or DEFAULT_CONFIG
    files = {path: Content.read(path) for path in (config_path, record_path(config_path), *declaration.own_files)}
    directory = declaration.tls_directory
    checkpoint = Checkpoint.load(declaration.unit)
    return State(
        service=service,
        command=command,
        others=() if command else tuple(name for name, pattern in _OTHERS.items() if glob.glob(pattern)),
        source=source,
        variables=variables,
        overriding=source if overriding else None,
        config_path=config_path,
        files=files,
        tls_directory_mode=os.stat(directory).st_mode & 0o7777 if os.path.isdir(directory) else None,
        material=_inspect_tls(declaration, files),
        checkpoint=checkpoint,
        former=checkpoint.read_former() if checkpoint else {},
        now=time.time(),
    )


def _inspect_tls(declaration: Declaration, files: Mapping[str, Content]) -> Findings:
    if not declaration.uses_tls:
        return Findings()
    return inspect(declaration, files[declaration.tls_path("key")].content)
