# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report for a terminal."""

from __future__ import annotations

from typing import Any, List, Mapping, Sequence

from . import words

#: How many builds are listed of all nodes together.
_LISTED = 20


def render(report: Mapping[str, Any]) -> str:
    """Return the report as lines of text."""
    summary = report["summary"]
    builders = ", ".join(one["name"] for one in report["builders"])
    named = f"{words.noun(len(report['builders']), 'builder')} {builders}, " if builders else ""
    figures = (
        f"{summary['usable']} of {words.count(summary['nodes'], 'node')} usable",
        f"{words.count(summary['builds'], 'build')} remembered",
        f"{summary['failed']} failed" if summary["builds"] else "",
        f"{words.share(summary['cached_share'])} of steps from the cache" if summary["builds"] else "",
        f"{words.size(summary['cache_bytes'])} of caches",
        f"{summary['complete']} of {words.count(summary['images'], 'image')} complete" if summary["images"] else "",
    )
    lines = [
        f"Build farm: {named}as {report['controller']} found it on {report['time']}",
        ", ".join(filter(None, figures)),
    ]
    if report["attention"]:
        rows = [(one["kind"], one["subject"], one["text"]) for one in report["attention"]]
        lines += ["", "What needs attention", *_table((), rows)]
    if report["nodes"]:
        lines += ["", "Nodes", *_nodes(report)]
    builds = words.newest(report, _LISTED)
    if builds:
        lines += ["", "Last builds", *_builds(builds)]
    if report["images"]:
        lines += ["", "Images", *_images(report["images"])]
    lines += ["", report["fingerprint"]]
    return "\n".join(_plain(line.rstrip()) for line in lines) + "\n"


def _nodes(report: Mapping[str, Any]) -> List[str]:
    rows = []
    for node in report["nodes"]:
        engine, buildkit, certificate = node["engine"], node["buildkit"], node["certificate"]
        cache, disk = node["cache"], node["disk"]
        states = {cell["platform"]: cell["state"] for cell in node["platforms"]}
        rows.append(
            (
                node["name"],
                words.state(node),
                *(states.get(platform, words.NONE) for platform in report["platforms"]),
                engine["version"] if engine else words.NONE,
                buildkit["version"] if buildkit else words.NONE,
                words.days(certificate["days_left"]) if certificate else words.NONE,
                words.size(cache["bytes"]) if cache else words.NONE,
                f"{words.size(disk['free'])} free" if disk else words.NONE,
                words.handlers(node),
            )
        )
    heads = ("node", "state", *report["platforms"], "Docker", "BuildKit", "certificate", "cache", "disk", "handlers")
    notes = [
        f"{node['name']}: history: {node['history']}"
        for node in report["nodes"]
        if node["history"] and node["status"] == "running"
    ]
    return [*_table(heads, rows), *(f"  {note}" for note in notes)]


def _builds(pairs: Sequence[Any]) -> List[str]:
    rows = [
        (
            words.when(build["started"]),
            node["name"],
            build["status"],
            words.duration(build["duration"]),
            f"{build['cached']} of {build['steps']} cached" if build["steps"] else words.NONE,
            ",".join(build["platforms"]) or node["native"] or words.NONE,
            build["name"],
            "; ".join(words.remarks(build)),
        )
        for node, build in pairs
    ]
    return _table(("started", "node", "status", "lasted", "steps", "platforms", "build", "why"), rows)


def _images(images: Sequence[Mapping[str, Any]]) -> List[str]:
    rows = []
    for image in images:
        digests = ", ".join(f"{one['platform']} {words.short(one['digest'])}" for one in image["platforms"])
        rows.append(
            (image["name"], words.short(image["digest"]), digests or words.NONE, words.trouble(image) or "complete")
        )
    return _table(("image", "digest", "platforms", "state"), rows)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> List[str]:
    """Return rows with columns below each other; the last column takes what it needs."""
    whole = [*([heads] if heads else []), *rows]
    widths = [max(len(_plain(row[place])) for row in whole) for place in range(len(whole[0]))]
    return [
        "  " + "  ".join(_plain(cell).ljust(width) for cell, width in zip(row, (*widths[:-1], 0))).rstrip()
        for row in whole
    ]


def _plain(text: str) -> str:
    """Return a text without what a terminal would obey."""
    return "".join(one if one.isprintable() else " " if one.isspace() else f"\\u{ord(one):04x}" for one in text)
