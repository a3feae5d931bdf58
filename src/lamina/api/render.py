"""Images as the API's documents: pure functions over values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from lamina.image.model import CacheRecord, HistoryEntry, Image, Variant
from lamina.network.mode import PREDEFINED
from lamina.spec.config import ContainerConfig
from lamina.spec.descriptor import Descriptor
from lamina.spec.digest import Digest
from lamina.spec.platform import Platform

if TYPE_CHECKING:
    from lamina.builder.cachemounts import CacheFolder

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
    if descriptor.annotations:
        document["annotations"] = dict(descriptor.annotations)
    return document


def sized(document: dict[str, Any], version: tuple[int, int]) -> dict[str, Any]:
    """An image's document as API `version` has it: before 1.44 its size is there once more, and Docker's CLI of 20.10 counts with that."""
    return document if version >= (1, 44) else {**document, "VirtualSize": document["Size"]}


def named(document: dict[str, Any], version: tuple[int, int]) -> dict[str, Any]:
    """An image of a listing as API `version` has it: before 1.43 one without names has these, and Docker's CLI of 20.10 shows no other."""
    if version >= (1, 43) or document["RepoTags"] or document["RepoDigests"]:
        return document
    return {**document, "RepoTags": ["<none>:<none>"], "RepoDigests": ["<none>@<none>"]}


def aliased(document: dict[str, Any], version: tuple[int, int]) -> dict[str, Any]:
    """A container's document as API `version` has it: before 1.45 its short ID and its host name were among the aliases."""
    settings = document["NetworkSettings"]
    if version >= (1, 45) or not settings["Networks"]:
        return document
    more = [document["Id"][:12], document["Config"]["Hostname"]]
    networks = {
        name: endpoint if name in PREDEFINED else {**endpoint, "Aliases": list(dict.fromkeys([*(endpoint["Aliases"] or ()), *more]))}
        for name, endpoint in settings["Networks"].items()
    }
    return {**document, "NetworkSettings": {**settings, "Networks": networks}}


Users = Callable[[Digest], Sequence[str]]
"""Asked with an image's ID: the IDs of the containers on it."""


def image_summary(image: Image, *, resolved: Descriptor | None = None, containers: int = -1, shared: int = -1) -> dict[str, Any]:
    """The API's ImageSummary. `resolved` is what its name stands for, where that is an index."""
    return {
        "Id": str(image.id),
        "ParentId": str(image.parent or ""),
        "RepoTags": sorted(name.familiar for name in image.names),
        "RepoDigests": sorted(name.familiar for name in image.digests),
        "Created": seconds(image.config.created),
        "Size": image.size,
        "SharedSize": shared,
        "Labels": dict(image.config.config.labels) or None,
        "Containers": containers,
        "Descriptor": descriptor_document(resolved or image.manifest),
    }


def manifest_summary(variant: Variant, users: Users) -> dict[str, Any]:
    """The API's ImageManifestSummary: one platform of an image, or an attestation.

    `Total` is the image's `Size`, what `docker images` shows beside it: layers are not there a second time as a registry has them.
    """
    unpacked = variant.image.size if variant.image is not None else 0
    content = variant.content if variant.available else 0
    document: dict[str, Any] = {
        "ID": str(variant.descriptor.digest),
        "Descriptor": descriptor_document(variant.descriptor),
        "Available": variant.available,
        "Size": {"Content": content, "Total": unpacked or content},
        "Kind": variant.kind,
    }
    if variant.kind == "attestation":
        return {**document, "AttestationData": {"For": variant.attests}}
    if variant.kind == "image":
        containers = list(users(variant.image.id)) if variant.image is not None else []
        platform = platform_document(variant.platform)
        return {**document, "ImageData": {"Platform": platform, "Size": {"Unpacked": unpacked}, "Containers": containers}}
    return document


def image_inspect(image: Image, driver: str, resolved: Descriptor | None = None) -> dict[str, Any]:
    """The API's ImageInspect. See `image_summary`."""
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
        "Descriptor": descriptor_document(resolved or image.manifest),
    }
    return document | ({"Variant": config.variant} if config.variant else {})


def cache_record(record: CacheRecord) -> dict[str, Any]:
    """The API's BuildCache: a step of a build."""
    return {
        "ID": record.image.id.encoded,
        "Parents": [record.image.parent.encoded] if record.image.parent else None,
        "Type": "regular",
        "Description": record.description,
        "InUse": record.in_use,
        "Shared": record.shared,
        "Size": record.size,
        "CreatedAt": record.image.config.created or "0001-01-01T00:00:00Z",
        "LastUsedAt": timestamp(record.used),
        "UsageCount": 1,
    }


def cache_folder(folder: CacheFolder) -> dict[str, Any]:
    """The API's BuildCache: a folder of RUN --mount=type=cache."""
    return {
        "ID": folder.name,
        "Parents": None,
        "Type": "exec.cachemount",
        "Description": folder.description,
        "InUse": folder.busy,
        "Shared": False,
        "Size": folder.size,
        "CreatedAt": timestamp(folder.made),
        "LastUsedAt": timestamp(folder.used),
        "UsageCount": 1,
    }


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
