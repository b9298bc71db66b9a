# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._certificate import apply as module
from ansible_collections.buildfarm.multiarch.plugins.module_utils._certificate import steps as module_steps
from ansible_collections.buildfarm.multiarch.plugins.module_utils._certificate import x509 as _x509
from ansible_collections.buildfarm.multiarch.plugins.module_utils._certificate.declaration import Declaration
from ansible_collections.buildfarm.multiarch.plugins.module_utils._certificate.plan import plan
from ansible_collections.buildfarm.multiarch.plugins.module_utils._certificate.state import read_state
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.lock import locked
from ansible_collections.buildfarm.multiarch.tests.unit.certificates import CA, EC, issue, made_by_openssl

pytest.importorskip("cryptography")

DEFAULTS: Dict[str, Any] = {
    "servers": [{"name": "arm1", "sans": ["192.0.2.7", "*.Example.com"]}, {"name": "2001:db8::0007", "sans": []}],
    "clients": ["client"],
    "validity_days": 365,
    "renew_before_days": 30,
    "ca_common_name": "Farm CA",
    "ca_validity_days": 3650,
    "ca_cert": None,
    "ca_key": None,
    "ca_passphrase": None,
    "ca_previous_passphrase": None,
    "key_type": "ecdsa-p256",
    "rotate": "none",
}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "certificates"


def run(directory: Path, check: bool = False, **options: Any) -> Dict[str, Any]:
    params = {**DEFAULTS, "directory": str(directory), **options}
    return module.run(params, check, None).as_result()  # type: ignore[arg-type]


def actions(result: Dict[str, Any]) -> List[str]:
    return [action for (action,) in result["actions"]]


def test_first_run_is_predicted_and_second_changes_nothing(directory: Path) -> None:
    predicted = run(directory, check=True)
    assert not directory.parent.exists()
    done = run(directory)
    assert (predicted["actions"], predicted["diff"]) == (done["actions"], done["diff"])
    assert predicted["ca"] == {**done["ca"], **dict.fromkeys(("pem", "certificate", "not_after", "fingerprint"))}
    again = run(directory)
    assert (again["changed"], again["actions"]) == (False, [])
    assert {**again, "changed": True, "actions": done["actions"], "diff": done["diff"]} == done
    assert done["servers"]["arm1"]["sans"] == ["*.example.com", "192.0.2.7", "arm1"]
    assert done["servers"]["2001:db8::0007"]["sans"] == ["2001:db8::7"]
    keys = list(directory.rglob("*key.pem"))
    assert len(keys) == 4
    assert {path.stat().st_mode & 0o777 for path in keys} == {0o600}
    assert directory.stat().st_mode & 0o777 == 0o700
    assert "PRIVATE" not in json.dumps(done)
    assert not list(directory.rglob(".*"))


def test_no_library_is_needed_to_predict_the_first_run(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_x509, "_MISSING", ImportError("no cryptography"))
    assert len(actions(run(directory, check=True))) == 4
    with pytest.raises(FarmError, match="'cryptography' is not installed"):
        run(directory)


def swap(directory: Path) -> None:
    shutil.copy(directory / "clients/client/key.pem", directory / "servers/arm1/key.pem")


def client_for_server(directory: Path) -> None:
    for name in ("cert.pem", "key.pem"):
        shutil.copy(directory / "clients/client" / name, directory / "servers/arm1" / name)


def of_another_ca(directory: Path) -> None:
    other = directory.parent / "other"
    run(other)
    for name in ("cert.pem", "key.pem"):
        shutil.copy(other / "servers/arm1" / name, directory / "servers/arm1" / name)


ISSUE = "issue server 'arm1': "


@pytest.mark.parametrize(
    ("damage", "wanted"),
    [
        (lambda d: (d / "servers/arm1/cert.pem").unlink(), ISSUE + "its certificate is missing"),
        (lambda d: (d / "servers/arm1/key.pem").unlink(), ISSUE + "its key is missing"),
        (lambda d: (d / "servers/arm1/cert.pem").write_text("x"), ISSUE + "it cannot be read"),
        (lambda d: (d / "servers/arm1/key.pem").write_text(""), ISSUE + "it cannot be read"),
        (swap, ISSUE + "its key does not match"),
        (of_another_ca, ISSUE + "it is not signed by the CA"),
        (client_for_server, ISSUE + "it is not for a server"),
        (lambda d: (d / "servers/arm1/ca.pem").unlink(), "copy the CA's certificate to server 'arm1'"),
        (lambda d: (d / "servers/arm1/ca.pem").write_text("x"), "copy the CA's certificate to server 'arm1'"),
        (lambda d: (d / "servers/arm1/key.pem").chmod(0o640), "set mode 0600 of {}/servers/arm1/key.pem"),
        (lambda d: (d / "ca-key.pem").chmod(0o644), "set mode 0600 of {}/ca-key.pem"),
    ],
)
def test_repairs_only_what_is_wrong(directory: Path, damage: Callable[[Path], Any], wanted: str) -> None:
    intact = run(directory)
    damage(directory)
    predicted = run(directory, check=True)
    done = run(directory)
    assert actions(done) == [wanted.format(directory)]
    assert (predicted["actions"], predicted["diff"]) == (done["actions"], done["diff"])
    assert done["diff"]["before"] != done["diff"]["after"]
    assert run(directory)["changed"] is False
    assert (done["servers"]["arm1"]["fingerprint"] != intact["servers"]["arm1"]["fingerprint"]) == (ISSUE in wanted)
    assert done["clients"] == intact["clients"]
    assert done["ca"] == intact["ca"]


def test_changed_names(directory: Path) -> None:
    run(directory)
    done = run(directory, servers=[{"name": "arm1", "sans": ["arm1.example.com"]}])
    assert actions(done) == [ISSUE + "it names *.example.com, 192.0.2.7, arm1"]
    assert done["diff"]["before"]["servers"]["arm1"]["sans"] == ["*.example.com", "192.0.2.7", "arm1"]
    assert done["diff"]["after"]["servers"]["arm1"]["sans"] == ["arm1", "arm1.example.com"]


def test_names_that_are_left_open_stay(directory: Path) -> None:
    run(directory)
    left_open = [{"name": "arm1", "sans": None}]
    kept = run(directory, servers=left_open)
    assert kept["changed"] is False
    assert kept["servers"]["arm1"]["sans"] == ["*.example.com", "192.0.2.7", "arm1"]
    renewed = run(directory, servers=left_open, rotate="certificates")
    assert first(renewed, "servers", "arm1").sans == ("*.example.com", "192.0.2.7", "arm1")
    new = run(directory, servers=[{"name": "arm2", "sans": None}])
    assert first(new, "servers", "arm2").sans == ("arm2",)
    assert run(directory, servers=[{"name": "arm2", "sans": []}])["changed"] is False


def test_leaves_are_renewed_in_time(directory: Path) -> None:
    first = run(directory, validity_days=20, renew_before_days=10)
    assert run(directory, renew_before_days=19)["changed"] is False
    done = run(directory)
    expires = first["servers"]["arm1"]["not_after"]
    assert actions(done)[0] == f"{ISSUE}it expires {expires}"
    assert len(actions(done)) == 3
    assert done["ca"] == first["ca"]


def test_what_was_issued_by_a_clock_that_was_ahead_is_issued_anew(directory: Path) -> None:
    run(directory)
    declaration = Declaration.from_params({**DEFAULTS, "directory": str(directory)})
    earlier = datetime.now(timezone.utc) - timedelta(days=366)
    steps = plan(declaration, replace(read_state(declaration), now=earlier)).steps
    assert [type(step).__name__ for step in steps][1:] == ["IssueLeaf"] * 3
    assert "it is not valid before 20" in str(steps[0].action)


def test_expired_is_told_from_expiring(directory: Path) -> None:
    run(directory)
    declaration = Declaration.from_params({**DEFAULTS, "directory": str(directory)})
    later = datetime.now(timezone.utc) + timedelta(days=366)
    steps = plan(declaration, replace(read_state(declaration), now=later)).steps
    assert all(isinstance(step, module_steps.IssueLeaf) and "it expired 20" in step.reason for step in steps)
    assert len(steps) == 3


def test_renewed_ca_keeps_its_key_so_that_old_certificates_stay_trusted(directory: Path) -> None:
    first = run(directory, ca_validity_days=20, renew_before_days=10, validity_days=365)
    old = _x509.read_certificate(first["servers"]["arm1"]["certificate"].encode())
    assert old.not_after == _x509.read_certificate(first["ca"]["pem"].encode()).not_after
    done = run(directory, ca_common_name="Another name")
    assert actions(done)[0] == f"issue CA {directory}/ca.pem: it expires {first['ca']['not_after']}"
    assert len(actions(done)) == 4
    renewed = _x509.read_certificate(done["ca"]["pem"].encode())
    assert old.signed_by(renewed)
    assert renewed.not_after > datetime.now(timezone.utc) + timedelta(days=3600)
    assert (directory / "clients/client/ca.pem").read_text() == done["ca"]["pem"]
    assert run(directory)["changed"] is False


def test_rotation(directory: Path) -> None:
    first = run(directory)
    leaves = run(directory, rotate="certificates")
    assert actions(leaves)[0] == ISSUE + "rotation is requested"
    assert leaves["ca"] == first["ca"]
    everything = run(directory, rotate="all")
    assert everything["ca"] != first["ca"]
    assert not _x509.read_certificate(leaves["servers"]["arm1"]["certificate"].encode()).signed_by(
        _x509.read_certificate(everything["ca"]["pem"].encode())
    )
    assert run(directory)["changed"] is False


@pytest.mark.parametrize("rotate", ["none", "certificates"])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: (d / "ca.pem").write_text("x"), r"ca\.pem: not a certificate"),
        (lambda d: (d / "ca-key.pem").write_text("x"), r"ca-key\.pem: not a private key"),
        (lambda d: shutil.copy(d / "servers/arm1/key.pem", d / "ca-key.pem"), r"ca-key\.pem is not its key"),
        (lambda d: shutil.copy(d / "servers/arm1/cert.pem", d / "ca.pem"), "is not a CA's"),
    ],
)
def test_unusable_ca_is_never_replaced(
    directory: Path, damage: Callable[[Path], Any], message: str, rotate: str
) -> None:
    run(directory)
    damage(directory)
    before = {path: path.read_bytes() for path in directory.rglob("*.pem")}
    for check in (True, False):
        with pytest.raises(FarmError, match=message + ".*rotate=all"):
            run(directory, check=check, rotate=rotate)
    assert {path: path.read_bytes() for path in directory.rglob("*.pem")} == before
    assert run(directory, rotate="all")["changed"]
    assert run(directory)["changed"] is False


def test_ca_key_may_be_kept_elsewhere(directory: Path) -> None:
    run(directory)
    (directory / "ca-key.pem").unlink()
    assert run(directory)["changed"] is False
    with pytest.raises(FarmError, match=r"ca-key\.pem is missing, and server 'new' is to be issued \(missing\)"):
        run(directory, servers=[{"name": "new", "sans": []}])


def test_interrupted_runs_are_continued(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run is ended after each single replacement in turn; the next one always gets everything right."""
    real = module_steps.write_together
    for rotate, ended_after in [("none", 0), ("none", 1), ("none", 2), ("none", 3), ("all", 1), ("all", 2), ("all", 3)]:
        left = iter(range(ended_after, -1, -1))

        def power_cut(files: Any, left: Iterator[int] = left) -> None:
            if next(left) == 0:
                raise KeyboardInterrupt
            real(files)

        monkeypatch.setattr(module_steps, "write_together", power_cut)
        with pytest.raises(KeyboardInterrupt):
            run(directory, rotate=rotate)
        monkeypatch.setattr(module_steps, "write_together", real)
        done = run(directory)
        ca = _x509.read_certificate(done["ca"]["pem"].encode())
        assert _x509.read_certificate(done["servers"]["arm1"]["certificate"].encode()).signed_by(ca)
        assert run(directory)["changed"] is False
        if rotate == "none":
            shutil.rmtree(directory)


def test_full_disk_names_the_file(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(files: Any) -> None:
        raise OSError(28, "No space left on device", "/somewhere/key.pem")

    monkeypatch.setattr(module_steps, "write_together", full)
    with pytest.raises(FarmError, match=r"/somewhere/key\.pem: No space left on device.*a new run continues"):
        run(directory)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"servers": [{"name": "../x", "sans": []}]}, "wanted a host name"),
        ({"servers": [{"name": "fe80::1%../../x", "sans": []}]}, "wanted a host name"),
        ({"servers": [{"name": "a", "sans": ["a b"]}]}, "wanted a host name"),
        ({"servers": [{"name": "a", "sans": ["tcp://a"]}]}, "wanted a host name"),
        ({"servers": [{"name": "*.x", "sans": []}]}, "wanted a host name"),
        ({"clients": [""]}, "wanted a host name"),
        ({"servers": [{"name": "a", "sans": []}] * 2}, "more than once: server 'a'"),
        ({"renew_before_days": 365}, "each run would issue anew"),
        ({"validity_days": 36501}, "validity_days is 36501; wanted 36500"),
        ({"ca_validity_days": 10**12}, "ca_validity_days is 1000000000000; wanted 36500"),
        ({"client_validity_days": 36501}, "client_validity_days is 36501; wanted 36500"),
        ({"renew_before_days": -1}, "renew_before_days"),
        ({"client_validity_days": 0}, "client_validity_days is 0; wanted 1 or more"),
        ({"client_validity_days": -1}, "client_validity_days is -1; wanted 1 or more"),
        ({"ca_validity_days": 30}, "ca_validity_days is 30"),
    ],
)
def test_refuses(directory: Path, options: Dict[str, Any], message: str) -> None:
    with pytest.raises(FarmError, match=message):
        run(directory, **options)
    assert not directory.exists()


def test_long_names(directory: Path) -> None:
    name = ".".join(["a" * 60] * 3)
    assert run(directory, servers=[{"name": name, "sans": []}])["servers"][name]["sans"] == [name]


def first(result: Dict[str, Any], kind: str, name: str) -> _x509.Certificate:
    """Return an issued certificate, without its chain."""
    return _x509.read_certificate(result[kind][name]["certificate"].encode())


def issuers(result: Dict[str, Any], *cas: _x509.Certificate) -> Dict[str, int]:
    """Return by kind which of these CAs issued the certificates."""
    found = {}
    for kind in ("servers", "clients"):
        for name in result[kind]:
            found[kind] = next(place for place, ca in enumerate(cas) if first(result, kind, name).signed_by(ca))
    return found


def trusted(path: Path) -> List[str]:
    return [ca.fingerprint for ca in _x509.read_certificates(path.read_bytes())]


def test_a_ca_is_replaced_in_stages(directory: Path) -> None:
    """At each stage engines and clients, whichever of two neighbouring stages each is at, trust one another."""
    old = _x509.read_certificate(run(directory)["ca"]["pem"].encode())
    predicted = run(directory, check=True, rotate="ca_begin")
    began = run(directory, rotate="ca_begin")
    assert (predicted["actions"], predicted["diff"]) == (began["actions"], began["diff"])
    new = _x509.read_certificate(began["ca"]["certificate"].encode())
    assert trusted(directory / "ca.pem") == [new.fingerprint, old.fingerprint]
    assert began["ca"]["replaces"] == [old.fingerprint]
    assert issuers(began, new, old) == {"servers": 0, "clients": 1}
    for copy in directory.glob("*/*/ca.pem"):
        assert copy.read_bytes() == (directory / "ca.pem").read_bytes()
    for rotate in ("ca_begin", "none"):
        assert run(directory, rotate=rotate)["changed"] is False

    switched = run(directory, rotate="ca_clients")
    assert actions(switched) == ["issue client 'client': it is not signed by the CA"]
    assert switched["servers"] == began["servers"]
    assert issuers(switched, new, old) == {"servers": 0, "clients": 0}
    for rotate in ("ca_begin", "ca_clients", "none"):
        assert run(directory, rotate=rotate)["changed"] is False

    ended = run(directory, rotate="ca_end")
    assert len(actions(ended)) == 4  # the CA's file and its copies, no certificate
    assert (ended["servers"], ended["clients"]) == (switched["servers"], switched["clients"])
    assert {tuple(trusted(path)) for path in directory.rglob("ca.pem")} == {(new.fingerprint,)}
    assert ended["ca"]["replaces"] == []
    for rotate in ("ca_end", "ca_clients", "none"):
        assert run(directory, rotate=rotate)["changed"] is False


def test_nothing_signed_by_the_old_ca_is_left_at_the_end(directory: Path) -> None:
    old = _x509.read_certificate(run(directory)["ca"]["pem"].encode())
    run(directory, rotate="ca_begin")
    assert not any(first(run(directory, rotate="ca_end"), "clients", "client").signed_by(ca) for ca in (old,))


def test_the_first_stage_without_a_ca_makes_one(directory: Path) -> None:
    done = run(directory, rotate="ca_begin")
    assert (len(actions(done)), done["ca"]["replaces"]) == (4, [])


def test_interrupted_stages_are_continued(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ended after each single replacement in turn, the first stage never leaves what the next run cannot go on from."""
    real = module_steps.write_together
    intact = run(directory)
    old = _x509.read_certificate(intact["ca"]["pem"].encode())
    for ended_after in range(len(("ca.pem", "ca-key.pem", *DEFAULTS["servers"], *DEFAULTS["clients"]))):
        left = iter(range(ended_after, -1, -1))

        def power_cut(files: Any, left: Iterator[int] = left) -> None:
            if next(left) == 0:
                raise KeyboardInterrupt
            real(files)

        shutil.rmtree(directory.parent / "kept", ignore_errors=True)
        shutil.copytree(directory, directory.parent / "kept")
        monkeypatch.setattr(module_steps, "write_together", power_cut)
        with pytest.raises(KeyboardInterrupt):
            run(directory, rotate="ca_begin")
        monkeypatch.setattr(module_steps, "write_together", real)
        run(directory, check=True)  # A run that does not know of the replacement finds nothing that is broken.
        done = run(directory, rotate="ca_begin")
        new = _x509.read_certificate(done["ca"]["certificate"].encode())
        assert trusted(directory / "ca.pem") == [new.fingerprint, old.fingerprint]
        assert issuers(done, new, old) == {"servers": 0, "clients": 1}
        assert run(directory)["changed"] is False
        shutil.rmtree(directory)
        shutil.copytree(directory.parent / "kept", directory)


@pytest.mark.parametrize(
    ("before", "wanted", "action"),
    [
        ({}, {}, None),
        ({}, {"ca_passphrase": ""}, None),
        ({}, {"ca_passphrase": "one"}, "a passphrase is wanted"),
        ({"ca_passphrase": "one"}, {}, None),
        ({"ca_passphrase": "one"}, {"ca_passphrase": "one"}, None),
        (
            {"ca_passphrase": "one"},
            {"ca_passphrase": "two", "ca_previous_passphrase": "one"},
            "the passphrase is another one",
        ),
        ({"ca_passphrase": "one"}, {"ca_passphrase": "", "ca_previous_passphrase": "one"}, "no passphrase is wanted"),
        ({"ca_passphrase": "one"}, {"ca_previous_passphrase": "one"}, None),
    ],
)
def test_passphrase(directory: Path, before: Dict[str, Any], wanted: Dict[str, Any], action: str) -> None:
    made = run(directory, **before)
    predicted = run(directory, check=True, **wanted)
    done = run(directory, **wanted)
    assert (predicted["actions"], predicted["diff"]) == (done["actions"], done["diff"])
    assert actions(done) == ([f"rewrite {directory}/ca-key.pem: {action}"] if action else [])
    assert (done["diff"]["before"] != done["diff"]["after"]) == bool(action)
    assert run(directory, **wanted)["changed"] is False
    key = (directory / "ca-key.pem").read_bytes()
    passphrase = {**before, **wanted}.get("ca_passphrase") or ""
    assert _x509.encrypted(key) == bool(passphrase)
    assert (directory / "ca-key.pem").stat().st_mode & 0o777 == 0o600
    ca = _x509.read_certificate(made["ca"]["pem"].encode())
    assert _x509.public_key(key, passphrase) == ca.public_key
    renewed = run(directory, rotate="certificates", ca_passphrase=passphrase)
    assert first(renewed, "clients", "client").signed_by(ca)
    assert "one" not in json.dumps(done["diff"]).replace("another one", "").replace("none", "")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ca_passphrase": "wrong"}, "neither ca_passphrase nor ca_previous_passphrase opens it"),
        ({"ca_passphrase": ""}, "give the one that it has in ca_previous_passphrase"),
        ({"rotate": "certificates"}, "is encrypted, and server 'arm1' is to be issued .*give its passphrase"),
    ],
)
def test_refuses_a_locked_key(directory: Path, options: Dict[str, Any], message: str) -> None:
    run(directory, ca_passphrase="one")
    for check in (True, False):
        with pytest.raises(FarmError, match=message):
            run(directory, check=check, **options)
    # Whoever has forgotten the passphrase begins anew, without downtime.
    assert run(directory, rotate="ca_begin", ca_passphrase="two")["changed"]
    assert run(directory, ca_passphrase="two")["changed"] is False


@pytest.mark.parametrize("key_type", ["ecdsa-p256", "ecdsa-p384", "rsa-2048"])
def test_key_types(directory: Path, key_type: str) -> None:
    made = run(directory, key_type="ecdsa-p256")
    done = run(directory, key_type=key_type)
    changed = key_type != "ecdsa-p256"
    assert actions(done) == ([f"{line}: its key is ecdsa-p256" for line in LEAVES] if changed else [])
    assert run(directory, key_type=key_type)["changed"] is False
    assert first(done, "servers", "arm1").key_type == key_type
    # The CA keeps its key until it is replaced.
    assert done["ca"] == made["ca"]
    replaced = run(directory, key_type=key_type, rotate="ca_begin")
    assert _x509.read_certificate(replaced["ca"]["certificate"].encode()).key_type == key_type


LEAVES = ["issue server 'arm1'", "issue server '2001:db8::0007'", "issue client 'client'"]


def outside(
    path: Path, name: str, days: int = 90, issuer: str = "", passphrase: str = "", key: bytes = b""
) -> Dict[str, str]:
    """Make a CA outside the farm's directory, a root or one below another; returns the options that give it."""
    path.mkdir(exist_ok=True)
    above = [(path / f"{issuer}{end}.pem").read_bytes() for end in ("", "-key")] if issuer else []
    cert, private = issue(
        *(name, (above[0], above[1]) if above else None),
        days=days,
        named=False,
        authority=True,
        key=key or None,
        passphrase=passphrase,
    )
    (path / f"{name}.pem").write_bytes(cert + b"".join(above[:1]))
    (path / f"{name}-key.pem").write_bytes(private)
    return {"ca_cert": str(path / f"{name}.pem"), "ca_key": str(path / f"{name}-key.pem")}


def test_a_ca_from_outside(directory: Path, tmp_path: Path) -> None:
    given: Dict[str, Any] = {**outside(tmp_path / "pki", "Corporate", passphrase="s3cr3t"), "ca_passphrase": "s3cr3t"}
    before = {path: path.read_bytes() for path in (tmp_path / "pki").iterdir()}
    predicted = run(directory, check=True, **given)
    done = run(directory, **given)
    assert (predicted["actions"], predicted["diff"]) == (done["actions"], done["diff"])
    assert actions(done) == [f"write CA {directory}/ca.pem: missing", *(f"{line}: missing" for line in LEAVES)]
    assert not (directory / "ca-key.pem").exists()
    assert {path: path.read_bytes() for path in (tmp_path / "pki").iterdir()} == before
    assert run(directory, **given)["changed"] is False
    # Its key is needed only when something is to be issued.
    Path(given["ca_key"]).unlink()
    assert run(directory, **given)["changed"] is False
    with pytest.raises(FarmError, match=r"Corporate-key\.pem is missing, and server 'arm1' is to be issued"):
        run(directory, rotate="certificates", **given)


def test_another_ca_from_outside_renews_at_once_or_in_stages(directory: Path, tmp_path: Path) -> None:
    one, two = outside(tmp_path / "pki", "One"), outside(tmp_path / "pki", "Two")
    own = _x509.read_certificate(run(directory)["ca"]["pem"].encode())
    done = run(directory, **one)
    assert actions(done) == [
        f"write CA {directory}/ca.pem: another CA is given",
        *(f"{line}: it is not signed by the CA" for line in LEAVES),
    ]
    began = run(directory, rotate="ca_begin", **two)
    new, old = _x509.read_certificates(began["ca"]["pem"].encode())
    assert issuers(began, new, old) == {"servers": 0, "clients": 1}
    assert run(directory, **two)["changed"] is False
    run(directory, rotate="ca_clients", **two)
    assert len(actions(run(directory, rotate="ca_end", **two))) == 4
    # Back to a CA of the farm's own, whose former key is still there.
    began = run(directory, rotate="ca_begin")
    assert _x509.read_certificate(began["ca"]["certificate"].encode()).public_key != own.public_key
    assert began["ca"]["replaces"] == [new.fingerprint]
    assert run(directory)["changed"] is False


def test_a_ca_below_another(directory: Path, tmp_path: Path) -> None:
    """It alone is trusted, not all that its root may have issued; its certificate goes along with those it issues."""
    outside(tmp_path / "pki", "Root")
    given = outside(tmp_path / "pki", "Farm", issuer="Root")
    done = run(directory, **given)
    issuing, _root = _x509.read_certificates((tmp_path / "pki/Farm.pem").read_bytes())
    assert trusted(directory / "ca.pem") == [issuing.fingerprint]
    assert trusted(directory / "servers/arm1/cert.pem")[1:] == [issuing.fingerprint]
    assert first(done, "servers", "arm1").signed_by(issuing)
    assert run(directory, **given)["changed"] is False
    # Renewed with its key, what it issued stays, except that it carries the former certificate.
    key = (tmp_path / "pki/Farm-key.pem").read_bytes()
    outside(tmp_path / "pki", "Farm", days=95, issuer="Root", key=key)
    renewed = run(directory, **given)
    assert actions(renewed)[1:] == [f"{line}: its chain is not the CA's" for line in LEAVES]
    assert run(directory, **given)["changed"] is False


def test_a_ca_from_outside_is_not_renewed(directory: Path, tmp_path: Path) -> None:
    given = outside(tmp_path / "pki", "Corporate", days=10)
    run(directory, **given)
    params = {**DEFAULTS, "directory": str(directory), **given}
    again = module.run(params, False, None)  # type: ignore[arg-type]
    assert not again.changed
    assert "what it issues expires with it" in again.warnings[0]
    declaration = Declaration.from_params(params)
    later = datetime.now(timezone.utc) + timedelta(days=11)
    with pytest.raises(FarmError, match=r"it expired .*give the certificate that replaces it"):
        plan(declaration, replace(read_state(declaration), now=later))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: (d / "One.pem").unlink(), "ca_cert .*One.pem: no such file"),
        (lambda d: (d / "One.pem").write_text("x"), "ca_cert .*One.pem: found no PEM certificate"),
        (lambda d: shutil.copy(d / "Two-key.pem", d / "One-key.pem"), "ca_key .*One-key.pem is not its key"),
        (lambda d: (d / "One-key.pem").write_text("x"), "One-key.pem: not a private key that can be used"),
    ],
)
def test_refuses_a_ca_from_outside(
    directory: Path, tmp_path: Path, change: Callable[[Path], Any], message: str
) -> None:
    outside(tmp_path / "pki", "Two")
    given = outside(tmp_path / "pki", "One")
    run(directory)
    change(tmp_path / "pki")
    for check in (True, False):
        with pytest.raises(FarmError, match=message):
            run(directory, check=check, **given)
    with pytest.raises(FarmError, match="rotate=all makes a new CA"):
        run(directory, rotate="all", **given)


def outside_by_openssl(path: Path, options: str, key: str = EC) -> Dict[str, str]:
    """Make a CA from OpenSSL's options; returns the options that give it."""
    made_by_openssl(path, f"{CA} {options}", key, days=300)
    return {"ca_cert": str(path / "cert.pem"), "ca_key": str(path / "key.pem")}


@pytest.mark.parametrize(
    ("key", "options", "message"),
    [
        ("rsa:1000", "", "refuse it: its RSA key has 1000 bits, wanted 1024 or more; wanted a CA that they take"),
        (EC, "-addext extendedKeyUsage=clientAuth", "lacks serverAuth, so it cannot issue server 'arm1'"),
        (EC, "-addext extendedKeyUsage=serverAuth", "lacks clientAuth, so it cannot issue client 'client'"),
        (
            EC,
            "-addext nameConstraints=permitted;DNS:.example.com",
            r"do not permit arm1, so that nobody would take server 'arm1'",
        ),
        (
            EC,
            "-addext nameConstraints=excluded;IP:192.0.2.0/255.255.255.0",
            r"do not permit 192.0.2.7, so that nobody",
        ),
    ],
)
def test_refuses_a_ca_from_outside_that_clients_would(
    directory: Path, tmp_path: Path, key: str, options: str, message: str
) -> None:
    given = outside_by_openssl(tmp_path / "pki", options, key)
    for check in (True, False):
        with pytest.raises(FarmError, match=message):
            run(directory, check=check, **given)
    assert not list(directory.rglob("*.pem"))


def test_a_ca_from_outside_with_constraints_that_fit(directory: Path, tmp_path: Path) -> None:
    names = "permitted;DNS:arm1,permitted;DNS:.example.com,permitted;IP:192.0.2.0/255.255.255.0"
    usage = "extendedKeyUsage=clientAuth,serverAuth"
    names = f"{names},permitted;IP:2001:db8:0:0:0:0:0:0/ffff:ffff:0:0:0:0:0:0,excluded;DNS:arm2"
    given = outside_by_openssl(tmp_path / "pki", f"-addext nameConstraints={names} -addext {usage}")
    run(directory, **given)
    server = directory / "servers/arm1"
    verify = ["openssl", "verify", "-purpose", "sslserver", "-CAfile", server / "ca.pem"]
    subprocess.run([*verify, server / "cert.pem"], check=True, capture_output=True)
    assert run(directory, **given)["changed"] is False


def test_a_certificate_that_clients_would_refuse_is_issued_anew(directory: Path) -> None:
    run(directory)
    ca = ((directory / "ca.pem").read_bytes(), (directory / "ca-key.pem").read_bytes())
    names = "-addext subjectAltName=DNS:arm1,IP:192.0.2.7,DNS:*.example.com -addext extendedKeyUsage=serverAuth"
    made_by_openssl(directory / "servers/arm1", f"{names} -sha1", name="arm1", issuer=ca, days=300)
    assert actions(run(directory)) == ["issue server 'arm1': it is signed with SHA-1"]


def test_another_node_concerns_no_other(directory: Path) -> None:
    servers = [{"name": f"node{number}", "sans": []} for number in range(10)]
    ten = run(directory, servers=servers)
    files = {path: path.stat().st_mtime_ns for path in directory.rglob("*.pem")}
    eleven = run(directory, servers=[*servers, {"name": "another", "sans": []}])
    assert actions(eleven) == ["issue server 'another': missing"]
    assert {path: path.stat().st_mtime_ns for path in files} == files
    assert {name: eleven["servers"][name] for name in ten["servers"]} == ten["servers"]
    assert (eleven["ca"], eleven["clients"]) == (ten["ca"], ten["clients"])


def test_a_ca_of_the_users_own(directory: Path) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    directory.mkdir(parents=True)
    (directory / "ca-key.pem").write_bytes(key)
    (directory / "ca-key.pem").chmod(0o600)
    cert, _key = issue("Corporate CA", days=90, named=False, key=key)
    (directory / "ca.pem").write_bytes(cert)
    assert len(actions(run(directory))) == 3
    assert (directory / "ca.pem").read_bytes() == cert
    assert run(directory)["changed"] is False


def extensions_of(pem: str) -> Dict[str, Any]:
    """The extensions of a certificate by their names: whether each is critical, and its value."""
    from cryptography import x509

    parsed = x509.load_pem_x509_certificate(pem.encode())
    return {one.oid._name: (one.critical, one.value) for one in parsed.extensions}


def test_what_certificates_are_for(directory: Path) -> None:
    """A CA signs and issues no other CA; a leaf signs what TLS wants it to sign, and is for one side."""
    made = run(directory)
    certificates = {
        "ca": made["ca"]["certificate"],
        "server": made["servers"]["arm1"]["certificate"],
        "client": made["clients"]["client"]["certificate"],
    }
    found = {name: extensions_of(pem) for name, pem in certificates.items()}
    for name, extensions in found.items():
        is_ca = name == "ca"
        critical, constraints = extensions["basicConstraints"]
        assert (critical, constraints.ca, constraints.path_length) == (True, is_ca, 0 if is_ca else None)
        critical, usage = extensions["keyUsage"]
        allowed = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
        shown = [kind for kind in (*allowed, "key_cert_sign", "crl_sign") if getattr(usage, kind)]
        assert (critical, shown) == (True, ["digital_signature", *(["key_cert_sign", "crl_sign"] if is_ca else [])])
    for name, purpose in (("server", "serverAuth"), ("client", "clientAuth")):
        critical, purposes = found[name]["extendedKeyUsage"]
        assert (critical, [one._name for one in purposes]) == (False, [purpose])
        critical, identifier = found[name]["authorityKeyIdentifier"]
        assert (critical, identifier.key_identifier) == (False, found["ca"]["subjectKeyIdentifier"][1].digest)
    assert found["server"]["subjectAltName"][0] is False
    assert "subjectAltName" not in found["client"] and "extendedKeyUsage" not in found["ca"]
    assert [extensions["subjectKeyIdentifier"][0] for extensions in found.values()] == [False] * 3


def test_directories_are_their_owners_alone(directory: Path) -> None:
    run(directory)
    folders = [directory, *(path for path in directory.rglob("*") if path.is_dir())]
    assert {path.stat().st_mode & 0o7777 for path in folders} == {0o700}
    shutil.rmtree(directory / "clients")
    assert actions(run(directory)) == ["issue client 'client': missing"]


def test_without_the_library_nothing_is_issued(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_x509, "_MISSING", ImportError("no cryptography"))
    with pytest.raises(FarmError, match="'cryptography' is not installed"):
        run(directory)
    assert not directory.exists()


@pytest.mark.parametrize(
    ("constraints", "permitted", "refused"),
    [
        ("", ["arm1", "192.0.2.7", "2001:db8::7"], []),
        ("permitted;DNS:example.com", ["example.com", "a.example.com", "192.0.2.7"], ["badexample.com", "arm1"]),
        ("permitted;DNS:.example.com", ["a.Example.com", "192.0.2.7"], ["arm1"]),
        ("excluded;DNS:example.com", ["arm1", "badexample.com"], ["example.com", "a.example.com"]),
        ("permitted;IP:192.0.2.0/255.255.255.0", ["192.0.2.7", "arm1"], ["192.0.3.7"]),
        ("excluded;IP:192.0.2.0/255.255.255.0", ["192.0.3.7", "arm1"], ["192.0.2.7"]),
        (
            "permitted;DNS:a.com,permitted;DNS:b.com,excluded;DNS:x.b.com",
            ["n.a.com", "n.b.com"],
            ["x.b.com", "c.com"],
        ),
    ],
)
def test_names_that_a_ca_may_issue_for(
    tmp_path: Path, constraints: str, permitted: List[str], refused: List[str]
) -> None:
    options = f"{CA} -addext nameConstraints=critical,{constraints}" if constraints else CA
    ca = _x509.read_certificate(made_by_openssl(tmp_path, options)[0])
    assert [name for name in [*permitted, *refused] if ca.permits(name)] == permitted


def test_cas_of_keys_that_are_neither_rsa_nor_of_a_curve_have_signed_nothing(tmp_path: Path) -> None:
    pair = made_by_openssl(tmp_path / "ca", CA, "ed25519", "ca")
    ca = _x509.read_certificate(pair[0])
    leaf = _x509.read_certificate(made_by_openssl(tmp_path / "leaf", "", issuer=pair)[0])
    assert (ca.key_type, leaf.signed_by(ca)) == ("neither ecdsa nor rsa", False)
    with pytest.raises(ValueError, match="neither an elliptic curve key nor an RSA key"):
        _x509.public_key(pair[1])


@pytest.mark.parametrize("key", [EC, "rsa:2048"])
def test_who_signed_a_certificate_is_told_by_its_signature(tmp_path: Path, key: str) -> None:
    pair, same_name = (made_by_openssl(tmp_path / name, CA, key, "ca") for name in ("ca", "other"))
    ca, other = (_x509.read_certificate(one[0]) for one in (pair, same_name))
    leaf = _x509.read_certificate(made_by_openssl(tmp_path / "leaf", "", issuer=pair)[0])
    renamed = _x509.read_certificate(made_by_openssl(tmp_path / "renamed", CA, key, "else")[0])
    assert [leaf.signed_by(one) for one in (ca, other, renamed)] == [True, False, False]
    assert (ca.self_signed, leaf.self_signed, ca.authority, leaf.authority) == (True, False, True, False)


@pytest.mark.parametrize(
    ("usage", "servers", "clients", "purposes"),
    [
        ("", False, False, False),
        ("serverAuth", True, False, True),
        ("clientAuth,codeSigning", False, True, True),
        ("anyExtendedKeyUsage,serverAuth", True, False, False),
    ],
)
def test_purposes(tmp_path: Path, usage: str, servers: bool, clients: bool, purposes: bool) -> None:
    options = f"-addext extendedKeyUsage={usage}" if usage else ""
    found = _x509.read_certificate(made_by_openssl(tmp_path, options)[0])
    assert (found.servers, found.clients, found.purposes) == (servers, clients, purposes)


def test_another_run_with_the_same_directory_is_waited_for(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(directory)
    monkeypatch.setattr(module, "_LOCK_TIMEOUT", 0.1)
    with locked(directory, 0):
        assert not run(directory, check=True)["changed"]
        with pytest.raises(FarmError, match=r"another process held the directory for 0\.1 seconds; wait"):
            run(directory)
    assert not run(directory)["changed"]


def test_a_ca_of_the_directory_that_may_not_issue_what_is_wanted_is_named(directory: Path) -> None:
    cert, key = made_by_openssl(directory / "new", f"{CA} -addext extendedKeyUsage=clientAuth", days=3000)
    (directory / "ca.pem").write_bytes(cert)
    (directory / "ca-key.pem").write_bytes(key)
    (directory / "ca-key.pem").chmod(0o600)
    with pytest.raises(FarmError, match=f"^CA {directory}/ca.pem: its extended key usage lacks serverAuth"):
        run(directory)
    assert run(directory, servers=[])["changed"]


def given(pair: Any, **options: Any) -> Dict[str, Any]:
    """Options of a run with a CA that is given as text, on a controller that keeps nothing."""
    cert, key = (part.decode() for part in pair)
    return {"ca_cert_pem": cert, "ca_key_pem": key, "client_validity_days": 1, **options}


def test_a_ca_as_text_issues_and_is_not_written(directory: Path) -> None:
    ca = issue("authority", days=3650)
    done = run(directory, **given(ca))
    assert done["ca"]["pem"].encode() == ca[0]
    files = {path.name: path.read_bytes() for path in directory.rglob("*.pem")}
    assert "ca-key.pem" not in files
    assert not any(ca[1] in content for content in files.values())
    # A day, although renewal begins a month before the end of others.
    end = datetime.fromisoformat(done["clients"]["client"]["not_after"].replace("Z", "+00:00"))
    assert timedelta(hours=23) < end - datetime.now(timezone.utc) <= timedelta(days=1)
    assert run(directory, **given(ca))["actions"] == []
    assert run(directory, **given(ca), rotate="certificates")["changed"]


@pytest.mark.parametrize(
    "options",
    [
        {"ca_cert_pem": "x"},
        {"ca_key_pem": "x"},
        {"ca_cert": "/x", "ca_cert_pem": "x", "ca_key": "/x"},
        {"ca_cert": "/x", "ca_key": "/x", "ca_key_pem": "x"},
        {"ca_key": "/x"},
    ],
)
def test_a_ca_is_given_once_and_with_its_key(directory: Path, options: Dict[str, str]) -> None:
    with pytest.raises(
        FarmError, match="wanted the certificate of a CA from outside in one of ca_cert and ca_cert_pem"
    ):
        run(directory, **options)


def test_engines_keep_what_is_in_order(directory: Path, tmp_path: Path) -> None:
    """A second job, which has nothing but the CA, issues nothing for them."""
    ca, other = issue("authority", days=3650), issue("other", days=3650)
    first = run(directory, **given(ca))
    held = [
        {**server, "certificate": first["servers"][server["name"]]["certificate"], "ca": first["ca"]["pem"]}
        for server in DEFAULTS["servers"]
    ]

    def again(number: int, servers: Any = held, by: Any = ca, **options: Any) -> Dict[str, Any]:
        return run(tmp_path / str(number), servers=servers, **given(by, **options))

    second = again(1)
    assert [text.partition(":")[0] for text in actions(second)] == [
        "write CA " + second["ca"]["path"],
        "issue client 'client'",
    ]
    assert second["servers"]["arm1"]["certificate"] == held[0]["certificate"]
    assert second["diff"]["before"]["servers"] == second["diff"]["after"]["servers"]
    assert again(1)["actions"] == []
    renamed = [{**held[0], "sans": ["arm2"]}, held[1]]
    names = ["arm1", "192.0.2.7", "*.example.com"]
    ends = [{**held[0], "certificate": issue("arm1", ca, days=3, usage="server", names=names)[0].decode()}]
    for number, (servers, by, options, reason) in enumerate(
        [
            (renamed, ca, {}, "issue server 'arm1': it names *.example.com, 192.0.2.7, arm1"),
            (ends, ca, {}, "issue server 'arm1': it expires"),
            ([{**held[0], "certificate": "nonsense"}], ca, {}, "issue server 'arm1': it cannot be read"),
            (held, ca, {"rotate": "certificates"}, "issue server 'arm1': rotation is requested"),
            (held, other, {"rotate": "certificates"}, "issue server 'arm1': rotation is requested"),
            (held, ca, {"key_type": "rsa-2048"}, "issue server 'arm1': its key is ecdsa-p256"),
        ],
        start=2,
    ):
        assert [text for text in actions(again(number, servers, by, **options)) if text.startswith(reason)], reason


def test_no_ca_is_new_to_engines_by_accident(directory: Path) -> None:
    ca, other = issue("authority", days=3650), issue("other", days=3650)
    trusting = [{"name": "arm1", "ca": ca[0].decode()}, {"name": "amd1"}]
    fresh = {"servers": trusting}
    for options, message in (
        ({}, r"missing, and engines trust one that is not here \(arm1: CN=authority"),
        ({"rotate": "ca_begin"}, "missing, and engines trust one that is not here"),
        ({"create_ca": False, "servers": []}, "missing, and none is to be made here; nothing was changed"),
        ({"create_ca": False, "rotate": "all"}, "missing, and engines trust one that is not here"),
        (given(other), r"the CA that is given, CN=other .*, is not the one that engines trust \(arm1: CN=authority"),
    ):
        for check in (True, False):
            with pytest.raises(FarmError, match=message):
                run(directory, check, **{**fresh, **options})
    assert not directory.exists()
    # What one engine trusts is the farm's, whatever a stray has.
    strays = [*trusting, {"name": "stray", "ca": other[0].decode()}, {"name": "broken", "ca": "nonsense"}]
    assert run(directory / "1", **given(ca), servers=strays)["changed"]
    for number, options in enumerate(({"rotate": "all"}, {**given(other), "rotate": "certificates"})):
        assert run(directory / f"asked{number}", **{**fresh, **options})["changed"]
    # Where the CA is here, others that engines trust are those that it replaces.
    assert run(directory / "asked0", **fresh)["actions"] == []
