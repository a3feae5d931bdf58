"""Moments as the API's clients write them: seconds since 1970 with a fraction, or RFC 3339."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from lamina.api.message import InvalidParameter

_SECONDS = re.compile(r"(\d{1,18})(?:\.(\d{1,9})\d*)?\Z")


def nanoseconds(text: str) -> int | None:
    """`text` in nanoseconds since 1970; None where it is empty.

    Raises:
        InvalidParameter: it is not a moment.
    """
    if not text:
        return None
    match = _SECONDS.match(text)
    if match:
        return int(match[1]) * 1_000_000_000 + int((match[2] or "").ljust(9, "0"))
    try:
        moment = datetime.fromisoformat(text)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return int(moment.timestamp() * 1_000_000) * 1000
    except (ValueError, OverflowError):
        raise InvalidParameter(f"invalid time: {text[:100]!r}")
