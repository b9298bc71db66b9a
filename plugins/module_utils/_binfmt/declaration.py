# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a task of module ``binfmt`` declares."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Collection, Mapping, Optional, Sequence, Tuple

from .._core.errors import FarmError
from .._core.version import declared_version
from .._docker.endpoint import Endpoint
from .._platform.elf import program
from .._platform.platform import Platform
from .binfmt_misc import ENTRIES, read_platforms
from .handler import Demand
from .image import EmulatorImage
from .rules import Rule, RuleFile, rule_for


@dataclass(frozen=True)
class Declaration:
    """The options of a task, checked.

    :ivar image: None where the host's packages are the source.
    :ivar optional: architectures that are declared only as far as the image has their emulators.
    :ivar only_own: whether handlers that this module does not register at boot stay.
    :ivar remote: whether the handlers are another host's, of which only the engine can be reached.
    :ivar docker: the docker CLI with the arguments that lead to the engine, as actions are reported.
    """

    state: str
    platforms: Tuple[Platform, ...]
    image: Optional[EmulatorImage]
    verify: bool = True
    persistent: bool = True
    qemu_version: Optional[str] = None
    credentials: Optional[bool] = None
    preserve_argv0: Optional[bool] = None
    remote: bool = False
    docker: Tuple[str, ...] = ("docker",)
    optional: Tuple[str, ...] = ()
    only_own: bool = False

    @classmethod
    def from_params(cls, params: Mapping[str, Any], files: Sequence[RuleFile]) -> Declaration:
        """Read the module's options.

        :param files: the rules of the host's packages.
        :raises FarmError: one of them is malformed, or some do not go together.
        """
        state, remote = params["state"], bool(params["endpoint"])
        image = None
        if params["source"] == "image":
            image = EmulatorImage.parse(params["image"], params["preserve_argv0"])
        _check(params, image, remote)
        everything: Sequence[str] = tuple(ENTRIES)
        if state != "absent":
            packaged = [arch for arch in ENTRIES if rule_for(program(arch), files)]
            everything = image.architectures if image else packaged
        texts = ["all"] if params["platforms"] is None and state == "absent" else params["platforms"] or []
        platforms, named = read_platforms(texts, everything), [one.arch for one in read_platforms(texts, ())]
        unknown = state != "absent" and image and not image.is_legacy
        return cls(
            state,
            platforms,
            image,
            params["verify"],
            not remote and params["persistent"] is not False,
            declared_version("qemu_version", params["qemu_version"], "10.0.4 or 10.0")
            if params["qemu_version"]
            else None,
            params["credentials"],
            params["preserve_argv0"],
            remote,
            _docker(params["endpoint"]),
            tuple(one.arch for one in platforms if one.arch not in named and unknown),
            params["only_own"],
        )

    @property
    def present(self) -> bool:
        """Whether its platforms are to be runnable."""
        return self.state != "absent"

    @property
    def architectures(self) -> Tuple[str, ...]:
        """The platforms' architectures, each once."""
        return tuple(dict.fromkeys(platform.arch for platform in self.platforms))

    def without(self, architectures: Collection[str]) -> Declaration:
        """Return the same without some architectures."""
        platforms = tuple(platform for platform in self.platforms if platform.arch not in architectures)
        return replace(self, platforms=platforms)

    def demand(self, arch: str, files: Sequence[RuleFile] = ()) -> Demand:
        """Return what an architecture's handler has to be like."""
        flags = Demand(self.verify, self.qemu_version, None, None, self.credentials, self.preserve_argv0)
        rule = None if self.image else rule_for(program(arch), files)
        name = rule.handler.name if rule else ENTRIES[arch]
        interpreter = rule.handler.interpreter if rule else f"/usr/bin/{name}"
        return Demand(flags.verify, flags.version, name, interpreter, flags.credentials, flags.preserve_argv0)

    def rule(self, arch: str, files: Sequence[RuleFile]) -> Optional[Rule]:
        """Return the packages' rule with the flags that are wanted, None where there is none.

        :raises FarmError: it cannot have them.
        """
        rule = rule_for(program(arch), files)
        return rule.with_flags(self.demand(arch, files)) if rule else None


def _docker(endpoint: Optional[str]) -> Tuple[str, ...]:
    if not endpoint:
        return ("docker",)
    parsed = Endpoint.parse(endpoint)
    return ("docker", "--context" if parsed.scheme == "context" else "--host", parsed.text)


def _check(params: Mapping[str, Any], image: Optional[EmulatorImage], remote: bool) -> None:
    if params["only_own"] and (params["state"] != "absent" or remote):
        raise FarmError("only_own limits what is removed; it goes with state: absent, and without endpoint")
    if remote and image is None:
        raise FarmError("source is packages, which are the host's own; run the task on that host, without endpoint")
    if remote and params["persistent"]:
        raise FarmError(
            "persistent: nothing can be registered at boot through endpoint; run the task on that host, or after each "
            "of its reboots with persistent unset"
        )
    if image and params["credentials"] is False:
        raise FarmError(
            "credentials is false; emulator images register handlers with flag C always; use source: packages"
        )
    if image and image.is_legacy and (params["state"] == "exact" or params["preserve_argv0"] is not None):
        raise FarmError(
            f"image {image.name} is docker/binfmt, which registers its own five handlers in its own way; use another "
            "image for state: exact and preserve_argv0"
        )
