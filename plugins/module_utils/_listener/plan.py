# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Making an engine listen on TCP: the steps from what the host has to what is declared."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Tuple

from .._core.errors import FarmError
from .._docker import tls
from .._host.systemd import referenced
from . import daemon_config
from .model import (
    DEFAULT_SOCKET,
    DROP_IN,
    NETWORK_KEYS,
    TLS_NAMES,
    Content,
    Declared,
    Found,
    hosts,
    is_network,
    on_network,
    options,
)


@dataclass(frozen=True)
class Change:
    """A file to write or to remove (``after`` is None).

    :ivar promised: the content is not known yet; check mode only.
    """

    path: str
    after: Optional[bytes]
    mode: int
    promised: bool = False


@dataclass(frozen=True)
class Plan:
    """Steps in their order: directories, files, then systemctl.

    :ivar stale: why a running engine has to be restarted although no file changes.
    """

    directories: Tuple[Tuple[str, int], ...] = ()
    changes: Tuple[Change, ...] = ()
    commands: Tuple[Tuple[str, ...], ...] = ()
    stale: str = ""

    @property
    def actions(self) -> List[List[str]]:
        """The steps as the task's result shows them."""
        steps = [["mkdir", "-p", "-m", f"{mode:04o}", path] for path, mode in self.directories]
        steps += [["remove" if change.after is None else "write", change.path] for change in self.changes]
        return steps + [list(command) for command in self.commands]

    @property
    def restarts(self) -> bool:
        """Whether the engine is started or restarted."""
        return any(command[1] in ("start", "restart") for command in self.commands)


_HEADER = "# Written by the Ansible module buildfarm.multiarch.docker_listener, which overwrites changes.\n"
_UNKNOWN_COMMAND = "<the command of {unit}, known once the engine is installed>"


def check(declared: Declared, found: Found, predicting: bool) -> Tuple[str, ...]:
    """Refuse what cannot work before anything is changed; returns warnings.

    :param predicting: in check mode, where earlier tasks may not have done yet what this one builds upon.
    :raises FarmError: the declaration and the host do not fit together.
    """
    warnings = []
    if found.service.loaded == "masked":
        raise FarmError(
            f"{declared.host}: {declared.unit} is masked; unmask it (systemctl unmask {declared.unit}) first"
        )
    if not declared.runs:
        return ()
    if found.command is None:
        missing = f"{declared.unit} is not installed on {declared.host}"
        if found.others:
            raise FarmError(
                f"{missing}; found {' and '.join(found.others)}, and wanted an engine that systemd runs for the whole"
                " system, as the packages of distributions and of Docker have it; remove it, then apply the role"
                " buildfarm.multiarch.engine"
            )
        if not predicting:
            raise FarmError(f"{missing}; apply the role buildfarm.multiarch.engine first")
        warnings.append(f"{missing} yet: the drop-in's command and the state of daemon.json are predicted without it")
    if not declared.present:
        return tuple(warnings)
    if found.overriding:
        raise FarmError(
            f"{declared.host}: {found.overriding} replaces the command of {declared.unit} after {declared.drop_in}; "
            f"rename it so that it sorts before {DROP_IN}"
        )
    _check_command(declared, found)
    if found.replaced:
        warnings.append(
            f"{declared.host}: {' '.join(found.replaced)} in {found.source} is left out of the engine's command, in"
            " favour of this listener; remove it there, or it is back when this listener is removed"
        )
    given_up = [key for key in NETWORK_KEYS if key in _merged(declared, found)[1]]
    if given_up:
        warnings.append(
            f"{declared.host}: {found.config_path} gives up {', '.join(given_up)} in favour of this listener, and does"
            " not get it back when this listener is removed"
        )
    if not declared.insecure:
        _check_tls(declared, found, predicting)
    else:
        warnings.append(
            f"{declared.host}: the engine listens on {declared.url} without TLS: "
            "whoever reaches this address is root on this host"
        )
    return tuple(warnings)


def _check_command(declared: Declared, found: Found) -> None:
    """Refuse a TCP listener that a variable of the command brings, and that therefore cannot be left out.

    :raises FarmError: it does.
    """
    brought = [words for name, value, words in options(found.words) if is_network(name, value)]
    if not brought:
        return
    used = [(name, found.variables[name]) for name in referenced(found.local_command) if name in found.variables]
    places = {
        f"{name} in {variable.source}": None
        for name, variable in used
        if any(words[-1] in variable.value for words in brought)
    }
    flags = " ".join(word for words in brought for word in words)
    raise FarmError(
        f"{declared.host}: the command of {declared.unit} already has {flags}, from the variable "
        f"{' and '.join(places) or 'of ' + found.source}; remove it there, this task's options replace it"
    )


def _check_tls(declared: Declared, found: Found, predicting: bool) -> None:
    """Refuse TLS material that the engine could not use.

    :raises FarmError: something is missing or does not fit.
    """
    missing = [name for name in ("ca", "certificate") if getattr(declared, name) is None]
    if missing and not predicting:
        raise FarmError(
            f"{declared.host}: {' and '.join(missing)} missing; give ca, certificate and key (module "
            "docker_certificates makes them), or insecure: true for plain TCP"
        )
    for name in ("ca", "certificate"):
        text = getattr(declared, name)
        if text is not None and tls.first_certificate(text) is None:
            raise FarmError(f"{name}: found no PEM certificate in the text given")
    problem = tls.ca_problem(declared.ca) if declared.ca else None
    if problem:
        raise FarmError(f"ca: not usable as certificate authority: {problem}")
    key = declared.key
    if key and b"-----BEGIN" not in key:
        raise FarmError(
            "key: found no PEM private key in the text given; wanted the text itself, not the name of a file"
        )
    if declared.certificate and key:
        problem = tls.key_problem(declared.certificate, key)
        if problem:
            raise FarmError(f"key: it does not belong to the certificate given, or is encrypted: {problem}")
    elif declared.certificate:
        path = declared.tls_path("key")
        key = found.file(path).content
        problem = tls.key_problem(declared.certificate, key) if key else "there is no such file"
        if problem and not predicting:
            raise FarmError(
                f"{declared.host}: {path} is not the private key of the certificate given ({problem}), and the option "
                "key is not set; give the key once, it may be left out while it stays the same",
                key_needed=True,
            )


def check_certificate(declared: Declared, found: Found, steps: Plan) -> None:
    """Refuse a certificate that no client would take, before the engine is restarted with it.

    :raises FarmError: it is another authority's, or not for a server, or not valid now.
    """
    ca, certificate = declared.ca, declared.certificate
    key = declared.key or found.file(declared.tls_path("key")).content
    # In check mode they may still be to come, or the key on the host may be another's.
    if not (steps.restarts and _uses_tls(declared) and ca and certificate and key):
        return
    if tls.key_problem(certificate, key):
        return
    problem = tls.certificate_problem(ca, certificate, key)
    if problem:
        clock = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        raise FarmError(
            f"{declared.host}: certificate: no client that trusts the ca given would take it: {problem}; by this "
            f"host's clock it is {clock}; nothing was changed"
        )


def plan(declared: Declared, found: Found) -> Plan:
    """Return the steps from what the host has to what is declared; a pure function.

    :raises FarmError: daemon.json is not JSON, or the engine would not start with it.
    """
    changes = _changes(declared, found)
    loose = found.tls_directory_mode is None or bool(found.tls_directory_mode & 0o077)
    directories = ((declared.tls_directory, 0o700),) if _uses_tls(declared) and loose else ()
    stale = _stale(declared, found)
    # The engine has read its certificates: removing them, which only state=absent does, does not concern it.
    concern = [change for change in changes if change.path in (declared.drop_in, found.config_path) or change.after]
    commands: Tuple[Tuple[str, ...], ...] = ()
    if concern or stale:
        commands = (("systemctl", "daemon-reload"),)
        if declared.runs or found.service.active:
            commands += restart(declared.unit, found.service.sockets if _opened_its_own(found) else ())
    elif declared.runs and not _runs_by_then(found):
        commands = (("systemctl", "start", declared.unit),)
    elif declared.runs and found.service.needs_reload:
        commands = (("systemctl", "daemon-reload"),)
    return Plan(directories, tuple(changes), commands, stale)


def _runs_by_then(found: Found) -> bool:
    """Whether the engine runs. One that only check mode finds missing runs by then: whoever installs it, starts it."""
    return found.service.active or found.command is None


def restart(unit: str, sockets: Tuple[str, ...] = ()) -> Tuple[Tuple[str, ...], ...]:
    """Return the commands that restart a service, however often that was done in the last minute.

    ``reset-failed`` also sets back the counter by which systemd refuses frequent starts (systemctl(1)).

    :param sockets: socket units to open anew, which is possible only while the service does not run.
    """
    reset = ("systemctl", "reset-failed", unit)
    if not sockets:
        return (reset, ("systemctl", "restart", unit))
    return (reset, ("systemctl", "stop", unit), ("systemctl", "restart", *sockets), ("systemctl", "start", unit))


def _opened_its_own(found: Found) -> bool:
    """Whether the running engine opened the socket that systemd is to open: it removes systemd's file, and its own."""
    return found.service.active and "fd://" in hosts(found.words) and "fd://" not in hosts(found.service.arguments)


def _uses_tls(declared: Declared) -> bool:
    return declared.present and not declared.insecure


def _changes(declared: Declared, found: Found) -> List[Change]:
    """Return the files that differ from what is declared.

    :raises FarmError: daemon.json is not JSON, or the engine would not start with it.
    """
    # The order keeps an engine able to start if a run is ended half-way: the certificates come first and go last.
    wanted = _wanted_tls(declared, found) if _uses_tls(declared) else []
    if declared.state != "kept":
        wanted.append(Change(declared.drop_in, drop_in_text(declared, found) if declared.present else None, 0o644))
    config = _config(declared, found)
    if config is not None:
        wanted.append(Change(found.config_path, config, found.file(found.config_path).mode))
    if declared.state == "absent":
        wanted += [Change(declared.tls_path(name), None, 0) for name in TLS_NAMES]
    return [change for change in wanted if _differs(change, found.file(change.path))]


def _wanted_tls(declared: Declared, found: Found) -> List[Change]:
    """Return the TLS files as declared; a key that the host holds already stays."""
    wanted = []
    key = declared.key
    held = found.file(declared.tls_path("key")).content
    if key is None and declared.certificate and held and not tls.key_problem(declared.certificate, held):
        key = held
    for name, content in zip(TLS_NAMES, (declared.ca, declared.certificate, key)):
        mode = 0o600 if name == "key" else 0o644
        wanted.append(Change(declared.tls_path(name), content or b"", mode, promised=content is None))
    return wanted


def _differs(change: Change, held: Content) -> bool:
    if change.promised or change.after != held.content:
        return True
    return change.after is not None and change.mode == 0o600 and held.mode != 0o600


def _merged(declared: Declared, found: Found) -> Tuple[Dict[str, Any], Dict[str, Any]]:
    """Return the values of daemon.json as they are, and with what is declared.

    :raises FarmError: it is not a JSON object.
    """
    current = daemon_config.parse(found.file(found.config_path).content, found.config_path)
    return current, daemon_config.merge(current, declared.daemon_config or {})


def _config(declared: Declared, found: Found) -> Optional[bytes]:
    """Return daemon.json as declared; the file's own bytes where the values are the same, None where none is needed.

    :raises FarmError: it is not JSON, or the engine would not start with it and its command.
    """
    held = found.file(found.config_path).content
    if not declared.runs and not declared.daemon_config:
        return held
    current, merged = _merged(declared, found)
    if declared.present:
        _check_hosts(declared, found, merged.get("hosts"))
        merged = {key: value for key, value in merged.items() if key not in NETWORK_KEYS}
    _check_conflicts(declared, found, merged)
    return held if merged == current else daemon_config.render(merged)


def _check_hosts(declared: Declared, found: Found, listed: Any) -> None:
    """Refuse to take ``hosts``, which cannot stand beside ``-H`` flags, out of daemon.json where a socket would go.

    :raises FarmError: it names a socket that neither the unit's command nor the declared listener opens, or is no list.
    """
    names = [listed] if isinstance(listed, str) else listed or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or "," in "".join(names):
        raise FarmError(
            f"{declared.host}, {found.config_path}: 'hosts' is {json.dumps(listed)}, wanted a list of addresses, as in"
            ' ["unix:///var/run/docker.sock"]; correct it, or remove it with daemon_config: {hosts: null}'
        )
    usual = {"", "fd://", "unix://", "unix://" + DEFAULT_SOCKET, "unix:///run/docker.sock", *hosts(found.words)}
    lost = [name for name in names if not on_network(name) and name not in usual]
    if lost:
        raise FarmError(
            f"{declared.host}, {found.config_path}: 'hosts' cannot stand beside the -H flags of the unit's command, the"
            f" engine would not start, and {', '.join(lost)} would be lost without it; move that to the unit's command"
            " (-H in a drop-in), or give it up with daemon_config: {hosts: null}"
        )


def _check_conflicts(declared: Declared, found: Found, values: Mapping[str, Any]) -> None:
    """Refuse what would stand in daemon.json and as a flag too: no engine starts with both, and not all can validate.

    A flag that may be given more than once has a key in the plural (moby ``daemon/config``,
    ``findConfigurationConflicts``). What has to do with listening is left to tasks that declare a listener.

    :raises FarmError: something does.
    """
    values = {key: value for key, value in values.items() if declared.runs and key not in NETWORK_KEYS}
    both = []
    for name, _value, _words in options(found.words):
        option = name.lstrip("-") if name.startswith("--") else ""
        both += [(key, name) for key in (option, option + "s", option[:-1] + "ies") if option and key in values]
    if both:
        keys, flags = ", ".join(dict(both)), " ".join(dict(both).values())
        raise FarmError(
            f"{declared.host}, {found.config_path}: {keys} would stand there beside {flags} in the command of"
            f" {declared.unit} ({found.source}); the engine does not start with both, keep one of them"
        )


def drop_in_text(declared: Declared, found: Found) -> bytes:
    """Return the drop-in: the unit's own command with the listener's flags after it."""
    command = found.local_command or _UNKNOWN_COMMAND.format(unit=declared.unit)
    # dockerd opens its usual socket only where it is told of no other (Red Hat and SUSE units name none).
    usual = () if found.command is None or hosts(found.words) else ("-H", "unix://" + DEFAULT_SOCKET)
    line = " ".join((command, *usual, *declared.flags))
    return f"{_HEADER}[Service]\nExecStart=\nExecStart={line}\n".encode()


def _stale(declared: Declared, found: Found) -> str:
    """Say why the running engine does not run what the files say, empty where it does.

    A run that was ended between writing and restarting is found by this, and so is a file that somebody changed.
    """
    service = found.service
    if not service.active:
        return ""
    extra = set(hosts(service.arguments)) - {*hosts(found.words), declared.url if declared.present else ""}
    left = sorted(filter(on_network, extra)) if found.command else []
    still = f"still listens on {', '.join(left)}" if left else ""
    if not declared.runs:
        return still
    if declared.present and service.arguments[-len(declared.flags) :] != declared.flags:
        return "was started with another command line"
    if declared.present and still:
        return still
    paths = [declared.drop_in, found.config_path] if declared.present else [found.config_path]
    paths += [declared.tls_path(name) for name in TLS_NAMES] if _uses_tls(declared) else []
    # A time in the future says that the clock was changed, not that the file is newer.
    newer = [path for path in paths if service.started < found.file(path).modified <= found.now]
    return f"was started before {newer[0]} was changed" if newer else ""


def describe(declared: Declared, found: Found, steps: Plan) -> Tuple[Dict[str, Any], Dict[str, Any]]:
    """Return the states before and after for the diff: texts and fingerprints, never a key."""
    before: Dict[str, Any] = {}
    after: Dict[str, Any] = {}
    changes = {change.path: change for change in steps.changes}
    for path in (declared.drop_in, found.config_path):
        held = found.file(path).content
        before[path] = daemon_config.shown(held)
        after[path] = daemon_config.shown(changes[path].after if path in changes else held)
    if _uses_tls(declared) or not declared.runs:
        for name in TLS_NAMES:
            path = declared.tls_path(name)
            before[path] = _shown_tls(name, found.file(path).content, "a")
            change = changes.get(path)
            whose = "the declared" if declared.present else "the former"
            after[path] = _shown_tls(name, change.after, whose) if change else before[path]
    before["engine"] = "running" if _runs_by_then(found) else "not running"
    if steps.stale and not steps.changes:
        before["engine"] = f"running, {steps.stale}"
    after["engine"] = "running" if declared.runs or found.service.active else "not running"
    return before, after


def _shown_tls(name: str, content: Optional[bytes], whose: str) -> str:
    if content is None:
        return "absent"
    if name == "key":
        return f"{whose} private key"
    return tls.fingerprint(content) or "not known yet"
