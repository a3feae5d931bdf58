"""Other OCI runtimes by the real docker CLI: chosen for a container, listed, refused; and containers of theirs over a daemon's death."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lamina.runtime.interpreter import SOURCE
from tests.docker.conftest import BASE, serving
from tests.harness import Daemon, eventually


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This checkout's command line, as a program somewhere."""
    script = tmp_path_factory.mktemp("program") / "own-runtime"
    script.write_text(f'#!/bin/sh\nPYTHONPATH={SOURCE} exec {sys.executable} -m lamina.runtime.cli "$@"\n')
    script.chmod(0o755)
    return script


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, own: Path) -> Iterator[Daemon]:
    """One daemon that knows a runtime by a name."""
    with serving(tmp_path_factory, options=["--add-runtime", f"own={own}"]) as daemon:
        yield daemon


@pytest.fixture(params=["own", "path", pytest.param("runc", marks=pytest.mark.peer)])
def runtime(request: pytest.FixtureRequest, own: Path) -> str:
    """What --runtime is given."""
    if request.param == "runc" and not shutil.which("runc"):
        pytest.skip("runc is not installed")
    return str(own) if request.param == "path" else str(request.param)


@pytest.mark.covers("cli:run --runtime", "cli:create --runtime")
def test_a_container_lives_its_whole_life_under_another_runtime(daemon: Daemon, name: str, runtime: str) -> None:
    done = daemon.docker(
        "run", "--rm", "--runtime", runtime, BASE, "sh", "-c", "echo out; ip addr show eth0 | grep -c 'inet '; exit 6", code=6
    )
    assert done.stdout == "out\n1\n"
    daemon.docker("create", "--runtime", runtime, "--name", name, BASE, "sh", "-c", "echo began; sleep 600")
    daemon.docker("start", name)
    assert json.loads(daemon.docker("inspect", name).stdout)[0]["HostConfig"]["Runtime"] == runtime
    assert daemon.docker("exec", name, "sh", "-c", "echo in; exit 4", code=4).stdout == "in\n"
    daemon.docker("exec", name, "nosuch", code=127)
    daemon.docker("pause", name)
    daemon.docker("unpause", name)
    daemon.docker("update", "--pids-limit", "50", name)
    assert "sleep" in daemon.docker("top", name).stdout
    assert daemon.docker("stats", "--no-stream", "--format", "{{.PIDs}}", name).stdout.strip() not in ("", "0")
    daemon.kill()
    daemon.start()
    assert daemon.docker("exec", name, "echo", "still").stdout == "still\n"
    assert daemon.docker("logs", name).stdout == "began\n"
    daemon.docker("restart", "-t", "0", name)
    eventually(lambda: daemon.docker("logs", name).stdout == "began\nbegan\n", "it began again")
    daemon.docker("kill", name)
    assert daemon.docker("wait", name).stdout == "137\n"
    daemon.docker("rm", name)
    assert not list(Path("/sys/fs/cgroup").glob(f"*/lamina/{name}*"))


def test_runtimes_are_listed_and_unknown_ones_refused_in_dockers_words(daemon: Daemon, own: Path) -> None:
    found = json.loads(daemon.docker("info", "--format", "{{json .Runtimes}}").stdout)
    assert found["own"]["path"] == str(own) and "lamina" in found
    assert daemon.docker("info", "--format", "{{.DefaultRuntime}}").stdout == "lamina\n"
    done = daemon.docker("run", "--rm", "--runtime", "nosuch", BASE, "true", code=125)
    assert "unknown or invalid runtime name: nosuch" in done.stderr
    assert daemon.docker("ps", "-aq", "--filter", "status=created").stdout == ""


def test_the_default_runtime_is_a_setting(tmp_path_factory: pytest.TempPathFactory, own: Path) -> None:
    with serving(tmp_path_factory, options=["--add-runtime", f"own={own}", "--default-runtime", "own"]) as daemon:
        assert daemon.docker("info", "--format", "{{.DefaultRuntime}}").stdout == "own\n"
        assert daemon.docker("run", "--name", "default", BASE, "echo", "hi").stdout == "hi\n"
        assert daemon.docker("inspect", "--format", "{{.HostConfig.Runtime}}", "default").stdout == "own\n"
        assert daemon.docker("run", "--rm", "--runtime", "lamina", BASE, "echo", "embedded").stdout == "embedded\n"
