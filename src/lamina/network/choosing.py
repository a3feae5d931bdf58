"""Filters of `network ls` and `network prune`: which networks they let through. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set

from lamina.apitypes.filters import InvalidFilter, check_filters, labelled, lets_through, matches, until
from lamina.network.model import Network
from lamina.spec.moment import seconds

Filters = Mapping[str, Sequence[str]]
_LISTING = frozenset({"dangling", "driver", "id", "label", "name", "scope", "type"})
PRUNING = frozenset({"label", "label!", "until"})
_TRUE, _FALSE = ("1", "true", "True", "TRUE", "t", "T"), ("0", "false", "False", "FALSE", "f", "F")


def listed(networks: Iterable[Network], filters: Filters, used: Set[str]) -> list[Network]:
    """Those that `network ls` shows; `used` are IDs of networks that running containers are on.

    Raises:
        InvalidFilter: in Docker's words.
    """
    check_filters(filters, _LISTING)
    for value in filters.get("type", ()):
        if value not in ("builtin", "custom"):
            raise InvalidFilter(f"invalid filter: 'type'='{value}'")
    for value in filters.get("dangling", ()):
        _truth(value)
    tests: dict[str, Callable[[Network, str], bool]] = {
        "driver": lambda network, value: network.driver == value,
        "id": lambda network, value: matches(value, network.id),
        "name": lambda network, value: matches(value, network.name),
        "scope": lambda _, value: value == "local",
        "type": lambda network, value: network.predefined == (value == "builtin"),
        "dangling": lambda network, value: not network.predefined and (network.id not in used) == _truth(value),
    }
    return [
        network
        for network in networks
        if labelled(network.labels, filters.get("label", ()))
        and all(any(test(network, value) for value in filters[key]) for key, test in tests.items() if filters.get(key))
    ]


def prunable(networks: Iterable[Network], filters: Filters, now_ns: int) -> list[Network]:
    """Those that `network prune` may remove, if nobody is on them. Raises InvalidFilter."""
    check_filters(filters, PRUNING)
    limits = [seconds(value, now_ns / 1e9) * 1e9 for value in until(filters)]
    return [
        network
        for network in networks
        if not network.predefined and all(network.created_ns < limit for limit in limits) and lets_through(network.labels, filters)
    ]


def _truth(value: str) -> bool:
    if value not in _TRUE + _FALSE:
        raise InvalidFilter('invalid value for filter \'dangling\', must be "true" (or "1"), or "false" (or "0")')
    return value in _TRUE
