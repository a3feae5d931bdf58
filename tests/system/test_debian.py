"""Real input: Debian bookworm by mmdebstrap; on it emacs, then apache, one layer each (examples/debian)."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import Daemon, docker_cli, eventually, free_port
from tests.system.conftest import started

EXAMPLE = Path(__file__).parents[2] / "examples/debian"
APPS = "debian/apps"

pytestmark = [pytest.mark.network, pytest.mark.slow, pytest.mark.timeout(2400)]


@pytest.fixture(scope="module")
def debian(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Debian root as a tar, with this host's package sources and certificates."""
    if shutil.which("mmdebstrap") is None:
        pytest.skip("no mmdebstrap here: apt-get install mmdebstrap")
    target = tmp_path_factory.mktemp("debian") / "debian.tar"
    hooks = ["rm -rf $1/etc/apt/sources.list $1/etc/apt/sources.list.d", "copy-in /etc/apt /etc", "copy-in /etc/ssl /etc"]
    command = ["mmdebstrap", "-q", "--variant=minbase", *(f"--customize-hook={hook}" for hook in hooks), "bookworm", str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"the package mirrors do not answer: {done.stderr.strip().splitlines()[-1]}")
    return target


@pytest.fixture(scope="module", params=["erofs", "overlay"])
def daemon(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, debian: Path) -> Iterator[Daemon]:
    """A daemon that has built the example."""
    daemon = started(tmp_path_factory.mktemp(f"debian-{request.param}"), request.param)
    daemon.lamina("import", str(debian), "debian:bookworm")
    daemon.lamina("build", "--network", "host", "-t", APPS, str(EXAMPLE), timeout=2000)
    yield daemon
    daemon.remove()


def test_one_layer_an_instruction_that_changes_files(daemon: Daemon) -> None:
    lines = daemon.lamina("layers", "--no-trunc", APPS).stdout.splitlines()
    assert len(lines) == 4
    assert "emacs-nox" in lines[2] and "apache2" in lines[3]
    assert "emacs" in daemon.lamina("which", APPS, "/usr/bin/emacs").stdout
    assert "apache2" in daemon.lamina("which", APPS, "/usr/sbin/apache2").stdout


def test_emacs_answers(daemon: Daemon) -> None:
    assert daemon.docker("run", "--rm", "--network", "none", APPS, "emacs", "--version").stdout.startswith("GNU Emacs")


def test_a_second_build_is_all_cache(daemon: Daemon) -> None:
    told = daemon.docker("build", "--network", "host", "-t", APPS, str(EXAMPLE)).stdout
    assert told.count("Using cache") == 3


def test_bash_on_a_terminal(daemon: Daemon) -> None:
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [docker_cli(), "run", "--rm", "-it", "--network", "none", APPS],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=daemon.environment(),
        start_new_session=True,
    )
    os.close(slave)
    seen = b""
    os.write(master, b"echo $BASH_VERSION-$((6*7)); tty; exit 5\n")
    while b"/dev/pts/0" not in seen:
        seen += os.read(master, 65536)
    assert b"-42" in seen
    assert process.wait(120) == 5
    os.close(master)


def test_apache_serves_a_page_that_the_host_fetches(daemon: Daemon) -> None:
    port = free_port()
    script = f"echo 'Listen 127.0.0.1:{port}' > /etc/apache2/ports.conf; echo layers > /var/www/html/index.html; sed -i 's/:80>/:{port}>/' /etc/apache2/sites-enabled/*; exec apachectl -D FOREGROUND"
    daemon.docker("run", "-d", "--network", "host", "--name", "web", APPS, "sh", "-c", script)

    def page() -> bytes:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
                return bytes(answer.read())
        except OSError:
            return b""

    eventually(lambda: page() == b"layers\n", f"no page: {daemon.docker('logs', 'web', code=None)}")
    daemon.docker("rm", "-f", "web")
