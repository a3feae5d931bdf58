"""Times of the API as ages and as local time."""

from __future__ import annotations

import time

from lamina.cli.units import human_duration


def age(seconds: object) -> str:
    """`5 minutes ago` of seconds since 1970; N/A of what is not a time."""
    if not isinstance(seconds, (int, float)) or seconds <= 0:
        return "N/A"
    return human_duration(time.time() - seconds) + " ago"


def calendar(form: str, moment: time.struct_time) -> str:
    """`time.strftime`, but a year has four digits on every system."""
    return time.strftime(form.replace("%Y", f"{moment.tm_year:04d}"), moment)


def local(seconds: object) -> str:
    """`2024-01-31 10:00:00 +0000 UTC`, as Go prints a local time."""
    if not isinstance(seconds, (int, float)):
        return ""
    return calendar("%Y-%m-%d %H:%M:%S %z %Z", time.localtime(seconds))


def stamp(seconds: object) -> str:
    """`2024-01-31T10:00:00Z`, RFC 3339 in local time."""
    if not isinstance(seconds, (int, float)):
        return ""
    text = calendar("%Y-%m-%dT%H:%M:%S%z", time.localtime(seconds))
    return f"{text[:-5]}Z" if text.endswith("+0000") else f"{text[:-2]}:{text[-2:]}"


def precise(text: str) -> str:
    """RFC 3339 text as Go prints such a moment: `2024-01-31 10:00:00.25 +0000 UTC`."""
    date, sign, clock = text.partition("T")
    if not sign or not clock.endswith("Z"):
        return text
    whole, _, fraction = clock[:-1].partition(".")
    fraction = fraction.rstrip("0")
    return f"{date} {whole}{'.' if fraction else ''}{fraction} +0000 UTC"


def parse_time(text: str) -> float | None:
    """Seconds since 1970 of RFC 3339 text; nothing where it is not a time, or is Go's zero time."""
    date, _, rest = text.partition("T")
    clock, zone = _zone(rest)
    hours, _, fraction = clock.partition(".")
    try:
        year, month, day = map(int, date.split("-"))
        hour, minute, second = map(int, hours.split(":"))
        seconds = ((_days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second - zone
        return None if year <= 1 else seconds + (float(f"0.{fraction}") if fraction else 0)
    except ValueError:
        return None


def _zone(rest: str) -> tuple[str, int]:
    """The clock's text, and the seconds its zone is east of Greenwich."""
    at = max(rest.find("+"), rest.find("-"))
    if at < 0:
        return rest.removesuffix("Z"), 0
    hours, _, minutes = rest[at + 1 :].partition(":")
    if not hours.isdigit() or not minutes.isdigit():
        return "", 0
    return rest[:at], (1 if rest[at] == "+" else -1) * (int(hours) * 3600 + int(minutes) * 60)


def _days(year: int, month: int, day: int) -> int:
    """Days since 1970 of a date; datetime would cost a hot command 2 ms."""
    # years are counted from March, so that the day that leaps is a year's last
    year -= month <= 2
    day_of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return year * 365 + year // 4 - year // 100 + year // 400 + day_of_year - 719468
