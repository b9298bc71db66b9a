# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Handlers of a host of which only the engine can be reached: what its containers run, and what the image reports.

An ordinary container has no view of the host's binfmt_misc. What it can run it runs as all others do, so that flag F
is proved too.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import tarfile
from typing import Callable, Dict, Iterator, Mapping, Optional, Sequence, Set

from .._core.errors import FarmError
from .._core.parallel import each
from .._core.runner import CommandError, Result
from .._platform.elf import ProbeResult, probe, program
from .._platform.platform import Platform, native_platform, runs_natively
from .binfmt_misc import ENTRIES, BinfmtMisc, require_kernel
from .declaration import Declaration
from .engine import NOT_RUN, Engine
from .handler import Demand, Handler
from .state import State
from .status import MISSING, NATIVE, REGISTERED, WORKS, Status


def read_state(declaration: Declaration, engine: Engine) -> State:
    """Find out what an engine's host can run.

    :raises FarmError: the engine cannot be reached, or its host is of no use.
    """
    info = engine.info()
    require_kernel(engine.name, str(info.get("KernelVersion", "")))
    native = native_platform(str(info.get("Architecture", "")))
    report = None
    if not (declaration.verify or declaration.qemu_version) or declaration.state != "present":
        report = reported_handlers(declaration, engine)
    names = {name: Handler(name, True, "", "F") for name in report or ()}
    return State(BinfmtMisc(True, True, names), statuses(declaration, engine, native, report))


def reported_handlers(declaration: Declaration, engine: Engine) -> Set[str]:
    """Return the enabled handlers that the emulator image reports, of whatever programs.

    :raises FarmError: it cannot report.
    """
    image = declaration.image
    if image is None or image.is_legacy:
        raise FarmError(
            f"image {image.name if image else None} reports nothing; without a view of the host, state: absent and "
            "exact and verify: false need one that does, as tonistiigi/binfmt"
        )
    result = engine.list_handlers(image)
    try:
        return set(json.loads(result.stdout)["emulators"] or ())
    except (ValueError, KeyError, TypeError) as exc:
        raise CommandError(
            f"{engine.name}: the emulator image {image.name} did not report its handlers", result
        ) from exc


def statuses(
    declaration: Declaration, engine: Engine, native: Platform, report: Optional[Set[str]] = None
) -> Dict[Platform, Status]:
    """Return the status of each declared platform.

    :param report: the handlers that the image reports, None where it was not run for that.
    :raises FarmError: the engine runs no containers.
    """
    probed = declaration.present and (declaration.verify or bool(declaration.qemu_version))
    foreign = [arch for arch in declaration.architectures if not runs_natively(Platform.make("linux", arch), native)]
    answers = probe_all(engine, foreign) if probed and foreign else {}
    found = {}
    for platform in declaration.platforms:
        if declaration.present and platform.arch not in foreign:
            found[platform] = Status(NATIVE)
        else:
            answer = answers.get(platform.arch)
            found[platform] = _status(platform, answer, report or set(), declaration.demand(platform.arch))
    return found


def _status(platform: Platform, answer: Optional[ProbeResult], report: Set[str], demand: Demand) -> Status:
    if answer is None:
        return Status(REGISTERED if ENTRIES[platform.arch] in report else MISSING)
    if answer.problem:
        return Status(f"not run there: {answer.problem}")
    if answer.version is None:
        return Status(NATIVE)
    good = WORKS if demand.verify else REGISTERED
    return Status(demand.version_problem(answer.version) or good, answer.version)


def probe_all(engine: Engine, architectures: Sequence[str]) -> Dict[str, ProbeResult]:
    """Run the programs of architectures, all at the same time.

    :raises FarmError: the engine runs no containers.
    """
    with programs(engine) as start:
        return dict(zip(architectures, each(architectures, lambda arch: probe(arch, start))))


@contextlib.contextmanager
def programs(engine: Engine) -> Iterator[Callable[[str, Mapping[str, str]], Result]]:
    """Give an engine an image with the program of each architecture for a while; yields what starts them.

    :raises FarmError: it takes none, or runs no containers.
    """
    name, tag = "buildfarm-programs", os.urandom(6).hex()
    engine.import_image(name, tag, _archive())

    def start(arch: str, env: Mapping[str, str]) -> Result:
        variables = [f"{key}={value}" for key, value in env.items()]
        result = engine.run(f"{name}:{tag}", [f"/exit-{arch}"], variables)
        if result.rc == NOT_RUN and "exec format error" not in result.stderr:
            raise FarmError(f"{engine.name}: the engine runs no containers: {result.stderr.strip()}")
        return result

    try:
        yield start
    finally:
        engine.remove_image(f"{name}:{tag}")


def _archive() -> bytes:
    """Return the program of each architecture as a tar archive."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for arch in ENTRIES:
            entry = tarfile.TarInfo(f"exit-{arch}")
            entry.mode, entry.size = 0o755, len(program(arch))
            archive.addfile(entry, io.BytesIO(program(arch)))
    return packed.getvalue()
