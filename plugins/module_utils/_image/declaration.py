# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a task of ``image_verify`` declares of an image."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Mapping, Optional, Tuple

from .._buildx.store import chosen_builder
from .._core.errors import FarmError
from .._docker.endpoint import Endpoint
from .._docker.reference import Reference
from .._platform.platform import Platform, parse_all
from .check import CheckResult, Checks, RunResult

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

        :raises FarmError: the regular expression is none.
        """
        pattern = raw.get("expected_regex")
        try:
            re.compile(_filled(pattern or "", "", ""))
        except re.error as exc:
            raise FarmError(f"run: expected_regex {pattern!r} is not a regular expression: {exc}") from exc
        return cls(tuple(raw.get("command") or ()), raw.get("expected"), pattern, float(raw["timeout"]))

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
class Declaration:
    """A task's options, normalised.

    :ivar platforms: that the image must have; empty for any.
    :ivar exact: whether it may have no others.
    :ivar builder: name of the builder whose nodes run it, None for none.
    :ivar checks: what each platform's image is put to; None for nothing.
    :ivar endpoints: engines by the platforms that they run, in preference to the builder's nodes.
    """

    reference: Reference
    builder: Optional[str]
    platforms: Tuple[Platform, ...]
    exact: bool
    digest: Optional[str]
    checks: Optional[ImageChecks]
    endpoints: Mapping[Platform, Endpoint]

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> Declaration:
        """Read a task's options.

        :raises FarmError: an option's value is wrong by itself.
        """
        return cls(
            reference=Reference.parse(params["name"]),
            builder=chosen_builder(params),
            platforms=parse_all(params.get("platforms") or ()),
            exact=bool(params.get("exact", True)),
            digest=_digest(params.get("digest")),
            checks=ImageChecks.from_params(params),
            endpoints={
                Platform.parse(platform): Endpoint.parse(endpoint)
                for platform, endpoint in (params.get("endpoints") or {}).items()
            },
        )


def _digest(text: Optional[str]) -> Optional[str]:
    if text and not _DIGEST.match(text):
        raise FarmError(f"digest {text!r}: wanted sha256: and 64 hexadecimal digits in lower case")
    return text or None


def _filled(text: str, platform: str, arch: str) -> str:
    return text.replace("{platform}", platform).replace("{arch}", arch)
