"""buildx_plugin on hosts of three suites: packages, releases from a server that is good and bad, files, sources."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import pytest

from ansible_runs import LiveFarm, installing, shell, task
from buildx_releases import NEW, OLD
from release_server import FOLDER as SERVED
from release_server import Releases, served

#: bookworm has engine and CLI 20.10 and packages no buildx.
HOST = "old1"
#: CLIs 26.1 and 28.5, with a packaged buildx.
TRIXIE, FORKY = "ctl", "new1"
SYSTEM = "/usr/local/lib/docker/cli-plugins/docker-buildx"
PACKAGED = "/usr/libexec/docker/cli-plugins/docker-buildx"
USER = "/root/.docker/cli-plugins/docker-buildx"
FOLDER = "/srv/plugin-test"


#: The least that docker takes for the plugin.
PROGRAM = f"""#!/bin/sh
case $1 in
docker-cli-plugin-metadata) echo '{{"SchemaVersion": "0.1.0", "Vendor": "nobody", "Version": "v{OLD}"}}' ;;
*) echo github.com/docker/buildx v{OLD} 0 ;;
esac
"""


class Plugins:
    """The module on hosts, and the releases."""

    def __init__(self, farm: LiveFarm, releases: Releases) -> None:
        self.farm, self.releases = farm, releases
        self.server, self.url, self.checksum = releases.server, releases.url, releases.checksum

    def run(self, *tasks: dict[str, Any], host: str = HOST) -> list[dict[str, Any]]:
        """Run tasks in one play; returns their results."""
        return self.farm.tasks(host, *tasks)

    def sources(self, host: str) -> None:
        """Put sources on a host that have no more to build than a program to hand on."""
        dockerfile = "FROM scratch\nCOPY program /buildx\n"
        write = f"mkdir -p {FOLDER}/sources && cd {FOLDER}/sources && echo '{dockerfile}' > Dockerfile"
        self.farm.ssh(host, f"{write} && cat > program && chmod 755 program", stdin=PROGRAM)

    def used(self, host: str = HOST) -> str:
        """The version of the buildx that docker itself finds, nothing where it finds none."""
        return release_in(self.farm.ssh(host, "docker buildx version", check=False))


def plugin(**options: Any) -> dict[str, Any]:
    """A task of the module."""
    return task("buildx_plugin", **options)


#: Asks docker for the buildx that it finds.
USED = {**shell("docker buildx version 2>&1"), "failed_when": False}


def release_in(said: str) -> str:
    """The release in what docker says, nothing where it finds no buildx."""
    words = said.split()
    return words[1].lstrip("v").partition("+")[0] if said.startswith("github.com/docker/buildx") else ""


#: Prints what the server was asked for since the last time.
REQUESTS = shell(f"cat {SERVED}/log; : > {SERVED}/log")


@pytest.fixture(scope="module")
def plugins(farm: LiveFarm) -> Iterator[Plugins]:
    """A host that serves releases; no plugins but those of packages, before and after."""
    clean(farm)
    with served(farm, HOST) as releases:
        yield Plugins(farm, releases)
    clean(farm)


def clean(farm: LiveFarm) -> None:
    for host in (HOST, TRIXIE, FORKY):
        farm.ssh(host, f"rm -rf {FOLDER} {SYSTEM} {USER}")
    # Where it is all there may be.
    farm.ssh(HOST, "rm -rf ~/.docker")


def test_a_release_goes_up_and_down(plugins: Plugins) -> None:
    """On an engine's host of 20.10, which gets no experimental setting for it."""
    mirror = f"{plugins.server}/whole"
    versions = (OLD, NEW, OLD)
    predict = plugin(check=True, release=OLD, mirror=mirror)
    installs = [plugin(release=version, mirror=mirror) for version in (*versions, OLD)]
    _requests, predicted, of_prediction, *results, again, of_installs = plugins.run(
        REQUESTS, predict, REQUESTS, *installs, REQUESTS
    )
    assert of_prediction["stdout_lines"] == [f"whole v{OLD}/checksums.txt 0"]
    for version, result in zip(versions, results):
        assert result["actions"] == [["download", plugins.url("whole", version)], ["write", USER]]
        assert result["plugin"]["checksum"] == plugins.checksum(version)
        assert result["plugin"]["version"].startswith(version)
    assert [predicted[key] for key in ("actions", "diff")] == [results[0][key] for key in ("actions", "diff")]
    assert not again["changed"] and again["diff"]["before"] == again["diff"]["after"]
    assert len(of_installs["stdout_lines"]) == 2 * len(versions)
    assert plugins.used() == OLD
    assert plugins.farm.ssh(HOST, "cd ~/.docker && find . -type f").split() == ["./cli-plugins/docker-buildx"]
    assert plugins.farm.converge(HOST, "buildx_plugin", state="absent")["actions"] == [["remove", USER]]
    assert plugins.used() == ""


def test_a_bad_line_is_survived(plugins: Plugins) -> None:
    slow = {"url": plugins.url("slow"), "checksum": plugins.checksum(), "retries": 0}
    _requests, _cut, requests, of_cut, failed, of_failed, _slow = plugins.run(
        REQUESTS,
        plugin(url=plugins.url("cut", NEW), checksum=plugins.checksum(NEW), retries=1),
        REQUESTS,
        USED,
        plugin(fails=True, timeout=2, **slow),
        USED,
        plugin(timeout=10, **slow),
    )
    starts = [int(line.split()[-1]) for line in requests["stdout_lines"]]
    assert starts == list(range(0, plugins.releases.size(NEW), 20_000_000)) and len(starts) > 1
    assert "bytes came, then nothing for 2 s" in failed["msg"]
    assert release_in(of_cut["stdout"]) == release_in(of_failed["stdout"]) == NEW
    assert plugins.used() == OLD


def test_what_does_not_fit_changes_nothing(plugins: Plugins) -> None:
    release = {"release": OLD, "mirror": f"{plugins.server}/whole"}
    arm64 = {"url": plugins.url("whole", OLD, "arm64"), "checksum": plugins.checksum(OLD, "arm64")}
    new = {"checksum": plugins.checksum(NEW), "retries": 0}
    expected = [
        ({"url": plugins.url("wrong", NEW), **new}, "what came is an executable for amd64 of "),
        ({"url": plugins.url("stump", NEW), **new}, "20000000 of "),
        ({"url": plugins.url("page", NEW), **new}, "what came is an HTML page, '404 Not Found' with the checksum"),
        ({"url": plugins.url("whole", "1"), **new}, "the server answered 404 Not Found with an HTML page, 'Error"),
        ({"url": "http://127.0.0.1:1/x", **new}, "Connection refused"),
        (arm64, "what came is an executable for arm64 of "),
        ({"release": NEW, "mirror": f"{plugins.server}/page"}, "no checksum of buildx-v0.29.1.linux-amd64 in it"),
        ({"src": f"{SERVED}/file_server.py"}, "and no docker CLI plugin that runs on this host"),
        ({**release, "minimum_version": "0.99"}, "is older than the wanted 0.99.0"),
    ]
    refused = [plugin(fails=True, **declaration) for declaration, _message in expected]
    _installed, *failures = plugins.run(plugin(**release), *refused)
    for failed, (_declaration, message) in zip(failures, expected):
        assert message in failed["msg"], failed["msg"]
    assert plugins.used() == OLD
    assert plugins.farm.ssh(HOST, "ls -A ~/.docker/cli-plugins").split() == ["docker-buildx"]


def test_a_file_is_installed_for_one_user_and_removed(plugins: Plugins) -> None:
    config = {"docker_config": f"{FOLDER}/config"}
    arguments = {"src": f"{SERVED}/v{OLD}/buildx-v{OLD}.linux-amd64", **config}
    at = f"{FOLDER}/config/cli-plugins/docker-buildx"
    predicted, installed, _chmod, mended, removed = plugins.run(
        plugin(check=True, **arguments),
        plugin(**arguments),
        shell(f"chmod 600 {at}"),
        plugin(**arguments),
        plugin(state="absent", **config),
    )
    assert predicted["diff"] == installed["diff"]
    assert installed["plugin"]["path"] == at
    assert mended["actions"] == [["chmod", "0755", at]]
    assert removed["actions"] == [["remove", at]]


def test_sources_are_built_by_the_engine(plugins: Plugins) -> None:
    """By engine and CLI 20.10 without any buildx, from a directory and over git; with a packaged one by 28.5.

    What buildx's own Dockerfile is made from cannot be had here: this one puts out a script.
    """
    at = f"{FOLDER}/built/docker-buildx"
    plugins.farm.ssh(HOST, f"rm -f {USER}")
    arguments: dict[str, Any] = {"build": f"{FOLDER}/sources", "path": at}
    checksum = f"sha256:{hashlib.sha256(PROGRAM.encode()).hexdigest()}"
    plugins.sources(HOST)
    plugins.sources(FORKY)
    build = plugin(**arguments)
    predicted, of_old, again = plugins.run(
        plugin(check=True, **arguments), build, plugin(minimum_version="0.13", **arguments)
    )
    (of_new,) = plugins.run(build, host=FORKY)
    for built in (of_old, of_new):
        assert built["actions"] == [["build", f"{FOLDER}/sources"], ["write", at]]
        assert built["plugin"]["checksum"] == checksum
        assert [predicted[key] for key in ("actions", "diff")] == [built[key] for key in ("actions", "diff")]
    assert not again["changed"]
    plugins.farm.ssh(FORKY, f"rm -rf {FOLDER}")
    plugins.farm.ssh(
        HOST,
        f"{installing('git')} >/dev/null && cd {FOLDER}/sources && git init -q . && git add . && "
        "git -c user.name=x -c user.email=x commit -qm x && git tag v1 && "
        f"rm {at} && git daemon --base-path={FOLDER} --export-all --detach --pid-file={FOLDER}/git",
    )
    try:
        of_git, failed = plugins.run(
            plugin(build="git://127.0.0.1/sources/.git#v1", path=at),
            plugin(fails=True, build="git://127.0.0.1/sources/.git#v2", path=at, minimum_version="0.99"),
        )
        assert of_git["plugin"]["checksum"] == checksum
        assert "the engine could not build it" in failed["msg"] and "v2" in failed["stderr"]
    finally:
        plugins.farm.ssh(HOST, f"kill $(cat {FOLDER}/git)")


def test_plugins_in_two_places(plugins: Plugins) -> None:
    """What docker finds first counts, even where it does not run; the module says so."""
    release = plugin(release=OLD, mirror=f"{plugins.server}/whole", path=SYSTEM)
    found, refused, installed, now, again, _broken, no_longer, none, warned, _mended, removed = plugins.run(
        plugin(minimum_version="0.29"),
        plugin(fails=True, minimum_version="0.99"),
        release,
        USED,
        release,
        shell(f"mkdir -p $(dirname {USER}) && echo broken > {USER} && chmod 755 {USER}"),
        USED,
        plugin(fails=True),
        release,
        shell(f"rm {USER}"),
        plugin(path=SYSTEM, state="absent"),
        host=FORKY,
    )
    assert (found["changed"], found["plugin"]["path"]) == (False, PACKAGED)
    assert "is older than the wanted 0.99.0" in refused["msg"]
    assert installed["warnings"] == [f"{SYSTEM} hides {PACKAGED} from now on"] and release_in(now["stdout"]) == OLD
    assert "warnings" not in again
    assert release_in(no_longer["stdout"]) == "" and "docker searches no further" in none["msg"]
    assert warned["warnings"] == [f"{USER}: docker finds this plugin first and does not use {SYSTEM}; remove it"]
    assert removed["changed"] and plugins.used(FORKY) == NEW
    plugins.farm.ssh(HOST, f"rm -f {USER}")
    assert "install the package docker-buildx" in plugins.farm.module(HOST, "buildx_plugin", fails=True)["msg"]


def test_the_role_installs_where_the_package_is_too_old(plugins: Plugins) -> None:
    variables = {
        "buildx_minimum_version": "0.14",
        "buildx_release": NEW,
        "buildx_mirror": f"{plugins.server}/whole",
        "buildx_path": SYSTEM,
    }

    def role(**more: str) -> list[str]:
        task = {"name": "role", "ansible.builtin.import_role": {"name": "buildfarm.multiarch.buildx"}}
        play = {"hosts": TRIXIE, "gather_facts": False, "vars": {**variables, **more}, "tasks": [task]}
        return plugins.farm.play([play]).expect_success().changed

    assert plugins.used(TRIXIE) == OLD
    changed = [f"{TRIXIE}: buildfarm.multiarch.buildx : Provide the buildx plugin"]
    assert role() == changed and plugins.used(TRIXIE) == NEW
    assert role() == []
    assert role(buildx_state="absent") == changed and plugins.used(TRIXIE) == OLD
