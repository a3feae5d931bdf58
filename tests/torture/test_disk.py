"""Power cuts and full disks, on an ext4 of its own in a loop-mounted file."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.harness import Daemon, docker_cli, helpers
from tests.system.conftest import started
from tests.torture.checking import check_store, names

NONE = ("--network", "none")
BASE = "busybox:test"


@contextmanager
def mounted(image: Path, where: Path) -> Iterator[Path]:
    """An ext4 image mounted read-write."""
    where.mkdir(exist_ok=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(where)], check=True)
    try:
        yield where
    finally:
        for _ in range(100):
            if subprocess.run(["umount", str(where)], capture_output=True, check=False).returncode == 0:
                break
            time.sleep(0.1)
        else:
            subprocess.run(["umount", "-l", str(where)], check=True)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """An empty ext4 of 300 MB in a file."""
    path = tmp_path / "disk.img"
    with open(path, "wb") as file:
        file.truncate(300 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-E", "lazy_itable_init=0", str(path)], check=True)
    return path


def test_a_power_cut_leaves_a_store_that_heals(driver: str, image: Path, base: Path, tmp_path: Path, rounds: int) -> None:
    rng = random.Random(driver)
    copies = []
    with mounted(image, tmp_path / "disk") as disk:
        daemon = started(disk / "d", driver)
        daemon.docker("import", str(base), BASE)
        os.sync()
        durable = names(daemon)
        for number in range(max(4, rounds // 8)):
            client = subprocess.Popen(
                [docker_cli(), "import", str(base), f"imported:{number}"], env=daemon.environment(), stdout=subprocess.DEVNULL
            )
            time.sleep(rng.uniform(0, 0.4))
            copies.append(tmp_path / f"copy{number}.img")
            assert daemon.process is not None
            stopped = [daemon.process.pid, *helpers(daemon.root)]
            signal_all(stopped, signal.SIGSTOP)
            shutil.copyfile(image, copies[-1])
            signal_all(stopped, signal.SIGCONT)
            client.wait(60)
        daemon.remove()
    for copy in copies:
        subprocess.run(["e2fsck", "-fy", str(copy)], capture_output=True, check=False)
        with mounted(copy, tmp_path / "again") as disk:
            daemon = Daemon(disk / "d", driver).start()
            now = names(daemon)
            assert {name: now.get(name) for name in durable} == durable
            check_store(daemon)
            daemon.remove()
        copy.unlink()


def signal_all(pids: list[int], number: int) -> None:
    """Send a signal to all that still live."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


@pytest.mark.parametrize("work", ["import", "build", "commit", "run"])
def test_a_full_disk_is_one_sentence_and_the_store_is_as_before(driver: str, image: Path, base: Path, tmp_path: Path, work: str) -> None:
    big = tmp_path / "context"
    big.mkdir()
    (big / "big").write_bytes(os.urandom(290 << 20) if work == "build" else b"")
    (big / "Dockerfile").write_text(f"FROM {BASE}\nCOPY big /big\n")
    fill = "dd if=/dev/urandom of=/big bs=1M count=400; true"
    with mounted(image, tmp_path / "disk") as disk:
        daemon = started(disk / "d", driver)
        try:
            daemon.docker("import", str(base), BASE)
            if work == "commit":
                daemon.docker("run", "--name", "half", *NONE, BASE, "dd", "if=/dev/urandom", "of=/big", "bs=1M", "count=150")
            before = names(daemon)
            if work == "import":
                (tmp_path / "noise").write_bytes(os.urandom(400 << 20))
                tar = subprocess.Popen(["tar", "-C", str(tmp_path), "-c", "noise"], stdout=subprocess.PIPE)
                done = subprocess.run(
                    [docker_cli(), "import", "-", "big:1"],
                    stdin=tar.stdout,
                    env=daemon.environment(),
                    capture_output=True,
                    text=True,
                    check=False,
                )
                tar.kill()
                tar.communicate()
            elif work == "build":
                done = daemon.docker("build", *NONE, "-t", "big:1", str(big), code=None)
            elif work == "commit":
                done = daemon.docker("commit", "half", "big:1", code=None)
            else:
                done = daemon.docker("run", "--rm", *NONE, BASE, "sh", "-c", fill, code=None)
                assert "No space left on device" in done.stderr
            if work != "run":
                assert done.returncode != 0
                assert "no space left" in done.stderr.lower()
            assert names(daemon) == before
            daemon.docker("rm", "-f", *daemon.docker("ps", "-aq").stdout.split(), code=None)
            check_store(daemon)
        finally:
            daemon.remove()
