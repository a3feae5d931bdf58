"""Twin copies: a document lies in a file and in a row; where one is missing or unreadable, the other makes it anew."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

from lamina.content.files import holds, left_over, read_file, write_file
from lamina.image.metadata import Warn
from lamina.image.model import StoreDamaged

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Twins(Generic[T]):
    """What a reconciliation found: `values` by ID, `to_rows` those whose row has to be written from the file."""

    values: Mapping[str, T]
    to_rows: tuple[str, ...]


def reconcile(
    directory: str, rows: Mapping[str, str], decode: Callable[[bytes], T], *, removed: set[str], what: str, warn: Warn
) -> Twins[T]:
    """Read all documents of `directory` (`<hex>.json`) and compare them with `rows` (by ID, `sha256:<hex>`).

    A file that is missing or unreadable is written from its row. Where both can be read and differ, the file holds:
    it is written first. IDs in `removed` are being removed: their files go.
    """
    values: dict[str, T] = {}
    to_rows: list[str] = []
    for key in {*rows, *_files(directory)}:
        path = document_path(directory, key)
        if key in removed and key not in rows:
            _unlink(path)
            continue
        data, row = read_file(path), rows[key].encode() if key in rows else None
        from_file = _decoded(data, decode)
        # As a rule both are the same bytes: decoding is most of what a start with thousands of images takes.
        from_row = from_file if row == data else _decoded(row, decode)
        if from_file is not None:
            values[key] = from_file
            if from_row != from_file:
                to_rows.append(key)
                warn(f"the database did not know {what} {key} as its file does: taken from {path}")
        elif from_row is not None:
            values[key] = from_row
            write_file(path, rows[key].encode())
            warn(f"the file of {what} {key} was missing or unreadable: written anew from the database")
        else:
            warn(f"{what} {key} cannot be read, neither its file nor its row")
            _unlink(path)
    return Twins(values, tuple(to_rows))


def document_path(directory: str, key: str) -> str:
    """Where the document of `sha256:<hex>` lies."""
    return os.path.join(directory, key.partition(":")[2] + ".json")


def heal(
    directory: str,
    key: str,
    known: Callable[[], T | None],
    encode: Callable[[T], bytes],
    lock: AbstractContextManager[object],
    *,
    what: str,
    warn: Warn,
) -> None:
    """Write the file of `key` again if it is not there or does not hold what is known; of what was removed meanwhile (None) nothing.

    Under `lock` what is known does not change. It is taken only where something is wrong, or is changing just now.
    """
    path = document_path(directory, key)
    if (value := known()) is None or holds(path, encode(value)):
        return
    with lock:
        if (value := known()) is not None and not holds(path, data := encode(value)):
            warn(f"the file of {what} {key} was missing or unreadable: written anew")
            write_file(path, data)


def _files(directory: str) -> list[str]:
    found = []
    with os.scandir(directory) as entries:
        for entry in entries:
            if left_over(entry.name):
                _unlink(entry.path)
            elif entry.name.endswith(".json") and len(entry.name) == 69:
                if entry.is_dir(follow_symlinks=False):  # it would be in the way of the file that is missing
                    shutil.rmtree(entry.path)
                else:
                    found.append(f"sha256:{entry.name[:-5]}")
    return found


def _decoded(data: bytes | None, decode: Callable[[bytes], T]) -> T | None:
    try:
        return None if data is None else decode(data)
    except StoreDamaged:
        return None


def _unlink(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)
