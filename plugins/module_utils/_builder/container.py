# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The BuildKit containers of a builder's nodes: what they are, and whether they are what the definition says.

Source of what a container should look like: docker/buildx ``driver/docker-container/``.
"""

from __future__ import annotations

import io
import json
import re
import tarfile
from dataclasses import dataclass, field
from typing import Any, Dict, FrozenSet, List, Mapping, Optional, Sequence, Tuple
from urllib.parse import quote

from .._buildx.buildkitd import CONFIG_DIR, container_args
from .._buildx.store import Node
from .._core.errors import FarmError
from .._docker.context_store import ContextStore
from .._docker.endpoint import Endpoint
from .._docker.engine import Conversation, conversation

DEFAULT_IMAGE = "moby/buildkit:buildx-stable-1"
#: What buildx gives a container of an engine that manages cgroups itself.
_DEFAULT_CGROUP = "/docker/buildx"
_HOST_NETWORK_FLAG = "--allow-insecure-entitlement=network.host"
_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([kmgtp]?)(?:i?b)?\Z", re.IGNORECASE)
#: Whether an engine can set a limit, in what it says of itself (``GET /info``).
_LIMITS = {
    "memory": "MemoryLimit",
    "memory-swap": "SwapLimit",
    "cpu-period": "CpuCfsPeriod",
    "cpu-quota": "CpuCfsQuota",
    "cpu-shares": "CPUShares",
    "cpuset-cpus": "CPUSet",
    "cpuset-mems": "CPUSet",
}

#: Driver options whose value the engine keeps as a number or a text of its own, by name.
_NUMBERS = {"cpu-period": "CpuPeriod", "cpu-quota": "CpuQuota", "cpu-shares": "CpuShares"}
_TEXTS = {"cpuset-cpus": "CpusetCpus", "cpuset-mems": "CpusetMems"}


@dataclass(frozen=True)
class Container:
    """A BuildKit container as its engine describes it.

    :ivar restarting: BuildKit ends again and again; the engine calls this running, and so does buildx.
    :ivar identifier: the engine's, the same however the engine is reached.
    :ivar env: its environment without what its image sets.
    :ivar limits: the engine's HostConfig.
    :ivar files: contents below ``/etc/buildkit``; empty where none were asked for.
    :ivar unsupported: limits that the engine's kernel cannot set; the engine drops them with a warning.
    """

    running: bool
    image: str
    restarting: bool = False
    args: Tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    identifier: str = ""
    unsupported: FrozenSet[str] = frozenset()


def read_container(engine: Conversation, endpoint: Endpoint, nodes: Sequence[Node]) -> Optional[Container]:
    """Return the container of a node, None if there is none.

    :param endpoint: the engine's, for errors.
    :param nodes: the node's definitions, as stored and as declared: what they say decides what has to be read.
    :raises FarmError: the engine does not answer as an engine does.
    """
    name = nodes[0].container
    raw = _get(engine, endpoint, f"/containers/{quote(name)}/json")
    if raw is None:
        return None
    env = dict(_pair(item) for item in raw["Config"].get("Env") or ())
    declared = set().union(*(declared_env(node) for node in nodes))
    preset = {"PATH": env.get("PATH", "")}
    if set(env) - {"PATH"} - declared:
        image = _get(engine, endpoint, f"/images/{quote(raw['Image'])}/json")
        # Of an image that was removed under its container nobody knows what it set.
        preset = {name: value for name, value in env.items() if name not in declared}
        if image is not None:
            preset = dict(_pair(item) for item in image["Config"].get("Env") or ())
    return Container(
        running=bool(raw["State"].get("Running")),
        image=raw["Config"].get("Image") or "",
        restarting=bool(raw["State"].get("Restarting")),
        args=tuple(raw["Config"].get("Cmd") or ()),
        env={name: value for name, value in env.items() if preset.get(name) != value},
        limits=raw.get("HostConfig") or {},
        files=_read_files(engine, name) if any(node.files for node in nodes) else {},
        identifier=raw["Id"],
        unsupported=_unsupported(engine, endpoint, nodes),
    )


def cache_exists(engine: Conversation, endpoint: Endpoint, node: Node) -> bool:
    """Say whether the volume with a node's cache is there.

    :param endpoint: the engine's, for errors.
    :raises FarmError: the engine does not answer as an engine does.
    """
    return _get(engine, endpoint, f"/volumes/{quote(node.volume)}") is not None


def remove_container(endpoint: Endpoint, contexts: ContextStore, container: str) -> None:
    """Remove a container, running or not.

    :raises FarmError: the engine did not do it.
    """
    _change(endpoint, contexts, "DELETE", f"/containers/{quote(container)}?force=1&v=1", f"remove {container}")


def remove_volume(endpoint: Endpoint, contexts: ContextStore, volume: str) -> None:
    """Remove a volume that no container uses.

    :raises FarmError: the engine did not do it.
    """
    _change(endpoint, contexts, "DELETE", f"/volumes/{quote(volume)}", f"remove volume {volume}")


def stop_container(endpoint: Endpoint, contexts: ContextStore, container: str) -> None:
    """Stop a container.

    :raises FarmError: the engine did not do it.
    """
    _change(endpoint, contexts, "POST", f"/containers/{quote(container)}/stop", f"stop {container}")


def drift(node: Node, container: Container) -> Tuple[str, ...]:
    """Return the names of what differs between a node's definition and its container, in order.

    Names are those of the driver's options, ``flags``, ``files``, ``env.NAME`` and ``restarting``.
    What only the client uses (``default-load``) is no part of the container. Where an option is not set, any of the
    engine's defaults is fine.
    """
    opts = dict(node.driver_opts or {})
    limits = container.limits
    found = ["restarting"] if container.restarting else []
    if _image(container.image) != _image(opts.get("image") or DEFAULT_IMAGE):
        found.append("image")
    if _without_repeats(container.args) != _without_repeats(container_args(node.flags, node.files or {})):
        found.append("flags")
    if any(container.files.get(path) != content for path, content in (node.files or {}).items()):
        found.append("files")
    if not _same_network(opts.get("network"), str(limits.get("NetworkMode") or "")):
        found.append("network")
    found += [name for name in _changed_limits(opts, limits) if name not in container.unsupported]
    wanted = declared_env(node)
    names = sorted(set(wanted) | set(container.env))
    found += [f"env.{name}" for name in names if wanted.get(name) != container.env.get(name)]
    return tuple(found)


def _unsupported(engine: Conversation, endpoint: Endpoint, nodes: Sequence[Node]) -> FrozenSet[str]:
    wanted = _LIMITS.keys() & {option for node in nodes for option in node.driver_opts or ()}
    info = (_get(engine, endpoint, "/info") or {}) if wanted else {}
    return frozenset(option for option in wanted if info.get(_LIMITS[option]) is False)


def parse_size(text: str) -> int:
    """Return a size in bytes, written as docker takes it (``512m``, ``1.5g``); -1 means no limit.

    :raises FarmError: it is no size.
    """
    match = _SIZE.match(text.strip())
    if text.strip() == "-1":
        return -1
    if match is None:
        raise FarmError(f"{text!r} is no size; wanted a number of bytes, or one with k, m or g, as in 512m")
    return int(float(match.group(1)) * _UNITS[match.group(2).lower()])


def _changed_limits(opts: Mapping[str, str], limits: Mapping[str, Any]) -> List[str]:
    memory = parse_size(opts.get("memory") or "0")
    # Docker allows as much swap again as memory unless it is told otherwise.
    swap = {parse_size(opts["memory-swap"])} if opts.get("memory-swap") else {0, -1, 2 * memory}
    found = [] if (limits.get("Memory") or 0) == memory else ["memory"]
    found += [] if (limits.get("MemorySwap") or 0) in swap else ["memory-swap"]
    found += [key for key, name in _NUMBERS.items() if int(opts.get(key) or 0) != (limits.get(name) or 0)]
    found += [key for key, name in _TEXTS.items() if (opts.get(key) or "") != (limits.get(name) or "")]
    # An engine whose cgroups systemd manages gets none.
    groups = {"", opts.get("cgroup-parent") or _DEFAULT_CGROUP}
    found += [] if (limits.get("CgroupParent") or "") in groups else ["cgroup-parent"]
    found += [] if _same_restart(opts.get("restart-policy"), limits.get("RestartPolicy") or {}) else ["restart-policy"]
    return found


def _same_restart(wanted: Optional[str], found: Mapping[str, Any]) -> bool:
    name = found.get("Name") or "no"
    if not wanted:
        return name in ("no", "unless-stopped")  # buildx's default, and that of its older versions
    policy, _colon, retries = wanted.partition(":")
    return name == policy and int(retries or 0) == int(found.get("MaximumRetryCount") or 0)


def _same_network(wanted: Optional[str], found: str) -> bool:
    return found == wanted if wanted else found in ("", "default", "bridge")


def declared_env(node: Node) -> Dict[str, str]:
    """Return the environment that a node's driver options give its container."""
    opts = node.driver_opts or {}
    return {key[len("env.") :]: value for key, value in opts.items() if key.startswith("env.")}


def _without_repeats(args: Sequence[str]) -> List[str]:
    # Older versions of buildx add the flag to what is stored, for which the container then has it twice.
    first = next((place for place, arg in enumerate(args) if arg == _HOST_NETWORK_FLAG), None)
    return [arg for place, arg in enumerate(args) if arg != _HOST_NETWORK_FLAG or place == first]


def _image(reference: str) -> str:
    for prefix in ("docker.io/library/", "docker.io/", "index.docker.io/"):
        if reference.startswith(prefix):
            reference = reference[len(prefix) :]
            break
    return reference if ":" in reference.rsplit("/", 1)[-1] or "@" in reference else f"{reference}:latest"


def _pair(item: str) -> Tuple[str, str]:
    name, _equals, value = item.partition("=")
    return name, value


def _read_files(engine: Conversation, container: str) -> Dict[str, bytes]:
    status, body = engine.ask("GET", f"/containers/{quote(container)}/archive?path={quote(CONFIG_DIR)}")
    if status != 200:
        return {}
    files: Dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(body)) as archive:
        for member in archive:
            stream = archive.extractfile(member)
            if stream is not None:
                files[member.name.partition("/")[2]] = stream.read()
    return files


def _get(engine: Conversation, endpoint: Endpoint, path: str) -> Optional[Dict[str, Any]]:
    status, body = engine.ask("GET", path)
    if status == 404:
        return None
    if status != 200:
        raise FarmError(f"engine {endpoint}: GET {path} failed: {_message(body)} (HTTP {status})")
    document: Dict[str, Any] = json.loads(body)
    return document


def _change(endpoint: Endpoint, contexts: ContextStore, method: str, path: str, what: str) -> None:
    # Removing the cache of a node can take minutes.
    with conversation(endpoint, contexts, timeout=600) as engine:
        status, body = engine.ask(method, path)
    # 304: stopped already. 404: gone already, which is what was wanted.
    if status not in (200, 204, 304, 404):
        raise FarmError(f"engine {endpoint}: could not {what}: {_message(body)} (HTTP {status})")


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace").strip()
