"""The event bus."""

from __future__ import annotations

import pytest

from lamina.apitypes.events import Event
from lamina.daemon.events import EventBus, matches

START = Event("container", "start", "c" * 64, {"name": "web", "image": "nginx:1", "app": "x"})


def test_a_listener_gets_what_comes_after_it() -> None:
    bus = EventBus(lambda: 5)
    bus.emit(Event("image", "tag", "old"))
    with bus.subscribe() as events:
        bus.emit(START)
        got = events.get(60)
        assert got is not None
        assert (got.id, got.time_ns) == (START.id, 5)
        assert events.get(0) is None


def test_history_is_given_between_since_and_until() -> None:
    bus = EventBus(lambda: 100)
    for time_ns in (10, 20, 30):
        bus.emit(Event("image", "tag", str(time_ns), time_ns=time_ns))
    events = bus.subscribe(since_ns=15, until_ns=25)
    found = events.get(0)
    assert found is not None
    assert found.id == "20"
    assert events.closed


def test_until_alone_gives_all_that_is_remembered() -> None:
    """As dockerd does: `docker events --until now` shows the past and ends."""
    bus = EventBus(lambda: 100)
    for time_ns in (10, 20, 30):
        bus.emit(Event("image", "tag", str(time_ns), time_ns=time_ns))
    events = bus.subscribe(until_ns=25)
    assert [found.id for _ in range(2) if (found := events.get(0))] == ["10", "20"]
    assert events.closed


def test_closing_the_bus_ends_its_listeners() -> None:
    bus = EventBus()
    events = bus.subscribe()
    bus.close()
    assert events.get() is None
    assert events.closed


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, True),
        ({"type": ["container"]}, True),
        ({"type": ["image"]}, False),
        ({"container": ["web"]}, True),
        ({"container": ["c" * 12]}, True),
        ({"container": ["cccc"]}, True),
        ({"container": ["we"]}, True),
        ({"container": ["eb"]}, False),
        ({"container": ["other"]}, False),
        ({"image": ["nginx"]}, True),
        ({"image": ["nginx:1"]}, True),
        ({"image": ["ngin"]}, False),
        ({"image": ["busybox"]}, False),
        ({"label": ["app=x"]}, True),
        ({"label": ["app"]}, True),
        ({"label": ["app=x", "tier"]}, False),
        ({"event": ["die", "start"]}, True),
        ({"event": ["die"]}, False),
        ({"volume": ["v"]}, False),
    ],
)
def test_an_event_passes_where_all_filters_let_it(filters: dict[str, list[str]], expected: bool) -> None:
    assert matches(START, filters) is expected


def test_a_filter_by_container_leaves_out_what_happens_to_networks_and_volumes_for_it() -> None:
    """As with dockerd, whose clients count what they are told."""
    for kind, name in (("network", "bridge"), ("volume", "")):
        assert not matches(Event(kind, "connect", "n" * 64, {"container": "c" * 64, "name": name}), {"container": ["c" * 64]})
