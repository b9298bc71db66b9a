"""Certificates for a farm: what module docker_certificates issues, engines and docker itself accept."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from ansible_runs import LiveFarm
from listeners import TLS_VERIFY, listening

DIRECTORY = "/root/certificates-of-a-test"
#: An engine of 20.10, and one of 28.5.
NODES = ("old1", "new1")


@pytest.fixture(autouse=True)
def clean(farm: LiveFarm) -> Iterator[None]:
    farm.ssh("ctl", f"rm -rf {DIRECTORY}")
    yield
    farm.ssh("ctl", f"rm -rf {DIRECTORY}")


def certificates(farm: LiveFarm, **options: Any) -> dict[str, Any]:
    servers = [{"name": node, "sans": [farm.address(node), f"{node}.farm.test"]} for node in NODES]
    return farm.module("ctl", "docker_certificates", **{"directory": DIRECTORY, "servers": servers, **options})


def engine_version(farm: LiveFarm, host: str, client: str = "client") -> str:
    """What the docker CLI of the controller hears from an engine over mutual TLS."""
    environment = f"DOCKER_CERT_PATH={DIRECTORY}/clients/{client} DOCKER_TLS_VERIFY=1 DOCKER_HOST=tcp://{host}:2376"
    return farm.ssh("ctl", f"{environment} docker version -f '{{{{.Server.Version}}}}' 2>&1", check=False).strip()


def test_issue_once_for_the_whole_farm(farm: LiveFarm) -> None:
    predicted = certificates(farm, check=True)
    assert "absent" in farm.ssh("ctl", f"test -e {DIRECTORY} || echo absent")
    done = certificates(farm)
    assert (predicted["changed"], predicted["actions"], predicted["diff"]) == (True, done["actions"], done["diff"])
    assert predicted["servers"]["old1"]["certificate"] is None
    again = certificates(farm)
    assert (again["changed"], again["servers"], again["ca"]) == (False, done["servers"], done["ca"])
    assert "PRIVATE" not in json.dumps([predicted, done, again])
    modes = farm.ssh("ctl", f"stat -c '%a %n' {DIRECTORY} $(find {DIRECTORY} -name '*key.pem')").splitlines()
    assert [line.split()[0] for line in modes] == ["700", "600", "600", "600", "600"]
    # OpenSSL's strict mode, and the fingerprint as it shows it.
    farm.ssh("ctl", f"openssl verify -x509_strict -CAfile {DIRECTORY}/ca.pem {DIRECTORY}/*/*/cert.pem")
    shown = farm.ssh("ctl", f"openssl x509 -noout -fingerprint -sha256 -in {DIRECTORY}/servers/old1/cert.pem")
    assert shown.strip().endswith(done["servers"]["old1"]["fingerprint"])


def test_engines_accept_what_is_issued_and_renewed(farm: LiveFarm) -> None:
    certificates(farm)
    with listening(farm, "ctl", DIRECTORY, dict.fromkeys(NODES, TLS_VERIFY)):
        for node in NODES:
            for name in (node, f"{node}.farm.test", farm.address(node)):
                assert engine_version(farm, name)[:3] in ("20.", "28."), (name, engine_version(farm, name))
        # A client of another name, and clients with new keys, are let in by engines that still have the old files.
        done = certificates(farm, clients=["client", "monitoring"])
        assert done["actions"] == [["issue client 'monitoring': missing"]]
        certificates(farm, clients=["client", "monitoring"], rotate="certificates")
        assert engine_version(farm, "new1", "monitoring").startswith("28.")
        # A renewed CA keeps its key: clients of the new one and engines of the old one trust each other.
        renewed = certificates(farm, renew_before_days=3655, validity_days=4000, ca_validity_days=4000)
        assert renewed["actions"][0][0].startswith(f"issue CA {DIRECTORY}/ca.pem: it expires")
        assert len(renewed["actions"]) == 4
        assert engine_version(farm, "old1").startswith("20.")
        # A new CA does not: that is what it is for.
        certificates(farm, rotate="all")
        assert "certificate" in engine_version(farm, "old1")


def test_only_what_is_wrong_is_repaired(farm: LiveFarm) -> None:
    before = certificates(farm)
    farm.ssh("ctl", f"echo damaged > {DIRECTORY}/servers/old1/cert.pem; chmod 644 {DIRECTORY}/clients/client/key.pem")
    predicted = certificates(farm, check=True)
    done = certificates(farm)
    wanted = [[f"set mode 0600 of {DIRECTORY}/clients/client/key.pem"], ["issue server 'old1': it cannot be read"]]
    assert predicted["actions"] == done["actions"] == wanted
    assert done["servers"]["new1"] == before["servers"]["new1"]
    assert certificates(farm)["changed"] is False


def test_a_damaged_ca_is_reported_and_kept(farm: LiveFarm) -> None:
    certificates(farm)
    farm.ssh("ctl", f"truncate -s 100 {DIRECTORY}/ca.pem")
    for check in (True, False):
        failed = certificates(farm, fails=True, check=check)
        assert f"CA {DIRECTORY}/ca.pem: not a certificate in PEM" in failed["msg"]
        assert "rotate=all" in failed["msg"]
    assert farm.ssh("ctl", f"stat -c %s {DIRECTORY}/ca.pem").strip() == "100"


def test_a_controller_without_the_library(farm: LiveFarm) -> None:
    """Check mode predicts the first run on a bare host; a real run says what is missing. mid2 has no cryptography."""
    arguments = {"directory": DIRECTORY, "servers": [{"name": "mid1"}]}
    assert "none" in farm.ssh("mid2", "python3 -c 'import cryptography' 2>/dev/null || echo none")
    predicted = farm.module("mid2", "docker_certificates", check=True, **arguments)
    assert len(predicted["actions"]) == 3
    failed = farm.module("mid2", "docker_certificates", fails=True, **arguments)
    assert "'cryptography' is not installed" in failed["msg"]
    farm.ssh("mid2", f"rm -rf {DIRECTORY}")
