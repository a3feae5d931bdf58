"""--storage-opt size=…, a default for every container, and a pool for all: who hits a cap has no space left, and nobody else."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lamina.linux import projectquota
from tests.harness import Daemon
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
    assert daemon.docker("exec", "kept", "cat", "/word").stdout == "one\n" == place.read_text()
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
        with pytest.raises(AssertionError, match="there are containers already, which no pool holds"):
            daemon.start()
        daemon.options = []
        daemon.start()
    finally:
        daemon.remove()


def test_project_quotas_are_used_where_the_disk_has_them(tmp_path: Path) -> None:
    image, place = tmp_path / "disk.img", tmp_path / "disk"
    place.mkdir()
    with open(image, "wb") as file:
        file.truncate(64 << 20)
    made = subprocess.run(["mkfs.ext4", "-q", "-F", "-O", "quota,project", "-E", "quotatype=prjquota", str(image)], check=False)
    done = subprocess.run(["mount", "-o", "loop,prjquota", str(image), str(place)], check=False, capture_output=True)
    if made.returncode or done.returncode:
        pytest.skip("this kernel has no project quotas")
    try:
        assert projectquota.available(str(place))
        (place / "some").mkdir()
        projectquota.assign(str(place / "some"), 77)
        projectquota.limit(str(place), 77, 8 << 20)
        with pytest.raises(OSError, match=r"quota|space"):
            (place / "some/big").write_bytes(bytes(16 << 20))
        (place / "big").write_bytes(bytes(16 << 20))
        assert projectquota.used(str(place), 77)[1] == 8 << 20
    finally:
        subprocess.run(["umount", str(place)], check=True)
