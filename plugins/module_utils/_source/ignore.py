# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a ``.dockerignore`` leaves of a build context, as BuildKit understands it.

BuildKit reads such a file with moby/patternmatcher, translates a pattern with wildcards to a regular expression of Go,
and walks the context with tonistiigi/fsutil. Their documentation leaves open much of what they do; this is what they
do. Where that would take an implementation of Go's regular expressions, ``CannotTell`` is raised.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import re
from dataclasses import dataclass
from typing import Iterable, List, Optional, Sequence, Tuple

from .._core.errors import FarmError

#: What ``unicode.IsSpace`` of Go takes for a blank; ``str.strip`` of Python takes more.
_BLANKS = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
#: Bytes of a line at which Go's ``bufio.Scanner`` gives up.
_LONGEST = (1 << 16) - 1
_WILDCARDS = frozenset("*[]?^\\")
#: What patternmatcher escapes when it makes a regular expression.
_ESCAPED = frozenset(".+()|{}$")
_LINKS = 40
#: What ``matchChunk`` in Go's ``path/filepath`` takes: characters, escaped ones, and brackets with ranges.
_CHUNK = re.compile(r"(?s:[^\\[]|\\.|\[(?:\^|(?!\^))(?:_(?:-_)?)+\])*".replace("_", r"(?:[^]\\-]|\\.)"))


class CannotTell(FarmError):
    """What BuildKit does with a context cannot be said for certain. It may well build it."""


#: Which patterns match a directory, in their order; None for the root, which is never matched.
Matches = Optional[Sequence[bool]]


@dataclass(frozen=True)
class _Pattern:
    """One line.

    :ivar text: the pattern, without the exclamation mark.
    :ivar excepts: whether it brings back what others exclude.
    :ivar prefix: what matching paths begin with, None if it is not that kind of pattern.
    :ivar suffix: what they end with.
    :ivar expression: what they match.
    """

    text: str
    excepts: bool
    prefix: Optional[str] = None
    suffix: Optional[str] = None
    expression: Optional[re.Pattern[str]] = None

    def matches(self, path: str) -> bool:
        if self.expression:
            return self.expression.match(path) is not None
        if self.prefix is not None:
            return path.startswith(self.prefix)
        if self.suffix is not None:
            return path.endswith(self.suffix) or self.suffix == "/" + path
        return path == self.text

    @property
    def folder(self) -> str:
        """The pattern without what stands for all that is in a directory."""
        text = self.text[:-3] if self.text.endswith("/**") else self.text
        return text[:-2] if text.endswith("/*") else text


class IgnoreRules:
    """The rules of one ignore file; without rules it is false.

    Paths are relative to the context, with slashes; bytes that are no text are surrogates, as ``os.fsdecode`` makes
    them where the locale is UTF-8.
    """

    def __init__(self, patterns: Iterable[_Pattern] = ()) -> None:
        self._patterns = tuple(patterns)
        exceptions = [pattern.folder for pattern in self._patterns if pattern.excepts]
        self._enters_all = any(_WILDCARDS.intersection(text) for text in exceptions)
        self._exceptions = [f"{text}/" for text in exceptions]

    def __bool__(self) -> bool:
        return bool(self._patterns)

    @classmethod
    def parse(cls, data: bytes, name: str = ".dockerignore") -> IgnoreRules:
        """Read the content of an ignore file.

        :param name: what errors call it.
        :raises FarmError: BuildKit would refuse it. It names the line, and why.
        :raises CannotTell: it holds something that this module does not understand as BuildKit does.
        """
        patterns = []
        for number, raw in enumerate(data.split(b"\n"), 1):
            line = raw[:-1] if raw.endswith(b"\r") else raw
            if number == 1 and line.startswith(b"\xef\xbb\xbf"):
                line = line[3:]
            try:
                text = _read_line(line)
                if text:
                    patterns.append(_pattern(text))
            except FarmError as exc:
                shown = line[:80].decode("utf-8", "backslashreplace")
                raise type(exc)(f"{name}, line {number}: {shown!r}: {exc.message}") from exc
        return cls(patterns)

    def excludes(self, path: str, parent: Matches = None) -> Tuple[bool, Matches]:
        """Say whether a path is left out, as ``MatchesUsingParentResults`` of patternmatcher does.

        A pattern that matches a directory counts for all that is in it, but only if it was tried for the directory: one
        that could not have changed the answer was not.

        :param parent: what this returned for the directory that the path is in.
        :returns: the answer, and what to give for what is in it.
        """
        excluded, matched = False, []
        for number, pattern in enumerate(self._patterns):
            found = parent is not None and parent[number]
            if not found and pattern.excepts == excluded:
                found = pattern.matches(path)
            matched.append(found)
            if found:
                excluded = not pattern.excepts
        return excluded, matched

    def enters(self, folder: str) -> bool:
        """Say whether an excluded directory is searched for what is brought back (``Walk`` in fsutil's ``filter.go``).

        What is found there is sent with the directories that it is in.
        """
        return self._enters_all or any(text.startswith(f"{folder}/") for text in self._exceptions)

    def withholds(self, path: str) -> bool:
        """Say whether the content of a file that is not left out is not sent all the same.

        Before it opens a file fsutil asks by ``MatchesOrParentMatches``, which in contrast to ``excludes`` tries each
        pattern for all directories. If that says no, an empty file arrives.
        """
        if not self._exceptions:
            return False
        parts = path.split("/")
        paths = ["/".join(parts[:number]) for number in range(len(parts), 0, -1)]
        excluded = False
        for pattern in self._patterns:
            if pattern.excepts == excluded and any(map(pattern.matches, paths)):
                excluded = not pattern.excepts
        return excluded


#: Nothing is left out.
NO_RULES = IgnoreRules()


def ignore_file(context: str, dockerfile: Optional[str] = None) -> Optional[str]:
    """Return which ignore file counts for a local context, None if there is none (dockerui's ``config.go``).

    :param dockerfile: path of the Dockerfile, None for one that is no file in a directory of the user, and for a named
        context: then only the context's own counts.
    """
    if dockerfile is not None:
        folder, name = os.path.split(dockerfile)
        beside = _inside(folder or ".", f"{spelled(folder or '.', name)}.dockerignore")
        if beside:
            return beside
    return _inside(context, ".dockerignore")


def rules_of(context: str, dockerfile: Optional[str] = None) -> IgnoreRules:
    """Return the rules that BuildKit applies to a local context; see ``ignore_file``.

    :raises FarmError: BuildKit would refuse the file.
    :raises CannotTell: what is in it, or whether it can be read, is doubtful.
    """
    path = ignore_file(context, dockerfile)
    if path is None:
        return NO_RULES
    try:
        with open(path, "rb") as stream:
            return IgnoreRules.parse(stream.read(), path)
    except OSError as exc:
        # An empty file would arrive.
        raise CannotTell(f"{path} cannot be read: {exc.strerror}; make it readable") from exc


def spelled(folder: str, name: str) -> str:
    """Return how buildx spells a Dockerfile's name: it looks for the usual one in lower case too."""
    if name == "Dockerfile":
        with contextlib.suppress(OSError):
            there = os.listdir(folder)
            return "dockerfile" if name not in there and "dockerfile" in there else name
    return name


def way_to(root: str, name: str) -> List[str]:
    """Return all that is passed on the way to a file in a directory that BuildKit was sent, the file itself last.

    Links are followed, and the directory is taken for the root of the file system, as BuildKit does it.

    :returns: paths relative to the directory, none if there is no such file.
    """
    parts = name.split("/")
    done: List[str] = []
    passed: List[str] = []
    links = 0
    while parts:
        part = parts.pop(0)
        if part in ("", ".", ".."):
            done = done[:-1] if part == ".." else done
            continue
        done.append(part)
        path = "/".join(done)
        passed.append(path)
        try:
            target = os.readlink(os.path.join(root, path))
        except OSError:
            # No link.
            continue
        links += 1
        if links > _LINKS:
            return []
        done = [] if target.startswith("/") else done[:-1]
        parts = [*target.split("/"), *parts]
    return passed if os.path.isfile(os.path.join(root, *done)) else []


def _inside(root: str, name: str) -> Optional[str]:
    passed = way_to(root, name)
    return os.path.join(root, passed[-1]) if passed else None


def _read_line(line: bytes) -> str:
    """Return the pattern in a line, empty for none (``ReadAll`` in patternmatcher's ``ignorefile``)."""
    if len(line) >= _LONGEST:
        raise CannotTell("the line is too long")
    text = line.decode("utf-8", "surrogateescape")
    if text.startswith("#"):
        return ""
    text = text.strip(_BLANKS)
    if not text:
        return ""
    mark = "!" if text.startswith("!") else ""
    text = text[len(mark) :].strip(_BLANKS)
    if text:
        text = _clean(text)
        text = text[1:] if len(text) > 1 and text.startswith("/") else text
    if re.search("[\0-\x1f\x7f]", text):
        # Patterns travel in headers of gRPC, which are refused then, if the others of the file are ASCII too.
        raise CannotTell("it has control characters")
    # Another reader does it again: what a slash or a dot stood before may have become a mark or a blank.
    text = (mark + text).strip(_BLANKS)
    return _clean(text) if text else ""


def _clean(path: str) -> str:
    """Return what Go's ``filepath.Clean`` makes of a path."""
    clean = posixpath.normpath(path)
    return clean[1:] if clean.startswith("//") else clean


def _pattern(text: str) -> _Pattern:
    if text == "!":
        raise FarmError("an exclamation mark without a pattern, which BuildKit refuses; remove the line")
    if re.search("[\ufeff\ufffd\ud800-\udfff]", text):
        raise CannotTell("it is not plain UTF-8")
    excepts = text.startswith("!")
    text = text[1:] if excepts else text
    _check_syntax(text)
    kind, expression = _translated(text)
    if kind == "prefix":
        return _Pattern(text, excepts, prefix=text[:-2])
    if kind == "suffix":
        return _Pattern(text, excepts, suffix=text[2:])
    return _Pattern(text, excepts, expression=_compiled(expression) if kind == "regexp" else None)


def _translated(text: str) -> Tuple[str, str]:
    """Return the kind of a pattern and Go's regular expression for it (``compile`` in patternmatcher).

    Inside of brackets it translates as anywhere else.
    """
    kind, made, position = "exact", ["^"], 0
    while position < len(text):
        start, character = position, text[position]
        position += 1
        if character == "*" and text[position : position + 1] == "*":
            position += 2 if text[position + 1 : position + 2] == "/" else 1
            if position < len(text):
                made.append("(.*/)?")
                kind = "regexp"
            elif kind == "exact":
                kind = "prefix"
            else:
                made.append(".*")
                kind = "regexp"
            if start == 0:
                kind = "suffix"
        elif character in "*?":
            made.append("[^/]*" if character == "*" else "[^/]")
            kind = "regexp"
        elif character in _ESCAPED:
            made.append("\\" + character)
        elif character == "\\" and position < len(text):
            made.append("\\" + text[position])
            position += 1
            kind = "regexp"
        else:
            made.append(character)
            kind = "regexp" if character in "[]" else kind
    return kind, "".join(made) + "$"


def _compiled(expression: str) -> re.Pattern[str]:
    """Return Python's regular expression for one that ``_translated`` made for Go."""
    made, position = [], 0
    while position < len(expression):
        character = expression[position]
        if character == "[":
            text, position = _character_class(expression, position + 1)
            made.append(text)
            continue
        if character == "\\":
            position += 1
            made.append(re.escape(_literal(expression[position])))
        elif character == "$":
            made.append(r"\Z")
        else:
            made.append(character if character in "^(.*/)?" else re.escape(character))
        position += 1
    return re.compile("".join(made))


def _character_class(expression: str, position: int) -> Tuple[str, int]:
    """Return Python's text for a class of characters, and where it ends; ``position`` is behind its bracket."""
    made = ["["]
    if expression[position : position + 1] == "^":
        made.append("^")
        position += 1
    first = True
    while first or expression[position : position + 1] != "]":
        if expression[position : position + 2] == "[:":
            raise CannotTell("it has a named class of characters")
        first = False
        low, position = _class_member(expression, position)
        made.append(re.escape(low))
        if expression[position : position + 1] == "-" and expression[position + 1 : position + 2] not in ("", "]"):
            high, position = _class_member(expression, position + 1)
            if high < low:
                raise CannotTell(f"{low}-{high} is no range, which BuildKit may find while it reads the context")
            made.append("-" + re.escape(high))
    return "".join(made) + "]", position + 1


def _class_member(expression: str, position: int) -> Tuple[str, int]:
    escaped = expression[position : position + 1] == "\\"
    character = expression[position + escaped : position + escaped + 1]
    if not character:
        raise CannotTell("a bracket is not closed, which BuildKit may find while it reads the context")
    return _literal(character) if escaped else character, position + escaped + 1


def _literal(character: str) -> str:
    """Return the character that an escaped one stands for in Go."""
    if character.isalnum() or not character.isascii():
        raise CannotTell(f"\\{character} is not plain {character} to BuildKit")
    return character


def _check_syntax(text: str) -> None:
    """Refuse what Go's ``filepath.Match`` calls a bad pattern; BuildKit asks it first, by matching ``.``.

    Some versions read on only as long as there is something to match, so errors behind a star may be found late.
    """
    for number, chunk in enumerate(_chunks(text)):
        if not _is_chunk(chunk):
            if number:
                raise CannotTell("its syntax is wrong, which BuildKit may find while it reads the context")
            raise FarmError("syntax error in pattern, BuildKit refuses it; escape [ and \\ with \\, or remove the line")


def _chunks(text: str) -> List[str]:
    """Return the parts of a pattern between its stars; a leading star counts as part of the first."""
    text = text.lstrip("*")
    chunks, start, position, bracket = [], 0, 0, False
    while position < len(text):
        character = text[position]
        if character == "\\":
            position += 1
        elif character in "[]":
            bracket = character == "["
        elif character == "*" and not bracket:
            chunks.append(text[start:position])
            while text[position + 1 : position + 2] == "*":
                position += 1
            start = position + 1
        position += 1
    return [*chunks, text[start:]]


def _is_chunk(chunk: str) -> bool:
    return _CHUNK.fullmatch(chunk) is not None
