"""`lamina-runtime`, the OCI command line: by itself, and under podman."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import eventually
from lamina.runtime import bundle, cli
from lamina.runtime.interpreter import SOURCE

pytestmark = pytest.mark.root


class Runtime:
    """The command on a root of its own, and one bundle."""

    def __init__(self, root: Path, image: Path) -> None:
        self.root, self.bundle = root / "state", root / "bundle"
        shutil.copytree(image, self.bundle / "rootfs", symlinks=True)

    def write(self, *args: str, **changes: Any) -> None:
        """The bundle's config.json."""
        spec = bundle.default_spec(
            args=args, hostname="box", cgroup_path=f"/lamina-test/cli-{os.getpid()}", security=["apparmor=unconfined"], **changes
        )
        (self.bundle / "config.json").write_text(json.dumps(spec))

    def __call__(self, *arguments: str, code: int = 0, stdout: Any = subprocess.PIPE) -> str:
        command = [sys.executable, "-m", "lamina.runtime.cli", "--root", str(self.root), *arguments]
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE if stdout == subprocess.PIPE else subprocess.STDOUT,
            text=True,
            check=False,
            timeout=60,
            env={**os.environ, "PYTHONPATH": SOURCE},
        )
        assert done.returncode == code, done.stderr
        return (done.stdout or "") + (done.stderr or "")

    def state(self, name: str) -> dict[str, Any]:
        return dict(json.loads(self("state", name)))


@pytest.fixture
def oci(tmp_path: Path, image: Path) -> Iterator[Runtime]:
    runtime = Runtime(tmp_path, image)
    yield runtime
    for found in runtime.root.iterdir() if runtime.root.exists() else []:
        if found.is_dir():
            runtime("delete", "--force", found.name)


def test_run_waits_and_gives_the_exit_code(oci: Runtime) -> None:
    oci.write("sh", "-c", "hostname; exit 7")
    assert oci("run", "-b", str(oci.bundle), "x", code=7) == "box\n"
    assert oci("list", "-f", "json") == "[]\n"


def test_the_life_of_a_container(oci: Runtime, tmp_path: Path) -> None:
    oci.write("sh", "-c", "echo started; sleep 100")
    with open(tmp_path / "out", "w") as out:
        oci("create", "-b", str(oci.bundle), "--pid-file", str(tmp_path / "pid"), "x", stdout=out)
    state = oci.state("x")
    assert state["status"] == "created" and state["pid"] == int((tmp_path / "pid").read_text())
    assert state["bundle"] == str(oci.bundle) and state["ociVersion"] == "1.1.0" and state["id"] == "x"
    assert (tmp_path / "out").read_text() == ""
    oci("create", "-b", str(oci.bundle), "x", code=1)
    oci("start", "x")
    eventually(lambda: (tmp_path / "out").read_text() == "started\n")
    assert oci.state("x")["status"] == "running"
    assert "not created" in oci("start", "x", code=1)
    assert oci("exec", "x", "sh", "-c", "id -u; exit 3", code=3) == "0\n"
    oci("pause", "x")
    assert oci.state("x")["status"] == "paused"
    oci("resume", "x")
    assert "is running" in oci("delete", "x", code=1)
    oci("kill", "x", "KILL")
    eventually(lambda: oci.state("x")["status"] == "stopped")
    assert "not running" in oci("kill", "x", "KILL", code=1)
    oci("delete", "x")
    assert "does not exist" in oci("state", "x", code=1)


def test_a_created_container_can_be_deleted(oci: Runtime) -> None:
    oci.write("true")
    oci("create", "-b", str(oci.bundle), "x", stdout=subprocess.DEVNULL)
    oci("delete", "x")
    assert not (oci.root / "x").exists()


@pytest.mark.parametrize(("command", "code"), [("nosuch", 127), ("/bin", 126)])
def test_what_cannot_run_leaves_nothing(oci: Runtime, command: str, code: int) -> None:
    oci.write(command)
    oci("run", "-b", str(oci.bundle), "x", code=code)
    assert not (oci.root / "x").exists()
    assert not list(Path("/sys/fs/cgroup").glob(f"*/lamina-test/cli-{os.getpid()}"))


def test_errors_are_logged_as_json(oci: Runtime, tmp_path: Path) -> None:
    oci("--log", str(tmp_path / "log"), "--log-format", "json", "state", "nosuch", code=1)
    assert json.loads((tmp_path / "log").read_text())["msg"] == "container nosuch does not exist"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"process": {}, "root": 3}'])
def test_a_bundle_that_is_none_is_refused(oci: Runtime, text: str) -> None:
    (oci.bundle / "config.json").write_text(text)
    assert "config.json" in oci("create", "-b", str(oci.bundle), "x", code=1)


def test_hooks_run_before_and_after(oci: Runtime, tmp_path: Path) -> None:
    oci.write("true")
    spec = json.loads((oci.bundle / "config.json").read_text())
    hook = lambda name: [{"path": "/bin/sh", "args": ["sh", "-c", f"cat > {tmp_path}/{name}"]}]  # noqa: E731
    spec["hooks"] = {"createRuntime": hook("before"), "poststart": hook("started"), "poststop": hook("after")}
    (oci.bundle / "config.json").write_text(json.dumps(spec))
    oci("create", "-b", str(oci.bundle), "x", stdout=subprocess.DEVNULL)
    assert json.loads((tmp_path / "before").read_text())["pid"] == oci.state("x")["pid"]
    oci("start", "x")
    assert (tmp_path / "started").exists()
    eventually(lambda: oci.state("x")["status"] == "stopped")
    oci("delete", "x")
    assert json.loads((tmp_path / "after").read_text())["id"] == "x"


@pytest.mark.parametrize("code", [0, 3])
def test_a_hook_inside_runs_right_before_the_command(oci: Runtime, code: int) -> None:
    oci.write("sh", "-c", "cat /said; echo command")
    spec = json.loads((oci.bundle / "config.json").read_text())
    spec["hooks"] = {
        "startContainer": [
            {"path": "/bin/sh", "args": ["sh", "-c", f"cat > /said; echo hook $X; exit {code}"], "env": ["X=y", "PATH=/bin"]}
        ]
    }
    (oci.bundle / "config.json").write_text(json.dumps(spec))
    said = oci("run", "-b", str(oci.bundle), "x", code=1 if code else 0)
    state = json.loads((oci.bundle / "rootfs/said").read_text())
    assert (state["id"], state["pid"]) == ("x", 1) and said.startswith("hook y\n")
    assert ("command" in said) == (not code) and ("hook /bin/sh failed with code 3" in said) == bool(code)


def test_a_hook_that_fails_stops_it(oci: Runtime) -> None:
    oci.write("true")
    spec = json.loads((oci.bundle / "config.json").read_text())
    spec["hooks"] = {"prestart": [{"path": "/bin/false"}]}
    (oci.bundle / "config.json").write_text(json.dumps(spec))
    assert "hook /bin/false failed" in oci("create", "-b", str(oci.bundle), "x", code=1)
    assert not (oci.root / "x").exists()


def test_the_path_that_systemd_would_use() -> None:
    assert cli._cgroup_path("machine-a.slice:libpod:abc", "x") == "/machine.slice/machine-a.slice/libpod-abc.scope"
    assert cli._cgroup_path("", "x") == "/x" and cli._cgroup_path("a/b", "x") == "/a/b"


def test_the_programs_own_interpreter_cannot_be_reached(oci: Runtime) -> None:
    (oci.bundle / "rootfs/escape").write_text("#!/proc/self/exe\n")
    (oci.bundle / "rootfs/escape").chmod(0o755)
    oci.write("/escape")
    done = subprocess.run(
        [sys.executable, "-m", "lamina.runtime.cli", "--root", str(oci.root), "run", "-b", str(oci.bundle), "x"],
        stdin=subprocess.DEVNULL, capture_output=True, check=False, env={**os.environ, "PYTHONPATH": SOURCE},
    )  # fmt: skip
    assert done.returncode != 0


@pytest.fixture
def podman(tmp_path: Path) -> Iterator[Callable[..., tuple[int, str]]]:
    short = Path(tempfile.mkdtemp(prefix="podman"))  # its sockets' names must stay below 108 bytes
    script = tmp_path / "lamina-runtime"
    script.write_text(f'#!/bin/sh\nPYTHONPATH={SOURCE} exec {sys.executable} -m lamina.runtime.cli "$@"\n')
    script.chmod(0o755)
    places = [f"--{option}={short}/{option}" for option in ("root", "runroot", "tmpdir")]
    options = [*places, f"--runtime={script}", "--cgroup-manager=cgroupfs", "--events-backend=file", "--storage-driver=vfs"]

    def run(*arguments: str) -> tuple[int, str]:
        done = subprocess.run(
            ["podman", *options, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=90
        )
        return done.returncode, done.stdout

    yield run
    run("rm", "--all", "--force", "--time", "0")
    shutil.rmtree(short, ignore_errors=True)


@pytest.mark.peer
@pytest.mark.skipif(not shutil.which("podman"), reason="podman is not installed")
def test_podman_runs_on_it(podman: Callable[..., tuple[int, str]], image: Path, tmp_path: Path) -> None:
    root = tmp_path / "podman-rootfs"
    shutil.copytree(image, root, symlinks=True)
    run = ("run", "--network=none")
    assert podman(*run, "--rm", "--rootfs", str(root), "sh", "-c", "echo hi; exit 5") == (5, "hi\n")
    assert podman(*run, "--rm", "-t", "--rootfs", str(root), "tty") == (0, "/dev/pts/0\n")
    assert podman(*run, "--rm", "--rootfs", str(root), "nosuch")[0] == 127
    assert podman(*run, "-d", "--name=box", "--rootfs", str(root), "sleep", "100")[0] == 0
    assert podman("exec", "box", "sh", "-c", "echo in; exit 3") == (3, "in\n")
    assert podman("pause", "box")[0] == 0
    assert podman("inspect", "-f", "{{.State.Status}} {{.OCIRuntime}}", "box")[1].startswith("paused ")
    assert podman("unpause", "box")[0] == 0
    assert "sleep" in podman("top", "box", "args")[1]
    assert podman("kill", "box")[0] == 0
    assert podman("wait", "box") == (0, "137\n")
    assert podman("start", "box")[0] == 0
    assert podman("rm", "--force", "--time", "0", "box")[0] == 0
    assert podman("ps", "--all", "--quiet") == (0, "")
