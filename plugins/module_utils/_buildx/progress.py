# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What BuildKit does, read from what buildx prints with ``--progress plain``."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Dict, List, Optional, Sequence, Set, Tuple

BEGIN, DONE, CACHED, ERROR, CANCELED = "begin", "done", "cached", "error", "canceled"

#: Every step has a number; its line is its name, its end, how far it is, or of its output, after the seconds.
#: Source: moby/buildkit ``util/progress/progressui/printer.go``, the same from 0.6 to 0.32.
_LINE = re.compile(r"#(\d+) (.*)")
_DONE = re.compile(r"DONE (\d+\.\d+)s\Z")
#: What stands before a step of the Dockerfile: a bake target, the platform, the stage, the position; or ``internal``.
_PREFIX = re.compile(r"\[([^\]]+)\] ?(.*)")
#: ``linux/amd64->arm64`` runs on the first and builds for the second.
#: Source: moby/buildkit ``frontend/dockerfile/dockerfile2llb/convert.go``, ``formatTargetPlatform``.
_PLATFORM = re.compile(r"([a-z][a-z0-9]*)(?:\([^)]*\))?/([a-z0-9]+(?:/[a-z0-9]+)?)(?:->([a-z0-9/]+))?\Z")
#: As opposed to an architecture with its variant.
_WHOLE = re.compile(r"[a-z0-9]+/(?!v\d)")
_POSITION = re.compile(r"\d+/\d+\Z")
#: What a step fetches: an image by what its name stands for at the moment, or a URL.
_FETCHED = re.compile(
    r"(?:FROM |docker-image://)(?P<image>\S+@sha256:[0-9a-f]{64})|ADD (?:--\S+ )*(?P<added>(?:https?|git|ssh)://\S+|git@\S+)"
    r"|load git source (?P<git>\S+)|(?P<archive>load remote build context)"
)
#: An image that the Dockerfile names, or the frontend that it is read by.
_NAMED = re.compile(r"(?:load metadata for |resolve image config for docker-image://)(\S+)")
_DIGEST = re.compile(r"@sha256:[0-9a-f]{64}\b")
_CONTEXT = "load build context"
#: What BuildKit does besides the Dockerfile's steps, and people wait for.
_SHOWN = ("exporting ", "pushing ", "merging manifest list ", "importing cache ", "booting buildkit")
#: Seconds from which other work of its own is worth a line.
_LONG = 1.0
_LONGEST_NAME = 120


@dataclass(frozen=True)
class StepEvent:
    """A step that begins or ends.

    :ivar kind: BEGIN, DONE, CACHED, ERROR or CANCELED.
    :ivar step: its name as BuildKit prints it, in one line and without the platform.
    :ivar platform: that it builds for; empty if the line names none, as in a build for one platform.
    :ivar seconds: that it took, of DONE only.
    """

    kind: str
    step: str
    platform: str = ""
    seconds: Optional[float] = None

    def __str__(self) -> str:
        """Return the event as it is shown; what begins ends with an ellipsis."""
        if self.kind == BEGIN:
            return f"{self.step} …"
        if self.kind == DONE:
            return f"{self.step} done {self.seconds:.1f}s"
        return f"{self.step} {'FAILED' if self.kind == ERROR else self.kind}"


@dataclass
class _Step:
    """A step of a build.

    :ivar counted: it is a step of the Dockerfile that BuildKit runs or has in its cache.
    :ivar shown: whether it is worth a line; decided by its name, or by how long it takes.
    """

    line: str
    name: str
    platform: str
    counted: bool
    shown: bool
    ended: bool = False

    def event(self, kind: str, seconds: Optional[float] = None) -> StepEvent:
        return StepEvent(kind, self.name, self.platform, seconds)


@dataclass
class BuildProgress:
    """The progress of one ``buildx build``, read line by line from its standard error.

    :ivar cached: how many steps of the Dockerfile were in the cache; ``FROM`` is none.
    :ivar run: how many were run to their end.
    :ivar fetched: images as ``REFERENCE@DIGEST`` and URLs, each after the platform in front of it, empty where there
        is none; without the images that the Dockerfile names by their digests. BuildKit does a step once for builds
        that run at the same time, and shows it with the name that it has in one of them.
    :ivar named: the images that this build names itself, as it does, frontends among them.
    """

    cached: int = 0
    run: int = 0
    fetched: List[Tuple[str, str]] = field(default_factory=list)
    named: Set[str] = field(default_factory=set)
    _steps: Dict[str, _Step] = field(default_factory=dict)

    def read(self, line: str) -> Optional[StepEvent]:
        """Take a line; return what is worth to be shown of it, None for most lines."""
        match = _LINE.match(line)
        if match is None or match.group(1) == "0":
            return None
        number, text = match.groups()
        step = self._steps.get(number)
        if step is None:
            self._steps[number] = step = self._begun(text)
            return step.event(BEGIN) if step.shown else None
        if step.ended:
            return None
        return self._end(step, text) or _further(step, text)

    def _begun(self, text: str) -> _Step:
        step = _parse(text)
        self.named.update(_NAMED.findall(text))
        match = _FETCHED.search(text)
        found = match and (step.platform, next(filter(None, match.groups())))
        if found and found not in self.fetched and found[1] not in self.named:
            self.fetched.append(found)
        return step

    def _end(self, step: _Step, text: str) -> Optional[StepEvent]:
        """Return the event where the line is the end of a step that is shown."""
        done = _DONE.match(text)
        if done:
            step.ended = True
            self.run += step.counted
            seconds = float(done.group(1))
            return step.event(DONE, seconds) if step.shown or seconds >= _LONG else None
        if text == "CACHED":
            step.ended = True
            self.cached += step.counted
            return step.event(CACHED) if step.shown else None
        if text == "CANCELED":
            step.ended = True
            return step.event(CANCELED) if step.shown else None
        if text.startswith("ERROR: "):
            step.ended = True
            return step.event(ERROR)
        return None


def _further(step: _Step, text: str) -> Optional[StepEvent]:
    """Return the event where the line shows that work which was not worth a line takes long."""
    still = text == step.line or (text.startswith("transferring context: ") and not text.endswith("done"))
    if step.shown or not still:
        return None
    step.shown = True
    return step.event(BEGIN)


def _parse(line: str) -> _Step:
    """Read the name of a step."""
    match = _PREFIX.match(line)
    words, text = (match.group(1).split(), match.group(2)) if match else ([], line)
    platform, words = _platform_of(words)
    own = [word for word in words if word != "internal"]
    is_step = bool(words) and bool(_POSITION.match(words[-1]))
    instruction = "transferring context" if text == _CONTEXT else " ".join(_DIGEST.sub("", text).split())
    name = f"[{' '.join(own)}] {instruction}" if own else instruction
    if len(name) > _LONGEST_NAME:
        name = name[: _LONGEST_NAME - 1] + "…"
    counted = is_step and not text.startswith("FROM ")
    return _Step(line, name, platform, counted, is_step or text.startswith(_SHOWN))


def _platform_of(words: Sequence[str]) -> Tuple[str, List[str]]:
    """Return the platform that is named in a prefix, as far as one is, and the other words."""
    for position, word in enumerate(words):
        match = _PLATFORM.match(word)
        if match:
            system, machine, target = match.groups()
            built = target or machine
            platform = built if _WHOLE.match(built) else f"{system}/{built}"
            return platform, [*words[:position], *words[position + 1 :]]
    return "", list(words)
