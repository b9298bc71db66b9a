# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Controllers that keep nothing: each playbook begins with an inventory and credentials, and leaves nothing."""

from __future__ import annotations

import base64
import json
import secrets
import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

import farm as farms
import guides
import registry
import seed
from ansible_runs import CHECKOUT, LiveFarm, Run, task
from traces import in_output, on_host, texts_of

CONTROLLER, NODE = "ctl", "mid2"
#: Another node, on which a registry is, too.
FRONT, FRONT_PORT = "mid1", 5444
BUILDER = "jobs"
#: What another controller keeps, and where this one's credentials are for the time of a job.
KEPT, CREDENTIALS, SHELL = "/root/authority-of-jobs", "/run/job-credentials", "/usr/local/bin/job"
#: Runs a shell as a user without account and home directory, who can write nothing but temporary files.
_RUN = """#!/bin/sh
mount -o remount,bind,ro / || exit 1
[ ! -e /run/job-credentials/logins ] || export DOCKER_AUTH_CONFIG="$(cat /run/job-credentials/logins)"
exec setpriv --reuid 65432 --regid 0 --clear-groups env -u XDG_STATE_HOME HOME=/nowhere sh "$@"
"""


class Jobs:
    """A farm of one node, and a controller on which each run is a job."""

    def __init__(self, farm: LiveFarm) -> None:
        self.farm = farm
        image = f"jobs:{secrets.token_hex(4)}"
        self.variables = {**farm.variables(image), "farm_builder": BUILDER, "farm_platforms": []}
        self.variables["images_list"][0].update(platforms=["linux/amd64"], context="/tmp/context-of-jobs")
        self.variables["images_emulation"] = "forbid"
        farm.module(CONTROLLER, "docker_certificates", directory=KEPT, clients=["only"])
        self.ca, self.key = self.kept("ca.pem"), self.kept("ca-key.pem")
        self.texts = {"listener_authority_cert": self.ca, "listener_authority_key": self.key, "farm_job": True}

    def kept(self, path: str) -> str:
        """A file of what another controller keeps."""
        return self.farm.ssh(CONTROLLER, f"cat {KEPT}/{path}")

    def run(self, name: str, credentials: dict[str, Any], stranger: bool = False, **options: Any) -> Run:
        """Run a playbook on a controller that has never had one, and keeps nothing of it."""
        self.farm.ssh(CONTROLLER, "rm -rf /root/.docker /root/.config/buildfarm /tmp/context-of-jobs")
        user = {"ansible_user": "job", "ansible_remote_tmp": "/tmp/ansible-of-jobs"} if stranger else None
        groups = {"buildx_controllers": {CONTROLLER: user}, "buildx_nodes": {NODE: None}}
        done = self.farm.playbook(
            f"buildfarm.multiarch.{name}", variables={**self.variables, **credentials}, inventory=groups, **options
        )
        assert self.left() == "", done.stdout[-3000:]
        return done

    def left(self) -> str:
        """What a job has left on the controller."""
        return self.farm.ssh(
            CONTROLLER, "ls -d /tmp/buildfarm-job-* /root/.docker /root/.config/buildfarm 2>/dev/null", check=False
        )

    def started(self) -> str:
        """When the node's engine and its BuildKit were started."""
        engine = self.farm.ssh(NODE, "systemctl show -p ExecMainStartTimestampMonotonic docker")
        name = f"buildx_buildkit_{BUILDER}-{NODE}"
        return engine + self.farm.ssh(NODE, f"docker inspect -f '{{{{.State.StartedAt}}}}' {name}", check=False)


@pytest.fixture(scope="module")
def jobs(farm: LiveFarm) -> Iterator[Jobs]:
    """The farm, without what others have left and cleaned at the end."""
    farm.module(NODE, "docker_listener", state="absent", restore_daemon_config=True)
    yield Jobs(farm)
    farm.ssh(CONTROLLER, f"rm -rf {KEPT} {CREDENTIALS} /root/.docker /root/.config/buildfarm /tmp/*-of-jobs")
    own = f"docker volume ls --quiet --filter name={BUILDER}-{NODE} | xargs -r docker volume rm"
    farm.ssh(NODE, f"docker rm -f buildx_buildkit_{BUILDER}-{NODE}; {own}", check=False)
    farm.module(NODE, "docker_listener", state="absent", restore_daemon_config=True)


@pytest.fixture(scope="module")
def stranger(jobs: Jobs) -> Iterator[dict[str, Any]]:
    """What a job in a container on OpenShift has: any user's number, a root that is read only, credentials in files."""
    farm = jobs.farm
    farm.ssh(CONTROLLER, f"cat > {SHELL}-run; chmod 755 {SHELL}-run", stdin=_RUN)
    farm.ssh(
        CONTROLLER, f"cat > {SHELL}; chmod 755 {SHELL}", stdin=f'#!/bin/sh\nexec unshare --mount {SHELL}-run "$@"\n'
    )
    farm.ssh(
        CONTROLLER, f"useradd --non-unique --uid 0 --gid 0 --home-dir /root --shell {SHELL} job; usermod -p '*' job"
    )
    farm.ssh(CONTROLLER, f"install -d -m 700 -o 65432 {CREDENTIALS}; mkdir -p {CREDENTIALS}/docker")
    paths = {}
    for name, text in (("listener_authority_cert", jobs.ca), ("listener_authority_key", jobs.key)):
        paths[name] = f"{CREDENTIALS}/{name}"
        farm.ssh(CONTROLLER, f"cat > {paths[name]}", stdin=text)
    farm.ssh(CONTROLLER, f"chown -R 65432 {CREDENTIALS}; chmod -R go= {CREDENTIALS}")
    yield paths
    farm.ssh(CONTROLLER, f"userdel -f job; rm -f {SHELL} {SHELL}-run", check=False)


def test_all_playbooks_in_a_row(jobs: Jobs, stranger: dict[str, Any]) -> None:
    def run(name: str, **options: Any) -> list[str]:
        changed = jobs.run(name, stranger, stranger=True, **options).expect_success().changed
        return [text.rpartition(" : ")[2] for text in changed]

    made = ["Make the engine listen", "Declare the builder and the docker contexts of its nodes"]
    assert run("site") == made
    began = jobs.started()
    assert run("site") == []
    assert run("site", check=True) == []
    built = run("build")
    assert built[-1] == "Build the images that changed, verify each platform, and publish them"
    assert [run(name) for name in ("build", "verify")] == [[], []]
    assert jobs.started() == began
    held = jobs.farm.ssh(NODE, "cat /etc/docker/tls/cert.pem")
    assert run("rotate_certificates") == made[:1]
    assert jobs.farm.ssh(NODE, "cat /etc/docker/tls/cert.pem") != held
    assert jobs.farm.ssh(NODE, "cat /etc/docker/tls/ca.pem") == jobs.ca
    assert [run(name) for name in ("build", "prune")] == [[], []]
    assert run("teardown") == ["Remove the builder", "Close the listener"]
    assert run("teardown") == []
    own = f"--quiet --filter name={BUILDER}-{NODE}"
    assert jobs.farm.ssh(NODE, f"docker ps --all {own}; docker volume ls {own}") == ""


@pytest.fixture(scope="module")
def provisioned(jobs: Jobs) -> tuple[Run, float]:
    """The run that provisions the farm, with the authority as text, and when it began."""
    since = time.time()
    return jobs.run("site", jobs.texts, verbosity=3).expect_success(), since


def test_credentials_as_texts(jobs: Jobs, provisioned: tuple[Run, float]) -> None:
    """They leave no traces. A client's certificate is enough for all but what nodes need certificates for."""
    done, since = provisioned
    texts = texts_of(jobs.key)
    assert in_output(done, texts) == []
    assert on_host(jobs.farm, CONTROLLER, texts, since) == []
    client = {"farm_certificate": {name: jobs.kept(f"clients/only/{name}.pem") for name in ("ca", "cert", "key")}}
    began = jobs.started()
    built = jobs.run("build", client, verbosity=3).expect_success()
    assert in_output(built, texts_of(client["farm_certificate"]["key"])) == []
    assert jobs.run("verify", client).expect_success().changed == []
    (refused,) = jobs.run("site", {**client, "farm_job": True}).failures
    assert "engines trust one that is not here" in refused
    assert jobs.started() == began


def test_without_credentials_nothing_is_made_anew(jobs: Jobs, provisioned: tuple[Run, float]) -> None:
    """Neither in a job nor on a controller that would keep what it makes."""
    began = jobs.started()
    wrong = {**jobs.texts, **foreign(jobs)}
    for name, credentials, reason in (
        ("site", {}, f"missing, and engines trust one that is not here ({NODE}: CN="),
        ("site", wrong, "is not the one that engines trust"),
        ("build", {}, "missing, and none is to be made here; nothing was changed. Give the farm's CA"),
        ("build", wrong, "its certificate is not signed by the given CA"),
        # It would be lost with the job.
        ("new_authority", {"farm_job": True}, "missing, and "),
    ):
        done = jobs.run(name, credentials)
        (failure,) = done.failures
        assert reason in failure
        assert done.changed == []
    assert jobs.started() == began


def foreign(jobs: Jobs) -> dict[str, str]:
    """An authority that no engine trusts."""
    jobs.farm.module(CONTROLLER, "docker_certificates", directory=f"{KEPT}/other", clients=[])
    return {
        "listener_authority_cert": jobs.kept("other/ca.pem"),
        "listener_authority_key": jobs.kept("other/ca-key.pem"),
    }


def test_a_farm_whose_authority_is_lost_gets_a_new_one(jobs: Jobs, provisioned: tuple[Run, float]) -> None:
    """One that is given, and one that the controller makes and keeps."""
    other = {**jobs.texts, **foreign(jobs)}
    done = jobs.run("new_authority", other).expect_success()
    assert [text.partition(":")[0] for text in done.changed] == [NODE]
    assert jobs.farm.ssh(NODE, "cat /etc/docker/tls/ca.pem") == other["listener_authority_cert"]
    jobs.run("build", other).expect_success()
    groups = {"buildx_controllers": {CONTROLLER: None}, "buildx_nodes": {NODE: None}}
    for name in ("new_authority", "build", "teardown"):
        run = jobs.farm.playbook(f"buildfarm.multiarch.{name}", variables=jobs.variables, inventory=groups)
        assert run.expect_success().changed or name == "build"


class Private:
    """Registries that want a login and have authorities of their own: one takes passwords, the other one tokens."""

    def __init__(self, farm: LiveFarm) -> None:
        self.passwords, self.tokens = farm.secure_registry, f"{FRONT}.{farms.DOMAIN}:{FRONT_PORT}"
        login = base64.b64encode(f"{registry.USER}:{registry.PASSWORD}".encode()).decode()
        self.secrets = [registry.PASSWORD, login]
        self.logins = json.dumps({"auths": {name: {"auth": login} for name in (self.passwords, self.tokens)}})
        self.authorities: dict[str, str] = {}

    def variables(self, image: str) -> dict[str, Any]:
        """What a user declares, who has BuildKit's image and base images there too."""
        return {
            "engine_registry_authorities": self.authorities,
            "engine_daemon_config": stricter(),
            "farm_buildkitd_config": "",
            "farm_driver_opts": {"image": f"{self.tokens}/{seed.BUILDKIT}", "network": "host"},
            "images_list": [
                {
                    "name": f"{self.passwords}/{image}",
                    "copy_to": [f"{self.tokens}/copies/{image}"],
                    "platforms": ["linux/amd64"],
                    "source": str(CHECKOUT / "examples/hello"),
                    "context": "/tmp/context-of-jobs",
                    "build_args": {"REGISTRY": f"{self.tokens}/library"},
                    "run": {"command": ["/hello"], "expected_regex": "^hello from {platform} on .*"},
                }
            ],
        }


def stricter() -> dict[str, Any]:
    """The options of a stricter engine that the security guide has."""
    page = CHECKOUT / "docs/docsite/rst/guide_security.rst"
    (shown,) = [block for block in guides.blocks(page) if "engine_daemon_config" in block.text]
    return dict(yaml.safe_load(shown.text)["engine_daemon_config"])


@pytest.fixture(scope="module")
def private(farm: LiveFarm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Private]:
    """The farm's secure registry, and in front of its store one with tokens."""
    made, files = Private(farm), tmp_path_factory.mktemp("front")
    registry.certificate(files, [f"{FRONT}.{farms.DOMAIN}"])
    (files / "login").write_text(f"{registry.USER}:{registry.PASSWORD}")
    (files / "front.py").write_text((CHECKOUT / "tests/integration/registry_front.py").read_text())
    made.authorities[made.passwords] = (farm.farm.directory / "registry/farm/certificate.pem").read_text()
    made.authorities[made.tokens] = (files / "certificate.pem").read_text()
    farm.ssh(FRONT, "install -d -m 700 /srv/front")
    for path in files.iterdir():
        farm.ssh(FRONT, f"cat > /srv/front/{path.name}", stdin=path.read_text())
    serve = f"python3 /srv/front/front.py {FRONT_PORT} {farm.registry} /srv/front"
    farm.ssh(FRONT, f"systemd-run --collect --unit private-registry {serve}")
    connect = f'import socket; socket.create_connection(("127.0.0.1", {FRONT_PORT}))'
    farm.ssh(FRONT, f"timeout 60 sh -c 'until python3 -c \"$0\" 2>&-; do sleep 0.1; done' '{connect}'")
    yield made
    print(farm.ssh(FRONT, "journalctl -u private-registry -o cat -n 40; systemctl stop private-registry", check=False))
    farm.ssh(FRONT, "rm -rf /srv/front")
    farm.ssh(NODE, "rm -rf /etc/docker/certs.d/registry.* /etc/docker/certs.d/mid*; docker image prune -af")


def test_a_private_registry_takes_an_authority_and_a_login_once(
    jobs: Jobs, stranger: dict[str, Any], private: Private
) -> None:
    """The engine pulls BuildKit's image, BuildKit pulls bases and pushes, the modules read and write indexes.

    The engine is one as the security guide hardens it, with files as scanners want them.
    """
    wanted = {**stranger, **private.variables(f"jobs-{secrets.token_hex(4)}:1")}
    since = time.time()
    jobs.farm.ssh(CONTROLLER, f"install -m 600 -o 65432 /dev/stdin {CREDENTIALS}/logins", stdin=private.logins)
    try:
        for name in ("site", "build", "verify"):
            done = jobs.run(name, wanted, stranger=True, verbosity=3).expect_success()
            assert in_output(done, private.secrets) == []
            assert done.changed or name == "verify"
        assert jobs.run("site", wanted, stranger=True).expect_success().changed == []
        assert on_host(jobs.farm, CONTROLLER, private.secrets, since) == []
        info = json.loads(jobs.farm.ssh(NODE, "docker info --format json"))
        assert info["LiveRestoreEnabled"] and "name=no-new-privileges" in info["SecurityOptions"]
        files = "/etc/docker/tls/*.pem /etc/docker/certs.d/*/ca.crt /etc/docker/daemon.json"
        modes = jobs.farm.ssh(NODE, f"stat -c '%a %U %n' {files} | sed 's,/.*/,,'").splitlines()
        assert sorted(set(modes)) == [
            "400 root key.pem",
            "444 root ca.crt",
            "444 root ca.pem",
            "444 root cert.pem",
            "644 root daemon.json",
        ]
    finally:
        jobs.farm.ssh(CONTROLLER, f"rm {CREDENTIALS}/logins")


def test_a_controller_that_keeps_things_takes_them_too(jobs: Jobs, private: Private) -> None:
    """With the modules alone, and where buildx moves the tags."""
    farm, name, image = jobs.farm, "private", f"jobs-{secrets.token_hex(4)}:2"
    node = {
        "name": name,
        "endpoint": "unix:///var/run/docker.sock",
        "driver_opts": {"image": f"{farm.registry}/{seed.BUILDKIT}", "network": "host"},
        "registry_authorities": private.authorities,
    }
    made, copy = f"{private.tokens}/{image}", f"{private.passwords}/copies/{image}"
    dockerfile = f"FROM {private.tokens}/library/busybox\nRUN echo {secrets.token_hex(4)} > /note\n"
    farm.ssh(CONTROLLER, "mkdir -p /tmp/private-of-jobs; cat > /tmp/private-of-jobs/Dockerfile", stdin=dockerfile)
    where = {"environment": {"DOCKER_AUTH_CONFIG": private.logins}}
    build = {"builder": name, "context": "/tmp/private-of-jobs", "platforms": ["linux/amd64"], "gate": False}
    tasks = [
        task("buildx_builder", name=name, nodes=[node]),
        task("buildx_builder", name=name, nodes=[node]),
        task("buildx_build", **where, **build, tags=[made], push=True),
        task("buildx_imagetools", **where, builder=name, tags=[copy], sources=[{"name": made}]),
        task("image_verify", **where, builder=name, name=copy, platforms=["linux/amd64"]),
        # What was taken away is missing, and is named.
        task("buildx_builder", name=name, nodes=[{**node, "registry_authorities": {}}], state="defined"),
        task("image_verify", fails=True, **where, builder=name, name=copy),
        task("buildx_builder", name=name, state="absent"),
    ]
    with farm.trusted_registry(CONTROLLER):
        results = farm.tasks(CONTROLLER, *tasks)
    assert [one["changed"] for one in results[:5]] == [True, False, True, True, False]
    assert "is not trusted: self-signed certificate; name its authority in engine_registry" in results[6]["msg"]
    assert not [one for one in private.secrets if one in json.dumps(results)]
