"""Images of the layout before Docker 1.10: one JSON per layer, with its parent's ID in it, and no manifest.

    {"id", "parent", "created", "author", "comment", "container_config": {"Cmd": […]}, "config": {…}, "architecture", "os"}

A chain of these becomes one configuration as Docker's own conversion writes it, byte for byte, so under the same ID.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from lamina.spec import strict
from lamina.spec.config import ContainerConfig, ImageConfig, InvalidConfig
from lamina.spec.digest import Digest

VERSION = b"1.0"
_ID = re.compile(r"[a-f0-9]{64}\Z")
_ZERO_TIME = "0001-01-01T00:00:00Z"
_EPOCH = "1970-01-01T00:00:00Z"
_OF_THE_LAYER = ("id", "parent", "Size", "parent_id", "layer_id", "throwaway")
_FIRST_WHOLE = (1, 8, 3)
_OMITTED = object()
# The fields of Go's container.Config in their order, each with what an absent one is written as.
_CONTAINER: tuple[tuple[str, object], ...] = (
    ("Hostname", ""),
    ("Domainname", ""),
    ("User", ""),
    ("AttachStdin", False),
    ("AttachStdout", False),
    ("AttachStderr", False),
    ("ExposedPorts", _OMITTED),
    ("Tty", False),
    ("OpenStdin", False),
    ("StdinOnce", False),
    ("Env", None),
    ("Cmd", None),
    ("Healthcheck", _OMITTED),
    ("ArgsEscaped", _OMITTED),
    ("Image", ""),
    ("Volumes", None),
    ("WorkingDir", ""),
    ("Entrypoint", None),
    ("NetworkDisabled", _OMITTED),
    ("MacAddress", _OMITTED),
    ("OnBuild", None),
    ("Labels", None),
    ("StopSignal", _OMITTED),
    ("StopTimeout", _OMITTED),
    ("Shell", _OMITTED),
)
_OLD_IMAGE = ("comment", "created", "container", "container_config", "docker_version", "author", "config", "architecture", "variant", "os")


@dataclass(frozen=True, slots=True)
class V1Image:
    """One layer's description. `document` is all of it."""

    id: str
    parent: str
    document: Mapping[str, Any]


def parse(data: bytes, folder: str) -> V1Image:
    """Read the description that lies in the folder named `folder`.

    Raises:
        InvalidConfig: it is not one, or is another layer's.
    """
    try:
        document = strict.decode(data)
    except (ValueError, RecursionError) as error:
        raise InvalidConfig(f"the description of layer {folder[:80]!r} is not JSON: {str(error)[:100]}") from None
    if not isinstance(document, dict):
        raise InvalidConfig(f"the description of layer {folder[:80]!r} is not an object")
    identity, parent = document.get("id", folder), document.get("parent") or ""
    if not (isinstance(identity, str) and _ID.match(identity)) or identity != folder:
        raise InvalidConfig(f"the description of layer {folder[:80]!r} has the ID {str(identity)[:80]!r}")
    if not isinstance(parent, str) or (parent and not _ID.match(parent)):
        raise InvalidConfig(f"layer {identity[:12]} has a malformed parent: {str(parent)[:80]!r}")
    return V1Image(identity, parent, document)


def config_of(chain: Sequence[V1Image], diff_ids: Iterable[Digest]) -> bytes:
    """The configuration of the image that a chain, base first, amounts to.

    Raises:
        InvalidConfig: a part of it has the wrong type.
    """
    top = dict(chain[-1].document)
    if _version(top.get("docker_version")) < _FIRST_WHOLE:
        top = _old_image(top)
    kept = {key: value for key, value in top.items() if key not in _OF_THE_LAYER}
    kept["rootfs"] = {"type": "layers", "diff_ids": [str(diff_id) for diff_id in diff_ids]}
    kept["history"] = [_history(image) for image in chain]
    return _as_go(dict(sorted(kept.items())))


def documents_of(config: ImageConfig, ids: Sequence[str]) -> list[bytes]:
    """The descriptions of an image's layers, base first: `ids` are theirs. The top one has the image's configuration."""
    steps = [step for step in config.history if not step.empty_layer]
    documents = []
    for number, identity in enumerate(ids):
        step = steps[number] if number < len(steps) else None
        document: dict[str, Any] = {"id": identity}
        if number:
            document["parent"] = ids[number - 1]
        made_by = step.created_by if step else ""
        document |= {
            "created": (step.created if step else "") or _EPOCH,
            "container_config": _container({"Cmd": [made_by] if made_by else None}),
        }
        if step and step.author:
            document["author"] = step.author
        if step and step.comment:
            document["comment"] = step.comment
        if number == len(ids) - 1:
            document |= _of_image(config)
        document |= {"architecture": config.architecture, "os": config.os}
        documents.append(msgspec.json.encode(document))
    return documents


def _of_image(config: ImageConfig) -> dict[str, Any]:
    own: dict[str, Any] = {"created": config.created or _EPOCH, "config": _container(_pascal(config.config))}
    named = {"author": config.author, "comment": config.comment, "variant": config.variant}
    # Without a version, whoever reads it takes it for one of before 1.8.3, and passes over what that did not have.
    return own | {key: value for key, value in named.items() if value} | {"docker_version": config.docker_version or "1.13.0"}


def _pascal(config: ContainerConfig) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(config)
    return found


def _container(given: Mapping[str, Any]) -> dict[str, Any]:
    """A container's configuration with all the fields that Go writes, in its order."""
    document: dict[str, Any] = {}
    for name, absent in _CONTAINER:
        value = given.get(name)
        if value in (None, [], {}, "", False, 0):
            if absent is _OMITTED and name != "NetworkDisabled":
                continue
            value = False if name == "NetworkDisabled" else absent
        document[name] = dict(sorted(value.items())) if isinstance(value, dict) else value
    return document


def _old_image(document: dict[str, Any]) -> dict[str, Any]:
    """What Docker reads of a description before 1.8.3: the fields it knew, the others are lost."""
    old = {key: document[key] for key in _OLD_IMAGE if document.get(key) not in (None, "")}
    old["created"] = document.get("created") or _ZERO_TIME
    old["container_config"] = _known_container(_object(document.get("container_config"), "container_config"))
    if document.get("config") is not None:
        old["config"] = _known_container(_object(document["config"], "config"))
    return old


def _known_container(given: Mapping[str, Any]) -> dict[str, Any]:
    document = _container(given)
    if not given.get("NetworkDisabled"):
        del document["NetworkDisabled"]
    return document


def _history(image: V1Image) -> dict[str, Any]:
    made = _object(image.document.get("container_config"), "container_config")
    command = made.get("Cmd") or []
    words = [command] if isinstance(command, str) else command
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise InvalidConfig(f"layer {image.id[:12]} has a malformed command")
    fields = {
        "created": image.document.get("created") or _ZERO_TIME,
        "author": image.document.get("author"),
        "created_by": " ".join(words),
        "comment": image.document.get("comment"),
    }
    if not all(value is None or isinstance(value, str) for value in fields.values()):
        raise InvalidConfig(f"layer {image.id[:12]} has a malformed description")
    return {key: value for key, value in fields.items() if value}


def _object(value: object, what: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidConfig(f"{what} of a layer's description is not an object")
    return value


def _version(text: object) -> tuple[int, ...]:
    """A version's leading numbers; what is no version counts as the oldest."""
    numbers = re.match(r"\d{1,6}(?:\.\d{1,6})*", text) if isinstance(text, str) else None
    return tuple(int(part) for part in numbers[0].split(".")) if numbers else ()


def _as_go(document: dict[str, Any]) -> bytes:
    """JSON as Go's encoder writes it: what HTML would take for markup is escaped."""
    data = msgspec.json.encode(document)
    for plain, escaped in (
        (b"<", b"\\u003c"),
        (b">", b"\\u003e"),
        (b"&", b"\\u0026"),
        ("\u2028".encode(), b"\\u2028"),
        ("\u2029".encode(), b"\\u2029"),
    ):
        data = data.replace(plain, escaped)
    return data
