# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A plugin of pytest that writes which test files execute which lines of the collection, for `tests/mutants.py`.

Given as `-p reached` with `REACHED=FILE`; the file is JSON: by path of the collection, by line, the test files. For
what is executed outside of tests, while modules are imported, the test file is "".
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

_PART = "plugins/module_utils/"


class Reached:
    """Traces what is executed, by tests and the threads that they start."""

    def __init__(self) -> None:
        self._lines: defaultdict[str, defaultdict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
        self._file = ""

    def trace(self, frame: FrameType, _event: str, _argument: object) -> Callable[..., Any] | None:
        """Follow a call into the collection, and no other."""
        _before, found, path = frame.f_code.co_filename.rpartition(_PART)
        if not found:
            return None
        lines = self._lines[found + path]

        def note(inner: FrameType, _event: str, _argument: object) -> Callable[..., Any]:
            lines[inner.f_lineno].add(self._file)
            return note

        return note(frame, "call", None)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Note whose lines the next ones are."""
        self._file = item.nodeid.partition("::")[0]
        try:
            return (yield)
        finally:
            self._file = ""

    def pytest_sessionfinish(self) -> None:
        """End the trace, and write what was found."""
        sys.settrace(None)
        threading.settrace(None)  # type: ignore[arg-type]
        found = {path: {line: sorted(files) for line, files in lines.items()} for path, lines in self._lines.items()}
        Path(os.environ["REACHED"]).write_text(json.dumps(found))


def pytest_configure(config: pytest.Config) -> None:
    """Begin the trace, before anything of the collection is imported."""
    reached = Reached()
    config.pluginmanager.register(reached)
    threading.settrace(reached.trace)
    sys.settrace(reached.trace)
