"""The daemon as a service of systemd, where systemd runs this machine and has no Lamina of its own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lamina.daemon import service
from tests.harness import Daemon, eventually, run, script

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not os.path.isdir("/run/systemd/system"), reason="systemd does not run this machine"),
    pytest.mark.skipif(os.path.exists(service.UNIT), reason="this machine has a service of Lamina's already"),
]


@pytest.fixture
def served(tmp_path: Path, base: Path) -> Iterator[Daemon]:
    """A daemon that `lamina system service install` started, with a busybox image; gone at the end, unit and all."""
    daemon = Daemon(tmp_path / "d")
    daemon.root.mkdir()
    run([*script("lamina"), "system", "service", "install", "--", *daemon.command()[len(script("laminad")) :]], dict(os.environ))
    try:
        eventually(daemon.answers, "the service does not answer", seconds=120)
        daemon.docker("import", str(base), "busybox:test")
        yield daemon
    finally:
        run([*script("lamina"), "system", "service", "uninstall"], dict(os.environ), code=None)
        daemon.start().remove()


def systemctl(*words: str) -> str:
    return subprocess.run(["systemctl", *words, "lamina.service"], capture_output=True, text=True, check=False).stdout.strip()


def running(daemon: Daemon, container: str) -> bool:
    return daemon.docker("inspect", "-f", "{{.State.Running}}", container).stdout.strip() == "true"


def test_a_service_starts_again_and_its_containers_go_on(served: Daemon) -> None:
    name = served.docker("run", "-d", "busybox:test", "sh", "-c", "echo first; while sleep 0.1; do echo more; done").stdout.strip()
    pid = served.docker("inspect", "-f", "{{.State.Pid}}", name).stdout
    assert systemctl("is-active") == "active"
    for verb in (("restart",), ("kill", "--signal=KILL", "--kill-who=main")):
        before = systemctl("show", "-p", "MainPID")
        systemctl(*verb)
        eventually(
            lambda before=before: systemctl("show", "-p", "MainPID") not in (before, "MainPID=0"),
            "systemd did not start it again",
            seconds=120,
        )
        eventually(served.answers, "the service does not answer", seconds=120)
        assert running(served, name)
        assert served.docker("inspect", "-f", "{{.State.Pid}}", name).stdout == pid
    lines = len(served.docker("logs", name).stdout.splitlines())
    eventually(lambda: len(served.docker("logs", name).stdout.splitlines()) > lines, "the log stood still")
    assert served.docker("exec", name, "echo", "inside").stdout == "inside\n"
    served.docker("rm", "-f", name)


def test_stopping_the_service_leaves_containers_running_for_the_next_daemon(served: Daemon) -> None:
    name = served.docker("run", "-d", "busybox:test", "sleep", "600").stdout.strip()
    systemctl("stop")
    assert systemctl("is-active") == "inactive"
    assert not served.answers()
    systemctl("start")
    eventually(served.answers, "the service does not answer", seconds=120)
    assert running(served, name)
    served.docker("rm", "-f", name)
