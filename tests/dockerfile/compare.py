"""Compares this parser with BuildKit's over any folder: `python -m tests.dockerfile.compare FOLDER PARSED.jsonl` (golden/README.md)."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.dockerfile.shape import shape

from lamina.dockerfile.parser import parse
from lamina.errors import LaminaError


def differences(folder: Path, recorded: Path) -> Iterator[str]:
    """One line a file that the two read differently."""
    for line in recorded.read_text().splitlines():
        record = json.loads(line)
        try:
            ours: dict[str, Any] | None = shape(parse((folder / record["file"]).read_bytes().decode("utf-8", "surrogateescape")))
            said = ""
        except LaminaError as error:
            ours, said = None, error.message
        theirs = record.get("parsed")
        if theirs is None and ours is not None:
            yield f"{record['file']}: BuildKit refuses it: {record['error']}"
        elif theirs is not None and ours is None:
            yield f"{record['file']}: refused here: {said}"
        elif theirs != ours:
            yield f"{record['file']}: {first_difference(theirs, ours)}"


def first_difference(theirs: object, ours: object, path: str = "") -> str:
    """Where two documents begin to differ."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        parts = [(f"{path}.{key}", theirs.get(key), ours.get(key)) for key in sorted({*theirs, *ours})]
    elif isinstance(theirs, list) and isinstance(ours, list) and len(theirs) == len(ours):
        parts = [(f"{path}[{index}]", *pair) for index, pair in enumerate(zip(theirs, ours, strict=True))]
    else:
        return f"{path}: {theirs!r} there, {ours!r} here"
    return next(first_difference(there, here, where) for where, there, here in parts if there != here)


if __name__ == "__main__":
    found = list(differences(Path(sys.argv[1]), Path(sys.argv[2])))
    print("\n".join(found) or "no differences")
    sys.exit(bool(found))
