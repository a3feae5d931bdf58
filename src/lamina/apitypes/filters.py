"""What the filters of several listings have in common: labels. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lamina.errors import InvalidArgument


class InvalidFilter(InvalidArgument):
    """There is no such filter, or no such value of it."""


def labelled(labels: Mapping[str, str], wanted: Iterable[str]) -> bool:
    """Whether all of `key` and `key=value` are there."""
    return all(key in labels and (not equals or labels[key] == value) for key, equals, value in (entry.partition("=") for entry in wanted))
