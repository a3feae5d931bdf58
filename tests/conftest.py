"""What every test shares: markers that explain themselves where the machine cannot serve them."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

from lamina.linux.openfiles import allow_many
from tests.harness import docker_cli_version

if TYPE_CHECKING:
    from tests.registry.servers import Faulty

# How long an example takes says something of the machine, nothing of the code.
hypothesis.settings.register_profile("lamina", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("lamina")


# Shells start what they put in the background with interrupts ignored, and programs that tests start and interrupt would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


# As an engine does that is opened in a shell's process: many tests use its parts alone.
allow_many()


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist looks for the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Group what one process runs; skip tests marked `root` where the run is not root's, and those marked
    `docker_cli` where the docker CLI is older than the first number, or not older than the second."""
    root = os.geteuid() == 0
    for item in items:
        item.add_marker(pytest.mark.xdist_group(_group(item)))
        if not root and item.get_closest_marker("root"):
            item.add_marker(pytest.mark.skip(reason="needs root: mounts and namespaces"))
        wanted = item.get_closest_marker("docker_cli")
        if wanted is not None and docker_cli_version() < wanted.args[0]:
            item.add_marker(pytest.mark.skip(reason=f"needs the docker CLI of version {wanted.args[0]} or newer"))
        if wanted is not None and docker_cli_version() >= (*wanted.args, 1 << 30)[1]:
            item.add_marker(pytest.mark.skip(reason=f"the docker CLI prints or reads other things from version {wanted.args[1]} on"))


def _group(item: pytest.Item) -> str:
    """The tests that follow each other in one process: those that share a daemon of the session, else those of a file."""
    if "daemon" in getattr(item, "fixturenames", ()) and (parameters := getattr(item, "callspec", None)):
        driver = parameters.params.get("daemon")
        if driver is not None:
            return f"{item.path.parent.name} {driver}"
    return str(item.path)


@pytest.fixture
def faulty(tmp_path: Path) -> Iterator[Faulty]:
    """A registry in this process, and one in front of it that misbehaves as a test says."""
    from tests.registry.servers import Faulty, started

    server = started(tmp_path / "registry")
    front = Faulty(server)
    yield front
    front.close()
    server.close()
