"""A docker-archive of many distinct images, three small layers each, two of them shared by all."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path


def layer(name: str, text: str) -> bytes:
    """An uncompressed layer of one file."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        entry = tarfile.TarInfo(name)
        entry.size = len(text)
        tar.addfile(entry, io.BytesIO(text.encode()))
    return out.getvalue()


def write_archive(path: Path, count: int) -> None:
    """Write `count` images named many:0 and up to `path`."""
    shared = [layer("base", "base"), layer("middle", "middle")]
    manifest = []
    with tarfile.open(path, "w") as archive:
        for data in shared:
            _add(archive, f"{hashlib.sha256(data).hexdigest()}.tar", data)
        for number in range(count):
            own = layer("own", f"image {number}")
            stack = [*shared, own]
            config = {
                "architecture": "amd64",
                "os": "linux",
                "created": "2024-01-01T00:00:00Z",
                "config": {"Cmd": ["true"], "Labels": {"number": str(number)}},
                "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(data).hexdigest()}" for data in stack]},
                "history": [{"created": "2024-01-01T00:00:00Z", "created_by": f"step {height}"} for height in range(len(stack))],
            }
            encoded = json.dumps(config).encode()
            name = f"{hashlib.sha256(encoded).hexdigest()}.json"
            _add(archive, f"{hashlib.sha256(own).hexdigest()}.tar", own)
            _add(archive, name, encoded)
            layers = [f"{hashlib.sha256(data).hexdigest()}.tar" for data in stack]
            manifest.append({"Config": name, "RepoTags": [f"many:{number}"], "Layers": layers})
        _add(archive, "manifest.json", json.dumps(manifest).encode())


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    archive.addfile(entry, io.BytesIO(data))
