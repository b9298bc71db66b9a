# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One server that has a registry's content: the registry itself, which is also written to, or a mirror.

Source of the protocol: the OCI distribution specification.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import time
from typing import BinaryIO, Optional
from urllib.parse import quote

from .._core.errors import FarmError
from .._docker.mistrust import REMEDY
from .auth import RegistryRefused, error_text
from .connections import Body, InterruptedRequest, Response, Unreachable, WrongScheme
from .model import Document, checked_digest, digest_of
from .session import Content, Session

#: Seconds for one document, all attempts together.
_TIMEOUT = 120.0
#: The same for a blob of any size.
_BLOB_TIMEOUT = 3600.0
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


class NotSupported(FarmError):
    """The registry does not do this."""


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

    def read(self, repository: str, kind: str, name: str, to_push: bool = False) -> Optional[Document]:
        """Return a document whose digest fits, None if there is none.

        :param kind: ``manifests`` or ``blobs``.
        :param name: a tag or a digest.
        :param to_push: as for ``digest``.
        :raises FarmError: as ``_get``; or the digest does not fit.
        """
        response = self._get(repository, f"{kind}/{name}", "GET", to_push)
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
                found = str(response.headers["Docker-Content-Digest"])
                return checked_digest(found, f"registry {self._name}: {repository}/manifests/{name}")
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
            response = self._request("PUT", repository, path, subject, True, Content(media_type, content))
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

    def has_blob(self, repository: str, digest: str, to_push: bool = False) -> bool:
        """Return whether there is a blob, which is not transferred.

        :param to_push: as for ``digest``.
        :raises FarmError: as ``_get``.
        """
        return self._get(repository, f"blobs/{digest}", "HEAD", to_push) is not None

    def referrers(self, repository: str, digest: str, to_push: bool = False) -> Optional[bytes]:
        """Return the index of what refers to a manifest, None where the registry knows of nothing.

        Of a registry without the API that is what clients keep under a tag (OCI distribution specification, "Referrers
        Tag Schema").

        :param to_push: as for ``digest``.
        :raises FarmError: as ``_get``.
        """
        with contextlib.suppress(NotSupported):
            response = self._get(repository, f"referrers/{digest}", "GET", to_push)
            if response is not None and response.headers.get("Content-Type", "").startswith("application/vnd.oci"):
                return response.body
        document = self.read(repository, "manifests", digest.replace(":", "-"), to_push)
        return document.content if document else None

    def save(self, repository: str, digest: str, sink: BinaryIO) -> bool:
        """Write a blob to a file; returns False where there is none.

        :raises FarmError: the registry cannot be read, or the digest does not fit.
        """
        path = f"blobs/{digest}"
        subject = f"registry {self._name} could not be asked for {repository}/{path}"
        response = self._request("GET", repository, path, subject, False, sink=sink, timeout=_BLOB_TIMEOUT)
        if response.status == 404:
            return False
        if response.status != 200:
            raise FarmError(f"{subject}: it answered {response}{error_text(response)}")
        algorithm = digest.partition(":")[0]
        actual = hashlib.new(algorithm)
        sink.seek(0)
        for chunk in iter(lambda: sink.read(1 << 20), b""):
            actual.update(chunk)
        if f"{algorithm}:{actual.hexdigest()}" != digest:
            raise FarmError(
                f"registry {self._name}: what it sent as {repository}/{path} has the digest "
                f"{algorithm}:{actual.hexdigest()}; something on the way changed it, or its storage is damaged"
            )
        return True

    def mount(self, repository: str, digest: str, source: str) -> Optional[str]:
        """Let a repository have a blob of another repository of the same registry.

        :param source: the other one; empty for none.
        :return: None where it has it; else where it can be uploaded to.
        :raises FarmError: the registry takes nothing.
        """
        path = "blobs/uploads/" + (f"?mount={digest}&from={quote(source)}" if source else "")
        subject = f"registry {self._name} did not take {repository}/blobs/{digest}"
        # Without a body, but with the length that proxies demand of POST.
        nothing = Content("application/octet-stream", b"")
        response = self._request("POST", repository, path, subject, True, nothing, reading=source)
        if response.status == 201:
            return None
        location = response.headers.get("Location")
        if response.status != 202 or not location:
            raise FarmError(f"{subject}: it answered {response}{error_text(response)}")
        return str(location)

    def upload(self, repository: str, digest: str, location: str, body: Body) -> None:
        """Write a blob.

        :param location: from ``mount``.
        :raises FarmError: the registry does not take it.
        """
        subject = f"registry {self._name} did not take {repository}/blobs/{digest}"
        target = f"{location}{'&' if '?' in location else '?'}digest={quote(digest)}"
        content = Content("application/octet-stream", body)
        response = self._request("PUT", repository, target, subject, True, content, timeout=_BLOB_TIMEOUT)
        if response.status not in _WRITTEN:
            raise FarmError(f"{subject}: it answered {response}{error_text(response)}")

    def delete(self, repository: str, name: str) -> bool:
        """Remove a manifest, or only a tag; returns whether there was one.

        :param name: a tag or a digest.
        :raises NotSupported: the registry removes none.
        :raises FarmError: it cannot be reached, or refuses.
        """
        path = f"manifests/{name}"
        subject = f"registry {self._name} did not remove {repository}/{path}"
        response = self._request("DELETE", repository, path, subject, True, right="delete")
        if response.status == 404:
            return False
        if response.status in (400, 405, 501):
            raise NotSupported(f"{subject}: it answered {response}{error_text(response)}")
        if response.status not in (200, 202, 204):
            raise FarmError(f"{subject}: it answered {response}{error_text(response)}")
        return True

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
            kind = NotSupported if response.status in (400, 405, 501) else FarmError
            raise kind(f"{subject}: it answered {response}{error_text(response)}")
        return response

    def _request(
        self,
        method: str,
        repository: str,
        path: str,
        subject: str,
        push: bool,
        content: Optional[Content] = None,
        sink: Optional[BinaryIO] = None,
        timeout: Optional[float] = None,
        reading: str = "",
        right: str = "push",
    ) -> Response:
        """Return the server's response; try again what may pass.

        :param path: below the repository; or the URL, or the path of the server, that the server gave.
        :param subject: of messages, up to the colon.
        :param push: whether credentials for writing are needed.
        :param sink: takes the body of a response of status 200 in its place.
        :param timeout: seconds, all attempts together; None for those of a document.
        :param reading: another repository that is read.
        :param right: that for writing.
        :raises RegistryRefused: the credentials do not suffice.
        :raises FarmError: the server cannot be reached, or has nothing but what might pass.
        """
        given = path.startswith(("/", "http://", "https://"))
        target = path if given else f"{self._path}{repository}/{path}"
        target += f"?ns={self._mirror_of}" if self._mirror_of else ""
        scope = f"repository:{repository}:pull" + (f",{right}" if push else "")
        scope += f" repository:{reading}:pull" if reading else ""
        started = time.monotonic()
        deadline = started + (timeout or _TIMEOUT)
        attempts = 1 if self._mirror_of else _ATTEMPTS
        for attempt in range(1, attempts + 1):
            pause = _PAUSE * 2 ** (attempt - 1)
            try:
                response = self._session.request(method, target, scope, deadline, content, sink)
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
                f"; {REMEDY} (the option builder has it then), or put it on this controller into "
                f"/etc/docker/certs.d/{self._name}/ca.crt"
            )
        if isinstance(problem, WrongScheme) and "plain HTTP" in str(problem):
            return (
                "; that is believed only of loopback addresses and of a registry that the buildkitd configuration of "
                "the option builder marks 'http = true'"
            )
        return ""
