# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which distribution a host runs, and which packages of Docker's or around Docker it has."""

from __future__ import annotations

import shlex
import shutil
from typing import Any, Dict, Mapping, Optional, Sequence

from .._core.files import read_bytes
from .._core.runner import CommandError, Runner

#: Both paths of os-release(5), the first wins.
OS_RELEASE = ("/etc/os-release", "/usr/lib/os-release")
#: Where the role engine declares Docker's repository, by family.
REPOSITORIES = (
    "/etc/apt/sources.list.d/docker.sources",
    "/etc/yum.repos.d/docker-ce.repo",
    "/etc/zypp/repos.d/docker-ce.repo",
)
#: What gets into the way of Docker's own packages, whatever distribution it is of.
OTHERS_PACKAGES = (
    *("docker.io", "docker-cli", "docker-buildx", "docker-compose", "docker-compose-v2", "docker-doc"),
    *("moby-engine", "docker", "docker-client", "docker-common", "docker-engine", "docker-engine-selinux"),
    *("docker-stable", "containerd", "runc", "podman-docker"),
)
#: What gets into the way of a distribution's.
DOCKERS_PACKAGES = (
    *("docker-ce", "docker-ce-cli", "containerd.io", "docker-buildx-plugin", "docker-compose-plugin"),
    "podman-docker",
)
#: Packages that bring an engine, are part of one, or hold the same files as one.
PACKAGES = tuple(dict.fromkeys(DOCKERS_PACKAGES + OTHERS_PACKAGES))
#: Packages that hold the engine itself.
ENGINES = ("docker-ce", "docker.io", "moby-engine", "docker", "docker-stable")
#: The Python libraries that the modules of controllers use between them, by the names they are imported by. Packages
#: have them after the interpreter's name.
LIBRARIES = ("cryptography", "docker", "jmespath")
#: Commands that list packages with their version and a status.
_QUERIES = (
    ("dpkg-query", "--show", "--showformat=${Package} ${Version} ${db:Status-Status}\\n"),
    ("rpm", "--query", "--queryformat=%{NAME} %{EPOCHNUM}:%{VERSION}-%{RELEASE} installed\\n"),
)
# Distributions whose repositories go by code names, with what their derivatives call the release that they stand on.
_CODENAMES = {"ubuntu": "UBUNTU_CODENAME", "debian": "DEBIAN_CODENAME"}
# Derivatives that retain Debian's code names often leave DEBIAN_CODENAME out.
_OF_DEBIAN = ("bullseye", "bookworm", "trixie", "forky", "duke", "sid")


def parse_os_release(text: str) -> Dict[str, Any]:
    """Return ``lineage``, the distribution's id followed by those that it derives from, and ``release``.

    The release is the code name by which the distribution's packages go, its version where it has none. Of a
    derivative of Ubuntu or Debian it is the parent's, which knows nothing of the derivative's own; None where the file
    does not state it.

    :param text: a file as os-release(5) describes it.
    """
    # ansible.module_utils.distro would read the same keys, but also renames some distributions, knows no parents'
    # releases, and would be the only import of Ansible outside of _core.module.
    values = {}
    for line in text.splitlines():
        key, equals, value = line.strip().partition("=")
        if equals and not key.startswith("#"):
            values[key] = _unquoted(value)
    lineage = [values.get("ID", "linux"), *values.get("ID_LIKE", "").split()] if values else []
    return {"lineage": lineage, "release": _release(values, lineage) or None}


def _unquoted(value: str) -> str:
    try:
        return "".join(shlex.split(value))
    except ValueError:
        # Edited by hand, with a quote that is not closed.
        return value.strip("\"'")


def _release(values: Mapping[str, str], lineage: Sequence[str]) -> str:
    own = values.get("VERSION_CODENAME") or values.get("VERSION_ID", "")
    parent = next((name for name in lineage[1:] if name in _CODENAMES), None)
    if parent is None or lineage[0] in (*_CODENAMES, "raspbian"):
        return own
    return values.get(_CODENAMES[parent]) or (own if own in _OF_DEBIAN else "")


def distribution(paths: Sequence[str] = OS_RELEASE) -> Dict[str, Any]:
    """Read which distribution this host runs; of a system without os-release(5) nothing is known.

    :raises OSError: the file exists and cannot be read.
    """
    contents = (read_bytes(path) for path in paths)
    return parse_os_release(next((content for content in contents if content), b"").decode(errors="replace"))


def installed(runner: Runner) -> Dict[str, str]:
    """Return those of ``PACKAGES`` that are installed, with their versions.

    Queries dpkg and rpm, where there are any, until one of them knows any: Fedora has dpkg, too, and Debian has rpm.
    """
    for query in _QUERIES:
        found = _listed(runner, query) if shutil.which(query[0]) else {}
        if found:
            return found
    return {}


def _listed(runner: Runner, query: Sequence[str]) -> Dict[str, str]:
    try:
        # The exit status only says that one of them is not known.
        lines = runner([*query, *PACKAGES]).stdout.splitlines()
    except CommandError:
        return {}
    # rpm says "package runc is not installed".
    fields = (line.split(" ") for line in lines)
    return {words[0]: words[1] for words in fields if len(words) == 3 and words[2] == "installed"}


def docker_repository(paths: Sequence[str] = REPOSITORIES) -> Optional[str]:
    """Return the text by which Docker's repository is declared, None where it is not.

    :raises OSError: the file exists and cannot be read.
    """
    content = next((content for content in map(read_bytes, paths) if content is not None), None)
    return None if content is None else content.decode(errors="replace")
