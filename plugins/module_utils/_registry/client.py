# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reading from registries: manifests, indexes and blobs, none of which is taken unless its digest fits; and writing.

Source of the protocol: the OCI distribution specification; of the order in which mirrors, schemes and credentials are
tried: containerd ``core/remotes/docker`` and moby/buildkit ``util/resolver/resolver.go``.
"""

from __future__ import annotations

import ssl
import tempfile
import threading
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, Callable, Dict, List, Mapping, Optional, Sequence, Set, Tuple, TypeVar
from urllib.parse import urlsplit

from .._buildx.store import Node
from .._core.errors import FarmError
from .._docker.config import config_dir
from .._docker.credentials import stored_credentials
from .._docker.reference import Reference
from .connections import Connections, Origin, is_loopback
from .host import Host
from .model import Document, checked_digest, digest_of
from .session import Session
from .settings import Settings, all_authorities, of_nodes, tls_context

_HUB, _HUB_HOST = "docker.io", "registry-1.docker.io"

Made = TypeVar("Made")


class Registries:
    """Any number of registries; shared by threads.

    What is named by a digest is read once.

    :param docker_config: directory of the docker configuration, for the credentials.
    :param settings: how registries are reached, by their names.
    :param mirrors: whether the mirrors of a registry are tried before it.
    """

    def __init__(self, docker_config: Path, settings: Mapping[str, Settings], mirrors: bool = True) -> None:
        self._docker_config = docker_config
        self._settings = settings
        self._mirrors = mirrors
        self._names: Dict[Tuple[str, int], str] = {}
        self._contexts: Dict[str, ssl.SSLContext] = {}
        self._connections = Connections(self._trust)
        self._hosts: Dict[str, List[Host]] = {}
        #: Mirrors that failed and are not tried again: each time might take as long.
        self._failed: Set[Host] = set()
        self._known: Dict[Tuple[str, str, str], Document] = {}
        self._lock = threading.Lock()

    @classmethod
    def of(cls, params: Mapping[str, Any], nodes: Sequence[Node], mirrors: bool = True) -> Registries:
        """Return the registries as a module's parameters and a builder's nodes mean them.

        :raises FarmError: a node's buildkitd configuration cannot be read.
        """
        return cls(config_dir(params), of_nodes(nodes), mirrors)

    @cached_property
    def authorities(self) -> Sequence[bytes]:
        """The authorities that registries are declared to have, PEM."""
        return all_authorities(self._settings)

    def manifest(self, reference: Reference) -> Optional[Document]:
        """Return the manifest or index that a name stands for, None if there is none.

        :raises RegistryRefused: the credentials do not suffice.
        :raises FarmError: the registry cannot be read, or what it sends does not have the digest that it should.
        """
        return self._read(reference, "manifests", _name(reference))

    def digest(self, reference: Reference, to_push: bool = False) -> Optional[str]:
        """Return the digest of what a name stands for, None if there is nothing, without the document where possible.

        :param to_push: before or after a push: the registry itself is asked, with the credentials for that.
        :raises FarmError: as ``manifest``.
        """
        name = _name(reference)
        if to_push:
            return self._registry(reference).digest(reference.path, name, to_push)
        return self._first(reference, lambda host: host.digest(reference.path, name))

    def put(self, reference: Reference, media_type: str, content: bytes) -> str:
        """Write a manifest or index under a name's digest or tag, and return its digest; all that it names is there.

        :raises RegistryRefused: the credentials do not suffice.
        :raises TagImmutable: the registry does not let the tag be moved.
        :raises FarmError: the registry cannot be reached, or does not take it.
        """
        name = _name(reference)
        return self._registry(reference).put(reference.path, name, media_type, content)

    def blob(self, reference: Reference, digest: str) -> Optional[bytes]:
        """Return a small blob of a name's repository, such as an image's config, None if there is none.

        :raises FarmError: as ``manifest``.
        """
        document = self._read(reference, "blobs", _checked(reference, digest))
        return document.content if document else None

    def has_blob(self, reference: Reference, digest: str) -> bool:
        """Return whether a name's repository has a blob, without reading it; no mirror is asked.

        :raises FarmError: as ``manifest``.
        """
        return self._registry(reference).has_blob(reference.path, _checked(reference, digest))

    def referrers(self, reference: Reference, digest: str, to_push: bool = False) -> Optional[bytes]:
        """Return the index of what refers to a manifest of a name's repository, None where nothing is known to.

        :param to_push: as for ``digest``.
        :raises FarmError: as ``manifest``.
        """
        return self._registry(reference).referrers(reference.path, _checked(reference, digest), to_push)

    def save(self, reference: Reference, digest: str, sink: BinaryIO) -> bool:
        """Write a blob of any size to a file; returns False where a name's repository has none.

        :raises FarmError: as ``manifest``.
        """
        checked = _checked(reference, digest)
        return bool(self._first(reference, lambda host: host.save(reference.path, checked, sink) or None))

    def put_blob(self, reference: Reference, content: bytes) -> str:
        """Write a small blob into a name's repository, unless it is there; returns its digest.

        :raises FarmError: the registry cannot be reached, or does not take it.
        """
        digest, host = digest_of(content), self._registry(reference)
        if not host.has_blob(reference.path, digest, to_push=True):
            location = host.mount(reference.path, digest, "")
            if location:
                host.upload(reference.path, digest, location, content)
        return digest

    def copy_blob(self, source: Reference, target: Reference, digest: str) -> bool:
        """Let a repository have a blob of another one; within a registry that transfers nothing where it allows that.

        :return: False where the source does not have it.
        :raises FarmError: a registry cannot be reached, or does not take it.
        """
        own, host = source.registry == target.registry, self._registry(target)
        _checked(source, digest)
        if source.repository == target.repository or host.has_blob(target.path, digest, to_push=True):
            return True
        location = host.mount(target.path, digest, source.path if own else "")
        if location is None:
            return True
        with tempfile.TemporaryFile() as file:
            if not self.save(source, digest, file):
                return False
            host.upload(target.path, digest, location, file)
        return True

    def remove(self, reference: Reference) -> bool:
        """Remove a tag, or what a digest names; returns whether there was anything.

        :raises NotSupported: the registry does not remove that.
        :raises FarmError: it cannot be reached, or refuses.
        """
        return self._registry(reference).delete(reference.path, _name(reference))

    def _read(self, reference: Reference, kind: str, name: str) -> Optional[Document]:
        key = (reference.repository, kind, name)
        if key in self._known:
            return self._known[key]
        document = self._first(reference, lambda host: host.read(reference.path, kind, name))
        if document and document.digest == name:
            self._known[key] = document
        return document

    def _first(self, reference: Reference, read: Callable[[Host], Optional[Made]]) -> Optional[Made]:
        """Return what the first of a registry's hosts has; only the registry itself may fail."""
        *mirrors, registry = self._hosts_of(reference.registry)
        for mirror in mirrors:
            if mirror in self._failed:
                continue
            try:
                found = read(mirror)
            except FarmError:
                self._failed.add(mirror)
                continue
            if found is not None:
                return found
        return read(registry)

    def _registry(self, reference: Reference) -> Host:
        """Return the host that is written to: no mirror."""
        return self._hosts_of(reference.registry)[-1]

    def _hosts_of(self, registry: str) -> List[Host]:
        with self._lock:
            if registry not in self._hosts:
                mirrors = self._settings.get(registry, Settings()).mirrors if self._mirrors else ()
                self._hosts[registry] = [
                    *(self._host(*_split_mirror(mirror), mirror_of=registry) for mirror in mirrors),
                    self._host(registry),
                ]
            return self._hosts[registry]

    def _host(self, name: str, path: str = "", mirror_of: str = "") -> Host:
        settings = self._settings.get(name, Settings())
        netloc = _HUB_HOST if name == _HUB else name
        origins = [Origin.parse(f"{scheme}://{netloc}")[0] for scheme in _schemes(netloc, settings)]
        for origin in origins:
            self._names[(origin.host, origin.port)] = name
        session = Session(
            name, origins, self._connections, credentials=lambda: stored_credentials(self._docker_config, name)
        )
        return Host(name, path, mirror_of, session)

    def _trust(self, origin: Origin) -> ssl.SSLContext:
        default = origin.host if origin.port == 443 else f"{origin.host}:{origin.port}"
        name = self._names.get((origin.host, origin.port), default)
        if name not in self._contexts:
            settings = self._settings.get(name, Settings())
            if name not in self._names.values():
                # A registry's token service or store, for which docker and BuildKit trust the registry's authority.
                settings = replace(settings, authorities=(*settings.authorities, *self.authorities))
            self._contexts[name] = tls_context(name, settings)
        return self._contexts[name]


def _schemes(netloc: str, settings: Settings) -> Tuple[str, ...]:
    """Return the schemes to try: as configured, else HTTPS, and for this very host plain HTTP first."""
    if settings.http:
        return ("https", "http") if settings.insecure else ("http",)
    loopback = settings.http is None and is_loopback(urlsplit(f"//{netloc}").hostname or "")
    return ("http", "https") if loopback else ("https",)


def _name(reference: Reference) -> str:
    """Return by what a manifest is asked for: a digest, else a tag.

    :raises FarmError: the digest, which another document may have named, is none.
    """
    return reference.tag if reference.tag and not reference.digest else _checked(reference, reference.digest)


def _checked(reference: Reference, digest: str) -> str:
    return checked_digest(digest, f"image {reference.repository}")


def _split_mirror(text: str) -> Tuple[str, str]:
    """Return a mirror's host and path."""
    parts = urlsplit(text if "://" in text else f"//{text}")
    return parts.netloc.rpartition("@")[2], parts.path.strip("/")
