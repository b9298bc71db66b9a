"""A farm as a whole: declared hosts in, a running network of them out."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cache
import machine
import registry
from hosts import Cgroup, Container, Host, Machine
from network import Network

DOMAIN = "farm.test"
REGISTRY = f"registry.{DOMAIN}"
#: What the documentation calls a registry; hosts find it by that name where a test tells them.
DOCUMENTED_REGISTRY = "registry.example.com"
#: The environment's variable that names a file for the processor seconds of farms that end.
SECONDS_FILE = "BUILDFARM_SECONDS_FILE"
BOOT_SECONDS = 180  # of a container, on a machine with much else to do
# Containers cannot automount the handlers' file system, as a machine's systemd does.
_SETTLE = (
    "systemctl is-system-running --wait >/dev/null; "
    "test -e /proc/sys/fs/binfmt_misc/register || mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc"
)


class Farm:
    """The farm called `name`; its files are in memory, seen in the cache's `farms/NAME`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.directory = _farms() / name
        self._record = self.directory / "farm.json"

    # What it is

    def declaration(self) -> dict[str, Any]:
        """What `up` declared: number and hosts; empty where there is no such farm."""
        return json.loads(self._record.read_text()) if self._record.exists() else {}

    @property
    def network(self) -> Network:
        """Its network.

        :raises OSError: there is no such farm.
        """
        if not self.declaration():
            raise OSError(f"there is no farm {self.name!r}; start it with `up`")
        return Network(self.declaration()["number"])

    @property
    def hosts(self) -> list[Host]:
        """Its hosts, in the order of their addresses."""
        return [Host(**host) for host in self.declaration().get("hosts", [])]

    def address(self, name: str) -> str:
        """The IPv4 address of a host, or of the registry."""
        names = [REGISTRY.split(".", 1)[0], *(host.name for host in self.hosts)]
        return self.network.address(names.index(name))

    @property
    def registry(self) -> str:
        """The plain registry as a host and port."""
        return f"{REGISTRY}:{registry.PLAIN}"

    @property
    def secure_registry(self) -> str:
        """The registry that wants TLS and a password, as a host and port."""
        return f"{REGISTRY}:{registry.SECURE}"

    # What it does

    def up(self, hosts: Sequence[Host], seed: Path | None = None) -> None:
        """Start the farm, over whatever a farm of its name left behind.

        :param seed: a registry's store to begin with.
        """
        self.down()
        with ThreadPoolExecutor() as pool:
            list(pool.map(Host.prepare, hosts))
        with _lock():
            machine.prepare(_farms() / "machine.json")
            used = {Farm(name).declaration().get("number") for name in names()}
            self.directory.mkdir()
            # As no farm outlives this machine, nothing has to wait until its files are on a disk.
            subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", str(self.directory)], check=True)
            number = next(number for number in range(1, 251) if number not in used)
            self._record.write_text(json.dumps({"number": number, "hosts": [asdict(host) for host in hosts]}))
        self._keys()
        network = self.network
        network.up()
        registry.start(
            self._cgroup("registry"),
            network.join(0),
            self._folder("registry"),
            [REGISTRY, DOCUMENTED_REGISTRY, self.address("registry")],
            seed,
        )
        cache.say(f"booting {', '.join(host.name for host in hosts)} …")
        started = time.monotonic()
        for index, host in enumerate(hosts, start=1):
            self._boot(host, index)
        with ThreadPoolExecutor() as pool:
            list(pool.map(self._wait, hosts))
        cache.say(f"{len(hosts)} hosts answer after {time.monotonic() - started:.0f} s")

    def down(self) -> None:
        """End the farm's processes and remove its network, mounts and files."""
        if not self.directory.exists():
            return
        declaration = self.declaration()
        if SECONDS_FILE in os.environ:
            with open(os.environ[SECONDS_FILE], "a", encoding="utf-8") as file:
                file.write(f"{self._cgroup().seconds()}\n")
        self._cgroup().end()
        if declaration:
            self.network.down()
        for host in self.hosts:
            self._machine(host).end(self.network)
        # Namespaces of other farms may hold this mount: what frees the memory is that its files are gone.
        for part in self.directory.iterdir():
            cache.remove(part)
        cache.remove(self.directory)
        with _lock():
            if not names():
                machine.restore(_farms() / "machine.json")

    def ssh(self, name: str, *command: str) -> list[str]:
        """The argument list that runs a command on a host, or opens a shell there."""
        return ["ssh", *self.ssh_options(), *self._shared_connection(), f"root@{self.address(name)}", *command]

    def ssh_options(self) -> list[str]:
        """The options for ssh that reach the hosts and nothing else."""
        options = {
            "IdentityFile": self.directory / "ssh/id",
            "IdentitiesOnly": "yes",
            "UserKnownHostsFile": self.directory / "ssh/known_hosts",
            "GlobalKnownHostsFile": "/dev/null",
            "StrictHostKeyChecking": "yes",
            "BatchMode": "yes",
            "LogLevel": "ERROR",
            # OpenSSH's default takes a tenth of a second to keep connections from computers that may come.
            "KexAlgorithms": "curve25519-sha256",
        }
        return [word for key, value in options.items() for word in ("-o", f"{key}={value}")]

    def _shared_connection(self) -> list[str]:
        """Options that keep a connection for the next command; it ends with the host, or when it has been idle."""
        path = self.directory / "ssh/%h"
        if len(str(path)) > 80:  # a socket's path has 107 bytes, of which ssh wants some for a temporary name
            return []
        return ["-o", "ControlMaster=auto", "-o", "ControlPersist=20", "-o", f"ControlPath={path}"]

    def inventory(self) -> dict[str, Any]:
        """The farm as an Ansible inventory, hosts in their groups."""
        groups: dict[str, Any] = {}
        for host in self.hosts:
            group = groups.setdefault(host.group or "ungrouped", {"hosts": {}})
            group["hosts"][host.name] = {"ansible_host": self.address(host.name), **host.variables}
        variables = {
            "ansible_user": "root",
            "ansible_ssh_private_key_file": str(self.directory / "ssh/id"),
            "ansible_ssh_common_args": " ".join(
                f"-o {option}" for option in self.ssh_options()[1::2] if not option.startswith("IdentityFile")
            ),
            "ansible_python_interpreter": "/usr/bin/python3",
        }
        return {"all": {"vars": variables, "children": groups}}

    def status(self) -> Iterator[tuple[str, str, str]]:
        """For each host: name, address, and whether its processes run."""
        for name in ("registry", *(host.name for host in self.hosts)):
            yield name, self.address(name), "running" if self._cgroup(name).running() else "stopped"

    # Power, as a test wants it

    def power_off(self, name: str) -> None:
        """End a host's processes at once, as a power cut does; its files stay."""
        self._machine(self._host(name)).power_off(self.network)

    def power_on(self, name: str) -> None:
        """Boot a host that was powered off."""
        host = self._host(name)
        self._machine(host).boot(self.network, self.hosts.index(host) + 1)
        self._wait(host)

    # The parts

    def _boot(self, host: Host, index: int) -> None:
        machine = self._machine(host)
        machine.prepare(self._files(host))
        machine.join(self.network, index)
        machine.boot(self.network, index)

    def _files(self, host: Host) -> dict[str, str]:
        names = ["registry", *(other.name for other in self.hosts)]
        lines = [f"{self.address(name)} {name}.{DOMAIN} {name}" for name in names]
        public = (self.directory / "ssh/id.pub").read_text()
        identity = self.directory / "ssh"
        return {
            "etc/hostname": f"{host.name}\n",
            # A container loads no kernel modules; its failure would leave the host "degraded".
            "etc/systemd/system/systemd-modules-load.service.d/farm.conf": (
                "[Unit]\nConditionVirtualization=!container\n"
            ),
            "etc/hosts": "\n".join(["127.0.0.1 localhost", *lines, ""]),
            "root/.ssh/authorized_keys": public,
            "etc/ssh/ssh_host_ed25519_key": (identity / "host").read_text(),
            "etc/ssh/ssh_host_ed25519_key.pub": (identity / "host.pub").read_text(),
        }

    def _keys(self) -> None:
        folder = self._folder("ssh")
        for name in ("id", "host"):
            cache.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"farm {self.name}", "-f", folder / name])
        kind, key = (folder / "host.pub").read_text().split()[:2]
        (folder / "known_hosts").write_text(f"198.18.* {kind} {key}\n")

    def _wait(self, host: Host) -> None:
        """Wait until a host has started and lets us in."""
        address, cgroup = self.address(host.name), self._cgroup(host.name)
        log = self.directory / "hosts" / host.name / "console.log"

        def answers() -> bool:
            if not cgroup.running():
                raise OSError(f"{host.name} ended while it started: {log.read_text()[-500:].strip()}")
            return _listens(address, 22)

        until(answers, BOOT_SECONDS * (4 if host.emulated else 1), f"{host.name}: no ssh")
        command = self.ssh(host.name, _SETTLE)

        def settle() -> subprocess.CompletedProcess[str]:
            return subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)

        done = settle()
        if done.returncode == 255 and host.emulated:
            # ssh itself failed: so slow a machine lets its grace time pass while it starts other things.
            done = settle()
        if done.returncode:
            raise OSError(f"{host.name} does not let us in: {done.stderr.strip()}; its console: {log}")

    def _host(self, name: str) -> Host:
        return next(host for host in self.hosts if host.name == name)

    def _machine(self, host: Host) -> Container | Machine:
        kind = Machine if host.emulated else Container
        return kind(host, self.directory / "hosts" / host.name, self._cgroup(host.name))

    def _cgroup(self, name: str = "") -> Cgroup:
        """What holds the processes of a host or of the registry; without a name, those of the whole farm."""
        return Cgroup(f"buildfarm-{self.name}/{name}")

    def _folder(self, name: str) -> Path:
        path = self.directory / name
        path.mkdir(parents=True, exist_ok=True)
        return path


def names() -> list[str]:
    """The farms that there are, running or not."""
    return sorted(path.name for path in _farms().iterdir() if path.is_dir())


def until(condition: Callable[[], object], seconds: float, failure: str) -> None:
    """Wait until a condition holds.

    :raises OSError: it did not within `seconds`.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise OSError(f"{failure} after {seconds:.0f} s")
        time.sleep(0.1)


def _listens(address: str, port: int) -> bool:
    try:
        with socket.create_connection((address, port), timeout=1) as connection:
            connection.settimeout(1)
            return bool(connection.recv(1))
    except OSError:
        return False


def _farms() -> Path:
    path = cache.root() / "farms"
    path.mkdir(exist_ok=True)
    return path


@contextmanager
def _lock() -> Iterator[None]:
    with open(_farms() / ".lock", "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
