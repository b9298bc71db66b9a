# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The switch by which a docker CLI before 20.10 runs plugins that are marked experimental."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, List, Mapping, Optional

from .._core.errors import FarmError
from .._core.files import write_atomically
from .._core.plan import Plan, Step
from .._core.runner import CommandError, Runner
from .._docker.config import read_config
from .model import Plugin
from .steps import Staging

_CLI_VERSION = re.compile(r"Docker version (\d+)\.(\d+)")
#: The first docker CLI that takes plugins marked experimental without a setting: its release notes, "CLI
#: experimental features are now enabled by default".
_CLI_WITHOUT_SWITCH = (20, 10)


@dataclass(frozen=True)
class Switch:
    """What the docker CLI of this host is configured to.

    :ivar path: its ``config.json``.
    :ivar config: the content of that.
    :ivar missing: whether it needs the switch for the plugin, and does not have it.
    """

    path: Path
    config: Mapping[str, Any]
    missing: bool


@dataclass(frozen=True)
class EnableExperimental(Step[Staging]):
    """Write the switch into ``config.json``."""

    path: Path
    config: Mapping[str, Any]

    @property
    def action(self) -> List[str]:
        return ["write", str(self.path)]

    def apply(self, world: Staging) -> None:
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            content = json.dumps({**self.config, "experimental": "enabled"}, indent="\t", ensure_ascii=False)
            write_atomically(self.path, content.encode(), None if self.path.exists() else 0o600)
        except OSError as exc:
            raise FarmError(
                f"{self.path}: cannot be written: {exc.strerror}; buildx is installed, a new run continues"
            ) from exc


def read_switch(directory: Path, plugin: Plugin, runner: Runner) -> Switch:
    """Read whether the docker CLI runs a plugin.

    Source: docker/cli 19.03 ``cli/command/cli.go``; the environment wins over the configuration.

    :param directory: of the CLI's configuration.
    :raises FarmError: the environment forbids it, or the configuration cannot be read.
    """
    config = read_config(directory)
    return Switch(directory / "config.json", config, plugin.experimental and not _is_switched_on(config, runner))


def plan_switch(switch: Switch) -> Plan[Staging]:
    """Return what has to be done for the docker CLI to run the plugin."""
    if not switch.missing:
        return Plan({}, {})
    before, after = {"experimental": switch.config.get("experimental")}, {"experimental": "enabled"}
    return Plan(before, after, (EnableExperimental(switch.path, switch.config),))


def _is_switched_on(config: Mapping[str, Any], runner: Runner) -> bool:
    old_cli = _cli_with_switch(runner)
    if old_cli is None:
        return True
    chosen = os.environ.get("DOCKER_CLI_EXPERIMENTAL")
    if chosen and chosen != "enabled":
        raise FarmError(
            f"{old_cli} runs this buildx only with experimental features, and DOCKER_CLI_EXPERIMENTAL in the"
            f" environment is {chosen!r}; unset it, or set it to 'enabled'"
        )
    return "enabled" in (chosen, config.get("experimental"))


def _cli_with_switch(runner: Runner) -> Optional[str]:
    """Return how a docker CLI that has the switch names its version, None where there is no such CLI."""
    try:
        version = _CLI_VERSION.match(runner(["docker", "--version"], timeout=30).stdout)
    except CommandError:
        return None
    if version is None or (int(version.group(1)), int(version.group(2))) >= _CLI_WITHOUT_SWITCH:
        return None
    return version.group()
