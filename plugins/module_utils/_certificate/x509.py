# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Certificates: reading, checking and issuing them with the cryptography library (3.3 and later).

What is issued satisfies Go's verifier of every Docker since 19.03, and OpenSSL's strict mode (RFC 5280 profiles).
"""

from __future__ import annotations

import functools
import ipaddress
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any, Iterable, Optional, Sequence, Tuple

from .._core.errors import missing_library
from .._docker import go_x509

try:
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
except ImportError as exc:
    _MISSING: Optional[ImportError] = exc
else:
    _MISSING = None

#: How far a certificate's validity begins in the past, for hosts whose clocks are late.
BACKDATE = timedelta(hours=1)
#: The longest common name that X.520 allows, in characters.
_LONGEST_NAME = 64
#: What keys are made of. Ed25519 is left out: Docker built with Go before 1.13, 19.03 at first, does not know it.
KEY_TYPES = ("ecdsa-p256", "ecdsa-p384", "rsa-2048", "rsa-3072", "rsa-4096")
_CURVES = {"secp256r1": "ecdsa-p256", "secp384r1": "ecdsa-p384", "secp521r1": "ecdsa-p521"}


class LockedError(ValueError):
    """A key has a passphrase that was not given."""


@dataclass(frozen=True)
class Certificate:
    """What is known of a certificate.

    :ivar pem: nothing but its own lines.
    :ivar self_signed: whether it is its own issuer, as a root is.
    :ivar sans: DNS names in lower case and IP addresses, sorted.
    :ivar servers: whether it is for servers.
    :ivar clients: whether it is for clients.
    :ivar purposes: whether it, or what it issues, is for those purposes only that it names.
    :ivar problem: why Go's programs refuse it, None if they do not.
    :ivar public_key: DER, to compare.
    :ivar key_type: one of ``KEY_TYPES``, or another name in that style.
    :ivar fingerprint: SHA-256 of its DER form, as ``openssl x509 -fingerprint -sha256`` writes it.
    """

    pem: bytes
    not_after: datetime
    sans: Tuple[str, ...]
    authority: bool
    self_signed: bool
    servers: bool
    clients: bool
    purposes: bool
    problem: Optional[str]
    public_key: bytes
    key_type: str
    fingerprint: str
    parsed: Any = field(repr=False, compare=False)

    @property
    def not_before(self) -> datetime:
        """When it begins to be valid."""
        # cryptography 42 added the aware form and deprecated the naive one.
        aware: Optional[datetime] = getattr(self.parsed, "not_valid_before_utc", None)
        found: datetime = aware or self.parsed.not_valid_before.replace(tzinfo=timezone.utc)
        return found

    def signed_by(self, ca: Certificate) -> bool:
        """Return whether a CA, or its predecessor with the same name and key, issued this certificate."""
        key, signed = ca.parsed.public_key(), self.parsed
        if signed.issuer != ca.parsed.subject:
            return False
        try:
            if isinstance(key, rsa.RSAPublicKey):
                scheme = padding.PKCS1v15()
                key.verify(signed.signature, signed.tbs_certificate_bytes, scheme, signed.signature_hash_algorithm)
            elif isinstance(key, ec.EllipticCurvePublicKey):
                key.verify(signed.signature, signed.tbs_certificate_bytes, ec.ECDSA(signed.signature_hash_algorithm))
            else:
                return False
        except InvalidSignature:
            return False
        return True

    def permits(self, name: str) -> bool:
        """Return whether a CA may issue a certificate for a host's name or address (RFC 5280, section 4.2.1.10)."""
        constraints = _extension(self.parsed, x509.NameConstraints)
        if constraints is None:
            return True
        wanted = _san(name)
        permitted, excluded = (
            [one for one in subtrees or () if isinstance(one, type(wanted))]
            for subtrees in (constraints.permitted_subtrees, constraints.excluded_subtrees)
        )
        return not any(_within(wanted, one) for one in excluded) and (
            not permitted or any(_within(wanted, one) for one in permitted)
        )


def installed() -> bool:
    """Return whether the library cryptography can be imported."""
    return _MISSING is None


def require_library() -> None:
    """Check that cryptography is installed; call it before any other function here.

    :raises FarmError: it is not.
    """
    if _MISSING is not None:
        raise missing_library("cryptography", _MISSING)


def read_certificates(pem: bytes) -> Tuple[Certificate, ...]:
    """Read all certificates of a PEM text; there is at least one.

    :raises ValueError: there is none, or one cannot be read.
    """
    found = go_x509.PEM.findall(pem)
    if not found:
        raise ValueError("found no PEM certificate")
    return tuple(_read(text + b"\n") for text in found)


def read_certificate(pem: bytes) -> Certificate:
    """Read the first certificate of a PEM text.

    :raises ValueError: there is none, or it cannot be read.
    """
    found = go_x509.PEM.search(pem)
    if not found:
        raise ValueError("found no PEM certificate")
    return _read(found.group() + b"\n")


@functools.lru_cache(maxsize=None)  # Each step of a task uses the certificate.
def _read(pem: bytes) -> Certificate:
    parsed = x509.load_pem_x509_certificate(pem)
    usage = _extension(parsed, x509.ExtendedKeyUsage) or ()
    constraints = _extension(parsed, x509.BasicConstraints)
    key = parsed.public_key()
    authority = bool(constraints and constraints.ca)
    (der,) = go_x509.certificates(pem)
    return Certificate(
        pem=pem,
        not_after=_not_after(parsed),
        sans=_sans(parsed),
        authority=authority,
        self_signed=parsed.issuer == parsed.subject,
        servers=ExtendedKeyUsageOID.SERVER_AUTH in usage,
        clients=ExtendedKeyUsageOID.CLIENT_AUTH in usage,
        purposes=bool(usage) and ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE not in usage,
        problem=go_x509.problem(der, shown=not authority),
        public_key=_der(key),
        key_type=_key_type(key),
        fingerprint=go_x509.fingerprint(der),
        parsed=parsed,
    )


def bundle(certificates: Iterable[Certificate]) -> bytes:
    """Return certificates as one PEM text."""
    return b"".join(certificate.pem for certificate in certificates)


def encrypted(key_pem: bytes) -> bool:
    """Return whether a private key has a passphrase: PKCS #8 or OpenSSL's older form (RFC 7468, RFC 1421)."""
    return b"-----BEGIN ENCRYPTED PRIVATE KEY-----" in key_pem or b"Proc-Type: 4,ENCRYPTED" in key_pem


def public_key(key_pem: bytes, passphrase: str = "") -> bytes:
    """Return the public key, DER, of a private one.

    :raises LockedError: it has a passphrase, and not this one.
    :raises ValueError: it is no elliptic curve or RSA key in PEM.
    """
    return _der(_load_key(key_pem, passphrase).public_key())


def new_key(key_type: str = KEY_TYPES[0], passphrase: str = "") -> bytes:
    """Return a new private key in PEM.

    :param key_type: one of ``KEY_TYPES``.
    :param passphrase: to encrypt it with; empty for none.
    """
    kind, _dash, size = key_type.partition("-")
    if kind == "rsa":
        return _private_pem(rsa.generate_private_key(public_exponent=65537, key_size=int(size)), passphrase)
    return _private_pem(ec.generate_private_key(ec.SECP384R1() if size == "p384" else ec.SECP256R1()), passphrase)


def reencrypt_key(key_pem: bytes, passphrase: str, new_passphrase: str) -> bytes:
    """Return the same private key in PEM under another passphrase; an empty one stands for none.

    :raises ValueError: as ``public_key``.
    """
    return _private_pem(_load_key(key_pem, passphrase), new_passphrase)


def _private_pem(key: Any, passphrase: str) -> bytes:
    algorithm: Any = serialization.NoEncryption()
    if passphrase:
        algorithm = serialization.BestAvailableEncryption(passphrase.encode())
    pem: bytes = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, algorithm)
    return pem


def _key_type(key: Any) -> str:
    if isinstance(key, rsa.RSAPublicKey):
        return f"rsa-{key.key_size}"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return _CURVES.get(key.curve.name, f"ecdsa-{key.curve.name}")
    return "neither ecdsa nor rsa"


def issue_authority(
    key_pem: bytes, name: str, not_after: datetime, previous: Optional[Certificate] = None, passphrase: str = ""
) -> bytes:
    """Return a CA's self-signed certificate in PEM.

    :param passphrase: the key's.
    :param name: its common name.
    :param previous: the certificate it replaces; the new one has its subject, so that with the same key what it signed
        stays valid.
    """
    key = _load_key(key_pem, passphrase)
    subject = previous.parsed.subject if previous else _name(name)
    builder = _builder(subject, subject, key.public_key(), not_after)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_key_usage(authority=True), critical=True)
    return _signed(builder, key)


def issue(
    ca: Certificate,
    ca_key_pem: bytes,
    key_pem: bytes,
    name: str,
    sans: Sequence[str],
    server: bool,
    not_after: datetime,
    passphrase: str = "",
) -> bytes:
    """Return a certificate signed by the CA, in PEM; it does not outlive the CA.

    :param passphrase: the CA's key's.
    :param sans: DNS names and IP addresses; a server's must name it.
    :param server: for servers, otherwise for clients.
    """
    ca_key, key = _load_key(ca_key_pem, passphrase), _load_key(key_pem)
    usage = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
    builder = _builder(_name(name), ca.parsed.subject, key.public_key(), min(not_after, ca.not_after))
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_key_usage(authority=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    builder = builder.add_extension(issuer, critical=False)
    if sans:
        builder = builder.add_extension(x509.SubjectAlternativeName([_san(text) for text in sans]), critical=False)
    return _signed(builder, ca_key)


def _signed(builder: Any, key: Any) -> bytes:
    pem: bytes = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    return pem


def _builder(subject: Any, issuer: Any, key: Any, not_after: datetime) -> Any:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.now(timezone.utc) - BACKDATE)
        .not_valid_after(not_after)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _key_usage(authority: bool) -> Any:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _name(text: str) -> Any:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:_LONGEST_NAME])])


def _san(text: str) -> Any:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _within(name: Any, subtree: Any) -> bool:
    """Return whether a name lies in a subtree of the same type; a DNS one holds what ends with its labels."""
    if isinstance(name, x509.IPAddress):
        return name.value in subtree.value
    return subtree.value == "" or f".{name.value}".lower().endswith(f".{subtree.value.lstrip('.')}".lower())


def _sans(parsed: Any) -> Tuple[str, ...]:
    names = _extension(parsed, x509.SubjectAlternativeName)
    if names is None:
        return ()
    found = [name.lower() for name in names.get_values_for_type(x509.DNSName)]
    found += [str(address) for address in names.get_values_for_type(x509.IPAddress)]
    return tuple(sorted(found))


def _extension(parsed: Any, kind: Any) -> Any:
    try:
        return parsed.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _not_after(parsed: Any) -> datetime:
    # cryptography 42 added the aware form and deprecated the naive one.
    aware: Optional[datetime] = getattr(parsed, "not_valid_after_utc", None)
    return aware or parsed.not_valid_after.replace(tzinfo=timezone.utc)


def _der(key: Any) -> bytes:
    der: bytes = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return der


def _load_key(pem: bytes, passphrase: str = "") -> Any:
    locked = encrypted(pem)
    try:
        key = serialization.load_pem_private_key(pem, password=passphrase.encode() if locked and passphrase else None)
    except TypeError as exc:
        raise LockedError("it is encrypted, and no passphrase is given") from exc
    except UnsupportedAlgorithm as exc:
        raise ValueError(str(exc)) from exc
    except ValueError as exc:
        if not locked:
            raise
        # A wrong passphrase and a damaged encrypted key cause the same error.
        raise LockedError("the passphrase given does not open it") from exc
    if not isinstance(key, (ec.EllipticCurvePrivateKey, rsa.RSAPrivateKey)):
        raise ValueError("neither an elliptic curve key nor an RSA key")
    return key
