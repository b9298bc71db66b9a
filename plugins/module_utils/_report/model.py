# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report: one document of JSON types, from which all its forms are rendered. Everything here is pure.

Its shape is documented as the module's return value ``report``.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import time
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple

from .._buildx.store import PREFIX
from .._core.urls import mask
from .._platform.platform import Platform, runs_natively
from .._platform.routing import serves
from .._prune.prediction import parse_time
from . import words
from .history import FAILED, RUNNING, Build
from .state import EngineState, FoundImage, FoundNode, State, handlers_of, read_disk

SCHEMA = 1
#: Kinds of what needs attention, the worst first.
_KINDS = "builder unreachable buildkit stopped drained certificate disk tls handler build image".split()
NATIVE, EMULATED, PINNED, IDLE, DRAINED, STOPPED, UNREACHABLE = (
    "native",
    "emulated",
    "pinned",
    "idle",
    "drained",
    "stopped",
    "unreachable",
)
#: Days before the end of a certificate, and the share of a disk, from which they need attention.
CERTIFICATE_DAYS, DISK_SHARE = 30, 0.9
#: The parts that are another with each reading although nothing has happened, at any depth.
_MEASURED = ("time", "fingerprint", "days_left", "disk", "cache", "attention", "summary")


def assemble(state: State, hosts: Mapping[str, Mapping[str, Any]]) -> Dict[str, Any]:
    """Return the report on what was found.

    :param hosts: what is known of the nodes' hosts from elsewhere, by the nodes' names.
    """
    # buildx makes the names of nodes lower case.
    known = {name.lower(): host for name, host in hosts.items()}
    nodes = [_node(node, known.get(node.name.lower(), {})) for node in state.nodes]
    shown = _columns(state.nodes)
    for node, found in zip(nodes, state.nodes):
        node["platforms"] = _cells(found, shown)
    report: Dict[str, Any] = {
        "schema": SCHEMA,
        "time": moment(state.now),
        "controller": state.controller,
        "builders": [
            {
                "name": one.name,
                "driver": one.driver,
                "current": one.name.lower() == state.current,
                "nodes": [node.name for node in one.nodes],
                "error": None,
            }
            for one in state.builders
        ]
        + [
            {"name": name, "driver": None, "current": name == state.current, "nodes": [], "error": mask(error)}
            for name, error in sorted(state.broken.items())
        ],
        "platforms": [str(platform) for platform in shown],
        "nodes": nodes,
        "images": [_image(image) for image in state.images],
    }
    report["attention"] = _attention(report)
    report["summary"] = _summary(report)
    report["fingerprint"] = fingerprint(report)
    return report


def fingerprint(report: Mapping[str, Any]) -> str:
    """Return a checksum of all of a report but what is another with each reading: times, sizes of caches and disks."""
    told = json.dumps(_without_measured(copy.deepcopy(dict(report))), sort_keys=True)
    return f"sha256:{hashlib.sha256(told.encode()).hexdigest()}"


def moment(seconds: float) -> str:
    """Return a time in seconds since 1970 as RFC 3339 in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _without_measured(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_measured(inner) for key, inner in value.items() if key not in _MEASURED}
    return [_without_measured(inner) for inner in value] if isinstance(value, list) else value


def _node(node: FoundNode, host: Mapping[str, Any]) -> Dict[str, Any]:
    engine, daemon = node.engine, node.daemon
    probed = engine.probed if engine else None
    facts: Mapping[str, Any] = engine.facts if engine else {}
    disk = (daemon.disk if daemon else None) or read_disk(str(host.get("df") or ""), _directory(facts))
    handlers = handlers_of(host.get("handlers"))
    container = engine.containers.get(node.name) if engine else None
    return {
        "name": node.name,
        "endpoint": mask(node.endpoint),
        "driver": node.driver,
        "builders": list(node.builders),
        "controllers": list(node.controllers),
        "status": node.status,
        "drained": probed.drained if probed else None,
        "error": mask(node.error) or None,
        "native": str(probed.platform) if probed and probed.platform else None,
        "pins": None if node.pins is None else [str(platform) for platform in node.pins],
        "platforms": [],
        "engine": _engine(engine) if engine and probed and probed.reachable else None,
        "tls": probed.tls if probed else None,
        "certificate": None
        if probed is None or probed.certificate_expires is None
        else {
            "subject": probed.certificate_subject,
            "expires": probed.certificate_expires,
            "days_left": probed.certificate_days_left,
        },
        "buildkit": {"version": daemon.version, "image": mask(container.image) if container else None}
        if daemon and daemon.version
        else None,
        "cache": None
        if daemon is None or daemon.cache is None
        else {"bytes": daemon.cache[0], "records": daemon.cache[1], "limit": daemon.limit},
        "disk": None if disk is None else {"bytes": disk[0], "free": disk[1]},
        "handlers": None if handlers is None else [dict(one) for one in handlers],
        "history": (daemon.history if daemon else mask(node.error) or "BuildKit does not run") or None,
        "builds": [_build(build) for build in daemon.builds] if daemon else [],
    }


def _directory(facts: Mapping[str, Any]) -> str:
    return str(facts.get("DockerRootDir") or "/var/lib/docker")


def _engine(engine: EngineState) -> Dict[str, Any]:
    facts = engine.facts
    return {
        "name": str(facts.get("Name") or ""),
        "version": engine.probed.version,
        "system": str(facts.get("OperatingSystem") or ""),
        "kernel": str(facts.get("KernelVersion") or ""),
        "architecture": engine.probed.architecture,
        "processors": int(facts.get("NCPU") or 0),
        "memory": int(facts.get("MemTotal") or 0),
    }


def _build(build: Build) -> Dict[str, Any]:
    return {
        "ref": build.ref,
        "name": build.name,
        "status": build.status,
        "started": moment(build.started),
        "duration": None if build.ended is None else round(max(0.0, build.ended - build.started), 3),
        "platforms": list(build.platforms),
        "steps": build.steps,
        "cached": build.cached,
        "cached_share": round(build.cached / build.steps, 3) if build.steps else None,
        "error": build.error or None,
        "reasons": list(build.reasons),
        "digests": list(build.digests),
        "timeline": [
            {
                "name": step.name,
                "start": round(step.start, 3),
                "duration": round(step.duration, 3),
                "cached": step.cached,
                "error": step.error or None,
            }
            for step in build.timeline
        ],
    }


def _image(image: FoundImage) -> Dict[str, Any]:
    return {
        "name": image.name,
        "digest": image.digest or None,
        "error": mask(image.error) or None,
        "created": _newest(created for _platform, _digest, _size, created in image.platforms),
        "attested": image.attested,
        "missing": list(image.missing),
        "key": image.key or None,
        "sources": [{"name": name, "digest": digest or None} for name, digest in image.sources],
        "platforms": [
            {"platform": platform, "digest": digest, "size": size}
            for platform, digest, size, _created in image.platforms
        ],
    }


def _newest(times: Iterable[str]) -> Optional[str]:
    """Return the newest of several times as images have them, None where none of them tells anything."""
    found = []
    for text in times:
        with contextlib.suppress(ValueError):
            found.append(parse_time(text))
    # Go's programs write the year 1 where no time is meant.
    known = [seconds for seconds in found if seconds >= 0]
    return moment(max(known)) if known else None


def _columns(nodes: Sequence[FoundNode]) -> Tuple[Platform, ...]:
    """Return the platforms that the farm is for: what is pinned, and what nodes run natively.

    Where no pin is known, these are what BuildKits can run, but for what a processor runs beside its own platform.
    """
    found: List[Platform] = []
    for node in nodes:
        native = node.engine.probed.platform if node.engine else None
        found += [*(node.pins or ()), *([native] if native else [])]
        if node.pins is None and node.daemon:
            found += [one for one in node.daemon.platforms or () if native is None or not runs_natively(one, native)]
    return tuple(sorted(dict.fromkeys(found)))


def _cells(node: FoundNode, columns: Sequence[Platform]) -> List[Dict[str, Any]]:
    found = []
    for platform in columns:
        state = _cell(node, platform)
        if state:
            found.append({"platform": str(platform), "state": state})
    return found


def _cell(node: FoundNode, platform: Platform) -> Optional[str]:
    """Return what a node is for a platform, None where it is nothing."""
    native = node.engine.probed.platform if node.engine else None
    detected = node.daemon.platforms if node.daemon else None
    pinned = platform in (node.pins or ())
    by_itself = native is not None and runs_natively(platform, native)
    if not (pinned or platform in (detected or ()) or (detected is None and by_itself)):
        return UNREACHABLE if node.status == "unreachable" and node.pins is None else None
    if node.status != "running":
        return UNREACHABLE if node.status == "unreachable" else STOPPED
    if node.engine is not None and node.engine.probed.drained:
        return DRAINED
    # What no node pins goes to the first that can run it.
    if node.pins and not pinned and (platform in node.elsewhere or not by_itself):
        return IDLE
    if by_itself or native is None:
        return NATIVE
    # A Dockerfile that compiles for another platform needs nothing that runs it.
    return EMULATED if detected is None or serves(detected, platform) else PINNED


def _attention(report: Mapping[str, Any]) -> List[Dict[str, str]]:
    """Return what somebody should look at: its kind, what it is about, and a sentence; the worst first."""
    found = [("builder", one["name"], one["error"]) for one in report["builders"] if one["error"]]
    found += [alarm for node in report["nodes"] for alarm in _alarms_of_node(node)]
    found += [("image", image["name"], words.trouble(image)) for image in report["images"] if words.trouble(image)]
    found.sort(key=lambda alarm: _KINDS.index(alarm[0]))
    return [{"kind": kind, "subject": subject, "text": text or ""} for kind, subject, text in found]


def _alarms_of_node(node: Mapping[str, Any]) -> Iterator[Tuple[str, str, str]]:
    name, certificate, disk = node["name"], node["certificate"], node["disk"]
    if node["error"]:
        yield "unreachable" if node["status"] == "unreachable" else "buildkit", name, node["error"]
    if node["status"] in ("stopped", "missing"):
        yield "stopped", name, f"BuildKit is {node['status']}; the next build starts it"
    if node["status"] == "paused":
        # No build lets it go on, as one would start it.
        yield "buildkit", name, f"BuildKit is paused; no build runs there until 'docker unpause {PREFIX}{name}'"
    if node["drained"]:
        yield "drained", name, node["drained"]
    if certificate and certificate["days_left"] < CERTIFICATE_DAYS:
        left = certificate["days_left"]
        when = "has ended" if left < 0 else f"ends in {words.days(left)}" if left else "ends within a day"
        yield "certificate", name, f"its certificate {when}"
    if disk and disk["bytes"] and 1 - disk["free"] / disk["bytes"] >= DISK_SHARE:
        yield "disk", name, f"its disk is {words.share(1 - disk['free'] / disk['bytes'])} full"
    if node["tls"] == "server":
        yield "tls", name, "its engine takes clients without a certificate"
    for handler in node["handlers"] or ():
        if handler["works"] is False:
            yield "handler", name, f"{handler['name']} does not work: {handler['problem']}"
    last = next((build for build in node["builds"] if build["status"] != RUNNING), None)
    if last and last["status"] == FAILED:
        yield "build", name, f"its last build failed: {last['name']}: {last['error']}"


def _summary(report: Mapping[str, Any]) -> Dict[str, Any]:
    nodes, images = report["nodes"], report["images"]
    builds = [build for node in nodes for build in node["builds"]]
    days = [node["certificate"]["days_left"] for node in nodes if node["certificate"]]
    steps = sum(build["steps"] for build in builds)
    return {
        "nodes": len(nodes),
        "usable": sum(words.answers(node) and not node["drained"] for node in nodes),
        "builds": len(builds),
        "failed": sum(build["status"] == FAILED for build in builds),
        "cached_share": round(sum(build["cached"] for build in builds) / steps, 3) if steps else None,
        "certificate_days": min(days) if days else None,
        "cache_bytes": sum(node["cache"]["bytes"] for node in nodes if node["cache"]),
        "images": len(images),
        "complete": sum(not words.trouble(image) for image in images),
    }
