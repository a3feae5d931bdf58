"""`rmi` as Docker's: what goes, what stays and why, by both CLIs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.docker.conftest import BASE
from tests.harness import Daemon

Run = Callable[..., CompletedProcess[str]]


@pytest.fixture(params=["docker", "lamina"])
def run(daemon: Daemon, request: pytest.FixtureRequest) -> Iterator[Run]:
    """One of the two CLIs; nothing but the base is left afterwards."""
    yield daemon.docker if request.param == "docker" else daemon.lamina
    daemon.docker("rm", "-f", *daemon.docker("ps", "-aq").stdout.split(), code=None)
    keep = daemon.docker("images", "-q", BASE).stdout.strip()
    made = [identity for identity in daemon.docker("images", "-q").stdout.split() if identity != keep]
    if made:
        daemon.docker("rmi", "-f", *made)


def build(daemon: Daemon, context: Path, tag: str, *lines: str) -> str:
    """An image of these lines on the base; its ID."""
    (context / "Dockerfile").write_text("\n".join([f"FROM {BASE}", *lines, ""]))
    return daemon.docker("build", "-q", "--no-cache", "-t", tag, str(context)).stdout.strip()


def every(daemon: Daemon) -> list[str]:
    return daemon.docker("images", "-aq", "--no-trunc").stdout.split()


def test_a_blank_name_is_refused(run: Run) -> None:
    assert "image name cannot be blank" in run("rmi", " ", code=1).stderr


@pytest.mark.covers("cli:rmi", "cli:rmi --no-prune")
def test_steps_of_the_build_go_too_unless_no_prune(daemon: Daemon, run: Run, context: Path) -> None:
    before = every(daemon)
    build(daemon, context, "pruned:1", "RUN echo a > /a", "RUN echo b > /b")
    assert len(every(daemon)) == len(before) + 2
    out = run("rmi", "pruned:1").stdout
    assert out.count("Deleted: ") == 4
    assert sorted(every(daemon)) == sorted(before)
    build(daemon, context, "pruned:1", "RUN echo a > /a", "RUN echo b > /b")
    assert run("rmi", "--no-prune", "pruned:1").stdout.count("Deleted: ") == 2
    left = [identity for identity in every(daemon) if identity not in before]
    assert len(left) == 1
    run("rmi", left[0])


@pytest.mark.covers("cli:rmi", "cli:rmi --force")
def test_several_are_removed_one_by_one_and_one_failure_is_exit_code_1(daemon: Daemon, run: Run, context: Path) -> None:
    build(daemon, context, "many:1", "LABEL n=1")
    build(daemon, context, "many:2", "LABEL n=2")
    done = run("rmi", "many:1", "not/here:1", "many:2", code=1)
    assert done.stdout.count("Untagged: ") == 2
    assert "no such image: not/here:1" in done.stderr.lower()
    assert len(done.stderr.strip().splitlines()) == 1
    # what is not there is removed already, if one insists
    assert run("rmi", "-f", "not/here:1", code=0).stdout == ""


@pytest.mark.covers("cli:rmi --force")
def test_ids_may_be_repeated_when_forced(daemon: Daemon, run: Run, context: Path) -> None:
    identity = build(daemon, context, "twice:1", "LABEL n=1")
    daemon.docker("tag", "twice:1", "twice:2")
    daemon.docker("tag", "twice:1", "other/twice:1")
    listed = [line for line in daemon.lamina("images", "-q", "--no-trunc").stdout.split() if line == identity]
    assert len(listed) == 3
    done = run("rmi", "-f", *listed, code=0)
    assert done.stdout.count("Untagged: ") == 3
    assert identity not in every(daemon)


@pytest.mark.covers("cli:rmi --force")
def test_force_takes_an_image_from_under_a_stopped_container_which_still_starts(daemon: Daemon, run: Run, context: Path) -> None:
    identity = build(daemon, context, "stopped:1", 'CMD ["echo", "still here"]')
    daemon.docker("create", "--name", "stopped", "--network", "none", "stopped:1")
    for text in ("stopped:1", identity[7:19]):
        assert ("must" in (refused := run("rmi", text, code=1).stderr) and "be forced" in refused) or "must force" in refused
    assert f"Deleted: {identity}" in run("rmi", "-f", "stopped:1").stdout
    assert daemon.docker("start", "-a", "stopped").stdout == "still here\n"
    assert identity in daemon.docker("inspect", "-f", "{{.Image}}", "stopped").stdout


@pytest.mark.covers("cli:rmi --force")
def test_force_under_a_running_container_only_takes_the_name(daemon: Daemon, run: Run, context: Path) -> None:
    identity = build(daemon, context, "runs:1", 'CMD ["sleep", "1000"]')
    container = daemon.docker("run", "-d", "--network", "none", "runs:1").stdout.strip()
    refused = run("rmi", "-f", identity[7:19], code=1)
    assert f"(cannot be forced) - image is being used by running container {container[:12]}" in refused.stderr
    assert run("rmi", "-f", "runs:1").stdout == "Untagged: runs:1\n"
    assert identity in daemon.docker("images", "-q", "--no-trunc", "-f", "dangling=true").stdout.split()


def test_the_base_of_a_build_only_loses_its_name(daemon: Daemon, run: Run, context: Path) -> None:
    base = build(daemon, context, "parent:1", "LABEL n=parent")
    (context / "Dockerfile").write_text("FROM parent:1\nLABEL n=child\n")
    child = daemon.docker("build", "-q", "-t", "child:1", str(context)).stdout.strip()
    assert "image has dependent child images" in run("rmi", base[7:19], code=1).stderr
    assert run("rmi", "parent:1").stdout == "Untagged: parent:1\n"
    removed = run("rmi", "child:1").stdout
    assert f"Deleted: {child}" in removed
    assert f"Deleted: {base}" in removed
