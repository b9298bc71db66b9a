# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List, Optional

import pytest
from ansible_collections.buildfarm.multiarch.plugins.module_utils._buildx.store import Instance, Node, Store
from ansible_collections.buildfarm.multiarch.plugins.module_utils._context import apply as module
from ansible_collections.buildfarm.multiarch.plugins.module_utils._context import steps
from ansible_collections.buildfarm.multiarch.plugins.module_utils._context.state import read_context
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.errors import FarmError
from ansible_collections.buildfarm.multiarch.plugins.module_utils._core.outcome import Outcome
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker import transport as _transport
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker.config import config_dir
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker.context_store import (
    Context,
    ContextStore,
    TlsFiles,
)

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
#: sha256 of "arm1"
ARM1 = "a3486f31b1461f9e468a002e9ba429969d12517eed761b76aaeae632301e8741"
HOST = "tcp://arm1.example.com:2376"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BUILDX_CONFIG", "DOCKER_CONFIG", "DOCKER_HOST", "DOCKER_TLS_VERIFY", "DOCKER_TLS"):
        monkeypatch.delenv(name, raising=False)
    # What the files hold is checked by OpenSSL; here their bytes matter.
    monkeypatch.setattr(_transport, "check_files", lambda files: None)


@pytest.fixture
def store(tmp_path: Path) -> ContextStore:
    return ContextStore(tmp_path / "docker")


@pytest.fixture
def material(tmp_path: Path) -> Dict[str, str]:
    """Return options that name files with TLS material."""
    paths = {kind: tmp_path / f"my-{kind}.pem" for kind in ("ca", "cert", "key")}
    for kind, path in paths.items():
        path.write_text(f"the {kind}")
    return {kind: str(path) for kind, path in paths.items()}


def outcome(
    store: ContextStore, *contexts: Dict[str, Any], state: str = "present", check: bool = False, **options: Any
) -> Outcome:
    params = {"docker_config": str(store.config_dir), "state": state, "contexts": list(contexts)}
    params = {**params, "owner": None, "purge": False, "builder": None, **options}
    return module.run(params, check, None)  # type: ignore[arg-type]


def run(store: ContextStore, *contexts: Dict[str, Any], **options: Any) -> Dict[str, Any]:
    return outcome(store, *contexts, **options).as_result()


def put(store: ContextStore, name: str, content: str) -> Path:
    path = store.meta_dir(name) / "meta.json"
    path.parent.mkdir(parents=True)
    path.write_text(content)
    return path


@pytest.mark.parametrize("docker", ["docker-20.10.24", "docker-28.5.2"])
def test_reads_what_docker_writes(store: ContextStore, docker: str) -> None:
    assert store.meta_dir("arm1").name == ARM1
    put(store, "arm1", (FIXTURES / docker / "context-meta.json").read_text())
    tls = store.tls_dir("arm1")
    tls.mkdir(parents=True)
    (tls / "ca.pem").write_text("x")
    assert store.get("arm1") == Context("arm1", "<under> the stäirs", HOST, TlsFiles(ca=tls / "ca.pem"), True)
    assert store.get("arm2") is None
    assert list(store.all()) == ["arm1"]


def test_damaged_context(store: ContextStore) -> None:
    path = put(store, "arm1", "{")
    with pytest.raises(FarmError, match=str(path)):
        store.get("arm1")


def test_default_context(store: ContextStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert store.get("default") == Context("default", "", "unix:///var/run/docker.sock")
    (tmp_path / "cert.pem").write_text("x")
    monkeypatch.setenv("DOCKER_HOST", "tcp://h:2376")
    monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
    monkeypatch.setenv("DOCKER_CERT_PATH", str(tmp_path))
    assert store.get("default") == Context("default", "", "tcp://h:2376", TlsFiles(cert=tmp_path / "cert.pem"))


def test_config_dir(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert config_dir({}) == Path("/home/me/.docker")
    monkeypatch.setenv("DOCKER_CONFIG", "/somewhere")
    assert config_dir({}) == Path("/somewhere")
    assert config_dir({"docker_config": "~/else"}) == Path("/home/me/else")


def test_create_predicts_and_converges(store: ContextStore, material: Dict[str, str]) -> None:
    item = {"name": "arm1", "host": "tcp://arm1.example.com", "description": "<under> the stäirs", **material}
    predicted = run(store, item, check=True)
    assert not store.config_dir.exists()
    done = run(store, item)
    assert predicted == done
    assert done["actions"] == [["create context 'arm1'"]]
    stored = {kind: str(store.tls_dir("arm1") / f"{kind}.pem") for kind in ("ca", "cert", "key")}
    assert done["contexts"] == [
        {
            "name": "arm1",
            "host": "tcp://arm1.example.com:2376",
            "description": "<under> the stäirs",
            "skip_tls_verify": False,
            "owner": None,
            "tls": stored,
        }
    ]
    assert run(store, item) == {
        **done,
        "changed": False,
        "actions": [],
        "diff": dict.fromkeys(done["diff"], done["diff"]["after"]),
    }
    assert [path.read_text() for path in sorted(store.tls_dir("arm1").iterdir())] == ["the ca", "the cert", "the key"]
    assert {path.stat().st_mode & 0o777 for path in store.tls_dir("arm1").iterdir()} == {0o600}
    folders = (store.tls_dir("arm1"), store.tls_dir("arm1").parent, store.meta_dir("arm1") / "meta.json")
    assert [path.stat().st_mode & 0o777 for path in folders] == [0o700, 0o700, 0o644]
    # Docker's own file says the same, except that it was told to skip the verification.
    theirs = json.loads((FIXTURES / "docker-28.5.2" / "context-meta.json").read_text())
    theirs["Endpoints"]["docker"]["SkipTLSVerify"] = False
    ours = (store.meta_dir("arm1") / "meta.json").read_text()
    assert json.loads(ours) == theirs
    assert '"Description":"<under> the stäirs"' in ours


@pytest.mark.parametrize(
    ("item", "change", "tls", "mode"),
    [
        ({}, None, "the ca", 0o600),
        ({"host": "tcp://ARM1.example.com"}, None, "the ca", 0o600),
        ({"host": "tcp://arm1.example.com:2377"}, {"host": "tcp://arm1.example.com:2377"}, "the ca", 0o600),
        ({"description": "new"}, {"description": "new"}, "the ca", 0o600),
        ({"description": ""}, {"description": ""}, "the ca", 0o600),
        ({"skip_tls_verify": True}, {"skip_tls_verify": True}, "the ca", 0o600),
        ({}, {"ca": "other than"}, "another ca", 0o600),
        ({}, {"mode": "0644"}, "the ca", 0o644),
    ],
)
def test_update(
    store: ContextStore,
    material: Dict[str, str],
    item: Dict[str, Any],
    change: Optional[Dict[str, Any]],
    tls: str,
    mode: int,
) -> None:
    base = {"name": "arm1", "host": HOST, **material}
    run(store, {**base, "description": "old"})
    path = store.meta_dir("arm1") / "meta.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "Theirs": 1}))
    (store.tls_dir("arm1") / "ca.pem").write_text(tls)
    (store.tls_dir("arm1") / "ca.pem").chmod(mode)
    predicted = run(store, {**base, **item}, check=True)
    done = run(store, {**base, **item})
    assert predicted == done
    assert done["changed"] == (change is not None)
    assert run(store, {**base, **item})["changed"] is False
    before, after = done["diff"]["before"]["arm1"], done["diff"]["after"]["arm1"]
    differing = {key for key in before if before[key] != after[key]}
    assert differing == set(change or ())
    assert [after[kind] for kind in ("ca", "cert", "key")] == list(material.values())
    assert before["ca"] == (material["ca"] if tls == "the ca" else f"other than {material['ca']}")
    assert json.loads(path.read_text())["Theirs"] == 1
    assert (store.tls_dir("arm1") / "ca.pem").read_text() == "the ca"


def test_what_others_wrote_of_a_context_stays(store: ContextStore, material: Dict[str, str]) -> None:
    """Another spelling of the address, another endpoint, other metadata; and docker's own order of the keys."""
    item = {"name": "arm1", "host": HOST, **material}
    run(store, item)
    path = store.meta_dir("arm1") / "meta.json"
    meta = json.loads(path.read_text())
    spelled = HOST.replace("arm1.example.com", "ARM1.Example.com")
    meta["Endpoints"]["docker"]["Host"] = spelled
    meta["Endpoints"]["kubernetes"] = {"Host": "https://k"}
    meta["Metadata"]["Team"] = "a"
    path.write_text(json.dumps(meta))
    assert run(store, item)["changed"] is False
    assert run(store, {**item, "description": "new"})["contexts"][0]["host"] == spelled
    changed = json.loads(path.read_text())
    assert changed["Endpoints"] == meta["Endpoints"]
    assert list(changed["Metadata"].items()) == [("Description", "new"), ("Team", "a")]
    # An address without a port is never right, as docker adds none.
    meta["Endpoints"]["docker"]["Host"] = "tcp://arm1.example.com"
    path.write_text(json.dumps(meta))
    assert run(store, item)["changed"] is True


def test_tls_material_is_kept_replaced_and_removed(store: ContextStore, material: Dict[str, str]) -> None:
    run(store, {"name": "arm1", "host": HOST, **material})
    assert run(store, {"name": "arm1", "host": HOST})["changed"] is False
    assert run(store, {"name": "arm1", "host": HOST, "ca": material["ca"]})["changed"]
    assert [path.name for path in store.tls_dir("arm1").iterdir()] == ["ca.pem"]
    done = run(store, {"name": "arm1", "host": HOST, "insecure": True})
    assert done["contexts"][0]["tls"] is None
    assert store.get("arm1").tls is None  # type: ignore[union-attr]


def test_check_mode_expects_missing_files_to_come(store: ContextStore, material: Dict[str, str]) -> None:
    item = {"name": "arm1", "host": HOST, **material}
    Path(material["key"]).unlink()
    assert run(store, item, check=True)["actions"] == [["create context 'arm1'"]]
    with pytest.raises(FarmError, match=r"arm1.*my-key\.pem: no such file"):
        run(store, item)


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([{"name": "default", "host": HOST}], "reserves"),
        ([{"name": "a/b", "host": HOST}], "wanted"),
        ([{"name": "arm1"}], "host is missing"),
        ([{"name": "arm1", "host": "arm2"}], "no URL"),
        ([{"name": "arm1", "host": HOST}], "without TLS.*insecure=true"),
        ([{"name": "arm1", "host": HOST, "insecure": True, "ca": "/x"}], "insecure=true"),
        ([{"name": "arm1", "host": "ssh://arm1", "ca": "/x"}], "ssh host"),
        ([{"name": "arm1", "host": HOST, "cert": "/x"}], "cert and key"),
        ([{"name": "arm1", "host": "ssh://a1"}, {"name": "arm1", "host": "ssh://a2"}], "more than once: arm1"),
        ([{"name": "Farm", "host": "ssh://a1"}], "buildx builder"),
    ],
)
@pytest.mark.parametrize("check", [True, False])
def test_refuses(store: ContextStore, items: Any, message: str, check: bool) -> None:
    (store.config_dir / "buildx" / "instances").mkdir(parents=True)
    (store.config_dir / "buildx" / "instances" / "farm").touch()
    with pytest.raises(FarmError, match=message):
        run(store, *items, check=check)
    assert store.all() == {}


def test_absent(store: ContextStore, material: Dict[str, str]) -> None:
    run(store, {"name": "arm1", "host": HOST, **material}, {"name": "arm2", "host": "ssh://arm2"})
    both = [{"name": "arm1"}, {"name": "arm3"}]
    predicted = run(store, *both, state="absent", check=True)
    assert run(store, *both, state="absent") == predicted
    assert predicted["actions"] == [["remove context 'arm1'"]]
    assert list(store.all()) == ["arm2"]
    assert not store.tls_dir("arm1").parent.exists()
    assert run(store, *both, state="absent")["changed"] is False


def test_current_context_is_not_removed(store: ContextStore) -> None:
    run(store, {"name": "arm2", "host": "ssh://arm2"})
    (store.config_dir / "config.json").write_text('{"currentContext": "arm2"}')
    with pytest.raises(FarmError, match=r"current one.*docker context use default"):
        run(store, {"name": "arm2"}, state="absent", check=True)


def ssh(*names: str) -> List[Dict[str, Any]]:
    return [{"name": name, "host": f"ssh://{name}"} for name in names]


def put_builder(store: ContextStore, name: str, *endpoints: str) -> None:
    builders = Store(store.config_dir / "buildx")
    nodes = tuple(Node(f"{name}{number}", endpoint) for number, endpoint in enumerate(endpoints))
    builders.write(Instance(name, "docker-container", nodes), builders.read(name))


def test_purge_removes_what_was_made_for_the_owner(store: ContextStore, material: Dict[str, str]) -> None:
    run(store, {"name": "arm1", "host": HOST, **material}, *ssh("arm2"), owner="farm")
    run(store, *ssh("arm3"), owner="other")
    run(store, *ssh("theirs"))
    assert run(store, *ssh("arm2"), owner="farm")["leftover"] == ["arm1"]
    predicted = run(store, *ssh("arm2"), owner="farm", purge=True, check=True)
    assert "arm1" in store.all()
    done = run(store, *ssh("arm2"), owner="farm", purge=True)
    assert predicted == done
    assert (done["actions"], done["leftover"]) == ([["remove context 'arm1'"]], [])
    assert (done["diff"]["before"]["arm1"]["host"], done["diff"]["after"]["arm1"]) == (HOST, None)
    assert list(store.all()) == ["arm2", "arm3", "theirs"]
    assert not store.tls_dir("arm1").parent.exists()
    assert run(store, *ssh("arm2"), owner="farm", purge=True)["changed"] is False
    assert run(store, owner="farm", purge=True, state="absent")["actions"] == [["remove context 'arm2'"]]
    assert list(store.all()) == ["arm3", "theirs"]


def test_contexts_of_others_are_kept_as_declared_and_not_taken_over(store: ContextStore) -> None:
    run(store, *ssh("theirs"))
    done = run(store, *ssh("theirs"), owner="farm")
    assert (done["changed"], done["contexts"][0]["owner"]) == (False, None)
    assert run(store, {"name": "theirs", "host": "ssh://elsewhere"}, owner="farm")["changed"]
    assert run(store, owner="farm", purge=True)["changed"] is False
    # A copy of one of ours, as docker context create --from makes it.
    run(store, *ssh("ours"), owner="farm")
    meta = json.loads((store.meta_dir("ours") / "meta.json").read_text())
    put(store, "copy", json.dumps({**meta, "Name": "copy"}))
    assert run(store, owner="farm", purge=True)["actions"] == [["remove context 'ours'"]]
    assert list(store.all()) == ["copy", "theirs"]


def test_a_context_changes_its_owner(store: ContextStore) -> None:
    run(store, {**ssh("arm1")[0], "description": "mine"}, owner="farm")
    assert run(store, *ssh("arm1"))["contexts"][0]["owner"] == "farm"
    done = run(store, *ssh("arm1"), owner="other")
    assert (done["actions"], done["contexts"][0]["owner"]) == ([["update context 'arm1'"]], "other")
    before, after = done["diff"]["before"]["arm1"], done["diff"]["after"]["arm1"]
    assert {key: after[key] for key in after if before[key] != after[key]} == {"owner": "other"}
    assert run(store, owner="farm", purge=True)["changed"] is False


def test_purge_spares_what_is_in_use(store: ContextStore) -> None:
    run(store, *ssh("arm1", "arm2", "arm3"), owner="farm")
    put_builder(store, "Build", "arm1", "unix:///x")
    (store.config_dir / "config.json").write_text('{"currentContext": "arm2"}')
    found = outcome(store, owner="farm", purge=True)
    assert found.actions == [["remove context 'arm3'"]]
    assert found.values["leftover"] == ["arm1", "arm2"]
    assert found.warnings == (
        "context 'arm1' is no longer declared, and stays: builder 'Build' uses it",
        "context 'arm2' is no longer declared, and stays: it is docker's current one",
    )
    assert outcome(store, owner="farm").warnings == ()
    # What an earlier task of a check would have changed.
    planned = {"name": "Build", "nodes": [{"name": "n", "endpoint": "unix:///x"}]}
    assert run(store, owner="farm", purge=True, builder=planned)["actions"] == [["remove context 'arm1'"]]


def test_a_planned_builder_needs_its_contexts(store: ContextStore) -> None:
    run(store, *ssh("arm1"), owner="farm")
    planned = {"name": "build", "nodes": [{"name": "n", "endpoint": "arm1"}]}
    assert run(store, owner="farm", purge=True, builder=planned)["changed"] is False


def test_purge_does_not_guess_what_a_damaged_builder_uses(store: ContextStore) -> None:
    run(store, *ssh("arm1"), owner="farm")
    put_builder(store, "build", "arm1")
    Store(store.config_dir / "buildx").path("build").write_text("{")
    assert run(store, *ssh("arm1"), owner="farm", purge=True)["changed"] is False
    with pytest.raises(FarmError, match="instances/build: not JSON"):
        run(store, owner="farm", purge=True)


def test_a_damaged_context_of_others_is_no_obstacle(store: ContextStore) -> None:
    put(store, "theirs", "{")
    run(store, *ssh("arm1"), owner="farm")
    # A copy of the files that docker does not find by its name.
    misplaced = store.meta_dir("elsewhere") / "meta.json"
    misplaced.parent.mkdir()
    misplaced.write_text((store.meta_dir("arm1") / "meta.json").read_text().replace("arm1", "arm2"))
    assert list(store.all()) == ["arm1"]
    assert run(store, owner="farm", purge=True)["actions"] == [["remove context 'arm1'"]]


def test_failed_write_is_rolled_back(
    store: ContextStore, material: Dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    item = {"name": "arm1", "host": HOST, **material}
    run(store, item)
    before = read_context(store, "arm1")
    real = steps.write_together

    def full_disk(files: Any) -> None:
        files = list(files)
        real(files[:1])
        monkeypatch.setattr(steps, "write_together", real)
        raise OSError(28, "No space left on device", str(files[1][0]))

    monkeypatch.setattr(steps, "write_together", full_disk)
    Path(material["ca"]).write_text("a new ca")
    with pytest.raises(FarmError, match=r"'arm1'.*No space left on device.*as it was"):
        run(store, item)
    assert read_context(store, "arm1") == before


def test_files_that_docker_could_not_use_are_refused(
    store: ContextStore, material: Dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: List[TlsFiles] = []

    def refuse(files: TlsFiles) -> None:
        checked.append(files)
        raise FarmError("not a key")

    item = {"name": "arm1", "host": HOST, **material}
    run(store, item)
    monkeypatch.setattr(_transport, "check_files", refuse)
    assert not run(store, item)["changed"]
    assert checked == []
    for check in (True, False):
        with pytest.raises(FarmError, match="context 'arm1': not a key"):
            run(store, {**item, "description": "other"}, check=check)
        with pytest.raises(FarmError, match="context 'arm2': not a key"):
            run(store, {**item, "name": "arm2"}, check=check)
    assert checked[0] == TlsFiles(**{kind: Path(path) for kind, path in material.items()})
    assert list(store.all()) == ["arm1"]


@pytest.mark.parametrize(
    ("variables", "tls", "unverified"),
    [
        ({}, False, False),
        ({"DOCKER_TLS": "1"}, True, True),
        ({"DOCKER_TLS_VERIFY": "1"}, True, False),
        ({"DOCKER_TLS": "1", "DOCKER_TLS_VERIFY": "1"}, True, False),
    ],
)
def test_tls_of_the_environment(
    store: ContextStore,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    variables: Dict[str, str],
    tls: bool,
    unverified: bool,
) -> None:
    (tmp_path / "ca.pem").touch()
    for name, value in {"DOCKER_CERT_PATH": str(tmp_path), **variables}.items():
        monkeypatch.setenv(name, value)
    found = store.get("default")
    assert found is not None
    assert (found.tls, found.skip_tls_verify) == (TlsFiles(ca=tmp_path / "ca.pem") if tls else None, unverified)


def test_the_current_endpoint(store: ContextStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DOCKER_CONTEXT", raising=False)
    assert store.current_endpoint() == "unix:///var/run/docker.sock"
    store.config_dir.mkdir()
    (store.config_dir / "config.json").write_text('{"currentContext": "arm1"}')
    assert store.current_endpoint() == "arm1"
    monkeypatch.setenv("DOCKER_CONTEXT", "arm2")
    assert store.current_endpoint() == "arm2"
    monkeypatch.setenv("DOCKER_CONTEXT", "default")
    assert store.current_endpoint() == "unix:///var/run/docker.sock"
    monkeypatch.setenv("DOCKER_HOST", "tcp://h:1")
    assert store.current_endpoint() == "tcp://h:1"
    (store.config_dir / "config.json").write_text("{")
    monkeypatch.delenv("DOCKER_HOST")
    monkeypatch.delenv("DOCKER_CONTEXT")
    assert store.current_endpoint() == "unix:///var/run/docker.sock"


def test_names_and_paths_of_tls_files() -> None:
    assert TlsFiles(Path("/ca"), None, Path("/k")).items() == (("ca", Path("/ca")), ("cert", None), ("key", Path("/k")))
