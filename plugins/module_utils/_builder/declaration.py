# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A builder as declared: reading what a user writes, and refusing what cannot be meant."""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, FrozenSet, List, Mapping, Optional, Sequence, Tuple

from .._buildx.authorities import read_authorities
from .._buildx.buildkitd import config_files, with_cache_limits
from .._buildx.cache_limits import CacheLimits
from .._buildx.cli import Version
from .._buildx.store import Instance, validate_name
from .._core.errors import FarmError
from .._core.quantities import parse_size
from .._docker.context_store import ContextStore
from .._docker.endpoint import Endpoint
from .._docker.transport import canonical
from .._platform.platform import Platform, parse_all

_ENV_NAME = re.compile(r"[^=\s\x00]+\Z")
_ENV_OPTION = re.compile(r"env\.[^=\s\x00]+\Z")
_RESTART = re.compile(r"(no|always|unless-stopped|on-failure(:\d+)?)\Z")
_REMOTE_SCHEMES = ("docker-container", "kube-pod", "npipe", "ssh", "tcp", "unix")


@dataclass(frozen=True)
class NodeSpec:
    """A node as declared; None is left as it is found, an empty value clears.

    :ivar endpoint: normalised; None for the kubernetes driver, which has none.
    :ivar env: the part ``env.NAME`` of the driver options, declared by itself.
    :ivar files: what the buildkitd configuration comes to.
    :ivar cache: limits of the cache that are laid over the configuration that is found; None where ``files`` has them.
    :ivar authorities: those of registries, PEM, by the registries' names, laid over ``files`` or what is found.
    """

    name: str
    endpoint: Optional[str] = None
    platforms: Optional[Tuple[Platform, ...]] = None
    driver_opts: Optional[Mapping[str, str]] = None
    env: Optional[Mapping[str, str]] = None
    flags: Optional[Tuple[str, ...]] = None
    files: Optional[Mapping[str, bytes]] = None
    cache: Optional[CacheLimits] = None
    authorities: Optional[Mapping[str, bytes]] = None


@dataclass(frozen=True)
class Declaration:
    """A builder as declared.

    :ivar driver: None leaves the one found, and is docker-container for a new builder.
    :ivar nodes: None leaves the nodes as they are found.
    :ivar state: ``present``, ``stopped``, ``defined`` or ``absent``.
    :ivar use: ``default`` (for docker's current endpoint), ``global``, or None to leave the choice alone.
    :ivar purge_nodes: whether nodes that are not declared leave; None lets them stay, with a warning.
    :ivar absent: names of nodes that leave in any case, as they are stored.
    :ivar keep_state: whether caches survive; None preserves them when a node is recreated and removes them with
        their node.
    :ivar on_unreachable: ``fail``, ``skip`` or ``detach``.
    :ivar platforms: those that the builder must serve.
    :ivar emulation: ``allow``, ``prefer_native`` or ``forbid``.
    :ivar kubeconfig: what buildx notes in the endpoints of the kubernetes driver.
    """

    name: str
    driver: Optional[str] = None
    nodes: Optional[Tuple[NodeSpec, ...]] = None
    state: str = "present"
    bootstrap: bool = True
    use: Optional[str] = None
    purge_nodes: Optional[bool] = None
    absent: FrozenSet[str] = frozenset()
    keep_state: Optional[bool] = None
    on_unreachable: str = "fail"
    platforms: Tuple[Platform, ...] = ()
    emulation: str = "allow"
    kubeconfig: str = ""

    @classmethod
    def from_params(
        cls,
        params: Mapping[str, Any],
        contexts: ContextStore,
        own_contexts: Mapping[str, Endpoint],
        stored_driver: str,
        lenient: bool,
    ) -> Declaration:
        """Return what a module's parameters declare.

        :param own_contexts: the engines' URLs of the contexts that the nodes bring, which need not exist yet, by name.
        :param stored_driver: of the builder found, empty if there is none.
        :param lenient: True accepts docker contexts that do not exist yet.
        :raises FarmError: the declaration cannot be meant; the message names the part.
        """
        name, driver = _name(params, contexts), params["driver"]
        kind = _driver(params, stored_driver)
        nodes = None
        if params["nodes"] is not None:
            nodes = tuple(_Reader(name, kind, contexts, lenient, own_contexts).read(raw) for raw in params["nodes"])
            _refuse_repeats(name, nodes, contexts, own_contexts)
        absent = frozenset(text.lower() for text in params["absent_nodes"] or ())
        both = ", ".join(repr(node.name) for node in nodes or () if node.name in absent)
        if both:
            raise FarmError(f"builder {name!r}: {both} in nodes and in absent_nodes; take it out of one of them")
        return cls(
            name=name,
            driver=driver,
            nodes=nodes,
            state=params["state"],
            bootstrap=params["bootstrap"],
            use=params["use_scope"] if params["use"] else None,
            purge_nodes=params["purge_nodes"],
            absent=absent,
            keep_state=params["keep_state"],
            on_unreachable=params["on_unreachable"],
            platforms=parse_all(params["platforms"] or ()),
            emulation=params["emulation"],
            kubeconfig=os.environ.get("KUBECONFIG", ""),
        )

    def driver_over(self, instance: Optional[Instance]) -> str:
        """Return the driver of the builder to be.

        :param instance: the builder found, None if there is none.
        """
        return self.driver or (instance.driver if instance else "docker-container")


def _name(params: Mapping[str, Any], contexts: ContextStore) -> str:
    name = validate_name(params["name"], "builder")
    if name == "default":
        raise FarmError("builder 'default': buildx reserves this name for docker's own engine; use another")
    if contexts.get(name) is not None:
        raise FarmError(f"builder {name!r}: a docker context has this name, and buildx takes it for that; use another")
    return name


def _driver(params: Mapping[str, Any], stored: str) -> str:
    """Return the driver of the builder to be."""
    name = params["name"]
    if params["driver"] == "docker":
        raise FarmError(
            f"builder {name!r}: the docker driver is the engine itself, of which buildx makes no builders of several"
            " nodes; use docker-container, or name the docker context where a builder is wanted"
        )
    driver = str(params["driver"] or stored or "docker-container")
    if params["state"] == "stopped" and driver != "docker-container":
        raise FarmError(f"builder {name!r}: the {driver} driver has nothing that buildx could stop")
    return driver


class _Reader:
    """Reads the nodes of one builder."""

    def __init__(
        self, builder: str, driver: str, contexts: ContextStore, lenient: bool, own_contexts: Mapping[str, Endpoint]
    ) -> None:
        self._builder, self._driver, self._contexts, self._lenient = builder, driver, contexts, lenient
        self._own_contexts = own_contexts

    def read(self, raw: Mapping[str, Any]) -> NodeSpec:
        subject = f"builder {self._builder!r}, node"
        # buildx makes the names of nodes lower case.
        name = validate_name(raw["name"], subject).lower()
        subject += f" {name!r}"
        try:
            flags = raw["buildkitd_flags"]
            cache = None if raw.get("cache") is None else CacheLimits.from_params(raw["cache"])
            files = self._files(raw, cache)
            declared = raw.get("registry_authorities")
            authorities = None if declared is None else read_authorities(declared)
            if self._driver == "remote" and (flags or files or cache or authorities):
                raise FarmError("the remote driver takes neither buildkitd flags nor a configuration")
            return NodeSpec(
                name=name,
                endpoint=self._endpoint(raw["endpoint"]),
                platforms=None if raw["platforms"] is None else parse_all(raw["platforms"]),
                driver_opts=None if raw["driver_opts"] is None else self._options(raw["driver_opts"]),
                env=None if raw["env"] is None else _environment(raw["env"]),
                flags=None if flags is None else _flags(flags),
                files=files,
                cache=cache if files is None else None,
                authorities=authorities,
            )
        except FarmError as exc:
            raise FarmError(f"{subject}: {exc.message}") from exc

    def _endpoint(self, text: Optional[str]) -> Optional[str]:
        if text is None:
            return None
        if self._driver == "kubernetes":
            raise FarmError("the kubernetes driver takes no endpoint; it uses KUBECONFIG")
        if self._driver == "remote":
            if text.partition("://")[0] not in _REMOTE_SCHEMES or "://" not in text:
                raise FarmError(f"endpoint {text!r}: the remote driver wants {'://, '.join(_REMOTE_SCHEMES)}://")
            return text
        if text == "default":
            default = self._contexts.get("default")
            return default.host if default else text
        endpoint = Endpoint.parse(text)
        may_lack = self._lenient or text in self._own_contexts
        if endpoint.scheme == "context" and not may_lack and self._contexts.get(text) is None:
            known = ", ".join(self._contexts.all()) or "none"
            raise FarmError(
                f"endpoint {text!r}: there is no such docker context in {self._contexts.config_dir} (there: {known});"
                " create it with the module buildfarm.multiarch.docker_context, or give a URL"
            )
        return endpoint.text

    def _options(self, raw: Mapping[str, Any]) -> Dict[str, str]:
        options = {str(key): _text(value) for key, value in raw.items()}
        known = _OPTIONS.get(self._driver)
        for key, value in options.items():
            # Those of the kubernetes driver are left to buildx: they are many, and no container here depends on them.
            if known is None or (self._driver == "docker-container" and _ENV_OPTION.match(key)):
                continue
            if key not in known:
                raise FarmError(f"driver option {key!r}: the {self._driver} driver has {', '.join(sorted(known))}")
            check = known[key]
            try:
                if check is not None:
                    check(value)
            except (FarmError, ValueError) as exc:
                raise FarmError(f"driver option {key}={value!r}: {exc}") from exc
        secure = self._driver == "remote" and options.keys() & {"cacert", "cert", "key", "servername"}
        if secure and ("cacert" not in options or ("cert" in options) != ("key" in options)):
            raise FarmError("TLS of the remote driver needs the driver option cacert, and cert and key together")
        return options

    def _files(self, raw: Mapping[str, Any], cache: Optional[CacheLimits]) -> Optional[Dict[str, bytes]]:
        text, path = raw["buildkitd_config"], raw["buildkitd_config_file"]
        if text is not None and path is not None:
            raise FarmError("buildkitd_config and buildkitd_config_file cannot be given together")
        if text is None and path is None:
            return None
        if path is not None:
            text = _decoded(path)
        if cache is not None:
            text = with_cache_limits(text, cache)
        return config_files(text, _read) if text.strip() else {}


def _refuse_repeats(
    builder: str, nodes: Sequence[NodeSpec], contexts: ContextStore, own_contexts: Mapping[str, Endpoint]
) -> None:
    names: List[str] = []
    engines: Dict[str, str] = {}
    for node in nodes:
        if node.name in names:
            raise FarmError(f"builder {builder!r}: two nodes are named {node.name!r}; names must differ")
        names.append(node.name)
        if node.endpoint is None:
            continue
        own = own_contexts.get(node.endpoint)
        engine = own.text if own else canonical(node.endpoint, contexts)
        if engine in engines:
            raise FarmError(
                f"builder {builder!r}: nodes {engines[engine]!r} and {node.name!r} have one endpoint, {engine};"
                " a builder uses an engine once"
            )
        engines[engine] = node.name


def _environment(raw: Mapping[str, Any]) -> Dict[str, str]:
    for name in raw:
        if not _ENV_NAME.match(str(name)):
            raise FarmError(f"env {name!r}: no name of a variable")
    return {str(name): _text(value) for name, value in raw.items()}


def _flags(raw: Any) -> Tuple[str, ...]:
    try:
        return tuple(shlex.split(raw) if isinstance(raw, str) else [_text(item) for item in raw])
    except ValueError as exc:
        raise FarmError(f"buildkitd_flags {raw!r}: {exc}") from exc
    except TypeError as exc:
        raise FarmError(f"buildkitd_flags {raw!r}: wanted a list, or a text as on a command line") from exc


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _read(path: str) -> bytes:
    if not os.path.isabs(path):
        raise FarmError(f"{path!r}: wanted an absolute path")
    try:
        return Path(path).read_bytes()
    except OSError as exc:
        raise FarmError(f"{path}: cannot be read: {exc.strerror}") from exc


def _decoded(path: str) -> str:
    try:
        return _read(path).decode()
    except UnicodeDecodeError as exc:
        raise FarmError(f"{path}: not UTF-8 text ({exc.reason} at byte {exc.start}), as TOML has to be") from exc


def _boolean(text: str) -> None:
    if text.lower() not in ("true", "false"):
        raise FarmError("wanted true or false")


def _restart(text: str) -> None:
    if not _RESTART.match(text):
        raise FarmError("wanted no, always, unless-stopped or on-failure[:N]")


def _absolute(text: str) -> None:
    if not os.path.isabs(text):
        raise FarmError("wanted an absolute path on the host where buildx runs")


#: The options of each driver, with checks of their values. Source: docker/buildx ``driver/*/factory.go``.
_OPTIONS: Mapping[str, Mapping[str, Optional[Callable[[str], object]]]] = {
    "docker-container": {
        "cgroup-parent": None,
        "cpu-period": int,
        "cpu-quota": int,
        "cpu-shares": int,
        "cpuset-cpus": None,
        "cpuset-mems": None,
        "default-load": _boolean,
        "gpus": None,
        "image": None,
        "memory": parse_size,
        "memory-swap": parse_size,
        "network": None,
        "provenance-add-gha": _boolean,
        "restart-policy": _restart,
    },
    "remote": {
        "cacert": _absolute,
        "cert": _absolute,
        "default-load": _boolean,
        "key": _absolute,
        "servername": None,
    },
}

#: The first version of buildx that knows an option; the others are older than what this collection supports.
OPTION_FLOORS: Mapping[str, Version] = {
    "default-load": (0, 14, 0),
    "gpus": (0, 30, 0),
    "provenance-add-gha": (0, 30, 0),
}
