"""Layers seen through each other, without mounting: the first hit from the top, whiteouts and opaque marks honoured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType

from lamina.layer.index import Entry, LayerIndex

Hit = tuple[int, Entry]
"""A layer's height (0 is the base) and what it has."""


@dataclass(frozen=True, slots=True)
class Touch:
    """One layer's say about a path: it has `entry`, or `entry` is None and it deleted the path.

    `path` is the one that was asked for, or the directory above it whose whiteout, opaque mark or
    replacement took the path away.
    """

    level: int
    path: bytes
    entry: Entry | None


class Union:
    """A stack of open indexes, base first. Not thread-safe; close it, or use it in a `with`.

    Paths are clean: no leading slash, the root is "". Symbolic links are not followed, except by `resolve`.
    """

    def __init__(self, indexes: Sequence[LayerIndex]) -> None:
        self._indexes = tuple(indexes)
        self._levels: dict[bytes, tuple[int, ...]] = {}

    @classmethod
    def open(cls, paths: Sequence[str], names: Sequence[str] = ()) -> Union:
        """Open metadata images, base first. `names` are what errors call the layers.

        Raises:
            LayerDamaged: names the layer.
        """
        with ExitStack() as stack:
            indexes = [stack.enter_context(LayerIndex.open(path, names[i] if names else "")) for i, path in enumerate(paths)]
            stack.pop_all()
        return cls(indexes)

    def __enter__(self) -> Union:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close all indexes. Idempotent."""
        for index in self._indexes:
            index.close()

    @property
    def layers(self) -> tuple[LayerIndex, ...]:
        """The indexes, base first."""
        return self._indexes

    def lookup(self, path: bytes) -> Hit | None:
        """What the stack shows at a path, and the layer that gave it."""
        if not path:
            return self._root()
        head, _, _ = path.rpartition(b"/")
        for level in self.merged(head):
            entry = self._indexes[level].lookup(path)
            if entry is not None:
                return None if entry.whiteout else (level, entry)
        return None

    def listdir(self, path: bytes) -> list[tuple[int, Entry]]:
        """What the stack shows in a directory, by name; none where there is no directory."""
        seen: dict[bytes, Hit] = {}
        for level in self.merged(path):
            for entry in self._indexes[level].children(path):
                seen.setdefault(entry.path, (level, entry))
        return [seen[name] for name in sorted(seen) if not seen[name][1].whiteout]

    def walk(self, path: bytes = b"") -> Iterator[Hit]:
        """All that is visible below a path, parents first, names in byte order in each directory."""
        stack = self.listdir(path)[::-1]
        while stack:
            hit = stack.pop()
            yield hit
            if hit[1].directory:
                stack += self.listdir(hit[1].path)[::-1]

    def history(self, path: bytes) -> list[Touch]:
        """Every layer that gave, changed or deleted the path, newest first, also under what hides it."""
        touches = []
        for level in range(len(self._indexes) - 1, -1, -1):
            touch = self._touch(level, path)
            if touch is not None:
                touches.append(touch)
        return touches

    def merged(self, path: bytes) -> tuple[int, ...]:
        """The layers whose directory at `path` is merged into what is visible there, top first; none if it is not a directory."""
        levels = self._levels.get(path)
        if levels is not None:
            return levels
        unknown = [path]  # From the top down, since a path may have more parts than Python has frames.
        while unknown[-1] and (above := unknown[-1].rpartition(b"/")[0]) not in self._levels:
            unknown.append(above)
        for step in reversed(unknown):
            self._levels[step] = tuple(self._merge(step))
        return self._levels[path]

    def resolve(self, path: bytes) -> Hit | None:
        """`lookup`, following symbolic links within the stack as a chroot would, the last one included.

        None where nothing is, or where links go round.
        """
        done: list[bytes] = []
        left = [part for part in path.split(b"/") if part not in (b"", b".")][::-1]
        followed = 0
        while left:
            part = left.pop()
            if part == b"..":
                done = done[:-1]
                continue
            hit = self.lookup(b"/".join([*done, part]))
            if hit is None:
                return None
            if not hit[1].link:
                done.append(part)
                continue
            followed += 1
            if followed > 40:
                return None
            if hit[1].link.startswith(b"/"):
                done = []
            left += [step for step in hit[1].link.split(b"/") if step not in (b"", b".")][::-1]
        return self.lookup(b"/".join(done))

    def _root(self) -> Hit | None:
        for level in self.merged(b""):
            entry = self._indexes[level].lookup(b"")
            if entry is not None:
                return level, entry
        return None

    def _merge(self, path: bytes) -> Iterator[int]:
        candidates = range(len(self._indexes) - 1, -1, -1) if not path else self.merged(path.rpartition(b"/")[0])
        for level in candidates:
            entry = self._indexes[level].lookup(path)
            if entry is None:
                continue
            if not entry.directory:
                return
            yield level
            if entry.opaque:
                return

    def _touch(self, level: int, path: bytes) -> Touch | None:
        index = self._indexes[level]
        entry = index.lookup(path)
        if entry is not None:
            return Touch(level, path, None if entry.whiteout else entry)
        while path:
            path = path.rpartition(b"/")[0]
            entry = index.lookup(path)
            if entry is None:
                continue
            if entry.directory and not entry.opaque:
                return None
            return Touch(level, path, None)
        return None
