# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The docker CLI's configuration directory, and where it has its plugins."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Dict, Mapping, Optional, Tuple

from .._core.environment import expanded
from .._core.errors import FarmError
from .._core.files import read_bytes

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
    """Return the paths at which the docker CLI searches for buildx, in its order.

    Source: docker/cli ``cli-plugins/manager``, the same from Docker 19.03 to 29.

    :param params: a module's parameters; the configuration directory's ``config.json`` may name further directories.
    :raises FarmError: that file cannot be read.
    """
    own = config_dir(params)
    extra = read_config(own).get("cliPluginsExtraDirs") or ()
    return tuple(Path(directory) / PLUGIN for directory in (*extra, own / "cli-plugins", *_SYSTEM_DIRECTORIES))


def plugin_in_use(params: Mapping[str, Any]) -> Optional[Path]:
    """Return the program that is ``docker buildx`` here; None where there is none, or the CLI is to say what is wrong.

    :param params: a module's parameters.
    """
    try:
        candidates = plugin_candidates(params)
    except FarmError:
        # It warns of a configuration that it cannot read, and goes on without.
        return None
    found = next((path for path in candidates if os.path.lexists(path)), None)
    return found if found and os.access(found, os.X_OK) else None
