"""Aligned columns as Go's tabwriter sets them for Docker's CLI: three blanks between, none narrower than ten."""

from __future__ import annotations


def aligned(rows: list[list[str]]) -> list[str]:
    """One line a row; the last cell of a row is as long as it is."""
    widths: list[int] = []
    for row in rows:
        for at, cell in enumerate(row[:-1]):
            if at == len(widths):
                widths.append(10)
            widths[at] = max(widths[at], len(cell) + 3)
    return ["".join([cell.ljust(widths[at]) for at, cell in enumerate(row[:-1])] + row[-1:]) for row in rows]
