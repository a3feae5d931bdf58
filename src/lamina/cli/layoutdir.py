"""Images as a directory: what `save -o DIR/` writes, and which directories it may replace and `load -i DIR` reads."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import tarfile
from collections.abc import Iterator

from lamina.cli.unpacking import Stream
from lamina.errors import LaminaError

_PIECE = 1 << 20
_LAYER = re.compile(r"[a-f0-9]{64}\Z")
_FILE = re.compile(r"oci-layout|(index|manifest)\.json|repositories|blobs/sha(256|512)/[a-f0-9]+|[a-f0-9]{64}/(VERSION|json|layer\.tar)")
_FOLDER = re.compile(r"blobs|blobs/sha(256|512)|[a-f0-9]{64}")
_NAMES = {"io.containerd.image.name", "org.opencontainers.image.ref.name"}


def is_layout(directory: str) -> bool:
    """Whether it looks as one of the layouts of images does."""
    if any(os.path.isfile(f"{directory}/{name}") for name in ("index.json", "manifest.json", "repositories")):
        return True
    return any(_LAYER.match(name) and os.path.isfile(f"{directory}/{name}/json") for name in os.listdir(directory))


def earlier(directory: str) -> list[str]:
    """What a save has written at the top of a directory; nothing where it is empty, or not there.

    Raises:
        LaminaError: it holds anything else.
    """
    try:
        names = sorted(os.listdir(directory))
    except FileNotFoundError:
        return []
    if names and ((strange := _strange(directory)) or not _is_save(directory, names)):
        raise LaminaError(
            f"{directory} holds {strange or 'a layout'} that no save of lamina's wrote", hint="save to a new directory, or to an empty one"
        )
    return names


def _strange(directory: str) -> str:
    """The first path below that is none of a save's."""
    for path, folders, files in os.walk(directory):
        below = os.path.relpath(path, directory)
        for name in sorted(folders):
            if not _FOLDER.fullmatch(_joined(below, name)) or os.path.islink(f"{path}/{name}"):
                return _joined(below, name)
        for name in sorted(files):
            if not _FILE.fullmatch(_joined(below, name)):
                return _joined(below, name)
    return ""


def _joined(below: str, name: str) -> str:
    return name if below == "." else f"{below}/{name}"


def _is_save(directory: str, names: list[str]) -> bool:
    """Whether these names, which a save may have written, make one; others' layouts name images in index.json differently."""
    layers = [name for name in names if _LAYER.match(name)]
    if layers:
        return set(names) <= {*layers, "repositories"}
    if not {"oci-layout", "index.json", "blobs"} <= set(names):
        return False
    try:
        with open(f"{directory}/index.json", "rb") as file:
            entries = json.load(file)["manifests"]
        return all((entry.get("annotations") or {}).keys() in (set(), _NAMES) for entry in entries)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return False


def unpack(pieces: Iterator[bytes], directory: str) -> None:
    """Write an archive's files into a directory, in place of an earlier save's, which stays until all are here. See `earlier`."""
    before, made = earlier(directory), not os.path.isdir(directory)
    os.makedirs(directory, exist_ok=True)
    partial = os.path.join(directory, f".partial-{os.getpid()}")
    try:
        _write(pieces, partial)
        for name in before:
            _remove(os.path.join(directory, name))
        for name in os.listdir(partial):
            os.rename(os.path.join(partial, name), os.path.join(directory, name))
        os.rmdir(partial)
    except BaseException as error:
        _remove(partial)
        if made:
            os.rmdir(directory)
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise OSError(error.errno, error.strerror, directory) from None  # what the user wrote
        raise


def _write(pieces: Iterator[bytes], directory: str) -> None:
    """Only plain names below the directory, and links to these, are taken from what the engine sends."""
    os.mkdir(directory)
    with tarfile.open(fileobj=Stream(pieces), mode="r|", bufsize=1 << 18) as archive:
        for member in archive:
            if not (member.isreg() or member.issym()):
                continue
            leads_to = os.path.normpath(os.path.join(os.path.dirname(member.name), member.linkname if member.issym() else ""))
            if ".." in (*member.name.split("/"), *leads_to.split("/")) or os.path.isabs(member.name) or os.path.isabs(leads_to):
                raise LaminaError(f"the engine sent an archive with a name that leads elsewhere: {member.name[:200]}")
            target = os.path.join(directory, member.name)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            if member.issym():
                os.symlink(member.linkname, target)
                continue
            content = archive.extractfile(member)
            with open(target, "wb") as file:
                while content is not None and (piece := content.read(_PIECE)):
                    file.write(piece)


def _remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path, ignore_errors=True)
    elif os.path.lexists(path):
        os.unlink(path)
