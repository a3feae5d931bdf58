"""Aligned columns as Go's tabwriter sets them for Docker's CLI: three blanks between, none narrower than ten."""

from __future__ import annotations


def printable(text: str) -> str:
    """Text with its control characters escaped: what an image says must not speak to the terminal."""
    if text.isprintable():
        return text
    return "".join(f"\\x{ord(sign):02x}" if ord(sign) < 32 or 127 <= ord(sign) < 160 else sign for sign in text)


def aligned(rows: list[list[str]], *, least: int = 10) -> list[str]:
    """One line a row, each column at least `least` characters wide; the last cell of a row is as long as it is."""
    widths: list[int] = []
    for row in rows:
        for at, cell in enumerate(row[:-1]):
            if at == len(widths):
                widths.append(least)
            widths[at] = max(widths[at], len(cell) + 3)
    return ["".join([cell.ljust(widths[at]) for at, cell in enumerate(row[:-1])] + row[-1:]) for row in rows]
