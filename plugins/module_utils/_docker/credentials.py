# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Credentials for registries, as the docker CLI and buildx find them, and in the form that engines take.

They are read without the docker SDK: nodes do not have it, and its import takes longer than a request.

Source: docker/cli ``cli/config`` (``configfile``, ``credentials``, ``memorystore``), docker/docker-credential-helpers
``client``; moby ``api/docs`` (X-Registry-Auth).
"""

from __future__ import annotations

import base64
import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, Mapping, Optional

from .._core.errors import FarmError
from .._core.runner import CommandError, Runner, run
from .config import read_config

#: The environment's variable with logins.
LOGINS = "DOCKER_AUTH_CONFIG"
#: The Hub, as the docker CLI stores credentials for it.
_HUB = "https://index.docker.io/v1/"
#: The name of the user by which credential helpers mark an identity token.
_TOKEN_USER = "<token>"
#: Seconds.
_TIMEOUT = 30


@dataclass(frozen=True)
class Credentials:
    """What is known for a registry.

    :ivar identity_token: for a token service; there is no password then.
    """

    user: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)

    @property
    def basic(self) -> str:
        """The value of the header ``Authorization``."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


def stored_credentials(config_dir: Path, registry: str, runner: Runner = run) -> Optional[Credentials]:
    """Return the credentials for a registry, None if there are none.

    Those of the variable DOCKER_AUTH_CONFIG come first, as in docker/cli 28.3 and later; then those of a credential
    helper if one is configured, else those that stand in ``config.json``.

    :param config_dir: the docker CLI's configuration directory.
    :param registry: host and port; ``docker.io`` for the Hub.
    :raises FarmError: they cannot be read; a credential helper failed.
    """
    server = _server(registry)
    found = _of_environment(server) or _of_config(config_dir, server, runner)
    return found if found != Credentials() else None


def auth_config(credentials: Optional[Credentials], registry: str) -> Dict[str, str]:
    """Return credentials as the Engine API takes them, empty if there are none.

    An engine with the containerd image store sends them to no other server than the one named with them (moby
    ``daemon/containerd``).
    """
    if credentials is None:
        return {}
    secret = (
        {"identitytoken": credentials.identity_token}
        if credentials.identity_token
        else {"username": credentials.user, "password": credentials.password}
    )
    return {**secret, "serveraddress": _server(registry)}


def pull_headers(config_dir: Path, registry: str, runner: Runner) -> Dict[str, str]:
    """Return the headers by which an engine pulls from a registry as the docker CLI would; none without credentials.

    :raises FarmError: the credentials cannot be read.
    """
    auth = auth_config(stored_credentials(config_dir, registry, runner), registry)
    if not auth:
        return {}
    return {"X-Registry-Auth": base64.urlsafe_b64encode(json.dumps(auth).encode()).decode()}


def logins_of_environment() -> Dict[str, Any]:
    """Return the entries of the variable DOCKER_AUTH_CONFIG by their registries, none where it is not set.

    :raises FarmError: it is not what docker reads.
    """
    try:
        return dict(json.loads(os.environ.get(LOGINS) or "{}").get("auths") or {})
    except (ValueError, TypeError, AttributeError):
        # The messages of these errors may hold what cannot be decoded: a secret.
        raise _not_logins() from None


def with_logins(config: Mapping[str, Any], logins: Mapping[str, Any]) -> Dict[str, Any]:
    """Return what ``config.json`` has with other logins, for which no credential helper is asked."""
    found = {**config, "auths": {**(config.get("auths") or {}), **logins}}
    if config.get("credsStore") or config.get("credHelpers"):
        found["credHelpers"] = {**(config.get("credHelpers") or {}), **dict.fromkeys(logins, "")}
    return found


def _server(registry: str) -> str:
    return _HUB if registry == "docker.io" else registry


def _of_environment(server: str) -> Optional[Credentials]:
    try:
        return _of_entries({"auths": logins_of_environment()}, server)
    except (ValueError, TypeError, AttributeError):
        raise _not_logins() from None


def _of_config(config_dir: Path, server: str, runner: Runner) -> Optional[Credentials]:
    config = read_config(config_dir)
    try:
        # An empty name is no helper, whatever there is for all others.
        helper = (config.get("credHelpers") or {}).get(server, config.get("credsStore"))
        if not helper:
            return _of_entries(config, server)
    except (ValueError, TypeError, AttributeError) as exc:
        raise _unreadable(server, f"{config_dir}/config.json") from exc
    return _of_helper(f"docker-credential-{helper}", server, runner)


def _not_logins() -> FarmError:
    return FarmError("DOCKER_AUTH_CONFIG is not what docker reads; correct or unset it")


def _unreadable(server: str, source: str) -> FarmError:
    return FarmError(
        f"registry {server}: its credentials cannot be read from {source}; repair it, or log in again with docker login"
    )


def _of_helper(program: str, server: str, runner: Runner) -> Optional[Credentials]:
    try:
        result = runner([program, "get"], stdin=server, timeout=_TIMEOUT)
    except CommandError as exc:
        # Without its output, which may hold the secret.
        raise _unreadable(server, f"{program}: {exc.result.stderr.strip() or 'not finished in time'}") from None
    if result.rc != 0:
        # Helpers report errors on their standard output.
        reason = result.stdout.strip() or result.stderr.strip()
        if "credentials not found" in reason:
            return None
        raise _unreadable(server, f"{program}: {reason or f'exit status {result.rc}'}")
    try:
        found = json.loads(result.stdout)
        user, secret = str(found.get("Username") or ""), str(found.get("Secret") or "")
    except (ValueError, AttributeError):
        raise _unreadable(server, f"{program}: its output is not what docker reads") from None
    return Credentials(identity_token=secret) if user == _TOKEN_USER else Credentials(user, secret)


def _of_entries(config: Mapping[str, Any], server: str) -> Optional[Credentials]:
    """Return the credentials of a configuration's entries.

    :raises ValueError, TypeError, AttributeError: they are not what docker writes.
    """
    entries = config.get("auths") or {}
    entry = next((value for key, value in entries.items() if _host(key) == _host(server)), None)
    if not entry:
        return None
    token = str(entry.get("identitytoken") or "")
    if token:
        return Credentials(identity_token=token)
    if not entry.get("auth"):
        return Credentials(str(entry.get("username") or ""), str(entry.get("password") or ""))
    user, colon, password = base64.b64decode(entry["auth"]).decode().partition(":")
    if not colon:
        raise ValueError("no colon between user and password")
    return Credentials(user, password.rstrip("\0"))


def _host(server: str) -> str:
    return re.sub(r"^https?://", "", server).split("/", 1)[0]
