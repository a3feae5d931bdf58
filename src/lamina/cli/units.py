"""Sizes, ages and durations, read and written as Docker's CLI does."""

from __future__ import annotations

from lamina.errors import InvalidArgument

_BINARY = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def human_size(size: float, digits: int = 3) -> str:
    """Bytes in decimal units with that many significant digits: `77.8MB`."""
    unit = 0
    while size >= 1000 and unit < 8:
        size /= 1000
        unit += 1
    return f"{size:.{digits}g}{('B', 'kB', 'MB', 'GB', 'TB', 'PB', 'EB', 'ZB', 'YB')[unit]}"


def human_duration(seconds: float) -> str:
    """`5 minutes`, as units.HumanDuration rounds it."""
    whole = int(seconds)
    if whole < 1:
        return "Less than a second"
    if whole == 1:
        return "1 second"
    if whole < 60:
        return f"{whole} seconds"
    minutes = whole // 60
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    hours = int(seconds / 3600 + 0.5)
    if hours == 1:
        return "About an hour"
    for most, name, length in ((48, "hours", 1), (24 * 14, "days", 24), (24 * 60, "weeks", 24 * 7), (24 * 365 * 2, "months", 24 * 30)):
        if hours < most:
            return f"{hours // length} {name}"
    return f"{int(seconds / 3600) // 24 // 365} years"


def parse_size(text: str) -> int:
    """Bytes of `64m`, `1.5g`, `512` (binary units, as Docker's --memory).

    Raises:
        InvalidArgument: it is not a size.
    """
    lower = text.strip().lower().removesuffix("ib").removesuffix("b")
    unit = lower[-1:] if lower[-1:].isalpha() else ""
    try:
        size = int(float(lower.removesuffix(unit)) * _BINARY[unit])
    except (KeyError, ValueError, OverflowError):
        size = -1
    if size < 0:
        raise InvalidArgument(f"invalid size: {text!r}", hint="write a number with b, k, m or g")
    return size


def parse_duration(text: str) -> int:
    """Nanoseconds of `1m30s`, `500ms`.

    Raises:
        InvalidArgument: it is not a duration.
    """
    total, number, at = 0.0, "", 0
    while at < len(text):
        if text[at].isdigit() or text[at] in ".-":
            number += text[at]
            at += 1
            continue
        unit = next((name for name in ("ms", "us", "µs", "ns", "s", "m", "h") if text.startswith(name, at)), "")
        if not unit or not _is_number(number):
            break
        total += float(number) * _SECONDS[unit]
        number, at = "", at + len(unit)
    if at < len(text) or (number and not (_is_number(number) and float(number) == 0)) or not text:
        raise InvalidArgument(f"invalid duration: {text!r}", hint="write it like 1h30m, 10s or 500ms")
    return round(total * 1e9)


def _is_number(text: str) -> bool:
    """Whether it is digits with at most one point, and a sign perhaps."""
    digits = text.removeprefix("-").replace(".", "", 1)
    return digits.isascii() and digits.isdecimal()
