# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What Go's programs, docker, buildx and the engine among them, refuse in a certificate although OpenSSL takes it.

OpenSSL judges the rest: signatures, dates, purposes, name constraints. Sources, in Go's own tree:

- No name but a subject alternative one counts (Go 1.15), and an address counts only as one of type IP:
  ``crypto/x509/verify.go``, ``VerifyHostname``.
- No negative serial number (Go 1.23), and names of a form that can be read: ``crypto/x509/parser.go``.
- No signature with SHA-1 (Go 1.18), MD5, or what Go does not know: ``crypto/x509/x509.go``, ``checkSignature``.
- An authority says that it is one, except in version 1: the same, ``CheckSignatureFrom``.
- RSA keys of 1024 bits or more (Go 1.24, ``crypto/rsa``), and of 8192 or less where a server shows them (Go 1.20.7,
  ``crypto/tls/handshake_client.go``); elliptic curves P-256, P-384 and P-521; Ed25519 (Go 1.13).

Programs that are built with the settings of an older Go (GODEBUG) do without the limits of 1.23 and 1.24, Debian's
docker for one. All of a farm's programs are to take a certificate, and so the newest counts.

The DER form (X.690) is read with the standard library alone, as nodes have nothing else.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
import ssl
from dataclasses import dataclass
from typing import Iterator, List, Mapping, Optional, Tuple

#: A certificate in a PEM text (RFC 7468).
PEM = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)

# Object identifiers, in DER.
_ALTERNATIVE_NAMES = bytes.fromhex("551d11")
_BASIC_CONSTRAINTS = bytes.fromhex("551d13")
_RSA = bytes.fromhex("2a864886f70d010101")
_ELLIPTIC = bytes.fromhex("2a8648ce3d0201")
_ED25519 = bytes.fromhex("2b6570")
_CURVES = tuple(map(bytes.fromhex, ("2a8648ce3d030107", "2b81040022", "2b81040023")))
#: RSA with SHA-256, SHA-384, SHA-512 and PSS; ECDSA with SHA-256, SHA-384 and SHA-512; Ed25519.
_SIGNATURES = tuple(
    map(
        bytes.fromhex,
        (
            "2a864886f70d01010b",
            "2a864886f70d01010c",
            "2a864886f70d01010d",
            "2a864886f70d01010a",
            "2a8648ce3d040302",
            "2a8648ce3d040303",
            "2a8648ce3d040304",
            "2b6570",
        ),
    )
)
_WEAK = {
    bytes.fromhex("2a864886f70d010104"): "MD5",
    bytes.fromhex("2a864886f70d010105"): "SHA-1",
    bytes.fromhex("2a8648ce3d0401"): "SHA-1",
}
_VERSION, _EXTENSIONS, _BOOLEAN = 0xA0, 0xA3, 0x01
_DNS_NAME, _IP_ADDRESS = 0x82, 0x87


@dataclass(frozen=True)
class _Certificate:
    """The parts of a certificate that are judged (RFC 5280, section 4.1), in DER."""

    version: int
    serial: bytes
    signature: bytes
    issuer: bytes
    subject: bytes
    key: bytes
    extensions: Mapping[bytes, bytes]

    @property
    def names(self) -> Optional[List[Tuple[int, bytes]]]:
        """The subject alternative names with their types, None without that extension."""
        value = self.extensions.get(_ALTERNATIVE_NAMES)
        return None if value is None else list(_elements(_inside(value)))


def certificates(pem: bytes) -> List[bytes]:
    """Return the DER form of each certificate in a PEM text.

    :raises ValueError: one of them is not Base64.
    """
    return [ssl.PEM_cert_to_DER_cert(found.decode("ascii")) for found in PEM.findall(pem)]


def fingerprint(der: bytes) -> str:
    """Return a certificate's SHA-256 fingerprint as ``openssl x509 -fingerprint -sha256`` writes it."""
    return ":".join(f"{byte:02X}" for byte in hashlib.sha256(der).digest())


def server_problem(chain: bytes, ca: bytes) -> Optional[str]:
    """Say why Go's clients would not take a server's certificate, None where they would.

    :param chain: PEM; the server's certificate and those that it shows with it.
    :param ca: PEM; what the clients trust.
    """
    return nameless(certificates(chain)[0]) or chain_problem(chain, ca)


def chain_problem(chain: bytes, ca: bytes) -> Optional[str]:
    """Say what in a certificate, or in those that it depends on, Go refuses; None where there is nothing."""
    shown, trusted = certificates(chain), certificates(ca)
    problems = filter(None, (problem(der, shown=True) for der in shown))
    issuers = {_read(der).issuer for der in shown if der not in trusted}
    authorities = [authority_problem(der) for der in trusted if _read(der).subject in issuers]
    # Go passes over what it refuses: another authority of the same name is enough.
    return next(problems, None) or (authorities[0] if authorities and all(authorities) else None)


def authority_problem(der: bytes) -> Optional[str]:
    """Say why Go trusts nothing that an authority has signed, None where it does."""
    found = _read(der)
    constraints = found.extensions.get(_BASIC_CONSTRAINTS)
    if found.version == 3 and (constraints is None or (_BOOLEAN, b"\xff") not in _elements(_inside(constraints))):
        return "its CA's certificate does not say that it is a CA's (basic constraints)"
    refused = problem(der)
    return refused and f"of its CA's certificate, {refused}"


def nameless(der: bytes) -> Optional[str]:
    """Say why Go's clients find no host in a server's certificate, None where it names one."""
    names = _read(der).names
    if names is None:
        return "it has no subject alternative name, and docker and buildx do not use the common name"
    if any(kind == _IP_ADDRESS or (kind == _DNS_NAME and not _is_address(name)) for kind, name in names):
        return None
    shown = ", ".join(name.decode(errors="replace") for _kind, name in names)
    return f"its subject alternative names ({shown}) are neither host names nor addresses of type IP"


def problem(der: bytes, shown: bool = False) -> Optional[str]:
    """Say why Go refuses a certificate by itself, None where it does not.

    :param shown: it is shown by one side of a connection to the other, and does not stand on its own.
    """
    found = _read(der)
    if found.serial[:1] >= b"\x80":
        return "its serial number is negative"
    for kind, name in found.names or ():
        if kind == _IP_ADDRESS and len(name) not in (4, 16):
            return "it names an address that has neither 4 nor 16 bytes"
        if kind == _DNS_NAME and not name.isascii():
            return "it names a host with letters that are not ASCII"
    # The signature of what is trusted anyway is not verified.
    if shown and found.issuer != found.subject and found.signature not in _SIGNATURES:
        return f"it is signed with {_WEAK.get(found.signature, 'an algorithm that Go does not know')}"
    return _key_problem(found.key, shown)


def _key_problem(key: bytes, shown: bool) -> Optional[str]:
    (_sequence, algorithm), (_string, bits) = _elements(key)
    (_tag, kind), *parameters = _elements(algorithm)
    if kind == _RSA:
        (_integer, modulus), _exponent = _elements(_inside(bits[1:]))
        size = int.from_bytes(modulus, "big").bit_length()
        if size < 1024:
            return f"its RSA key has {size} bits, wanted 1024 or more"
        if shown and size > 8192:
            return f"its RSA key has {size} bits, wanted 8192 or less"
    elif kind == _ELLIPTIC:
        if not parameters or parameters[0][1] not in _CURVES:
            return "its key is of an elliptic curve that is none of P-256, P-384 and P-521"
    elif kind != _ED25519:
        return "its key is neither RSA, nor ECDSA, nor Ed25519"
    return None


def _is_address(name: bytes) -> bool:
    try:
        ipaddress.ip_address(name.decode(errors="replace"))
    except ValueError:
        return False
    return True


def _read(der: bytes) -> _Certificate:
    """Take a certificate apart.

    :raises ValueError: it is not one.
    """
    (_sequence, signed), (_algorithms, algorithm), _signature = _elements(_inside(der))
    fields = list(_elements(signed))
    version = fields.pop(0)[1][-1] + 1 if fields[0][0] == _VERSION else 1
    serial, _algorithm, issuer, _validity, subject, key = (content for _tag, content in fields[:6])
    extensions = {}
    for _tag, content in (field for field in fields[6:] if field[0] == _EXTENSIONS):
        for _sequence, extension in _elements(_inside(content)):
            (_identifier, name), *_critical, (_string, value) = _elements(extension)
            extensions[name] = value
    return _Certificate(version, serial, next(_elements(algorithm))[1], issuer, subject, key, extensions)


def _inside(der: bytes) -> bytes:
    """Return the content of the element that there is.

    :raises ValueError: there is none, or several.
    """
    ((_tag, content),) = _elements(der)
    return content


def _elements(der: bytes) -> Iterator[Tuple[int, bytes]]:
    """Yield tag and content of each element.

    :raises ValueError: one is cut off.
    """
    offset = 0
    while offset < len(der):
        tag, size, offset = der[offset], int.from_bytes(der[offset + 1 : offset + 2], "big"), offset + 2
        if size & 0x80:
            start, offset = offset, offset + (size & 0x7F)
            size = int.from_bytes(der[start:offset], "big")
        if offset + size > len(der):
            raise ValueError("not the DER form of a certificate")
        yield tag, der[offset : offset + size]
        offset += size
