"""`python -m tests.compat` takes rows that have a test out of not-yet.txt and writes docs/compat.md; `--missing` prints the rows that have neither a test nor a `not yet`."""

from __future__ import annotations

import sys

from tests.compat.rows import KINDS, NOT_YET, PAGE, covered, is_listed, not_yet, page, recorded, refused


def main(words: list[str]) -> int:
    """The command line."""
    if words == ["--missing"]:
        tests, patterns = covered() | refused(), not_yet()
        missing = [row for kind, _, _ in KINDS for row in recorded(kind) if row not in tests and not is_listed(row, patterns)]
        print("\n".join(missing))
        return bool(missing)
    tests = covered() | refused()
    kept = [line for line in NOT_YET.read_text().splitlines() if line not in tests]
    NOT_YET.write_text("\n".join(kept) + "\n")
    PAGE.write_text(page())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
