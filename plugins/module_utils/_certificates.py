# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Issues and renews the farm's certificates: the logic of module ``docker_certificates``."""

from __future__ import annotations

import contextlib
import fcntl
import os
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Dict, Iterator, Optional, Tuple

from . import _x509
from ._certificate_plan import Declaration, Pair, Plan, State, declare, iso, plan, read
from ._errors import FarmError
from ._files import write_together
from ._plan import Outcome
from ._runner import Runner

_PRIVATE, _PUBLIC = 0o600, 0o644
_VALID = "valid"


def certificates(params: Dict[str, Any], check_mode: bool, runner: Runner) -> Outcome:
    """Run module ``docker_certificates``.

    :raises FarmError: the declaration is wrong, the CA on disk cannot be used, or a file cannot be read or written.
    """
    declared = declare(params)
    try:
        if check_mode:
            return _predict(declared)[0]
        _x509.require_library()
        with _locked(declared.directory):
            return _fulfil(declared)
    except OSError as exc:
        raise FarmError(
            f"certificates: {exc.filename or declared.directory}: {exc.strerror}; "
            "what was issued until then is whole, and a new run continues"
        ) from exc


def _predict(declared: Declaration) -> Tuple[Outcome, State, Plan]:
    state = read(declared)
    steps = plan(state, declared, datetime.now(timezone.utc))
    outcome = Outcome(
        before=_shown(state, steps, declared, after=False),
        after=_shown(state, steps, declared, after=True),
        actions=steps.actions(state),
        values=_values(state, steps, declared),
    )
    return outcome, state, steps


def _fulfil(declared: Declaration) -> Outcome:
    outcome, state, steps = _predict(declared)
    if not outcome.changed:
        return outcome
    _apply(state, steps, declared)
    reached, _state, _steps = _predict(replace(declared, rotate="none"))
    if reached.changed:
        left = "; ".join(action for (action,) in reached.actions)
        raise FarmError(
            f"certificates in {declared.directory} are not as issued ({left}); does something else write there?"
        )
    return replace(outcome, values=reached.values)


def _apply(state: State, steps: Plan, declared: Declaration) -> None:
    """Do what is planned; each step leaves a state that the next run continues from.

    :raises OSError: a file cannot be written.
    """
    now = datetime.now(timezone.utc)
    for pair in steps.exposed:
        pair.key_path.chmod(_PRIVATE)
    ca_key, ca_pem = state.ca.key or b"", state.ca.cert or b""
    if steps.ca is not None:
        previous = None if steps.new_ca_key or state.ca.cert is None else _x509.read_certificate(state.ca.cert)
        if steps.new_ca_key:
            # A key without certificate is continued from, a certificate with another's key is an error.
            state.ca.cert_path.unlink(missing_ok=True)
            ca_key = _x509.new_key()
            write_together([(state.ca.key_path, ca_key, _PRIVATE)])
        ca_pem = _x509.issue_authority(ca_key, declared.ca_name, now + declared.ca_validity, previous)
        write_together([(state.ca.cert_path, ca_pem, _PUBLIC)])
    ca = _x509.read_certificate(ca_pem)
    for leaf in (*steps.leaves, *steps.copies):
        directory = state.leaves[leaf].cert_path.parent
        for made in (directory.parent, directory):
            made.mkdir(mode=0o700, exist_ok=True)
        files = [(directory / "ca.pem", ca_pem, _PUBLIC)]
        if leaf in steps.leaves:
            key = _x509.new_key()
            server = leaf.kind == "servers"
            cert = _x509.issue(ca, ca_key, key, leaf.name, leaf.sans, server, now + declared.validity)
            files += [(directory / "key.pem", key, _PRIVATE), (directory / "cert.pem", cert, _PUBLIC)]
        write_together(files)


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Keep other runs for the same directory waiting, so that no two CAs are made."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    directory.mkdir(mode=0o700, exist_ok=True)
    handle = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _shown(state: State, steps: Plan, declared: Declaration, after: bool) -> Dict[str, Any]:
    """Return one side of the diff."""
    shown: Dict[str, Any] = {
        "ca": _shown_pair(state.ca, steps.ca, steps.new_ca_key, steps, after),
        "servers": {},
        "clients": {},
    }
    for leaf, pair in state.leaves.items():
        reason = steps.leaves.get(leaf)
        entry = _shown_pair(pair, reason, reason is not None, steps, after)
        if entry is not None:
            if leaf.kind == "servers":
                entry["sans"] = list(leaf.sans if after or reason is None else _found_sans(pair))
            entry["ca"] = "current" if after or pair.ca == state.ca.cert else "other"
        shown[leaf.kind][leaf.name] = entry
    return shown


def _shown_pair(pair: Pair, reason: Optional[str], new_key: bool, steps: Plan, after: bool) -> Optional[Dict[str, Any]]:
    if not after:
        mode = None if pair.key_mode is None else f"{pair.key_mode:04o}"
        return None if pair.missing else {"certificate": reason or _VALID, "key_mode": mode}
    narrowed = new_key or pair.exposed or pair.key_mode is None
    return {"certificate": _VALID, "key_mode": f"{_PRIVATE if narrowed else pair.key_mode:04o}"}


def _found_sans(pair: Pair) -> Tuple[str, ...]:
    try:
        return _x509.read_certificate(pair.cert or b"").sans
    except ValueError:
        return ()


def _values(state: State, steps: Plan, declared: Declaration) -> Dict[str, Any]:
    """Return the module's values; what is yet to be issued is None."""
    values: Dict[str, Any] = {
        "ca": {"path": str(state.ca.cert_path), **_public(state.ca, steps.ca is None, "pem")},
        "servers": {},
        "clients": {},
    }
    for leaf, pair in state.leaves.items():
        entry: Dict[str, Any] = {
            "cert_path": str(pair.cert_path),
            "key_path": str(pair.key_path),
            "ca_path": str(pair.cert_path.parent / "ca.pem"),
            **_public(pair, leaf not in steps.leaves, "certificate"),
        }
        if leaf.kind == "servers":
            entry["sans"] = list(leaf.sans)
        values[leaf.kind][leaf.name] = entry
    return values


def _public(pair: Pair, known: bool, key: str) -> Dict[str, Optional[str]]:
    if not known or pair.cert is None:
        return {key: None, "not_after": None, "fingerprint": None}
    found = _x509.read_certificate(pair.cert)
    return {key: pair.cert.decode(), "not_after": iso(found.not_after), "fingerprint": found.fingerprint}
