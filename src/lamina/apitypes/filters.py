"""What the filters of several listings have in common: labels and names. Pure."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping, Sequence

from lamina.errors import InvalidArgument


class InvalidFilter(InvalidArgument):
    """There is no such filter, or no such value of it."""


def check_filters(filters: Iterable[str], known: Container[str]) -> None:
    """Raises InvalidFilter for a key that is not known."""
    for key in filters:
        if key not in known:
            raise InvalidFilter(f"invalid filter '{key[:100]}'")


def labelled(labels: Mapping[str, str], wanted: Iterable[str]) -> bool:
    """Whether all of `key` and `key=value` are there."""
    return all(key in labels and (not equals or labels[key] == value) for key, equals, value in (entry.partition("=") for entry in wanted))


def lets_through(labels: Mapping[str, str], filters: Mapping[str, Sequence[str]]) -> bool:
    """Whether `label` and `label!` do: all that is wanted is there, and not all that is unwanted. As with Docker, a `label!` without a
    value lets nothing through."""
    return labelled(labels, filters.get("label", ())) and not ("label!" in filters and labelled(labels, filters["label!"]))


def until(filters: Mapping[str, Sequence[str]]) -> Sequence[str]:
    """The moment of a prune's `until`, as it is written, or none. Raises InvalidFilter: there are several, or it is empty."""
    values = filters.get("until", ())
    if len(values) > 1:
        raise InvalidFilter("more than one until filter specified")
    if "until" in filters and not values:
        raise InvalidFilter("invalid filter 'until'")
    return values


def matches(pattern: str, text: str) -> bool:
    """Whether a filter lets a name or an ID through: it is the pattern, or the pattern, an expression as Go has them, is found in it. What
    is none finds nothing."""
    try:
        return pattern == text or re.search(pattern, text) is not None
    except re.error:
        return False
