# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which docker contexts this collection made and for whom, and which of them are in use.

The mark lies in a context's metadata, in which docker preserves unknown keys, since 20.10 (docker/cli
``cli/command/context.go``, ``AdditionalFields``).
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional

from .._buildx.store import Store
from .._docker.config import read_config
from .._docker.context_store import ContextStore

_KEY = "buildfarm.multiarch"


def mark(name: str, owner: str) -> Dict[str, Any]:
    """Return the metadata that says for whom a context was made."""
    return {_KEY: {"context": name, "owner": owner}}


def owner_of(meta: Mapping[str, Any]) -> Optional[str]:
    """Return for whom this collection made a context, None for a context of others.

    A copy that somebody made of one, ``docker context create --from`` for example, has the mark with the name of the
    original, and is theirs.

    :param meta: the JSON object of ``meta.json``.
    """
    found = (meta.get("Metadata") or {}).get(_KEY)
    if not isinstance(found, dict) or found.get("context") != meta.get("Name"):
        return None
    return str(found.get("owner") or "") or None


def owned(store: ContextStore, owner: str) -> List[str]:
    """Return the names of the contexts that were made for an owner."""
    return [name for name, meta in store.all().items() if owner_of(meta) == owner]


def uses(contexts: ContextStore, builders: Store, planned: Optional[Mapping[str, Any]] = None) -> Dict[str, str]:
    """Return what would break without which context: by its name, who uses it.

    :param planned: a builder as module ``buildx_builder`` returns it; it stands for the stored one of that name.
    :raises FarmError: a builder's definition or docker's configuration cannot be read.
    """
    planned = planned or {}
    replaced = str(planned.get("name") or "").lower()
    instances = [instance for name in builders.names() if name != replaced and (instance := builders.get(name))]
    users = [(instance.name, node.endpoint) for instance in instances for node in instance.nodes]
    users += [(planned["name"], node["endpoint"]) for node in planned.get("nodes") or ()]
    current = read_config(contexts.config_dir).get("currentContext")
    return {
        **({current: "it is docker's current one"} if current else {}),
        **{endpoint: f"builder {name!r} uses it" for name, endpoint in users},
    }
