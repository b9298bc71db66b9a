# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The project in examples/awx, run as AWX runs it, in the image of examples/execution-environment: a new container for
each job, credentials as the files that injectors write, the answers of surveys as text."""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import execution_environment
import farm as farms
import registry
from ansible_runs import LiveFarm
from awx_jobs import Controller, Job
from hosts import Host

RUNNER, NODES = "awx", ["awxnode1", "awxnode2"]
HOSTS = [Host(RUNNER, "trixie+runner"), *(Host(name, "trixie+engine") for name in NODES)]
#: All playbooks in a row, as root and in a pod, and pairs of jobs take minutes.
ALL = os.environ.get("BUILDFARM_ALL_JOBS", "") not in ("", "0")
ANSWERS: dict[str, dict[str, Any]] = {
    "site.yml": {"farm_platforms": "linux/amd64", "farm_absent_nodes": "", "farm_purge_nodes": "false"},
    "build.yml": {
        "images_rebuild": "when_changed",
        "images_platforms": "linux/amd64",
        "images_emulation": "forbid",
        "images_builds_per_node": 2,
    },
    "verify.yml": {"images_platforms": "", "farm_probe_timeout": 30},
    "prune.yml": {"farm_prune_older_than": "365d", "farm_prune_all": "false", "farm_orphans": "report"},
    "rotate_certificates.yml": {"listener_key_type": "ecdsa-p384", "listener_validity_days": 90},
    "teardown.yml": {"farm_keep_cache": "false"},
}
MADE = ["Make the engine listen", "Declare the builder and the docker contexts of its nodes"]
BUILT = "Build the images that changed, verify each platform, and publish them"


@pytest.fixture(scope="module")
def awx(collections: Path) -> Iterator[Controller]:
    """An AWX with the project, and a farm of two nodes for it; that of `BUILDFARM_FARM` if it has them."""
    given = farms.Farm(os.environ.get("BUILDFARM_FARM", ""))
    has_them = all(host in given.hosts for host in HOSTS)
    with LiveFarm.running("awx", HOSTS, collections, given=given.name if has_them else "") as farm:
        execution_environment.provide(farm, RUNNER)
        values = farm.variables("unused")
        del values["images_list"], values["emulators_image"]
        values |= {
            "farm_platforms": ["linux/amd64"],
            "project_registry": f"{farm.registry}/awx",
            "project_base_registry": f"{farm.registry}/library",
        }
        nodes = {name: {"ansible_host": farm.address(name)} for name in NODES}
        yield Controller(farm, RUNNER, nodes, values)


@pytest.fixture(scope="module")
def credentials(awx: Controller, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """The farm's authority, whose key has a passphrase, and a login for a registry that no image is in."""
    folder = tmp_path_factory.mktemp("authority")
    request = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -days 400 -keyout key -out certificate"
    extensions = ["-subj", "/CN=An authority", "-addext", "keyUsage=critical,keyCertSign,cRLSign"]
    argv = [*request.split(), *extensions, "-passout", "pass:of the key"]
    subprocess.run(argv, cwd=folder, check=True, capture_output=True)
    fields = {name: (folder / name).read_text() for name in ("certificate", "key")}
    login = {"registry": awx.farm.secure_registry, "username": registry.USER, "password": registry.PASSWORD}
    return {
        "Build farm authority": {**fields, "passphrase": "of the key"},
        "Build farm registry login": login,
    }


def started(awx: Controller) -> list[str]:
    """When the nodes' engines and BuildKit were started."""
    engine = "systemctl show -p ExecMainStartTimestampMonotonic docker"
    return [
        awx.farm.ssh(node, f"{engine}; docker inspect -f '{{{{.State.StartedAt}}}}' buildx_buildkit_farm-{node}")
        for node in NODES
    ]


def runner(awx: Controller, credentials: dict[str, dict[str, str]], pod: bool) -> Callable[..., Job]:
    """Return what runs a playbook of the project with answers to its template's survey."""

    def run(name: str, **answers: str) -> Job:
        playbook = f"{name}.yml"
        return awx.run(playbook, credentials, {**ANSWERS[playbook], **answers}, pod=pod).expect_success()

    return run


def changed(job: Job) -> list[str]:
    """The names of the tasks that changed something, each once, in their order."""
    return list(dict.fromkeys(text.rpartition(": ")[2].rpartition(" : ")[2] for text in job.changed))


@pytest.mark.skipif(ALL, reason="a part of test_all_playbooks_in_a_row")
def test_a_pod_with_a_random_user_provisions_and_builds(
    awx: Controller, credentials: dict[str, dict[str, str]]
) -> None:
    run = runner(awx, credentials, pod=True)
    assert changed(run("site")) == MADE
    began = started(awx)
    built = run("build")
    assert changed(built)[-1] == BUILT
    assert any(name.startswith("buildfarm_") for name in built.artifacts)
    assert started(awx) == began


if ALL:

    @pytest.mark.parametrize("pod", [False, True], ids=["root", "pod"])
    def test_all_playbooks_in_a_row(awx: Controller, credentials: dict[str, dict[str, str]], pod: bool) -> None:
        run = runner(awx, credentials, pod)
        assert changed(run("site")) == MADE
        began = started(awx)
        assert changed(run("site")) == []
        # The former row built it as well.
        assert changed(run("build", images_rebuild="always"))[-1:] == [BUILT]
        assert [changed(run(name)) for name in ("build", "verify")] == [[], []]
        assert started(awx) == began
        held = awx.farm.ssh(NODES[0], "cat /etc/docker/tls/cert.pem")
        assert changed(run("rotate_certificates")) == MADE[:1]
        assert awx.farm.ssh(NODES[0], "cat /etc/docker/tls/cert.pem") != held
        assert [changed(run(name)) for name in ("build", "prune")] == [[], []]
        assert changed(run("teardown")) == ["Remove the builder", "Close the listener"]
        for node in NODES:
            assert awx.farm.ssh(node, f"docker ps --all --quiet --filter name=farm-{node}") == ""

    def test_two_jobs_at_once(
        awx: Controller, credentials: dict[str, dict[str, str]], record_property: Callable[[str, object], None]
    ) -> None:
        """Two containers, at random moments; afterwards all is as declared. `BUILDFARM_SEED` repeats a run."""
        seed = int(os.environ.get("BUILDFARM_SEED") or random.SystemRandom().randrange(10**6))
        record_property("BUILDFARM_SEED", seed)
        chance = random.Random(seed)
        runs = {pod: runner(awx, credentials, pod) for pod in (False, True)}
        runs[True]("site")

        def later(delay: float, pod: bool, name: str) -> Job:
            time.sleep(delay)
            # Fails with what AWX would show.
            return runs[pod](name, **({"images_rebuild": "always"} if name == "build" else {}))

        for number in range(10):
            pair = [("site", "build"), ("build", "build"), ("site", "site")][number % 3]
            delay, pods = chance.uniform(0, 10), [chance.random() < 0.5 for _job in pair]
            emptied = chance.random() < 0.5
            print(f"{number + 1}: {pair}, {delay:.1f} s, pods: {pods}, containers removed: {emptied}", flush=True)
            for node in NODES if emptied else ():
                awx.farm.ssh(node, "docker ps --all --quiet | xargs -r docker rm --force")
            with ThreadPoolExecutor() as pool:
                list(pool.map(later, (0, delay), pods, pair))
            for node in NODES:
                shown = awx.farm.ssh(node, "docker ps --all --format '{{.Names}} {{.State}}'")
                # Builds start what they build with.
                wanted = {f"buildx_buildkit_farm-{node} running\n"} | (set() if "site" in pair else {""})
                assert shown in wanted
        assert changed(runs[True]("site")) == []
        assert changed(runs[False]("teardown")) == ["Remove the builder", "Close the listener"]
