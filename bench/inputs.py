"""Real input: a Debian root by mmdebstrap, and on it an image with emacs and apache. Made once, kept in a cache folder."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from bench.engines import Engine

DOCKERFILE = """FROM debian:bench
RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends emacs-nox
RUN DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends apache2
CMD ["/bin/bash"]
"""


@dataclass(frozen=True)
class Inputs:
    """Paths of what every engine is fed."""

    base: Path
    image: Path
    busybox: Path


def base_tar(cache: Path) -> Path:
    """A Debian bookworm root as a tar, with this host's package sources in it."""
    target = cache / "debian.tar"
    if not target.exists():
        partial = cache / "debian.partial.tar"
        subprocess.run(
            [
                "mmdebstrap",
                "-q",
                "--variant=minbase",
                "--customize-hook=rm -rf $1/etc/apt/sources.list $1/etc/apt/sources.list.d",
                "--customize-hook=copy-in /etc/apt /etc",
                "--customize-hook=copy-in /etc/ssl /etc",
                "bookworm",
                str(partial),
            ],
            check=True,
        )
        partial.rename(target)
    return target


def busybox_tar(cache: Path) -> Path:
    """A root of a static busybox and its applets."""
    target = cache / "busybox.tar"
    if not target.exists():
        with tempfile.TemporaryDirectory() as work:
            binaries = Path(work, "bin")
            binaries.mkdir()
            shutil.copy(shutil.which("busybox") or "/bin/busybox", binaries / "busybox")
            for applet in subprocess.run([binaries / "busybox", "--list"], capture_output=True, text=True, check=True).stdout.split():
                if applet != "busybox":
                    (binaries / applet).symlink_to("busybox")
            subprocess.run(["tar", "-C", work, "--owner=0", "--group=0", "-cf", str(target), "."], check=True)
    return target


def image_archive(cache: Path, builder: Engine) -> Path:
    """The Debian image with emacs and apache, as `docker save` writes it, built once by `builder`."""
    target = cache / "debian-image.tar"
    if not target.exists():
        builder.docker("import", str(base_tar(cache)), "debian:bench")
        with tempfile.TemporaryDirectory() as work:
            Path(work, "Dockerfile").write_text(DOCKERFILE)
            builder.docker("build", "-q", "--network", "host", "-t", "debian-apps:bench", work)
        builder.docker("save", "-o", str(cache / "partial.tar"), "debian-apps:bench")
        (cache / "partial.tar").rename(target)
        builder.docker("rmi", "-f", "debian-apps:bench", "debian:bench")
    return target


def prepare(cache: Path, builder: Engine) -> Inputs:
    """Make what is missing."""
    cache.mkdir(parents=True, exist_ok=True)
    return Inputs(base_tar(cache), image_archive(cache, builder), busybox_tar(cache))
