"""What differs between two images or containers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from lamina.explore.answers import Answer
from lamina.library.html import preformatted, table
from lamina.linux.channel import decode


class Side(msgspec.Struct, frozen=True):
    """What one has at a path. `layer` is the index of the layer that gives it."""

    type: str
    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    target: str
    layer: int


class Change(msgspec.Struct, frozen=True):
    """A path that differs: `kind` is A (only in b), D (only in a) or M; `what` differs, `diff` is how a text does, as `diff -u` says it.
    Bytes that are not UTF-8 are lone surrogates, as Python reads names of files."""

    path: str
    kind: str
    what: tuple[str, ...]
    a: Side | None
    b: Side | None
    diff: str = ""


class PackageChange(msgspec.Struct, frozen=True):
    """A package's versions before and after; empty where there is none."""

    name: str
    a: str
    b: str


class _Document(msgspec.Struct, frozen=True):
    config: dict[str, dict[str, Any]]
    packages: dict[str, tuple[PackageChange, ...]]
    changes: tuple[Change, ...]


def _decoded(data: bytes) -> _Document:
    try:
        return msgspec.json.decode(data, type=_Document)
    except msgspec.DecodeError:  # bytes that are not UTF-8 are lone surrogates, which it does not take
        return msgspec.convert(decode(data.strip()), _Document)


@dataclass(frozen=True, slots=True)
class Difference:
    """What differs from one to the other; iterates over the changes. `packages` are by tool (dpkg, apk, rpm, python), `config` has
    both values of each field."""

    changes: tuple[Change, ...]
    packages: Mapping[str, tuple[PackageChange, ...]]
    config: Mapping[str, tuple[Any, Any]]

    @classmethod
    def of(cls, answer: Answer) -> Difference:
        """Read what `Explorer.diff` answered."""
        found = _decoded(answer.read())
        return cls(found.changes, found.packages, {name: (pair["a"], pair["b"]) for name, pair in found.config.items()})

    def __iter__(self) -> Iterator[Change]:
        return iter(self.changes)

    def __len__(self) -> int:
        return len(self.changes)

    def _repr_html_(self) -> str:
        rows = ((change.kind, change.path, ", ".join(change.what)) for change in self.changes[:1000])
        more = "" if len(self.changes) <= 1000 else f" (the first 1000 of {len(self.changes)})"
        texts = "".join(change.diff for change in self.changes)[:100_000]
        return table(f"{len(self.changes)} changes{more}", ("", "path", "what"), rows) + (preformatted(texts) if texts else "")
