"""Moments as filters write them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.spec.moment import InvalidMoment, seconds

NOW = 1_700_000_000.0
NEW_YEAR = datetime(2024, 1, 1, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("1700000000", NOW),
        ("1700000000.5", NOW + 0.5),
        ("10m", NOW - 600),
        ("1h30m", NOW - 5400),
        ("1.5h", NOW - 5400),
        ("300ms", NOW - 0.3),
        ("-1m", NOW + 60),
        ("2024-01-01T00:00:00Z", NEW_YEAR),
        ("2024-01-01T02:00:00+02:00", NEW_YEAR),
        ("2024-01-01T00:00:00.123456789Z", NEW_YEAR + 0.123456),
        ("2024-01-01Z", NEW_YEAR),
        ("2024-01-01+02:00", NEW_YEAR - 7200),
        ("2024-01-01-05:30", NEW_YEAR + 19800),
        ("2024-01-01", datetime(2024, 1, 1).timestamp()),  # noqa: DTZ001
        ("2024-01-01T10:30", datetime(2024, 1, 1, 10, 30).timestamp()),  # noqa: DTZ001
    ],
)
def test_docker_s_spellings_are_read(text: str, moment: float) -> None:
    assert seconds(text, NOW) == pytest.approx(moment, abs=1e-3)


@pytest.mark.parametrize("text", ["", "soon", "10 m", "1d", "2024-13-01", "m", "1h x", "9" * 400, "٣"])
def test_what_is_no_time_is_one_sentence(text: str) -> None:
    with pytest.raises(InvalidMoment, match="invalid time"):
        seconds(text, NOW)


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        assert isinstance(seconds(text, NOW), float)
    except InvalidMoment as error:
        assert "\n" not in error.message
