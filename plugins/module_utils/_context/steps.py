# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The steps of a plan for docker contexts.

The store's files are written, not ``docker context`` called: the docker CLI cannot clear a description, starts anew for
each context, and leaves a context half updated when it fails. The store has no lock; files are replaced in one step.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from dataclasses import dataclass
from typing import List, Optional

from .._core.errors import FarmError
from .._core.files import write_together
from .._core.plan import Step
from .._docker.context_store import ContextStore
from .._docker.names import TLS_NAMES
from .state import StoredContext, read_context


@dataclass(frozen=True)
class WriteContext(Step[ContextStore]):
    """Make a context what it is declared to be.

    A step that fails leaves the context as it was. Those before it are not undone: each context is of use by itself.

    :ivar before: None if there is none of that name.
    """

    name: str
    before: Optional[StoredContext]
    after: StoredContext

    @property
    def action(self) -> List[str]:
        return [f"{'create' if self.before is None else 'update'} context {self.name!r}"]

    def apply(self, world: ContextStore) -> None:
        _replace(world, self.name, self.before, self.after)


@dataclass(frozen=True)
class RemoveContext(Step[ContextStore]):
    """Remove a context; a step that fails leaves it as it was."""

    name: str
    before: StoredContext

    @property
    def action(self) -> List[str]:
        return [f"remove context {self.name!r}"]

    def apply(self, world: ContextStore) -> None:
        _replace(world, self.name, self.before, None)


def _replace(store: ContextStore, name: str, before: Optional[StoredContext], after: Optional[StoredContext]) -> None:
    """Change a context's files and read them back.

    :raises FarmError: that failed; the context is then as it was.
    """
    try:
        try:
            _write(store, name, after)
        except OSError:
            with contextlib.suppress(OSError):
                _write(store, name, before)
            raise
    except OSError as exc:
        raise FarmError(
            f"context {name!r}: {exc.filename}: {exc.strerror}; it is as it was, those before it are done, "
            "and a new run continues"
        ) from exc
    if read_context(store, name) != after:
        raise FarmError(f"context {name!r} is not as written; does something else change {store.meta_dir(name)}?")


def _write(store: ContextStore, name: str, stored: Optional[StoredContext]) -> None:
    """Make a context's files equal to a state; what makes it visible, its description, is written last, removed first.

    :raises OSError: a file cannot be written or removed.
    """
    meta, tls = store.meta_dir(name), store.tls_dir(name)
    if stored is None:
        for directory in (meta, tls.parent):
            if directory.exists():
                shutil.rmtree(directory)
        return
    meta.mkdir(parents=True, exist_ok=True)
    if stored.tls:
        tls.parent.parent.mkdir(parents=True, exist_ok=True)
        for made in (tls.parent, tls):
            made.mkdir(mode=0o700, exist_ok=True)
    for kind in TLS_NAMES:
        if kind not in stored.tls:
            (tls / f"{kind}.pem").unlink(missing_ok=True)
    files = [(tls / f"{kind}.pem", content or b"", stored.mode) for kind, content in stored.tls.items()]
    # Docker separates nothing and ends without a newline; with equal bytes exports can be compared.
    content = json.dumps(stored.meta, separators=(",", ":"), ensure_ascii=False).encode()
    write_together([*files, (meta / "meta.json", content, 0o644)])
