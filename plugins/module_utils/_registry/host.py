# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One server that a registry's content may be read from: the registry itself or a mirror.

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


#: How registries refuse to move a tag: Amazon ECR, Harbor, GitLab, Quay, Azure, Google Artifact Registry.
_IMMUTABLE = re.compile(
    r"TAG_ALREADY_EXISTS|ImageTagAlreadyExists|immutab|tag .*(?:already exists|cannot be overwritten|protected)"
    r"|TAG_(?:INVALID|IMMUTABLE).*exist",
    re.IGNORECASE,
)


class TagImmutable(FarmError):
    """A tag stands for another image already, and its registry does not let it move."""


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

    def digest(self, repository: str, name: str) -> Optional[str]:
        """Return the digest of a manifest or index, None if there is none; the document is transferred only if need be.

        :raises FarmError: as ``read``.
        """
        # Some refuse HEAD what they let GET have, or leave the digest out; GET also says why not.
        with contextlib.suppress(RegistryRefused):
            response = self._get(repository, f"manifests/{name}", "HEAD")
            if response is None:
                return None
            if "Docker-Content-Digest" in response.headers:
                return str(response.headers["Docker-Content-Digest"])
        document = self.read(repository, "manifests", name)
        return document.digest if document else None

    def write(self, repository: str, name: str, media_type: str, content: bytes) -> None:
        """Store a manifest or index, all of whose parts are there already.

        :param name: a tag, or the digest of the content.
        :raises TagImmutable: the tag stands for something else, and the registry does not let it move.
        :raises RegistryRefused: the credentials do not suffice.
        :raises FarmError: the server does not take it.
        """
        subject = f"registry {self._name} did not take {repository}/manifests/{name}"
        try:
            response = self._request(repository, f"manifests/{name}", "PUT", subject, (media_type, content))
        except RegistryRefused as exc:
            # Amazon's and others answer 403 where they mean the tag, not the credentials.
            if _IMMUTABLE.search(exc.message):
                raise TagImmutable(self._immutable(repository, name, exc.message)) from exc
            raise
        if response.status not in (200, 201, 202, 204):
            problem = f"it answered {response}{error_text(response)}"
            if _IMMUTABLE.search(problem):
                raise TagImmutable(self._immutable(repository, name, problem))
            raise FarmError(f"{subject}: {problem}")

    def _immutable(self, repository: str, name: str, problem: str) -> str:
        return (
            f"registry {self._name}: tag {name} of {repository} stands for another image, and the registry does not "
            f"let it move ({problem}); choose a new tag, or allow it in the registry's settings"
        )

    def _get(self, repository: str, path: str, method: str = "GET") -> Optional[Response]:
        """Return the server's response, None where it says that there is no such thing; try again what may pass.

        :raises RegistryRefused: the credentials do not suffice.
        :raises FarmError: the server cannot be read.
        """
        subject = f"registry {self._name} could not be asked for {repository}/{path}"
        response = self._request(repository, path, method, subject)
        if response.status == 404:
            return None
        if response.status != 200:
            raise FarmError(f"{subject}: it answered {response}{error_text(response)}")
        return response

    def _request(
        self, repository: str, path: str, method: str, subject: str, content: Optional[Tuple[str, bytes]] = None
    ) -> Response:
        """Return the server's response, whatever its status; try again what may pass.

        :param subject: begins the message of an error.
        :param content: media type and bytes to send.
        :raises RegistryRefused: the credentials do not suffice.
        :raises FarmError: the server cannot be reached, or is too busy for too long.
        """
        target = f"{self._path}{repository}/{path}" + (f"?ns={self._mirror_of}" if self._mirror_of else "")
        scope = f"repository:{repository}:{'pull,push' if content else 'pull'}"
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
