"""Containers on disk: `containers/<id>/config.json` and `state.json`, read once at start, written beside their place and renamed.

The record is kept twice, as config.json and config.copy.json, and each copy ends with a checksum: the one that can be read makes the other
anew. A folder with neither is an unfinished create; one whose name starts with REMOVING is an unfinished removal: both are swept by the
next start. A folder whose copies are there and cannot be read stays, with what the container wrote; `system check` names it. Nothing here
waits for the disk: after a power cut a container is as it was at some earlier moment.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from lamina.container.model import AmbiguousContainer, Container, ContainerNotFound, ContainerState, MountPoint, NameTaken, State
from lamina.content.files import holds

REMOVING = ".removing-"
SCRATCH = ".scratch"
RECORDS = ("config.json", "config.copy.json")
_SUM = "sum"
_ID = re.compile(r"[0-9a-f]{64}\Z")
_PREFIX = re.compile(r"[0-9a-f]{1,64}\Z")


def encode_record(container: Container) -> bytes:
    """What config.json holds: everything but the state and the folder."""
    document = {field.name: getattr(container, field.name) for field in fields(container) if field.name not in ("state", "directory")}
    document["mounts"] = [asdict(mount) for mount in container.mounts]
    return encoded(document)


def decode_record(data: bytes, directory: str) -> Container:
    """Raises ValueError, KeyError or TypeError where the bytes are not a record, or not what was written."""
    document = decoded(data)
    if document.pop("version") != 1:
        raise ValueError("container record of another version")
    mounts = tuple(MountPoint(**mount) for mount in document.pop("mounts"))
    arguments = tuple(document.pop("args"))
    return Container(**document, args=arguments, mounts=mounts, directory=directory)


def encode_state(state: ContainerState) -> bytes:
    """What state.json holds."""
    return encoded(asdict(state))


def decode_state(data: bytes) -> ContainerState:
    """Raises as decode_record."""
    document = decoded(data)
    document.pop("version")
    return ContainerState(**{**document, "status": State(document["status"])})


def encoded(document: Mapping[str, Any]) -> bytes:
    """A document with version and checksum, which comes last."""
    plain = json.dumps({"version": 1, **document}, separators=(",", ":"))
    return f'{plain[:-1]},"{_SUM}":"{_digest(plain.encode())}"}}'.encode()


def decoded(data: bytes) -> dict[str, Any]:
    """What `encoded` wrote. Documents without a checksum are older ones. Raises as decode_record."""
    document = json.loads(data)
    if not isinstance(document, dict):
        raise TypeError
    found = document.pop(_SUM, None)
    if found is not None:
        plain = data[: data.rindex(f',"{_SUM}"'.encode())] + b"}"
        if found != _digest(plain):
            raise ValueError("a container's document is not what was written")
    return document


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]


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
        data = encode_record(container)
        # Of a temporary one the next engine only needs to know that it is to go.
        for name in RECORDS[:1] if container.temporary else reversed(RECORDS):
            write_file(f"{container.directory}/{name}", data)

    def save_state(self, container: Container) -> None:
        """Write what changes. On a full disk it stays as it was: what the monitor records about start and end wins at the next start.

        Of a temporary container nothing is written: the next engine removes it, whatever it did.
        """
        if container.temporary:
            return
        with suppress(OSError):
            write_file(f"{container.directory}/state.json", encode_state(container.state))

    def load(self) -> list[Container]:
        """Every container, the oldest first. Folders without a readable record are passed over."""
        found = [self._read(name, mend=True) for name in os.listdir(self.root) if _ID.match(name)]
        return sorted((container for container in found if container is not None), key=lambda container: container.created_ns)

    def leftovers(self) -> list[str]:
        """Folders of creates and removals that were not finished."""
        names = os.listdir(self.root)
        return [f"{self.root}/{name}" for name in names if name.startswith(REMOVING) or (_ID.match(name) and not self._recorded(name))]

    def strangers(self) -> list[str]:
        """Names that neither a container's folder has nor anything else that is kept here (which begins with a dot)."""
        # A pool is a file system of its own.
        return [name for name in os.listdir(self.root) if not (_ID.match(name) or name.startswith(".") or name == "lost+found")]

    def unreadable(self) -> list[str]:
        """IDs of containers whose record is there and cannot be read, neither copy."""
        return sorted(name for name in os.listdir(self.root) if _ID.match(name) and self._recorded(name) and self._read(name) is None)

    def _recorded(self, name: str) -> bool:
        return any(os.path.exists(f"{self.root}/{name}/{record}") for record in RECORDS)

    def detach(self, container_id: str) -> str:
        """Take the folder out of the containers, in one step; the new path, which the caller removes."""
        gone = f"{self.root}/{REMOVING}{container_id}"
        with suppress(FileNotFoundError):  # somebody else removed it
            os.rename(self.directory(container_id), gone)
        return gone

    def _read(self, name: str, *, mend: bool = False) -> Container | None:
        """A container by the copy of its record that can be read, the first before the second; `mend` makes the other anew from it."""
        directory = f"{self.root}/{name}"
        for record in RECORDS:
            try:
                with open(f"{directory}/{record}", "rb") as file:
                    data = file.read()
                container = decode_record(data, directory)
            except (OSError, ValueError, KeyError, TypeError):
                continue
            for other in RECORDS if mend else ():
                # An engine that was killed between the two has left the second as it was about to be: nobody may come back to that.
                if other != record and not holds(f"{directory}/{other}", data):
                    with suppress(OSError):  # a full disk does not keep the engine from starting: `system check` says it again
                        write_file(f"{directory}/{other}", data)
            return replace(container, state=_read_state(directory))
        return None


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

    def give_up(self, name: str, container_id: str) -> None:
        """A container has a name no more."""
        with self._lock:
            if self._names.get(name) == container_id:
                del self._names[name]

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
