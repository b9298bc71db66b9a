"""An apt repository with the layout of download.docker.com/linux/debian, for hosts that must not need the real one.

Its packages are Debian's own, repacked under Docker's names with Docker's version scheme and conflicts, so what
apt and systemd do with them is real. The older and the newer engine differ in the package's version alone.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import bases
import cache

SUITE = "trixie"
CHANNEL = "stable"
OLDER, NEWER = "26.1.4", "26.1.5"
#: Below the repository's root, as on Docker's server.
PATH, KEY = "linux/debian", "linux/debian/gpg"
_CONFLICTS = {
    "docker-ce": "docker.io",
    "docker-ce-cli": "docker.io, docker-cli",
    "containerd.io": "containerd, runc",
    "docker-buildx-plugin": "docker-buildx",
}
#: The relations of Debian's packages that hold for the repacked ones too.
_RENAMED = {"containerd": "containerd.io", "runc": "containerd.io", "docker-cli": "docker-ce-cli"}
_SOURCES = ["docker.io", "docker-cli", "containerd", "runc", "docker-buildx"]


def repository() -> Path:
    """The directory to serve, made if it is missing."""
    inputs = [1, bases.both_arches(SUITE).name, *cache.digest(Path(__file__))]
    return cache.artifact("docker-repository", inputs, _build, "repacking Debian's packages, under 1 minute, once")


def _build(root: Path) -> None:
    dist = root / PATH / "dists" / SUITE
    pool = dist / "pool" / CHANNEL / "amd64"
    pool.mkdir(parents=True)
    with tempfile.TemporaryDirectory(dir=cache.root(), prefix=".repacking-") as folder:
        work = Path(folder)
        debs = fetch(_SOURCES, work)
        for version in (OLDER, NEWER):
            _repack([debs["docker.io"]], "docker-ce", f"5:{_revision(version)}", work, pool)
            _repack([debs["docker-cli"]], "docker-ce-cli", f"5:{_revision(version)}", work, pool)
        for names, name in ((["containerd", "runc"], "containerd.io"), (["docker-buildx"], "docker-buildx-plugin")):
            version = re.split("[_+~]", debs[names[0]].name)[1]
            _repack([debs[source] for source in names], name, _revision(version), work, pool)
        _index(dist, sorted(pool.glob("*.deb")), root / PATH)
        _sign(dist / "Release", root / KEY, work)


def _revision(version: str) -> str:
    return f"{version}-1~debian.13~{SUITE}"


def fetch(sources: Sequence[str], work: Path) -> dict[str, Path]:
    """Download Debian's packages, for whatever architecture; returns their files by name."""
    names = bases.unpack(SUITE, sources, work / "unpacked")
    return {name.split("_")[0]: cache.directory("apt") / name for name in names}


def _repack(debs: list[Path], name: str, version: str, work: Path, pool: Path) -> None:
    """Write one package; files of all but the first are added to it without their maintainer scripts."""
    tree = work / name
    cache.run(["dpkg-deb", "-R", debs[0], tree])
    for more in debs[1:]:
        cache.run(["dpkg-deb", "-x", more, tree])
    control = tree / "DEBIAN/control"
    control.write_text(_control(control.read_text(), name, version))
    # Lists of the files of the first package only, which apt and dpkg do without.
    (tree / "DEBIAN/md5sums").unlink(missing_ok=True)
    for documents in (tree / "usr/share/doc", tree / "usr/share/lintian"):
        shutil.rmtree(documents, ignore_errors=True)
    target = pool / f"{name}_{version.rpartition(':')[2]}_amd64.deb"
    cache.run(["dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "-b", tree, target])
    shutil.rmtree(tree)


def _control(text: str, name: str, version: str) -> str:
    """Return a package's control file under its new name."""
    fields = bases.fields_of(text)
    for field in ("Recommends", "Suggests", "Breaks", "Provides", "Source", "Built-Using", "Static-Built-Using"):
        fields.pop(field, None)
    fields.update(Package=name, Version=version, Maintainer="The farm <farm@farm.test>")
    fields.update(Conflicts=_CONFLICTS[name], Replaces=_CONFLICTS[name])
    fields["Depends"] = _depends(fields.get("Depends", ""), name)
    return "".join(f"{field}: {value}\n" for field, value in fields.items() if value)


def _depends(relations: str, name: str) -> str:
    """Return a package's dependencies with the repacked packages in place of Debian's, without their versions."""
    kept = []
    for relation in filter(None, (part.strip() for part in relations.replace("\n", " ").split(","))):
        renamed = _RENAMED.get(relation.split()[0])
        if renamed != name:
            kept.append(renamed or relation)
    if name == "docker-ce":
        kept.append("docker-ce-cli")
    return ", ".join(dict.fromkeys(kept))


def _index(dist: Path, debs: list[Path], root: Path) -> None:
    """Write Packages and Release, by https://wiki.debian.org/DebianRepository/Format."""
    entries = []
    for deb in debs:
        control = cache.run(["dpkg-deb", "--field", deb], capture=True).rstrip()
        entries.append(f"{control}\n{_fields(_file(deb, str(deb.relative_to(root))))}")
    packages = dist / CHANNEL / "binary-amd64/Packages"
    packages.parent.mkdir(parents=True)
    packages.write_text("\n".join(entries))
    listed = _file(packages, str(packages.relative_to(dist)))
    release = {
        "Origin": "Docker",
        "Label": "Docker CE",
        "Suite": SUITE,
        "Codename": SUITE,
        "Architectures": "amd64",
        "Components": CHANNEL,
        "Date": time.strftime("%a, %d %b %Y %H:%M:%S UTC", time.gmtime()),
        "SHA256": f"\n {listed['SHA256']} {listed['Size']} {listed['Filename']}",
    }
    (dist / "Release").write_text(_fields(release))


def _file(path: Path, name: str) -> dict[str, str]:
    content = path.read_bytes()
    return {"Filename": name, "Size": str(len(content)), "SHA256": hashlib.sha256(content).hexdigest()}


def _fields(values: Mapping[str, str]) -> str:
    return "".join(f"{name}: {value}\n" for name, value in values.items())


def _sign(release: Path, key: Path, work: Path) -> None:
    """Sign a Release file with a key made for it, and write the public key."""
    home = work / "gpg"
    home.mkdir(mode=0o700)
    gpg = ["gpg", "--homedir", home, "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""]
    try:
        cache.run([*gpg, "--quick-generate-key", "A farm's Docker repository", "rsa3072", "sign", "never"])
        cache.run([*gpg, "--armor", "--output", key, "--export"])
        cache.run([*gpg, "--clear-sign", "--output", release.with_name("InRelease"), release])
    finally:
        # gpg has started an agent, which stays.
        cache.run(["gpgconf", "--homedir", home, "--kill", "all"])
