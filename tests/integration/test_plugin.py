"""buildx_plugin on hosts of three suites: packages, releases from a server that is good and bad, files, sources."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import bases
from ansible_runs import CHECKOUT, LiveFarm

#: bookworm has engine and CLI 20.10 and packages no buildx.
HOST = "old1"
#: CLIs 26.1 and 28.5, with a packaged buildx.
TRIXIE, FORKY = "ctl", "new1"
SYSTEM = "/usr/local/lib/docker/cli-plugins/docker-buildx"
PACKAGED = "/usr/libexec/docker/cli-plugins/docker-buildx"
USER = "/root/.docker/cli-plugins/docker-buildx"
FOLDER = "/srv/plugin-test"
OLD, NEW = "0.13.1", "0.29.1"


class Plugins:
    """Releases of buildx, made of Debian's packages, and the host that serves them."""

    def __init__(self, farm: LiveFarm, checksums: dict[str, str]) -> None:
        self.farm = farm
        self.checksums = checksums
        self.server = f"http://{farm.address(HOST)}:8123"

    def url(self, fault: str, version: str = OLD, arch: str = "amd64") -> str:
        return f"{self.server}/{fault}/v{version}/buildx-v{version}.linux-{arch}"

    def checksum(self, version: str = OLD, arch: str = "amd64") -> str:
        return self.checksums[f"v{version}/buildx-v{version}.linux-{arch}"]

    def requests(self) -> list[str]:
        """Take what the server was asked for since the last time."""
        return self.farm.ssh(HOST, f"cat {FOLDER}/log; : > {FOLDER}/log").splitlines()

    def run(self, host: str = HOST, **arguments: Any) -> dict[str, Any]:
        return self.farm.module(host, "buildx_plugin", **arguments)

    def runs(self, outcome: str, *declarations: dict[str, Any]) -> list[dict[str, Any]]:
        """Run the module once for each declaration, all in one play; each has to end as said, ok or ignored."""
        tasks = [
            {"name": "plugin", "buildfarm.multiarch.buildx_plugin": declaration, "ignore_errors": True}
            for declaration in declarations
        ]
        done = self.farm.play([{"hosts": HOST, "gather_facts": False, "tasks": tasks}]).tasks
        assert [task.outcome for task in done] == [outcome] * len(declarations), done
        return [task.result for task in done]

    def sources(self, host: str) -> None:
        """Put sources on a host that have no more to build than a program to hand on."""
        get = f"from urllib.request import urlretrieve; urlretrieve('{self.url('whole')}', 'program')"
        self.farm.ssh(
            host,
            f'mkdir -p {FOLDER}/sources && cd {FOLDER}/sources && python3 -c "{get}" && chmod 755 program'
            " && echo FROM scratch > Dockerfile && echo COPY program /buildx >> Dockerfile",
        )

    def used(self, host: str = HOST) -> str:
        """The version of the buildx that docker itself finds, nothing where it finds none."""
        said = self.farm.ssh(host, "docker buildx version 2>/dev/null || true").split()
        return said[1].lstrip("v").partition("+")[0] if said else ""


@pytest.fixture(scope="module")
def plugins(farm: LiveFarm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plugins]:
    """Serve the plugins of Debian's packages as if they were releases."""
    folder: Path = tmp_path_factory.mktemp("plugin")
    checksums = {}
    clean(farm)
    farm.ssh(HOST, f"mkdir -p {FOLDER}/v{OLD} {FOLDER}/v{NEW}")
    for suite, arch, version in [("trixie", "amd64", OLD), ("trixie", "arm64", OLD), ("forky", "amd64", NEW)]:
        bases.unpack(suite, [f"docker-buildx:{arch}"], folder / f"{suite}-{arch}")
        content = (folder / f"{suite}-{arch}" / PACKAGED.lstrip("/")).read_bytes()
        name = f"v{version}/buildx-v{version}.linux-{arch}"
        checksums[name] = f"sha256:{hashlib.sha256(content).hexdigest()}"
        line = f"{checksums[name][7:]} *{Path(name).name}"
        script = f"cat > {FOLDER}/{name}; echo '{line}' >> {FOLDER}/v{version}/checksums.txt"
        subprocess.run(farm.farm.ssh(HOST, script), input=content, check=True)
    server = (CHECKOUT / "tests/integration/file_server.py").read_text()
    farm.ssh(HOST, f"cat > {FOLDER}/file_server.py", stdin=server)
    farm.ssh(
        HOST,
        f"cd {FOLDER} && (setsid python3 file_server.py . 8123 >> log 2>&1 < /dev/null & echo $! > pid) && sleep 1",
    )
    yield Plugins(farm, checksums)
    farm.ssh(HOST, f"kill $(cat {FOLDER}/pid)")
    clean(farm)


def clean(farm: LiveFarm) -> None:
    for host in (HOST, TRIXIE, FORKY):
        farm.ssh(host, f"rm -rf {FOLDER} {SYSTEM} {USER}")
    # Where it is all there may be.
    farm.ssh(HOST, "rm -rf ~/.docker")


def test_a_release_goes_up_and_down(plugins: Plugins) -> None:
    """On an engine's host of 20.10, which gets no experimental setting for it."""
    mirror = f"{plugins.server}/whole"
    plugins.requests()
    predicted = plugins.run(check=True, release=OLD, mirror=mirror)
    assert plugins.requests() == [f"whole v{OLD}/checksums.txt 0"]
    versions = (OLD, NEW, OLD)
    *results, again = plugins.runs("ok", *({"release": version, "mirror": mirror} for version in (*versions, OLD)))
    for version, result in zip(versions, results):
        assert result["actions"] == [["download", plugins.url("whole", version)], ["write", USER]]
        assert result["plugin"]["checksum"] == plugins.checksum(version)
        assert result["plugin"]["version"].startswith(version)
    assert [predicted[key] for key in ("actions", "diff")] == [results[0][key] for key in ("actions", "diff")]
    assert not again["changed"] and again["diff"]["before"] == again["diff"]["after"]
    assert len(plugins.requests()) == 2 * len(versions)
    assert plugins.used() == OLD
    assert plugins.farm.ssh(HOST, "cd ~/.docker && find . -type f").split() == ["./cli-plugins/docker-buildx"]
    removed = plugins.run(state="absent")
    assert removed["actions"] == [["remove", USER]] and plugins.used() == ""
    assert not plugins.run(state="absent")["changed"]


def test_a_bad_line_is_survived(plugins: Plugins) -> None:
    size = int(plugins.farm.ssh(HOST, f"stat -c %s {FOLDER}/v{NEW}/buildx-v{NEW}.linux-amd64"))
    plugins.requests()
    plugins.run(url=plugins.url("cut", NEW), checksum=plugins.checksum(NEW), retries=1)
    starts = [int(line.split()[-1]) for line in plugins.requests()]
    assert starts == list(range(0, size, 20_000_000)) and len(starts) > 1
    assert plugins.used() == NEW
    slow = {"url": plugins.url("slow"), "checksum": plugins.checksum(), "retries": 0}
    failed = plugins.run(fails=True, timeout=1, **slow)
    assert "bytes came, then nothing for 1 s" in failed["msg"] and plugins.used() == NEW
    plugins.run(timeout=10, **slow)
    assert plugins.used() == OLD


def test_what_does_not_fit_changes_nothing(plugins: Plugins) -> None:
    release = {"release": OLD, "mirror": f"{plugins.server}/whole"}
    plugins.run(**release)
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
        ({"src": f"{FOLDER}/file_server.py"}, "and no docker CLI plugin that runs on this host"),
        ({**release, "minimum_version": "0.99"}, "is older than the wanted 0.99.0"),
    ]
    failures = plugins.runs("ignored", *(declaration for declaration, _message in expected))
    for failed, (_declaration, message) in zip(failures, expected):
        assert message in failed["msg"], failed["msg"]
    assert plugins.used() == OLD
    assert plugins.farm.ssh(HOST, "ls -A ~/.docker/cli-plugins").split() == ["docker-buildx"]


def test_a_file_is_installed_for_one_user_and_removed(plugins: Plugins) -> None:
    arguments = {"src": f"{FOLDER}/v{OLD}/buildx-v{OLD}.linux-amd64", "docker_config": f"{FOLDER}/config"}
    at = f"{FOLDER}/config/cli-plugins/docker-buildx"
    predicted = plugins.run(check=True, **arguments)
    installed = plugins.run(**arguments)
    assert predicted["diff"] == installed["diff"]
    assert installed["plugin"]["path"] == at
    plugins.farm.ssh(HOST, f"chmod 600 {at}")
    assert plugins.run(**arguments)["actions"] == [["chmod", "0755", at]]
    removed = plugins.run(state="absent", docker_config=f"{FOLDER}/config")
    assert removed["actions"] == [["remove", at]]


def test_sources_are_built_by_the_engine(plugins: Plugins) -> None:
    """By engine and CLI 20.10 without any buildx, from a directory and over git; with a packaged one by 28.5.

    What buildx's own Dockerfile is made from cannot be had here: this one puts out a program that is built already.
    """
    at = f"{FOLDER}/built/docker-buildx"
    plugins.farm.ssh(HOST, f"rm -f {USER}")
    arguments: dict[str, Any] = {"build": f"{FOLDER}/sources", "path": at}
    plugins.sources(HOST)
    predicted = plugins.run(check=True, **arguments)
    plugins.sources(FORKY)
    for host in (HOST, FORKY):
        built = plugins.run(host, **arguments)
        assert built["actions"] == [["build", f"{FOLDER}/sources"], ["write", at]]
        assert built["plugin"]["checksum"] == plugins.checksum()
        assert [predicted[key] for key in ("actions", "diff")] == [built[key] for key in ("actions", "diff")]
    assert not plugins.run(**arguments, minimum_version="0.13")["changed"]
    plugins.farm.ssh(FORKY, f"rm -rf {FOLDER}")
    plugins.farm.ssh(
        HOST,
        "apt-get -q update && apt-get -q -y install --no-install-recommends git && "
        f"cd {FOLDER}/sources && git init -q . && git add . && "
        "git -c user.name=x -c user.email=x commit -qm x && git tag v1 && "
        f"rm {at} && git daemon --base-path={FOLDER} --export-all --detach --pid-file={FOLDER}/git",
    )
    try:
        built = plugins.run(build="git://127.0.0.1/sources/.git#v1", path=at)
        assert built["plugin"]["checksum"] == plugins.checksum()
        failed = plugins.run(build="git://127.0.0.1/sources/.git#v2", path=at, minimum_version="0.99", fails=True)
        assert "the engine could not build it" in failed["msg"] and "v2" in failed["stderr"]
    finally:
        plugins.farm.ssh(HOST, f"kill $(cat {FOLDER}/git)")


def test_plugins_in_two_places(plugins: Plugins) -> None:
    """What docker finds first counts, even where it does not run; the module says so."""
    found = plugins.run(FORKY, minimum_version="0.29")
    assert (found["changed"], found["plugin"]["path"]) == (False, PACKAGED)
    refused = plugins.run(FORKY, minimum_version="0.99", fails=True)
    assert "is older than the wanted 0.99.0" in refused["msg"]
    release = {"release": OLD, "mirror": f"{plugins.server}/whole", "path": SYSTEM}
    installed = plugins.run(FORKY, **release)
    assert installed["warnings"] == [f"{SYSTEM} hides {PACKAGED} from now on"] and plugins.used(FORKY) == OLD
    assert "warnings" not in plugins.run(FORKY, **release)
    plugins.farm.ssh(FORKY, f"mkdir -p $(dirname {USER}) && echo broken > {USER} && chmod 755 {USER}")
    try:
        assert plugins.used(FORKY) == ""
        assert "docker looks no further" in plugins.run(FORKY, fails=True)["msg"]
        warned = plugins.run(FORKY, **release)["warnings"]
        assert warned == [f"{USER}: docker finds this plugin first and does not use {SYSTEM}; remove it"]
    finally:
        plugins.farm.ssh(FORKY, f"rm {USER}")
    assert plugins.run(FORKY, path=SYSTEM, state="absent")["changed"] and plugins.used(FORKY) == NEW
    plugins.farm.ssh(HOST, f"rm -f {USER}")
    assert "install the package docker-buildx" in plugins.run(fails=True)["msg"]


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
