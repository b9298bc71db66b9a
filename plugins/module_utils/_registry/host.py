# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One server that has a registry's content: the registry itself, which is also written to, or a mirror.

Source of the protocol: the OCI distribution specification.
"""

from __future__ import annotations

import contextlib
import re
import time
from typing import Optional, Tuple

from .._core.errors import FarmError
from .auth import RegistryRefused, error_text
from .http import InterruptedRequest, Response, Unreachable, WrongScheme
from .model import Document, digest_of
from .session import Session

#: Seconds for one document, all attempts together.
_TIMEOUT = 120.0
_ATTEMPTS = 5
#: Seconds before the second attempt; twice as long before each further one.
_PAUSE = 0.5
#: Statuses of what was written: 201 by the specification, the others by some registries (containerd
#: ``core/remotes/docker/pusher.go``).
_WRITTEN = (200, 201, 202, 204)
#: What registries answer where a tag may not be moved: ECR (400 TAG_INVALID, "cannot be overwritten because the
#: repository is immutable"), Harbor (412, "configured as immutable"), Quay (409 TAG_IMMUTABLE), Docker Hub and GitLab
#: (403, "immutable"), Alibaba and Mirantis ("cannot be overwritten"), locked images of Azure (405, "disallowed").
_IMMUTABLE = re.compile(r"immutab|cannot be overwrit|operation is disallowed", re.IGNORECASE)


class TagImmutable(FarmError):
    """The registry does not let a tag be moved that stands for something else."""


class Host:
    """A server's documents; shared by threads.

    :param name: as images' names, docker's configuration and directories of certificates have it.
    :param path: what the server has before the repositories' paths.
    :param mirror_of: the registry that this is a mirror of, empty for the registry itself.
    """

    def __init__(self, name: str, path: str, mirror_of: str, session: Session) -> None:
        self._name = name
        self._path = f"/v2/{path}/" if path else "/v2/"
        self._mirror_of = mirror_of
        self._session = session

    def read(self, repository: str, kind: str, name: str) -> Optional[Document]:
        """Return a document whose digest fits, None if there is none.

        :param kind: ``manifests`` or ``blobs``.
        :param name: a tag or a digest.
        :raises FarmError: as ``_get``; or the digest does not fit.
        """
        response = self._get(repository, f"{kind}/{name}")
        if response is None:
            return None
        digest = name if ":" in name else response.headers.get("Docker-Content-Digest") or digest_of(response.body)
        algorithm = digest.partition(":")[0]
        if algorithm not in ("sha256", "sha512"):
            raise FarmError(f"registry {self._name}: {repository}/{kind}/{name}: unknown digest {digest!r}")
        actual = digest_of(response.body, algorithm)
        if actual != digest:
            raise FarmError(
                f"registry {self._name}: what it sent as {repository}/{kind}/{name} has the digest {actual}, wanted "
                f"{digest}; something on the way changed it, or the registry's storage is damaged"
            )
        return Document(digest, response.headers.get("Content-Type", "").partition(";")[0].strip(), response.body)

    def digest(self, repository: str, name: str, to_push: bool = False) -> Optional[str]:
        """Return the digest of a manifest or index, None if there is none; the document is transferred only if need be.

        :param to_push: for one who comes to push, to whom some registries say more about what is not there.
        :raises FarmError: as ``read``.
        """
        # Some refuse HEAD what they let GET have, or leave the digest out; GET also says why not.
        with contextlib.suppress(RegistryRefused):
            response = self._get(repository, f"manifests/{name}", "HEAD", to_push)
            if response is None:
                return None
            if "Docker-Content-Digest" in response.headers:
                return str(response.headers["Docker-Content-Digest"])
        document = self.read(repository, "manifests", name)
        return document.digest if document else None

    def put(self, repository: str, name: str, media_type: str, content: bytes) -> str:
        """Write a manifest or index, and return its digest.

        :param name: a tag or the content's digest.
        :raises RegistryRefused: the credentials do not suffice.
        :raises TagImmutable: the tag may not be moved.
        :raises FarmError: the registry does not take it.
        """
        path = f"manifests/{name}"
        digest = name if ":" in name else digest_of(content)
        subject = f"registry {self._name} did not take {repository}/{path}"
        try:
            response = self._request("PUT", repository, path, subject, True, (media_type, content))
        except RegistryRefused as exc:
            return self._refused_move(repository, name, digest, exc.reason, exc)
        if response.status not in _WRITTEN:
            reason = f"{response}{error_text(response)}"
            return self._refused_move(repository, name, digest, reason, FarmError(f"{subject}: it answered {reason}"))
        written = response.headers.get("Docker-Content-Digest", digest)
        if written != digest:
            raise FarmError(
                f"{subject}: it stored {written}, wanted {digest}; something on the way changed it, or the registry "
                f"rewrites what is pushed"
            )
        return digest

    def _refused_move(self, repository: str, name: str, digest: str, reason: str, error: FarmError) -> str:
        """Return the digest where a tag that may not be moved stands for it already; raise what else was meant."""
        names = "|".join(re.escape(one) for one in (repository, name))
        told = re.sub(rf"(?<![\w.-])(?:{names})(?![\w.-])", "", reason)
        if ":" in name or not _IMMUTABLE.search(told):
            raise error
        # Of two attempts the first may have arrived.
        with contextlib.suppress(FarmError):
            if self.digest(repository, name, to_push=True) == digest:
                return digest
        raise TagImmutable(
            f"registry {self._name}: the tag {name} of {repository} may not be moved to {digest}, as it is immutable "
            f"there: {reason}; choose another tag, or have the registry allow this"
        ) from error

    def _get(self, repository: str, path: str, method: str = "GET", to_push: bool = False) -> Optional[Response]:
        """Return the server's response, None where it says that there is no such thing.

        :raises FarmError: as ``_request``.
        """
        subject = f"registry {self._name} could not be asked for {repository}/{path}"
        response = self._request(method, repository, path, subject, to_push)
        if response.status == 404:
            return None
        if response.status != 200:
            raise FarmError(f"{subject}: it answered {response}{error_text(response)}")
        return response

    def _request(
        self,
        method: str,
        repository: str,
        path: str,
        subject: str,
        push: bool,
        content: Optional[Tuple[str, bytes]] = None,
    ) -> Response:
        """Return the server's response; try again what may pass.

        :param subject: of messages, up to the colon.
        :param push: whether credentials for writing are needed.
        :raises RegistryRefused: the credentials do not suffice.
        :raises FarmError: the server cannot be reached, or has nothing but what might pass.
        """
        target = f"{self._path}{repository}/{path}" + (f"?ns={self._mirror_of}" if self._mirror_of else "")
        scope = f"repository:{repository}:pull" + (",push" if push else "")
        started = time.monotonic()
        deadline = started + _TIMEOUT
        attempts = 1 if self._mirror_of else _ATTEMPTS
        for attempt in range(1, attempts + 1):
            pause = _PAUSE * 2 ** (attempt - 1)
            try:
                response = self._session.request(method, target, scope, deadline, content)
            except InterruptedRequest as exc:
                problem, pause = str(exc), max(pause, exc.pause)
            except (Unreachable, WrongScheme) as exc:
                raise FarmError(f"{subject}: {exc}{self._advice(exc)}") from exc
            else:
                if not response.is_transient:
                    return response
                problem = f"it answered {response}{error_text(response)}"
                pause = max(pause, response.retry_after)
            if attempt == attempts or time.monotonic() + pause > deadline:
                break
            time.sleep(pause)
        often = f", {attempt} times in {time.monotonic() - started:.0f} s" if attempt > 1 else ""
        raise FarmError(f"{subject}: {problem}{often}; try again later")

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
