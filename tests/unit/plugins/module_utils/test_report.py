# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import copy
import html.parser
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._buildx.marks import marks
from ansible_collections.buildfarm.multiarch.plugins.module_utils._buildx.store import Instance, Node, Store
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.files import write_atomically
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker.endpoint import Endpoint
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker.engine import EngineInfo
from ansible_collections.buildfarm.multiarch.plugins.module_utils._platform.platform import Platform
from ansible_collections.buildfarm.multiarch.plugins.module_utils._report import metrics, page, text, words
from ansible_collections.buildfarm.multiarch.plugins.module_utils._report.apply import RENDERERS, fingerprint_in, run
from ansible_collections.buildfarm.multiarch.plugins.module_utils._report.declaration import FORMATS, Declaration
from ansible_collections.buildfarm.multiarch.plugins.module_utils._report.history import (
    Build,
    Step,
    parse_histories,
    parse_steps,
    with_reasons,
)
from ansible_collections.buildfarm.multiarch.plugins.module_utils._report.markup import Markup, element, join
from ansible_collections.buildfarm.multiarch.plugins.module_utils._report.model import assemble, fingerprint
from ansible_collections.buildfarm.multiarch.plugins.module_utils._report.state import (
    Daemon,
    EngineState,
    FoundContainer,
    FoundImage,
    FoundNode,
    State,
    handlers_of,
    read_disk,
    read_worker,
)
from ansible_collections.buildfarm.multiarch.plugins.module_utils._report.style import COLOURS, CSS, PAIRS
from ansible_collections.buildfarm.multiarch.tests.unit.engines import FakeEngine, serving
from ansible_collections.buildfarm.multiarch.tests.unit.reports import large_farm

FIXTURES = Path(__file__).parents[2] / "fixtures/buildkit-0.25.2"
PARAMS = {
    **dict.fromkeys(("builder", "ca", "cert", "key", "docker_config", *FORMATS)),
    "endpoints": [],
    "images": [],
    "hosts": {},
    "builds": 10,
    "timeout": 5.0,
}
EVIL = "<script>alert(1)</script>\"'&\u202e\x1b[31m"


@pytest.fixture(scope="module")
def report():
    return assemble(*large_farm())


def recorded(name):
    return (FIXTURES / name).read_text()


# What BuildKit remembers.


def test_histories_as_buildkit_prints_them():
    builds = parse_histories(recorded("histories.txt"))
    assert [(one.status, one.cached, one.steps, one.platforms) for one in builds] == [
        ("failed", 1, 6, ("linux/arm64",)),
        ("canceled", 1, 5, ("linux/arm64",)),
        ("succeeded", 1, 8, ("linux/amd64",)),
        ("succeeded", 0, 8, ("linux/amd64",)),
    ]
    assert builds[0].error == 'process "/bin/sh -c sleep 1; exit 3" did not complete successfully: exit code: 3'
    assert builds[0].name == "Dockerfile (vyuxy62g)"
    assert builds[2].name == "registry.farm.test:5000/seen/one"
    assert builds[2].digests == ("sha256:21eb61e8eafed065c66f2f44294d74810dfc1c097423f17823674d2a6097dfb0",)
    assert builds[3].started == pytest.approx(1795985284.046, abs=0.001)
    assert builds[3].ended - builds[3].started == pytest.approx(1.661, abs=0.001)


def test_histories_as_older_ones_print_them():
    """With times as text, and without counts; what is deleted afterwards is gone."""
    begun = {"type": 0, "record": {"Ref": "a", "CreatedAt": "2026-01-02T03:04:05.5Z"}}
    ended = {"type": 1, "record": {**begun["record"], "CompletedAt": "2026-01-02T03:04:07Z"}}
    other = {"type": 2, "record": {"Ref": "b"}}
    lines = [begun, {**other, "type": 1}, ended, other]
    (build,) = parse_histories("\n".join(map(json.dumps, lines)))
    assert (build.status, build.ended - build.started, build.steps) == ("succeeded", 1.5, 0)
    assert parse_histories(json.dumps(begun))[0].status == "running"
    for broken in ("[]", "{", '{"record": 5}', '{"record": {"Ref": "a", "CreatedAt": "now"}}'):
        with pytest.raises(FarmError, match="BuildKit's history cannot be read"):
            parse_histories(broken)


@pytest.mark.parametrize(
    ("record", "name"),
    [
        ({"Exporters": [{"Type": "image", "Attrs": {"name": "r/a:1,r/a:2"}}]}, "r/a:1"),
        (
            {"FrontendAttrs": {"vcs:source": "https://token1234567890@git.example.com/a"}},
            "https://***@git.example.com/a",
        ),
        ({"FrontendAttrs": {"context": "https://git.example.com/a.git"}}, "https://git.example.com/a.git"),
        ({"Exporters": [{"Type": "local"}], "FrontendAttrs": {"filename": "x.Dockerfile"}}, "x.Dockerfile (abcdefgh)"),
        ({}, "build (abcdefgh)"),
    ],
)
def test_what_builds_are_called(record, name):
    event = {"type": 1, "record": {"Ref": "abcdefghijk", "CreatedAt": {"seconds": 5}, **record}}
    assert parse_histories(json.dumps(event))[0].name == name


def test_steps_as_buildkit_prints_them():
    failed, _canceled, cached, _first = parse_histories(recorded("histories.txt"))
    steps = parse_steps(recorded("steps-cached.txt"), cached)
    assert {step.name.split("@")[0]: step.cached for step in steps if not step.is_own} == {
        "[1/3] FROM registry.farm.test:5000/library/busybox:latest": True,
        "[2/3] RUN echo 2; sleep 1": False,
        "[3/3] COPY x /x": False,
    }
    assert 1 < next(step.duration for step in steps if "sleep" in step.name) < 1.2
    assert all(0 <= step.start <= 1.2 for step in steps)
    assert [step.start for step in steps] == sorted(step.start for step in steps)
    broken = [step for step in parse_steps(recorded("steps-failed.txt"), failed) if step.error]
    assert [step.name for step in broken] == ["[3/3] RUN sleep 1; exit 3"]


def test_values_of_build_arguments_are_not_shown():
    """BuildKit names steps by lines with the values in them."""
    failed = parse_histories(recorded("histories.txt"))[0]
    assert "verysecret" in recorded("steps-failed.txt")
    assert "[2/3] RUN echo $TOKEN" in [step.name for step in parse_steps(recorded("steps-failed.txt"), failed)]
    found = {"nodes": [{"builds": [failed]}], "all": with_reasons([failed])}
    assert "verysecret" not in repr(found)
    event = json.loads(recorded("histories.txt").splitlines()[0])
    event["record"]["error"]["message"] = "login with verysecret at https://u:passw0rd@r/ failed"
    assert parse_histories(json.dumps(event))[0].error == "login with $TOKEN at https://***@r/ failed"


def test_steps_that_were_cut_off():
    whole = recorded("steps-cached.txt")
    build = parse_histories(recorded("histories.txt"))[2]
    assert parse_steps(whole + whole[: len(whole) // 2], build) == parse_steps(whole, build)
    assert parse_steps('{"vertexes": [{"digest": "a", "name": "never begun"}]}\nnoise\n[]\n', build) == ()


def test_why_builds_did_not_take_all_from_the_cache():
    inputs = {"build argument V": "1", "the target": "t", "label a": "b"}
    steps = (Step("[internal] load", 0, 1), Step("[1/2] FROM x", 0, 1, cached=True), Step("[2/2] RUN y", 1, 1))
    new = Build("c", 3, 4, "succeeded", "app", ("linux/amd64",), 3, 1, inputs=inputs, timeline=steps)
    other = replace(new, ref="b", platforms=("linux/arm64",), inputs={})
    old = replace(new, ref="a", inputs={"build argument V": "2", "the target": "t", "label z": "b"}, timeline=())
    reasons = [build.reasons for build in with_reasons([new, other, old])]
    assert sorted(reasons[0]) == [
        "build argument V changed",
        "label a is new",
        "label z is gone",
        "ran from [2/2] RUN y",
    ]
    assert reasons[1:] == [("ran from [2/2] RUN y",), ()]
    assert with_reasons([replace(new, cached=3)])[0].reasons == ()


# What else is read.


def test_what_buildkit_says_of_itself():
    daemon = Daemon()
    read_worker(recorded("workers.txt"), daemon)
    assert (daemon.version, daemon.limit) == ("v0.25.2", 10_000_000_000)
    assert [str(one) for one in daemon.platforms[:2]] == ["linux/amd64", "linux/amd64/v2"]
    read_worker('{"Platforms": [{"OS": 1}], "GCPolicy": [{"keepBytes": 7}]}'.replace('{"OS": 1}', ""), daemon)
    assert (daemon.platforms, daemon.limit) == ((), 7)
    with pytest.raises(FarmError, match="description of itself cannot be read"):
        read_worker("[]", daemon)


def test_disks():
    df = """Filesystem     1024-blocks   Used Available Capacity Mounted on
/dev/sda1               90     80        10      90% /
pool/lib                50     30        20      60% /var/lib
tmpfs                   70     40        30      60% /var/lib/dock er
broken                   -      -         -        - /var/lib/docker
"""
    assert read_disk(df, "/var/lib/docker") == (50 << 10, 20 << 10)
    assert read_disk(df, "/var/lib/dock er/x") == (70 << 10, 30 << 10)
    assert read_disk(df, "/srv") == (90 << 10, 10 << 10)
    assert [read_disk(other, "/srv") for other in ("", "nonsense", "a b c d e f")] == [None] * 3


def test_handlers():
    assert handlers_of(None) is None
    (one,) = handlers_of([{"name": "jar", "platforms": []}, {"name": "qemu-arm", "platforms": ["linux/arm/v7"]}, 5])
    assert (one["name"], one["works"]) == ("qemu-arm", None)


# The document.


def cells(**changes):
    """What a node is for amd64, arm64 and s390x."""
    probed = EngineInfo(Endpoint("context", "n"), reachable=True, platform=AMD, **changes.pop("probed", {}))
    state = changes.pop("state", "running")
    engine = EngineState(probed, {}, {"n": FoundContainer(state, "i", "1")} if state else {})
    daemon = Daemon(platforms=(AMD, ARM)) if state == "running" and not probed.error else None
    node = FoundNode("n", "n", "docker-container", engine=engine, daemon=daemon, **changes)
    other = replace(node, name="o", pins=(S390, ARM))
    found = assemble(State("c", 0, nodes=(node, other)), {})["nodes"][0]["platforms"]
    return {cell["platform"].split("/")[1]: cell["state"] for cell in found}


AMD, ARM, S390 = (Platform("linux", arch) for arch in ("amd64", "arm64", "s390x"))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"pins": (AMD,)}, {"amd64": "native"}),
        ({"pins": (AMD,), "elsewhere": (ARM,)}, {"amd64": "native", "arm64": "idle"}),
        ({"pins": (AMD, ARM)}, {"amd64": "native", "arm64": "emulated"}),
        ({"pins": (AMD, ARM, S390)}, {"amd64": "native", "arm64": "emulated", "s390x": "pinned"}),
        ({"pins": ()}, {"amd64": "native", "arm64": "emulated"}),
        ({"pins": None}, {"amd64": "native", "arm64": "emulated"}),
        ({"pins": (AMD,), "probed": {"drained": "since"}}, {"amd64": "drained"}),
        ({"pins": (AMD,), "state": "exited"}, {"amd64": "stopped"}),
        ({"pins": (AMD,), "state": "paused"}, {"amd64": "stopped"}),
        ({"pins": (AMD,), "state": ""}, {"amd64": "stopped"}),
        ({"pins": (AMD,), "probed": {"error": "refused"}}, {"amd64": "unreachable"}),
        ({"pins": None, "probed": {"error": "no"}}, dict.fromkeys(("amd64", "arm64", "s390x"), "unreachable")),
    ],
)
def test_what_a_node_is_for_a_platform(changes, expected):
    found = cells(**changes)
    if changes["pins"] == (AMD,) and "elsewhere" not in changes and "state" not in changes and "probed" not in changes:
        expected = {**expected, "arm64": "idle"}
    if "drained" in changes.get("probed", {}):
        expected = {**expected, "arm64": "drained"}
    assert found == expected


def test_what_needs_attention(report):
    kinds = [one["kind"] for one in report["attention"]]
    assert kinds == [
        *("unreachable", "unreachable", "stopped", "drained", "drained", "certificate", "disk", "handler"),
        *(["build"] * kinds.count("build")),
        *("image", "image", "image"),
    ]
    told = {(one["kind"], one["subject"]): one["text"] for one in report["attention"]}
    assert told["certificate", "farm-arm64-05"] == "its certificate ends in 12 days"
    assert told["disk", "farm-arm64-14"] == "its disk is 95 % full"
    assert told["handler", "farm-amd64-18"] == "qemu-riscv64 does not work: it was killed by signal 11"
    assert report["summary"]["usable"] == 40 - 2 - 1 - 2
    assert (report["summary"]["images"], report["summary"]["complete"]) == (200, 197)


@pytest.mark.parametrize(
    ("state", "status", "kind", "told"),
    [
        ("exited", "stopped", "stopped", "BuildKit is stopped; the next build starts it"),
        (
            "paused",
            "paused",
            "buildkit",
            "BuildKit is paused; no build runs there until 'docker unpause buildx_buildkit_n'",
        ),
    ],
)
def test_what_a_build_starts_and_what_it_does_not(state, status, kind, told):
    engine = EngineState(
        EngineInfo(Endpoint("context", "n"), reachable=True), {}, {"n": FoundContainer(state, "i", "1")}
    )
    report = assemble(State("c", 0, nodes=(FoundNode("n", "n", "docker-container", engine=engine),)), {})
    assert (report["nodes"][0]["status"], report["summary"]["usable"]) == (status, 0)
    assert [(one["kind"], one["text"]) for one in report["attention"] if one["subject"] == "n"] == [(kind, told)]


@pytest.mark.parametrize(("left", "told"), [(1, "ends in 1 day"), (0, "ends within a day"), (-1, "has ended")])
def test_when_certificates_end(left, told):
    end = {"certificate_expires": "2026-01-01T00:00:00Z", "certificate_days_left": left}
    node = FoundNode("n", "n", "docker-container", engine=EngineState(EngineInfo(Endpoint("context", "n"), **end)))
    attention = assemble(State("c", 0, nodes=(node,)), {})["attention"]
    assert [one["text"] for one in attention if one["kind"] == "certificate"] == [f"its certificate {told}"]


@pytest.mark.parametrize(
    ("times", "created"),
    [
        (("2026-01-02T03:04:05.678Z", "2026-01-02T03:04:05+02:00"), "2026-01-02T03:04:05Z"),
        (("1970-01-01T00:00:00Z",), "1970-01-01T00:00:00Z"),
        (("0001-01-01T00:00:00Z", "yesterday", "2026-13-01T00:00:00Z", ""), None),
        ((), None),
    ],
)
def test_when_images_were_created(times, created):
    platforms = tuple((f"linux/{place}", "sha256:a", 1, text) for place, text in enumerate(times))
    report = assemble(State("c", 0, images=(FoundImage("a", digest="sha256:b", platforms=platforms),)), {})
    assert report["images"][0]["created"] == created
    found = [value for (name, _labels), value in metrics_of(metrics.render(report)).items() if "_created_" in name]
    assert len(found) == (created is not None)


def test_a_node_whose_buildkit_does_not_answer_is_not_usable():
    probed = EngineInfo(Endpoint("context", "n"), reachable=True)
    engine = EngineState(probed, {}, {"n": FoundContainer("running", "i", "1")})
    nodes = [FoundNode("n", "n", "docker-container", engine=engine, daemon=Daemon(problem=text)) for text in ("", "no")]
    assert assemble(State("c", 0, nodes=tuple(nodes)), {})["summary"]["usable"] == 1


def test_hosts_are_known_by_the_names_of_nodes_in_any_case():
    probed = EngineInfo(Endpoint("context", "n"), reachable=True)
    node = FoundNode("farm-amd1", "n", "docker-container", engine=EngineState(probed))
    (found,) = assemble(State("c", 0, nodes=(node,)), {"Farm-AMD1": {"handlers": []}})["nodes"]
    assert found["handlers"] == []


def test_what_is_no_change(report):
    later = copy.deepcopy(report)
    later["time"] = "2027-01-01T00:00:00Z"
    later["nodes"][5]["certificate"]["days_left"] -= 1
    later["nodes"][1]["cache"]["bytes"] += 1
    later["nodes"][1]["disk"]["free"] -= 1
    assert fingerprint(later) == report["fingerprint"]
    later["nodes"][1]["builds"][0]["status"] = "failed"
    assert fingerprint(later) != report["fingerprint"]


def test_the_documented_shape_is_the_one_returned(report):
    """Each key is documented, and each that is documented is there."""
    yaml = pytest.importorskip("yaml")
    module = Path(__file__).parents[4] / "plugins/modules/farm_report.py"
    documented = yaml.safe_load(module.read_text().split('RETURN = r"""')[1].split('"""')[0])

    def compare(values, contains, where):
        for value in values:
            for key in value:
                assert key in contains, f"{where}.{key} is not documented"
        for key, about in contains.items():
            inner = [value[key] for value in values if value.get(key) is not None]
            assert any(key in value for value in values), f"{where}.{key} is documented, and not there"
            if "contains" in about:
                listed = [one for value in inner for one in (value if isinstance(value, list) else [value])]
                compare(listed, about["contains"], f"{where}.{key}")

    compare([report], documented["report"]["contains"], "report")


# How it is shown.


class Page(html.parser.HTMLParser):
    """A page whose elements are closed in order; notes what is in it."""

    def __init__(self, content):
        super().__init__()
        self.open, self.tags, self.attributes, self.ids, self.words = [], [], [], [], []
        self.feed(content)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in ("meta", "link", "wbr"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def test_the_page_is_whole_and_needs_nothing(report):
    content = page.render(report)
    found = Page(content)
    assert not {"script", "iframe", "img", "object", "embed", "form", "base"} & set(found.tags)
    assert not [name for name, _value in found.attributes if name.startswith("on")]
    links = [value for name, value in found.attributes if name in ("href", "src", "srcset", "action", "data")]
    assert [link for link in links if link != "data:,"] == [f"#{name}" for name in found.ids if name != "attention"]
    assert len(found.ids) == len(set(found.ids)) == 6
    assert not re.search(r"https?://|//[a-z]|@import|url\(", CSS)
    assert content.startswith("<!DOCTYPE html>")
    assert found.tags.count("table") == 4
    assert all(node["name"] in content for node in report["nodes"])
    assert all(image["digest"] in content for image in report["images"] if image["digest"])
    # Compressed, as web servers send it, a tenth of that.
    assert len(content) < 1_000_000


def with_evil(value):
    """Replace all texts that come from elsewhere."""
    if isinstance(value, dict):
        kept = ("time", "started", "expires", "created", "status", "state", "fingerprint", "kind")
        return {key: inner if key in kept else with_evil(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [with_evil(inner) for inner in value]
    return EVIL if isinstance(value, str) else value


def test_what_is_foreign_is_escaped(report):
    bad = with_evil({**report, "nodes": report["nodes"][:12], "images": report["images"][:3]})
    content, lines = page.render(bad), text.render(bad)
    assert "script" not in Page(content).tags
    assert "<script" not in content
    assert "alert(1)" in "".join(Page(content).words)
    assert not re.search("[\x00-\x08\x0b-\x1f\u202e]", content + lines)
    assert metrics_of(metrics.render({**bad, "nodes": bad["nodes"][:1], "images": []}))


def test_elements():
    made = element("p", "a<b", None, [Markup("<i></i>"), "&"], element("wbr"), class_="x y", data_label='"', id=None)
    assert made.text == '<p class="x y" data-label="&quot;">a&lt;b<i></i>&amp;<wbr></p>'
    assert join("a\nb\x00").text == "a b\\u0000"


def luminance(colour):
    """The relative luminance of WCAG 2."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", COLOURS)
@pytest.mark.parametrize(("above", "below", "least"), PAIRS)
def test_contrast(scheme, above, below, least):
    light, dark = sorted((luminance(COLOURS[scheme][name]) for name in (above, below)), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= least


def test_all_colours_are_those_that_are_checked():
    assert COLOURS["light"].keys() == COLOURS["dark"].keys()
    used = set(re.findall(r"var\(--([a-z-]+)\)", CSS))
    assert used == set(COLOURS["light"])
    text_colours = set(re.findall(r"[{;]color:var\(--([a-z-]+)\)", CSS))
    assert text_colours <= {above for above, _below, least in PAIRS if least == 4.5}
    drawn = set(re.findall(r"fill:var\(--([a-z-]+)\)", CSS)) - {"track"}
    assert drawn <= {above for above, _below, least in PAIRS if least == 3}


def test_every_state_has_its_colour():
    states = "native emulated idle drained stopped unreachable".split()
    states += "missing paused unknown running succeeded failed canceled".split()
    assert all(f".{state}-chip{{" in CSS for state in states)


def test_text_stands_in_columns(report):
    lines = text.render(report).splitlines()
    assert lines[0] == "Build farm: builder farm, as builder.example.com found it on 2026-09-21T14:13:20Z"
    head = next(line for line in lines if line.startswith("  node "))
    place = head.index("Docker")
    rows = [line for line in lines if re.match(r"  farm-\S+ +(running|drained|stopped)", line)]
    assert len(rows) == 38
    assert {line[place : place + 6] for line in rows} == {"26.1.5", "28.5.2"}
    assert lines[-1] == report["fingerprint"]
    assert "  farm-amd64-03: history: it is not available with BuildKit v0.11.6" in lines


_SAMPLE = re.compile(
    r'(?P<name>[a-z_]+)(?:\{(?P<labels>[a-z_]+="(?:[^"\\\n]|\\[\\"n])*"(?:,[a-z_]+="(?:[^"\\\n]|\\[\\"n])*")*)\})?'
    r" (?P<value>-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)\Z"
)


def metrics_of(content):
    """Parse metrics strictly; returns each sample's value by its name and labels."""
    found, current, described = {}, "", set()
    first, *lines = content.split("\n")
    assert first.startswith("# sha256:")
    assert lines.pop() == ""
    for number, line in enumerate(lines):
        if line.startswith("# HELP "):
            current = line.split()[2]
            assert current not in described
            assert len(line.split()) > 4
            described.add(current)
            assert lines[number + 1] == f"# TYPE {current} gauge"
        elif not line.startswith("# TYPE "):
            sample = _SAMPLE.match(line)
            assert sample, line
            assert sample["name"] == current
            key = (sample["name"], sample["labels"] or "")
            assert key not in found
            found[key] = float(sample["value"])
    return found


def test_metrics(report):
    found = metrics_of(metrics.render(report))
    names = {name for name, _labels in found}
    assert names == {f"buildfarm_{name}" for name in metrics._HELP}
    # Base units, and no names that promise counters.
    assert not [name for name in names if name.endswith(("_total", "_count", "_sum", "_bucket", "_ms", "_kb"))]
    node = 'node="farm-arm64-05",engine="farm-arm64-05"'
    assert found["buildfarm_node_certificate_expiry_timestamp_seconds", node] == 1791028800
    assert found["buildfarm_node_up", node] == 1
    assert found["buildfarm_node_up", node.replace("arm64-05", "arm64-11")] == 0
    assert found["buildfarm_node_drained", node.replace("05", "08")] == 1
    statuses = [value for (name, labels), value in found.items() if name == "buildfarm_node_builds"]
    assert sum(statuses) == report["summary"]["builds"]
    # What grows with time is in no label.
    told = metrics.render(report).split("\n", 1)[1]
    assert "sha256" not in told
    assert not any(build["ref"] in told for one in report["nodes"] for build in one["builds"])
    assert metrics_of(metrics.render({**report, "nodes": [], "images": []}))


def test_metrics_escape_labels(report):
    node = {**report["nodes"][0], "name": 'a\\b"c\nd'}
    found = metrics_of(metrics.render({**report, "nodes": [node]}))
    assert any('node="a\\\\b\\"c\\nd"' in labels for _name, labels in found)


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (words.size(0), "0 B"),
        (words.size(999), "999 B"),
        (words.size(2_834_678_415), "2.8 GB"),
        (words.size(40_000_000_000), "40 GB"),
        (words.size(999_600), "1.0 MB"),
        (words.size(None), words.NONE),
        (words.memory(64 << 30), "64 GiB"),
        (words.memory(0), ""),
        (words.duration(0.04), "40 ms"),
        (words.duration(0.9996), "1.0 s"),
        (words.duration(9.96), "10 s"),
        (words.duration(59.6), "1 min"),
        (words.duration(134.2), "2 min 14 s"),
        (words.duration(7260), "2 h 1 min"),
        (words.share(0.999), "99 %"),
        (words.share(0.29), "29 %"),
        (words.share(None), words.NONE),
        (words.days(1), "1 day"),
        (words.days(-1), "ended"),
        (words.when("2026-09-01T04:05:06Z"), "1 Sep 04:05"),
        (words.short("sha256:0123456789abcdef"), "0123456789ab"),
        (words.count(1, "node"), "1 node"),
    ],
)
def test_words(made, expected):
    assert made == expected


# The whole module.


class Engine(FakeEngine):
    """An engine with a BuildKit of which a test determines what it prints; by default what was recorded."""

    def __init__(self, **outputs):
        super().__init__()
        self.outputs = {
            "workers": recorded("workers.txt"),
            "histories": recorded("histories.txt"),
            "du": '[{"id": "a", "size": 40}, {"id": "b", "size": 2}]',
            "df": None,
            "vyuxy62ggc0l59k7g8fk2bw7j": recorded("steps-failed.txt"),
            "qw2kuqw9emi6cvcgk5eqxro4b": recorded("steps-cached.txt"),
            **outputs,
        }
        self.commands = []
        self.drained = []

    def answer(self, method, path, query, body, headers):
        if path.endswith("/exec"):
            self.commands.append(json.loads(body)["Cmd"])
            return 201, {"Id": str(len(self.commands) - 1)}
        if path.startswith("/exec/"):
            command = self.commands[int(path.split("/")[2])]
            output = next((text for word, text in self.outputs.items() if word in command), "")
            if path.endswith("/json"):
                return 200, {"ExitCode": int(output is None)}
            content = (output or "No help topic for it").encode()
            return 200, bytes([1 + (output is None), 0, 0, 0]) + len(content).to_bytes(4, "big") + content
        label = "io.github.buildfarm.multiarch"
        mark = {"Labels": {f"{label}.node": "n", f"{label}.controller": "there", f"{label}.builder": "farm"}}
        answers = {
            "/version": {"Os": "linux", "Arch": "amd64", "Version": "28.5.2", "ApiVersion": "1.51"},
            "/info": {"Name": "host", "NCPU": 2, "MemTotal": 1, "DockerRootDir": "/var/lib/docker"},
            "/containers/json": [
                {"Names": ["/buildx_buildkit_n"], "State": "running", "Image": "moby/buildkit", "Id": "c1"}
            ],
            "/volumes": {"Volumes": self.drained if "drained" in query.get("filters", "") else [mark]},
        }
        return (200, answers[path]) if path in answers else (404, {"message": path})


@pytest.fixture
def reporting(tmp_path, monkeypatch):
    """A controller; returns what runs the module there."""
    for name in ("BUILDX_CONFIG", "DOCKER_HOST", "DOCKER_CONTEXT", "BUILDX_BUILDER"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "buildx/instances").mkdir(parents=True)

    def call(*nodes, check=False, **params):
        store = Store(tmp_path / "buildx")
        if nodes:
            instance = Instance("farm", "docker-container", nodes)
            write_atomically(store.path("farm"), instance.to_json(), 0o600)
        return run({**PARAMS, "docker_config": str(tmp_path), **params}, check, None).as_result()

    return call


def test_a_controller_that_knows_nothing(reporting):
    engine = Engine()
    with serving(engine) as url:
        found = reporting(endpoints=[url, "tcp://127.0.0.1:9"])["report"]
    node, dead = found["nodes"]
    assert (node["name"], node["builders"], node["controllers"]) == ("n", ["farm"], ["there"])
    assert (node["pins"], node["status"], node["cache"]["bytes"]) == (None, "running", 42)
    assert [build["status"] for build in node["builds"]] == ["failed", "canceled", "succeeded", "succeeded"]
    assert node["builds"][2]["reasons"][0] == "build argument SALT changed"
    assert node["builds"][2]["reasons"][1].startswith("ran from [2/3] RUN")
    assert (dead["name"], dead["status"]) == ("tcp://127.0.0.1:9", "unreachable")
    assert "refused" in dead["error"]
    assert dead["history"] == dead["error"]
    assert found["platforms"] == ["linux/amd64", "linux/arm64"]
    assert found["builders"] == []


def test_builders_are_told_apart_by_the_marks_on_engines(reporting):
    with serving(Engine()) as url:
        assert reporting(endpoints=[url], builder="Farm")["report"]["nodes"][0]["name"] == "n"
        assert [one["name"] for one in reporting(endpoints=[url], builder="other")["report"]["nodes"]] == [url]


def test_a_node_of_a_builder_is_reported_once(reporting):
    with serving(Engine()) as url:
        found = reporting(Node("n", url, (AMD, ARM)), endpoints=[url])["report"]
        # However it is reached.
        again = reporting(endpoints=[url, url.replace("127.0.0.1", "localhost")])["report"]["nodes"]
        assert [one["name"] for one in again] == ["n"]
    (node,) = found["nodes"]
    assert node["pins"] == ["linux/amd64", "linux/arm64"]
    assert found["builders"] == [
        {"name": "farm", "driver": "docker-container", "current": False, "nodes": ["n"], "error": None}
    ]


def test_a_builder_with_an_endpoint_that_is_none(reporting):
    found = reporting(Node("n", "npipe:////./pipe/docker_engine"))["report"]
    assert [one["name"] for one in found["builders"]] == ["farm"]
    (alarm,) = found["attention"]
    assert (alarm["kind"], alarm["subject"]) == ("builder", "farm")
    assert "npipe:////./pipe/docker_engine': wanted tcp://" in alarm["text"]


def test_an_old_buildkit_has_no_history(reporting):
    with serving(Engine(histories=None)) as url:
        (node,) = reporting(endpoints=[url])["report"]["nodes"]
    assert node["history"] == "it is not available with BuildKit v0.25.2"
    assert (node["builds"], node["error"], node["cache"]["bytes"]) == ([], None, 42)


def test_a_buildkit_that_does_not_answer_as_one(reporting):
    with serving(Engine(workers="oops")) as url:
        found = reporting(endpoints=[url])["report"]
    assert found["attention"][0]["kind"] == "buildkit"
    assert "cannot be read" in found["nodes"][0]["error"]


def test_how_much_is_read(reporting):
    engine = Engine()
    with serving(engine) as url:
        (node,) = reporting(endpoints=[url], builds=1)["report"]["nodes"]
        assert len(node["builds"]) == 1
        assert sum("logs" in command for command in engine.commands) == 1
        engine.commands.clear()
        assert reporting(endpoints=[url], builds=0)["report"]["nodes"][0]["builds"] == []
        assert not [command for command in engine.commands if "histories" in command or "logs" in command]


def test_files_are_written_where_what_they_tell_has_changed(reporting, tmp_path):
    files = {kind: str(tmp_path / f"farm.{kind}") for kind in FORMATS}
    engine = Engine()
    with serving(engine) as url:
        common = {"endpoints": [url], **files}
        predicted, first = reporting(check=True, **common), reporting(**common)
        assert not [path for path in files.values() if not Path(path).exists()]
        second = reporting(**common)
        engine.outputs["du"] = "[]"
        younger = reporting(**common)
        engine.drained = [
            {"CreatedAt": "2026-01-01T00:00:00Z", "Labels": {"com.github.buildfarm.multiarch.drained": "x"}}
        ]
        drained = reporting(**common)
    for key in ("changed", "actions", "diff"):
        assert predicted[key] == first[key]
    assert first["actions"] == [["write", path] for path in files.values()]
    assert (second["changed"], younger["changed"], drained["changed"]) == (False, False, True)
    assert second["diff"]["before"] == second["diff"]["after"]
    told = json.loads(Path(files["json"]).read_text())
    assert told["nodes"][0]["drained"] == "it is drained since 2026-01-01T00:00:00Z (x)"
    # Sizes are brought up to date without being a change.
    assert told["nodes"][0]["cache"]["bytes"] == 0
    assert Path(files["text"]).read_text() == drained["text"]


def test_halves_of_characters_come_to_no_file(reporting, tmp_path):
    files = {kind: tmp_path / f"farm.{kind}" for kind in FORMATS}
    engine = Engine()
    engine.drained = [{"CreatedAt": "", "Labels": {"com.github.buildfarm.multiarch.drained": "a\ud800b"}}]
    with serving(engine) as url:
        reporting(endpoints=[url], **{kind: str(path) for kind, path in files.items()})
    assert json.loads(files["json"].read_text())["nodes"][0]["drained"].endswith("(a?b)")
    assert all(path.read_text() for path in files.values())


def test_the_file_of_something_else_is_replaced(report, tmp_path):
    assert fingerprint_in("html", None) is None
    assert fingerprint_in("html", b"something else") is None
    # Errors and steps have digests too.
    node = {**report["nodes"][0], "status": "stopped", "error": f"no sha256:{'0' * 64}"}
    told = {**report, "nodes": [node], "attention": [{"kind": "buildkit", "subject": "a", "text": node["error"]}]}
    for kind, render in RENDERERS.items():
        assert fingerprint_in(kind, render(told).encode()) == report["fingerprint"], kind


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"timeout": 0}, "timeout is 0; wanted seconds, more than 0"),
        ({"builds": -1}, "builds is -1; wanted a number of builds"),
        ({"hosts": {"a": 5}}, "hosts: a: wanted a dictionary with handlers or df"),
        ({"html": "/a", "text": "/a"}, "/a is the file of two formats"),
        ({"endpoints": ["ftp://x"]}, "ftp"),
    ],
)
def test_what_cannot_be_meant(params, message):
    with pytest.raises(FarmError, match=re.escape(message)):
        Declaration.from_params({**PARAMS, **params})


def test_there_is_nothing_to_report(reporting, tmp_path):
    with pytest.raises(FarmError, match=r"there is nothing to report: .* has no builders; name the nodes' engines"):
        reporting()
    for images in ([], ["registry.example.com/app:1"]):
        with pytest.raises(FarmError, match="has no builder of the name other"):
            reporting(builder="other", images=images)
    with serving(Engine()) as url, pytest.raises(FarmError, match="cannot be written: No such file or directory"):
        reporting(endpoints=[url], html=str(tmp_path / "none/farm.html"))


def test_marks_name_builders():
    class Talk:
        def request(self, method, path):
            label = "io.github.buildfarm.multiarch"
            several = [("n", "a", "farm"), ("n", "b", "other"), ("m", "a", None)]
            volumes = [
                {"Labels": {f"{label}.node": node, f"{label}.controller": who, f"{label}.builder": builder}}
                for node, who, builder in several
            ]
            del volumes[2]["Labels"][f"{label}.builder"]
            return 200, json.dumps({"Volumes": volumes}).encode()

    found = {node: {who: one.builder for who, one in several.items()} for node, several in marks(Talk()).items()}
    assert found == {"n": {"a": "farm", "b": "other"}, "m": {"a": ""}}
