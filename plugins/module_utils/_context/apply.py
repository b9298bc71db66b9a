# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Docker contexts, present with their TLS material, or absent: read, plan, apply; each step verifies itself."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping

from .._buildx.store import Store
from .._core.errors import FarmError
from .._core.outcome import Outcome
from .._core.runner import Runner
from .._docker.config import config_dir
from .._docker.context_store import ContextStore, TlsFiles
from .._docker.names import TLS_NAMES
from .declaration import Declaration
from .owner import owner_of
from .plan import ContextsPlan, plan
from .state import StoredContext, read_state
from .steps import WriteContext


def run(params: Mapping[str, Any], check_mode: bool, runner: Runner) -> Outcome:
    """Run the module ``docker_context``.

    :raises FarmError: a declaration is wrong, a name is taken by a builder, or a file cannot be read or written.
    """
    store = ContextStore(config_dir(params))
    planned = plan_contexts(Declaration.from_params(params), store, Store.of(params), check_mode)
    if not check_mode:
        planned.apply(store)
    return planned.outcome(contexts=describe(planned, store), leftover=list(planned.leftover))


def plan_contexts(declaration: Declaration, store: ContextStore, builders: Store, lenient: bool) -> ContextsPlan:
    """Read the contexts of a configuration, and return the least work that makes them what they are declared to be.

    :param builders: of buildx.
    :param lenient: True accepts declared files that do not exist yet.
    :raises FarmError: the declaration cannot be met, or something cannot be read; nothing has been changed.
    """
    planned = plan(declaration, read_state(declaration, store, builders, lenient))
    _check_material(declaration, planned)
    return planned


def describe(planned: ContextsPlan, store: ContextStore) -> List[Dict[str, Any]]:
    """Return the declared contexts as the modules return them."""
    return [_describe(name, stored, store) for name, stored in planned.contexts.items()]


def _describe(name: str, stored: StoredContext, store: ContextStore) -> Dict[str, Any]:
    tls = {kind: str(store.tls_dir(name) / f"{kind}.pem") if kind in stored.tls else None for kind in TLS_NAMES}
    return {
        "name": name,
        "host": stored.engine.get("Host"),
        "description": stored.description,
        "skip_tls_verify": bool(stored.engine.get("SkipTLSVerify")),
        "owner": owner_of(stored.meta),
        "tls": tls if stored.tls else None,
    }


def _check_material(declaration: Declaration, planned: ContextsPlan) -> None:
    """Refuse files of contexts that change if docker could not use them, as far as they are there."""
    written = {step.name: step.after for step in planned.steps if isinstance(step, WriteContext)}
    for spec in declaration.present:
        if spec.tls and spec.name in written and None not in written[spec.name].tls.values():
            # What this needs would delay a run that changes nothing by tens of milliseconds.
            from .._docker.transport import check_files

            try:
                check_files(TlsFiles(**spec.tls))
            except FarmError as exc:
                raise FarmError(f"context {spec.name!r}: {exc.message}") from exc
