# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import gzip
import io
import json
import tarfile
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._builder import containers as _containers
from ansible_collections.buildfarm.multiarch.plugins.module_utils._builder.containers import (
    Engines,
    read_container,
    read_files,
)
from ansible_collections.buildfarm.multiarch.plugins.module_utils._builder.drift import DEFAULT_IMAGE, drift
from ansible_collections.buildfarm.multiarch.plugins.module_utils._builder.model import Container
from ansible_collections.buildfarm.multiarch.plugins.module_utils._buildx.store import Node
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.quantities import parse_size
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker import client
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker.client import Conversation
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker.drain import LABEL
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker.endpoint import Endpoint
from ansible_collections.buildfarm.multiarch.plugins.module_utils._platform.platform import Platform
from ansible_collections.buildfarm.multiarch.tests.unit.engines import FakeEngine, serving

FIXTURES = Path(__file__).parents[2] / "fixtures"
ENGINES = ("20.10.24", "26.1.5", "28.5.2")
NETWORK = "--allow-insecure-entitlement=network.host"
IMAGE = "registry.farm.test:5000/moby/buildkit:buildx-stable-1"
HERE = Endpoint.parse("tcp://mid1:2375")


class Engine(Conversation):
    """An engine that answers with what was recorded."""

    def __init__(self, answers):
        super().__init__(None)
        self.answers, self.requested = answers, []

    def request(self, method, path):
        self.requested.append(f"{method} {path}")
        status, body = self.answers.get(path.partition("?")[0], (404, b'{"message":"no such thing"}'))
        return status, body if isinstance(body, bytes) else json.dumps(body).encode()


def recorded(version):
    return json.loads((FIXTURES / f"docker-{version}/buildkit-container.json").read_text())


def node(**settings):
    return Node("n", "tcp://mid1:2375", None, {"image": IMAGE, "network": "host", **settings}, (NETWORK,))


@pytest.mark.parametrize("version", ENGINES)
def test_a_container_that_buildx_made_is_as_defined(version):
    raw = recorded(version)
    (path,) = (item for item in raw["Config"]["Env"] if item.startswith("PATH="))
    image = f"/images/{quote(raw['Image'])}/json"
    at = Engine(
        {
            "/containers/buildx_buildkit_n/json": (200, raw),
            image: (200, {"Config": {"Env": [path, "GODEBUG=1"]}}),
        }
    )
    policy = {"restart-policy": "on-failure:3"} if version == "28.5.2" else {}
    definition = node(**{"env.A": "b", **policy})
    container = read_container(at, HERE, [definition])
    assert drift(definition, container) == ()
    assert container.identifier == raw["Id"]
    # What the image sets is asked for only where the environment has more than what is declared.
    assert len(at.requested) == 1
    without = node(**policy)
    assert drift(without, read_container(at, HERE, [without])) == ("env.A",)
    assert len(at.requested) == 3
    # An image that was removed under its container is no reason to make that anew.
    del at.answers[image]
    assert drift(without, read_container(at, HERE, [without])) == ()


def test_no_container():
    assert read_container(Engine({}), HERE, [node()]) is None


def test_files_are_read_where_there_are_any():
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in (("buildkit/buildkitd.toml", b"debug = true"), ("buildkit/certs/r/ca.pem", b"CA")):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    at = Engine(
        {
            "/containers/buildx_buildkit_n/json": (200, recorded("26.1.5")),
            "/containers/buildx_buildkit_n/archive": (200, packed.getvalue()),
        }
    )
    assert read_container(at, HERE, [node()]).files == {}
    with_files = replace(node(), files={"buildkitd.toml": b""})
    found = read_container(at, HERE, [node(), with_files])
    assert found.files == {"buildkitd.toml": b"debug = true", "certs/r/ca.pem": b"CA"}
    assert at.requested[-1] == "GET /containers/buildx_buildkit_n/archive?path=/etc/buildkit"


def test_files_that_are_larger_than_what_came_are_not_read():
    header = bytearray(tarfile.TarInfo("buildkit/holes").tobuf(tarfile.GNU_FORMAT))
    # A file with holes alone, 64 MiB (tar's manual, "Old GNU Format").
    header[156:157], header[483:495] = tarfile.GNUTYPE_SPARSE, b"%012o" % (1 << 26)
    header[148:156] = b"%06o\0 " % sum((*header[:148], *b" " * 8, *header[156:]))
    at = Engine({"/containers/c/archive": (200, bytes(header) + bytes(1024))})
    assert read_files(at, "c") == {}
    at.answers["/containers/c/archive"] = (200, gzip.compress(bytes(header) + bytes(1024)))
    with pytest.raises(FarmError, match="/etc/buildkit of container c cannot be read"):
        read_files(at, "c")


GOOD = Container(
    running=True,
    image=DEFAULT_IMAGE,
    args=(NETWORK,),
    limits={"NetworkMode": "default", "RestartPolicy": {"Name": "unless-stopped"}, "CgroupParent": "/docker/buildx"},
)


def limits(**changed):
    return replace(GOOD, limits={**GOOD.limits, **changed})


@pytest.mark.parametrize(
    ("options", "container", "expected"),
    [
        ({}, GOOD, ()),
        ({"default-load": "true"}, GOOD, ()),
        ({}, replace(GOOD, restarting=True), ("restarting",)),
        ({"image": "docker.io/moby/buildkit:buildx-stable-1"}, GOOD, ()),
        ({"image": "x"}, replace(GOOD, image="docker.io/library/x:latest"), ()),
        ({"image": "r:5000/x"}, replace(GOOD, image="r:5000/x:latest"), ()),
        ({"image": "x@sha256:a"}, replace(GOOD, image="x@sha256:b"), ("image",)),
        ({"image": "x:2"}, replace(GOOD, image="x:1"), ("image",)),
        ({}, replace(GOOD, image="x:1"), ("image",)),
        ({}, replace(GOOD, args=()), ("flags",)),
        ({}, replace(GOOD, args=("--debug", NETWORK)), ("flags",)),
        # buildx before 0.13 gives the flag a second time.
        ({"network": "host"}, replace(limits(NetworkMode="host"), args=(NETWORK, NETWORK)), ()),
        ({"network": "host"}, GOOD, ("network",)),
        ({}, limits(NetworkMode="host"), ("network",)),
        ({}, limits(NetworkMode="bridge"), ()),
        ({"memory": "1g"}, limits(Memory=1 << 30, MemorySwap=2 << 30), ()),
        ({"memory": "1g"}, limits(Memory=1 << 30, MemorySwap=-1), ()),
        ({"memory": "1g"}, GOOD, ("memory",)),
        ({"memory": "1g", "memory-swap": "3g"}, limits(Memory=1 << 30, MemorySwap=2 << 30), ("memory-swap",)),
        ({"memory": "1g", "memory-swap": "-1"}, limits(Memory=1 << 30, MemorySwap=-1), ()),
        ({}, limits(Memory=5), ("memory",)),
        ({"memory": "1g"}, replace(GOOD, unsupported=frozenset(["memory"])), ()),
        ({"cpu-quota": "5", "cpu-period": "6", "cpu-shares": "7"}, limits(CpuQuota=5, CpuPeriod=6, CpuShares=7), ()),
        ({"cpu-quota": "5"}, limits(CpuQuota=6), ("cpu-quota",)),
        ({"cpuset-cpus": "0-3"}, limits(CpusetCpus="0-3"), ()),
        ({"cpuset-mems": "0"}, GOOD, ("cpuset-mems",)),
        ({"cgroup-parent": "/x"}, limits(CgroupParent="/x"), ()),
        ({"cgroup-parent": "/x"}, limits(CgroupParent=""), ()),
        ({"cgroup-parent": "/x"}, GOOD, ("cgroup-parent",)),
        ({}, limits(RestartPolicy={"Name": "no"}), ()),
        ({}, limits(RestartPolicy={"Name": "always"}), ("restart-policy",)),
        ({"restart-policy": "always"}, limits(RestartPolicy={"Name": "always"}), ()),
        (
            {"restart-policy": "on-failure:2"},
            limits(RestartPolicy={"Name": "on-failure", "MaximumRetryCount": 3}),
            ("restart-policy",),
        ),
        ({"restart-policy": "no"}, limits(RestartPolicy={"Name": ""}), ()),
        ({"env.A": "b"}, replace(GOOD, env={"A": "b"}), ()),
        ({"env.A": "b"}, replace(GOOD, env={"A": "c", "D": "e"}), ("env.A", "env.D")),
        ({"image": "x:2", "memory": "1g", "env.A": "b"}, GOOD, ("image", "memory", "env.A")),
    ],
)
def test_every_setting_is_compared(options, container, expected):
    assert drift(Node("n", "e", None, options, (NETWORK,)), container) == expected


def test_files_are_compared_and_those_of_others_left_alone():
    files = {"buildkitd.toml": b"debug = true"}
    configured = Node("n", "e", None, None, (NETWORK,), files)
    with_config = replace(GOOD, args=("--config", "/etc/buildkit/buildkitd.toml", NETWORK))
    assert drift(configured, replace(with_config, files={**files, "provenance.d/x.json": b"{}"})) == ()
    assert drift(configured, replace(with_config, files={"buildkitd.toml": b"debug = false"})) == ("files",)
    assert drift(configured, GOOD) == ("flags", "files")
    assert drift(replace(configured, files=None), with_config) == ("flags",)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *(("0", 0), ("512m", 512 << 20), ("1.5g", 3 << 29), ("2GiB", 2147483648), ("10b", 10), ("-1", -1)),
        *(("3k", 3072), ("1t", 1099511627776), ("1p", 1125899906842624), (" 7 ", 7)),
    ],
)
def test_sizes(text, expected):
    assert parse_size(text) == expected


@pytest.mark.parametrize("text", ["", "m", "1x", "-2", "1 000"])
def test_what_is_no_size(text):
    with pytest.raises(FarmError, match="is no size"):
        parse_size(text)


@pytest.fixture
def engine(monkeypatch):
    """Give the module an engine with these answers."""

    def make(answers):
        at = Engine(answers)

        @contextmanager
        def conversation(_endpoint, _contexts, _timeout=60, timeout=60):
            yield at

        monkeypatch.setattr(_containers, "conversation", conversation)
        return at

    return make


@pytest.mark.parametrize(("status", "fine"), [(204, True), (404, True), (409, False), (500, False)])
def test_removal(engine, status, fine):
    at = engine({"/containers/buildx_buildkit_n": (status, {"message": "because"})})
    if fine:
        Engines(None, 5).remove_container(node())
    else:
        with pytest.raises(FarmError, match=r"tcp://mid1:2375: could not remove buildx_buildkit_n: because \(HTTP"):
            Engines(None, 5).remove_container(node())
    assert at.requested == ["DELETE /containers/buildx_buildkit_n?force=1&v=1"]


def test_what_somebody_else_is_removing_is_waited_for(monkeypatch):
    monkeypatch.setattr(client, "_PAUSE", 0)
    busy, gone = (409, {"message": "removal of container x is already in progress"}), (404, {"message": "no such x"})
    at = Engine({})
    monkeypatch.setattr(at, "request", lambda method, path: (at.requested.append(method), (left.pop(0)))[1])
    for left, patience, wanted in (
        ([(status, json.dumps(body).encode()) for status, body in (busy, busy, gone)], 60, 404),
        ([(409, b"volume is in use")], 60, 409),
        ([(409, b"already in progress")], 0, 409),
    ):
        assert at.delete("/containers/x", patience)[0] == wanted and left == []


class EngineOfNodes(FakeEngine):
    """An engine that answers a request, ``METHOD /path``, with what it is told, and others with 404."""

    def __init__(self, **answers):
        super().__init__()
        self.answers, self.asked = answers, []

    def answer(self, method, path, query, body, headers):
        self.asked.append(f"{method} {path}")
        return self.answers.get(self.asked[-1], (404, {"message": "no such thing"}))


def test_the_nodes_of_an_engine_are_read_over_one_connection():
    """One with a container, one whose container is gone and whose cache is not, one of which nothing is there."""
    answers = {
        "GET /version": (200, {"Os": "linux", "Arch": "arm64"}),
        "GET /containers/buildx_buildkit_a/json": (200, recorded("28.5.2")),
        "GET /volumes": (200, {"Volumes": [{"CreatedAt": "noon", "Labels": {LABEL: "disk"}}]}),
        "GET /volumes/buildx_buildkit_b_state": (200, {}),
        "GET /containers/buildx_buildkit_d/json": (500, {"message": "layer does not exist"}),
        "GET /containers/buildx_buildkit_e/json": (500, b"no JSON "),
    }
    at = EngineOfNodes(**answers)
    with serving(at) as url:
        nodes = {(name, url): [Node(name, url, None, {"image": IMAGE})] for name in "abcde"}
        found = {key[0]: state for key, state in Engines(None, 5).read(Endpoint.parse(url), nodes).items()}
    assert {state.native for state in found.values()} == {Platform("linux", "arm64")}
    assert all(state.known for state in found.values())
    assert found["a"].drained == "it is drained since noon (disk)"
    assert {name: (state.status, state.cache) for name, state in found.items()} == {
        "a": ("running", False),
        "b": ("missing", True),
        "c": ("missing", False),
        "d": ("unreachable", False),
        "e": ("unreachable", False),
    }
    assert [found[name].error.partition("failed: ")[2] for name in "de"] == [
        "layer does not exist (HTTP 500)",
        "no JSON (HTTP 500)",
    ]
    assert at.asked[0] == "GET /version"
    assert "GET /volumes/buildx_buildkit_a_state" not in at.asked, "a cache that a container uses is none that is left"


def test_an_engine_that_takes_its_time_is_waited_for():
    class Slow(EngineOfNodes):
        def answer(self, *request):
            time.sleep(0.3)
            return super().answer(*request)

    at = Slow(**{"GET /version": (200, {"Os": "linux", "Arch": "arm64"})})
    with serving(at) as url:
        assert Engines(None, 9).read(Endpoint.parse(url), {}) == {}
        with pytest.raises(FarmError, match=r"no answer within 0\.1 s"):
            Engines(None, 0.1).read(Endpoint.parse(url), {})


@pytest.mark.parametrize("status", [200, 204, 304, 404, 403, 409, 500])
@pytest.mark.parametrize(
    ("change", "request_made", "what"),
    [
        ("remove_container", "DELETE /containers/buildx_buildkit_n", "remove buildx_buildkit_n"),
        ("remove_cache", "DELETE /volumes/buildx_buildkit_n_state", "remove volume buildx_buildkit_n_state"),
        ("stop_container", "POST /containers/buildx_buildkit_n/stop", "stop buildx_buildkit_n"),
        ("pause_container", "POST /containers/buildx_buildkit_n/pause", "pause buildx_buildkit_n"),
        ("unpause_container", "POST /containers/buildx_buildkit_n/unpause", "unpause buildx_buildkit_n"),
    ],
)
def test_changes_of_a_node(change, request_made, what, status):
    """Only what is done already may go on without being done."""
    marks = {"GET /volumes": (200, {"Volumes": [{"Name": "m"}]}), "DELETE /volumes/m": (204, None)}
    at = EngineOfNodes(**{**marks, request_made: (status, {"message": "in use"} if status >= 400 else None)})
    with serving(at) as url:
        changing = getattr(Engines(None, 5), change)
        if status in (200, 204, 304, 404):
            changing(replace(node(), endpoint=url))
        else:
            with pytest.raises(FarmError, match=f"could not {what}: in use \\(HTTP {status}\\)"):
                changing(replace(node(), endpoint=url))
    assert at.asked[0] == request_made
    # Who removes a cache no longer says that it is used.
    removed = change == "remove_cache" and status in (200, 204, 304, 404)
    assert at.asked[1:] == ["GET /volumes", "DELETE /volumes/m"] * removed


@pytest.mark.parametrize(
    ("change", "request_made", "answer"),
    [
        ("unpause_container", "POST /containers/buildx_buildkit_n/unpause", "Container 5ea is not paused"),
        ("pause_container", "POST /containers/buildx_buildkit_n/pause", "Container 5ea is already paused"),
    ],
)
def test_what_is_paused_or_goes_on_already_is_no_failure(change, request_made, answer):
    """Engines answer so with 500, and with 409."""
    at = EngineOfNodes(**{request_made: (500, {"message": answer})})
    with serving(at) as url:
        getattr(Engines(None, 5), change)(replace(node(), endpoint=url))
        at.answers[request_made] = (409, {"message": "Container 5ea is not running"})
        with pytest.raises(FarmError, match="is not running"):
            getattr(Engines(None, 5), change)(replace(node(), endpoint=url))


def test_limits_that_an_engine_cannot_set_do_not_count():
    raw = recorded("28.5.2")
    at = Engine(
        {
            "/containers/buildx_buildkit_n/json": (200, raw),
            "/info": (200, {"MemoryLimit": False, "CPUSet": True, "SwapLimit": False}),
        }
    )
    options = {"memory": "1g", "cpuset-cpus": "0", "cpu-shares": "5", "env.A": "b"}
    assert read_container(at, HERE, [node(**options)]).unsupported == {"memory"}
    assert read_container(at, HERE, [node(), node(**{"memory-swap": "2g"})]).unsupported == {"memory-swap"}
    del at.answers["/info"]
    assert read_container(at, HERE, [node(**options)]).unsupported == frozenset()


def test_links_are_no_files():
    """An image may have some there, that lead anywhere."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, kind in (("buildkit/buildkitd.toml", tarfile.REGTYPE), ("buildkit/certs", tarfile.SYMTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/ssl/certs" if kind == tarfile.SYMTYPE else ""
            archive.addfile(member)
    archived = {"/containers/buildx_buildkit_n/archive": (200, packed.getvalue())}
    assert read_files(Engine(archived), "buildx_buildkit_n") == {"buildkitd.toml": b""}


def test_files_that_cannot_be_read_are_none():
    at = Engine({"/containers/buildx_buildkit_n/json": (200, recorded("26.1.5"))})
    assert read_container(at, HERE, [replace(node(), files={"buildkitd.toml": b""})]).files == {}


@pytest.mark.parametrize(
    ("looks", "restarting"),
    [
        # The engine starts it again, and it stays.
        (["again", "again", 1], False),
        # It ends again and again, and runs between.
        (["again", 1, 2, 3, "again"], True),
        (["again", 1, "gone"], None),
    ],
)
def test_one_that_the_engine_is_about_to_start_is_waited_for(monkeypatch, looks, restarting):
    monkeypatch.setattr(f"{Engines.__module__}._PAUSE", 0)
    clock = iter(range(100))
    monkeypatch.setattr("time.monotonic", lambda: next(clock))

    class Changing(Engine):
        def request(self, method, path, *more, **others):
            look = looks.pop(0) if len(looks) > 1 else looks[0]
            if look == "gone":
                return 404, b"{}"
            state = {"Running": True, "Restarting": look == "again"}
            raw = {**recorded("26.1.5"), "State": state, "RestartCount": 7 if look == "again" else look}
            return 200, json.dumps(raw).encode()

    found = read_container(Changing({}), HERE, [node()])
    assert (found.restarting if found else None) == restarting


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ({"Running": True}, (True, False, False)),
        ({"Running": True, "Restarting": True}, (True, True, False)),
        ({"Running": True, "Paused": True}, (True, False, True)),
        ({"Running": False}, (False, False, False)),
        ({}, (False, False, False)),
    ],
)
def test_states_of_containers(monkeypatch, state, expected):
    monkeypatch.setattr(f"{Engines.__module__}._SETTLES", 0)
    raw = {**recorded("26.1.5"), "State": state}
    found = read_container(Engine({"/containers/buildx_buildkit_n/json": (200, raw)}), HERE, [node(**{"env.A": "b"})])
    assert (found.running, found.restarting, found.paused) == expected


def test_a_container_without_command_and_limits():
    raw = recorded("26.1.5")
    raw = {**raw, "Config": {**raw["Config"], "Cmd": None, "Env": None, "Image": None}, "HostConfig": None}
    found = read_container(Engine({"/containers/buildx_buildkit_n/json": (200, raw)}), HERE, [node()])
    assert (found.args, found.env, found.image, found.limits) == ((), {}, "", {})
