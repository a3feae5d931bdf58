"""Containers on disk: `containers/<id>/config.json` and `state.json`, read once at start, written beside their place and renamed.

A folder without a readable config.json is an unfinished create; one whose name starts with REMOVING is an unfinished removal. Both are
swept by the next start. Nothing here waits for the disk: after a power cut a container is as it was at some earlier moment.
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from lamina.container.model import AmbiguousContainer, Container, ContainerNotFound, ContainerState, MountPoint, NameTaken, State

REMOVING = ".removing-"
INIT, SCRATCH = ".init", ".scratch"
_ID = re.compile(r"[0-9a-f]{64}\Z")
_PREFIX = re.compile(r"[0-9a-f]{1,64}\Z")


def encode_record(container: Container) -> bytes:
    """What config.json holds: everything but the state and the folder."""
    document = {field.name: getattr(container, field.name) for field in fields(container) if field.name not in ("state", "directory")}
    document["mounts"] = [asdict(mount) for mount in container.mounts]
    return json.dumps({"version": 1, **document}, separators=(",", ":")).encode()


def decode_record(data: bytes, directory: str) -> Container:
    """Raises ValueError, KeyError or TypeError where the bytes are no record."""
    document = json.loads(data)
    if document.pop("version") != 1:
        raise ValueError("container record of another version")
    mounts = tuple(MountPoint(**mount) for mount in document.pop("mounts"))
    arguments = tuple(document.pop("args"))
    return Container(**document, args=arguments, mounts=mounts, directory=directory)


def encode_state(state: ContainerState) -> bytes:
    """What state.json holds."""
    return json.dumps({"version": 1, **asdict(state)}, separators=(",", ":")).encode()


def decode_state(data: bytes) -> ContainerState:
    """Raises as decode_record."""
    document = json.loads(data)
    document.pop("version")
    return ContainerState(**{**document, "status": State(document["status"])})


def write_file(path: str, data: bytes) -> None:
    """Replace a file's content at once, without waiting for the disk."""
    beside = f"{path}.new"
    with open(beside, "wb", buffering=0) as file:
        file.write(data)
    os.rename(beside, path)


class ContainerStore:
    """The folders under `root` (ROOT/containers). Safe for use by several threads on different containers."""

    def __init__(self, root: str) -> None:
        self.root = root

    def directory(self, container_id: str) -> str:
        """The container's own folder."""
        return f"{self.root}/{container_id}"

    def make(self, container_id: str) -> str:
        """The folder of a new container, with the directories of its writable layer."""
        directory = self.directory(container_id)
        os.mkdir(directory, 0o710)
        # The root directory's own mode comes from the image as long as overlayfs copies it up; an upper directory hides it, so 0755.
        os.mkdir(f"{directory}/diff", 0o755)
        os.mkdir(f"{directory}/work", 0o700)
        return directory

    def save(self, container: Container) -> None:
        """Write the record. From now on the container exists."""
        write_file(f"{container.directory}/config.json", encode_record(container))

    def save_state(self, container: Container) -> None:
        """Write what changes. On a full disk it stays as it was: what the monitor records about start and end wins at the next start."""
        with suppress(OSError):
            write_file(f"{container.directory}/state.json", encode_state(container.state))

    def load(self) -> list[Container]:
        """Every container, the oldest first. Folders without a readable record are passed over."""
        found = [self._read(name) for name in os.listdir(self.root) if _ID.match(name)]
        return sorted((container for container in found if container is not None), key=lambda container: container.created_ns)

    def leftovers(self) -> list[str]:
        """Folders of creates and removals that were not finished."""
        names = os.listdir(self.root)
        return [f"{self.root}/{name}" for name in names if name.startswith(REMOVING) or (_ID.match(name) and self._read(name) is None)]

    def detach(self, container_id: str) -> str:
        """Take the folder out of the containers, in one step; the new path, which the caller removes."""
        gone = f"{self.root}/{REMOVING}{container_id}"
        os.rename(self.directory(container_id), gone)
        return gone

    def _read(self, name: str) -> Container | None:
        directory = f"{self.root}/{name}"
        try:
            with open(f"{directory}/config.json", "rb") as file:
                container = decode_record(file.read(), directory)
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return replace(container, state=_read_state(directory))


def _read_state(directory: str) -> ContainerState:
    try:
        with open(f"{directory}/state.json", "rb") as file:
            return decode_state(file.read())
    except FileNotFoundError:
        return ContainerState()
    except (OSError, ValueError, KeyError, TypeError):
        return ContainerState(status=State.EXITED, exit_code=255, error="the container's state could not be read")


@dataclass(slots=True)
class NameIndex:
    """Which names and IDs are taken. Thread-safe; its lock is held for look-ups only."""

    _names: dict[str, str]
    _ids: set[str]
    _lock: threading.Lock

    @classmethod
    def of(cls, containers: Sequence[Container]) -> NameIndex:
        """An index of what was read from disk."""
        return cls({container.name: container.id for container in containers}, {container.id for container in containers}, threading.Lock())

    def claim(self, name: str, container_id: str) -> None:
        """Take a name for a container.

        Raises:
            NameTaken: in Docker's words.
        """
        with self._lock:
            self._claim(name, container_id)

    def claim_invented(self, invent: Callable[[Callable[[str], bool]], str], container_id: str) -> str:
        """Take a name that `invent` makes up; it is given a test for names that are taken."""
        with self._lock:
            name = invent(self._names.__contains__)
            self._claim(name, container_id)
            return name

    def rename(self, old: str, new: str, container_id: str) -> None:
        """Give up `old` for `new`; raises as claim."""
        with self._lock:
            self._claim(new, container_id)
            self._names.pop(old, None)

    def release(self, name: str, container_id: str) -> None:
        """Forget a container."""
        with self._lock:
            self._ids.discard(container_id)
            if self._names.get(name) == container_id:
                del self._names[name]

    def find(self, ref: str) -> str:
        """The ID that `ref` means: a whole ID, a name, the beginning of an ID, in this order.

        Raises:
            ContainerNotFound: nothing has it.
            AmbiguousContainer: several IDs start so.
        """
        with self._lock:
            if ref in self._ids:
                return ref
            named = self._names.get(ref.removeprefix("/"))
            if named is not None:
                return named
            matches = [known for known in self._ids if known.startswith(ref)] if _PREFIX.match(ref) else []
        if len(matches) > 1:
            raise AmbiguousContainer(f"multiple IDs found with provided prefix: {ref}")
        if not matches:
            raise ContainerNotFound(f"No such container: {ref}")
        return matches[0]

    def _claim(self, name: str, container_id: str) -> None:
        holder = self._names.get(name)
        if holder is not None and holder != container_id:
            raise NameTaken(
                f'Conflict. The container name "/{name}" is already in use by container "{holder}". '
                "You have to remove (or rename) that container to be able to reuse that name."
            )
        self._names[name] = container_id
        self._ids.add(container_id)


def merged(document: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """`document` with `defaults` where a key is absent or null."""
    return {**defaults, **{key: value for key, value in document.items() if value is not None}}
