# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether the unit tests notice a mistake: `make mutants`.

Random places of `plugins/module_utils` are changed, one at a time, in a copy of the checkout; the unit tests have to
fail. Those that do not are printed with their place. Only test files that execute the changed line are run, in as many
processes as there are processors. `MUTANTS_SEED` repeats a selection, `MUTANTS` is its size, `MUTANTS_IN` parts of the
files' paths, with blanks between them.
"""

from __future__ import annotations

import ast
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

CHECKOUT = Path(__file__).resolve().parents[1]
PYTEST = (sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider")
_OPPOSITES: dict[type[ast.AST], type[ast.AST]] = {
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.BitOr: ast.BitAnd,
}


@dataclass(frozen=True)
class Mutant:
    """One change: the text of a file from `start` to `end` becomes `text`."""

    path: Path
    lines: range
    start: int
    end: int
    text: str
    was: str

    def __str__(self) -> str:
        return f"{self.path}:{self.lines.start}: {' '.join(self.was.split())}  ->  {' '.join(self.text.split())}"


def mutants(path: Path) -> Iterator[Mutant]:
    """Every single change of a file that this program knows."""
    source = (CHECKOUT / path).read_text()
    tree = ast.parse(source)
    starts = [0]
    for line in source.encode().splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    annotations = {inner for node in ast.walk(tree) for inner in _annotations(node)}
    for node in ast.walk(tree):
        if not hasattr(node, "lineno") or node in annotations:
            continue
        for made in _changes(node):
            start = starts[node.lineno - 1] + node.col_offset
            end = starts[node.end_lineno - 1] + node.end_col_offset
            was = source.encode()[start:end].decode()
            # In brackets, so that what stands around it binds as before.
            text = f"({ast.unparse(made)})" if isinstance(made, ast.expr) else ast.unparse(made)
            yield Mutant(path, range(node.lineno, node.end_lineno + 1), start, end, text, was)


def _annotations(node: ast.AST) -> Iterator[ast.AST]:
    """What is evaluated by nobody: annotations."""
    for name in ("annotation", "returns"):
        part = getattr(node, name, None)
        if part is not None:
            yield from ast.walk(part)


def _changes(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, (ast.BoolOp, ast.BinOp)) and type(node.op) in _OPPOSITES and not _joins_text(node):
        yield _with(node, op=_OPPOSITES[type(node.op)]())
    elif isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _OPPOSITES:
        yield _with(node, ops=[_OPPOSITES[type(node.ops[0])]()])
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield node.operand
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield ast.Constant(not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
        yield ast.Constant(node.value + 1)
    elif isinstance(node, ast.IfExp):
        yield _with(node, body=node.orelse, orelse=node.body)
    elif isinstance(node, ast.Return) and node.value is not None and not _is_none(node.value):
        yield ast.Return(ast.Constant(None))
    elif isinstance(node, (ast.Continue, ast.Break)) or _is_call(node):
        yield ast.Pass()


def _with(node: ast.AST, **changes: object) -> ast.AST:
    return type(node)(**{**{name: getattr(node, name) for name in node._fields}, **changes})


def _joins_text(node: ast.AST) -> bool:
    parts = [part for part in ast.walk(node) if isinstance(part, ast.Constant)]
    return isinstance(node, ast.BinOp) and any(isinstance(part.value, str) for part in parts)


def _is_call(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)


def _is_none(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


class Tests:
    """Which test files execute a line, and how long they may take.

    :ivar limit: seconds after which tests are ended: they wait for ever.
    """

    def __init__(self, copy: Path) -> None:
        """Run the unit tests of a copy of the checkout, which have to pass.

        :raises subprocess.CalledProcessError: they did not.
        """
        began = time.monotonic()
        with tempfile.NamedTemporaryFile("r") as found:
            environment = {**os.environ, "PYTHONPATH": str(CHECKOUT / "tests"), "REACHED": found.name}
            subprocess.run([*PYTEST, "-p", "reached", "tests/unit"], cwd=copy, env=environment, check=True)
            self._reached: dict[str, dict[str, list[str]]] = json.load(found)
        self.limit = 30 + time.monotonic() - began
        self._all = [str(path.relative_to(copy)) for path in copy.glob("tests/unit/**/test_*.py")]

    def of(self, mutant: Mutant) -> list[str]:
        """Return the test files that have to notice a mutant, first those that import its file, short ones before long.

        What is executed while modules are imported may be noticed by any of them. What no test executes itself may be
        executed by a program that one of the module's tests starts, which is not traced.
        """
        lines = self._reached.get(str(mutant.path), {})
        files = {file for line in mutant.lines for file in lines.get(str(line), [])}
        files = files or {file for names in lines.values() for file in names if file}
        module = ".".join(mutant.path.with_suffix("").parts)
        texts = (module, f"{module.rpartition('.')[0]} import {mutant.path.stem}")

        def order(file: str) -> tuple[bool, int]:
            source = (CHECKOUT / file).read_text()
            return not any(text in source for text in texts), len(source)

        return sorted(self._all if "" in files else files, key=order)


def survives(mutant: Mutant, copy: Path, tests: Tests) -> bool:
    """Whether the unit tests pass with the mutant in a copy of the checkout."""
    files = tests.of(mutant)
    if not files:
        return True
    target = copy / mutant.path
    original = target.read_bytes()
    target.write_bytes(original[: mutant.start] + mutant.text.encode() + original[mutant.end :])
    # By time and size Python knows whether bytecode is out of date: no two mutants of a file have the same time.
    os.utime(target, (mutant.start, mutant.start))
    try:
        done = subprocess.run(
            [*PYTEST, *files],
            cwd=copy,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=tests.limit,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    finally:
        target.write_bytes(original)
    return done.returncode == 0


def main() -> int:
    """Judge a random selection; the exit status says whether few enough survived."""
    seed = os.environ.get("MUTANTS_SEED") or str(random.SystemRandom().randrange(10**6))
    parts = os.environ.get("MUTANTS_IN", "").split() or [""]
    files = [path.relative_to(CHECKOUT) for path in sorted(CHECKOUT.glob("plugins/module_utils/**/*.py"))]
    known = [mutant for path in files if any(part in str(path) for part in parts) for mutant in mutants(path)]
    chosen = random.Random(seed).sample(known, min(len(known), int(os.environ.get("MUTANTS") or 160)))
    print(f"MUTANTS_SEED={seed}: {len(chosen)} of {len(known)} mutants", flush=True)
    copies: SimpleQueue[Path] = SimpleQueue()
    with tempfile.TemporaryDirectory() as folder:
        for number in range(os.cpu_count() or 1):
            copy = Path(folder) / str(number)
            ignored = shutil.ignore_patterns(".git", ".build", ".venv*", "__pycache__", ".ansible")
            shutil.copytree(CHECKOUT, copy, ignore=ignored, symlinks=True)
            copies.put(copy)
        tests = Tests(copy)

        def judge(mutant: Mutant) -> bool:
            copy = copies.get()
            try:
                alive = survives(mutant, copy, tests)
            finally:
                copies.put(copy)
            if alive:
                print(f"survived: {mutant}", flush=True)
            return alive

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            alive = sum(pool.map(judge, chosen))
    killed = 1 - alive / len(chosen)
    print(f"mutants killed = {killed:.3f} (limit 0.92)")
    return 0 if killed >= 0.92 else 1


if __name__ == "__main__":
    sys.exit(main())
