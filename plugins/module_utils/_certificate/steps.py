# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The steps that issue and repair certificates; each leaves a state that a later run continues from.

None can be undone, and none has to be: whatever was issued until a failure is whole and stays in use.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import List, Optional, Tuple

from .._core.files import write_together
from .._core.plan import Step
from . import x509
from .model import Leaf

PRIVATE, PUBLIC = 0o600, 0o644


@dataclass(frozen=True)
class Issuer:
    """The CA that signs.

    :ivar pem: the content of ``ca.pem``: its certificate, and those of the CAs that it replaces.
    :ivar key: its private key in PEM; empty where nothing is to be signed.
    :ivar passphrase: of the key; empty for none.
    """

    pem: bytes
    key: bytes = field(repr=False)
    passphrase: str = field(repr=False)


@dataclass
class Issuance:
    """What steps of one run hand on.

    :ivar made: the CA that a step has made; None while there is none, or where the CA stays.
    """

    made: Optional[Issuer] = None

    def issuer(self, known: Optional[Issuer]) -> Issuer:
        """Return the CA that signs: the one that was known when the plan was made, else the one made since."""
        found = known or self.made
        if found is None:
            raise RuntimeError("a plan makes the CA before it issues anything by it")
        return found


@dataclass(frozen=True)
class NarrowKeyMode(Step[Issuance]):
    """Take a private key from others than its owner."""

    path: Path

    @property
    def action(self) -> List[str]:
        return [f"set mode 0600 of {self.path}"]

    def apply(self, world: Issuance) -> None:
        """Change the mode, and nothing else of the file."""
        self.path.chmod(PRIVATE)


@dataclass(frozen=True)
class WriteAuthority(Step[Issuance]):
    """Write ``ca.pem`` with certificates that are known.

    :ivar others: the CAs that are trusted beside the one that issues.
    :ivar content: None where it cannot be known without the cryptography library, which carrying it out needs.
    """

    path: Path
    reason: str
    others: Tuple[x509.Certificate, ...]
    content: Optional[bytes]

    @property
    def action(self) -> List[str]:
        return [f"write CA {self.path}: {self.reason}"]

    def apply(self, world: Issuance) -> None:
        """Write the file; the CA's key stays."""
        write_together([(self.path, self.content or b"", PUBLIC)])


@dataclass(frozen=True)
class IssueAuthority(Step[Issuance]):
    """Make the CA's certificate, with a new key or with the one that is there.

    :ivar name: its common name, unless it continues a ``previous`` one.
    :ivar key: the private key that stays; None for a new one.
    :ivar passphrase: of the key as it is, or of the new one.
    :ivar previous: the certificate that a renewal continues.
    :ivar others: the CAs that are trusted beside it, those that it replaces.
    """

    path: Path
    key_path: Path
    reason: str
    name: str
    validity: timedelta
    key_type: str
    key: Optional[bytes] = field(repr=False)
    passphrase: str = field(repr=False)
    previous: Optional[x509.Certificate] = None
    others: Tuple[x509.Certificate, ...] = ()

    @property
    def action(self) -> List[str]:
        return [f"issue CA {self.path}: {self.reason}"]

    def apply(self, world: Issuance) -> None:
        """Make and write the CA, in an order by which the next run finds the key of each CA."""
        key = x509.new_key(self.key_type, self.passphrase) if self.key is None else self.key
        end = datetime.now(timezone.utc) + self.validity
        pem = x509.issue_authority(key, self.name, end, self.previous, self.passphrase) + x509.bundle(self.others)
        certificate, private = (self.path, pem, PUBLIC), (self.key_path, key, PRIVATE)
        if self.key is not None:
            files = [certificate]
        elif self.others:
            files = [certificate, private]
        else:
            self.path.unlink(missing_ok=True)
            files = [private, certificate]
        for file in files:
            write_together([file])
        world.made = Issuer(pem, key, self.passphrase)


@dataclass(frozen=True)
class ReencryptKey(Step[Issuance]):
    """Write the CA's key under another passphrase; an empty one stands for none."""

    path: Path
    reason: str
    key: bytes = field(repr=False)
    passphrase: str = field(repr=False)
    new_passphrase: str = field(repr=False)

    @property
    def action(self) -> List[str]:
        return [f"rewrite {self.path}: {self.reason}"]

    def apply(self, world: Issuance) -> None:
        """Write the key's file."""
        key = x509.reencrypt_key(self.key, self.passphrase, self.new_passphrase)
        write_together([(self.path, key, PRIVATE)])


@dataclass(frozen=True)
class IssueLeaf(Step[Issuance]):
    """Issue a server's or a client's certificate with a new key.

    :ivar directory: where its three files are.
    :ivar sans: what it is to name.
    :ivar issuer: None for the CA that a step before this one makes.
    :ivar chain: the certificates between its own and the root, which go along with it.
    """

    leaf: Leaf
    directory: Path
    reason: str
    sans: Tuple[str, ...]
    validity: timedelta
    key_type: str
    issuer: Optional[Issuer]
    chain: bytes

    @property
    def action(self) -> List[str]:
        return [f"issue {self.leaf}: {self.reason}"]

    def apply(self, world: Issuance) -> None:
        """Write key, certificate and the CA's certificates together."""
        issuer = world.issuer(self.issuer)
        key = x509.new_key(self.key_type)
        end = datetime.now(timezone.utc) + self.validity
        ca, server = x509.read_certificate(issuer.pem), self.leaf.is_server
        cert = x509.issue(ca, issuer.key, key, self.leaf.name, self.sans, server, end, issuer.passphrase)
        _make_directory(self.directory)
        write_together(
            [
                (self.directory / "ca.pem", issuer.pem, PUBLIC),
                (self.directory / "key.pem", key, PRIVATE),
                (self.directory / "cert.pem", cert + self.chain, PUBLIC),
            ]
        )


@dataclass(frozen=True)
class CopyAuthority(Step[Issuance]):
    """Write the copy of ``ca.pem`` that lies beside a certificate which stays.

    :ivar issuer: None for the CA that a step before this one makes.
    """

    leaf: Leaf
    directory: Path
    issuer: Optional[Issuer]

    @property
    def action(self) -> List[str]:
        return [f"copy the CA's certificate to {self.leaf}"]

    def apply(self, world: Issuance) -> None:
        """Write the copy."""
        _make_directory(self.directory)
        write_together([(self.directory / "ca.pem", world.issuer(self.issuer).pem, PUBLIC)])


def _make_directory(directory: Path) -> None:
    for made in (directory.parent, directory):
        made.mkdir(mode=0o700, exist_ok=True)
