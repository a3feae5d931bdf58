"""Sizes and durations as Docker's CLI has them, and tables as tabwriter sets them."""

from __future__ import annotations

import time
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.cli.ages import local, parse_time, stamp
from lamina.cli.commands.contents import moment
from lamina.cli.progress import Rate
from lamina.cli.table import aligned
from lamina.cli.units import human_duration, human_size, parse_duration, parse_size
from lamina.errors import InvalidArgument


@pytest.mark.parametrize(
    ("size", "shown"), [(0, "0B"), (999, "999B"), (1000, "1kB"), (1_982_000, "1.98MB"), (77_800_000, "77.8MB"), (123_456_789, "123MB")]
)
def test_sizes_have_three_digits(size: int, shown: str) -> None:
    assert human_size(size) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.5, "Less than a second"), (1, "1 second"), (59, "59 seconds"), (60, "About a minute"), (120, "2 minutes"), (3600, "About an hour"),
        (7200, "2 hours"), (86400 * 2, "2 days"), (86400 * 14, "2 weeks"), (86400 * 61, "2 months"), (86400 * 800, "2 years"),
    ],
)  # fmt: skip
def test_ages_are_rounded_as_dockers(seconds: float, shown: str) -> None:
    assert human_duration(seconds) == shown


def test_years_have_four_digits() -> None:
    assert local(-62135596800 + 86400).startswith("0001-01-")
    assert stamp(-62135596800 + 86400).startswith("0001-01-")


@pytest.mark.parametrize(
    ("text", "size"), [("0", 0), ("512", 512), ("1k", 1024), ("64m", 64 << 20), ("1.5g", 3 << 29), ("2GiB", 2 << 30), ("5B", 5)]
)
def test_sizes_are_read_in_binary_units(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "m", "x1", "1q", "inf", "1e999", "nan", "-1", "-4m"])
def test_other_sizes_are_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "nanoseconds"), [("0", 0), ("10s", 10**10), ("1m30s", 90 * 10**9), ("500ms", 5 * 10**8), ("1.5h", 5400 * 10**9)]
)
def test_durations_are_read_as_gos(text: str, nanoseconds: int) -> None:
    assert parse_duration(text) == nanoseconds


@pytest.mark.parametrize("text", ["", "10", "s", "1x", "1.2.3s", "1-2s", "--5s", "-s", ".s", "\u00b2s", "-"])
def test_other_durations_are_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        parse_duration(text)


def test_times_of_the_api_are_read() -> None:
    assert parse_time("1970-01-01T00:00:01.500000000Z") == 1.5
    assert parse_time("1970-01-01T01:00:00+01:00") == 0
    assert parse_time("0001-01-01T00:00:00Z") is None and parse_time("soon") is None


@given(st.datetimes(timezones=st.timezones()))
def test_times_are_the_librarys(moment: datetime) -> None:
    offset = moment.utcoffset()
    if moment.year > 1 and offset is not None and not offset.total_seconds() % 60:
        assert parse_time(moment.isoformat()) == pytest.approx(moment.timestamp(), abs=1e-5)


@given(st.text())
def test_any_time_is_accepted_or_refused(text: str) -> None:
    parse_time(text)
    parse_time(f"2020-01-01T{text}")


def test_columns_are_three_apart_and_none_narrower_than_ten() -> None:
    assert aligned([["A", "B", "C"], ["longer than ten", "", "c"]]) == ["A                 B         C", "longer than ten             c"]
    assert aligned([["%s", "x"], [], ["alone"], ["%"]]) == ["%s        x", "", "alone", "%"]
    assert aligned([["字", "x"], ["e\u0301", "%"], []]) == ["字        x", "e\u0301         %", ""]


def test_a_bar_tells_total_speed_and_time_left() -> None:
    ticks = iter([0.0, 2.0, 2.0])
    assert Rate(lambda: next(ticks)).line(50_000_000, 100_000_000, width=10) == "[=====>    ]  50MB/100MB  25MB/s  ETA 0:02"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1700000000", "1700000000"),
        ("1700000000.123456789", "1700000000.123456789"),
        ("2023-11-14T22:13:20Z", "1700000000"),
        ("2023-11-14T22:13:20.000000001Z", "1700000000.000000001"),
        ("2023-11-14T23:13:20+01:00", "1700000000"),
        ("2023-11-14T20:43:20-01:30", "1700000000"),
        ("2023-11-15T00:13:20", "1700000000"),
        ("2023-11-15T00:13", "1699999980"),
        ("2023-11-15T00", "1699999200"),
        ("2023-11-15", "1699999200"),
        ("2023-11-15Z", "1700006400"),
    ],
)
def test_moments_are_read_as_dockers(monkeypatch: pytest.MonkeyPatch, text: str, seconds: str) -> None:
    monkeypatch.setenv("TZ", "UTC-2")  # two hours east
    time.tzset()
    try:
        assert moment(text) == seconds
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("text", ["", "x", "2023-13-01", "2023-02-30T00:00:00Z", "2023-11-15T", "2023-11-15T1", "T10", "10", "yesterday"])
def test_any_other_moment_is_refused_or_a_number(text: str) -> None:
    if text.isdigit():
        assert moment(text) == text
    else:
        with pytest.raises(InvalidArgument):
            moment(text)
