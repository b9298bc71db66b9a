# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Docker contexts, present with their TLS material, or absent.

The store's files are written, not ``docker context`` called: the docker CLI cannot clear a description, starts anew for
each context, and leaves a context half updated when it fails. The store has no lock; files are replaced in one step.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple

from .._buildx.store import Store
from .._core.environment import expanded
from .._core.errors import FarmError
from .._core.files import read_bytes, write_together
from .._core.outcome import Outcome
from .._core.runner import Runner
from .._docker.config import config_dir, read_config
from .._docker.context_store import ContextStore, TlsFiles
from .._docker.endpoint import PLAIN_PORT, TLS_NAMES, TLS_PORT, Endpoint, context_name
from .owner import mark, owned, owner_of, uses

#: What can be declared of a context beside its name and its engine, as options of a module.
OPTIONS: Dict[str, Dict[str, Any]] = {
    "description": {"type": "str"},
    "ca": {"type": "path"},
    "cert": {"type": "path"},
    "key": {"type": "path", "no_log": False},
    "skip_tls_verify": {"type": "bool"},
    "insecure": {"type": "bool", "default": False},
}
_PRIVATE = 0o600


@dataclass(frozen=True)
class Wanted:
    """A declared context; None is left as it is, except ``host``: None for a context that is to be absent.

    :ivar tls: the whole TLS material by name (``ca``, ``cert``, ``key``), each with its source and its content;
        a content of None is not there yet. An empty mapping removes what is stored.
    :ivar insecure: whether plain TCP is asked for.
    :ivar owner: for whom a context is made that is not there yet.
    """

    name: str
    host: Optional[Endpoint] = None
    description: Optional[str] = None
    skip_tls_verify: Optional[bool] = None
    tls: Optional[Mapping[str, Tuple[Path, Optional[bytes]]]] = None
    insecure: bool = False
    owner: Optional[str] = None


@dataclass(frozen=True)
class Stored:
    """A context's files.

    :ivar meta: the JSON object of ``meta.json``, with whatever others keep in it.
    :ivar tls: the TLS material by name; None for a content that is not known yet.
    :ivar mode: the permission bits of the TLS material's files, all taken together.
    """

    meta: Mapping[str, Any]
    tls: Mapping[str, Optional[bytes]]
    mode: int = _PRIVATE

    @property
    def engine(self) -> Mapping[str, Any]:
        """The docker endpoint's values."""
        return (self.meta.get("Endpoints") or {}).get("docker") or {}

    @property
    def description(self) -> str:
        """What people are told about the context."""
        return str((self.meta.get("Metadata") or {}).get("Description") or "")


def contexts(params: Dict[str, Any], check_mode: bool, runner: Runner) -> Outcome:
    """Run module ``docker_context``.

    :raises FarmError: a declaration is wrong, a name is taken by a builder, or a file cannot be read or written.
    """
    store = ContextStore(config_dir(params))
    present = params["state"] == "present"
    wanted = [_wanted(item, present, check_mode, params["owner"]) for item in params["contexts"]]
    declared = [item.name for item in wanted]
    _refuse_repeats(declared)
    if present:
        _refuse_builders(declared, Store.of(params))
    removed, kept = _former(params, store, declared)
    wanted += [Wanted(name) for name in removed]
    found = {item.name: read(store, item.name) for item in wanted}
    planned = {item.name: plan(found[item.name], item) for item in wanted}
    changed = [item for item in wanted if found[item.name] != planned[item.name]]
    for item in changed:
        if planned[item.name] is None:
            _refuse_current(store, item.name)
        else:
            _check_material(item)
    if not check_mode:
        for item in changed:
            _reach(store, item.name, found[item.name], planned[item.name])
    return Outcome(
        before={item.name: _shown(found[item.name], item, found[item.name]) for item in wanted},
        after={item.name: _shown(planned[item.name], item, found[item.name]) for item in wanted},
        actions=[_action(item.name, found[item.name], planned[item.name]) for item in changed],
        values={
            "contexts": [_value(store, item.name, stored) for item in wanted if (stored := planned[item.name])],
            "leftover": list(kept),
        },
        warnings=tuple(
            f"context {name!r} is no longer declared, and stays: {why}" for name, why in kept.items() if why
        ),
    )


def read(store: ContextStore, name: str) -> Optional[Stored]:
    """Read a context's files, None if there is no such context.

    :raises FarmError: they cannot be read or are not what docker writes.
    """
    meta = store.read(name)
    if meta is None:
        return None
    tls: Dict[str, Optional[bytes]] = {}
    mode = _PRIVATE
    for kind in TLS_NAMES:
        path = store.tls_dir(name) / f"{kind}.pem"
        content = _content(path)
        if content is not None:
            tls[kind] = content
            mode |= stat.S_IMODE(path.stat().st_mode)
    return Stored(meta, tls, mode)


def plan(found: Optional[Stored], wanted: Wanted) -> Optional[Stored]:
    """Return a context as it is to be, None where it is to be absent.

    :raises FarmError: the engine would be reached over plain TCP though nobody asked for that.
    """
    if wanted.host is None:
        return None
    # What somebody else made stays somebody else's, though it is kept as declared from now on.
    ours = wanted.owner is not None and (found is None or owner_of(found.meta) is not None)
    base = found or Stored({"Name": wanted.name, "Metadata": {}, "Endpoints": {}}, {})
    description = base.description if wanted.description is None else wanted.description
    unverified = base.engine.get("SkipTLSVerify") if wanted.skip_tls_verify is None else wanted.skip_tls_verify
    tls = base.tls if wanted.tls is None else {kind: content for kind, (_path, content) in wanted.tls.items()}
    if wanted.host.scheme == "tcp" and not (tls or unverified or wanted.insecure):
        raise FarmError(
            f"context {wanted.name!r}: {wanted.host} without TLS, where whoever reaches the port is root on the host; "
            "give ca, cert and key, or say insecure=true"
        )
    host = base.engine.get("Host") if _same(base.engine.get("Host"), wanted.host) else wanted.host.text
    engine = {**base.engine, "Host": host, "SkipTLSVerify": bool(unverified)}
    metadata = {key: value for key, value in (base.meta.get("Metadata") or {}).items() if key != "Description"}
    if description:
        metadata["Description"] = description
    if ours:
        metadata.update(mark(wanted.name, str(wanted.owner)))
    endpoints = {**(base.meta.get("Endpoints") or {}), "docker": engine}
    # Docker writes the keys in this order.
    return Stored({**base.meta, "Metadata": dict(sorted(metadata.items())), "Endpoints": endpoints}, tls, _PRIVATE)


def _same(host: Optional[str], wanted: Endpoint) -> bool:
    """Say whether a stored address is the wanted one, though perhaps spelled differently."""
    try:
        # Docker does not add a port to a stored address, so one without a port is never right.
        return Endpoint.parse(host or "", default_port=0) == wanted
    except FarmError:
        return False


def _wanted(item: Mapping[str, Any], present: bool, check_mode: bool, owner: Optional[str]) -> Wanted:
    """Read one entry of the module's option ``contexts``.

    :raises FarmError: its values contradict each other, or a file is missing in a real run.
    """
    name = context_name(item["name"])
    if not present:
        return Wanted(name)
    paths = {kind: Path(expanded(item[kind])) for kind in TLS_NAMES if item.get(kind)}
    if not item.get("host"):
        raise FarmError(f"context {name!r}: host is missing; wanted the engine's URL, tcp://HOST:2376 for example")
    host = Endpoint.parse(item["host"], TLS_PORT if paths or item.get("skip_tls_verify") else PLAIN_PORT)
    insecure = bool(item.get("insecure"))
    if host.scheme == "context":
        raise FarmError(f"context {name!r}: host {host.text!r} is no URL; wanted tcp://, unix:// or ssh://")
    if paths and (host.scheme != "tcp" or insecure):
        other = "insecure=true" if insecure else f"a {host.scheme} host"
        raise FarmError(f"context {name!r}: {', '.join(paths)} make no sense with {other}; leave out one of the two")
    if ("cert" in paths) != ("key" in paths):
        raise FarmError(f"context {name!r}: cert and key belong together; give both or none")
    material = {kind: (path, _source(name, path, check_mode)) for kind, path in paths.items()}
    return Wanted(
        name=name,
        host=host,
        description=item.get("description"),
        skip_tls_verify=item.get("skip_tls_verify"),
        tls=material if material or insecure else None,
        insecure=insecure,
        owner=owner,
    )


def _source(name: str, path: Path, check_mode: bool) -> Optional[bytes]:
    content = _content(path)
    if content is None and not check_mode:
        raise FarmError(f"context {name!r}: {path}: no such file; is it issued, and is it on this host?")
    return content


def _content(path: Path) -> Optional[bytes]:
    try:
        return read_bytes(path)
    except OSError as exc:
        raise FarmError(f"{path}: cannot be read: {exc.strerror}") from exc


def _former(
    params: Mapping[str, Any], store: ContextStore, declared: List[str]
) -> Tuple[List[str], Dict[str, Optional[str]]]:
    """Return the owner's contexts that are not declared any more.

    :return: those to remove, and those that stay with what needs them; None where nobody asked for their removal or
        nobody has to be told.
    :raises FarmError: who uses them cannot be found out.
    """
    found = owned(store, params["owner"]) if params["owner"] else []
    former = [name for name in found if name not in declared]
    if not (former and params["purge"]):
        return [], dict.fromkeys(former)
    builder = params["builder"] or {}
    # That its owner's builder keeps nodes that are not declared, that builder's own task has told.
    own = {node["endpoint"] for node in builder.get("nodes") or ()}
    used = uses(store, Store.of(params), builder)
    kept = {name: None if name in own else used[name] for name in former if name in used}
    return [name for name in former if name not in used], kept


def _refuse_repeats(names: List[str]) -> None:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise FarmError(f"contexts declared more than once: {', '.join(repeated)}; wanted one entry each")


def _refuse_builders(names: List[str], builders: Store) -> None:
    """Refuse contexts that buildx would no longer tell from its builders.

    Source: buildx ``commands/create.go``, "instance name X already exists as context builder".
    """
    for name in names:
        if builders.path(name).exists():
            raise FarmError(
                f"context {name!r}: a buildx builder is called so ({builders.path(name)}), and buildx takes names of "
                "contexts for builders; choose another name for one of them"
            )


def _refuse_current(store: ContextStore, name: str) -> None:
    """Refuse to remove the context that the docker CLI uses by default: without it every docker command fails."""
    if read_config(store.config_dir).get("currentContext") == name:
        path = store.config_dir / "config.json"
        raise FarmError(f"context {name!r} is docker's current one ({path}); run 'docker context use default' first")


def _check_material(wanted: Wanted) -> None:
    """Refuse files that docker could not use, as far as they are there."""
    if wanted.tls and all(content is not None for _path, content in wanted.tls.values()):
        # What this needs would delay a run that changes nothing by tens of milliseconds.
        from .._docker.transport import check_files

        try:
            check_files(TlsFiles(**{kind: path for kind, (path, _content) in wanted.tls.items()}))
        except FarmError as exc:
            raise FarmError(f"context {wanted.name!r}: {exc.message}") from exc


def _reach(store: ContextStore, name: str, found: Optional[Stored], planned: Optional[Stored]) -> None:
    """Change a context's files and read them back.

    :raises FarmError: that failed; the context is then as it was.
    """
    try:
        try:
            _write(store, name, planned)
        except OSError:
            with contextlib.suppress(OSError):
                _write(store, name, found)
            raise
    except OSError as exc:
        raise FarmError(
            f"context {name!r}: {exc.filename}: {exc.strerror}; it is as it was, those before it are done, "
            "and a new run continues"
        ) from exc
    if read(store, name) != planned:
        raise FarmError(f"context {name!r} is not as written; does something else change {store.meta_dir(name)}?")


def _write(store: ContextStore, name: str, stored: Optional[Stored]) -> None:
    """Make a context's files equal to a state; what makes it visible, its description, is written last, removed first.

    :raises OSError: a file cannot be written or removed.
    """
    meta, tls = store.meta_dir(name), store.tls_dir(name)
    if stored is None:
        for directory in (meta, tls.parent):
            if directory.exists():
                shutil.rmtree(directory)
        return
    meta.mkdir(parents=True, exist_ok=True)
    if stored.tls:
        tls.parent.parent.mkdir(parents=True, exist_ok=True)
        for made in (tls.parent, tls):
            made.mkdir(mode=0o700, exist_ok=True)
    for kind in TLS_NAMES:
        if kind not in stored.tls:
            (tls / f"{kind}.pem").unlink(missing_ok=True)
    files = [(tls / f"{kind}.pem", content or b"", stored.mode) for kind, content in stored.tls.items()]
    # Docker separates nothing and ends without a newline; equal bytes keep exports comparable.
    content = json.dumps(stored.meta, separators=(",", ":"), ensure_ascii=False).encode()
    write_together([*files, (meta / "meta.json", content, 0o644)])


def _action(name: str, found: Optional[Stored], planned: Optional[Stored]) -> Tuple[str]:
    verb = "create" if found is None else "remove" if planned is None else "update"
    return (f"{verb} context {name!r}",)


def _shown(stored: Optional[Stored], wanted: Wanted, found: Optional[Stored]) -> Optional[Dict[str, Any]]:
    """Return one side of the diff; of TLS material it tells only whether it is the declared one."""
    if stored is None:
        return None
    shown: Dict[str, Any] = {
        "host": stored.engine.get("Host"),
        "description": stored.description,
        "skip_tls_verify": bool(stored.engine.get("SkipTLSVerify")),
        "owner": owner_of(stored.meta),
    }
    if stored.tls:
        shown["mode"] = f"{stored.mode:04o}"
    for kind in TLS_NAMES:
        path, content = (wanted.tls or {}).get(kind, (None, None))
        if kind not in stored.tls:
            shown[kind] = None
        elif path is None:
            shown[kind] = "stored"
        else:
            as_declared = stored is not found or stored.tls[kind] == content
            shown[kind] = str(path) if as_declared else f"other than {path}"
    return shown


def _value(store: ContextStore, name: str, stored: Stored) -> Dict[str, Any]:
    tls = {kind: str(store.tls_dir(name) / f"{kind}.pem") if kind in stored.tls else None for kind in TLS_NAMES}
    return {
        "name": name,
        "host": stored.engine.get("Host"),
        "description": stored.description,
        "skip_tls_verify": bool(stored.engine.get("SkipTLSVerify")),
        "owner": owner_of(stored.meta),
        "tls": tls if stored.tls else None,
    }
