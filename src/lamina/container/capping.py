"""`--storage-opt size=…`: what a request asks for, and file systems of that size in sparse files, for hosts without project quotas.

The image of a container is `containers/.caps/<ID>.img`, mounted at `containers/.caps/<ID>`; what is written lies in `diff` there, which is
bound at `containers/<ID>/diff`, where it lies without a cap too. Mounts outlive the engine; what is missing is mounted again at its start.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

from lamina.container.document import Document, mapping
from lamina.container.model import CAPS, IMAGE_CAP, QUOTA_CAP, Container
from lamina.container.removal import remove_tree
from lamina.errors import Exhausted, InvalidArgument, LaminaError, Unsupported
from lamina.layer.apply import disk_errors
from lamina.linux import mount, projectquota
from lamina.worker import Workers

SMALLEST = 8 << 20
_SIZE = re.compile(r"(\d{1,15})\s*([kmgtp]?)i?b?\Z", re.IGNORECASE)
_UNITS = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40, "p": 50}
_WITH_JOURNAL = 128 << 20
_PLACES = "/usr/sbin:/sbin:/usr/bin:/bin"
_SPARE = "spare"
"""An empty directory in a container's own file system, which may be too full for another when its container is rolled back."""


class InvalidSize(InvalidArgument):
    """The text is not a size, or one that makes no sense."""


def parsed_bytes(text: str) -> int | None:
    """`64M`, `10G` or `67108864` in bytes; None where it is none of these."""
    found = _SIZE.match(text.strip())
    return int(found[1]) << _UNITS[found[2].lower()] if found else None


def parsed_size(text: str) -> int:
    """`10G`, `512m`, `1073741824` in bytes.

    Raises:
        InvalidSize: it is not a size, or too small for a file system.
    """
    size = parsed_bytes(text)
    if size is None:
        raise InvalidSize(f"invalid size: '{text[:100]}'", hint="write it as 10G or 512M")
    if size < SMALLEST:
        raise InvalidSize(f"invalid size: '{text[:100]}': the least that can be capped is {SMALLEST >> 20}M")
    return size


def asked_size(host: Document) -> int:
    """What a request's StorageOpt caps writing at, in bytes; 0: it says nothing.

    Raises:
        InvalidSize, InvalidArgument: an option is unknown or its value makes no sense.
    """
    options = mapping(host, "StorageOpt")
    for name in options:
        if name.lower() != "size":
            raise InvalidArgument(f"unknown storage option: {name[:100]}", hint="there is size, as in size=10G")
    return next((parsed_size(str(value)) for value in options.values()), 0)


class Caps:
    """Caps of containers. `root` is ROOT/containers. Thread-safe for different containers."""

    def __init__(self, root: str, workers: Workers, default: int = 0) -> None:
        self._root, self._workers, self._default = root, workers, default

    def wanted(self, host: Document) -> tuple[int, str]:
        """The size that holds for a request, and how writing will be capped; 0 and "" for neither.

        Raises:
            Unsupported: this host can do neither way.
        """
        size = asked_size(host) or self._default
        if not size:
            return 0, ""
        if projectquota.available(self._root):
            return size, QUOTA_CAP
        if not os.path.exists("/dev/loop-control"):
            raise Unsupported(
                "what a container writes cannot be capped here: the kernel has no loop devices, and the disk no project quotas"
            )
        program("mkfs.ext4")
        return size, IMAGE_CAP

    def make(self, container: Container) -> None:
        """Cap a new container's empty directories.

        Raises:
            Exhausted: the disk is full.
        """
        if container.cap == QUOTA_CAP:
            for name in ("diff", "work"):
                projectquota.assign(f"{container.directory}/{name}", _project(container))
            projectquota.limit(container.directory, _project(container), container.size)
        if container.cap != IMAGE_CAP:
            return
        image = self._image(container.id)
        os.makedirs(os.path.dirname(image), 0o700, exist_ok=True)
        make_image(image, container.size, self._workers)
        self.attach(container)

    def attach(self, container: Container) -> None:
        """Mount what is not mounted of a container's cap: after the machine was started anew."""
        if container.cap != IMAGE_CAP:
            return
        if not os.path.ismount(container.home):
            os.makedirs(container.home, 0o700, exist_ok=True)
            mount_image(self._image(container.id), container.home)
        for name, mode in (("diff", 0o755), ("work", 0o700)):
            with suppress(FileExistsError):
                os.mkdir(f"{container.home}/{name}", mode)
        with suppress(OSError):  # it is there, or the file system is full
            os.mkdir(f"{container.home}/{_SPARE}", 0o700)
        if not os.path.ismount(container.upper):
            mount.mount(container.writes, container.upper, flags=mount.MS_BIND)

    def fresh(self, container: Container, path: str) -> None:
        """Make an empty directory, `path` beside the one that it writes to, also where its own file system is full.

        Raises:
            Exhausted: the disk is full.
        """
        with disk_errors(path):
            try:
                os.mkdir(path)
            except OSError:
                if container.cap != IMAGE_CAP or not os.path.isdir(spare := f"{container.home}/{_SPARE}"):
                    raise
                os.rename(spare, path)
            os.chmod(path, 0o755)

    def renew(self, container: Container) -> None:
        """The directory that it writes to is another one: show that."""
        if container.cap == IMAGE_CAP:
            _unmount(container.upper)
            mount.mount(container.writes, container.upper, flags=mount.MS_BIND)
        elif container.cap == QUOTA_CAP:
            projectquota.assign(container.writes, _project(container))

    def remove(self, container: Container, directory: str) -> None:
        """A container goes; its folder is `directory` by now."""
        if container.cap == QUOTA_CAP:
            with suppress(OSError):
                projectquota.limit(self._root, _project(container), 0)
        if container.cap == IMAGE_CAP:
            _unmount(f"{directory}/diff")
            self._drop(container.id)

    def sweep(self, containers: Iterable[Container]) -> None:
        """At start: remove the images of containers that are gone, and mount the others again. Before folders are removed."""
        known = {container.id: container for container in containers if container.cap == IMAGE_CAP}
        with suppress(FileNotFoundError):
            for name in os.listdir(f"{self._root}/{CAPS}"):
                identity = name.removesuffix(".img")
                if identity not in known:
                    for folder in (identity, f".removing-{identity}"):
                        _unmount(f"{self._root}/{folder}/diff")
                    self._drop(identity)
        for container in known.values():
            with suppress(LaminaError, OSError):  # its start will say so
                self.attach(container)

    def _image(self, identity: str) -> str:
        return f"{self._root}/{CAPS}/{identity}.img"

    def _drop(self, identity: str) -> None:
        home = f"{self._root}/{CAPS}/{identity}"
        _unmount(home)
        with suppress(FileNotFoundError):
            os.unlink(self._image(identity))
        remove_tree(home, self._workers)


def program(name: str) -> str:
    """The path of a program of the host's.

    Raises:
        Unsupported: it is not installed.
    """
    found = shutil.which(name, path=_PLACES)
    if not found:
        raise Unsupported(f"what a container writes cannot be capped here: {name} is not installed", hint="apt-get install e2fsprogs")
    return found


def make_image(path: str, size: int, workers: Workers) -> None:
    """A sparse file of `size` bytes with an empty ext4 in it. Raises Exhausted; nothing is left then."""
    workers.run("lamina.container.capping:image_job", {"path": path, "size": size, "program": program("mkfs.ext4")})


def image_job(params: dict[str, Any], fds: list[int], report: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Worker job: see `make_image`."""
    del fds, report
    path, size = params["path"], int(params["size"])
    journal = ["-O", "^has_journal"] if size < _WITH_JOURNAL else ["-J", "size=4"] if size < 1 << 30 else []
    command = [params["program"], "-q", "-F", "-m", "0", *journal, "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard", path]
    try:
        with open(path, "xb") as file:
            file.truncate(size)
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        if done.returncode:
            raise Exhausted(f"no file system of {size} bytes could be made: {' '.join(done.stderr.split())[:300]}")
    except BaseException as error:
        with suppress(FileNotFoundError):
            os.unlink(path)
        if isinstance(error, OSError):
            raise Exhausted(f"no file system of {size} bytes could be made: {error.strerror}") from None
        raise
    return {}


def mount_image(path: str, target: str) -> None:
    """Mount an image, for writing; what is deleted in it is given back to the disk.

    Raises:
        Exhausted: there is no loop device left, or the image is damaged.
    """
    try:
        fd, device = mount.loop_attach(path, write=True)
        try:
            mount.mount(device, target, "ext4", mount.MS_NOATIME, "discard,noinit_itable")
        finally:
            os.close(fd)
    except OSError as error:
        raise Exhausted(f"the file system {path} cannot be mounted: {error.strerror}") from None


def _unmount(path: str) -> None:
    if os.path.ismount(path):
        mount.unmount(path, mount.MNT_DETACH | mount.UMOUNT_NOFOLLOW)


def _project(container: Container) -> int:
    """The project ID of a container's quota: of its own ID, beyond what people number by hand."""
    return 1 << 30 | int(container.id[:7], 16)


def storage_options(words: Iterable[str]) -> Mapping[str, int]:
    """`size=10G` (also `overlay2.size=…`, as dockerd has it) and `pool=100G` of the engine's own settings, in bytes.

    Raises:
        InvalidArgument: another option, or no size.
    """
    found: dict[str, int] = {}
    for word in words:
        name, equals, value = word.partition("=")
        name = name.rpartition(".")[2]
        if name not in ("size", "pool") or not equals:
            raise InvalidArgument(
                f"unknown storage option: {word[:100]}", hint="there are size=10G, for each container, and pool=100G, for all together"
            )
        found[name] = parsed_size(value)
    return found
