"""The images that every farm's registry begins with, in a registry's store that is built once."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import buildkit
import cache
import emulator
import images
import oci
import registry

#: What the store holds: the repositories' names and tags are those of the originals.
BUILDKIT = "moby/buildkit:buildx-stable-1"
EMULATOR = "tonistiigi/binfmt:qemu-v10.0.4"
BUSYBOX = "library/busybox:latest"
GCC = "library/gcc:latest"


def store() -> Path:
    """The store with all images, made if it is missing."""
    contents = {
        BUILDKIT: buildkit.images(),
        EMULATOR: emulator.images(),
        BUSYBOX: images.busybox(),
        GCC: images.gcc(),
    }
    inputs = {
        name: {
            platform: [[layer.parent.name for layer in image.layers], image.config] for platform, image in by.items()
        }
        for name, by in contents.items()
    }
    return cache.artifact("store", inputs, lambda folder: _fill(folder, contents), "images into a registry, seconds")


def _fill(folder: Path, contents: dict[str, dict[str, oci.Image]]) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = registry.CONFIG.format(store="/mnt", address=f"127.0.0.1:{port}", more="")
    (folder / "registry.yml").write_text(config)
    process = subprocess.Popen(
        registry.command(folder, "registry.yml"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _wait(port)
        for name, by_platform in contents.items():
            repository, tag = name.split(":")
            oci.push(f"http://127.0.0.1:{port}", repository, tag, by_platform)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        (folder / "registry.yml").unlink()


def _wait(port: int) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"http://127.0.0.1:{port}/v2/").close()
            return
        except (urllib.error.URLError, OSError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
