# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From what a host has to the steps that make its engine listen as declared."""

from __future__ import annotations

import builtins
import dataclasses
import errno
import functools
import hashlib
import json
import os
import re
import socket
import ssl
import time

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.runner import CommandError, Result
from ansible_collections.buildfarm.multiarch.plugins.module_utils._host import systemd as _systemd
from ansible_collections.buildfarm.multiarch.plugins.module_utils._host.systemd import Service, Variable
from ansible_collections.buildfarm.multiarch.plugins.module_utils._listener import apply as _apply
from ansible_collections.buildfarm.multiarch.plugins.module_utils._listener import checkpoint as _checkpoint
from ansible_collections.buildfarm.multiarch.plugins.module_utils._listener import declaration as _declaration
from ansible_collections.buildfarm.multiarch.plugins.module_utils._listener import state as _state
from ansible_collections.buildfarm.multiarch.plugins.module_utils._listener.checkpoint import Checkpoint
from ansible_collections.buildfarm.multiarch.plugins.module_utils._listener.checks import check, check_certificate
from ansible_collections.buildfarm.multiarch.plugins.module_utils._listener.declaration import Declaration
from ansible_collections.buildfarm.multiarch.plugins.module_utils._listener.dockerd import hosts, without_network
from ansible_collections.buildfarm.multiarch.plugins.module_utils._listener.plan import drop_in_text, plan
from ansible_collections.buildfarm.multiarch.plugins.module_utils._listener.state import Content, State, read_state
from ansible_collections.buildfarm.multiarch.plugins.module_utils._listener.steps import Systemctl, changed_files
from ansible_collections.buildfarm.multiarch.plugins.module_utils._listener.tls_material import Findings, inspect

DEBIAN = "/usr/sbin/dockerd -H fd:// --containerd=/run/containerd/containerd.sock $DOCKER_OPTS"
SUSE = "/usr/bin/dockerd --add-runtime oci=/usr/sbin/docker-oci $DOCKER_NETWORK_OPTIONS $DOCKER_OPTS"
DROP_IN = "/etc/systemd/system/docker.service.d/zz-buildfarm-listener.conf"
CONFIG = "/etc/docker/daemon.json"
TLS_PATHS = [f"/etc/docker/tls/{name}.pem" for name in ("ca", "cert", "key")]
TLS_FLAGS = (
    "-H tcp://0.0.0.0:2376 --tlsverify --tlscacert=/etc/docker/tls/ca.pem --tlscert=/etc/docker/tls/cert.pem "
    "--tlskey=/etc/docker/tls/key.pem"
)
PLAIN_FLAGS = "-H tcp://127.0.0.1:2375 --tls=false"
HEADER = "# Written by the Ansible module buildfarm.multiarch.docker_listener, which overwrites changes."
RELOAD = ["systemctl", "daemon-reload"]
RESTART = [["systemctl", "reset-failed", "docker.service"], ["systemctl", "restart", "docker.service"]]
TLS_WRITES = [["write", path] for path in TLS_PATHS]
MKDIR = ["mkdir", "-p", "-m", "0700", "/etc/docker/tls"]
NOW = 1000.0


def declared(**options):
    params = {
        "state": "present",
        "address": None,
        "interface": None,
        "port": None,
        "ca": None if options.get("insecure") else "a CA",
        "certificate": None if options.get("insecure") else "a certificate",
        "key": None if options.get("insecure") else "a key",
        "tls_directory": "/etc/docker/tls",
        "insecure": False,
        "daemon_config": None,
        "restore_daemon_config": False,
        "service": "docker",
        "probe_timeout": 30,
        "provisional": False,
        "missing_key": "fail",
        **options,
    }
    return dataclasses.replace(Declaration.from_params(params), host="node1")


def fresh(**fields):
    """An engine as its package starts it."""
    running = Service("loaded", True, False, ("/usr/sbin/dockerd", "-H", "fd://"), 500.0)
    return State(**{"service": running, "command": DEBIAN, "source": "/lib/docker.service", "now": NOW, **fields})


def with_options(options, **fields):
    """An engine with a TCP listener that a variable of its unit brings."""
    return fresh(variables={"DOCKER_OPTS": Variable(options, "/etc/default/docker")}, **fields)


def converged(want, **service):
    """The host after a run that changed something."""
    flags = PLAIN_FLAGS if want.insecure else TLS_FLAGS
    arguments = ("/usr/sbin/dockerd", "-H", "fd://", *flags.split())
    running = Service("loaded", True, False, arguments, 500.0)
    drop_in = f"{HEADER}\n[Service]\nExecStart=\nExecStart={DEBIAN} {flags}\n"
    files = {DROP_IN: Content(drop_in.encode(), 0o644, 400.0)}
    if not want.insecure:
        for path, content in zip(TLS_PATHS, (want.ca, want.certificate, want.key)):
            files[path] = Content(content, 0o400 if path.endswith("key.pem") else 0o444, 400.0)
    return fresh(service=dataclasses.replace(running, **service), files=files, tls_directory_mode=0o700)


def judged(want, found):
    """The host with what is wrong with the certificates that it is to have."""
    return dataclasses.replace(found, material=inspect(want, found.file("/etc/docker/tls/key.pem").content))


def actions(steps):
    return steps.outcome().actions


def written(want, found):
    """The contents of the files that a plan writes."""
    return {path: file.content for path, file in changed_files(plan(want, found).steps).items() if file}


TLS = declared()
PLAIN = declared(insecure=True)
ABSENT = declared(state="absent", ca=None, certificate=None, key=None)
SETTINGS = dataclasses.replace(
    Declaration.of_daemon_config({"daemon_config": {}, "service": "docker", "probe_timeout": 30}), host="node1"
)


def with_files(found, **contents):
    return dataclasses.replace(found, files={**found.files, **contents})


@pytest.mark.parametrize(
    ("want", "found", "expected"),
    [
        (TLS, fresh(), [MKDIR, *TLS_WRITES, ["write", DROP_IN], RELOAD, *RESTART]),
        (TLS, converged(TLS), []),
        (PLAIN, fresh(), [["write", DROP_IN], RELOAD, *RESTART]),
        (PLAIN, converged(PLAIN), []),
        (TLS, converged(PLAIN), [*TLS_WRITES, ["write", DROP_IN], RELOAD, *RESTART]),
        (declared(certificate="renewed", key="too"), converged(TLS), [*TLS_WRITES[1:], RELOAD, *RESTART]),
        (declared(port=2377), converged(TLS), [["write", DROP_IN], RELOAD, *RESTART]),
        (declared(daemon_config={"debug": True}), converged(TLS), [["write", CONFIG], RELOAD, *RESTART]),
        (declared(daemon_config={"debug": None}), converged(TLS), []),
        (TLS, converged(TLS, active=False, arguments=()), [["systemctl", "start", "docker.service"]]),
        (TLS, converged(TLS, needs_reload=True), [RELOAD]),
        # Ended between writing and reloading, and between reloading and restarting.
        (TLS, converged(TLS, arguments=("/usr/sbin/dockerd", "-H", "fd://")), [RELOAD, *RESTART]),
        (TLS, converged(TLS, started=399.0), [RELOAD, *RESTART]),
        (TLS, dataclasses.replace(converged(TLS, started=399.0), now=399.5), []),
        (TLS, dataclasses.replace(converged(TLS), tls_directory_mode=0o755), [MKDIR]),
        # A newer package starts the engine with another flag.
        (TLS, dataclasses.replace(converged(TLS), command=DEBIAN + " --new"), [["write", DROP_IN], RELOAD, *RESTART]),
        (ABSENT, fresh(), []),
        (
            ABSENT,
            converged(TLS),
            [["remove", DROP_IN], *[["remove", path] for _write, path in TLS_WRITES], RELOAD, *RESTART],
        ),
        (ABSENT, converged(PLAIN, active=False, arguments=()), [["remove", DROP_IN], RELOAD]),
        # Removed, and ended before the restart.
        (ABSENT, dataclasses.replace(converged(PLAIN), files={}), [RELOAD, *RESTART]),
        (
            dataclasses.replace(ABSENT, daemon_config={"debug": None}),
            fresh(files={CONFIG: Content(b'{"debug": true}', 0o600)}),
            [["write", CONFIG], RELOAD, *RESTART],
        ),
        (ABSENT, fresh(files={CONFIG: Content(b"not JSON, and not asked for")}), []),
        # Whatever listener there is stays.
        (SETTINGS, fresh(), []),
        (SETTINGS, converged(TLS), []),
        (SETTINGS, converged(PLAIN), []),
        (
            dataclasses.replace(SETTINGS, daemon_config={"debug": True}),
            converged(TLS),
            [["write", CONFIG], RELOAD, *RESTART],
        ),
        (SETTINGS, fresh(files={CONFIG: Content(b"{}", 0o644, 600.0)}), [RELOAD, *RESTART]),
        (SETTINGS, converged(TLS, active=False, arguments=()), [["systemctl", "start", "docker.service"]]),
        # Check mode finds it missing; the packages that bring it, or the role, start it.
        (SETTINGS, fresh(service=Service("not-found", False, False, ()), command=None), []),
    ],
)
def test_steps(want, found, expected):
    assert actions(plan(want, found)) == expected


def test_a_plan_opens_nothing(issue, monkeypatch):
    """What it takes is in the state: neither a file, nor a socket, nor memory that OpenSSL reads as a file."""
    ca = issue("ca")
    certificate, key = issue("server", ca)
    want = declared(ca=ca[0].decode(), certificate=certificate.decode(), key=None, daemon_config={"debug": True})
    found = judged(want, fresh(files={CONFIG: Content(b"{}"), TLS_PATHS[2]: Content(key, 0o600)}))
    opened = []
    monkeypatch.setattr(os, "memfd_create", opened.append)
    monkeypatch.setattr(socket, "socket", opened.append)
    monkeypatch.setattr(builtins, "open", opened.append)
    assert check(want, found, predicting=False) == ()
    steps = plan(want, found)
    check_certificate(want, found, steps)
    assert actions(steps) == [MKDIR, *TLS_WRITES[:2], ["write", DROP_IN], ["write", CONFIG], RELOAD, *RESTART]
    assert opened == []


def test_the_second_plan_after_every_step_is_empty():
    want = declared(daemon_config={"debug": True})
    found = converged(want)
    file = changed_files(plan(want, found).steps)[CONFIG]
    after = with_files(found, **{CONFIG: Content(file.content, file.mode, 400.0)})
    assert actions(plan(want, after)) == []


@pytest.mark.parametrize(
    ("held", "proxy", "mode"),
    [
        ({}, "http://me:hush@proxy:3128", 0o600),
        ({CONFIG: Content(b"{}", 0o644, 1.0)}, "http://me:hush@proxy:3128", 0o600),
        ({CONFIG: Content(b"{}", 0o640, 1.0)}, "http://proxy:3128", 0o640),
        ({}, "http://proxy:3128", 0o644),
    ],
)
def test_daemon_json_with_a_password_is_for_root_alone(held, proxy, mode):
    wanted = dataclasses.replace(SETTINGS, daemon_config={"proxies": {"http-proxy": proxy}})
    assert changed_files(plan(wanted, fresh(files=held)).steps)[CONFIG].mode == mode


def test_the_mode_of_daemon_json_is_kept_and_an_open_key_is_closed():
    held = {CONFIG: Content(b"{}", 0o640, 1.0), "/etc/docker/tls/key.pem": Content(b"a key\n", 0o644, 1.0)}
    found = with_files(converged(TLS), **held)
    changes = changed_files(plan(declared(daemon_config={"debug": True}), found).steps)
    assert (changes[CONFIG].mode, changes["/etc/docker/tls/key.pem"].mode) == (0o640, 0o400)


@pytest.mark.parametrize(
    ("command", "line"),
    [
        (DEBIAN, f"ExecStart={DEBIAN} -H tcp://[::]:2375 --tls=false"),
        # No -H at all: the usual socket has to be named, or it would be gone.
        (SUSE, f"ExecStart={SUSE} -H unix:///var/run/docker.sock -H tcp://[::]:2375 --tls=false"),
        (None, "ExecStart=<the command of docker.service, known once the engine is installed> -H tcp"),
    ],
)
def test_the_drop_in_repeats_the_units_own_command(command, line):
    text = drop_in_text(declared(insecure=True, address="::"), fresh(command=command)).decode()
    assert "[Service]\nExecStart=\n" + line in text


@pytest.mark.parametrize(
    "words",
    ["-H fd:// -H tcp://[::]:2376", "--host fd:// --host=tcp://[::]:2376", "-H=fd:// -Htcp://[::]:2376 --debug"],
)
def test_hosts_in_any_form_of_the_flag(words):
    assert hosts(words.split()) == ("fd://", "tcp://[::]:2376")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"insecure": True, "ca": "a CA"}, "insecure and ca exclude each other"),
        ({"address": "node1"}, "wanted an IPv4 or IPv6 address"),
        ({"port": 70000}, "wanted 1 to 65535"),
        ({"tls_directory": "/etc/my tls"}, "wanted an absolute path"),
        ({"daemon_config": {"hosts": ["fd://"]}}, "hosts cannot stand in daemon.json .*; use address"),
        (
            {"state": "reverted", "daemon_config": {"debug": True}},
            "daemon_config and state reverted exclude each other",
        ),
        (
            {"restore_daemon_config": True},
            "restore_daemon_config takes out of daemon.json .*; it goes with state absent",
        ),
        ({"state": "confirmed", "daemon_config": {"debug": True}}, "daemon_config and state confirmed exclude"),
        ({"daemon_config": {"tlsverify": True, "tlscacert": "/a"}}, "tlsverify, tlscacert cannot stand in daemon.json"),
        ({"service": "a b"}, "wanted the name of a systemd service"),
    ],
)
def test_options_that_cannot_be(options, said):
    with pytest.raises(FarmError, match=said):
        declared(**options)


def test_settings_alone_make_no_listener():
    params = {"daemon_config": {"hosts": ["fd://"], "tls": None}, "service": "docker", "probe_timeout": 30}
    with pytest.raises(FarmError, match=r"hosts cannot stand in daemon.json .*; use the module docker_listener"):
        Declaration.of_daemon_config(params)
    found = fresh(files={CONFIG: Content(b'{"hosts": ["fd://"]}')})
    assert json.loads(written(dataclasses.replace(SETTINGS, daemon_config={"hosts": None}), found)[CONFIG]) == {}
    steps = plan(dataclasses.replace(SETTINGS, daemon_config={"debug": True}), converged(TLS))
    assert (set(steps.before), steps.after[CONFIG]) == ({CONFIG, "engine"}, ["{", '  "debug": true', "}"])


@pytest.mark.parametrize(
    ("want", "found", "said"),
    [
        (TLS, fresh(command=None), "not installed on node1; apply the role"),
        (SETTINGS, fresh(command=None), "not installed on node1; apply the role"),
        (TLS, fresh(service=Service("masked", False)), "is masked"),
        (TLS, fresh(overriding="/etc/x/zzz.conf"), "zzz.conf replaces the command .* sorts before zz-"),
        (TLS, fresh(command=None, others=("Docker from a snap",)), "found Docker from a snap, and wanted an engine"),
        (declared(ca=None, key=None), fresh(), "ca missing"),
        (TLS, fresh(), "ca: found no PEM certificate"),
    ],
)
def test_hosts_that_do_not_fit(want, found, said):
    with pytest.raises(FarmError, match=said):
        check(want, found, predicting=False)


@pytest.mark.parametrize(
    ("command", "local", "removed"),
    [
        (DEBIAN, DEBIAN, ()),
        (f"{DEBIAN} -H tcp://0.0.0.0:2375", DEBIAN, ("-H", "tcp://0.0.0.0:2375")),
        (f"{DEBIAN} --host=tcp://0.0.0.0:2375 --debug", f"{DEBIAN} --debug", ("--host=tcp://0.0.0.0:2375",)),
        (f"{DEBIAN} -H=tcp://[::]:1 -Htcp://a:2", DEBIAN, ("-H=tcp://[::]:1", "-Htcp://a:2")),
        (
            f"{DEBIAN} --tlsverify --tlscacert=/a.pem --tlscert '/b c.pem' --label 'a  b' --tlskey /d.pem",
            f"{DEBIAN} --label 'a  b'",
            ("--tlsverify", "--tlscacert=/a.pem", "--tlscert", "'/b c.pem'", "--tlskey", "/d.pem"),
        ),
        ("/usr/bin/dockerd -H unix:///a.sock $OPTS", "/usr/bin/dockerd -H unix:///a.sock $OPTS", ()),
    ],
)
def test_a_tcp_listener_of_the_units_own_is_left_out(command, local, removed):
    assert without_network(command) == (local, removed)
    found = fresh(command=command)
    assert drop_in_text(PLAIN, found).decode().splitlines()[-1] == f"ExecStart={local} {PLAIN_FLAGS}"
    warnings = " ".join(check(PLAIN, found, predicting=False))
    assert ("in /lib/docker.service is left out" in warnings) == bool(removed)


@pytest.mark.parametrize("active", [True, False])
@pytest.mark.parametrize(
    ("command", "value", "said"),
    [
        (DEBIAN, "-H tcp://0.0.0.0:2375 -H unix:///var/run/docker.sock", "-H tcp://0.0.0.0:2375"),
        (DEBIAN, "--tlsverify --label a=1 --tlscacert /a.pem", "--tlsverify --tlscacert /a.pem"),
        (DEBIAN, "--host :2375", "--host :2375"),
        ("/usr/bin/dockerd -H ${DOCKER_OPTS}", "tcp://192.0.2.1:2375", "-H tcp://192.0.2.1:2375"),
    ],
)
def test_a_listener_of_an_environment_file_is_refused_whether_the_engine_runs_or_not(command, value, said, active):
    found = with_options(value, command=command)
    found = dataclasses.replace(found, service=dataclasses.replace(found.service, active=active))
    place = "from the variable DOCKER_OPTS in /etc/default/docker; remove it there"
    with pytest.raises(FarmError, match=f"already has {re.escape(said)}, {place}"):
        check(PLAIN, found, predicting=False)
    # Neither is it the business of a task that declares none.
    assert check(SETTINGS, found, predicting=False) == check(ABSENT, found, predicting=False) == ()


def test_a_variable_that_the_engine_still_runs_with_does_not_count():
    """The file was corrected; the restart that this task causes brings that into effect."""
    running = Service("loaded", True, False, ("/usr/sbin/dockerd", "-H", "tcp://0.0.0.0:2375"), 500.0)
    found = with_options("--label a=1", service=running)
    assert len(check(PLAIN, found, predicting=False)) == 1
    assert plan(PLAIN, found).restarts
    assert plan(ABSENT, found).stale == "still listens on tcp://0.0.0.0:2375"
    # It was restarted while the variable stood there, beside the listener that is declared.
    both = ("/usr/sbin/dockerd", "-H", "tcp://0.0.0.0:2375", *PLAIN_FLAGS.split())
    again = plan(PLAIN, converged(PLAIN, arguments=both))
    assert (changed_files(again.steps), again.stale) == ({}, "still listens on tcp://0.0.0.0:2375")
    assert actions(plan(SETTINGS, converged(PLAIN, arguments=both))) == []


def test_options_of_docker_machine_with_equals_signs_are_left_out():
    machine = (
        "/usr/sbin/dockerd --host=unix:///var/run/docker.sock --host=tcp://0.0.0.0:2376 --storage-driver overlay2 "
        "--tlsverify --tlscacert /etc/docker/ca.pem --tlscert /etc/docker/server.pem "
        "--tlskey /etc/docker/server-key.pem --label provider=generic"
    )
    local = "--host=unix:///var/run/docker.sock --storage-driver overlay2 --label provider=generic"
    found = fresh(command=machine)
    assert f"ExecStart=/usr/sbin/dockerd {local} -H tcp://127.0.0.1:2375" in drop_in_text(PLAIN, found).decode()
    assert len([text for text in check(PLAIN, found, predicting=False) if "is left out" in text]) == 1


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_a_command_over_continued_lines_is_made_one_without_its_listener(tmp_path, ends):
    lines = (
        "[Service]",
        "ExecStart=",
        "ExecStart=/usr/bin/dockerd -H fd:// \\",
        "  --tlsverify \\",
        "  --tlscacert=/etc/docker/ca.pem \\",
        "# a remark in between",
        "  --tlscert=/etc/docker/cert.pem --tlskey=/etc/docker/key.pem \\",
        "  -H tcp://10.0.0.7:2376 \\",
        "  --dns 1.1.1.1 --dns 1.0.0.1 \\",
        "  --log-opt max-size=50m",
    )
    (tmp_path / "docker.service.d").mkdir()
    (tmp_path / "docker.service.d/10-tls.conf").write_bytes(ends.join(lines).encode())
    found = read_state(
        PLAIN, lambda argv, **_options: Result(tuple(argv), 0, "LoadState=loaded\n", ""), [str(tmp_path)]
    )
    command = "/usr/bin/dockerd -H fd:// --dns 1.1.1.1 --dns 1.0.0.1 --log-opt max-size=50m"
    assert found.local_command.split() == command.split()
    assert f"ExecStart={command} -H tcp://127.0.0.1:2375" in drop_in_text(PLAIN, found).decode()


@pytest.mark.parametrize("want", [PLAIN, TLS])
def test_tls_settings_in_daemon_json_give_way_with_its_hosts(want):
    keys = '"hosts": ["tcp://0.0.0.0:2376"], "tls": true, "tlsverify": true, "tlscacert": "/a", "tlskey": "/c"'
    found = fresh(files={CONFIG: Content(f'{{"debug": true, {keys}, "tlscert": "/b"}}'.encode())})
    assert json.loads(written(want, found)[CONFIG]) == {"debug": True}
    (warning,) = (text for text in check(declared(insecure=True), found, predicting=False) if CONFIG in text)
    assert "daemon.json gives up hosts, tls, tlsverify, tlscacert, tlscert, tlskey in favour" in warning
    # A task that does not declare a listener leaves them to whoever wrote them.
    assert actions(plan(SETTINGS, found)) == []


@pytest.mark.parametrize("text", ["tcp://192.0.2.3:2376", "192.0.2.3:2376", "unix:///var/run/docker.sock", ""])
def test_hosts_as_a_text_gives_way_where_nothing_is_lost(text):
    found = fresh(files={CONFIG: Content(json.dumps({"debug": True, "hosts": text}).encode())})
    assert json.loads(written(TLS, found)[CONFIG]) == {"debug": True}


@pytest.mark.parametrize(
    ("listed", "said"),
    [
        ('"unix:///srv/d.sock"', "and unix:///srv/d.sock would be lost"),
        ('"tcp://a:1,unix:///srv/d.sock"', "'hosts' is \"tcp://a:1,unix:///srv/d.sock\", wanted a list of addresses"),
        ('{"tcp": "a:1"}', '\'hosts\' is {"tcp": "a:1"}, wanted a list'),
        ("[2375]", r"'hosts' is \[2375\], wanted a list"),
        ("2375", "'hosts' is 2375, wanted a list"),
        ("true", "'hosts' is true, wanted a list"),
    ],
)
def test_hosts_that_are_no_list_are_refused(listed, said):
    with pytest.raises(FarmError, match=said):
        plan(TLS, fresh(files={CONFIG: Content(f'{{"hosts": {listed}}}'.encode())}))


@pytest.mark.parametrize(
    ("command", "values", "said"),
    [
        (f"{DEBIAN} --label a=1", {"labels": ["b=2"]}, "labels would stand there beside --label"),
        (
            f"{DEBIAN} -s overlay2",
            {"storage-driver": "vfs"},
            "storage-driver would stand there beside --storage-driver",
        ),
        (f"{DEBIAN} --insecure-registry a", {"insecure-registries": []}, "insecure-registries would"),
    ],
)
def test_settings_that_are_flags_already_are_refused(command, values, said):
    """The engine of 20.10 cannot validate its configuration, and would be restarted twice in vain."""
    found = fresh(command=command)
    with pytest.raises(FarmError, match=f"{CONFIG}: {said}.* in the command of docker.service .*/lib/docker.service"):
        plan(declared(daemon_config=values), found)
    assert plan(declared(daemon_config={"debug": True}), found).restarts


@pytest.mark.parametrize("want", [PLAIN, TLS])
@pytest.mark.parametrize("listed", ['["fd://"]', '["unix:///var/run/docker.sock", "tcp://0.0.0.0:2375"]', "[]", "null"])
def test_hosts_in_daemon_json_give_way(want, listed):
    found = fresh(files={CONFIG: Content(f'{{"hosts": {listed}, "debug": true}}'.encode())})
    assert json.loads(written(want, found)[CONFIG]) == {"debug": True}
    # A task that does not declare a listener leaves them to whoever wrote them.
    assert CONFIG not in changed_files(plan(SETTINGS, found).steps)


def test_hosts_in_daemon_json_that_would_be_lost():
    found = fresh(files={CONFIG: Content(b'{"hosts": ["unix:///srv/d.sock", "tcp://a:1"]}')})
    with pytest.raises(FarmError, match=r"unix:///srv/d.sock would be lost .* daemon_config: \{hosts: null\}"):
        plan(TLS, found)
    assert b"hosts" not in written(dataclasses.replace(TLS, daemon_config={"hosts": None}), found)[CONFIG]


def test_systemds_socket_is_opened_anew_after_an_engine_that_opened_its_own():
    own = ("/usr/sbin/dockerd", "-H", "unix:///var/run/docker.sock")
    service = Service("loaded", True, False, own, 500.0, ("docker.socket",))
    assert actions(plan(PLAIN, fresh(service=service)))[1:] == [
        ["systemctl", "daemon-reload"],
        ["systemctl", "reset-failed", "docker.service"],
        ["systemctl", "stop", "docker.service"],
        ["systemctl", "restart", "docker.socket"],
        ["systemctl", "start", "docker.service"],
    ]
    # It stays the engine's own where the unit says so.
    assert ["systemctl", "restart", "docker.service"] in actions(plan(PLAIN, fresh(service=service, command=SUSE)))


def test_only_what_other_hosts_can_try_is_provisional():
    wanted = {"0.0.0.0": True, "::": True, "192.0.2.1": True, "127.0.0.1": False, "::1": False}
    assert {address: declared(address=address, provisional=True).provisional for address in wanted} == wanted
    assert not declared(insecure=True, provisional=True).provisional
    assert not declared(state="absent", provisional=True).provisional


def test_where_it_listens():
    assert [want.address for want in (TLS, PLAIN)] == ["0.0.0.0", "127.0.0.1"]
    assert declared(interface="lo").url == "tcp://127.0.0.1:2376"
    with pytest.raises(FarmError, match=r"interface 'nowhere0': found none of this name .* this host has .*lo"):
        declared(interface="nowhere0")


def test_a_broken_daemon_json_is_never_planned_over():
    with pytest.raises(FarmError, match=r"daemon.json, line 1, column 2: not JSON"):
        plan(PLAIN, fresh(files={CONFIG: Content(b"{,}")}))


class TestKeys:
    """The key may be left out while the host holds it."""

    @pytest.fixture
    def pair(self, issue):
        return issue("server")

    def want(self, pair, key=None):
        return declared(ca=pair[0].decode(), certificate=pair[0].decode(), key=key)

    def held(self, pair, key):
        return fresh(files={"/etc/docker/tls/key.pem": Content(key, 0o600, 1.0)})

    def test_the_held_key_is_kept(self, pair):
        found = self.held(pair, pair[1])
        assert check(self.want(pair), judged(self.want(pair), found), predicting=False) == ()
        assert TLS_WRITES[2] not in actions(plan(self.want(pair), judged(self.want(pair), found)))

    def test_another_key_is_an_error_and_predicted_to_change(self, pair, issue):
        found = self.held(pair, issue("other")[1])
        with pytest.raises(FarmError, match=r"key.pem is not the private key .*mismatch.* give the key once"):
            check(self.want(pair), judged(self.want(pair), found), predicting=False)
        assert check(self.want(pair), judged(self.want(pair), found), predicting=True) == ()
        assert TLS_WRITES[2] in actions(plan(self.want(pair), judged(self.want(pair), found)))

    def test_a_missing_key_can_be_reported_instead(self, pair, issue, monkeypatch):
        def refuse(*_arguments, **_options):
            raise AssertionError("a report changes nothing")

        monkeypatch.setattr(_apply, "apply", refuse)
        want = dataclasses.replace(self.want(pair), reports_missing_key=True)
        found = judged(want, self.held(pair, issue("other")[1]))
        monkeypatch.setattr(_apply, "read_host", lambda _declaration, _runner: found)
        monkeypatch.setattr(Declaration, "from_params", lambda _params: want)
        for check_mode in (True, False):
            result = _apply.run({}, check_mode, refuse).as_result()
            assert (result["key_needed"], result["changed"], result["restarted"]) == (True, False, False)
            assert result["diff"]["before"] == result["diff"]["after"]

    def test_what_a_key_would_not_help_is_refused_before_it_is_sent(self, pair, issue):
        want = dataclasses.replace(self.want(pair), reports_missing_key=True)
        masked = judged(want, fresh(service=dataclasses.replace(fresh().service, loaded="masked")))
        with pytest.raises(FarmError, match="is masked"):
            _apply.report_missing_key(want, masked, False)

    def test_a_file_name_is_no_key(self, pair):
        with pytest.raises(FarmError, match="key: found no PEM private key in the text given; wanted the text itself"):
            check(self.want(pair, "/etc/docker/server-key.pem"), fresh(), predicting=True)

    def test_a_key_of_another_certificate_is_refused(self, pair, issue):
        with pytest.raises(FarmError, match="does not belong to the certificate"):
            want = self.want(pair, issue("other")[1].decode())
            check(want, judged(want, fresh()), predicting=True)

    def test_a_certificate_that_no_client_would_take_is_refused(self, pair, issue):
        other = declared(ca=issue("ca")[0].decode(), certificate=pair[0].decode(), key=pair[1].decode())
        with pytest.raises(FarmError, match=r"would take it: .*; by this host's clock it is 2\d\d\d-.*nothing was"):
            check_certificate(other, judged(other, fresh()), plan(other, fresh()))
        nameless = issue("server", issuer=pair, named=False)
        common = declared(ca=pair[0].decode(), certificate=nameless[0].decode(), key=nameless[1].decode())
        with pytest.raises(FarmError, match=r"would take it: it has no subject alternative name.*nothing was changed"):
            check_certificate(common, judged(common, fresh()), plan(common, fresh()))
        # An engine that has it already is left alone, and is not restarted for anything else either.
        has = judged(other, converged(other))
        assert check(other, has, predicting=False) == ()
        check_certificate(other, has, plan(other, has))
        elsewhere = declared(ca=issue("ca")[0].decode(), certificate=pair[0].decode(), key=pair[1].decode(), port=2377)
        with pytest.raises(FarmError, match="would take it"):
            check_certificate(elsewhere, judged(elsewhere, has), plan(elsewhere, has))

    def test_certificates_to_come_are_predicted(self):
        want = declared(ca=None, certificate=None, key=None)
        assert check(want, fresh(), predicting=True) == ()
        steps = plan(want, fresh())
        assert actions(steps) == [MKDIR, *TLS_WRITES, ["write", DROP_IN], RELOAD, *RESTART]
        assert steps.after["/etc/docker/tls/cert.pem"] == "not known yet"

    def test_the_diff_never_holds_a_key(self, pair):
        want = self.want(pair, pair[1].decode())
        steps = plan(want, self.held(pair, b"an old key"))
        shown = repr((steps.before, steps.after))
        assert "PRIVATE KEY" not in shown
        assert "an old key" not in shown
        assert "the declared private key" in shown


def test_reading_leaves_the_own_drop_in_out_and_finds_the_config_file(tmp_path):
    lib, etc = tmp_path / "lib", tmp_path / "etc"
    (etc / "docker.service.d").mkdir(parents=True)
    lib.mkdir()
    (lib / "docker.service").write_text("[Service]\nExecStart=/usr/bin/dockerd -H fd://\n")
    drop_in = "[Service]\nExecStart=\nExecStart=/usr/bin/dockerd {}\n"
    (etc / "docker.service.d/override.conf").write_text(drop_in.format("--config-file /etc/d.json"))
    (etc / "docker.service.d/zz-buildfarm-listener.conf").write_text(drop_in.format("-H tcp://0.0.0.0:2376"))

    def runner(argv, **options):
        return Result(tuple(argv), 0, "MainPID=0\nLoadState=loaded\nActiveState=inactive\n", "")

    found = read_state(TLS, runner, [str(etc), str(lib)])
    assert (found.command, found.config_path) == ("/usr/bin/dockerd --config-file /etc/d.json", "/etc/d.json")
    assert found.source.endswith("override.conf")
    assert found.overriding is None
    (etc / "docker.service.d/zzz-late.conf").write_text(drop_in.format("--debug"))
    assert read_state(TLS, runner, [str(etc), str(lib)]).overriding == str(etc / "docker.service.d/zzz-late.conf")


def left(folder):
    """The files below a folder, relative to it."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


class TestRollBack:
    """What a failure leaves behind: nothing."""

    WAY_BACK = (
        Systemctl("daemon-reload"),
        Systemctl("reset-failed", ("docker.service",)),
        Systemctl("restart", ("docker.service",)),
    )

    @pytest.fixture
    def host(self, tmp_path, monkeypatch):
        """A host whose files lie in a directory of the test."""
        monkeypatch.setattr(Declaration, "drop_in", str(tmp_path / "docker.service.d/50.conf"))
        monkeypatch.setattr(_checkpoint, "RECORDS", str(tmp_path / "run"))
        want = dataclasses.replace(PLAIN, probe_timeout=0, daemon_config={"debug": True})
        config = tmp_path / "daemon.json"
        config.write_bytes(b'{"debug":   false}')
        config.chmod(0o640)
        found = fresh(config_path=str(config), files={str(config): Content.read(str(config))})
        return want, found, config

    def run(self, host, failing, said=""):
        """Apply with a runner for which some commands fail; returns the error and the commands."""
        want, found, _config = host
        called = []

        def runner(argv, **options):
            called.append(" ".join(argv))
            failed = called[-1].startswith(failing) and called.count(called[-1]) == 1
            return Result(tuple(argv), int(failed), "", said if failed else "")

        with pytest.raises(FarmError) as caught:
            _apply.apply(want, found, plan(want, found), runner)
        return caught.value, called

    @pytest.mark.parametrize(
        ("failing", "said", "sentence"),
        [
            ("/usr/sbin/dockerd", "invalid logging level: x", "the engine was not touched"),
            ("systemctl restart", "Job failed", "every file was put back and the engine runs as before"),
            ("nothing", "", "and the engine runs as before"),
        ],
    )
    def test_files_are_as_they_were(self, host, tmp_path, failing, said, sentence):
        _want, _found, config = host
        before = config.stat()
        error, called = self.run(host, failing, said)
        assert said in error.message
        assert sentence in error.message
        after = config.stat()
        assert config.read_bytes() == b'{"debug":   false}'
        assert (after.st_mode, after.st_mtime_ns) == (before.st_mode, before.st_mtime_ns)
        assert left(tmp_path) == ["daemon.json"]
        if failing == "/usr/sbin/dockerd":
            assert not [command for command in called if "systemctl" in command]
        else:
            assert called[-3:] == [" ".join(command) for command in (RELOAD, *RESTART)]

    def test_a_host_without_a_journal_still_tells_and_takes_back(self, host):
        want, found, config = host

        def runner(argv, **options):
            result = Result(tuple(argv), int(argv[1] == "restart"), "", "Job failed")
            if argv[0] == "journalctl":
                raise CommandError("journalctl could not be started", result)
            return result

        with pytest.raises(
            FarmError, match=r"Job failed; every file was put back, but the engine could not be brought"
        ):
            _apply.apply(want, found, plan(want, found), runner)
        assert config.read_bytes() == b'{"debug":   false}'

    def test_an_engine_without_validate_is_restarted(self, host):
        error, called = self.run(host, "/usr/sbin/dockerd", "Status: unknown flag: --validate\nSee 'dockerd --help'.")
        assert "systemctl restart docker.service" in called
        assert "after 0 seconds" in error.message

    @pytest.mark.parametrize(
        ("fault", "whose"), [("invalid: a", "daemon.json as it was before"), ("invalid: b", "the")]
    )
    def test_whose_fault_a_refused_configuration_is(self, host, fault, whose):
        want, found, config = host

        def runner(argv, **options):
            path = next((word.partition("=")[2] for word in argv if word.startswith("--config-file")), None)
            said = f"{path}: {fault}" if path else f"a line that bears the time\n{config}: invalid: a"
            return Result(tuple(argv), 1, "", said)

        with pytest.raises(FarmError, match=f"refuses {'.*' if whose != 'the' else ''}{whose}"):
            _apply.apply(want, found, plan(want, found), runner)

    def test_what_was_not_there_before_is_nobody_elses_fault(self, host):
        want, found, config = host
        config.unlink()

        def runner(argv, **options):
            return Result(tuple(argv), 1, "", "invalid")

        with pytest.raises(FarmError, match="refuses the declared configuration: invalid"):
            _apply.apply(want, found, plan(want, found), runner)

    def done(self, argv, **options):
        """A runner on whose host all goes well."""
        return Result(tuple(argv), 0, "a line", "")

    @pytest.fixture
    def provisional(self, host, monkeypatch):
        """A change that has been made, and what it has kept."""
        want, found, _config = host
        monkeypatch.setattr(_apply, "find_problem", lambda *_arguments: None)
        return _apply.apply(want, found, plan(want, found), self.done)

    def test_a_provisional_change_is_put_back_by_a_later_task(self, host, tmp_path, provisional):
        _want, found, config = host
        before = config.with_name(".daemon.json.previous").stat()
        loaded = Checkpoint.load("docker.service")
        assert loaded is not None
        assert loaded.file_steps == provisional.file_steps
        assert loaded.engine_steps == provisional.engine_steps
        changed = dataclasses.replace(found, checkpoint=loaded, former=loaded.read_former())
        back = declared(state="reverted", ca=None, certificate=None, key=None)
        predicted = _apply.revert(back, changed, True, None).as_result()
        real = _apply.revert(back, changed, False, self.done).as_result()
        assert real["msg"] == "every file was put back and the engine runs as before"
        assert real["journal"] == ["a line"]
        assert {key: real[key] for key in predicted} == predicted
        assert predicted["actions"] == [
            ["remove", str(tmp_path / ".daemon.json.former")],
            ["remove", str(tmp_path / "docker.service.d/50.conf")],
            ["write", str(config)],
            RELOAD,
            *RESTART,
        ]
        assert (config.stat().st_ino, config.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
        assert left(tmp_path) == ["daemon.json"]
        assert Checkpoint.load("docker.service") is None
        assert _apply.revert(back, found, False, self.done).as_result()["changed"] is False

    def test_nothing_is_left_of_a_change_that_is_confirmed(self, host, tmp_path, provisional):
        want = declared(state="confirmed", ca=None, certificate=None, key=None)
        found = dataclasses.replace(host[1], checkpoint=provisional, former=provisional.read_former())
        with pytest.raises(FarmError, match=r"was ended half-way and cannot be confirmed; .* state=reverted"):
            _apply.confirm(want, found, False)
        provisional.complete()
        found = dataclasses.replace(found, checkpoint=Checkpoint.load("docker.service"))
        before = left(tmp_path)
        predicted = _apply.confirm(want, found, True).as_result()
        assert left(tmp_path) == before
        assert _apply.confirm(want, found, False).as_result() == predicted
        assert (predicted["changed"], predicted["provisional"]) == (False, False)
        assert predicted["diff"]["before"] == predicted["diff"]["after"]
        assert left(tmp_path) == [".daemon.json.former", "daemon.json", "docker.service.d/50.conf"]
        assert json.loads((tmp_path / "daemon.json").read_bytes()) == {"debug": True}

    def test_what_a_killed_run_has_kept_is_where_a_failure_leads_back_to(self, host, tmp_path):
        want, found, config = host
        # Killed after writing one of two files; the next run declares something else.
        Checkpoint.create("docker.service", plan(want, found).steps, self.WAY_BACK, 1.0)
        config.unlink()
        config.write_bytes(b'{"debug": true}')
        config.with_name(".daemon.json.abcdefgh.new").touch()
        older = Checkpoint.load("docker.service")
        found = dataclasses.replace(found, files={str(config): Content.read(str(config))}, checkpoint=older)
        other = dataclasses.replace(want, port=1, daemon_config={"debug": True, "ip": "x"})

        def runner(argv, **options):
            return Result(tuple(argv), int("dockerd" in argv[0]), "", "no")

        with pytest.raises(FarmError, match="every file was put back"):
            _apply.apply(other, found, plan(other, found), runner)
        assert config.read_bytes() == b'{"debug":   false}'
        assert left(tmp_path) == ["daemon.json"]

    def test_a_file_that_was_not_written_yet_keeps_one_name(self, host, tmp_path):
        want, found, config = host
        checkpoint = Checkpoint.create("docker.service", plan(want, found).steps, (), 1.0)
        assert config.stat().st_nlink == 2
        assert checkpoint.restore(self.done) == []
        assert left(tmp_path) == ["daemon.json"]

    def test_links_stay_links(self, host, tmp_path):
        want, found, config = host
        real = config.rename(tmp_path / "elsewhere.json")
        config.symlink_to(real)
        checkpoint = Checkpoint.create("docker.service", plan(want, found).steps, (), 1.0)
        for step in plan(want, found).file_steps:
            step.apply(self.done)
        assert checkpoint.restore(self.done) == []
        assert config.is_symlink()
        assert real.read_bytes() == b'{"debug":   false}'
        assert left(tmp_path) == ["daemon.json", "elsewhere.json"]

    def test_what_cannot_be_kept_is_not_changed(self, host, tmp_path, monkeypatch):
        want, found, config = host
        (tmp_path / "file").touch()
        monkeypatch.setattr(_checkpoint, "RECORDS", str(tmp_path / "file"))
        with pytest.raises(FarmError, match=r"node1: .*file.*; nothing was changed"):
            _apply.apply(want, found, plan(want, found), self.done)
        assert left(tmp_path) == ["daemon.json", "file"]
        assert config.stat().st_nlink == 1


RESTARTED = [" ".join(command) for command in (RELOAD, *RESTART)]


class Host:
    """A host in a directory, whose systemd starts the engine with the last command of its unit's files.

    :ivar active: whether the engine runs.
    :ivar ran: the commands of the last run, those that only read left out.
    """

    def __init__(self, folder, monkeypatch):
        self.folder, self.ran, self.active = folder, [], True
        self.units, self.config = folder / "units", folder / "daemon.json"
        self.arguments = self.command = f"/usr/sbin/dockerd -H fd:// --config-file {self.config}"
        self.started = 1.0
        (self.units / "docker.service.d").mkdir(parents=True)
        (self.units / "docker.service").write_text(f"[Service]\nExecStart={self.command}\n")
        self.drop_in = self.units / "docker.service.d/zz-buildfarm-listener.conf"
        monkeypatch.setattr(Declaration, "drop_in", str(self.drop_in))
        monkeypatch.setattr(_checkpoint, "RECORDS", str(folder / "run"))
        monkeypatch.setattr(_apply, "require_systemd", lambda host: None)
        monkeypatch.setattr(_apply, "read_state", functools.partial(read_state, directories=[str(self.units)]))
        monkeypatch.setattr(_apply, "find_problem", lambda *_arguments: None)
        monkeypatch.setattr(_systemd, "_read_process", lambda pid: (tuple(self.arguments.split()), self.started))

    def runner(self, argv, **_options):
        text = " ".join(argv)
        if text.startswith("systemctl show"):
            state = "active\nMainPID=7" if self.active else "inactive\nMainPID=0"
            return Result(tuple(argv), 0, f"LoadState=loaded\nActiveState={state}\n", "")
        if argv[0] != "journalctl":
            self.ran.append(text)
        if argv[:2] == ["systemctl", "restart"]:
            drop_in = self.drop_in.read_text() if self.drop_in.exists() else f"ExecStart={self.command}"
            self.arguments, self.started = drop_in.rpartition("ExecStart=")[2].strip(), time.time()
        return Result(tuple(argv), 0, "a line", "")

    def run(self, check_mode=False, **options):
        """Run the module, in check mode before; returns its result."""
        params = {
            **dict.fromkeys(("address", "interface", "port", "ca", "certificate", "key", "daemon_config")),
            "state": "present",
            "tls_directory": str(self.folder / "tls"),
            "insecure": False,
            "missing_key": "fail",
            "service": "docker",
            "probe_timeout": 0,
            "provisional": False,
            "restore_daemon_config": False,
            **options,
        }
        before, self.ran = left(self.folder), []
        predicted = _apply.run(params, True, self.runner)
        assert (left(self.folder), self.ran) == (before, [])
        if check_mode:
            return {**predicted.as_result(), "warnings": predicted.warnings}
        real = _apply.run(params, False, self.runner)
        assert dataclasses.replace(real, values={}) == dataclasses.replace(predicted, values={})
        return {**real.as_result(), "warnings": real.warnings}


class TestTheModule:
    """All of it, on a host in a directory."""

    @pytest.fixture
    def host(self, tmp_path, monkeypatch):
        return Host(tmp_path, monkeypatch)

    @pytest.fixture
    def pems(self, issue):
        """CA, certificate and key, as options."""
        ca = issue("ca")
        certificate, key = issue("server", ca)
        return {"ca": ca[0].decode(), "certificate": certificate.decode(), "key": key.decode()}

    def test_a_listener_is_made_once(self, host, pems, tmp_path):
        done = host.run(**pems)
        assert (done["changed"], done["restarted"], done["provisional"]) == (True, True, False)
        tls = {name: f"{tmp_path}/tls/{file}.pem" for name, file in (("ca", "ca"), ("certificate", "cert"))}
        der = ssl.PEM_cert_to_DER_cert(pems["certificate"])
        assert done["listener"] == {
            "address": "0.0.0.0",
            "port": 2376,
            "url": "tcp://0.0.0.0:2376",
            "tls": True,
            "certificate_fingerprint": ":".join(f"{byte:02X}" for byte in hashlib.sha256(der).digest()),
            "paths": {
                "drop_in": str(host.drop_in),
                "daemon_config": str(host.config),
                "key": f"{tmp_path}/tls/key.pem",
                **tls,
            },
        }
        validated, *rest = host.ran
        assert validated == f"{host.arguments} --validate"
        assert rest == RESTARTED
        modes = {path.name: path.stat().st_mode & 0o7777 for path in (tmp_path / "tls", *(tmp_path / "tls").iterdir())}
        assert modes == {"tls": 0o700, "ca.pem": 0o444, "cert.pem": 0o444, "key.pem": 0o400}
        assert host.drop_in.stat().st_mode & 0o7777 == 0o644
        assert (tmp_path / "tls/key.pem").read_text() == pems["key"]
        # Nothing leads back any more.
        assert [name for name in left(tmp_path) if "previous" in name or name.startswith("run")] == []
        again = host.run(**pems)
        assert (again["changed"], again["restarted"], again["actions"], host.ran) == (False, False, [], [])

    def test_a_directory_that_is_there_is_closed(self, host, pems, tmp_path):
        (tmp_path / "tls").mkdir(mode=0o755)
        assert host.run(**pems)["actions"][0] == ["mkdir", "-p", "-m", "0700", f"{tmp_path}/tls"]
        assert (tmp_path / "tls").stat().st_mode & 0o7777 == 0o700

    def test_a_listener_without_tls(self, host):
        done = host.run(insecure=True)
        assert "without TLS: whoever reaches this address is root on this host" in done["warnings"][0]
        assert done["listener"] == {
            "address": "127.0.0.1",
            "port": 2375,
            "url": "tcp://127.0.0.1:2375",
            "tls": False,
            "certificate_fingerprint": None,
            "paths": {
                "drop_in": str(host.drop_in),
                "daemon_config": str(host.config),
                **dict.fromkeys(("ca", "certificate", "key")),
            },
        }

    def test_a_listener_is_removed(self, host, pems, tmp_path):
        host.run(**pems)
        removed = host.run(state="absent")
        assert (removed["changed"], removed["listener"], removed["restarted"]) == (True, None, True)
        assert host.ran == RESTARTED
        assert left(tmp_path) == ["units/docker.service"]
        assert not host.run(state="absent")["changed"]

    @pytest.mark.parametrize("text", [None, '{"debug": true, "log-opts": {"max-size": "1m"}, "mtu": 1400}'])
    def test_settings_are_taken_out_again(self, host, pems, tmp_path, text):
        if text:
            host.config.write_text(text)
        host.run(**pems, daemon_config={"log-opts": {"max-size": "9m", "max-file": "3"}, "mtu": 1500})
        host.run(**pems, daemon_config={"log-opts": {"max-size": "10m"}, "dns": ["192.0.2.1"], "debug": None})
        removed = host.run(state="absent", restore_daemon_config=True)
        assert removed["changed"]
        if text:
            assert host.config.read_text() == text
        assert left(tmp_path) == (["daemon.json"] if text else []) + ["units/docker.service"]
        assert not host.run(state="absent", restore_daemon_config=True)["changed"]

    def test_settings_that_somebody_has_changed_meanwhile_stay(self, host, pems):
        host.config.write_text('{"mtu": 1400, "tlsverify": true}')
        host.run(**pems, daemon_config={"mtu": 1500, "dns": ["192.0.2.1"]})
        host.config.write_text('{"mtu": 1500, "dns": ["192.0.2.1", "192.0.2.2"], "bip": "10.9.0.1/24"}')
        host.run(state="absent", restore_daemon_config=True)
        found = json.loads(host.config.read_text())
        assert found == {"mtu": 1400, "dns": ["192.0.2.1", "192.0.2.2"], "bip": "10.9.0.1/24"}

    def test_a_file_that_somebody_has_removed_stays_away(self, host, pems, tmp_path):
        host.config.write_text('{"mtu": 1400, "debug": true}')
        wanted = {"mtu": 1500, "debug": None}
        host.run(**pems, daemon_config=wanted)
        host.run(state="absent")
        host.config.unlink()
        host.run(state="absent", restore_daemon_config=True)
        assert left(tmp_path) == ["units/docker.service"]
        # What is merged into a new one is all that is taken out of it then.
        host.config.write_text('{"mtu": 1400, "debug": true}')
        host.run(**pems, daemon_config=wanted)
        host.config.unlink()
        host.run(**pems, daemon_config=wanted)
        assert host.run(state="absent", restore_daemon_config=True)["changed"]
        assert left(tmp_path) == ["units/docker.service"]

    @pytest.mark.parametrize("state", ["confirmed", "reverted"])
    def test_a_provisional_change_is_confirmed_or_reverted(self, host, pems, tmp_path, state):
        predicted = host.run(True, **pems, provisional=True)
        assert (predicted["changed"], predicted["provisional"]) == (True, False)
        assert host.run(**pems, provisional=True)["provisional"]
        record = tmp_path / "run/docker.service.json"
        assert json.loads(record.read_text())["completed"] is True
        assert [path.stat().st_mode & 0o7777 for path in (record, record.parent)] == [0o600, 0o700]
        # It stays so until it is confirmed, and a task that makes nothing provisional makes it final.
        again = host.run(**pems, provisional=True)
        assert (again["changed"], again["provisional"]) == (False, True)
        done = host.run(state=state)
        assert (done["changed"], done["listener"], done["provisional"]) == (state == "reverted", None, False)
        assert (host.drop_in.exists(), (tmp_path / "tls").exists()) == ((state == "confirmed"),) * 2
        assert host.ran == ([] if state == "confirmed" else RESTARTED)
        assert not [name for name in left(tmp_path) if "previous" in name or name.startswith("run")]
        assert done["restarted"] == (state == "reverted")

    def test_a_change_that_is_not_provisional_any_more_is_final(self, host, pems, tmp_path):
        host.run(**pems, provisional=True)
        done = host.run(**pems)
        assert (done["changed"], done["provisional"], left(tmp_path / "run")) == (False, False, [])

    def test_a_task_without_anything_to_do_is_not_provisional(self, host, pems):
        host.run(**pems)
        assert host.run(**pems, provisional=True)["provisional"] is False

    def test_certificates_that_no_client_would_take_are_refused_in_check_mode_too(self, host, pems, issue):
        with pytest.raises(FarmError, match="no client that trusts the ca given would take it"):
            host.run(True, **{**pems, "ca": issue("other")[0].decode()})

    @pytest.mark.parametrize("active", [True, False])
    def test_settings_alone(self, host, active):
        host.active = active
        params = {"daemon_config": {"debug": True}, "service": "docker", "probe_timeout": 0}
        done = _apply.run_daemon_config(params, False, host.runner).as_result()
        assert (done["changed"], done["path"], done["restarted"]) == (True, str(host.config), True)
        assert json.loads(host.config.read_text()) == {"debug": True}
        assert host.ran[1:] == RESTARTED

    def test_a_host_without_systemd_is_refused(self, host, monkeypatch):
        def refuse(host):
            raise FarmError("no systemd")

        monkeypatch.setattr(_apply, "require_systemd", refuse)
        with pytest.raises(FarmError, match="no systemd"):
            host.run(insecure=True)

    def test_a_file_that_cannot_be_read_is_named(self, host):
        host.config.mkdir()
        with pytest.raises(FarmError, match=rf"cannot read {host.config} \(Is a directory\); run the task as root"):
            host.run(insecure=True)

    def test_an_engine_that_is_to_come_is_predicted_with_a_warning(self, host):
        (host.units / "docker.service").unlink()
        warnings = host.run(True, insecure=True)["warnings"]
        assert "docker.service is not installed on " in warnings[0]
        assert "predicted without it" in warnings[0]

    @pytest.mark.parametrize(
        ("active", "arguments", "sockets", "expected"),
        [
            (True, "/usr/sbin/dockerd -H fd://", ("docker.socket",), "stop restart:docker.socket start"),
            (True, "/usr/sbin/dockerd -H unix://", ("docker.socket",), "restart"),
            (False, "", (), "stop"),
        ],
    )
    def test_the_way_back_is_to_what_the_engine_does_now(self, active, arguments, sockets, expected):
        service = Service("loaded", active, False, tuple(arguments.split()), 500.0, sockets)
        steps = _apply._way_back(PLAIN, fresh(service=service))
        assert steps[0].action == RELOAD
        verbs = [step for step in steps[1:] if step.verb != "reset-failed"]
        assert (
            " ".join(
                step.verb if step.units == ("docker.service",) else f"{step.verb}:{step.units[0]}" for step in verbs
            )
            == expected
        )

    def test_without_an_engine_there_is_nothing_to_bring_back(self):
        assert [step.action for step in _apply._way_back(PLAIN, fresh(command=None))] == [RELOAD]

    def test_a_roll_back_that_fails_is_an_error(self, host, pems):
        host.run(**pems, provisional=True)

        def runner(argv, **options):
            if argv[:2] == ["systemctl", "restart"]:
                return Result(tuple(argv), 1, "", "Job failed")
            return host.runner(argv, **options)

        params = {
            "state": "reverted",
            "insecure": False,
            "missing_key": "fail",
            "address": None,
            "interface": None,
            "port": None,
            "restore_daemon_config": False,
        }
        params.update(
            dict.fromkeys(("ca", "certificate", "key", "daemon_config")), tls_directory="/t", service="docker"
        )
        with pytest.raises(
            FarmError, match=r"every file was put back, but the engine could not be brought back"
        ) as info:
            _apply.run({**params, "probe_timeout": 0, "provisional": False}, False, runner)
        assert info.value.details["journal"] == ["a line"]
        assert not host.drop_in.exists()

    def test_files_that_cannot_be_put_back_are_named(self, host, pems, monkeypatch):
        host.run(**pems, provisional=True)
        monkeypatch.setattr(os, "unlink", refuse_to_unlink)
        monkeypatch.setattr(os, "remove", refuse_to_unlink)
        with pytest.raises(FarmError, match=r"these files could not be put back: .*\(No space left on device\)"):
            _apply.revert(declared(state="reverted", **NO_TLS), self.state(host), False, host.runner)

    def state(self, host):
        return read_state(declared(state="reverted", **NO_TLS), host.runner, [str(host.units)])

    @pytest.mark.parametrize(
        ("failing", "message", "journal"),
        [
            ("restart", "docker.service did not start with the declared configuration: a line", ["a line"]),
            ("daemon-reload", "^systemctl daemon-reload", None),
            ("reset-failed", "^systemctl reset-failed docker.service", None),
        ],
    )
    def test_the_journal_is_told_where_the_engine_did_not_start(self, host, failing, message, journal):
        def runner(argv, **options):
            failed = argv[:2] == ["systemctl", failing]
            return Result(tuple(argv), 1, "", "no") if failed else host.runner(argv, **options)

        with pytest.raises(FarmError) as caught:
            _apply.reconcile(PLAIN, self.state(host), False, runner)
        assert re.search(message, caught.value.message)
        assert caught.value.details.get("journal") == journal

    def test_an_engine_that_starts_and_is_not_as_declared_is_told_with_its_journal(self, host, monkeypatch):
        monkeypatch.setattr(_apply, "find_problem", lambda *_arguments: "refused")
        want = dataclasses.replace(PLAIN, probe_timeout=0)
        with pytest.raises(FarmError, match=r"started, and after 0 seconds refused") as caught:
            _apply.reconcile(want, self.state(host), False, host.runner)
        assert caught.value.details["journal"] == ["a line"]

    def test_other_engines_are_found_only_where_there_is_none(self, host, monkeypatch):
        (host.folder / "snap").mkdir()
        monkeypatch.setattr(_state, "_OTHERS", {"one": str(host.folder / "sn*"), "another": str(host.folder / "none")})
        assert self.state(host).others == ()
        (host.units / "docker.service").unlink()
        assert self.state(host).others == ("one",)


NO_TLS = {"ca": None, "certificate": None, "key": None}


def refuse_to_unlink(path, *_arguments, **_options):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)


@pytest.mark.parametrize("newer", [DROP_IN, CONFIG, *TLS_PATHS])
def test_each_file_that_is_newer_than_the_engine_restarts_it(newer):
    found = converged(TLS)
    held = found.file(newer).content or b"{}"
    found = with_files(found, **{newer: Content(held, found.file(newer).mode, 600.0)})
    assert plan(TLS, found).stale == f"was started before {newer} was changed"
    settings = plan(SETTINGS, found).stale
    assert settings == (f"was started before {newer} was changed" if newer == CONFIG else "")
    plain = with_files(converged(PLAIN), **{newer: Content(found.file(newer).content, 0o644, 600.0)})
    if newer not in TLS_PATHS:
        assert bool(plan(PLAIN, plain).stale)
    else:
        assert plan(PLAIN, plain).stale == ""


def test_the_diff_says_why_an_engine_is_restarted_though_no_file_changes():
    running = converged(TLS, arguments=("/usr/sbin/dockerd", "-H", "fd://"))
    assert plan(TLS, running).before["engine"] == "running, was started with another command line"
    assert plan(declared(port=2377), running).before["engine"] == "running"
    assert plan(TLS, converged(TLS)).before["engine"] == "running"
    stopped = plan(TLS, converged(TLS, active=False, arguments=()))
    assert (stopped.stale, stopped.before["engine"], stopped.after["engine"]) == ("", "not running", "running")


def test_the_diff_shows_tls_files_that_are_not_there():
    before, after = (getattr(plan(TLS, fresh()), side) for side in ("before", "after"))
    assert [before[path] for path in TLS_PATHS] == ["absent"] * 3
    assert after[TLS_PATHS[2]] == "the declared private key"
    removed = plan(ABSENT, converged(TLS))
    assert [removed.after[path] for path in TLS_PATHS] == ["absent"] * 3
    assert removed.before[TLS_PATHS[2]] == "a private key"


def test_ports_at_the_limits():
    assert [declared(port=port).url for port in (1, 65535)] == ["tcp://0.0.0.0:1", "tcp://0.0.0.0:65535"]
    for port in (-1, 0, 65536):
        with pytest.raises(FarmError, match=f"port {port}: wanted 1 to 65535"):
            declared(port=port)


def test_settings_alone_are_neither_provisional_nor_plain_tcp():
    assert (SETTINGS.provisional, SETTINGS.insecure, SETTINGS.uses_tls, SETTINGS.own_files) == (False, False, False, ())


def test_an_interface_with_a_global_ipv6_address_alone(monkeypatch):
    lines = (
        "fe80000000000000000000000000000a 02 40 20 80 farm6\n"
        "20010db8000000000000000000000005 03 40 00 80 other\n"
        "20010db8000000000000000000000007 02 40 00 80 farm6\n"
    )
    monkeypatch.setattr(_declaration, "read_bytes", lambda path: lines.encode())
    assert declared(interface="farm6").url == "tcp://[2001:db8::7]:2376"


def test_a_ca_is_judged_where_the_certificate_is_yet_to_come(issue):
    ca = issue("ca")[0]
    assert inspect(declared(ca=ca.decode(), certificate=None, key=None), None) == Findings(
        held_key="there is no such file"
    )
    broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    assert inspect(declared(ca=broken, certificate=None, key=None), None).ca is not None
