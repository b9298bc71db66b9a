# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The adapter to Ansible: the only file of the logic that imports it."""

from __future__ import annotations

import traceback
from functools import partial
from typing import Any, Callable, Dict, Mapping, Sequence, Union

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.parameters import remove_values

from .ending import Interrupted, interruptible
from .environment import settle
from .errors import FarmError, fault_of_host
from .outcome import Outcome
from .plain import plain
from .runner import run
from .ssh import configured
from .urls import MASK, secrets_of

#: What the logic of a module returns: its outcome, or the values of an info module.
Returned = Union[Outcome, Mapping[str, Any]]
#: The logic of a module: of (parameters, check mode, runner), and what takes its progress where it is seen.
Logic = Callable[..., Returned]


class Module(AnsibleModule):
    """A module whose log and results show no secret of a URL that stands in any of its options.

    :param unshown: options with dictionaries whose values may be secret, and may as well be words that stand anywhere:
        they are neither logged nor returned as options, while Ansible's own ``no_log`` would hide them everywhere.
    :param options: keywords of AnsibleModule, ``mutually_exclusive`` for example.
    """

    def __init__(self, argument_spec: Dict[str, Any], unshown: Sequence[str] = (), **options: Any) -> None:
        settle()
        self._unshown = tuple(unshown)
        super().__init__(argument_spec=argument_spec, supports_check_mode=True, **options)

    def bind(self, logic: Logic) -> Callable[..., Returned]:
        """Return a module's logic with what this module was given; it takes what else the logic takes."""
        return partial(logic, self.params, self.check_mode, partial(run, log=self.log))

    def hide(self, text: str) -> str:
        """Return a text without the values that the module knows for secrets."""
        return str(remove_values(text, self.no_log_values))

    def finish(self, work: Callable[[], Returned]) -> None:
        """Do the work, and end the process with what comes of it.

        :param work: a FarmError from it becomes the task's failure.
        """
        try:
            with configured():
                outcome = self._done(work)
        except FarmError as exc:
            self.fail_json(msg=exc.message, **exc.details)
        except Interrupted as exc:
            self.fail_json(msg=f"{exc}; what was running has been ended")
        except Exception as exc:  # pylint: disable=broad-except
            fault = fault_of_host(exc) if isinstance(exc, OSError) else None
            if fault:
                self.fail_json(msg=fault.message, exception=traceback.format_exc())
            self.fail_json(
                msg=f"unexpected {type(exc).__name__}: {exc}; please report it", exception=traceback.format_exc()
            )
        if isinstance(outcome, Outcome):
            for warning in outcome.warnings:
                self.warn(plain(warning))
            self.exit_json(**outcome.as_result())
        else:
            self.exit_json(changed=False, **outcome)

    def _done(self, work: Callable[[], Returned]) -> Returned:
        try:
            return work()
        finally:
            # What is returned has them.
            self.params = self._shown()

    def _shown(self) -> Dict[str, Any]:
        hidden = {name: dict.fromkeys(self.params[name], MASK) for name in self._unshown if self.params.get(name)}
        return {**self.params, **hidden}

    def _log_invocation(self) -> None:
        self.no_log_values.update(secrets_of(self.params))
        given, self.params = self.params, self._shown()
        super()._log_invocation()
        self.params = given


def main(argument_spec: Dict[str, Any], logic: Logic, **options: Any) -> None:
    """Run a module's logic, once, and end the process as Ansible expects.

    :param argument_spec: the module's options.
    :param options: further keywords of AnsibleModule.
    """
    module = Module(argument_spec, **options)
    with interruptible():
        module.finish(module.bind(logic))
