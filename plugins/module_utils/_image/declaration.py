# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a task of ``image_verify`` declares of an image."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Mapping, Optional, Tuple

from .._buildx.store import chosen_builder
from .._core.errors import FarmError
from .._core.quantities import some_seconds
from .._docker.endpoint import Endpoint
from .._docker.reference import Reference
from .._platform.platform import Platform, parse_all
from .check import CheckResult, Checks, RunResult
from .contents import Depth
from .query import compiled
from .sbom import WantedSbom

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")

#: The option ``run`` of the modules that run images.
RUN: Mapping[str, Any] = {
    "type": "dict",
    "options": {
        "command": {"type": "list", "elements": "str"},
        "expected": {"type": "str"},
        "expected_regex": {"type": "str"},
        "timeout": {"type": "float", "default": 120},
    },
}

#: What of a task may be said of each of its images.
IMAGE: Mapping[str, Any] = {
    "platforms": {"type": "list", "elements": "str"},
    "exact": {"type": "bool"},
    "digest": {"type": "str"},
    "media_types": {"type": "str", "choices": ["oci", "docker"]},
    "annotations": {"type": "dict"},
    "labels": {"type": "dict"},
    "provenance": {
        "type": "dict",
        "options": {
            "builder": {"type": "str"},
            "source": {"type": "str"},
            "revision": {"type": "str"},
            "bases": {"type": "dict"},
        },
    },
    "sbom": {"type": "bool"},
    "sbom_contents": {
        "type": "dict",
        "options": {
            "format": {"type": "str"},
            "packages": {"type": "dict"},
            "without": {"type": "dict"},
            "min_packages": {"type": "int"},
        },
    },
    "max_size": {"type": "str"},
    "max_age": {"type": "str"},
    "blobs": {"type": "bool"},
    "query": {"type": "list", "elements": "str"},
    "run": RUN,
    "programs": {"type": "bool"},
}
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30}
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


@dataclass(frozen=True)
class Expectation:
    """What each platform's image is to be run with, and what it has to print.

    :ivar command: replaces the image's own command; empty leaves that.
    :ivar output: ``{platform}`` and ``{arch}`` in it stand for the platform's, as in ``pattern``.
    """

    command: Tuple[str, ...]
    output: Optional[str]
    pattern: Optional[str]
    timeout: float

    @classmethod
    def from_params(cls, raw: Mapping[str, Any]) -> Expectation:
        """Read the option ``run``.

        :raises FarmError: the regular expression is none, or nothing could be run in the time.
        """
        pattern = raw.get("expected_regex")
        try:
            re.compile(_filled(pattern or "", "", ""))
        except re.error as exc:
            raise FarmError(f"run: expected_regex {pattern!r} is not a regular expression: {exc}") from exc
        timeout = some_seconds("run: timeout", float(raw["timeout"]))
        return cls(tuple(raw.get("command") or ()), raw.get("expected"), pattern, timeout)

    def problem(self, platform: Platform, run: RunResult) -> Optional[str]:
        """Return how a run differs from what is expected, None if it does not."""
        if run.rc != 0:
            output = run.stderr or run.stdout or "no output"
            hint = ""
            if "exec format error" in output:
                hint = "; no QEMU handler runs it there: see the module buildfarm.multiarch.binfmt"
            return f"exit status {run.rc} ({output}){hint}"
        if self.output is not None:
            wanted = _filled(self.output, str(platform), platform.arch).strip()
            if run.stdout != wanted:
                return f"printed {run.stdout!r}, wanted {wanted!r}"
        if self.pattern is not None:
            pattern = _filled(self.pattern, re.escape(str(platform)), platform.arch)
            if not re.search(pattern, run.stdout):
                return f"printed {run.stdout!r}, wanted a match of {pattern!r}"
        return None


@dataclass(frozen=True)
class ImageChecks:
    """What each platform's image is put to on an engine.

    :ivar run: what it has to print, None where it is not to be run.
    :ivar examine: whether the files of the programs that it starts are to be examined.
    """

    run: Optional[Expectation]
    examine: bool

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> Optional[ImageChecks]:
        """Read the options ``run`` and ``programs``, None where they want nothing of an engine.

        :raises FarmError: the regular expression is none.
        """
        run = params.get("run")
        examine = bool(run) if params.get("programs") is None else bool(params["programs"])
        return cls(Expectation.from_params(run) if run else None, examine) if run or examine else None

    @property
    def checks(self) -> Checks:
        """The checks as an engine takes them."""
        return Checks(self.run.command, self.examine, True, self.run.timeout) if self.run else Checks()

    def problem(self, platform: Platform, result: CheckResult) -> Optional[str]:
        """Return what is wrong with a platform's image by what the checks found, None if nothing."""
        if self.run and result.run:
            return self.run.problem(platform, result.run)
        return result.findings.problem if result.findings else None


@dataclass(frozen=True)
class WantedProvenance:
    """What the provenance of each platform's image has to say.

    :ivar builder: a regular expression that has to match somewhere in the builder's name, None for any.
    :ivar source: the same for where the sources are from.
    :ivar bases: digests of base images by their names; None for a digest accepts any.
    """

    builder: Optional[str] = None
    source: Optional[str] = None
    revision: Optional[str] = None
    bases: Mapping[str, Optional[str]] = field(default_factory=dict)

    @classmethod
    def from_params(cls, raw: Mapping[str, Any]) -> WantedProvenance:
        """Read the option ``provenance``.

        :raises FarmError: a regular expression, a name or a digest is none.
        """
        for option in ("builder", "source"):
            try:
                re.compile(raw.get(option) or "")
            except re.error as exc:
                raise FarmError(f"provenance: {option} {raw[option]!r} is no regular expression: {exc}") from exc
        bases = {str(Reference.parse(str(name))): _digest(digest) for name, digest in (raw.get("bases") or {}).items()}
        return cls(raw.get("builder"), raw.get("source"), raw.get("revision"), bases)


@dataclass(frozen=True)
class Query:
    """A JMESPath expression that has to be true of an image.

    :ivar search: applies it.
    """

    text: str
    search: Callable[[Any], Any] = field(compare=False, repr=False)


@dataclass(frozen=True)
class Wanted:
    """What an image has to be; what is None or empty may be anything.

    :ivar platforms: that the image must have; empty for any.
    :ivar exact: whether it may have no others.
    :ivar media_types: ``oci`` or ``docker``, of index and manifests.
    :ivar annotations: of the whole, or else of each platform; None for a value accepts any, as in ``labels``.
    :ivar labels: of each platform's image.
    :ivar sbom: whether each platform has one, or none.
    :ivar sbom_contents: what they have to say.
    :ivar max_size: bytes of each platform's config and compressed layers.
    :ivar max_age: seconds since each platform's image was created.
    :ivar blobs: whether all configs and layers are looked for.
    :ivar checks: what each platform's image is put to; None for nothing.
    """

    reference: Reference
    platforms: Tuple[Platform, ...] = ()
    exact: bool = True
    digest: Optional[str] = None
    media_types: Optional[str] = None
    annotations: Mapping[str, Optional[str]] = field(default_factory=dict)
    labels: Mapping[str, Optional[str]] = field(default_factory=dict)
    provenance: Optional[WantedProvenance] = None
    sbom: Optional[bool] = None
    sbom_contents: Optional[WantedSbom] = None
    max_size: Optional[int] = None
    max_age: Optional[float] = None
    blobs: bool = False
    queries: Tuple[Query, ...] = ()
    checks: Optional[ImageChecks] = None

    @property
    def depth(self) -> Depth:
        """What has to be read to tell."""
        everything = bool(self.queries)
        return Depth(
            configs=everything or bool(self.labels or self.checks) or self.max_age is not None,
            provenance=everything or self.provenance is not None,
            sboms=self.sbom_contents is not None,
            blobs=self.blobs,
            referrers=everything,
        )

    @classmethod
    def from_params(cls, name: str, params: Mapping[str, Any]) -> Wanted:
        """Read the options of one image.

        :raises FarmError: an option's value is wrong by itself.
        """
        provenance = params.get("provenance")
        contents = params.get("sbom_contents")
        return cls(
            reference=Reference.parse(name),
            platforms=parse_all(params.get("platforms") or ()),
            exact=params.get("exact") is not False,
            digest=_digest(params.get("digest")),
            media_types=params.get("media_types"),
            annotations=_texts(params.get("annotations")),
            labels=_texts(params.get("labels")),
            provenance=None if provenance is None else WantedProvenance.from_params(provenance),
            sbom=params.get("sbom"),
            sbom_contents=None if contents is None or params.get("sbom") is False else _wanted_sbom(contents),
            max_size=_amount("max_size", params.get("max_size"), r"([kmg]i?)?b?", _UNITS, "200MB or 1GiB"),
            max_age=_amount("max_age", params.get("max_age"), "([smhdw])?", _SECONDS, "12h or 30d"),
            blobs=bool(params.get("blobs")),
            queries=tuple(Query(text, compiled(text)) for text in params.get("query") or ()),
            checks=ImageChecks.from_params(params),
        )


@dataclass(frozen=True)
class Declaration:
    """A task's options, normalised.

    :ivar builder: name of the builder whose nodes run the images, None for none.
    :ivar endpoints: engines by the platforms that they run, in preference to the builder's nodes.
    :ivar wait: seconds in which what a registry does not have may still come.
    """

    images: Tuple[Wanted, ...]
    builder: Optional[str]
    endpoints: Mapping[Platform, Endpoint]
    wait: float

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> Declaration:
        """Read a task's options; those of one of the images go before the task's own.

        :raises FarmError: an option's value is wrong by itself.
        """
        listed = [{"name": params["name"]}] if params.get("images") is None else params["images"]
        task = {name: params.get(name) for name in IMAGE}
        wait = params.get("wait")
        return cls(
            images=tuple(_wanted({**task, **_given(image)}) for image in listed),
            builder=chosen_builder(params),
            endpoints={
                Platform.parse(platform): Endpoint.parse(endpoint)
                for platform, endpoint in (params.get("endpoints") or {}).items()
            },
            wait=0.0 if wait is None else float(wait),
        )


def _given(options: Mapping[str, Any]) -> Dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _wanted(options: Mapping[str, Any]) -> Wanted:
    """Read what is wanted of one image."""
    try:
        return Wanted.from_params(options["name"], options)
    except FarmError as exc:
        raise exc.about(f"image {options['name']}") from exc


def _wanted_sbom(raw: Mapping[str, Any]) -> WantedSbom:
    """Read the option ``sbom_contents``."""
    packages, without = _texts(raw.get("packages")), _texts(raw.get("without"))
    return WantedSbom(raw.get("format") or None, packages, without, int(raw.get("min_packages") or 0))


def _digest(text: Optional[str]) -> Optional[str]:
    if text and not _DIGEST.match(text):
        raise FarmError(f"digest {text!r}: wanted sha256: and 64 hexadecimal digits in lower case")
    return text or None


def _texts(values: Optional[Mapping[str, Any]]) -> Dict[str, Optional[str]]:
    """Return a dictionary of texts, of what YAML takes for other types too."""
    found = {}
    for name, value in (values or {}).items():
        text = str(value).lower() if isinstance(value, bool) else str(value)
        found[str(name)] = None if value is None else text
    return found


def _amount(option: str, text: Optional[str], unit: str, factors: Mapping[str, int], example: str) -> Optional[int]:
    """Return a number with a unit as that of its smallest unit, None for nothing.

    :raises FarmError: it is none.
    """
    if text is None or not str(text).strip():
        return None
    match = re.match(rf"([0-9]+(?:\.[0-9]+)?)\s*{unit}\Z", str(text).strip(), re.IGNORECASE)
    if not match:
        raise FarmError(f"{option} {text!r}: wanted a number with a unit, as {example}")
    return int(float(match.group(1)) * factors[(match.group(2) or "").lower()])


def _filled(text: str, platform: str, arch: str) -> str:
    return text.replace("{platform}", platform).replace("{arch}", arch)
