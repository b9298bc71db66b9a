# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What BuildKit remembers of its builds. Everything here is pure.

BuildKit keeps the last builds on the node, whoever ran them, and its own ``buildctl`` in the node's container prints
them, so neither buildx nor anything that a controller keeps is needed.

Sources: moby/buildkit ``api/services/control/control.proto`` (``BuildHistoryRecord``), ``client/graph.go``
(``SolveStatus``), ``cmd/buildctl/debug/histories.go`` and ``logs.go``.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field, replace
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from .._core.errors import FarmError
from .._core.urls import mask
from .._prune.prediction import parse_time

HISTORIES = ("buildctl", "debug", "histories", "--format", "{{json .}}")
STEPS = ("buildctl", "debug", "logs", "--progress", "rawjson")
SUCCEEDED, FAILED, CANCELED, RUNNING = "succeeded", "failed", "canceled", "running"
_ARGUMENT = "build-arg:"
#: What of a frontend's attributes decides what a build does, with the words for it.
_DECIDES = (
    (_ARGUMENT, "build argument {}"),
    ("label:", "label {}"),
    ("context:", "named context {}"),
    ("target", "the target"),
    ("filename", "the Dockerfile's name"),
    ("no-cache", "the option no-cache"),
    ("source", "the frontend"),
)
_DELETED = 2
#: Characters of a value at least that is replaced by its name: a shorter one is likely to stand elsewhere too.
_SHORTEST = 4
#: Of gRPC. Source: google/rpc ``code.proto``.
_CANCELED_CODE = 1
#: Steps of BuildKit's own, which are no reason for others to be run.
_OWN_STEP = re.compile(r"\[(?:\S+ )?(?:internal|auth)\]|exporting |importing |resolve |pushing |merging |sending ")
_STAGE = re.compile(r"\[[^\]]*\d+/\d+\]")


@dataclass(frozen=True)
class Step:
    """One step of a build.

    :ivar start: seconds after the build's begin.
    :ivar duration: seconds.
    """

    name: str
    start: float
    duration: float
    cached: bool = False
    error: str = ""

    @property
    def is_own(self) -> bool:
        """Whether it is of BuildKit's own making, and not of a Dockerfile."""
        return not _STAGE.match(self.name) or bool(_OWN_STEP.match(self.name))


@dataclass(frozen=True)
class Build:
    """One build.

    :ivar started: seconds since 1970, by the node's clock, as ``ended``, which is None while it runs.
    :ivar status: SUCCEEDED, FAILED, CANCELED or RUNNING.
    :ivar name: the repository it is for, else where its context is from, else its Dockerfile's name and its own.
    :ivar platforms: those that it names; none where the node decides.
    :ivar steps: how many, of which ``cached`` were taken from the cache.
    :ivar error: why it failed.
    :ivar digests: of what came out.
    :ivar inputs: digests of what decides what it does, by the words for it.
    :ivar timeline: its steps, as far as they were read.
    :ivar reasons: why not everything was taken from the cache, as far as that shows.
    :ivar arguments: the names of build arguments by their values, which steps and errors are not to show.
    """

    ref: str
    started: float
    ended: Optional[float]
    status: str
    name: str
    platforms: Tuple[str, ...] = ()
    steps: int = 0
    cached: int = 0
    error: str = ""
    digests: Tuple[str, ...] = ()
    inputs: Mapping[str, str] = field(default_factory=dict)
    timeline: Tuple[Step, ...] = ()
    reasons: Tuple[str, ...] = ()
    arguments: Mapping[str, str] = field(default_factory=dict, repr=False)


def parse_histories(output: str) -> Tuple[Build, ...]:
    """Read what ``HISTORIES`` prints; returns the builds, the newest first.

    :raises FarmError: it is something else.
    """
    found: Dict[str, Build] = {}
    try:
        for line in filter(str.strip, output.splitlines()):
            event = _folded(json.loads(line))
            record = _folded(event.get("record") or {})
            ref = str(record.get("ref") or "")
            if event.get("type") == _DELETED:
                found.pop(ref, None)
            elif ref:
                found[ref] = _build(ref, record)
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise FarmError(f"BuildKit's history cannot be read ({exc}): {output.strip()[:200]!r}") from exc
    return tuple(sorted(found.values(), key=lambda build: (-build.started, build.ref)))


def parse_steps(output: str, build: Build) -> Tuple[Step, ...]:
    """Read what ``STEPS`` prints of a build; returns the steps that were begun, in the order of their begin.

    What cannot be read is left out: a long log may have been cut off. BuildKit names a step by its line in the
    Dockerfile with the values of arguments in it; here these are their names again.
    """
    merged: Dict[str, Dict[str, Any]] = {}
    for line in output.splitlines():
        try:
            vertexes = _folded(json.loads(line)).get("vertexes") or ()
        except (ValueError, AttributeError):
            continue
        for vertex in map(_folded, vertexes):
            digest = str(vertex.get("digest"))
            step = merged.setdefault(digest, {"starts": [], "ends": []})
            step["name"] = str(vertex.get("name") or step.get("name") or digest)
            step["starts"] += [parse_time(vertex["started"])] if vertex.get("started") else []
            step["ends"] += [parse_time(vertex["completed"])] if vertex.get("completed") else []
            step["cached"] = bool(vertex.get("cached")) or step.get("cached", False)
            step["error"] = str(vertex.get("error") or step.get("error") or "")
    steps = [
        Step(
            name=_line(step["name"], build.arguments),
            start=max(0.0, min(step["starts"]) - build.started),
            duration=max(0.0, max(step["ends"] or step["starts"]) - min(step["starts"])),
            cached=step["cached"],
            error=_line(step["error"], build.arguments),
        )
        for step in merged.values()
        if step["starts"]
    ]
    return tuple(sorted(steps, key=lambda step: (step.start, step.duration)))


def with_reasons(builds: Sequence[Build]) -> Tuple[Build, ...]:
    """Return builds of one node with why they did not take everything from the cache, as far as that shows.

    :param builds: the newest first.
    """
    return tuple(replace(build, reasons=_reasons(build, builds[number + 1 :])) for number, build in enumerate(builds))


def _reasons(build: Build, earlier: Sequence[Build]) -> Tuple[str, ...]:
    if build.status == SUCCEEDED and build.steps and build.cached == build.steps:
        return ()
    found: List[str] = []
    last = next((one for one in earlier if (one.name, one.platforms) == (build.name, build.platforms)), None)
    if last is not None:
        for words in {**last.inputs, **build.inputs}:
            before, after = last.inputs.get(words), build.inputs.get(words)
            if before != after:
                found.append(f"{words} {'changed' if before and after else 'is new' if after else 'is gone'}")
    ran = next((step for step in build.timeline if not step.cached and not step.is_own), None)
    if ran is not None:
        found.append(f"ran from {ran.name}")
    return tuple(found)


def _build(ref: str, record: Mapping[str, Any]) -> Build:
    attributes = {str(key): str(value) for key, value in (record.get("frontendattrs") or {}).items()}
    error = _folded(record.get("error") or {})
    ended = _time(record.get("completedat"))
    status = SUCCEEDED
    if ended is None:
        status = RUNNING
    elif error:
        status = CANCELED if error.get("code") == _CANCELED_CODE else FAILED
    arguments = {
        value: key[len(_ARGUMENT) :]
        for key, value in attributes.items()
        if key.startswith(_ARGUMENT) and len(value) >= _SHORTEST
    }
    platforms = [one for one in (attributes.get("platform") or "").split(",") if one]
    answer = record.get("exporterresponse") or {}
    results = [_folded(one) for one in (record.get("results") or {}).values()]
    results += [_folded(record.get("result") or {})]
    digests = [str(answer.get("containerimage.digest") or "")]
    for result in results:
        descriptors = [result.get("resultdeprecated"), *(result.get("results") or {}).values()]
        digests += [str(_folded(one or {}).get("digest") or "") for one in descriptors]
    return Build(
        ref=ref,
        started=_time(record.get("createdat")) or 0.0,
        ended=ended,
        status=status,
        name=_name(ref, record, attributes),
        platforms=tuple(platforms),
        steps=int(record.get("numtotalsteps") or 0),
        cached=int(record.get("numcachedsteps") or 0),
        error=_line(str(error.get("message") or ""), arguments),
        digests=tuple(dict.fromkeys(filter(None, digests))),
        inputs=_inputs(attributes),
        arguments=arguments,
    )


def _name(ref: str, record: Mapping[str, Any], attributes: Mapping[str, str]) -> str:
    for exporter in record.get("exporters") or ():
        names = str((_folded(exporter).get("attrs") or {}).get("name") or "")
        if names:
            return mask(names.partition(",")[0])
    for key in ("vcs:source", "context", "vcs:localdir:context"):
        if attributes.get(key):
            return mask(attributes[key])
    # A local context has no name here, and others may have a Dockerfile of that name too.
    return f"{attributes.get('filename') or 'build'} ({ref[:8]})"


def _inputs(attributes: Mapping[str, str]) -> Dict[str, str]:
    """Return digests of attributes by their words: values may be secrets, and are not kept."""
    found = {}
    for key, value in sorted(attributes.items()):
        for prefix, words in _DECIDES:
            if key == prefix or (prefix.endswith(":") and key.startswith(prefix)):
                found[words.format(key[len(prefix) :])] = hashlib.sha256(value.encode()).hexdigest()
    return found


def _time(raw: Any) -> Optional[float]:
    """Return a time in seconds since 1970, None where there is none; versions of BuildKit write it in two ways."""
    if isinstance(raw, Mapping):
        seconds = int(raw.get("seconds") or 0)
        return seconds + int(raw.get("nanos") or 0) / 1e9 if seconds > 0 else None
    return parse_time(str(raw)) if raw else None


def _folded(raw: Any) -> Dict[str, Any]:
    """Return a JSON object with its keys in lower case: versions of BuildKit differ in how they spell them.

    :raises AttributeError: it is no object.
    """
    return {str(key).lower(): value for key, value in raw.items()}


def _line(text: str, arguments: Mapping[str, str]) -> str:
    """Return a text as one line, with arguments' names for their values, and without what may be secret in its URLs."""
    for value, name in sorted(arguments.items(), key=lambda pair: -len(pair[0])):
        text = text.replace(value, f"${name}")
    return mask(" ".join(text.split()))[:500]
