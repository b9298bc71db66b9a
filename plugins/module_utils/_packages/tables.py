# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What each distribution calls the packages that a farm needs, and what arguments its package manager takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Dict, Mapping, Optional, Sequence, Tuple

from .distribution import DOCKERS_PACKAGES, OTHERS_PACKAGES

#: Docker's own packages, of an engine and of a controller.
DOCKERS_ENGINE = ("docker-ce", "docker-ce-cli", "containerd.io")
DOCKERS_TOOLS = ("docker-ce-cli", "docker-buildx-plugin")
#: The packages that have the engine's version. The CLI is one of them, as a later engine does not answer to one that is
#: much older.
VERSIONED = ("docker-ce", "docker-ce-cli", "docker.io", "docker-cli", "moby-engine", "docker")
DOWNLOADS = "https://download.docker.com/linux"
#: Of the key by which Docker signs its packages for Debian and Ubuntu, 9DC858229FC7DD38854AE2D88D81803C0EBFCD88.
DOCKERS_KEY = "sha256:1500c1f56fa9e26b9b8f42452a553675796ade0807cdce11975eb98170b3a570"


@dataclass(frozen=True)
class Family:
    """Distributions with the same package manager.

    :ivar manager: ``apt``, ``dnf`` or ``zypper``.
    :ivar key: path of the key of Docker's repository.
    :ivar repository: path of the declaration of Docker's repository.
    :ivar epoch: of Docker's packages, which nobody says.
    :ivar exactly: name, epoch, version and whether it is Docker's package, to how that version is requested.
    :ivar at_least: name, epoch and version, to how that version or a later one is requested.
    :ivar emulators: packages with QEMU handlers.
    """

    manager: str
    key: str
    repository: str
    epoch: str
    exactly: Callable[[str, str, str, bool], str]
    at_least: str
    emulators: Tuple[str, ...]


_RPM_KEY = "/etc/pki/rpm-gpg/RPM-GPG-KEY-docker-ce"
FAMILIES = {
    "Debian": Family(
        "apt",
        "/etc/apt/keyrings/docker.asc",
        "/etc/apt/sources.list.d/docker.sources",
        "5:",
        # apt knows patterns of this form only. Distributions add to the version in many ways, Docker begins with a
        # hyphen.
        lambda name, epoch, version, is_dockers: f"{name}={epoch}{version}{'-' if is_dockers else ''}*",
        "{name}>={epoch}{version}",
        ("qemu-user-binfmt",),
    ),
    "RedHat": Family(
        "dnf",
        _RPM_KEY,
        "/etc/yum.repos.d/docker-ce.repo",
        "3:",
        # dnf wants to hear the epoch for "or later" alone.
        lambda name, epoch, version, is_dockers: f"{name}-{version}",
        "{name} >= {epoch}{version}",
        ("qemu-user-static",),
    ),
    "Suse": Family(
        "zypper",
        _RPM_KEY,
        "/etc/zypp/repos.d/docker-ce.repo",
        "3:",
        # SUSE adds to the version of its own package.
        lambda name, epoch, version, is_dockers: f"{name}={epoch}{version}{'' if is_dockers else '_ce'}",
        "{name}>={epoch}{version}",
        ("qemu-linux-user",),
    ),
}


@dataclass(frozen=True)
class Distribution:
    """What a distribution has.

    :ivar engine: its packages of the engine; none where it has no engine.
    :ivar tools: its packages of the docker CLI and the buildx plugin; none where it has neither.
    :ivar repository: where Docker's repository has packages for it; empty where it has none.
    """

    family: str
    engine: Tuple[str, ...] = ()
    tools: Tuple[str, ...] = ()
    repository: str = ""


_DEBIAN = (("docker.io", "docker-cli"), ("docker-cli", "docker-buildx"))
#: By the ids of os-release(5). One that is not listed is treated as the first of those that it derives from.
DISTRIBUTIONS = {
    "debian": Distribution("Debian", *_DEBIAN, "debian"),
    "raspbian": Distribution("Debian", *_DEBIAN, "raspbian"),
    "ubuntu": Distribution("Debian", ("docker.io",), ("docker.io", "docker-buildx"), "ubuntu"),
    "fedora": Distribution("RedHat", ("moby-engine", "docker-cli"), ("docker-cli", "docker-buildx"), "fedora"),
    # Red Hat Enterprise Linux and its rebuilds have neither.
    "rhel": Distribution("RedHat", repository="rhel"),
    "centos": Distribution("RedHat", repository="centos"),
    # Both say that they are like Fedora, and the first is like Red Hat Enterprise Linux.
    "ol": Distribution("RedHat", repository="rhel"),
    "amzn": Distribution("RedHat", ("docker",), ("docker",)),
    # SUSE Linux Enterprise has no plugin.
    "sles": Distribution("Suse", ("docker",), ("docker",), "sles"),
    "sles_sap": Distribution("Suse", ("docker",), ("docker",)),
    "sled": Distribution("Suse", ("docker",), ("docker",)),
    "suse": Distribution("Suse", ("docker",), ("docker", "docker-buildx")),
    "opensuse": Distribution("Suse", ("docker",), ("docker", "docker-buildx")),
}
# What releases have in the place of a package that came later: another one, or nothing.
_UNTIL_NOBLE = {"qemu-user-binfmt": "qemu-user-static"}
_UNTIL_BOOKWORM = {"docker-cli": "docker.io", "docker-buildx": "", **_UNTIL_NOBLE}
_EARLIER: Dict[str, Mapping[str, str]] = {
    **dict.fromkeys(("buster", "bullseye", "bookworm"), _UNTIL_BOOKWORM),
    **dict.fromkeys(("bionic", "focal", "jammy", "noble", "oracular"), _UNTIL_NOBLE),
}


def known_distribution(lineage: Sequence[str]) -> Optional[Distribution]:
    """Return what is known of a distribution or of the first that it derives from, None where nothing is."""
    return next((DISTRIBUTIONS[name] for name in lineage if name in DISTRIBUTIONS), None)


def as_of(release: str, names: Sequence[str]) -> Tuple[str, ...]:
    """Return packages by the names that a release has for them."""
    earlier = _EARLIER.get(release, {})
    return tuple(dict.fromkeys(filter(None, (earlier.get(name, name) for name in names))))


def at_version(family: Family, names: Sequence[str], is_dockers: bool, version: str, minimum: str) -> Tuple[str, ...]:
    """Return packages as the package manager takes them: those that have the engine's version with the wanted one.

    :param is_dockers: whether they are Docker's own.
    :param version: the one version that will do; empty for any.
    :param minimum: the oldest that will do; empty for any.
    """

    def argument(name: str) -> str:
        if name not in VERSIONED or not (version or minimum):
            return name
        epoch = family.epoch if is_dockers else ""
        # That of docker-ce-cli is 1 where that of docker-ce is 3.
        epoch = "1:" if (name, epoch) == ("docker-ce-cli", "3:") else epoch
        if version:
            return family.exactly(name, epoch, version, is_dockers)
        return family.at_least.format(name=name, epoch=epoch, version=minimum)

    return tuple(argument(name) for name in names)


def conflicting(names: Sequence[str], source: str, installed: Mapping[str, str]) -> Tuple[str, ...]:
    """Return the installed packages that cannot stand beside some others.

    :param names: what is to be installed; what is not Docker's engine or part of it conflicts with nothing.
    :param source: ``distribution`` or ``docker``, whose packages they are.
    """
    if not {*DOCKERS_PACKAGES, *OTHERS_PACKAGES}.intersection(names):
        return ()
    others = {"docker": OTHERS_PACKAGES, "distribution": DOCKERS_PACKAGES}.get(source, ())
    return tuple(name for name in others if name in installed and name not in names)


def repository_text(family: str, url: str, release: str, channel: str) -> str:
    """Return the file that declares Docker's repository.

    :param release: whose packages are taken; empty, for rpm's families, for that of the host.
    """
    paths = FAMILIES[family]
    if family == "Debian":
        return f"Types: deb\nURIs: {url}\nSuites: {release}\nComponents: {channel}\nSigned-By: {paths.key}\n"
    text = (
        f"[{repository_name(channel)}]\nname=Docker CE {channel}\n"
        # A variable of dnf's and zypper's own.
        f"baseurl={url}/{release or '$releasever'}/$basearch/{channel}\n"
        f"enabled=1\ngpgcheck=1\ngpgkey=file://{paths.key}\n"
    )
    # Where the index is not signed, zypper uses it only if an option allows that, and then checks each package. It
    # reads an index again only with an option, too.
    return f"{text}repo_gpgcheck=0\nautorefresh=1\n" if family == "Suse" else text


def repository_name(channel: str) -> str:
    """Return what dnf and zypper call Docker's repository."""
    return f"docker-ce-{channel}"


def zypper_arguments(packages: Sequence[str], removed: Sequence[str], downgrade: bool) -> Tuple[str, ...]:
    """Return what follows ``zypper install``.

    By ``--capability``, what is there is not upgraded where that was not requested. A package that is to be removed has
    a hyphen before its name; what depends on it goes with it.
    """
    return (
        *("--capability", "--no-recommends"),
        *(["--allow-downgrade"] if downgrade else []),
        *(["--force-resolution"] if removed else []),
        "--",
        *packages,
        *(f"-{name}" for name in removed),
    )
