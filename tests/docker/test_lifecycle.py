"""Life cycles by the real docker CLI: limits changed while running, usage, health, restarts, listings and their filters, logs, events, files."""

from __future__ import annotations

import json
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
    shown = getattr(daemon, cli)("stats", "--all", "--no-stream").stdout
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
    flags = ["--health-cmd", "echo looked; test -e /well", "--health-interval", "100ms", "--health-retries", "2", "--health-timeout", "5s"]
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
    told = [action for action in actions(daemon, name, begin) if action.startswith("health_status")]
    assert told == ["health_status: healthy", "health_status: unhealthy"]


def test_failures_while_it_starts_do_not_count_and_slow_checks_are_killed(daemon: Daemon, name: str) -> None:
    flags = ["--health-cmd", "echo begun; sleep 1000", "--health-interval", "50ms", "--health-timeout", "100ms", "--health-retries", "1",
             "--health-start-period", "1h", "--health-start-interval", "50ms"]  # fmt: skip
    daemon.docker("run", "-d", "--name", name, *NONE, *flags, BASE, "sleep", "1000")
    eventually(lambda: len(state(daemon, name)["Health"]["Log"]) >= 2, "no probe ran")
    health = state(daemon, name)["Health"]
    assert (health["Status"], health["FailingStreak"], health["Log"][0]["ExitCode"]) == ("starting", 0, -1)
    assert health["Log"][0]["Output"] == "Health check exceeded timeout (100ms): begun\n"


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
    assert [action for action in actions(daemon, name, begin) if action in ("start", "die")] == ["start", "die"] * 3
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
