# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""buildx itself, a plugin of the docker CLI: found, installed, kept at a version, removed.

Source of the directories and of the metadata command: docker/cli ``cli-plugins/manager``.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple

from .._buildx.cli import Version, format_version
from .._core.errors import FarmError
from .._core.files import write_atomically
from .._core.outcome import Outcome
from .._core.runner import CommandError, Runner
from .._core.version import declared_version
from .._docker.config import PLUGIN as NAME
from .._docker.config import config_dir, plugin_candidates, read_config
from .source import Source, checksum_of, declared, described, fetch, with_checksum

_VERSION = re.compile(r"v?(\d+)\.(\d+)(?:\.(\d+))?")
_CLI_VERSION = re.compile(r"Docker version (\d+)\.(\d+)")
#: The first docker CLI that takes plugins marked experimental without being told to: its release notes, "CLI
#: experimental features are now enabled by default".
_CLI_WITHOUT_SWITCH = (20, 10)

Action = Tuple[str, ...]


@dataclass(frozen=True)
class Plugin:
    """A plugin that runs on this host.

    :ivar path: of the file, links not followed.
    :ivar version: as it says itself, ``v0.13.1`` or ``0.13.1+ds1`` for example.
    :ivar revision: of its sources, or its packager's own version; empty where it does not say one.
    :ivar experimental: whether it asks the CLI to be run only with experimental features.
    """

    path: str
    version: str
    revision: str
    experimental: bool = False

    def as_dict(self, source: Optional[str] = None) -> Dict[str, Any]:
        """Return the values as JSON types.

        :param source: where it was installed from in this run; None for one that was there.
        """
        return {
            "path": self.path,
            "version": self.version,
            "revision": self.revision or None,
            "checksum": checksum_of(Path(self.path)),
            "source": source,
        }

    def is_release(self, release: str) -> bool:
        """Say whether it is a release; a packager's suffix (``+ds1``) makes no difference."""
        return self.version.lstrip("v").partition("+")[0] == release

    def is_at_least(self, minimum: Version) -> bool:
        """Say whether it is as new as that; a build without a version counts as the newest."""
        found = parse_version(self.version)
        return found is None or found >= minimum


def run_module(params: Dict[str, Any], check_mode: bool, runner: Runner) -> Outcome:
    """The logic of the module ``buildx_plugin``."""
    at, minimum = _destination(params), _minimum(params)
    if params["state"] == "absent":
        return _remove(at, check_mode)
    source = declared(params)
    if source is None:
        return _kept(_required(minimum, params, runner), params, check_mode, runner)
    sufficient = _sufficient(source, minimum, params, runner)
    if sufficient is not None:
        return _kept(sufficient, params, check_mode, runner)
    return _install(at, with_checksum(source, params), minimum, params, check_mode, runner)


def find(params: Mapping[str, Any], runner: Runner) -> Optional[Plugin]:
    """Return the plugin at option ``path``, or else the one that the docker CLI uses; None if there is none that runs.

    :param params: a module's parameters; ``path`` and ``docker_config`` count.
    """
    path = _first(params)
    return inspect(path, runner) if path else None


def inspect(path: Path, runner: Runner) -> Optional[Plugin]:
    """Return a plugin, None where there is no file or it is no plugin that runs on this host."""
    if not os.access(path, os.X_OK):
        return None
    try:
        metadata = json.loads(runner([str(path), "docker-cli-plugin-metadata"], timeout=30).stdout)
        said = runner([str(path), "version"], timeout=30).stdout.split()
        revision = said[2] if len(said) > 2 else ""
        return Plugin(str(path), str(metadata["Version"]), revision, bool(metadata.get("Experimental")))
    except (CommandError, ValueError, KeyError, TypeError, AttributeError):
        return None


def parse_version(text: str) -> Optional[Version]:
    """Read a version such as ``v0.13.1`` or ``0.13.1+ds1``; None for a build that has none."""
    match = _VERSION.match(text)
    return (int(match.group(1)), int(match.group(2)), int(match.group(3) or 0)) if match else None


def _destination(params: Mapping[str, Any]) -> Path:
    if params["path"] is None:
        return config_dir(params) / "cli-plugins" / NAME
    path = Path(params["path"])
    if path.name != NAME:
        raise FarmError(f"path {str(path)!r}: docker finds a plugin by its name; the path must end in /{NAME}")
    return path


def _minimum(params: Mapping[str, Any]) -> Optional[Version]:
    text = params["minimum_version"]
    return None if text is None else parse_version(declared_version("minimum_version", text, "0.13 or 0.13.1", 2))


def _candidates(params: Mapping[str, Any]) -> Tuple[Path, ...]:
    """Return where the plugin may be, in the order in which the docker CLI looks."""
    if params["path"] is not None:
        return (_destination(params),)
    return plugin_candidates(params)


def _first(params: Mapping[str, Any]) -> Optional[Path]:
    """Return the file that decides: the docker CLI takes the first one there is, and no other if that does not run."""
    return next((path for path in _candidates(params) if path.exists()), None)


def _required(minimum: Optional[Version], params: Mapping[str, Any], runner: Runner) -> Plugin:
    """Find a plugin that the distribution or someone else installed."""
    path, plugin = _first(params), find(params, runner)
    if path is not None and plugin is None:
        raise FarmError(
            f"{path}: {described(path)}, and no docker CLI plugin that runs on this host; docker looks no further;"
            " remove it, or install another in its place"
        )
    if plugin is None:
        raise FarmError(
            f"buildx is not installed here: no {NAME} in {', '.join(str(at.parent) for at in _candidates(params))};"
            " install the package docker-buildx (docker-buildx-plugin from Docker's own repository), or give release,"
            " url, src or build"
        )
    _require_version(plugin.path, plugin, minimum)
    return plugin


def _sufficient(
    source: Source, minimum: Optional[Version], params: Mapping[str, Any], runner: Runner
) -> Optional[Plugin]:
    """Return the plugin that makes the source needless; None as well where the source's checksum is to decide."""
    if minimum is None and source.checksum:
        return None
    plugin = find(params, runner)
    if plugin is None:
        return None
    if minimum is not None:
        return plugin if plugin.is_at_least(minimum) else None
    return plugin if not source.release or plugin.is_release(source.release) else None


def _kept(plugin: Plugin, params: Mapping[str, Any], check_mode: bool, runner: Runner) -> Outcome:
    path = Path(plugin.path)
    state = _state(path)
    found = Outcome(state, state, warnings=_clashes(path, False, params))
    return _finished(found, plugin, None, params, check_mode, runner)


def _install(
    at: Path,
    source: Source,
    minimum: Optional[Version],
    params: Mapping[str, Any],
    check_mode: bool,
    runner: Runner,
) -> Outcome:
    before = _state(at)
    content = {"checksum": source.checksum} if source.checksum else {"source": str(source)}
    after = {"path": str(at), "mode": "0755", **content}
    actions: List[Action] = []
    if "source" in content or before.get("checksum") != source.checksum:
        actions = [*source.actions, ("write", str(at))]
    elif before != after:
        actions = [("chmod", "0755", str(at))]
    planned = Outcome(before, after, actions, warnings=_clashes(at, bool(actions), params))
    if actions and check_mode:
        plugin = {"path": str(at), "version": None, "revision": None, "checksum": source.checksum or None}
        return replace(planned, values={"plugin": {**plugin, "source": str(source)}})
    try:
        if actions and actions[0][0] == "chmod":
            at.chmod(0o755)
        elif actions:
            _write(at, source, minimum, params, runner)
    except OSError as exc:
        raise FarmError(f"{at}: cannot be written: {exc.strerror}") from exc
    installed = _checked(str(at), at, source, minimum, runner)
    return _finished(planned, installed, str(source) if actions else None, params, check_mode, runner)


def _write(at: Path, source: Source, minimum: Optional[Version], params: Mapping[str, Any], runner: Runner) -> None:
    """Put a plugin into its place in one step, once it is what is wanted and has run here.

    :raises FarmError: it could not be had, is another file, or does not run; what was there stays.
    """
    at.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=at.parent, prefix=f".{NAME}.")
    try:
        with os.fdopen(handle, "w+b") as stream:
            fetch(source, stream, params, runner)
            os.fchmod(stream.fileno(), 0o755)
            stream.flush()
            os.fsync(stream.fileno())
        _checked(str(source), Path(temporary), source, minimum, runner)
        os.replace(temporary, at)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def _checked(subject: str, path: Path, source: Source, minimum: Optional[Version], runner: Runner) -> Plugin:
    plugin = inspect(path, runner)
    if plugin is None:
        raise FarmError(
            f"{subject}: {described(path)}, and no docker CLI plugin that runs on this host; what was there was left"
        )
    if source.release and not plugin.is_release(source.release):
        raise FarmError(
            f"{subject}: says that it is buildx {plugin.version}, wanted release {source.release}; what was there was"
            " left"
        )
    _require_version(subject, plugin, minimum)
    return plugin


def _require_version(subject: str, plugin: Plugin, minimum: Optional[Version]) -> None:
    if minimum is not None and not plugin.is_at_least(minimum):
        raise FarmError(
            f"{subject}: buildx {plugin.version} is older than the wanted {format_version(minimum)};"
            " upgrade its package, or give a newer release, url, src or build"
        )


def _clashes(at: Path, written: bool, params: Mapping[str, Any]) -> Tuple[str, ...]:
    """Say which other plugins stand in the way of one that is installed, or are hidden by it from now on."""
    candidates = plugin_candidates(params)
    if at not in candidates:
        # For another user, whose docker looks there.
        return ()
    own = candidates.index(at)
    others = [(place, path) for place, path in enumerate(candidates) if path.exists()]
    others = [(place, path) for place, path in others if not (at.exists() and path.samefile(at))]
    first = [
        f"{path}: docker finds this plugin first and does not use {at}; remove it"
        for place, path in others
        if place < own
    ]
    hidden = [f"{at} hides {path} from now on" for place, path in others if place > own and written]
    return (*first, *hidden)


def _finished(
    outcome: Outcome,
    plugin: Plugin,
    source: Optional[str],
    params: Mapping[str, Any],
    check_mode: bool,
    runner: Runner,
) -> Outcome:
    """Return the outcome with the plugin, and with the CLI's switch for it where an old CLI needs that."""
    outcome = replace(outcome, values={"plugin": plugin.as_dict(source)})
    directory = config_dir(params)
    config = read_config(directory)
    if not plugin.experimental or _is_switched_on(config, runner):
        return outcome
    path = directory / "config.json"
    if not check_mode:
        _switch_on(path, config)
    return replace(
        outcome,
        before={**outcome.before, "experimental": config.get("experimental")},
        after={**outcome.after, "experimental": "enabled"},
        actions=[*outcome.actions, ("write", str(path))],
    )


def _is_switched_on(config: Mapping[str, Any], runner: Runner) -> bool:
    """Say whether the docker CLI runs experimental plugins.

    Source: docker/cli 19.03 ``cli/command/cli.go``; the environment wins over the configuration.

    :raises FarmError: the environment says that it does not.
    """
    try:
        version = _CLI_VERSION.match(runner(["docker", "--version"], timeout=30).stdout)
    except CommandError:
        version = None
    if version is None or (int(version.group(1)), int(version.group(2))) >= _CLI_WITHOUT_SWITCH:
        return True
    chosen = os.environ.get("DOCKER_CLI_EXPERIMENTAL")
    if chosen and chosen != "enabled":
        raise FarmError(
            f"{version.group()} runs this buildx only with experimental features, and DOCKER_CLI_EXPERIMENTAL in the"
            f" environment is {chosen!r}; unset it, or set it to 'enabled'"
        )
    return "enabled" in (chosen, config.get("experimental"))


def _switch_on(path: Path, config: Mapping[str, Any]) -> None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = path.stat().st_mode & 0o777 if path.exists() else 0o600
        content = json.dumps({**config, "experimental": "enabled"}, indent="\t", ensure_ascii=False)
        write_atomically(path, content.encode(), mode)
    except OSError as exc:
        raise FarmError(f"{path}: cannot be written: {exc.strerror}; buildx is installed, a new run continues") from exc


def _remove(at: Path, check_mode: bool) -> Outcome:
    before = _state(at)
    if not before:
        return Outcome(before, {}, values={"plugin": None})
    if not check_mode:
        try:
            at.unlink()
        except OSError as exc:
            raise FarmError(f"{at}: cannot be removed: {exc.strerror}") from exc
    return Outcome(before, {}, [("remove", str(at))], {"plugin": None})


def _state(path: Path) -> Dict[str, Any]:
    found = checksum_of(path)
    if found is None:
        return {}
    return {"path": str(path), "checksum": found, "mode": f"{path.stat().st_mode & 0o7777:04o}"}
