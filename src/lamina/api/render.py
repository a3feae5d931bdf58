"""Images as the API's documents: pure functions over values."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from lamina.image.model import HistoryEntry, Image
from lamina.spec.config import ContainerConfig
from lamina.spec.descriptor import Descriptor
from lamina.spec.platform import Platform

_NULL = ("Cmd", "Entrypoint", "Env", "Volumes", "OnBuild", "Labels", "ExposedPorts", "Shell", "Healthcheck", "StopTimeout")
_ALWAYS = ("Cmd", "Entrypoint", "Env", "Volumes", "OnBuild", "Labels")


def config_document(config: ContainerConfig) -> dict[str, Any]:
    """An image's configuration of containers; what is empty is null or left out as dockerd does."""
    raw = {name.title().replace("_", ""): getattr(config, name) for name in config.__struct_fields__}
    document = {key: msgspec.to_builtins(value) for key, value in raw.items()}
    for key in _NULL:
        if not document.get(key):
            document.pop(key, None)
    for key in ("ArgsEscaped", "StopSignal"):
        if not document[key]:
            del document[key]
    return document | {key: document.get(key) for key in _ALWAYS}


def seconds(moment: str) -> int:
    """RFC 3339 as whole seconds since 1970; 0 for none."""
    if not moment:
        return 0
    try:
        return int(datetime.fromisoformat(moment[:19] + "+00:00").timestamp())
    except ValueError:
        return 0


def timestamp(moment: float) -> str:
    """Seconds since 1970 as RFC 3339; Go's zero time for 0."""
    return datetime.fromtimestamp(moment, UTC).isoformat().replace("+00:00", "Z") if moment else "0001-01-01T00:00:00Z"


def platform_document(platform: Platform) -> dict[str, str]:
    """A platform; an absent variant is left out."""
    document = {"architecture": platform.architecture, "os": platform.os}
    return document | ({"variant": platform.variant} if platform.variant else {})


def descriptor_document(descriptor: Descriptor) -> dict[str, Any]:
    """A content descriptor."""
    document: dict[str, Any] = {"mediaType": descriptor.media_type, "digest": str(descriptor.digest), "size": descriptor.size}
    if descriptor.platform:
        document["platform"] = platform_document(descriptor.platform)
    return document


def image_summary(image: Image, *, containers: int = -1, shared: int = -1, manifests: bool = False) -> dict[str, Any]:
    """The API's ImageSummary."""
    document: dict[str, Any] = {
        "Id": str(image.id),
        "ParentId": str(image.parent or ""),
        "RepoTags": sorted(name.familiar for name in image.names),
        "RepoDigests": sorted(name.familiar for name in image.digests),
        "Created": seconds(image.config.created),
        "Size": image.size,
        "SharedSize": shared,
        "Labels": dict(image.config.config.labels) or None,
        "Containers": containers,
        "Descriptor": descriptor_document(image.manifest),
    }
    if manifests:
        document["Manifests"] = [_manifest_summary(image)]
    return document


def _manifest_summary(image: Image) -> dict[str, Any]:
    return {
        "ID": str(image.manifest.digest),
        "Descriptor": descriptor_document(image.manifest),
        "Available": True,
        "Size": {"Content": 0, "Total": image.size},
        "Kind": "image",
        "ImageData": {"Platform": platform_document(image.config.platform), "Size": {"Unpacked": image.size}, "Containers": []},
    }


def image_inspect(image: Image, driver: str) -> dict[str, Any]:
    """The API's ImageInspect."""
    config = image.config
    document: dict[str, Any] = {
        "Id": str(image.id),
        "RepoTags": sorted(name.familiar for name in image.names),
        "RepoDigests": sorted(name.familiar for name in image.digests),
        "Parent": str(image.parent or ""),
        "Comment": config.comment or (config.history[-1].comment if config.history else ""),
        "Created": config.created or None,
        "DockerVersion": config.docker_version,
        "Author": config.author,
        "Config": config_document(config.config),
        "Architecture": config.architecture,
        "Os": config.os,
        "Size": image.size,
        "GraphDriver": {"Data": None, "Name": driver},
        "RootFS": {"Type": "layers", "Layers": list(config.rootfs.diff_ids)},
        "Metadata": {"LastTagTime": timestamp(image.tagged)},
        "Descriptor": descriptor_document(image.manifest),
    }
    return document | ({"Variant": config.variant} if config.variant else {})


def history_item(entry: HistoryEntry) -> dict[str, Any]:
    """The API's HistoryResponseItem."""
    return {
        "Id": entry.id,
        "Created": entry.created,
        "CreatedBy": entry.created_by,
        "Tags": list(entry.tags) or None,
        "Size": entry.size,
        "Comment": entry.comment,
    }
