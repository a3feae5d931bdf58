"""The engines under measurement, each a daemon of its own on a root of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from lamina.network.networks import erase

SOURCE = Path(__file__).resolve().parent.parent / "src"


@dataclass
class Engine:
    """A daemon, and the command lines that drive it. `own` is the engine's own CLI."""

    name: str
    root: Path
    command: Sequence[str]
    own: Sequence[str]
    version: str
    process: subprocess.Popen[bytes] | None = None
    env: dict[str, str] = field(default_factory=dict)

    @property
    def socket(self) -> Path:
        return self.root / "api.sock"

    def environment(self) -> dict[str, str]:
        """What a client of this engine runs with."""
        host = f"unix://{self.socket}"
        return {**os.environ, "DOCKER_HOST": host, "LAMINA_HOST": host, "DOCKER_BUILDKIT": "0", **self.env}

    def start(self) -> None:
        """Start the daemon and wait until it answers."""
        self.root.mkdir(parents=True, exist_ok=True)
        with open(self.root / "daemon.log", "ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd="/")
        deadline = time.monotonic() + 60
        while not self.ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"bench: {self.name} did not start, see {self.root / 'daemon.log'}")
            time.sleep(0.1)

    def ready(self) -> bool:
        """Whether the daemon answers."""
        return subprocess.run(["docker", "version"], env=self.environment(), capture_output=True, check=False).returncode == 0

    def stop(self) -> None:
        """End the daemon in order."""
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def docker(self, *args: str, stdin: object = None, check: bool = True) -> str:
        """Run the real docker CLI against this engine; its standard output."""
        return self._run(["docker", *args], stdin, check)

    def cli(self, *args: str, check: bool = True) -> str:
        """Run the engine's own CLI; its standard output."""
        return self._run([*self.own, *args], None, check)

    def _run(self, command: Sequence[str], stdin: object, check: bool) -> str:
        done = subprocess.run(
            command, env=self.environment(), capture_output=True, text=True, stdin=stdin or subprocess.DEVNULL, check=False
        )  # type: ignore[call-overload]
        if check and done.returncode:
            raise SystemExit(f"bench: {self.name}: {' '.join(command)}: {done.stderr or done.stdout}")
        return str(done.stdout)

    def processes(self) -> list[int]:
        """The daemon and what it started: descendants, and detached helpers that name its root."""
        assert self.process is not None
        found = {self.process.pid}
        for pid, parent, line in sorted(_process_table()):
            if parent in found or str(self.root) in line:
                found.add(pid)
        return sorted(found - {os.getpid()})


def _process_table() -> Iterator[tuple[int, int, str]]:
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                stat = Path("/proc", entry, "stat").read_text()
                line = Path("/proc", entry, "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            yield int(entry), int(stat.rsplit(")", 1)[1].split()[1]), line


@contextmanager
def floor(where: Path, name: str) -> Iterator[Engine]:
    """The server that costs nothing (bench/floor.py), on the tars in `where`; all that is there goes with it."""
    where.mkdir(exist_ok=True)
    engine = Engine(
        name, where, [sys.executable, str(Path(__file__).parent / "floor.py"), str(where / "api.sock"), str(where)], ["docker"], ""
    )
    engine.start()
    try:
        yield engine
    finally:
        engine.stop()
        shutil.rmtree(where)


def lamina(root: Path, driver: str) -> Engine:
    """Lamina from this checkout's environment, with one storage driver."""
    scripts = Path(sys.executable).parent
    name = f"lamina-{driver}"
    where = root / name
    command = [
        str(scripts / "laminad"),
        "--root",
        str(where / "data"),
        "--host",
        f"unix://{where / 'api.sock'}",
        "--storage-driver",
        driver,
    ]
    version = subprocess.run([str(scripts / "laminad"), "--version"], capture_output=True, text=True, check=False).stdout.strip()
    return Engine(name, where, command, [str(scripts / "lamina")], version)


def dockerd(root: Path) -> Engine | None:
    """Debian's dockerd, or None where it is not installed."""
    if not shutil.which("dockerd"):
        return None
    where = root / "dockerd"
    command = [
        "dockerd",
        "--data-root",
        str(where / "data"),
        "--exec-root",
        str(where / "exec"),
        "-H",
        f"unix://{where / 'api.sock'}",
        "--pidfile",
        str(where / "pid"),
        "--bridge=none",
        "--iptables=false",
        "--storage-driver=overlay2",
    ]
    version = subprocess.run(["dockerd", "--version"], capture_output=True, text=True, check=False).stdout.strip()
    return Engine("dockerd", where, command, ["docker"], version)


@contextmanager
def running(engines: Sequence[Engine]) -> Iterator[Sequence[Engine]]:
    """Start all, stop all, and remove their roots."""
    started: list[Engine] = []
    try:
        for engine in engines:
            started.append(engine)
            engine.start()
        yield engines
    finally:
        for engine in started:
            engine.stop()
            if engine.name.startswith("lamina"):
                erase(str(engine.root / "data"))
