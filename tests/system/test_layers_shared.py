"""Layers are shared on disk and in memory, measured; damage is named; both copies of metadata heal each other."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
from pathlib import Path

import pytest

from tests.harness import Daemon, eventually
from tests.system.conftest import BASE

NONE = ("--network", "none")
SIZE = 96 << 20


@pytest.fixture
def big(daemon: Daemon, tmp_path: Path) -> str:
    """An image with a file of 96 MiB that does not compress, over the base."""
    root = tmp_path / "big"
    root.mkdir()
    (root / "big").write_bytes(os.urandom(SIZE))
    (root / "Dockerfile").write_text(f"FROM {BASE}\nCOPY big /big\n")
    daemon.docker("build", "-q", "--network", "none", "-t", "big:1", str(root))
    return "big:1"


def disk(daemon: Daemon) -> int:
    """Allocated bytes of the daemon's root. What is removed while du looks is passed over."""
    os.sync()
    return int(subprocess.run(["du", "-sxB1", str(daemon.data)], capture_output=True, text=True, check=False).stdout.split()[0])


def meminfo_cached() -> int:
    """Bytes of the page cache as a whole."""
    facts = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return int(facts["Cached"].split()[0]) * 1024


def read_big(daemon: Daemon) -> int:
    """Read /big in a new container; how many bytes the page cache grew meanwhile."""
    before = meminfo_cached()
    assert daemon.docker("run", "--rm", *NONE, "big:1", "sh", "-c", "cat /big | wc -c").stdout.strip() == str(SIZE)
    return meminfo_cached() - before


def test_two_images_on_one_base_store_it_once(daemon: Daemon, big: str, tmp_path: Path) -> None:
    before = disk(daemon)
    context = tmp_path / "over"
    context.mkdir()
    (context / "Dockerfile").write_text(f"FROM {big}\nRUN echo small > /small\n")
    daemon.docker("build", "-q", "--network", "none", "-t", "over:1", str(context))
    eventually(lambda: disk(daemon) - before < 4 << 20, "the base is there twice")
    archive = tmp_path / "both.tar"
    daemon.docker("save", "-o", str(archive), big, "over:1")
    daemon.docker("load", "-i", str(archive))
    eventually(lambda: disk(daemon) - before < 4 << 20, "what was there was loaded again")


def test_containers_share_the_page_cache_also_across_a_restart(daemon: Daemon, big: str) -> None:
    read_big(daemon)
    daemon.docker("run", "-d", "--name", "holds", *NONE, big, "sleep", "1000")
    # The page cache is the whole machine's: what others read meanwhile counts as well, but not every time.
    eventually(lambda: read_big(daemon) < SIZE // 2, "each container has its own pages")
    daemon.kill()
    daemon.start()
    eventually(lambda: read_big(daemon) < SIZE // 2, "after a restart each container has its own pages")
    daemon.docker("rm", "-f", "holds")


def test_a_damaged_layer_is_named_and_never_mounted(daemon: Daemon, big: str) -> None:
    facts = json.loads(daemon.docker("inspect", big).stdout)[0]
    diff_id = facts["RootFS"]["Layers"][-1].removeprefix("sha256:")
    daemon.stop()
    metadata = next(daemon.data.glob(f"layers/{diff_id}*.erofs"))
    with open(metadata, "r+b") as file:
        file.seek(1024 + 64)
        file.write(b"damage!!")
    daemon.start()
    done = daemon.docker("run", "--rm", *NONE, big, "true", code=125)
    assert diff_id[:12] in done.stderr or facts["RootFS"]["Layers"][-1] in done.stderr
    assert "Traceback" not in done.stderr


def test_lost_rows_and_lost_files_are_rebuilt_from_each_other(daemon: Daemon, big: str) -> None:
    listing = ("images", "--no-trunc", "-a", "--format", "{{.Repository}}:{{.Tag}} {{.ID}} {{.CreatedAt}} {{.Size}}")
    before = daemon.docker(*listing).stdout
    daemon.stop()
    (daemon.data / "metadata.db").unlink()
    for rest in daemon.data.glob("metadata.db-*"):
        rest.unlink()
    daemon.start()
    assert daemon.docker(*listing).stdout == before
    daemon.stop()
    for file in daemon.data.glob("layers/*.json"):
        file.unlink()
    daemon.start()
    assert daemon.docker(*listing).stdout == before
    assert daemon.docker("run", "--rm", *NONE, big, "true").returncode == 0
    assert list(daemon.data.glob("layers/*.json"))
    assert "WARNING" in daemon.log


def test_layer_facts_are_files_and_rows(daemon: Daemon, big: str) -> None:
    facts = [json.loads(file.read_text()) for file in daemon.data.glob("layers/*.json")]
    assert len(facts) == 2
    assert sum(fact.get("parent") is None for fact in facts) == 1
    for fact in facts:
        assert {"id", "diff_id", "created", "created_by", "instruction"} <= set(fact)
    with sqlite3.connect(f"file:{daemon.data}/metadata.db?mode=ro", uri=True) as database:
        assert database.execute("SELECT count(*) FROM layers").fetchone() == (2,)
