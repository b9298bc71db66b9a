"""Hosts whose package manager is dnf or zypper.

They are Debian systems with the name of another distribution, without apt and dpkg. rpm's database has one package,
which stands for the system below. So dnf, zypper, rpm and what Ansible does with them is real; none of the other
distribution's packages is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import bases
import cache

_OS_RELEASE = Path(__file__).parents[1] / "unit/fixtures/os-release"
#: rpm and what Ansible's rpm_key needs; what runc, the engine and the collection's Python libraries use.
_PACKAGES = ["rpm", "gpg", "libseccomp2", "tini"]
_PACKAGES += ["python3-bcrypt", "python3-cffi-backend", "python3-nacl", "python3-requests"]
#: What would tell Ansible, or us, that this is Debian after all.
_WITHOUT = ["etc/debian_version", "etc/apt", "usr/lib/apt", "var/lib/apt", "var/lib/dpkg"]


@dataclass(frozen=True)
class System:
    """What such a host has.

    :ivar os_release: the file of tests/unit/fixtures/os-release that says what it takes itself for.
    :ivar repositories: the directory in which they are declared.
    :ivar package: what stands for the system; its version is what there is for ``$releasever``.
    :ivar files: text of further files, by path.
    :ivar links: targets of symbolic links, by path.
    """

    os_release: str
    packages: Sequence[str]
    repositories: str
    package: str
    files: Mapping[str, str]
    links: Mapping[str, str]

    @property
    def release(self) -> str:
        """What its package manager has for ``$releasever``."""
        return self.os_release.rpartition("-")[2]


# By which Ansible knows it.
_FEDORA = {"etc/redhat-release": "Fedora release 42 (Adams)\n"}
_BASE_PRODUCT = (
    '<?xml version="1.0"?>\n<product schemeversion="0"><vendor>openSUSE</vendor><name>Leap</name>'
    "<version>15.6</version><release>1</release><arch>x86_64</arch></product>\n"
)
SYSTEMS = {
    # Fedora until 40, Red Hat Enterprise Linux and its rebuilds. With what repositories are made by.
    "dnf": System("fedora-42", ["dnf", "createrepo-c", "gpg-agent"], "etc/yum.repos.d", "fedora-release", _FEDORA, {}),
    # Fedora since 41, where /usr/bin/dnf is a link.
    "dnf5": System(
        "fedora-42",
        ["dnf5", "python3-libdnf5"],
        "etc/yum.repos.d",
        "fedora-release",
        # Fedora does not keep the packages.
        {**_FEDORA, "etc/dnf/libdnf5-plugins/local.conf": "[main]\nname = local\nenabled = no\n"},
        {"usr/bin/dnf": "dnf5"},
    ),
    "zypper": System(
        "opensuse-leap-15.6",
        ["zypper", "libzypp-bin", "libzypp-common", "libzypp-config"],
        "etc/zypp/repos.d",
        "openSUSE-release",
        {"etc/products.d/leap.prod": _BASE_PRODUCT},
        {"etc/products.d/baseproduct": "leap.prod"},
    ),
}


def base(suite: str, name: str) -> Path:
    """The root file system of such a host.

    :param suite: of Debian, which decides the versions.
    :param name: of ``SYSTEMS``.
    """
    lower, system = bases.base(suite), SYSTEMS[name]
    packages = [*_PACKAGES, *system.packages]
    os_release = _OS_RELEASE / system.os_release

    def build(root: Path) -> None:
        with bases.sharing(lower, root):
            bases.install(root, packages)
        (root / system.repositories).mkdir(parents=True, exist_ok=True)
        # Debian's is a link.
        (root / "etc/os-release").unlink()
        for path, text in {**system.files, "etc/os-release": os_release.read_text()}.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)
        for path, target in system.links.items():
            (root / path).symlink_to(target)
        (root / "root/release.spec").write_text(
            f"Name: {system.package}\nVersion: {system.release}\nRelease: 1\nSummary: The system\nLicense: MIT\n"
            # What dnf finds the release by, what zypper takes no system to be whole without, and the scripts' shell.
            "BuildArch: noarch\nProvides: system-release glibc /bin/sh\n%description\nDebian.\n%files\n"
        )
        install = "rpm --install --nosignature rpmbuild/*/*/*.rpm"
        bases.chroot(root, ["sh", "-ec", f"cd /root; rpmbuild --quiet -bb *.spec; {install}; rm -r rpmbuild *.spec"])
        programs = [*root.glob("usr/bin/apt*"), *root.glob("usr/bin/dpkg*")]
        for gone in [*programs, *(root / path for path in _WITHOUT)]:
            cache.remove(gone)

    inputs = [2, lower.name, packages, *cache.digest(Path(__file__), os_release)]
    return cache.artifact(f"{name}-{suite}", inputs, build, f"{name} in apt's place, under 1 minute, once")
