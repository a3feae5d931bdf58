"""A fake engine for every test that asks for one."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

import pytest

from tests.client.fake_engine import FakeEngine, fake_engine


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    """A fake engine on a socket; its directory is short, since sun_path is."""
    with tempfile.TemporaryDirectory(prefix="lm") as directory, fake_engine(directory) as running:
        yield running
