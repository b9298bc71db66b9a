# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The main job with each ansible-core that is supported: site, build, verify, and nothing to do the second time."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import bootstrap
import cores
from ansible_runs import CHECKOUT, LiveFarm, Run, Task

GROUPS = {"buildx_controllers": {"ctl": None}, "buildx_nodes": {"mid1": None, "new1": None}}


class Core:
    """The playbooks as an ansible-core in an environment of its own runs them."""

    def __init__(self, farm: LiveFarm, core: str, folder: Path) -> None:
        self.farm, self.core, self.folder = farm, core, folder
        self.bin = bootstrap.ensure_venv(cores.venv(core))
        (folder / "inventory.json").write_text(json.dumps(farm.inventory(GROUPS)))
        variables = {**farm.variables(f"core-{core}/hello:1"), "farm_platforms": ["linux/amd64"]}
        (folder / "variables.json").write_text(json.dumps(variables))

    def playbook(self, name: str) -> Run:
        """Run a playbook; it has to succeed, and Ansible to have nothing to warn of."""
        records = self.folder / "records"
        records.unlink(missing_ok=True)
        environment = {
            **self.farm.environment(),
            "PATH": "/usr/bin:/bin",
            "HOME": str(self.folder),
            "ANSIBLE_CONFIG": str(CHECKOUT / "tests/integration/ansible.cfg"),
            "ANSIBLE_HOME": str(self.folder / ".ansible"),
            "ANSIBLE_DEPRECATION_WARNINGS": "1",
            "BUILDFARM_RECORDS": str(records),
            "LC_ALL": "C.UTF-8",
        }
        argv = [self.bin / "ansible-playbook", "-i", "inventory.json", "-e", "@variables.json"]
        argv.append(f"buildfarm.multiarch.{name}")
        done = subprocess.run(argv, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)
        lines = records.read_text().splitlines() if records.exists() else []
        run = Run(done.returncode, [Task(**json.loads(line)) for line in lines], done.stdout, done.stderr)
        assert "WARNING" not in done.stdout + done.stderr, done.stdout + done.stderr
        return run.expect_success()


@pytest.fixture(params=cores.chosen())
def core(request: pytest.FixtureRequest, farm: LiveFarm, tmp_path: Path) -> Iterator[Core]:
    """An ansible-core; what it makes is gone afterwards."""
    if reason := bootstrap.lacks(cores.venv(request.param)):
        pytest.skip(reason)
    made = Core(farm, request.param, tmp_path)
    yield made
    variables: dict[str, Any] = json.loads((tmp_path / "variables.json").read_text())
    farm.playbook("buildfarm.multiarch.teardown", variables=variables, inventory=GROUPS).expect_success()
    for host in GROUPS["buildx_nodes"]:
        farm.restart_engine(host, "rm -rf /etc/docker")
    farm.ssh("ctl", "rm -rf ~/.config/buildfarm ~/.docker /srv/hello")


def test_site_build_verify(core: Core) -> None:
    assert core.playbook("site").changed
    assert core.playbook("site").changed == []
    assert core.playbook("build").changed
    assert core.playbook("build").changed == []
    assert core.playbook("verify").changed == []
