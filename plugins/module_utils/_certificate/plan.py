# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What has to be issued, and why: the steps from what there is of the farm's certificates to what is declaration."""

from __future__ import annotations

from typing import Any, Dict, Iterator, Mapping, Optional, Tuple

from .._core.errors import FarmError
from .._core.plan import Plan, Step
from . import x509
from .authority import MISSING, ROTATION, Authority, decide, expiry_reason, refuse_accident
from .declaration import Declaration
from .model import KINDS, Leaf, sans
from .state import Pair, State
from .steps import (
    PRIVATE,
    CopyAuthority,
    Issuance,
    IssueAuthority,
    IssueLeaf,
    Issuer,
    NarrowKeyMode,
    ReencryptKey,
    WriteAuthority,
)

_VALID = "valid"


def plan(declaration: Declaration, state: State) -> Plan[Issuance]:
    """Decide what has to be issued.

    :raises FarmError: the CA cannot be used.
    """
    refuse_accident(declaration, state)
    if state.empty and (state.given_ca is None or not x509.installed()):
        ca = Authority(MISSING, new_key=state.given_ca is None)
        issue = dict.fromkeys(declaration.leaves, MISSING)
    else:
        x509.require_library()
        ca = decide(declaration, state)
        judged = ((leaf, _reason(leaf, pair, ca, declaration, state)) for leaf, pair in state.leaves.items())
        issue = {leaf: reason for leaf, reason in judged if reason is not None}
        _check_key(state, ca, issue)
        _check_constraints(state, ca, issue)
    return Plan(
        before=_before(state, ca, issue),
        after=_after(state, ca, issue),
        steps=tuple(_steps(declaration, state, ca, issue)),
        warnings=ca.warnings,
    )


def _steps(
    declaration: Declaration, state: State, ca: Authority, issue: Mapping[Leaf, str]
) -> Iterator[Step[Issuance]]:
    """Yield the steps: keys are taken from others first, and the CA is there before it issues."""
    remaining = {leaf: pair for leaf, pair in state.leaves.items() if leaf not in issue and not pair.held}
    own_key = [state.ca] if not declaration.is_given and not ca.new_key else []
    for pair in (*own_key, *remaining.values()):
        if pair.exposed:
            yield NarrowKeyMode(pair.key_path)
    yield from _authority_steps(declaration, state, ca)
    trusted = _trusted(state, ca)
    issuer = None if trusted is None else Issuer(trusted, state.ca.key or b"", ca.passphrase)
    for leaf, reason in issue.items():
        pair = state.leaves[leaf]
        names = wanted_names(leaf, pair)
        validity, key_type = declaration.validity_of(leaf), declaration.key_type
        yield IssueLeaf(leaf, pair.directory, reason, names, validity, key_type, issuer, ca.chain)
    for leaf, pair in remaining.items():
        if trusted is None or pair.ca != trusted:
            yield CopyAuthority(leaf, pair.directory, issuer)


def _authority_steps(declaration: Declaration, state: State, ca: Authority) -> Iterator[Step[Issuance]]:
    found = state.ca
    if ca.reason is not None and (ca.issuer is not None or state.given_ca is not None):
        yield WriteAuthority(found.cert_path, ca.reason, ca.others, _trusted(state, ca))
    elif ca.reason is not None:
        yield IssueAuthority(
            path=found.cert_path,
            key_path=found.key_path,
            reason=ca.reason,
            name=declaration.ca_name,
            validity=declaration.ca_validity,
            key_type=declaration.key_type,
            key=None if ca.new_key else found.key,
            passphrase=(declaration.passphrase or "") if ca.new_key else ca.passphrase,
            previous=ca.previous,
            others=ca.others,
        )
    if ca.reencrypt is not None:
        wanted = declaration.passphrase or ""
        yield ReencryptKey(found.key_path, ca.reencrypt, found.key or b"", ca.passphrase, wanted)


def _trusted(state: State, ca: Authority) -> Optional[bytes]:
    """Return what ``ca.pem`` is to hold, None where the CA's certificate is still to be made."""
    if ca.reason is None:
        return state.ca.cert
    return None if ca.issuer is None else x509.bundle((ca.issuer, *ca.others))


def _before(state: State, ca: Authority, issue: Mapping[Leaf, str]) -> Dict[str, Any]:
    """Return what there is, for the diff; what is to be issued is shown with the reason."""
    shown: Dict[str, Any] = {"ca": None, "servers": {}, "clients": {}}
    if not state.ca.missing:
        shown["ca"] = {"certificate": ca.reason or _VALID, **_shown_key(state, state.ca.key_mode)}
    for leaf, pair in state.leaves.items():
        found: Optional[Dict[str, Any]] = None
        if not pair.missing:
            found = {"certificate": issue.get(leaf, _VALID), "key_mode": _octal(pair.key_mode)}
            found.update({"sans": list(found_names(pair))} if leaf.is_server else {})
            found["ca"] = "current" if pair.ca == state.ca.cert or pair.held else "other"
        shown[leaf.kind][leaf.name] = found
    return shown


def _after(state: State, ca: Authority, issue: Mapping[Leaf, str]) -> Dict[str, Any]:
    """Return what there is to be, for the diff."""
    shown: Dict[str, Any] = {"servers": {}, "clients": {}}
    shown["ca"] = {"certificate": _VALID, **_shown_key(state, _mode_after(state.ca, ca.new_key))}
    if ca.reencrypt and state.given_ca is None:
        shown["ca"]["key"] = f"rewritten, {ca.reencrypt}"
    for leaf, pair in state.leaves.items():
        wanted: Dict[str, Any] = {"certificate": _VALID, "key_mode": _octal(_mode_after(pair, leaf in issue))}
        wanted.update({"sans": list(wanted_names(leaf, pair))} if leaf.is_server else {})
        shown[leaf.kind][leaf.name] = {**wanted, "ca": "current"}
    return shown


def _shown_key(state: State, mode: Optional[int]) -> Dict[str, Any]:
    """Return what a diff shows of the CA's key; nothing of one that is another's affair."""
    if state.given_ca is not None:
        return {}
    encrypted = state.ca.key is not None and x509.encrypted(state.ca.key)
    return {"key_mode": _octal(mode), "key": "encrypted" if encrypted else "not encrypted"}


def _mode_after(pair: Pair, new_key: bool) -> Optional[int]:
    if pair.held and not new_key:
        return None
    return PRIVATE if new_key or pair.exposed or pair.key_mode is None else pair.key_mode


def _octal(mode: Optional[int]) -> Optional[str]:
    return None if mode is None else f"{mode:04o}"


def wanted_names(leaf: Leaf, pair: Pair) -> Tuple[str, ...]:
    """Return what a certificate is to name: as declared, or as it is where that is left open."""
    return sans([leaf.name, *found_names(pair)]) if leaf.sans is None else leaf.sans


def found_names(pair: Pair) -> Tuple[str, ...]:
    """Return what a certificate names, nothing where it cannot be read."""
    try:
        return () if pair.cert is None else x509.read_certificate(pair.cert).sans
    except ValueError:
        return ()


def _check_key(state: State, ca: Authority, issue: Mapping[Leaf, str]) -> None:
    """Check that what is to be issued can be signed.

    :raises FarmError: the CA's key is missing or encrypted.
    """
    if ca.new_key or not (issue or ca.issuer is None):
        return
    locked = state.ca.key is not None and x509.encrypted(state.ca.key) and not ca.passphrase
    if state.ca.key is None or locked:
        needed = "{} is to be issued ({})".format(*next(iter(issue.items()))) if ca.issuer else "it is to be renewed"
        remedy = "give its passphrase in ca_passphrase" if locked else "put the key back"
        raise FarmError(
            f"CA {state.ca.cert_path}: its key {state.ca.key_path} is {'encrypted' if locked else 'missing'}, and "
            f"{needed}; {remedy}, or begin a new CA with the playbook rotate_certificates (or rotate=all)"
        )


def _check_constraints(state: State, ca: Authority, issue: Mapping[Leaf, str]) -> None:
    """Check that the CA may issue what is to be issued, as nobody would take that otherwise.

    :raises FarmError: its extended key usage or its name constraints forbid it.
    """
    issuer = ca.issuer
    if issuer is None:
        return
    subject = f"CA {state.ca.cert_path}" if state.given_ca is None else "ca_cert"
    for leaf in issue:
        if issuer.purposes and not (issuer.servers if leaf.is_server else issuer.clients):
            wanted = "serverAuth" if leaf.is_server else "clientAuth"
            raise FarmError(
                f"{subject}: its extended key usage lacks {wanted}, so it cannot issue {leaf}; wanted another"
            )
        names = wanted_names(leaf, state.leaves[leaf]) if leaf.is_server else ()
        forbidden = [name for name in names if not issuer.permits(name)]
        if forbidden:
            raise FarmError(
                f"{subject}: its name constraints do not permit {', '.join(forbidden)}, so that nobody would take "
                f"{leaf}; wanted names that it permits, or another CA"
            )


def _reason(leaf: Leaf, pair: Pair, ca: Authority, declaration: Declaration, state: State) -> Optional[str]:
    """Return why a certificate is to be issued, None if it stays."""
    if pair.missing:
        return MISSING
    if declaration.rotate in ("certificates", "all"):
        return ROTATION
    if pair.cert is None or (pair.key is None and not pair.held):
        return f"its {'certificate' if pair.cert is None else 'key'} is missing"
    try:
        found = x509.read_certificate(pair.cert)
        public_key = found.public_key if pair.key is None else x509.public_key(pair.key)
    except ValueError:
        return "it cannot be read"
    if found.problem or found.public_key != public_key:
        return found.problem or "its key does not match"
    signer = next((one for one in ca.signers(leaf.kind, declaration.rotate) if found.signed_by(one)), None)
    if signer is None:
        return "it is not signed by the CA" if ca.issuer else "the CA is issued anew"
    if not (found.servers if leaf.is_server else found.clients):
        return f"it is not for a {KINDS[leaf.kind]}"
    if found.sans != wanted_names(leaf, pair):
        return f"it names {', '.join(found.sans) or 'nothing'}"
    if found.key_type != declaration.key_type:
        return f"its key is {found.key_type}"
    if signer is ca.issuer and not pair.cert.endswith(found.pem + ca.chain):
        return "its chain is not the CA's"
    # What already lives as long as a CA that cannot be renewed here is not improved by issuing it anew.
    if signer is ca.issuer and signer.not_after == found.not_after > state.now >= found.not_before:
        return None
    return expiry_reason(found, declaration.renewal_of(leaf), state.now)
