"""Numbers in requests."""

from __future__ import annotations

import pytest

from lamina.spec.numeral import natural


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("080", 80), ("65535", 65535), ("000", 0)])
def test_decimal_digits_are_a_number(text: str, number: int) -> None:
    assert natural(text, 65535) == number


@pytest.mark.parametrize("text", ["", "-1", "²", "٣", "8 ", "1_0", "65536", "9" * 5000])
def test_what_is_no_number_or_too_large_is_none(text: str) -> None:
    assert natural(text, 65535) is None
