# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The farm's certificates: what is declared, and what there is in one directory on the controller.

The directory holds ``ca.pem`` and ``ca-key.pem``, and under ``servers/NAME`` and ``clients/NAME`` the files ``ca.pem``,
``cert.pem`` and ``key.pem``: docker's own names, so that a client's directory can be used as ``DOCKER_CERT_PATH``.
The first certificate in ``ca.pem`` is that of the CA that issues; while it replaces another one, that one's follows.
"""

from __future__ import annotations

import ipaddress
import re
import stat
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Mapping, Optional, Sequence, Tuple

from .._core.environment import expanded
from .._core.errors import FarmError
from .._core.files import read_bytes

_LABELS = re.compile(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?\Z", re.IGNORECASE)
KINDS = {"servers": "server", "clients": "client"}


@dataclass(frozen=True)
class Leaf:
    """A declared certificate.

    :ivar kind: ``servers`` or ``clients``.
    :ivar sans: normalised and sorted; none for a client, None for whatever the certificate names beside ``name``.
    """

    kind: str
    name: str
    sans: Optional[Tuple[str, ...]] = ()

    def __str__(self) -> str:
        return f"{KINDS[self.kind]} {self.name!r}"


@dataclass(frozen=True)
class Declaration:
    """What the task asks for.

    :ivar given_ca: file with the certificate of a CA from outside and those that lead to its root, None for an own CA.
    :ivar ca_key: file with the CA's key.
    :ivar passphrase: of the CA's key; empty for none, None to leave it as it is.
    :ivar previous_passphrase: what the key may have until now; empty for none.
    """

    directory: Path
    leaves: Tuple[Leaf, ...]
    ca_name: str
    ca_validity: timedelta
    validity: timedelta
    renew_before: timedelta
    key_type: str
    ca_key: Path
    rotate: str = "none"
    given_ca: Optional[Path] = None
    passphrase: Optional[str] = None
    previous_passphrase: str = ""


@dataclass(frozen=True)
class Pair:
    """A certificate and its private key as found, beside the copy of what the CA's file holds.

    :ivar ca: the copy of ``ca.pem``; the CA itself has none.
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
    """The directory's content, as far as it is declared.

    :ivar ca: ``ca.pem``, and the CA's key wherever that is.
    :ivar given_ca: the text of the file with the CA from outside, None for an own CA.
    """

    ca: Pair
    leaves: Mapping[Leaf, Pair]
    given_ca: Optional[bytes] = None

    @property
    def empty(self) -> bool:
        """Whether there is nothing that would need the cryptography library to be judged."""
        nothing = self.ca.cert is None and (self.ca.key is None or self.given_ca is not None)
        return nothing and all(pair.missing for pair in self.leaves.values())


def declare(params: Mapping[str, Any]) -> Declaration:
    """Read the module's parameters.

    :raises FarmError: a name cannot stand in a certificate or is declared twice, or options contradict each other.
    """
    leaves = [_server(server["name"], server.get("sans")) for server in params["servers"] or []]
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
    if params["ca_cert"] and params["rotate"] == "all":
        raise FarmError(
            "rotate=all makes a new CA, and ca_cert gives one; wanted rotate=certificates, or the new CA in ca_cert"
        )
    directory = _path(params["directory"])
    return Declaration(
        directory=directory,
        leaves=tuple(leaves),
        ca_name=params["ca_common_name"],
        ca_validity=timedelta(days=params["ca_validity_days"]),
        validity=timedelta(days=params["validity_days"]),
        renew_before=timedelta(days=params["renew_before_days"]),
        key_type=params["key_type"],
        ca_key=_path(params["ca_key"]) if params["ca_key"] else directory / "ca-key.pem",
        rotate=params["rotate"],
        given_ca=_path(params["ca_cert"]) if params["ca_cert"] else None,
        passphrase=params["ca_passphrase"],
        previous_passphrase=params["ca_previous_passphrase"] or "",
    )


def _server(name: str, further: Optional[Sequence[str]]) -> Leaf:
    return Leaf("servers", _checked(name), None if further is None else sans([name, *further]))


def _path(text: str) -> Path:
    return Path(expanded(text))


def read(declared: Declaration) -> State:
    """Read what there is of the declared certificates.

    :raises FarmError: the CA from outside is not there.
    :raises OSError: a file exists and cannot be read.
    """
    given = None if declared.given_ca is None else read_bytes(declared.given_ca)
    if declared.given_ca is not None and given is None:
        raise FarmError(f"ca_cert {declared.given_ca}: no such file on this host; wanted the CA's certificate in PEM")
    return State(
        ca=_read_pair(declared.directory / "ca.pem", declared.ca_key),
        leaves={leaf: _read_leaf(declared.directory / leaf.kind / leaf.name) for leaf in declared.leaves},
        given_ca=given,
    )


def _read_leaf(directory: Path) -> Pair:
    return _read_pair(directory / "cert.pem", directory / "key.pem", directory / "ca.pem")


def _read_pair(cert_path: Path, key_path: Path, ca_path: Optional[Path] = None) -> Pair:
    key = read_bytes(key_path)
    return Pair(
        cert_path=cert_path,
        key_path=key_path,
        ca=None if ca_path is None else read_bytes(ca_path),
        cert=read_bytes(cert_path),
        key=key,
        key_mode=None if key is None else stat.S_IMODE(key_path.stat().st_mode),
    )


def is_name(text: str) -> bool:
    """Say whether a text can stand in a certificate as a host name."""
    return bool(_LABELS.match(text))


def _checked(name: str) -> str:
    """Return a name that can be a directory's and a certificate's.

    :raises FarmError: it cannot.
    """
    if _address(name) is None and not is_name(name):
        raise FarmError(f"name {name!r}: wanted a host name (letters, digits, - . _) or an IP address")
    return name


def sans(names: Sequence[str]) -> Tuple[str, ...]:
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
