# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._buildx.store import (
    Instance,
    Node,
    Store,
    StoreConflict,
    StoreError,
    TruncatedInstance,
    pins_by_platform,
    validate_name,
)
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._platform.platform import Platform

FIXTURES = Path(__file__).parents[2] / "fixtures"
FARM = Instance("Farm", "docker-container", (Node("a", "tcp://a:2376", (Platform("linux", "arm", "v7"),)),))


@pytest.mark.parametrize(
    "path", sorted(FIXTURES.glob("buildx-*/instance-*.json")), ids=lambda path: "/".join(path.parts[-2:])
)
def test_what_buildx_wrote_is_written_again_byte_for_byte(path):
    content = path.read_bytes()
    assert Instance.from_json(content, str(path)).to_json() == content


def node(**raw):
    content = json.dumps({"Name": "n", "Nodes": [{"Name": "a", "Endpoint": "ctx", **raw}]}).encode()
    return Instance.from_json(content, "f").nodes[0]


@pytest.mark.parametrize(
    ("raw", "field", "expected"),
    [
        ({"Platforms": None}, "platforms", None),
        ({"Platforms": []}, "platforms", ()),
        (
            {"Platforms": [{"architecture": "arm64", "os": "linux", "variant": "v8"}]},
            "platforms",
            (Platform("linux", "arm64"),),
        ),
        # v0.2 wrote texts, v0.3 to v0.6 a path on the client, and no field of today's.
        ({"Platforms": ["linux/arm64"]}, "platforms", (Platform("linux", "arm64"),)),
        ({"ConfigFile": "/etc/b.toml"}, "extra", {"ConfigFile": "/etc/b.toml"}),
        ({}, "files", None),
        ({}, "flags", None),
        ({"Files": {"a": "YQ=="}}, "files", {"a": b"a"}),
        ({"Files": {}}, "files", {}),
        ({"Flags": []}, "flags", ()),
        ({"DriverOpts": {"b": "1", "a": "2"}}, "driver_opts", {"a": "2", "b": "1"}),
        ({"Future": [1]}, "extra", {"Future": [1]}),
    ],
)
def test_every_schema_is_read(raw, field, expected):
    assert getattr(node(**raw), field) == expected


@pytest.mark.parametrize("content", [b"", b"{", b'{"Name":"far', b"\xff\xfe", b"\0" * 9])
def test_a_truncated_file_is_told_apart(content):
    with pytest.raises(TruncatedInstance, match="/b/instances/farm: not JSON"):
        Instance.from_json(content, "/b/instances/farm")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[]", "wanted an object, found list"),
        (b'{"Nodes": {}}', "Nodes: wanted list, found dict"),
        (b'{"Nodes": [1]}', "Nodes: wanted objects"),
        (b'{"Nodes": [{"Platforms": [1]}]}', "Platforms: wanted objects"),
        (b'{"Nodes": [{"Platforms": [{"os": "linux", "architecture": "z80"}]}]}', "unknown architecture 'z80'"),
        (b'{"Nodes": [{"Files": {"a": "?"}}]}', "Files, a: wanted base64"),
        (b'{"Nodes": [{"Endpoint": 1}]}', "Endpoint: wanted str, found int"),
    ],
)
def test_a_foreign_file_is_refused(content, message):
    with pytest.raises(StoreError) as caught:
        Instance.from_json(content, "/b/instances/farm")
    assert not isinstance(caught.value, TruncatedInstance)
    assert (
        caught.value.message.startswith("/b/instances/farm: not a builder that buildx wrote")
        and message in caught.value.message
    )


def test_builders_are_written_found_and_removed(tmp_path):
    store = Store(tmp_path / "buildx")
    assert (store.names(), store.get("farm"), store.current().name, store.default("x")) == ((), None, "", "")
    content = store.write(FARM, None)
    assert store.get("FARM") == FARM and store.names() == ("farm",)
    path = store.path("Farm")
    assert path.read_bytes() == content and stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "buildx").stat().st_mode) == 0o700
    (tmp_path / "buildx/refs/Farm/a").mkdir(parents=True)
    (tmp_path / "buildx/activity").mkdir()
    (tmp_path / "buildx/activity/Farm").touch()
    store.remove("Farm", content)
    assert store.names() == () and not (tmp_path / "buildx/refs/Farm").exists()
    assert os.listdir(tmp_path / "buildx/activity") == []


def test_a_change_meanwhile_is_not_overwritten(tmp_path):
    store = Store(tmp_path)
    first = store.write(FARM, None)
    for change in (
        lambda: store.write(FARM, None),
        lambda: store.restore("farm", b"other", first),
        lambda: store.remove("farm", None),
    ):
        with pytest.raises(StoreConflict, match="changed by another process"):
            change()
    assert store.read("farm") == first


def test_a_lock_that_is_held_is_waited_for_and_named(tmp_path):
    store = Store(tmp_path)
    hold = "import fcntl, sys, time; f = open(sys.argv[1], 'w'); fcntl.flock(f, 2); print(1, flush=True); time.sleep(9)"
    process = subprocess.Popen([sys.executable, "-c", hold, str(tmp_path / ".lock")], stdout=subprocess.PIPE)
    try:
        process.stdout.readline()
        with pytest.raises(StoreError, match=r"\.lock: another process held the lock for 0.2 seconds"), store.lock(0.2):
            pass
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    with store.lock(1):
        pass


def test_the_current_builder_is_read_whatever_is_there(tmp_path):
    store = Store(tmp_path)
    (tmp_path / "current").write_text('{"Key":"ctx","Name":"farm","Global":true}')
    assert (store.current().key, store.current().name, store.current().is_global) == ("ctx", "farm", True)
    (tmp_path / "current").write_text("{")
    assert store.current().name == ""


def test_the_store_is_where_buildx_looks(monkeypatch, tmp_path):
    monkeypatch.delenv("BUILDX_CONFIG", raising=False)
    assert Store.of({"docker_config": str(tmp_path)}).directory == tmp_path / "buildx"
    monkeypatch.setenv("BUILDX_CONFIG", str(tmp_path / "elsewhere"))
    assert Store.of({"docker_config": str(tmp_path)}).directory == tmp_path / "elsewhere"


@pytest.mark.parametrize("name", ["", "1a", "-a", "a/b", "a b", "a\n", "ä"])
def test_names_that_buildx_refuses(name):
    with pytest.raises(FarmError, match="builder"):
        validate_name(name, "builder")


def test_pins_are_gathered_in_order():
    amd64 = Platform("linux", "amd64")
    nodes = (Node("b", "b", (amd64,)), Node("a", "a", None), Node("c", "c", (amd64,)))
    assert pins_by_platform(nodes) == {amd64: ("b", "c")}
