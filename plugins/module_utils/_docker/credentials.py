# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an engine is given to pull with, read without the docker SDK, which nodes do not have.

Source: docker/cli ``cli/config`` and docker/docker-credential-helpers ``client``; moby ``api/docs`` (X-Registry-Auth).
"""

from __future__ import annotations

import base64
import json
import os
import re
from pathlib import Path
from typing import Any, Dict, Mapping

from .._core.errors import FarmError
from .._core.runner import Runner
from .config import read_config

#: The Hub, as the docker CLI stores credentials for it.
_HUB = "https://index.docker.io/v1/"
#: The name of the user by which credential helpers mark an identity token.
_TOKEN_USER = "<token>"
#: Seconds.
_TIMEOUT = 30


def pull_headers(config_dir: Path, registry: str, runner: Runner) -> Dict[str, str]:
    """Return the headers by which an engine pulls from a registry as the docker CLI would; none without credentials.

    :param config_dir: the docker CLI's configuration directory.
    :param registry: host and port; ``docker.io`` for the Hub.
    :raises FarmError: the configuration cannot be read.
    """
    server = _HUB if registry == "docker.io" else registry
    auth = _environment(server) or _stored(read_config(config_dir), server, runner)
    if not auth:
        return {}
    document = json.dumps({**auth, "serveraddress": server})
    return {"X-Registry-Auth": base64.urlsafe_b64encode(document.encode()).decode()}


def _environment(server: str) -> Dict[str, str]:
    try:
        return _of_file(json.loads(os.environ.get("DOCKER_AUTH_CONFIG") or "{}"), server)
    except (ValueError, AttributeError) as exc:
        raise FarmError("DOCKER_AUTH_CONFIG is not what docker reads; correct or unset it") from exc


def _stored(config: Mapping[str, Any], server: str, runner: Runner) -> Dict[str, str]:
    helper = (config.get("credHelpers") or {}).get(server) or config.get("credsStore")
    return _of_helper(helper, server, runner) if helper else _of_file(config, server)


def _of_helper(helper: str, server: str, runner: Runner) -> Dict[str, str]:
    argv = [f"docker-credential-{helper}", "get"]
    result = runner(argv, stdin=server, timeout=_TIMEOUT)
    if result.rc != 0 and "credentials not found" in result.stdout:
        return {}
    try:
        found = json.loads(result.stdout) if result.rc == 0 else None
    except ValueError:
        found = None
    if not isinstance(found, dict):
        # Its output may hold the secret.
        raise FarmError(f"registry {server}: {argv[0]} gives no credentials; repair it, or log in again")
    if found.get("Username") == _TOKEN_USER:
        return {"identitytoken": str(found.get("Secret", ""))}
    return {"username": str(found.get("Username", "")), "password": str(found.get("Secret", ""))}


def _of_file(config: Mapping[str, Any], server: str) -> Dict[str, str]:
    stored = config.get("auths") or {}
    entry = next((value for key, value in stored.items() if _host(key) == _host(server)), None) or {}
    if entry.get("identitytoken"):
        return {"identitytoken": str(entry["identitytoken"])}
    try:
        user, _colon, password = base64.b64decode(entry.get("auth") or "").decode().partition(":")
    except ValueError as exc:
        raise FarmError(
            f"registry {server}: its credentials cannot be decoded; log in again with docker login"
        ) from exc
    return {"username": user, "password": password.rstrip("\0")} if user else {}


def _host(server: str) -> str:
    return re.sub(r"^https?://", "", server).split("/", 1)[0]
