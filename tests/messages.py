# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""All messages of the collection's errors and warnings, read from its sources, as a page of the documentation.

Each already says what was found, what was wanted and what to do; on a page they are found by their words. What a
message takes from the task is ``…`` there. Many are put together from parts, as a verdict and a remedy: all strings
that read like a part of a sentence are taken.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

CHECKOUT = Path(__file__).resolve().parents[1]
#: What makes an error or a warning of its first text: classes by the end of their names, and methods.
_RAISED = re.compile(r"(Error|Unreachable|Refused|Interrupted)$")
_CALLED = ("warn", "warning", "fail_json", "warned")
_PLACEHOLDER = "…"
#: What no sentence has: expressions, templates, paths, units, options of programs.
_CODE = re.compile(r"[\\|{}$^<>]|\A[#/-]|\bsrc '")
_WORD = re.compile(r"(?<![\w/.-])[a-z]{2,}(?![\w/])")
_DOCUMENTATION = ("DOCUMENTATION", "EXAMPLES", "RETURN")
#: The report's own texts are not about what went wrong.
_NO_MESSAGES = ("_report",)
PAGE = CHECKOUT / "docs/docsite/rst/messages.rst"
LABEL = "ansible_collections.buildfarm.multiarch.docsite.messages"


def text_of(node: ast.expr) -> str:
    """What of an expression's text is known: constants as they are, all else as a placeholder."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part) if isinstance(part, ast.Constant) else _PLACEHOLDER for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return text_of(node.left) + text_of(node.right)
    return _PLACEHOLDER


def in_python(path: Path) -> Iterator[str]:
    """The messages in a Python file and the parts of some, as they stand there."""
    tree = ast.parse(path.read_text())
    if not {*path.parts} & {"modules", "doc_fragments", *_NO_MESSAGES}:
        yield from phrases(tree)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if _RAISED.search(called) or called in _CALLED:
            values = [*node.args, *(keyword.value for keyword in node.keywords if keyword.arg == "msg")]
            yield from (text_of(value) for value in values)


def phrases(node: ast.AST) -> Iterator[str]:
    """The strings that read like a part of a sentence; docstrings, documentation and lists of words do not count."""
    if isinstance(node, (ast.Constant, ast.JoinedStr, ast.BinOp)):
        text = text_of(node)
        if len(_WORD.findall(text)) > 4 and not _CODE.search(text.strip()):
            yield text
            return
    is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    is_documentation = isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") in _DOCUMENTATION
    is_list = isinstance(node, ast.Attribute) and node.attr == "split"
    if not (is_docstring or is_documentation or is_list):
        for child in ast.iter_child_nodes(node):
            yield from phrases(child)


def in_tasks(path: Path) -> Iterator[str]:
    """The messages in a role's tasks or in a playbook."""

    def walk(item: Any) -> Iterator[str]:
        if isinstance(item, list):
            for one in item:
                yield from walk(one)
        elif isinstance(item, dict):
            for key, value in item.items():
                if key in ("fail_msg", "msg") and isinstance(value, str):
                    yield re.sub(r"{{.*?}}", _PLACEHOLDER, value, flags=re.DOTALL)
                else:
                    yield from walk(value)

    yield from walk(yaml.safe_load(path.read_text()))


def messages() -> dict[str, list[str]]:
    """All messages, in one line each, by the part of the collection that they come from."""
    files = sorted((CHECKOUT / "plugins").rglob("*.py"))
    found: dict[str, set[str]] = {}
    for path in files:
        where = path.relative_to(CHECKOUT / "plugins").parts
        subject = (
            where[1].strip("_") if where[0] == "module_utils" and len(where) > 2 else "plugins on the Ansible machine"
        )
        found.setdefault(subject, set()).update(in_python(path))
    for path in sorted([*CHECKOUT.glob("roles/*/tasks/*.yml"), *CHECKOUT.glob("playbooks/*.yml")]):
        found.setdefault("roles and playbooks", set()).update(in_tasks(path))
    lines = {
        # A text of a few letters is a part of a message, not one of its own.
        subject: sorted({" ".join(one.split()) for one in texts if len(re.findall(r"[a-z]{2,}", one)) > 3})
        for subject, texts in found.items()
    }
    return {subject: texts for subject, texts in sorted(lines.items()) if texts}


def page() -> str:
    """The page, as text for Sphinx."""
    title = "All messages"
    lines = [
        "..",
        "  Copyright (c) 2026 The buildfarm.multiarch authors",
        "  GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)",
        "  SPDX-License-Identifier: GPL-3.0-or-later",
        "",
        "..",
        "  Made by tests/messages.py: make docs",
        "",
    ]
    lines += [f".. _{LABEL}:", "", title, "=" * len(title), ""]
    lines += [
        "Each error and warning of the collection, as it stands in its sources, and the parts that some are made of;",
        "the reasons for a build are here, too. ``…`` is what a message takes from the task, the host or another",
        "program. Search for a few words of yours that are no names.",
        "",
    ]
    for subject, texts in messages().items():
        lines += [subject, "-" * len(subject), ""]
        lines += [f"* ``{text.strip('` ')}``" for text in texts]
        lines.append("")
    return "\n".join(lines)
