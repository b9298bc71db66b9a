# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options of ``docker buildx build`` that say how a Dockerfile is built, whatever node builds it for which tags."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, List, Mapping, Optional, Pattern, Tuple

from .._buildx.cli import Version
from .._core.environment import option
from .._core.errors import FarmError

_BUILD_ARG = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*\Z")
_LABEL = re.compile(r"[^\s=-][^\s=]*\Z")
_TARGET = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*\Z")
_ATTESTATION = re.compile(r"(?:true|false|[a-z-]+=[^\s]+)\Z")
#: https://reproducible-builds.org/specs/source-date-epoch/
_EPOCH = "SOURCE_DATE_EPOCH"

#: buildx's first version with attestations.
_ATTESTATIONS: Version = (0, 10, 0)


@dataclass(frozen=True)
class BuildOptions:
    """How a Dockerfile is built, normalised.

    :ivar provenance: ``true``, ``false``, or the attestation's options.
    :ivar sbom: likewise.
    """

    build_args: Tuple[Tuple[str, str], ...] = ()
    labels: Tuple[Tuple[str, str], ...] = ()
    target: str = ""
    no_cache: bool = False
    pull: bool = False
    provenance: str = "false"
    sbom: str = "false"
    index_annotations: Any = ()
    descriptor_annotations: Any = ()

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> BuildOptions:
        """Read a task's options.

        :raises FarmError: an option's value is wrong.
        """
        return cls(
            build_args=_build_args(params.get("build_args") or {}),
            labels=_pairs("labels", params.get("labels"), _LABEL),
            target=_checked("target", params.get("target"), _TARGET),
            no_cache=bool(params.get("no_cache")),
            pull=bool(params.get("pull")),
            provenance=_checked("provenance", str(params.get("provenance", "false")).lower(), _ATTESTATION),
            sbom=_checked("sbom", str(params.get("sbom", "false")).lower(), _ATTESTATION),
        )

    @property
    def attested(self) -> bool:
        """Whether the image gets attestations."""
        return self.provenance != "false" or self.sbom != "false"

    def requirements(self) -> List[Tuple[str, Version]]:
        """Return what of these options not every buildx has, in the user's words, and its first version with that."""
        return [("provenance or sbom", _ATTESTATIONS)] if self.attested else []

    def arguments(self, version: Version) -> List[str]:
        """Return the arguments of ``docker buildx build``.

        :param version: buildx's.
        """
        args: List[str] = []
        for name, pairs in (("--build-arg", self.build_args), ("--label", self.labels)):
            for key, value in pairs:
                args += [name, f"{key}={value}"]
        args += ["--target", self.target] if self.target else []
        args += ["--no-cache"] if self.no_cache else []
        args += ["--pull"] if self.pull else []
        # Before 0.10 buildx knows no attestations, and makes none.
        if self.provenance != "false" or version >= _ATTESTATIONS:
            args.append(f"--provenance={self.provenance}")
        return args + ([f"--sbom={self.sbom}"] if self.sbom != "false" else [])


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
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise FarmError(f"{subject}: {key}: wanted text, found {type(value).__name__} {value!r}; quote it")
        pairs.append((str(key), str(value)))
    return tuple(sorted(pairs))


def _checked(subject: str, value: Optional[str], pattern: Pattern[str]) -> str:
    if value and not pattern.match(value):
        raise FarmError(f"{subject} {value!r}: not a value that buildx takes")
    return value or ""
