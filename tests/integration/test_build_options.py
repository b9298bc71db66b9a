# Copyright (c) 2026 The buildfarm.multiarch authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options of `docker buildx build`, each in a build with buildx 0.13 and 0.29: what comes out shows its effect."""

from __future__ import annotations

import json
import re
import secrets
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import seed
from ansible_runs import LiveFarm, installing, shell, task
from building import AMD, ARM, CONTROLLERS, PLATFORMS, BuildFarm, emulation, listen, unlisten

#: Builders: one node whose BuildKit allows nothing privileged, one whose does, and a node for each platform.
BUILDER, PRIVILEGED, PAIR = "options", "options-privileged", "options-pair"
OUT = "/srv/images/options-out"
FILES = {"type": "local", "dest": OUT}
READ = (
    f"import json, pathlib; root = pathlib.Path('{OUT}'); "
    "print(json.dumps({str(f.relative_to(root)): f.read_text() for f in root.rglob('*') if f.is_file()}))"
)
#: Steps record what they find in /proof, and that is the result.
RECORDING = """FROM busybox AS run
RUN mkdir /proof
{steps}
FROM scratch
COPY --from=run /proof /
"""


@pytest.fixture(scope="module")
def images(farm: LiveFarm) -> Iterator[BuildFarm]:
    """The builders, on each controller."""
    allowed = [f"--allow-insecure-entitlement={name}" for name in ("network.host", "security.insecure")]

    def node(name: str, host: str, platforms: list[str], **options: Any) -> dict[str, Any]:
        image = {"image": f"{farm.registry}/{seed.BUILDKIT}", "network": "host"}
        configuration = f'[registry."{farm.registry}"]\n  http = true\n'
        where = {"name": name, "endpoint": f"tcp://{host}:2375", "platforms": platforms}
        return {**where, "driver_opts": image, "buildkitd_config": configuration, **options}

    try:
        for host in (AMD, ARM):
            listen(farm, host)
        for on in CONTROLLERS:
            builders = {
                BUILDER: [node(f"{on}-one", AMD, PLATFORMS)],
                PRIVILEGED: [node(f"{on}-privileged", AMD, PLATFORMS, buildkitd_flags=allowed)],
                PAIR: [node(f"{on}-amd", AMD, PLATFORMS[:1]), node(f"{on}-arm", ARM, PLATFORMS[1:])],
            }
            farm.tasks(on, *(task("buildx_builder", name=name, nodes=nodes) for name, nodes in builders.items()))
        with emulation(farm):
            yield BuildFarm(farm)
    finally:
        for host in (AMD, ARM):
            unlisten(farm, host)
        for on in CONTROLLERS:
            farm.ssh(on, "rm -rf ~/.docker /srv/images")


def recorded(
    images: BuildFarm, on: str, steps: str, environment: dict[str, str] | None = None, **options: Any
) -> dict[str, str]:
    """Build steps that record; returns what they wrote, by file."""
    context = images.context(on, "options", RECORDING.format(steps=steps))
    wanted = {"builder": PRIVILEGED, "context": context, "platforms": PLATFORMS[:1], "outputs": [FILES], **options}
    build = task("buildx_build", environment=environment, **wanted)
    *_others, content = images.farm.tasks(on, shell(f"rm -rf {OUT}"), build, shell(f'python3 -c "{READ}"'))
    found: dict[str, str] = json.loads(content["stdout"])
    return {name: text.strip() for name, text in found.items()}


def refused(images: BuildFarm, on: str, **options: Any) -> str:
    """Return why a build with these options fails."""
    wanted = {"builder": BUILDER, "context": "/srv/images/options", "platforms": PLATFORMS[:1], **options}
    return str(images.build(on, fails=True, **wanted)["msg"])


def private_key() -> str:
    """A private key as ssh-keygen makes it."""
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption())
    return Ed25519PrivateKey.generate().private_bytes(*form).decode()


def document(images: BuildFarm, name: str, reference: str, kind: str = "manifests") -> dict[str, Any]:
    """What the registry has for a tag or digest of a repository."""
    path = f"{name.partition('/')[2]}/{kind}/{reference}"
    types = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json"
    address = f"http://{images.farm.address('registry')}:{images.registry.rpartition(':')[2]}/v2/{path}"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(urllib.request.Request(address, headers={"Accept": types}), timeout=20) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


@pytest.mark.parametrize("on", CONTROLLERS)
def test_steps_run_with_the_declared_hosts_limits_and_network(images: BuildFarm, on: str) -> None:
    group = f"options-{secrets.token_hex(4)}"
    steps = (
        "RUN cp /etc/hosts /proof/hosts; ulimit -n > /proof/soft; ulimit -Hn > /proof/hard; "
        "df -k /dev/shm > /proof/shm; ls /sys/class/net > /proof/net"
    )
    found = recorded(
        images,
        on,
        steps,
        network="none",
        add_hosts={"four.example": "192.0.2.7", "six.example": "2001:db8::1"},
        ulimits={"nofile": "512:1024"},
        shm_size="32m",
        cgroup_parent=f"/{group}",
    )
    assert "192.0.2.7\tfour.example" in found["hosts"] and "2001:db8::1\tsix.example" in found["hosts"]
    assert (found["soft"], found["hard"], found["net"]) == ("512", "1024", "lo")
    assert found["shm"].split("\n")[1].split()[1] == str(32 * 1024)
    assert group in images.farm.ssh(AMD, f"find /sys/fs/cgroup -name {group}")
    usual = recorded(images, on, steps, add_hosts=["four.example=192.0.2.8"], ulimits=["nofile=600"], network="host")
    assert "192.0.2.8\tfour.example" in usual["hosts"]
    assert (usual["soft"], usual["hard"]) == ("600", "600")
    assert usual["net"] != "lo"


@pytest.mark.parametrize("on", CONTROLLERS)
def test_privileges_need_both_the_task_and_the_builder(images: BuildFarm, on: str) -> None:
    capabilities = "sed -n 's/^CapEff:[[:space:]]*//p' /proc/self/status"
    steps = (
        "RUN --network=host ls /sys/class/net > /proof/net\n"
        f"RUN {capabilities} > /proof/usual\nRUN --security=insecure {capabilities} > /proof/privileged"
    )
    found = recorded(images, on, steps, allow=["security.insecure", "network.host"])
    assert found["net"] != "lo"
    assert bin(int(found["privileged"], 16)).count("1") > bin(int(found["usual"], 16)).count("1")
    for given, missing in (("security.insecure", "network.host"), ("network.host", "security.insecure")):
        assert f"{missing} is not allowed" in refused(images, on, builder=PRIVILEGED, allow=[given])
    # The other builder's BuildKit does not allow it.
    assert "security.insecure is not allowed by build daemon" in refused(images, on, allow=["security.insecure"])


def test_a_device_reaches_the_steps_that_name_it(images: BuildFarm) -> None:
    """With buildx 0.21 and later."""
    on, container = "ctlnew", "buildx_buildkit_ctlnew-privileged"
    nodes = [{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}]
    spec = {
        "cdiVersion": "0.6.0",
        "kind": "farm.test/device",
        "devices": [{"name": "one", "containerEdits": {"deviceNodes": nodes}}],
    }
    images.farm.ssh(AMD, "mkdir -p /tmp/cdi; cat > /tmp/cdi/farm.json", stdin=json.dumps(spec))
    images.farm.ssh(AMD, f"docker cp /tmp/cdi {container}:/etc/; rm -r /tmp/cdi; docker restart {container}")
    steps = "RUN --device=farm.test/device=one ls /dev > /proof/with\nRUN ls /dev > /proof/without"
    found = recorded(images, on, steps, allow=["device=farm.test/device=one"])
    assert "fuse" in found["with"].split() and "fuse" not in found["without"].split()


def test_the_gateway_is_known_to_an_engines_own_builder(images: BuildFarm) -> None:
    with images.farm.trusted_registry("ctl"):
        images.farm.ssh("ctl", f"docker pull -q {images.registry}/{seed.BUSYBOX}")
    steps = "RUN cat /etc/hosts > /proof/hosts"
    found = recorded(images, "ctl", steps, builder="default", add_hosts=["gate=host-gateway"])
    images.farm.ssh("ctl", "docker system prune -af")
    assert "172.17.0.1\tgate" in found["hosts"]


@pytest.mark.parametrize("on", CONTROLLERS)
def test_caches_of_clouds_reach_buildkit(images: BuildFarm, on: str) -> None:
    """The BuildKit of the farm has none of them: what it says shows that buildx took the options."""
    images.context(on, "options", "FROM scratch\nCOPY Dockerfile /\n")
    for cache in (
        {"type": "s3", "region": "eu-1", "bucket": "b", "name": "app", "endpoint_url": "http://127.0.0.1:1"},
        {"type": "azblob", "account_url": "https://x.blob.example", "name": "app"},
    ):
        message = refused(images, on, cache_to=[cache], environment={"AWS_EC2_METADATA_DISABLED": "true"})
        assert f"failed to configure {cache['type']} cache exporter" in message
    assert "the task's environment has no ACTIONS_RUNTIME_TOKEN" in refused(images, on, cache_to=["type=gha"])


@pytest.mark.parametrize("on", CONTROLLERS)
def test_sources_come_from_directories_images_and_layouts(images: BuildFarm, on: str) -> None:
    directory = images.context(on, "options-directory", "from a directory")
    layout = {"type": "oci", "dest": "/srv/images/options-layout", "options": {"tar": False}}
    inline = "FROM scratch\nCOPY Dockerfile /from-layout\n"
    images.farm.ssh(on, "rm -rf /srv/images/options-layout")
    common = {"builder": PRIVILEGED, "platforms": PLATFORMS[:1]}
    images.build(on, context=directory, dockerfile_inline=inline, outputs=[layout], tags=["layout:1"], **common)
    found = recorded(
        images,
        on,
        "RUN --mount=from=image,target=/image test -x /image/bin/busybox && echo yes > /proof/image\n"
        "COPY --from=directory Dockerfile /proof/directory\n"
        "COPY --from=layout from-layout /proof/layout",
        contexts={
            "directory": directory,
            "image": f"docker-image://{images.registry}/{seed.BUSYBOX}",
            "layout": f"oci-layout://{layout['dest']}",
        },
    )
    text = "from a directory"
    assert found == {"image": "yes", "directory": text, "layout": text}


@pytest.fixture
def git_address(images: BuildFarm) -> Iterator[str]:
    """Where a git repository is served, with a Dockerfile in `below`; the privileged builders have git for a while.

    The farm's image of BuildKit has none.
    """
    made = (
        "git init -q -b main /srv/git/app; cd /srv/git/app; mkdir below; echo from git > below/note; "
        "printf 'FROM scratch\\nCOPY note /from-context\\n' > below/Dockerfile; git add .; "
        "git -c user.name=a -c user.email=a@example.com commit -qm one; "
        "systemd-run -q --unit=git-daemon git daemon --reuseaddr --export-all --base-path=/srv/git /srv/git/app; "
        "tar -chf /srv/git/programs.tar $(ldd /usr/bin/git | grep -o '/[^ ]*') /usr/bin/git "
        "/usr/lib/git-core/git /usr/lib/git-core/git-submodule /usr/lib/git-core/git-sh-*"
    )
    images.farm.ssh(AMD, f"{installing('git')} >/dev/null; rm -rf /srv/git; {made}")
    for on in CONTROLLERS:
        container = f"buildx_buildkit_{on}-privileged"
        images.farm.ssh(AMD, f"docker cp -q - {container}:/ < /srv/git/programs.tar; docker restart {container}")
    yield f"git://{images.farm.address(AMD)}/app#main:below"
    images.farm.ssh(AMD, "systemctl stop git-daemon; rm -rf /srv/git")


def test_sources_come_from_git(images: BuildFarm, git_address: str) -> None:
    for on in CONTROLLERS:
        found = recorded(images, on, "COPY --from=repository note /proof/named", contexts={"repository": git_address})
        assert found == {"named": "from git"}
        options = {"builder": PRIVILEGED, "context": git_address, "platforms": PLATFORMS[:1], "outputs": [FILES]}
        look = shell(f'python3 -c "{READ}"')
        *_others, content = images.farm.tasks(on, shell(f"rm -rf {OUT}"), task("buildx_build", **options), look)
        assert json.loads(content["stdout"]) == {"from-context": "from git\n"}


def test_a_commit_is_a_reason_to_build(images: BuildFarm, git_address: str) -> None:
    on = CONTROLLERS[1]
    images.farm.ssh(on, f"{installing('git')} >/dev/null")
    options = {
        "builder": PRIVILEGED,
        "context": git_address,
        "platforms": PLATFORMS[:1],
        "tags": [f"{images.repository}/from-git:1"],
        "push": True,
    }
    first, again = (images.build(on, **options) for _run in range(2))
    assert first["changed"] and first["images"][0]["built"]
    assert (again["changed"], again["images"][0]["reasons"]) == (False, [])
    commit = "cd /srv/git/app; echo two > below/note; git -c user.name=a -c user.email=a@example.com commit -qam two"
    images.farm.ssh(AMD, commit)
    predicted, done = images.build(on, check=True, **options), images.build(on, **options)
    (reason,) = done["images"][0]["reasons"]
    assert re.fullmatch(r"git repository git://.* moved from [0-9a-f]{40} to [0-9a-f]{40}", reason)
    assert predicted["images"][0]["reasons"] == [reason] and done["changed"]


@pytest.mark.parametrize("on", CONTROLLERS)
def test_secrets_and_keys_reach_the_steps_and_nothing_else(images: BuildFarm, on: str) -> None:
    value, known = f"value of {secrets.token_hex(8)}", f"variable {secrets.token_hex(8)}"
    agent, key = "/srv/images/agent.socket", "/srv/images/key"
    unit = f"options-{secrets.token_hex(4)}"
    listens = f"import socket, time; s = socket.socket(socket.AF_UNIX); s.bind('{agent}'); s.listen(); time.sleep(600)"
    start = f'systemd-run -q --unit={unit} python3 -c "{listens}"'
    files = f"mkdir -p /srv/images; rm -f {agent}; printf file > /srv/images/secret; cat > {key}"
    images.farm.ssh(on, f"{files}; {start}", stdin=private_key())
    mounts = " ".join(f"--mount=type=secret,id={name}" for name in ("file", "known", "value"))
    sockets = "--mount=type=ssh --mount=type=ssh,id=key,target=/key"
    context = images.context(
        on,
        "options",
        RECORDING.format(
            steps=f"RUN {mounts} cd /run/secrets && sha256sum file known value > /proof/sums && "
            "tr '\\0' '\\n' < /proc/self/environ > /proof/environment\n"
            f"RUN {sockets} test -S $SSH_AUTH_SOCK && test -S /key && echo both > /proof/sockets"
        ),
    )
    options = {
        "builder": PRIVILEGED,
        "context": context,
        "platforms": PLATFORMS[:1],
        "outputs": [FILES],
        "no_cache": True,
        "secrets": [
            {"id": "file", "src": "/srv/images/secret"},
            {"id": "known", "env": "KNOWN"},
            {"id": "value", "value": value},
        ],
        "ssh": ["default", f"key={key}"],
    }
    environment = {"KNOWN": known, "SSH_AUTH_SOCK": agent}
    try:
        _removed, built, content, sums = images.farm.tasks(
            on,
            shell(f"rm -rf {OUT}"),
            task("buildx_build", environment=environment, **options),
            shell(f'python3 -c "{READ}"'),
            shell(f"for text in file '{known}' '{value}'; do printf %s \"$text\" | sha256sum; done"),
        )
    finally:
        images.farm.ssh(on, f"systemctl stop {unit}")
    found = json.loads(content["stdout"])
    assert found["sockets"] == "both\n"
    assert found["sums"].split()[::2] == sums["stdout"].split()[::2]
    assert value not in json.dumps(built) + json.dumps(found) and known not in found["environment"]
    told = [word for action in built["actions"] for word in action]
    assert "id=value,env=BUILDFARM_SECRET_3" in told and f"key={key}" in told


@pytest.mark.parametrize("on", CONTROLLERS)
def test_cached_steps_of_every_platform_are_shared_through_a_registry(images: BuildFarm, on: str) -> None:
    context = images.context(
        on,
        "options-cache",
        f"FROM --platform=$BUILDPLATFORM {images.registry}/{seed.BUSYBOX} AS run\nARG TARGETARCH\n"
        "RUN head -c 8 /dev/urandom | base64 > /stamp-$TARGETARCH\n"
        "FROM scratch\nARG TARGETARCH\nCOPY --from=run /stamp-$TARGETARCH /\n",
    )
    cache = f"{images.registry}/options-cache-{secrets.token_hex(4)}:cache"
    options = {
        "builder": PAIR,
        "context": context,
        "platforms": PLATFORMS,
        "outputs": [FILES],
        "cache_to": [{"type": "registry", "ref": cache, "mode": "max"}, "type=local,dest=/srv/images/options-cached"],
    }
    empty = f"docker buildx prune -af --builder {PAIR}; rm -rf {OUT}"
    build = task("buildx_build", **options)
    read = task("buildx_build", **{**options, "cache_to": [], "cache_from": [cache]})
    local = task(
        "buildx_build", **{**options, "cache_to": [], "cache_from": ["type=local,src=/srv/images/options-cached"]}
    )
    look = shell(f'python3 -c "{READ}"')
    images.farm.ssh(on, f"{empty} /srv/images/options-cached")
    results = images.farm.tasks(
        on, build, look, shell(empty), read, look, shell(empty), local, look, shell(empty), build, look
    )
    first, from_registry, from_directory, unread = (
        json.loads(one["stdout"]) for one in results if str(one.get("stdout")).startswith("{")
    )
    assert len(first) == len(PLATFORMS)
    assert first == from_registry == from_directory
    assert all(first[name] != unread[name] for name in first)
    for platform in PLATFORMS:
        assert document(images, cache.rpartition(":")[0], f"cache-{platform.replace('/', '-')}")


@pytest.mark.parametrize("builder", [BUILDER, PAIR])
@pytest.mark.parametrize("on", CONTROLLERS)
def test_annotations_labels_and_attestations_are_in_the_registry(images: BuildFarm, on: str, builder: str) -> None:
    context = images.context(on, "options-annotated", "FROM scratch\nCOPY Dockerfile /\n")
    name = f"{images.registry}/options-{secrets.token_hex(4)}"
    annotations = {
        "index,manifest-descriptor:x.all": "a=b c",
        "x.manifest": "1",
        "manifest[linux/arm64]:x.manifest": "2",
        "manifest-descriptor[linux/amd64]:x.amd": "only",
    }
    built = images.build(
        on,
        builder=builder,
        context=context,
        platforms=PLATFORMS,
        tags=[f"{name}:1"],
        push=True,
        annotations=annotations,
        labels={"x.label": "z"},
        attest=[{"type": "provenance", "mode": "max"}],
        outputs=[{"type": "registry", "options": {"oci-mediatypes": True}}, {"type": "oci", "dest": f"{OUT}.tar"}],
    )
    index = document(images, name, "1")
    entry = json.loads(images.farm.ssh(on, f"tar -xOf {OUT}.tar index.json"))["manifests"][0]
    archived = json.loads(images.farm.ssh(on, f"tar -xOf {OUT}.tar blobs/{entry['digest'].replace(':', '/')}"))
    # Behind the images are their attestations, of which BuildKit makes others for each output.
    assert archived["annotations"]["x.all"] == "a=b c" and archived["manifests"][:2] == index["manifests"][:2]
    assert index["annotations"]["x.all"] == "a=b c"
    entries = {entry["platform"]["architecture"]: entry for entry in index["manifests"]}
    assert {entries[arch]["annotations"]["x.all"] for arch in ("amd64", "arm64")} == {"a=b c"}
    assert [entries[arch]["annotations"].get("x.amd") for arch in ("amd64", "arm64")] == ["only", None]
    manifests = {arch: document(images, name, entries[arch]["digest"]) for arch in ("amd64", "arm64", "unknown")}
    assert [manifests[arch]["annotations"]["x.manifest"] for arch in ("amd64", "arm64")] == ["1", "2"]
    predicates = [layer["annotations"]["in-toto.io/predicate-type"] for layer in manifests["unknown"]["layers"]]
    assert all(predicate.startswith("https://slsa.dev/provenance/") for predicate in predicates)
    shown = images.farm.ssh(
        on, f"docker buildx imagetools inspect --builder {BUILDER} {name}:1 --format '{{{{json .}}}}'"
    )
    assert '"x.label":"z"' in shown.replace(" ", "") and built["image"]["digest"].startswith("sha256:")


@pytest.mark.parametrize("on", CONTROLLERS)
def test_an_image_has_the_bill_of_materials_of_its_scanner(images: BuildFarm, on: str) -> None:
    """Protocol of scanners: BuildKit ``docs/attestations/sbom-protocol.md``."""
    scanner, name = (f"{images.registry}/options-{kind}-{secrets.token_hex(4)}:1" for kind in ("scanner", "scanned"))
    packages = [
        {"name": name, "SPDXID": f"SPDXRef-Package-{name}", "versionInfo": version, "downloadLocation": "NOASSERTION"}
        for name, version in (("busybox", "1.37.0"), ("files", "FOUND"))
    ]
    statement = {
        "_type": "https://in-toto.io/Statement/v0.1",
        "predicateType": "https://spdx.dev/Document",
        "predicate": {
            "spdxVersion": "SPDX-2.3",
            "dataLicense": "CC0-1.0",
            "SPDXID": "SPDXRef-DOCUMENT",
            "name": "farm",
            "documentNamespace": "https://farm.example.com/scanned",
            "creationInfo": {"creators": ["Tool: farm"], "created": "2026-01-02T03:04:05Z"},
            "packages": packages,
        },
    }
    script = (
        "#!/bin/sh\n"
        f"echo '{json.dumps(statement)}' | sed \"s/FOUND/$(ls $BUILDKIT_SCAN_SOURCE | wc -l)/\" > "
        "$BUILDKIT_SCAN_DESTINATION/farm.spdx.json\n"
    )
    of_scanner = images.context(
        on, "scanner", 'FROM busybox\nCOPY --chmod=755 scan /scan\nCMD ["/scan"]\n', scan=script
    )
    common = {"builder": PAIR, "platforms": PLATFORMS, "push": True}
    images.build(on, context=of_scanner, tags=[scanner], **common)
    dockerfile = "FROM scratch\nCOPY Dockerfile /found\nCOPY Dockerfile /more\n"
    scanned = images.context(on, "options-scanned", dockerfile)
    images.build(on, context=scanned, tags=[name], attest=[{"type": "sbom", "generator": scanner}], **common)
    repository = name.rpartition(":")[0]
    index = document(images, repository, "1")
    attestations = [one["digest"] for one in index["manifests"] if one["platform"]["os"] == "unknown"]
    assert len(attestations) == len(PLATFORMS)
    for digest in attestations:
        (layer,) = document(images, repository, digest)["layers"]
        assert layer["annotations"]["in-toto.io/predicate-type"] == "https://spdx.dev/Document"
        found = document(images, repository, layer["digest"], "blobs")["predicate"]
        assert found["packages"][1]["versionInfo"] == "2"
    wanted = {"format": "SPDX-2.3", "packages": {"busybox": "1.37.0", "files": None}, "min_packages": 2}
    verified = images.farm.module(on, "image_verify", name=name, builder=PAIR, sbom_contents=wanted)
    assert [one["sbom"]["packages"] for one in verified["image"]["platforms"]] == [2] * len(PLATFORMS)
    wrong = {"packages": {"busybox": "1.36"}}
    refused = images.farm.module(on, "image_verify", fails=True, name=name, builder=PAIR, sbom_contents=wrong)
    assert refused["msg"].count("its SBOM names the package busybox 1.37.0, wanted 1.36") == len(PLATFORMS)


@pytest.mark.parametrize("on", CONTROLLERS)
def test_only_the_named_stages_run_again(images: BuildFarm, on: str) -> None:
    base = f"{images.registry}/{seed.BUSYBOX}"
    # Equal steps would be one and the same to BuildKit.
    stages = [f"FROM {base} AS {name}\nRUN head -c 8 /dev/urandom | base64 > /{name}\n" for name in ("one", "two")]
    inline = f"{''.join(stages)}FROM scratch\nCOPY --from=one /one /\nCOPY --from=two /two /\nCOPY note /\n"
    context = images.context(on, "options-inline", "not this one", note="text")
    options = {"builder": BUILDER, "context": context, "platforms": PLATFORMS[:1], "outputs": [FILES]}
    look = shell(f'python3 -c "{READ}"')
    tasks = [
        task("buildx_build", dockerfile_inline=inline, **options, **more)
        for more in ({}, {"no_cache_filter": ["two"], "pull": True}, {"no_cache": True})
    ]
    results = images.farm.tasks(on, shell(f"rm -rf {OUT}"), *(one for build in tasks for one in (build, look)))
    first, filtered, again = (json.loads(one["stdout"]) for one in results[2::2])
    assert first["note"] == "text"
    assert first["one"] == filtered["one"] and first["two"] != filtered["two"]
    assert again["one"] != first["one"]


def test_a_dockerfile_is_evaluated_and_nothing_is_built(images: BuildFarm) -> None:
    on = "ctlnew"
    faulty = "FROM scratch AS one\nARG WHO=me\n# what is shipped\nFROM scratch as two\nCOPY Dockerfile /\n"
    context = images.context(on, "options-called", faulty)
    options = {"builder": BUILDER, "context": context, "platforms": PLATFORMS, "push": True}
    options["tags"] = [f"{images.registry}/options-{secrets.token_hex(4)}:1"]
    broken = "FROM scratch\nCOPI a /\n"
    clean, inline = "FROM scratch\nCOPY Dockerfile /\n", {**options, "push": False, "tags": []}
    found = images.farm.tasks(
        on,
        *(task("buildx_build", call=method, **options) for method in ("check", "outline", "targets")),
        task("buildx_build", call="check", check=True, **options),
        task("buildx_build", call="check", dockerfile_inline=clean, **inline),
        task("buildx_build", call="check", dockerfile_inline=broken, **inline),
        task("buildx_imagetools_info", name=options["tags"][0], builder=BUILDER),
    )
    check, outline, targets, predicted, passed, failed, pushed = found
    assert [one["ruleName"] for one in check["call"]["result"]["warnings"]] == ["FromAsCasing"]
    assert [one["call"]["passed"] for one in (check, outline, targets, passed, failed)] == [
        False,
        True,
        True,
        True,
        False,
    ]
    assert outline["call"]["result"]["name"] == "two"
    assert [one["name"] for one in targets["call"]["result"]["targets"]] == ["one", "two"]
    assert "unknown instruction: COPI" in failed["call"]["result"]["buildError"]["message"]
    assert predicted["call"] == check["call"]
    assert not any(one["changed"] or one["actions"] for one in found[:-1]) and not pushed["exists"]


def test_what_an_older_buildx_lacks_is_refused_by_its_name(images: BuildFarm) -> None:
    images.context("ctl", "options", "FROM scratch\n")
    assert "call needs buildx 0.15.0 or later, found 0.13.1" in refused(images, "ctl", call="check")
    assert "allow: device needs buildx 0.21.0 or later" in refused(images, "ctl", allow=["device"])


def test_what_is_lost_between_nodes_without_the_gate_needs_a_newer_buildx(images: BuildFarm) -> None:
    name = f"{images.registry}/options-{secrets.token_hex(4)}"
    common = {"builder": PAIR, "platforms": PLATFORMS, "tags": [f"{name}:1"], "push": True, "gate": False}
    inline, annotated = {"dockerfile_inline": "FROM scratch\nCOPY Dockerfile /\n"}, {"annotations": ["index:x.all=1"]}
    for on in CONTROLLERS:
        images.context(on, "options", "FROM scratch\nCOPY Dockerfile /\n")
    assert "without the gate needs buildx 0.17.0 or later, found 0.13.1" in refused(images, "ctl", **common, **inline)
    assert "without the gate needs buildx 0.16.0 or later, found 0.13.1" in refused(
        images, "ctl", **common, **annotated
    )
    images.build("ctlnew", context="/srv/images/options", **common, **inline, **annotated)
    index = document(images, name, "1")
    assert index["annotations"] == {"x.all": "1"} and len(index["manifests"]) == len(PLATFORMS)


@pytest.mark.parametrize("on", CONTROLLERS)
def test_what_is_missing_on_the_controller_is_named_before_the_build(images: BuildFarm, on: str) -> None:
    images.context(on, "options", "FROM scratch\nCOPY Dockerfile /\n")
    message = refused(
        images,
        on,
        contexts={"more": "/srv/nowhere"},
        secrets=[{"id": "file", "src": "/srv/nowhere"}, {"id": "unset", "env": "NOT_SET_HERE"}],
        ssh=["default"],
    )
    for words in (
        "contexts: more: /srv/nowhere: nothing there",
        "secrets: file: nothing at /srv/nowhere",
        "secrets: unset: there is no variable NOT_SET_HERE",
        "ssh: default: there is no ssh agent: SSH_AUTH_SOCK is not set",
    ):
        assert words in message
    wanted = {"builder": BUILDER, "context": "/srv/images/options", "platforms": PLATFORMS[:1]}
    predicted = images.build(on, check=True, contexts={"more": "/srv/nowhere"}, **wanted)
    assert any("contexts: more: /srv/nowhere" in text for text in predicted["warnings"])
