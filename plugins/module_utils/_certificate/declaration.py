# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the task declares: the CA, the certificates that it is to issue, and how long they are to be valid."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Dict, Mapping, Optional, Sequence, Tuple

from .._core.environment import expanded
from .._core.errors import FarmError
from .model import Leaf, checked_name, sans

#: For longer nobody means it, and dates of certificates end in the year 9999.
LONGEST_DAYS = 36500


@dataclass(frozen=True)
class Declaration:
    """What the task declares.

    :ivar given_ca: file with the certificate of a CA from outside and those that lead to its root, None for an own CA
        and for one that is given as text.
    :ivar given_pem: the text of such a file, None where there is one.
    :ivar ca_key: file with the CA's key.
    :ivar key_pem: the key itself, None where there is a file.
    :ivar create_ca: whether an own CA is made where there is none.
    :ivar client_validity: of clients' certificates.
    :ivar held: what engines have: the text of the server's certificate, by its name.
    :ivar trusted: what engines trust: the text of the CAs' certificates, by the server's name.
    :ivar rotate: what is to be issued anew whatever its state, one of ``authority.ROTATIONS``.
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
    passphrase: Optional[str] = field(default=None, repr=False)
    previous_passphrase: str = field(default="", repr=False)
    given_pem: Optional[bytes] = None
    key_pem: Optional[bytes] = field(default=None, repr=False)
    create_ca: bool = True
    client_validity: Optional[timedelta] = None
    held: Mapping[str, bytes] = field(default_factory=dict)
    trusted: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def is_given(self) -> bool:
        """Whether the CA is one from outside."""
        return self.given_ca is not None or self.given_pem is not None

    def validity_of(self, leaf: Leaf) -> timedelta:
        """Return for how long a certificate is issued."""
        return self.validity if leaf.is_server else self.client_validity or self.validity

    def renewal_of(self, leaf: Leaf) -> timedelta:
        """Return how long before its end a certificate is issued anew."""
        if leaf.is_server or self.client_validity is None:
            return self.renew_before
        return min(self.renew_before, self.client_validity / 2)

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> Declaration:
        """Read the module's parameters.

        :raises FarmError: a name cannot stand in a certificate or is declared twice, or options contradict each other.
        """
        leaves = [_server(server["name"], server.get("sans")) for server in params["servers"] or []]
        leaves += [Leaf("clients", checked_name(name)) for name in params["clients"] or []]
        _check_once(leaves)
        _check_options(params)
        directory, days = _path(params["directory"]), params.get("client_validity_days")
        return cls(
            directory=directory,
            leaves=tuple(leaves),
            ca_name=params["ca_common_name"],
            ca_validity=timedelta(days=params["ca_validity_days"]),
            validity=timedelta(days=params["validity_days"]),
            renew_before=timedelta(days=params["renew_before_days"]),
            key_type=params["key_type"],
            ca_key=_key_path(params, directory),
            rotate=params["rotate"],
            given_ca=_path(params["ca_cert"]) if params["ca_cert"] else None,
            passphrase=params["ca_passphrase"],
            previous_passphrase=params["ca_previous_passphrase"] or "",
            given_pem=_text(params.get("ca_cert_pem")),
            key_pem=_text(params.get("ca_key_pem")),
            create_ca=params.get("create_ca", True),
            client_validity=None if days is None else timedelta(days=days),
            held=_texts(params, "certificate"),
            trusted=_texts(params, "ca"),
        )


def _server(name: str, further: Optional[Sequence[str]]) -> Leaf:
    return Leaf("servers", checked_name(name), None if further is None else sans([name, *further]))


def _path(text: str) -> Path:
    return Path(expanded(text))


def _key_path(params: Mapping[str, Any], directory: Path) -> Path:
    """Return where the CA's key is, for one that is given as text its option's name."""
    if params.get("ca_key_pem"):
        return Path("ca_key_pem")
    return _path(params["ca_key"]) if params["ca_key"] else directory / "ca-key.pem"


def _text(pem: Optional[str]) -> Optional[bytes]:
    return pem.encode() if pem else None


def _texts(params: Mapping[str, Any], option: str) -> Dict[str, bytes]:
    """Return what is said of the servers' engines."""
    return {server["name"]: server[option].encode() for server in params["servers"] or [] if server.get(option)}


def _check_once(leaves: Sequence[Leaf]) -> None:
    """Check that no certificate is declared twice.

    :raises FarmError: one is.
    """
    repeated = [name for name, times in Counter(map(str, leaves)).items() if times > 1]
    if repeated:
        raise FarmError(f"declared more than once: {', '.join(repeated)}; wanted one entry with all its names in sans")


def _check_options(params: Mapping[str, Any]) -> None:
    """Check that options fit together.

    :raises FarmError: they contradict each other.
    """
    for option in ("validity_days", "ca_validity_days"):
        if not 0 <= params["renew_before_days"] < params[option]:
            raise FarmError(
                f"renew_before_days is {params['renew_before_days']}, {option} is {params[option]}: each run would "
                f"issue anew; wanted renew_before_days between 0 and less than {option}"
            )
    for option in ("validity_days", "ca_validity_days", "client_validity_days"):
        if (params.get(option) or 0) > LONGEST_DAYS:
            raise FarmError(f"{option} is {params[option]}; wanted {LONGEST_DAYS}, a hundred years, at most")
    days = params.get("client_validity_days")
    if days is not None and days < 1:
        raise FarmError(f"client_validity_days is {days}; wanted 1 or more")
    given = [option for option in ("ca_cert", "ca_cert_pem") if params.get(option)]
    keys = [option for option in ("ca_key", "ca_key_pem") if params.get(option)]
    if len(given) > 1 or len(keys) > 1 or len(given) != len(keys):
        found = ", ".join((*given, *keys))
        raise FarmError(
            f"found {found}; wanted the certificate of a CA from outside in one of ca_cert and ca_cert_pem, and its key"
            " in one of ca_key and ca_key_pem"
        )
    if given and params["rotate"] == "all":
        raise FarmError(
            f"rotate=all makes a new CA, and {given[0]} gives one; wanted rotate=certificates, or the new CA in it"
        )
