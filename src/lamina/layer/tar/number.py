"""Numbers in tar headers (POSIX ustar; GNU "base-256"; pax decimals)."""

from __future__ import annotations

import re

from lamina.layer.errors import InvalidArchive

_DECIMAL = re.compile(rb"(-?)(\d{1,19})(?:\.(\d*))?\Z")
_CACHED = 8192


def parse_field(field: bytes) -> int:
    """A header's number: octal ended by NUL or space, or binary where the first bit is set; empty is 0.

    Raises:
        InvalidArchive: it is neither.
    """
    if field and field[0] & 0x80:
        value = int.from_bytes(field, "big")
        # GNU: 0x80 starts a positive number, 0xff a negative one in two's complement.
        return value - (1 << 8 * len(field)) if field[0] & 0x40 else value - (0x80 << 8 * (len(field) - 1))
    digits = field.split(b"\0", 1)[0].strip(b" ")
    if not digits:
        return 0
    if digits.isdigit():
        try:
            return int(digits, 8)
        except ValueError:
            pass
    raise InvalidArchive(f"malformed number in tar header: {field!r}")


class Fields(dict[bytes, int]):
    """`parse_field`, remembering: most headers of a tar say the same owners, modes and times."""

    def __missing__(self, field: bytes) -> int:
        if len(self) > _CACHED:
            self.clear()
        value = self[field] = parse_field(field)
        return value


def parse_decimal(text: bytes) -> int:
    """A pax record's whole number.

    Raises:
        InvalidArchive: it is not a number, is negative, or has more than 19 digits.
    """
    if not text.isdigit() or len(text) > 19:
        raise InvalidArchive(f"malformed number in pax header: {text[:40]!r}")
    return int(text)


def parse_time(text: bytes) -> int:
    """A pax record's seconds with a fraction, in nanoseconds; further digits are cut off (towards the past).

    Raises:
        InvalidArchive: it is no such number.
    """
    match = _DECIMAL.match(text)
    if match is None:
        raise InvalidArchive(f"malformed time in pax header: {text[:40]!r}")
    sign, whole, fraction = match.groups()
    digits = (fraction or b"").ljust(9, b"0")
    nanoseconds = int(whole) * 10**9 + int(digits[:9])
    if not sign:
        return nanoseconds
    return -nanoseconds - (1 if digits[9:].strip(b"0") else 0)
