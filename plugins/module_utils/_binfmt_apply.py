# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Registering QEMU handlers with an emulator image, removing them, and keeping them over reboots."""

from __future__ import annotations

import glob
import os
import re
import socket
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from ._binfmt import ENTRIES, MISSING, NATIVE, REGISTERED, ROOT, WORKS, Registry, judge, platforms_of, read_platforms
from ._errors import FarmError
from ._files import read_bytes, restore, write_atomically
from ._plan import Outcome
from ._platforms import Platform, native_platform
from ._runner import CommandError, Result, Runner, checked
from ._systemd import require_systemd

UNIT = "buildfarm-binfmt.service"
UNIT_PATH = "/etc/systemd/system/" + UNIT
UNIT_LINK = "/etc/systemd/system/multi-user.target.wants/" + UNIT
#: Where the host's own packages say what is registered at boot: binfmt.d(5), and Debian's update-binfmts(8).
_HOST_SETTINGS = [f"{base}/binfmt.d/*.conf" for base in ("/etc", "/run", "/usr/local/lib", "/usr/lib", "/lib")] + [
    "/var/lib/binfmts/*"
]
#: Seconds; the image may have to be pulled.
_RUN_TIMEOUT = 600
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]*\Z")


@dataclass(frozen=True)
class Declared:
    """What the user wants, checked."""

    present: bool
    platforms: Tuple[Platform, ...]
    image: str
    smoke_test: bool
    persistent: bool
    qemu_version: Optional[str]

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> Declared:
        """Read the module's options.

        :raises FarmError: one of them is malformed.
        """
        present = params["state"] == "present"
        if params["platforms"] is None and not present:
            platforms = tuple(platforms_of(arch)[0] for arch in ENTRIES)
        else:
            platforms = read_platforms(params["platforms"] or [])
        if not _IMAGE.match(params["image"]):
            raise FarmError(f"image {params['image']!r}: wanted the name of an image, as in registry/name:tag")
        return cls(
            present,
            platforms,
            params["image"],
            params["smoke_test"],
            params["persistent"],
            params["qemu_version"] or None,
        )

    @property
    def architectures(self) -> Tuple[str, ...]:
        """The platforms' architectures, each once."""
        return tuple(dict.fromkeys(platform.arch for platform in self.platforms))


@dataclass(frozen=True)
class Found:
    """What the host has.

    :ivar verdicts: by platform, of those declared.
    :ivar unit: text of the boot unit, None where there is none.
    :ivar at_boot: handler to the file by which the host's own packages register it at boot.
    """

    registry: Registry
    verdicts: Mapping[Platform, str]
    unit: Optional[str] = None
    enabled: bool = False
    at_boot: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """Steps in their order.

    :ivar actions: argument lists; ``write PATH VALUE`` and ``remove PATH`` are done by the module itself.
    :ivar unit: the boot unit as it is to be; None for none.
    :ivar kept: platforms that the boot unit registers afterwards.
    """

    actions: Tuple[Tuple[str, ...], ...]
    unit: Optional[str]
    kept: Tuple[str, ...]
    warnings: Tuple[str, ...] = ()


def run_argv(image: str, uninstall: Sequence[str], install: Sequence[str]) -> Tuple[str, ...]:
    """Return the command that runs an emulator image; it removes handlers before it registers any."""
    argv = ["docker", "run", "--rm", "--privileged", "--network", "none", image]
    argv += ["--uninstall", ",".join(uninstall)] if uninstall else []
    return (*argv, "--install", ",".join(install))


def unit_text(image: str, architectures: Sequence[str]) -> str:
    """Return the boot unit: handlers that a container registered are gone after a reboot.

    systemd-binfmt removes all handlers when it is stopped or restarted; PartOf lets this unit follow it.
    """
    command = " ".join(run_argv(image, (), architectures))
    return f"""\
# Written by the Ansible module buildfarm.multiarch.binfmt, which overwrites changes.
[Unit]
Description=QEMU handlers for foreign platforms
Wants=docker.service
After=docker.service systemd-binfmt.service
PartOf=systemd-binfmt.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/bin/env {command}

[Install]
WantedBy=multi-user.target
"""


def unit_settings(text: Optional[str]) -> Tuple[str, Tuple[str, ...]]:
    """Return the image and the architectures of a boot unit, empty where there is none."""
    found = re.search(r"^ExecStart=.* none (\S+) --install (\S+)$", text or "", re.MULTILINE)
    return (found.group(1), tuple(found.group(2).split(","))) if found else ("", ())


def registered_by_host(patterns: Sequence[str] = tuple(_HOST_SETTINGS)) -> Dict[str, str]:
    """Return the handlers that the host registers by itself at boot, each with the file that says so."""
    found: Dict[str, str] = {}
    for path in (path for pattern in patterns for path in sorted(glob.glob(pattern))):
        text = (read_bytes(path) or b"").decode(errors="replace")
        names = re.findall(r"^:([^:\s]+):", text, re.MULTILINE)
        for name in names if path.endswith(".conf") else [os.path.basename(path)]:
            found.setdefault(name, path)
    return found


def read(declared: Declared, runner: Runner) -> Found:
    """Look at the host: files, and one tiny program for each declared platform.

    :raises FarmError: the host's architecture is unknown, or no program can be run.
    """
    registry = Registry.read()
    unit = read_bytes(UNIT_PATH)
    return Found(
        registry,
        _verdicts(declared, registry, runner),
        unit.decode(errors="replace") if unit is not None else None,
        os.path.lexists(UNIT_LINK),
        registered_by_host(),
    )


def _verdicts(declared: Declared, registry: Registry, runner: Runner) -> Dict[Platform, str]:
    """Judge the declared platforms; of those to be absent only the registration counts."""
    native = native_platform(os.uname().machine)
    if declared.present:
        return {
            platform: judge(platform, registry, native, runner, declared.smoke_test, declared.qemu_version)
            for platform in declared.platforms
        }
    return {
        platform: REGISTERED if ENTRIES[platform.arch] in registry.handlers else MISSING
        for platform in declared.platforms
    }


def plan(declared: Declared, found: Found) -> Plan:
    """Return the steps from what the host has to what is declared; a pure function."""
    if declared.present:
        steps, warnings = _install_steps(declared, found)
    else:
        entries = [ENTRIES[arch] for arch in declared.architectures if ENTRIES[arch] in found.registry.handlers]
        steps = [("write", f"{ROOT}/{entry}", "-1") for entry in entries]
        warnings = [_comes_back(entry, found.at_boot[entry]) for entry in entries if entry in found.at_boot]
    unit, kept = _unit(declared, found)
    return Plan((*steps, *_unit_steps(found, unit)), unit, kept, tuple(warnings))


def _install_steps(declared: Declared, found: Found) -> Tuple[List[Tuple[str, ...]], List[str]]:
    good = (NATIVE, WORKS, REGISTERED)
    wanting = [platform.arch for platform, verdict in found.verdicts.items() if verdict not in good]
    install = tuple(dict.fromkeys(wanting))
    replace = [ENTRIES[arch] for arch in install if ENTRIES[arch] in found.registry.handlers]
    steps: List[Tuple[str, ...]] = []
    if install:
        if not found.registry.mounted:
            steps.append(("mount", "-t", "binfmt_misc", "binfmt_misc", ROOT))
        elif not found.registry.enabled:
            steps.append(("write", f"{ROOT}/status", "1"))
        steps.append(run_argv(declared.image, replace, install))
    return steps, [_comes_back(entry, found.at_boot[entry]) for entry in replace if entry in found.at_boot]


def _comes_back(entry: str, path: str) -> str:
    return f"{path} registers its own handler {entry} at each boot; remove the package that it belongs to"


def _unit(declared: Declared, found: Found) -> Tuple[Optional[str], Tuple[str, ...]]:
    """Return the boot unit's text and architectures; those of other tasks stay in it."""
    image, held = unit_settings(found.unit)
    kept = [arch for arch in held if arch not in declared.architectures]
    if declared.present and declared.persistent:
        native = {platform.arch for platform, verdict in found.verdicts.items() if verdict == NATIVE}
        own = [arch for arch in declared.architectures if arch not in native and ENTRIES[arch] not in found.at_boot]
        kept = sorted({*kept, *own})
        image = declared.image if own else image
    return (unit_text(image, kept) if kept else None), tuple(kept)


def _unit_steps(found: Found, unit: Optional[str]) -> List[Tuple[str, ...]]:
    reload = ("systemctl", "daemon-reload")
    if unit is None:
        gone = [("systemctl", "disable", "--now", UNIT), ("remove", UNIT_PATH), reload]
        return gone if found.unit is not None else []
    if unit == found.unit and found.enabled:
        return []
    write = [("write", UNIT_PATH)] if unit != found.unit else []
    # Enabled last: a unit that does not start is not taken for a finished one by the next run.
    return [*write, reload, ("systemctl", "restart", UNIT), ("systemctl", "enable", UNIT)]


def logic(params: Mapping[str, Any], check_mode: bool, runner: Runner) -> Outcome:
    """Make the declared platforms runnable on this host, or no longer.

    :raises FarmError: it cannot be done.
    """
    declared = Declared.from_params(params)
    host = socket.gethostname()
    if declared.present and declared.persistent:
        try:
            require_systemd(host)
        except FarmError as exc:
            raise FarmError(f"{exc.message}; set persistent: false where handlers need not outlive a reboot") from exc
    found = read(declared, runner)
    steps = plan(declared, found)
    if steps.actions and not check_mode:
        apply(host, declared, found, steps, runner)
    good = WORKS if declared.smoke_test else REGISTERED
    after = {platform: _after(declared, verdict, good) for platform, verdict in found.verdicts.items()}
    values = {
        "native": [str(platform) for platform in declared.platforms if after[platform] == NATIVE],
        "emulated": [str(platform) for platform in declared.platforms if after[platform] in (WORKS, REGISTERED)],
    }
    return Outcome(
        _described(found.verdicts, unit_settings(found.unit)[1]),
        _described(after, steps.kept),
        steps.actions,
        values,
        steps.warnings,
    )


def _after(declared: Declared, verdict: str, good: str) -> str:
    if not declared.present:
        return MISSING
    return NATIVE if verdict == NATIVE else good


def _described(verdicts: Mapping[Platform, str], at_boot: Sequence[str]) -> Dict[str, Any]:
    """Return a state for the diff."""
    boot = sorted(str(platforms_of(arch)[0]) for arch in at_boot if arch in ENTRIES)
    return {**{str(platform): verdict for platform, verdict in verdicts.items()}, "registered_at_boot": boot}


def apply(host: str, declared: Declared, found: Found, steps: Plan, runner: Runner) -> None:
    """Take the steps, then look whether the kernel has what is declared.

    :raises FarmError: a step failed, or the handlers are not as declared afterwards.
    """
    said = None
    try:
        for action in steps.actions:
            if action[0] == "docker":
                said = _run_image(host, declared.image, action, runner)
                _verify(host, declared, said, runner)
            else:
                _step(host, action, steps, runner)
    except FarmError:
        # What the kernel has stays and is found by the next run; a unit that did not start does not.
        if steps.unit != found.unit:
            restore(UNIT_PATH, found.unit.encode() if found.unit is not None else None)
        raise
    _verify(host, declared, said, runner)


def _step(host: str, action: Tuple[str, ...], steps: Plan, runner: Runner) -> None:
    """Take one step that is not the image's.

    :raises FarmError: it failed.
    """
    path = action[1]
    try:
        if action[0] == "write" and path == UNIT_PATH:
            write_atomically(path, (steps.unit or "").encode())
        elif action[0] == "write":
            with open(path, "wb", buffering=0) as stream:
                stream.write(action[2].encode())
        elif action[0] == "remove":
            restore(path, None)
        else:
            hint = f"; see journalctl -u {UNIT} on it" if action[1:2] == ("restart",) else ""
            checked(runner, action, f"{host}: {' '.join(action)} failed{hint}", timeout=_RUN_TIMEOUT)
    except OSError as exc:
        raise FarmError(f"{host}: {path} could not be changed: {exc.strerror or exc}; run the task as root") from exc


def _run_image(host: str, image: str, argv: Tuple[str, ...], runner: Runner) -> Result:
    """Run the emulator image; its exit status says nothing, the docker CLI's does.

    :raises CommandError: it did not run.
    """
    try:
        result = runner(argv, timeout=_RUN_TIMEOUT)
    except CommandError as exc:
        hint = "install the docker CLI there" if exc.result.rc == 127 else "its registry may be out of reach from there"
        raise CommandError(f"{host}: the emulator image {image} was not run; {hint}", exc.result) from exc
    if result.rc != 0:
        raise CommandError(
            f"{host}: the emulator image {image} was not run; the engine on {host} has to run and be able to pull it",
            result,
        )
    return result


def _verify(host: str, declared: Declared, said: Optional[Result], runner: Runner) -> None:
    """Look at the kernel again.

    :raises FarmError: a platform is not as declared; with what the image said, which exits with 0 whatever happens.
    """
    verdicts = _verdicts(declared, Registry.read(), runner)
    good = (NATIVE, WORKS, REGISTERED) if declared.present else (MISSING,)
    wrong = [f"{platform} is {verdict}" for platform, verdict in verdicts.items() if verdict not in good]
    if not wrong:
        return
    message = f"{host}: after the task {'; '.join(wrong)}"
    if said is None:
        raise FarmError(message)
    lines = [line for line in said.stderr.splitlines() if line.strip()]
    raise FarmError(
        f"{message}; the emulator image {declared.image} said: {' | '.join(lines) or 'nothing'}; "
        "choose an image that has these emulators and works on this kernel",
        cmd=list(said.argv),
        rc=said.rc,
        stdout=said.stdout,
        stderr=said.stderr,
    )
