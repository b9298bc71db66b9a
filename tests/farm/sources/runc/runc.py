"""runc, told which capabilities this machine has.

An engine of 20.10 gives a privileged container every capability that the kernel knows. Those that are not in the
machine's bounding set, as is usual where the machine is a container itself, nobody can give, and runc fails with
"unable to apply caps: operation not permitted". Later engines leave them out by themselves; here it is done for the
old one. Its shim finds this program first in $PATH, and calls it for all it wants of runc: so what only some calls
need is imported there.
"""

import os
import sys

REAL = "/usr/sbin/runc"


def bounding() -> set[str]:
    """The names of the capabilities that this machine has."""
    import re
    import subprocess

    state = subprocess.run(["setpriv", "--dump"], stdout=subprocess.PIPE, text=True, check=True).stdout
    (names,) = re.findall(r"(?m)^Capability bounding set: (.*)", state)
    return {f"CAP_{name.upper()}" for name in names.split(",")}


def limit(path: str, at: str = "") -> None:
    """Take the others out of a file of the OCI runtime specification.

    :param at: the key of the process in it, empty where the whole file describes one.
    """
    import json

    with open(path) as file:
        content = json.load(file)
    process = content[at] if at else content
    had = process.get("capabilities") or {}
    known = bounding()
    process["capabilities"] = {kind: [name for name in names if name in known] for kind, names in had.items()}
    with open(path, "w") as file:
        json.dump(content, file)


options = dict(zip(sys.argv, sys.argv[1:]))
if "--bundle" in options:
    limit(os.path.join(options["--bundle"], "config.json"), "process")
if "--process" in options:
    limit(options["--process"])
os.execv(REAL, [REAL, *sys.argv[1:]])
