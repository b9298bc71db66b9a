# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Gets a machine ready to check the collection; does nothing, and quickly, where it is ready.

    bootstrap.py packages venv quality   Debian packages of those groups, see packages.txt
    bootstrap.py venv [NAME...]          virtual environments: .venv, and .venv-NAME for each name

The environments lie in the farm's cache, and checkouts link to them.
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

import cores

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


def cache() -> Path:
    """Return where to put what checkouts share: the farm's cache, or one's own where that cannot be written."""
    shared = Path(os.environ.get("BUILDFARM_CACHE") or "/var/cache/buildfarm-multiarch")
    try:
        shared.mkdir(mode=0o755, parents=True, exist_ok=True)
    except PermissionError:
        return CHECKOUT / ".build"
    return shared.resolve() if os.access(shared, os.W_OK) else CHECKOUT / ".build"


def ensure_venv(name: str = "") -> Path:
    """Make the virtual environment .venv or .venv-NAME, a link to one that all checkouts with its requirements share.

    A stamp in it tells that it is whole, so nothing is run where it is there.

    :param name: of tests/requirements-NAME.txt; empty for tests/requirements.txt.
    :returns: its ``bin`` directory.
    :raises SetupError: this Python is too old and no other is found, or the requirements cannot be installed.
    """
    if sys.version_info < OLDEST_PYTHON:
        raise SetupError("this is Python {}.{}; wanted {}.{} or later".format(*sys.version_info[:2], *OLDEST_PYTHON))
    python = _python_of(name)
    suffix = f"-{name}" if name else ""
    requirements = TESTS / f"requirements{suffix}.txt"
    link = CHECKOUT / f".venv{suffix}"
    version = sys.version if python == _base_python() else ""
    made_of = f"{python} {version} {requirements.read_text()}"
    venv = cache() / "environments" / f"venv{suffix}-{hashlib.sha256(made_of.encode()).hexdigest()[:12]}"
    if not _leads_to(link, venv):
        venv.parent.mkdir(parents=True, exist_ok=True)
        with venv.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not _is_whole(venv):
                print(f"installing {requirements.relative_to(CHECKOUT)} (up to a minute, once)", flush=True)
                _fill(venv, python, requirements)
            if link.is_dir() and not link.is_symlink():
                shutil.rmtree(link)
            link.unlink(missing_ok=True)
            link.symlink_to(venv)
    return link / "bin"


def _leads_to(link: Path, venv: Path) -> bool:
    return link.is_symlink() and link.readlink() == venv and _is_whole(venv)


def _is_whole(venv: Path) -> bool:
    # A Python that was removed meanwhile leaves links that lead nowhere.
    return (venv / "whole").exists() and (venv / "bin/python").exists()


def _fill(venv: Path, python: str, requirements: Path) -> None:
    if subprocess.run([python, "-m", "venv", "--clear", venv], check=False).returncode != 0:
        raise SetupError(f"{venv}: could not be made; see above (Debian has python3-venv as a package of its own)")
    pip = [venv / "bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run([*pip, "-r", requirements], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SetupError(f"{requirements}: pip failed; is PyPI reachable?\n{done.stdout}{done.stderr}")
    (venv / "whole").touch()


def pythons() -> dict[str, Path]:
    """Return the Pythons at hand that some supported ansible-core runs on or manages, `X.Y` and the program.

    pyenv's are taken whether it selects them or not. Its wrappers, which are on the path for each version that it has,
    end with an error unless it does.
    """
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    folders = [*os.environ.get("PATH", "").split(os.pathsep), *map(str, pyenv.glob("versions/3.*/bin"))]
    path = os.pathsep.join(folder for folder in folders if not folder.endswith("/shims"))
    versions = {"3.8", "3.9", *(version for known in cores.PYTHONS.values() for version in known)}
    found = {version: shutil.which(f"python{version}", path=path) for version in sorted(versions)}
    return {version: Path(program).resolve() for version, program in found.items() if program}


def lacks(name: str) -> str:
    """Return what keeps an environment from being made here, empty where nothing does."""
    try:
        _python_of(name)
    except SetupError as exc:
        return str(exc)
    return ""


def _python_of(name: str) -> str:
    """Return the Python for an environment: this one, unless it holds an ansible-core that does not run on it."""
    wanted = cores.PYTHONS.get(name[len("core-") :]) if name.startswith("core-") else None
    if wanted is None or "{}.{}".format(*sys.version_info) in wanted:
        return _base_python()
    found = pythons()
    for version in wanted:
        if version in found:
            return str(found[version])
    raise SetupError(f".venv-{name} needs one of Python {', '.join(wanted)}; found {', '.join(found)}")


def _base_python() -> str:
    """Return the Python that this one's virtual environment, if it runs in one, was made of: the file, not a link."""
    return os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)


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
