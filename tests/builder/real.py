"""A lab with real commands on a base made of busybox."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from lamina.runtime.client import Runtime
from lamina.snapshot.probe import DriverUnavailable
from lamina.spec.reference import Reference
from lamina.worker.pool import WorkerPool
from tests.builder.lab import Lab

BUSYBOX = shutil.which("busybox")


def busybox_tar() -> bytes:
    """A root file system: busybox and its applets, passwd, /tmp."""
    assert BUSYBOX is not None
    applets = subprocess.run([BUSYBOX, "--list"], check=True, capture_output=True, text=True).stdout.split()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, mode in (("bin", 0o755), ("etc", 0o755), ("tmp", 0o1777)):
            directory = tarfile.TarInfo(name)
            directory.type, directory.mode = tarfile.DIRTYPE, mode
            tar.addfile(directory)
        tar.add(BUSYBOX, "bin/busybox", filter=_plain)
        for applet in applets:
            if applet != "busybox":
                link = tarfile.TarInfo(f"bin/{applet}")
                link.type, link.linkname = tarfile.SYMTYPE, "busybox"
                tar.addfile(link)
        text = b"root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n"
        passwd = tarfile.TarInfo("etc/passwd")
        passwd.size = len(text)
        tar.addfile(passwd, io.BytesIO(text))
    return out.getvalue()


def _plain(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.mtime = 0
    return info


@contextmanager
def real_lab(root: Path, driver: str) -> Iterator[Lab]:
    """A lab whose RUNs run, over a driver, with the image busybox."""
    with ExitStack() as closing:
        workers = WorkerPool(2, path=tuple(sys.path))
        closing.callback(workers.close)
        (root / "run").mkdir(parents=True)
        runtime = Runtime(str(root / "run"))
        closing.callback(runtime.close)
        try:
            made = Lab(root, closing, runtime=runtime, workers=workers, driver=driver)
        except DriverUnavailable as unavailable:
            pytest.skip(unavailable.message)
        (root / "busybox.tar").write_bytes(busybox_tar())
        with open(root / "busybox.tar", "rb") as file:
            made.images.import_(file.fileno(), name=Reference.parse("busybox:latest"))
        yield made
