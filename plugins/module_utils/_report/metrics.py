# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report as a file of Prometheus' text format, for the textfile collector of node_exporter.

Labels name what a user declared, nodes, engines, platforms, images, and words of which there are few: their number does
not grow with time. Builds have none of their own.

Source: Prometheus, "Exposition formats" (0.0.4) and "Metric and label naming".
"""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, Mapping, Optional, Tuple, Union

from . import words
from .history import CANCELED, FAILED, RUNNING, SUCCEEDED

Labels = Mapping[str, str]
Number = Union[int, float]
_PREFIX = "buildfarm_"
#: What each metric is; all are gauges, as each reading starts anew.
_HELP = {
    "report_timestamp_seconds": "When the farm was read.",
    "node_info": "What a node is; always 1.",
    "node_up": "Whether BuildKit runs on the node and answers.",
    "node_drained": "Whether the node takes no new builds.",
    "node_platform": "What a node is for a platform, the state, a word such as native; always 1.",
    "node_certificate_expiry_timestamp_seconds": "When the certificate of the node's engine ends.",
    "node_cache_bytes": "Bytes of the node's build cache.",
    "node_cache_records": "Records of the node's build cache.",
    "node_cache_limit_bytes": "Bytes that BuildKit leaves of the node's build cache.",
    "node_disk_size_bytes": "Bytes of the disk that the node's engine keeps its data on.",
    "node_disk_free_bytes": "Bytes that are free on it.",
    "node_handler_enabled": "Whether a handler of the node's kernel is enabled, and, where it was tried, works.",
    "node_builds": "Builds that the node's BuildKit remembers, of those that were read, by how they ended.",
    "node_last_build_timestamp_seconds": "When the node's last build that has ended began.",
    "node_last_build_duration_seconds": "How long that took.",
    "node_last_build_success": "Whether it succeeded.",
    "node_last_build_cached_ratio": "The share of its steps that came from the cache.",
    "image_complete": "Whether the registry has an image and all that it consists of.",
    "image_created_timestamp_seconds": "When the newest of the image's platforms was created.",
    "image_platform_bytes": "Compressed bytes of an image for a platform.",
}


def render(report: Mapping[str, Any]) -> str:
    """Return the metrics; the fingerprint of the report is a comment."""
    samples: Dict[str, List[str]] = {name: [] for name in _HELP}
    for name, labels, value in _samples(report):
        if value is not None:
            shown = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
            samples[name].append(f"{_PREFIX}{name}{f'{{{shown}}}' if shown else ''} {_number(value)}")
    lines = [f"# {report['fingerprint']}"]
    for name, found in samples.items():
        if found:
            lines += [f"# HELP {_PREFIX}{name} {_HELP[name]}", f"# TYPE {_PREFIX}{name} gauge", *dict.fromkeys(found)]
    return "\n".join(lines) + "\n"


def _samples(report: Mapping[str, Any]) -> Iterator[Tuple[str, Labels, Optional[Number]]]:
    yield "report_timestamp_seconds", {}, words.seconds_of(report["time"])
    for node in report["nodes"]:
        yield from _node(node, {"node": node["name"], "engine": node["endpoint"]})
    for image in report["images"]:
        labels = {"image": image["name"]}
        yield "image_complete", labels, int(not words.trouble(image))
        created = image["created"]
        yield "image_created_timestamp_seconds", labels, words.seconds_of(created) if created else None
        for one in image["platforms"]:
            yield "image_platform_bytes", {**labels, "platform": one["platform"]}, one["size"]


def _node(node: Mapping[str, Any], labels: Labels) -> Iterator[Tuple[str, Labels, Optional[Number]]]:
    engine, cache, disk = node["engine"] or {}, node["cache"] or {}, node["disk"] or {}
    known = {
        "docker_version": engine.get("version") or "",
        "buildkit_version": (node["buildkit"] or {}).get("version") or "",
        "architecture": engine.get("architecture") or "",
    }
    yield "node_info", {**labels, **known}, 1
    yield "node_up", labels, int(words.answers(node))
    yield "node_drained", labels, int(bool(node["drained"]))
    for cell in node["platforms"]:
        yield "node_platform", {**labels, "platform": cell["platform"], "state": cell["state"]}, 1
    if node["certificate"]:
        expires = words.seconds_of(node["certificate"]["expires"])
        yield "node_certificate_expiry_timestamp_seconds", labels, expires
    yield "node_cache_bytes", labels, cache.get("bytes")
    yield "node_cache_records", labels, cache.get("records")
    yield "node_cache_limit_bytes", labels, cache.get("limit")
    yield "node_disk_size_bytes", labels, disk.get("bytes")
    yield "node_disk_free_bytes", labels, disk.get("free")
    for one in node["handlers"] or ():
        enabled = int(bool(one["enabled"]) and one["works"] is not False)
        yield "node_handler_enabled", {**labels, "handler": str(one["name"])}, enabled
    if node["history"] is not None:
        return
    for status in (SUCCEEDED, FAILED, CANCELED, RUNNING):
        found = sum(build["status"] == status for build in node["builds"])
        yield "node_builds", {**labels, "status": status}, found
    last = next((build for build in node["builds"] if build["status"] != RUNNING), None)
    if last:
        yield "node_last_build_timestamp_seconds", labels, words.seconds_of(last["started"])
        yield "node_last_build_duration_seconds", labels, last["duration"]
        yield "node_last_build_success", labels, int(last["status"] == SUCCEEDED)
        yield "node_last_build_cached_ratio", labels, last["cached_share"]


def _number(value: Number) -> str:
    return repr(value) if isinstance(value, float) else str(value)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
