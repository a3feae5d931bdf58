"""The fields of a flag whose value is a line of CSV: --mount, --network, --gpus."""

from __future__ import annotations

from lamina.cli.flags import UsageError


def fields(line: str) -> list[str]:
    """The fields of a line as Go's encoding/csv reads them: one in quotes may hold commas, and a quote as two.

    Raises:
        UsageError: a quote stands where none can.
    """
    found, at = [], 0
    while at <= len(line):
        value, at = _quoted(line, at + 1) if line.startswith('"', at) else _plain(line, at)
        found.append(value)
        at += 1  # the comma
    return found


def _plain(line: str, at: int) -> tuple[str, int]:
    end = line.find(",", at)
    end = len(line) if end < 0 else end
    if (quote := line.find('"', at, end)) >= 0:
        raise UsageError(f'parse error on line 1, column {quote + 1}: bare " in non-quoted-field')
    return line[at:end], end


def _quoted(line: str, at: int) -> tuple[str, int]:
    """The field whose text begins at `at`, and where its comma stands."""
    text = ""
    while (end := line.find('"', at)) >= 0:
        text += line[at:end]
        after = line[end + 1 : end + 2]
        if after in ("", ","):
            return text, end + 1
        if after != '"':
            break
        text, at = f'{text}"', end + 2
    raise UsageError(f'parse error on line 1, column {(end if end >= 0 else len(line)) + 1}: extraneous or missing " in quoted-field')
