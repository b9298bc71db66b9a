# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Docker's configuration directory, and where programs find buildx: the docker CLI need not be there."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any, Dict, Mapping, Optional, Tuple, Union

from .._core.environment import expanded, in_container
from .._core.errors import FarmError
from .._core.files import is_writable, read_bytes

#: buildx, as the docker CLI knows it.
PLUGIN = "docker-buildx"
_SYSTEM_DIRECTORIES = (
    "/usr/local/lib/docker/cli-plugins",
    "/usr/local/libexec/docker/cli-plugins",
    "/usr/lib/docker/cli-plugins",
    "/usr/libexec/docker/cli-plugins",
)


def config_dir(params: Mapping[str, Any]) -> Path:
    """Return the docker CLI's configuration directory: option ``docker_config``, ``$DOCKER_CONFIG``, or ``~/.docker``.

    :param params: a module's parameters.
    :raises FarmError: it would be below a home directory that is not known.
    """
    return Path(expanded(params.get("docker_config") or os.environ.get("DOCKER_CONFIG") or "~/.docker"))


def transience(params: Mapping[str, Any]) -> Optional[str]:
    """Return why what is written to docker's configuration directory is lost later, None where it lasts.

    :param params: a module's parameters.
    """
    try:
        own = config_dir(params)
    except FarmError:
        return "the user has no home directory"
    if not is_writable(own):
        return f"{own} cannot be written"
    return "this is a container" if in_container() else None


def read_config(directory: Path) -> Dict[str, Any]:
    """Return what the docker CLI's ``config.json`` in a configuration directory says, nothing where there is none.

    :raises FarmError: it cannot be read, or is not what docker reads.
    """
    path = directory / "config.json"
    try:
        config = json.loads(read_bytes(path) or b"{}")
    except (OSError, ValueError) as exc:
        raise FarmError(f"{path}: not docker's configuration ({exc}); repair it") from exc
    if not isinstance(config, dict):
        raise FarmError(f"{path}: not docker's configuration, wanted a JSON object; repair it")
    return config


def plugin_candidates(params: Mapping[str, Any]) -> Tuple[Path, ...]:
    """Return the paths at which buildx is searched for, in order: as the docker CLI does, then in ``PATH``.

    Source: docker/cli ``cli-plugins/manager``, the same from Docker 19.03 to 29.

    :param params: a module's parameters; the configuration directory's ``config.json`` may name further directories.
    :raises FarmError: that file cannot be read.
    """
    own = config_dir(params)
    return _candidates(*(read_config(own).get("cliPluginsExtraDirs") or ()), own / "cli-plugins")


def plugin_in_use(params: Mapping[str, Any]) -> Path:
    """Return the program that is buildx here: the first that is there, whether it can be run or not.

    :param params: a module's parameters.
    :return: its bare name where there is none: starting that says so.
    """
    try:
        candidates = plugin_candidates(params)
    except FarmError:
        # Of a configuration that it cannot read, docker warns, and goes on without.
        try:
            candidates = _candidates(config_dir(params) / "cli-plugins")
        except FarmError:
            candidates = _candidates()
    return next((path for path in candidates if os.path.lexists(path)), Path(PLUGIN))


def _candidates(*own: Union[str, Path]) -> Tuple[Path, ...]:
    """Return the paths of buildx in a user's directories, in those of all users, and in ``PATH`` where it is there."""
    places = [Path(directory) / PLUGIN for directory in (*own, *_SYSTEM_DIRECTORIES)]
    on_its_own = shutil.which(PLUGIN)
    return tuple(dict.fromkeys([*places, *([Path(on_its_own)] if on_its_own else [])]))
