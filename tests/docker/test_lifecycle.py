"""Life cycles by the real docker CLI: limits changed while running, usage, health, restarts, listings and their filters, logs, events, files."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.docker.conftest import BASE, serving
from tests.harness import Daemon, eventually

NONE = ("--network", "none")
UNIFIED = Path("/sys/fs/cgroup/cgroup.controllers").exists()


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One daemon: none of this depends on the storage driver."""
    with serving(tmp_path_factory) as daemon:
        yield daemon


def inspected(daemon: Daemon, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(daemon.docker("inspect", name).stdout)[0]
    return found


def state(daemon: Daemon, name: str) -> dict[str, Any]:
    found: dict[str, Any] = inspected(daemon, name)["State"]
    return found


def listed(daemon: Daemon, *flags: str) -> list[str]:
    """Names that `ps` shows."""
    return daemon.docker("ps", "--format", "{{.Names}}", *flags).stdout.split()


def actions(daemon: Daemon, name: str, begin: float, *flags: str) -> list[str]:
    """What the events of a container tell until now."""
    told = daemon.docker(
        "events",
        "--since",
        f"{begin:.3f}",
        "--until",
        f"{time.time() + 0.5:.3f}",
        "-f",
        f"container={name}",
        *flags,
        "--format",
        "{{.Action}}",
    )
    return told.stdout.splitlines()


def tell_so(daemon: Daemon, name: str, begin: float, *expected: str) -> None:
    """Wait until the events of a container tell just this: an event may come a moment after what is told of is seen."""
    kinds = {each.partition(":")[0] for each in expected}

    def told() -> bool:
        return [action for action in actions(daemon, name, begin) if action.partition(":")[0] in kinds] == list(expected)

    eventually(told, f"{expected} is not what events tell: {actions(daemon, name, begin)}")


# --- update, stats


@pytest.mark.covers("cli:update", "cli:update --memory", "cli:update --memory-swap", "cli:update --memory-reservation", "cli:update --cpus", "cli:update --cpu-shares",
                    "cli:update --cpuset-cpus", "cli:update --cpuset-mems", "cli:update --pids-limit", "cli:update --restart", "cli:update --blkio-weight",
                    "api:POST /containers/{id}/update")  # fmt: skip
@pytest.mark.parametrize("cli", ["docker", "lamina"])
def test_limits_change_while_it_runs(daemon: Daemon, name: str, cli: str) -> None:
    update = getattr(daemon, cli)
    daemon.docker("run", "-d", "--name", name, *NONE, "-m", "64m", BASE, "sleep", "1000")
    flags = ["-m", "128m", "--memory-swap", "192m", "--memory-reservation", "32m", "--cpus", "0.5", "-c", "512", "--cpuset-cpus", "0", "--cpuset-mems", "0",
             "--pids-limit", "30", "--restart", "on-failure:2", "--blkio-weight", "300"]  # fmt: skip
    assert update("update", *flags, name).stdout.splitlines()[0] == name
    files = "memory.max memory.swap.max cpu.max cpu.weight cpuset.cpus pids.max" if UNIFIED else (
        "memory/memory.limit_in_bytes memory/memory.memsw.limit_in_bytes cpu*/cpu.cfs_quota_us cpu*/cpu.shares cpuset/cpuset.cpus pids/pids.max"
    )  # fmt: skip
    expected = (
        [str(128 << 20), str(64 << 20), "50000 100000", "20", "0", "30"]
        if UNIFIED
        else [str(128 << 20), str(192 << 20), "50000", "512", "0", "30"]
    )
    assert daemon.docker("exec", name, "sh", "-c", f"cd /sys/fs/cgroup; cat {files}").stdout.splitlines() == expected
    host = inspected(daemon, name)["HostConfig"]
    assert (host["Memory"], host["NanoCpus"], host["RestartPolicy"]) == (
        128 << 20,
        500_000_000,
        {"Name": "on-failure", "MaximumRetryCount": 2},
    )
    refused = update("update", "-m", "1g", name, code=1).stderr
    assert "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time" in refused
    assert "Minimum memory limit allowed is 6MB" in update("update", "-m", "4m", name, code=1).stderr
    assert inspected(daemon, name)["HostConfig"] == host


@pytest.mark.covers("cli:update --cpu-period", "cli:update --cpu-quota", "cli:update --cpu-rt-period", "cli:update --cpu-rt-runtime")
def test_what_is_updated_holds_from_the_next_start_on(daemon: Daemon, name: str) -> None:
    script = "cd /sys/fs/cgroup; cat cpu.max 2>/dev/null || cat cpu*/cpu.cfs_quota_us"
    daemon.docker("create", "--name", name, *NONE, BASE, "sh", "-c", script)
    daemon.docker("update", "--cpu-period", "50000", "--cpu-quota", "20000", name)
    assert daemon.docker("start", "-a", name).stdout.split()[0] == "20000"
    assert (
        "Conflicting options: Nano CPUs cannot be updated as CPU Period has already been set"
        in daemon.docker("update", "--cpus", "1", name, code=1).stderr
    )
    longer = daemon.docker("update", "--cpu-rt-period", "10000", "--cpu-rt-runtime", "20000", name, code=1).stderr
    assert "real-time" in longer


@pytest.mark.covers(
    "cli:stats", "cli:stats --all", "cli:stats --format", "cli:stats --no-stream", "cli:stats --no-trunc", "api:GET /containers/{id}/stats"
)
@pytest.mark.parametrize("cli", ["docker", "lamina"])
def test_stats_tell_what_it_uses(daemon: Daemon, name: str, cli: str) -> None:
    identity = daemon.docker(
        "run",
        "-d",
        "--name",
        name,
        *NONE,
        "-m",
        "64m",
        "--memory-swap",
        "64m",
        "--pids-limit",
        "50",
        BASE,
        "sh",
        "-c",
        "while :; do :; done",
    ).stdout.strip()
    form = "{{.ID}} {{.Name}} {{.CPUPerc}} {{.PIDs}} {{.MemUsage}}"
    words = getattr(daemon, cli)("stats", "--no-stream", "--no-trunc", "--format", form, name).stdout.split()
    assert words[:2] == [identity, name] and float(words[2].rstrip("%")) > 1 and int(words[3]) >= 1 and words[-1] == "64MiB"
    stopped = daemon.docker("create", *NONE, BASE, "true").stdout.strip()
    done = getattr(daemon, cli)("stats", "--all", "--no-stream")
    assert done.stderr == ""
    shown = done.stdout
    daemon.docker("rm", stopped)
    assert name in shown and stopped[:12] in shown and "MEM USAGE / LIMIT" in shown
    fact = json.loads(daemon.curl(f"/containers/{name}/stats?stream=0&one-shot=1"))
    assert (
        fact["memory_stats"]["limit"] == 64 << 20
        and fact["cpu_stats"]["system_cpu_usage"] > 0
        and fact["precpu_stats"]["cpu_usage"]["total_usage"] == 0
    )
    assert "No such container" in getattr(daemon, cli)("stats", "--no-stream", "nonsense", code=1).stderr


# --- health, restarts


def test_a_check_turns_healthy_and_unhealthy_and_tells(daemon: Daemon, name: str) -> None:
    begin = time.time()
    # Failures do not count before the first success: the file may be late.
    flags = ["--health-cmd", "echo looked; test -e /well", "--health-interval", "100ms", "--health-retries", "2", "--health-timeout", "1m",
             "--health-start-period", "1h", "--health-start-interval", "100ms"]  # fmt: skip
    daemon.docker("run", "-d", "--name", name, *NONE, *flags, BASE, "sh", "-c", "touch /well; sleep 1000")
    assert state(daemon, name)["Health"]["Status"] in ("starting", "healthy")
    eventually(lambda: state(daemon, name)["Health"]["Status"] == "healthy", "it never got healthy")
    assert listed(daemon, "-f", "health=healthy") == [name]
    assert "(healthy)" in daemon.docker("ps", "--format", "{{.Status}}", "-f", f"name={name}").stdout
    daemon.docker("exec", name, "rm", "/well")
    eventually(lambda: state(daemon, name)["Health"]["Status"] == "unhealthy", "it never got unhealthy")
    health = state(daemon, name)["Health"]
    assert health["FailingStreak"] >= 2 and 2 < len(health["Log"]) <= 5
    assert (health["Log"][-1]["ExitCode"], health["Log"][-1]["Output"]) == (1, "looked\n")
    assert listed(daemon, "-f", "health=healthy") == []
    tell_so(daemon, name, begin, "health_status: healthy", "health_status: unhealthy")
    daemon.docker("exec", name, "touch", "/well")
    eventually(lambda: state(daemon, name)["Health"]["Status"] == "healthy", "it never got well again")
    daemon.docker("kill", name)
    assert state(daemon, name)["Health"]["Status"] == "unhealthy"
    assert (listed(daemon, "-a", "-f", "health=unhealthy"), listed(daemon, "-a", "-f", "health=healthy")) == ([name], [])


def test_failures_while_it_starts_do_not_count_and_slow_checks_are_killed(daemon: Daemon, name: str) -> None:
    flags = ["--health-cmd", "echo begun; sleep 1000", "--health-interval", "50ms", "--health-timeout", "1s", "--health-retries", "1",
             "--health-start-period", "1h", "--health-start-interval", "50ms"]  # fmt: skip
    daemon.docker("run", "-d", "--name", name, *NONE, *flags, BASE, "sleep", "1000")
    # On a busy machine the time is over before some have begun.
    told = "Health check exceeded timeout (1s): begun\n"
    eventually(lambda: told in [each["Output"] for each in state(daemon, name)["Health"]["Log"]], "no probe was killed")
    eventually(lambda: len(state(daemon, name)["Health"]["Log"]) >= 2, "no other probe ran")
    health = state(daemon, name)["Health"]
    assert (health["Status"], health["FailingStreak"], {each["ExitCode"] for each in health["Log"]}) == ("starting", 0, {-1})


def test_a_container_that_stops_what_checks_it_is_unhealthy(daemon: Daemon, name: str) -> None:
    """Its root may signal a check that was not executed yet, too: that is no reason to call the container what it was for ever."""
    script = 'while :; do for p in /proc/[0-9]*; do p=${p#/proc/}; [ "$p" -gt 1 ] && kill -STOP "$p"; done 2>/dev/null; done'
    check = ["--health-cmd", "true", "--health-interval", "100ms", "--health-timeout", "500ms", "--health-retries", "2"]
    daemon.docker("run", "-d", "--name", name, "--network", "none", *check, BASE, "sh", "-c", script)
    eventually(lambda: daemon.docker("inspect", "-f", "{{.State.Health.Status}}", name).stdout == "unhealthy\n", "it was not noticed")


def test_an_images_check_is_run_unless_it_is_turned_off(daemon: Daemon, name: str, tag: str, context: Path) -> None:
    (context / "Dockerfile").write_text(f'FROM {BASE}\nHEALTHCHECK --interval=100ms --retries=7 CMD ["true"]\nCMD ["sleep", "1000"]\n')
    daemon.docker("build", "-q", "-t", tag, str(context))
    daemon.docker("run", "-d", "--name", name, *NONE, "--health-timeout", "9s", tag)
    assert inspected(daemon, name)["Config"]["Healthcheck"] == {
        "Test": ["CMD", "true"],
        "Interval": 10**8,
        "Timeout": 9 * 10**9,
        "Retries": 7,
    }
    eventually(lambda: state(daemon, name)["Health"]["Status"] == "healthy", "it never got healthy")
    daemon.docker("rm", "-f", name)
    daemon.docker("run", "-d", "--name", name, *NONE, "--no-healthcheck", tag)
    assert "Health" not in state(daemon, name)


def test_policies_start_it_again_with_growing_pauses(daemon: Daemon, name: str) -> None:
    begin = time.time()
    daemon.docker("run", "-d", "--name", name, *NONE, "--restart", "on-failure:2", BASE, "sh", "-c", "exit 3")
    eventually(
        lambda: state(daemon, name)["Status"] == "exited" and inspected(daemon, name)["RestartCount"] == 2, "it was not started twice more"
    )
    assert state(daemon, name)["ExitCode"] == 3
    tell_so(daemon, name, begin, *["start", "die"] * 3)
    daemon.docker("update", "--restart", "always", name)
    daemon.docker("start", name)
    eventually(
        lambda: state(daemon, name)["Restarting"] and inspected(daemon, name)["RestartCount"] >= 3, "it never waited for its next start"
    )
    facts = inspected(daemon, name)["State"]
    assert facts["Running"] or not facts["Restarting"]
    daemon.docker("stop", name)
    assert state(daemon, name)["Status"] == "exited"
    assert "Exited (3)" in daemon.docker("ps", "-a", "--format", "{{.Status}}", "-f", f"name={name}").stdout


def test_health_and_policies_survive_the_engine(daemon: Daemon, name: str) -> None:
    health = ["--health-cmd", "true", "--health-interval", "100ms"]
    daemon.docker("run", "-d", "--name", name, *NONE, *health, "--restart", "unless-stopped", BASE, "sleep", "1000")
    daemon.docker("run", "-d", "--name", f"{name}-flaky", *NONE, "--restart", "always", BASE, "sh", "-c", "sleep 0.2; exit 1")
    daemon.docker("run", "-d", "--name", f"{name}-stopped", *NONE, "--restart", "unless-stopped", BASE, "sleep", "1000")
    daemon.docker("stop", "-t", "0", f"{name}-stopped")
    eventually(lambda: state(daemon, name)["Health"]["Status"] == "healthy", "it never got healthy")
    before, pid = len(state(daemon, name)["Health"]["Log"]), state(daemon, name)["Pid"]
    assert before
    daemon.kill()
    daemon.start()
    after = state(daemon, name)
    assert (after["Pid"], after["Health"]["Status"]) == (pid, "healthy")
    newest = after["Health"]["Log"][-1]["End"]
    eventually(lambda: state(daemon, name)["Health"]["Log"][-1]["End"] > newest, "nobody looks any more")
    eventually(lambda: inspected(daemon, f"{name}-flaky")["RestartCount"] >= 1, "nobody starts it again")
    assert state(daemon, f"{name}-stopped")["Status"] == "exited"
    daemon.docker("rm", "-f", f"{name}-flaky", f"{name}-stopped")


# --- listings, logs, files, events


@pytest.mark.covers("cli:ps --filter", "cli:ps --format", "cli:ps --last", "cli:ps --latest", "cli:ps --no-trunc", "cli:ps --size")
def test_ps_chooses_and_shows(daemon: Daemon, name: str) -> None:
    first, second = f"{name}-first", f"{name}-second"
    daemon.docker(
        "run",
        "--name",
        first,
        *NONE,
        "-l",
        "kind=first",
        "-v",
        "listed:/v",
        BASE,
        "sh",
        "-c",
        "head -c 100000 /dev/zero > /written; exit 3",
        code=3,
    )
    identity = daemon.docker(
        "run",
        "-d",
        "--name",
        second,
        "--network",
        "bridge",
        "-l",
        "kind=second",
        "--expose",
        "81",
        "-p",
        "127.0.0.1::80",
        BASE,
        "sleep",
        "1000",
    ).stdout.strip()
    port = daemon.docker("port", second, "80").stdout.strip().rpartition(":")[2]
    for filters, names in (
        (["status=exited"], [first]), (["exited=3"], [first]), (["label=kind"], [second, first]), (["label=kind=first"], [first]), ([f"name=^{first}$"], [first]),
        ([f"id={identity[:12]}"], [second]), ([f"ancestor={BASE}"], [second, first]), (["volume=listed"], [first]), (["volume=/v"], [first]),
        ([f"since={first}"], [second]), ([f"before={second}"], [first]), (["network=none"], [first]), (["network=bridge"], [second]), (["expose=81"], [second]),
        (["expose=70-90/tcp"], [second]), ([f"publish={port}"], [second]), (["publish=1"], []), (["health=none"], [second, first]), (["is-task=true"], []),
        (["status=exited", "status=running"], [second, first]), (["status=exited", "label=kind=second"], []),
    ):  # fmt: skip
        assert listed(daemon, "-a", *(word for each in filters for word in ("-f", each))) == names, filters
    assert (listed(daemon), listed(daemon, "-l"), listed(daemon, "-n", "2")) == ([second], [second], [second, first])
    assert daemon.docker("ps", "-q", "--no-trunc").stdout.strip() == identity
    shown = daemon.docker(
        "ps", "-as", "--no-trunc", "-f", f"name={first}", "--format", "table {{.ID}}\t{{.Command}}\t{{.Size}}"
    ).stdout.splitlines()
    assert shown[0].split() == ["CONTAINER", "ID", "COMMAND", "SIZE"] and "/written; exit 3" in shown[1] and "virtual" in shown[1]
    for wrong in ("status=nonsense", "health=nonsense", "exited=x", "nonsense=1", "publish=a"):
        assert "invalid filter" in daemon.docker("ps", "-f", wrong, code=1).stderr
    for words in (
        ["ps", "-a", "--format", "{{.Names}}", "-f", "label=kind"],
        ["ps", "-aq", "--no-trunc"],
        ["ps", "-n", "1", "--format", "{{.ID}}"],
    ):
        assert daemon.lamina(*words).stdout == daemon.docker(*words).stdout
    daemon.docker("rm", "-f", first, second)
    daemon.docker("volume", "rm", "listed")


@pytest.mark.covers("cli:logs --since", "cli:logs --until", "cli:logs --details")
@pytest.mark.parametrize("cli", ["docker", "lamina"])
def test_logs_between_two_moments_and_with_details(daemon: Daemon, name: str, cli: str) -> None:
    logs = getattr(daemon, cli)
    # The time of a line is that at which it is read: none is written before the one before was.
    script = "echo one; until [ -e /2 ]; do sleep 0.02; done; echo two; until [ -e /3 ]; do sleep 0.02; done; echo three"
    daemon.docker("run", "-d", "--name", name, *NONE, BASE, "sh", "-c", script)
    for number, said in ((2, "one\n"), (3, "one\ntwo\n")):
        eventually(lambda said=said: logs("logs", name).stdout == said, f"not told: {said}")
        daemon.docker("exec", name, "touch", f"/{number}")
    daemon.docker("wait", name)
    moments = [line.split()[0] for line in logs("logs", "-t", name).stdout.splitlines()]
    assert logs("logs", "--since", moments[1], name).stdout == "two\nthree\n"
    assert logs("logs", "--until", moments[1], name).stdout == "one\ntwo\n"
    assert logs("logs", "--since", moments[1], "--until", moments[1], name).stdout == "two\n"
    assert logs("logs", "-f", "--until", moments[1], "-n", "1", name).stdout in ("two\n", "")
    assert logs("logs", "--details", "--since", "1h", name).stdout.split() == ["one", "two", "three"]
    assert logs("logs", "--since", "1s", "--until", "2h", name).stdout == ""


@pytest.mark.covers("cli:cp --archive", "cli:cp --follow-link", "cli:cp --quiet")
@pytest.mark.parametrize("cli", ["docker", "lamina"])
def test_cp_keeps_owners_follows_links_and_takes_tars(daemon: Daemon, name: str, tmp_path: Path, cli: str) -> None:
    copy = getattr(daemon, cli)
    daemon.docker("create", "--name", name, *NONE, "-u", "1234:1234", BASE, "true")
    (tmp_path / "file").write_text("content\n")
    (tmp_path / "link").symlink_to("file")
    copy("cp", "-q", "-L", str(tmp_path / "link"), f"{name}:/tmp/followed")
    copy("cp", "-q", str(tmp_path / "link"), f"{name}:/tmp/link")
    copy("cp", "-q", "-a", str(tmp_path / "file"), f"{name}:/tmp/owned")
    tar = subprocess.run(["tar", "-C", str(tmp_path), "-cf", "-", "file"], capture_output=True, check=True).stdout
    copy("cp", "-", f"{name}:/root", stdin=tar)
    daemon.docker("export", "-o", str(tmp_path / "all.tar"), name)
    with tarfile.open(tmp_path / "all.tar") as whole:
        kinds = {path: whole.getmember(path) for path in ("tmp/followed", "tmp/link", "tmp/owned", "root/file")}
    assert [kinds[path].isreg() for path in ("tmp/followed", "tmp/link", "tmp/owned", "root/file")] == [True, False, True, True]
    assert kinds["tmp/owned"].uid == 1234
    (tmp_path / "out").mkdir()
    copy("cp", "-q", f"{name}:/tmp/.", str(tmp_path / "out"))
    copy("cp", "-q", "-L", f"{name}:/tmp/owned", str(tmp_path / "again"))
    assert ((tmp_path / "out/followed").read_text(), (tmp_path / "again").read_text()) == ("content\n", "content\n")


@pytest.mark.parametrize("cli", ["docker", "lamina"])
def test_cp_of_a_directory_onto_a_link_to_nothing_makes_what_it_leads_to(daemon: Daemon, name: str, tmp_path: Path, cli: str) -> None:
    copy = getattr(daemon, cli)
    daemon.docker("create", "--name", name, *NONE, BASE, "true")
    (tmp_path / "there/in").mkdir(parents=True)
    (tmp_path / "link").symlink_to("/new")
    copy("cp", "-q", str(tmp_path / "link"), f"{name}:/link")
    copy("cp", "-q", str(tmp_path / "there"), f"{name}:/link")
    assert {"A /link", "A /new", "A /new/in"} <= set(daemon.docker("diff", name).stdout.splitlines())


@pytest.mark.covers("cli:stop --signal", "cli:stop --timeout", "cli:restart --signal", "cli:restart --timeout", "cli:exec --env-file", "cli:exec --privileged",
                    "cli:inspect --size", "cli:inspect --type", "cli:container inspect", "cli:container inspect --size", "cli:container inspect --format", "cli:events --format",
                    "api:POST /containers/{id}/unpause")  # fmt: skip
def test_the_other_flags_of_a_life(daemon: Daemon, name: str, tmp_path: Path) -> None:
    begin = time.time()
    traps = "trap 'exit 5' USR1; trap '' TERM; echo ready; while :; do sleep 0.02; done"
    daemon.docker("run", "-d", "--name", name, *NONE, BASE, "sh", "-c", traps)

    def ready(times: int) -> None:
        eventually(lambda: daemon.docker("logs", name).stdout == "ready\n" * times, "its traps are not set")

    ready(1)
    (tmp_path / "env").write_text("A=from the file\n")
    assert daemon.docker("exec", "--env-file", str(tmp_path / "env"), name, "sh", "-c", "echo $A").stdout == "from the file\n"
    for run in (daemon.docker, daemon.lamina):
        assert "open /absent: no such file" in run("exec", "--env-file", "/absent", name, "true", code=1).stderr
        assert "invalid environment variable: =" in run("exec", "-e", "=", name, "true", code=125).stderr
    capabilities = [
        daemon.docker("exec", *flags, name, "grep", "CapEff", "/proc/self/status").stdout.split()[1] for flags in ([], ["--privileged"])
    ]
    assert int(capabilities[0], 16) < int(capabilities[1], 16)
    daemon.docker("pause", name)
    assert "is paused" in daemon.docker("exec", name, "true", code=1).stderr
    daemon.docker("unpause", name)
    daemon.docker("restart", "-t", "60", "-s", "USR1", name)
    ready(2)
    daemon.docker("stop", "-t", "0", name)
    assert state(daemon, name)["ExitCode"] == 137
    daemon.docker("start", name)
    ready(3)
    daemon.docker("stop", "--signal", "USR1", "--timeout", "60", name)
    assert daemon.docker("inspect", "-f", "{{.State.ExitCode}} {{.State.Status}}", name).stdout == "5 exited\n"
    assert "SizeRootFs" in json.loads(daemon.docker("inspect", "-s", "--type", "container", name).stdout)[0]
    assert daemon.docker("container", "inspect", "-s", "-f", "{{.SizeRw}}", name).stdout.strip().isdigit()
    assert "no such image" in daemon.docker("inspect", "--type", "image", name, code=1).stderr.lower()
    told = actions(daemon, name, begin)
    kept = [action for action in told if action in ("create", "start", "pause", "unpause", "kill", "die", "stop", "restart")]
    assert kept == [
        "create",
        "start",
        "pause",
        "unpause",
        "kill",
        "die",
        "stop",
        "start",
        "restart",
        "kill",
        "kill",
        "die",
        "stop",
        "start",
        "kill",
        "die",
        "stop",
    ]
    line = daemon.docker(
        "events",
        "--since",
        f"{begin:.3f}",
        "--until",
        f"{time.time():.3f}",
        "-f",
        f"container={name}",
        "-f",
        "event=die",
        "--format",
        "{{json .}}",
    ).stdout.splitlines()[0]
    assert json.loads(line)["Actor"]["Attributes"]["exitCode"] == "5"


@pytest.mark.covers("cli:container prune", "cli:container prune --filter", "cli:container prune --force", "api:POST /containers/prune")
@pytest.mark.parametrize("cli", ["docker", "lamina"])
def test_prune_removes_what_ended_and_the_filters_let_through(daemon: Daemon, name: str, cli: str) -> None:
    prune = getattr(daemon, cli)
    daemon.docker("create", "--name", name, *NONE, "-l", "prune=me", BASE, "true")
    daemon.docker("create", "--name", f"{name}-kept", *NONE, "-l", "prune=not", BASE, "true")
    identity = inspected(daemon, name)["Id"]
    assert identity not in prune("container", "prune", "-f", "--filter", "label=nothing").stdout
    assert identity not in prune("container", "prune", "-f", "--filter", "until=24h").stdout
    assert identity in prune("container", "prune", "--force", "--filter", "label=prune=me", "--filter", "label!=prune=not").stdout
    assert listed(daemon, "-a", "-f", "label=prune") == [f"{name}-kept"]
    daemon.docker("rm", f"{name}-kept")


def test_the_working_directory_of_a_container_that_never_ran_is_there(daemon: Daemon, name: str, tmp_path: Path) -> None:
    daemon.docker("create", "--name", name, "-w", "/home/foo/bar", *NONE, BASE, "cat", "/home/foo/bar/file")
    daemon.docker("cp", f"{name}:/home/foo", str(tmp_path))
    assert [path.name for path in (tmp_path / "foo").iterdir()] == ["bar"]
    (tmp_path / "file").write_text("copied\n")
    daemon.docker("cp", str(tmp_path / "file"), f"{name}:/home/foo/bar/")
    assert daemon.docker("start", "-a", name).stdout == "copied\n"


def test_a_container_that_never_ran_is_read_changed_and_committed(daemon: Daemon, name: str, tag: str, tmp_path: Path) -> None:
    daemon.docker("create", "--name", f"{name}-old", *NONE, BASE, "cat", "/put")
    daemon.docker("rename", f"{name}-old", name)
    (tmp_path / "put").write_text("put before it ran\n")
    daemon.docker("cp", "-q", str(tmp_path / "put"), f"{name}:/put")
    assert daemon.docker("diff", name).stdout == "A /put\n"
    daemon.docker("commit", name, tag)
    daemon.docker("export", "-o", str(tmp_path / "x.tar"), name)
    with tarfile.open(tmp_path / "x.tar") as whole:
        assert "put" in whole.getnames()
    assert daemon.docker("run", "--rm", *NONE, tag).stdout == "put before it ran\n"
    assert daemon.docker("wait", name).stdout == "0\n"
    assert daemon.docker("start", "-a", name).stdout == "put before it ran\n"


# --- the sequence of a start


def test_each_step_of_a_start_is_seen(daemon: Daemon, name: str) -> None:
    daemon.docker(
        "run", "-d", "--name", name, *NONE, "--hostname", "host", "-e", "A=b", BASE, "sh", "-c", "echo mine > /written; sleep 1000"
    )
    facts = inspected(daemon, name)
    kernel, layers, init, writable, command = facts["Lamina"]["StartSequence"]
    image = json.loads(daemon.docker("image", "inspect", BASE).stdout)[0]
    assert kernel["Kernel"] == os.uname().release
    assert [layer["DiffID"] for layer in layers["Layers"]] == image["RootFS"]["Layers"]
    assert (init["Parent"], writable["Parent"], facts["Lamina"]["WritableLayer"]) == (
        layers["Layers"][-1]["ID"],
        init["ID"],
        writable["ID"],
    )
    assert "/.dockerenv" in init["Files"] and "A=b" in init["Environment"]
    assert Path(init["Mounted"]["/etc/hostname"]).read_text() == "host\n"
    assert command["Args"][0] == "sh" and command["Pid"] == facts["State"]["Pid"]
    paths = json.loads(daemon.curl(f"/lamina/containers/{name}/paths"))
    assert (paths["init"], paths["diff"]) == (init["Path"], writable["Path"]) and all(map(os.path.exists, paths.values()))
    written = Path(writable["Path"], "written")
    eventually(lambda: written.exists() and written.read_text(), "what it wrote is not on the host")
    daemon.docker("kill", name)
    assert written.read_text() == "mine\n"
    again = inspected(daemon, name)["Lamina"]
    assert again["WritableLayer"] == writable["ID"] and json.loads(daemon.lamina("inspect", name).stdout)[0]["Lamina"] == again


# --- what is refused


@pytest.mark.covers("cli:rm --link", "cli:start --checkpoint", "cli:start --checkpoint-dir")
def test_what_docker_refuses_too_leaves_the_container_alone(daemon: Daemon, name: str) -> None:
    daemon.docker("create", "--name", name, *NONE, BASE, "true")
    assert "cannot remove the default link name of the container" in daemon.docker("rm", "--link", name, code=1).stderr
    for flags in (["--checkpoint", "c"], ["--checkpoint-dir", "/d"]):
        assert "experimental" in daemon.docker("start", *flags, name, code=1).stderr
    assert "experimental" in daemon.lamina("start", "--checkpoint", "c", name, code=1).stderr
    assert state(daemon, name)["Status"] == "created"
    assert "unknown or invalid runtime name" in daemon.docker("create", "--runtime", "/nonexistent/runtime", BASE, "true", code=1).stderr
    assert daemon.docker("volume", "ls", "-q").stdout == ""


@pytest.mark.covers("cli:exec --workdir")
def test_exec_makes_no_directory_to_work_in(daemon: Daemon, name: str) -> None:
    daemon.docker("run", "-d", "--name", name, "--network", "none", "-w", "/made/by/run", BASE, "sleep", "100")
    assert daemon.docker("exec", name, "pwd").stdout == "/made/by/run\n"
    for run in (daemon.docker, daemon.lamina):
        assert (
            'chdir to cwd ("/absent") set in config.json failed: no such file or directory'
            in run("exec", "-w", "/absent", name, "pwd", code=126).stderr
        )
    assert daemon.docker("exec", name, "test", "-e", "/absent", code=1).stdout == ""
