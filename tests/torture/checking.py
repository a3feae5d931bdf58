"""What must hold after any accident, looked at from outside: files, digests, names, and whether images run."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from tests.harness import Daemon


def names(daemon: Daemon) -> dict[str, str]:
    """Every name of an image and the ID it stands for."""
    listed = daemon.docker("images", "--no-trunc", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}").stdout.split("\n")
    return dict(line.split() for line in listed if line and "<none>" not in line)


def check_store(daemon: Daemon) -> None:
    """Every blob has its digest; nothing half done is left; every named image runs."""
    for blob in (daemon.data / "content/blobs/sha256").iterdir():
        assert file_digest(blob) == blob.name, f"damaged: {blob}"
    assert not list((daemon.data / "content/ingest").glob("*.tmp")), "half-written blobs are left"
    for fact in (daemon.data / "layers").glob("*.json"):
        json.loads(fact.read_text())
    for name in names(daemon):
        done = daemon.docker("run", "--rm", "--network", "none", "--entrypoint", "/bin/true", name, code=None)
        assert done.returncode == 0, f"{name} does not run: {done.stderr}"
    left = daemon.docker("ps", "-aq", "--filter", "status=removing").stdout.split()
    assert not left, f"half-removed containers: {left}"


def file_digest(path: Path) -> str:
    """sha256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
