# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The adapter to Ansible: the only file of the logic that imports it."""

from __future__ import annotations

import traceback
from functools import partial
from typing import Any, Callable, Dict, Mapping, Optional, Union

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.parameters import remove_values

from . import live
from .ending import Interrupted, interruptible, survived
from .environment import settle
from .errors import FarmError
from .outcome import Outcome
from .progress import SILENT, Progress
from .runner import run
from .urls import secrets_of

#: What the logic of a module returns: its outcome, or the values of an info module.
Returned = Union[Outcome, Mapping[str, Any]]
#: The logic of a module: of (parameters, check mode, runner), and what takes its progress where it is seen.
Logic = Callable[..., Returned]

#: The option of modules that are seen while they run.
PROGRESS: Mapping[str, Any] = {"type": "str", "default": "auto", "choices": ["auto", "none"]}


class _Module(AnsibleModule):
    """A module whose log and results show no secret of a URL that stands in any of its options."""

    def _log_invocation(self) -> None:
        self.no_log_values.update(secrets_of(self.params))
        super()._log_invocation()


def main(argument_spec: Dict[str, Any], logic: Logic, seen: bool = False, **module_options: Any) -> None:
    """Run a module's logic and end the process as Ansible expects.

    :param argument_spec: the module's options.
    :param logic: called once; a FarmError from it becomes the task's failure.
    :param seen: it is shown while it runs, which takes an action plugin (``plugins/plugin_utils/live.py``) and the
        option ``PROGRESS``; and none of its programs is left, however it ends.
    :param module_options: further keywords of AnsibleModule, ``mutually_exclusive`` for example.
    """
    settle()
    asked = live.asked()
    module = _Module(argument_spec=argument_spec, supports_check_mode=True, **module_options)
    work = partial(logic, module.params, module.check_mode, partial(run, log=module.log))
    if seen:
        # In check mode nothing takes long.
        _run_seen(module, work, live.Session.start(asked) if asked and not module.check_mode else None)
    with interruptible():
        _finish(module, work)


def _run_seen(module: AnsibleModule, work: Callable[[Progress], Returned], session: Optional[live.Session]) -> None:
    with interruptible(), survived():
        if session is None:
            _finish(module, partial(work, SILENT))
        else:
            quiet = module.params["progress"] == "none"
            progress = SILENT if quiet else session.progress(partial(_hidden, module))
            with session.watched():
                _finish(module, partial(work, progress))


def _hidden(module: AnsibleModule, text: str) -> str:
    """Return a text without the values that the module knows for secrets."""
    return str(remove_values(text, module.no_log_values))


def _finish(module: AnsibleModule, work: Callable[[], Returned]) -> None:
    """Do the work, and end the process with what comes of it."""
    try:
        outcome = work()
    except FarmError as exc:
        module.fail_json(msg=exc.message, **exc.details)
    except Interrupted as exc:
        module.fail_json(msg=f"{exc}; what was running has been ended")
    except Exception as exc:  # pylint: disable=broad-except
        module.fail_json(
            msg=f"unexpected {type(exc).__name__}: {exc}; please report it", exception=traceback.format_exc()
        )
    if isinstance(outcome, Outcome):
        for warning in outcome.warnings:
            module.warn(warning)
        module.exit_json(**outcome.as_result())
    else:
        module.exit_json(changed=False, **outcome)
