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
from typing import Any, Dict, Iterator, Mapping, Optional, Tuple

from .._core.errors import FarmError
from .._core.files import write_together
from .._core.outcome import Outcome
from .._core.runner import Runner
from . import x509
from .model import Declaration, Leaf, Pair, State, declare, iso, read
from .plan import Plan, bundle, found_names, plan, wanted_names

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
        x509.require_library()
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
        before=_shown(state, steps, after=False),
        after=_shown(state, steps, after=True),
        actions=steps.actions(state),
        values=_values(state, steps),
        warnings=steps.ca.warnings,
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
    if steps.ca.encrypt is not None:
        key = x509.encrypt_anew(state.ca.key or b"", steps.ca.passphrase, declared.passphrase or "")
        write_together([(state.ca.key_path, key, _PRIVATE)])
    ca_pem, ca_key, passphrase = _apply_authority(state, steps, declared, now)
    ca = x509.read_certificate(ca_pem)
    for leaf in (*steps.leaves, *steps.copies):
        pair = state.leaves[leaf]
        directory = pair.cert_path.parent
        for made in (directory.parent, directory):
            made.mkdir(mode=0o700, exist_ok=True)
        files = [(directory / "ca.pem", ca_pem, _PUBLIC)]
        if leaf in steps.leaves:
            key = x509.new_key(declared.key_type)
            server = leaf.kind == "servers"
            end = now + declared.validity
            cert = x509.issue(ca, ca_key, key, leaf.name, wanted_names(leaf, pair), server, end, passphrase)
            files += [(directory / "key.pem", key, _PRIVATE), (directory / "cert.pem", cert + steps.ca.chain, _PUBLIC)]
        write_together(files)


def _apply_authority(state: State, steps: Plan, declared: Declaration, now: datetime) -> Tuple[bytes, bytes, str]:
    """Write the CA as planned; returns the content of ``ca.pem``, and the CA's key with its passphrase.

    :raises OSError: a file cannot be written.
    """
    ca, pair = steps.ca, state.ca
    key, passphrase = pair.key or b"", ca.passphrase
    if ca.new_key:
        passphrase = declared.passphrase or ""
        key = x509.new_key(declared.key_type, passphrase)
    pem = bundle(state, ca)
    if pem is None:
        end = now + declared.ca_validity
        issued = x509.issue_authority(key, declared.ca_name, end, ca.previous, passphrase)
        pem = issued + x509.bundle(ca.others)
    files = [(pair.cert_path, pem, _PUBLIC)] if ca.reason is not None else []
    # Wherever a run is ended, the next one must be able to tell which key belongs to which CA.
    if ca.new_key and ca.others:
        files.append((pair.key_path, key, _PRIVATE))
    elif ca.new_key:
        pair.cert_path.unlink(missing_ok=True)
        files.insert(0, (pair.key_path, key, _PRIVATE))
    for file in files:
        write_together([file])
    return pem, key, passphrase


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


def _shown(state: State, steps: Plan, after: bool) -> Dict[str, Any]:
    """Return one side of the diff."""
    shown: Dict[str, Any] = {"ca": _shown_authority(state, steps, after), "servers": {}, "clients": {}}
    for leaf, pair in state.leaves.items():
        shown[leaf.kind][leaf.name] = _shown_leaf(leaf, pair, state, steps.leaves, after)
    return shown


def _shown_authority(state: State, steps: Plan, after: bool) -> Optional[Dict[str, Any]]:
    ca, pair = steps.ca, state.ca
    shown = _shown_pair(pair, ca.reason, ca.new_key, after)
    if shown is not None and state.given_ca is not None:
        # Its key is another's affair.
        return {"certificate": shown["certificate"]}
    if shown is not None:
        encrypted = pair.key is not None and x509.encrypted(pair.key)
        shown["key"] = "encrypted" if encrypted else "not encrypted"
        if after and ca.encrypt:
            shown["key"] = f"rewritten, {ca.encrypt}"
    return shown


def _shown_leaf(
    leaf: Leaf, pair: Pair, state: State, issue: Mapping[Leaf, str], after: bool
) -> Optional[Dict[str, Any]]:
    reason = issue.get(leaf)
    shown = _shown_pair(pair, reason, reason is not None, after)
    if shown is not None:
        if leaf.kind == "servers":
            shown["sans"] = list(wanted_names(leaf, pair) if after else found_names(pair))
        shown["ca"] = "current" if after or pair.ca == state.ca.cert else "other"
    return shown


def _shown_pair(pair: Pair, reason: Optional[str], new_key: bool, after: bool) -> Optional[Dict[str, Any]]:
    if not after:
        mode = None if pair.key_mode is None else f"{pair.key_mode:04o}"
        return None if pair.missing else {"certificate": reason or _VALID, "key_mode": mode}
    narrowed = new_key or pair.exposed or pair.key_mode is None
    return {"certificate": _VALID, "key_mode": f"{_PRIVATE if narrowed else pair.key_mode:04o}"}


def _values(state: State, steps: Plan) -> Dict[str, Any]:
    """Return the module's values; what is yet to be issued is None."""
    trusted = x509.read_certificates(state.ca.cert) if state.ca.cert and steps.ca.reason is None else ()
    values: Dict[str, Any] = {
        "ca": {
            "path": str(state.ca.cert_path),
            "pem": x509.bundle(trusted).decode() or None,
            **_public(trusted[0].pem if trusted else None),
            "replaces": [other.fingerprint for other in steps.ca.others],
        },
        "servers": {},
        "clients": {},
    }
    for leaf, pair in state.leaves.items():
        entry: Dict[str, Any] = {
            "cert_path": str(pair.cert_path),
            "key_path": str(pair.key_path),
            "ca_path": str(pair.cert_path.parent / "ca.pem"),
            **_public(None if leaf in steps.leaves else pair.cert),
        }
        if leaf.kind == "servers":
            entry["sans"] = list(wanted_names(leaf, pair))
        values[leaf.kind][leaf.name] = entry
    return values


def _public(pem: Optional[bytes]) -> Dict[str, Optional[str]]:
    if pem is None:
        return {"certificate": None, "not_after": None, "fingerprint": None}
    found = x509.read_certificate(pem)
    return {"certificate": pem.decode(), "not_after": iso(found.not_after), "fingerprint": found.fingerprint}
