# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reading from registries: manifests, indexes and blobs, none of which is taken unless its digest fits.

Source of the protocol: the OCI distribution specification; of the order in which mirrors, schemes and credentials are
tried: containerd ``core/remotes/docker`` and moby/buildkit ``util/resolver/resolver.go``.
"""

from __future__ import annotations

import contextlib
import email.utils
import hashlib
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Sequence, Set, Tuple, TypeVar
from urllib.parse import urlsplit

from .._buildx.store import Node
from .._core.errors import FarmError
from .._docker.config import config_dir
from .._docker.reference import Reference
from .auth import Authorizer, RegistryRefused, parse_challenges, said, stored_credentials
from .http import Answer, Connections, InterruptedRequest, Origin, Unreachable, WrongScheme, is_loopback
from .settings import Settings, of_nodes, tls_context

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"

#: Bytes of a document: what registries take for a manifest (OCI distribution specification, "Pushing Manifests").
DOCUMENT_LIMIT = 4 << 20
#: Requests at the same time.
_PARALLEL = 16
#: Seconds for one document, all attempts together.
_TIMEOUT = 120.0
_ATTEMPTS = 5
#: Seconds before the second attempt; twice as long before each further one.
_PAUSE = 0.5
#: Seconds that a server can ask to be left alone for.
_LONGEST_PAUSE = 30.0
_REDIRECTS = 5
#: Answers that another attempt may not get (RFC 9110, RFC 6585).
_PASSING = (408, 425, 429, 500, 502, 503, 504)
_REDIRECTED = (301, 302, 303, 307, 308)
_HUB, _HUB_HOST = "docker.io", "registry-1.docker.io"

Item = TypeVar("Item")
Made = TypeVar("Made")


@dataclass(frozen=True)
class Document:
    """A manifest or an index, as the registry has it.

    :ivar media_type: as the registry says; a document need not say it itself.
    """

    digest: str
    media_type: str
    content: bytes


class Registries:
    """Any number of registries, for reading; shared by threads.

    What is named by a digest is read once.

    :param docker_config: directory of the docker configuration, for the credentials.
    :param settings: how registries are reached, by their names.
    :param mirrors: whether the mirrors of a registry are asked before it.
    """

    def __init__(self, docker_config: Path, settings: Mapping[str, Settings], mirrors: bool = True) -> None:
        self._docker_config = docker_config
        self._settings = settings
        self._mirrors = mirrors
        self._names: Dict[Tuple[str, int], str] = {}
        self._contexts: Dict[str, ssl.SSLContext] = {}
        self._connections = Connections(self._trust)
        self._hosts: Dict[str, List[_Host]] = {}
        #: Mirrors that are not asked again: each time might take as long.
        self._failed: Set[_Host] = set()
        self._known: Dict[Tuple[str, str, str], Document] = {}
        self._lock = threading.Lock()

    @classmethod
    def of(cls, params: Mapping[str, Any], nodes: Sequence[Node], mirrors: bool = True) -> Registries:
        """Return the registries as a module's parameters and a builder's nodes mean them.

        :raises FarmError: a node's buildkitd configuration cannot be read.
        """
        return cls(config_dir(params), of_nodes(nodes), mirrors)

    def manifest(self, reference: Reference) -> Optional[Document]:
        """Return the manifest or index that a name stands for, None if there is none.

        :raises RegistryRefused: the credentials do not suffice.
        :raises FarmError: the registry cannot be asked, or what it sends is not what its digest says.
        """
        return self._read(reference, "manifests", reference.digest or reference.tag)

    def digest(self, reference: Reference) -> Optional[str]:
        """Return the digest of what a name stands for, None if there is nothing; the document stays where it is.

        :raises FarmError: as ``manifest``.
        """

        name = reference.digest or reference.tag

        def head(host: _Host) -> Optional[str]:
            # Some refuse HEAD what they let GET have, or leave the digest out; GET also says why not.
            with contextlib.suppress(RegistryRefused):
                answer = host.get(reference.path, f"manifests/{name}", "HEAD")
                if answer is None:
                    return None
                if "Docker-Content-Digest" in answer.headers:
                    return str(answer.headers["Docker-Content-Digest"])
            document = host.read(reference.path, "manifests", name)
            return document.digest if document else None

        return self._first(reference, head)

    def blob(self, reference: Reference, digest: str) -> Optional[bytes]:
        """Return a small blob of a name's repository, such as an image's config, None if there is none.

        :raises FarmError: as ``manifest``.
        """
        document = self._read(reference, "blobs", digest)
        return document.content if document else None

    def _read(self, reference: Reference, kind: str, name: str) -> Optional[Document]:
        key = (reference.repository, kind, name)
        if key in self._known:
            return self._known[key]
        document = self._first(reference, lambda host: host.read(reference.path, kind, name))
        if document and document.digest == name:
            self._known[key] = document
        return document

    def _first(self, reference: Reference, read: Callable[[_Host], Optional[Made]]) -> Optional[Made]:
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

    def _hosts_of(self, registry: str) -> List[_Host]:
        with self._lock:
            if registry not in self._hosts:
                mirrors = self._settings.get(registry, Settings()).mirrors if self._mirrors else ()
                self._hosts[registry] = [
                    *(self._host(*_split_mirror(mirror), mirror_of=registry) for mirror in mirrors),
                    self._host(registry),
                ]
            return self._hosts[registry]

    def _host(self, name: str, path: str = "", mirror_of: str = "") -> _Host:
        settings = self._settings.get(name, Settings())
        netloc = _HUB_HOST if name == _HUB else name
        origins = [Origin.parse(f"{scheme}://{netloc}")[0] for scheme in _schemes(netloc, settings)]
        for origin in origins:
            self._names[(origin.host, origin.port)] = name
        return _Host(name, origins, path, mirror_of, self._connections, self._docker_config)

    def _trust(self, origin: Origin) -> ssl.SSLContext:
        default = origin.host if origin.port == 443 else f"{origin.host}:{origin.port}"
        name = self._names.get((origin.host, origin.port), default)
        if name not in self._contexts:
            self._contexts[name] = tls_context(name, self._settings.get(name, Settings()))
        return self._contexts[name]


class _Host:
    """One server that a registry's content may be read from.

    :param name: as images' names, docker's configuration and directories of certificates have it.
    :param origins: to be tried in this order until one speaks the scheme.
    :param path: what the server has before the repositories' paths.
    :param mirror_of: the registry that this is a mirror of, empty for the registry itself.
    """

    def __init__(
        self,
        name: str,
        origins: Sequence[Origin],
        path: str,
        mirror_of: str,
        connections: Connections,
        docker_config: Path,
    ) -> None:
        self._name = name
        self._origins = tuple(origins)
        self._path = f"/v2/{path}/" if path else "/v2/"
        self._mirror_of = mirror_of
        self._connections = connections
        self._authorizer = Authorizer(name, lambda: stored_credentials(docker_config, name), self._ask_token_service)

    def read(self, repository: str, kind: str, name: str) -> Optional[Document]:
        """Return a document whose digest fits, None if there is none.

        :param kind: ``manifests`` or ``blobs``.
        """
        answer = self.get(repository, f"{kind}/{name}")
        if answer is None:
            return None
        digest = name if ":" in name else answer.headers.get("Docker-Content-Digest") or digest_of(answer.body)
        algorithm = digest.partition(":")[0]
        if algorithm not in ("sha256", "sha512"):
            raise FarmError(f"registry {self._name}: {repository}/{kind}/{name}: unknown digest {digest!r}")
        actual = digest_of(answer.body, algorithm)
        if actual != digest:
            raise FarmError(
                f"registry {self._name}: what it sent as {repository}/{kind}/{name} has the digest {actual}, wanted "
                f"{digest}; something on the way changed it, or the registry's storage is damaged"
            )
        return Document(digest, answer.headers.get("Content-Type", "").partition(";")[0].strip(), answer.body)

    def get(self, repository: str, path: str, method: str = "GET") -> Optional[Answer]:
        """Return the registry's answer, None where it says that there is no such thing.

        :raises RegistryRefused: the credentials do not suffice.
        :raises FarmError: it cannot be asked.
        """
        target = f"{self._path}{repository}/{path}" + (f"?ns={self._mirror_of}" if self._mirror_of else "")
        subject = f"registry {self._name} could not be asked for {repository}/{path}"
        started = time.monotonic()
        deadline = started + _TIMEOUT
        attempts = 1 if self._mirror_of else _ATTEMPTS
        for attempt in range(1, attempts + 1):
            pause = _PAUSE * 2 ** (attempt - 1)
            try:
                answer = self._authorized(method, target, f"repository:{repository}:pull", deadline)
            except InterruptedRequest as exc:
                problem, pause = str(exc), max(pause, exc.pause)
            except (Unreachable, WrongScheme) as exc:
                raise FarmError(f"{subject}: {exc}{self._advice(exc)}") from exc
            else:
                if answer.status == 404:
                    return None
                if answer.status == 200:
                    return answer
                problem = f"it answered {answer}{said(answer)}"
                if answer.status not in _PASSING:
                    raise FarmError(f"{subject}: {problem}")
                pause = max(pause, _retry_after(answer))
            if attempt == attempts or time.monotonic() + pause > deadline:
                break
            time.sleep(pause)
        often = f", {attempt} times in {time.monotonic() - started:.0f} s" if attempt > 1 else ""
        raise FarmError(f"{subject}: {problem}{often}; try again later")

    def _authorized(self, method: str, target: str, scope: str, deadline: float) -> Answer:
        header = self._authorizer.header(scope)
        answer = self._asked(method, target, header, deadline)
        challenges = parse_challenges(answer.headers.get_all("WWW-Authenticate") or ()) if answer.status == 401 else ()
        if challenges:
            header = self._authorizer.satisfy(challenges, scope, header)
            answer = self._asked(method, target, header, deadline) if header else answer
        if answer.status in (401, 403):
            raise self._authorizer.refusal(f"{answer}{said(answer)}")
        return answer

    def _asked(self, method: str, target: str, authorization: Optional[str], deadline: float) -> Answer:
        """Ask in the first scheme that the server speaks, and in that from then on."""
        headers = {"Accept": ", ".join((OCI_INDEX, DOCKER_LIST, OCI_MANIFEST, DOCKER_MANIFEST, "*/*"))}
        headers.update({"Authorization": authorization} if authorization else {})
        problem: Exception = WrongScheme("there is no scheme to ask it in")
        for origin in self._origins:
            try:
                answer = self._follow(method, origin, target, headers, None, deadline)
            except WrongScheme as exc:
                problem = problem if isinstance(problem, InterruptedRequest) else exc
            except InterruptedRequest as exc:
                if not exc.silent:
                    raise
                problem = exc
            else:
                self._origins = (origin,)
                return answer
        raise problem

    def _ask_token_service(self, method: str, url: str, headers: Mapping[str, str], body: Optional[bytes]) -> Answer:
        try:
            origin, target = Origin.parse(url, f"{self._origins[0]}/")
            answer = self._follow(method, origin, target, headers, body, time.monotonic() + _TIMEOUT)
        except FarmError as exc:
            raise FarmError(f"registry {self._name}: its token service has {exc.message}") from exc
        except (Unreachable, WrongScheme, InterruptedRequest) as exc:
            words = f"its token service {origin}: {exc}"
            raise type(exc)(words) from exc
        if answer.status in _PASSING:
            raise InterruptedRequest(
                f"its token service {origin} answered {answer}{said(answer)}", _retry_after(answer)
            )
        return answer

    def _follow(
        self,
        method: str,
        origin: Origin,
        target: str,
        headers: Mapping[str, str],
        body: Optional[bytes],
        deadline: float,
    ) -> Answer:
        """Send a request, and again to where the answer points; credentials are for the first server only."""
        sent = {"User-Agent": "buildfarm.multiarch", **headers}
        for _redirect in range(_REDIRECTS):
            answer = self._connections.request(method, origin, target, sent, DOCUMENT_LIMIT, deadline, body)
            place = answer.headers.get("Location")
            if answer.status not in _REDIRECTED or not place:
                return answer
            elsewhere, target = Origin.parse(place, f"{origin}{target}")
            if not elsewhere.may_share_credentials_of(origin):
                sent.pop("Authorization", None)
            origin = elsewhere
        raise Unreachable(f"it sent this client on more than {_REDIRECTS} times, at last to {origin}")

    def _advice(self, problem: Exception) -> str:
        if isinstance(problem, Unreachable) and problem.mistrusted:
            return (
                f"; add the registry's CA to the controller's trusted certificates, to "
                f"/etc/docker/certs.d/{self._name}/ca.crt there, or as ca to the buildkitd configuration of the "
                f"option builder"
            )
        if isinstance(problem, WrongScheme) and "plain HTTP" in str(problem):
            return (
                "; that is believed only of loopback addresses and of a registry that the buildkitd configuration of "
                "the option builder marks 'http = true'"
            )
        return ""


def side_by_side(items: Iterable[Item], work: Callable[[Item], Made]) -> List[Made]:
    """Do the same to each of many, several at the same time; returns the results in order."""
    listed = list(items)
    if len(listed) < 2:
        return [work(item) for item in listed]
    with ThreadPoolExecutor(max_workers=min(_PARALLEL, len(listed))) as pool:
        return list(pool.map(work, listed))


def digest_of(raw: bytes, algorithm: str = "sha256") -> str:
    """Return the digest that a registry knows a document by."""
    return f"{algorithm}:{hashlib.new(algorithm, raw).hexdigest()}"


def _schemes(netloc: str, settings: Settings) -> Tuple[str, ...]:
    """Return the schemes to try: as configured, else HTTPS, and for this very host plain HTTP first."""
    if settings.http:
        return ("https", "http") if settings.insecure else ("http",)
    loopback = settings.http is None and is_loopback(urlsplit(f"//{netloc}").hostname or "")
    return ("http", "https") if loopback else ("https",)


def _split_mirror(text: str) -> Tuple[str, str]:
    """Return a mirror's host and path."""
    parts = urlsplit(text if "://" in text else f"//{text}")
    return parts.netloc.rpartition("@")[2], parts.path.strip("/")


def _retry_after(answer: Answer) -> float:
    """Return the seconds that a server asks to be left alone for, as far as that is heeded (RFC 9110, 10.2.3)."""
    text = answer.headers.get("Retry-After", "").strip()
    if text.isdigit():
        return min(float(text), _LONGEST_PAUSE)
    try:
        when = email.utils.parsedate_to_datetime(text).timestamp()
    except (TypeError, ValueError):
        return 0.0
    return min(max(0.0, when - time.time()), _LONGEST_PAUSE)
