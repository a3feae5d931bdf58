"""Docker's own command line on the flags of tests/cli/test_container_flags.py: it asks for the same, and refuses in the same words."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cli.test_container_flags import REFUSED, TAKEN, about
from tests.client.fake_engine import FakeEngine, fake_engine, reply
from tests.harness import docker_cli

pytestmark = pytest.mark.docker_cli(28)


@pytest.fixture(scope="module")
def engine() -> Iterator[FakeEngine]:
    """What docker asks before and while it creates a container."""
    with tempfile.TemporaryDirectory(prefix="lm") as directory, fake_engine(directory) as engine:
        pong = reply(headers="Api-Version: 1.48\r\nOstype: linux\r\n")
        engine.routes |= {"HEAD /_ping": pong, "GET /_ping": pong, "POST /v1.48/containers/create": reply({"Id": "c"}, status=201)}
        yield engine


def docker(engine: FakeEngine, words: list[str]) -> subprocess.CompletedProcess[str]:
    engine.requests.clear()
    return subprocess.run([docker_cli(), "-H", engine.host, "create", *words, "image"], capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize(("words", "told"), REFUSED, ids=lambda value: " ".join(value) if isinstance(value, list) else "")
@pytest.mark.docker_cli(28, 29)
def test_docker_refuses_it_too(engine: FakeEngine, words: list[str], told: str) -> None:
    done = docker(engine, words)
    assert done.returncode == 125 and told in done.stderr, done
    assert not any("create" in path for path in engine.asked())


@pytest.mark.parametrize(("words", "meant"), TAKEN, ids=lambda value: " ".join(value) if isinstance(value, list) else "")
@pytest.mark.docker_cli(28, 29)
def test_docker_asks_for_the_same(engine: FakeEngine, words: list[str], meant: dict[str, Any]) -> None:
    done = docker(engine, words)
    assert done.returncode == 0, done.stderr
    request = engine.requests[-1].json()
    assert isinstance(request, dict)
    assert about(request) == meant
