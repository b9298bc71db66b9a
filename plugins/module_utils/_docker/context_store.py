# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The docker CLI's store of contexts, read from its files: no docker CLI is needed to know what is there.

Source of the layout: docker/cli ``cli/context/store``: ``contexts/meta/<sha256 of the name>/meta.json`` and
``contexts/tls/<sha256 of the name>/docker/{ca,cert,key}.pem``, the same since Docker 19.03.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Mapping, Optional, Tuple

from .._core.errors import FarmError
from .._core.files import read_bytes
from .config import read_config
from .names import DEFAULT_SOCKET, TLS_NAMES


@dataclass(frozen=True)
class TlsFiles:
    """Paths of TLS material in PEM; None for a file that there is not."""

    ca: Optional[Path] = None
    cert: Optional[Path] = None
    key: Optional[Path] = None

    @classmethod
    def of(cls, directory: Path) -> Optional[TlsFiles]:
        """Return what a directory holds under docker's names ``ca.pem``, ``cert.pem``, ``key.pem``, None if nothing."""
        found = [path if path.is_file() else None for path in (directory / f"{name}.pem" for name in TLS_NAMES)]
        return cls(*found) if any(found) else None

    def items(self) -> Tuple[Tuple[str, Optional[Path]], ...]:
        """Return the pairs of name (``ca``, ``cert``, ``key``) and path."""
        return (("ca", self.ca), ("cert", self.cert), ("key", self.key))


@dataclass(frozen=True)
class Context:
    """A docker context's way to its engine.

    :ivar host: the engine's URL; empty where the context names no docker endpoint.
    :ivar tls: the context's own copies of its TLS material, None if it has none.
    """

    name: str
    description: str
    host: str
    tls: Optional[TlsFiles] = None
    skip_tls_verify: bool = False


class ContextStore:
    """The contexts of one docker configuration directory."""

    def __init__(self, config_dir: Path) -> None:
        self.config_dir = Path(config_dir)

    def meta_dir(self, name: str) -> Path:
        """Return the directory of a context's description, whether it exists or not."""
        return self.config_dir / "contexts" / "meta" / _identifier(name)

    def tls_dir(self, name: str) -> Path:
        """Return the directory of a context's TLS material for the docker endpoint, whether it exists or not."""
        return self.config_dir / "contexts" / "tls" / _identifier(name) / "docker"

    def get(self, name: str) -> Optional[Context]:
        """Return a context, None if there is none of that name.

        ``default`` is, as for the docker CLI, what the environment says (``DOCKER_HOST``, ``DOCKER_TLS_VERIFY``,
        ``DOCKER_CERT_PATH``).

        :raises FarmError: its files cannot be read or are not what docker writes.
        """
        if name == "default":
            return self._default()
        meta = self.read(name)
        if meta is None:
            return None
        engine = (meta.get("Endpoints") or {}).get("docker") or {}
        return Context(
            name=name,
            description=(meta.get("Metadata") or {}).get("Description") or "",
            host=engine.get("Host") or "",
            tls=TlsFiles.of(self.tls_dir(name)),
            skip_tls_verify=bool(engine.get("SkipTLSVerify")),
        )

    def read(self, name: str) -> Optional[Mapping[str, Any]]:
        """Return a stored context's description as docker stores it, None if there is none of that name.

        :raises FarmError: it cannot be read or is not what docker writes.
        """
        return self._read(self.meta_dir(name) / "meta.json")

    def all(self) -> Dict[str, Mapping[str, Any]]:
        """Return all stored contexts' descriptions by name in order, ``default`` not among them.

        What cannot be read, or lies where docker would not find it, is left out.
        """
        found = {}
        for path in (self.config_dir / "contexts" / "meta").glob("*/meta.json"):
            with contextlib.suppress(FarmError):
                meta = self._read(path) or {}
                if self.meta_dir(str(meta.get("Name"))) == path.parent:
                    found[str(meta["Name"])] = meta
        return dict(sorted(found.items()))

    def current_endpoint(self) -> str:
        """Return what buildx keys its choice of a builder by: docker's current context, or the default engine's URL."""
        if not os.environ.get("DOCKER_HOST"):
            chosen = os.environ.get("DOCKER_CONTEXT") or ""
            with contextlib.suppress(FarmError):  # what docker cannot read does not choose
                chosen = chosen or str(read_config(self.config_dir).get("currentContext") or "")
            if chosen and chosen != "default":
                return chosen
        return self._default().host

    def _default(self) -> Context:
        # docker/cli takes TLS for its default context only where one of these two is set, and then verifies
        # the server only for DOCKER_TLS_VERIFY.
        verify, tls = os.environ.get("DOCKER_TLS_VERIFY"), os.environ.get("DOCKER_TLS")
        host = os.environ.get("DOCKER_HOST") or f"unix://{DEFAULT_SOCKET}"
        files = TlsFiles.of(Path(os.environ.get("DOCKER_CERT_PATH") or self.config_dir)) if verify or tls else None
        return Context("default", "", host, files, skip_tls_verify=bool(tls and not verify))

    @staticmethod
    def _read(path: Path) -> Optional[Mapping[str, Any]]:
        try:
            content = read_bytes(path)
            meta = None if content is None else json.loads(content)
        except (OSError, ValueError) as exc:
            raise FarmError(f"{path}: not a docker context that can be read ({exc}); repair or remove it") from exc
        if meta is not None and not isinstance(meta, dict):
            raise FarmError(f"{path}: not a docker context, wanted a JSON object; repair or remove it")
        return meta


def _identifier(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()
