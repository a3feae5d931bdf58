"""A runtime, and containers of a static busybox, for the tests of this folder."""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from lamina.runtime import bundle, initlayer
from lamina.runtime.client import Runtime
from lamina.runtime.launch import Attach, Exec, Exit, Launch, Program
from lamina.runtime.process import Process
from lamina.snapshot.protocol import Lower, RootMount

APPLETS = (
    "adjtimex awk bash cat chmod chown chroot chrt cp cut dd dmesg echo env find grep head hostname id insmod ionice ip kill linux32 ln losetup ls "
    "mkdir mkfifo mknod mount mv nc nsenter ping pivot_root printf ps pwd readlink renice rm rmdir sed seq setpriv sh sleep sort stat stty "
    "swapoff tail tee test timeout touch tr true false tty umount unshare wc whoami xargs yes"
).split()


def eventually(condition: Callable[[], object], *, seconds: float = 60) -> None:
    """Poll until it holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.005)


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root file system with nothing but busybox, as an image's layer would be."""
    root = tmp_path_factory.mktemp("image")
    (root / "bin").mkdir()
    shutil.copy(shutil.which("busybox") or "/bin/busybox", root / "bin/busybox")
    for name in APPLETS:
        (root / "bin" / name).symlink_to("busybox")
    return root


@pytest.fixture(scope="session")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    found = Runtime(str(tmp_path_factory.mktemp("run")))
    yield found
    found.close()


@dataclass
class Box:
    """One container's directory, and what is done with it."""

    runtime: Runtime
    directory: Path
    image: Path
    name: str
    spec: dict[str, Any] = field(default_factory=dict)
    process: Process | None = None
    program: Program | None = None
    hooks: dict[str, Any] = field(default_factory=dict)

    def launch(
        self,
        args: Sequence[str],
        *,
        user: str = "",
        open_stdin: bool = False,
        volatile: bool = False,
        log: bool = True,
        brief: bool = False,
        **options: Any,
    ) -> Launch:
        """What starts it; `options` are default_spec's."""
        for name in ("upper", "work", "init"):
            (self.directory / name).mkdir(parents=True, exist_ok=True)
        initlayer.write_init_layer(str(self.directory / "init"))
        etc = initlayer.write_etc_files(str(self.directory), hostname="box")
        settings = {"hostname": "box", "cgroup_path": f"/lamina-test/{self.name}", "etc": etc, **options}
        self.spec = {**bundle.default_spec(args=args, **settings), **({"hooks": self.hooks} if self.hooks else {})}
        lowers = (Lower(path=str(self.directory / "init")), Lower(path=str(self.image)))
        root = RootMount(lowers, str(self.directory / "upper"), str(self.directory / "work"), volatile=volatile)
        log_path = str(self.directory / "log") if log else None
        return Launch(
            self.name,
            str(self.directory),
            self.spec,
            root,
            log={"path": log_path} if log_path else None,
            open_stdin=open_stdin,
            stdin_once=open_stdin,
            volatile=volatile,
            user=user,
            program=self.program,
            brief=brief,
        )

    def start(self, *args: str, attaches: Sequence[Attach] = (), **options: Any) -> Process:
        """Start it."""
        self.process = self.runtime.start(self.launch(args, **options), attaches)
        return self.process

    def run(self, *args: str, stdin: bytes = b"", **options: Any) -> tuple[int, str]:
        """Run it to its end; exit code, and what it wrote on both streams."""
        mine, theirs = socket.socketpair()
        with mine, theirs:
            options["open_stdin"] = True
            process = self.start(*args, attaches=[Attach(theirs.fileno(), stdin=True, framed=False)], **options)
            theirs.close()
            return drain(mine, process, stdin)

    def exec(self, *args: str, stdin: bytes = b"", user: str = "", **options: Any) -> tuple[int, str]:
        """Run one more command in it, to its end."""
        process, mine = self.started_exec(*args, user=user, **options)
        with mine:
            return drain(mine, process, stdin)

    def started_exec(self, *args: str, user: str = "", **options: Any) -> tuple[Process, socket.socket]:
        """Start one more command in it; the connection to its streams is the caller's to close."""
        mine, theirs = socket.socketpair()
        with theirs:
            number = len(list(self.directory.glob("exec-*")))
            request = Exec(
                "x",
                f"{self.directory}/exec-{number}",
                str(self.directory),
                self.spec,
                bundle.exec_process(self.spec, args=args, **options),
                open_stdin=True,
                user=user,
            )
            try:
                return self.runtime.exec(request, [Attach(theirs.fileno(), stdin=True, framed=False)]), mine
            except BaseException:
                mine.close()
                raise

    def end(self) -> Exit | None:
        """Kill it, if it runs."""
        if self.process is None:
            return None
        try:
            self.process.signal(9)
        except Exception:
            pass
        return self.process.wait(120)


def drain(mine: socket.socket, process: Process, stdin: bytes) -> tuple[int, str]:
    """Send input, read output to its end, wait for the exit."""
    mine.settimeout(120)
    if stdin:
        mine.sendall(stdin)
    mine.shutdown(socket.SHUT_WR)
    parts = []
    while data := mine.recv(65536):
        parts.append(data)
    end = process.wait(120)
    assert end is not None
    return end.code, b"".join(parts).decode(errors="replace")


@pytest.fixture
def boxes(runtime: Runtime, image: Path, tmp_path: Path) -> Iterator[Callable[[], Box]]:
    made: list[Box] = []

    def make() -> Box:
        directory = tmp_path / f"c{len(made)}"
        directory.mkdir()
        made.append(Box(runtime, directory, image, f"{os.getpid()}-{tmp_path.name}-{len(made)}"))
        return made[-1]

    yield make
    for box in made:
        box.end()


@pytest.fixture
def box(boxes: Callable[[], Box]) -> Box:
    return boxes()
