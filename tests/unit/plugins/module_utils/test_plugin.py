# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.runner import Result
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.runner import run as run_program
from ansible_collections.buildfarm.multiarch.plugins.module_utils._platform.elf import program
from ansible_collections.buildfarm.multiarch.plugins.module_utils._plugin import source as _plugin_source
from ansible_collections.buildfarm.multiarch.plugins.module_utils._plugin import state as _plugin
from ansible_collections.buildfarm.multiarch.plugins.module_utils._plugin.apply import run
from ansible_collections.buildfarm.multiarch.plugins.module_utils._plugin.model import parse_version
from ansible_collections.buildfarm.multiarch.plugins.module_utils._plugin.steps import Staging

DEFAULTS = dict.fromkeys(["release", "url", "src", "build", "checksum", "path", "minimum_version"], None)
MIRROR = "http://mirror"


def plugin(version, experimental="false"):
    """A program that answers as buildx of that version does."""
    return f"""#!/bin/sh
case "$1" in
docker-cli-plugin-metadata) echo '{{"Version": "{version}", "Experimental": {experimental}}}' ;;
version) echo github.com/docker/buildx {version} 1a2b3c ;;
esac
"""


def checksum(text):
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


@pytest.fixture
def call(tmp_path, monkeypatch):
    """The module on a host with nothing but what the test installs, serves, and says of the docker CLI."""
    found = _plugin.plugin_candidates

    def candidates(params):
        paths = found(params)
        return tuple(tmp_path / str(path).lstrip("/") if str(path).startswith("/usr/") else path for path in paths)

    def download(url, target, timeout, retries, most=None):
        make.downloads.append(url)
        target.write(make.served[url].encode())

    def runner(argv, **options):
        if argv[0] != "docker":
            return run_program(argv, **options)
        if argv[1] == "--version":
            return Result(tuple(argv), 0, f"Docker version {make.docker}, build 1\n", "")
        make.builds.append((argv, options["env"]))
        (Path(argv[argv.index("--output") + 1].partition("dest=")[2]) / "buildx").write_text(plugin(make.built))
        return Result(tuple(argv), 0, "", "")

    def make(check=False, **params):
        given = {**DEFAULTS, "state": "present", "mirror": MIRROR, "timeout": 5, "retries": 0, **params}
        return run({"docker_config": str(tmp_path / "config"), **given}, check, runner).as_result()

    monkeypatch.setattr(_plugin, "plugin_candidates", candidates)
    monkeypatch.setattr(_plugin_source, "download", download)
    monkeypatch.setattr(_plugin_source, "plugin_in_use", lambda params: make.at)
    monkeypatch.delenv("DOCKER_CLI_EXPERIMENTAL", raising=False)
    make.config = tmp_path / "config/config.json"
    make.at = tmp_path / "config/cli-plugins/docker-buildx"
    make.local = tmp_path / "usr/local/lib/docker/cli-plugins/docker-buildx"
    make.packaged = tmp_path / "usr/libexec/docker/cli-plugins/docker-buildx"
    make.source = tmp_path / "source"
    make.served, make.downloads, make.builds = {}, [], []
    make.docker, make.built = "28.5.2", "v0.29.1"
    return make


def write(path, text, mode=0o755):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def release(call, version):
    """Serve a release as on GitHub, for two architectures; returns its URL here."""
    folder = f"{MIRROR}/v{version}"
    names = [f"buildx-v{version}.linux-amd64", f"buildx-v{version}.linux-arm64"]
    for name in names:
        call.served[f"{folder}/{name}"] = plugin(f"v{version}")
    sums = [f"{checksum(call.served[f'{folder}/{name}'])[7:]} *{name}\n" for name in names]
    call.served[f"{folder}/checksums.txt"] = "".join(sums)
    return f"{folder}/{names[os.uname().machine == 'aarch64']}"


def test_installed_upgraded_and_removed(call):
    for version in ("v0.13.1", "v0.14.0"):
        write(call.source, plugin(version), 0o600)
        predicted, result, again = (
            call(check=True, src=str(call.source)),
            call(src=str(call.source)),
            call(src=str(call.source)),
        )
        assert predicted["actions"] == result["actions"] == [["write", str(call.at)]]
        assert predicted["diff"] == result["diff"]
        assert (again["changed"], again["plugin"]["source"]) == (False, None)
        assert result["plugin"] == {
            "path": str(call.at),
            "version": version,
            "revision": "1a2b3c",
            "checksum": checksum(plugin(version)),
            "source": str(call.source),
        }
    assert call(check=True, state="absent")["changed"] and call.at.exists()
    assert call(state="absent")["actions"] == [["remove", str(call.at)]]
    assert not call(state="absent")["changed"]


def test_a_release_is_kept(call):
    for version in ("0.28.0", "0.29.1", "0.28.0"):
        url = release(call, version)
        call.downloads.clear()
        predicted = call(check=True, release=version)
        assert call.downloads == [f"{MIRROR}/v{version}/checksums.txt"]
        result = call(release=f"v{version}")
        assert predicted["actions"] == result["actions"] == [["download", url], ["write", str(call.at)]]
        assert predicted["diff"] == result["diff"]
        assert result["plugin"]["version"] == f"v{version}"
        call.downloads.clear()
        assert not call(release=version)["changed"] and not call.downloads


def test_a_package_of_the_release_will_do(call):
    write(call.packaged, plugin("0.13.1+ds1"))
    assert call(release="0.13.1")["plugin"]["path"] == str(call.packaged)
    release(call, "0.13.1")
    installed = call(release="0.13.1", path=str(call.at))
    assert installed["changed"] and installed["plugin"]["path"] == str(call.at)


def test_a_given_checksum_of_a_release_decides(call):
    url = release(call, "0.29.1")
    write(call.at, plugin("v0.29.1") + "# tampered with")
    with pytest.raises(FarmError, match=r"what came is a script of .* wanted sha256:0000"):
        call(release="0.29.1", checksum="sha256:" + "0" * 64)
    assert call(release="0.29.1", checksum=checksum(call.served[url]))["changed"]
    assert f"{MIRROR}/v0.29.1/checksums.txt" not in call.downloads


def test_what_is_new_enough_is_left(call):
    write(call.packaged, plugin("0.13.1+ds1"))
    write(call.source, plugin("v0.29.1"))
    assert not call(src=str(call.source), minimum_version="0.13")["changed"]
    assert call(src=str(call.source), minimum_version="0.14")["plugin"]["version"] == "v0.29.1"
    assert not call(src=str(call.source), minimum_version="0.14")["changed"]
    with pytest.raises(FarmError, match=r"older than the wanted 0\.30\.0"):
        call(src=str(call.source), minimum_version="0.30")


def test_sources_are_built_where_nothing_will_do(call, tmp_path):
    predicted = call(check=True, build=str(tmp_path))
    result = call(build=str(tmp_path))
    assert predicted["actions"] == result["actions"] == [["build", str(tmp_path)], ["write", str(call.at)]]
    assert predicted["diff"] == result["diff"]
    argv, env = call.builds[0]
    assert (argv[:2], argv[6:]) == (["docker", "build"], [str(tmp_path)])
    assert env == {"DOCKER_BUILDKIT": "1", "DOCKER_CONFIG": str(tmp_path / "config")}
    assert not call(build=str(tmp_path), minimum_version="0.29")["changed"] and len(call.builds) == 1
    call.built = "v0.30.0"
    assert call(build="https://host/buildx.git#v0.30.0", minimum_version="0.30")["changed"]
    assert call.builds[1][0][-2:] == ["BUILDKIT_CONTEXT_KEEP_GIT_DIR=1", "https://host/buildx.git#v0.30.0"]
    # With the one that is there, on the engine that docker talks to, whichever builder is the current one.
    assert call.builds[1][0][:5] == ["docker", "buildx", "build", "--builder", "default"]
    assert call.builds[1][1]["DOCKER_CLI_PLUGIN_ORIGINAL_CLI_COMMAND"] == "docker"
    call.built = "v0.31.0"
    write(call.config, '{"currentContext": "arm1"}', 0o600)
    assert call(build=str(tmp_path), minimum_version="0.31")["changed"]
    assert call.builds[2][0][3:5] == ["--builder", "arm1"]


@pytest.mark.parametrize(
    ("content", "params", "message"),
    [
        ("#!/bin/sh\necho no\n", {}, "a script of 18 bytes, and no docker CLI plugin that runs on this host"),
        ("\x7fELF", {}, "4 bytes that are no executable, and no docker CLI plugin"),
        ("x", {"checksum": "sha256:" + "0" * 64}, "what came is 1 bytes that are no executable with the checksum"),
        (
            "<html><title>Sign in</title>",
            {"checksum": "sha256:" + "0" * 64},
            "what came is an HTML page, 'Sign in' with the checksum",
        ),
        (plugin("v0.12.0"), {"minimum_version": "0.14"}, "is older than the wanted 0.14.0"),
    ],
)
def test_what_does_not_run_never_takes_the_place(call, content, params, message):
    write(call.at, plugin("v0.13.1"))
    before = call.at.read_bytes()
    write(call.source, content)
    with pytest.raises(FarmError) as caught:
        call(src=str(call.source), **params)
    assert message in caught.value.message
    assert call.at.read_bytes() == before and [path.name for path in call.at.parent.iterdir()] == ["docker-buildx"]


def test_another_architecture_is_not_even_started(call):
    call.source.write_bytes(program("s390x"))
    with pytest.raises(FarmError, match=r"what came is an executable for s390x of .* wanted one for linux/"):
        call(src=str(call.source))


@pytest.mark.parametrize(
    ("served", "message"),
    [
        ("<html><title>Gone</title>", "no checksum of buildx-v0.29.1.linux-.* in it, but an HTML page, 'Gone'; give"),
        (checksum("")[7:] + " *buildx-v0.29.1.linux-mips\n", "no checksum of buildx-v0.29.1.linux-"),
    ],
)
def test_a_release_without_checksum_is_refused(call, served, message):
    call.served[f"{MIRROR}/v0.29.1/checksums.txt"] = served
    with pytest.raises(FarmError, match=message):
        call(release="0.29.1")


def test_a_release_that_is_another_one_is_refused(call):
    call.served[release(call, "0.29.1")] = other = plugin("v0.28.0")
    with pytest.raises(FarmError, match=r"says that it is buildx v0\.28\.0, wanted release 0\.29\.1"):
        call(release="0.29.1", checksum=checksum(other))
    assert not call.at.exists()


def test_the_first_one_there_is_decides(call):
    with pytest.raises(FarmError, match="install the package docker-buildx"):
        call()
    write(call.packaged, plugin("v0.13.1"))
    assert call()["plugin"]["path"] == str(call.packaged)
    # As docker has it: the packaged one behind a broken one is of no use.
    write(call.at, "broken")
    with pytest.raises(
        FarmError, match=r"6 bytes that are no executable, and no docker CLI plugin .* searches no further"
    ):
        call()
    write(call.at, plugin("v0.29.1"))
    assert call(minimum_version="0.29")["plugin"]["path"] == str(call.at)
    with pytest.raises(FarmError, match=r"older than the wanted 0\.30\.0"):
        call(minimum_version="0.30")
    extra = call.config.parent / "extra"
    write(call.config, json.dumps({"cliPluginsExtraDirs": [str(extra)]}))
    write(extra / "docker-buildx", plugin("v0.30.0"))
    assert call(minimum_version="0.30")["plugin"]["path"] == str(extra / "docker-buildx")


def test_clashes_are_told(call, monkeypatch):
    def warnings(check, **params):
        defaults = {**DEFAULTS, "state": "present", "timeout": 5, "retries": 0}
        given = {**defaults, "docker_config": str(call.config.parent), **params}
        return run(given, check, run_program).warnings

    write(call.source, plugin("v0.29.1"))
    write(call.packaged, plugin("v0.13.1"))
    hides = (f"{call.local} hides {call.packaged} from now on",)
    arguments = {"src": str(call.source), "path": str(call.local)}
    assert [warnings(check, **arguments) for check in (True, False, True, False)] == [hides, hides, (), ()]
    write(call.at, plugin("v0.28.0"))
    first = (f"{call.at}: docker finds this plugin first and does not use {call.local}; remove it",)
    assert [warnings(check, **arguments) for check in (True, False)] == [first, first]
    assert warnings(False, path=str(call.local), minimum_version="0.29") == first
    write(call.source, plugin("v0.30.0"))
    assert [warnings(check, **arguments) for check in (True, False)] == [first + hides, first + hides]
    # One and the same file under two names is no clash.
    call.at.unlink()
    call.at.symlink_to(call.local)
    assert warnings(False, **arguments) == ()


@pytest.mark.parametrize(
    ("docker", "experimental", "config", "env", "expected"),
    [
        ("19.03.15", "true", None, None, "enabled"),
        ("19.03.15", "true", {"experimental": "disabled", "auths": {"r": {}}}, None, "enabled"),
        ("19.03.15", "true", {"experimental": "enabled"}, None, None),
        ("19.03.15", "true", None, "enabled", None),
        ("19.03.15", "false", None, None, None),
        ("20.10.24+dfsg1", "true", None, None, None),
        ("26.1.5", "true", {"experimental": "disabled"}, None, None),
    ],
)
def test_an_old_cli_is_told_to_run_it(call, monkeypatch, docker, experimental, config, env, expected):
    call.docker = docker
    write(call.packaged, plugin("v0.5.1-docker", experimental))
    if config is not None:
        write(call.config, json.dumps(config), 0o640)
    if env is not None:
        monkeypatch.setenv("DOCKER_CLI_EXPERIMENTAL", env)
    before = call.config.read_text() if config is not None else None
    predicted, result, again = call(check=True), call(), call()
    assert predicted == result and not again["changed"]
    if expected is None:
        assert not result["changed"] and (call.config.read_text() if call.config.exists() else None) == before
        return
    assert result["actions"] == [["write", str(call.config)]]
    assert result["diff"]["after"]["experimental"] == expected
    assert json.loads(call.config.read_text()) == {**(config or {}), "experimental": expected}
    assert call.config.stat().st_mode & 0o777 == (0o640 if config else 0o600)


def test_an_old_cli_that_is_told_not_to_is_an_error(call, monkeypatch):
    call.docker = "19.03.15"
    write(call.packaged, plugin("v0.5.1-docker", "true"))
    monkeypatch.setenv("DOCKER_CLI_EXPERIMENTAL", "disabled")
    with pytest.raises(FarmError, match=r"Docker version 19.03 runs this buildx only .* is 'disabled'; unset it"):
        call()


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"url": "https://h/x"}, "needs the checksum"),
        ({"url": "ftp://h/x", "checksum": checksum("")}, "wanted http or https"),
        ({"release": "0.29.1", "mirror": "/srv"}, "mirror /srv/v0.29.1/buildx-v0.29.1.linux-"),
        ({"release": "latest"}, "wanted a form like 0.29.1"),
        ({"src": "/x", "checksum": "md5:1"}, "wanted sha256:"),
        ({"checksum": checksum("")}, "checksum: there is nothing to compare with it"),
        ({"timeout": 0}, "timeout is 0; wanted seconds, more than 0"),
        ({"retries": -1}, "retries is -1; wanted 0 or more"),
        ({"src": "/no/such"}, "there is no such file"),
        ({"build": "/no/such"}, "there is no such directory"),
        ({"build": "https://user:pw@h/x.git"}, "build https://***@h/x.git: a password in an address stands"),
        ({"build": "https://ghp_EXAMPLEtoken@h/x.git#main"}, "build https://***@h/x.git#main: a user name without"),
        ({"build": "https://h/x.git?access_token=abc"}, "build https://h/x.git?access_token=***: its access_token"),
        ({"build": "git+ssh:/no/such user:secret@h:x"}, "***@h:x"),
        ({"build": "user:secret@h:x.git"}, "build ***@h:x.git: a password in an address stands"),
        ({"build": "/", "checksum": checksum("")}, "leave it out"),
        ({"path": "/x/buildx", "src": "/x"}, "must end in /docker-buildx"),
        ({"release": "0.29.1+ds1"}, "wanted a form like 0.29.1"),
        ({"minimum_version": "new"}, "wanted a form like 0.13"),
        ({"minimum_version": "0.29.1+ds1-3"}, "wanted a form like 0.13"),
        ({"minimum_version": "1"}, "wanted a form like 0.13"),
    ],
)
def test_what_cannot_be_meant_is_refused(call, params, message):
    with pytest.raises(FarmError) as caught:
        call(**params)
    assert message in caught.value.message


def test_secrets_of_a_url_are_not_shown(call):
    predicted = call(check=True, url="http://user:pw@h/x?token=y", checksum=checksum("x"))
    assert predicted["actions"][0] == ["download", "http://***@h/x?token=***"]
    assert "pw" not in json.dumps(predicted) and "token=y" not in json.dumps(predicted)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("v0.13.1", (0, 13, 1)),
        ("0.13.1+ds1", (0, 13, 1)),
        ("0.9", (0, 9, 0)),
        ("v0.14.0-rc1", (0, 14, 0)),
        ("main", None),
    ],
)
def test_versions(text, expected):
    assert parse_version(text) == expected


def test_a_file_that_nobody_may_execute_is_made_executable_again(call):
    write(call.source, plugin("v0.29.1"))
    call(src=str(call.source))
    call.at.chmod(0o644)
    predicted, real = call(check=True, src=str(call.source)), call(src=str(call.source))
    assert predicted["actions"] == real["actions"] == [["chmod", "0755", str(call.at)]]
    assert call.at.stat().st_mode & 0o7777 == 0o755
    assert not call(src=str(call.source))["changed"]


def test_a_plugin_without_a_revision(call):
    write(call.at, plugin("v0.29.1").replace(" 1a2b3c", ""))
    assert call()["plugin"]["revision"] is None


def test_a_build_that_puts_out_something_else_is_refused(call, tmp_path, monkeypatch):
    for files, message in (
        ((), "the build put out nothing, wanted a file"),
        (("a", "b"), "the build put out a, b, wa"),
    ):

        def runner(argv, files=files, **options):
            if argv[1] == "--version":
                return Result(tuple(argv), 0, "Docker version 28.5.2, build 1\n", "")
            for name in files:
                (Path(argv[argv.index("--output") + 1].partition("dest=")[2]) / name).touch()
            return Result(tuple(argv), 0, "", "")

        params = {**DEFAULTS, "state": "present", "mirror": MIRROR, "timeout": 5, "retries": 0, "build": str(tmp_path)}
        with pytest.raises(FarmError, match=message):
            run({"docker_config": str(call.config.parent), **params}, False, runner)
    assert not call.at.exists()


def test_files_that_cannot_be_read_are_described(tmp_path):
    assert _plugin_source.described(tmp_path / "none") == "cannot be read (No such file or directory)"
    (tmp_path / "page").write_text("<html>")
    assert _plugin_source.described(tmp_path / "page") == "an HTML page"
    assert _plugin_source.checksum_of(tmp_path / "page/below") is None
    with pytest.raises(FarmError, match="cannot be read: Is a directory"):
        _plugin_source.checksum_of(tmp_path)


def test_a_program_of_an_architecture_that_no_image_has_is_refused(call):
    call.source.write_bytes(program("amd64")[:18] + b"\xff\x00")
    with pytest.raises(FarmError, match=r"an unknown architecture \(255\) of 20 bytes, wanted one for linux/"):
        call(src=str(call.source))


def test_plugins_of_another_users_are_no_clash(call, tmp_path):
    write(call.source, plugin("v0.29.1"))
    write(call.packaged, plugin("v0.13.1"))
    given = {**DEFAULTS, "state": "present", "timeout": 5, "retries": 0, "src": str(call.source)}
    given.update(docker_config=str(call.config.parent), path=str(tmp_path / "elsewhere/docker-buildx"))
    assert run(given, True, run_program).warnings == ()


def test_a_temporary_file_goes_with_the_run_that_made_it(tmp_path):
    staging = Staging(run_program, None)
    staging.discard()
    for path in (tmp_path / "staged", tmp_path / "removed by somebody else"):
        if path.name == "staged":
            path.touch()
        staging.path = path
        staging.discard()
        assert (staging.path, path.exists()) == (None, False)
