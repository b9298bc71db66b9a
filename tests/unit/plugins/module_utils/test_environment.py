# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import pwd
import re
import sys
from pathlib import Path

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._buildx.cli import Buildx
from ansible_collections.buildfarm.multiarch.plugins.module_utils._buildx.store import Instance, Node, Store
from ansible_collections.buildfarm.multiarch.plugins.module_utils._context.apply import run as contexts
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core import environment as _environment
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.environment import (
    OPTION,
    REMOVED,
    RULES,
    expanded,
    for_program,
    home,
    settle,
    treatment,
    user,
)
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.runner import CommandError, checked, run
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker.config import config_dir
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker.context_store import ContextStore

COLLECTION = Path(__file__).resolve().parents[4]
PROXY = "http://me:secret@proxy.example.com:3128"


@pytest.fixture
def environment(monkeypatch, tmp_path):
    """An environment with nothing in it but a docker configuration."""
    for name in os.environ:
        monkeypatch.delenv(name)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    return monkeypatch


@pytest.fixture
def no_account(environment):
    """A user without account and without home directory."""

    def lookup(uid):
        raise KeyError(uid)

    environment.setattr(pwd, "getpwuid", lookup)
    environment.delenv("DOCKER_CONFIG")
    return environment


def names_in_the_code():
    """The variables that the modules' code reads, by their names."""
    for path in sorted((COLLECTION / "plugins").rglob("*.py")):
        text = path.read_text()
        yield from re.findall(r'environ(?:\.get\(|\.pop\(|\[)"(\w+)"', text)
        yield from re.findall(r'\boption\("([A-Z_]+)"\)', text)


def test_the_documented_table_is_the_one_in_the_code():
    rows = re.findall(r"^\| (`.*?) \| (\w+) \|", (COLLECTION / "docs/environment.md").read_text(), re.MULTILINE)
    documented = [(tuple(re.findall(r"`(.*?)`", names)), kind) for names, kind in rows]
    assert documented == list(RULES)


def test_what_the_code_reads_is_in_the_table():
    known = {pattern for names, _kind in RULES for pattern in names}
    found = set(names_in_the_code())
    assert {"DOCKER_HOST", "BUILDX_CONFIG", "BUILDX_BUILDER"} <= found
    assert found <= known


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DOCKER_DEFAULT_PLATFORM", "linux/arm64"),
        ("DOCKER_API_VERSION", "1.12"),
        ("DOCKER_BUILDKIT", "0"),
        ("DOCKER_CLI_PLUGIN_ORIGINAL_CLI_COMMAND", "docker"),
        ("BUILDX_BUILDER", "other"),
        ("BUILDX_GIT_LABELS", "full"),
        ("BUILDX_NO_DEFAULT_ATTESTATIONS", "1"),
        ("BUILDX_METADATA_PROVENANCE", "max"),
        ("BUILDX_EXPERIMENTAL", "1"),
        ("SOURCE_DATE_EPOCH", "1"),
        ("BUILDKIT_PROGRESS", "quiet"),
        ("BUILDKIT_HOST", "tcp://h:1"),
        ("COMPOSE_FILE", "x"),
        ("ALL_PROXY", PROXY),
        ("all_proxy", PROXY),
        ("QEMU_STRACE", "1"),
        ("GIT_DIR", "/srv/other/.git"),
        ("GIT_CONFIG_PARAMETERS", "'core.worktree'='/srv/other'"),
        ("LANGUAGE", "de"),
    ],
)
def test_what_would_change_a_declared_task_reaches_no_program(environment, name, value):
    environment.setenv(name, value)
    assert treatment(name) in (REMOVED, OPTION)
    assert name not in for_program(["docker", "buildx"], {})
    # What the logic itself sets does.
    assert for_program(["docker", "buildx"], {name: "ours"})[name] == "ours"


@pytest.mark.parametrize(
    "name",
    [
        "DOCKER_HOST",
        "DOCKER_CONTEXT",
        "DOCKER_TLS_VERIFY",
        "DOCKER_CERT_PATH",
        "DOCKER_CONFIG",
        "DOCKER_AUTH_CONFIG",
        "BUILDX_CONFIG",
        "EXPERIMENTAL_BUILDKIT_SOURCE_POLICY",
        "HTTPS_PROXY",
        "SSH_AUTH_SOCK",
        "GIT_CONFIG_GLOBAL",
        "SSL_CERT_FILE",
        "TMPDIR",
        "OTEL_SERVICE_NAME",
        "KUBECONFIG",
        "MY_OWN",
    ],
)
def test_what_reaches_things_works_as_for_docker(environment, tmp_path, name):
    environment.setenv(name, str(tmp_path))
    assert for_program(["docker"], {})[name] == str(tmp_path)


def test_what_is_read_is_in_one_language(environment):
    environment.setenv("LC_ALL", "tr_TR.UTF-8")
    environment.setenv("LANGUAGE", "tr")
    environment.setenv("PATH", os.defpath)
    said = run([sys.executable, "-c", "import os; print(os.environ['LC_ALL'], os.environ.get('LANGUAGE'))"])
    assert said.stdout.split() == ["C.UTF-8", "None"]


@pytest.fixture
def engines(environment, tmp_path):
    """A configuration with engines in a context, in a builder and in the environment."""
    material = tmp_path / "ca.pem"
    params = {"state": "present", "owner": None, "purge": False, "builder": None, "docker_config": None}
    items = [
        {"name": "arm1", "host": "tcp://arm1.example.com:2376", "skip_tls_verify": True},
        {"name": "six", "host": "tcp://[2001:db8::5]:2376", "skip_tls_verify": True},
        {"name": "ssh", "host": "ssh://root@far"},
    ]
    contexts({**params, "contexts": items}, False, run)
    nodes = (Node("a", "tcp://amd1:2375"), Node("b", "arm1"), Node("c", "unix:///var/run/docker.sock"))
    store = Store.of({})
    store.write(Instance("farm", "docker-container", nodes), None)
    (store.directory / "instances/broken").write_text("{")
    environment.setenv("DOCKER_HOST", "tcp://default:2376")
    assert not material.exists()
    # Whoever runs buildx has engines looked for, whatever other tests did before.
    environment.setattr(_environment, "_engine_finders", [])
    Buildx(run)
    return environment


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"])
def test_engines_are_reached_past_a_proxy(engines, name):
    engines.setenv(name, PROXY)
    found = for_program(["docker", "buildx", "ls"], {})
    direct = "[2001:db8::5]:2376,amd1:2375,arm1.example.com:2376,default:2376"
    assert (found["NO_PROXY"], found["no_proxy"], found[name]) == (direct, direct, PROXY)
    engines.setenv("no_proxy", "localhost, .example.com,")
    assert for_program(["docker", "info"], {})["NO_PROXY"] == f"localhost,.example.com,{direct}"
    engines.setenv("NO_PROXY", "amd1:2375")
    assert for_program(["docker", "info"], {})["NO_PROXY"].split(",").count("amd1:2375") == 1
    named = for_program(["docker", "--host", "tcp://named:2375", "info"], {"NO_PROXY": ""})
    assert "named:2375" in named["NO_PROXY"].split(",")


def test_builders_of_another_store_are_reached_past_a_proxy(engines, tmp_path):
    engines.setenv("HTTPS_PROXY", PROXY)
    Store(tmp_path / "scratch").write(Instance("x", "docker-container", (Node("n", "tcp://new:2375"),)), None)
    found = for_program(["docker", "buildx", "inspect"], {"BUILDX_CONFIG": str(tmp_path / "scratch")})
    assert "new:2375" in found["NO_PROXY"] and "amd1" not in found["NO_PROXY"]


def test_without_a_proxy_and_for_other_programs_nothing_is_added(engines):
    assert "NO_PROXY" not in for_program(["docker", "info"], {})
    engines.setenv("HTTPS_PROXY", PROXY)
    assert "NO_PROXY" not in for_program(["systemctl", "show"], {})


@pytest.mark.parametrize("value", ["", None])
def test_an_empty_home_is_that_of_the_account(environment, value):
    environment.delenv("DOCKER_CONFIG")
    if value is not None:
        environment.setenv("HOME", value)
    own = pwd.getpwuid(os.getuid()).pw_dir
    assert config_dir({}) == Path(own, ".docker")
    assert config_dir({"docker_config": "~/x"}) == Path(own, "x")
    assert expanded("~") == own
    settle()
    assert for_program(["docker"], {})["HOME"] == os.path.expanduser("~") == own


def test_without_home_and_account_the_way_out_is_named(no_account):
    for look in (home, lambda: config_dir({}), lambda: Store.of({}), lambda: expanded("~/x")):
        with pytest.raises(FarmError, match=r"set HOME in the task's environment, or .*docker_config"):
            look()
    settle()
    assert "HOME" not in os.environ
    assert config_dir({"docker_config": "/x"}) == Path("/x")
    assert user() == str(os.getuid())
    no_account.setenv("HOME", "/somewhere")
    assert config_dir({}) == Path("/somewhere/.docker")


def test_paths_that_no_shell_has_expanded(environment):
    environment.setenv("HOME", "/home/me")
    environment.setenv("DOCKER_CONFIG", "~/docker")
    environment.setenv("BUILDX_CONFIG", "~/buildx")
    assert config_dir({}) == Path("/home/me/docker")
    assert Store.of({}).directory == Path("/home/me/buildx")
    settle()
    assert for_program(["docker"], {})["BUILDX_CONFIG"] == "/home/me/buildx"
    with pytest.raises(FarmError, match="no user 'nobody-of-this-name'"):
        expanded("~nobody-of-this-name/x")
    assert expanded("x/~") == os.path.abspath("x/~")


def test_contexts_of_another_home_are_not_looked_for(environment):
    environment.setenv("HOME", "/nonexistent")
    assert ContextStore(config_dir({})).all() == {}


def test_secrets_in_what_a_program_was_told_and_says_are_masked():
    said = "Get https://h/x?token=secret: denied for http://me:secret@proxy:1"
    with pytest.raises(CommandError) as caught:
        checked(run, ["sh", "-c", f"echo '{said}'; echo '{said}' >&2; exit 1", "https://me:secret@h"], "wanted")
    assert "secret" not in f"{caught.value.message} {caught.value.details}"
    assert "denied for http://***@proxy:1" in caught.value.message


def test_no_rule_is_hidden_by_an_earlier_one():
    for place, (names, kind) in enumerate(RULES):
        for name in names:
            if "*" not in name:
                assert treatment(name) == kind, (place, name)
    assert _environment.NO_ENGINE.keys() <= {name for names, kind in RULES for name in names if kind == "kept"}
