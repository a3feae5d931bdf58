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
from lamina.runtime.launch import Limits

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
            timeout=300,
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


@pytest.mark.parametrize("words", [("kill", "x", "KILL"), ("kill", "--all", "x", "KILL"), ("delete", "--force", "x")], ids=" ".join)
def test_a_paused_container_that_is_killed_dies(oci: Runtime, words: tuple[str, ...]) -> None:
    oci.write("sleep", "1000")
    oci("create", "-b", str(oci.bundle), "x", stdout=subprocess.DEVNULL)
    oci("start", "x")
    oci("pause", "x")
    pid = oci.state("x")["pid"]
    oci(*words)
    eventually(lambda: not Path(f"/proc/{pid}").exists() or b"Z" in Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[:1])
    if words[0] == "kill":
        oci("delete", "x")


def test_what_keeps_a_created_container_from_executing_is_told_whatever_its_limits(oci: Runtime) -> None:
    oci.write("/bin/held", limits=Limits(rlimits={"nofile": (4, 4)}))
    shutil.copy(oci.bundle / "rootfs/bin/busybox", oci.bundle / "rootfs/bin/held")
    oci("create", "-b", str(oci.bundle), "x", stdout=subprocess.DEVNULL)
    (oci.bundle / "rootfs/bin/held").chmod(0o644)
    assert "Permission denied" in oci("start", "x", code=1)


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


@pytest.mark.parametrize("flag", ["--console-socket", "--pid-file"])
def test_what_cannot_be_handed_over_leaves_nothing(oci: Runtime, flag: str, tmp_path: Path) -> None:
    oci.write("sleep", "1000")
    spec = json.loads((oci.bundle / "config.json").read_text())
    spec["process"]["terminal"] = True
    (oci.bundle / "config.json").write_text(json.dumps(spec))
    said = oci("create", "-b", str(oci.bundle), flag, f"{tmp_path}/none/x", "x", code=1)
    assert said.startswith(f"lamina-runtime: {tmp_path}/none/x") and said.count("\n") == 1
    assert not (oci.root / "x").exists()
    assert not list(Path("/sys/fs/cgroup").glob(f"*/lamina-test/cli-{os.getpid()}"))


def test_a_log_out_of_reach_is_one_line_more(oci: Runtime, tmp_path: Path) -> None:
    said = oci("--log", f"{tmp_path}/none/log", "state", "x", code=1)
    assert said == f"lamina-runtime: container x does not exist\nlamina-runtime: {tmp_path}/none/log: No such file or directory\n"


def test_errors_are_logged_as_json(oci: Runtime, tmp_path: Path) -> None:
    oci("--log", str(tmp_path / "log"), "--log-format", "json", "state", "nosuch", code=1)
    assert json.loads((tmp_path / "log").read_text())["msg"] == "container nosuch does not exist"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"process": {}, "root": 3}'])
def test_a_bundle_that_is_none_is_refused(oci: Runtime, text: str) -> None:
    (oci.bundle / "config.json").write_text(text)
    assert "config.json" in oci("create", "-b", str(oci.bundle), "x", code=1)


def shell(script: str, **more: Any) -> list[dict[str, Any]]:
    """One hook that is a script."""
    return [{"path": "/bin/sh", "args": ["sh", "-c", script], **more}]


def with_hooks(oci: Runtime, *args: str, **hooks: list[dict[str, Any]]) -> None:
    """The bundle with these hooks."""
    oci.write(*args)
    spec = json.loads((oci.bundle / "config.json").read_text())
    (oci.bundle / "config.json").write_text(json.dumps({**spec, "hooks": hooks}))


def test_ambient_capabilities_that_are_not_inheritable_are_left_out(oci: Runtime) -> None:
    """`runc spec` writes such ones."""
    oci.write("grep", "CapAmb", "/proc/self/status")
    path = oci.bundle / "config.json"
    spec = json.loads(path.read_text())
    spec["process"]["capabilities"] |= {"ambient": ["CAP_KILL", "CAP_CHOWN"], "inheritable": ["CAP_CHOWN"]}
    path.write_text(json.dumps(spec))
    assert oci("run", "--bundle", str(oci.bundle), "it") == "CapAmb:\t0000000000000001\n"


def test_hooks_run_in_their_order_with_the_state_on_standard_input(oci: Runtime, tmp_path: Path) -> None:
    kinds = ("prestart", "createRuntime", "createContainer", "poststart", "poststop")
    said = {
        kind: shell(f"echo {kind} >> {tmp_path}/order; cat > {tmp_path}/{kind}; echo $X $HOME > {tmp_path}/env", env=["X=y"])
        for kind in kinds
    }
    with_hooks(oci, "true", **said)
    oci("create", "-b", str(oci.bundle), "x", stdout=subprocess.DEVNULL)
    pid = oci.state("x")["pid"]
    oci("start", "x")
    eventually(lambda: oci.state("x")["status"] == "stopped")
    oci("delete", "x")
    assert (tmp_path / "order").read_text().split() == list(kinds) and (tmp_path / "env").read_text() == "y\n"
    states = {kind: json.loads((tmp_path / kind).read_text()) for kind in kinds}
    assert {(state["id"], state["bundle"], state["ociVersion"]) for state in states.values()} == {("x", str(oci.bundle), "1.1.0")}
    assert [states[kind]["status"] for kind in kinds[:3]] == ["created", "creating", "creating"] and states["poststop"][
        "status"
    ] == "stopped"
    assert [states[kind]["pid"] for kind in ("prestart", "createRuntime", "createContainer", "poststop")] == [pid, pid, 1, 0]


def test_hooks_of_creation_see_the_mounts_and_a_root_that_was_not_entered_yet(oci: Runtime, tmp_path: Path) -> None:
    """The program is the host's; createContainer's namespaces are the container's, the others' the host's."""
    rootfs = oci.bundle / "rootfs"
    look = f"readlink /proc/self/ns/net; grep -c ' {rootfs}/proc ' /proc/self/mountinfo; echo made > {rootfs}/by-a-hook; hostname"
    with_hooks(
        oci, "cat", "/by-a-hook", createRuntime=shell(f"({look}) > {tmp_path}/host"), createContainer=shell(f"({look}) > {tmp_path}/inside")
    )
    assert oci("run", "-b", str(oci.bundle), "x") == "made\n"
    host, inside = (tmp_path / "host").read_text().split(), (tmp_path / "inside").read_text().split()
    assert host == [os.readlink("/proc/self/ns/net"), "0", os.uname().nodename]
    assert inside[0] != host[0] and inside[1:] == ["1", "box"]


@pytest.mark.parametrize("code", [0, 3])
def test_a_hook_inside_runs_right_before_the_command(oci: Runtime, code: int) -> None:
    inside = shell(f"cat > /said; echo hook $X; exit {code}", env=["X=y", "PATH=/bin"])
    with_hooks(oci, "sh", "-c", "cat /said; echo command", startContainer=inside)
    said = oci("run", "-b", str(oci.bundle), "x", code=1 if code else 0)
    state = json.loads((oci.bundle / "rootfs/said").read_text())
    assert (state["id"], state["pid"], state["status"]) == ("x", 1, "created") and said.startswith("hook y\n")
    assert ("command" in said) == (not code) and ("hook /bin/sh failed with code 3" in said) == bool(code)


def test_start_says_that_a_hook_inside_failed_and_the_container_is_stopped(oci: Runtime) -> None:
    with_hooks(oci, "sleep", "100", startContainer=shell("exit 3", env=["PATH=/bin"]))
    oci("create", "-b", str(oci.bundle), "x", stdout=subprocess.DEVNULL)
    assert "hook /bin/sh failed with code 3" in oci("start", "x", code=1)
    eventually(lambda: oci.state("x")["status"] == "stopped")
    oci("delete", "x")


@pytest.mark.parametrize("kind", ["prestart", "createRuntime", "createContainer"])
@pytest.mark.parametrize(
    ("script", "more", "words"), [("exit 3", {}, "failed with code 3"), ("sleep 60", {"timeout": 1}, "took longer than 1 seconds")]
)
def test_a_hook_that_fails_stops_it_and_those_for_its_end_run(
    oci: Runtime, tmp_path: Path, kind: str, script: str, more: dict[str, Any], words: str
) -> None:
    hook = shell(f"exec {script}" if more else script, **more)
    with_hooks(oci, "touch", "/ran", **{kind: hook}, poststop=shell(f"cat > {tmp_path}/after"))
    assert words in oci("create", "-b", str(oci.bundle), "x", code=1)
    assert not (oci.root / "x").exists() and not (oci.bundle / "rootfs/ran").exists()
    assert json.loads((tmp_path / "after").read_text())["status"] == "stopped"
    assert not list(Path("/sys/fs/cgroup").glob(f"*/lamina-test/cli-{os.getpid()}"))


def test_what_fails_afterwards_is_a_warning_and_the_others_run(oci: Runtime, tmp_path: Path) -> None:
    def both(name: str) -> list[dict[str, Any]]:
        return [{"path": "/bin/false"}, *shell(f"touch {tmp_path}/{name}")]

    with_hooks(oci, "true", poststart=both("started"), poststop=both("after"))
    said = oci("run", "-b", str(oci.bundle), "x")
    assert said.count("warning: hook /bin/false failed with code 1") == 2
    assert (tmp_path / "started").exists() and (tmp_path / "after").exists()


@pytest.mark.parametrize("hook", [{"path": "bin/true"}, {}, {"path": "/bin/true", "timeout": 0}, {"path": "/bin/true", "args": ["a\0b"]}])
def test_a_hook_that_is_none_is_refused(oci: Runtime, hook: dict[str, Any]) -> None:
    with_hooks(oci, "true", createContainer=[hook])
    assert "hook" in oci("create", "-b", str(oci.bundle), "x", code=1)
    assert not (oci.root / "x").exists()


def test_a_container_without_a_mount_namespace_of_its_own_leaves_no_mount(oci: Runtime) -> None:
    """runtime-tools asks for that; the engine never does."""
    oci.write("sh", "-c", "readlink /proc/self/ns/mnt; ls -d /bin; sleep 100")
    spec = json.loads((oci.bundle / "config.json").read_text())
    spec["linux"]["namespaces"] = [entry for entry in spec["linux"]["namespaces"] if entry["type"] != "mount"]
    (oci.bundle / "config.json").write_text(json.dumps(spec))
    with open(oci.root.parent / "out", "w+") as out:
        oci("run", "-d", "-b", str(oci.bundle), "x", stdout=out)
        eventually(lambda: Path(out.name).read_text().count("\n") == 2)
    assert Path(out.name).read_text().split() == [os.readlink("/proc/self/ns/mnt"), "/bin"]
    assert str(oci.bundle) in Path("/proc/self/mountinfo").read_text()
    assert "busybox" in oci("exec", "x", "ls", "/bin")
    oci("delete", "--force", "x")
    assert str(oci.bundle) not in Path("/proc/self/mountinfo").read_text()
    spec["process"]["args"] = ["nosuch"]
    (oci.bundle / "config.json").write_text(json.dumps(spec))
    oci("run", "-b", str(oci.bundle), "x", code=127)
    assert str(oci.bundle) not in Path("/proc/self/mountinfo").read_text()


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
            ["podman", *options, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=300
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
