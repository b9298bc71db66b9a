# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A farm as it was found: its builders, engines, BuildKits and images. Everything here is pure."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Dict, Mapping, Optional, Sequence, Tuple

from .._buildx.marks import Mark
from .._buildx.store import Instance, Node
from .._core.errors import FarmError
from .._docker.engine import EngineInfo, container_status
from .._platform.platform import Platform
from .history import Build

WORKERS = ("buildctl", "debug", "workers", "--format", "{{json .}}")
USAGE = ("buildctl", "du", "--format", "{{json .}}")
#: Where BuildKit has its data.
DIRECTORY = "/var/lib/buildkit"
DISK = ("df", "-Pk", DIRECTORY)


@dataclass(frozen=True)
class FoundContainer:
    """A container of BuildKit.

    :ivar state: the engine's word for it.
    :ivar identifier: the engine's, the same however the engine is reached.
    """

    state: str
    image: str
    identifier: str


@dataclass(frozen=True)
class EngineState:
    """An engine.

    :ivar probed: what a probe found.
    :ivar facts: what it says of itself and its host (``GET /info``).
    :ivar containers: BuildKit's containers, by their nodes' names.
    :ivar marks: who uses a node, by its name and the controller's.
    """

    probed: EngineInfo
    facts: Mapping[str, Any] = field(default_factory=dict)
    containers: Mapping[str, FoundContainer] = field(default_factory=dict)
    marks: Mapping[str, Mapping[str, Mark]] = field(default_factory=dict)


@dataclass
class Daemon:
    """What a BuildKit says, as far as it was read in time.

    :ivar platforms: those that it can run; None where it did not tell.
    :ivar limit: bytes that its garbage collection leaves at most; None where it did not tell.
    :ivar cache: bytes and records of its cache.
    :ivar disk: bytes of the disk that this lies on, and those free.
    :ivar problem: why it does not answer; empty where it does.
    :ivar history: why its history was not read; empty where it was.
    """

    version: str = ""
    platforms: Optional[Tuple[Platform, ...]] = None
    limit: Optional[int] = None
    cache: Optional[Tuple[int, int]] = None
    disk: Optional[Tuple[int, int]] = None
    problem: str = ""
    history: str = "it did not answer in time"
    builds: Tuple[Build, ...] = ()


@dataclass(frozen=True)
class FoundNode:
    """A node, of builders of this controller or found on an engine.

    :ivar builders: the names of its builders.
    :ivar pins: None where they are not known, as the builder is another controller's.
    :ivar elsewhere: what other nodes of its builders pin.
    :ivar engine: None where its driver has none that can be queried.
    :ivar trouble: why a node without an engine cannot be used; empty where it can.
    """

    name: str
    endpoint: str
    driver: str
    builders: Tuple[str, ...] = ()
    pins: Optional[Tuple[Platform, ...]] = None
    elsewhere: Tuple[Platform, ...] = ()
    engine: Optional[EngineState] = None
    daemon: Optional[Daemon] = None
    controllers: Tuple[str, ...] = ()
    trouble: str = ""
    status_elsewhere: str = "unknown"

    @property
    def error(self) -> str:
        """Why it cannot be used; empty where it can."""
        if self.engine is None:
            return self.trouble
        return self.engine.probed.error or (self.daemon.problem if self.daemon else "")

    @property
    def status(self) -> str:
        """One word: ``running``, ``paused``, ``stopped``, ``missing``, ``unreachable`` or ``unknown``."""
        if self.engine is None:
            return "unreachable" if self.trouble else self.status_elsewhere
        if self.engine.probed.error:
            return "unreachable"
        container = self.engine.containers.get(self.name)
        if container is None:
            return "missing"
        return container_status(container.state)

    @property
    def container(self) -> str:
        """What the engine calls its container; empty where it has none."""
        container = self.engine.containers.get(self.name) if self.engine else None
        return container.identifier if container else ""


@dataclass(frozen=True)
class FoundImage:
    """An image's name, and what stands under it.

    :ivar error: why it could not be read; empty where it could, even if there is nothing.
    :ivar platforms: platform, digest, compressed bytes and time of creation of each.
    :ivar key: the key of its record; empty where it has none.
    :ivar sources: what it was built from: words, and the digest of each.
    """

    name: str
    error: str = ""
    digest: str = ""
    platforms: Tuple[Tuple[str, str, int, str], ...] = ()
    attested: bool = False
    missing: Tuple[str, ...] = ()
    key: str = ""
    sources: Tuple[Tuple[str, str], ...] = ()


@dataclass(frozen=True)
class State:
    """All that was found.

    :ivar now: seconds since 1970, on the controller.
    :ivar broken: builders that cannot be read, with the reason.
    """

    controller: str
    now: float
    builders: Tuple[Instance, ...] = ()
    current: str = ""
    broken: Mapping[str, str] = field(default_factory=dict)
    nodes: Tuple[FoundNode, ...] = ()
    images: Tuple[FoundImage, ...] = ()


def elsewhere(instances: Sequence[Instance], node: Node) -> Tuple[Platform, ...]:
    """Return what other nodes of a node's builders pin."""
    found = [
        platform
        for instance in instances
        if any((one.name, one.endpoint) == (node.name, node.endpoint) for one in instance.nodes)
        for other in instance.nodes
        if other.name != node.name
        for platform in other.platforms or ()
    ]
    return tuple(dict.fromkeys(found))


def read_worker(output: str, daemon: Daemon) -> None:
    """Take what ``WORKERS`` prints.

    :raises FarmError: it is something else.
    """
    try:
        document = json.loads(output)
        worker = (document if isinstance(document, list) else [document])[0]
        worker = {str(key).lower(): value for key, value in worker.items()}
        daemon.version = str((worker.get("buildkitversion") or {}).get("version") or "")
        daemon.platforms = _platforms(worker.get("platforms") or ())
        rules = [{str(key).lower(): value for key, value in rule.items()} for rule in worker.get("gcpolicy") or ()]
        limits = [rule.get("maxusedspace") or rule.get("reservedspace") or rule.get("keepbytes") for rule in rules]
        # The last rule is that for all records.
        daemon.limit = int(limits[-1]) if limits and limits[-1] else None
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as exc:
        raise FarmError(f"BuildKit's description of itself cannot be read ({exc}): {output.strip()[:200]!r}") from exc


def read_disk(output: str, directory: str) -> Optional[Tuple[int, int]]:
    """Return bytes of the file system that a directory is on, and those free, from what ``df -Pk`` prints (POSIX).

    :return: None where the output does not tell.
    """
    found = []
    for line in output.splitlines():
        fields = line.split(None, 5)
        if len(fields) == 6 and fields[1].isdigit() and fields[3].isdigit():
            path = fields[5].rstrip("/")
            if f"{directory}/".startswith(f"{path}/"):
                found.append((len(path), int(fields[1]) * 1024, int(fields[3]) * 1024))
    return max(found)[1:] if found else None


def handlers_of(raw: Any) -> Optional[Tuple[Dict[str, Any], ...]]:
    """Return handlers as ``binfmt_info`` returns them, those of platforms only; None where nothing is known of them."""
    if not isinstance(raw, list):
        return None
    keys = ("name", "platforms", "enabled", "works", "qemu_version", "problem")
    return tuple({key: one.get(key) for key in keys} for one in raw if isinstance(one, dict) and one.get("platforms"))


def _platforms(raw: Sequence[Any]) -> Tuple[Platform, ...]:
    found = []
    for one in raw:
        try:
            found.append(Platform.make(str(one["os"]), str(one["architecture"]), str(one.get("variant") or "")))
        except FarmError:
            continue  # one that this collection does not know cannot have been requested
    return tuple(dict.fromkeys(found))
