# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The inventory plugin in Ansible's own hands: options, names, groups, templates, caches."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List

import pytest
import yaml
from ansible import constants
from ansible.errors import AnsibleError
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.doc_fragments import constructed, inventory_cache
from ansible.template import Templar
from ansible_collections.buildfarm.multiarch.plugins.inventory import buildx
from ansible_collections.buildfarm.multiarch.plugins.module_utils._docker.endpoint import Endpoint
from ansible_collections.buildfarm.multiarch.plugins.module_utils._inventory.model import FoundEngine, FoundNode
from ansible_collections.buildfarm.multiarch.plugins.module_utils._platform.platform import Platform
from ansible_collections.buildfarm.multiarch.plugins.plugin_utils.unsafe import make_unsafe

AMD, ARM = Platform("linux", "amd64"), Platform("linux", "arm64")
TEMPLATE = "{{ 'rendered' }}"


def engine(name: str, native: Platform, builder: str = "farm", **settings: Any) -> FoundEngine:
    url = Endpoint.parse(f"tcp://{name}:2376")
    node = FoundNode(builder, f"{builder}-{name}", "docker-container", f"{builder}-{name}", pins=(native,))
    return FoundEngine(url.text, url, (f"{builder}-{name}",), (node,), asked=True, native=native, **settings)


AWAY = engine("gone", AMD, error=f"engine gone: {TEMPLATE}")
FOUND = (engine("amd1", AMD, version="28.5.2"), engine("arm1", ARM, "ci"), AWAY)


class Source:
    """What the plugin finds, and its file.

    :ivar asked: what was looked for, each time.
    :ivar warned: what the user was told.
    """

    def __init__(self, folder: Path) -> None:
        self.file, self.engines, self.warnings = folder / "farm.buildx.yml", FOUND, []
        self.asked: List[Any] = []
        self.warned: List[str] = []

    def gather(self, sources: Any, params: Any, runner: Any, warn: Any) -> Any:
        self.asked.append((sources, params))
        for warning in self.warnings:
            warn(warning)
        return self.engines

    def read(self, reading: bool = True, **options: Any) -> InventoryManager:
        """Have Ansible read the file; its errors are raised."""
        self.file.write_text(yaml.safe_dump({"plugin": "buildfarm.multiarch.buildx", **options}))
        manager = InventoryManager(loader=DataLoader(), sources=None, parse=False)
        plugin = loaded()
        assert plugin.verify_file(str(self.file))
        plugin.parse(manager._inventory, manager._loader, str(self.file), cache=reading)
        if options.get("cache"):
            plugin.update_cache_if_changed()
        return manager

    def groups(self, **options: Any) -> Dict[str, List[str]]:
        """The hosts of the groups that options make."""
        found = self.read(**options).groups
        return {name: sorted(host.name for host in group.get_hosts()) for name, group in found.items()}

    def variables(self, host: str, **options: Any) -> Dict[str, Any]:
        return dict(self.read(**options).get_host(host).get_vars())


def loaded() -> buildx.InventoryModule:
    """The plugin as Ansible's loader gives it, which finds plugins of collections only in Ansible's own processes."""
    fragments = (constructed.ModuleDocFragment.DOCUMENTATION, inventory_cache.ModuleDocFragment.DOCUMENTATION)
    options: Dict[str, Any] = {}
    for text in (*fragments, buildx.DOCUMENTATION):
        options.update(yaml.safe_load(text)["options"])
    name = buildx.InventoryModule.NAME
    constants.config.initialize_plugin_configuration_definitions("inventory", name, options)
    plugin = buildx.InventoryModule()
    for attribute in ("_load_name", "ansible_name"):
        setattr(plugin, attribute, name)
    plugin._redirected_names = [name]
    return plugin


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Source:
    made = Source(tmp_path)
    monkeypatch.setattr(buildx, "gather", made.gather)
    monkeypatch.setattr(buildx.InventoryModule().display, "warning", made.warned.append)
    return made


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("buildx.yml", True), ("a.buildx.yaml", True), ("buildx.json", False), ("docker.yml", False)],
)
def test_its_files(tmp_path: Path, name: str, wanted: bool) -> None:
    (tmp_path / name).write_text("plugin: buildfarm.multiarch.buildx\n")
    assert buildx.InventoryModule().verify_file(str(tmp_path / name)) is wanted
    assert not buildx.InventoryModule().verify_file(str(tmp_path / "missing.buildx.yml"))


def test_groups(source: Source) -> None:
    groups = source.groups()
    assert groups["buildx_builder_farm"] == groups["buildx_platform_linux_amd64"] == ["amd1", "gone"]
    assert groups["buildx_builder_ci"] == groups["buildx_architecture_arm64"] == ["arm1"]
    assert groups["buildx_driver_docker_container"] == ["amd1", "arm1", "gone"]
    assert groups["buildx_status_unreachable"] == ["gone"]
    assert set(source.groups(group_by=["builder"], group_prefix="x-")) == {
        "all",
        "ungrouped",
        "x_builder_farm",
        "x_builder_ci",
    }


def test_constructed(source: Source) -> None:
    options = {
        "compose": {"ansible_host": "'vpn.' ~ ansible_host", "listener_port": "2400"},
        "groups": {"arm": "'linux/arm64' in buildfarm_platforms"},
        "keyed_groups": [{"prefix": "engine", "key": "(buildfarm_engine_version or 'none').split('.')[0]"}],
    }
    groups = source.groups(**options)
    assert (groups["arm"], groups["engine_28"], groups["engine_none"]) == (["arm1"], ["amd1"], ["arm1", "gone"])
    variables = source.variables("amd1", **options)
    # ansible-core before 2.19 makes texts of all.
    assert (variables["ansible_host"], str(variables["listener_port"])) == ("vpn.amd1", "2400")


@pytest.mark.parametrize(
    ("filters", "wanted"),
    [
        ([], ["amd1", "arm1", "gone"]),
        ([{"include": "'ci' in buildfarm_builders"}, {"exclude": True}], ["arm1"]),
        ([{"exclude": "buildfarm_status == 'unreachable'"}], ["amd1", "arm1"]),
        ([{"include": "buildfarm_architecture == 'arm64'"}, {"exclude": "buildfarm_error is none"}], ["arm1", "gone"]),
        # What is not empty is true, as everywhere in Jinja2, but for the word.
        ([{"exclude": "buildfarm_error"}], ["amd1", "arm1"]),
        ([{"exclude": "'false'"}], ["amd1", "arm1", "gone"]),
    ],
)
def test_filters(source: Source, filters: List[Dict[str, Any]], wanted: List[str]) -> None:
    assert sorted(source.read(filters=filters).hosts) == wanted


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"filters": [{"exclude": "nothing_of_this"}]}, "filters, rule 1: host 'amd1' cannot be judged: "),
        ({"filters": [{"include": True, "exclude": True}]}, "filters, rule 1: found exclude, include, wanted include"),
        ({"filters": [{}]}, "filters, rule 1: found nothing, wanted include or exclude"),
        ({"endpoints": ["http://x"]}, "endpoint 'http://x': wanted tcp://"),
        ({"hostnames": ["buildfarm_platform and 'arm1'"]}, "'amd1' has got the name 'arm1', which is that of another"),
        ({"strict": True}, "gone: engine gone: "),
        ({"strict": True, "hostnames": ["no_such"], "filters": [{"exclude": True}]}, "mend this, or leave strict out"),
    ],
)
def test_refuses(source: Source, options: Dict[str, Any], message: str) -> None:
    with pytest.raises(AnsibleError) as caught:
        source.read(**options)
    assert message in str(caught.value)


def test_strict_is_about_names_and_warnings_too(source: Source) -> None:
    source.engines = FOUND[:1]
    assert list(source.read(hostnames=["no_such"]).hosts) == ["amd1"]
    with pytest.raises(AnsibleError, match=r"hostnames, 'no_such': 'amd1' gets no name"):
        source.read(hostnames=["no_such"], strict=True)
    source.warnings = ["builder x: not JSON"]
    assert list(source.read().hosts) == ["amd1"]
    with pytest.raises(AnsibleError, match="builder x: not JSON; mend this"):
        source.read(strict=True)


def test_names(source: Source) -> None:
    by_node = ["buildfarm_builders[0] == 'ci' and 'only'", "buildfarm_nodes[0].name"]
    assert sorted(source.read(hostnames=by_node).hosts) == ["farm-amd1", "farm-gone", "only"]
    # A name that another host has got is passed over.
    assert sorted(source.read(hostnames=["'same'"]).hosts) == ["arm1", "gone", "same"]


def test_what_comes_from_outside_is_no_template(source: Source) -> None:
    manager = source.read()
    variables = manager.get_host("gone").get_vars()
    rendered = Templar(loader=DataLoader(), variables=variables).template(variables["buildfarm_error"])
    assert rendered == f"engine gone: {TEMPLATE}"
    # What the user writes is one.
    assert source.variables("gone", compose={"made": "'{0}'.format(buildfarm_error)"})["made"] == rendered
    marked = make_unsafe({"a": [TEMPLATE, "plain", 1, None]})
    assert marked == {"a": [TEMPLATE, "plain", 1, None]}
    assert Templar(loader=DataLoader(), variables={"x": 1}).template(marked["a"][0]) == TEMPLATE


def test_options_reach_what_finds(source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FARM_KEY", str(tmp_path / "elsewhere/key.pem"))
    source.read(
        endpoints=["tcp://Amd1:2376", "{{ 'arm' ~ 1 }}"],
        ca="certificates/ca.pem",
        key="{{ lookup('env', 'FARM_KEY') }}",
        docker_config="~/d",
        contexts=False,
        timeout=3,
    )
    ((sources, params),) = source.asked
    assert sources.endpoints == (Endpoint.parse("tcp://amd1:2376"), Endpoint.parse("arm1"))
    assert (sources.tls.ca, sources.tls.key) == (tmp_path / "certificates/ca.pem", tmp_path / "elsewhere/key.pem")
    assert (sources.tls.cert, sources.contexts, sources.builders, sources.detect) == (None, False, True, True)
    assert params["docker_config"] == str(Path.home() / "d")
    assert params["timeout"] == 3
    source.read()
    assert source.asked[1][0].tls is None
    assert source.asked[1][1]["docker_config"] is None


def test_cache(source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {
        "cache": True,
        "cache_plugin": "jsonfile",
        "cache_connection": str(tmp_path / "cache"),
        "endpoints": ["tcp://a:1"],
    }
    source.warnings = ["something"]
    first = source.groups(**options)
    source.engines = ()
    assert source.groups(**options) == first
    assert source.warned == ["something"] * 2
    assert "buildx_builder_farm" not in source.groups(**{**options, "group_by": ["status"]})
    assert list(source.read(**options, filters=[{"exclude": True}]).hosts) == []
    assert len(source.asked) == 1
    # A template in what was cached is none either.
    variables = source.variables("gone", **options)
    error = Templar(loader=DataLoader(), variables=variables).template(variables["buildfarm_error"])
    assert error == f"engine gone: {TEMPLATE}"
    source.read(**{**options, "endpoints": ["tcp://b:1"]})
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "other"))
    source.read(**{**options, "endpoints": ["tcp://b:1"]})
    source.read(**options)
    source.read(reading=False, **options)
    source.read(**{**options, "cache": False})
    assert len(source.asked) == 6
    (file,) = (tmp_path / "cache").iterdir()
    assert json.loads(file.read_text())


def test_a_cache_of_another_version_is_none(source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"cache": True, "cache_plugin": "jsonfile", "cache_connection": str(tmp_path / "cache")}
    source.read(**options)
    monkeypatch.setattr(buildx, "_LAYOUT", 0)
    source.read(**options)
    assert len(source.asked) == 2
