# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an image is made of, as far as its declaration and this controller's files decide that.

Left out is what only says where and how fast it is built: nodes, caches, limits of time; and the versions of buildx and
BuildKit, so that upgrading them builds nothing.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
import threading
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from .._core.errors import FarmError
from .._core.urls import mask
from .._docker.config import read_config
from .._key.inputs import Inputs, digest_of
from .._source.ignore import ignore_file
from .._source.sent import name_for
from .._source.sources import Sources
from .._source.tree import FILE, Entry, Tree
from .declaration import Image
from .output import Output

#: Labels and annotations that say where an image is from. With others the same sources make the same image, and those
#: that it was built with are true of it.
OF_ORIGIN = tuple(f"org.opencontainers.image.{name}" for name in ("created", "revision", "source", "version"))
#: The file that the environment may name, with rules for what BuildKit fetches.
_POLICY = "EXPERIMENTAL_BUILDKIT_SOURCE_POLICY"
#: Arguments that every Dockerfile may use, and that are in no image's history (BuildKit ``frontend/dockerfile``,
#: "Predefined ARGs"), in lower case.
_OF_PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy")


class Contexts:
    """The directories that builds are sent, each read once; shared by threads.

    :param notes: a directory for notes of their files, see ``KnownContents``.
    """

    def __init__(self, notes: str) -> None:
        self._notes = notes
        self._found: Dict[Tuple[str, str], Sources] = {}
        self._locks: Dict[Tuple[str, str], threading.Lock] = {}
        self._lock = threading.Lock()

    def read(self, path: str, dockerfile: Optional[str]) -> Sources:
        """Return what a build is sent of a directory.

        :param dockerfile: its path, None where it is none of a file.
        :raises FarmError: BuildKit would refuse the ignore file.
        """
        key = (os.path.realpath(path), dockerfile or "")
        with self._lock:
            lock = self._locks.setdefault(key, threading.Lock())
        with lock:
            if key not in self._found:
                self._found[key] = Sources.read(path, dockerfile, notes=self._notes)
            return self._found[key]


def read_inputs(image: Image, contexts: Contexts, docker_config: Path) -> Inputs:
    """Return what an image is made of.

    :param docker_config: the directory of the docker configuration, which may hold proxies for builds.
    :raises FarmError: something cannot be read.
    """
    options = image.options
    fields: Dict[str, Any] = {
        "the target": options.target,
        "the option provenance": options.provenance if options.provenance != "false" else "",
        "the option sbom": options.sbom if options.sbom != "false" else "",
        "the option network": options.runtime.network,
        "the option allow": list(options.runtime.allow),
        "the option shm_size": options.runtime.shm_size,
        "the option cgroup_parent": options.runtime.cgroup_parent,
        "the option add_hosts": [list(pair) for pair in options.runtime.add_hosts],
        "the option ulimits": [list(pair) for pair in options.runtime.ulimits],
        "the source policy": _content(os.environ.get(_POLICY, "")),
        **{f"build arg {name}": _told(name, value) for name, value in options.build_args},
        **{f"label {name}": value for name, value in options.labels if name not in OF_ORIGIN},
        **{f"secret {one.id}": "there" for one in options.secrets},
        **{f"ssh {one.id}": "there" for one in options.agents},
        **{f"named context {name}": f"target:{title}" for name, title in image.links},
        **_annotations(image),
        **_proxies(docker_config),
    }
    fields["the Dockerfile"] = options.dockerfile
    trees: Dict[str, Tree] = {}
    doubts: List[str] = [f"{name} is set" for name in ("no_cache", "no_cache_filter") if getattr(options, name)]
    if image.is_remote:
        fields.update({"the context's URL": image.context, "the option file": image.file})
    elif image.sources or os.path.lexists(image.context):
        sources = image.sources or contexts.read(image.context, _path(image))
        fields.update(sources.files)
        _add(trees, doubts, "", sources)
    else:
        doubts.append(f"context {image.context} is not there yet")
    for one in options.contexts:
        if one.path and not one.is_layout:
            _add(trees, doubts, one.name, contexts.read(one.path, None))
        else:
            layout = _content(os.path.join(one.path, "index.json")) if one.is_layout else ""
            fields[f"named context {one.name}"] = [one.value, layout]
    return Inputs({words: digest_of(value) for words, value in fields.items() if value}, trees, tuple(doubts))


def and_exporter(inputs: Inputs, output: Output) -> Inputs:
    """Return inputs with what else decides how the result looks at one of its destinations."""
    options = [list(pair) for pair in output.options if pair[0] not in ("push", "context")]
    kind = "image" if output.pushes else output.type
    return inputs.and_field("the options of the output", [kind, options])


def and_all(inputs: Inputs, image: Image) -> Inputs:
    """Return inputs with what of a result is told neither by its tag nor by its parts: platforms and names."""
    return inputs.and_field("the platforms", sorted(map(str, image.platforms))).and_field("the tags", list(image.tags))


def and_linked(inputs: Inputs, title: str, linked: Inputs) -> Inputs:
    """Return inputs with those of an image whose result is a context.

    :param title: the image's.
    """
    fields = {f"{words} of target {title}": value for words, value in linked.fields.items()}
    trees = {f"target:{title}{', ' + name if name else ''}": tree for name, tree in linked.trees.items()}
    doubts = tuple(f"target {title}: {doubt}" for doubt in linked.doubts)
    return Inputs({**inputs.fields, **fields}, {**inputs.trees, **trees}, inputs.doubts + doubts)


def and_checks(inputs: Inputs, image: Image) -> Inputs:
    """Return inputs with what an image is put to before its tags move: other checks are for it to pass, too."""
    name = "the check before publishing (run, programs)"
    return inputs.and_field(name, repr(image.checks)) if image.checks else inputs


def sent_as(image: Image, inputs: Inputs, notes: str) -> str:
    """Return the last part of the path by which a local context is sent, see ``name_for``.

    :param notes: the directory of the notes of what was sent.
    """
    if "" not in inputs.trees:
        # What is sent is not certain, nor what may have been sent before.
        return secrets.token_hex(8)
    path = _path(image)
    rules = ignore_file(image.context, path)
    alone = {os.fsencode(name): entry for name in (path, rules) if name for entry in _entry(name)}
    others = {f"context {name}": tree for name, tree in inputs.trees.items() if name}
    return name_for(notes, image.context, inputs.trees[""], {**others, "Dockerfile": alone})


def crosses(image: Image) -> bool:
    """Return whether a stage may be for another platform than the one that is built.

    It takes the option ``--platform`` of ``FROM``; a Dockerfile that is not here may have it.
    """
    text = image.dockerfile()
    return not text or "--platform" in text


def _add(trees: Dict[str, Tree], doubts: List[str], name: str, sources: Sources) -> None:
    if sources.tree is None:
        doubts.append(sources.doubt)
    else:
        trees[name] = sources.tree


def _path(image: Image) -> Optional[str]:
    """Return the path of the Dockerfile, None where it is no file of this controller."""
    return image.file if os.path.isabs(image.file) else None


def _annotations(image: Image) -> Dict[str, Any]:
    found: Dict[str, List[Any]] = {}
    for one in image.options.annotations.entries:
        if one.key in OF_ORIGIN:
            continue
        found.setdefault(f"annotation {one.key}", []).append([one.type, str(one.platform or ""), one.value])
    return found


def _proxies(docker_config: Path) -> Dict[str, Any]:
    """Return the build arguments that buildx makes of the docker configuration.

    Source: docker/cli ``cli/config/configfile``, ``ParseProxyConfig``; which host's entry counts depends on the node,
    so all do.
    """
    try:
        proxies = read_config(docker_config).get("proxies") or {}
    except FarmError:
        return {}  # the docker CLI says so
    return {
        f"proxy settings for {host}": {
            key: mask(value) if isinstance(value, str) else value for key, value in one.items()
        }
        for host, one in proxies.items()
        if isinstance(one, dict)
    }


def _told(name: str, value: str) -> str:
    """Return what of a build argument counts: not the password of a proxy.

    The image has no trace of these arguments, and what is recorded with it would let anybody try out guesses.
    """
    return mask(value) if name.lower() in _OF_PROXIES else value


def _content(path: str) -> str:
    """Return a digest of a file's content, empty where there is none that can be read."""
    try:
        with open(path, "rb") as stream:
            return hashlib.sha256(stream.read()).hexdigest()
    except OSError:
        return ""


def _entry(path: str) -> List[Entry]:
    try:
        status = os.stat(path)
    except OSError:
        return []  # buildx will say so
    return [Entry(FILE, stat.S_IMODE(status.st_mode), _content(path), status.st_size, mtime=status.st_mtime_ns)]
