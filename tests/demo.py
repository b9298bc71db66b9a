# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The main job on a farm of real hosts on this machine: `make demo`, with the real arm64 machine `make demo ARM64=1`.

From bare hosts to a verified image for two platforms, twice, with the collection as its users install it. The exit
status is 0 only if everything held, the second run's "0 changed" included.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(CHECKOUT / "tests/integration"), str(CHECKOUT / "tests/farm")]

import cache
from ansible_runs import LiveFarm, Run
from hosts import Host

IMAGE = "demo/hello:latest"
WORK = CHECKOUT / ".build/demo"


def hosts(arm64: bool) -> list[Host]:
    """A bare controller and two bare nodes, both amd64, or the second the real arm64 machine."""
    return [
        Host("controller", "trixie", "buildx_controllers"),
        Host("amd1", "trixie", "buildx_nodes"),
        Host("arm1", "arm64", "buildx_nodes") if arm64 else Host("amd2", "trixie", "buildx_nodes"),
    ]


def install_collection() -> Path:
    """Build the collection's tarball and install it as a user does; returns the collections path."""
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    galaxy = [str(Path(sys.executable).parent / "ansible-galaxy"), "collection"]
    _quiet([*galaxy, "build", "--output-path", str(WORK), str(CHECKOUT)])
    (tarball,) = WORK.glob("*.tar.gz")
    _quiet([*galaxy, "install", "--offline", "--collections-path", str(WORK / "collections"), str(tarball)])
    return WORK / "collections"


def step(message: str) -> None:
    """Say what begins."""
    print(f"\n\033[1m==> {message}\033[0m" if sys.stdout.isatty() else f"\n==> {message}", flush=True)


def run_all(live: LiveFarm) -> tuple[Run, Run]:
    """Provision, then build and verify; the playbooks' own output is shown as they run."""
    names = ("buildfarm.multiarch.site", "buildfarm.multiarch.build")
    site, build = (live.playbook(name, variables=live.variables(IMAGE), show=True) for name in names)
    return site, build


def table(rows: list[list[str]]) -> str:
    """Lay out rows in columns, the first row as the heading."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
    rule = "  ".join("─" * width for width in widths)
    return "\n".join(["", lines[0], rule, *lines[1:], ""])


def report(build: Run) -> str:
    """The image as a table: what was built where."""
    (built,) = (task for task in build.tasks if task.action.endswith("buildx_build"))
    rows = [["PLATFORM", "BUILT ON", "HOW", "DIGEST", "SIZE"]]
    for image in built.result["images"]:
        for entry in image["platforms"]:
            how = "native" if entry["native"] else "emulated"
            rows.append(
                [entry["platform"], entry["node"], how, entry["digest"][:19] + "…", f"{entry['size'] / 1e6:.2f} MB"]
            )
    return table(rows)


def main() -> int:
    """Run the demo; returns the exit status."""
    arm64 = os.environ.get("ARM64", "") not in ("", "0")
    started = time.monotonic()
    step("Building the collection's tarball and installing it")
    collections = install_collection()
    step(f"Booting a farm: a controller and {'an amd64 node, a real arm64 machine' if arm64 else 'two amd64 nodes'}")
    live = LiveFarm.start("demo", hosts(arm64), collections)
    step("First run: from bare hosts to a verified image")
    first = run_all(live)
    step("Second run: the same again")
    second = run_all(live)
    failures = [failure for run in (*first, *second) for failure in run.failures]
    changed = [change for run in second for change in run.changed]
    if failures or any(run.rc for run in (*first, *second)):
        print("\nThe demo failed:", *(failures or ["see above"]), sep="\n  ", file=sys.stderr)
        return 1
    print(report(first[1]))
    print(f"second run: {len(changed)} changed", *changed, sep="\n  ")
    print(f"\nAll of it took {time.monotonic() - started:.0f} s. Look around:")
    print("  python3 tests/farm --name demo ssh controller -- docker buildx ls")
    print("  python3 tests/farm --name demo ssh amd1")
    print("and take it down with:  make clean")
    return 1 if changed else 0


def _quiet(argv: list[str]) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(argv)}: {done.stderr or done.stdout}")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (OSError, cache.ToolError) as exc:
        print(f"demo: {exc}", file=sys.stderr)
        sys.exit(1)
