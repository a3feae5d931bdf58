"""Text in columns of a terminal."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lamina.spec.width import columns, cut, padded, shortened


def test_what_is_too_long_loses_its_middle_or_its_end() -> None:
    assert shortened("RUN apt-get install emacs", 12) == "RUN apt…macs"
    assert [len(shortened("x" * 50, width)) for width in (1, 2, 3, 49, 50)] == [1, 2, 3, 49, 50]
    assert (shortened("漢字漢字漢字", 7), cut("漢字漢字漢字", 8), cut("words", 4)) == ("漢字…字", "漢字漢…", "wor…")


def test_wide_signs_take_two_columns_and_combining_ones_none() -> None:
    assert [columns(text) for text in ("abc", "漢字", "e\u0301", "é", "🐳", "a\u200db")] == [3, 4, 1, 1, 2, 2]
    assert padded("漢字", 6) == "漢字  "


@given(st.text(), st.integers(1, 40))
def test_nothing_becomes_wider_than_asked(text: str, width: int) -> None:
    assert columns(shortened(text, width)) <= width
    assert columns(cut(text, width)) <= width
    assert columns(padded(text, width)) == max(width, columns(text))
    assert cut(text, 2 * len(text)) == shortened(text, 2 * len(text)) == text
