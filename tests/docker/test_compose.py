"""docker compose, where it is installed: a small application's whole life."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.docker.conftest import BASE, serving
from tests.harness import Daemon, eventually, run

PLUGINS = [
    Path(folder, "docker/cli-plugins/docker-compose") for folder in ("/usr/libexec", "/usr/lib", "/usr/local/libexec", "/usr/local/lib")
]
COMPOSE = shutil.which("docker-compose") or next((str(path) for path in PLUGINS if path.exists()), "")
pytestmark = [pytest.mark.peer, pytest.mark.skipif(not COMPOSE, reason="no docker compose here")]

APPLICATION = f"""
services:
  db:
    image: {BASE}
    command: sh -c 'touch /data/ready; echo up; exec tail -f /dev/null'
    stop_grace_period: 0s
    volumes: [data:/data]
    healthcheck: {{test: [CMD, test, -f, /data/ready], interval: 200ms, timeout: 2s, retries: 50}}
  web:
    build: .
    ports: ["127.0.0.1::80"]
    stop_signal: KILL
    environment: [MOOD=curious]
    secrets: [word]
    depends_on: {{db: {{condition: service_healthy}}}}
volumes: {{data: }}
secrets: {{word: {{file: ./word}}}}
"""


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One daemon: storage drivers change nothing here."""
    with serving(tmp_path_factory) as daemon:
        yield daemon


def test_an_application_of_two_services_lives_and_goes(engine: Daemon, tmp_path: Path) -> None:
    folder = tmp_path / "app"
    folder.mkdir()
    (folder / "compose.yml").write_text(APPLICATION)
    (folder / "Dockerfile").write_text(f'FROM {BASE}\nCOPY index.html /srv/\nCMD ["httpd", "-f", "-p", "80", "-h", "/srv"]\n')
    (folder / "index.html").write_text("hello\n")
    (folder / "word").write_text("hidden\n")

    def compose(*words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        return run([COMPOSE, *words], engine.environment(), cwd=folder, code=code)

    compose("up", "-d", "--build")
    address = compose("port", "web", "80").stdout.strip()
    eventually(lambda: _page(address) == "hello\n", "the page is not served")
    assert compose("exec", "-T", "web", "sh", "-c", "cat /run/secrets/word; echo $MOOD").stdout == "hidden\ncurious\n"
    assert compose("exec", "-T", "db", "wget", "-q", "-O-", "http://web/").stdout == "hello\n"
    assert "db-1  | up" in compose("logs").stdout
    assert "(healthy)" in compose("ps").stdout
    compose("restart", "web")
    compose("cp", "db:/data/ready", "copy")
    assert (folder / "copy").exists()
    assert compose("run", "--rm", "-T", "web", "echo", "one-off").stdout == "one-off\n"
    assert compose("exec", "-T", "web", "sh", "-c", "exit 7", code=7).returncode == 7
    compose("down", "-v", "--rmi", "local")
    for words in (("ps", "-aq"), ("volume", "ls", "-q"), ("images", "-q", "app-web")):
        assert engine.docker(*words).stdout == ""


def _page(address: str) -> str:
    try:
        with urlopen(f"http://{address}/", timeout=5) as answer:
            return str(answer.read().decode())
    except OSError:
        return ""
