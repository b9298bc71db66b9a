"""Certificates for a farm: what module docker_certificates issues, engines and docker itself accept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import pytest

from ansible_runs import LiveFarm, task
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


def asked(farm: LiveFarm, host: str, certificate: str, key: str) -> str:
    """What an engine answers to a certificate, which docker itself might not even show it."""
    client = f"timeout 10 openssl s_client -connect {host}:2376 -cert {certificate} -key {key} -quiet"
    return farm.ssh("ctl", f"printf 'GET /version HTTP/1.0\\r\\nHost: docker\\r\\n\\r\\n' | {client} 2>&1", check=False)


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


def test_an_eleventh_node_concerns_itself(farm: LiveFarm) -> None:
    """Of ten nodes' certificates and contexts no file is touched when another node comes."""
    config = f"{DIRECTORY}/docker"
    client = {kind: f"{DIRECTORY}/clients/client/{kind}.pem" for kind in ("ca", "cert", "key")}

    def declare(count: int) -> list[dict[str, Any]]:
        names = [f"node{number:02}" for number in range(count)]
        contexts = [{"name": name, "host": f"tcp://{name}.farm.test", **client} for name in names]
        return farm.tasks(
            "ctl",
            task("docker_certificates", directory=DIRECTORY, servers=[{"name": name} for name in names]),
            task("docker_context", docker_config=config, contexts=contexts, owner="farm"),
        )

    def files() -> set[str]:
        return set(farm.ssh("ctl", f"find {DIRECTORY} -type f -printf '%P %i %s %m %T@ %C@\n'").splitlines())

    declare(10)
    before = files()
    issued, made = declare(11)
    assert issued["actions"] == [["issue server 'node10': missing"]]
    assert made["actions"] == [["create context 'node10'"]]
    after = files()
    assert before < after
    context = hashlib.sha256(b"node10").hexdigest()
    places = ("servers/node10/", f"docker/contexts/meta/{context}/", f"docker/contexts/tls/{context}/")
    new = {line.split()[0] for line in after - before}
    assert all(path.startswith(places) for path in new), new
    assert {path.rpartition("/")[0] + "/" for path in new} == {*places[:2], places[2] + "docker/"}


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


def test_an_authority_below_another_and_keys_of_other_types(farm: LiveFarm) -> None:
    """Engines and docker trust the authority itself; its root's other certificates are of no use."""
    pki = f"{DIRECTORY}-pki"
    new_key = "openssl req -newkey rsa:2048 -nodes -keyout"
    farm.ssh(
        "ctl",
        f"rm -rf {pki}; mkdir {pki}; cd {pki}; "
        f"{new_key} root-key.pem -x509 -days 90 -subj '/CN=Root' -out root.pem; "
        f"{new_key} plain.pem -subj '/CN=Farm' -out farm.csr; "
        "printf 'basicConstraints=critical,CA:true\nkeyUsage=critical,keyCertSign\n' > extensions; "
        "openssl x509 -req -in farm.csr -CA root.pem -CAkey root-key.pem -CAcreateserial -days 60 -extfile extensions"
        " -out farm.pem; cat farm.pem root.pem > chain.pem; "
        "openssl pkcs8 -topk8 -v2 aes-256-cbc -in plain.pem -passout pass:s3cr3t-of-ours -out farm-key.pem; "
        f"{new_key} stranger-key.pem -subj '/CN=Stranger' -out stranger.csr; "
        "openssl x509 -req -in stranger.csr -CA root.pem -CAkey root-key.pem -CAcreateserial -days 9 -out stranger.pem",
    )
    outside = {"ca_cert": f"{pki}/chain.pem", "ca_key": f"{pki}/farm-key.pem", "ca_passphrase": "s3cr3t-of-ours"}
    try:
        for key_type in ("rsa-2048", "ecdsa-p384"):
            done = certificates(farm, key_type=key_type, **outside)
            assert "s3cr3t-of-ours" not in json.dumps(done)
            assert certificates(farm, key_type=key_type, **outside)["changed"] is False
            farm.ssh("ctl", f"openssl verify -untrusted {pki}/farm.pem -CAfile {pki}/root.pem {DIRECTORY}/*/*/cert.pem")
            with listening(farm, "ctl", DIRECTORY, dict.fromkeys(NODES, TLS_VERIFY)):
                assert [engine_version(farm, node)[:3] for node in NODES] == ["20.", "28."]
                files = {kind: f"{DIRECTORY}/clients/client/{kind}.pem" for kind in ("ca", "cert", "key")}
                contexts = [{"name": f"below-{node}", "host": f"tcp://{node}", **files} for node in NODES]
                farm.module("ctl", "docker_context", contexts=contexts)
                farm.module(
                    "ctl",
                    "docker_endpoint_info",
                    endpoints=[context["name"] for context in contexts],
                    require_reachable=True,
                )
                own = DIRECTORY + "/clients/client"
                assert "ApiVersion" in asked(farm, "new1", f"{own}/cert.pem", f"{own}/key.pem")
                refused = asked(farm, "new1", f"{pki}/stranger.pem", f"{pki}/stranger-key.pem")
                assert "ApiVersion" not in refused
                assert "alert" in refused
    finally:
        farm.ssh("ctl", f"rm -rf {pki} ~/.docker")


def test_the_authoritys_key_is_encrypted(farm: LiveFarm) -> None:
    certificates(farm)
    predicted = certificates(farm, check=True, ca_passphrase="s3cr3t-of-ours")
    done = certificates(farm, ca_passphrase="s3cr3t-of-ours")
    wanted = [[f"rewrite {DIRECTORY}/ca-key.pem: a passphrase is wanted"]]
    assert predicted["actions"] == done["actions"] == wanted
    assert "s3cr3t-of-ours" not in json.dumps([predicted, done])
    opened = f"openssl pkey -in {DIRECTORY}/ca-key.pem -noout -passin pass:"
    assert farm.ssh("ctl", f"{opened}s3cr3t-of-ours && echo opened").strip() == "opened"
    assert farm.ssh("ctl", f"{opened}another 2>/dev/null || echo locked").strip() == "locked"
    assert certificates(farm)["changed"] is False
    failed = certificates(farm, fails=True, rotate="certificates")
    assert "give its passphrase in ca_passphrase" in failed["msg"]
    assert certificates(farm, ca_passphrase="s3cr3t-of-ours", rotate="certificates")["changed"]


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
