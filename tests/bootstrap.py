# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Gets a machine ready to check the collection; does nothing, and quickly, where it is ready.

    bootstrap.py packages venv quality   Debian packages of those groups, see packages.txt
    bootstrap.py venv [NAME...]          virtual environments: .venv, and .venv-NAME for each name

Run by the machine's own Python, so it needs nothing but the standard library.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parent
CHECKOUT = TESTS.parent
OLDEST_PYTHON = (3, 11)  # of ansible-core 2.19, as requirements.txt pins it


class SetupError(Exception):
    """The machine lacks something that cannot be installed from here; the message says what to do."""


def wanted_packages(groups: set[str]) -> list[str]:
    """Return the Debian packages of some groups, in the order of packages.txt.

    :raises SetupError: a group has no package: it is misspelt.
    """
    lines = (line.split("#")[0].split() for line in (TESTS / "packages.txt").read_text().splitlines())
    table = {line[0]: set(line[1:]) for line in lines if line}
    unknown = groups.difference(*table.values())
    if unknown:
        raise SetupError(f"packages.txt: no package for {', '.join(sorted(unknown))}")
    return [package for package, needed_for in table.items() if needed_for & groups]


def missing_packages(packages: list[str]) -> list[str]:
    """Return those packages that dpkg does not list as installed."""
    query = ["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status}\\n", *packages]
    # The exit status only says that one of them is unknown to dpkg.
    listed = subprocess.run(query, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False).stdout
    installed = {line.split()[0] for line in listed.splitlines() if line.endswith(" installed")}
    return [package for package in packages if package not in installed]


def install_packages(groups: set[str]) -> None:
    """Install what is missing of some groups' Debian packages with apt-get, through sudo where we are not root.

    :raises SetupError: this is no Debian, or apt-get failed.
    """
    if not shutil.which("dpkg-query"):
        raise SetupError(f"no dpkg here; please install what {TESTS / 'packages.txt'} lists in your system's way")
    missing = missing_packages(wanted_packages(groups))
    if not missing:
        return
    print(f"installing Debian packages: {' '.join(missing)}", flush=True)
    become = [] if os.geteuid() == 0 else ["sudo"]
    apt = [*become, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-y"]
    install = [*apt, "install", "--no-install-recommends", *missing]
    quiet = subprocess.DEVNULL
    # Lists that are too old, or not there at all as in a container image, are the usual reason for a failure.
    if subprocess.run(install, stdout=quiet, stderr=quiet, check=False).returncode != 0:
        subprocess.run([*apt, "update"], stdout=quiet, check=False)
        if subprocess.run(install, stdout=quiet, check=False).returncode != 0:
            raise SetupError(f"apt-get could not install {' '.join(missing)}; please install them yourself")


def ensure_venv(name: str = "") -> Path:
    """Make the virtual environment .venv or .venv-NAME, or bring it up to date with its requirements file.

    A stamp in it tells which requirements and which Python it was made with, so nothing is run where it holds.

    :param name: of tests/requirements-NAME.txt; empty for tests/requirements.txt.
    :returns: its ``bin`` directory.
    :raises SetupError: this Python is too old, or the requirements cannot be installed.
    """
    if sys.version_info < OLDEST_PYTHON:
        raise SetupError("this is Python {}.{}; wanted {}.{} or later".format(*sys.version_info[:2], *OLDEST_PYTHON))
    suffix = f"-{name}" if name else ""
    requirements = TESTS / f"requirements{suffix}.txt"
    venv = CHECKOUT / f".venv{suffix}"
    stamp = venv / "stamp"
    wanted = f"{sys.version_info[0]}.{sys.version_info[1]} {hashlib.sha256(requirements.read_bytes()).hexdigest()}\n"
    build = CHECKOUT / ".build"
    build.mkdir(exist_ok=True)
    with (build / f"{venv.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (stamp.is_file() and stamp.read_text() == wanted and _python(venv)):
            print(
                f"installing {requirements.relative_to(CHECKOUT)} into {venv.name} (up to a minute, once)", flush=True
            )
            _fill(venv, requirements)
            stamp.write_text(wanted)
    return venv / "bin"


def _python(venv: Path) -> str:
    """Return the version of the environment's Python, ``3.11`` for example; empty where it does not run."""
    command = [venv / "bin/python", "-c", "import sys, pip; print('%d.%d' % sys.version_info[:2])"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""


def _fill(venv: Path, requirements: Path) -> None:
    # One that runs is brought up to date, as others may be using it; one of another Python has to go.
    fresh = [] if _python(venv) == "{}.{}".format(*sys.version_info) else ["--clear"]
    if fresh and subprocess.run([_base_python(), "-m", "venv", *fresh, venv], check=False).returncode != 0:
        raise SetupError(f"{venv}: could not be made; see above (Debian has python3-venv as a package of its own)")
    pip = [venv / "bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run([*pip, "-r", requirements], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SetupError(f"{requirements}: pip failed; is PyPI reachable?\n{done.stdout}{done.stderr}")


def _base_python() -> str:
    """Return the Python that this one's virtual environment, if it runs in one, was made of."""
    return getattr(sys, "_base_executable", None) or sys.executable


def main(arguments: list[str]) -> int:
    """Run the command line; returns the exit status."""
    try:
        if arguments[:1] == ["packages"] and len(arguments) > 1:
            install_packages(set(arguments[1:]))
        elif arguments[:1] == ["venv"]:
            for name in arguments[1:] or [""]:
                ensure_venv(name)
        else:
            print(__doc__, file=sys.stderr)
            return 2
    except SetupError as exc:
        print(f"bootstrap: {exc}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
