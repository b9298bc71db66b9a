"""Docker contexts: what module docker_context writes, the docker CLI reads and uses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from ansible_runs import LiveFarm
from listeners import TLS_VERIFY, listening

DIRECTORY = "/root/certificates-of-a-test"
CONFIG = "/root/docker-of-a-test"
CLIENT = f"{DIRECTORY}/clients/client"
TLS = {"ca": f"{CLIENT}/ca.pem", "cert": f"{CLIENT}/cert.pem", "key": f"{CLIENT}/key.pem"}


@pytest.fixture(scope="module", autouse=True)
def engines(farm: LiveFarm) -> Iterator[None]:
    """Engines of 20.10 and 26.1 that listen with mutual TLS; the other one is known by its address only."""
    servers = [{"name": "old1"}, {"name": "mid1"}, {"name": farm.address("mid1")}]
    farm.module("ctl", "docker_certificates", directory=DIRECTORY, servers=servers)
    farm.ssh("ctl", f"cp {DIRECTORY}/servers/{farm.address('mid1')}/* {DIRECTORY}/servers/mid1/")
    with listening(farm, "ctl", DIRECTORY, dict.fromkeys(("old1", "mid1"), TLS_VERIFY)):
        yield
    farm.ssh("ctl", f"rm -rf {DIRECTORY}")


@pytest.fixture(autouse=True)
def clean(farm: LiveFarm) -> Iterator[None]:
    farm.ssh("ctl", f"rm -rf {CONFIG}")
    yield
    farm.ssh("ctl", f"rm -rf {CONFIG}")


def contexts(farm: LiveFarm, *items: dict[str, Any], **options: Any) -> dict[str, Any]:
    return farm.module("ctl", "docker_context", **{"docker_config": CONFIG, "contexts": list(items), **options})


def docker(farm: LiveFarm, *arguments: str, check: bool = True) -> str:
    return farm.ssh("ctl", f"docker --config {CONFIG} {' '.join(arguments)} 2>&1", check=check).strip()


def test_docker_uses_the_contexts(farm: LiveFarm) -> None:
    items = [
        {"name": "old1", "host": "tcp://old1", "description": "the <old> one", **TLS},
        {"name": "mid1", "host": f"tcp://{farm.address('mid1')}:2376", **TLS},
    ]
    predicted = contexts(farm, *items, check=True)
    done = contexts(farm, *items)
    for key in ("changed", "actions", "diff", "contexts"):
        assert predicted[key] == done[key], key
    assert done["changed"]
    assert contexts(farm, *items)["changed"] is False
    assert docker(farm, "--context old1 version -f '{{.Server.Version}}'").startswith("20.10")
    assert docker(farm, "--context mid1 version -f '{{.Server.Version}}'").startswith("26.1")
    shown = json.loads(docker(farm, "context inspect old1"))[0]
    assert shown["Metadata"] == {"Description": "the <old> one"}
    assert shown["Endpoints"]["docker"] == {"Host": "tcp://old1:2376", "SkipTLSVerify": False}
    assert sorted(shown["TLSMaterial"]["docker"]) == ["ca.pem", "cert.pem", "key.pem"]
    assert farm.ssh("ctl", f"stat -c %a {done['contexts'][0]['tls']['key']}").strip() == "600"


def test_what_docker_wrote_is_not_written_again(farm: LiveFarm) -> None:
    material = ",".join(f"{kind}={path}" for kind, path in TLS.items())
    docker(farm, f"context create old1 --description theirs --docker host=tcp://old1:2376,{material}")
    assert contexts(farm, {"name": "old1", "host": "tcp://old1:2376", **TLS})["changed"] is False
    done = contexts(farm, {"name": "old1", "host": "tcp://old1:2376", "description": "", **TLS})
    assert done["diff"]["before"]["old1"]["description"] == "theirs"
    assert json.loads(docker(farm, "context inspect old1"))[0]["Metadata"] == {}


def test_renewed_certificates_are_noticed(farm: LiveFarm) -> None:
    item = {"name": "old1", "host": "tcp://old1:2376", **TLS}
    contexts(farm, item)
    farm.module("ctl", "docker_certificates", directory=DIRECTORY, rotate="certificates")
    done = contexts(farm, item)
    assert done["actions"] == [["update context 'old1'"]]
    before, after = done["diff"]["before"]["old1"], done["diff"]["after"]["old1"]
    assert {key for key in before if before[key] != after[key]} == {"cert", "key"}
    assert docker(farm, "--context old1 version -f '{{.Server.Version}}'").startswith("20.10")


def test_certificates_that_are_yet_to_be_issued(farm: LiveFarm) -> None:
    item = {"name": "old1", "host": "tcp://old1:2376", **{kind: f"/nowhere/{kind}.pem" for kind in TLS}}
    assert contexts(farm, item, check=True)["changed"]
    assert "/nowhere/ca.pem: no such file" in contexts(farm, item, fails=True)["msg"]


def test_a_key_that_does_not_fit(farm: LiveFarm) -> None:
    item = {"name": "old1", "host": "tcp://old1:2376", **TLS, "key": f"{DIRECTORY}/servers/old1/key.pem"}
    for check in (True, False):
        assert "matching key" in contexts(farm, item, fails=True, check=check)["msg"]
    assert docker(farm, "context ls -q") == "default"


def test_the_name_of_a_builder(farm: LiveFarm) -> None:
    contexts(farm, {"name": "old1", "host": "tcp://old1:2376", **TLS})
    docker(farm, "buildx create --name Farm --driver docker-container old1")
    failed = contexts(farm, {"name": "Farm", "host": "ssh://old1"}, fails=True)
    assert f"a buildx builder is called so ({CONFIG}/buildx/instances/farm)" in failed["msg"]


def test_plain_tcp_has_to_be_asked_for(farm: LiveFarm) -> None:
    failed = contexts(farm, {"name": "mid1", "host": "tcp://mid1:2375"}, fails=True)
    assert "insecure=true" in failed["msg"]
    assert contexts(farm, {"name": "mid1", "host": "tcp://mid1:2375", "insecure": True})["changed"]


def test_the_docker_cli_keeps_whose_a_context_is(farm: LiveFarm) -> None:
    """CLIs of 20.10, 26.1 and 28.5: a context that was updated, or exported and imported, stays the owner's."""
    hosts = {"old1": "20.10", "ctl": "26.1", "ctlnew": "28.5"}
    declared = [{"name": name, "host": f"ssh://{name}"} for name in ("kept", "former", "moved")]
    options = {"docker_config": CONFIG, "owner": "farm"}
    cli = f"docker --config {CONFIG} context"
    by_hand = (
        "docker --version; set -e; cd /tmp; rm -f moved.tar; "
        f"{cli} update former --description 'by hand' --docker host=ssh://elsewhere; "
        f"{cli} export moved moved.tar; {cli} rm moved; {cli} import moved moved.tar; rm moved.tar; "
        f"{cli} create copy --from former; {cli} create theirs --docker host=ssh://theirs"
    )
    tasks = [
        {"buildfarm.multiarch.docker_context": {**options, "contexts": declared}},
        {"ansible.builtin.command": {"argv": ["sh", "-c", by_hand]}},
        {"buildfarm.multiarch.docker_context": {**options, "contexts": declared[:1], "purge": True}},
        {"ansible.builtin.command": {"argv": ["sh", "-c", f"{cli} ls -q; rm -rf {CONFIG}"]}},
    ]
    run = farm.play([{"hosts": ":".join(hosts), "gather_facts": False, "tasks": tasks}]).expect_success()
    for host, version in hosts.items():
        _made, changed, purged, left = (task.result for task in run.tasks if task.host == host)
        assert f"version {version}" in changed["stdout"]
        assert purged["actions"] == [["remove context 'former'"], ["remove context 'moved'"]], host
        assert left["stdout"].split() == ["copy", "default", "kept", "theirs"], host


def test_absent(farm: LiveFarm) -> None:
    contexts(farm, {"name": "old1", "host": "tcp://old1:2376", **TLS}, {"name": "mid1", "host": "ssh://mid1"})
    docker(farm, "context use mid1")
    gone = [{"name": "old1"}, {"name": "never"}]
    assert contexts(farm, *gone, state="absent", check=True)["actions"] == [["remove context 'old1'"]]
    assert contexts(farm, *gone, state="absent")["changed"]
    assert contexts(farm, *gone, state="absent")["changed"] is False
    assert docker(farm, "context ls -q").split() == ["default", "mid1"]
    assert "docker context use default" in contexts(farm, {"name": "mid1"}, state="absent", fails=True)["msg"]
    docker(farm, "context use default")
    assert contexts(farm, {"name": "mid1"}, state="absent")["changed"]
    assert farm.ssh("ctl", f"find {CONFIG}/contexts -name '*.pem' -o -name meta.json") == ""
