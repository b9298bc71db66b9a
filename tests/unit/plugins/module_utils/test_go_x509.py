# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Certificates as OpenSSL makes them. What docker says of the same ones is in the integration tests of endpoints."""

from __future__ import annotations

import re

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker import go_x509 as _go_x509
from ansible_collections.buildfarm.multiarch.tests.unit.certificates import CA, EC, made_by_openssl

NAMED = "-addext subjectAltName=DNS:node1"
SIGNING = f"{CA} -addext keyUsage=keyCertSign"


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    """A function that makes a certificate and its key of OpenSSL's options."""

    def run(options, key=EC, name="node1", ca=None):
        return made_by_openssl(tmp_path_factory.mktemp("certificate"), options, key, name, ca)

    return run


@pytest.fixture(scope="module")
def ca(make):
    return make(SIGNING, name="ca")


def pem(pair):
    return pair[0]


@pytest.mark.parametrize(
    ("options", "key", "said"),
    [
        (NAMED, EC, None),
        (NAMED, "ec -pkeyopt ec_paramgen_curve:P-384", None),
        (NAMED, "rsa:2048", None),
        (NAMED, "ed25519", None),
        ("-addext subjectAltName=IP:192.0.2.1,email:a@example.com", EC, None),
        (f"{NAMED} -sha384 -set_serial 128", EC, None),
        ("", EC, "it has no subject alternative name"),
        (
            "-addext subjectAltName=DNS:192.0.2.1",
            EC,
            r"names \(192.0.2.1\) are neither host names nor addresses of type",
        ),
        ("-addext subjectAltName=email:a@example.com", EC, r"names \(a@example.com\) are neither host names nor"),
        (f"{NAMED} -set_serial -5", EC, "its serial number is negative"),
        (f"{NAMED} -sha1", EC, "it is signed with SHA-1"),
        (f"{NAMED} -sha224", EC, "it is signed with an algorithm that Go does not know"),
        (NAMED, "rsa:1000", "its RSA key has 1000 bits, wanted 1024 or more"),
        (
            NAMED,
            "ec -pkeyopt ec_paramgen_curve:secp256k1",
            "of an elliptic curve that is none of P-256, P-384 and P-521",
        ),
        (NAMED, "ed448", "its key is neither RSA, nor ECDSA, nor Ed25519"),
    ],
)
def test_certificates_of_servers(make, ca, options, key, said):
    found = _go_x509.server_problem(pem(make(options, key, ca=ca)), pem(ca))
    assert re.search(said or r"^\Z", found or ""), found


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (CA, None),
        # A root's own signature is never looked at.
        (f"{CA} -sha1", None),
        ("-addext keyUsage=keyCertSign", r"does not say that it is a CA's \(basic constraints\)"),
        ("-addext basicConstraints=CA:FALSE -addext keyUsage=keyCertSign", "does not say that it is a CA's"),
        (f"{CA} -set_serial -5", "of its CA's certificate, its serial number is negative"),
    ],
)
def test_authorities_of_servers(make, ca, options, said):
    authority = make(options, name="ca")
    found = _go_x509.server_problem(pem(make(NAMED, ca=authority)), pem(authority))
    assert re.search(said or r"^\Z", found or ""), found
    # Another one of the same name may be the one.
    assert _go_x509.server_problem(pem(make(NAMED, ca=authority)), pem(authority) + pem(ca)) is None


def test_what_a_server_shows_with_its_certificate(make, ca):
    between = make(f"{SIGNING} -set_serial -5", name="between", ca=ca)
    server = make(NAMED, ca=between)
    assert _go_x509.chain_problem(pem(server) + pem(between), pem(ca)) == "its serial number is negative"
    alone = make(f"{NAMED} -addext basicConstraints=CA:FALSE")
    assert _go_x509.server_problem(pem(alone), pem(alone)) is None


def test_what_is_no_certificate(make, ca):
    text = pem(ca).decode().splitlines()
    with pytest.raises(ValueError, match="not the DER form of a certificate"):
        _go_x509.authority_problem(_go_x509.certificates("\n".join([*text[:3], text[-1]]).encode())[0])
    assert _go_x509.certificates(b"nothing") == []
