"""An image that honours the contract of tonistiigi/binfmt, for where Docker Hub is out of reach.

Debian's static QEMU binaries, under the names that image has them, and a
program of our own (`sources/emulator`) that registers them.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path

import bases
import cache
import golang
from oci import Image, layer

SUITE = "trixie"  # from here on qemu-user is static
ARCHES = ("amd64", "arm64")
EMULATORS = (
    "qemu-x86_64",
    "qemu-aarch64",
    "qemu-arm",
    "qemu-s390x",
    "qemu-ppc64le",
    "qemu-riscv64",
    "qemu-i386",
    "qemu-mips64el",
    "qemu-mips64",
    "qemu-loongarch64",
)
CONFIG = {
    "Entrypoint": ["/usr/bin/binfmt"],
    "Env": [
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "QEMU_PRESERVE_ARGV0=1",
    ],
}
_OURS = Path(__file__).with_name("sources") / "emulator"
# The processor's own program emulates nothing that the image is asked for.
_NATIVE = {"amd64": ("qemu-x86_64", "qemu-i386"), "arm64": ("qemu-aarch64",)}


def images() -> dict[str, Image]:
    """The image for both platforms, ready for oci.push."""
    return {f"linux/{arch}": image(arch) for arch in ARCHES}


def image(arch: str) -> Image:
    """The image for hosts of one architecture."""
    return Image((image_root(arch) / "layer.tar.gz",), CONFIG)


def image_root(arch: str) -> Path:
    """A directory with the image's `root` and the same as `layer.tar.gz`."""
    sources = cache.digest(*sorted(_OURS.glob("*.go")))
    inputs = [1, arch, golang.workroom().name, bases.both_arches(SUITE).name, EMULATORS, sources]

    def build(target: Path) -> None:
        root = target / "root"
        bases.skeleton(root)
        with tempfile.TemporaryDirectory() as made:
            unpacked = Path(made)
            (package,) = bases.unpack(SUITE, [f"qemu-user:{arch}"], unpacked)
            version = re.sub(r"^[^_]*_(?:\d+%3a)?([\d.]+).*", r"v\1", package)
            for name in EMULATORS:
                if name not in _NATIVE[arch]:
                    shutil.move(unpacked / "usr/bin" / name, root / "usr/bin" / name)
        golang.build(
            ["farm/binfmt"],
            arch,
            root / "usr/bin",
            variables={"main.version": "farm", "main.qemuVersion": version},
            additions={"farm/binfmt": _OURS},
        )
        layer(root, target / "layer.tar.gz")

    return cache.artifact(f"emulator-{arch}", inputs, build, "QEMU's packages, under 1 minute, once")
