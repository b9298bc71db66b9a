# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is wrong with an engine that has been restarted, by what its sockets and its command line show."""

from __future__ import annotations

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.runner import CommandError, Result
from ansible_collections.buildfarm.multiarch.plugins.module_utils._host.systemd import Service
from ansible_collections.buildfarm.multiarch.plugins.module_utils._listener import verify
from ansible_collections.buildfarm.multiarch.plugins.module_utils._listener.declaration import Declaration
from ansible_collections.buildfarm.multiarch.plugins.module_utils._listener.state import State

PLAIN_FLAGS = ("-H", "tcp://0.0.0.0:2375", "--tls=false")


def declared(state="present", insecure=True):
    pem = None if insecure else b"PEM"
    return Declaration(
        "node1",
        state,
        "docker.service",
        None,
        30,
        address="0.0.0.0",
        port=2375 if insecure else 2376,
        insecure=insecure,
        tls_directory="/etc/docker/tls",
        ca=pem,
        certificate=pem,
    )


class Engine:
    """What probes of an engine find; notes what was probed."""

    def __init__(self, monkeypatch):
        self.problems = {}
        self.arguments = ("/usr/sbin/dockerd", "-H", "fd://", *PLAIN_FLAGS)
        self.probed = []
        for kind in ("unix_socket_problem", "plain_problem", "mutual_tls_problem"):
            monkeypatch.setattr(verify.probe, kind, self.probe(kind))
        monkeypatch.setattr(
            verify, "read_service", lambda _runner, _unit: Service("loaded", True, False, self.arguments)
        )

    def probe(self, kind):
        def problem(*arguments):
            self.probed.append((kind, *arguments))
            return self.problems.get(kind)

        return problem

    def problem(self, want, command="/usr/sbin/dockerd -H fd://", active=True):
        return verify.find_problem(want, State(Service("loaded", active), command), None)


@pytest.fixture
def engine(monkeypatch):
    return Engine(monkeypatch)


def test_an_engine_as_declared(engine):
    assert engine.problem(declared()) is None
    assert engine.probed == [("unix_socket_problem", "/var/run/docker.sock"), ("plain_problem", "127.0.0.1", 2375)]


def test_with_tls_the_certificate_is_probed(engine):
    engine.problems["mutual_tls_problem"] = "it serves another certificate than the declared one"
    said = "tcp://0.0.0.0:2376: it serves another certificate than the declared one"
    assert engine.problem(declared(insecure=False)) == said
    assert engine.probed[1:] == [("mutual_tls_problem", "127.0.0.1", 2376, b"PEM", b"PEM")]


@pytest.mark.parametrize("state", ["present", "absent", "untouched"])
def test_each_local_socket_of_the_command_has_to_answer(engine, state):
    command = "/usr/sbin/dockerd -H unix:///a.sock -H unix:///b.sock -H unix://"
    assert engine.problem(declared(state), command) is None
    assert [path for kind, path, *_port in engine.probed if kind == "unix_socket_problem"] == [
        "/a.sock",
        "/b.sock",
        "/var/run/docker.sock",
    ]
    engine.problems["unix_socket_problem"] = "unix:///a.sock: No such file or directory"
    assert engine.problem(declared(state), command) == "unix:///a.sock: No such file or directory"


def test_a_command_without_sockets_has_the_usual_one(engine):
    engine.problem(declared(), "/usr/sbin/dockerd")
    assert engine.probed[0] == ("unix_socket_problem", "/var/run/docker.sock")


def test_the_listener_is_the_business_of_tasks_that_declare_one(engine):
    engine.problems["plain_problem"] = "Connection refused"
    assert engine.problem(declared()) == "tcp://0.0.0.0:2375: Connection refused"
    assert engine.problem(declared("absent")) is None
    assert engine.problem(declared("untouched")) is None


def test_an_engine_that_need_not_run_is_not_probed(engine):
    engine.problems["unix_socket_problem"] = "refused"
    assert engine.problem(declared("absent"), active=False) is None
    assert engine.problem(declared("untouched"), active=False) == "refused"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("/usr/sbin/dockerd", "-H", "fd://"), "the engine runs with another command line: /usr/sbin/dockerd -H fd://"),
        (
            ("/usr/sbin/dockerd", "-H", "tcp://192.0.2.1:1", *PLAIN_FLAGS),
            "the engine also listens on tcp://192.0.2.1:1; which variable of its command brings that?",
        ),
    ],
)
def test_the_command_line_it_runs_with(engine, arguments, said):
    engine.arguments = arguments
    assert engine.problem(declared()) == said


def test_the_reason_in_the_journal_is_dockerds_last_plain_line():
    lines = ["Starting docker.service", "time=1 level=info", "failed to load listeners", "docker.service: Failed"]

    def runner(argv, **_options):
        own = "--identifier=dockerd" in argv
        return Result(tuple(argv), 0, "\n".join(lines[1:3] if own else lines), "")

    assert verify.read_log("docker.service", 1.5, runner) == (lines, "failed to load listeners")

    def silent(argv, **_options):
        raise CommandError("journalctl could not be started", Result(tuple(argv), 127, "", ""))

    assert verify.read_log("docker.service", 1.5, silent) == ([], "")
