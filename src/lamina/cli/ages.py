"""Times of the API as ages and as local time."""

from __future__ import annotations

import time

from lamina.cli.units import human_duration


def age(seconds: object) -> str:
    """`5 minutes ago` of seconds since 1970; N/A of what is no time."""
    if not isinstance(seconds, (int, float)) or seconds <= 0:
        return "N/A"
    return human_duration(time.time() - seconds) + " ago"


def local(seconds: object) -> str:
    """`2024-01-31 10:00:00 +0000 UTC`, as Go prints a local time."""
    if not isinstance(seconds, (int, float)):
        return ""
    return time.strftime("%Y-%m-%d %H:%M:%S %z %Z", time.localtime(seconds))


def parse_time(text: str) -> float | None:
    """Seconds since 1970 of RFC 3339 text; nothing where it is none or Go's zero time."""
    if not text or text.startswith("0001"):
        return None
    from datetime import UTC, datetime

    head, _, rest = text.partition(".")
    zone = rest.lstrip("0123456789") if rest else ""
    fraction = rest[: len(rest) - len(zone)]
    try:
        moment = datetime.fromisoformat((head + zone).replace("Z", "+00:00"))
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return moment.timestamp() + (float(f"0.{fraction}") if fraction else 0)
