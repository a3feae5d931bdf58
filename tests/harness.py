"""A daemon of this checkout on a root of its own, and clients of it, for tests of the whole."""

from __future__ import annotations

import errno
import functools
import os
import re
import secrets
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from lamina.network.networks import erase

SCRIPTS = Path(sys.executable).parent


def script(name: str) -> list[str]:
    """The command line of an installed program of Lamina's, or of the module behind it in a source tree."""
    installed = SCRIPTS / name
    if installed.exists():
        return [str(installed)]
    modules = {"laminad": "lamina.daemon.main", "lamina": "lamina.cli.main", "lamina-runtime": "lamina.runtime.cli"}
    return [sys.executable, "-m", modules[name]]


@dataclass
class Daemon:
    """`laminad` on `root`. `docker()` and `lamina()` run the two CLIs against it."""

    root: Path
    driver: str = ""
    options: Sequence[str] = ()
    process: subprocess.Popen[bytes] | None = None
    starts: list[int] = field(default_factory=list)

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def socket(self) -> Path:
        return self.root / "api.sock"

    @property
    def host(self) -> str:
        return f"unix://{self.socket}"

    @property
    def log(self) -> str:
        path = self.root / "daemon.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def command(self) -> list[str]:
        """The command line that starts it."""
        driver = ["--storage-driver", self.driver] if self.driver else []
        return [*script("laminad"), "--root", str(self.data), "--host", self.host, *driver, *self.options]

    def start(self) -> Daemon:
        """Start and wait until it answers."""
        self.root.mkdir(parents=True, exist_ok=True)
        with open(self.root / "daemon.log", "ab") as log:
            tracing = {**os.environ, "PYTHONFAULTHANDLER": "1"}  # SIGABRT then says where each thread is
            self.process = subprocess.Popen(self.command(), stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=tracing)
        self.starts.append(self.process.pid)
        try:
            eventually(self.answers, "it does not answer", seconds=120, alive=self.process)
        except AssertionError as late:
            self.stop(signal.SIGABRT)
            raise AssertionError(f"laminad did not start: {late}\n{self.log}") from None
        return self

    def answers(self) -> bool:
        """Whether it answers a ping."""
        done = self.curl("/_ping")
        return done == "OK"

    def curl(self, path: str) -> str:
        """GET a path; the body as text, empty if nobody answers."""
        import http.client

        connection = http.client.HTTPConnection("lamina", timeout=120)
        connection.sock = socket.socket(socket.AF_UNIX)
        try:
            connection.sock.connect(str(self.socket))
            connection.request("GET", path)
            return connection.getresponse().read().decode()
        except OSError:
            return ""
        finally:
            connection.close()

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End it by a signal and wait."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(number)
            self.process.wait(120)

    def kill(self) -> None:
        """End it without a chance to tidy up."""
        self.stop(signal.SIGKILL)

    def environment(self) -> dict[str, str]:
        """What clients of this daemon run with: no settings of whoever runs the tests."""
        keep = {name: value for name, value in os.environ.items() if not name.startswith(("DOCKER_", "LAMINA_"))}
        return {
            **keep,
            "DOCKER_HOST": self.host,
            "LAMINA_HOST": self.host,
            "DOCKER_BUILDKIT": "0",
            "DOCKER_CONFIG": str(self.root / "client"),
            "HOME": str(self.root),
        }

    def docker(self, *arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
        """Run the real docker CLI. Options as `run`'s. A skip where an older CLI does not know what is asked of it."""
        try:
            return run([docker_cli(), *arguments], self.environment(), **options)  # type: ignore[arg-type]
        except AssertionError as failed:
            unknown = _UNKNOWN.search(str(failed))
            if unknown and cli_version() < _NEWEST:
                pytest.skip(f"the docker CLI here is of version {cli_version()}: {unknown[0]}")
            raise

    def lamina(self, *arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
        """Run Lamina's own CLI. Options as `run`'s."""
        return run([*script("lamina"), *arguments], self.environment(), **options)  # type: ignore[arg-type]

    def remove(self) -> None:
        """End the daemon, its containers and helpers; remove the root."""
        if self.process and self.process.poll() is None:
            ids = self.docker("ps", "-aq", code=None).stdout.split()
            if ids:
                self.docker("rm", "-f", *ids, code=None)
        self.stop()
        end_helpers(self.root)
        unmount_below(self.root)
        erase(str(self.data))
        shutil.rmtree(self.root, ignore_errors=True)


def unmount_below(root: Path) -> None:
    """Unmount layers that the daemon mounted below its root: it does where overlayfs takes no detached mounts."""
    mounted = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for path in reversed(mounted):
        if path.startswith(f"{root}/"):
            subprocess.run(["umount", "-l", path], check=False)


def helpers(root: Path) -> list[int]:
    """Processes whose command line names `root`, or something below it: keeper, zygote, monitors, workers."""
    found, named = [], re.compile(re.escape(os.fsencode(root)) + rb"(/|\0|$)")
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid():
            try:
                line = Path("/proc", entry, "cmdline").read_bytes()
            except OSError:
                continue
            if named.search(line):
                found.append(int(entry))
    return found


def end_helpers(root: Path) -> None:
    """Kill those, and wait until they have ended: until then they hold what lies below `root`. Some go by themselves meanwhile."""
    while found := helpers(root):
        for pid in found:
            with suppress(ProcessLookupError):
                end(pid)


def end(pid: int) -> None:
    """Kill a process and wait until it holds nothing any more. Raises ProcessLookupError where there is none."""
    fd = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(fd, signal.SIGKILL)
        assert select.select([fd], [], [], 120)[0], f"process {pid} does not end"
    finally:
        os.close(fd)


def free_port() -> int:
    """A port that nobody has on this host, by TCP or UDP, and that the kernel gives to nobody who asks for any."""
    low, high = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    candidates = [port for port in range(5001, 65000) if not low <= port <= high]
    while True:
        port = secrets.choice(candidates)
        if is_free(port):
            return port


def is_free(port: int) -> bool:
    """Whether nobody has a port at this moment."""
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as probe:
            try:
                probe.bind(("", port))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                return False
    return True


def control_groups(names: Sequence[str]) -> list[str]:
    """Where there are control groups of these names. Others' may vanish while one looks."""
    wanted = set(names)
    return [f"{path}/{folder}" for path, folders, _ in os.walk("/sys/fs/cgroup") for folder in folders if folder in wanted]


_UNKNOWN = re.compile(r"unknown (shorthand )?flag: .*|unexpected key '.*|unknown docker command: .*")
_NEWEST = 28


@functools.cache
def cli_version() -> int:
    """The first number of the docker CLI's version."""
    found = re.search(r"version (\d+)", subprocess.run([docker_cli(), "--version"], capture_output=True, text=True, check=True).stdout)
    return int(found[1]) if found else _NEWEST


def fill(path: Path, piece: int = 4096) -> None:
    """Write to the end of a file, `piece` bytes at once, until its disk has no room for more."""
    with open(path, "ab", buffering=0) as file, pytest.raises(OSError, match="No space"):
        while True:
            file.write(bytes(piece))


def overwrite(path: Path, data: bytes) -> None:
    """Give a file other bytes as a disk does, without a trace in its times. One that is sealed (fs-verity) is replaced."""
    status = path.stat()
    try:
        path.write_bytes(data)
    except PermissionError:
        path.unlink()
        path.write_bytes(data)
        path.chmod(status.st_mode)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def docker_cli() -> str:
    """The real docker CLI: from the environment's scripts or PATH."""
    beside = SCRIPTS / "docker"
    return str(beside) if beside.exists() else shutil.which("docker") or "docker"


@functools.cache
def docker_cli_version() -> int:
    """Its major version; 0 where there is none."""
    if not shutil.which(docker_cli()):
        return 0
    said = subprocess.run([docker_cli(), "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"version (\d+)\.", said)
    return int(found[1]) if found else 0


def run(
    command: Sequence[str],
    env: dict[str, str],
    *,
    code: int | None = 0,
    stdin: str | bytes | None = None,
    cwd: Path | None = None,
    timeout: float = 300,
) -> subprocess.CompletedProcess[str]:
    """Run a command; fail unless it ends with `code` (None: any). Outputs are text."""
    data = stdin.encode() if isinstance(stdin, str) else stdin
    done = subprocess.run(
        command, env=env, input=data if data is not None else b"", capture_output=True, cwd=cwd, timeout=timeout, check=False
    )
    out, err = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
    if code is not None and done.returncode != code:
        raise AssertionError(f"{' '.join(command)}\nended with {done.returncode}, not {code}\n{out}\n{err}")
    return subprocess.CompletedProcess(command, done.returncode, out, err)


def eventually(
    condition: object, message: str = "it never came true", *, seconds: float = 60, alive: subprocess.Popen[bytes] | None = None
) -> None:
    """Wait until `condition()` holds; fail with `message` after `seconds`, or when `alive` ended."""
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        if time.monotonic() > deadline or (alive is not None and alive.poll() is not None):
            raise AssertionError(message)
        time.sleep(0.02)


def busybox_root(target: Path) -> Path:
    """Make a root file system of a static busybox and its applets."""
    binaries = target / "bin"
    binaries.mkdir(parents=True)
    busybox = shutil.which("busybox") or "/bin/busybox"
    shutil.copy(busybox, binaries / "busybox")
    for applet in subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split():
        if applet != "busybox":
            (binaries / applet).symlink_to("busybox")
    for folder in ("etc", "tmp", "root", "proc", "sys", "dev"):
        (target / folder).mkdir()
    (target / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")
    (target / "etc/group").write_text("root:x:0:\nnogroup:x:65534:\n")
    return target


def busybox_tar(target: Path) -> Path:
    """That root as a tar."""
    root = busybox_root(target.parent / f"{target.stem}.root")
    subprocess.run(["tar", "-C", str(root), "--owner=0", "--group=0", "--numeric-owner", "-cf", str(target), "."], check=True)
    return target
