# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What has to be issued, and why: the steps from what there is of the farm's certificates to what is declared."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Dict, Mapping, Optional, Tuple

from .._core.errors import FarmError
from . import x509
from .authority import MISSING, ROTATION, Authority, age, judge
from .model import KINDS, Declaration, Leaf, Pair, State, sans


@dataclass(frozen=True)
class Plan:
    """What has to be done, and why.

    :ivar ca: the CA as it is to be.
    :ivar leaves: the certificates to issue, each with the reason.
    :ivar copies: those whose copy of ``ca.pem`` alone is to be written.
    :ivar exposed: those whose key's permissions are to be narrowed.
    """

    ca: Authority
    leaves: Mapping[Leaf, str]
    copies: Tuple[Leaf, ...] = ()
    exposed: Tuple[Pair, ...] = ()

    def actions(self, state: State) -> Tuple[Tuple[str, ...], ...]:
        """Return what is to be done, for people."""
        verb = "issue" if self.ca.issuer is None and state.given_ca is None else "write"
        issue = [] if self.ca.reason is None else [f"{verb} CA {state.ca.cert_path}: {self.ca.reason}"]
        issue += [] if self.ca.encrypt is None else [f"rewrite {state.ca.key_path}: {self.ca.encrypt}"]
        issue += [f"issue {leaf}: {why}" for leaf, why in self.leaves.items()]
        copy = [f"copy the CA's certificate to {leaf}" for leaf in self.copies]
        narrow = [f"set mode 0600 of {pair.key_path}" for pair in self.exposed]
        return tuple((action,) for action in (*narrow, *issue, *copy))


def plan(state: State, declared: Declaration, now: datetime) -> Plan:
    """Decide what has to be issued.

    :raises FarmError: the CA cannot be used.
    """
    if state.empty and (state.given_ca is None or not x509.installed()):
        return Plan(Authority(MISSING, new_key=state.given_ca is None), dict.fromkeys(declared.leaves, MISSING))
    x509.require_library()
    ca = judge(state, declared, now)
    issue: Dict[Leaf, str] = {}
    for leaf, pair in state.leaves.items():
        why = _judge_leaf(leaf, pair, ca, declared, now)
        if why:
            issue[leaf] = why
    _check_key(state, ca, issue)
    _check_constraints(state, ca, issue)
    kept = {leaf: pair for leaf, pair in state.leaves.items() if leaf not in issue}
    trusted = bundle(state, ca)
    own_key = [state.ca] if declared.given_ca is None and not ca.new_key else []
    return Plan(
        ca=ca,
        leaves=issue,
        copies=tuple(leaf for leaf, pair in kept.items() if trusted is None or pair.ca != trusted),
        exposed=tuple(pair for pair in (*own_key, *kept.values()) if pair.exposed),
    )


def bundle(state: State, ca: Authority) -> Optional[bytes]:
    """Return what ``ca.pem`` is to hold, None where the CA's certificate is still to be made."""
    if ca.reason is None:
        return state.ca.cert
    return None if ca.issuer is None else x509.bundle((ca.issuer, *ca.others))


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
        if issuer.purposes and not (issuer.servers if leaf.kind == "servers" else issuer.clients):
            wanted = "serverAuth" if leaf.kind == "servers" else "clientAuth"
            raise FarmError(
                f"{subject}: its extended key usage lacks {wanted}, so it cannot issue {leaf}; wanted another"
            )
        names = () if leaf.kind == "clients" else wanted_names(leaf, state.leaves[leaf])
        forbidden = [name for name in names if not issuer.permits(name)]
        if forbidden:
            raise FarmError(
                f"{subject}: its name constraints do not permit {', '.join(forbidden)}, so that nobody would take "
                f"{leaf}; wanted names that it permits, or another CA"
            )


def _judge_leaf(leaf: Leaf, pair: Pair, ca: Authority, declared: Declaration, now: datetime) -> Optional[str]:
    """Say why a certificate is to be issued, None if it stays."""
    if pair.missing:
        return MISSING
    if declared.rotate in ("certificates", "all"):
        return ROTATION
    if pair.cert is None or pair.key is None:
        return f"its {'certificate' if pair.cert is None else 'key'} is missing"
    try:
        found, public_key = x509.read_certificate(pair.cert), x509.public_key(pair.key)
    except ValueError:
        return "it cannot be read"
    if found.problem or found.public_key != public_key:
        return found.problem or "its key does not match"
    signer = next((one for one in ca.signers(leaf.kind, declared.rotate) if found.signed_by(one)), None)
    if signer is None:
        return "it is not signed by the CA" if ca.issuer else "the CA is issued anew"
    if not (found.servers if leaf.kind == "servers" else found.clients):
        return f"it is not for a {KINDS[leaf.kind]}"
    if found.sans != wanted_names(leaf, pair):
        return f"it names {', '.join(found.sans) or 'nothing'}"
    if found.key_type != declared.key_type:
        return f"its key is {found.key_type}"
    if signer is ca.issuer and not pair.cert.endswith(found.pem + ca.chain):
        return "its chain is not the CA's"
    # What already lives as long as a CA that cannot be renewed here is not improved by issuing it anew.
    if signer is ca.issuer and signer.not_after == found.not_after > now:
        return None
    return age(found, declared, now)
