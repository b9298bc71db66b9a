# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Somebody who does what the guides say: with the commands, inventories and variables that stand there, as they are.

What such a reader has anyway is a directory with `group_vars` and `host_vars`, in which hosts of the farm are found by
the guides' names for them, and where Docker Hub is.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import farm as farms
import guides
from ansible_runs import CHECKOUT, LiveFarm
from guides import Block

#: Commands that are not run, and where they are.
ELSEWHERE = {"ansible-galaxy collection install buildfarm.multiarch": "make release-check installs the tarball"}
_RECAP = re.compile(r"^(\S+) +: ok=\d+ +changed=(\d+)", re.MULTILINE)


class Book:
    """Pages, and which of their blocks nobody has read yet."""

    def __init__(self, *pages: Path) -> None:
        self.unread = [block for page in pages for block in guides.blocks(page)]
        self._all = list(self.unread)

    def block(self, page: str, part: str) -> Block:
        """The one block of a page that has this in it; it counts as read."""
        (found,) = (block for block in self._all if block.page == page and part in block.text)
        if found in self.unread:
            self.unread.remove(found)
        return found


class Reader:
    """The reader's directory, and what is done in it.

    :param hosts: the farm's hosts, by the guides' names for them.
    :param controller: where commands of docker are run, one of these names.
    :param addresses: the farm's addresses, by those in the guides.
    """

    def __init__(
        self,
        live: LiveFarm,
        directory: Path,
        hosts: dict[str, str],
        controller: str,
        addresses: dict[str, str] | None = None,
    ) -> None:
        self.live, self.directory, self.hosts, self.controller = live, directory, hosts, controller
        self._addresses = addresses or {}
        self.write("group_vars/all/farm.json", json.dumps(live.inventory()["all"]["vars"]))
        for name, host in hosts.items():
            self.write(f"host_vars/{name}/farm.json", json.dumps({"ansible_host": live.address(host)}))
        #: What the registry's certificate is issued by: itself.
        self.authority = (live.farm.directory / "registry/farm/certificate.pem").read_text()
        self.write("registry-ca.pem", self.authority)

    def write(self, name: str, content: Block | str) -> None:
        """Write a file."""
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else self._here(content.text))

    def _here(self, text: str) -> str:
        """Return what stands in a guide with the addresses of this farm."""
        return re.sub(r"\b[0-9]+(?:\.[0-9]+){3}\b", lambda found: self._addresses.get(found[0], found[0]), text)

    def run(self, command: str, **environment: str) -> str:
        """Run a command; returns what it printed.

        :raises AssertionError: it failed.
        """
        tools = Path(sys.executable).parent
        own = {key: value for key, value in os.environ.items() if not key.startswith(("ANSIBLE_", "DOCKER_"))}
        ansible = {key: value for key, value in self.live.environment().items() if "CALLBACK" not in key}
        settings = {
            **ansible,
            "ANSIBLE_CONFIG": str(CHECKOUT / "tests/integration/ansible.cfg"),
            "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "true",
            "HOME": str(self.directory),
            "LC_ALL": "C.UTF-8",
            "PATH": os.pathsep.join([str(tools), os.environ["PATH"]]),
        }
        done = subprocess.run(
            ["bash", "-ec", command],
            cwd=self.directory,
            env={**own, **settings, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout[-6000:]}"
        return done.stdout

    def do(self, block: Block, more: str = "", **environment: str) -> list[str]:
        """Run the commands of a block, each of which prints what stands there; returns what each printed.

        :param more: arguments for those of Ansible.
        """
        said = []
        names = [(here, documented) for documented, here in self._addresses.items()]
        for line, shown in block.commands:
            command = self._here(line.split("  #")[0].strip())
            if command in ELSEWHERE:
                continue
            if command.startswith("docker "):
                # One whose output is shown may be shown to fail.
                host, command = self.hosts[self.controller], f"cd /srv/app && {command} 2>&1"
                printed = self.live.ssh(host, command, check=not shown)
            else:
                tool, arguments = command.split(" ", 1)
                printed = self.run(f"{tool} {more} {arguments}", **environment)
            came = guides.comparable(printed, names)
            assert not shown or came == guides.comparable(shown), "\n".join([command, *came])
            said.append(printed)
        return said

    def playbook(self, name: str, *given: Block | str, check: bool = False, inventory: str = "inventory.yml") -> int:
        """Run a playbook of the collection, or one of the directory; returns how many changes it reported.

        :param given: extra variables, as blocks or as arguments.
        """
        arguments = []
        for number, one in enumerate(given):
            if isinstance(one, Block):
                self.write(f"given{number}.yml", one)
            arguments += ["-e", one if isinstance(one, str) else f"@given{number}.yml"]
        name = name if name.endswith(".yml") else f"buildfarm.multiarch.{name}"
        argv = ["ansible-playbook", "-i", inventory, name, *arguments, *(["--check"] if check else [])]
        return changes(self.run(shlex.join(argv)))


def changes(printed: str) -> int:
    """How many changes a run of a playbook reported, on all hosts together."""
    recap = _RECAP.findall(printed)
    assert recap, printed[-2000:]
    return sum(int(number) for _host, number in recap)


@contextlib.contextmanager
def known(live: LiveFarm, hosts: dict[str, str], **more: str) -> Iterator[None]:
    """Let the farm's hosts find each other, and the registry, by the guides' names for them."""
    names = {**{name: live.address(host) for name, host in hosts.items()}, **more}
    names |= {farms.DOCUMENTED_REGISTRY: live.address("registry"), "registry.internal": live.address("registry")}
    lines = "".join(f"{address} {name} # guides\n" for name, address in names.items())
    everywhere = set(hosts.values())
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda host: live.ssh(host, "cat >> /etc/hosts", stdin=lines), everywhere))
    try:
        yield
    finally:
        with ThreadPoolExecutor() as pool:
            # Not by another file in its place, as containers may have this one.
            forget = "kept=$(grep -v ' # guides$' /etc/hosts) && printf '%s\\n' \"$kept\" > /etc/hosts"
            list(pool.map(lambda host: live.ssh(host, forget), everywhere))
