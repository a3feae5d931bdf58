"""Times as the API writes them."""

from __future__ import annotations

import time

NEVER = "0001-01-01T00:00:00Z"
"""Go's zero time: what clients take for "not yet"."""


def rfc3339(nanoseconds: int, *, zero_is_never: bool = True) -> str:
    """Nanoseconds since 1970 as RFC 3339 in UTC; 0 as NEVER, unless it is a moment like others."""
    if not nanoseconds and zero_is_never:
        return NEVER
    seconds, rest = divmod(nanoseconds, 10**9)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest:09d}Z"


def age(seconds: int) -> str:
    """A duration in Docker's words: `Less than a second`, `3 minutes`, `About an hour`."""
    if seconds < 1:
        return "Less than a second"
    if seconds < 60:
        return "1 second" if seconds == 1 else f"{seconds} seconds"
    minutes, hours = seconds // 60, (seconds + 1800) // 3600
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    if hours == 1:
        return "About an hour"
    for limit, unit, words in (
        (48, 1, "hours"),
        (24 * 7 * 2, 24, "days"),
        (24 * 30 * 2, 24 * 7, "weeks"),
        (24 * 365 * 2, 24 * 30, "months"),
    ):
        if hours < limit:
            return f"{hours // unit} {words}"
    return f"{hours // 24 // 365} years"
