# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Two controllers of one farm: the first issues the certificates, the second fetches its own from there."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from ansible_runs import LiveFarm, Run
from traces import in_output, on_host, texts_of

FIRST, SECOND, NODE = "ctl", "ctlnew", "mid2"
FOLDER = "/root/.config/buildfarm/certificates"
GROUPS = {"buildx_controllers": {FIRST: None, SECOND: None}, "buildx_nodes": {NODE: None}}


@pytest.fixture(scope="module")
def variables(farm: LiveFarm) -> Iterator[dict[str, Any]]:
    """What the user declares, the node's own platform only: no handler is needed. The hosts are cleaned at the end."""
    yield {**farm.variables("unused"), "farm_platforms": []}
    for controller in (FIRST, SECOND):
        farm.ssh(controller, "rm -rf /root/.config/buildfarm")
    farm.restart_engine(NODE, "rm -rf /etc/docker")


def site(farm: LiveFarm, variables: dict[str, Any], **options: Any) -> Run:
    """Provision the farm."""
    run = farm.playbook("buildfarm.multiarch.site", variables=variables, inventory=GROUPS, **options)
    return run.expect_success()


@dataclass(frozen=True)
class FirstRun:
    """The run that makes everything, as told to somebody who looks for a fault, and when it began."""

    done: Run
    since: float


@pytest.fixture(scope="module")
def first_run(farm: LiveFarm, variables: dict[str, Any]) -> FirstRun:
    """Provision the farm after a look at what that would do."""
    predicted = site(farm, variables, check=True)
    assert farm.ssh(SECOND, "ls -d /root/.config/buildfarm", check=False) == "", "check mode changed a host"
    since = time.time()
    done = site(farm, variables, verbosity=3)
    assert sorted(done.changed) == sorted(predicted.changed)
    return FirstRun(done, since)


def test_both_controllers_use_one_builder(farm: LiveFarm, first_run: FirstRun) -> None:
    declared = [change.partition(":")[0] for change in first_run.done.changed if "Declare the builder" in change]
    assert declared == [FIRST, SECOND]
    for controller in (FIRST, SECOND):
        listed = farm.ssh(controller, "docker buildx ls")
        assert f"farm-{NODE}" in listed
        assert "running" in listed
        assert f"farm-{NODE}" in farm.ssh(controller, "docker context ls --format '{{.Name}}'")
    assert farm.ssh(NODE, "docker ps --format '{{.Names}}'").split() == [f"buildx_buildkit_farm-{NODE}"]


def test_each_has_its_own_key_and_no_other(farm: LiveFarm, first_run: FirstRun) -> None:
    held = farm.ssh(SECOND, f"cd {FOLDER}; find . -type f -printf '%p %m\n' | sort").splitlines()
    assert held == [f"./clients/{SECOND}/{name}.pem 600" for name in ("ca", "cert", "key")]
    assert farm.ssh(SECOND, f"cat {FOLDER}/clients/{SECOND}/key.pem") == farm.ssh(
        FIRST, f"cat {FOLDER}/clients/{SECOND}/key.pem"
    )


def test_keys_leave_no_traces(farm: LiveFarm, first_run: FirstRun) -> None:
    """The output of -vvv, journals with what modules were called with, and files that others may read."""
    keys = farm.ssh(FIRST, f"find {FOLDER} -name '*key.pem' | xargs cat")
    assert keys.count("BEGIN") == 4  # the authority's, the node's, and one for each controller
    texts = texts_of(keys)
    assert "Using module file" in first_run.done.stdout
    assert in_output(first_run.done, texts) == []
    for host in (FIRST, SECOND, NODE):
        assert on_host(farm, host, texts, first_run.since) == [], host
    # The search finds what is there.
    farm.ssh(NODE, "cat > /run/seen; chmod 644 /run/seen", stdin=f"is {texts[1]} seen\n")
    assert on_host(farm, NODE, texts, first_run.since) == ["/run/seen"]
    farm.ssh(NODE, "rm /run/seen")


def test_again_changes_nothing(farm: LiveFarm, variables: dict[str, Any]) -> None:
    assert site(farm, variables).changed == []
    assert site(farm, variables, check=True).changed == []


def test_a_lost_certificate_is_fetched_again(farm: LiveFarm, variables: dict[str, Any]) -> None:
    farm.ssh(SECOND, "rm -rf /root/.config/buildfarm")
    predicted = site(farm, variables, check=True)
    done = site(farm, variables)
    # In check mode the contexts' own copies cannot be compared with files that are still to be fetched.
    assert set(done.changed) < set(predicted.changed)
    assert {change.partition(":")[0] for change in done.changed} == {SECOND}
    assert f"farm-{NODE}" in farm.ssh(SECOND, "docker buildx ls")


def test_a_lost_key_of_a_node_is_brought_again(farm: LiveFarm, variables: dict[str, Any]) -> None:
    path = "/etc/docker/tls/key.pem"
    key = farm.ssh(NODE, f"cat {path}; rm {path}")
    predicted = site(farm, variables, check=True)
    assert farm.ssh(NODE, f"ls {path}", check=False) == "", "check mode changed a host"
    done = site(farm, variables)
    assert done.changed == predicted.changed != []
    assert {change.partition(":")[0] for change in done.changed} == {NODE}
    assert farm.ssh(NODE, f"cat {path}") == key


def test_both_take_the_builder_apart(farm: LiveFarm, variables: dict[str, Any]) -> None:
    done = farm.playbook("buildfarm.multiarch.teardown", inventory=GROUPS).expect_success()
    removed = [change.partition(":")[0] for change in done.changed if "Remove the builder" in change]
    assert removed == [FIRST, SECOND]
    own = f"--quiet --filter name=farm-{NODE}"
    assert farm.ssh(NODE, f"docker ps --all {own}; docker volume ls {own}") == ""
    assert farm.playbook("buildfarm.multiarch.teardown", inventory=GROUPS).expect_success().changed == []
