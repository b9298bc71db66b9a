"""Base images for the builds of tests and of the demo, from Debian's packages.

Unpacked, not installed: no maintainer script runs, so neither the other
architecture's nor this machine's emulation is needed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import bases
import cache
from oci import Image, layer

ARCHES = ("amd64", "arm64")
#: By their Debian names, as the programs are that run on any machine for which an emulator is there.
PROGRAM_ARCHES = ("arm64", "armhf", "ppc64el", "riscv64", "s390x")
SUITE = "trixie"
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Debian's name of the compiler for an architecture; the commands are called
# x86_64-linux-gnu-gcc and aarch64-linux-gnu-gcc.
_COMPILERS = {"amd64": "x86-64-linux-gnu", "arm64": "aarch64-linux-gnu"}
_GCC = "14"
_GCC_PACKAGES = [
    "gcc",
    f"gcc-{_GCC}",
    "binutils",
    "binutils-common",
    "libbinutils",
    "libctf0",
    "libctf-nobfd0",
    "libsframe1",
    "libjansson4",
    "zlib1g",
    "libzstd1",
    "libisl23",
    "libmpc3",
    "libmpfr6",
    "libgmp10",
    "libgcc-s1",
    "libc6",
    "libc6-dev",
    f"libgcc-{_GCC}-dev",
]
# Of no use to `gcc -static`, and half of what a node under emulation spends on unpacking the layer.
_GCC_WITHOUT = [
    "usr/share/*",
    "usr/bin/*-cpp-*",
    "usr/bin/*-lto-dump-*",
    "usr/bin/*gcov*",
    "usr/bin/*gprof*",
    "usr/bin/*objdump",
    "usr/bin/*readelf",
    "usr/libexec/gcc*/*/*/g++-mapper-server",
    "usr/libexec/gcc*/*/*/lto*",
    "usr/lib/*/gconv",
    "usr/lib/*/ldscripts",
    "usr/lib/*/perl*",
    "usr/lib/gcc*/*/*/lib*san*",
    "usr/lib/gcc*/*/*/libgomp*",
    "usr/lib/gcc*/*/*/libquadmath*",
    "usr/*-linux-gnu/lib/*.so*",
    # The kernel's headers for other processors, and for what the C library does not speak of.
    "usr/include/[!ax]*-linux-*",
    "usr/lib/linux/uapi/*[!46]",
    *(f"{include}/{name}" for include in ("usr/include", "usr/*/include") for name in ("drm", "linux/*/", "rdma")),
]


def busybox() -> dict[str, Image]:
    """A base with a shell and the usual tools, for RUN: 1 MB a platform."""
    return {f"linux/{arch}": _image("busybox", arch, [], []) for arch in ARCHES}


def busybox_programs() -> Path:
    """A directory with busybox, a static program of 1 to 2 MB, for each of PROGRAM_ARCHES."""
    lower = bases.base(SUITE)

    def build(target: Path) -> None:
        root = target / "root"
        bases.copy(lower, root)
        bases.learn(root, PROGRAM_ARCHES)
        for arch in PROGRAM_ARCHES:
            unpacked = target / "unpacked" / arch
            unpacked.mkdir(parents=True)
            bases.unpack(SUITE, [f"busybox-static:{arch}"], unpacked, root)
            (unpacked / "usr/bin/busybox").rename(target / arch)
        cache.remove(root)
        cache.remove(target / "unpacked")

    inputs = [1, lower.name, PROGRAM_ARCHES]
    return cache.artifact("busybox-programs", inputs, build, "lists of five architectures' packages, seconds, once")


def gcc() -> dict[str, Image]:
    """Busybox and a C compiler for both architectures, native on either.

    For `FROM --platform=$BUILDPLATFORM`: x86_64-linux-gnu-gcc and
    aarch64-linux-gnu-gcc with `-static`.
    """
    return {f"linux/{arch}": _gcc(arch) for arch in ARCHES}


def _gcc(arch: str) -> Image:
    (other,) = (name for name in ARCHES if name != arch)
    tools = [
        f"{tool}-{compiler}"
        for tool in ("gcc", f"gcc-{_GCC}", f"cpp-{_GCC}", "binutils")
        for compiler in _COMPILERS.values()
    ]
    libraries = ["libc6", "libc6-dev", "linux-libc-dev", f"libgcc-{_GCC}-dev"]
    packages = [
        *(f"{package}:{arch}" for package in [*_GCC_PACKAGES, *tools]),
        # For all architectures: apt knows no linux-libc-dev:arm64.
        "linux-libc-dev",
        *(f"{library}-{other}-cross" for library in libraries),
    ]
    return _image("gcc", arch, packages, _GCC_WITHOUT)


def _image(name: str, arch: str, packages: Sequence[str], without: Sequence[str]) -> Image:
    def build(target: Path) -> None:
        root = target / "root"
        bases.skeleton(root)
        bases.unpack(SUITE, [f"busybox-static:{arch}", *packages], root)
        for pattern in without:
            for path in root.glob(pattern):
                cache.remove(path)
        _link_applets(root)
        layer(root, target / "layer.tar.gz")

    inputs = [1, arch, bases.both_arches(SUITE).name, list(packages), list(without)]
    about = "unpacking packages, seconds, once"
    made = cache.artifact(f"image-{name}-{arch}", inputs, build, about)
    return Image((made / "layer.tar.gz",), {"Env": [_PATH], "Cmd": ["sh"]})


def _link_applets(root: Path) -> None:
    """Link busybox under the name of each of its commands that is not there."""
    for name in _applets():
        path = root / "usr/bin" / name
        if not path.is_symlink() and not path.exists():
            path.symlink_to("busybox")


def _applets() -> list[str]:
    """The commands in Debian's busybox-static, the same for all architectures."""
    with tempfile.TemporaryDirectory() as unpacked:
        bases.unpack(SUITE, ["busybox-static:amd64"], Path(unpacked))
        return cache.run([f"{unpacked}/usr/bin/busybox", "--list"], capture=True).split()
