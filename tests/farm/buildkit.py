"""BuildKit's image, compiled from Debian's sources, for where Docker Hub is out of reach."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import bases
import cache
import golang
from oci import Image, layer

# The version that Docker 28.5.2 vendors; the packaged sources do not say it.
VERSION = "v0.25.2"
CONFIG = {
    "Entrypoint": ["buildkitd"],
    "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
}
# What docker/dockerfile's image for experiments has as well: RUN --security and --device.
_TAGS = ["dfrunsecurity", "dfrundevice"]
_TRIPLETS = {"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}
_OURS = Path(__file__).with_name("sources") / "buildkit"
_BUILDKIT = "github.com/moby/buildkit"


def images() -> dict[str, Image]:
    """The image for both platforms, ready for oci.push."""
    return {f"linux/{arch}": image(arch) for arch in _TRIPLETS}


def image(arch: str) -> Image:
    """The image for one architecture."""
    return Image((image_root(arch) / "layer.tar.gz",), CONFIG)


def image_root(arch: str) -> Path:
    """A directory with the image's `root` and the same as `layer.tar.gz`."""
    workroom = golang.workroom()
    inputs = [2, arch, VERSION, _TAGS, workroom.name, cache.digest(*sorted(_OURS.glob("*.go")))]

    def build(target: Path) -> None:
        root = target / "root"
        bases.skeleton(root)
        shutil.copy(workroom / "etc/ssl/certs/ca-certificates.crt", root / "etc/ssl/certs")
        _compile(arch, root / "usr/bin")
        _add_runtime(arch, root)
        layer(root, target / "layer.tar.gz")

    return cache.artifact(f"buildkit-{arch}", inputs, build, "compiled from source, about 2 minutes, once")


def _compile(arch: str, target: Path) -> None:
    """Compile buildkitd and buildctl, less what Debian has no sources for."""
    sources = f"{golang.SOURCES}/{_BUILDKIT}"
    workroom = golang.workroom()
    replacements: dict[str, Path | None] = {f"{sources}/cmd/buildkitd/main_oci_worker.go": _OURS / "worker.go"}
    with tempfile.TemporaryDirectory() as made:
        for package in ("gha", "s3", "azblob"):
            folder = f"{sources}/cache/remotecache/{package}"
            first, *others = sorted((workroom / folder.lstrip("/")).glob("*.go"))
            stub = Path(made) / f"{package}.go"
            text = (_OURS / "nocache.go").read_text()
            stub.write_text(text.replace("package nocache", f"package {package}"))
            replacements[f"{folder}/{first.name}"] = stub
            replacements |= {f"{folder}/{other.name}": None for other in others}
        seccomp = Path(made) / "seccomp"
        seccomp.mkdir()
        shutil.copy(_OURS / "seccomp.go", seccomp)
        golang.build(
            [f"{_BUILDKIT}/cmd/buildkitd", f"{_BUILDKIT}/cmd/buildctl"],
            arch,
            target,
            variables={f"{_BUILDKIT}/version.Version": VERSION},
            additions={
                "github.com/coreos/go-systemd/v22": f"{golang.SOURCES}/github.com/coreos/go-systemd",
                "github.com/mitchellh/hashstructure/v2": (f"{golang.SOURCES}/github.com/mitchellh/hashstructure"),
                "github.com/moby/profiles/seccomp": seccomp,
            },
            replacements=replacements,
            tags=_TAGS,
        )


def _add_runtime(arch: str, root: Path) -> None:
    """Add runc with the libraries that it needs (its DT_NEEDED), and a shell."""
    libraries = f"usr/lib/{_TRIPLETS[arch]}"
    patterns = {
        "runc": ["usr/sbin/runc"],
        "libc6": [f"{libraries}/libc.so.6", f"{libraries}/ld-*", "usr/lib*/ld-*"],
        "libseccomp2": [f"{libraries}/libseccomp.so.2*"],
        "busybox-static": ["usr/bin/busybox"],
    }
    with tempfile.TemporaryDirectory() as made:
        unpacked = Path(made)
        bases.unpack("forky", [f"{package}:{arch}" for package in patterns], unpacked)
        for package, wanted in patterns.items():
            found = [path for pattern in wanted for path in unpacked.glob(pattern)]
            if not found:
                raise cache.ToolError(f"{package}:{arch} holds none of {wanted}")
            for source in found:
                copied = root / source.relative_to(unpacked)
                copied.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, copied, follow_symlinks=False)
    (root / "usr/bin/sh").symlink_to("busybox")
