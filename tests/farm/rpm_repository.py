"""An rpm repository with the layout of download.docker.com/linux/fedora, and what distributions have of their own.

The packages have the files of Debian's, like those of docker_repository. Names, epochs, forms of versions, relations
and scripts are those that Docker's, Fedora's and openSUSE's specs have of them, so what dnf, zypper and rpm do is real.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import bases
import cache
import docker_repository
import rpm_systems
from docker_repository import CHANNEL, NEWER, OLDER

#: Below the repository's root: Docker's, as on its server, and each distribution's own by its id.
PATH, KEY = "linux/fedora", "linux/fedora/gpg"
FEDORA, OPENSUSE = "fedora", "opensuse"
#: Further channels of Docker's, with packages of this version that nobody signed, or whom nobody trusts.
UNSIGNED, FORGED, REFUSED = "unsigned", "forged", "26.1.6"
#: Of all that QEMU emulates, what the packages emulate.
EMULATED = "s390x"
_UNUSED = ["usr/share/doc", "usr/share/man", "etc/init.d", "usr/bin/ctr", "usr/bin/containerd-shim*-v1"]
_UNUSED += ["usr/bin/qemu-*", "usr/lib/binfmt.d/*", "usr/libexec/qemu-binfmt/*", "usr/share/qemu/binfmt.d/*"]
_KEYS = {CHANNEL: "The farm", FORGED: "A stranger"}


@dataclass(frozen=True)
class Package:
    """One rpm package.

    :ivar sources: Debian's packages whose files it has.
    :ivar relations: lines of its spec.
    """

    name: str
    version: str
    sources: Sequence[str] = ()
    relations: str = ""

    def spec(self) -> str:
        """Return its spec, for the work directory of _build."""
        scripts = _SCRIPTS if "docker.io" in self.sources else ""
        files = f"%files -f /mnt/lists/{self.name}" if self.sources else "%files"
        copies = "".join(f"cp -a /mnt/trees/{source}/. %{{buildroot}}\n" for source in self.sources)
        return (
            f"Name: {self.name}\nVersion: {self.version}\nRelease: 1.farm\n"
            f"Summary: Files of Debian's {' '.join(self.sources) or 'nothing'}\nLicense: Apache-2.0\n"
            # What the programs need is not known to rpm.
            f"AutoReqProv: no\n{self.relations}\n%description\nPart of a farm's repository.\n"
            f"%install\nmkdir -p %{{buildroot}}\n{copies}{scripts}{files}\n"
        )


# Fedora's systemd reads units anew after each transaction by itself.
_SCRIPTS = """%post
getent group docker >/dev/null || groupadd --system docker
systemctl daemon-reload
%preun
[ $1 != 0 ] || systemctl --quiet disable --now docker.service docker.socket
%postun
systemctl daemon-reload
[ $1 = 0 ] || systemctl try-restart docker.service
"""
_LIBRARIES = ("cryptography", "docker", "jmespath")
_CONTAINERD = [Package("containerd", "1.7.24", ["containerd"], "Requires: runc"), Package("runc", "1.1.15", ["runc"])]
# Without the script that restarts systemd-binfmt, whose handlers are the whole machine's.
_QEMU = ["qemu-user", "qemu-user-binfmt"]
_MOBY_CONFLICTS = "Conflicts: docker docker-io docker-ce docker-ce-cli docker-ee"


def _docker(version: str, sources: bool = True) -> list[Package]:
    """The two packages that have the engine's version."""
    conflicts = "Conflicts: docker docker-io docker-ee"
    needs = f"Epoch: 3\nRequires: docker-ce-cli containerd.io\n{conflicts}"
    return [
        Package("docker-ce", version, ["docker.io"] if sources else [], needs),
        Package(
            "docker-ce-cli",
            version,
            ["docker-cli"] if sources else [],
            f"Epoch: 1\nRecommends: docker-buildx-plugin\n{conflicts}",
        ),
    ]


def _packages() -> Iterator[tuple[str, list[Package]]]:
    """Each repository's path and packages."""
    channels = {
        CHANNEL: [
            *_docker(OLDER),
            *_docker(NEWER),
            Package("docker-ce-rootless-extras", NEWER, [], "Requires: docker-ce"),
            Package("containerd.io", "1.7.24", ["containerd", "runc"], "Conflicts: containerd runc"),
            Package("docker-buildx-plugin", "0.13.1", ["docker-buildx"], "Conflicts: docker-buildx"),
        ],
        UNSIGNED: _docker(REFUSED, sources=False),
        FORGED: _docker(REFUSED, sources=False),
    }
    for channel, packages in channels.items():
        yield f"{PATH}/{rpm_systems.SYSTEMS['dnf'].release}/x86_64/{channel}", packages
    yield (
        FEDORA,
        [
            Package("moby-engine", NEWER, ["docker.io"], f"Requires: containerd runc\n{_MOBY_CONFLICTS}"),
            Package("docker-cli", NEWER, ["docker-cli"]),
            Package("docker-buildx", "0.13.1", ["docker-buildx"], "Requires: docker-cli"),
            Package("qemu-user-static", "10.0.13", _QEMU),
            *_CONTAINERD,
            *(Package(f"python3-{name}", "1", [f"python3-{name}"]) for name in _LIBRARIES),
        ],
    )
    yield (
        OPENSUSE,
        [
            Package("docker", f"{NEWER}_ce", ["docker.io", "docker-cli"], "Requires: containerd runc docker-buildx"),
            Package("docker-buildx", "0.13.1", ["docker-buildx"], "Requires: docker >= 19.03.0_ce"),
            Package("qemu-linux-user", "10.0.13", _QEMU),
            *_CONTAINERD,
            # One for each Python that there is.
            *(Package(f"python313-{name}", "1", [f"python3-{name}"]) for name in _LIBRARIES),
        ],
    )


def repository() -> Path:
    """The directory to serve, made if it is missing."""
    modules = [Path(module.__file__) for module in (docker_repository, rpm_systems)]
    inputs = [1, bases.both_arches(docker_repository.SUITE).name, *cache.digest(Path(__file__), *modules)]
    return cache.artifact("rpm-repository", inputs, _build, "wrapping Debian's packages, under 1 minute, once")


def _build(root: Path) -> None:
    repositories = dict(_packages())
    with tempfile.TemporaryDirectory(dir=cache.root(), prefix=".wrapping-") as folder:
        work = Path(folder)
        _trees(work, {source for packages in repositories.values() for one in packages for source in one.sources})
        _room(work, "mkdir -m 700 gpg")
        for name in _KEYS.values():
            _room(work, f"{_GPG} --passphrase '' --quick-generate-key '{name}' rsa3072 sign never")
        for path, packages in repositories.items():
            for package in packages:
                _wrap(work, package, path)
            key = _KEYS.get(path.rpartition("/")[2], _KEYS[CHANNEL])
            if not path.endswith(UNSIGNED):
                _room(work, f"rpmsign --define '_gpg_path /mnt/gpg' --key-id '{key}' --addsign out/{path}/*.rpm")
            _room(work, f"createrepo_c --quiet out/{path}")
        _room(work, f"{_GPG} --armor --output out/{KEY} --export '{_KEYS[CHANNEL]}'")
        shutil.copytree(work / "out", root, dirs_exist_ok=True)
    # The same packages for each release.
    (root / PATH / rpm_systems.SYSTEMS["zypper"].release).symlink_to(rpm_systems.SYSTEMS["dnf"].release)


_GPG = "gpg --homedir gpg --batch --quiet --pinentry-mode loopback"


def _room(work: Path, command: str) -> None:
    """Run a shell command in the work directory where rpm's tools are; an agent of gpg's ends with it."""
    room = rpm_systems.base(docker_repository.SUITE, "dnf")
    bases.chroot(room, ["sh", "-ec", f"cd /mnt; {command}"], binds={work: "/mnt"})


def _trees(work: Path, sources: set[str]) -> None:
    """Unpack Debian's packages, each into a directory of its own."""
    for name, deb in docker_repository.fetch(sorted(sources), work).items():
        tree = work / "trees" / name
        tree.mkdir(parents=True)
        cache.run(["dpkg", "-x", deb, tree])
        for path in (path for pattern in _UNUSED for path in tree.glob(pattern) if EMULATED not in path.name):
            cache.remove(path)


def _wrap(work: Path, package: Package, path: str) -> None:
    """Write one package into a repository."""
    for folder in ("specs", "lists", f"out/{path}"):
        (work / folder).mkdir(parents=True, exist_ok=True)
    trees = [work / "trees" / source for source in package.sources]
    # Directories are the system's.
    files = [f"/{file.relative_to(tree)}" for tree in trees for file in tree.rglob("*") if _is_file(file)]
    (work / "lists" / package.name).write_text("".join(f'"{file}"\n' for file in files))
    (work / "specs" / package.name).write_text(package.spec())
    settings = {
        "_topdir": "/mnt/build",
        "_buildhost": "farm",
        "_rpmdir": f"/mnt/out/{path}",
        "_build_name_fmt": "%%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm",
        "_binary_payload": "w1.zstdio",
        # The programs stay as they are.
        "debug_package": "%{nil}",
        "__os_install_post": "%{nil}",
    }
    defines = " ".join(f"--define '{name} {value}'" for name, value in settings.items())
    _room(work, f"rpmbuild --quiet -bb {defines} specs/{package.name}")


def _is_file(path: Path) -> bool:
    return path.is_symlink() or not path.is_dir()
