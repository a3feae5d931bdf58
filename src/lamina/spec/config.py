"""Image configurations (image-spec config.md, and what Docker adds to it).

A configuration's digest is the image's ID and is of the bytes as they came: keep those beside the parsed value
and never encode again to hash. Null and absent mean the same here (Go writes both); a `Cmd` or `Entrypoint` that is
one string, as very old images have it, is read as a list of one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct, field

from lamina.errors import Corrupt, LaminaError
from lamina.spec.digest import Digest
from lamina.spec.platform import Platform
from lamina.spec.strict import check_numbers, readable

LIMIT = 8 << 20
"""The largest configuration or manifest read, in bytes."""


class InvalidConfig(Corrupt):
    """The bytes are not an image configuration."""


class Healthcheck(Struct, frozen=True, omit_defaults=True, rename="pascal"):
    """How a container's health is told. Durations are nanoseconds; 0 means inherited or default. `test` is `["NONE"]`, `["CMD", …]` or
    `["CMD-SHELL", …]`."""

    test: tuple[str, ...] = ()
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


class ContainerConfig(Struct, frozen=True, omit_defaults=True, rename="pascal"):
    """What a container of this image starts with. `env` holds `NAME=value`; keys of `exposed_ports` are `80/tcp`."""

    hostname: str = ""
    domainname: str = ""
    user: str = ""
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    exposed_ports: Mapping[str, Any] = field(default_factory=dict)
    tty: bool = False
    open_stdin: bool = False
    stdin_once: bool = False
    env: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    healthcheck: Healthcheck | None = None
    args_escaped: bool = False
    image: str = ""
    volumes: Mapping[str, Any] = field(default_factory=dict)
    working_dir: str = ""
    entrypoint: tuple[str, ...] = ()
    on_build: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    stop_signal: str = ""
    stop_timeout: int | None = None
    shell: tuple[str, ...] = ()

    def environment(self) -> dict[str, str]:
        """`env` as a mapping; a later entry wins, an entry without `=` has an empty value."""
        return {name: value for name, _, value in (entry.partition("=") for entry in self.env)}


class RootFS(Struct, frozen=True):
    """Diff IDs as text, base layer first."""

    type: str = "layers"
    diff_ids: tuple[str, ...] = ()


class History(Struct, frozen=True, omit_defaults=True):
    """One step of an image's making, oldest first in the list. `created` is RFC 3339."""

    created: str = ""
    created_by: str = ""
    author: str = ""
    comment: str = ""
    empty_layer: bool = False


class ImageConfig(Struct, frozen=True, omit_defaults=True):
    """An image's configuration. `architecture`, `os` and `rootfs` are always written."""

    architecture: str
    os: str
    rootfs: RootFS
    config: ContainerConfig = field(default_factory=ContainerConfig)
    created: str = ""
    author: str = ""
    comment: str = ""
    history: tuple[History, ...] = ()
    variant: str = ""
    os_version: str = field(default="", name="os.version")
    os_features: tuple[str, ...] = field(default=(), name="os.features")
    docker_version: str = ""

    @property
    def diff_ids(self) -> tuple[Digest, ...]:
        """The layers' diff IDs, base layer first; `parse` has checked them."""
        return tuple(Digest.parse(text) for text in self.rootfs.diff_ids)

    @property
    def platform(self) -> Platform:
        return Platform(self.os, self.architecture, self.variant)


# Looked at now, by one thread: see apitypes.requests.
msgspec.json.Decoder(ImageConfig)


def parse(data: bytes) -> ImageConfig:
    """Read a configuration, OCI's or Docker's; what is unknown is passed over.

    Raises:
        InvalidConfig: it is larger than LIMIT, no JSON object, or a field has the wrong type.
    """
    if len(data) > LIMIT:
        raise InvalidConfig(f"image configuration of {len(data)} bytes is larger than the {LIMIT} that are read")
    try:
        read = msgspec.json.decode(data)
        check_numbers(data, lambda: read)
        return _checked(msgspec.convert(_normal(_object(read)), ImageConfig))
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise InvalidConfig(f"invalid image configuration: {str(error)[:200]}") from None


def encode(config: ImageConfig) -> bytes:
    """The configuration as JSON: one spelling for one value, keys of maps sorted. Bytes that are not UTF-8 become U+FFFD, as in Go."""
    try:
        return msgspec.json.encode(config, order="deterministic")
    except UnicodeEncodeError:
        return msgspec.json.encode(msgspec.convert(readable(msgspec.to_builtins(config)), ImageConfig), order="deterministic")


def replace(config: ImageConfig, **changes: Any) -> ImageConfig:
    """A copy with these fields of the part under `config` changed (`replace(c, cmd=("sh",))`)."""
    return msgspec.structs.replace(config, config=msgspec.structs.replace(config.config, **changes))


def shared(config: ImageConfig, pool: dict[Any, Any]) -> ImageConfig:
    """The same value, made of the very steps, variables and diff IDs in `pool` that equal its own; those that are new to it are put there.

    Each step of a build is an image that lists all steps before it: apart, they would take memory by the square of their number.
    """

    def same(values: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(pool.setdefault(value, value) for value in values)

    return msgspec.structs.replace(
        config,
        history=same(config.history),
        rootfs=RootFS(config.rootfs.type, same(config.rootfs.diff_ids)),
        config=msgspec.structs.replace(config.config, env=same(config.config.env)),
    )


def _checked(config: ImageConfig) -> ImageConfig:
    if config.rootfs.type not in ("", "layers"):
        raise ValueError(f'rootfs type {config.rootfs.type[:50]!r} is not "layers"')
    try:
        for text in config.rootfs.diff_ids:
            Digest.parse(text)
    except LaminaError as error:
        raise ValueError(error.message) from None
    return config


def _normal(raw: dict[str, Any]) -> dict[str, Any]:
    """`raw` without nulls, and with what old writers left out or wrote differently."""
    document = {"architecture": "", "os": "linux", "rootfs": {}, **_present(raw)}
    document["rootfs"] = _present(_object(document["rootfs"]))
    if "config" in document:
        document["config"] = _normal_container(_present(_object(document["config"])))
    if isinstance(document.get("history"), list):
        document["history"] = [_present(_object(entry)) for entry in document["history"]]
    return document


def _normal_container(config: dict[str, Any]) -> dict[str, Any]:
    for key in ("Cmd", "Entrypoint", "Shell", "OnBuild"):
        if isinstance(config.get(key), str):
            config[key] = [config[key]]
    for key, absent in (("ExposedPorts", {}), ("Volumes", {}), ("Labels", "")):
        if isinstance(config.get(key), dict):
            config[key] = {name: absent if value is None else value for name, value in config[key].items()}
    if isinstance(config.get("Healthcheck"), dict):
        config["Healthcheck"] = _present(config["Healthcheck"])
    return config


def _present(raw: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in raw.items() if value is not None}


def _object(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("an object was expected")
    return value
