"""Running Ansible against the farm as a user does, and reading what each task returned."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import multiprocessing
import os
import subprocess
import tempfile
import threading
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bytecode
import farm as farms
import seed
from hosts import Host

CHECKOUT = Path(__file__).resolve().parents[2]


def task(
    module: str,
    /,
    check: bool = False,
    fails: bool = False,
    environment: dict[str, str] | None = None,
    **arguments: Any,
) -> dict[str, Any]:
    """Return a task that runs a module.

    :param module: one of the collection's modules, or an FQCN.
    :param check: in check mode.
    :param fails: it is to fail, and the play goes on.
    """
    action = {"name": module, module if "." in module else f"buildfarm.multiarch.{module}": arguments}
    action |= {"environment": environment} if environment else {}
    return {**action, **({"check_mode": True} if check else {}), **({"ignore_errors": True} if fails else {})}


def shell(command: str, /) -> dict[str, Any]:
    """Return a task that runs a shell command."""
    return {"name": "shell", "ansible.builtin.shell": command}


def installing(*packages: str) -> str:
    """Return a shell command that installs Debian packages on a host, with fresh lists only where they are needed."""
    install = f"apt-get -q -y install --no-install-recommends {' '.join(packages)}"
    return f"{{ {install} || {{ apt-get -q update && {install}; }}; }}"


@dataclass(frozen=True)
class Task:
    """One task's result on one host; `outcome` is ok, failed, ignored, unreachable or skipped."""

    host: str
    task: str
    action: str
    outcome: str
    result: dict[str, Any]


@dataclass(frozen=True)
class Run:
    """A finished ansible-playbook."""

    rc: int
    tasks: list[Task]
    stdout: str
    stderr: str

    @property
    def changed(self) -> list[str]:
        """`host: task` for each task that reported a change."""
        return [f"{task.host}: {task.task}" for task in self.tasks if task.result.get("changed")]

    @property
    def failures(self) -> list[str]:
        """The message of each task that failed."""
        return [str(task.result.get("msg")) for task in self.tasks if task.outcome in ("failed", "unreachable")]

    def expect_success(self) -> Run:
        """Return this run; a failed one ends the test with Ansible's own words."""
        assert self.rc == 0, f"{self.failures}\n{self.stdout[-6000:]}\n{self.stderr[-2000:]}"
        return self


class LiveFarm:
    """A running farm, as the tests use it."""

    def __init__(self, name: str, collections: Path) -> None:
        self.farm = farms.Farm(name)
        self.collections = collections
        self.registry = self.farm.registry
        self.secure_registry = self.farm.secure_registry

    @classmethod
    def start(cls, name: str, hosts: list[Host], collections: Path) -> LiveFarm:
        """Start a farm of these hosts."""
        farms.Farm(name).up(hosts, seed.store())
        return cls(name, collections)

    @classmethod
    @contextlib.contextmanager
    def running(cls, name: str, hosts: list[Host], collections: Path, given: str = "") -> Iterator[LiveFarm]:
        """Start a farm of these hosts for a while; each of pytest-xdist's workers has one of its own.

        :param given: one that is up already, to be used instead and left.
        """
        worker = os.environ.get("PYTEST_XDIST_WORKER")
        own = f"{name}-{worker}" if worker else name
        live = cls(given, collections) if given else cls.start(own, hosts, collections)
        try:
            bytecode.keep(live)
            yield live
        finally:
            if not given:
                live.farm.down()

    def address(self, host: str) -> str:
        """A host's IPv4 address."""
        return self.farm.address(host)

    def ssh(self, host: str, command: str, check: bool = True, stdin: str = "") -> str:
        """Run a shell command on a host; returns its standard output.

        :raises AssertionError: it failed, and `check` is true.
        """
        done = subprocess.run(
            self.farm.ssh(host, command), input=stdin, capture_output=True, text=True, check=False, timeout=600
        )
        assert not check or done.returncode == 0, f"{host}: {command}: {done.stdout[-2000:]} {done.stderr[-2000:]}"
        return done.stdout

    def restart_engine(self, host: str, first: str = ":", stdin: str = "") -> None:
        """Run a shell command on a host, then restart its engine, however often that was done before.

        One that had to be started a second time is warned of, with its log.

        :raises AssertionError: it does not start, by its log.
        """
        log = "journalctl -u docker -n 40 --no-pager -o cat"
        restart = f"systemctl restart docker || {{ {log}; sleep 1; systemctl restart docker; }}"
        command = f"{{ {first}; }} > /dev/null; systemctl daemon-reload; systemctl reset-failed docker; {restart}"
        if failed := self.ssh(host, command, stdin=stdin).strip():
            warnings.warn(f"{host}: its engine had to be started a second time:\n{failed}", stacklevel=2)

    def tidy(self) -> None:
        """Remove what tests have left on hosts with an engine: BuildKit's containers and caches, temporary files."""
        own = "--filter name=buildx_buildkit_"
        command = (
            "rm -rf /tmp/buildfarm-* /tmp/buildx-*; "
            f"docker ps -aq {own} | xargs -r docker rm -f; docker volume ls -q {own} | xargs -r docker volume rm"
        )
        hosts = [host.name for host in self.farm.hosts if "+" in host.base]
        with concurrent.futures.ThreadPoolExecutor(len(hosts)) as pool:
            list(pool.map(lambda host: self.ssh(host, f"timeout 60 sh -c '{command}'", check=False), hosts))

    @contextlib.contextmanager
    def trusted_registry(self, host: str) -> Iterator[None]:
        """Let a host's engine use the farm's plain registry for a while, without a restart."""
        path = "/etc/docker/daemon.json"
        kept = self.ssh(host, f"mkdir -p /etc/docker; cat {path} 2>/dev/null || echo {{}}")
        settings = json.loads(kept)

        def trust(registries: list[str], wait: str) -> None:
            # The engine reads its configuration some time after it was told to.
            listed = f"docker info --format '{{{{json .RegistryConfig.IndexConfigs}}}}' | grep -qF {self.registry}"
            command = f'cat > {path}; systemctl reload docker; timeout 20 sh -c "{wait} {listed}; do sleep 0.1; done"'
            self.ssh(host, command, stdin=json.dumps({**settings, "insecure-registries": registries}))

        trust([self.registry], "until")
        try:
            yield
        finally:
            trust([], "while")
            self.ssh(host, f"cat > {path}" if settings else f"rm {path}", stdin=kept)

    def module(
        self, host: str, name: str, /, check: bool = False, fails: bool = False, **arguments: Any
    ) -> dict[str, Any]:
        """Run one of the collection's modules on a host; returns its result.

        :param check: in check mode.
        :param fails: the task must fail; otherwise it must succeed.
        """
        (result,) = self.tasks(host, task(name, check=check, fails=fails, **arguments))
        return result

    def tasks(
        self, host: str, /, *tasks: dict[str, Any], variables: dict[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """Run tasks on a host in one play; returns their results.

        A task that ignores errors must fail, each other one must succeed.

        :param variables: of the play.
        """
        run = self.play([{"hosts": host, "gather_facts": False, "vars": variables or {}, "tasks": list(tasks)}])
        assert run.tasks, run.stdout[-4000:] + run.stderr[-4000:]
        wanted = ["ignored" if one.get("ignore_errors") else "ok" for one in tasks]
        for found, outcome in zip(run.tasks, wanted):
            assert found.outcome == outcome, json.dumps(found.result, indent=1)[:8000]
        assert len(run.tasks) == len(wanted), run.stdout[-4000:]
        return [found.result for found in run.tasks]

    def converge(
        self,
        host: str,
        name: str,
        /,
        variables: dict[str, Any] | None = None,
        boot: str | None = None,
        values: Sequence[str] = ("changed", "actions", "diff"),
        **arguments: Any,
    ) -> dict[str, Any]:
        """Predict what a module does, let it do it, and run it again, all in one play; returns what it did.

        Nothing may be left for the second run.

        :param boot: a shell command that does what a boot does, after which nothing is left to do either.
        :param values: what has to be predicted.
        """
        want = task(name, **arguments)
        booted = [shell(boot), want] if boot else []
        tasks = [task(name, check=True, **arguments), want, want, *booted]
        predicted, real, *again = self.tasks(host, *tasks, variables=variables)
        for key in values:
            assert predicted[key] == real[key], key
        for later in again[::2]:
            assert (later["changed"], later["actions"]) == (False, []), later["diff"]
            assert later["diff"]["before"] == later["diff"]["after"] == real["diff"]["after"]
        return real

    def play(self, plays: list[dict[str, Any]], check: bool = False, **options: Any) -> Run:
        """Run plays given as data."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "play.yml"
            path.write_text(json.dumps(plays))
            return self.playbook(str(path), check=check, **options)

    def playbook(
        self,
        name: str,
        check: bool = False,
        variables: dict[str, Any] | None = None,
        inventory: dict[str, Any] | None = None,
        limit: str | None = None,
        show: bool = False,
        verbosity: int = 0,
        directory: Path | None = None,
        more: Sequence[str] = (),
    ) -> Run:
        """Run a playbook, by path or by its name in the collection.

        :param inventory: instead of the farm's own; hosts' connection variables are filled in by name.
        :param verbosity: how many times `-v`.
        :param show: let Ansible print to the terminal; otherwise it prints diffs, and the output is kept.
        :param directory: where the user is.
        :param more: arguments of the user.
        """
        with tempfile.TemporaryDirectory() as folder:
            records, hosts, extra = (Path(folder) / file for file in ("records", "inventory.json", "variables.json"))
            hosts.write_text(json.dumps(self.inventory(inventory)))
            extra.write_text(json.dumps(variables or {}))
            argv = ["ansible-playbook", "-i", str(hosts), "-e", f"@{extra}"]
            argv += [*(["--check"] if check else []), *([] if show else ["--diff"])]
            argv += ["--limit", limit] if limit else []
            argv += [f"-{'v' * verbosity}"] if verbosity else []
            settings = {"ANSIBLE_CONFIG": str(CHECKOUT / "tests/integration/ansible.cfg")}
            environment = {**self.environment(), **settings, "BUILDFARM_RECORDS": str(records)}
            outputs = None if show else (Path(folder) / "stdout", Path(folder) / "stderr")
            rc = _forked([*argv, *more, name], environment, outputs, directory or Path.cwd())
            lines = records.read_text().splitlines() if records.exists() else []
            said = [path.read_text(errors="replace") for path in outputs or ()] or ["", ""]
        return Run(rc, [Task(**json.loads(line)) for line in lines], *said)

    def inventory(self, groups: dict[str, Any] | None = None) -> dict[str, Any]:
        """The farm's inventory; with `groups` ({group: {host: variables}}) in those groups."""
        whole = self.farm.inventory()
        # Connections of an earlier farm at the same addresses must not be taken up.
        whole["all"]["vars"]["ansible_control_path_dir"] = str(self.farm.directory / "cp")
        if groups is None:
            return whole
        known = {name: values for group in whole["all"]["children"].values() for name, values in group["hosts"].items()}
        whole["all"]["children"] = {
            group: {"hosts": {host: {**known.get(host, {}), **(values or {})} for host, values in hosts.items()}}
            for group, hosts in groups.items()
        }
        return whole

    def variables(self, image: str) -> dict[str, Any]:
        """What a user of this farm writes into group_vars: a registry of one's own instead of Docker Hub.

        :param image: repository and tag of the hello image.
        """
        return {
            "farm_platforms": ["linux/amd64", "linux/arm64"],
            "farm_driver_opts": {"image": f"{self.registry}/{seed.BUILDKIT}", "network": "host"},
            "farm_buildkitd_config": f'[registry."{self.registry}"]\n  http = true\n',
            "engine_daemon_config": {"insecure-registries": [self.registry]},
            "emulators_image": f"{self.registry}/{seed.EMULATOR}",
            "images_list": [
                {
                    "name": f"{self.registry}/{image}",
                    "source": str(CHECKOUT / "examples/hello"),
                    "context": "/srv/hello",
                    "build_args": {"REGISTRY": f"{self.registry}/library"},
                    "run": {"command": ["/hello"], "expected_regex": "^hello from {platform} on .*"},
                }
            ],
        }

    def environment(self) -> dict[str, str]:
        """Ansible's settings for these runs."""
        return {
            "ANSIBLE_COLLECTIONS_PATH": str(self.collections),
            "ANSIBLE_CALLBACK_PLUGINS": str(CHECKOUT / "tests/integration/callback_plugins"),
            "ANSIBLE_CALLBACKS_ENABLED": "records",
            "ANSIBLE_PIPELINING": "1",
            "ANSIBLE_FORKS": "10",
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_DEPRECATION_WARNINGS": "0",
            "ANSIBLE_LOCALHOST_WARNING": "0",
            "ANSIBLE_HOME": str(CHECKOUT / ".build/ansible"),
        }


_STARTING = threading.Lock()


def _forked(argv: list[str], environment: dict[str, str], outputs: tuple[Path, Path] | None, directory: Path) -> int:
    """Run ansible-playbook in a process of its own, forked from one that has imported Ansible; returns its status.

    Ansible reads its settings when it is imported, so they are those of the first run: only `BUILDFARM_RECORDS`, which
    the tests' own callback reads, differs between runs.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ansible_preloaded"])
    process = context.Process(target=_ansible_playbook, args=(argv, environment, outputs, directory))
    with _STARTING:
        own = dict(os.environ)
        os.environ.update(environment)
        # Where the server finds what it is to import.
        os.environ["PYTHONPATH"] = str(Path(__file__).parent)
        try:
            process.start()
        finally:
            os.environ.clear()
            os.environ.update(own)
    process.join()
    return process.exitcode or 0


def _ansible_playbook(
    argv: list[str], environment: dict[str, str], outputs: tuple[Path, Path] | None, directory: Path
) -> None:
    from ansible.cli.playbook import main

    warnings.filterwarnings("ignore", message="AnsibleCollectionFinder has already been configured")
    os.environ.pop("PYTHONPATH")
    os.environ.update(environment)
    os.chdir(directory)
    for number, path in enumerate(outputs or (), start=1):
        with path.open("wb") as stream:
            os.dup2(stream.fileno(), number)
    main(argv)
