# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report as one page: no script, nothing from elsewhere, and times that stay true when it is looked at later.

Built here of elements and not from a template, as the controller that writes it need not have Jinja.
"""

from __future__ import annotations

from typing import Any, Dict, Iterator, Mapping, Optional, Sequence

from . import words
from .history import FAILED, RUNNING, SUCCEEDED
from .markup import Markup, element, join
from .model import CERTIFICATE_DAYS, DISK_SHARE, moment
from .style import COLOURS, CSS

#: How many builds are listed of all nodes together, and shown step by step of each.
_LISTED, _STEPPED = 30, 3
#: The least share of a time line, in percent, that a build or a step takes.
_LEAST = 0.5
_TICKS = 4
_LEGEND = (
    ("native", "the node's own processor runs it"),
    ("emulated", "QEMU runs it"),
    ("pinned", "nothing there runs it; for Dockerfiles that cross-compile"),
    ("idle", "the node could, and other nodes build it"),
    ("drained", "no new builds"),
    ("stopped", "BuildKit does not run"),
    ("unreachable", "the engine does not answer"),
)
_SIGNS = {
    "native": "●",
    "emulated": "◐",
    "pinned": "◇",
    "idle": "○",
    "drained": "‖",
    "stopped": "▪",
    "unreachable": "✕",
}


def render(report: Mapping[str, Any]) -> str:
    """Return the page."""
    names = ", ".join(one["name"] for one in report["builders"])
    title = f"Build farm: {names}" if names else "Build farm"
    # A page that was made so that nothing is loaded says so too: whatever slipped in would do nothing.
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name_="color-scheme", content="light dark"),
        *(
            element("meta", name_="theme-color", content=colours["page"], media=f"(prefers-color-scheme: {scheme})")
            for scheme, colours in COLOURS.items()
        ),
        element("meta", name_="fingerprint", content=report["fingerprint"]),
        element("link", rel="icon", href="data:,"),
        element("title", title),
        element("style", Markup(CSS)),
    )
    sections = [
        _attention(report),
        _matrix(report),
        _timeline(report),
        _builds(report),
        _nodes(report),
        _images(report),
    ]
    body = element("body", _header(names, report), element("main", *filter(None, sections)), _footer(report))
    return f"<!DOCTYPE html>\n{element('html', head, body, lang='en').text}\n"


def _header(names: str, report: Mapping[str, Any]) -> Markup:
    read = element("time", f"{words.when(report['time'])} UTC", datetime=report["time"])
    builders = words.noun(len(report["builders"]), "Builder")
    seen = [f"{builders} {names}, as " if names else "As ", report["controller"], " found it on ", read]
    links = [("platforms", "Platforms", report["nodes"]), ("timeline", "Time line", words.newest(report, 1))]
    links += [("builds", "Builds", words.newest(report, 1)), ("nodes", "Nodes", report["nodes"])]
    links += [("images", "Images", report["images"])]
    return element(
        "header",
        element("h1", "Build farm"),
        element("p", *seen, class_="soft wrap"),
        _tiles(report["summary"]),
        element("nav", *(element("a", text, href=f"#{key}") for key, text, there in links if there)),
    )


def _tiles(summary: Mapping[str, Any]) -> Markup:
    def tile(name: str, value: str, more: str = "") -> Markup:
        return element("div", element("dt", name), element("dd", value, element("span", more)), class_="tile")

    days = summary["certificate_days"]
    return element(
        "dl",
        tile("Usable nodes", str(summary["usable"]), f" of {summary['nodes']}"),
        tile("Builds remembered", str(summary["builds"]), f" {summary['failed']} failed" if summary["failed"] else ""),
        tile("Steps from cache", words.share(summary["cached_share"])),
        tile("Build caches", words.size(summary["cache_bytes"])),
        tile(
            "First certificate ends", words.NONE if days is None else f"{max(days, 0)}", "" if days is None else " days"
        ),
        tile("Complete images", str(summary["complete"]), f" of {summary['images']}"),
        class_="tiles",
    )


def _section(key: str, title: str, note: str, *content: Any) -> Markup:
    head = element("div", element("h2", title), element("p", note) if note else None, class_="head")
    return element("section", head, *content, id=key)


def _attention(report: Mapping[str, Any]) -> Optional[Markup]:
    if not report["attention"]:
        return None
    colours = {"drained": "drained", "stopped": "stopped", "certificate": "drained", "disk": "drained"}

    def alarm(one: Mapping[str, str]) -> Markup:
        chip = _chip(one["kind"], colours.get(one["kind"], "unreachable"))
        return element(
            "li",
            element("span", chip),
            element("b", _name(one["subject"])),
            element("span", one["text"], class_="wrap"),
        )

    alarms = [alarm(one) for one in report["attention"]]
    note = words.count(len(alarms), "finding")
    listed = element("ul", alarms, class_="list alarms")
    return _section("attention", "What needs attention", note, element("div", listed, class_="body"))


def _matrix(report: Mapping[str, Any]) -> Optional[Markup]:
    if not report["nodes"]:
        return None
    columns = report["platforms"]

    def row(node: Mapping[str, Any]) -> Markup:
        states = {cell["platform"]: cell["state"] for cell in node["platforms"]}
        cells = [
            element("td", _state(states[name]), data_label=name) if name in states else element("td", class_="blank")
            for name in columns
        ]
        return element("tr", element("th", node["name"], scope="row", title=node["endpoint"]), *cells)

    head = [element("th", "Node", scope="col"), *(element("th", name, scope="col") for name in columns)]
    table = element(
        "table",
        element("caption", "Which node builds for which platform", class_="hidden"),
        element("thead", element("tr", *head)),
        element("tbody", *(row(node) for node in report["nodes"])),
        class_="matrix",
    )
    used = {cell["state"] for node in report["nodes"] for cell in node["platforms"]}
    legend = [element("span", _state(state), f" {text}") for state, text in _LEGEND if state in used]
    return _section(
        "platforms",
        "Who builds what",
        f"{words.count(len(report['nodes']), 'node')}, {words.count(len(columns), 'platform')}",
        element("div", table, class_="scroll", tabindex="0", role="region", aria_label="Nodes and platforms"),
        element("div", *legend, class_="legend"),
    )


def _timeline(report: Mapping[str, Any]) -> Optional[Markup]:
    nodes = [node for node in report["nodes"] if node["builds"]]
    if not nodes:
        return None
    begin = min(words.seconds_of(build["started"]) for node in nodes for build in node["builds"])
    span = max(60.0, float(words.seconds_of(report["time"]) - begin))

    def drawn_build(build: Mapping[str, Any]) -> Markup:
        at = 100 * (words.seconds_of(build["started"]) - begin) / span
        # One that runs still does so at the end of the line.
        lasted = span * (1 - at / 100) if build["duration"] is None else build["duration"]
        spoken = (
            f"{build['name']}, {words.when(build['started'])}, {words.duration(build['duration'])}, {build['status']}"
        )
        return _bar(at, 100 * lasted / span, 3, 12, _colour(build), spoken)

    def lane(node: Mapping[str, Any]) -> Markup:
        spoken = f"{words.count(len(node['builds']), 'build')} of {node['name']}"
        track = element("rect", x="0", y="8", width="100%", height="2", class_="track")
        drawn = element("svg", track, *map(drawn_build, node["builds"]), height="18", role="img", aria_label=spoken)
        parts = (element("span", node["name"], title=node["name"]), drawn)
        stepped = [build for build in node["builds"] if build["timeline"]][:_STEPPED]
        if not stepped:
            return element("div", *parts, class_="lane")
        return element("details", element("summary", *parts, class_="lane"), *map(_steps, stepped))

    return _section(
        "timeline",
        "Time line",
        "open a node for the steps of its last builds",
        element(
            "div",
            element("div", element("span"), _axis(begin, span), class_="lane axis"),
            *map(lane, nodes),
            _key(),
            class_="body",
        ),
    )


def _axis(begin: float, span: float) -> Markup:
    marks = [moment(begin + span * number / _TICKS) for number in range(_TICKS + 1)]
    day = span > 20 * 3600 or marks[0][:10] != marks[-1][:10]
    shown = [element("span", words.when(one, day=day)) for one in marks]
    return element("div", *shown, class_="marks")


def _key() -> Markup:
    def entry(colour: str, text: str) -> Markup:
        drawn = element(
            "svg", element("rect", width="12", height="12", rx="2", class_=colour), height="12", aria_hidden="true"
        )
        return element("span", drawn, text, class_="key")

    entries = [entry("ran", "ran"), entry("cached", "from the cache"), entry("failed", "failed")]
    return element("div", *entries, class_="legend", style="padding:8px 0 10px")


def _steps(build: Mapping[str, Any]) -> Markup:
    steps = build["timeline"]
    whole = _whole(build)

    def row(step: Mapping[str, Any]) -> Markup:
        drawn = _step_bar(step, whole, 3, 8)
        track = element("rect", x="0", y="6", width="100%", height="2", class_="track")
        return element(
            "div",
            element("span", step["name"], title=step["name"]),
            element("svg", track, drawn, height="14", aria_hidden="true"),
            element("span", _lasted(step)),
            class_="step",
        )

    title = f" {words.when(build['started'])}, {words.duration(build['duration'])}, "
    cached = f"{build['cached']} of {words.count(build['steps'], 'step')} from the cache"
    head = element(
        "p", element("b", _name(build["name"])), element("span", title, cached, class_="soft"), class_="wrap"
    )
    return element("div", head, *map(row, steps), class_="steps")


def _builds(report: Mapping[str, Any]) -> Optional[Markup]:
    listed = words.newest(report, _LISTED)
    if not listed:
        return None
    total = sum(len(node["builds"]) for node in report["nodes"])

    def rows() -> Iterator[Markup]:
        for node, build in listed:
            status = None if build["status"] == SUCCEEDED else _chip(build["status"], build["status"])
            notes = [element("span", one, class_="sub") for one in words.remarks(build)]
            part = f"{build['cached']} of {build['steps']}" if build["steps"] else words.NONE
            cells: Dict[str, Any] = {
                "Started": (words.when(build["started"]),),
                "Node": (node["name"],),
                "Platforms": (", ".join(build["platforms"]) or node["native"] or words.NONE,),
                "Lasted": (words.duration(build["duration"]),),
                "Cached": (part, _share_bar(build["cached_share"], "cached")),
                "Steps": (_strip(build),),
            }
            name = element("th", _name(build["name"]), " ", status, notes, scope="row", class_="wrap")
            yield _row(name, cells, nowrap=("Started", "Node", "Lasted"))

    heads = ("Build", "Started", "Node", "Platforms", "Lasted", "Cached", "Steps")
    note = f"{len(listed)} of {total}, " if total > len(listed) else ""
    return _section("builds", "Last builds", f"{note}newest first, times in UTC", _table("Last builds", heads, rows()))


def _nodes(report: Mapping[str, Any]) -> Optional[Markup]:
    nodes = report["nodes"]
    if not nodes:
        return None
    columns = {
        "Docker": _docker,
        "BuildKit": _buildkit,
        "Certificate": _certificate,
        "Cache": _cache,
        "Disk": _disk,
        "Handlers": _handlers,
    }
    # What is known of no node takes no room.
    cells = [{name: list(column(node)) for name, column in columns.items()} for node in nodes]
    known = [name for name in columns if any(row[name] for row in cells)]
    rows = [
        _row(_node_head(node), {name: row[name] for name in known}, nowrap=[*columns][:-1])
        for node, row in zip(nodes, cells)
    ]
    return _section("nodes", "Nodes", words.count(len(nodes), "node"), _table("Nodes", ("Node", *known), iter(rows)))


def _node_head(node: Mapping[str, Any]) -> Markup:
    status = words.state(node)
    notes = [node["endpoint"]] if node["endpoint"] != node["name"] else []
    said = [one for one in (node["error"], node["drained"]) if one]
    engine = node["engine"]
    if engine:
        host = (engine["system"], words.count(engine["processors"], "CPU"), words.memory(engine["memory"]))
        said.append(", ".join(filter(None, host)))
    if node["history"] and node["status"] == "running" and not node["error"]:
        said.append(f"History: {node['history']}")
    return element(
        "th",
        node["name"],
        [" ", _chip(status, status)] if status != "running" else None,
        [element("span", one, class_="sub mono") for one in notes],
        [element("span", one, class_="sub") for one in said],
        scope="row",
        class_="name",
    )


def _docker(node: Mapping[str, Any]) -> Iterator[Any]:
    if node["engine"]:
        yield node["engine"]["version"]


def _buildkit(node: Mapping[str, Any]) -> Iterator[Any]:
    if node["buildkit"]:
        yield node["buildkit"]["version"]


def _certificate(node: Mapping[str, Any]) -> Iterator[Any]:
    certificate = node["certificate"]
    if certificate:
        left = words.days(certificate["days_left"])
        yield _chip(left, "drained") if certificate["days_left"] < CERTIFICATE_DAYS else left
        yield element("span", words.date(certificate["expires"]), class_="sub")


def _cache(node: Mapping[str, Any]) -> Iterator[Any]:
    cache = node["cache"]
    if cache:
        yield words.size(cache["bytes"])
        if cache["limit"]:
            yield element("span", f" of {words.size(cache['limit'])}", class_="soft")
            yield _share_bar(min(1.0, cache["bytes"] / cache["limit"]), "ran")


def _disk(node: Mapping[str, Any]) -> Iterator[Any]:
    disk = node["disk"]
    if disk and disk["bytes"]:
        used = 1 - disk["free"] / disk["bytes"]
        yield f"{words.size(disk['free'])} free"
        yield element("span", f" of {words.size(disk['bytes'])}", class_="soft")
        yield _share_bar(used, "failed" if used >= DISK_SHARE else "ran")


def _handlers(node: Mapping[str, Any]) -> Iterator[Any]:
    if node["handlers"]:
        yield words.handlers(node)


def _images(report: Mapping[str, Any]) -> Optional[Markup]:
    if not report["images"]:
        return None

    def rows() -> Iterator[Markup]:
        for image in report["images"]:
            problem = words.trouble(image)
            digests = [
                element(
                    "span",
                    f"{one['platform']} ",
                    element("code", words.short(one["digest"]), class_="soft"),
                    title=f"{one['digest']}, {words.size(one['size'])}",
                )
                for one in image["platforms"]
            ]
            made = [f"key {image['key'][:12]}"] if image["key"] else []
            made += [
                " ".join(filter(None, (one["name"], one["digest"] and words.short(one["digest"]))))
                for one in image["sources"]
            ]
            name = element(
                "th",
                _name(image["name"]),
                element("span", ", ".join(made), class_="sub") if made else None,
                element("span", problem, class_="sub problem") if problem else None,
                scope="row",
                class_="wrap",
            )
            cells: Dict[str, Any] = {
                "Digest": (element("code", words.short(image["digest"]), title=image["digest"]),)
                if image["digest"]
                else (),
                "Platforms": (element("div", *digests, class_="digests"),) if digests else (),
                "Created": (words.date(image["created"]),) if image["created"] else (),
            }
            yield _row(name, cells, nowrap=("Created",))

    heads = ("Image", "Digest", "Platforms", "Created")
    table = _table("Images", heads, rows(), "images")
    return _section("images", "Images", words.count(len(report["images"]), "name"), table)


def _footer(report: Mapping[str, Any]) -> Markup:
    return element("footer", f"Made by buildfarm.multiarch. {report['fingerprint']}")


def _table(caption: str, heads: Sequence[str], rows: Iterator[Markup], more: str = "") -> Markup:
    """Return a table that is a list of cards where there is no room for it."""
    return element(
        "table",
        element("caption", caption, class_="hidden"),
        element("thead", element("tr", *(element("th", head, scope="col") for head in heads))),
        element("tbody", *rows),
        class_=f"cards {more}".strip(),
    )


def _row(head: Markup, cells: Mapping[str, Any], nowrap: Sequence[str] = ()) -> Markup:
    shown = []
    for label, content in cells.items():
        kept = [one for one in content if one is not None]
        kinds = [*(["nowrap"] if label in nowrap else []), *([] if kept else ["blank"])]
        # Several things in a cell stay together where it is a line of a card.
        inner = element("div", *kept) if kept else element("span", words.NONE, class_="soft")
        shown.append(element("td", inner, data_label=label, class_=" ".join(kinds) or None))
    return element("tr", head, *shown)


def _name(text: str) -> Markup:
    """Return the name of an image, which is broken after a slash where it is too long for a line."""
    first, *others = text.split("/")
    return join(first, *(part for other in others for part in ("/", element("wbr"), other)))


def _chip(text: str, state: str) -> Markup:
    return element("span", text, class_=f"chip {state}-chip")


def _state(state: str) -> Markup:
    return _chip(f"{_SIGNS[state]} {state}", state)


def _colour(build: Mapping[str, Any]) -> str:
    if build["status"] == FAILED:
        return "failed"
    return "cached" if build["status"] != RUNNING and build["cached_share"] == 1 else "ran"


def _whole(build: Mapping[str, Any]) -> float:
    """Return how long a build took, with its last step."""
    ends = [step["start"] + step["duration"] for step in build["timeline"]]
    return float(max(0.001, build["duration"] or 0, *ends))


def _bar(at: float, width: float, top: int, height: int, colour: str, title: str = "") -> Markup:
    """Return a bar of a time line, placed in percent so that it fits any width."""
    width = min(100.0, max(_LEAST, width))
    at = min(100 - width, max(0.0, at))
    return Markup(
        f'<rect x="{at:.2f}%" y="{top}" width="{width:.2f}%" height="{height}" rx="1.5" class="{colour}">'
        f"{element('title', title).text if title else ''}</rect>"
    )


def _step_bar(step: Mapping[str, Any], whole: float, top: int, height: int, title: str = "") -> Markup:
    """Return the bar of a step.

    :param whole: how long its build took.
    """
    colour = "failed" if step["error"] else "cached" if step["cached"] else "ran"
    return _bar(100 * step["start"] / whole, 100 * step["duration"] / whole, top, height, colour, title)


def _lasted(step: Mapping[str, Any]) -> str:
    return "cached" if step["cached"] else words.duration(step["duration"])


def _share_bar(share: Optional[float], colour: str) -> Optional[Markup]:
    if share is None:
        return None
    track = element("rect", x="0", y="0", width="100%", height="5", rx="2.5", class_="track")
    drawn = join(track, _bar(0, 100 * share, 0, 5, colour)) if share else track
    return element("div", element("svg", drawn, height="5", aria_hidden="true"), class_="bar")


def _strip(build: Mapping[str, Any]) -> Optional[Markup]:
    """Return a build's steps as one line."""
    steps = build["timeline"]
    if not steps:
        return None
    whole = _whole(build)
    bars = [_step_bar(step, whole, 2, 10, f"{step['name']}, {_lasted(step)}") for step in steps]
    track = element("rect", x="0", y="6", width="100%", height="2", class_="track")
    drawn = element(
        "svg", track, *bars, height="14", role="img", aria_label=words.count(len(steps), "step"), class_="strip"
    )
    return element("div", drawn, class_="bar")
