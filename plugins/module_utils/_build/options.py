# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options of ``docker buildx build`` that say how a Dockerfile is built, whatever node builds it for which tags."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Pattern, Sequence, Tuple, Union

from .._buildx.cli import Version
from .._core.environment import option
from .._core.errors import FarmError
from .._core.urls import MASK
from .._platform.platform import Platform, parse_all
from .annotations import Annotations
from .caches import Caches
from .contexts import NamedContext, context_requirements, named_contexts
from .exposed import Agent, Secret
from .fields import attributes_of
from .runtime import Runtime

_BUILD_ARG = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*\Z")
_LABEL = re.compile(r"[^\s=-][^\s=]*\Z")
_TARGET = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*\Z")
_ATTESTATION = re.compile(r"(?:true|false|[a-z-]+=[^\s]+)\Z")
#: https://reproducible-builds.org/specs/source-date-epoch/
_EPOCH = "SOURCE_DATE_EPOCH"

PROVENANCE, SBOM = "provenance", "sbom"
#: What evaluates a Dockerfile without building it.
CALLS = ("check", "outline", "targets")

#: buildx's first version with attestations.
_ATTESTATIONS: Version = (0, 10, 0)
_NO_CACHE_FILTER: Version = (0, 8, 0)
_ENVIRONMENT_SECRETS: Version = (0, 6, 0)
_CALL: Version = (0, 15, 0)


@dataclass(frozen=True)
class BuildOptions:
    """How a Dockerfile is built, normalised.

    :ivar dockerfile: its text, for buildx's standard input; empty where it is a file.
    :ivar call: what is done with it instead of building; empty to build.
    :ivar provenance: ``true``, ``false``, or the attestation's options.
    :ivar sbom: likewise.
    :ivar agents: ssh agents and keys.
    """

    dockerfile: str = ""
    call: str = ""
    build_args: Tuple[Tuple[str, str], ...] = ()
    labels: Tuple[Tuple[str, str], ...] = ()
    target: str = ""
    no_cache: bool = False
    no_cache_filter: Tuple[str, ...] = ()
    pull: bool = False
    provenance: str = "false"
    sbom: str = "false"
    contexts: Tuple[NamedContext, ...] = ()
    annotations: Annotations = field(default_factory=Annotations)
    caches: Caches = field(default_factory=Caches)
    secrets: Tuple[Secret, ...] = ()
    agents: Tuple[Agent, ...] = ()
    runtime: Runtime = field(default_factory=Runtime)

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> BuildOptions:
        """Read a task's options.

        :raises FarmError: an option's value is wrong, or two contradict each other.
        """
        platforms = parse_all(params.get("platforms") or ())
        attestations = _attestations(params)
        return cls(
            dockerfile=_dockerfile(params),
            call=_call(params.get("call")),
            build_args=_build_args(params.get("build_args") or {}),
            labels=_pairs("labels", params.get("labels"), _LABEL),
            target=_checked("target", params.get("target"), _TARGET),
            no_cache=bool(params.get("no_cache")),
            no_cache_filter=_no_cache_filter(params),
            pull=bool(params.get("pull")),
            provenance=attestations[PROVENANCE],
            sbom=attestations[SBOM],
            contexts=named_contexts(params.get("contexts")),
            annotations=Annotations.from_param(params.get("annotations"), platforms),
            caches=Caches.from_params(params, platforms),
            secrets=_secrets(params.get("secrets") or ()),
            agents=tuple(Agent.from_param(str(text)) for text in params.get("ssh") or ()),
            runtime=Runtime.from_params(params),
        )

    @property
    def attested(self) -> bool:
        """Whether the image gets attestations."""
        return self.provenance != "false" or self.sbom != "false"

    @property
    def index_annotations(self) -> Tuple[Tuple[str, str], ...]:
        """The keys and values of the index's annotations."""
        return self.annotations.index

    @property
    def descriptor_annotations(self) -> Tuple[Tuple[Optional[Platform], str, str], ...]:
        """The annotations of the manifests' descriptors in the index: platform, None for all, key, value."""
        return self.annotations.descriptors

    def requirements(self) -> List[Tuple[str, Version]]:
        """Return what of these options not every buildx has, in the user's words, and its first version with that."""
        own = (
            (self.attested, "provenance or sbom", _ATTESTATIONS),
            (self.no_cache_filter, "no_cache_filter", _NO_CACHE_FILTER),
            (any(one.variable for one in self.secrets), "secrets from env or value", _ENVIRONMENT_SECRETS),
            (self.call, "call", _CALL),
        )
        return [
            *((feature, floor) for given, feature, floor in own if given),
            *context_requirements(self.contexts),
            *self.annotations.requirements(),
            *self.caches.requirements(),
            *self.runtime.requirements(),
        ]

    def problems(self) -> Tuple[str, ...]:
        """Return what of this controller these options need and is not there, as sentences."""
        needed: Sequence[Union[NamedContext, Secret, Agent]] = (*self.contexts, *self.secrets, *self.agents)
        return (*(problem for problem in (one.problem() for one in needed) if problem), *self.caches.problems())

    def arguments(
        self, version: Version, platforms: Sequence[Platform] = (), with_index: bool = True, whole: bool = True
    ) -> List[str]:
        """Return the arguments of ``docker buildx build``.

        :param version: buildx's.
        :param platforms: those that this run of it builds, of all of the image's.
        :param with_index: whether it makes the image's index, and has to annotate that too.
        :param whole: whether it builds all platforms of the image.
        """
        args: List[str] = []
        listed: Sequence[Tuple[str, Sequence[str]]] = (
            ("--build-arg", [f"{key}={value}" for key, value in self.build_args]),
            ("--label", [f"{key}={value}" for key, value in self.labels]),
            ("--build-context", [f"{one.name}={one.value}" for one in self.contexts]),
            ("--secret", [one.argument for one in self.secrets]),
            ("--ssh", [one.argument for one in self.agents]),
            ("--no-cache-filter", self.no_cache_filter),
        )
        for name, values in listed:
            for value in values:
                args += [name, value]
        args += ["--call", f"{self.call},format=json"] if self.call else []
        args += ["--target", self.target] if self.target else []
        args += ["--no-cache"] if self.no_cache else []
        args += ["--pull"] if self.pull else []
        args += self.annotations.arguments(platforms, with_index, whole)
        args += self.caches.arguments(platforms, writes=not self.call)
        args += self.runtime.arguments()
        # Before 0.10 buildx knows no attestations, and makes none.
        if self.provenance != "false" or version >= _ATTESTATIONS:
            args.append(f"--provenance={self.provenance}")
        return args + ([f"--sbom={self.sbom}"] if self.sbom != "false" else [])

    def environment(self) -> Dict[str, str]:
        """Return the variables that buildx needs for these options, with secrets in them."""
        return {one.variable: one.value for one in self.secrets if one.value is not None}

    def hide(self, text: str) -> str:
        """Return what a build printed without its secrets, which steps may print."""
        for word in sorted({word for one in self.secrets for word in one.words()}, key=len, reverse=True):
            text = text.replace(word, MASK)
        return text


def _dockerfile(params: Mapping[str, Any]) -> str:
    text = params.get("dockerfile_inline")
    if text is None:
        return ""
    if params.get("file"):
        raise FarmError("file and dockerfile_inline are two Dockerfiles; remove one of them")
    if not text.strip():
        raise FarmError("dockerfile_inline is empty; wanted the text of a Dockerfile")
    return str(text)


def _call(value: Optional[str]) -> str:
    if value in (None, "build"):
        return ""
    if value not in CALLS:
        raise FarmError(f"call {value!r}: wanted build, {', '.join(CALLS)}")
    return str(value)


def _no_cache_filter(params: Mapping[str, Any]) -> Tuple[str, ...]:
    stages = tuple(_checked("no_cache_filter", str(stage), _TARGET) for stage in params.get("no_cache_filter") or ())
    if stages and params.get("no_cache"):
        raise FarmError("no_cache runs all steps again, with those of no_cache_filter; remove one of them")
    return stages


def _attestations(params: Mapping[str, Any]) -> Dict[str, str]:
    """Return ``true``, ``false`` or the options of each attestation, from its own option or ``attest``.

    Source: docker/buildx ``util/buildflags/attests.go``, for which ``--sbom`` and ``--provenance`` are short for it.
    """
    found = {kind: _checked(kind, _switch(params.get(kind)), _ATTESTATION) for kind in (PROVENANCE, SBOM)}
    for raw in params.get("attest") or ():
        options = dict(attributes_of("attest", raw))
        kind = options.pop("type", "")
        if kind not in found:
            raise FarmError(f"attest: unknown type {kind!r}; wanted {PROVENANCE} or {SBOM}")
        if found[kind] != "false":
            raise FarmError(f"attest: {kind} is declared twice; declare it once, here or with the option {kind}")
        if options.pop("disabled", "false") == "true":
            continue
        text = ",".join(f"{key}={value}" for key, value in options.items()) or "true"
        found[kind] = _checked(f"attest: {kind}", text, _ATTESTATION)
    return found


def _switch(value: Any) -> str:
    """Return the text of an attestation's own option, a boolean as buildx writes it."""
    text = str(value or "false")
    return text.lower() if text.lower() in ("true", "false") else text


def _secrets(raw: Sequence[Mapping[str, Any]]) -> Tuple[Secret, ...]:
    found = tuple(Secret.from_params(entry, number) for number, entry in enumerate(raw, start=1))
    names = [one.id for one in found]
    for name in names:
        if names.count(name) > 1:
            raise FarmError(f"secrets: {name} is there twice; give each its own id")
    return found


def _build_args(raw: Mapping[str, Any]) -> Tuple[Tuple[str, str], ...]:
    """Return the build arguments, with the time that the environment gives to reproducible builds.

    Source: docker/buildx ``commands/build.go``, since 0.10; as an argument it means the same to all versions.
    """
    epoch = option(_EPOCH)
    if epoch is None or _EPOCH in raw:
        return _pairs("build_args", raw, _BUILD_ARG)
    if not epoch.isdigit():
        raise FarmError(f"{_EPOCH} in the environment is {epoch!r}; wanted seconds since 1970, or unset it")
    return _pairs("build_args", {**raw, _EPOCH: epoch}, _BUILD_ARG)


def _pairs(subject: str, raw: Optional[Mapping[str, Any]], name: Pattern[str]) -> Tuple[Tuple[str, str], ...]:
    pairs = []
    for key, value in (raw or {}).items():
        if not name.match(str(key)):
            raise FarmError(f"{subject}: {key!r} is not a name that a Dockerfile can use")
        if value is None:
            raise FarmError(f'{subject}: {key}: there is no value; write one, "" for an empty one, or remove the name')
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise FarmError(f"{subject}: {key}: wanted text, found {type(value).__name__} {value!r}; quote it")
        pairs.append((str(key), str(value)))
    return tuple(sorted(pairs))


def _checked(subject: str, value: Optional[str], pattern: Pattern[str]) -> str:
    if value and not pattern.match(value):
        raise FarmError(f"{subject} {value!r}: not a value that buildx takes")
    return value or ""
