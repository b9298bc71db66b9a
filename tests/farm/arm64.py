"""A real arm64 machine: its disk, its kernel, and the command that boots it under QEMU.

Everything is emulated, so it is slow, but nothing about it is faked. Its
kernel is Debian's for clouds, which has NVMe and ext4 built in: it boots
without an initrd, and making one under emulation would take minutes.
"""

from __future__ import annotations

import ipaddress
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import bases
import cache
import emulator

SUITE = "trixie"
DISK_GIB = 8  # a sparse file: takes what is used
_HOST_PACKAGES = [*bases.HOST_PACKAGES, "udev", "kmod"]
_ENGINE_PACKAGES = ["docker.io", "docker-cli"]
_HANDLER = "buildfarm-aarch64"


def machine(engine: bool = True) -> Path:
    """A directory with `disk.ext4`, an arm64 host's root, and its `vmlinuz`."""
    packages = [*_HOST_PACKAGES, *(_ENGINE_PACKAGES if engine else [])]
    inputs = [2, SUITE, packages, DISK_GIB, bases.both_arches(SUITE).name]

    def build(target: Path) -> None:
        with emulation():
            lower = bases.base(SUITE, "arm64", packages)
            root = target / "root"
            bases.copy(lower, root)
            kernel = _add_kernel(root)
            # /etc/fstab is empty: the kernel mounts the root, read and write.
            bases.chroot(root, ["systemctl", "enable", "systemd-networkd"])
            # Else its first boot brings up to date what is new: ConditionNeedsUpdate= of systemd.unit(5).
            bases.chroot(root, ["touch", "/etc/.updated", "/var/.updated"])
        shutil.copy(root / "boot" / f"vmlinuz-{kernel}", target / "vmlinuz")
        cache.run(["mkfs.ext4", "-q", "-d", root, target / "disk.ext4", f"{DISK_GIB}G"])
        cache.remove(root)

    return cache.artifact("arm64", inputs, build, "debootstrap under emulation, about 6 minutes, once")


def new_disk(target: Path, files: Mapping[str, str], engine: bool = True) -> None:
    """Make a disk of its own for one machine, with `files` (path → text) on it.

    For root's authorized_keys, resolv.conf and the like. They are put there
    with debugfs, which needs neither a loop device nor a mount.
    """
    target.unlink(missing_ok=True)
    disk = machine(engine) / "disk.ext4"
    cache.run(["cp", "--sparse=always", "--reflink=auto", disk, target])
    with tempfile.TemporaryDirectory() as made:
        commands = []
        for number, (path, text) in enumerate(files.items()):
            source = Path(made) / str(number)
            source.write_text(text)
            # debugfs keeps the mode, and sshd takes no key that others can read.
            source.chmod(0o600 if "ssh" in path else 0o644)
            # What is there already makes mkdir fail, what is not rm: no harm.
            commands += [f'mkdir "{parent}"' for parent in reversed(Path(path).parents[:-1])]
            commands += [f'rm "{path}"', f'write "{source}" "{path}"']
        script = Path(made) / "script"
        script.write_text("".join(f"{command}\n" for command in commands))
        cache.run(["debugfs", "-w", "-f", script, target])
        for number, path in enumerate(files):
            back = Path(made) / f"{number}.back"
            cache.run(["debugfs", "-R", f'dump "{path}" "{back}"', target])
            if not back.exists() or back.read_bytes() != (Path(made) / str(number)).read_bytes():
                raise cache.ToolError(f"debugfs could not write {path} to {target}")


def boot_command(
    disk: Path,
    tap: str,
    mac: str,
    hostname: str,
    address: str,
    gateway: str,
    memory_mib: int = 2048,
    engine: bool = True,
) -> list[str]:
    """The argument list that runs the machine; its console is QEMU's stdin and stdout.

    `disk` is from new_disk; `tap` exists and is up; `address` is with its
    prefix length, as in 198.18.0.5/24. The address reaches the guest in the
    kernel's `ip=` parameter, which systemd-network-generator(8) understands.
    """
    interface = ipaddress.ip_interface(address)
    parameters = [
        "root=/dev/nvme0n1",
        "rw",
        # With its addresses at random, arm64's kernel gives each system call page tables of its own
        # (kaslr_requires_kpti() in arch/arm64/kernel/cpufeature.c): under QEMU eight times the call's cost.
        "nokaslr",
        "mitigations=off",
        "console=ttyAMA0",
        "net.ifnames=0",
        f"ip={interface.ip}::{gateway}:{interface.netmask}:{hostname}:eth0:off",
        f"systemd.hostname={hostname}",
    ]
    return [
        "qemu-system-aarch64",
        "-machine",
        "virt",
        "-cpu",
        # Has PAN, which the kernel otherwise imitates by changing page tables at each access to a program's memory.
        "cortex-a76",
        "-accel",
        "tcg,thread=multi",
        "-smp",
        "2",
        "-m",
        str(memory_mib),
        "-nographic",
        "-nodefaults",
        "-serial",
        "stdio",
        "-kernel",
        str(machine(engine) / "vmlinuz"),
        "-append",
        " ".join(parameters),
        "-drive",
        f"file={disk},format=raw,if=none,id=disk,cache=unsafe",
        "-device",
        "nvme,drive=disk,serial=farm",
        "-netdev",
        f"tap,id=net,ifname={tap},script=no,downscript=no",
        "-device",
        f"virtio-net-pci,netdev=net,mac={mac},romfile=",
        "-device",
        "virtio-rng-pci",
    ]


def _add_kernel(root: Path) -> str:
    """Unpack the kernel; returns its release. No initrd is made."""
    # The metapackage's one dependency is the kernel's package.
    listing = bases.chroot(root, ["apt-cache", "depends", "linux-image-cloud-arm64"], capture=True)
    (release,) = re.findall(r"Depends: linux-image-(\S+)", listing)
    bases.unpack(SUITE, [f"linux-image-{release}:arm64"], root)
    bases.chroot(root, ["depmod", release])
    return str(release)


@contextmanager
def emulation() -> Iterator[None]:
    """Let this machine run arm64 programs meanwhile.

    By a handler with a name of its own and the farm's own QEMU: others that
    are registered are neither used nor changed. The kernel holds the program
    open (flag F), so that it serves inside any root.

    A process of its own holds the handler: with the last mount of binfmt_misc
    the kernel forgets all of them, and this machine may have no other. It ends
    with ours, however that ends, and takes the handler with it.
    """
    qemu = emulator.image_root("amd64") / "root/usr/bin/qemu-aarch64"
    magic = r"\x7fELF\x02\x01\x01" + r"\x00" * 9 + r"\x02\x00\xb7\x00"
    mask = r"\xff" * 7 + r"\x00" + r"\xff" * 8 + r"\xfe\xff\xff\xff"
    script = """
        trap '' INT TERM HUP
        at=/proc/sys/fs/binfmt_misc
        [ -e $at/register ] || mount -t binfmt_misc binfmt_misc $at
        [ ! -e "$at/$1" ] || printf %s -1 > "$at/$1"
        printf %s "$2" > $at/register
        echo registered
        cat > /dev/null
        printf %s -1 > "$at/$1"
    """
    line = f":{_HANDLER}:M:0:{magic}:{mask}:{qemu}:CFP"
    holder = subprocess.Popen(
        ["unshare", "--mount", "sh", "-ec", script, "sh", _HANDLER, line],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with holder:
        said = holder.stdout.readline()
        if said != "registered\n":
            raise cache.ToolError(f"arm64 programs cannot be run here: {said}{holder.stdout.read()}")
        yield
