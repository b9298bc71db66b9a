# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Declarations, states, plans and steps are values: what a plan was made of cannot change while it is carried out."""

from __future__ import annotations

import dataclasses
import importlib
from pathlib import Path

from ansible_collections.buildfarm.multiarch.plugins import module_utils

#: What the steps of one run hand on to each other, what takes a program's output line by line, and what is gathered
#: from several places.
CHANGING = {
    "_build.steps.Result",
    "_build.steps.World",
    "_buildx.progress.BuildProgress",
    "_buildx.progress._Step",
    "_certificate.steps.Issuance",
    "_core.live.Session",
    "_inventory.gather._Way",
    "_plugin.steps.Staging",
    "_report.state.Daemon",
}


def dataclasses_by_name():
    """All dataclasses of the packages."""
    (folder,) = map(Path, module_utils.__path__)
    found = {}
    for path in folder.rglob("*.py"):
        name = ".".join(path.relative_to(folder).with_suffix("").parts)
        module = importlib.import_module(f"{module_utils.__name__}.{name}")
        for kind in vars(module).values():
            if isinstance(kind, type) and dataclasses.is_dataclass(kind) and kind.__module__ == module.__name__:
                found[f"{name}.{kind.__name__}"] = kind
    return found


def test_dataclasses_are_frozen():
    changing = {name for name, kind in dataclasses_by_name().items() if not kind.__dataclass_params__.frozen}
    assert changing == CHANGING


#: Fields that hold secrets wherever they occur, and private keys, which share their name with public ones.
SECRET = {"identity_token", "key_pairs", "new_passphrase", "passphrase", "password", "previous_passphrase"}
PRIVATE_KEYS = {
    "_certificate.state.Pair.key",
    "_certificate.steps.IssueAuthority.key",
    "_certificate.steps.Issuer.key",
    "_certificate.steps.ReencryptKey.key",
    "_listener.declaration.Declaration.key",
    "_listener.steps.File.content",
}


def test_secrets_are_not_shown_with_their_values():
    """In tracebacks for one, which end in logs."""
    fields = {
        f"{name}.{field.name}": field
        for name, kind in dataclasses_by_name().items()
        for field in dataclasses.fields(kind)
    }
    assert set(fields) >= PRIVATE_KEYS
    secret = {name for name, field in fields.items() if field.name in SECRET} | PRIVATE_KEYS
    assert {name for name in secret if fields[name].repr} == set()
