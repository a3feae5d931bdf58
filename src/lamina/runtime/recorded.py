"""What `lamina-runtime` keeps of its containers: ROOT/ID/state.json, and the state that callers are shown."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lamina.errors import Conflict, InvalidArgument, NotFound
from lamina.runtime import cgroup
from lamina.runtime.cgroup import Cgroup
from lamina.runtime.oci import FIFO
from lamina.runtime.records import start_time


class ContainerNotFound(NotFound):
    """No container has that ID."""


class WrongState(Conflict):
    """The container is not in the state that the command needs."""


def directory_of(options: argparse.Namespace) -> str:
    """Where a container's record is.

    Raises:
        InvalidArgument: the ID is not one.
    """
    identifier = options.id
    if not identifier or not all(character.isalnum() or character in "_.+-" for character in identifier) or identifier in (".", ".."):
        raise InvalidArgument(f"invalid container ID: {identifier[:100]!r}")
    return f"{options.root}/{identifier}"


def record_of(options: argparse.Namespace) -> dict[str, Any]:
    """The container's record with its `status`.

    Raises:
        ContainerNotFound: there is none.
    """
    directory = directory_of(options)
    try:
        record = dict(json.loads(Path(directory, "state.json").read_text()))
    except (OSError, ValueError):
        raise ContainerNotFound(f"container {options.id} does not exist") from None
    record["directory"] = directory
    record["status"] = status_of(record)
    return record


def specification(record: Mapping[str, Any]) -> dict[str, Any]:
    """Its config.json as it was when it was created."""
    return dict(json.loads(Path(record["directory"], "config.json").read_text()))


def status_of(record: Mapping[str, Any]) -> str:
    """created, running, paused or stopped."""
    pid = record["pid"]
    if start_time(pid) != record["started"] or _is_zombie(pid):
        return "stopped"
    if os.path.exists(f"{record['directory']}/{FIFO}"):
        return "created"
    return "paused" if _is_frozen(record["cgroup"]) else "running"


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def _is_frozen(path: str) -> bool:
    for directory in Cgroup(path, cgroup.here()).directories():
        for name, frozen in (("freezer.state", "FROZEN"), ("cgroup.freeze", "1")):
            try:
                if Path(directory, name).read_text().strip() == frozen:
                    return True
            except OSError:
                continue
    return False


def about(record: Mapping[str, Any]) -> dict[str, Any]:
    """runtime-spec runtime.md "State", but for status and pid, and what runc adds."""
    return {
        "ociVersion": record["ociVersion"],
        "id": record["id"],
        "bundle": record["bundle"],
        "rootfs": record["rootfs"],
        "created": record["created"],
        "owner": "",
        "annotations": record["annotations"],
    }


def state(record: Mapping[str, Any]) -> dict[str, Any]:
    """The whole state."""
    return {**about(record), "status": record["status"], "pid": 0 if record["status"] == "stopped" else record["pid"]}


def forget(directory: str) -> None:
    """Remove a record."""
    if os.path.isdir(directory):
        for name in os.listdir(directory):
            os.unlink(f"{directory}/{name}")
        os.rmdir(directory)
