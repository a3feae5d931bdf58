"""Devices of the host that a container asks for: --device, --device-cgroup-rule, and block devices that limits name."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Sequence
from typing import Any

from lamina.container.document import Document, objects, text
from lamina.errors import InvalidArgument

_RULE = re.compile(r"([acb]) (\d{1,9}|\*):(\d{1,9}|\*) ([rwm]{1,3})\Z", re.ASCII)


class InvalidDevice(InvalidArgument):
    """No device is there, or a rule for devices is malformed. The words are Docker's."""


def asked_devices(host: Document, *, privileged: bool = False) -> list[dict[str, Any]]:
    """OCI `linux.devices` with their `access` for HostConfig.Devices. A directory stands for every device below it.

    A privileged container has the host's devices already: it gets those that are to have another path.

    Raises:
        InvalidDevice: there is no device at a path.
    """
    found: list[dict[str, Any]] = []
    for mapping in objects(host, "Devices"):
        source = text(mapping, "PathOnHost")
        target = text(mapping, "PathInContainer") or source
        if privileged and source == target:
            continue
        found += _devices(source, target, "rwm" if privileged else text(mapping, "CgroupPermissions") or "rwm")
    return found


def check_devices(host: Document) -> None:
    """Refuse what HostConfig.Devices cannot mean.

    Raises:
        InvalidDevice: the path inside is relative, or the permissions are others than r, w and m.
    """
    for mapping in objects(host, "Devices"):
        target, access = text(mapping, "PathInContainer"), text(mapping, "CgroupPermissions")
        if target and not target.startswith("/"):
            raise InvalidDevice(f"{target[:200]} is not an absolute path")
        if set(access) - set("rwm") or len(set(access)) < len(access):
            raise InvalidDevice(f"bad mode specified: {access[:100]}")


def _devices(source: str, target: str, access: str) -> list[dict[str, Any]]:
    real = os.path.realpath(source) if os.path.islink(source) else source
    try:
        device = device_at(real)
        below = [] if device or not os.path.isdir(real) else sorted(_below(real))
    except OSError as error:
        raise InvalidDevice(f'error gathering device information while adding custom device "{source}": {_words(error)}') from None
    if device:
        return [{**device, "path": target, "access": access}]
    found = [(path, each) for path in below if (each := device_at(path))]
    if not found:
        raise InvalidDevice(f'error gathering device information while adding custom device "{source}": not a device node')
    return [{**each, "path": f"{target}{path.removeprefix(real)}", "access": access} for path, each in found]


def _below(directory: str) -> Iterator[str]:
    for folder, _, names in os.walk(directory):
        yield from (f"{folder}/{name}" for name in names)


def device_at(path: str) -> dict[str, Any] | None:
    """An OCI `linux.devices` entry for a device node, None for anything else. Raises OSError where nothing is."""
    about = os.lstat(path)
    kind = "c" if stat.S_ISCHR(about.st_mode) else "b" if stat.S_ISBLK(about.st_mode) else ""
    if not kind:
        return None
    where = {"path": path, "type": kind, "major": os.major(about.st_rdev), "minor": os.minor(about.st_rdev)}
    return {**where, "fileMode": stat.S_IMODE(about.st_mode), "uid": about.st_uid, "gid": about.st_gid}


def device_rules(rules: Sequence[str]) -> list[dict[str, Any]]:
    """OCI `linux.resources.devices` for HostConfig.DeviceCgroupRules, like `c 1:3 mr`.

    Raises:
        InvalidDevice: one is malformed.
    """
    found: list[dict[str, Any]] = []
    for rule in rules:
        match = _RULE.match(rule)
        if match is None:
            raise InvalidDevice(f"invalid device cgroup rule format: '{rule[:100]}'")
        kind, major, minor, access = match.groups()
        numbers = {key: int(value) for key, value in (("major", major), ("minor", minor)) if value != "*"}
        found.append({"allow": True, "type": kind, **numbers, "access": access})
    return found


def device_number(path: str) -> tuple[int, int]:
    """Major and minor number of the device that limits of block I/O name.

    Raises:
        InvalidDevice: nothing is there.
    """
    try:
        about = os.stat(path)
    except OSError as error:
        raise InvalidDevice(f"stat {path}: {_words(error)}") from None
    return os.major(about.st_rdev), os.minor(about.st_rdev)


def refuse_requests(host: Document) -> None:
    """No driver for GPUs and other requested devices is here.

    Raises:
        InvalidDevice: something was requested.
    """
    for request in objects(host, "DeviceRequests"):
        wanted = request.get("Capabilities") or []
        words = " ".join(f"[{' '.join(map(str, each))}]" for each in wanted if isinstance(each, list))
        raise InvalidDevice(f'could not select device driver "{text(request, "Driver")}" with capabilities: [{words}]')


def _words(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
