# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What becomes of a CA, decided from what is on disk alone."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._certificate import x509
from ansible_collections.buildfarm.multiarch.plugins.module_utils._certificate.authority import (
    _check_expiry,
    decide,
    expiry_reason,
)
from ansible_collections.buildfarm.multiarch.plugins.module_utils._certificate.declaration import Declaration
from ansible_collections.buildfarm.multiarch.plugins.module_utils._certificate.state import Pair, State
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.tests.unit.certificates import issue

pytest.importorskip("cryptography")

NOW = datetime.now(timezone.utc)


class Ca:
    """A CA with its key, valid for some days from now on."""

    def __init__(self, name: str, days: int = 3650) -> None:
        self.pem, self.key = issue(name, days=days, named=False)
        self.certificate = x509.read_certificate(self.pem)


@pytest.fixture(scope="module")
def old() -> Ca:
    return Ca("old")


@pytest.fixture(scope="module")
def new() -> Ca:
    return Ca("new")


def declaration(rotate: str = "none", **options: object) -> Declaration:
    year, month = timedelta(days=365), timedelta(days=30)
    values = {"ca_name": "new", "ca_validity": year * 10, "validity": year, "renew_before": month, "rotate": rotate}
    return Declaration(Path("/d"), (), key_type="ecdsa-p256", ca_key=Path("/d/ca-key.pem"), **{**values, **options})


def state(cert: bytes | None, key: bytes | None, given: bytes | None = None, now: datetime = NOW) -> State:
    return State(Pair(Path("/d/ca.pem"), Path("/d/ca-key.pem"), None, cert, key, 0o600), {}, given, now)


def test_nothing_is_there() -> None:
    ca = decide(declaration(), state(None, None))
    assert (ca.reason, ca.issuer, ca.new_key, ca.others) == ("missing", None, True, ())


def test_a_key_without_its_certificate_is_used_again(old: Ca) -> None:
    ca = decide(declaration(), state(None, old.key))
    assert (ca.reason, ca.issuer, ca.new_key) == ("missing", None, False)


@pytest.mark.parametrize("rotate", ["none", "certificates", "ca_clients", "ca_end"])
def test_one_that_is_in_order_stays(old: Ca, rotate: str) -> None:
    ca = decide(declaration(rotate), state(old.pem, old.key))
    assert (ca.reason, ca.issuer, ca.new_key, ca.others, ca.warnings) == (None, old.certificate, False, (), ())


def test_three_stages(old: Ca, new: Ca) -> None:
    first = decide(declaration("ca_begin"), state(old.pem, old.key))
    assert (first.reason, first.new_key, first.others) == ("rotation is requested", True, (old.certificate,))
    both = state(new.pem + old.pem, new.key)
    for rotate, clients in (("ca_begin", True), ("ca_clients", False)):
        begun = decide(declaration(rotate), both)
        assert (begun.reason, begun.issuer, begun.others) == (None, new.certificate, (old.certificate,))
        assert (old.certificate in begun.signers("clients", rotate)) is clients
        assert old.certificate not in begun.signers("servers", rotate)
    ended = decide(declaration("ca_end"), both)
    assert (ended.reason, ended.issuer, ended.others) == (
        "the CA that it replaces is no longer trusted",
        new.certificate,
        (),
    )


def test_a_run_without_rotation_leaves_what_either_ca_signed(old: Ca, new: Ca) -> None:
    ca = decide(declaration(), state(new.pem + old.pem, new.key))
    for kind in ("servers", "clients"):
        assert ca.signers(kind, "none") == (new.certificate, old.certificate)


def test_an_interrupted_first_stage_makes_another_new_ca(old: Ca, new: Ca) -> None:
    """ca.pem was written and the key was not: the old CA's key is still there."""
    ca = decide(declaration(), state(new.pem + old.pem, old.key))
    assert (ca.reason, ca.new_key, ca.others) == (
        "its key is missing, a run was interrupted",
        True,
        (old.certificate,),
    )


def test_it_is_renewed_with_its_key_in_time(old: Ca) -> None:
    short = Ca("short", days=29)
    ca = decide(declaration(), state(short.pem, short.key))
    assert (ca.previous, ca.new_key) == (short.certificate, False)
    assert ca.reason is not None and ca.reason.startswith("it expires ")
    late = decide(declaration(), state(old.pem, old.key, now=NOW + timedelta(days=3651)))
    assert late.reason is not None and late.reason.startswith("it expired ")
    edge = NOW + timedelta(days=3650 - 30, seconds=-5)
    assert decide(declaration(), state(old.pem, old.key, now=edge)).reason is None


@pytest.mark.parametrize("rotate", ["none", "certificates", "ca_clients", "ca_end"])
def test_what_does_not_belong_together_is_refused(old: Ca, new: Ca, rotate: str) -> None:
    for cert, key in ((old.pem, new.key), (b"x", old.key), (old.pem, b"x")):
        with pytest.raises(FarmError, match="begin a new CA with rotate=all"):
            decide(declaration(rotate), state(cert, key))
        assert decide(declaration("all"), state(cert, key)).new_key


def test_one_from_outside_is_never_made_anew_and_warns_in_time(old: Ca, new: Ca) -> None:
    given = declaration(given_ca=Path("/pki/ca.pem"))
    first = decide(given, state(None, new.key, new.pem))
    assert (first.reason, first.issuer, first.new_key, first.warnings) == ("missing", new.certificate, False, ())
    other = decide(declaration("ca_begin", given_ca=Path("/pki/ca.pem")), state(old.pem, new.key, new.pem))
    assert (other.reason, other.others) == ("another CA is given", (old.certificate,))
    soon = NOW + timedelta(days=3640)
    assert "expires with it" in decide(given, state(new.pem, new.key, new.pem, soon)).warnings[0]
    with pytest.raises(FarmError, match=r"it expired .*give the certificate that replaces it"):
        decide(given, state(new.pem, new.key, new.pem, NOW + timedelta(days=3651)))
    with pytest.raises(FarmError, match="is not its key; wanted the key of the first certificate"):
        decide(given, state(None, old.key, new.pem))


def test_the_moment_at_which_a_certificate_is_renewed(old: Ca) -> None:
    """It is valid until its end, and its end is no time to be valid any more."""
    end = old.certificate.not_after
    for before, reason in (
        (timedelta(days=30, seconds=1), None),
        (timedelta(days=30), None),
        (timedelta(days=30, seconds=-1), "it expires"),
        (timedelta(seconds=1), "it expires"),
        (timedelta(0), "it expired"),
        (-timedelta(seconds=1), "it expired"),
    ):
        found = expiry_reason(old.certificate, timedelta(days=30), end - before)
        assert (found and found.rpartition(" ")[0]) == reason


def test_a_ca_of_somebody_else_is_used_until_its_end(old: Ca) -> None:
    end = old.certificate.not_after
    assert _check_expiry("ca_cert", old.certificate, None, end) == ()
    (warning,) = _check_expiry("ca_cert", old.certificate, "it expires soon", end - timedelta(seconds=1))
    assert warning.startswith("ca_cert: it expires soon, and what it issues expires with it; give the certificate")
    for now in (end, end + timedelta(seconds=1)):
        with pytest.raises(FarmError, match=r"^ca_cert: it expired then; give the certificate that replaces it"):
            _check_expiry("ca_cert", old.certificate, "it expired then", now)
