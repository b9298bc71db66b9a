# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The role engine on bare hosts: from Docker's repository, as the farm serves it, and from the distribution."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import pytest

import docker_repository
import farm as farms
from ansible_runs import LiveFarm, Run
from engines import apply, as_predicted, served

#: The first gets Docker's packages, the second the distribution's.
BARE, OTHER = "bare3", "bare4"
SOURCES = "/etc/apt/sources.list.d/docker.sources"
KEYRING = "/etc/apt/keyrings/docker.asc"
#: What tells whether a refused run has changed anything.
STATE = f"ls {SOURCES} {KEYRING} /etc/docker 2>/dev/null; dpkg-query -W | sha256sum"
#: What tells of a declaration of Docker's repository.
DECLARED = f"cat {SOURCES} {KEYRING}; ls /etc/apt/sources.list.d /etc/apt/keyrings"
#: A derivative of Debian with a code name of its own, which tells none of Debian's.
KALI = 'ID=kali\nID_LIKE=debian\nVERSION_ID="2026.3"\nVERSION_CODENAME=kali-rolling\n'


@pytest.fixture(scope="module")
def docker(farm: LiveFarm) -> Iterator[dict[str, Any]]:
    """The role's variables for the farm's own repository, which is served meanwhile."""
    with served(farm, docker_repository.repository(), docker_repository.PATH, docker_repository.KEY) as variables:
        yield variables


def refused(farm: LiveFarm, host: str, **variables: Any) -> str:
    """Return the message of the one task by which the role refuses; nothing may have changed."""
    before = farm.ssh(host, STATE, check=False)
    run = apply(farm, host, **variables)
    assert run.rc != 0
    assert run.changed == []
    assert farm.ssh(host, STATE, check=False) == before
    (message,) = run.failures
    return message


def versions(farm: LiveFarm, host: str) -> dict[str, str]:
    """Return the packages of an engine that are installed, with their versions."""
    names = "docker-ce docker-ce-cli containerd.io docker.io docker-cli containerd runc"
    listed = farm.ssh(
        host, f"dpkg-query -W -f '${{Package}} ${{Version}} ${{db:Status-Status}}\n' {names}", check=False
    )
    return dict(line.split()[:2] for line in listed.splitlines() if line.endswith(" installed"))


def changes(run: Run) -> list[str]:
    """The names of the tasks that changed something."""
    return [task.rpartition(" : ")[2] for task in run.changed]


@contextlib.contextmanager
def taken_for(farm: LiveFarm, host: str, os_release: str) -> Iterator[None]:
    """Give a host the os-release file of another distribution for a while."""
    farm.ssh(host, "mv /etc/os-release /etc/os-release.own; cat > /etc/os-release", stdin=os_release)
    try:
        yield
    finally:
        farm.ssh(host, "mv /etc/os-release.own /etc/os-release")


def test_none_wants_an_engine_that_is_there(farm: LiveFarm) -> None:
    message = refused(farm, BARE, engine_source="none")
    assert "found debian without Docker's engine, wanted Docker's engine, and engine_source is 'none'" in message


def test_a_key_with_another_checksum_is_refused(farm: LiveFarm, docker: dict[str, Any]) -> None:
    message = refused(farm, BARE, **{**docker, "engine_repository_key_checksum": "sha256:" + "0" * 64})
    assert "did not match" in message


@pytest.mark.parametrize("version", [f"5:{docker_repository.OLDER}-1~debian.13~trixie", "26.1.4-1", "20.10"])
def test_a_version_in_another_form_is_refused(farm: LiveFarm, docker: dict[str, Any], version: str) -> None:
    message = refused(farm, BARE, **docker, engine_version=version)
    assert f"engine_version '{version}': wanted a form like 28.5.2" in message


def test_a_derivative_that_does_not_tell_its_parents_release_is_refused(farm: LiveFarm, docker: dict[str, Any]) -> None:
    with taken_for(farm, BARE, KALI):
        message = refused(farm, BARE, **docker)
        assert "found kali" in message
        assert "engine_repository_release" in message


def test_a_repository_that_apt_refuses_is_taken_back(farm: LiveFarm, docker: dict[str, Any]) -> None:
    before = farm.ssh(BARE, STATE, check=False)
    run = apply(farm, BARE, **docker, engine_repository_release="kali-rolling")
    assert run.rc != 0
    message = run.failures[-1]
    assert "kali-rolling Release' does not have a Release file" in message
    assert "engine_repository_release" in message
    assert farm.ssh(BARE, STATE, check=False) == before
    farm.ssh(BARE, "apt-get --quiet update --error-on=any")
    apply(farm, BARE, check=True, engine_source="distribution").expect_success()


def test_from_dockers_repository_at_a_version(farm: LiveFarm, docker: dict[str, Any]) -> None:
    older = {**docker, "engine_version": docker_repository.OLDER, "engine_daemon_config": {"labels": ["farm=yes"]}}
    before = farm.ssh(BARE, STATE, check=False)
    predicted = apply(farm, BARE, check=True, **older).expect_success()
    assert farm.ssh(BARE, STATE, check=False) == before, "check mode changed the host"
    done = apply(farm, BARE, **older).expect_success()
    assert as_predicted(predicted, done)
    assert len(done.changed) == 4  # key, repository, packages, options

    wanted = f"5:{docker_repository.OLDER}-1~debian.13~trixie"
    found = versions(farm, BARE)
    assert (found["docker-ce"], found["docker-ce-cli"]) == (wanted, wanted)
    assert set(found) == {"docker-ce", "docker-ce-cli", "containerd.io"}
    assert farm.ssh(BARE, "systemctl is-enabled docker").strip() == "enabled"
    assert farm.ssh(BARE, "docker info --format '{{.Labels}}'").strip() == "[farm=yes]"

    again = apply(farm, BARE, **older).expect_success()
    assert again.changed == []
    assert not [task.task for task in again.tasks if task.action.endswith(("apt", "get_url", "copy"))]
    assert apply(farm, BARE, check=True, **older).expect_success().changed == []


def test_an_older_engine_than_the_minimum_is_upgraded(farm: LiveFarm, docker: dict[str, Any]) -> None:
    newer = {**docker, "engine_minimum_version": docker_repository.NEWER}
    predicted = apply(farm, BARE, check=True, **newer).expect_success()
    done = apply(farm, BARE, **newer).expect_success()
    assert as_predicted(predicted, done)
    assert changes(done) == ["Install packages with apt"]
    found = versions(farm, BARE)
    assert all(found[name].startswith(f"5:{docker_repository.NEWER}-") for name in ("docker-ce", "docker-ce-cli"))
    assert apply(farm, BARE, **newer).expect_success().changed == []
    # Any version at or above the minimum will do.
    assert apply(farm, BARE, **{**docker, "engine_minimum_version": "25.0"}).expect_success().changed == []
    # One that no repository has is an error, and the engine stays.
    run = apply(farm, BARE, **{**docker, "engine_minimum_version": "99.0"})
    assert "docker-ce>=5:99.0" in str(run.failures)
    assert versions(farm, BARE)["docker-ce"].startswith(f"5:{docker_repository.NEWER}-")


def test_a_newer_engine_than_the_version_is_replaced(farm: LiveFarm, docker: dict[str, Any]) -> None:
    """The one that runs too, where packages restart nothing, as Ubuntu's does by itself."""
    older, policy = {**docker, "engine_version": docker_repository.OLDER}, "/usr/sbin/policy-rc.d"
    farm.ssh(BARE, f"printf '#!/bin/sh\nexit 101\n' > {policy}; chmod 755 {policy}")
    try:
        predicted = apply(farm, BARE, check=True, **older).expect_success()
        done = apply(farm, BARE, **older).expect_success()
    finally:
        farm.ssh(BARE, f"rm {policy}")
    assert as_predicted(predicted, done)
    assert versions(farm, BARE)["docker-ce"].startswith(f"5:{docker_repository.OLDER}-")
    running = "readlink /proc/$(systemctl show --property=MainPID --value docker)/exe"
    assert farm.ssh(BARE, running).strip() == "/usr/sbin/dockerd"
    assert farm.ssh(BARE, "docker version --format '{{.Server.Version}}'").strip()


def test_another_repository_is_declared_anew(farm: LiveFarm, docker: dict[str, Any]) -> None:
    moved = {**docker, "engine_repository": docker["engine_repository"].replace(farms.REGISTRY, "registry")}
    done = apply(farm, BARE, **moved).expect_success()
    assert changes(done) == ["Declare Docker's repository to the package manager"]
    assert "http://registry:" in farm.ssh(BARE, f"cat {SOURCES}")
    assert apply(farm, BARE, **moved).expect_success().changed == []


def test_a_repository_that_apt_refuses_is_replaced_by_the_one_before(farm: LiveFarm, docker: dict[str, Any]) -> None:
    before = farm.ssh(BARE, DECLARED)
    # The key is another one too.
    farm.ssh(BARE, f"echo >> {KEYRING}")
    changed = farm.ssh(BARE, DECLARED)
    assert changed != before
    run = apply(farm, BARE, **docker, engine_repository_release="nowhere")
    assert "nowhere Release' does not have a Release file" in run.failures[-1]
    assert farm.ssh(BARE, DECLARED) == changed
    assert apply(farm, BARE, **docker).expect_success().failures == []
    assert farm.ssh(BARE, f"ls {KEYRING}* {SOURCES}*").split() == [KEYRING, SOURCES]


def test_the_version_as_apt_prints_it_is_met_where_it_is_installed(farm: LiveFarm, docker: dict[str, Any]) -> None:
    full = versions(farm, BARE)["docker-ce"]
    for spelling in (full, full.partition(":")[2]):
        assert apply(farm, BARE, **docker, engine_version=spelling).expect_success().changed == []
    message = refused(farm, BARE, **docker, engine_version=full.replace("-1~", "-2~"))
    assert f"wanted a form like {docker_repository.OLDER}" in message


def test_the_engine_that_is_there_is_used(farm: LiveFarm) -> None:
    before = versions(farm, BARE)
    for source in ("distribution", "none"):
        assert apply(farm, BARE, engine_source=source).expect_success().changed == []
    assert "wanted version 1.2.3, and engine_source is 'none'" in refused(
        farm, BARE, engine_source="none", engine_version="1.2.3"
    )
    assert versions(farm, BARE) == before


def test_from_the_distribution_with_members_authorities_and_options(farm: LiveFarm, docker: dict[str, Any]) -> None:
    farm.ssh(OTHER, "id farmer >/dev/null 2>&1 || useradd --create-home farmer")
    declared = {
        "engine_users": ["farmer"],
        "engine_registry_authorities": {farm.secure_registry: certificate(farm)},
        "engine_daemon_config": {
            "log-driver": "local",
            "live-restore": True,
            "features": {"containerd-snapshotter": True},
            "insecure-registries": [farm.registry],
            "registry-mirrors": [f"http://{farm.registry}"],
            "proxies": {"http-proxy": "http://user:secret@127.0.0.1:3128", "no-proxy": f"{farms.DOMAIN},127.0.0.1"},
        },
    }
    predicted = apply(farm, OTHER, check=True, **declared).expect_success()
    done = apply(farm, OTHER, **declared).expect_success()
    assert as_predicted(predicted, done)
    assert "secret" not in done.stdout + predicted.stdout
    assert set(versions(farm, OTHER)) == {"docker.io", "docker-cli", "containerd", "runc"}
    # Whoever is a member may do what root may.
    told = json.loads(farm.ssh(OTHER, "runuser -u farmer -- docker info --format json"))
    assert (told["LoggingDriver"], told["LiveRestoreEnabled"]) == ("local", True)
    assert told["Driver"] == "overlayfs"  # of containerd's store; overlay2 is the engine's own
    assert told["HttpProxy"].endswith("@127.0.0.1:3128")
    assert told["RegistryConfig"]["Mirrors"] == [f"http://{farm.registry}/"]
    login = f"docker login --username farmer --password-stdin {farm.secure_registry}"
    farm.ssh(OTHER, login, stdin="a-password-for-tests")
    assert apply(farm, OTHER, **declared).expect_success().changed == []
    assert apply(farm, OTHER, check=True, **declared).expect_success().changed == []


def certificate(farm: LiveFarm) -> str:
    """Return the certificate of the farm's registry, which is its own authority."""
    return (farm.farm.directory / "registry/farm/certificate.pem").read_text()


def test_an_account_that_does_not_exist_is_refused(farm: LiveFarm) -> None:
    message = refused(farm, OTHER, engine_users=["farmer", "framer"])
    assert "engine_users names framer, and there is no such account" in message
    assert "framer" not in farm.ssh(OTHER, "cat /etc/passwd /etc/group")


def test_an_option_that_the_engine_refuses_is_taken_back(farm: LiveFarm) -> None:
    before = farm.ssh(OTHER, "cat /etc/docker/daemon.json; systemctl show --property=MainPID docker")
    run = apply(farm, OTHER, engine_daemon_config={"log-driver": 7})
    assert "refuses the declared configuration" in str(run.failures)
    assert farm.ssh(OTHER, "cat /etc/docker/daemon.json; systemctl show --property=MainPID docker") == before


def test_options_leave_the_listener_alone(farm: LiveFarm) -> None:
    farm.module(OTHER, "docker_listener", insecure=True, address="127.0.0.1")
    done = apply(farm, OTHER, engine_daemon_config={"labels": ["farm=yes"]}).expect_success()
    assert changes(done) == ["Give the engine its options"]
    assert "127.0.0.1:2375" in farm.ssh(OTHER, "ss -ltn")
    assert farm.ssh(OTHER, "docker info --format '{{.Labels}}'").strip() == "[farm=yes]"
    farm.module(OTHER, "docker_listener", state="absent")


def test_conflicting_packages_are_reported_and_removed_only_if_asked(farm: LiveFarm, docker: dict[str, Any]) -> None:
    message = refused(farm, OTHER, **docker)
    for name in ("docker.io", "docker-cli", "containerd", "runc"):
        assert name in message
    assert "engine_source: none" in message
    assert "engine_remove_conflicting: true" in message

    farm.ssh(OTHER, "docker volume create kept")
    asked = {**docker, "engine_remove_conflicting": True}
    predicted = apply(farm, OTHER, check=True, **asked).expect_success()
    done = apply(farm, OTHER, **asked).expect_success()
    assert as_predicted(predicted, done)
    assert set(versions(farm, OTHER)) == {"docker-ce", "docker-ce-cli", "containerd.io"}
    assert farm.ssh(OTHER, "docker volume ls --quiet").split() == ["kept"]
    assert "farmer" in farm.ssh(OTHER, "getent group docker")
    assert apply(farm, OTHER, **asked).expect_success().changed == []
