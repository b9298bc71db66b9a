# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How quickly a converged farm is checked: `make bench`.

`site.yml` with nothing to do against `ansible -m ping` on the same hosts, in turns, so that what else the machine does
falls on both. The ratio of the medians is the figure; the seconds depend on the machine.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from demo import IMAGE, hosts, install_collection, step

from ansible_runs import LiveFarm  # isort: skip  (demo has set the path to it)

ROUNDS = 7


def seconds(argv: list[str], live: LiveFarm) -> float:
    """Run a command with the farm's settings; returns its duration."""
    started = time.monotonic()
    subprocess.run(argv, env={**os.environ, **settings(live)}, stdout=subprocess.DEVNULL, check=True)
    return time.monotonic() - started


def settings(live: LiveFarm) -> dict[str, str]:
    """Ansible's settings, pipelining on, without the tests' own callback."""
    return {key: value for key, value in live.environment().items() if "CALLBACK" not in key}


def main() -> int:
    """Measure and print; returns the exit status."""
    step("Booting and provisioning a farm of a controller and two nodes")
    live = LiveFarm.start("bench", hosts(arm64=False), install_collection())
    try:
        live.playbook("buildfarm.multiarch.site", variables=live.variables(IMAGE)).expect_success()
        again = live.playbook("buildfarm.multiarch.site", variables=live.variables(IMAGE)).expect_success()
        if again.changed:
            raise OSError(f"the second run is not idle: {again.changed}")
        step(f"site.yml with nothing to do against ansible -m ping, {ROUNDS} times in turn")
        with tempfile.TemporaryDirectory() as folder:
            inventory, extra = Path(folder) / "inventory.json", Path(folder) / "variables.json"
            inventory.write_text(json.dumps(live.inventory()))
            extra.write_text(json.dumps(live.variables(IMAGE)))
            tools = Path(sys.executable).parent
            site = [
                str(tools / "ansible-playbook"),
                "-i",
                str(inventory),
                "-e",
                f"@{extra}",
                "buildfarm.multiarch.site",
            ]
            ping = [str(tools / "ansible"), "-i", str(inventory), "all", "-m", "ansible.builtin.ping"]
            times = [(seconds(site, live), seconds(ping, live)) for _round in range(ROUNDS)]
    finally:
        live.farm.down()
    medians = [statistics.median(column) for column in zip(*times)]
    for name, column in zip(("site.yml", "ping"), zip(*times)):
        print(f"{name:<9} median {statistics.median(column):.2f} s, from {min(column):.2f} to {max(column):.2f}")
    print(f"site.yml / ping = {medians[0] / medians[1]:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
