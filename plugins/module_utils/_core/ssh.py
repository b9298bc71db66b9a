# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where the keys of hosts are that ``ssh`` may connect to, other than in the files of the user and of the system.

docker, buildx and git start ``ssh`` by its name, with no arguments of ours. OpenSSH reads no variable for this file,
and finds its own below the home directory of the account, whatever ``HOME`` says. So a program of that name stands
before the real one in ``PATH``.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
from pathlib import Path
from typing import Iterator, List

from .environment import expanded, option, user
from .errors import FarmError
from .scratch import scratch_directory

#: The variable that names the file.
KNOWN_HOSTS = "BUILDFARM_SSH_KNOWN_HOSTS"
#: What ssh_config(5) would take for more than a part of a path, even in quotes.
_SPECIAL = re.compile(r'["$\n]')


def arguments() -> List[str]:
    """Return the arguments that give ``ssh`` the file, none where none is named.

    :raises FarmError: it cannot be used.
    """
    named = option(KNOWN_HOSTS)
    if named is None:
        return []
    path = expanded(named)
    if _SPECIAL.search(path):
        raise FarmError(f"{KNOWN_HOSTS} in the environment: {path!r}: wanted a path without quotes and dollar signs")
    if not os.access(path, os.R_OK):
        raise FarmError(
            f"{KNOWN_HOSTS} in the environment: {path}: there is no such file, or user {user()} may not read it; name"
            " the file with the hosts' keys, as ssh-keyscan prints them, or leave the variable out"
        )
    files = f'UserKnownHostsFile="{path.replace("%", "%%")}" ~/.ssh/known_hosts'
    # Nobody is there to be asked, and what the file does not know is not to be learnt.
    return ["-o", files, "-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes"]


@contextlib.contextmanager
def configured() -> Iterator[None]:
    """Have all programs that are started meanwhile find an ``ssh`` that knows the file, where one is named.

    A file that cannot be used concerns only those who start ``ssh``; it tells them.

    :raises FarmError: no program can be put there.
    """
    real = None if option(KNOWN_HOSTS) is None else shutil.which("ssh")
    if real is None:
        yield
        return
    with scratch_directory("buildfarm-ssh-") as folder:
        program = Path(folder) / "ssh"
        program.write_text(f"#!/bin/sh\n{_command(real)}\n", encoding="utf-8")
        program.chmod(0o700)
        if not os.access(program, os.X_OK):
            raise FarmError(
                f"{folder}: no program can be started from there, which {KNOWN_HOSTS} takes (is it mounted noexec?);"
                " name another directory in TMPDIR"
            )
        before = os.environ.get("PATH")
        os.environ["PATH"] = os.pathsep.join((folder, before or os.defpath))
        try:
            yield
        finally:
            if before is None:
                del os.environ["PATH"]
            else:
                os.environ["PATH"] = before


def _command(real: str) -> str:
    """Return the shell command in the place of ``ssh``."""
    try:
        return f'exec {" ".join(map(shlex.quote, (real, *arguments())))} "$@"'
    except FarmError as exc:
        # The exit status of ssh for its own failures.
        return f"echo {shlex.quote(exc.message)} >&2; exit 255"
