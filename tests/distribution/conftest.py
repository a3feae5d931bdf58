"""A registry, one in front of it that misbehaves, and a client that does not wait."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lamina.distribution.client import Registries
from lamina.distribution.transport import RegistryOptions, Transport


@pytest.fixture
def pauses() -> list[float]:
    return []


@pytest.fixture
def registries(pauses: list[float]) -> Iterator[Registries]:
    made = Registries(transport=Transport(RegistryOptions(retries=4, read_timeout=120), sleep=pauses.append))
    yield made
    made.close()


@pytest.fixture
def impatient(pauses: list[float]) -> Iterator[Registries]:
    """A client that waits three seconds for bytes that do not come."""
    made = Registries(transport=Transport(RegistryOptions(retries=4, read_timeout=3), sleep=pauses.append))
    yield made
    made.close()
