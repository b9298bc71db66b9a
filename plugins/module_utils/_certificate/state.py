# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The farm's certificates as found in one directory on the controller.

The directory holds ``ca.pem`` and ``ca-key.pem``, and under ``servers/NAME`` and ``clients/NAME`` the files ``ca.pem``,
``cert.pem`` and ``key.pem``: docker's own names, so that a client's directory can be used as ``DOCKER_CERT_PATH``.
The first certificate in ``ca.pem`` is that of the CA that issues; while it replaces another one, that one's follows.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Mapping, Optional

from .._core.errors import FarmError
from .._core.files import read_bytes
from .declaration import Declaration
from .model import Leaf


@dataclass(frozen=True)
class Pair:
    """A certificate and its private key as found, beside the copy of what the CA's file holds.

    :ivar ca: the copy of ``ca.pem``; the CA itself has none.
    :ivar key_mode: permission bits of the key's file, None if it is missing.
    :ivar held: whether it is on the engine, certificate and key, and not here.
    """

    cert_path: Path
    key_path: Path
    ca: Optional[bytes]
    cert: Optional[bytes]
    key: Optional[bytes] = field(repr=False)
    key_mode: Optional[int]
    held: bool = False

    @property
    def directory(self) -> Path:
        """Where it lies."""
        return self.cert_path.parent

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
    :ivar now: when it was read, in UTC.
    """

    ca: Pair
    leaves: Mapping[Leaf, Pair]
    given_ca: Optional[bytes]
    now: datetime

    @property
    def empty(self) -> bool:
        """Whether there is nothing that would need the cryptography library to be judged."""
        nothing = self.ca.cert is None and (self.ca.key is None or self.given_ca is not None)
        return nothing and all(pair.missing for pair in self.leaves.values())


def read_state(declaration: Declaration) -> State:
    """Read what there is of the declared certificates.

    :raises FarmError: the CA from outside is not there.
    :raises OSError: a file exists and cannot be read.
    """
    source = declaration.given_ca
    given = declaration.given_pem if source is None else read_bytes(source)
    if source is not None and given is None:
        raise FarmError(f"ca_cert {source}: no such file on this host; wanted the CA's certificate in PEM")
    ca = _read_pair(declaration.directory / "ca.pem", declaration.ca_key)
    if declaration.key_pem is not None:
        ca = replace(ca, key=declaration.key_pem, key_mode=None)
    return State(
        ca=ca,
        leaves={leaf: _read_leaf(leaf, declaration) for leaf in declaration.leaves},
        given_ca=given,
        now=datetime.now(timezone.utc),
    )


def _read_leaf(leaf: Leaf, declaration: Declaration) -> Pair:
    directory = declaration.directory / leaf.kind / leaf.name
    pair = _read_pair(directory / "cert.pem", directory / "key.pem", directory / "ca.pem")
    held = declaration.held.get(leaf.name) if leaf.is_server else None
    return replace(pair, cert=held, held=True) if pair.missing and held else pair


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
