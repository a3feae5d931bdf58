"""Other engines on this machine. `./dev peers`; what is not installed is skipped, by name."""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import Daemon, busybox_tar, eventually, run
from tests.system.conftest import started


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.root)
            item.add_marker(pytest.mark.peer)


def needs(program: str) -> str:
    """The program's path, or a skip."""
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed here")
    return found


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root of a static busybox, as a tar."""
    return busybox_tar(tmp_path_factory.mktemp("base") / "busybox.tar")


@pytest.fixture(scope="module", params=["erofs", "overlay"])
def daemon(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, base: Path) -> Iterator[Daemon]:
    """Lamina with an image of two layers, app:1."""
    daemon = started(tmp_path_factory.mktemp(f"lamina-{request.param}"), request.param)
    daemon.docker("import", str(base), "busybox:test")
    context = tmp_path_factory.mktemp("context")
    (context / "Dockerfile").write_text('FROM busybox:test\nRUN echo exchanged > /exchanged; rm /etc/group\nCMD ["cat", "/exchanged"]\n')
    daemon.docker("build", "-q", "--network", "none", "-t", "app:1", str(context))
    yield daemon
    daemon.remove()


class Dockerd(Daemon):
    """Debian's dockerd by the same harness."""

    def command(self) -> list[str]:
        """See `Daemon.command`."""
        where = self.root
        return [needs("dockerd"), "--data-root", str(self.data), "--exec-root", str(where / "exec"), "-H", self.host, "--pidfile", str(where / "pid"),
                "--bridge=none", "--iptables=false"]  # fmt: skip


@pytest.fixture(scope="session")
def dockerd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dockerd]:
    """A running dockerd."""
    peer = Dockerd(tmp_path_factory.mktemp("dockerd"))
    peer.start()
    yield peer
    ids = peer.docker("ps", "-aq").stdout.split()
    if ids:
        peer.docker("rm", "-f", *ids)
    peer.stop(signal.SIGTERM)
    assert peer.process is not None
    eventually(lambda: peer.process is not None and peer.process.poll() is not None, "dockerd did not end")


@pytest.fixture
def podman(tmp_path: Path) -> Iterator[list[str]]:
    """podman's command line on a root of its own."""
    # podman refuses a run root longer than 50 characters.
    short = tempfile.mkdtemp(prefix="podman-", dir="/tmp")
    command = [
        needs("podman"),
        "--root",
        str(tmp_path / "podman"),
        "--runroot",
        short,
        "--storage-driver",
        "vfs",
        "--cgroup-manager",
        "cgroupfs",
    ]
    yield command
    subprocess.run([*command, "system", "reset", "-f"], capture_output=True, check=False)
    shutil.rmtree(short, ignore_errors=True)


__all__ = ["Dockerd", "needs", "run"]
