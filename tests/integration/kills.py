"""Killing a module's process just before something that it is about to do, as a lost machine would."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from ansible_runs import LiveFarm

_FOLDER = "/srv/kills"
#: Python imports this at its start. What it can see: https://docs.python.org/3/library/audit_events.html
_HOOK = """
import os, re, signal, sys

steps = [step.split(" ", 1) for step in os.environ.get("KILLED_AT", "").split(" then ") if step]

def hook(event, arguments):
    # The third and fourth of subprocess.Popen's are its directory and environment.
    if steps and event == steps[0][0] and re.search(steps[0][1], repr(arguments[:2])):
        del steps[0]
        if not steps:
            os.kill(os.getpid(), getattr(signal, os.environ.get("KILLED_WITH", "SIGKILL")))

if steps:
    sys.addaudithook(hook)
"""


@contextlib.contextmanager
def prepared(farm: LiveFarm, host: str) -> Iterator[None]:
    """Make a host ready for tasks with the environment of `killed_at`, for a while."""
    farm.ssh(host, f"mkdir -p {_FOLDER}; cat > {_FOLDER}/sitecustomize.py", stdin=_HOOK)
    try:
        yield
    finally:
        farm.ssh(host, f"rm -rf {_FOLDER}")


def killed_at(steps: str, by: str = "SIGKILL") -> dict[str, str]:
    """Return the environment of a task whose process is killed.

    :param steps: an audit event's name and a pattern for its first two arguments, or several with `then` between them.
    :param by: the signal; SIGSTOP leaves the process as it is at that moment.
    """
    return {"PYTHONPATH": _FOLDER, "KILLED_AT": steps, "KILLED_WITH": by}
