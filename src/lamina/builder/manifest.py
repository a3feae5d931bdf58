"""What each path of a COPY came to, small enough to keep: so that a later build can say which file changed."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence

LIMIT = 50_000
"""How many paths are kept; of more, none are."""
_WIDTH = 8


def packed(records: Sequence[tuple[bytes, bytes]]) -> str:
    """Paths with a checksum of each one's record, compressed, as text; "" where they are too many."""
    if len(records) > LIMIT:
        return ""
    lines = (b"%08x%b" % (zlib.crc32(record), path) for path, record in records)
    return base64.b85encode(zlib.compress(bytes(1).join(lines), 1)).decode()


def unpacked(text: str) -> dict[bytes, bytes]:
    """Paths and checksums of what `packed` gave; empty where it kept nothing."""
    data = zlib.decompress(base64.b85decode(text)) if text else b""
    return {line[_WIDTH:]: line[:_WIDTH] for line in data.split(bytes(1)) if line}


def changes(before: str, now: str) -> tuple[list[str], list[str], list[str]] | None:
    """Paths that are new, changed, and gone, each in order; None where either was not kept."""
    if not before or not now:
        return None
    old, new = unpacked(before), unpacked(now)
    added = [path for path in new if path not in old]
    changed = [path for path in new if path in old and old[path] != new[path]]
    gone = [path for path in old if path not in new]
    return _shown(added), _shown(changed), _shown(gone)


def _shown(paths: Sequence[bytes]) -> list[str]:
    return [path.decode("utf-8", "replace") for path in sorted(paths)]
