"""What the filters of several listings have in common: labels. Pure."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping

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
