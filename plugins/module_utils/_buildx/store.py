# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""buildx's store of builders: ``instances/NAME``, ``current`` and ``defaults/HASH``, guarded by ``.lock``.

Source of the layout and the schema: docker/buildx ``store/``, the same since v0.7; what v0.2 to v0.6 wrote is read too.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import json
import os
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, Iterator, Mapping, Optional, Sequence, Tuple

from .._core.environment import expanded, option
from .._core.errors import FarmError
from .._core.files import read_bytes, write_atomically
from .._core.lock import LockTimeout, locked
from .._docker.config import config_dir
from .._platform.platform import Platform

#: How the names of BuildKit's containers begin, and of what else a node has on its engine.
#: Source: docker/buildx ``driver/manager.go``.
PREFIX = "buildx_buildkit_"
#: buildx's rule for the names of builders and nodes.
_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9._-]*\Z")

_INSTANCE_KEYS = ("Name", "Driver", "Nodes", "Dynamic")
_NODE_KEYS = ("Name", "Endpoint", "Platforms", "DriverOpts", "Flags", "Files")


class StoreError(FarmError):
    """A file of the store cannot be read, or is not what buildx writes."""


class TruncatedInstance(StoreError):
    """An instance file is not JSON: a crash left it half written, or something else wrote it."""


class StoreConflict(StoreError):
    """An instance was changed by another process between reading and writing."""


@dataclass(frozen=True)
class Node:
    """One node of a builder, as stored. ``None`` is JSON's null: never set.

    :ivar endpoint: as buildx stores it: a URL, or a docker context's name.
    :ivar platforms: the pins.
    :ivar flags: buildkitd's arguments.
    :ivar files: contents by their path below ``/etc/buildkit`` in the node's container.
    :ivar extra: keys of other buildx versions, written back unchanged.
    """

    name: str
    endpoint: str
    platforms: Optional[Tuple[Platform, ...]] = None
    driver_opts: Optional[Mapping[str, str]] = None
    flags: Optional[Tuple[str, ...]] = None
    files: Optional[Mapping[str, bytes]] = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def container(self) -> str:
        """The name of the node's BuildKit container; buildx derives it from the node's name alone."""
        return f"{PREFIX}{self.name}"

    @property
    def volume(self) -> str:
        """The name of the volume that holds the node's cache."""
        return f"{self.container}_state"

    @property
    def env(self) -> Dict[str, str]:
        """The environment that the driver options give the node's container."""
        prefix = "env."
        opts = self.driver_opts or {}
        return {key[len(prefix) :]: value for key, value in opts.items() if key.startswith(prefix)}

    @classmethod
    def from_store(cls, raw: Mapping[str, Any]) -> Node:
        """Read a node's JSON object.

        :raises FarmError: a value is not of the type that buildx writes.
        """
        platforms = _typed(raw, "Platforms", list)
        flags = _typed(raw, "Flags", list)
        files = _typed(raw, "Files", dict)
        return cls(
            name=_typed(raw, "Name", str) or "",
            endpoint=_typed(raw, "Endpoint", str) or "",
            platforms=None if platforms is None else tuple(_platform(item) for item in platforms),
            driver_opts=_typed(raw, "DriverOpts", dict),
            flags=None if flags is None else tuple(str(flag) for flag in flags),
            files=None if files is None else {path: _content(path, text) for path, text in files.items()},
            extra={key: value for key, value in raw.items() if key not in _NODE_KEYS},
        )

    def to_store(self) -> Dict[str, Any]:
        """Return the JSON object, its keys in buildx's order."""
        return {
            "Name": self.name,
            "Endpoint": self.endpoint,
            "Platforms": None if self.platforms is None else [_platform_to_store(item) for item in self.platforms],
            "DriverOpts": None if self.driver_opts is None else dict(sorted(self.driver_opts.items())),
            "Flags": None if self.flags is None else list(self.flags),
            "Files": None
            if self.files is None
            else {path: base64.b64encode(content).decode() for path, content in sorted(self.files.items())},
            **self.extra,
        }


@dataclass(frozen=True)
class Instance:
    """A builder as stored.

    :ivar dynamic: of the kubernetes driver: the nodes are pods that come and go.
    :ivar extra: keys of other buildx versions, written back unchanged.
    """

    name: str
    driver: str
    nodes: Tuple[Node, ...] = ()
    dynamic: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)

    def node(self, name: str) -> Optional[Node]:
        """Return the node of that name, None if there is none."""
        return next((node for node in self.nodes if node.name == name), None)

    @classmethod
    def from_json(cls, content: bytes, source: str) -> Instance:
        """Read an instance file's content.

        :param source: the file's path, for messages.
        :raises TruncatedInstance: it is not JSON.
        :raises StoreError: it is JSON, and not what buildx writes.
        """
        try:
            raw = json.loads(content.decode())
        except ValueError as exc:
            raise TruncatedInstance(
                f"{source}: not JSON ({exc}), so neither buildx nor this module can read the builder; remove the file"
            ) from exc
        try:
            if not isinstance(raw, dict):
                raise FarmError(f"wanted an object, found {type(raw).__name__}")
            nodes = _typed(raw, "Nodes", list) or []
            if not all(isinstance(node, dict) for node in nodes):
                raise FarmError("Nodes: wanted objects")
            return cls(
                name=_typed(raw, "Name", str) or "",
                driver=_typed(raw, "Driver", str) or "",
                nodes=tuple(Node.from_store(node) for node in nodes),
                dynamic=_typed(raw, "Dynamic", bool) or False,
                extra={key: value for key, value in raw.items() if key not in _INSTANCE_KEYS},
            )
        except FarmError as exc:
            raise StoreError(
                f"{source}: not a builder that buildx wrote ({exc.message}); repair the file, or remove it"
            ) from exc

    def to_json(self) -> bytes:
        """Return the instance file's content, byte for byte as buildx writes it."""
        raw = {
            "Name": self.name,
            "Driver": self.driver,
            "Nodes": [node.to_store() for node in self.nodes],
            "Dynamic": self.dynamic,
            **self.extra,
        }
        text = json.dumps(raw, separators=(",", ":"), ensure_ascii=False)
        # Go's encoding/json writes these five escaped; none of them occurs outside strings.
        for char in "<>&\u2028\u2029":
            text = text.replace(char, f"\\u{ord(char):04x}")
        return text.encode()


@dataclass(frozen=True)
class Current:
    """Which builder buildx uses where none is named.

    :ivar key: the endpoint that the choice was made for.
    :ivar is_global: the choice holds for every endpoint.
    """

    key: str = ""
    name: str = ""
    is_global: bool = False


class Store:
    """The builders of one buildx configuration directory.

    Reading takes no lock, as buildx replaces files in one step.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = Path(directory)

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> Store:
        """Return the store that buildx uses: ``$BUILDX_CONFIG``, else ``buildx`` in the docker configuration."""
        chosen = os.environ.get("BUILDX_CONFIG")
        return cls(Path(expanded(chosen)) if chosen else config_dir(params) / "buildx")

    def path(self, name: str) -> Path:
        """Return the path of a builder's instance file, whether it exists or not."""
        return self.directory / "instances" / name.lower()

    def read(self, name: str) -> Optional[bytes]:
        """Return an instance file's content, None if there is no such builder.

        :raises StoreError: it exists and cannot be read.
        """
        try:
            return read_bytes(self.path(name))
        except OSError as exc:
            raise StoreError(f"{self.path(name)}: cannot be read: {exc.strerror}") from exc

    def get(self, name: str) -> Optional[Instance]:
        """Return a builder, None if there is none of that name.

        :raises TruncatedInstance: the file is not JSON.
        :raises StoreError: the file cannot be read, or is not what buildx writes.
        """
        content = self.read(name)
        return None if content is None else Instance.from_json(content, str(self.path(name)))

    def names(self) -> Tuple[str, ...]:
        """Return the file names (lower case) of all builders in order."""
        try:
            entries = os.listdir(self.directory / "instances")
        except (FileNotFoundError, NotADirectoryError):
            return ()
        return tuple(sorted(entry for entry in entries if not entry.startswith(".")))

    def current(self) -> Current:
        """Return the choice recorded last; empty where there is none or it cannot be read."""
        raw = _json_object(read_bytes(self.directory / "current"))
        return Current(str(raw.get("Key", "")), str(raw.get("Name", "")), bool(raw.get("Global")))

    def default(self, key: str) -> str:
        """Return the name of the builder that is the default for an endpoint, empty if there is none."""
        content = read_bytes(self.directory / "defaults" / hashlib.sha256(key.encode()).hexdigest()[:20])
        return (content or b"").decode(errors="replace")

    def in_use(self, endpoint: str) -> str:
        """Return the name of the builder that buildx uses where none is named, empty if that is the engine's own.

        :param endpoint: what buildx keys its choice by, see ``ContextStore.current_endpoint``.
        """
        chosen = self.current()
        if chosen.name and (chosen.is_global or chosen.key == endpoint) and self.read(chosen.name) is not None:
            return chosen.name.lower()
        return "" if chosen.name and chosen.key == endpoint else self.default(endpoint).lower()

    @contextlib.contextmanager
    def lock(self, timeout: float = 60, file: str = ".lock") -> Iterator[None]:
        """Hold a lock of the store; by default buildx's own.

        No buildx command may run meanwhile, as it would wait for the same lock.

        :param timeout: seconds to wait for it.
        :raises StoreError: another process held it all that time, or the directory cannot be written.
        """
        path = self.directory / file
        try:
            for part in (self.directory, self.directory / "instances", self.directory / "defaults"):
                part.mkdir(mode=0o700, parents=True, exist_ok=True)
            held = contextlib.ExitStack()
            held.enter_context(locked(path, timeout, os.O_RDWR | os.O_CREAT))
        except OSError as exc:
            raise StoreError(f"{path}: the store of builders cannot be written: {exc.strerror}") from exc
        except LockTimeout as exc:
            raise StoreError(
                f"{path}: another process held the lock for {timeout:g} seconds; wait for it and run again"
            ) from exc
        with held:
            yield

    def write(self, instance: Instance, expected: Optional[bytes]) -> bytes:
        """Write a builder's definition.

        :param expected: what ``read`` returned when the change was planned.
        :returns: the new content of the file.
        :raises StoreConflict: the file has changed since.
        """
        content = instance.to_json()
        self._swap(instance.name, expected, content)
        return content

    def restore(self, name: str, expected: Optional[bytes], content: Optional[bytes]) -> None:
        """Put an instance file back as it was, None for no file.

        :raises StoreConflict: another process has changed it since.
        """
        self._swap(name, expected, content)

    def remove(self, instance: str, expected: Optional[bytes]) -> None:
        """Forget a builder: its definition, and what buildx noted of its builds.

        :raises StoreConflict: another process has changed it since.
        """
        self._swap(instance, expected, None)
        for entry in sorted({instance, instance.lower()}):
            with contextlib.suppress(FileNotFoundError):
                (self.directory / "activity" / entry).unlink()
            shutil.rmtree(self.directory / "refs" / entry, ignore_errors=True)

    def _swap(self, name: str, expected: Optional[bytes], content: Optional[bytes]) -> None:
        with self.lock():
            if self.read(name) != expected:
                raise StoreConflict(f"{self.path(name)}: changed by another process meanwhile; run again")
            if content is not None:
                write_atomically(self.path(name), content, 0o600)
            elif expected is not None:
                self.path(name).unlink()


def chosen_builder(params: Mapping[str, Any]) -> Optional[str]:
    """Return the builder that a module's parameters name, or the environment where they do not; None if neither does.

    :raises FarmError: buildx would refuse the name.
    """
    name = params.get("builder") or option("BUILDX_BUILDER")
    return validate_name(name, "builder") if name else None


def validate_name(name: str, what: str) -> str:
    """Return a name that buildx accepts for a builder or a node.

    :param what: what is named, for the message: ``builder``, or ``builder 'farm', node``.
    :raises FarmError: buildx would refuse it.
    """
    if not _NAME.match(name):
        raise FarmError(f"{what} {name!r}: wanted letters, digits and . _ -, beginning with a letter")
    return name


def _typed(raw: Mapping[str, Any], key: str, wanted: type) -> Any:
    value = raw.get(key)
    if value is not None and not isinstance(value, wanted):
        raise FarmError(f"{key}: wanted {wanted.__name__}, found {type(value).__name__}")
    return value


def _platform(raw: Any) -> Platform:
    if isinstance(raw, str):  # as v0.2 wrote them
        return Platform.parse(raw)
    if not isinstance(raw, dict):
        raise FarmError(f"Platforms: wanted objects, found {type(raw).__name__}")
    return Platform.make(str(raw.get("os")), str(raw.get("architecture")), str(raw.get("variant") or ""))


def _platform_to_store(platform: Platform) -> Dict[str, str]:
    raw = {"architecture": platform.arch, "os": platform.os}
    if platform.variant:
        raw["variant"] = platform.variant
    return raw


def _content(path: str, text: Any) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (TypeError, ValueError, binascii.Error) as exc:
        raise FarmError(f"Files, {path}: wanted base64 ({exc})") from exc


def _json_object(content: Optional[bytes]) -> Mapping[str, Any]:
    try:
        raw = json.loads(content or b"{}")
    except ValueError:
        return {}
    return raw if isinstance(raw, dict) else {}


def pins_by_platform(nodes: Sequence[Node]) -> Dict[Platform, Tuple[str, ...]]:
    """Return for each pinned platform the names of the nodes that pin it, in the builder's order."""
    found: Dict[Platform, Tuple[str, ...]] = {}
    for node in nodes:
        for platform in node.platforms or ():
            found[platform] = (*found.get(platform, ()), node.name)
    return found
