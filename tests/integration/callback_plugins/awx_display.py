"""Stands in for the callback of ansible-runner, which AWX uses: each call that prints something becomes an event.

They are written to the file BUILDFARM_EVENTS, one JSON object a line: when, and what AWX would store.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any

from ansible.plugins.callback.default import CallbackModule as Default
from ansible.utils.display import Display

DOCUMENTATION = """
name: awx_display
type: stdout
short_description: Events as AWX has them
description: For tests.
extends_documentation_fragment:
  - default_callback
  - result_format_callback
"""

_display = Display.display


def _recorded(self: Display, msg: str, *arguments: Any, **options: Any) -> Any:
    path = os.environ.get("BUILDFARM_EVENTS")
    # In a worker's process, the text is handed to the main one, which prints it.
    if path and not getattr(self, "_final_q", None):
        with open(path, "a", encoding="utf-8") as stream:
            stream.write(json.dumps({"at": time.time(), "text": msg}) + "\n")
    return _display(self, msg, *arguments, **options)


class CallbackModule(Default):
    """Prints as the default one."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "awx_display"

    def __init__(self) -> None:
        super().__init__()
        Display.display = _recorded
