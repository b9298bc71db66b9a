# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import shutil
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils import _certificates as module
from ansible_collections.buildfarm.multiarch.plugins.module_utils import _x509
from ansible_collections.buildfarm.multiarch.plugins.module_utils._errors import FarmError

pytest.importorskip("cryptography")

DEFAULTS: Dict[str, Any] = {
    "servers": [{"name": "arm1", "sans": ["192.0.2.7", "*.Example.com"]}, {"name": "2001:db8::0007", "sans": None}],
    "clients": ["client"],
    "validity_days": 365,
    "renew_before_days": 30,
    "ca_common_name": "Farm CA",
    "ca_validity_days": 3650,
    "rotate": "none",
}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "certificates"


def run(directory: Path, check: bool = False, **options: Any) -> Dict[str, Any]:
    params = {**DEFAULTS, "directory": str(directory), **options}
    return module.certificates(params, check, None).as_result()  # type: ignore[arg-type]


def actions(result: Dict[str, Any]) -> List[str]:
    return [action for (action,) in result["actions"]]


def test_first_run_is_predicted_and_second_changes_nothing(directory: Path) -> None:
    predicted = run(directory, check=True)
    assert not directory.parent.exists()
    done = run(directory)
    assert (predicted["actions"], predicted["diff"]) == (done["actions"], done["diff"])
    assert predicted["ca"] == {**done["ca"], "pem": None, "not_after": None, "fingerprint": None}
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


def test_leaves_are_renewed_in_time(directory: Path) -> None:
    first = run(directory, validity_days=20, renew_before_days=10)
    assert run(directory, renew_before_days=19)["changed"] is False
    done = run(directory)
    expires = first["servers"]["arm1"]["not_after"]
    assert actions(done)[0] == f"{ISSUE}it expires {expires}"
    assert len(actions(done)) == 3
    assert done["ca"] == first["ca"]


def test_expired_is_told_from_expiring(directory: Path) -> None:
    run(directory)
    declared = module.declare({**DEFAULTS, "directory": str(directory)})
    later = datetime.now(timezone.utc) + timedelta(days=366)
    steps = module.plan(module.read(declared), declared, later)
    assert all("it expired 20" in why for why in steps.leaves.values())
    assert (steps.ca, len(steps.leaves)) == (None, 3)


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
    assert actions(leaves)[0] == ISSUE + "rotation is asked for"
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
    real = module.write_together
    for rotate, ended_after in [("none", 0), ("none", 1), ("none", 2), ("none", 3), ("all", 1), ("all", 2), ("all", 3)]:
        left = iter(range(ended_after, -1, -1))

        def power_cut(files: Any, left: Iterator[int] = left) -> None:
            if next(left) == 0:
                raise KeyboardInterrupt
            real(files)

        monkeypatch.setattr(module, "write_together", power_cut)
        with pytest.raises(KeyboardInterrupt):
            run(directory, rotate=rotate)
        monkeypatch.setattr(module, "write_together", real)
        done = run(directory)
        ca = _x509.read_certificate(done["ca"]["pem"].encode())
        assert _x509.read_certificate(done["servers"]["arm1"]["certificate"].encode()).signed_by(ca)
        assert run(directory)["changed"] is False
        if rotate == "none":
            shutil.rmtree(directory)


def test_full_disk_names_the_file(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(files: Any) -> None:
        raise OSError(28, "No space left on device", "/somewhere/key.pem")

    monkeypatch.setattr(module, "write_together", full)
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
        ({"renew_before_days": -1}, "renew_before_days"),
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


def test_a_ca_of_the_users_own(directory: Path) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    directory.mkdir(parents=True)
    (directory / "ca-key.pem").write_bytes(key)
    (directory / "ca-key.pem").chmod(0o600)
    cert = _x509.issue_authority(key, "Corporate CA", datetime.now(timezone.utc) + timedelta(days=90))
    (directory / "ca.pem").write_bytes(cert)
    assert len(actions(run(directory))) == 3
    assert (directory / "ca.pem").read_bytes() == cert
    assert run(directory)["changed"] is False
