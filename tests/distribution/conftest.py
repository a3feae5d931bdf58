"""A registry, one in front of it that misbehaves, and a client that does not wait."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lamina.distribution.client import Registries
from lamina.distribution.transport import RegistryOptions, Transport
from tests.registry.servers import Faulty, started


@pytest.fixture
def faulty(tmp_path: Path) -> Iterator[Faulty]:
    server = started(tmp_path / "registry")
    front = Faulty(server)
    yield front
    front.close()
    server.close()


@pytest.fixture
def pauses() -> list[float]:
    return []


@pytest.fixture
def registries(pauses: list[float]) -> Iterator[Registries]:
    made = Registries(transport=Transport(RegistryOptions(retries=4, read_timeout=10), sleep=pauses.append))
    yield made
    made.close()
