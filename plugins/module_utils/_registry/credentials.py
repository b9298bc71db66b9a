# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Credentials for registries, as ``docker login`` stored them."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Mapping, Optional, Sequence

from .._core.errors import FarmError, missing_library
from .._docker.config import read_config

#: Names under which Docker Hub's credentials may be stored.
_HUB = ("docker.io", "index.docker.io", "registry-1.docker.io")


@dataclass(frozen=True)
class Credentials:
    """What ``docker login`` stored for a registry.

    :ivar identity_token: for a token service; there is no password then.
    """

    user: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)

    @property
    def basic(self) -> str:
        """The value of the header ``Authorization``."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


def stored_credentials(config_dir: Path, registry: str) -> Optional[Credentials]:
    """Return the credentials that the docker configuration has for a registry, None if it has none.

    The SDK is imported only where there is something to be found, as that takes longer than a request.

    :param config_dir: the docker CLI's configuration directory.
    :raises FarmError: they cannot be read; a credential helper failed.
    """
    config = read_config(config_dir)
    if not config.get("credsStore") and registry not in _named(config):
        return None
    try:
        from docker import auth
        from docker.errors import DockerException
    except ImportError as exc:
        raise missing_library("docker", exc) from exc
    try:
        found: Mapping[str, Any] = (
            auth.resolve_authconfig(auth.load_config(config_dict=config), registry=registry) or {}
        )
    except (DockerException, ValueError, TypeError, AttributeError) as exc:
        # The messages of the other errors may hold what cannot be decoded: a secret.
        reason = f": {exc}" if isinstance(exc, DockerException) else ""
        raise FarmError(
            f"registry {registry}: its credentials cannot be read from {config_dir}/config.json or the credential "
            f"helper that this names{reason}; repair it, or log in again with docker login {registry}"
        ) from exc
    values = {key.lower(): str(value or "") for key, value in found.items()}
    credentials = Credentials(values.get("username", ""), values.get("password", ""), values.get("identitytoken", ""))
    return credentials if credentials != Credentials() else None


def _named(config: Mapping[str, Any]) -> Sequence[str]:
    """Return the registries that a docker configuration has credentials or a helper for."""
    keys = [key for part in ("auths", "credHelpers") for key in config.get(part) or ()]
    hosts = [re.sub(r"^https?://", "", str(key)).split("/", 1)[0] for key in keys]
    return [*hosts, *(_HUB if any(host in _HUB for host in hosts) else ())]
