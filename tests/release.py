# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether the tarball is fit for a release: `make release-check`.

It is installed alone, with each supported ansible-core, which then documents everything in it; and on bare systems the
README's first commands lead to an image. What those get from Docker Hub comes from the farm's own registry here.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(CHECKOUT / path) for path in ("tests", "tests/integration", "tests/farm")]

import bootstrap
import cores
import release_server
import seed
from ansible_runs import LiveFarm, installing
from checkout import copy_collection
from hosts import Host

NAME = "buildfarm.multiarch"
KINDS = ("filter", "inventory", "lookup", "module", "role", "test")


@dataclass(frozen=True)
class System:
    """A system, and what README says of it.

    :ivar ansible: how it gets an ansible-core: from its own packages where those are new enough, or from pip.
    :ivar packages_buildx: whether it has a package of buildx, so that no release has to be named.
    """

    suite: str
    ansible: str = "packages"
    packages_buildx: bool = True


SYSTEMS = (System("trixie"), System("bookworm", ansible="pip", packages_buildx=False), System("forky"))


def run(*argv: str | Path, **environment: str) -> str:
    """Run a program; returns what it printed.

    :raises SystemExit: it failed.
    """
    own = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
    done = subprocess.run(argv, env={**own, **environment}, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"release-check: {' '.join(map(str, argv))} ended with {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def tarball(folder: Path) -> Path:
    """Build the collection as it would be published."""
    tree = copy_collection(folder / "tree")
    run(bootstrap.ensure_venv("quality") / "ansible-galaxy", "collection", "build", "--output-path", folder, tree)
    (path,) = folder.glob("*.tar.gz")
    return path


def documented(core: str, path: Path, folder: Path) -> int:
    """Install the tarball with an ansible-core, have everything in it documented; returns the number of pages."""
    tools, place = bootstrap.ensure_venv(cores.venv(core)), folder / core
    settings = {"HOME": str(place), "ANSIBLE_COLLECTIONS_PATH": str(place), "ANSIBLE_NOCOLOR": "1"}
    place.mkdir()
    run(tools / "ansible-galaxy", "collection", "install", "--offline", "-p", place, path, **settings)
    pages = 0
    for kind in KINDS:
        listed = json.loads(run(tools / "ansible-doc", "--list", "--json", "--type", kind, NAME, **settings))
        names = sorted(name for name in listed if name.startswith(f"{NAME}."))
        if names:
            shown = json.loads(run(tools / "ansible-doc", "--json", "--type", kind, *names, **settings))
            missing = set(names) - set(shown)
            if missing:
                sys.exit(f"release-check: ansible-core {core} documents no {kind} {', '.join(sorted(missing))}")
        pages += len(names)
    return pages


def readme_commands(path: Path, system: System) -> list[str]:
    """The first two commands of the README in the tarball, with what it adds on such a system."""
    with tarfile.open(path) as archive:
        text = archive.extractfile("README.md").read().decode()  # type: ignore[union-attr]
    commands = re.findall(r"^    (ansible-(?:galaxy|playbook) .*?)(?: +#.*)?$", text, re.MULTILINE)[:2]
    if [command.split()[0] for command in commands] != ["ansible-galaxy", "ansible-playbook"]:
        sys.exit(f"release-check: found {commands} in README.md, wanted ansible-galaxy and ansible-playbook first")
    if not system.packages_buildx:
        release = re.search(r"`(-e buildx_release=\S+)`", text)
        if not release:
            sys.exit("release-check: README.md names no release of buildx for systems without a package of it")
        commands[1] += f" {release[1]}"
    return commands


def newcomer(live: LiveFarm, host: str, system: System, path: Path) -> None:
    """Follow the README on a bare system, from no Ansible to an image, and back.

    :raises AssertionError: a command failed.
    """
    install, play = readme_commands(path, system)
    active = ""
    live.ssh(host, "base64 -d > /root/collection.tar.gz", stdin=run("base64", path))
    if system.ansible == "packages":
        live.ssh(host, installing("ansible-core"))
    else:
        live.ssh(host, f"{installing('python3-venv')} && python3 -m venv /opt/ansible && mkdir /root/wheels")
        with tempfile.TemporaryDirectory() as wheels:
            wanted = ["--python-version", "3.11", "--only-binary", ":all:", f"ansible-core=={cores.DEFAULT}.*"]
            run(bootstrap.ensure_venv() / "pip", "download", "-q", "-d", wheels, *wanted)
            for wheel in Path(wheels).iterdir():
                live.ssh(host, f"base64 -d > /root/wheels/{wheel.name}", stdin=run("base64", wheel))
        live.ssh(host, "/opt/ansible/bin/pip install -q --no-index --find-links /root/wheels ansible-core")
        active = ". /opt/ansible/bin/activate; "
    play = active + play
    live.ssh(host, active + install.replace(NAME, "/root/collection.tar.gz --offline"))
    if system.suite == "bookworm":
        # Its runc asks for capabilities that this machine may lack, as on the farm's other hosts of that suite.
        runc = (CHECKOUT / "tests/farm/sources/runc/runc.py").read_text()
        put = "cat > /usr/local/sbin/runc && chmod +x /usr/local/sbin/runc"
        live.ssh(host, put, stdin=f"#!/usr/bin/python3\n{runc}")
    with release_server.served(live, host) as releases:
        play += f" -e @{hub(live, host, f'{releases.server}/whole')}"
        # Before anything is there.
        live.ssh(host, f"{play} --check")
        print(live.ssh(host, play))
        again = live.ssh(host, play)
        found = live.ssh(host, "tar -xOf ~/hello.tar index.json")
        assert "io.github.buildfarm" in found or "manifests" in found, found
        assert re.search(r"changed=0 ", again), again
        live.ssh(host, f"{play} -e quickstart_state=absent")
        left = live.ssh(host, "docker ps --all --quiet; docker volume ls --quiet; docker context ls --quiet")
        assert left.split() == ["default"], left


def hub(live: LiveFarm, host: str, mirror: str) -> str:
    """Write variables to a host that have all come from the farm that would come from Docker Hub and GitHub.

    :param mirror: where buildx's releases are.
    :returns: the file's path.
    """
    registry, path = live.registry, "/root/hub.json"
    variables = {
        "farm_driver_opts": {"image": f"{registry}/{seed.BUILDKIT}", "network": "host"},
        "farm_buildkitd_config": f'[registry."{registry}"]\n  http = true\n',
        "engine_daemon_config": {"insecure-registries": [registry]},
        "emulators_image": f"{registry}/{seed.EMULATOR}",
        "quickstart_build_args": {"REGISTRY": f"{registry}/library"},
        "buildx_mirror": mirror,
    }
    live.ssh(host, f"cat > {path}", stdin=json.dumps(variables))
    return path


def main() -> int:
    """Check everything; returns the exit status."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        path = tarball(folder)
        for core in cores.ALL:
            print(f"ansible-core {core}: {documented(core, path, folder)} pages", flush=True)
        hosts = {f"{system.suite}1": system for system in SYSTEMS}
        # Of another run at the same time, in another checkout, none of the hosts is touched.
        name = f"release-{os.getpid()}"
        with LiveFarm.running(name, [Host(host, system.suite) for host, system in hosts.items()], folder) as live:
            for host, system in hosts.items():
                newcomer(live, host, system, path)
                print(f"{system.suite}: README's commands lead to an image; a second run changes nothing", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
