# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The adapter to Ansible: the only file of the logic that imports it."""

from __future__ import annotations

import traceback
from functools import partial
from typing import Any, Callable, Dict, Mapping, Union

from ansible.module_utils.basic import AnsibleModule

from .environment import settle
from .errors import FarmError
from .outcome import Outcome
from .runner import Runner, run
from .urls import secrets_of

#: The logic of a module: (parameters, check mode, runner) to its outcome, or to the values of an info module.
Logic = Callable[[Dict[str, Any], bool, Runner], Union[Outcome, Mapping[str, Any]]]


class _Module(AnsibleModule):
    """A module whose log and results show no secret of a URL that stands in any of its options."""

    def _log_invocation(self) -> None:
        self.no_log_values.update(secrets_of(self.params))
        super()._log_invocation()


def main(argument_spec: Dict[str, Any], logic: Logic, **module_options: Any) -> None:
    """Run a module's logic and end the process as Ansible expects.

    :param argument_spec: the module's options.
    :param logic: called once; a FarmError from it becomes the task's failure.
    :param module_options: further keywords of AnsibleModule, ``mutually_exclusive`` for example.
    """
    settle()
    module = _Module(argument_spec=argument_spec, supports_check_mode=True, **module_options)
    try:
        outcome = logic(module.params, module.check_mode, partial(run, log=module.log))
    except FarmError as exc:
        module.fail_json(msg=exc.message, **exc.details)
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
