# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Running other programs: argument lists in, results out, no shell."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from typing import Callable, Mapping, Optional, Sequence, Tuple

from .environment import for_program
from .errors import FarmError
from .urls import mask


@dataclass(frozen=True)
class Result:
    """What a finished program left behind.

    :ivar rc: its exit status; negative where a signal ended it.
    """

    argv: Tuple[str, ...]
    rc: int
    stdout: str
    stderr: str


class CommandError(FarmError):
    """A program could not be started, took too long or exited with a failure.

    :param message: what was wanted and what to do; the program's own words follow by themselves.
    """

    def __init__(self, message: str, result: Result) -> None:
        stdout, stderr = mask(result.stdout), mask(result.stderr)
        said = stderr.strip() or stdout.strip()
        super().__init__(
            f"{message}: {said}" if said else f"{message} (exit status {result.rc}, nothing said)",
            cmd=[mask(word) for word in result.argv],
            rc=result.rc,
            stdout=stdout,
            stderr=stderr,
        )
        self.result = result


#: Runs argv (no shell) and returns its result whatever the exit status.
#: Keywords: env (added to the process's own), stdin (text), timeout (seconds), follow (of a line, what to log),
#: executable (the file that is run in the place of argv's first).
#: Raises CommandError where the program cannot be started (rc 127) or is ended by the timeout (rc 124).
Runner = Callable[..., Result]

#: Seconds between two looks at what a program that is followed has said.
_GLANCE = 0.25


def run(
    argv: Sequence[str],
    env: Optional[Mapping[str, str]] = None,
    stdin: Optional[str] = None,
    timeout: Optional[float] = None,
    follow: Optional[Callable[[str], str]] = None,
    log: Optional[Callable[[str], object]] = None,
    executable: Optional[str] = None,
) -> Result:
    """Run a program on this host and wait for it: the real Runner.

    :param argv: the program and its arguments.
    :param env: variables to add to what ``_environment`` leaves of this process's own; the place for secrets.
    :param stdin: text for its standard input, empty by default so that nothing can wait for a person.
    :param timeout: seconds after which the program is killed.
    :param follow: gets each line of its standard error while it runs, and returns what is to be logged of it, empty
        for nothing.
    :param log: takes that; a module's adapter gives it.
    :param executable: path of the file to run, where it is not the one that ``argv`` names to people.
    :raises CommandError: the program is missing, may not be run, or took too long.
    """
    try:
        process = subprocess.Popen(
            list(argv),
            executable=executable,
            env=for_program(argv, env or {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as exc:
        failed = Result(tuple(argv), 127, "", exc.strerror or str(exc))
        raise CommandError(f"{executable or argv[0]} could not be started", failed) from exc
    with process:
        try:
            if follow and log:
                stdout, stderr = _communicate(process, (stdin or "").encode(), timeout, follow, log)
            else:
                stdout, stderr = process.communicate((stdin or "").encode(), timeout)
        except BaseException as exc:
            # The whole group: before Docker 25 a plugin outlives the docker command that started it.
            os.killpg(process.pid, signal.SIGKILL)
            if not isinstance(exc, subprocess.TimeoutExpired):
                raise
            stdout, stderr = process.communicate()
            failed = Result(tuple(argv), 124, stdout.decode(errors="replace"), stderr.decode(errors="replace"))
            message = f"{argv[0]} was ended after {timeout:g} seconds without finishing"
            raise CommandError(message, failed) from exc
    return Result(tuple(argv), process.returncode, stdout.decode(errors="replace"), stderr.decode(errors="replace"))


def _communicate(
    process: subprocess.Popen[bytes],
    stdin: bytes,
    timeout: Optional[float],
    follow: Callable[[str], str],
    log: Callable[[str], object],
) -> Tuple[bytes, bytes]:
    """Do as Popen.communicate, which may be called again after its time is up and then tells what it has read."""
    ends = math.inf if timeout is None else time.monotonic() + timeout
    followed = 0
    while True:
        done = None
        try:
            done = process.communicate(stdin, max(0, min(_GLANCE, ends - time.monotonic())))
            said = done[1]
        except subprocess.TimeoutExpired as exc:
            if time.monotonic() >= ends:
                raise
            stdin, said = b"", exc.stderr or b""
        whole = len(said) if done else said.rfind(b"\n") + 1
        for line in said[followed:whole].decode(errors="replace").splitlines():
            if text := follow(line):
                log(text)
        followed = max(followed, whole)
        if done:
            return done


def checked(runner: Runner, argv: Sequence[str], failure: str, **options: object) -> Result:
    """Run a program that must succeed.

    :param failure: begins the error's message; says what was wanted.
    :raises CommandError: the exit status was not 0.
    """
    result = runner(argv, **options)
    if result.rc != 0:
        raise CommandError(failure, result)
    return result
