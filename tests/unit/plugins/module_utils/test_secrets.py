# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files with secrets, read for later tasks."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.secrets import run


def test_all_files_are_read(tmp_path: Path) -> None:
    contents = {str(tmp_path / "a"): b"text\n", str(tmp_path / "b"): b"\0\xff"}
    for path, content in contents.items():
        Path(path).write_bytes(content)
    found = run({"paths": list(contents)}, False, None)["contents"]
    assert {path: base64.b64decode(text) for path, text in found.items()} == contents


def test_one_that_is_missing_may_be_still_to_come(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    assert run({"paths": [missing]}, True, None) == {"contents": {}}
    with pytest.raises(FarmError, match="missing: there is no such file; correct the path"):
        run({"paths": [missing]}, False, None)


def test_one_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(FarmError, match="Is a directory; wanted a file"):
        run({"paths": [str(tmp_path)]}, True, None)
