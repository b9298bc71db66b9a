# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Issues and renews the farm's certificates: the logic of module ``docker_certificates``."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, Iterator, Mapping, Optional

from .._core.errors import FarmError
from .._core.lock import LockTimeout, locked
from .._core.outcome import Outcome
from .._core.plan import Plan
from .._core.runner import Runner
from . import x509
from .authority import refuse_accident
from .declaration import Declaration
from .model import iso
from .plan import plan, wanted_names
from .state import State, read_state
from .steps import Issuance, IssueAuthority, IssueLeaf, WriteAuthority

#: Seconds to wait for another run with the same directory: RSA keys for a large farm take minutes.
_LOCK_TIMEOUT = 600.0


def run(params: Mapping[str, Any], check_mode: bool, runner: Runner) -> Outcome:
    """Run module ``docker_certificates``.

    :raises FarmError: the declaration is wrong, the CA on disk cannot be used, or a file cannot be read or written.
    """
    declaration = Declaration.from_params(params)
    try:
        if check_mode:
            state = read_state(declaration)
            changes = plan(declaration, state)
            return changes.outcome(**_values(state, changes))
        x509.require_library()
        # Before a directory is made to be locked.
        refuse_accident(declaration, read_state(declaration))
        with _directory_locked(declaration.directory):
            return _converge(declaration)
    except OSError as exc:
        raise FarmError(
            f"certificates: {exc.filename or declaration.directory}: {exc.strerror}; "
            "what was issued until then is whole, and a new run continues"
        ) from exc


def _converge(declaration: Declaration) -> Outcome:
    """Issue what is to be issued, and check that nothing is left to do.

    :raises FarmError: something is.
    """
    state = read_state(declaration)
    changes = plan(declaration, state)
    if not changes.steps:
        return changes.outcome(**_values(state, changes))
    changes.apply(Issuance())
    steady = replace(declaration, rotate="none")
    reached = read_state(steady)
    left = plan(steady, reached)
    if left.steps:
        sentences = "; ".join(" ".join(step.action) for step in left.steps)
        raise FarmError(
            f"certificates in {declaration.directory} are not as issued ({sentences}); does something else write there?"
        )
    return changes.outcome(**_values(reached, left))


@contextlib.contextmanager
def _directory_locked(directory: Path) -> Iterator[None]:
    """Lock the directory against other runs, so that no two CAs are made.

    :raises FarmError: another one has not ended in time.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    directory.mkdir(mode=0o700, exist_ok=True)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(directory, _LOCK_TIMEOUT))
        except LockTimeout as exc:
            raise FarmError(
                f"certificates in {directory}: another process held the directory for {_LOCK_TIMEOUT:g} seconds; wait "
                "for it to end, and run again"
            ) from exc
        yield


def _values(state: State, changes: Plan[Issuance]) -> Dict[str, Any]:
    """Return the module's values; what is yet to be issued is None."""
    authority = next((step for step in changes.steps if isinstance(step, (IssueAuthority, WriteAuthority))), None)
    issued = {step.leaf for step in changes.steps if isinstance(step, IssueLeaf)}
    found = x509.read_certificates(state.ca.cert) if state.ca.cert and authority is None else ()
    others = found[1:] if authority is None else authority.others
    values: Dict[str, Any] = {
        "ca": {
            "path": str(state.ca.cert_path),
            "pem": x509.bundle(found).decode() or None,
            **_public(found[0].pem if found else None),
            "replaces": [other.fingerprint for other in others],
        },
        "servers": {},
        "clients": {},
    }
    for leaf, pair in state.leaves.items():
        entry: Dict[str, Any] = {
            "cert_path": str(pair.cert_path),
            "key_path": str(pair.key_path),
            "ca_path": str(pair.directory / "ca.pem"),
            **_public(None if leaf in issued else pair.cert),
        }
        if leaf.is_server:
            entry["sans"] = list(wanted_names(leaf, pair))
        values[leaf.kind][leaf.name] = entry
    return values


def _public(pem: Optional[bytes]) -> Dict[str, Optional[str]]:
    """Return what a certificate's own values are, all None for one that is yet to be issued."""
    if pem is None:
        return {"certificate": None, "not_after": None, "fingerprint": None}
    found = x509.read_certificate(pem)
    return {"certificate": pem.decode(), "not_after": iso(found.not_after), "fingerprint": found.fingerprint}
