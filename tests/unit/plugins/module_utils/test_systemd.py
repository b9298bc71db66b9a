# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.runner import Result, run
from ansible_collections.buildfarm.multiarch.plugins.module_utils._host.init import require_systemd
from ansible_collections.buildfarm.multiarch.plugins.module_utils._host.systemd import (
    Service,
    UnitFiles,
    Variable,
    environment,
    exec_start,
    read_service,
    service_name,
    split_command,
)

PACKAGED = "[Service]\nType=notify\nExecStart=/usr/sbin/dockerd -H fd:// --containerd=/run/c.sock $DOCKER_OPTS\n"


@pytest.mark.parametrize(
    ("texts", "command"),
    [
        ([PACKAGED], "/usr/sbin/dockerd -H fd:// --containerd=/run/c.sock $DOCKER_OPTS"),
        ([PACKAGED, "[Service]\nExecStart=\nExecStart=/usr/bin/dockerd --debug\n"], "/usr/bin/dockerd --debug"),
        ([PACKAGED, "[Service]\nExecStart=\n"], None),
        (
            ["[Service]\nExecStart=/usr/bin/dockerd \\\n  -H fd:// \\\n# said in between\n  --debug\n"],
            "a continued line",
        ),
        (["[Unit]\nExecStart=/wrong/section\n[Service]\n;ExecStart=/comment\nExecStartPre=/other\n"], None),
        (['[Service]\nExecStart = -/usr/bin/dockerd "--label=a b"\n'], '-/usr/bin/dockerd "--label=a b"'),
    ],
)
def test_the_last_command_counts_and_stays_as_written(texts, command):
    path, found = exec_start([(f"{number}.conf", text) for number, text in enumerate(texts)]) or (None, None)
    if command == "a continued line":
        assert found is not None
        assert found.split() == ["/usr/bin/dockerd", "-H", "fd://", "--debug"]
    else:
        assert found == command
    assert path == (f"{len(texts) - 1}.conf" if found else None)


@pytest.mark.parametrize(
    ("command", "values", "words"),
    [
        ("$OPTS", {"OPTS": "--debug --ip 1.2.3.4"}, ["--debug", "--ip", "1.2.3.4"]),
        ("$OPTS", {}, []),
        ("$OPTS", {"OPTS": "--label 'a b'"}, ["--label", "a b"]),
        ("$OPTS", {"OPTS": "--label don't"}, ["--label", "don't"]),
        ("${OPTS}", {"OPTS": "--label a"}, ["--label a"]),
        (
            "-Htcp://${IP}:2375 --ip=$IP $$IP",
            {"IP": "192.0.2.1"},
            ["-Htcp://192.0.2.1:2375", "--ip=$IP", "$IP"],
        ),
        ('"--label=a b"', {}, ["--label=a b"]),
    ],
)
def test_words_as_systemd_makes_them(command, values, words):
    variables = {name: Variable(value, "") for name, value in values.items()}
    assert split_command(f"-@/usr/sbin/dockerd -H fd:// {command}", variables)[3:] == tuple(words)
    assert split_command("-@/usr/sbin/dockerd", variables) == ("/usr/sbin/dockerd",)


ENVIRONMENT_FILE = """# DOCKER_OPTS="said in a comment"
 ; DOCKER_OPTS=and in another
DOCKER_OPTS="-H tcp://0.0.0.0:2375 -H unix:///var/run/docker.sock"
CONTINUED=one \\
  two
export NOT_ALLOWED=1
SPACED = plain 'quotes' stay
PIECES='a b'"c d"
EMPTY=
ESCAPES="a\\"b\\$c\\d"
"""


def test_what_an_environment_file_assigns(tmp_path):
    """Compared with what systemd 257 gives to a process."""
    (tmp_path / "docker").write_text(ENVIRONMENT_FILE)
    found = environment([("docker.service", f"[Service]\nEnvironmentFile=-{tmp_path}/docker\n")])
    assert {name: variable.value for name, variable in found.items()} == {
        "DOCKER_OPTS": "-H tcp://0.0.0.0:2375 -H unix:///var/run/docker.sock",
        "CONTINUED": "one   two",
        "SPACED": "plain 'quotes' stay",
        "PIECES": "a bc d",
        "EMPTY": "",
        "ESCAPES": 'a"b$c\\d',
    }
    assert found["PIECES"].source == str(tmp_path / "docker")


def test_which_file_sets_a_variable(tmp_path):
    for name in ("b.env", "a.env"):
        (tmp_path / name).write_text(f"FILE={name}\nBOTH={name}\n")
    unit = f'[Service]\nEnvironment="A=a b" BOTH=unit\nEnvironmentFile={tmp_path}/*.env\nEnvironmentFile=-/nowhere\n'
    found = environment([("unit", unit), ("drop-in", "[Service]\nEnvironment=C=c\n")])
    assert {name: (variable.value, os.path.basename(variable.source)) for name, variable in found.items()} == {
        "A": ("a b", "unit"),
        "BOTH": ("b.env", "b.env"),
        "FILE": ("b.env", "b.env"),
        "C": ("c", "drop-in"),
    }
    reset = [("unit", unit), ("drop-in", "[Service]\nEnvironment=\nEnvironmentFile=\nEnvironment=D=d\n")]
    assert list(environment(reset)) == ["D"]


def test_drop_ins_sort_by_name_and_the_first_directory_wins(tmp_path):
    etc, lib = tmp_path / "etc", tmp_path / "lib"
    for path in (
        etc / "docker.service.d/90-z.conf",
        etc / "docker.service.d/10-both.conf",
        etc / "docker.service.d/readme.txt",
        lib / "docker.service.d/10-both.conf",
        lib / "docker.service.d/20-a.conf",
        lib / "docker.service",
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("[Service]\n")
    found = UnitFiles.find("docker.service", [str(etc), str(lib)])
    assert found.fragment == str(lib / "docker.service")
    assert [os.path.relpath(path, tmp_path) for path in found.drop_ins] == [
        "etc/docker.service.d/10-both.conf",
        "lib/docker.service.d/20-a.conf",
        "etc/docker.service.d/90-z.conf",
    ]


def test_no_unit_no_files(tmp_path):
    assert UnitFiles.find("docker.service", [str(tmp_path)]) == UnitFiles(None, ())


def _answering(stdout):
    return lambda argv, **options: Result(tuple(argv), 0, stdout, "")


def test_a_running_service_is_described_from_its_process():
    # The order differs between versions of systemd, as 252, 257 and 262 showed.
    stdout = f"MainPID={os.getpid()}\nLoadState=loaded\nActiveState=active\nNeedDaemonReload=yes\n"
    service = read_service(_answering(stdout), "docker.service")
    assert (service.loaded, service.active, service.needs_reload) == ("loaded", True, True)
    with open("/proc/self/cmdline", "rb") as stream:
        assert list(service.arguments) == stream.read().decode().split("\0")[:-1]
    seconds_ago = float(run(["ps", "-o", "etimes=", "-p", str(os.getpid())]).stdout)
    now = float(run(["date", "+%s.%N"]).stdout)
    assert abs(now - service.started - seconds_ago) < 2


def test_a_missing_service_runs_nothing():
    stdout = "MainPID=0\nLoadState=not-found\nActiveState=inactive\nNeedDaemonReload=no\n"
    assert read_service(_answering(stdout), "docker.service") == Service("not-found", False)


def test_service_names():
    assert service_name("docker") == service_name("docker.service") == "docker.service"
    with pytest.raises(FarmError, match="wanted the name of a systemd service"):
        service_name("docker --now")


def test_a_process_that_has_just_ended_runs_nothing():
    stdout = "MainPID=4194999\nLoadState=loaded\nActiveState=active\nTriggeredBy=docker.socket a.path b.socket\n"
    service = read_service(_answering(stdout), "docker.service")
    assert service == Service("loaded", True, False, (), 0.0, ("docker.socket", "b.socket"))


@pytest.mark.parametrize(
    ("state", "active"), [("active", True), ("reloading", True), ("activating", False), ("failed", False)]
)
def test_states_of_services(state, active):
    service = read_service(_answering(f"MainPID={os.getpid()}\nActiveState={state}\n"), "docker.service")
    assert (service.active, bool(service.arguments), service.started > 0) == (active,) * 3


def test_hosts_without_systemd(tmp_path):
    require_systemd("n1", str(tmp_path))
    with pytest.raises(FarmError, match=r"n1 was not booted with systemd \(.*none is missing\)"):
        require_systemd("n1", str(tmp_path / "none"))
    (tmp_path / "file").touch()
    with pytest.raises(FarmError, match="not booted with systemd"):
        require_systemd("n1", str(tmp_path / "file"))


@pytest.mark.parametrize(
    ("text", "command"),
    [
        # What follows a backslash is another word, whether there is a blank before it or not.
        ("ExecStart=/usr/bin/dockerd\\\n--debug\n", "/usr/bin/dockerd --debug"),
        ("# said \\\nExecStart=/usr/bin/dockerd\n", "/usr/bin/dockerd"),
        ("; said \\\nExecStart=/usr/bin/dockerd\n", "/usr/bin/dockerd"),
        ("ExecStart=/usr/bin/dockerd \\", "/usr/bin/dockerd"),
    ],
)
def test_lines_go_on_after_a_backslash_unless_they_are_comments(text, command):
    assert exec_start([("a", f"[Service]\n{text}")]) == ("a", command)
