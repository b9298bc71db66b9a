# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Locks on engines, which hold between controllers: what changes a node's containers is done by one run at a time.

An engine has one container of a name, so creating it takes the lock, at one moment and for all controllers. Its program
reads what the holder's connection would send, which is nothing. So it ends, and the engine removes it, as soon as that
connection ends, however the holder ended; a machine that lost its power is noticed by the engine's TCP within minutes.
Where the engine is restarted, the lock is gone as well.

Several engines are taken all at once, or none: who finds one of them taken gives back the others before it waits. So no
two runs wait for each other.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import secrets
import time
from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Union

from .._core.environment import user
from .._core.errors import FarmError
from .._core.parallel import each
from .._core.runner import Runner
from .client import Conversation, conversation, message
from .context_store import ContextStore
from .endpoint import Endpoint
from .transport import Unreachable, classify_error, open_connection, resolve

NAME = "buildfarm_lock"
LABEL = "com.github.buildfarm.multiarch.lock"
_RUN = f"{LABEL}.run"
#: Every image of BuildKit has it, and no other program can be counted on. It reads its standard input to the end and
#: needs no daemon. Source: moby/buildkit ``cmd/buildctl/debug/dumpllb.go``.
_PROGRAM = ("buildctl", "debug", "dump-llb")
#: Seconds after which a container that was created for a lock and does not run is nobody's: its holder has ended
#: between two requests.
_STARTS = 30.0
_INTERVAL = 0.5
_TIMEOUT = 60.0
#: How often a lock is tried at once that has just gone when its holder is to be read.
_ATTEMPTS = 10
_ATTACH = {"Connection": "Upgrade", "Upgrade": "tcp"}


@dataclass(frozen=True)
class Held:
    """A lock as its engine tells it.

    :ivar holder: in words.
    :ivar run: tells apart runs of the same controller.
    :ivar since: RFC 3339, by the engine's clock.
    """

    identifier: str
    holder: str
    run: str
    since: str
    running: bool

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> Held:
        """Read a container as the engine describes it."""
        labels = document["Config"].get("Labels") or {}
        return cls(
            identifier=str(document["Id"]),
            holder=str(labels.get(LABEL) or "somebody who does not say so"),
            run=str(labels.get(_RUN) or ""),
            since=str(document["Created"]).partition(".")[0].rstrip("Z") + "Z",
            running=bool(document["State"].get("Running")),
        )

    def refusal(self, endpoint: str, waited: float) -> str:
        """Return one sentence for who has waited for it in vain."""
        return (
            f"engine {endpoint}: another run works on its containers, {self.holder}, since {self.since}; waited"
            f" {waited:g} s for it, nothing was changed. Run again when it has ended; if it is gone for good,"
            f" 'docker rm -f {NAME}' on that engine ends its claim"
        )


def describe_holder(what: str, controller: str, environment: Optional[Mapping[str, str]] = None) -> str:
    """Return in words who holds a lock, for those who wait.

    :param what: is being done.
    :param controller: what it calls itself.
    :param environment: in which AWX names the job, by default the process's own.
    """
    job = (os.environ if environment is None else environment).get("JOB_ID", "")
    return f"{what} by {user()} on {controller}" + (f", AWX job {job}" if job.isdigit() else "")


@dataclass(frozen=True)
class _Taken:
    """A lock of this run; open as long as it holds."""

    endpoint: str
    identifier: str
    connection: contextlib.ExitStack


@dataclass(frozen=True)
class _Other:
    """A lock of another run."""

    endpoint: str
    held: Held


class EngineLocks:
    """The locks of one run.

    :param runner: starts credential helpers, where an engine has to pull the image.
    :param holder: in words.
    :param timeout: seconds to wait for others.
    """

    def __init__(self, contexts: ContextStore, runner: Runner, holder: str, timeout: float) -> None:
        self._contexts, self._runner, self._timeout = contexts, runner, timeout
        self._run = secrets.token_hex(8)
        self._labels = {LABEL: holder, _RUN: self._run}
        self._taken: List[_Taken] = []
        #: Sentences on engines that cannot be locked.
        self.warnings: List[str] = []

    @contextlib.contextmanager
    def held(self, images: Mapping[str, str]) -> Iterator[None]:
        """Hold the locks of engines; they are given back at the end.

        :param images: of BuildKit, by the endpoints of the engines. One that cannot be had stops nothing here: what
            needs it will say why.
        :raises FarmError: others held one for longer than was to be waited.
        """
        self._taken = self._take(images)
        try:
            yield
        finally:
            taken, self._taken = self._taken, []
            self._give_back(taken)

    def lost(self) -> bool:
        """Return whether a lock has gone, as it does when its engine is restarted."""

        def is_lost(lock: _Taken) -> bool:
            try:
                held = self._read(lock.endpoint, lock.identifier)
            except FarmError:
                return True
            return held is None or not held.running

        return any(each(self._taken, is_lost))

    def _take(self, images: Mapping[str, str]) -> List[_Taken]:
        deadline = time.monotonic() + self._timeout
        while True:
            found = each(sorted(images), lambda endpoint: self._try(endpoint, images[endpoint]))
            taken = [one for one in found if isinstance(one, _Taken)]
            others = [one for one in found if isinstance(one, _Other)]
            if not others:
                return taken
            self._give_back(taken)
            self._await(others[0], deadline)
            # Who waited for the same does not go on at the same moment.
            time.sleep(random.uniform(0, _INTERVAL))

    def _try(self, endpoint: str, image: str) -> Union[_Taken, _Other, None]:
        """Take a lock; None where the engine cannot be locked, or this run has its lock already."""
        try:
            return self._created(endpoint, image)
        except FarmError as exc:
            self.warnings.append(f"engine {endpoint} could not be locked against other runs: {exc.message}")
            return None

    def _created(self, endpoint: str, image: str) -> Union[_Taken, _Other, None]:
        host = {"AutoRemove": True, "NetworkMode": "none"}
        streams = {"OpenStdin": True, "StdinOnce": True, "AttachStdin": True}
        spec = {"Image": image, "Entrypoint": list(_PROGRAM), "Cmd": [], "Labels": self._labels, "HostConfig": host}
        with conversation(Endpoint.parse(endpoint), self._contexts, self._timeout + _TIMEOUT) as engine:
            for _attempt in range(_ATTEMPTS):
                status, body = engine.send("POST", f"/containers/create?name={NAME}", {**spec, **streams})
                if status == 201:
                    return self._started(endpoint, engine, str(json.loads(body)["Id"]))
                held = self._found(engine, NAME) if status == 409 else None
                if held:
                    return None if held.run == self._run else _Other(endpoint, held)
                if status == 404:
                    # Its imports would delay all other runs.
                    from .pull import pull

                    pull(engine, image, self._contexts.config_dir, self._runner)
                elif status != 409:
                    break
        raise FarmError(message(body))

    def _started(self, endpoint: str, engine: Conversation, identifier: str) -> _Taken:
        """Start the program of a lock, which ends with the connection that it reads from.

        :raises FarmError: it did not start, and is gone.
        """
        connection = contextlib.ExitStack()
        try:
            self._attach(endpoint, identifier, connection)
            status, body = engine.request("POST", f"/containers/{identifier}/start")
            if status not in (204, 304):
                raise FarmError(message(body))
        except BaseException:
            with contextlib.suppress(FarmError, OSError):
                connection.close()
                self._remove(endpoint, identifier)
            raise
        return _Taken(endpoint, identifier, connection)

    def _attach(self, endpoint: str, identifier: str, cleanup: contextlib.ExitStack) -> None:
        """Open the connection that a container reads from.

        :param cleanup: closes it.
        """
        parsed = Endpoint.parse(endpoint)
        route = resolve(parsed, self._contexts)
        try:
            connection = open_connection(route, time.monotonic() + _TIMEOUT, cleanup)
            path = f"/containers/{identifier}/attach?stream=1&stdin=1&stdout=1&stderr=1"
            connection.request("POST", path, headers={"Host": "docker", **_ATTACH})
            answer = connection.getresponse()
        except (OSError, http.client.HTTPException, Unreachable) as exc:
            raise FarmError(str(classify_error(exc, route, _TIMEOUT, trusted=True))) from exc
        if answer.status not in (101, 200):
            raise FarmError(message(answer.read()))
        # The answer of an engine that does not upgrade is what keeps the connection open.
        cleanup.callback(answer.close)

    def _give_back(self, taken: Sequence[_Taken]) -> None:
        def release(lock: _Taken) -> None:
            try:
                with conversation(Endpoint.parse(lock.endpoint), self._contexts, _TIMEOUT) as engine:
                    # Asked first, as an engine takes the question for one that is gone for an error.
                    engine.ask("POST", f"/containers/{lock.identifier}/wait?condition=removed")
                    lock.connection.close()
                    engine.answer()
            except (FarmError, OSError):
                with contextlib.suppress(FarmError, OSError):
                    lock.connection.close()
                    self._remove(lock.endpoint, lock.identifier)

        each(taken, release)

    def _await(self, other: _Other, deadline: float) -> None:
        """Wait until another run's lock is gone; one whose holder has ended before it held is removed.

        :raises FarmError: the time is over.
        """
        began, seen = time.monotonic(), other.held
        while seen.identifier == other.held.identifier:
            now = time.monotonic()
            if not seen.running and now - began >= _STARTS:
                self._remove(other.endpoint, seen.identifier)
            if now >= deadline:
                raise FarmError(seen.refusal(other.endpoint, self._timeout), holder=seen.holder)
            time.sleep(min(_INTERVAL, max(0.0, deadline - now)))
            try:
                found = self._read(other.endpoint, other.held.identifier)
            except FarmError:
                continue  # Its engine is being restarted.
            if found is None:
                return
            seen = found

    def _read(self, endpoint: str, identifier: str) -> Optional[Held]:
        """Return a lock, None if it is gone.

        :raises FarmError: the engine cannot be reached, or did not tell.
        """
        with conversation(Endpoint.parse(endpoint), self._contexts, _TIMEOUT) as engine:
            return self._found(engine, identifier)

    @staticmethod
    def _found(engine: Conversation, name: str) -> Optional[Held]:
        status, body = engine.request("GET", f"/containers/{name}/json")
        if status == 404:
            return None
        if status != 200:
            raise FarmError(message(body))
        document: Dict[str, Any] = json.loads(body)
        return Held.parse(document)

    def _remove(self, endpoint: str, identifier: str) -> None:
        """Remove one container, by what no later one is called."""
        with conversation(Endpoint.parse(endpoint), self._contexts, _TIMEOUT) as engine:
            engine.request("DELETE", f"/containers/{identifier}?force=1&v=1")
