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


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ("30:06:87:04:01:02:03:04", None),
        ("30:07:87:05:01:02:03:04:05", "it names an address that has neither 4 nor 16 bytes"),
        ("30:05:82:03:c3:a4:61", "it names a host with letters that are not ASCII"),
    ],
)
def test_names_that_go_does_not_read(make, names, said):
    (der,) = _go_x509.certificates(pem(make(f"-addext subjectAltName=DER:{names}")))
    assert _go_x509.problem(der) == said


def der_of(tag, *contents):
    """An element of DER; its size in the long form, which holds any."""
    content = b"".join(contents)
    return bytes([tag, 0x84]) + len(content).to_bytes(4, "big") + content


@pytest.mark.parametrize(
    ("bits", "shown", "said"),
    [
        (1023, False, "its RSA key has 1023 bits, wanted 1024 or more"),
        (1024, True, None),
        (8192, True, None),
        (8193, True, "its RSA key has 8193 bits, wanted 8192 or less"),
        # What is trusted already is not counted so closely.
        (8193, False, None),
    ],
)
def test_sizes_of_rsa_keys(bits, shown, said):
    """Put together by hand, as it takes long to find the primes for some of them."""
    modulus = b"\0" + (1 << (bits - 1) | 1).to_bytes((bits + 7) // 8, "big")
    algorithm = der_of(0x30, der_of(0x06, bytes.fromhex("2a864886f70d010101")), der_of(0x05))
    key = der_of(0x30, der_of(0x02, modulus), der_of(0x02, b"\1\0\1"))
    assert _go_x509._key_problem(algorithm + der_of(0x03, b"\0", key), shown) == said


@pytest.mark.parametrize("der", [b"\x30\x05\x01", b"\x30\x82\x01\x00\x01", b"\x30", b"\x30\x02\x05\x00\x05\x00"])
def test_what_is_cut_off_or_too_much_is_no_certificate(der):
    with pytest.raises(ValueError):
        _go_x509.problem(der)
