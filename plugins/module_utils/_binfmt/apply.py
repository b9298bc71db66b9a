# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The logic of module ``binfmt``: look at the host or its engine, take the steps, look again."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Dict, Mapping, Optional, Sequence, Tuple

from .._core.errors import FarmError
from .._core.files import read_bytes, restore, write_atomically
from .._core.outcome import Outcome
from .._core.runner import CommandError, Result, Runner, checked
from .._docker.config import config_dir
from .._host.systemd import require_systemd
from .._platform.elf import ask_here, program
from .._platform.platform import Platform, native_platform
from .declaration import Declared
from .engine import Engine
from .image import UNIT, UNIT_LINK, UNIT_PATH
from .plan import NO_RULE, Action, Found, Plan, plan
from .registry import ENTRIES, ROOT, Registry, require_kernel
from .rules import RuleFile, of_update_binfmts, read_rule_files, rule_for
from .verdict import MISSING, NATIVE, REGISTERED, Verdict, judge

#: What cannot be seen through an engine.
NOT_COMPARED = ("interpreter", "flags")
#: Seconds.
_STEP_TIMEOUT = 600
_PACKAGES = "qemu-user-binfmt on Debian 13 and later, qemu-linux-user on SUSE, elsewhere qemu-user-static"


_HINTS = {
    "mount": "; the kernel may have no binfmt_misc, or the task no right to mount",
    "restart": f"; see journalctl -u {UNIT} on it",
}


@dataclass(frozen=True)
class Host:
    """Where the handlers are.

    :ivar name: of the host, or its engine's endpoint.
    """

    name: str
    engine: Engine
    runner: Runner

    def read(self, declared: Declared, files: Sequence[RuleFile]) -> Found:
        """Look at the handlers, and run one tiny program for each declared platform.

        :raises FarmError: it cannot be done.
        """
        if declared.remote:
            # What this needs would delay all other tasks by tens of milliseconds.
            from .remote import look

            return look(declared, self.engine)
        registry = Registry.read(self.runner)
        unit = read_bytes(UNIT_PATH)
        return Found(
            registry,
            {platform: self._judge(platform, declared, registry, files) for platform in declared.platforms},
            unit.decode(errors="replace") if unit is not None else None,
            os.path.lexists(UNIT_LINK),
            files,
            of_update_binfmts(),
        )

    def _judge(self, platform: Platform, declared: Declared, registry: Registry, files: Sequence[RuleFile]) -> Verdict:
        """Judge a declared platform; of one that is to be absent only the registration counts."""
        demand = declared.demand(platform.arch, files)
        if not declared.present:
            return Verdict(REGISTERED if registry.in_the_way(platform.arch, demand.name) else MISSING)
        native = native_platform(os.uname().machine)
        verdict = judge(platform, registry, native, lambda arch: ask_here(arch, self.runner), demand)
        if declared.image is None and verdict.text != NATIVE and not rule_for(program(platform.arch), files):
            return Verdict(NO_RULE)
        return verdict


def logic(params: Mapping[str, Any], check_mode: bool, runner: Runner) -> Outcome:
    """Make the declared platforms runnable, or no longer.

    :raises FarmError: it cannot be done.
    """
    files = [] if params["endpoint"] else read_rule_files()
    declared = Declared.from_params(params, files)
    name = params["endpoint"] if declared.remote else socket.gethostname()
    config = str(config_dir(params)) if declared.remote else None
    host = Host(name, Engine(runner, name, declared.docker, config), runner)
    if not declared.remote:
        _require_local(name, declared)
    found = host.read(declared, files)
    declared, found = _as_the_image_has(host, declared, found, check_mode)
    lacking = [str(platform) for platform, verdict in found.verdicts.items() if verdict.text == NO_RULE]
    if params["platforms"] and not declared.platforms:
        lacking = ["any of these handlers"]
    warnings = _lacking(name, lacking, check_mode) if lacking else ()
    steps = plan(declared, found)
    if steps.actions and not declared.remote:
        _require_rights(host, steps, check_mode)
    after = found.verdicts
    if steps.actions and not check_mode:
        after = apply(host, declared, found, steps)
    return Outcome(
        steps.before, steps.after, steps.actions, _values(declared, after, steps), (*warnings, *steps.warnings)
    )


def _as_the_image_has(host: Host, declared: Declared, found: Found, check_mode: bool) -> Tuple[Declared, Found]:
    """Leave out what is declared only as far as the image has it and that it does not have.

    Where there is nothing to do the image is not asked, so that no engine is needed.

    :raises FarmError: the image has none of all, or cannot be asked; in check mode it may be yet to come.
    """
    image, emulated = declared.image, found.emulated(declared)
    bad = {platform.arch for platform, verdict in found.verdicts.items() if not verdict.good}
    # What is not there first: mostly, nothing is to be done without that.
    for is_bad in (True, False):
        asked = [arch for arch in declared.if_there if arch in emulated and (arch in bad) == is_bad]
        if not image or not asked or not plan(declared, found).actions:
            continue
        # Before the engine is there, check mode takes it to be there by then.
        with suppress(*([CommandError] if check_mode else [])):
            declared = declared.without(host.engine.lacking(image, asked, pull=not check_mode))
        found = replace(found, verdicts={platform: found.verdicts[platform] for platform in declared.platforms})
        if not found.emulated(declared):
            emulators = ", ".join(ENTRIES[arch] for arch in asked)
            raise FarmError(
                f"{host.name}: the emulator image {image.name} has none of the emulators {emulators}; choose an image "
                "as tonistiigi/binfmt, which has them in /usr/bin"
            )
    return declared, found


def _values(declared: Declared, after: Mapping[Platform, Verdict], steps: Plan) -> Dict[str, Any]:
    """Return what the task tells of the platforms."""
    expected = {platform: steps.after[str(platform)] for platform in declared.platforms}
    emulated = [platform for platform, text in expected.items() if text not in (NATIVE, MISSING)]
    return {
        "native": [str(platform) for platform, text in expected.items() if text == NATIVE],
        "emulated": [str(platform) for platform in emulated],
        "qemu_versions": {str(platform): after[platform].version for platform in emulated},
        "not_compared": list(NOT_COMPARED) if declared.remote else [],
    }


def _require_local(host: str, declared: Declared) -> None:
    """Make sure that this host can have the handlers.

    :raises FarmError: it cannot.
    """
    if not os.path.isdir(ROOT):
        raise FarmError(
            f"{host}: {ROOT} is missing, so this kernel has no binfmt_misc at the moment; load the module binfmt_misc, "
            "or use a kernel with CONFIG_BINFMT_MISC"
        )
    if not declared.present:
        return
    require_kernel(host, os.uname().release)
    if declared.persistent and declared.image:
        try:
            require_systemd(host)
        except FarmError as exc:
            raise FarmError(f"{exc.message}; set persistent: false where handlers need not outlive a reboot") from exc


def _lacking(host: str, what: Sequence[str], check_mode: bool) -> Tuple[str, ...]:
    """Say that the host's packages do not register what is declared; in check mode they may be yet to come.

    :raises FarmError: it is no check mode.
    """
    message = (
        f"{host}: no package registers {', '.join(what)} by a file in binfmt.d; "
        f"install the distribution's ({_PACKAGES}), or use source: image"
    )
    if not check_mode:
        raise FarmError(message)
    return (f"{message}. Taken to be installed by then.",)


def _require_rights(host: Host, steps: Plan, check_mode: bool) -> None:
    """Make sure that the steps can be taken.

    :raises FarmError: they cannot.
    """
    if os.geteuid() != 0:
        raise FarmError(f"{host.name}: only root may change handlers, and the task runs as another user; use become")
    if any(action[0] == "docker" for action in steps.actions):
        # Before the engine is there, check mode takes it to be there by then.
        with suppress(*([CommandError] if check_mode else [])):
            host.engine.info()


def apply(host: Host, declared: Declared, found: Found, steps: Plan) -> Mapping[Platform, Verdict]:
    """Take the steps, then look whether the kernel has what is declared; returns the verdicts then.

    :raises FarmError: a step failed, or the handlers are not as declared afterwards.
    """
    said = now = None
    try:
        for action in steps.actions:
            if action[0] == "docker" and declared.image:
                said = host.engine.emulate(declared.image, action[len(declared.docker) :])
                now = _verify(host, declared, found, said)
            else:
                now = None
                _step(host, action, steps)
    except FarmError:
        # What the kernel has stays and is found by the next run; files do not.
        for path in steps.files:
            before = {UNIT_PATH: found.unit, **{file.override_path: file.override for file in found.files}}.get(path)
            restore(path, before.encode() if before is not None else None)
        raise
    return now or _verify(host, declared, found, said)


def _step(host: Host, action: Action, steps: Plan) -> None:
    """Take one step that is not the image's.

    :raises FarmError: it failed.
    """
    path = action[1]
    try:
        if action[0] == "write" and path in steps.files:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            write_atomically(path, (steps.files[path] or "").encode())
        elif action[0] == "write":
            with open(path, "wb", buffering=0) as stream:
                stream.write(action[2].encode())
        elif action[0] == "remove":
            restore(path, None)
        else:
            hint = _HINTS.get(path if action[0] == "systemctl" else action[0], "")
            checked(host.runner, action, f"{host.name}: {' '.join(action)} failed{hint}", timeout=_STEP_TIMEOUT)
    except OSError as exc:
        hint = "a container needs to be privileged for that"
        if action[0] == "write" and path == f"{ROOT}/register":
            hint = f"the rule is {action[2]}; is its interpreter installed?"
        raise FarmError(f"{host.name}: {path} could not be changed: {exc.strerror or exc}; {hint}") from exc


def _verify(host: Host, declared: Declared, found: Found, said: Optional[Result]) -> Mapping[Platform, Verdict]:
    """Look at the kernel again.

    :raises FarmError: a platform is not as declared; with what the image said, which exits with 0 whatever happens.
    """
    now = host.read(declared, found.files)
    if declared.present:
        wrong = [f"{platform} is {verdict.text}" for platform, verdict in now.verdicts.items() if not verdict.good]
    else:
        wrong = [f"{one} is {verdict.text}" for one, verdict in now.verdicts.items() if verdict.text != MISSING]
    if declared.state == "exact":
        wrong += [f"handler {name} is still there" for name in replace(now, files=found.files).others(declared)]
    if not wrong:
        return now.verdicts
    message = f"{host.name}: after the task {'; '.join(wrong)}"
    if said is None or declared.image is None:
        raise FarmError(f"{message}; the next run tries again")
    lines = [line for line in said.stderr.splitlines() if line.strip()]
    raise FarmError(
        f"{message}; the emulator image {declared.image.name} said: {' | '.join(lines) or 'nothing'}; "
        "choose an image that has these emulators and works on this kernel",
        cmd=list(said.argv),
        rc=said.rc,
        stdout=said.stdout,
        stderr=said.stderr,
    )
