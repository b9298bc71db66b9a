"""One host of the farm: a real systemd in a container, from a base root file system.

The base is the lower layer of an overlay, so a host is there at once and never
changes the base. What it runs sits in a control group of its own: one write
ends all of it, whatever it started.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import arm64
import bases
import cache
import rpm_systems
import runner
from network import Network

CONTROLLER_PACKAGES = ["docker-cli", "docker-buildx", "python3-cryptography", "python3-docker", "python3-jmespath"]
#: What a base's variant has beyond the suite.
VARIANTS = {"controller": CONTROLLER_PACKAGES, "workstation": ["docker.io", *CONTROLLER_PACKAGES]}

#: What hosts install, of Debian's packages, and what may be asked for.
_WANTED = [*CONTROLLER_PACKAGES, "docker.io", "docker-compose", "docker-doc", "podman-docker", "qemu-user-binfmt"]
_WANTED += ["qemu-user-static", "ca-certificates", "curl", "gnupg", "git", "libfaketime", "rootlesskit", "uidmap"]
_WANTED += ["docker-registry", "ansible-core", "python3-venv", "sudo"]

_NSPAWN = Path("/run/systemd/nspawn")
#: Programs of systemd's, in /usr/lib; an empty file of the same name in /etc keeps one from being run.
_GENERATORS = "systemd/system-generators"
#: Where apt keeps what it downloads, and where a host sees what earlier hosts downloaded.
_ARCHIVES, _PACKAGES = Path("var/cache/apt/archives"), Path("/var/cache/packages")


@dataclass(frozen=True)
class Host:
    """What a farm declares of a host.

    :ivar base: a suite ("trixie"), a suite with its engine ("trixie+engine") with what a controller
        needs ("trixie+controller") or with both ("trixie+workstation"), with what jobs in containers need
        ("trixie+runner"), a suite in another distribution's clothes ("trixie+dnf", see rpm_systems), or "arm64",
        the emulated machine.
    :ivar group: its group in the farm's inventory, if any.
    :ivar variables: its variables in the inventory.
    """

    name: str
    base: str
    group: str = ""
    variables: dict[str, Any] = field(default_factory=dict)

    @property
    def emulated(self) -> bool:
        """Whether it is a whole machine under QEMU rather than a container."""
        return self.base == "arm64"

    @property
    def packages(self) -> Path:
        """Where packages that hosts of its suite downloaded are kept for the next."""
        path = cache.root() / "packages" / self.base.partition("+")[0]
        path.mkdir(parents=True, exist_ok=True)
        return path

    def prepare(self) -> None:
        """Make what it boots from, where that is missing."""
        if self.emulated:
            arm64.machine()
        else:
            self.known_packages()

    def known_packages(self) -> dict[str, str]:
        """What its apt reads of Debian's packages, as files of its root: so little that it takes no time."""
        return bases.known_packages(self.root(), _WANTED)

    def root(self) -> Path:
        """The base root file system that it boots from, made if it is missing."""
        suite, _plus, variant = self.base.partition("+")
        if variant in rpm_systems.SYSTEMS:
            return rpm_systems.base(suite, variant)
        if variant == "runner":
            return runner.base(suite)
        lower = bases.host_base(suite, engine=variant == "engine")
        if variant not in VARIANTS:
            return lower
        return bases.grown(f"{variant}-{suite}", lower, VARIANTS[variant], f"a {variant}'s packages, seconds, once")


def cgroup_roots() -> list[Path]:
    """Where the unified control group hierarchy is mounted, then systemd's legacy one where the machine has that too.

    systemd-nspawn repeats a container's groups in the latter, and leaves them there.
    """
    with open("/proc/self/mounts", encoding="utf-8") as mounts:
        mounted = [line.split()[1:4] for line in mounts]
    unified = [Path(point) for point, kind, _options in mounted if kind == "cgroup2"]
    legacy = [Path(point) for point, _kind, options in mounted if "name=systemd" in options.split(",")]
    if not unified:
        raise OSError("no cgroup2 file system is mounted, which systemd in a container needs")
    return [unified[0], *legacy]


class Cgroup:
    """A control group that holds the processes of a host, or the groups of a farm's hosts."""

    def __init__(self, name: str) -> None:
        self.path, *self._copies = (root / name for root in cgroup_roots())

    def start(self, argv: list[str], log: Path) -> int:
        """Start a program inside, detached from this process; returns its process id."""
        self.path.mkdir(parents=True, exist_ok=True)
        with open(log, "ab") as output:
            process = subprocess.Popen(
                # A shell, because the group must be entered before the program is there to fork.
                ["sh", "-c", 'echo $$ > "$0"; exec "$@"', str(self.path / "cgroup.procs"), *argv],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                env={**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1", "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "1"},
            )
        while not self.running() and process.poll() is None:
            time.sleep(0.001)
        return process.pid

    def running(self) -> bool:
        """Whether any process is left inside."""
        try:
            return "populated 1" in (self.path / "cgroup.events").read_text()
        except FileNotFoundError:
            return False

    def seconds(self) -> float:
        """The processor seconds of all that ever ran inside."""
        try:
            fields = dict(line.split() for line in (self.path / "cpu.stat").read_text().splitlines())
        except FileNotFoundError:
            return 0.0
        return int(fields["usage_usec"]) / 1e6

    def end(self) -> None:
        """Kill every process inside and remove the group, with what systemd-nspawn has repeated of it."""
        if self.path.exists():
            (self.path / "cgroup.kill").write_text("1")
        deadline = time.monotonic() + 20
        while self.running() and time.monotonic() < deadline:
            time.sleep(0.02)
        for tree in (self.path, *self._copies):
            for folder, _folders, _files in os.walk(tree, topdown=False):
                Path(folder).rmdir()


class Container:
    """A host that is booted by systemd-nspawn, with its files in `directory`."""

    def __init__(self, host: Host, directory: Path, cgroup: Cgroup) -> None:
        self.host = host
        self.directory = directory
        self.cgroup = cgroup
        self.root = directory / "root"

    def prepare(self, files: dict[str, str]) -> None:
        """Mount its root over the base, with `files` (path: text) written and the cached packages at hand.

        The engine's own directories are not on the overlay: overlay2 cannot be stacked on one.
        """
        base = self.host.root()
        for name in ("upper", "work", "root", "docker", "containerd"):
            (self.directory / name).mkdir(parents=True)
        upper = self.directory / "upper"
        archives = upper / _ARCHIVES
        archives.mkdir(parents=True)
        for package in self.host.packages.glob("*.deb"):
            (archives / package.name).symlink_to(_PACKAGES / package.name)
        # A third of what a reload costs systemd; all that they would find here are consoles.
        masked = {f"etc/{_GENERATORS}/{file.name}": "" for file in (base / "usr/lib" / _GENERATORS).iterdir()}
        for path, text in {**files, **masked, **self.host.known_packages()}.items():
            target = upper / path
            for parent in reversed(target.relative_to(upper).parents):
                folder = upper / parent
                if not folder.exists():
                    folder.mkdir()
                    shutil.copystat(base / parent, folder) if (base / parent).is_dir() else None
            target.write_text(text)
            target.chmod(0o600 if "ssh" in path else 0o644)
        layers = f"lowerdir={base},upperdir={upper},workdir={self.directory / 'work'}"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", layers, str(self.root)], check=True)
        for name in ("docker", "containerd"):
            (self.root / "var/lib" / name).mkdir(mode=0o710, parents=True, exist_ok=True)

    def join(self, network: Network, index: int) -> None:
        """Make its place in the network."""
        network.join(index)

    def boot(self, network: Network, index: int) -> None:
        """Start systemd inside its network namespace."""
        self.cgroup.start(
            [
                "systemd-nspawn",
                "--quiet",
                "--register=no",
                "--keep-unit",
                "--boot",
                f"--directory={self.root}",
                f"--machine={self._name(network)}",
                f"--hostname={self.host.name}",
                f"--network-namespace-path=/run/netns/{network.namespace(index)}",
                "--resolv-conf=off",
                "--timezone=off",
                # Links to journals want a machine id, which a machine that is a container itself may lack.
                "--link-journal=no",
                "--capability=all",
                "--system-call-filter=add_key keyctl bpf @keyring",
                f"--bind={self.directory / 'docker'}:/var/lib/docker",
                f"--bind={self.directory / 'containerd'}:/var/lib/containerd",
                f"--bind-ro={self.host.packages}:{_PACKAGES}",
                "--console=pipe",
            ],
            self.directory / "console.log",
        )

    def _name(self, network: Network) -> str:
        """Its name for systemd-nspawn, which keeps files by it, so that it must differ between farms."""
        return f"bf{network.number}-{self.host.name}"

    def power_off(self, network: Network) -> None:
        """End its processes at once, and remove what systemd-nspawn removes only where it ends by itself.

        Since systemd 256 that includes a mount, over which it refuses to start again.
        """
        name, root = self._name(network), self.root.stat()
        self.cgroup.end()
        for left in (f"propagate/{name}", f"unix-export/{name}", f"locks/name-{name}"):
            cache.remove(_NSPAWN / left)
        cache.remove(_NSPAWN / f"locks/inode-{root.st_dev}:{root.st_ino}")

    def end(self, network: Network) -> None:
        """End its processes, and keep the packages that it downloaded."""
        if self.root.exists():
            self.power_off(network)
        for package in (self.directory / "upper" / _ARCHIVES).glob("*.deb"):
            kept = self.host.packages / package.name
            if not kept.exists() and package.is_file() and package.stat().st_uid == 0:
                # In one step, as others may look.
                fresh = kept.with_name(f".{kept.name}.{os.getpid()}")
                shutil.copyfile(package, fresh)
                fresh.replace(kept)


class Machine:
    """The real arm64 machine under QEMU, with its disk in `directory`."""

    def __init__(self, host: Host, directory: Path, cgroup: Cgroup) -> None:
        self.host = host
        self.directory = directory
        self.cgroup = cgroup

    def prepare(self, files: dict[str, str]) -> None:
        """Make its disk, with `files` (path: text) on it; its packages are on the disk already."""
        self.directory.mkdir(parents=True)
        resolver = {"etc/resolv.conf": bases.name_servers()}
        arm64.new_disk(self.directory / "disk.ext4", {f"/{path}": text for path, text in {**files, **resolver}.items()})

    def join(self, network: Network, index: int) -> None:
        """Make its place in the network."""
        network.tap(index)

    def boot(self, network: Network, index: int) -> None:
        """Switch it on."""
        command = arm64.boot_command(
            self.directory / "disk.ext4",
            tap=f"tap{index}",
            mac=f"52:54:00:12:{network.number:02x}:{index:02x}",
            hostname=self.host.name,
            address=f"{network.address(index)}/24",
            gateway=network.gateway,
        )
        self.cgroup.start(["ip", "netns", "exec", network.switch, *command], self.directory / "console.log")

    def power_off(self, network: Network) -> None:
        """Switch it off."""
        self.cgroup.end()

    def end(self, network: Network) -> None:
        """Switch it off."""
        self.power_off(network)
