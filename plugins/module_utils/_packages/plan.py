# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a host lacks, which packages mend that, and why they cannot be installed where that is so: pure functions.

The three purposes share one plan: the engine of a node, the tools of a controller, the emulators of a node.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Dict, Mapping, Optional, Tuple

from .._core.errors import FarmError
from .._core.version import declared_version, numbers
from .distribution import ENGINES, LIBRARIES
from .tables import (
    DOCKERS_ENGINE,
    DOCKERS_KEY,
    DOCKERS_TOOLS,
    DOWNLOADS,
    FAMILIES,
    Distribution,
    as_of,
    at_version,
    conflicting,
    known_distribution,
    repository_name,
    repository_text,
    zypper_arguments,
)

SOURCES = ("distribution", "docker", "none")
#: Interpreters of the distribution's own, which its packages of libraries are for.
_SYSTEM_PYTHONS = ("/usr/bin/", "/usr/libexec/")


@dataclass(frozen=True)
class Options:
    """What is declared of the packages, by the variables of the role engine without its prefix.

    :ivar version: the one version that will do; empty for any.
    :ivar minimum_version: the oldest that will do; empty for any.
    :ivar docker_cli: whether a controller is to have the docker CLI; None where it is a host whose packages have it.
    :ivar plugin: whether a controller is to have buildx from packages; not where it comes from elsewhere.
    """

    source: str = "distribution"
    packages: Tuple[str, ...] = ()
    version: str = ""
    minimum_version: str = ""
    remove_conflicting: bool = False
    repository: str = ""
    repository_release: str = ""
    repository_key: str = ""
    repository_key_checksum: str = ""
    channel: str = "stable"
    docker_cli: Optional[bool] = None
    plugin: bool = True

    @classmethod
    def from_params(cls, params: Mapping[str, Any], facts: Mapping[str, Any]) -> Options:
        """Read the options; what is unset, null or empty has its default, what is not of the packages is left out.

        :raises FarmError: one of them cannot be meant so.
        """
        given = {field.name: params[field.name] for field in fields(cls) if params.get(field.name) not in (None, "")}
        if given.get("source", cls.source) not in SOURCES:
            raise FarmError(f"engine_source {given['source']!r}: wanted {', '.join(SOURCES[:-1])} or {SOURCES[-1]}")
        given["packages"] = tuple(given.get("packages", ()))
        if "version" in given:
            given["version"] = exact_version(given["version"], facts)
        if "minimum_version" in given:
            given["minimum_version"] = declared_version("engine_minimum_version", given["minimum_version"], "28.0")
        options = cls(**given)
        if options.version and numbers(options.version) < numbers(options.minimum_version or "0"):
            raise FarmError(
                f"engine_version {options.version} is older than engine_minimum_version {options.minimum_version};"
                " correct one of them"
            )
        return options


def exact_version(value: Any, facts: Mapping[str, Any]) -> str:
    """Return the version that an engine has to have, of ``engine_version``.

    A whole version, as package managers print it, will do where the package with that version is installed.

    :raises FarmError: it has another form.
    """
    found = _found_version(facts)
    whole = facts["engine_package_version"]
    if whole and value in (whole, whole.partition(":")[2]):
        return found
    return declared_version("engine_version", value, found or "28.5.2", fewest=3)


def _found_version(facts: Mapping[str, Any]) -> str:
    """Return upstream's version of the engine that is there; empty where no package brought it."""
    return next((facts["packages"][name] for name in ENGINES if name in facts["packages"]), "")


@dataclass(frozen=True)
class Repository:
    """Docker's repository, as it is to be declared.

    :ivar name: what dnf and zypper call it.
    :ivar path: of the declaration.
    :ivar text: of the declaration.
    :ivar key: path of the key that it is signed with.
    :ivar key_url: where that comes from.
    :ivar key_checksum: what that has to be; empty for anything.
    """

    name: str
    url: str
    path: str
    text: str
    key: str
    key_url: str
    key_checksum: str


@dataclass(frozen=True)
class Plan:
    """What is to be done on a host.

    :ivar lacks: what is not as declared, in words; empty where there is nothing to do.
    :ivar problem: why it cannot be done, and what to do; empty where it can.
    :ivar family: whose package manager the host has; empty where that is not known.
    :ivar manager: that package manager.
    :ivar names: the packages.
    :ivar install: the packages as the package manager takes them.
    :ivar remove: what is in their way.
    :ivar downgrade: whether a newer version is replaced by an older one.
    :ivar zypper: what follows ``zypper install``.
    :ivar repository: what is to be declared; None where nothing is.
    :ivar starts_engine: whether the packages start it.
    :ivar has_engine: whether there is one that is not removed.
    """

    lacks: Tuple[str, ...] = ()
    problem: str = ""
    family: str = ""
    manager: str = ""
    names: Tuple[str, ...] = ()
    install: Tuple[str, ...] = ()
    remove: Tuple[str, ...] = ()
    downgrade: bool = False
    zypper: Tuple[str, ...] = ()
    repository: Optional[Repository] = None
    starts_engine: bool = False
    has_engine: bool = False

    @property
    def due(self) -> bool:
        """Whether there is anything to do or to refuse."""
        return bool(self.lacks or self.problem)

    def as_result(self) -> Dict[str, Any]:
        """Return it as Ansible's types."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in {**asdict(self), "due": self.due}.items()
        }


def package_plan(params: Mapping[str, Any], facts: Mapping[str, Any], purpose: str = "engine") -> Plan:
    """Return what is to be installed on a host.

    :param params: the role engine's options without its prefix; ``packages`` are those of the purpose.
    :param facts: ``ansible_facts.buildfarm``, as the module ``farm_facts`` gathers it.
    :param purpose: one of ``PURPOSES``.
    """
    # Versions are the engine's alone.
    params = params if purpose == "engine" else {**params, "version": None, "minimum_version": None}
    try:
        return PURPOSES[purpose](Options.from_params(params, facts), facts, known_distribution(facts["lineage"])).plan()
    except FarmError as exc:
        return Plan(problem=exc.message)


@dataclass(frozen=True)
class _Purpose:
    """What packages are for, on one host.

    :ivar facts: as the module ``farm_facts`` gathers them.
    :ivar known: what is known of the distribution; None where nothing is.
    """

    options: Options
    facts: Mapping[str, Any]
    known: Optional[Distribution]

    @property
    def lacks(self) -> Tuple[str, ...]:
        """What is not as declared, in words."""
        raise NotImplementedError

    @property
    def defaults(self) -> Tuple[str, ...]:
        """The packages where none are declared."""
        raise NotImplementedError

    @property
    def obstacle(self) -> str:
        """Why this host cannot have them, in words; empty where it can."""
        raise NotImplementedError

    @property
    def versions(self) -> Tuple[str, str]:
        """The one version that will do, and the oldest one; empty for any."""
        return "", ""

    @property
    def names(self) -> Tuple[str, ...]:
        """The packages."""
        return self.options.packages or self.defaults

    @property
    def system(self) -> str:
        """What the distribution is called."""
        return self.facts["lineage"][0] if self.facts["lineage"] else "an unknown system"

    @property
    def url(self) -> str:
        """Where Docker's repository has packages for the host; empty where they are not wanted, or none are known."""
        if not self.known or self.options.source != "docker":
            return ""
        official = f"{DOWNLOADS}/{self.known.repository}" if self.known.repository else ""
        return self.options.repository or official

    @property
    def suite(self) -> str:
        """The release whose packages are taken; empty where rpm's package managers fill it in, or none is known."""
        own = self.facts["release"] if self.known and self.known.family == "Debian" else ""
        return self.options.repository_release or own or ""

    @property
    def repository(self) -> Optional[Repository]:
        """The repository to declare, None where there is none."""
        if not self.known or not self.url:
            return None
        options, family = self.options, FAMILIES[self.known.family]
        is_known = self.known.repository in ("debian", "ubuntu") and not options.repository
        return Repository(
            repository_name(options.channel),
            self.url,
            family.repository,
            repository_text(self.known.family, self.url, self.suite, options.channel),
            family.key,
            options.repository_key or f"{self.url}/gpg",
            options.repository_key_checksum or (DOCKERS_KEY if is_known else ""),
        )

    def as_of_release(self, names: Tuple[str, ...]) -> Tuple[str, ...]:
        """Return packages by the names that the host's release has for them."""
        return as_of(self.facts["release"] or "", names)

    def plan(self) -> Plan:
        """Return what is to be done."""
        if self.known is None:
            return Plan(self.lacks, self.obstacle if self.lacks else "")
        family, options, installed = FAMILIES[self.known.family], self.options, self.facts["packages"]
        version, minimum = self.versions
        install = at_version(family, self.names, options.source == "docker", version, minimum)
        remove = conflicting(self.names, options.source, installed)
        return Plan(
            lacks=self.lacks,
            problem=(self.obstacle or self._release_obstacle or self._conflict(remove)) if self.lacks else "",
            family=self.known.family,
            manager=family.manager,
            names=self.names,
            install=install,
            remove=remove,
            downgrade=bool(version),
            zypper=zypper_arguments(install, remove, bool(version)),
            repository=self.repository,
            starts_engine=family.manager == "apt",
            has_engine=bool(self.facts["engine"]) and not set(ENGINES).intersection(remove),
        )

    @property
    def _release_obstacle(self) -> str:
        if not self.known or not self.url or self.known.family != "Debian" or self.suite:
            return ""
        return (
            f"found {self.system}, whose os-release file does not state which release of {self.known.repository} it"
            f" stands on, wanted the one whose packages are to be taken from {self.url}; name it in"
            " engine_repository_release"
        )

    def _conflict(self, remove: Tuple[str, ...]) -> str:
        if not remove or self.options.remove_conflicting:
            return ""
        return (
            f"found {', '.join(remove)}, which cannot stand beside {', '.join(self.names)} (engine_source:"
            f" {self.options.source}), and removed nothing. Use what is there with engine_source: none, or have it"
            " removed with engine_remove_conflicting: true; containers end, while images and volumes in"
            " /var/lib/docker stay"
        )


class _Engine(_Purpose):
    """The engine of a node."""

    @property
    def lacks(self) -> Tuple[str, ...]:
        options, facts, version = self.options, self.facts, _found_version(self.facts)
        is_dockers = options.source == "docker"
        lacks = [] if facts["engine"] else ["Docker's engine"]
        if is_dockers and not options.packages and "docker-ce" not in facts["packages"]:
            lacks.append("docker-ce, Docker's own package")
        if options.version and options.version != version:
            lacks.append(f"version {options.version}")
        if options.minimum_version and numbers(version or "0") < numbers(options.minimum_version):
            lacks.append(f"version {options.minimum_version} or later")
        if is_dockers and facts["engine"] and (not self.repository or facts["repository"] != self.repository.text):
            lacks.append("the declaration of Docker's repository")
        return tuple(lacks)

    @property
    def defaults(self) -> Tuple[str, ...]:
        if self.options.source == "docker":
            return DOCKERS_ENGINE if self.url else ()
        return self.as_of_release(self.known.engine) if self.known else ()

    @property
    def versions(self) -> Tuple[str, str]:
        return self.options.version, self.options.minimum_version

    @property
    def obstacle(self) -> str:
        facts, source = self.facts, self.options.source
        if facts["system"] != "Linux" or not facts["systemd"]:
            system = " ".join(filter(None, (facts["system"], ", like ".join(facts["lineage"]))))
            return (
                f"found {system}{'' if facts['systemd'] else ' without systemd'}, wanted Linux booted with systemd: a"
                " node's engine is a systemd service; take the host out of group buildx_nodes, or give it an endpoint"
                " of its own in a group that this role is not applied to"
            )
        if source != "none" and self.known and self.names and (source != "docker" or self.url):
            return ""
        engine = f"with an engine {_found_version(facts)}".rstrip() if facts["engine"] else "without Docker's engine"
        other = "'distribution'" if source == "docker" else "'docker'"
        remedy = (
            "it leaves the installation to you; install it, or choose 'distribution' or 'docker'"
            if source == "none"
            else "it knows no packages for this distribution; choose"
            f" {other}, or name engine_packages, and"
            " engine_repository where they come from another repository"
        )
        wanted = " and ".join(self.lacks)
        return f"found {self.system} {engine}, wanted {wanted}, and engine_source is '{source}': {remedy}"


class _Controller(_Purpose):
    """buildx and the Python libraries of a controller, and the docker CLI for people who work there."""

    @property
    def lacks(self) -> Tuple[str, ...]:
        return (*self.facts["missing_libraries"], *self._lacking_tools)

    @property
    def defaults(self) -> Tuple[str, ...]:
        if not self.known:
            return ()
        major, minor = self.facts["python"]["version"]
        # SUSE has packages for each of its Pythons.
        prefix = f"python{major}{minor}" if self.known.family == "Suse" else "python3"
        return (*(f"{prefix}-{name}" for name in LIBRARIES), *self._tools)

    @property
    def _wants_cli(self) -> bool:
        """Whether the docker CLI is to be there; no module calls it."""
        if self.options.docker_cli is None:
            return bool(self.facts["systemd"] and self._known_tools)
        return self.options.docker_cli

    @property
    def _lacking_tools(self) -> Tuple[str, ...]:
        if self.facts["docker"]:
            return ()
        if self._wants_cli:
            return ("the docker CLI",)
        return ("buildx",) if self.options.plugin and not self.facts["buildx"] else ()

    @property
    def _known_tools(self) -> Tuple[str, ...]:
        """The packages of the CLI and the plugin."""
        if not self.known or (self.options.source == "docker" and not self.url):
            return ()
        return DOCKERS_TOOLS if self.options.source == "docker" else self.as_of_release(self.known.tools)

    @property
    def _tools(self) -> Tuple[str, ...]:
        """The packages of the CLI and the plugin that are installed, where one of them is missing."""
        if self.facts["buildx"] and (self.facts["docker"] or not self._wants_cli):
            return ()
        if self._wants_cli or self.facts["docker"]:
            return self._known_tools
        # Some distributions have both in one package.
        plugin = tuple(name for name in self._known_tools if "buildx" in name)
        return (plugin or self._known_tools) if self.options.plugin else ()

    @property
    def obstacle(self) -> str:
        python = self.facts["python"]["executable"]
        has_tools = self.options.packages or self._tools or not self._lacking_tools
        has_source = self.known and (self.options.source != "docker" or self.url)
        if python.startswith(_SYSTEM_PYTHONS) and has_tools and has_source:
            return ""
        remedies = {
            "the docker CLI": "install the docker CLI, which engine_source 'docker' takes from Docker's repository",
            "buildx": "name the release that is wanted in buildx_release, or a file in buildx_url or buildx_src",
        }
        mend = [remedies[name] for name in self._lacking_tools]
        if self.facts["missing_libraries"]:
            mend.append("install, with pip, the collection's meta/ee-requirements.txt for that interpreter")
        return f"{python} lacks {', '.join(self.lacks)}; {'; '.join(mend)}"


class _Emulators(_Purpose):
    """QEMU and its handlers, of a node."""

    @property
    def lacks(self) -> Tuple[str, ...]:
        return () if self.facts["emulators"] else ("packages with QEMU handlers",)

    @property
    def defaults(self) -> Tuple[str, ...]:
        return self.as_of_release(FAMILIES[self.known.family].emulators) if self.known else ()

    @property
    def obstacle(self) -> str:
        if self.known:
            return ""
        return (
            f"found {self.system}, of which neither packages with QEMU handlers nor the package manager are known;"
            " install them, or use emulators_source 'image'"
        )


#: What packages are for.
PURPOSES = {"engine": _Engine, "controller": _Controller, "emulators": _Emulators}
