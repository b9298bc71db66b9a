# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Modules that are seen while they run, and leave none of their programs, however they end.

Apart from ``module.py``, as all that this needs travels to the host with each module that imports it.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Dict, Mapping

from . import live
from .ending import interruptible
from .module import Logic, Module
from .progress import SILENT, Progress
from .survival import survived

#: The option of modules that are seen while they run.
PROGRESS: Mapping[str, Any] = {"type": "str", "default": "auto", "choices": ["auto", "none"]}


def main(argument_spec: Dict[str, Any], logic: Logic, **options: Any) -> None:
    """Run a module's logic as ``module.main`` does, and show its progress where the action plugin asks for it.

    :param argument_spec: the module's options, ``progress`` among them.
    :param logic: gets a ``Progress`` as its last argument.
    :param options: further keywords of AnsibleModule.
    """
    asked = live.asked()
    module = Module(argument_spec, **options)
    work = module.bind(logic)
    # In check mode nothing takes long.
    session = live.Session.start(asked) if asked and not module.check_mode else None
    with interruptible(), survived():
        if session is None:
            module.finish(partial(work, SILENT))
        else:
            with session.watched():
                module.finish(partial(work, _progress(module, session)))


def _progress(module: Module, session: live.Session) -> Progress:
    return SILENT if module.params["progress"] == "none" else session.progress(module.hide)
