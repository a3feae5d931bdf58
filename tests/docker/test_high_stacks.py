"""An image of more layers than the kernel can stack, by the real docker CLI and Lamina's own."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from tests.harness import Daemon, busybox_tar

COUNT = 510
NONE = ("--network", "none")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A docker-archive of busybox and 509 layers, each with a file of its own and a new version of /last; the 300th deletes /f7."""
    folder = tmp_path_factory.mktemp("high")
    layers = [busybox_tar(folder / "base.tar").read_bytes()]
    for number in range(1, COUNT):
        files = {f"f{number}": b"%d" % number, "last": b"%d\n" % number, **({".wh.f7": b""} if number == 300 else {})}
        layers.append(tar_of(files))
    config = {
        "architecture": "amd64", "os": "linux", "created": "2026-01-01T00:00:00Z", "config": {"Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(data).hexdigest()}" for data in layers]},
        "history": [{"created": "2026-01-01T00:00:00Z", "created_by": f"step {number}"} for number in range(COUNT)],
    }  # fmt: skip
    manifest = [{"Config": "config.json", "RepoTags": ["high:1"], "Layers": [f"{number}/layer.tar" for number in range(COUNT)]}]
    members = {f"{number}/layer.tar": data for number, data in enumerate(layers)}
    path = folder / "high.tar"
    path.write_bytes(tar_of({**members, "config.json": json.dumps(config).encode(), "manifest.json": json.dumps(manifest).encode()}))
    return path


def tar_of(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return out.getvalue()


@pytest.mark.timeout(900)
def test_an_image_of_510_layers_runs_and_shows_every_layer(daemon: Daemon, archive: Path, name: str) -> None:
    daemon.docker("load", "-q", "-i", str(archive))
    script = "ls / | grep -c ^f; cat /last /f1; ls /f7; echo mine > /mine; rm /f499"
    ran = daemon.docker("run", "--name", name, *NONE, "high:1", "sh", "-c", script)
    assert ran.stdout == f"{COUNT - 2}\n{COUNT - 1}\n1"
    assert "/f7: No such file" in ran.stderr
    assert daemon.docker("diff", name).stdout.split("\n")[:-1] == ["D /f499", "A /mine"]
    daemon.docker("commit", name, "high:2")
    assert daemon.docker("run", "--rm", *NONE, "high:2", "cat", "/mine").stdout == "mine\n"
    assert len(daemon.docker("history", "-q", "high:1").stdout.split()) == COUNT
    assert len(daemon.lamina("layers", "-q", "high:1").stdout.split()) == COUNT
    for source in ((), ("-i", str(archive))):
        drawn = daemon.lamina("images", "--tree", *source).stdout.splitlines()
        assert [line.split()[-1] for line in drawn if " step " in line] == [str(number) for number in range(COUNT)]
        told = json.loads(daemon.lamina("images", "--tree", "--format", "json", *source).stdout)["layers"]
        assert [row["instruction"] or row["created_by"] for row in told[:COUNT]] == [f"step {number}" for number in range(COUNT)]
    assert "step 8" in daemon.lamina("which", "high:1", "/f8").stdout
    assert "step 300" in daemon.lamina("which", "high:1", "/f7", code=1).stderr
    merged = list((daemon.data / "stacks").glob("*.json"))
    assert len(merged) == (0 if daemon.driver == "native" else 1)
    daemon.docker("rm", name)
    daemon.docker("rmi", "high:2", "high:1")
    assert not list((daemon.data / "stacks").glob("*"))
