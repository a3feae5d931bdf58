"""Secrets and SSH agents: a RUN sees them while it runs, and afterwards nothing knows of them."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.docker.conftest import BASE
from tests.harness import Daemon, eventually, script


def _holders(folder: Path, word: bytes) -> list[str]:
    """Files on the disk below `folder` that contain `word`; what is mounted there is no disk."""
    found = []
    device = os.lstat(folder).st_dev
    for path, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if _device(f"{path}/{name}") == device]
        for name in files:
            whole = Path(path, name)
            with suppress(FileNotFoundError):  # what other steps left is removed meanwhile
                if whole.is_file() and not whole.is_symlink() and word in whole.read_bytes():
                    found.append(str(whole))
    return found


def _device(path: str) -> int:
    """What file system a path is on; -1 where it is gone."""
    try:
        return os.lstat(path).st_dev
    except FileNotFoundError:
        return -1


@contextmanager
def _gate() -> Iterator[socket.socket]:
    """Where a RUN waits until the test lets it go on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(120)
        yield listener


@pytest.mark.covers("dockerfile:RUN --mount=type=secret")
def test_a_secret_is_on_no_disk_neither_while_it_is_used_nor_after(daemon: Daemon, context: Path, tag: str, tmp_path: Path) -> None:
    word, other = secrets.token_hex(20), secrets.token_hex(20)
    (tmp_path / "secret").write_text(word)
    with _gate() as gate:
        (context / "Dockerfile").write_text(
            f"FROM {BASE}\n"
            "RUN --mount=type=secret,id=file --mount=type=secret,id=file,target=/etc/other,mode=0444,uid=7 --mount=type=secret,id=var,env=VAR \\\n"
            "    sha256sum /run/secrets/file > /sum && stat -c %a-%u /run/secrets/file /etc/other && echo -n $VAR | sha256sum; "
            f"    nc 127.0.0.1 {gate.getsockname()[1]} < /dev/null; true\n"
        )
        words = [
            "build",
            "--network",
            "host",
            "--secret",
            f"id=file,src={tmp_path}/secret",
            "--secret",
            "id=var,env=OTHER",
            "-t",
            tag,
            str(context),
        ]
        build = subprocess.Popen(
            [*script("lamina"), *words],
            env=daemon.environment() | {"OTHER": other},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        waiting, _ = gate.accept()
        with waiting:
            assert _holders(daemon.data, word.encode()) == []
            assert _holders(daemon.data, other.encode()) == []
        told, _ = build.communicate(timeout=120)
    assert build.returncode == 0, told
    assert "400-0\n444-7\n" in told and word not in told
    for hidden in (word, other):
        assert _holders(daemon.root, hidden.encode()) == []
        assert hidden not in daemon.lamina("history", "--no-trunc", tag).stdout + daemon.lamina("inspect", tag).stdout
    assert daemon.lamina("ls", f"{tag}:/run/secrets", code=None).stdout == "", "no mount point stays either"
    (tmp_path / "secret").write_text("changed")
    again = daemon.lamina("build", "--network", "host", "--secret", f"id=file,src={tmp_path}/secret", str(context)).stdout
    assert "Using cache" in again, "what a secret says does not count for the cache"


def test_a_secret_that_nobody_gives_is_left_out_or_required(daemon: Daemon, context: Path, tmp_path: Path) -> None:
    (context / "Dockerfile").write_text(f"FROM {BASE}\nRUN --mount=type=secret,id=x test ! -e /run/secrets/x\n")
    daemon.lamina("build", str(context))
    (context / "Dockerfile").write_text(f"FROM {BASE}\nRUN --mount=type=secret,id=x,required true\n")
    assert "Dockerfile:2: secret x: not found" in daemon.lamina("build", str(context), code=1).stderr
    assert (
        "secret x: /nonexistent cannot be read" in daemon.lamina("build", "--secret", "id=x,src=/nonexistent", str(context), code=1).stderr
    )
    assert "it has no id" in daemon.lamina("build", "--secret", "src=/etc/hostname", str(context), code=125).stderr
    (tmp_path / "large").write_bytes(bytes(600 << 10))
    assert "larger than 500 KiB" in daemon.lamina("build", "--secret", f"id=x,src={tmp_path}/large", str(context), code=1).stderr
    refused = daemon.docker("build", str(context), code=1)
    assert "use lamina build --secret id=x,src=FILE" in refused.stdout + refused.stderr


@pytest.mark.covers("dockerfile:RUN --mount=type=ssh")
def test_an_ssh_agent_answers_in_a_build(daemon: Daemon, context: Path, tmp_path: Path) -> None:
    heard: list[bytes] = []
    agent = socket.socket(socket.AF_UNIX)
    agent.bind(str(tmp_path / "agent"))
    agent.listen()

    def answer() -> None:
        while True:
            try:
                connection, _ = agent.accept()
            except OSError:
                return
            with connection:
                while data := connection.recv(100):
                    heard.append(data)
                    connection.sendall(b"answer to " + data)

    threading.Thread(target=answer, daemon=True).start()
    with _gate() as gate:
        (context / "Dockerfile").write_text(
            f"FROM {BASE}\nRUN --mount=type=ssh test -S $SSH_AUTH_SOCK && echo at $SSH_AUTH_SOCK && nc 127.0.0.1 {gate.getsockname()[1]} < /dev/null\n"
        )
        words = ["build", "--network", "host", "--no-cache", "--ssh", f"default={tmp_path}/agent", str(context)]
        build = subprocess.Popen(
            [*script("lamina"), *words], env=daemon.environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        waiting, _ = gate.accept()
        with waiting:
            [inside] = daemon.data.glob("run/build/*/mounts/*/root/agent.sock")
            for _ in range(2):
                folder = os.open(inside.parent, os.O_PATH)
                with socket.socket(socket.AF_UNIX) as client:
                    client.settimeout(120)
                    client.connect(f"/proc/self/fd/{folder}/agent.sock")
                    for word in (b"one", b"two"):
                        client.sendall(word)
                        assert client.recv(100) == b"answer to " + word
                os.close(folder)
        told, _ = build.communicate(timeout=120)
    agent.shutdown(socket.SHUT_RDWR)
    agent.close()
    assert build.returncode == 0 and "at /run/buildkit/ssh_agent.0" in told, told
    assert heard == [b"one", b"two"] * 2
    eventually(lambda: not list(daemon.data.glob("run/build/*")), "the step's folder is still there")
    no_agent = daemon.lamina("build", "--ssh", f"default={tmp_path}/agent", str(context), code=1).stderr
    assert "no SSH agent listens" in no_agent
    (context / "Dockerfile").write_text(f"FROM {BASE}\nRUN --mount=type=ssh,required true\n")
    assert "Dockerfile:2: ssh default: not found" in daemon.lamina("build", str(context), code=1).stderr


@pytest.mark.refuses("dockerfile:RUN --device")
def test_devices_of_a_run_are_refused_by_line(daemon: Daemon, context: Path) -> None:
    (context / "Dockerfile").write_text(f"FROM {BASE}\nRUN --device=vendor.example/class=name true\n")
    for run in (daemon.docker, daemon.lamina):
        done = run("build", str(context), code=1)
        assert "Dockerfile:2: RUN --device is not supported: this engine knows no CDI devices" in done.stdout + done.stderr
