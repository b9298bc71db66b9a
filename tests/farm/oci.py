"""Images without an engine: layers, archives, and pushing to a registry.

Formats: the OCI image specification 1.0 (manifests, indexes, configurations)
and distribution specification 1.0 (the registry's HTTP API).
"""

from __future__ import annotations

import base64
import functools
import gzip
import hashlib
import io
import json
import ssl
import tarfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_INDEX = "application/vnd.oci.image.index.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


class RegistryError(Exception):
    """A request to a registry failed; the message names it and the answer."""


@dataclass(frozen=True)
class Image:
    """One platform's image: gzipped tar layers, lowest first, and `config`.

    `config` is the part of the image configuration that describes the
    container: Entrypoint, Cmd, Env, WorkingDir, Labels …
    """

    layers: tuple[Path, ...]
    config: Mapping[str, Any] = field(default_factory=dict)


def layer(root: Path, target: Path) -> Path:
    """Pack a root file system as a layer; the same tree gives the same bytes."""

    def clean(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
        if entry.isdev():
            return None
        entry.mtime = 0
        return entry

    with open(target, "wb") as raw:
        with gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed:
            with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar:
                for path in sorted(root.iterdir()):
                    tar.add(path, path.name, filter=clean)
    return target


def push(
    registry: str,
    name: str,
    tag: str,
    images: Mapping[str, Image],
    auth: tuple[str, str] | None = None,
    cafile: Path | None = None,
) -> str:
    """Push `images`, by platform, as `name:tag`; returns the digest of the index.

    `registry` is a URL, `http://…` or `https://…`; `cafile` is trusted beside
    the machine's own authorities; `auth` is a user and a password (HTTP Basic).
    A single image gets an index too. What the registry has is not sent again.
    Raises RegistryError.
    """
    remote = _Registry(registry, name, auth, cafile)
    manifests = []
    for platform, image in sorted(images.items()):
        layers = []
        for path in image.layers:
            remote.put_blob(_file_digest(path), path)
            layers.append(_descriptor(_LAYER, _file_digest(path), path.stat().st_size))
        config = _json(_image_config(platform, image))
        remote.put_blob(_digest(config), config)
        manifest = _json(
            {
                "schemaVersion": 2,
                "mediaType": _MANIFEST,
                "config": _descriptor(_CONFIG, _digest(config), len(config)),
                "layers": layers,
            }
        )
        remote.put_manifest(_digest(manifest), _MANIFEST, manifest)
        described = _descriptor(_MANIFEST, _digest(manifest), len(manifest))
        manifests.append({**described, "platform": _platform(platform)})
    index = _json({"schemaVersion": 2, "mediaType": _INDEX, "manifests": manifests})
    remote.put_manifest(tag, _INDEX, index)
    return _digest(index)


def save(target: Path, reference: str, platform: str, image: Image) -> Path:
    """Write one platform's image as a tar that `docker load` reads."""
    config = _json(_image_config(platform, image))
    layers = {f"{index}/layer.tar": path for index, path in enumerate(image.layers)}
    manifest = [{"Config": "config.json", "RepoTags": [reference], "Layers": list(layers)}]
    with tarfile.open(target, "w") as tar:
        for name, data in (("config.json", config), ("manifest.json", _json(manifest))):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
        for name, path in layers.items():
            tar.add(path, name)
    return target


def _platform(text: str) -> dict[str, str]:
    return dict(zip(("os", "architecture", "variant"), text.split("/")))


def _image_config(platform: str, image: Image) -> dict[str, Any]:
    # A fixed time, so that the same content keeps its digest.
    created = "1970-01-01T00:00:00Z"
    return {
        **_platform(platform),
        "created": created,
        "config": dict(image.config),
        "rootfs": {"type": "layers", "diff_ids": [_unpacked_digest(p) for p in image.layers]},
        "history": [{"created": created, "created_by": "buildfarm"} for _layer in image.layers],
    }


class _Registry:
    """One repository of a registry."""

    def __init__(self, url: str, name: str, auth: tuple[str, str] | None, cafile: Path | None) -> None:
        self.base = f"{url.rstrip('/')}/v2/{name}/"
        self.headers = {}
        if auth:
            token = base64.b64encode(":".join(auth).encode()).decode()
            self.headers["Authorization"] = f"Basic {token}"
        context = ssl.create_default_context()
        if cafile:
            context.load_verify_locations(cafile)
        # No proxy: the registry stands on the farm's own network.
        self.opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )

    def put_blob(self, digest: str, blob: Path | bytes) -> None:
        if self.send("HEAD", f"blobs/{digest}", expect=(200, 404)).status == 200:
            return
        begun = self.send("POST", "blobs/uploads/", data=b"", expect=(202,))
        place = urllib.parse.urljoin(self.base, begun.headers["Location"])
        place += ("&" if "?" in place else "?") + urllib.parse.urlencode({"digest": digest})
        size = len(blob) if isinstance(blob, bytes) else blob.stat().st_size
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        with io.BytesIO(blob) if isinstance(blob, bytes) else open(blob, "rb") as data:
            self.send("PUT", place, data=data, headers=headers, expect=(201,))

    def put_manifest(self, reference: str, media_type: str, manifest: bytes) -> None:
        headers = {"Content-Type": media_type}
        self.send("PUT", f"manifests/{reference}", data=manifest, headers=headers, expect=(201,))

    def send(
        self,
        method: str,
        path: str,
        data: Any = None,
        headers: Mapping[str, str] | None = None,
        expect: tuple[int, ...] = (200,),
    ) -> Any:
        """One request; the answer has `status` and `headers`, its body is read."""
        url = urllib.parse.urljoin(self.base, path)
        request = urllib.request.Request(url, data, {**self.headers, **(headers or {})}, method=method)
        try:
            with self.opener.open(request, timeout=120) as answer:
                answer.read()
        except urllib.error.HTTPError as error:
            answer = error
        except OSError as error:
            raise RegistryError(f"{method} {url}: {error}") from error
        if answer.status not in expect:
            body = answer.read(500).decode(errors="replace") if answer.fp else ""
            raise RegistryError(f"{method} {url}: {answer.status} {answer.reason}: {body}")
        return answer


def _descriptor(media_type: str, digest: str, size: int) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest, "size": size}


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@functools.cache
def _file_digest(path: Path) -> str:
    with open(path, "rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


@functools.cache
def _unpacked_digest(path: Path) -> str:
    with gzip.open(path) as file:
        digest = hashlib.sha256()
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return f"sha256:{digest.hexdigest()}"
