"""docs/compat.md says of every row of Docker's which test shows it, or that it does not work yet."""

from __future__ import annotations

from tests.compat.rows import KINDS, PAGE, covered, is_listed, not_yet, page, recorded, refused

ROWS = [row for kind, _, _ in KINDS for row in recorded(kind)]


def test_every_row_names_its_test_or_says_not_yet() -> None:
    tests, patterns = covered() | refused(), not_yet()
    assert [row for row in ROWS if row not in tests and not is_listed(row, patterns)] == [], "add a covers mark, or a line to not-yet.txt"


def test_no_row_says_both() -> None:
    tests, exact = covered() | refused(), set(not_yet())
    assert sorted(exact & set(tests)) == [], "these have a test now: take them out of not-yet.txt"


def test_no_mark_and_no_line_names_a_row_that_docker_has_not() -> None:
    known = set(ROWS)
    assert {row: tests for row, tests in covered().items() if row not in known} == {}
    assert [pattern for pattern in not_yet() if not any(is_listed(row, [pattern]) for row in ROWS)] == []


def test_the_page_is_what_the_tests_say() -> None:
    assert PAGE.read_text() == page(), "write it again: python -m tests.compat"
