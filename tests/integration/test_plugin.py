"""buildx_plugin on a host without buildx, from the distribution's package, a file and a real web server."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_runs import LiveFarm

# An engine of bookworm, which packages no buildx, takes trixie's.
HOST = "old1"
PATH = "/usr/local/lib/docker/cli-plugins/docker-buildx"
FOLDER = "/srv/plugin-test"


class Plugins:
    """A host without buildx, a buildx to install there, and a web server that has it."""

    def __init__(self, farm: LiveFarm, checksum: str) -> None:
        self.farm = farm
        self.checksum = checksum
        self.url = "http://127.0.0.1:8123/docker-buildx"

    def hits(self) -> int:
        """How often the web server was asked for the plugin."""
        return int(self.farm.ssh(HOST, f"grep -c 'GET /docker-buildx' {FOLDER}/log || true"))


@pytest.fixture(scope="module")
def plugins(farm: LiveFarm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plugins]:
    """The plugin copied from a host that has the package, served on another that has none."""
    copy: Path = tmp_path_factory.mktemp("plugin") / "docker-buildx"
    with copy.open("wb") as stream:
        command = farm.farm.ssh("ctl", "cat /usr/libexec/docker/cli-plugins/docker-buildx")
        subprocess.run(command, stdout=stream, check=True)
    farm.ssh(HOST, f"rm -rf {FOLDER} ~/.docker; mkdir -p {FOLDER}")
    with copy.open("rb") as stream:
        subprocess.run(farm.farm.ssh(HOST, f"cat > {FOLDER}/docker-buildx"), stdin=stream, check=True)
    farm.ssh(
        HOST,
        f"cd {FOLDER} && echo '#!/bin/sh' > script && (setsid python3 -u -m http.server 8123 --bind 127.0.0.1"
        " > log 2>&1 < /dev/null & echo $! > pid) && sleep 1",
    )
    yield Plugins(farm, f"sha256:{hashlib.sha256(copy.read_bytes()).hexdigest()}")
    farm.ssh(HOST, f"kill $(cat {FOLDER}/pid); rm -rf {FOLDER} ~/.docker {PATH}")
    shutil.rmtree(copy.parent)


def test_a_download_is_installed_once(plugins: Plugins) -> None:
    arguments = {"url": f"{plugins.url}?token=secret", "checksum": plugins.checksum, "path": PATH}
    predicted = plugins.farm.module(HOST, "buildx_plugin", check=True, **arguments)
    assert plugins.hits() == 0
    installed = plugins.farm.module(HOST, "buildx_plugin", **arguments)
    for key in ("changed", "actions", "diff"):
        assert predicted[key] == installed[key]
    assert installed["actions"] == [["download", plugins.url], ["write", PATH]]
    assert installed["plugin"]["version"].startswith("0.13.1") and installed["plugin"]["source"] == plugins.url
    assert plugins.hits() == 1
    again = plugins.farm.module(HOST, "buildx_plugin", **arguments)
    assert (again["changed"], plugins.hits()) == (False, 1)
    assert again["diff"]["before"] == again["diff"]["after"]
    assert "0.13.1" in plugins.farm.ssh(HOST, "docker buildx version")
    # The mode is part of it.
    plugins.farm.ssh(HOST, f"chmod 600 {PATH}")
    assert plugins.farm.module(HOST, "buildx_plugin", **arguments)["actions"] == [["chmod", "0755", PATH]]


def test_a_file_is_installed_for_one_user_and_removed(plugins: Plugins) -> None:
    arguments = {"src": f"{FOLDER}/docker-buildx", "docker_config": f"{FOLDER}/config"}
    predicted = plugins.farm.module(HOST, "buildx_plugin", check=True, **arguments)
    installed = plugins.farm.module(HOST, "buildx_plugin", **arguments)
    assert predicted["diff"] == installed["diff"]
    assert installed["plugin"]["path"] == f"{FOLDER}/config/cli-plugins/docker-buildx"
    removed = plugins.farm.module(HOST, "buildx_plugin", state="absent", docker_config=f"{FOLDER}/config")
    assert removed["actions"] == [["remove", f"{FOLDER}/config/cli-plugins/docker-buildx"]]
    again = plugins.farm.module(HOST, "buildx_plugin", state="absent", docker_config=f"{FOLDER}/config")
    assert not again["changed"]


def test_what_does_not_fit_changes_nothing(plugins: Plugins) -> None:
    good = {"src": f"{FOLDER}/docker-buildx", "path": PATH}
    plugins.farm.module(HOST, "buildx_plugin", **good)
    wrong = "sha256:" + "0" * 64
    for arguments, message in [
        ({"url": plugins.url, "path": PATH}, "needs the checksum"),
        ({"url": plugins.url, "path": PATH, "checksum": wrong}, f"its checksum is {plugins.checksum}, wanted {wrong}"),
        ({"url": f"{plugins.url}x", "path": PATH, "checksum": wrong}, "the server answered 404"),
        ({"url": "http://127.0.0.1:1/x", "path": PATH, "checksum": wrong}, "Connection refused"),
        ({"src": f"{FOLDER}/script", "path": PATH}, "no docker CLI plugin that runs on this host"),
        ({"src": f"{FOLDER}/nothing", "path": PATH}, "there is no such file"),
        ({**good, "version": "0.99"}, "is older than the wanted 0.99.0"),
        ({"src": f"{FOLDER}/docker-buildx", "path": "/srv/buildx"}, "must end in /docker-buildx"),
    ]:
        failed = plugins.farm.module(HOST, "buildx_plugin", fails=True, **arguments)
        assert message in failed["msg"], failed["msg"]
        assert "0.13.1" in plugins.farm.ssh(HOST, "docker buildx version")


def test_the_distributions_package_is_found(plugins: Plugins) -> None:
    found = plugins.farm.module("ctl", "buildx_plugin", version="0.13")
    assert (found["changed"], found["plugin"]["source"]) == (False, None)
    assert found["plugin"]["path"] == "/usr/libexec/docker/cli-plugins/docker-buildx"
    refused = plugins.farm.module("ctl", "buildx_plugin", version="0.14", fails=True)
    assert "is older than the wanted 0.14.0" in refused["msg"]
    plugins.farm.ssh(HOST, f"rm -f {PATH}")
    missing = plugins.farm.module(HOST, "buildx_plugin", fails=True)
    assert "install the package docker-buildx" in missing["msg"]
