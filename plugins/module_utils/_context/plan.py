# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The least work that makes docker contexts what they are declared to be. Everything here is pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Tuple

from .._core.errors import FarmError
from .._core.plan import Plan, Step
from .._docker.context_store import ContextStore
from .._docker.endpoint import Endpoint
from .._docker.names import TLS_NAMES
from .declaration import ContextSpec, Declaration
from .owner import mark, owner_of
from .state import PRIVATE, State, StoredContext
from .steps import RemoveContext, WriteContext


@dataclass(frozen=True)
class ContextsPlan(Plan[ContextStore]):
    """Steps that make contexts what they are declared to be.

    :ivar contexts: the declared ones afterwards, in order.
    :ivar leftover: the names of contexts that were made for the owner, are not declared, and stay.
    """

    contexts: Mapping[str, StoredContext] = field(default_factory=dict)
    leftover: Tuple[str, ...] = ()


def plan(declaration: Declaration, state: State) -> ContextsPlan:
    """Return the least work that makes contexts what they are declared to be.

    :raises FarmError: the declaration cannot be met; nothing has been changed.
    """
    _refuse_builders(state)
    own = {node["endpoint"] for node in (declaration.builder or {}).get("nodes") or ()}
    used = [name for name in state.former if name in state.uses or not declaration.purge]
    unwanted = [*declaration.absent, *(name for name in state.former if name not in used)]
    contexts = {spec.name: _context_of(spec, declaration.owner, state) for spec in declaration.present}
    before: Dict[str, Any] = {}
    after: Dict[str, Any] = {}
    steps: List[Step[ContextStore]] = []
    for spec in declaration.present:
        found, target = state.contexts.get(spec.name), contexts[spec.name]
        before[spec.name] = found and _shown(found, spec, state)
        after[spec.name] = _shown(target, spec, state)
        if found != target:
            steps.append(WriteContext(spec.name, found, target))
    for name in unwanted:
        found = state.contexts.get(name)
        before[name], after[name] = found and _shown(found, None, state), None
        if found is not None:
            _refuse_current(name, state)
            steps.append(RemoveContext(name, found))
    return ContextsPlan(
        before=before,
        after=after,
        steps=tuple(steps),
        # Nodes of a builder that are not declared are reported by the task of that builder.
        warnings=tuple(
            f"context {name!r} is no longer declared, and stays: {state.uses[name]}"
            for name in used
            if name in state.uses and name not in own
        ),
        contexts=contexts,
        leftover=tuple(used),
    )


def _context_of(spec: ContextSpec, owner: Optional[str], state: State) -> StoredContext:
    """Return a declared context as it is to be.

    :raises FarmError: the engine would be reached over plain TCP though that is not declared.
    """
    found = state.contexts.get(spec.name)
    # A context that others made stays theirs, though it is as declared from now on.
    ours = owner is not None and (found is None or owner_of(found.meta) is not None)
    base = found or StoredContext({"Name": spec.name, "Metadata": {}, "Endpoints": {}}, {})
    description = base.description if spec.description is None else spec.description
    unverified = base.engine.get("SkipTLSVerify") if spec.skip_tls_verify is None else spec.skip_tls_verify
    tls = base.tls if spec.tls is None else {kind: state.material[path] for kind, path in spec.tls.items()}
    if spec.host.scheme == "tcp" and not (tls or unverified or spec.insecure):
        raise FarmError(
            f"context {spec.name!r}: {spec.host} without TLS, where whoever reaches the port is root on the host; "
            "give ca, cert and key, or say insecure=true"
        )
    host = base.engine.get("Host") if _same(base.engine.get("Host"), spec.host) else spec.host.text
    engine = {**base.engine, "Host": host, "SkipTLSVerify": bool(unverified)}
    metadata = {key: value for key, value in (base.meta.get("Metadata") or {}).items() if key != "Description"}
    if description:
        metadata["Description"] = description
    if ours:
        metadata.update(mark(spec.name, str(owner)))
    endpoints = {**(base.meta.get("Endpoints") or {}), "docker": engine}
    # Docker writes the keys in this order.
    meta = {**base.meta, "Metadata": dict(sorted(metadata.items())), "Endpoints": endpoints}
    return StoredContext(meta, tls, PRIVATE)


def _same(host: Optional[str], wanted: Endpoint) -> bool:
    """Return whether a stored address is the declared one, though perhaps in another spelling."""
    try:
        # Docker does not add a port to a stored address, so one without a port is never right.
        return Endpoint.parse(host or "", default_port=0) == wanted
    except FarmError:
        return False


def _refuse_builders(state: State) -> None:
    """Refuse contexts that buildx could not distinguish from its builders.

    Source: buildx ``commands/create.go``, "instance name X already exists as context builder".
    """
    for name, path in state.builders.items():
        raise FarmError(
            f"context {name!r}: a buildx builder is called so ({path}), and buildx takes names of contexts for "
            "builders; choose another name for one of them"
        )


def _refuse_current(name: str, state: State) -> None:
    """Refuse to remove the context that the docker CLI uses by default: without it every docker command fails."""
    if state.current == name:
        raise FarmError(
            f"context {name!r} is docker's current one ({state.config_file}); run 'docker context use default' first"
        )


def _shown(stored: StoredContext, spec: Optional[ContextSpec], state: State) -> Dict[str, Any]:
    """Return a context as one side of the diff, which shows of TLS material only whether it is the declared one."""
    shown: Dict[str, Any] = {
        "host": stored.engine.get("Host"),
        "description": stored.description,
        "skip_tls_verify": bool(stored.engine.get("SkipTLSVerify")),
        "owner": owner_of(stored.meta),
    }
    if stored.tls:
        shown["mode"] = f"{stored.mode:04o}"
    for kind in TLS_NAMES:
        path = ((spec.tls if spec else None) or {}).get(kind)
        if kind not in stored.tls:
            shown[kind] = None
        elif path is None:
            shown[kind] = "stored"
        else:
            shown[kind] = str(path) if stored.tls[kind] == state.material[path] else f"other than {path}"
    return shown
