# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The role engine where dnf, dnf5 or zypper is the package manager, with signed repositories as the farm serves them.

The hosts are Debian underneath, see tests/farm/rpm_systems.py. The tests tell one story on all of them at once: from
nothing to Docker's older engine, up, down, and on to the distribution's own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import farm as farms
import rpm_repository
from ansible_runs import CHECKOUT, LiveFarm, Run, task
from docker_repository import NEWER, OLDER
from engines import SERVER, apply, as_predicted, served
from hosts import Host
from rpm_repository import FEDORA, FORGED, OPENSUSE, REFUSED, UNSIGNED
from rpm_systems import SYSTEMS

HOSTS = [Host("fedora", "trixie+dnf"), Host("fedora5", "forky+dnf5"), Host("leap", "trixie+zypper")]
ALL = ":".join(host.name for host in HOSTS)
#: The distribution's own repository on each of them.
OWN = {"fedora": FEDORA, "fedora5": FEDORA, "leap": OPENSUSE}
KEY = "/etc/pki/rpm-gpg/RPM-GPG-KEY-docker-ce"
#: What tells whether a run has changed anything.
STATE = f"cat /etc/yum.repos.d/* /etc/zypp/repos.d/*; ls {KEY} /etc/docker; rpm -qa | sort"


@pytest.fixture(scope="module")
def farm(collections: Path) -> Iterator[LiveFarm]:
    """A farm of these hosts; that of `BUILDFARM_FARM` if it has them."""
    given = farms.Farm(os.environ.get("BUILDFARM_FARM", ""))
    has_them = all(host in given.hosts for host in HOSTS)
    with LiveFarm.running("rpm", HOSTS, collections, given=given.name if has_them else "") as live:
        yield live


@pytest.fixture(scope="module")
def docker(farm: LiveFarm) -> Iterator[dict[str, Any]]:
    """The role's variables for Docker's repository; the distributions' own are declared on the hosts."""
    with served(farm, rpm_repository.repository(), rpm_repository.PATH, rpm_repository.KEY) as variables:
        for host in HOSTS:
            own, folder = OWN[host.name], SYSTEMS[host.base.partition("+")[2]].repositories
            text = f"[{own}]\nname={own}\nbaseurl={SERVER}/{own}\nenabled=1\ngpgcheck=0\n"
            farm.ssh(host.name, f"cat > /{folder}/{own}.repo", stdin=text)
        yield variables


def state(farm: LiveFarm) -> list[str]:
    """What tells whether a run has changed anything, of each host."""
    return [farm.ssh(host, f"{{ {STATE}; }} 2>&-", check=False) for host in OWN]


def packages(farm: LiveFarm, host: str) -> dict[str, str]:
    """The packages that repositories brought, with epoch and version."""
    listed = farm.ssh(host, "rpm -qa --queryformat '%{NAME} %{EPOCHNUM}:%{VERSION}\n'")
    found = dict(line.split() for line in listed.splitlines())
    return {name: found[name] for name in found if name not in ("gpg-pubkey", "fedora-release", "openSUSE-release")}


def dockers(version: str) -> dict[str, str]:
    """Docker's packages at a version."""
    return {"docker-ce": f"3:{version}", "docker-ce-cli": f"1:{version}", "containerd.io": "0:1.7.24"}


def predicted_and_done(farm: LiveFarm, **variables: Any) -> Run:
    """Apply the role in check mode, which changes nothing, then for real, which does what was predicted."""
    before = state(farm)
    predicted = apply(farm, ALL, check=True, **variables).expect_success()
    assert state(farm) == before, "check mode changed a host"
    done = apply(farm, ALL, **variables).expect_success()
    assert as_predicted(predicted, done), (predicted.changed, done.changed)
    return done


def runs(farm: LiveFarm, host: str) -> bool:
    """Whether the engine answers, and is started by a boot, too."""
    told = farm.ssh(host, "systemctl is-enabled docker; docker version --format '{{.Server.Version}}'", check=False)
    return told.split() == ["enabled", f"{NEWER}+dfsg1"]


def refused(farm: LiveFarm, hosts: str = ALL, **variables: Any) -> list[str]:
    """What the one failed task of each host said; none may have other packages than before."""
    names = hosts.split(":")
    before = [packages(farm, host) for host in names]
    run = apply(farm, hosts, **variables)
    assert [packages(farm, host) for host in names] == before
    failed = [(task.host, str(task.result)) for task in run.tasks if task.outcome == "failed"]
    assert sorted(host for host, _said in failed) == names
    return [said for _host, said in sorted(failed)]


def test_a_controller_whose_distribution_has_no_docker(farm: LiveFarm) -> None:
    rocky = {
        "/etc/os-release": (CHECKOUT / "tests/unit/fixtures/os-release/rocky-9").read_text(),
        "/etc/redhat-release": "Rocky Linux release 9.4 (Blue Onyx)\n",
    }
    fedora = {path: farm.ssh("fedora", f"cat {path}") for path in rocky}
    try:
        for path, text in rocky.items():
            farm.ssh("fedora", f"cat > {path}", stdin=text)
        run = farm.play([{"hosts": "fedora", "gather_facts": False, "roles": ["buildfarm.multiarch.buildx"]}])
    finally:
        for path, text in fedora.items():
            farm.ssh("fedora", f"cat > {path}", stdin=text)
    (said,) = run.failures
    assert "lacks cryptography, docker, jmespath, buildx; name the release that is wanted in buildx_release" in said
    assert run.changed == []


def test_a_key_with_another_checksum_is_refused(farm: LiveFarm, docker: dict[str, Any]) -> None:
    before = state(farm)
    (said,) = refused(farm, "leap", **{**docker, "engine_repository_key_checksum": "sha256:" + "0" * 64})
    assert "did not match" in said
    assert state(farm) == before


def test_a_repository_that_package_managers_refuse_is_taken_back(farm: LiveFarm, docker: dict[str, Any]) -> None:
    before = state(farm)
    run = apply(farm, ALL, **docker, engine_repository_release="nowhere")
    assert state(farm) == before
    messages = [message for message in run.failures if "engine_repository_release" in message]
    assert len(messages) == len(HOSTS)
    for host in HOSTS:
        (message,) = [message for message in messages if message.startswith(f"{host.name}: ")]
        is_zypper = host.base.endswith("zypper")
        manager, reason = ("zypper", "repository metadata") if is_zypper else ("dnf", "404")
        assert f"{manager} refused Docker's repository, {docker['engine_repository']}" in message
        assert "nowhere" in message
        assert reason in message


def test_from_dockers_repository_at_a_version(farm: LiveFarm, docker: dict[str, Any]) -> None:
    done = predicted_and_done(farm, **docker, engine_version=OLDER)
    assert len(done.changed) >= 4 * len(HOSTS)  # key, repository, packages, service
    for host in OWN:
        # What they only recommend is not there.
        assert packages(farm, host) == dockers(OLDER)
        assert runs(farm, host)

    again = apply(farm, ALL, **docker, engine_version=OLDER).expect_success()
    assert again.changed == []
    asked = {task.action.rpartition(".")[2] for task in again.tasks if task.outcome == "ok"}
    assert not asked & {"dnf", "command", "rpm_key", "get_url"}


def test_an_older_engine_than_the_minimum_is_upgraded(farm: LiveFarm, docker: dict[str, Any]) -> None:
    done = apply(farm, ALL, **docker, engine_minimum_version=NEWER).expect_success()
    assert len(done.changed) == len(HOSTS)
    for host in OWN:
        assert packages(farm, host) == dockers(NEWER)


def test_packages_that_nobody_trusted_signed_are_refused(farm: LiveFarm, docker: dict[str, Any]) -> None:
    said = refused(farm, **docker, engine_channel=FORGED, engine_version=REFUSED)
    for message, words in zip(said, ("Public key for", "wrong key?", "Signature verification failed")):
        assert words in message
    # Of its index, nobody has signed one either.
    (message,) = refused(farm, "leap", **docker, engine_channel=UNSIGNED, engine_version=REFUSED)
    assert "Package header is not signed!" in message


def test_another_declaration_leaves_the_packages(farm: LiveFarm, docker: dict[str, Any]) -> None:
    done = apply(farm, "leap", **docker).expect_success()
    assert done.changed == ["leap: buildfarm.multiarch.engine : Declare Docker's repository to the package manager"]


def test_a_newer_engine_than_the_version_is_replaced(farm: LiveFarm, docker: dict[str, Any]) -> None:
    apply(farm, ALL, **docker, engine_version=OLDER).expect_success()
    for host in OWN:
        assert packages(farm, host) == dockers(OLDER)


def test_the_distributions_own_in_the_place_of_dockers(farm: LiveFarm, docker: dict[str, Any]) -> None:
    # It depends on what is to be removed.
    for host, program in {"fedora5": "dnf -y", "leap": "zypper --non-interactive"}.items():
        farm.ssh(host, f"{program} install docker-ce-rootless-extras")
    own = {"engine_source": "distribution", "engine_version": NEWER}
    (said,) = refused(farm, "leap", **own)
    assert "found docker-ce, docker-ce-cli, containerd.io, which cannot stand beside docker" in said

    predicted_and_done(farm, **own, engine_remove_conflicting=True)
    common = {"containerd": "0:1.7.24", "runc": "0:1.1.15"}
    fedora = {"moby-engine": f"0:{NEWER}", "docker-cli": f"0:{NEWER}", **common}
    assert packages(farm, "fedora") == packages(farm, "fedora5") == fedora
    assert packages(farm, "leap") == {"docker": f"0:{NEWER}_ce", "docker-buildx": "0:0.13.1", **common}
    assert all(runs(farm, host) for host in OWN)


def test_what_controllers_and_emulating_nodes_need(farm: LiveFarm, docker: dict[str, Any]) -> None:
    tasks = [
        {"ansible.builtin.include_role": {"name": f"buildfarm.multiarch.{name}", "tasks_from": entry}}
        for name, entry in (("buildx", "main"), ("emulators", "packages"))
    ]
    play = {"hosts": ALL, "gather_facts": False, "tasks": [*tasks, task("farm_facts")]}
    done = farm.play([play]).expect_success()
    assert len(done.changed) == 2 * len(HOSTS)
    libraries = ("cryptography", "docker", "jmespath")
    for host in OWN:
        python, qemu = ("python313", "qemu-linux-user") if host == "leap" else ("python3", "qemu-user-static")
        assert packages(farm, host).keys() >= {"docker-buildx", qemu, *(f"{python}-{name}" for name in libraries)}
    for found in done.tasks[-len(HOSTS) :]:
        facts = found.result["ansible_facts"]["buildfarm"]
        assert (facts["missing_libraries"], facts["emulators"]) == ([], True)
        assert facts["buildx"]
