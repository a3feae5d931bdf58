"""Snapshots by Lamina's own CLI, and across restarts of the daemon."""

from __future__ import annotations

import json
import re
import subprocess

from tests.harness import Daemon, eventually, script
from tests.system.conftest import BASE

NONE = ("--network", "none")


def test_snapshots_are_taken_listed_compared_and_gone_back_to(daemon: Daemon) -> None:
    daemon.lamina(
        "run", "--name", "desk", *NONE, BASE, "sh", "-c", "date +%s%N >> /log; wc -l < /log > /lines; cat /lines; rm -f /etc/group"
    )
    assert daemon.lamina("snapshot", "create", "desk", "clean").stdout == "clean\n"
    assert daemon.lamina("start", "-a", "desk").stdout == "2\n"
    assert daemon.lamina("snapshot", "create", "desk").stdout == "2\n"
    assert daemon.lamina("start", "-a", "desk").stdout == "3\n"
    rows = [json.loads(line) for line in daemon.lamina("snapshot", "ls", "--format", "json", "desk").stdout.splitlines()]
    assert [(row["Name"], row["InUse"]) for row in rows] == [("clean", "yes"), ("2", "yes")]
    assert "/log" in daemon.lamina("snapshot", "diff", "desk", "clean", "2").stdout
    assert "/log" in daemon.lamina("snapshot", "diff", "desk", "2").stdout
    assert "C /etc" in daemon.lamina("diff", "desk").stdout and "D /etc/group" in daemon.lamina("diff", "desk").stdout
    assert "snapshot clean of desk" in daemon.lamina("layers", "desk").stdout
    assert "snapshot clean of desk" in daemon.lamina("which", "desk@clean", "/lines").stdout
    told = daemon.lamina("which", "desk", "/lines").stdout
    assert told.index("container desk") < told.index("snapshot 2 of desk") < told.index("snapshot clean of desk")
    assert "snapshot clean of desk" in daemon.lamina("which", "desk", "/etc/group", code=1).stderr
    assert "layer 0" in daemon.lamina("which", "desk", "/bin/busybox").stdout
    assert daemon.lamina("rollback", "desk", "clean").stdout == "desk\n"
    assert daemon.lamina("start", "-a", "desk").stdout == "2\n"
    assert daemon.lamina("run", "--rm", *NONE, "desk@clean", "cat", "/lines").stdout == "1\n"
    daemon.lamina("commit", "desk@2", "desk:two")
    assert daemon.lamina("cat", "desk:two:/lines").stdout == "2\n"
    assert "no such snapshot of desk: nothing" in daemon.lamina("rollback", "desk", "nothing", code=1).stderr
    assert "no such snapshot" in daemon.lamina("run", "--rm", *NONE, "desk@nothing", "true", code=125).stderr
    assert "already" in daemon.lamina("snapshot", "create", "desk", "clean", code=1).stderr
    daemon.lamina("snapshot", "rm", "desk", "2")
    daemon.lamina("rm", "desk")
    daemon.lamina("rmi", "desk:two")


def test_the_image_below_a_snapshot_may_be_removed_and_that_is_said(daemon: Daemon) -> None:
    daemon.lamina("run", "--name", "first", *NONE, BASE, "touch", "/first")
    daemon.lamina("commit", "first", "desk:gone")
    daemon.lamina("run", "--name", "desk", *NONE, "desk:gone", "touch", "/x")
    daemon.lamina("snapshot", "create", "desk", "one")
    daemon.lamina("create", "--name", "other", *NONE, "desk@one", "true")
    shown = ("ps", "-a", "--filter", "name=desk", "--filter", "name=other", "--format", "{{.Names}} {{.Image}}")
    assert daemon.docker(*shown).stdout.splitlines() == ["other desk@one", "desk desk:gone"]
    image = daemon.docker("inspect", "-f", "{{.Image}}", "desk").stdout.strip()
    daemon.lamina("rmi", "-f", "desk:gone")
    assert daemon.docker(*shown).stdout.splitlines() == ["other desk@one", f"desk {image[7:19]}"]
    told = daemon.lamina("run", "--rm", *NONE, "desk@one", "true", code=125).stderr
    assert told == f"lamina: the image that snapshot one stands on was removed: {image}\n"
    daemon.lamina("rm", "desk", "other", "first")


def test_snapshots_are_there_after_a_daemon_that_was_killed(daemon: Daemon) -> None:
    daemon.lamina("run", "-d", "--name", "long", *NONE, BASE, "sh", "-c", "echo one > /word; echo ready; sleep 1000")
    eventually(lambda: daemon.docker("logs", "long").stdout == "ready\n", "it does not begin")
    daemon.lamina("snapshot", "create", "long", "running")
    daemon.kill()
    daemon.start()
    assert daemon.lamina("snapshot", "ls", "-q", "long").stdout == "running\n"
    daemon.docker("exec", "long", "sh", "-c", "echo two > /word")
    daemon.docker("kill", "long")
    daemon.lamina("rollback", "long", "running")
    daemon.kill()
    daemon.start()
    assert daemon.docker("export", "long").stdout.count("one\n") == 1
    daemon.docker("rm", "long")


def test_watch_shows_changes_as_they_happen(daemon: Daemon) -> None:
    daemon.lamina("run", "-d", "--name", "seen", *NONE, BASE, "sh", "-c", "echo a > /first; touch /ready; sleep 1000")
    eventually(lambda: "A /ready" in daemon.docker("diff", "seen").stdout, "it does not begin")
    with subprocess.Popen(
        [*script("lamina"), "watch", "--all", "seen"], env=daemon.environment(), stdout=subprocess.PIPE, text=True
    ) as watching:  # fmt: skip
        assert watching.stdout is not None
        lines = iter(watching.stdout)
        while next(lines) != "A /ready\n":
            pass
        daemon.docker("exec", "seen", "sh", "-c", "echo x >> /etc/passwd; rm /etc/group; touch /zz")
        told: list[str] = []
        while "A /zz\n" not in told:
            told.append(next(lines))
        assert any(line.startswith("M /etc/passwd  copied up from layer 0") for line in told)
        assert all(re.match("[AMD] /", line) for line in told), told
        assert any(line.startswith("D /etc/group  hides that of layer 0") for line in told)
        daemon.docker("rm", "-f", "seen")
        assert watching.wait(120) == 0
    assert "No such container" in daemon.lamina("watch", "seen", code=1).stderr
