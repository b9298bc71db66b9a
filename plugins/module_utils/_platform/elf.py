# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Programs of 100 bytes, one for each architecture: only running something proves that a host can.

Each makes one system call, exit(42), and needs nothing but the kernel or an emulator.
"""

from __future__ import annotations

import os
import re
import struct
import tempfile
from dataclasses import dataclass
from typing import Callable, Dict, Mapping, Optional, Tuple

from .._core.errors import FarmError
from .._core.runner import CommandError, Result, Runner

_EXIT_STATUS = 42
_ADDRESS = 0x400000
#: Seconds; QEMU needs some hundredths.
_TIMEOUT = 20


@dataclass(frozen=True)
class _Machine:
    """An architecture as the ELF header names it, and its code for exit(42).

    :ivar bits, order: of the ELF file; the order as struct writes it.
    :ivar number, flags: ``e_machine`` and ``e_flags``, from the architecture's psABI.
    :ivar code: hexadecimal, one instruction a word; call numbers are those of Linux's ``asm/unistd.h``.
    """

    bits: int
    order: str
    number: int
    flags: int
    code: str


_MACHINES: Dict[str, _Machine] = {
    # mov ebx, 42; mov eax, 1; int 0x80
    "386": _Machine(32, "<", 3, 0, "bb2a000000 b801000000 cd80"),
    # mov edi, 42; mov eax, 60; syscall
    "amd64": _Machine(64, "<", 62, 0, "bf2a000000 b83c000000 0f05"),
    # mov r0, #42; mov r7, #1; svc 0 (EABI version 5)
    "arm": _Machine(32, "<", 40, 0x05000200, "2a00a0e3 0170a0e3 000000ef"),
    # mov x0, #42; mov x8, #93; svc #0
    "arm64": _Machine(64, "<", 183, 0, "400580d2 a80b80d2 010000d4"),
    # ori $a0, $zero, 42; ori $a7, $zero, 93; syscall 0 (LP64D)
    "loong64": _Machine(64, "<", 258, 0x43, "04a88003 0b748103 00002b00"),
    # li $a0, 42; li $v0, 5058; syscall (n64, MIPS64 release 2)
    "mips64": _Machine(64, ">", 8, 0x80000007, "2404002a 240213c2 0000000c"),
    "mips64le": _Machine(64, "<", 8, 0x80000007, "2a000424 c2130224 0c000000"),
    # li r3, 42; li r0, 1; sc (ELFv2)
    "ppc64le": _Machine(64, "<", 21, 2, "2a006038 01000038 02000044"),
    # li a0, 42; li a7, 93; ecall
    "riscv64": _Machine(64, "<", 243, 0, "1305a002 9308d005 73000000"),
    # lghi %r2, 42; svc 1
    "s390x": _Machine(64, ">", 22, 0, "a729002a 0a01"),
}
#: Architectures that platforms name and that have no program here: the same three values.
_OTHERS = {"mips": (32, ">", 8), "mipsle": (32, "<", 8), "ppc64": (64, ">", 21)}
_ARCHITECTURES = {**_OTHERS, **{name: (of.bits, of.order, of.number) for name, of in _MACHINES.items()}}
#: By word size: the place of the table of program headers, a header's size, their number; its type, offset and size.
_PROGRAM_HEADERS = {32: ("28xI10xHH", "II8xI"), 64: ("32xQ14xHH", "I4xQ16xQ")}
_PT_INTERP = 3


def program(arch: str) -> bytes:
    """Return the static ELF executable of an architecture: its header, one segment's header, the code (elf(5))."""
    machine = _MACHINES[arch]
    wide = machine.bits == 64
    code = bytes.fromhex(machine.code)
    header_size, segment_size = (64, 56) if wide else (52, 32)
    start = header_size + segment_size
    size = start + len(code)
    identity = b"\x7fELF" + bytes([2 if wide else 1, 1 if machine.order == "<" else 2, 1]) + bytes(9)
    header = struct.pack(
        machine.order + ("HHI3QI6H" if wide else "HHI3II6H"),
        *(2, machine.number, 1),
        *(_ADDRESS + start, header_size, 0),
        machine.flags,
        *(header_size, segment_size, 1, 0, 0, 0),
    )
    # One loaded segment, readable and executable, for hosts with pages of up to 64 KiB.
    if wide:
        segment = struct.pack(machine.order + "II6Q", 1, 5, 0, _ADDRESS, _ADDRESS, size, size, 0x10000)
    else:
        segment = struct.pack(machine.order + "8I", 1, 0, _ADDRESS, _ADDRESS, size, size, 5, 0x10000)
    return identity + header + segment + code


def arch_of(head: bytes) -> Optional[str]:
    """Return the architecture that an ELF file is made for, None for any other file (elf(5)).

    :param head: how the file begins, 20 bytes at least.
    """
    if len(head) < 20 or not head.startswith(b"\x7fELF"):
        return None
    bits, order = _layout(head)
    number = struct.unpack_from(f"{order}H", head, 18)[0]
    known = (name for name, values in _ARCHITECTURES.items() if values == (bits, order, number))
    return next(known, f"an unknown architecture ({number})")


def _layout(head: bytes) -> Tuple[int, str]:
    """Return the word size of an ELF file and its byte order as struct writes it."""
    return 64 if head[4] == 2 else 32, ">" if head[5] == 2 else "<"


def loader_of(head: bytes) -> Optional[Tuple[int, int]]:
    """Return where an ELF file names the program that loads it, None where it is static or too short (elf(5)).

    :param head: how the file begins, its program headers included.
    :return: offset and size in bytes of the path and the NUL at its end.
    """
    bits, order = _layout(head)
    table, header = _PROGRAM_HEADERS[bits]
    try:
        start, step, count = struct.unpack_from(order + table, head)
        for place in range(start, start + step * count, step or 1):
            kind, offset, size = struct.unpack_from(order + header, head, place)
            if kind == _PT_INTERP:
                return offset, size
    except struct.error:
        pass
    return None


@dataclass(frozen=True)
class ProbeResult:
    """What became of an architecture's program.

    :ivar problem: why it did not run, None where it did.
    :ivar version: of the QEMU that ran it, None where that is not QEMU.
    """

    problem: Optional[str] = None
    version: Optional[str] = None


#: Runs an architecture's program with these variables and returns how it ended.
#: Raises CommandError where it cannot be started.
Start = Callable[[str, Mapping[str, str]], Result]


def probe(arch: str, start: Start) -> ProbeResult:
    """Run an architecture's program, and have its QEMU print its version.

    With QEMU_VERSION in the environment, QEMU prints it instead of running the program (linux-user/main.c).

    :raises FarmError: there is no place to run programs from.
    """
    try:
        problem = _problem(arch, start(arch, {}))
        # The program prints nothing.
        output = "" if problem else start(arch, {"QEMU_VERSION": "1"}).stdout
    except CommandError as exc:
        return ProbeResult(exc.result.stderr.strip() or exc.message)
    found = re.search(r"version (\d[^\s(]*)", output)
    return ProbeResult(problem, found.group(1) if found else None)


def _problem(arch: str, result: Result) -> Optional[str]:
    if result.rc == _EXIT_STATUS:
        return None
    ended = f"was ended by signal {-result.rc}" if result.rc < 0 else f"exited with {result.rc} instead of 42"
    return f"a {arch} program {ended}" + (f": {result.stderr.strip()}" if result.stderr.strip() else "")


def probe_here(arch: str, runner: Runner) -> ProbeResult:
    """Run an architecture's program on this host.

    :raises FarmError: this host has no place to run programs from.
    """
    with tempfile.TemporaryDirectory(prefix="buildfarm-", dir=_directory()) as directory:
        path = os.path.join(directory, f"exit-{arch}")
        with open(path, "wb") as stream:
            stream.write(program(arch))
        os.chmod(path, 0o700)
        return probe(arch, lambda _arch, env: runner([path], env=env, timeout=_TIMEOUT))


def _directory() -> str:
    """Return a directory from which programs may be run.

    :raises FarmError: none of the usual ones allows it.
    """
    candidates = [tempfile.gettempdir(), "/var/tmp", "/run", os.path.expanduser("~")]
    for path in candidates:
        if os.access(path, os.W_OK) and not os.statvfs(path).f_flag & os.ST_NOEXEC:
            return path
    raise FarmError(
        f"no program can be run from {', '.join(candidates)}: all are mounted noexec; set verify: false or TMPDIR"
    )
