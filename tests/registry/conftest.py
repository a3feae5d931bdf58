"""A registry in this process, and a bare connection to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import urllib3

from lamina.registry.server import RegistryServer
from tests.registry.servers import started


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RegistryServer]:
    made = started(tmp_path / "registry")
    yield made
    made.close()


@pytest.fixture
def http(server: RegistryServer) -> Iterator[urllib3.HTTPConnectionPool]:
    pool = urllib3.HTTPConnectionPool(*server.address, retries=False, timeout=60)
    yield pool
    pool.close()
