"""An execution environment: the image of examples/execution-environment/debian.yml, made on a host of the farm.

What cannot be had here is given to it: instead of a registry's image of Debian the root of the farm's hosts, instead
of a release of buildx Debian's, from a web server, instead of Galaxy's copy of the collection one that has nothing but
what ansible-builder reads. Jobs bring the whole one with them, as AWX's projects do.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import yaml

import bases
import buildx_releases
import cache
import release_server
from ansible_runs import CHECKOUT, LiveFarm
from hosts import Host

IMAGE = "localhost/execution-environment:latest"
_BASE = "localhost/debian:trixie"
_DEFINITION = CHECKOUT / "examples/execution-environment/debian.yml"
#: Of a root file system, what an image can do without: half of it.
_LEFT_OUT = ("boot/*", "var/cache/*", "var/lib/apt/lists/*", "usr/share/doc/*", "usr/share/locale/*", "usr/share/man/*")
_FOLDER = "/srv/image"
# What builds may have here: neither control groups nor a network of their own.
_PODMAN = "--isolation chroot --network host"
_BUILD = (
    "ansible-builder build --verbosity 3 --file definition.yml --context context --container-runtime podman"
    f" --squash all --tag {IMAGE} --build-arg BUILDX_URL=%s --build-arg BUILDX_SHA256=%s"
    f" --extra-build-cli-args='{_PODMAN}'"
)


def provide(farm: LiveFarm, host: str) -> None:
    """Have the image on a host, built there unless one that the same went into is kept."""
    root = bases.base("trixie")
    inputs = [1, root.name, Host("", "trixie+runner").root().name, _definition(), buildx_releases.releases().name]
    inputs += cache.digest(*_collection())
    kept = cache.artifact(
        "execution-environment",
        inputs,
        lambda folder: _build(farm, host, root, folder),
        "by ansible-builder, minutes, once",
    )
    with (kept / "image.tar").open("rb") as archive:
        subprocess.run(farm.farm.ssh(host, "podman load --quiet"), stdin=archive, stdout=subprocess.DEVNULL, check=True)


def _definition() -> str:
    """The definition as the example has it, with what can be had here."""
    definition = yaml.safe_load(_DEFINITION.read_text())
    definition["images"]["base_image"]["name"] = _BASE
    definition["dependencies"]["galaxy"]["collections"] = [{"name": "files/collection.tar.gz", "type": "file"}]
    definition["additional_build_files"] = [{"src": "collection.tar.gz", "dest": "files"}]
    return json.dumps(definition)


def _collection() -> list[Path]:
    """The files that say what the collection needs."""
    return [CHECKOUT / "galaxy.yml", *sorted((CHECKOUT / "meta").iterdir())]


def _build(farm: LiveFarm, host: str, root: Path, folder: Path) -> None:
    """Build the image on a host, and write it into a directory."""
    left_out = [f"--exclude=./{path}" for path in _LEFT_OUT]
    with subprocess.Popen(["tar", "-cC", str(root), *left_out, "."], stdout=subprocess.PIPE) as packed:
        load = farm.farm.ssh(host, f"rm -rf {_FOLDER}; mkdir {_FOLDER}; podman import --quiet - {_BASE}")
        subprocess.run(load, stdin=packed.stdout, stdout=subprocess.DEVNULL, check=True)
    with tempfile.TemporaryDirectory() as place:
        source = Path(place) / "source"
        for file in _collection():
            target = source / file.relative_to(CHECKOUT)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
        (source / "README.md").write_text("What ansible-builder reads of the collection.\n")
        cache.run(
            [Path(sys.executable).parent / "ansible-galaxy", "collection", "build", "--output-path", place, source],
            cwd=source,
        )
        (archive,) = Path(place).glob("*.tar.gz")
        files = {"collection.tar.gz": archive.read_bytes(), "definition.yml": _definition().encode()}
    unpack = farm.farm.ssh(host, f"tar -xC {_FOLDER}")
    subprocess.run(unpack, input=_packed(files), check=True)
    with release_server.served(farm, host) as releases:
        url, checksum = releases.url("whole"), releases.checksum().removeprefix("sha256:")
        farm.ssh(host, f"cd {_FOLDER}; {_BUILD % (url, checksum)} >log 2>&1 || {{ tail -60 log >&2; exit 1; }}")
    with (folder / "image.tar").open("wb") as stream:
        save = farm.farm.ssh(host, f"podman save --quiet --format docker-archive {IMAGE}")
        subprocess.run(save, stdout=stream, check=True)
    farm.ssh(host, f"rm -rf {_FOLDER}; podman system reset --force")


def _packed(files: dict[str, bytes]) -> bytes:
    """An archive of files, by their names."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
