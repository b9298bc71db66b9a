# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reporting on a farm: read it, render it, and write what has changed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Callable, Dict, Mapping, Optional

from .._core.errors import FarmError
from .._core.files import read_bytes, write_together
from .._core.outcome import Outcome
from .._core.runner import Runner
from . import metrics, page, text
from .declaration import Declaration
from .gather import read_state
from .model import assemble

#: The fingerprint of the report that a file of any form holds.
_FINGERPRINT = re.compile(rb"sha256:[0-9a-f]{64}")


def _json(report: Mapping[str, Any]) -> str:
    # First, as digests of images are written in the same way.
    first = {"fingerprint": report["fingerprint"], **report}
    return json.dumps(first, indent=1, ensure_ascii=False) + "\n"


#: What renders the forms.
RENDERERS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "html": page.render,
    "text": text.render,
    "json": _json,
    "prometheus": metrics.render,
}


def run(params: Mapping[str, Any], check_mode: bool, runner: Runner) -> Outcome:
    """Run module ``farm_report``.

    :raises FarmError: there is nothing to report, or a file cannot be read or written.
    """
    declaration = Declaration.from_params(params)
    report = assemble(read_state(declaration, params, runner), declaration.hosts)
    before: Dict[str, Optional[str]] = {}
    actions, contents = [], []
    for kind, path in declaration.files.items():
        # What registries say may have halves of characters, which no file can hold.
        content = RENDERERS[kind](report).encode(errors="replace")
        present = _read(path)
        before[str(path)] = fingerprint_in(kind, present)
        # Times and sizes are written anew too, so that the file is as young as it says; that alone is no change.
        contents += [(path, content, None)] if present != content else []
        actions += [] if before[str(path)] == report["fingerprint"] else [["write", str(path)]]
    if contents and not check_mode:
        try:
            write_together(contents)
        except OSError as exc:
            raise FarmError(f"{exc.filename}: the report cannot be written: {exc.strerror}") from exc
    after = dict.fromkeys(before, report["fingerprint"])
    return Outcome(before, after, actions, {"report": report, "text": text.render(report)})


def fingerprint_in(kind: str, content: Optional[bytes]) -> Optional[str]:
    """Return the fingerprint of the report that a file holds, None where there is no such file, or it is another.

    :param kind: the file's form.
    """
    if content is None:
        return None
    found = _FINGERPRINT.findall(content)
    # A text ends with it, the others begin with it.
    return (found[-1] if kind == "text" else found[0]).decode() if found else None


def _read(path: Path) -> Optional[bytes]:
    try:
        return read_bytes(path)
    except OSError as exc:
        raise FarmError(f"{path}: the file that the report goes to cannot be read: {exc.strerror}") from exc
