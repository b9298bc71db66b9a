"""Jobs as AWX runs them: `ansible-runner transmit | worker | process`, each in a new container, on a host of the farm.

An execution node runs the container by podman, as root. A container group is a pod of Kubernetes, here by podman too:
the worker itself is inside, as a random user of group 0, and of its root nothing but /runner and /tmp can be written.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from jinja2.sandbox import ImmutableSandboxedEnvironment

import awx_api
from ansible_runs import CHECKOUT, LiveFarm
from checkout import copy_collection
from execution_environment import IMAGE

AWX = CHECKOUT / "examples/awx"
#: Where a job's directory is in its container.
INSIDE = "/runner"
#: Of all jobs, as AWX sets it.
_ENVIRONMENT = {
    "ANSIBLE_COLLECTIONS_PATH": f"{INSIDE}/requirements_collections:/usr/share/ansible/collections",
    "ANSIBLE_FORCE_COLOR": "True",
    "ANSIBLE_HOST_KEY_CHECKING": "False",
    "ANSIBLE_UNSAFE_WRITES": "1",
    "INVENTORY_UPDATE_ID": "",
}
_RUN = """
set -o pipefail; cd /srv/jobs; rm -rf {name} {name}.out; mkdir {name}; tar -xC {name}
ansible-runner transmit {name} -p {playbook} {options} | timeout --kill-after 5 {seconds} {worker} |
  ansible-runner process {name} >process.log 2>&1
echo "status $?"; cat {name}/artifacts/rc || cat process.log; echo
for file in {name}/artifacts/job_events/*.json; do cat $file; echo; done
rm -rf {name}
"""
#: After which a worker is ended that others would wait for.
_SECONDS = 420
_WORKER = "ansible-runner worker --private-data-dir"


@dataclass(frozen=True)
class Job:
    """A job that has ended.

    :ivar events: what ansible-runner told of it, which AWX keeps and shows.
    """

    rc: int
    events: list[dict[str, Any]]

    @property
    def stdout(self) -> str:
        """What AWX shows."""
        return "\n".join(event["stdout"] for event in self.events)

    @property
    def changed(self) -> list[str]:
        """`host: task` for each task that reported a change."""
        return [f"{data['host']}: {data['task']}" for data in self._results() if data["res"].get("changed")]

    @property
    def artifacts(self) -> dict[str, Any]:
        """What `set_stats` gives to the jobs that follow in a workflow."""
        found = [event["event_data"] for event in self.events if event["event"] == "playbook_on_stats"]
        return dict(found[-1].get("artifact_data") or {}) if found else {}

    def results(self, action: str) -> list[dict[str, Any]]:
        """What tasks with a module returned."""
        return [data["res"] for data in self._results() if data["task_action"].rpartition(".")[2] == action]

    def expect_success(self) -> Job:
        """Return this job; a failed one ends the test with what AWX would show."""
        assert self.rc == 0, self.stdout[-8000:]
        return self

    def _results(self) -> list[dict[str, Any]]:
        return [event["event_data"] for event in self.events if "res" in event.get("event_data", {})]


class Controller:
    """AWX's part: it fills a job's directory, sends it to a container, and keeps what comes back."""

    def __init__(
        self, farm: LiveFarm, host: str, nodes: Mapping[str, Mapping[str, Any]], values: Mapping[str, Any]
    ) -> None:
        """Take the project's inventory, with other nodes and other values of its variables."""
        self.farm, self.host = farm, host
        self._inventory = _inventory(nodes, values)
        self._types = {kind["name"]: kind for kind in data("credential_types")}
        self._templates = data("templates")
        self._numbers = iter(range(1, 1000))
        farm.ssh(host, "mkdir -p /srv/jobs")

    def run(
        self,
        playbook: str,
        credentials: Mapping[str, Mapping[str, str]],
        answers: Mapping[str, Any] | None = None,
        pod: bool = False,
        limit: str = "",
        cmdline: Sequence[str] = (),
    ) -> Job:
        """Run a playbook of the project.

        :param credentials: the values of the fields of each, by its type's name.
        :param answers: those of the survey.
        :param pod: in a container group rather than on an execution node.
        """
        (survey,) = [one["survey_spec"] for one in self._templates if one["playbook"] == playbook]
        awx_api.check_answers(survey, answers or {})
        name = f"job{next(self._numbers)}"
        user = f"{random.randrange(10**6, 10**9)}:0"
        options = f"--limit {limit}" if limit else ""
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "job"
            self._fill(folder, credentials, answers or {}, cmdline, isolated=not pod)
            worker = f"{_WORKER} /srv/jobs/{name}.out --delete"
            if pod:
                writable = " ".join(f"--tmpfs {path}:mode=1777" for path in (INSIDE, "/tmp", "/dev/shm"))
                worker = (
                    f"podman run --rm --interactive --user {user} --read-only --read-only-tmpfs=false {writable}"
                    f" --workdir {INSIDE} {IMAGE} {_WORKER} {INSIDE}"
                )
            script = _RUN.format(name=name, playbook=playbook, options=options, worker=worker, seconds=_SECONDS)
            with subprocess.Popen(["tar", "-cC", str(folder), "."], stdout=subprocess.PIPE) as packed:
                done = subprocess.run(
                    self.farm.farm.ssh(self.host, script),
                    stdin=packed.stdout,
                    capture_output=True,
                    text=True,
                    check=False,
                )
        lines = done.stdout.partition("status ")[2].splitlines()
        assert len(lines) > 1 and lines[1].isdigit(), f"{playbook}: {done.stdout[-3000:]} {done.stderr[-3000:]}"
        events = [json.loads(line) for line in lines[2:] if line.startswith("{")]
        return Job(int(lines[1]), sorted(events, key=lambda event: int(event["counter"])))

    def _fill(
        self,
        folder: Path,
        credentials: Mapping[str, Mapping[str, str]],
        answers: Mapping[str, Any],
        cmdline: Sequence[str],
        isolated: bool,
    ) -> None:
        """Write a job's directory."""
        shutil.copytree(AWX, folder / "project")
        copy_collection(folder / "requirements_collections")
        (folder / "inventory").mkdir()
        (folder / "env").mkdir()
        environment, variables = dict(_ENVIRONMENT), {}
        for kind, values in credentials.items():
            found = injected(self._types[kind], values, folder)
            environment |= found.get("env", {})
            variables |= found.get("extra_vars", {})
        options = ["--user=root", "--network=host"]
        settings = {
            "process_isolation": isolated,
            "process_isolation_executable": "podman",
            "container_image": IMAGE,
            "container_options": options,
            "suppress_env_files": True,
        }
        _write(folder / "env/envvars", json.dumps(environment))
        _write(folder / "env/extravars", json.dumps({**variables, **answers}))
        _write(folder / "env/settings", json.dumps(settings if isolated else {"suppress_env_files": True}))
        _write(folder / "env/cmdline", " ".join(["-u", "root", *cmdline]))
        _write(folder / "env/ssh_key", (self.farm.farm.directory / "ssh/id").read_text())
        inventory = folder / "inventory/hosts"
        inventory.write_text(f"#!/usr/bin/env python3\nprint({json.dumps(self._inventory)!r})\n")
        inventory.chmod(0o700)


class _Loader(yaml.SafeLoader):
    """Reads what Ansible is not to template as it is."""


_Loader.add_constructor("!unsafe", lambda loader, node: loader.construct_scalar(node))


def data(name: str, project: Path = AWX) -> list[dict[str, Any]]:
    """What the project has for AWX, of one kind."""
    found = yaml.load((project / f"controller/{name}.yml").read_text(), Loader=_Loader)  # noqa: S506
    return list(found[f"controller_{name}"])


def _inventory(nodes: Mapping[str, Mapping[str, Any]], values: Mapping[str, Any]) -> dict[str, Any]:
    """The project's inventory as AWX gives it to a job."""
    groups = yaml.safe_load((AWX / "inventory/hosts.yml").read_text())["all"]["children"]
    variables = yaml.safe_load((AWX / "inventory/group_vars/all.yml").read_text())
    controllers = groups["buildx_controllers"]["hosts"]
    return {
        "all": {"vars": {**variables, **values}, "children": ["buildx_controllers", "buildx_nodes"]},
        "buildx_controllers": {"hosts": list(controllers)},
        "buildx_nodes": {"hosts": list(nodes)},
        "_meta": {"hostvars": {**controllers, **{name: dict(values) for name, values in nodes.items()}}},
    }


def injected(kind: Mapping[str, Any], values: Mapping[str, str], folder: Path) -> dict[str, dict[str, str]]:
    """What a credential gives to a job, by the injectors of its type; its files are written."""
    fields = {field["id"]: values.get(field["id"], "") for field in kind["inputs"]["fields"]}
    environment = ImmutableSandboxedEnvironment()
    names: dict[str, str] = {}
    for template, text in kind["injectors"].get("file", {}).items():
        path = folder / "env" / f"tmp{random.randrange(10**9)}"
        _write(path, environment.from_string(text).render(fields))
        names[template.partition(".")[2]] = f"{INSIDE}/env/{path.name}"
    known = {**fields, "tower": {"filename": names}}
    return {
        target: {name: environment.from_string(text).render(known) for name, text in templates.items()}
        for target, templates in kind["injectors"].items()
        if target != "file"
    }


def _write(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o600)
