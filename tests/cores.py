# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The versions of ansible-core that the collection supports, and those that a run of the tests takes.

All tests run with the default one. `make test` runs some with the oldest and the newest too, `make test-matrix` with
each: `BUILDFARM_CORES` names them, with blanks between them.
"""

from __future__ import annotations

import os

OLDEST, DEFAULT, NEWEST = "2.17", "2.19", "2.21"
ALL = ["2.17", "2.18", "2.19", "2.20", "2.21"]
#: Pythons that each runs on as a controller, from its documentation's support matrix.
PYTHONS = {
    "2.17": ["3.10", "3.11", "3.12"],
    "2.18": ["3.11", "3.12", "3.13"],
    "2.19": ["3.11", "3.12", "3.13"],
    "2.20": ["3.12", "3.13", "3.14"],
    "2.21": ["3.12", "3.13", "3.14"],
}


def chosen() -> list[str]:
    """The versions that this run tests especially, oldest first."""
    return os.environ.get("BUILDFARM_CORES", f"{OLDEST} {NEWEST}").split()


def venv(core: str) -> str:
    """The name of a version's virtual environment, as bootstrap.py knows it."""
    return "quality" if core == DEFAULT else f"core-{core}"
