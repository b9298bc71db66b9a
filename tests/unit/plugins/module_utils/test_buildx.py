# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._buildx.cli import (
    BootProgress,
    Buildx,
    parse_boot_errors,
    parse_inspect,
    parse_version,
    without_secrets,
)
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.runner import CommandError, Result, run
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker import config as _docker_config
from ansible_collections.buildfarm.multiarch.plugins.module_utils._platform.platform import Platform

FIXTURES = Path(__file__).parents[2] / "fixtures"
VERSIONS = ("0.13.1", "0.29.1")
#: By which buildx takes the arguments that it gets for those of a plugin.
STARTED = {"DOCKER_CLI_PLUGIN_ORIGINAL_CLI_COMMAND": "docker"}


def recorded(version, name):
    return (FIXTURES / f"buildx-{version}" / name).read_text()


@pytest.mark.parametrize("version", VERSIONS)
def test_inspect_is_read(version):
    found = parse_inspect(recorded(version, "inspect-three-nodes.txt"))
    assert [(node.name, node.endpoint, node.status, node.version) for node in found.nodes] == [
        (name, f"tcp://{name}:2375", "running", "v0.25.2") for name in ("mid1", "mid2", "new1")
    ]
    # Pins come first, and the star is no part of a platform.
    assert [node.platforms[0] for node in found.nodes][:2] == [Platform("linux", "amd64"), Platform("linux", "arm64")]
    assert Platform("linux", "386") in found.nodes[2].platforms
    assert found.error == "" and found.node("nothing") is None


@pytest.mark.parametrize("version", VERSIONS)
def test_a_node_that_failed_is_found_though_buildx_exits_with_0(version):
    found = parse_inspect(recorded(version, "boot-unreachable.out.txt"))
    assert [node.status for node in found.nodes] == ["running", "error", "running"]
    assert "Cannot connect to the Docker daemon at tcp://mid2:1" in found.nodes[1].error


def test_errors_of_several_lines_and_of_the_whole_builder():
    found = parse_inspect("Name:   b\nDriver: x\nError:  first\nsecond: line\n\n")
    assert (found.error, found.nodes) == ("first second: line", ())
    assert parse_inspect("").nodes == ()


def test_steps_of_a_start_are_told_as_they_begin():
    progress = BootProgress()
    lines = """#1 [a internal] booting buildkit
#1 pulling image r/i:1

#2 [b internal] booting buildkit
#2 pulling image r/i:1 0.1s done
#2 ...

#1 [a internal] booting buildkit
#1 pulling image r/i:1 2.1s done
#1 creating container buildx_buildkit_a
#1 0.123 something that it prints
#1 creating container buildx_buildkit_a 0.5s done
#1 DONE 2.6s
#2 ERROR: no such image
------
 > [b internal] booting buildkit:
""".splitlines()
    assert [step for step in map(progress.read, lines) if step] == [
        ("a", "booting buildkit"),
        ("a", "pulling image r/i:1"),
        ("b", "booting buildkit"),
        ("b", "pulling image r/i:1"),
        ("a", "creating container buildx_buildkit_a"),
    ]
    assert progress.errors == {"b": "no such image"}


@pytest.mark.parametrize("version", VERSIONS)
def test_reasons_are_read_from_the_progress(version):
    two = parse_boot_errors(recorded(version, "boot-two-fail.err.txt"))
    assert sorted(two) == ["x1", "x2"] and "no/such:image not found" in two["x1"] and "no/such:other" in two["x2"]
    assert list(parse_boot_errors(recorded(version, "boot-one-fails.err.txt"))) == [""]


def test_options_and_files_are_left_out_of_what_is_shown():
    files = "File#certs/r/key.pem:\n > KEY\n > \n"
    printed = f'Name: a\nDriver Options: env.A="secret"\nStatus: running\n{files}Name: b\nLabels:\n x: y\n'
    assert without_secrets(printed) == "Name: a\nStatus: running\nName: b\nLabels:\n x: y\n"
    shown = without_secrets(recorded("0.29.1", "inspect-three-nodes.txt"))
    assert "env.A" not in shown and "debug" not in shown and shown.count("BuildKit version") == 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("github.com/docker/buildx 0.13.1+ds1 0.13.1+ds1-3\n", (0, 13, 1)),
        ("github.com/docker/buildx v0.29.1 a1b2c3", (0, 29, 1)),
        ("github.com/docker/buildx v0.5.1-docker 11057da37336192bfc57d81e02359ba7ba848e4a", (0, 5, 1)),
        ("github.com/docker/buildx v0.9 x", (0, 9, 0)),
        ("github.com/docker/buildx a-branch x", (9999, 0, 0)),
        ("", (9999, 0, 0)),
    ],
)
def test_versions(text, expected):
    assert parse_version(text) == expected


def test_floors_and_what_is_handed_on():
    calls = []

    def runner(argv, **options):
        calls.append((argv, options["env"]))
        return Result(tuple(argv), 0, "github.com/docker/buildx 0.13.1 x", "")

    buildx = Buildx(runner, "/cfg")
    buildx.require("this", (0, 13, 0))
    with pytest.raises(FarmError, match=r"that needs buildx 0\.14\.0 or later, found 0\.13\.1"):
        buildx.require("that", (0, 14, 0))
    buildx.run(["ls"], env={"A": "b"})
    # The version is asked for once.
    assert calls == [
        (["docker", "buildx", "version"], {"DOCKER_CONFIG": "/cfg", **STARTED}),
        (["docker", "buildx", "ls"], {"DOCKER_CONFIG": "/cfg", "A": "b", **STARTED}),
    ]
    assert Buildx(runner).env == {}


def test_buildx_is_started_as_docker_starts_it(tmp_path, monkeypatch):
    """The first in docker's order, whether it runs or not, then what PATH has; never the docker CLI."""
    monkeypatch.setattr(_docker_config, "_SYSTEM_DIRECTORIES", (str(tmp_path / "system"),))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    calls = []

    def started():
        def runner(argv, **options):
            calls.append((argv, options["executable"], options["env"]))
            return Result(tuple(argv), 0, "", "")

        calls.clear()
        Buildx.of({"docker_config": str(tmp_path)}, runner).run(["ls"], env={"A": "b"})
        ((argv, executable, env),) = calls
        assert argv == ["docker", "buildx", "ls"]
        assert env == {"DOCKER_CONFIG": str(tmp_path), "A": "b", **STARTED}
        return executable

    def install(folder, mode=0o755):
        plugin = tmp_path / folder / "docker-buildx"
        plugin.parent.mkdir()
        plugin.write_text("#!/bin/sh\n")
        plugin.chmod(mode)
        return str(plugin)

    assert started() == "docker-buildx"
    for folder in ("bin", "system", "cli-plugins"):
        place = install(folder)
        assert started() == place
    (tmp_path / "config.json").write_text(json.dumps({"cliPluginsExtraDirs": [str(tmp_path / "extra")]}))
    assert started() == place
    extra = install("extra", mode=0o644)
    assert started() == extra
    # As docker does, without what cannot be read.
    (tmp_path / "config.json").write_text("{")
    assert started() == place


@pytest.mark.parametrize("mode", [None, 0o644])
def test_a_missing_buildx_is_named(tmp_path, monkeypatch, mode):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(_docker_config, "_SYSTEM_DIRECTORIES", ())
    name = "docker-buildx"
    if mode:
        name = tmp_path / "cli-plugins/docker-buildx"
        name.parent.mkdir()
        name.touch(mode)
    buildx = Buildx.of({"docker_config": str(tmp_path)}, run)
    for call in (buildx.version, lambda: buildx.run(["ls"])):
        with pytest.raises(CommandError) as caught:
            call()
        assert caught.value.message.startswith(f"{name}: no buildx that runs here; install the package docker-buildx")
        assert caught.value.message.endswith(": Permission denied" if mode else ": No such file or directory")


def test_a_broken_buildx_is_named():
    buildx = Buildx(lambda argv, **_options: Result(tuple(argv), 1, "", "what?"))
    with pytest.raises(CommandError, match=r"install the package docker-buildx .*: what\?"):
        buildx.version()


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("github.com/docker/buildx v0.29.1 1a2b3c", (0, 29, 1)),
        ("github.com/docker/buildx v0.29.1", (0, 29, 1)),
        ("github.com/docker/buildx 0.13", (0, 13, 0)),
        ("github.com/docker/buildx", (9999, 0, 0)),
        ("github.com/docker/buildx unknown", (9999, 0, 0)),
        ("", (9999, 0, 0)),
    ],
)
def test_versions_of_all_builds(text, version):
    assert parse_version(text) == version
