"""Aligned columns as Go's tabwriter sets them for Docker's CLI: three blanks between, none narrower than ten."""

from __future__ import annotations


def printable(text: str) -> str:
    """Text with its control characters escaped: what an image says must not speak to the terminal."""
    if text.isprintable():
        return text
    return "".join(f"\\x{ord(sign):02x}" if ord(sign) < 32 or 127 <= ord(sign) < 160 else sign for sign in text)


_GO_ESCAPES = str.maketrans({sign: "\\" + name for sign, name in zip('\\"\a\b\f\n\r\t\v', '\\"abfnrtv', strict=True)})


def quoted(text: str) -> str:
    """Text in quotes, as Go's strconv.Quote writes it."""
    text = text.translate(_GO_ESCAPES)
    return f'"{text if text.isprintable() else "".join(sign if sign.isprintable() else _escaped(ord(sign)) for sign in text)}"'


def _escaped(number: int) -> str:
    if number < 0x80:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def width(text: str) -> int:
    """How many columns of a terminal text takes."""
    if text.isascii():
        return len(text)
    from lamina.spec.width import columns  # where it is needed: what starts every day's work loads as little as it can

    return columns(text)


def cut(text: str, most: int) -> str:
    """`text` in at most `most` columns, its end left out as Docker's CLI does it."""
    if width(text) <= most:
        return text
    if text.isascii():
        return text[: most - 1] + "…"
    from lamina.spec.width import cut

    return cut(text, most)


def aligned(rows: list[list[str]], *, least: int = 10) -> list[str]:
    """One line per row, each column at least `least` columns of the terminal wide; the last cell of a row is as long as it is."""
    # by columns and patterns: cell by cell, a listing of a thousand rows would take twice the time
    sizes = {len(row) for row in rows}
    widths = [least] * max(sizes, default=0)
    for size in sizes:
        columns = list(zip(*(row for row in rows if len(row) == size), strict=True))
        for at, cells in enumerate(columns[:-1]):
            widths[at] = max(widths[at], max(map(width, cells)) + 3)
    if not all(cell.isascii() for row in rows for cell in row):
        return ["".join([*(cell + " " * (widths[at] - width(cell)) for at, cell in enumerate(row[:-1])), *row[-1:]]) for row in rows]
    patterns = {size: "".join([f"%-{each}s" for each in widths[: max(0, size - 1)]]) + "%s" * bool(size) for size in sizes}
    return [patterns[len(row)] % tuple(row) for row in rows]
