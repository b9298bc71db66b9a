# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Running other programs: argument lists in, results out, no shell."""

from __future__ import annotations

import io
import math
import subprocess
import threading
import time
from dataclasses import dataclass
from typing import Callable, List, Mapping, Optional, Sequence, Tuple

from .ending import PROGRAMS, kill
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
#: executable (the file that is run in the place of argv's first), started (gets the process group), cwd.
#: Raises CommandError where the program cannot be started (rc 127) or is ended by the timeout (rc 124).
Runner = Callable[..., Result]

#: Seconds between two looks whether the module is to end, while a program's output is waited for.
_INTERVAL = 0.2


def run(
    argv: Sequence[str],
    env: Optional[Mapping[str, str]] = None,
    stdin: Optional[str] = None,
    timeout: Optional[float] = None,
    follow: Optional[Callable[[str], str]] = None,
    log: Optional[Callable[[str], object]] = None,
    executable: Optional[str] = None,
    started: Optional[Callable[[int], object]] = None,
    cwd: Optional[str] = None,
) -> Result:
    """Run a program on this host and wait for it: the real Runner.

    :param argv: the program and its arguments.
    :param env: variables to add to what ``_environment`` leaves of this process's own; the place for secrets.
    :param stdin: text for its standard input, empty by default so that nothing can wait for a person.
    :param timeout: seconds after which the program is killed.
    :param follow: gets each line of its standard error while it runs, in another thread, and returns what is to be
        logged of it, empty for nothing.
    :param log: takes that; a module's adapter gives it.
    :param executable: path of the file to run, where it is not the one that ``argv`` names to people.
    :param started: gets the program's process group, for ``kill``.
    :param cwd: the directory that it is run in.
    :raises CommandError: the program is missing, may not be run, or took too long.
    :raises Interrupted: the module is to end.
    """
    PROGRAMS.check()
    ends = math.inf if timeout is None else time.monotonic() + timeout
    try:
        # What AnsibleModule.run_command runs is read when it has ended, and is not there for whoever wants to end it.
        process = subprocess.Popen(  # pylint: disable=ansible-bad-function
            list(argv),
            executable=executable,
            cwd=cwd,
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
            with PROGRAMS.listed(process.pid):
                errors = _Errors(process, follow, log)
                if started:
                    started(process.pid)
                stdout, _stderr = process.communicate((stdin or "").encode(), timeout)
                stderr = errors.read(ends)
        except BaseException as exc:
            # The whole group: before Docker 25 a plugin outlives the docker command that started it.
            kill(process.pid)
            if not isinstance(exc, subprocess.TimeoutExpired):
                raise
            stdout, _stderr = process.communicate()
            failed = Result(tuple(argv), 124, stdout.decode(errors="replace"), errors.read(math.inf))
            message = f"{argv[0]} was ended after {timeout:g} seconds without finishing"
            raise CommandError(message, failed) from exc
    PROGRAMS.check()
    return Result(tuple(argv), process.returncode, stdout.decode(errors="replace"), stderr)


class _Errors(threading.Thread):
    """Reads a program's standard error line by line, as it comes."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        follow: Optional[Callable[[str], str]],
        log: Optional[Callable[[str], object]],
    ) -> None:
        super().__init__(daemon=True)
        # Taken from the process, whose other streams ``communicate`` reads.
        self._stream, process.stderr = process.stderr, None
        self._argv = process.args
        self._follow, self._log = follow, log
        self._lines: List[bytes] = []
        self._failure: Optional[Exception] = None
        self.start()

    def run(self) -> None:
        """Read to the end, whatever becomes of the lines: a program whose words nobody reads stops."""
        with self._stream or io.BytesIO() as stream:
            for line in stream:
                self._lines.append(line)
                try:
                    self._take(line.decode(errors="replace").rstrip("\r\n"))
                except Exception as exc:  # pylint: disable=broad-except
                    self._failure = self._failure or exc

    def read(self, ends: float) -> str:
        """Return all that was said once it has ended.

        :param ends: when to stop waiting for that, by the monotonic clock.
        :raises TimeoutExpired: it has not, as of a program that left another one running.
        :raises Interrupted: the module is to end.
        :raises Exception: what came of following it.
        """
        while self.is_alive():
            # What a program has left running may keep it open for ever.
            PROGRAMS.check()
            left = ends - time.monotonic()
            if left <= 0:
                raise subprocess.TimeoutExpired(self._argv, 0)
            self.join(min(left, _INTERVAL))
        if self._failure:
            raise self._failure
        return b"".join(self._lines).decode(errors="replace")

    def _take(self, line: str) -> None:
        text = self._follow(line) if self._follow else ""
        if text and self._log:
            self._log(text)


def checked(runner: Runner, argv: Sequence[str], failure: str, **options: object) -> Result:
    """Run a program that must succeed.

    :param failure: begins the error's message; says what was wanted.
    :raises CommandError: the exit status was not 0.
    """
    result = runner(argv, **options)
    if result.rc != 0:
        raise CommandError(failure, result)
    return result
