# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Certificates for tests: those that are in order, and with openssl those that break a rule of X.509."""

from __future__ import annotations

import datetime
import ipaddress
import shlex
import subprocess
from pathlib import Path
from typing import Any, Optional, Sequence, Tuple

#: A certificate and its key, both PEM.
Pair = Tuple[bytes, bytes]
EC = "ec -pkeyopt ec_paramgen_curve:P-256"
CA = "-addext basicConstraints=critical,CA:TRUE"


def issue(
    name: str,
    issuer: Optional[Pair] = None,
    days: float = 1,
    since: float = -2,
    named: bool = True,
    usage: Any = None,
    names: Optional[Sequence[str]] = None,
    authority: Optional[bool] = None,
    key: Optional[bytes] = None,
    passphrase: str = "",
) -> Pair:
    """Issue a certificate, of an authority where no issuer is given.

    :param days: from now, of its end.
    :param since: from now, of its beginning.
    :param named: with subject alternative names: its common name, and 127.0.0.1.
    :param usage: an extended key usage: ``server``, ``client``, or the identifier of one.
    :param names: its subject alternative names, instead.
    :param authority: whether it may issue others.
    :param key: of the certificate, a new one if left out.
    :param passphrase: of its key as it is returned; empty for none.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    private: Any = serialization.load_pem_private_key(key, None) if key else ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.timezone.utc)
    is_authority = issuer is None if authority is None else authority
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(x509.load_pem_x509_certificate(issuer[0]).subject if issuer else subject)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + datetime.timedelta(days=min(since, days - 1)))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
    )
    listed = ([name, "127.0.0.1"] if named else []) if names is None else names
    if listed:
        builder = builder.add_extension(x509.SubjectAlternativeName([_name(text) for text in listed]), critical=False)
    if usage:
        purposes = x509.ExtendedKeyUsageOID
        kind = {"server": purposes.SERVER_AUTH, "client": purposes.CLIENT_AUTH}.get(usage, usage)
        builder = builder.add_extension(x509.ExtendedKeyUsage([kind]), critical=False)
    signer: Any = serialization.load_pem_private_key(issuer[1], None) if issuer else private
    pem = serialization.Encoding.PEM
    locked = serialization.BestAvailableEncryption(passphrase.encode()) if passphrase else serialization.NoEncryption()
    return (
        builder.sign(signer, hashes.SHA256()).public_bytes(pem),
        private.private_bytes(pem, serialization.PrivateFormat.PKCS8, locked),
    )


def _name(text: str) -> Any:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def made_by_openssl(
    folder: Path, options: str, key: str = EC, name: str = "node1", issuer: Optional[Pair] = None, days: int = 9
) -> Pair:
    """Make a certificate of OpenSSL's options, with none of the extensions that it adds by itself.

    :param folder: is made where it is missing; takes the files, the certificate as ``cert.pem``, its key as
        ``key.pem``.
    :param key: kind of the key, as ``-newkey`` takes it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "openssl.cnf").write_text("[req]\ndistinguished_name = name\n[name]\n")
    command = f"openssl req -x509 -config openssl.cnf -newkey {key} -nodes -days {days} -subj /CN={name}"
    if issuer:
        for file, content in zip(("issuer.pem", "issuer-key.pem"), issuer):
            (folder / file).write_bytes(content)
        command += " -CA issuer.pem -CAkey issuer-key.pem"
    argv = shlex.split(f"{command} -out cert.pem -keyout key.pem {options}")
    subprocess.run(argv, cwd=folder, check=True, capture_output=True, timeout=60)
    return (folder / "cert.pem").read_bytes(), (folder / "key.pem").read_bytes()
