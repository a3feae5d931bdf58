"""Moments as Docker's filters and options write them. Pure."""

from __future__ import annotations

import re
from datetime import datetime

from lamina.errors import InvalidArgument

_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(h|ms|m|us|µs|μs|ns|s)", re.ASCII)
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ns": 1e-9}
_DAY_WITH_ZONE = re.compile(r"(\d{4}-\d\d-\d\d)([zZ]|[+-]\d\d:\d\d)\Z", re.ASCII)
"""fromisoformat would read `2024-01-01+02:00` as two o'clock, local time."""
_SECONDS = re.compile(r"\d{1,12}(\.\d{1,9})?\Z", re.ASCII)


class InvalidMoment(InvalidArgument):
    """The text is not a time."""


def seconds(text: str, now: float) -> float:
    """A moment in seconds since 1970: such a number itself, a date (RFC 3339, or a part of it, in local time where it
    names no zone), or a duration before `now` in Go's words (`10m`, `1h30m`).

    Raises:
        InvalidMoment: it is none of these.
    """
    if _SECONDS.match(text):
        return float(text)
    parts = _DURATION.findall(text.removeprefix("-"))
    if parts and "".join(figure + unit for figure, unit in parts) == text.removeprefix("-"):
        duration = sum(float(figure) * _UNITS[unit] for figure, unit in parts)
        return now + duration if text.startswith("-") else now - duration
    text = _DAY_WITH_ZONE.sub(r"\1T00:00\2", text)
    try:
        # Nanoseconds are more digits than older versions of fromisoformat take.
        return datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text)).timestamp()
    except (ValueError, OverflowError):
        raise InvalidMoment(f"invalid time: {text[:100]!r}", hint="write seconds since 1970, a date, or a duration like 10m") from None
