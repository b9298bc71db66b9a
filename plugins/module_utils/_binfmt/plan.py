# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From the handlers that a host has to those that are declared: pure functions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from .._platform.elf import program
from .._platform.platform import Platform
from .declaration import Declared
from .image import UNIT, UNIT_PATH, unit_settings, unit_text
from .registry import ENTRIES, ROOT, Registry, platforms_of
from .rules import RuleFile
from .verdict import MISSING, NATIVE, REGISTERED, WORKS, Verdict

Action = Tuple[str, ...]

#: The verdict where the host's packages are wanted and have nothing for a platform.
NO_RULE = "no package of this host registers it"


@dataclass(frozen=True)
class Found:
    """What the host has.

    :ivar verdicts: by platform, of those declared.
    :ivar unit: text of the boot unit, None where there is none.
    :ivar enabled: whether that is started at boot.
    :ivar files: rules of the host's packages.
    :ivar updated: handler to the file by which update-binfmts registers it at boot.
    """

    registry: Registry
    verdicts: Mapping[Platform, Verdict]
    unit: Optional[str] = None
    enabled: bool = False
    files: Sequence[RuleFile] = ()
    updated: Mapping[str, str] = field(default_factory=dict)

    def emulated(self, declared: Declared) -> Tuple[str, ...]:
        """Return the declared architectures that the host does not run by itself."""
        native = {platform.arch for platform, verdict in self.verdicts.items() if verdict.text == NATIVE}
        return tuple(arch for arch in declared.architectures if arch not in native)

    def others(self, declared: Declared) -> Tuple[str, ...]:
        """Return QEMU's handlers that are not of the declared platforms."""
        kept = {
            name
            for arch in self.emulated(declared)
            for name in self.registry.in_the_way(arch, declared.demand(arch, self.files).name)
        }
        return tuple(one.name for one in self.registry.handlers.values() if one.is_qemu and one.name not in kept)


@dataclass(frozen=True)
class Plan:
    """Steps in their order.

    :ivar actions: argument lists; ``write PATH VALUE`` and ``remove PATH`` are done by the module itself.
    :ivar files: path to the new content of each file that is written, None for one that is removed.
    :ivar before, after: the managed state, for the diff.
    """

    actions: Tuple[Action, ...]
    files: Mapping[str, Optional[str]]
    before: Mapping[str, Any]
    after: Mapping[str, Any]
    warnings: Tuple[str, ...] = ()


def plan(declared: Declared, found: Found) -> Plan:
    """Return the steps from what the host has to what is declared.

    :raises FarmError: the packages' handlers cannot be as declared.
    """
    others = found.others(declared) if declared.state == "exact" else ()
    if declared.present:
        removed, steps = _install(declared, found, others)
    else:
        removed = tuple(
            name
            for arch in declared.architectures
            for name in found.registry.in_the_way(arch, declared.demand(arch, found.files).name)
        )
        steps = _remove(declared, removed)
    unit, kept = _unit(declared, found)
    files = _overrides(declared, found)
    overridden = {file.override_path for file in found.files if file.override is not None}
    before = {
        **{str(platform): verdict.text for platform, verdict in found.verdicts.items()},
        **({"others": list(others)} if declared.state == "exact" else {}),
        "registered_at_boot": _platforms(unit_settings(found.unit)[1]),
        "overrides": sorted(overridden),
    }
    after = {
        **{str(platform): _expected(declared, verdict) for platform, verdict in found.verdicts.items()},
        **({"others": []} if declared.state == "exact" else {}),
        "registered_at_boot": _platforms(kept),
        "overrides": sorted(
            {path for path in overridden if path not in files} | {path for path, text in files.items() if text}
        ),
    }
    steps += [("write", path) if text else ("remove", path) for path, text in files.items()]
    steps += _unit_steps(found, unit)
    if unit != found.unit:
        files = {**files, UNIT_PATH: unit}
    return Plan(tuple(steps), files, before, after, _warnings(declared, found, files, removed))


def _expected(declared: Declared, verdict: Verdict) -> str:
    if not declared.present:
        return MISSING
    return NATIVE if verdict.text == NATIVE else WORKS if declared.verify else REGISTERED


def _platforms(architectures: Sequence[str]) -> List[str]:
    return sorted(str(platforms_of(arch)[0]) for arch in architectures if arch in ENTRIES)


def _install(declared: Declared, found: Found, others: Sequence[str]) -> Tuple[Tuple[str, ...], List[Action]]:
    """Return the handlers that go, and the steps."""
    bad = [(platform.arch, verdict.text) for platform, verdict in found.verdicts.items() if not verdict.good]
    # Their packages are yet to come, and register handlers when they are installed.
    wanting = [arch for arch, text in bad if text != NO_RULE]
    install = tuple(dict.fromkeys(wanting))
    replaced = [
        name for arch in install for name in found.registry.in_the_way(arch, declared.demand(arch, found.files).name)
    ]
    steps: List[Action] = []
    if install and not found.registry.mounted:
        steps.append(("mount", "-t", "binfmt_misc", "binfmt_misc", ROOT))
    if install and not found.registry.enabled:
        steps.append(("write", f"{ROOT}/status", "1"))
    if declared.image is None:
        steps += _remove(declared, [*others, *replaced])
        rules = (declared.rule(arch, found.files) for arch in install)
        steps += [("write", f"{ROOT}/register", rule.line) for rule in rules if rule]
    elif declared.remote:
        # What is broken there cannot be told from what is missing.
        replaced = [ENTRIES[arch] for arch in install]
        if install or others:
            steps.append((*declared.docker, *declared.image.run_argv([*others, *replaced], install)))
    else:
        steps += _remove(declared, [*others, *(replaced if declared.image.is_legacy else [])])
        steps += [(*declared.docker, *declared.image.run_argv(replaced, install))] if install else []
    return (*others, *replaced), steps


def _remove(declared: Declared, names: Sequence[str]) -> List[Action]:
    if declared.remote and declared.image:
        return [(*declared.docker, *declared.image.run_argv(names))] if names else []
    return [("write", f"{ROOT}/{name}", "-1") for name in dict.fromkeys(names)]


def _overrides(declared: Declared, found: Found) -> Dict[str, Optional[str]]:
    """Return the new content of each file in /etc/binfmt.d that has to change, None to remove it."""
    if not declared.persistent:
        return {}
    changes: Dict[str, Optional[str]] = {}
    for file in found.files:
        lines: Dict[str, Optional[str]] = {}
        for rule in (rule for rule in file.rules() if rule.handler.is_qemu):
            arch = next((arch for arch in found.emulated(declared) if rule.handler.runs(program(arch))), None)
            if arch is None:
                lines.update({rule.handler.name: None} if declared.state == "exact" else {})
            elif not declared.present:
                lines[rule.handler.name] = None
            elif declared.image is None:
                lines[rule.handler.name] = rule.with_flags(declared.demand(arch, found.files)).line
        text = file.overridden(lines)
        if file.can_be_overridden and text != file.override:
            changes[file.override_path] = text
    return changes


def _warnings(
    declared: Declared, found: Found, files: Mapping[str, Optional[str]], removed: Sequence[str]
) -> Tuple[str, ...]:
    """Say which of the handlers that go the host registers again at boot."""
    if declared.image and declared.present and declared.persistent:
        # The boot unit comes after the host's own and replaces its handlers.
        removed = [name for name in removed if name not in {ENTRIES[arch] for arch in declared.architectures}]
    elif declared.image is None and declared.present:
        wanted = {declared.demand(arch, found.files).name for arch in declared.architectures}
        removed = [name for name in removed if name not in wanted]
    at_boot = dict(found.updated)
    for file in found.files:
        if file.override_path not in files:
            at_boot.update(dict.fromkeys(file.at_boot(), file.path))
    return tuple(
        f"{at_boot[name]} registers handler {name} at each boot; remove it, or the package that it belongs to"
        for name in dict.fromkeys(removed)
        if name in at_boot
    )


def _unit(declared: Declared, found: Found) -> Tuple[Optional[str], Tuple[str, ...]]:
    """Return the boot unit's text and architectures; those of other tasks stay in it."""
    image, held = unit_settings(found.unit)
    if declared.remote:
        return found.unit, held
    own = set(found.emulated(declared)) if declared.present and declared.persistent and declared.image else set()
    others = set() if declared.state == "exact" else {arch for arch in held if arch not in declared.architectures}
    kept = tuple(sorted(own | others))
    image = declared.image if own else image
    return (unit_text(image, kept) if kept and image else None), kept


def _unit_steps(found: Found, unit: Optional[str]) -> List[Action]:
    reload = ("systemctl", "daemon-reload")
    if unit is None:
        gone = [("systemctl", "disable", "--now", UNIT), ("remove", UNIT_PATH), reload]
        return gone if found.unit is not None else []
    if unit == found.unit and found.enabled:
        return []
    write = [("write", UNIT_PATH)] if unit != found.unit else []
    if found.enabled and unit_settings(unit)[0] == unit_settings(found.unit)[0]:
        # It has proved to work, and to start it again would take away the handlers of other tasks for a moment.
        return [*write, reload]
    # Enabled last: a unit that does not start is not taken for a finished one by the next run.
    return [*write, reload, ("systemctl", "restart", UNIT), ("systemctl", "enable", UNIT)]
