# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The steps from what the host has to what is declared, and back."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, Dict, Iterator, Mapping, Optional, Tuple

from .._core import plan as core
from .._core.plan import Step
from .._core.runner import Runner
from .._core.urls import secret_in
from .._docker import tls
from .._docker.names import DEFAULT_SOCKET, TLS_NAMES
from . import daemon_config
from .config_plan import plan_config
from .declaration import Declaration
from .dockerd import hosts, on_network
from .former import put_back, record_path
from .state import State
from .steps import RELOAD, CreateDirectory, File, RemoveFile, Systemctl, WriteFiles, changed_files, restart

#: As scanners want them of root's files; whoever writes them anew replaces them.
_KEY_MODE, _CERTIFICATE_MODE = 0o400, 0o444
_HEADER = "# Written by the Ansible module buildfarm.multiarch.docker_listener, which overwrites changes.\n"
_UNKNOWN_COMMAND = "<the command of {unit}, known once the engine is installed>"


@dataclass(frozen=True)
class Plan(core.Plan[Runner]):
    """Steps in their order: a directory, files, then systemctl.

    :ivar stale: why a running engine has to be restarted although no file changes.
    """

    stale: str = ""

    @property
    def file_steps(self) -> Tuple[Step[Runner], ...]:
        """The steps that change the disk only."""
        return tuple(step for step in self.steps if not isinstance(step, Systemctl))

    @property
    def engine_steps(self) -> Tuple[Systemctl, ...]:
        """The calls of systemctl."""
        return tuple(step for step in self.steps if isinstance(step, Systemctl))

    @property
    def restarts(self) -> bool:
        """Whether the engine is started or restarted."""
        return any(step.starts for step in self.engine_steps)


def plan(declaration: Declaration, state: State) -> Plan:
    """Return the steps from what the host has to what is declared.

    :raises FarmError: daemon.json is not JSON, or the engine would not start with it.
    """
    file_steps = tuple(_file_steps(declaration, state))
    changed = changed_files(file_steps)
    stale = _stale(declaration, state)
    engine_steps = _engine_steps(declaration, state, changed, bool(stale))
    contents = {path: file.content if file else None for path, file in changed.items()}
    before, after = describe(declaration, state, contents)
    if stale and not changed:
        before["engine"] = f"running, {stale}"
    steps = (*_directory_steps(declaration, state), *file_steps, *engine_steps)
    return Plan(before=before, after=after, steps=steps, stale=stale)


def plan_back(declaration: Declaration, state: State) -> Plan:
    """Return the steps that undo a change that is not final; none where there is none."""
    before, after = describe(declaration, state, state.former)
    checkpoint = state.checkpoint
    return Plan(before, after, (*checkpoint.file_steps, *checkpoint.engine_steps) if checkpoint else ())


def _directory_steps(declaration: Declaration, state: State) -> Iterator[CreateDirectory]:
    mode = state.tls_directory_mode
    if declaration.uses_tls and (mode is None or mode & 0o077):
        yield CreateDirectory(declaration.tls_directory, 0o700)


def _file_steps(declaration: Declaration, state: State) -> Iterator[Step[Runner]]:
    """Yield the steps for the files that differ from what is declared.

    :raises FarmError: daemon.json is not JSON, or the engine would not start with it.
    """
    differing = [(path, file) for path, file in _wanted(declaration, state) if _differs(path, file, state)]
    for is_removed, changes in itertools.groupby(differing, lambda change: change[1] is None):
        if is_removed:
            yield from (RemoveFile(path) for path, _file in changes)
        else:
            yield WriteFiles(tuple(file for _path, file in changes if file))


def _wanted(declaration: Declaration, state: State) -> Iterator[Tuple[str, Optional[File]]]:
    """Yield the files as declared, None where there has to be none.

    The order keeps an engine able to start if a run is ended half-way: the certificates come first and go last.

    :raises FarmError: daemon.json is not JSON, or the engine would not start with it.
    """
    if declaration.uses_tls:
        yield from ((file.path, file) for file in _tls_files(declaration, state))
    if declaration.present:
        yield declaration.drop_in, File(declaration.drop_in, drop_in_text(declaration, state), 0o644)
    elif declaration.state == "absent":
        yield declaration.drop_in, None
    config = plan_config(declaration, state)
    if declaration.restores_config:
        yield from _restored(state)
    elif config is not None:
        mode = state.file(state.config_path).mode
        # A proxy's password, for one; the engine reads it as root.
        mode &= ~0o077 if secret_in(config.decode(errors="replace")) else 0o7777
        yield state.config_path, File(state.config_path, config, mode)
    if declaration.state == "absent":
        yield from ((declaration.tls_path(name), None) for name in TLS_NAMES)


def _restored(state: State) -> Iterator[Tuple[str, Optional[File]]]:
    """Yield daemon.json as it was before settings were merged into it, and then without the record of that."""
    held = state.file(state.config_path)
    record = record_path(state.config_path)
    config = put_back(state.file(record).content, held.content, state.config_path)
    yield state.config_path, None if config is None else File(state.config_path, config, held.mode)
    yield record, None


def _tls_files(declaration: Declaration, state: State) -> Iterator[File]:
    """Yield the TLS files as declared; a key that the host holds already stays."""
    key = declaration.key
    if key is None and declaration.certificate and not state.material.held_key:
        key = state.file(declaration.tls_path("key")).content
    for name, content in zip(TLS_NAMES, (declaration.ca, declaration.certificate, key)):
        mode = _KEY_MODE if name == "key" else _CERTIFICATE_MODE
        yield File(declaration.tls_path(name), content or b"", mode, known=content is not None)


def _differs(path: str, wanted: Optional[File], state: State) -> bool:
    held = state.file(path)
    if wanted is None:
        return held.content is not None
    is_open = wanted.mode == _KEY_MODE and held.mode & 0o077 != 0
    return not wanted.known or wanted.content != held.content or is_open


def _engine_steps(
    declaration: Declaration, state: State, changed: Mapping[str, Optional[File]], stale: bool
) -> Tuple[Systemctl, ...]:
    """Return the steps that bring changed files into effect, or have the engine run at all.

    :param stale: whether the engine does not run what the files say already.
    """
    # The engine has read its certificates: removing them, which only state=absent does, does not concern it.
    concern = [path for path, file in changed.items() if file or path in (declaration.drop_in, state.config_path)]
    if concern or stale:
        if not declaration.runs and not state.service.active:
            return (RELOAD,)
        return (RELOAD, *restart(declaration.unit, state.service.sockets if _opened_its_own(state) else ()))
    if declaration.runs and not _runs_by_then(state):
        return (Systemctl("start", (declaration.unit,)),)
    if declaration.runs and state.service.needs_reload:
        return (RELOAD,)
    return ()


def _runs_by_then(state: State) -> bool:
    """Whether the engine runs when the task does; one that check mode finds missing is started when it is installed."""
    return state.service.active or state.command is None


def _opened_its_own(state: State) -> bool:
    """Whether dockerd itself created the socket that systemd has to: it deletes the file when it stops."""
    return state.service.active and "fd://" in hosts(state.words) and "fd://" not in hosts(state.service.arguments)


def drop_in_text(declaration: Declaration, state: State) -> bytes:
    """Return the drop-in: the unit's own command with the listener's flags after it."""
    command = state.local_command or _UNKNOWN_COMMAND.format(unit=declaration.unit)
    # dockerd opens its usual socket only where no flag names another (Red Hat and SUSE units name none).
    usual = () if state.command is None or hosts(state.words) else ("-H", "unix://" + DEFAULT_SOCKET)
    line = " ".join((command, *usual, *declaration.flags))
    return f"{_HEADER}[Service]\nExecStart=\nExecStart={line}\n".encode()


def _stale(declaration: Declaration, state: State) -> str:
    """Return why the running engine has to be restarted to run what the files say, empty where it has not.

    A run that was ended between writing and restarting is found by this, and so is a file that somebody changed.
    """
    service = state.service
    if not service.active:
        return ""
    extra = set(hosts(service.arguments)) - {*hosts(state.words), declaration.url if declaration.present else ""}
    left = sorted(filter(on_network, extra)) if state.command else []
    still = f"still listens on {', '.join(left)}" if left else ""
    if not declaration.runs:
        return still
    if declaration.present and service.arguments[-len(declaration.flags) :] != declaration.flags:
        return "was started with another command line"
    if declaration.present and still:
        return still
    paths = [declaration.drop_in, state.config_path] if declaration.present else [state.config_path]
    paths += [declaration.tls_path(name) for name in TLS_NAMES] if declaration.uses_tls else []
    # A time in the future says that the clock was changed, not that the file is newer.
    newer = [path for path in paths if service.started < state.file(path).modified <= state.now]
    return f"was started before {newer[0]} was changed" if newer else ""


def describe(
    declaration: Declaration, state: State, changed: Mapping[str, Optional[bytes]]
) -> Tuple[Dict[str, Any], Dict[str, Any]]:
    """Return the states before and after for the diff: texts and fingerprints, never a key.

    :param changed: the contents of the files that change, by path; None for those that are removed.
    """
    before: Dict[str, Any] = {}
    after: Dict[str, Any] = {}
    for path in (declaration.drop_in, state.config_path) if declaration.own_files else (state.config_path,):
        held = state.file(path).content
        before[path] = daemon_config.shown(held)
        after[path] = daemon_config.shown(changed.get(path, held))
    if declaration.uses_tls or not declaration.runs:
        whose = "the declared" if declaration.present else "the former"
        for name in TLS_NAMES:
            path = declaration.tls_path(name)
            before[path] = _shown_tls(name, state.file(path).content, "a")
            after[path] = _shown_tls(name, changed[path], whose) if path in changed else before[path]
    before["engine"] = "running" if _runs_by_then(state) else "not running"
    after["engine"] = "running" if declaration.runs or state.service.active else "not running"
    return before, after


def _shown_tls(name: str, content: Optional[bytes], whose: str) -> str:
    if content is None:
        return "absent"
    if name == "key":
        return f"{whose} private key"
    return tls.fingerprint(content) or "not known yet"
