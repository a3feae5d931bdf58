"""One process holds a root; a newer root is refused."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path

import pytest

from lamina.content.reserve import SIZE
from lamina.daemon.root import RootHeld, RootTooNew, claim
from lamina.errors import InvalidArgument
from lamina.snapshot.probe import DriverUnavailable, probe
from tests.harness import fill, script


def test_a_root_is_held_once_and_the_holder_is_named(tmp_path: Path) -> None:
    root = str(tmp_path / "root")
    lock = claim(root, "daemon")
    with pytest.raises(RootHeld, match=rf"held by a daemon \(pid {os.getpid()}\)"):
        claim(root, "library")
    lock.close()
    claim(root, "library").close()
    assert json.loads((tmp_path / "root/version").read_text()) == {"version": 1}


@pytest.mark.parametrize("content", ['{"version": 2}', "nonsense", "[]", '{"version": "1"}'])
def test_a_version_that_is_not_known_is_refused_and_left_alone(tmp_path: Path, content: str) -> None:
    (tmp_path / "version").write_text(content)
    with pytest.raises(RootTooNew):
        claim(str(tmp_path), "daemon")
    assert (tmp_path / "version").read_text() == content
    (tmp_path / "version").write_text('{"version": 1}')
    claim(str(tmp_path), "daemon").close()


@pytest.mark.root
def test_on_a_full_disk_the_reserve_makes_room_for_a_start(tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=5m", "small", str(tmp_path)], check=True)
    try:
        claim(str(tmp_path), "daemon").close()
        (tmp_path / "reserve").write_bytes(bytes(SIZE))
        fill(tmp_path / "filler")
        claim(str(tmp_path), "daemon").close()
        assert not (tmp_path / "reserve").exists()
        fill(tmp_path / "filler")
        command = [*script("laminad"), "--root", str(tmp_path), "--host", f"unix://{tmp_path}/api.sock"]
        started = subprocess.run(command, stderr=subprocess.PIPE, text=True)
        assert (started.returncode, started.stderr) == (1, "laminad: no space left on the disk (free some)\n")
    finally:
        subprocess.run(["umount", "-l", str(tmp_path)], check=True)


@pytest.mark.root
def test_who_lacks_roots_rights_is_told_so() -> None:
    nobody = 65534
    with tempfile.TemporaryDirectory() as folder:
        os.chown(folder, nobody, nobody)
        os.mkdir(f"{folder}/roots", 0o700)
        os.seteuid(nobody)
        try:
            with pytest.raises(InvalidArgument) as claimed:
                claim(f"{folder}/roots/root", "library")
            with pytest.raises(DriverUnavailable) as probed:
                probe(f"{folder}/own")
        finally:
            os.seteuid(0)
    assert "root's rights" in claimed.value.hint and "root's rights" in probed.value.hint
