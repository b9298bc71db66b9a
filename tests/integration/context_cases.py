# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Random build contexts, what the collection says of them, and what BuildKit makes of them; it runs on a controller.

`context_cases.py ignore|keys|names|emptied BUILDER SEED CASES`, in a directory of its own that also has the collection.
It prints JSON.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, os.getcwd())

from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._source.ignore import CannotTell, rules_of
from ansible_collections.buildfarm.multiarch.plugins.module_utils._source.record import digest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._source.sent import name_for
from ansible_collections.buildfarm.multiarch.plugins.module_utils._source.tree import FILE, LINK, Tree, read_tree

#: How many contexts one build has; each but the first is a named one with an ignore file of its own.
BATCH = 40
PLAIN = ["a", "b", "ab", "abc", "foo", "a.md", "b.md", "x.go", ".git", "docs", "src"]
ODD = [
    "a b",
    "*",
    "[a]",
    "!a",
    "#a",
    "ä",
    "a\\b",
    "^a",
    "a-b",
    "{a}",
    "a$",
    "(a)",
    "-",
    "]",
    "?",
    "a+",
    "...",
    " a",
    "a\r",
]
MODES = [0o644, 0o644, 0o644, 0o600, 0o755, 0o664, 0o4755, 0o444, 0o2755, 0o1644]
FOLDER_MODES = [0o755, 0o755, 0o755, 0o700, 0o775, 0o1777, 0o2755]

#: Of no other run, so that BuildKit has nothing of another in its cache, and no context of the same name.
SALT = secrets.token_hex(4)

#: What is made at a path: kind, mode, text or target.
Spec = dict[str, tuple[str, int, str]]


@dataclass(frozen=True)
class Case:
    """A context, with its Dockerfile if it is built alone, and what the collection says of it."""

    number: int
    root: Path
    dockerfile: str | None
    tree: Tree


def random_spec(chance: random.Random) -> Spec:
    """What a context has, each directory before what is in it."""
    names = chance.sample(PLAIN, chance.randint(3, 6)) + chance.sample(ODD, chance.choice([0, 0, 1, 3]))
    spec: Spec = {}

    def fill(folder: str, depth: int) -> None:
        for name in chance.sample(names, chance.randint(1, min(5, len(names)))):
            path = folder + name
            kind = chance.choices(
                ["file", "folder", "link", "socket", "fifo", "hard"], [6, 5 if depth < 4 else 0, 1, 0.2, 0.2, 0.4]
            )[0]
            files = [one for one, (what, _mode, _text) in spec.items() if what == "file"]
            if kind == "hard" and not files:
                kind = "file"
            if kind == "folder":
                spec[path] = ("folder", chance.choice(FOLDER_MODES), "")
                fill(f"{path}/", depth + 1)
            elif kind == "link":
                spec[path] = ("link", 0, chance.choice([*names, f"../{names[0]}", "/etc", ".", "no where"]))
            elif kind == "hard":
                spec[path] = ("hard", 0, chance.choice(files))
            else:
                text = chance.choice(["", "x", "y", "text", path])
                spec[path] = (kind, chance.choice(MODES), text)

    fill("", 0)
    return spec


def write(root: Path, spec: Spec) -> None:
    """Make a directory with what a context has."""
    root.mkdir(parents=True)
    for name, (kind, mode, text) in spec.items():
        path = root / name
        if kind == "folder":
            path.mkdir()
        elif kind == "link":
            path.symlink_to(text)
        elif kind == "hard":
            os.link(root / text, path)
        elif kind == "fifo":
            os.mkfifo(path)
        elif kind == "socket":
            with contextlib.chdir(path.parent), socket.socket(socket.AF_UNIX) as listening:
                listening.bind(path.name)
        else:
            path.write_text(text, newline="")
        if kind not in ("link", "hard"):
            path.chmod(mode)


def random_ignore(chance: random.Random, spec: Spec) -> bytes:
    """An ignore file that has something to do with a context."""
    lines = [_line(chance, list(spec)) for _line_number in range(chance.choice([1, 1, 2, 2, 3, 4, 6]))]
    text = "".join(line + chance.choice(["\n", "\n", "\n", "\r\n", "\n\n", " \n"]) for line in lines)
    text = text[:-1] if chance.random() < 0.2 else text
    return (b"\xef\xbb\xbf" if chance.random() < 0.1 else b"") + text.encode("utf-8", "surrogateescape")


def _line(chance: random.Random, paths: list[str]) -> str:
    if chance.random() < 0.04:
        return chance.choice(["# a", " #a", "#", "!", "! ", ".", "..", "/", "!/", "../a", "\t", "\x85", "a\ra"])
    parts = chance.choice(paths).split("/")
    parts = parts[: chance.randint(1, len(parts))]
    changes = [lambda part: part] * 6
    changes += [
        lambda _part: "*",
        lambda _part: "**",
        lambda part: f"{part[0]}*",
        lambda part: f"*{part[-1]}",
        lambda part: f"**{part[-1:]}",
        lambda part: f"{part[:1]}**",
        lambda part: "?" * len(part),
        lambda part: f"[{part[0]}]{part[1:]}",
        lambda part: f"[^{part[0]}]{part[1:]}",
        lambda part: f"[!{part[0]}]{part[1:]}",
        lambda part: f"[{min('a', part[0])}-{max('a', part[0])}]*",
        lambda part: f"[*?]{part}",
        lambda part: part if part[0].isalnum() and chance.random() < 0.9 else "\\" + part,
        lambda part: re.sub(r"([*?\[\]^\\])", r"\\\1", part),
        lambda part: part[:-1] + "[x" + part[-1] + "]",
        lambda part: f"{part}*{part}",
        lambda _part: "[^/]*",
        lambda _part: "*.*",
    ]
    parts = [chance.choice(changes)(part) for part in parts]
    if chance.random() < 0.15:
        parts.insert(chance.randint(0, len(parts)), chance.choice(["**", "*", "..", "."]))
    line = chance.choice(["", "", "", "", "/", "./", "//"]) + "/".join(parts)
    line += chance.choice(["", "", "", "", "/", "/*", "/**", "**", "*"])
    return chance.choice(["", "", "", " "]) + ("!" if chance.random() < 0.3 else "") + line


def told(tree: Tree) -> dict[str, list[Any]]:
    """What a tree is to be in an image: kind, mode, and content or target."""
    found: dict[str, list[Any]] = {}
    for name, entry in tree.items():
        value = entry.value if entry.kind in (FILE, LINK) else ""
        found[name.decode("utf-8", "surrogateescape")] = [entry.kind, entry.mode, value]
    return found


def listed(path: Path) -> dict[str, dict[str, list[Any]]]:
    """What a tar file of an image has, by the first part of the path, in the same words."""
    found: dict[str, dict[str, list[Any]]] = {}
    with tarfile.open(path) as archive:
        for member in archive:
            first, _slash, name = member.name.removeprefix("./").strip("/").partition("/")
            below = found.setdefault(first, {})
            if not name:
                continue
            if member.isdir():
                below[name] = ["directory", member.mode, ""]
            elif member.issym():
                below[name] = ["link", 0, member.linkname]
            elif member.isfile() or member.islnk():
                content = archive.extractfile(member)
                assert content
                below[name] = ["file", member.mode, hashlib.sha256(content.read()).hexdigest()]
            else:
                below[name] = ["special file", member.mode, ""]
    return found


def build(builder: str, main: Path, named: dict[str, Path], *options: str) -> subprocess.CompletedProcess[str]:
    """Build of a context and others."""
    argv = ["docker", "buildx", "build", "--builder", builder, "--platform", "linux/amd64", "--provenance=false"]
    argv += [f"--build-context={name}={path}" for name, path in named.items()]
    return subprocess.run([*argv, *options, str(main)], capture_output=True, text=True, check=False)


def random_context(chance: random.Random, root: Path, alone: bool) -> str | None:
    """Make a context with an ignore file.

    :param alone: whether it may have a Dockerfile of its own, perhaps with an ignore file, beside it or in it.
    :returns: the Dockerfile's path, if it has.
    """
    spec = random_spec(chance)
    write(root, spec)
    name = chance.choice([None, "Dockerfile", "dockerfile", "other.Dockerfile", "linked"]) if alone else None
    place = root
    if name:
        place = chance.choice([root, root.with_name(f"{root.name}-beside")])
        place.mkdir(exist_ok=True)
        (place / name).write_text("FROM scratch\nCOPY . /0/\n")
        rules = place / f"{name}.dockerignore"
        if name == "linked":
            (place / "rules").write_bytes(random_ignore(chance, spec))
            rules.symlink_to(chance.choice(["rules", "/rules", "../rules", "missing", "../../../../rules"]))
        elif chance.random() < 0.7:
            rules.write_bytes(b"" if chance.random() < 0.2 else random_ignore(chance, spec))
    if chance.random() < 0.9:
        (root / ".dockerignore").write_bytes(random_ignore(chance, spec))
    if chance.random() < 0.05:
        files = [path for path in root.rglob("*") if path.is_file() and not path.is_symlink()]
        chance.choice(files or [root]).chmod(0o700 if not files else 0)
    return str(place / name) if name else None


def ignore_cases(builder: str, seed: str, cases: int) -> dict[str, Any]:
    """What arrives in builds against what the collection says of it.

    Those of which it says nothing are counted, and so are those that it says BuildKit refuses, of which some are tried.
    """
    result: dict[str, Any] = {"same": 0, "entries": 0, "refused": 0, "doubtful": 0, "wrong": []}
    pending: list[Case] = []
    for number in range(cases):
        chance, root = random.Random(f"{seed}-{number}"), Path.cwd() / f"{SALT}-{number}"
        dockerfile = random_context(chance, root, alone=number % 10 == 0)
        try:
            case = Case(number, root, dockerfile, read_tree(str(root), rules_of(str(root), dockerfile)))
        except CannotTell:
            result["doubtful"] += 1
        except FarmError as exc:
            if result["refused"] < 5 + cases // 100:
                done = build_alone(builder, root, dockerfile)
                if done.returncode == 0 or not re.search("syntax error in pattern|illegal exclusion", done.stderr):
                    result["wrong"].append([number, exc.message, done.stderr[-500:]])
            result["refused"] += 1
        else:
            if dockerfile:
                compare(result, [case], build_alone(builder, root, dockerfile))
            else:
                pending.append(case)
            if len(pending) == BATCH:
                batch(builder, result, pending)
                pending = []
            continue
        shutil.rmtree(root)
    if pending:
        batch(builder, result, pending)
    return result


def build_alone(builder: str, root: Path, dockerfile: str | None) -> subprocess.CompletedProcess[str]:
    """Build of one main context."""
    plain = Path("plain.Dockerfile")
    plain.write_text("FROM scratch\nCOPY . /0/\n")
    return build(builder, root, {}, "-f", dockerfile or str(plain), "-o", "type=tar,dest=out.tar")


def batch(builder: str, result: dict[str, Any], cases: list[Case]) -> None:
    """Build several contexts at once."""
    file = Path("batch.Dockerfile")
    lines = ["FROM scratch", "COPY . /0/"]
    lines += [f"COPY --from=c{number} . /{number}/" for number in range(1, len(cases))]
    file.write_text("\n".join(lines))
    named = {f"c{number}": case.root for number, case in enumerate(cases) if number}
    compare(result, cases, build(builder, cases[0].root, named, "-f", str(file), "-o", "type=tar,dest=out.tar"))


def compare(result: dict[str, Any], cases: list[Case], done: subprocess.CompletedProcess[str]) -> None:
    """Note whether what arrived is what was said."""
    arrived = {} if done.returncode else listed(Path("out.tar"))
    if done.returncode:
        result["wrong"].append([[case.number for case in cases], "the build failed", done.stderr[-1500:]])
    for position, case in enumerate(cases if not done.returncode else ()):
        said, found = told(case.tree), arrived.get(str(position), {})
        if said == found:
            result["same"] += 1
            result["entries"] += len(said)
        else:
            rules = [(str(path), path.read_text(errors="replace")) for path in case.root.glob("*.dockerignore")]
            names = [name for name in {*said, *found} if said.get(name) != found.get(name)]
            differing = {name: [said.get(name), found.get(name)] for name in names}
            result["wrong"].append([case.number, case.dockerfile, rules, differing])
    for case in cases:
        shutil.rmtree(case.root)


def _replaced(change: Callable[[tuple[str, int, str]], tuple[str, int, str]]) -> Callable[[Spec, str], None]:
    def apply(spec: Spec, name: str) -> None:
        spec[name] = change(spec[name])

    return apply


def _added(name: str, kind: str, mode: int = 0, text: str = "") -> Callable[[Spec, str], None]:
    def apply(spec: Spec, chosen: str) -> None:
        spec[name] = (kind, mode, text or chosen)

    return apply


def _renamed(spec: Spec, name: str) -> None:
    spec[f"{name}.new"] = spec.pop(name)


def _umask(spec: Spec, _name: str) -> None:
    for name, (kind, mode, text) in spec.items():
        if kind not in ("link", "hard"):
            spec[name] = (kind, mode ^ 0o020, text)


def _nothing(_spec: Spec, _name: str) -> None:
    pass


#: Ways to change a context, by what they need an entry of ("" for nothing); some are done after it is written.
CHANGES: dict[str, dict[str, Callable[[Spec, str], None]]] = {
    "": {
        **dict.fromkeys(["nothing", "time", "root"], _nothing),
        "empty directory": _added("empty", "folder", 0o755),
        "new file": _added("new", "file", 0o644, "new"),
        "link for everything": _added("all", "link", 0, "."),
        "ignored": _added("ignored", "file", 0o644, "ignored"),
        "umask": _umask,
    },
    "file": {
        "content": _replaced(lambda one: (*one[:2], one[2].swapcase() if one[2].swapcase() != one[2] else "1")),
        "size": _replaced(lambda one: (*one[:2], one[2] + "more")),
        "execution": _replaced(lambda one: (one[0], one[1] ^ 0o111, one[2])),
        "setuid": _replaced(lambda one: (one[0], one[1] ^ 0o4000, one[2])),
        "sticky": _replaced(lambda one: (one[0], one[1] ^ 0o1000, one[2])),
        "rename": _renamed,
        "gone": lambda spec, name: spec.pop(name) and None,
        "link": _replaced(lambda _one: ("link", 0, "elsewhere")),
        "directory": _replaced(lambda _one: ("folder", 0o755, "")),
        "socket": _replaced(lambda one: ("socket", one[1], "")),
        "hard": _added("hard link", "hard"),
        "xattr": _nothing,
    },
    "folder": {
        "directory mode": _replaced(lambda one: (one[0], one[1] ^ 0o020, "")),
        "directory sticky": _replaced(lambda one: (one[0], one[1] ^ 0o1000, "")),
        "directory xattr": _nothing,
    },
    "link": {"target": _replaced(lambda one: ("link", 0, f"{one[2]}/x"))},
}


#: Those that a build does not see.
UNSEEN = ("nothing", "time", "root", "ignored")


def changed(chance: random.Random, root: Path, spec: Spec) -> str:
    """Make a context that differs from another one in one way; returns which."""
    linked = {text for kind, _mode, text in spec.values() if kind == "hard"}
    entries = {kind: [name for name, one in spec.items() if one[0] == kind and name not in linked] for kind in CHANGES}
    entries[""] = [""]
    ways = [(way, kind) for kind, ways in CHANGES.items() if entries[kind] for way in ways]
    way, kind = chance.choice([*ways, *[(way, "") for way in UNSEEN] * 3])
    name, made = chance.choice(entries[kind]), dict(spec)
    CHANGES[kind][way](made, name)
    write(root, made)
    if way == "time":
        for path in root.rglob("*"):
            if not path.is_symlink():
                os.utime(path, (1_600_000_000, 1_600_000_000))
    elif way == "root":
        root.chmod(0o700)
    elif way.endswith("xattr"):
        # Whoever owns a file may not change its attributes if its mode forbids writing.
        (root / name).chmod(0o700)
        os.setxattr(root / name, "user.note", b"text")
        (root / name).chmod(made[name][1])
    return way


def key_cases(builder: str, seed: str, cases: int) -> dict[str, Any]:
    """Whether trees that share a digest are those of which BuildKit has the steps in its cache."""
    result: dict[str, Any] = {"same": 0, "other": 0, "ways": {}, "wrong": []}
    for start in range(0, cases, BATCH):
        numbers = range(start, min(start + BATCH, cases))
        ways, before, after = {}, {}, {}
        for number in numbers:
            chance = random.Random(f"{seed}-{number}")
            spec = random_spec(chance)
            first, second = (Path.cwd() / f"{part}-{SALT}-{number}" for part in ("first", "second"))
            write(first, spec)
            ways[number] = changed(chance, second, spec)
            for root in (first, second):
                (root / ".dockerignore").write_text("ignored\n")
            before[number], after[number] = first, second
        _cached, layers = built(builder, list(before.values()))
        cached, layers_now = built(builder, list(after.values()))
        for position, number in enumerate(numbers):
            keys = [digest(read_tree(str(root), rules_of(str(root)))) for root in (before[number], after[number])]
            same, way = keys[0] == keys[1], ways[number]
            result["same" if same else "other"] += 1
            result["ways"].setdefault(way, [0, 0])[same] += 1
            if same != (position in cached) or (same and layers[position] != layers_now[position]):
                found = [position in cached, layers[position] == layers_now[position]]
                result["wrong"].append([number, way, same, found])
        for root in (*before.values(), *after.values()):
            shutil.rmtree(root)
    return result


def built(builder: str, roots: list[Path]) -> tuple[set[int], list[str]]:
    """Build a layer of each context; returns which were in the cache, and the digests of all."""
    main, file = roots[0].with_name(f"{roots[0].name}-main"), Path("batch.Dockerfile")
    main.mkdir(exist_ok=True)
    stages = [
        f"FROM scratch AS stage{number}\nCOPY --from=c{number} . /{SALT}/{number}/" for number in range(len(roots))
    ]
    lines = [f"COPY --link --from=stage{number} / /" for number in range(len(roots))]
    file.write_text("\n".join([*stages, "FROM scratch", *lines]))
    named = {f"c{number}": root for number, root in enumerate(roots)}
    done = build(builder, main, named, "-f", str(file), "-o", "type=oci,dest=out.tar", "--progress=plain")
    if done.returncode:
        raise OSError(done.stderr[-2000:])
    steps = {step: int(number) for step, number in re.findall(r"(?m)^#(\d+) \[stage(\d+) 1/1\] COPY", done.stderr)}
    cached = {steps[step] for step in re.findall(r"(?m)^#(\d+) CACHED$", done.stderr) if step in steps}
    if len(steps) != len(roots):
        raise OSError(done.stderr[-2000:])
    with tarfile.open("out.tar") as archive:

        def document(name: str) -> Any:
            content = archive.extractfile(name)
            assert content
            return json.load(content)

        manifest = document("index.json")["manifests"][0]["digest"].replace(":", "/")
        return cached, [layer["digest"] for layer in document(f"blobs/{manifest}")["layers"]]


def names(builder: str) -> dict[str, Any]:
    """What becomes of content that changes without size or time, by several names of its context."""
    root, scratch = Path.cwd() / f"names-{SALT}", Path.cwd() / f"links-{SALT}"
    write(root / "main", {"d": ("folder", 0o755, ""), "d/x": ("file", 0o644, "x")})
    write(root / "named", {})
    scratch.mkdir()
    file = Path("names.Dockerfile")
    file.write_text(f"FROM scratch\nCOPY . /{SALT}/0/\nCOPY --from=named . /{SALT}/1/\n")
    found: dict[str, Any] = {}

    def build_as(main: Path) -> tuple[dict[str, Any], str]:
        options = ["-f", str(file), "-o", "type=tar,dest=out.tar", "--progress=plain"]
        done = build(builder, main, {"named": root / "named"}, *options)
        if done.returncode:
            raise OSError(done.stderr[-2000:])
        with tarfile.open("out.tar") as archive:
            members = {member.name.strip("/").partition("/")[2]: member for member in archive}
            texts = {
                name: archive.extractfile(member).read().decode()  # type: ignore[union-attr]
                for name, member in members.items()
                if member.isfile()
            }
        return {**texts, "mode": f"{members['0/d'].mode:04o}"}, done.stderr

    def named_anew(main: Path) -> Path:
        tree, other = read_tree(str(main)), read_tree(str(root / "named"))
        link = scratch / name_for(str(Path.cwd() / "sent"), str(main), tree, {f"named={root / 'named'}": other})
        if not link.is_symlink():
            link.symlink_to(main)
        return link

    used = []
    for text, mode in (("one", 0o755), ("two", 0o700), ("ten", 0o1777)):
        for path in (root / "main/f", root / "named/f"):
            path.write_text(text)
            os.utime(path, (1_600_000_000, 1_600_000_000))
        (root / "main/d").chmod(mode)
        found.setdefault("by its own name", []).append(build_as(root / "main")[0]["0/f"])
        links = [named_anew(root / "main") for _again in range(2)]
        arrived, _said = build_as(links[0])
        used.append(links)
        found.setdefault("by the name for it", []).append(arrived["0/f"])
        found.setdefault("named context", []).append(arrived["1/f"])
        found.setdefault("mode of the directory", []).append(arrived["mode"])
    right = all(first == second for first, second in used) and len({first for first, _second in used}) == len(used)
    found["names"] = "one for each content, the same for the same content" if right else str(used)
    other = root / "other/main"
    shutil.copytree(root / "main", other)
    (other / "f").write_text("six")
    os.utime(other / "f", (1_600_000_000, 1_600_000_000))
    found["another context of this name"] = build_as(named_anew(other))[0]["0/f"]
    # The same content under a name that BuildKit has never met.
    (scratch / f"new-{SALT}").symlink_to(root / "main")
    before, content = build_as(used[-1][0]), Path("out.tar").read_bytes()
    after = build_as(scratch / f"new-{SALT}")
    same = before[0] == after[0] and content == Path("out.tar").read_bytes()
    cached = len(re.findall(r"(?m)^#\d+ CACHED$", after[1]))
    found["under a new name"] = "every step cached, and the same image" if same and cached == 2 else after[1][-3000:]
    return found


def emptied(builder: str) -> dict[str, Any]:
    """Files whose content BuildKit is not sent: what the collection says, and what arrives."""
    found = {}
    for way in ("brought back and excluded", "unreadable"):
        root = Path.cwd() / f"{way.replace(' ', '-')}-{SALT}"
        write(root, {"d": ("folder", 0o755, ""), "d/b": ("file", 0 if way == "unreadable" else 0o644, "text")})
        (root / ".dockerignore").write_text("x" if way == "unreadable" else "d\n!d/b\nd\n")
        try:
            read_tree(str(root), rules_of(str(root)))
            said = "accepted"
        except CannotTell:
            said = "refused"
        done = build_alone(builder, root, None)
        if done.returncode:
            raise OSError(done.stderr[-2000:])
        with tarfile.open("out.tar") as archive:
            content = archive.extractfile("0/d/b")
            found[way] = [said, content.read().decode() if content else None]
    return found


def main() -> None:
    """Print what was found."""
    kind, builder, seed, cases = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
    kind, _dash, number = kind.partition("-")
    if kind in ("ignore", "keys"):
        print(json.dumps({"ignore": ignore_cases, "keys": key_cases}[kind](builder, f"{seed}{number}", cases)))
    else:
        print(json.dumps({"names": names, "emptied": emptied}[kind](builder)))


if __name__ == "__main__":
    main()
