# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The project in examples/awx: what it gives AWX is what the roles say, and AWX takes it."""

from __future__ import annotations

import json
import runpy
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import awx_api
import bootstrap
from awx_jobs import data, injected

Tool = Callable[..., str]

#: What a vaulted file has.
SECRETS = {
    "project_node_key": "-----BEGIN OPENSSH PRIVATE KEY-----\nx\n",
    "project_authority_certificate": "-----BEGIN CERTIFICATE-----\nx\n",
    "project_authority_key": "-----BEGIN PRIVATE KEY-----\nx\n",
    "project_registry_name": "registry.example.com",
    "project_registry_username": "ci",
    "project_registry_password": 'a "b"',
}
#: What AWX refuses of a survey that it would take otherwise.
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"type": "boolean"}, "is not one of"),
    ({"required": "no"}, "required missing, or not bool"),
    ({"variable": "farm builder"}, "is no name"),
    ({"type": "multiplechoice", "choices": []}, "must specify choices"),
    ({"type": "multiplechoice", "choices": [True, False]}, "choices must be text"),
    ({"type": "multiplechoice", "choices": ["true"], "default": "yes"}, "none of the choices"),
    ({"type": "integer", "default": "10"}, "not of type integer"),
]


#: Objects that AWX refuses, in one with an inventory and a project.
OBJECTS: list[tuple[str, dict[str, Any], str]] = [
    ("projects", {"organization": 1, "scm_type": "git"}, "required for git"),
    ("projects", {"organization": "Default"}, "wanted an id"),
    ("projects", {"organization": 1, "scm_uri": "x"}, "no field scm_uri"),
    ("inventories", {}, "required: organization"),
    ("job_templates", {"project": 99, "playbook": "site.yml"}, "Invalid pk 99"),
    ("job_templates", {"project": 4, "inventory": 3, "playbook": "other.yml"}, "Playbook not found"),
    ("job_templates", {"project": 4, "inventory": 3, "playbook": "site.yml", "survey_enabled": "true"}, "wanted bool"),
    ("schedules", {"unified_job_template": 4, "rrule": "FREQ=DAILY"}, "rrule"),
    ("credentials", {"credential_type": 2, "inputs": {"password": "x"}}, "unknown"),
    ("credential_types", {"kind": "cloud", "injectors": {"file": {"template": "{{ b }}"}}}, "undefined field"),
    ("credential_types", {"kind": "cloud", "injectors": {"env": {"A": "{{ tower.filename.b }}"}}}, "undefined field"),
]


@pytest.fixture(scope="module")
def awx(tree: Path) -> Path:
    return tree / "examples/awx"


@pytest.fixture(scope="session")
def collections() -> Path:
    """Where awx.awx is, taken out of the package that has it."""
    requirements = bootstrap.TESTS / "requirements-awx.txt"
    (version,) = [line for line in requirements.read_text().splitlines() if not line.startswith("#")]
    folder = bootstrap.cache() / "environments" / f"awx-{version.replace('==', '-')}"
    if not (folder / "whole").exists():
        pip = [bootstrap.ensure_venv() / "python", "-m", "pip", "download", "--quiet", "--no-deps"]
        bootstrap.subprocess.run([*pip, "--dest", folder, "-r", requirements], check=True)
        (package,) = folder.glob("*.whl")
        with zipfile.ZipFile(package) as archive:
            wanted = [name for name in archive.namelist() if name.startswith("ansible_collections/awx/awx/")]
            archive.extractall(folder, wanted)
        package.unlink()
        (folder / "whole").touch()
    return folder


def test_templates_are_made_of_the_specs(awx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generate = runpy.run_path(str(awx / "generate.py"))
    assert generate["main"](["--check"]) == 0, "please run: examples/awx/generate.py"


def test_a_survey_asks_for_few_things_of_which_no_inventory_speaks(awx: Path) -> None:
    spoken = yaml.safe_load((awx / "inventory/group_vars/all.yml").read_text())
    for template in data("templates", awx):
        questions = template["survey_spec"]["spec"]
        assert 0 < len(questions) <= 6
        awx_api.check_survey(template["survey_spec"])
        for question in questions:
            assert question["variable"] not in spoken or not question["default"]


@pytest.mark.parametrize(("wrong", "said"), REFUSED)
def test_what_awx_refuses_is_refused(awx: Path, wrong: dict[str, Any], said: str) -> None:
    survey = data("templates", awx)[0]["survey_spec"]
    survey["spec"][0] |= wrong
    with pytest.raises(awx_api.Refused, match=said):
        awx_api.check_survey(survey)


@pytest.mark.parametrize(("kind", "given", "said"), OBJECTS)
def test_objects_that_awx_refuses(kind: str, given: dict[str, Any], said: str) -> None:
    state = awx_api.State(["site.yml"])
    state.create("inventories", {"name": "an inventory", "organization": 1})
    state.create("projects", {"name": "a project", "organization": 1})
    with pytest.raises(awx_api.Refused, match=said):
        state.create(kind, {"name": "new", **given})


def test_each_playbook_has_a_file_and_a_template(tree: Path, awx: Path) -> None:
    # That of the first minutes with one host is for no AWX.
    names = {path.name for path in (tree / "playbooks").glob("*.yml")} - {"quickstart.yml"}
    assert {template["playbook"] for template in data("templates", awx)} == names
    for name in names:
        *_own, last = yaml.safe_load((awx / name).read_text())
        assert last["ansible.builtin.import_playbook"] == f"buildfarm.multiarch.{Path(name).stem}"


def test_the_project_is_read(awx: Path, tool: Tool) -> None:
    playbooks = sorted(template["playbook"] for template in data("templates", awx))
    tool("", "ansible-playbook", "--syntax-check", "--inventory", "inventory/hosts.yml", *playbooks, cwd=awx)
    listed = json.loads(tool("", "ansible-inventory", "--inventory", "inventory/hosts.yml", "--list", cwd=awx))
    assert listed["_meta"]["hostvars"]["localhost"]["ansible_connection"] == "local"
    assert listed["_meta"]["hostvars"]["amd1.example.com"]["farm_platforms"] == ["linux/amd64", "linux/arm64"]


def test_a_registry_login_is_what_docker_reads(awx: Path, tmp_path: Path) -> None:
    (login,) = [kind for kind in data("credential_types", awx) if kind["name"] == "Build farm registry login"]
    fields = {"registry": "registry.example.com:5000", "username": "ci", "password": 'a "b" \\ {{ c }}'}
    found = json.loads(injected(login, fields, tmp_path)["env"]["DOCKER_AUTH_CONFIG"])
    assert found == {"auths": {fields["registry"]: {"username": "ci", "password": fields["password"]}}}
    whole = '{"auths": {"one": {"auth": "MTox"}}}'
    assert injected(login, {"config": whole}, tmp_path)["env"]["DOCKER_AUTH_CONFIG"] == whole


def test_awx_takes_it_and_a_second_run_changes_nothing(
    awx: Path, tool: Tool, tree: Path, collections: Path, tmp_path: Path
) -> None:
    (tmp_path / "secrets.json").write_text(json.dumps(SECRETS))
    playbooks = [path.name for path in awx.glob("*.yml")]
    with awx_api.served(playbooks) as (address, state):
        environment = {
            "ANSIBLE_COLLECTIONS_PATH": str(collections),
            "ANSIBLE_PIPELINING": "1",
            "CONTROLLER_HOST": address,
            "CONTROLLER_OAUTH_TOKEN": "none-is-checked",
        }
        run = ["ansible-playbook", "--extra-vars", f"@{tmp_path / 'secrets.json'}", "configure.yml"]
        first = tool("", *run, cwd=awx, **environment)
        assert "failed=0" in first
        kept = json.dumps([state.objects, list(state.surveys.items())], sort_keys=True, default=str)
        state.requests.clear()
        second = tool("", *run, cwd=awx, **environment)
        assert "changed=0" in second, second
        assert [request for request in state.requests if not request.startswith("GET")] == []
        assert kept == json.dumps([state.objects, list(state.surveys.items())], sort_keys=True, default=str)
        workflow = {item["identifier"]: item for item in state.all("workflow_job_template_nodes")}
        followed = state.lists[("workflow_job_template_nodes", workflow["site"]["id"], "success_nodes")]
        assert followed == [workflow["build"]["id"]]
        templates = {item["playbook"]: item for item in state.all("job_templates")}
        assert len(templates) == len(data("templates", awx))
        assert set(state.surveys) == {item["id"] for item in templates.values()}
        # No secret is in what Ansible printed.
        assert SECRETS["project_registry_password"] not in first + second
        with pytest.raises(awx_api.Refused, match="not one of the choices"):
            awx_api.check_answers(state.surveys[templates["build.yml"]["id"]], {"images_rebuild": "sometimes"})
