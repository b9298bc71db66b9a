# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A random walk: declarations of one builder, one after the other, and what each has to lead to.

It is the same on engines that live in memory, where hundreds of steps take seconds, and on those of a farm.
"""

from __future__ import annotations

import base64
import json
import re
from typing import Any

FLAG = "--allow-insecure-entitlement=network.host"
PLATFORMS = ["linux/amd64", "linux/arm64", "linux/386", "linux/riscv64"]
#: Configurations of BuildKit, which differ in their words.
CONFIGS = ["", "debug = true\n", '[registry."r"]\n  http = true\n']
_NEW: dict[str, Any] = {"platforms": [], "opts": {}, "flags": [], "config": []}


class Walk:
    """The builder `farm` on engines, as it has to be.

    :param engines: the names of the hosts; each is that of a docker context too.
    :param at: gives the address of a host's engine, which is another way to it.
    :param image: of BuildKit.
    :param dice: an instance of random.Random.
    :param arm64: the host whose processor is one, if any.
    :ivar nodes: what is to be stored of each, in the order of the definition.
    """

    def __init__(self, engines, at, image, dice, arm64=None):
        self.engines, self.at, self.image, self.dice, self.arm64 = engines, at, image, dice, arm64
        self.nodes: dict[str, dict[str, Any]] = {}
        self._declared: set[str] = set()
        self._stopped = False
        self._disturbed: set[str] = set()

    def step(self, world) -> str:
        """Disturb a container or none, declare, and compare; returns what was declared.

        :param world: has `disturb(what, host)`, `run(nodes, **options)`, which fails where check mode did not predict
            what was done or a second run does anything, and `instance()`, the definition; and of all BuildKit
            containers `containers()` (identifiers by name) and `running()` (names of those that run
            and are not paused).
        """
        old, disturbed = self.nodes, self._disturb(world)
        before, running_before = world.containers(), world.running()
        nodes, options = self._declare()
        trace = f"{nodes} {options}"
        print(trace)
        world.run(nodes, **options)
        assert list(stored(world.instance()).items()) == list(self.nodes.items()), trace
        after, runs = world.containers(), world.running()
        # Only those are there that are in the builder, and none was made anew that did not need it.
        assert after.keys() <= {_container(host) for host in self.nodes}, trace
        declared = {_container(host) for host in self._declared}
        others = {_container(host) for host in self.nodes} - declared
        # What is not declared is left as it is.
        assert runs & others == running_before & others, trace
        assert runs & declared == (set() if options["state"] == "stopped" else declared), trace
        for host, node in self.nodes.items():
            name, kept = _container(host), old.get(host)
            same = kept is not None and all(kept[part] == node[part] for part in ("opts", "flags", "config"))
            if same and name in before and name not in disturbed:
                assert after[name] == before[name], trace
        return trace

    def _declare(self) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """Return declared nodes and options; what they lead to is in `nodes` then."""
        dice, declared, model = self.dice, [], {}
        purge = dice.random() < 0.7
        hosts = dice.sample(self.engines, dice.choice([1, 2, 2, 3, 3]))
        for host in hosts:
            node: dict[str, Any] = {"name": host, "endpoint": dice.choice([host, self.at(host)])}
            kept = {**self.nodes.get(host, _NEW), "endpoint": node["endpoint"]}
            if host not in self.nodes or dice.random() < 0.5:
                more = dice.choice([{}, {"env.A": "b"}, {"restart-policy": "always"}])
                node["driver_opts"] = kept["opts"] = {"image": self.image, "network": "host", **more}
            if dice.random() < 0.6:
                node["platforms"] = kept["platforms"] = dice.sample(PLATFORMS, dice.choice([0, 1, 2]))
            if dice.random() < 0.2:
                node["buildkitd_config"] = dice.choice(CONFIGS)
                kept["config"] = _words(node["buildkitd_config"])
            if host not in self.nodes or dice.random() < 0.2:
                node["buildkitd_flags"] = dice.choice([[], ["--debug"]])
                kept["flags"] = [*node["buildkitd_flags"], FLAG]
            model[host] = kept
            declared.append(node)
        self._declared = set(hosts)
        self.nodes = model if purge else self._beside(declared, model)
        return declared, {"purge_nodes": purge, "state": dice.choice(["present", "present", "present", "stopped"])}

    def _beside(self, declared: list[dict[str, Any]], model: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """Return what is to be stored where others than the declared nodes stay, in their places, with their pins.

        No declared node emulates what those run.
        """
        others = {host: node for host, node in self.nodes.items() if host not in model}
        taken = {pin for host, node in others.items() for pin in node["platforms"] if self._runs(host, pin)}
        for node in declared:
            if "platforms" in node:
                host = node["name"]
                own = [pin for pin in node["platforms"] if pin not in taken or self._runs(host, pin)]
                model[host] = {**model[host], "platforms": own}
        rest = list(model)
        order = [host if host in others else rest.pop(0) for host in self.nodes]
        return {host: {**others, **model}[host] for host in [*order, *rest]}

    def _runs(self, host: str, platform: str) -> bool:
        """Whether a host's processor runs a platform."""
        return platform in (["linux/arm64"] if host == self.arm64 else ["linux/amd64", "linux/386"])

    def _disturb(self, world) -> set[str]:
        """Do something to some container behind the module's back; returns the names of those concerned."""
        host = self.dice.choice(self.engines)
        what = self.dice.choice(["stop", "rm -f", "kill", "pause", "", "", ""])
        if what:
            world.disturb(what, host)
        return {_container(host)} if what else set()


def stored(instance) -> dict[str, dict[str, Any]]:
    """A definition, as its text is, in the form of `Walk.nodes`."""
    nodes = {}
    for raw in json.loads(instance)["Nodes"]:
        config = base64.b64decode((raw["Files"] or {}).get("buildkitd.toml", "")).decode()
        nodes[raw["Name"]] = {
            "endpoint": raw["Endpoint"],
            "platforms": [f"{one['os']}/{one['architecture']}" for one in raw["Platforms"] or []],
            "opts": raw["DriverOpts"] or {},
            "flags": raw["Flags"] or [],
            "config": _words(config),
        }
    return nodes


def _words(text: str) -> list[str]:
    return sorted(set(re.findall(r"\w+", text)))


def _container(host: str) -> str:
    return f"buildx_buildkit_{host}"
