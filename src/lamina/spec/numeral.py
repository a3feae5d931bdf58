"""Numbers in decimal digits, as requests hold them."""

from __future__ import annotations


def natural(text: str, most: int) -> int | None:
    """The number; None where the text is none, or one above `most`."""
    digits = text.lstrip("0") or text[-1:]
    # Python's own digits are those of all scripts, and it reads no number of thousands of them.
    if not (digits.isascii() and digits.isdigit()) or len(digits) > len(str(most)) or int(digits) > most:
        return None
    return int(digits)
