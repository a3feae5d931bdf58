"""Stacks too high for the kernel: the lowest layers are merged into one, made once for all that stand on the same ones.

`stacks/<key>.json` lists the layers' names and comes last; beside it lies what the driver made of them, by the same key.
Everything here is derived, can be deleted while nothing is mounted of it, and is made again when it is wanted.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from lamina.content.files import left_over, write_file
from lamina.errors import LaminaError
from lamina.layer.errors import LayerDamaged
from lamina.linux.removing import remove_path

_RECORD = ".json"


@dataclass(frozen=True, slots=True)
class Depth:
    """How high a stack may be before its lower part is merged, and the steps by which the part that is merged grows.

    The kernel stacks 500 at most (OVL_MAX_STACK), and a message carries 250 descriptors. The step makes a stack that grows layer by
    layer merge anew only now and then.
    """

    most: int = 200
    step: int = 100

    def merged(self, names: Sequence[str]) -> int:
        """How many of these layers, from the base up, are merged; 0 where all can be stacked."""
        return (len(names) - 1) // self.step * self.step if len(names) > self.most else 0


Make = Callable[[str, Sequence[str]], None]
"""Makes what a driver keeps of a merged stack (names, base first), at a path that is free; or checks it there."""


@dataclass(frozen=True, slots=True)
class Merged:
    """A merged stack: `key` names it, `path` is where the driver's part lies."""

    key: str
    path: str


class MergedStacks:
    """Those of one data root. Thread-safe. `suffix` ends the name of the driver's part."""

    def __init__(self, root: str, suffix: str, depth: Depth | None = None) -> None:
        self._directory, self._suffix = os.path.join(root, "stacks"), suffix
        self._depth = depth or Depth()
        self._lock = threading.Lock()

    def split(self, names: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
        """A stack (base first) as the part that is merged, empty if there is none, and the rest."""
        count = self._depth.merged(names)
        return names[:count], names[count:]

    def high(self, stacks: Iterable[Sequence[str]]) -> Iterator[Sequence[str]]:
        """Those that may have a part that is merged."""
        return (names for names in stacks if self._depth.merged(names))

    def have(self, names: Sequence[str], make: Make) -> Merged:
        """The merged stack of these layers, made where it is not there."""
        key = key_of(names)
        path = os.path.join(self._directory, key + self._suffix)
        with self._lock:
            if self._names(key) is None or not os.path.exists(path):
                os.makedirs(self._directory, exist_ok=True)
                remove_path(path)
                make(path, names)
                write_file(os.path.join(self._directory, key + _RECORD), json.dumps({"names": list(names)}).encode())
            return Merged(key, path)

    def keys(self) -> list[str]:
        """All that are here, whole."""
        with suppress(FileNotFoundError):
            return sorted(name.removesuffix(_RECORD) for name in os.listdir(self._directory) if name.endswith(_RECORD))
        return []

    def holding(self, name: str) -> list[str]:
        """The keys of those that a layer is part of; ones whose record cannot be read count."""
        return [key for key in self.keys() if (names := self._names(key)) is None or name in names]

    def damaged(self, check: Make, of: Sequence[str] | None = None) -> Iterator[tuple[str, str]]:
        """The keys of those that are not what was made, by `check` of the path and the names, and what is wrong; with `of` only of what
        this stack (base first, only what can be seen) stands on."""
        for key in self.keys() if of is None else self._below(of):
            names, path = self._names(key), os.path.join(self._directory, key + self._suffix)
            try:
                if names is None or not os.path.exists(path):
                    raise LayerDamaged("the record, or what was merged, is missing or not what was written")
                check(path, names)
            except LaminaError as error:
                if key in self.keys():  # it may have gone meanwhile
                    yield key, error.message

    def _below(self, names: Sequence[str]) -> list[str]:
        below = self.split(names)[0]
        return [key_of(below)] if below and key_of(below) in self.keys() else []

    def mend(self, key: str, work: Make) -> None:
        """Let `work` make one anew where it is, from its path and names, for the containers that run on it; what is not whole is deleted.

        Raises:
            LayerDamaged: one of its layers is damaged.
        """
        names, path = self._names(key), os.path.join(self._directory, key + self._suffix)
        if names is None or not os.path.exists(path):
            self.remove(key)
            return
        with self._lock:
            work(path, names)

    def unneeded(self, stacks: Iterable[Sequence[str]]) -> list[str]:
        """The keys of those that none of these stacks (base first, only what can be seen) stands on."""
        here = set(self.keys())
        if not here:
            return []
        return sorted(here - {key_of(merged) for names in stacks if (merged := self.split(names)[0])})

    def remove(self, key: str) -> None:
        """Delete one; unknown ones are passed over."""
        with self._lock:
            for suffix in (_RECORD, self._suffix):
                remove_path(os.path.join(self._directory, key + suffix))

    def sweep(self) -> None:
        """Delete what is not whole."""
        whole = {name for key in self.keys() for name in (key + _RECORD, key + self._suffix)}
        with suppress(FileNotFoundError):
            for name in os.listdir(self._directory):
                if name not in whole or left_over(name):
                    remove_path(os.path.join(self._directory, name))

    def _names(self, key: str) -> list[str] | None:
        """The layers of a merged stack; None where its record is missing or is not what was written."""
        try:
            with open(os.path.join(self._directory, key + _RECORD), "rb") as file:
                names = json.loads(file.read())["names"]
            return names if key_of(names) == key else None
        except (OSError, ValueError, KeyError, TypeError):
            return None


def key_of(names: Sequence[str]) -> str:
    """What a stack of these layers, base first, is called."""
    return hashlib.sha256("\n".join(names).encode()).hexdigest()
