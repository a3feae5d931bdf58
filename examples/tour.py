"""The main job in one sitting: each `lamina` command and its real output, on a root of its own that is removed at the end."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from lamina.network.networks import erase

DOCKERFILE = """\
FROM tour/base:1
RUN mkdir -p /srv/notes && echo "layers are content" > /srv/notes/first.txt
COPY greeting.txt /srv/
ENV MOOD=curious
CMD ["cat", "/srv/greeting.txt"]
"""


class Tour:
    """A daemon on a temporary root, and a terminal to show commands on."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.root = work / "root"
        self.host = f"unix://{work / 'lamina.sock'}"
        self.environment = {**os.environ, "LAMINA_HOST": self.host, "HOME": str(work)}
        self.bold, self.plain = ("\033[1;36m", "\033[0m") if sys.stdout.isatty() else ("", "")
        self.background: list[subprocess.Popen[bytes]] = []

    def say(self, text: str) -> None:
        """A sentence between commands."""
        print(f"\n# {text}", flush=True)

    def show(self, command: str) -> str:
        """Print a command, run it in the work folder, print and return what it printed."""
        print(f"{self.bold}$ {command}{self.plain}", flush=True)
        done = subprocess.run(
            ["sh", "-c", command],
            env=self.environment,
            cwd=self.work,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        print(done.stdout, end="", flush=True)
        if done.returncode:
            raise SystemExit(f"tour: that ended with exit code {done.returncode}")
        return done.stdout

    def start(self, command: str, ready: Path | int) -> None:
        """Start a server in the background; it is there when its socket (a path or a port of 127.0.0.1) answers."""
        print(f"{self.bold}$ {command} &{self.plain}", flush=True)
        with open(self.work / "servers.log", "ab") as log:
            process = subprocess.Popen(
                shlex.split(command), env=self.environment, cwd=self.work, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        self.background.append(process)
        deadline = time.monotonic() + 120
        while not answers(ready):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"tour: {command} did not start:\n{(self.work / 'servers.log').read_text()}")
            time.sleep(0.02)

    def stop(self) -> None:
        """End what was started."""
        for process in reversed(self.background):
            process.send_signal(signal.SIGTERM)
            process.wait(30)
        leave(self.root)


def leave(root: Path) -> None:
    """End what outlives a daemon for the next one on its root: the keeper, layers mounted below the root, its bridge."""
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and int(entry.name) != os.getpid() and str(root).encode() in (entry / "cmdline").read_bytes():
                os.kill(int(entry.name), signal.SIGKILL)
    mounted = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for path in reversed(mounted):
        if path.startswith(f"{root}/"):
            subprocess.run(["umount", "-l", path], check=False)
    erase(str(root))


def answers(where: Path | int) -> bool:
    """Whether something listens there."""
    family, address = (socket.AF_UNIX, str(where)) if isinstance(where, Path) else (socket.AF_INET, ("127.0.0.1", where))
    with socket.socket(family) as probe:  # type: ignore[arg-type]
        return probe.connect_ex(address) == 0


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def base_root(work: Path) -> None:
    """A root file system of one static busybox and its applets' links."""
    binaries = work / "base" / "bin"
    binaries.mkdir(parents=True)
    busybox = shutil.which("busybox")
    if busybox is None:
        raise SystemExit("tour: no busybox here; install Debian's busybox-static")
    shutil.copy(busybox, binaries / "busybox")
    for applet in subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split():
        if applet != "busybox":
            (binaries / applet).symlink_to("busybox")
    for folder in ("etc", "tmp", "root"):
        (work / "base" / folder).mkdir()


def play(tour: Tour) -> None:
    """Every step, in order."""
    work, port = tour.work, free_port()
    base_root(work)
    app = work / "app"
    app.mkdir()
    (app / "Dockerfile").write_text(DOCKERFILE)
    (app / "greeting.txt").write_text("hello from a layer\n")
    tour.say("A daemon on a root of its own; it needs nothing else.")
    tour.start(f"laminad --root {tour.root} --host {tour.host}", work / "lamina.sock")
    tour.say("A base image out of one static busybox.")
    tour.show("tar -C base --owner=0 --group=0 --numeric-owner -c . | lamina import - tour/base:1")
    tour.say("A Dockerfile: a layer where files change, a history entry for every instruction.")
    tour.show("cat app/Dockerfile")
    tour.show("lamina build -t tour/app:1 app")
    tour.show("lamina run --rm --network none tour/app:1")
    tour.say("What a container writes lies in its writable layer, on the host, also after it ended.")
    tour.show("lamina run --name happy --network none tour/app:1 touch happiness.txt")
    tour.show(f"ls -l {tour.root}/containers/$(lamina ps -aq --no-trunc)/diff/happiness.txt")
    tour.show("lamina diff happy")
    tour.say("The writable layer becomes an image layer.")
    tour.show("lamina commit -m 'found happiness' happy tour/happy:1")
    tour.show("lamina history tour/happy:1")
    tour.show("lamina images --tree")
    tour.say("Out into a file, away, and back.")
    tour.show("lamina save -o happy.tar tour/happy:1")
    tour.show("lamina rm happy")
    tour.show("lamina rmi tour/happy:1")
    tour.show("lamina load -i happy.tar")
    tour.say("Through a registry on this machine, and back by digest.")
    tour.start(f"lamina registry serve --root registry --listen 127.0.0.1:{port}", port)
    tour.show(f"lamina tag tour/happy:1 127.0.0.1:{port}/tour/happy:1")
    tour.show(f"lamina push 127.0.0.1:{port}/tour/happy:1")
    tour.show("lamina images --digests")
    digest = tour.show(f"lamina images --digests --format '{{{{.Digest}}}}' 127.0.0.1:{port}/tour/happy").split()[0]
    tour.show(f"lamina rmi tour/happy:1 127.0.0.1:{port}/tour/happy:1")
    tour.show(f"lamina pull 127.0.0.1:{port}/tour/happy@{digest}")
    tour.say("Which layer, and which instruction, gave this file?")
    tour.show(f"lamina which 127.0.0.1:{port}/tour/happy@{digest} /happiness.txt")
    tour.show("lamina which tour/app:1 /srv/greeting.txt")
    tour.show("lamina layers tour/app:1")


def main() -> None:
    """Play the tour in a temporary folder."""
    if os.geteuid() != 0:
        raise SystemExit("tour: containers need root here: run it with sudo")
    begin = time.monotonic()
    work = Path(tempfile.mkdtemp(prefix="lamina-tour."))
    tour = Tour(work)
    try:
        play(tour)
    finally:
        tour.stop()
        shutil.rmtree(work, ignore_errors=True)
    print(f"\n# The tour took {time.monotonic() - begin:.0f} s; its root is removed again.")


if __name__ == "__main__":
    main()
