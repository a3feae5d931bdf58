"""What a container is made of, from the kernel to its command: the steps of its start as `inspect` shows them. Pure.

The host's kernel is the boot file system, then come the image's layers from the base up, the init layer, the writable layer, the command.
Init layer and writable layer have an ID and a parent as the image's layers have; since their content is not fixed, an ID is made of the
parent's and of what the layer is for, where an image's layer has its diff ID.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lamina.container.document import text, texts
from lamina.container.model import Container
from lamina.container.snapshots import Snapshot
from lamina.container.times import rfc3339
from lamina.image.model import LayerFacts
from lamina.spec.digest import Digest

_INIT_FILES = (
    "/.dockerenv",
    "/dev/console",
    "/dev/pts",
    "/dev/shm",
    "/etc/hostname",
    "/etc/hosts",
    "/etc/resolv.conf",
    "/etc/mtab",
    "/proc",
    "/sys",
)
"""What the init layer holds: mount points, so that mounting changes no layer."""


def init_layer_id(parent: str) -> str:
    """The ID of the init layer on a layer ("" where the image has none)."""
    return str(Digest.of(f"{parent} init".encode()))


def writable_layer_id(container: Container) -> str:
    """The ID of what a container writes: nobody else's, for all its life."""
    return str(Digest.of(f"{init_layer_id(container.layer)} {container.id}".encode()))


def start_sequence(
    container: Container, layers: Sequence[LayerFacts], *, kernel: str, init: str, snapshots: Sequence[Snapshot] = ()
) -> list[dict[str, Any]]:
    """The steps, in order. `layers` are the image's, base first; `kernel` is uname's release; `init` the init layer's host directory;
    `snapshots` are what the writable layer stands on, the lowest first."""
    directory, state = container.directory, container.state
    below, created = init_layer_id(container.layer), rfc3339(container.created_ns)
    return [
        {"Step": "boot file system", "Kernel": kernel, "From": "host"},
        {"Step": "read-only layers", "Layers": [_layer(facts) for facts in layers]},
        {
            "Step": "init layer",
            "ID": below,
            "Parent": container.layer,
            "Path": init,
            "Files": list(_INIT_FILES),
            "Mounted": {f"/etc/{name}": f"{directory}/{name}" for name in ("hostname", "hosts", "resolv.conf")},
            "Hostname": text(container.config, "Hostname"),
            "Environment": texts(container.config, "Env"),
        },
        *([{"Step": "snapshots", "Layers": [_snapshot(each, below) for each in snapshots]}] if snapshots else []),
        {
            "Step": "writable layer",
            "ID": writable_layer_id(container),
            "Parent": container.base or below,
            "Path": container.upper,
            "Created": created,
            "CreatedBy": f"create {container.name}",
            **({"Size": container.size} if container.size else {}),
        },
        {
            "Step": "command",
            "Args": [container.path, *container.args],
            "User": text(container.config, "User"),
            "WorkingDir": text(container.config, "WorkingDir") or "/",
            "Pid": state.pid,
            "StartedAt": rfc3339(state.started_ns),
        },
    ]


def _snapshot(snapshot: Snapshot, below: str) -> dict[str, Any]:
    return {
        "ID": snapshot.id,
        "Parent": snapshot.parent or below,
        "Name": snapshot.name,
        "Created": rfc3339(snapshot.created_ns),
        "Path": snapshot.diff,
    }


def _layer(facts: LayerFacts) -> dict[str, Any]:
    return {
        "ID": str(facts.id),
        "Parent": str(facts.parent or ""),
        "DiffID": str(facts.diff_id),
        "Created": facts.created,
        "CreatedBy": facts.created_by,
        "Size": facts.content_size,
    }
