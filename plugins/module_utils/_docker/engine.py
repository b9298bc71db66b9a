# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Engines as a controller reaches them: what they are, and why they cannot be reached.

Probes need the standard library only. Importing the docker SDK takes three times as long as asking a whole farm does,
and it reports neither the server's certificate nor whether client certificates are wanted. ``connect`` gives the SDK's
client for all other work, over ``ssh`` by the same program as docker and buildx: its own way there is a library with a
configuration and known hosts of its own.
"""

from __future__ import annotations

import contextlib
import http.client
import shutil
import ssl
import time
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Dict, Mapping, Optional, Sequence, Tuple, Type

from .._core.errors import FarmError, missing_library
from .._core.parallel import each_within
from .._platform.platform import Platform
from .client import MAXIMUM_ANSWER, Conversation, failure, platform_of, unanswered
from .context_store import ContextStore, TlsFiles
from .drain import read_drained
from .endpoint import Endpoint
from .transport import Route, Unreachable, classify_error, open_connection, over_ssh, resolve

if TYPE_CHECKING:
    import docker

#: RFC 4514's abbreviations of what subjects consist of.
_SHORT = {
    "commonName": "CN",
    "countryName": "C",
    "localityName": "L",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "stateOrProvinceName": "ST",
}
#: Seconds that finding the reason of a failure may take.
_DIAGNOSIS_TIMEOUT = 10.0


@dataclass(frozen=True)
class EngineInfo:
    """What a probe found.

    :ivar version: of the engine, ``26.1.5`` for example; None as all others of its facts where it was not reached.
    :ivar os: ``linux`` or ``windows``.
    :ivar architecture: as platforms name it, ``arm64`` for example.
    :ivar tls: ``none``; ``server`` where the engine takes clients without a certificate; ``mutual``.
    :ivar tls_verified: whether the engine's certificate was verified; None without TLS.
    :ivar certificate_subject: of the engine's certificate, ``CN=arm1`` for example; None as the following two without
        TLS or without verification.
    :ivar certificate_expires: ISO 8601 in UTC.
    :ivar certificate_days_left: whole days until then.
    :ivar drained: in words that its node takes no builds, None where it does.
    :ivar error: one sentence naming the endpoint, None where it was reached.
    :ivar error_kind: ``answer``, ``client_certificate``, ``context``, ``expired``, ``files``, ``name``,
        ``not_yet_valid``, ``refused``, ``socket``, ``ssh``, ``timeout``, ``tls``, ``unreachable``, ``unresolved`` or
        ``untrusted``.
    """

    endpoint: Endpoint
    reachable: bool = False
    version: Optional[str] = None
    api_version: Optional[str] = None
    os: Optional[str] = None
    architecture: Optional[str] = None
    platform: Optional[Platform] = None
    tls: Optional[str] = None
    tls_verified: Optional[bool] = None
    certificate_subject: Optional[str] = None
    certificate_expires: Optional[str] = None
    certificate_days_left: Optional[int] = None
    drained: Optional[str] = None
    error: Optional[str] = None
    error_kind: Optional[str] = None

    def as_dict(self) -> Dict[str, Any]:
        """Return the values as JSON types, endpoint and platform as text."""
        return {
            **self.__dict__,
            "endpoint": self.endpoint.text,
            "platform": None if self.platform is None else str(self.platform),
        }


def connect(
    endpoint: Endpoint, store: ContextStore, timeout: float = 60, tls: Optional[TlsFiles] = None
) -> docker.DockerClient:
    """Return the docker SDK's client for an engine, connected and with the API version agreed on.

    :param timeout: seconds that each request may take.
    :param tls: material for a ``tcp`` endpoint; a context brings its own.
    :raises FarmError: the SDK is missing, or the engine cannot be reached; the message says why.
    """
    try:
        import docker
        import docker.tls
    except ImportError as exc:
        raise missing_library("docker", exc) from exc
    route = resolve(endpoint, store, tls)
    options: Dict[str, Any] = {"base_url": route.url.text}
    adapter = None
    try:
        if route.tls is not None:
            pair = None if route.tls.cert is None else (str(route.tls.cert), str(route.tls.key))
            ca = None if route.tls.ca is None else str(route.tls.ca)
            options["tls"] = docker.tls.TLSConfig(client_cert=pair, ca_cert=ca, verify=route.verify)
        # Without the program, the SDK's own way is what is left.
        if route.url.scheme == "ssh" and shutil.which("ssh"):
            adapter = _adapter_over_ssh(route.url, timeout)
            options["base_url"] = "tcp://over-ssh:22"
        return _direct_client()(adapter=adapter, version="auto", timeout=timeout, **options)
    except Exception as exc:  # the SDK lets requests' and its own errors through
        if adapter is not None:
            adapter.close()
        # Its messages are nested reprs; a probe finds the plain reason.
        unreachable = probe(endpoint, store, min(timeout, _DIAGNOSIS_TIMEOUT), tls).error
        raise FarmError(unreachable or f"engine {endpoint}: the docker SDK could not connect: {exc}") from exc


def _direct_client() -> Type[docker.DockerClient]:
    """Return the SDK's client, without what requests takes from the environment: proxies, and another CA.

    Its option ``adapter`` is what all requests go through, None for the SDK's own choice.
    """
    import docker

    class Direct(docker.APIClient):
        trust_env = property(lambda self: False, lambda self, value: None)

        def __init__(self, adapter: Any = None, **options: Any) -> None:
            self._given = adapter
            super().__init__(**options)

        def get_adapter(self, url: str) -> Any:
            return self._given or super().get_adapter(url)

        def close(self) -> None:
            if self._given:
                self._given.close()
            super().close()

    class Client(docker.DockerClient):
        def __init__(self, **options: Any) -> None:  # pylint: disable=super-init-not-called
            # All that the SDK's own does, with its own class.
            self.api = Direct(**options)

    return Client


def _adapter_over_ssh(url: Endpoint, timeout: float) -> Any:
    """Return an adapter of requests whose connections are programs ``ssh``, which end when it is closed."""
    import requests.adapters
    import urllib3

    cleanup = contextlib.ExitStack()

    class Connection(urllib3.connection.HTTPConnection):
        def _new_conn(self) -> Any:
            return cleanup.enter_context(over_ssh(url, timeout))

    class Pool(urllib3.HTTPConnectionPool):
        ConnectionCls = Connection

    pool = Pool("over-ssh")

    class Adapter(requests.adapters.HTTPAdapter):
        def get_connection(self, *_args: Any, **_options: Any) -> Any:
            return pool

        # requests from 2.32 on.
        get_connection_with_tls_context = get_connection

        def close(self) -> None:
            super().close()
            pool.close()
            cleanup.close()

    return Adapter()


def container_status(state: str) -> str:
    """Return what counts of an engine's word for a container's state: ``running``, ``paused`` or ``stopped``."""
    return state if state in ("running", "paused") else "stopped"


def probe_all(
    endpoints: Sequence[Endpoint],
    store: ContextStore,
    timeout: float = 5,
    tls: Optional[TlsFiles] = None,
    anonymous: bool = True,
) -> Tuple[EngineInfo, ...]:
    """Probe engines in parallel.

    :param timeout: seconds that the whole call takes at most, whatever the hosts do.
    :param tls: material for ``tcp`` endpoints; contexts bring their own.
    :param anonymous: whether to find out, over a second connection, if the engine takes clients without a certificate.
    :return: what was found, in the order given.
    """
    deadline = time.monotonic() + timeout
    found = each_within(timeout, endpoints, lambda endpoint: _probe(endpoint, store, deadline, timeout, tls, anonymous))
    return tuple(
        info or EngineInfo(endpoint, error=unanswered(endpoint, timeout), error_kind="timeout")
        for endpoint, info in zip(endpoints, found)
    )


def probe(endpoint: Endpoint, store: ContextStore, timeout: float = 5, tls: Optional[TlsFiles] = None) -> EngineInfo:
    """Probe one engine as ``probe_all`` does."""
    return probe_all([endpoint], store, timeout, tls)[0]


def _probe(
    endpoint: Endpoint,
    store: ContextStore,
    deadline: float,
    timeout: float,
    tls: Optional[TlsFiles],
    anonymous: bool,
) -> EngineInfo:
    info = EngineInfo(endpoint)
    try:
        route = resolve(endpoint, store, tls)
        with contextlib.ExitStack() as cleanup:
            connection = open_connection(route, deadline, cleanup)
            info = replace(info, tls="none" if route.tls is None else "mutual")
            if route.tls is not None:
                info = replace(info, tls_verified=route.verify, **_certificate(connection))
            engine = Conversation(connection)
            info = replace(info, **_facts(engine.version()))
            drained = read_drained(engine)
            info = replace(info, drained=str(drained) if drained else None)
        if anonymous and route.tls is not None and _accepts_anonymous_clients(route, deadline):
            info = replace(info, tls="server")
        return info
    except FarmError as exc:
        return _failure(endpoint, Unreachable("context", exc.message))
    except (OSError, http.client.HTTPException, Unreachable) as exc:
        reason = classify_error(exc, route, timeout, trusted=info.tls is not None)
        failure = _failure(endpoint, reason, route.url)
        return replace(info, tls=None, error=failure.error, error_kind=failure.error_kind)


def _failure(endpoint: Endpoint, reason: Unreachable, url: Optional[Endpoint] = None) -> EngineInfo:
    return EngineInfo(endpoint, error=failure(endpoint, reason, url), error_kind=reason.kind)


def _facts(version: Mapping[str, Any]) -> Dict[str, Any]:
    platform = platform_of(version)
    return {
        "reachable": True,
        "version": str(version.get("Version", "")),
        "api_version": str(version.get("ApiVersion", "")),
        "os": str(version["Os"]).lower(),
        "architecture": platform.arch if platform else str(version["Arch"]).lower(),
        "platform": platform,
    }


def _certificate(connection: http.client.HTTPConnection) -> Dict[str, Any]:
    """Return what the engine's certificate says, nothing where it was not verified: Python does not parse it then."""
    certificate = connection.sock.getpeercert() if isinstance(connection.sock, ssl.SSLSocket) else None
    if not certificate:
        return {}
    seconds = ssl.cert_time_to_seconds(str(certificate["notAfter"]))
    # RFC 2253's parts, each of one or several pairs; typeshed knows of no more than that it is something.
    subject: Any = certificate.get("subject", ())
    names = [pair for part in subject for pair in part]
    return {
        "certificate_subject": ", ".join(f"{_SHORT.get(name, name)}={value}" for name, value in names),
        "certificate_expires": datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "certificate_days_left": int((seconds - time.time()) // 86400),
    }


def _accepts_anonymous_clients(route: Route, deadline: float) -> bool:
    """Return whether an engine accepts clients without a certificate: then all who reach its port are root there."""
    if route.tls is None or route.tls.cert is None:
        return True
    try:
        with contextlib.ExitStack() as cleanup:
            anonymous = replace(route, tls=replace(route.tls, cert=None, key=None))
            Conversation(open_connection(anonymous, deadline, cleanup)).request("GET", "/_ping", MAXIMUM_ANSWER)
    except (OSError, http.client.HTTPException):
        return False
    return True
