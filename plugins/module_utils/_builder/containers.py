# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The BuildKit containers of a builder's nodes: reading, stopping and removing them through their engines."""

from __future__ import annotations

import io
import json
import tarfile
import time
from typing import Any, Dict, FrozenSet, Mapping, Optional, Sequence, Tuple
from urllib.parse import quote

from .._buildx.buildkitd import CONFIG_DIR
from .._buildx.marks import mark, unmark
from .._buildx.store import Node
from .._core.archives import Member
from .._core.errors import FarmError
from .._docker.client import Conversation, conversation, message, platform_of
from .._docker.context_store import ContextStore
from .._docker.drain import read_drained
from .._docker.endpoint import Endpoint
from .model import Container, NodeKey, NodeState

#: Removing the cache of a node can take minutes.
_REMOVAL_TIMEOUT = 600
#: Seconds for which a BuildKit may be about to start again, and between two looks at it. The engine waits 0.1 s before
#: it starts a container again, and twice as long each time that it ends: it has ended five times in the time.
_SETTLES, _PAUSE = 5.0, 1.0
#: Whether an engine can set a limit, as it reports itself (``GET /info``).
_LIMITS = {
    "memory": "MemoryLimit",
    "memory-swap": "SwapLimit",
    "cpu-period": "CpuCfsPeriod",
    "cpu-quota": "CpuCfsQuota",
    "cpu-shares": "CPUShares",
    "cpuset-cpus": "CPUSet",
    "cpuset-mems": "CPUSet",
}


class Engines:
    """The engines of a builder's nodes.

    :param timeout: seconds that each step of reading may take.
    :param controller: by which the engines are told who uses what.
    """

    def __init__(self, contexts: ContextStore, timeout: float, controller: str = "") -> None:
        self._contexts, self._timeout, self._controller = contexts, timeout, controller

    def read(self, endpoint: Endpoint, definitions: Mapping[NodeKey, Sequence[Node]]) -> Dict[NodeKey, NodeState]:
        """Return the state of an engine's nodes, read over one connection: a handshake costs more than all requests.

        :param definitions: of each node, as stored and as declared.
        :raises FarmError: the engine cannot be reached.
        """
        found: Dict[NodeKey, NodeState] = {}
        with conversation(endpoint, self._contexts, self._timeout) as engine:
            native, mark = platform_of(engine.version()), read_drained(engine)
            drained = str(mark) if mark else ""
            for key, nodes in definitions.items():
                try:
                    container = read_container(engine, endpoint, nodes)
                    cache = container is None and _cache_exists(engine, endpoint, nodes[0])
                    found[key] = NodeState(known=True, native=native, container=container, cache=cache, drained=drained)
                except FarmError as exc:
                    found[key] = NodeState(known=True, native=native, error=exc.message)
        return found

    def remove_container(self, node: Node) -> None:
        """Remove a node's container, running or not.

        :raises FarmError: the engine did not do it.
        """
        self._change(node, "DELETE", f"/containers/{quote(node.container)}?force=1&v=1", f"remove {node.container}")

    def remove_cache(self, node: Node) -> None:
        """Remove the volume with a node's cache, which no container uses any more, and the marks of its use.

        :raises FarmError: the engine did not do it.
        """
        self._change(node, "DELETE", f"/volumes/{quote(node.volume)}", f"remove volume {node.volume}")
        with conversation(Endpoint.parse(node.endpoint), self._contexts, self._timeout) as engine:
            unmark(engine, node.name)

    def mark(self, node: Node, builder: str) -> None:
        """Leave a mark that a builder of this controller uses a node's container and cache.

        :raises FarmError: the engine did not do it.
        """
        with conversation(Endpoint.parse(node.endpoint), self._contexts, self._timeout) as engine:
            mark(engine, node.name, builder, self._controller)

    def stop_container(self, node: Node) -> None:
        """Stop a node's container.

        :raises FarmError: the engine did not do it.
        """
        self._change(node, "POST", f"/containers/{quote(node.container)}/stop", f"stop {node.container}")

    def pause_container(self, node: Node) -> None:
        """Freeze the processes of a node's container.

        :raises FarmError: the engine did not do it.
        """
        path = f"/containers/{quote(node.container)}/pause"
        self._change(node, "POST", path, f"pause {node.container}", "is already paused")

    def unpause_container(self, node: Node) -> None:
        """Let the processes of a node's container go on.

        :raises FarmError: the engine did not do it.
        """
        path = f"/containers/{quote(node.container)}/unpause"
        self._change(node, "POST", path, f"unpause {node.container}", "is not paused")

    def _change(self, node: Node, method: str, path: str, what: str, already: str = "") -> None:
        """Have an engine change something.

        :param already: what it says, with a status that means any failure, where that is done already.
        """
        endpoint = Endpoint.parse(node.endpoint)
        with conversation(endpoint, self._contexts, timeout=_REMOVAL_TIMEOUT) as engine:
            status, body = engine.delete(path) if method == "DELETE" else engine.request(method, path)
        # 304: stopped already. 404: gone already, which is what was wanted.
        if status not in (200, 204, 304, 404) and not (already and already in message(body)):
            raise FarmError(f"engine {endpoint}: could not {what}: {message(body)} (HTTP {status})")


def read_container(engine: Conversation, endpoint: Endpoint, nodes: Sequence[Node]) -> Optional[Container]:
    """Return the container of a node, None if there is none.

    :param endpoint: the engine's, for errors.
    :param nodes: the node's definitions, as stored and as declared: what they set decides what has to be read.
    :raises FarmError: the engine does not answer as an engine does.
    """
    name = nodes[0].container
    raw = _settled(engine, endpoint, name)
    if raw is None:
        return None
    return Container(
        running=bool(raw["State"].get("Running")),
        image=raw["Config"].get("Image") or "",
        restarting=bool(raw["State"].get("Restarting")),
        paused=bool(raw["State"].get("Paused")),
        args=tuple(raw["Config"].get("Cmd") or ()),
        env=_own_env(engine, endpoint, raw, nodes),
        limits=raw.get("HostConfig") or {},
        files=read_files(engine, name) if any(node.files for node in nodes) else {},
        identifier=raw["Id"],
        unsupported=_unsupported(engine, endpoint, nodes),
    )


def _settled(engine: Conversation, endpoint: Endpoint, name: str) -> Optional[Dict[str, Any]]:
    """Return a container once the engine is not about to start it again, as it is when the engine itself has started.

    One whose program ends again and again stays as it is.
    """
    path = f"/containers/{quote(name)}/json"
    raw, deadline = _get(engine, endpoint, path), time.monotonic() + _SETTLES
    if raw is None or not raw["State"].get("Restarting"):
        return raw
    while time.monotonic() < deadline:
        time.sleep(_PAUSE)
        earlier, raw = raw, _get(engine, endpoint, path)
        if raw is None:
            return None
        # Between two starts it runs for a moment.
        calm = not any(one["State"].get("Restarting") for one in (earlier, raw))
        if calm and earlier.get("RestartCount") == raw.get("RestartCount"):
            return raw
    return {**raw, "State": {**raw["State"], "Restarting": True}}


def _own_env(engine: Conversation, endpoint: Endpoint, raw: Mapping[str, Any], nodes: Sequence[Node]) -> Dict[str, str]:
    """Return a container's environment without what its image sets, which is read only where it matters."""
    env = dict(_pair(item) for item in raw["Config"].get("Env") or ())
    declared = set().union(*(node.env for node in nodes))
    preset = {"PATH": env.get("PATH", "")}
    if set(env) - {"PATH"} - declared:
        image = _get(engine, endpoint, f"/images/{quote(raw['Image'])}/json")
        # What an image set that was removed under its container cannot be known.
        preset = {name: value for name, value in env.items() if name not in declared}
        if image is not None:
            preset = dict(_pair(item) for item in image["Config"].get("Env") or ())
    return {name: value for name, value in env.items() if preset.get(name) != value}


def _cache_exists(engine: Conversation, endpoint: Endpoint, node: Node) -> bool:
    return _get(engine, endpoint, f"/volumes/{quote(node.volume)}") is not None


def _unsupported(engine: Conversation, endpoint: Endpoint, nodes: Sequence[Node]) -> FrozenSet[str]:
    wanted = _LIMITS.keys() & {option for node in nodes for option in node.driver_opts or ()}
    info = (_get(engine, endpoint, "/info") or {}) if wanted else {}
    return frozenset(option for option in wanted if info.get(_LIMITS[option]) is False)


def _pair(item: str) -> Tuple[str, str]:
    name, _equals, value = item.partition("=")
    return name, value


def read_files(engine: Conversation, container: str) -> Dict[str, bytes]:
    """Return the contents of the files below ``/etc/buildkit`` in a container, none where it has no such directory.

    :raises FarmError: what the engine sends is no archive.
    """
    status, body = engine.request("GET", f"/containers/{quote(container)}/archive?path={quote(CONFIG_DIR)}")
    if status != 200:
        return {}
    files: Dict[str, bytes] = {}
    try:
        # Engines pack nothing; what is packed may become any number of bytes, and so may a file with holes.
        with tarfile.open(fileobj=io.BytesIO(body), mode="r:", tarinfo=Member) as archive:
            for member in archive:
                stream = archive.extractfile(member) if member.isfile() and member.size <= len(body) else None
                if stream is not None:
                    files[member.name.partition("/")[2]] = stream.read()
    except tarfile.TarError as exc:
        raise FarmError(f"{CONFIG_DIR} of container {container} cannot be read: {exc}") from exc
    return files


def _get(engine: Conversation, endpoint: Endpoint, path: str) -> Optional[Dict[str, Any]]:
    status, body = engine.request("GET", path)
    if status == 404:
        return None
    if status != 200:
        raise FarmError(f"engine {endpoint}: GET {path} failed: {message(body)} (HTTP {status})")
    document: Dict[str, Any] = json.loads(body)
    return document
