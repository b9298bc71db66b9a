# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The docker contexts of one configuration as they are, and what declared ones are made of."""

from __future__ import annotations

import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, Mapping, Optional, Tuple

from .._buildx.store import Store
from .._core.errors import FarmError
from .._core.files import read_bytes
from .._docker.config import read_config
from .._docker.context_store import ContextStore
from .._docker.names import TLS_NAMES
from .declaration import Declaration
from .owner import owned, uses

#: The permission bits of TLS material's files.
PRIVATE = 0o600


@dataclass(frozen=True)
class StoredContext:
    """A context's files.

    :ivar meta: the JSON object of ``meta.json``, with whatever others store in it.
    :ivar tls: the TLS material by name; None for a content that is not known yet.
    :ivar mode: the permission bits of the TLS material's files, all taken together.
    """

    meta: Mapping[str, Any]
    tls: Mapping[str, Optional[bytes]]
    mode: int = PRIVATE

    @property
    def engine(self) -> Mapping[str, Any]:
        """The docker endpoint's values."""
        return (self.meta.get("Endpoints") or {}).get("docker") or {}

    @property
    def description(self) -> str:
        """The description of the context, for people."""
        return str((self.meta.get("Metadata") or {}).get("Description") or "")


@dataclass(frozen=True)
class State:
    """What a plan needs to know.

    :ivar contexts: those of the declared names, and former ones where these are to be removed.
    :ivar material: the contents of declared files; None for one that is not there yet.
    :ivar former: the names of contexts that were made for the owner and are not declared.
    :ivar uses: why a former context is needed, by its name; read only where former ones are to be removed.
    :ivar builders: the instance files of buildx's builders that have the name of a declared context.
    :ivar current: the context that the docker CLI uses by default; read only where contexts are to be removed.
    :ivar config_file: where that is chosen.
    """

    contexts: Mapping[str, StoredContext] = field(default_factory=dict)
    material: Mapping[Path, Optional[bytes]] = field(default_factory=dict)
    former: Tuple[str, ...] = ()
    uses: Mapping[str, str] = field(default_factory=dict)
    builders: Mapping[str, Path] = field(default_factory=dict)
    current: str = ""
    config_file: str = "config.json"


def read_state(declaration: Declaration, store: ContextStore, builders: Store, lenient: bool) -> State:
    """Read the contexts that are declared or were made for the owner.

    :param builders: of buildx.
    :param lenient: True accepts declared files that do not exist yet.
    :raises FarmError: a file is missing or cannot be read, or who uses contexts cannot be found out.
    """
    material = {}
    for spec in declaration.present:
        for path in (spec.tls or {}).values():
            material[path] = _read(path)
            if material[path] is None and not lenient:
                raise FarmError(f"context {spec.name!r}: {path}: no such file; is it issued, and is it on this host?")
    ours = owned(store, declaration.owner) if declaration.owner else []
    former = tuple(name for name in ours if name not in declaration.names)
    leaving = former if declaration.purge else ()
    found = {name: read_context(store, name) for name in (*declaration.names, *leaving)}
    return State(
        contexts={name: stored for name, stored in found.items() if stored is not None},
        material=material,
        former=former,
        uses=uses(store, builders, declaration.builder) if leaving else {},
        builders={spec.name: path for spec in declaration.present if (path := builders.path(spec.name)).exists()},
        current=(read_config(store.config_dir).get("currentContext") or "") if leaving or declaration.absent else "",
        config_file=str(store.config_dir / "config.json"),
    )


def read_context(store: ContextStore, name: str) -> Optional[StoredContext]:
    """Read a context's files, None if there is no such context.

    :raises FarmError: they cannot be read or are not what docker writes.
    """
    meta = store.read(name)
    if meta is None:
        return None
    tls: Dict[str, Optional[bytes]] = {}
    mode = PRIVATE
    for kind in TLS_NAMES:
        path = store.tls_dir(name) / f"{kind}.pem"
        content = _read(path)
        if content is not None:
            tls[kind] = content
            mode |= stat.S_IMODE(path.stat().st_mode)
    return StoredContext(meta, tls, mode)


def _read(path: Path) -> Optional[bytes]:
    try:
        return read_bytes(path)
    except OSError as exc:
        raise FarmError(f"{path}: cannot be read: {exc.strerror}") from exc
