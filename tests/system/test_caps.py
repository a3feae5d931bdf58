"""--storage-opt size=…, a default for every container, and a pool for all: who hits a cap has no space left, and nobody else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lamina.linux import projectquota
from tests.harness import Daemon, eventually
from tests.system.conftest import BASE

NONE = ("--network", "none")
FILL = "dd if=/dev/zero of=/big bs=1M count=64 2>&1; echo more > /more; echo ended with $?"


def mounts(daemon: Daemon) -> list[str]:
    """What is mounted below the containers' folders, by containers and their caps."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line.split()[4] for line in lines if line.split()[4].startswith(f"{daemon.data}/containers")]


def identity(daemon: Daemon, name: str) -> str:
    return daemon.docker("inspect", "-f", "{{.Id}}", name).stdout.strip()


@pytest.mark.covers("cli:run --storage-opt", "cli:create --storage-opt")
def test_a_container_at_its_cap_has_no_space_left_and_others_have(daemon: Daemon) -> None:
    full = daemon.docker("run", "--name", "capped", "--storage-opt", "size=24M", *NONE, BASE, "sh", "-c", FILL).stdout
    assert "No space left on device" in full
    upper = Path(daemon.docker("inspect", "-f", "{{.GraphDriver.Data.UpperDir}}", "capped").stdout.strip())
    assert upper == daemon.data / "containers" / identity(daemon, "capped") / "diff"
    assert 8 << 20 < (upper / "big").stat().st_size < 24 << 20
    daemon.docker(
        "create", "--name", "free", "--storage-opt", "size=64M", *NONE, BASE, "sh", "-c", "dd if=/dev/zero of=/big bs=1M count=40"
    )
    daemon.docker("start", "-a", "free")
    assert "A /big" in daemon.docker("diff", "capped").stdout
    daemon.docker("commit", "capped", "capped:1")
    assert "big" in daemon.docker("run", "--rm", *NONE, "capped:1", "ls", "/").stdout
    daemon.docker("rm", "capped", "free")
    daemon.docker("rmi", "capped:1")
    assert mounts(daemon) == [] and os.listdir(daemon.data / "containers/.caps") == []


def test_what_a_capped_container_wrote_is_found_at_its_place_whatever_happens(daemon: Daemon) -> None:
    daemon.docker(
        "run", "-d", "--name", "kept", "--storage-opt", "size=16M", *NONE, BASE, "sh", "-c", "test -e /word || echo one > /word; sleep 1000"
    )
    place = daemon.data / "containers" / identity(daemon, "kept") / "diff/word"
    eventually(lambda: place.exists() and place.read_text() == "one\n", "what it wrote is not at its place")
    assert daemon.docker("exec", "kept", "cat", "/word").stdout == "one\n"
    daemon.kill()
    assert place.read_text() == "one\n"
    daemon.start()
    daemon.docker("exec", "kept", "sh", "-c", "echo two > /word")
    daemon.docker("kill", "kept")
    daemon.stop()
    for path in reversed(mounts(daemon)):  # as after a new start of the machine
        subprocess.run(["umount", path], check=True)
    assert not place.exists()
    daemon.start()
    assert place.read_text() == "two\n"
    daemon.docker("start", "kept")
    assert daemon.docker("exec", "kept", "cat", "/word").stdout == "two\n"
    daemon.lamina("snapshot", "create", "kept", "two")
    daemon.docker("exec", "kept", "sh", "-c", "echo three > /word")
    daemon.docker("kill", "kept")
    daemon.lamina("rollback", "kept", "two")
    daemon.docker("start", "kept")
    assert daemon.docker("exec", "kept", "cat", "/word").stdout == "two\n"
    assert "No space left" in daemon.docker("exec", "kept", "sh", "-c", FILL, code=None).stdout
    daemon.docker("rm", "-f", "kept")
    assert mounts(daemon) == []


def test_an_unfinished_create_leaves_no_image_and_no_mount(daemon: Daemon) -> None:
    made = daemon.docker("create", "--storage-opt", "size=16M", *NONE, BASE, "true").stdout.strip()
    daemon.kill()
    for path in (daemon.data / "containers" / made).glob("*config*.json"):
        path.unlink()
    daemon.start()
    assert mounts(daemon) == [] and os.listdir(daemon.data / "containers/.caps") == []
    assert not (daemon.data / "containers" / made).exists()


@pytest.fixture
def pooled(tmp_path: Path, base: Path) -> Iterator[Daemon]:
    """A daemon with a pool for all containers."""
    daemon = Daemon(tmp_path / "pooled", options=["--storage-opt", "pool=48M"])
    daemon.start()
    daemon.docker("import", str(base), BASE)
    yield daemon
    daemon.remove()


def test_a_pool_caps_all_containers_together_and_grows_as_it_is_used(pooled: Daemon) -> None:
    told = dict(json.loads(pooled.docker("info", "-f", "{{json .DriverStatus}}").stdout))
    assert int(told["Pool Size"]) == 48 << 20 and int(told["Pool On Disk"]) < 8 << 20
    pooled.docker("run", "--name", "one", *NONE, BASE, "sh", "-c", "dd if=/dev/zero of=/big bs=1M count=20")
    assert "No space left" in pooled.docker("run", "--name", "two", *NONE, BASE, "sh", "-c", FILL, code=None).stdout
    told = dict(json.loads(pooled.docker("info", "-f", "{{json .DriverStatus}}").stdout))
    assert int(told["Pool Used"]) > 36 << 20
    pooled.docker("rm", "one", "two")
    assert pooled.docker("run", "--rm", *NONE, BASE, "echo", "room").stdout == "room\n"
    pooled.stop()
    pooled.options = ["--storage-opt", "pool=96M", "--storage-opt", "size=16M"]
    pooled.start()
    told = dict(json.loads(pooled.docker("info", "-f", "{{json .DriverStatus}}").stdout))
    assert (told["Pool Size"], told["Container Size"]) == (str(96 << 20), str(16 << 20))
    assert os.statvfs(pooled.data / "containers").f_blocks * os.statvfs(pooled.data / "containers").f_frsize > 80 << 20
    assert "No space left" in pooled.docker("run", "--rm", *NONE, BASE, "sh", "-c", FILL).stdout


def test_a_pool_is_refused_where_containers_lie_outside_of_one(tmp_path: Path, base: Path) -> None:
    daemon = Daemon(tmp_path / "late")
    try:
        daemon.start()
        daemon.docker("import", str(base), BASE)
        daemon.docker("create", *NONE, BASE, "true")
        daemon.stop()
        daemon.options = ["--storage-opt", "pool=48M"]
        with pytest.raises(AssertionError, match="there are containers already, outside of any pool"):
            daemon.start()
        daemon.options = []
        daemon.start()
    finally:
        daemon.remove()


_MAKE = {
    "ext4": (64 << 20, ["mkfs.ext4", "-q", "-F", "-O", "quota,project", "-E", "quotatype=prjquota"]),
    "xfs": (320 << 20, ["mkfs.xfs", "-q", "-f"]),
}


@pytest.fixture(params=sorted(_MAKE))
def quotas(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, mounted with project quotas."""
    image, place = tmp_path / "disk.img", tmp_path / "disk"
    place.mkdir()
    size, words = _MAKE[request.param]
    program = shutil.which(words[0], path="/usr/sbin:/sbin:/usr/bin:/bin")
    if program is None:
        pytest.skip(f"{words[0]} is not installed")
    with open(image, "wb") as file:
        file.truncate(size)
    subprocess.run([program, *words[1:], str(image)], check=True, stderr=subprocess.DEVNULL)
    done = subprocess.run(["mount", "-o", "loop,prjquota", str(image), str(place)], check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"this kernel has no project quotas on {request.param}: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_project_quotas_are_counted_and_taken_away(quotas: Path) -> None:
    assert projectquota.available(str(quotas)) and not projectquota.available("/proc")
    (quotas / "some").mkdir()
    projectquota.assign(str(quotas / "some"), 77)
    projectquota.limit(str(quotas), 77, 8 << 20)
    (quotas / "some/file").write_bytes(bytes(1 << 20))
    os.sync()
    used, cap = projectquota.used(str(quotas), 77)
    assert 1 << 20 <= used < 2 << 20 and cap == 8 << 20
    projectquota.limit(str(quotas), 77, 0)
    assert projectquota.used(str(quotas), 77)[1] == 0


def test_where_the_disk_has_project_quotas_they_cap_containers(quotas: Path, base: Path) -> None:
    daemon = Daemon(quotas / "d")
    try:
        daemon.start()
        daemon.docker("import", str(base), BASE)
        full = daemon.docker("run", "--name", "capped", "--storage-opt", "size=16M", *NONE, BASE, "sh", "-c", FILL).stdout
        assert "o space left on device" in full or "uota exceeded" in full
        upper = daemon.data / "containers" / identity(daemon, "capped") / "diff"
        assert 8 << 20 < (upper / "big").stat().st_size <= 16 << 20
        assert mounts(daemon) == [] and not (daemon.data / "containers/.caps").exists()
        daemon.docker("run", "--rm", *NONE, BASE, "sh", "-c", "dd if=/dev/zero of=/big bs=1M count=20")
        daemon.lamina("snapshot", "create", "capped", "full")
        daemon.docker("start", "-a", "capped", code=None)
        assert not (upper / "big").exists() or (upper / "big").stat().st_size < 1 << 20, "what the snapshot took counts on"
        daemon.docker("rm", "capped")
        again = daemon.docker("run", "--rm", "--storage-opt", "size=16M", *NONE, BASE, "sh", "-c", "dd if=/dev/zero of=/big bs=1M count=8")
        assert "8+0 records out" in again.stderr
    finally:
        daemon.remove()
