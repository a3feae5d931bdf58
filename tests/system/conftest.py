"""Daemons of their own for tests of the whole; everything here needs root."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.harness import Daemon, busybox_tar

BASE = "busybox:test"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.root)


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root of a static busybox, as a tar."""
    return busybox_tar(tmp_path_factory.mktemp("base") / "busybox.tar")


@pytest.fixture(params=["erofs", "overlay"])
def driver(request: pytest.FixtureRequest) -> str:
    """Each storage driver."""
    return str(request.param)


@pytest.fixture
def daemon(driver: str, tmp_path: Path, base: Path) -> Iterator[Daemon]:
    """A fresh daemon with a busybox image, which a test may kill."""
    daemon = started(tmp_path / "d", driver)
    daemon.docker("import", str(base), BASE)
    yield daemon
    if daemon.process is None or daemon.process.poll() is not None:
        daemon.start()
    daemon.remove()


@pytest.fixture
def make_daemon(tmp_path: Path) -> Iterator[Callable[..., Daemon]]:
    """Makes further daemons, all removed at the end."""
    made: list[Daemon] = []

    def make(driver: str = "", **options: object) -> Daemon:
        made.append(Daemon(tmp_path / f"m{len(made)}", driver, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for daemon in made:
        daemon.remove()


def started(root: Path, driver: str) -> Daemon:
    """A running daemon, or a skip where this kernel has no such driver."""
    daemon = Daemon(root, driver)
    try:
        return daemon.start()
    except AssertionError:
        if "storage driver erofs cannot be used here" in daemon.log:
            pytest.skip(f"this kernel cannot mount EROFS here: {daemon.log.strip().splitlines()[-1]}")
        raise
