"""One daemon a storage driver for the real docker CLI and docker-py; every test runs with each driver this kernel has."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest

from tests.harness import Daemon, busybox_tar, docker_cli

BASE = "busybox:test"
_numbers = count(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here needs root, and the real docker CLI."""
    here = Path(__file__).parent
    absent = shutil.which(docker_cli()) is None
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.root)
            if absent:
                item.add_marker(pytest.mark.skip(reason="no docker CLI here: ./dev test fetches one where apt-get is"))


@contextmanager
def serving(make: pytest.TempPathFactory, driver: str = "", options: Sequence[str] = ()) -> Iterator[Daemon]:
    """A running daemon with a busybox image; a skip where this kernel lacks the driver."""
    daemon = Daemon(make.mktemp(f"daemon-{driver or 'any'}"), driver, options)
    try:
        daemon.start()
    except AssertionError:
        if "storage driver erofs cannot be used here" in daemon.log:
            pytest.skip(f"this kernel cannot mount EROFS from the test's file system: {daemon.log.strip().splitlines()[-1]}")
        raise
    try:
        daemon.docker("import", str(busybox_tar(make.mktemp("busybox") / "busybox.tar")), BASE)
        yield daemon
    finally:
        daemon.remove()


@pytest.fixture(scope="session", params=["erofs", "overlay", "native"])
def daemon(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A running daemon with a busybox image."""
    with serving(tmp_path_factory, request.param) as daemon:
        yield daemon


@pytest.fixture
def name(daemon: Daemon) -> Iterator[str]:
    """A name for a container, which is removed at the end."""
    name = f"c{next(_numbers)}"
    yield name
    daemon.docker("rm", "-f", name, code=None)


@pytest.fixture
def tag(daemon: Daemon) -> Iterator[str]:
    """A name for an image, which is removed at the end."""
    tag = f"made/i{next(_numbers)}:1"
    yield tag
    daemon.docker("rmi", "-f", tag, code=None)


@pytest.fixture
def context(tmp_path: Path) -> Path:
    """An empty folder for a Dockerfile and what it copies."""
    folder = tmp_path / "context"
    folder.mkdir()
    return folder
