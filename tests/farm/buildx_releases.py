"""Releases of buildx, made of Debian's packages, laid out as those on GitHub are."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

import bases
import cache

OLD, NEW = "0.13.1", "0.29.1"
#: Suite, architecture and the version that is packaged there.
_PACKAGES = (("trixie", "amd64", OLD), ("trixie", "arm64", OLD), ("forky", "amd64", NEW))
_PACKAGED = "usr/libexec/docker/cli-plugins/docker-buildx"


def name(version: str, arch: str) -> str:
    """The path of a release's file for an architecture."""
    return f"v{version}/buildx-v{version}.linux-{arch}"


def releases() -> Path:
    """A directory with the files of the releases and the checksums of each release."""

    def build(target: Path) -> None:
        for suite, arch, version in _PACKAGES:
            file = target / name(version, arch)
            file.parent.mkdir(exist_ok=True)
            with tempfile.TemporaryDirectory() as unpacked:
                bases.unpack(suite, [f"docker-buildx:{arch}"], Path(unpacked))
                content = (Path(unpacked) / _PACKAGED).read_bytes()
            file.write_bytes(content)
            with (file.parent / "checksums.txt").open("a") as listing:
                listing.write(f"{hashlib.sha256(content).hexdigest()} *{file.name}\n")

    inputs = [1, _PACKAGES, [bases.both_arches(suite).name for suite in ("trixie", "forky")]]
    return cache.artifact("plugins", inputs, build, "unpacking packages, seconds, once")
