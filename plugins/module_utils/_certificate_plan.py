# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What has to be issued, and why: the farm's private CA and its certificates, in one directory on the controller.

The directory holds ``ca.pem`` and ``ca-key.pem``, and under ``servers/NAME`` and ``clients/NAME`` the files ``ca.pem``,
``cert.pem`` and ``key.pem``: docker's own names, so that a client's directory can be used as ``DOCKER_CERT_PATH``.
"""

from __future__ import annotations

import ipaddress
import os
import re
import stat
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Dict, Mapping, Optional, Sequence, Tuple

from . import _x509
from ._errors import FarmError
from ._files import read_bytes

_LABELS = re.compile(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?\Z", re.IGNORECASE)
_KINDS = {"servers": "server", "clients": "client"}
_MISSING, _ROTATION = "missing", "rotation is asked for"
_CA_FILES = ("ca.pem", "ca-key.pem")


@dataclass(frozen=True)
class Leaf:
    """A declared certificate.

    :ivar kind: ``servers`` or ``clients``.
    :ivar sans: normalised and sorted; none for a client.
    """

    kind: str
    name: str
    sans: Tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{_KINDS[self.kind]} {self.name!r}"


@dataclass(frozen=True)
class Declaration:
    """What the task asks for."""

    directory: Path
    leaves: Tuple[Leaf, ...]
    ca_name: str
    ca_validity: timedelta
    validity: timedelta
    renew_before: timedelta
    rotate: str = "none"


@dataclass(frozen=True)
class Pair:
    """A certificate and its private key as found, beside the copy of the CA's certificate.

    :ivar ca: the copy of the CA's certificate; the CA itself has none.
    :ivar key_mode: permission bits of the key's file, None if it is missing.
    """

    cert_path: Path
    key_path: Path
    ca: Optional[bytes]
    cert: Optional[bytes]
    key: Optional[bytes]
    key_mode: Optional[int]

    @property
    def missing(self) -> bool:
        """Whether there is neither certificate nor key."""
        return self.cert is None and self.key is None

    @property
    def exposed(self) -> bool:
        """Whether others than its owner may read or write the key."""
        return self.key_mode is not None and bool(self.key_mode & 0o077)


@dataclass(frozen=True)
class State:
    """The directory's content, as far as it is declared."""

    ca: Pair
    leaves: Mapping[Leaf, Pair]

    @property
    def empty(self) -> bool:
        """Whether there is nothing that would need the cryptography library to be judged."""
        return all(pair.missing for pair in (self.ca, *self.leaves.values()))


@dataclass(frozen=True)
class Plan:
    """What has to be done, and why.

    :ivar ca: why the CA's certificate is to be issued, None if it stays.
    :ivar new_ca_key: whether the CA gets a new key too.
    :ivar leaves: the certificates to issue, each with the reason.
    :ivar copies: those whose copy of the CA's certificate alone is to be written.
    :ivar exposed: those whose key's permissions are to be narrowed.
    """

    ca: Optional[str]
    new_ca_key: bool
    leaves: Mapping[Leaf, str]
    copies: Tuple[Leaf, ...]
    exposed: Tuple[Pair, ...]

    def actions(self, state: State) -> Tuple[Tuple[str, ...], ...]:
        """Return what is to be done, for people."""
        issue = [] if self.ca is None else [f"issue CA {state.ca.cert_path}: {self.ca}"]
        issue += [f"issue {leaf}: {why}" for leaf, why in self.leaves.items()]
        copy = [f"copy the CA's certificate to {leaf}" for leaf in self.copies]
        narrow = [f"set mode 0600 of {pair.key_path}" for pair in self.exposed]
        return tuple((action,) for action in (*narrow, *issue, *copy))


def declare(params: Mapping[str, Any]) -> Declaration:
    """Read the module's parameters.

    :raises FarmError: a name cannot stand in a certificate or is declared twice, or the days contradict each other.
    """
    leaves = [
        Leaf("servers", _checked(server["name"]), _sans([server["name"], *(server.get("sans") or [])]))
        for server in params["servers"] or []
    ]
    leaves += [Leaf("clients", _checked(name)) for name in params["clients"] or []]
    repeated = [name for name, times in Counter(map(str, leaves)).items() if times > 1]
    if repeated:
        raise FarmError(f"declared more than once: {', '.join(repeated)}; wanted one entry with all its names in sans")
    for option in ("validity_days", "ca_validity_days"):
        if not 0 <= params["renew_before_days"] < params[option]:
            raise FarmError(
                f"renew_before_days is {params['renew_before_days']}, {option} is {params[option]}: each run would "
                f"issue anew; wanted renew_before_days between 0 and less than {option}"
            )
    return Declaration(
        directory=Path(os.path.abspath(os.path.expanduser(params["directory"]))),
        leaves=tuple(leaves),
        ca_name=params["ca_common_name"],
        ca_validity=timedelta(days=params["ca_validity_days"]),
        validity=timedelta(days=params["validity_days"]),
        renew_before=timedelta(days=params["renew_before_days"]),
        rotate=params["rotate"],
    )


def read(declared: Declaration) -> State:
    """Read what there is of the declared certificates.

    :raises OSError: a file exists and cannot be read.
    """
    return State(
        ca=_read_pair(declared.directory, *_CA_FILES),
        leaves={
            leaf: _read_pair(declared.directory / leaf.kind / leaf.name, "cert.pem", "key.pem", "ca.pem")
            for leaf in declared.leaves
        },
    )


def plan(state: State, declared: Declaration, now: datetime) -> Plan:
    """Decide what has to be issued.

    :raises FarmError: the CA on disk cannot be used; it is never replaced without being asked to.
    """
    if state.empty:
        return Plan(_MISSING, True, dict.fromkeys(declared.leaves, _MISSING), (), ())
    _x509.require_library()
    ca, reason = (None, _ROTATION) if declared.rotate == "all" else _judge_ca(state.ca, declared, now)
    new_ca_key = declared.rotate == "all" or state.ca.missing
    issue: Dict[Leaf, str] = {}
    for leaf, pair in state.leaves.items():
        why = _judge_leaf(leaf, pair, ca, declared, now) or (reason and "the CA is issued anew")
        if why:
            issue[leaf] = why
    if (reason or issue) and state.ca.key is None and not new_ca_key:
        needed = "it is to be renewed" if reason else "{} is to be issued ({})".format(*next(iter(issue.items())))
        raise FarmError(
            f"CA {state.ca.cert_path}: its key {state.ca.key_path} is missing, and {needed}; "
            "put the key back, or begin a new CA with rotate=all"
        )
    kept = {leaf: pair for leaf, pair in state.leaves.items() if leaf not in issue}
    keys = [*kept.values()] if new_ca_key else [state.ca, *kept.values()]
    return Plan(
        ca=reason,
        new_ca_key=new_ca_key,
        leaves=issue,
        copies=tuple(leaf for leaf, pair in kept.items() if pair.ca != state.ca.cert),
        exposed=tuple(pair for pair in keys if pair.exposed),
    )


def _judge_ca(pair: Pair, declared: Declaration, now: datetime) -> Tuple[Optional[_x509.Certificate], Optional[str]]:
    """Return the CA if there is one, and why it is to be issued if it is.

    :raises FarmError: there is something that is not a CA with its key.
    """
    advice = "put back what belongs there, or begin a new CA with rotate=all"
    try:
        public_key = None if pair.key is None else _x509.public_key(pair.key)
    except ValueError as exc:
        raise FarmError(f"CA {pair.key_path}: not a private key that can be used ({exc}); {advice}") from exc
    if pair.cert is None:
        return None, _MISSING
    try:
        ca = _x509.read_certificate(pair.cert)
    except ValueError as exc:
        raise FarmError(f"CA {pair.cert_path}: not a certificate in PEM ({exc}); {advice}") from exc
    if not ca.authority:
        raise FarmError(f"CA {pair.cert_path}: the certificate is not a CA's; {advice}")
    if public_key not in (None, ca.public_key):
        raise FarmError(f"CA {pair.cert_path}: {pair.key_path} is not its key; {advice}")
    return ca, _age(ca, declared, now)


def _judge_leaf(
    leaf: Leaf, pair: Pair, ca: Optional[_x509.Certificate], declared: Declaration, now: datetime
) -> Optional[str]:
    """Say why a certificate is to be issued, None if it stays.

    :param ca: None where a new one signs everything anyway.
    """
    if pair.missing:
        return _MISSING
    if declared.rotate != "none":
        return _ROTATION
    if pair.cert is None or pair.key is None:
        return f"its {'certificate' if pair.cert is None else 'key'} is missing"
    try:
        found, public_key = _x509.read_certificate(pair.cert), _x509.public_key(pair.key)
    except ValueError:
        return "it cannot be read"
    if found.public_key != public_key:
        return "its key does not match"
    if ca is not None and not found.signed_by(ca):
        return "it is not signed by the CA"
    if not (found.servers if leaf.kind == "servers" else found.clients):
        return f"it is not for a {_KINDS[leaf.kind]}"
    if found.sans != leaf.sans:
        return f"it names {', '.join(found.sans) or 'nothing'}"
    return _age(found, declared, now)


def _age(found: _x509.Certificate, declared: Declaration, now: datetime) -> Optional[str]:
    if found.not_after <= now:
        return f"it expired {iso(found.not_after)}"
    if found.not_after - now < declared.renew_before:
        return f"it expires {iso(found.not_after)}"
    return None


def _read_pair(directory: Path, cert: str, key: str, ca: Optional[str] = None) -> Pair:
    key_path = directory / key
    content = read_bytes(key_path)
    return Pair(
        cert_path=directory / cert,
        key_path=key_path,
        ca=None if ca is None else read_bytes(directory / ca),
        cert=read_bytes(directory / cert),
        key=content,
        key_mode=None if content is None else stat.S_IMODE(key_path.stat().st_mode),
    )


def _checked(name: str) -> str:
    """Return a name that can be a directory's and a certificate's.

    :raises FarmError: it cannot.
    """
    if _address(name) is None and not _LABELS.match(name):
        raise FarmError(f"name {name!r}: wanted a host name (letters, digits, - . _) or an IP address")
    return name


def _sans(names: Sequence[str]) -> Tuple[str, ...]:
    """Normalise alternative names as they are read back from a certificate.

    :raises FarmError: one is neither a DNS name nor an IP address.
    """
    found = set()
    for name in names:
        address = _address(name)
        if address is None:
            _checked(name[2:] if name.startswith("*.") else name)
        found.add(address or name.lower())
    return tuple(sorted(found))


def _address(text: str) -> Optional[str]:
    try:
        # A zone (fe80::1%eth0) has no place in a certificate.
        return None if "%" in text else str(ipaddress.ip_address(text))
    except ValueError:
        return None


def iso(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
