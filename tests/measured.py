# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run a command, and say how many processor seconds it took with all that it started, farms included.

    measured.py COMMAND [ARGUMENT...]

Control groups count them: one of the command's own, and those of the farms that it started, which the farms write down
when they end. Processor seconds say more of what tests cost than the clock of a machine that has other work too.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "farm"))

import farm
from hosts import Cgroup


def main() -> int:
    """Run the command; returns its exit status."""
    group = Cgroup(f"buildfarm-measured-{os.getpid()}")
    group.path.mkdir()
    with tempfile.NamedTemporaryFile("r") as farms:
        enter = f'echo $$ > "{group.path}/cgroup.procs"; exec "$@"'
        environment = {**os.environ, farm.SECONDS_FILE: farms.name}
        done = subprocess.run(["sh", "-c", enter, "sh", *sys.argv[1:]], env=environment, check=False)
        seconds, of_farms = group.seconds(), sum(map(float, farms.read().split()))
    group.end()
    print(f"processor seconds: {seconds + of_farms:.0f}, of which {of_farms:.0f} in the hosts of farms")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
