# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Certificates by kind and name, as a declaration names them and as they are read back."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Optional, Sequence, Tuple

from .._core.errors import FarmError

_LABELS = re.compile(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?\Z", re.IGNORECASE)
#: The kinds of certificates, which are directories too, with what one of each is for.
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

    @property
    def is_server(self) -> bool:
        """Whether it is a server's."""
        return self.kind == "servers"

    def __str__(self) -> str:
        return f"{KINDS[self.kind]} {self.name!r}"


def is_name(text: str) -> bool:
    """Return whether a text can stand in a certificate as a host name."""
    return bool(_LABELS.match(text))


def checked_name(name: str) -> str:
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
            checked_name(name[2:] if name.startswith("*.") else name)
        found.add(address or name.lower())
    return tuple(sorted(found))


def _address(text: str) -> Optional[str]:
    try:
        # A zone (fe80::1%eth0) cannot stand in a certificate.
        return None if "%" in text else str(ipaddress.ip_address(text))
    except ValueError:
        return None


def iso(moment: datetime) -> str:
    """Return a moment in UTC as results show it (ISO 8601)."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
