"""Filters of `ps` and `container prune`: which containers they let through. Pure but for the questions put to `Asks`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from lamina.apitypes.filters import InvalidFilter, check_filters, labelled, lets_through, matches, until
from lamina.container.model import Container, State
from lamina.image.model import Image
from lamina.spec.moment import seconds
from lamina.spec.numeral import natural

Filters = Mapping[str, Sequence[str]]
_LISTING = frozenset({
    "ancestor", "before", "exited", "expose", "health", "id", "is-task", "isolation", "label", "name", "network", "publish", "since", "status", "volume",
})  # fmt: skip
_HEALTH = frozenset({"none", "starting", "healthy", "unhealthy"})
_LARGEST = (1 << 31) - 1
_PRUNING = frozenset({"label", "label!", "until"})


def check_listing(filters: Filters, find: Callable[[str], object] = str) -> None:
    """Raises InvalidFilter for a key that `ps` does not have, or a state that does not exist, and what `find` raises for a
    container that is not there."""
    check_filters(filters, _LISTING)
    for ref in (*filters.get("before", ()), *filters.get("since", ())):
        find(ref)
    for status in filters.get("status", ()):
        if status not in {str(state) for state in State}:
            raise InvalidFilter(f"invalid filter 'status={status}'")
    for health in filters.get("health", ()):
        if health not in _HEALTH:
            raise InvalidFilter(f"invalid filter 'health={health}'")
    for value in filters.get("is-task", ()):
        if value.lower() not in ("0", "1", "false", "true"):
            raise InvalidFilter(f"invalid filter 'is-task={value[:100]}'")
    for code in filters.get("exited", ()):
        if natural(code.removeprefix("-"), _LARGEST) is None:
            raise InvalidFilter(f"invalid filter 'exited={code[:100]}'")
    for key in ("expose", "publish"):
        for value in filters.get(key, ()):
            _ports(key, value)


def listed(container: Container, filters: Filters, *, find: Callable[[str], Container], images: Callable[[str], Iterable[str]]) -> bool:
    """Whether `ps` shows it. `find` looks a container up, `images` gives the IDs of the images that descend from a name or ID."""
    if not any(filters.values()):
        return True
    tests: dict[str, Callable[[str], bool]] = {
        "id": lambda start: bool(start) and container.id.startswith(start),
        "name": lambda pattern: matches(pattern, f"/{container.name}") or matches(pattern, container.name),
        "status": lambda status: status == container.state.status,
        "exited": lambda code: bool(container.state.started_ns) and not container.shown_running and int(code) == container.state.exit_code,
        "ancestor": lambda name: container.image in set(images(name)),
        "before": lambda ref: container.created_ns < find(ref).created_ns,
        "since": lambda ref: container.created_ns > find(ref).created_ns,
        "volume": lambda place: any(place in (mount.name, mount.target, mount.source) for mount in container.mounts),
        "is-task": lambda value: value.lower() in ("0", "false"),
        "health": lambda health: health == container.health,
    }
    return labelled(container.labels, filters.get("label", ())) and all(
        any(tests[key](value) for value in values) for key, values in filters.items() if key in tests and values
    )


def descends(image: Image, base: Image) -> bool:
    """Whether an image was built on another: its layers begin with the other's, and where it has no more of them, its history does."""
    if not base.layers or image.layers[: len(base.layers)] != base.layers:
        return False
    before = base.config.history
    return len(image.layers) > len(base.layers) or image.config.history[: len(before)] == before


def asks_networks(filters: Filters) -> bool:
    """Whether a filter is about networks or ports: what `connected` answers."""
    return any(filters.get(key) for key in ("network", "expose", "publish"))


def connected(summary: Mapping[str, Any], filters: Filters) -> bool:
    """Whether a container, by its API summary, has one of the networks (by name, or the beginning of an ID) and of the ports."""
    networks = summary["NetworkSettings"]["Networks"]
    if wanted := filters.get("network"):
        ids = [str((settings or {}).get("NetworkID", "")) for settings in networks.values()]
        if not any(name in networks or any(name and found.startswith(name) for found in ids) for name in wanted):
            return False
    if not (filters.get("expose") or filters.get("publish")):
        return True
    for key, side in (("expose", "PrivatePort"), ("publish", "PublicPort")):
        asked = {port for value in filters.get(key, ()) for port in _ports(key, value)}
        if any((row.get(side), row.get("Type")) in asked for row in summary["Ports"]):
            return True
    return False


def _ports(key: str, value: str) -> list[tuple[int, str]]:
    """`80`, `80/udp`, `80-90/tcp` as ports with their protocol."""
    numbers, _, protocol = value.partition("/")
    low, _, high = numbers.partition("-")
    first, last = natural(low, 65535), natural(high or low, 65535)
    if first is None or last is None or last < first:
        raise InvalidFilter(f"invalid filter '{key}={value[:100]}'")
    return [(port, protocol or "tcp") for port in range(first, last + 1)]


def pruning(filters: Filters, now_ns: int) -> Callable[[Container], bool]:
    """What says whether `container prune` may remove a container that does not run. Raises InvalidFilter, InvalidMoment."""
    check_filters(filters, _PRUNING)
    limits = [seconds(value, now_ns / 1e9) * 1e9 for value in until(filters)]
    return lambda container: lets_through(container.labels, filters) and all(container.created_ns < limit for limit in limits)
