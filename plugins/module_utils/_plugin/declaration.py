# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which buildx the task declares, and where."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping, Optional

from .._buildx.cli import Version
from .._core.errors import FarmError
from .._core.quantities import some_seconds
from .._core.version import declared_version
from .._docker.config import PLUGIN, config_dir
from .model import Plugin, parse_version
from .source import Access, Source, source_of


@dataclass(frozen=True)
class Declaration:
    """What the task declares.

    :ivar present: whether there is to be a plugin.
    :ivar destination: the file that is installed or removed.
    :ivar anywhere: whether a plugin that docker finds elsewhere will do.
    :ivar source: where it is to be installed from; None where any plugin will do that is there.
    :ivar minimum: how new it has to be at least, None for no matter.
    :ivar docker_config: the option that names the docker CLI's configuration directory.
    :ivar access: how the source is reached.
    """

    present: bool
    destination: Path
    anywhere: bool
    source: Optional[Source]
    minimum: Optional[Version]
    docker_config: Optional[str]
    access: Access

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> Declaration:
        """Read the module's parameters.

        :raises FarmError: the declaration cannot be meant so.
        """
        destination, minimum = _destination(params), _minimum(params)
        present = params["state"] == "present"
        return cls(
            present=present,
            destination=destination,
            anywhere=params["path"] is None,
            source=source_of(params) if present else None,
            minimum=minimum,
            docker_config=params["docker_config"],
            access=_access(params),
        )

    @property
    def config_directory(self) -> Path:
        """The docker CLI's configuration directory."""
        return config_dir({"docker_config": self.docker_config})

    @property
    def decided_by_checksum(self) -> bool:
        """Whether the file's checksum decides, whatever version the plugin reports."""
        return self.minimum is None and self.source is not None and bool(self.source.checksum)

    def is_met_by(self, plugin: Plugin) -> bool:
        """Return whether a plugin that runs is what is declared, so that no source is needed."""
        if self.minimum is not None:
            return plugin.is_at_least(self.minimum)
        if self.source is None:
            return True
        return not self.decided_by_checksum and (not self.source.release or plugin.is_release(self.source.release))


def _access(params: Mapping[str, Any]) -> Access:
    if params["retries"] < 0:
        raise FarmError(f"retries is {params['retries']}; wanted 0 or more")
    return Access(some_seconds("timeout", params["timeout"]), params["retries"], params["docker_config"])


def _destination(params: Mapping[str, Any]) -> Path:
    if params["path"] is None:
        return config_dir(params) / "cli-plugins" / PLUGIN
    path = Path(params["path"])
    if path.name != PLUGIN:
        raise FarmError(f"path {str(path)!r}: docker finds a plugin by its name; the path must end in /{PLUGIN}")
    return path


def _minimum(params: Mapping[str, Any]) -> Optional[Version]:
    text = params["minimum_version"]
    return None if text is None else parse_version(declared_version("minimum_version", text, "0.13 or 0.13.1", 2))
