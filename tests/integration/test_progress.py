"""Builds that are seen while they run, and that end with those who wait for them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ansible_runs import CHECKOUT, LiveFarm, task
from building import AMD, BUILDER, CONTROLLERS, BuildFarm, build_farm

PLAYBOOK = CHECKOUT / ".venv/bin/ansible-playbook"
#: Seconds within which nothing may be left of a build whose controller is gone.
END = 20
#: A line of progress: the host, the item of a loop, the seconds, and what happened.
_LINE = re.compile(r"\[(\S+)(?: (\S+))?\] +(\d+\.\d)s  (.*)")


@pytest.fixture(scope="module")
def images(farm: LiveFarm) -> Iterator[BuildFarm]:
    """Both controllers with their builders; what is built runs no steps for arm64."""
    with build_farm(farm, emulating=False) as made:
        yield made


@dataclass
class Running:
    """An ansible-playbook that runs, and when it printed what.

    :ivar lines: seconds since its start, and the line.
    """

    process: subprocess.Popen[str]
    began: float = field(default_factory=time.monotonic)
    lines: list[tuple[float, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append((time.monotonic() - self.began, line.rstrip()))

    def when(self, pattern: str) -> float:
        """Wait until a line that matches is printed; returns when that was."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            for seconds, line in list(self.lines):
                if re.search(pattern, line):
                    return seconds
            time.sleep(0.05)
        raise AssertionError(f"no {pattern!r} in {self.lines}")


@contextlib.contextmanager
def playing(images: BuildFarm, folder: Path, host: str, *tasks: dict[str, Any], **variables: str) -> Iterator[Running]:
    """Run a play as a user does at a terminal of its own.

    :param variables: of Ansible's environment.
    """
    play, inventory = folder / "play.yml", folder / "inventory.json"
    play.write_text(json.dumps([{"hosts": host, "gather_facts": False, "tasks": tasks}]))
    inventory.write_text(json.dumps(images.farm.inventory()))
    process = subprocess.Popen(
        [PLAYBOOK, "-i", inventory, play],
        env={**os.environ, **images.farm.environment(), "ANSIBLE_CALLBACKS_ENABLED": "minimal", **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield Running(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def sleeping(images: BuildFarm, host: str, *seconds: float) -> dict[str, Any]:
    """Return options of a build with a step for each number of seconds, which no builder has in its cache."""
    word = secrets.token_hex(4)
    steps = "".join(f"RUN sleep {number} && echo {word}\n" for number in seconds)
    context = images.context(host, f"sleeping-{word}", f"FROM busybox\n{steps}")
    return {"context": context, "builder": BUILDER, "platforms": ["linux/amd64"]}


@pytest.mark.parametrize("host", CONTROLLERS)
@pytest.mark.parametrize("pipelining", ["1", "0"])
def test_steps_are_shown_while_they_run(images: BuildFarm, tmp_path: Path, host: str, pipelining: str) -> None:
    build = task("buildx_build", **sleeping(images, host, 4, 4.25))
    looped = {**build, "loop": [{"name": "a"}], "loop_control": {"label": "{{ item.name }}"}}
    with playing(images, tmp_path, host, looped, ANSIBLE_PIPELINING=pipelining) as run:
        assert run.process.wait(60) == 0
        end = run.when("PLAY RECAP")
    shown = {found.group(4): (when, found) for when, line in run.lines if (found := _LINE.match(line))}
    (first, second), (began, done) = (
        [next(when for text, (when, _found) in shown.items() if re.search(pattern, text)) for pattern in patterns]
        for patterns in ((r"sleep 4 &&.*…\Z", r"sleep 4\.25 .*…\Z"), (r"sleep 4\.25 .*…\Z", r"sleep 4\.25 .*done"))
    )
    assert 3 < second - first < 6 and began == second and 3 < done - began < 6 and end - done < 3
    for _when, found in shown.values():
        assert found.group(1, 2) == (host, "a")


def test_what_is_decided_in_a_moment_is_not_shown(images: BuildFarm, tmp_path: Path) -> None:
    build = task("buildx_build", **sleeping(images, "ctl", 0.1))
    with playing(images, tmp_path, "ctl", build, build, {**build, "async": 60, "poll": 1}) as run:
        assert run.process.wait(60) == 0
    assert not [line for _when, line in run.lines[-8:] if _LINE.match(line)]


def test_silent_builds_have_the_same_result(images: BuildFarm) -> None:
    options = sleeping(images, "ctl", 2) | {"tags": [f"{images.repository}:silent"], "push": True}
    options["rebuild"] = "always"
    silent = {**task("buildx_build", **options, progress="none"), "no_log": False}
    asynchronous = {**task("buildx_build", **options), "async": 60, "poll": 1}
    shown, unseen, later = images.farm.tasks("ctl", task("buildx_build", **options), silent, asynchronous)
    assert shown["changed"] and not unseen["changed"] and not later["changed"]
    assert shown["image"] == unseen["image"] == later["image"]
    assert set(shown) == set(unseen)
    # What Ansible adds to the results of all asynchronous tasks.
    assert "ansible_job_id" in set(later) - set(shown) and set(shown) <= set(later)
    bad = images.context("ctl", "bad", "FROM busybox\nRUN sleep 2; false\n")
    failed = images.build("ctl", fails=True, **options | {"context": bad})
    assert "sleep 2; false" in failed["msg"] and failed["rc"] == 1 and failed["stderr_lines"]


def test_a_job_in_awx_can_be_read(images: BuildFarm, tmp_path: Path) -> None:
    """On a terminal, with colours, and with steps that print as if they had one to themselves."""
    loud = r"RUN for n in $(seq 300); do printf '%s of 300\r\033[31mred\033[0m\n' $n; done; sleep 3"
    endings = {
        "good": "",
        "bad": f"RUN {'true && ' * 60} echo {secrets.token_hex(4)} it is broken && sleep 1 && false\n",
    }
    listed = [
        {
            "name": f"{images.repository}/{name}:1",
            "context": images.context("ctl", f"awx-{name}", f"FROM busybox\n{loud}\n{ending}"),
            "platforms": ["linux/amd64"],
        }
        for name, ending in endings.items()
    ]
    role = {"name": "buildfarm.multiarch.images", "rolespec_validate": False}
    build = {"ansible.builtin.import_role": role, "vars": {"images_builder": BUILDER, "images_list": listed}}
    events = tmp_path / "events"
    awx = {"STDOUT_CALLBACK": "awx_display", "FORCE_COLOR": "True", "NOCOLOR": "0", "SHOW_CUSTOM_STATS": "1"}
    settings = {f"ANSIBLE_{name}": value for name, value in awx.items()}
    with playing(images, tmp_path, "ctl", build, BUILDFARM_EVENTS=str(events), **settings) as run:
        assert run.process.wait(120) == 2
    recorded = [json.loads(line) for line in events.read_text().splitlines()]
    # Ansible colours its recap by itself, and statistics begin with a tabulator.
    texts = [one["text"].lstrip("\t") for one in recorded if "unreachable=" not in one["text"]]
    for text in texts:
        assert all(letter.isprintable() or letter == "\n" for letter in text), text
    (stats,) = [text for text in texts if "buildfarm_result" in text]
    # Ansible's own words on a failure show the play as well.
    ours = [text for text in texts if text != stats and not text.startswith("[ERROR]")]
    assert not [text for text in ours if len(text.encode()) > 1024]
    progress = [one["at"] for one in recorded if one["text"].startswith("[ctl]")]
    assert 1 < len(progress) <= progress[-1] - progress[0] + 2
    ends = [text for text in texts if text.startswith(("ok: [ctl] => (item", "fatal: "))][-2:]
    for text in ends:
        assert "it is broken && sleep 1 && false" in text, ends
    assert "bad:1" in ends[1], ends
    result = json.loads(stats.partition(": ")[2])["buildfarm_result"]
    assert result["failed"] == [f"{images.repository}/bad:1"] and list(result["images"]) == [
        f"{images.repository}/good:1"
    ]


def test_nothing_is_shown_where_it_would_be_seen_by_others(images: BuildFarm, tmp_path: Path) -> None:
    build = {**task("buildx_build", **sleeping(images, "ctl", 3)), "no_log": True}
    with playing(images, tmp_path, "ctl", build) as run:
        assert run.process.wait(60) == 0
    assert not [line for _when, line in run.lines if "sleep" in line or "RUN" in line]


def _interrupted(run: Running) -> None:
    os.killpg(run.process.pid, signal.SIGINT)


def _terminated(run: Running) -> None:
    run.process.terminate()


def _killed(run: Running) -> None:
    """Kill Ansible with its workers, which have sessions of their own, as a machine does that is switched off."""
    play = str(list(run.process.args)[-1])  # type: ignore[arg-type]
    listed = subprocess.run(["pgrep", "-f", play], capture_output=True, text=True, check=True)
    for pid in listed.stdout.split():
        os.kill(int(pid), signal.SIGKILL)


@pytest.mark.parametrize("end", [_interrupted, _terminated, _killed])
@pytest.mark.parametrize(("host", "progress"), [("ctl", "auto"), ("ctlnew", "auto"), ("ctl", "none")])
def test_a_build_ends_with_ansible(
    images: BuildFarm, tmp_path: Path, host: str, progress: str, end: Callable[[Running], None]
) -> None:
    build = task("buildx_build", **sleeping(images, host, 301), progress=progress)
    with playing(images, tmp_path, host, build) as run:
        _wait(lambda: _steps(images))
        end(run)
        _expect_end(images, host, time.monotonic())


def test_a_build_ends_with_its_tasks_time(images: BuildFarm, tmp_path: Path) -> None:
    build = {**task("buildx_build", **sleeping(images, "ctl", 301)), "timeout": 12}
    with playing(images, tmp_path, "ctl", build) as run:
        _wait(lambda: _steps(images))
        assert run.process.wait(30) == 2
        # Ansible can still tell the host: nobody waits for the lease.
        _expect_end(images, "ctl", time.monotonic(), 6)


def test_builds_of_other_users_are_shown(images: BuildFarm, tmp_path: Path) -> None:
    images.farm.ssh("ctl", "useradd -m builder; cp -r ~/.docker ~builder; chown -R builder: ~builder")
    try:
        build = task("buildx_build", **sleeping(images, "ctl", 2))
        build |= {"become": True, "become_user": "builder", "become_method": "su"}
        with playing(images, tmp_path, "ctl", build) as run:
            run.when("sleep 2 .*done")
            assert run.process.wait(60) == 0
    finally:
        images.farm.ssh("ctl", "userdel -r builder")


def test_a_build_outlives_a_connection_that_comes_back(images: BuildFarm, tmp_path: Path) -> None:
    build = task("buildx_build", **sleeping(images, "ctl", 6))
    with playing(images, tmp_path, "ctl", build) as run:
        run.when("sleep 6")
        images.farm.ssh("ctl", "pkill -KILL sshd-session", check=False)
        assert run.process.wait(60) == 0
        assert run.when("sleep 6 .* done")


@pytest.mark.parametrize("host", CONTROLLERS)
@pytest.mark.parametrize("progress", ["auto", "none"])
def test_a_build_ends_with_its_module(images: BuildFarm, tmp_path: Path, host: str, progress: str) -> None:
    build = task("buildx_build", **sleeping(images, host, 301), progress=progress)
    with playing(images, tmp_path, host, build) as run:
        _wait(lambda: _steps(images))
        images.farm.ssh(host, "kill -KILL $(ps -o ppid= -C docker-buildx)")
        _expect_end(images, host, time.monotonic())
        assert run.process.wait(30) == 2
    if progress == "auto":
        assert "is gone without a result" in "\n".join(line for _when, line in run.lines)


def _steps(images: BuildFarm) -> str:
    return images.farm.ssh(AMD, "pgrep -f '^sleep 301'", check=False)


def _wait(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def _expect_end(images: BuildFarm, host: str, since: float, end: float = END) -> None:
    """Wait until nothing is left on the controller and on the node."""

    def left() -> str:
        return _steps(images) + images.farm.ssh(host, "pgrep -af '[d]ocker-buildx|[d]ocker buildx'", check=False)

    while found := left():
        assert time.monotonic() - since < end, found
        time.sleep(0.5)
    _wait(lambda: not images.farm.ssh(host, "ls -d /tmp/buildfarm-live-* /tmp/buildx-*", check=False))
