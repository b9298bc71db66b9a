# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The certificate authority (CA) that issues the farm's certificates: what is to become of it, and why.

A CA is replaced without downtime in three stages, as an engine takes its TLS files only when it starts:

1. ``ca_begin``: the new CA is trusted beside the old one and issues the servers' certificates; clients keep theirs.
   Once every client trusts both, each engine gets both CAs and its new certificate in one restart.
2. ``ca_clients``: once every engine trusts both, the clients' certificates are issued by the new CA.
3. ``ca_end``: once every client has those, the old CA is no longer trusted: a second restart of each engine.

``ca.pem`` shows the stage: while it holds more than one certificate, a replacement is under way.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Optional, Sequence, Tuple

from .._core.errors import FarmError
from . import x509
from .declaration import Declaration
from .model import iso
from .state import Pair, State

ROTATIONS = ("none", "certificates", "all", "ca_begin", "ca_clients", "ca_end")
MISSING, ROTATION = "missing", "rotation is requested"
_ADVICE = "put back what belongs there, or begin a new CA with rotate=all"


@dataclass(frozen=True)
class Authority:
    """The CA as it is to be.

    :ivar reason: why ``ca.pem`` is to be written, None if it stays.
    :ivar issuer: the CA that issues, None where its certificate is still to be made.
    :ivar new_key: whether it is to be made with a new key.
    :ivar previous: the certificate that a renewal continues.
    :ivar others: the CAs that are trusted beside it, those that it replaces.
    :ivar chain: those between the issuer and its root, the issuer among them; none for a root.
    :ivar reencrypt: why the key is to have another passphrase or none, None if it stays.
    :ivar passphrase: what opens the key as found.
    :ivar warnings: sentences for the user.
    """

    reason: Optional[str] = None
    issuer: Optional[x509.Certificate] = None
    new_key: bool = False
    previous: Optional[x509.Certificate] = None
    others: Tuple[x509.Certificate, ...] = ()
    chain: bytes = b""
    reencrypt: Optional[str] = None
    passphrase: str = field(default="", repr=False)
    warnings: Tuple[str, ...] = ()

    def signers(self, kind: str, rotate: str) -> Tuple[x509.Certificate, ...]:
        """Return the CAs whose certificates of a kind (``servers``, ``clients``) stay."""
        issuer = () if self.issuer is None else (self.issuer,)
        keep_old = rotate == "none" or (rotate == "ca_begin" and kind == "clients")
        return (*issuer, *self.others) if keep_old else issuer


def refuse_accident(declaration: Declaration, state: State) -> None:
    """Refuse a CA that is new to the engines and that nobody has asked for: theirs is only elsewhere, or lost.

    :raises FarmError: it would be made, or begun with; what is there and what to do.
    """
    if state.given_ca is not None:
        asked = declaration.rotate != "none"
    else:
        asked = declaration.rotate == "all" and declaration.create_ca
    if asked or state.ca.cert is not None:
        return
    trusted = {name: _subjects(pem) for name, pem in declaration.trusted.items()}
    shown = "; ".join(
        f"{', '.join(name for name, found in trusted.items() if found == subjects)}: {' and '.join(subjects)}"
        for subjects in dict.fromkeys(trusted.values())
    )
    if state.given_ca is not None:
        given = _subjects(state.given_ca)[:1]
        if trusted and given and not any(given[0] in found for found in trusted.values()):
            raise FarmError(
                f"the CA that is given, {given[0]}, is not the one that engines trust ({shown}); nothing was changed."
                " Give the farm's, or let the playbook rotate_certificates bring all engines this one"
            )
    elif state.ca.key is None and (trusted or not declaration.create_ca):
        found = f"engines trust one that is not here ({shown})" if trusted else "none is to be made here"
        raise FarmError(
            f"CA {state.ca.cert_path}: missing, and {found}; nothing was changed. Give the farm's CA, certificate and"
            " key (with the roles, listener_authority_cert and listener_authority_key), or, for what issues no"
            " certificates, that of a client (farm_certificate), or the directory that has the CA"
            " (listener_directory); if it is lost, the playbook new_authority brings engines another one"
        )


def _subjects(pem: bytes) -> Tuple[str, ...]:
    """Return what tells people and programs CAs apart, one text for each; none where that cannot be known."""
    try:
        found = x509.read_certificates(pem) if x509.installed() else ()
    except ValueError:
        return ()
    return tuple(f"{one.parsed.subject.rfc4514_string()} (SHA-256 {one.fingerprint})" for one in found)


def decide(declaration: Declaration, state: State) -> Authority:
    """Decide what is to become of the CA.

    :raises FarmError: what is there cannot be used; it is never replaced unless that is requested.
    """
    if state.given_ca is not None:
        return _decide_given(state.given_ca, state.ca, declaration, state.now)
    if declaration.rotate == "all":
        return Authority(ROTATION, new_key=True)
    if state.ca.cert is None:
        _public, passphrase = _open_key(state.ca, declaration)
        new_key = state.ca.key is None
        reencrypt = None if new_key else _reencryption_reason(state.ca, declaration, passphrase)
        return Authority(MISSING, new_key=new_key, reencrypt=reencrypt, passphrase=passphrase)
    return _decide_own(state.ca, _trusted(state.ca), declaration, state.now)


def _decide_own(
    pair: Pair, trusted: Tuple[x509.Certificate, ...], declaration: Declaration, now: datetime
) -> Authority:
    current, others = trusted[0], trusted[1:]
    if declaration.rotate == "ca_begin" and not others:
        return Authority(ROTATION, new_key=True, others=(current,))
    public_key, passphrase = _open_key(pair, declaration)
    if public_key is not None and public_key != current.public_key:
        if public_key not in [other.public_key for other in others]:
            raise FarmError(f"CA {pair.cert_path}: {pair.key_path} is not its key; {_ADVICE}")
        # ca.pem is written before the key, so nothing has been issued by the CA whose key was lost.
        return Authority("its key is missing, a run was interrupted", new_key=True, others=others)
    reencrypt = _reencryption_reason(pair, declaration, passphrase)
    ending = declaration.rotate == "ca_end" and bool(others)
    others = () if ending else others
    expiry = expiry_reason(current, declaration.renew_before, now)
    if expiry and current.self_signed:
        return Authority(expiry, previous=current, others=others, reencrypt=reencrypt, passphrase=passphrase)
    return Authority(
        reason="the CA that it replaces is no longer trusted" if ending else None,
        issuer=current,
        others=others,
        reencrypt=reencrypt,
        passphrase=passphrase,
        warnings=_check_expiry(f"CA {pair.cert_path}", current, expiry, now),
    )


def _decide_given(text: bytes, pair: Pair, declaration: Declaration, now: datetime) -> Authority:
    subject = f"ca_cert {declaration.given_ca}" if declaration.given_ca else "ca_cert_pem"
    try:
        given, *rest = x509.read_certificates(text)
    except ValueError as exc:
        raise FarmError(
            f"{subject}: {exc}; wanted the CA's certificate in PEM, then those that lead to its root"
        ) from exc
    if not given.authority:
        raise FarmError(f"{subject}: the first certificate is not a CA's; wanted that of the CA that issues first")
    _check_usable(subject, (given, *rest), "wanted a CA that they take")
    public_key, passphrase = _open_key(pair, declaration)
    if public_key not in (None, given.public_key):
        raise FarmError(f"{subject}: ca_key {pair.key_path} is not its key; wanted the key of the first certificate")
    reason: Optional[str] = MISSING
    others: Tuple[x509.Certificate, ...] = ()
    if pair.cert is not None:
        current, *old = _trusted(pair)
        if current.pem == given.pem:
            ending = declaration.rotate == "ca_end" and bool(old)
            reason = "the CA that it replaces is no longer trusted" if ending else None
            others = () if ending else tuple(old)
        else:
            reason = "another CA is given"
            # The same CA with a new certificate needs no transition, and so does not end one.
            same = (current.public_key, current.parsed.subject) == (given.public_key, given.parsed.subject)
            others = tuple(old) if same else (current, *old) if declaration.rotate == "ca_begin" else ()
    chain = [] if given.self_signed else [given, *(one for one in rest if not one.self_signed)]
    return Authority(
        reason=reason,
        issuer=given,
        others=others,
        chain=x509.bundle(chain),
        passphrase=passphrase,
        warnings=_check_expiry(subject, given, expiry_reason(given, declaration.renew_before, now), now),
    )


def _trusted(pair: Pair) -> Tuple[x509.Certificate, ...]:
    """Return what ``ca.pem`` holds.

    :raises FarmError: something else than CAs.
    """
    try:
        trusted = x509.read_certificates(pair.cert or b"")
    except ValueError as exc:
        raise FarmError(f"CA {pair.cert_path}: not a certificate in PEM ({exc}); {_ADVICE}") from exc
    if not all(one.authority for one in trusted):
        raise FarmError(f"CA {pair.cert_path}: the certificate is not a CA's; {_ADVICE}")
    _check_usable(f"CA {pair.cert_path}", trusted, _ADVICE)
    return trusted


def _check_usable(subject: str, authorities: Sequence[x509.Certificate], advice: str) -> None:
    """Check that docker and engines take what they trust.

    :raises FarmError: they do not.
    """
    for problem in filter(None, (one.problem for one in authorities)):
        raise FarmError(f"{subject}: engines and docker, which are Go programs, refuse it: {problem}; {advice}")


def _open_key(pair: Pair, declaration: Declaration) -> Tuple[Optional[bytes], str]:
    """Return the public key, None where it cannot be known, and the passphrase of the private one.

    :raises FarmError: it is no key, or has another passphrase than those given.
    """
    if pair.key is None:
        return None, ""
    known = [text for text in (declaration.passphrase, declaration.previous_passphrase) if text]
    locked: Optional[ValueError] = None
    for passphrase in known or [""]:
        try:
            return x509.public_key(pair.key, passphrase), passphrase if x509.encrypted(pair.key) else ""
        except x509.LockedError as exc:
            locked = exc
        except ValueError as exc:
            raise FarmError(f"CA {pair.key_path}: not a private key that can be used ({exc}); {_ADVICE}") from exc
    if known:
        raise FarmError(
            f"CA {pair.key_path}: it is encrypted, and neither ca_passphrase nor ca_previous_passphrase opens it; give "
            "the passphrase that it has in one of them, or replace the CA with the playbook rotate_certificates"
        ) from locked
    return None, ""


def _reencryption_reason(pair: Pair, declaration: Declaration, passphrase: str) -> Optional[str]:
    """Return why the key is to have another passphrase or none, None if it stays.

    :param passphrase: what opens it.
    :raises FarmError: it is to have no passphrase, and the one that it has was not given.
    """
    if pair.key is None or declaration.passphrase is None:
        return None
    if declaration.passphrase == passphrase:
        if not passphrase and x509.encrypted(pair.key):
            raise FarmError(
                f"CA {pair.key_path}: it is encrypted, and ca_passphrase is empty; to remove the passphrase, give the "
                "one that it has in ca_previous_passphrase"
            )
        return None
    if not declaration.passphrase:
        return "no passphrase is wanted"
    return "the passphrase is another one" if passphrase else "a passphrase is wanted"


def expiry_reason(found: x509.Certificate, renew_before: timedelta, now: datetime) -> Optional[str]:
    """Return why a certificate is to be renewed by now, None while it is not."""
    if found.not_after <= now:
        return f"it expired {iso(found.not_after)}"
    # The clock was wrong when it was issued.
    if found.not_before > now:
        return f"it is not valid before {iso(found.not_before)}"
    if found.not_after - now < renew_before:
        return f"it expires {iso(found.not_after)}"
    return None


def _check_expiry(subject: str, ca: x509.Certificate, expiry: Optional[str], now: datetime) -> Tuple[str, ...]:
    """Return warnings about a CA that cannot be renewed here, since it is another's.

    :raises FarmError: it has expired.
    """
    if not expiry:
        return ()
    advice = "give the certificate that replaces it"
    if ca.not_after <= now:
        raise FarmError(f"{subject}: {expiry}; {advice}, with the playbook rotate_certificates if it has another key")
    return (f"{subject}: {expiry}, and what it issues expires with it; {advice}",)
