"""Images and single layers mounted on the host, read-only, for ordinary tools; found again when the engine starts anew."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass

from lamina.content.files import write_file
from lamina.errors import Conflict, InvalidArgument, NotFound
from lamina.image.layers import Layers
from lamina.image.leases import Leases
from lamina.image.store import ImageNotFound, Images
from lamina.linux import mount
from lamina.spec.digest import Digest
from lamina.worker import Workers

_SHORTEST = 4


_NEEDED = ("/proc", "/sys", "/dev", "/run", os.path.dirname(os.__file__))
"""What the engine cannot go on without, besides its data root: none of it may be hidden."""


class MountNotFound(NotFound):
    """Nothing of this engine is mounted there."""


@dataclass(frozen=True, slots=True)
class Mount:
    """Something mounted at the directory `target`. `kind` is image or layer, `id` what it is, `reference` what was asked for.

    `layers` are chain IDs, kept while it is mounted; `device` is the file system's number, as mountinfo says it.
    """

    target: str
    reference: str
    kind: str
    id: str
    layers: tuple[str, ...]
    device: str = ""


class Mounts:
    """All of them. Thread-safe. `directory` has one file per mount."""

    def __init__(self, directory: str, images: Images, layers: Layers, leases: Leases, workers: Workers) -> None:
        self._directory, self._images, self._layers = directory, images, layers
        self._leases, self._workers = leases, workers
        self._lock = threading.Lock()
        os.makedirs(directory, mode=0o700, exist_ok=True)

    def recover(self) -> None:
        """At start, before anything is collected: what is still mounted keeps its layers, the rest is forgotten."""
        for each in self._settled():
            self._leases.pin(_owner(each.target), map(Digest.parse, each.layers))

    def list(self) -> Sequence[Mount]:
        """What is mounted, by target. What somebody else unmounted is forgotten, and its layers are kept no longer."""
        with self._lock:
            known = len(self._recorded())
            found = self._settled()
        if len(found) < known:
            self._images.collect()
        return found

    def _settled(self) -> Sequence[Mount]:
        """What is still mounted of what was recorded; the rest is forgotten."""
        found = []
        for each in self._recorded():
            if _mounted(each):
                found.append(each)
            else:
                self._forget(each.target)
        return found

    def _recorded(self) -> Sequence[Mount]:
        found = []
        for name in os.listdir(self._directory):
            with suppress(OSError, ValueError, TypeError, KeyError):
                with open(f"{self._directory}/{name}", encoding="utf-8", errors="surrogateescape") as file:
                    told = json.load(file)
                found.append(Mount(**told | {"layers": tuple(told["layers"])}))
        return sorted(found, key=lambda each: each.target)

    def mount(self, reference: str, target: str) -> Mount:
        """Mount an image, or one layer alone, at a directory of the host.

        Raises:
            ImageNotFound: nothing has that name or ID.
            InvalidArgument: `target` is not a directory, or would hide what the engine needs: the data root, /proc.
            Conflict: something of this engine is mounted there.
            Unsupported: the kernel cannot stack the layers.
        """
        target = _checked(target, os.path.realpath(os.path.dirname(self._directory)))
        kind, identity, layers, names = self._find(reference)
        with self._lock:
            if any(each.target == target for each in self._settled()):
                raise Conflict(f"{target} is a mount of Lamina already", hint=f"lamina image unmount {target}")
            self._leases.pin(_owner(target), layers)
            try:
                for layer in layers:
                    self._layers.index_path(layer)
                lowers = self._layers.driver.lowers(names)
                fds = [lower.fd for lower in lowers if lower.fd is not None]
                params = {"target": target, "lowers": [None if lower.fd is not None else lower.path for lower in lowers]}
                self._workers.run("lamina.snapshot.mountjob:attach", params | {"scratch": self._directory}, fds)
                try:
                    made = Mount(target, reference, kind, identity, tuple(map(str, layers)), _device(target))
                    text = json.dumps(asdict(made), indent=2)
                    write_file(self._file(target), text.encode("utf-8", "surrogateescape"))
                except BaseException:  # what is not written down nobody would find again
                    mount.unmount(target, mount.UMOUNT_NOFOLLOW | mount.MNT_DETACH)
                    raise
                return made
            except BaseException:
                self._leases.unpin(_owner(target))
                raise

    def unmount(self, what: str, *, force: bool = False) -> Sequence[Mount]:
        """Unmount what is at a directory, or everywhere an image or layer is; `force`: also where it is in use.

        Raises:
            MountNotFound: nothing of this engine is mounted so.
            Conflict: somebody uses it.
        """
        with self._lock:
            path = os.path.realpath(what) if os.path.isabs(what) else ""
            found = [each for each in self._recorded() if each.target == path or (not path and what in (each.reference, each.id))]
            if not found:
                raise MountNotFound(f"nothing is mounted there by Lamina: {what[:300]}")
            for each in found:
                self._unmount(each, force=force)
            self._settled()  # what was mounted inside of it may have gone along
        self._images.collect()
        return found

    def _unmount(self, each: Mount, *, force: bool) -> None:
        if _mounted(each):
            try:
                mount.unmount(each.target, mount.UMOUNT_NOFOLLOW | (mount.MNT_DETACH if force else 0))
            except OSError as error:
                if error.errno == errno.EBUSY:
                    raise Conflict(f"{each.target} is in use", hint="leave it, or unmount it with --force") from None
                raise
        self._forget(each.target)

    def _find(self, reference: str) -> tuple[str, str, Sequence[Digest], Sequence[str]]:
        """Kind, ID, layers to keep, and names of layers to stack, base first."""
        try:
            image = self._images.resolve(reference)
        except ImageNotFound as error:
            text = reference.removeprefix("sha256:")
            found = [facts for facts in self._layers.all() if facts.id.encoded.startswith(text) or facts.diff_id.encoded.startswith(text)]
            if len(text) < _SHORTEST or not found:
                raise ImageNotFound(f"no such image or layer: {reference[:300]}") from error
            if len({facts.name for facts in found}) > 1:
                raise InvalidArgument(f"several layers have IDs that begin with {text}") from error
            return "layer", str(found[0].id), [found[0].id], [found[0].name]
        if not image.layers:
            raise InvalidArgument(f"{reference[:300]} has no layers")
        return "image", str(image.id), image.layers, [facts.name for facts in self._layers.chain(image.layers[-1])]

    def _forget(self, target: str) -> None:
        with suppress(FileNotFoundError):
            os.unlink(self._file(target))
        self._leases.unpin(_owner(target))

    def _file(self, target: str) -> str:
        return f"{self._directory}/{hashlib.sha256(os.fsencode(target)).hexdigest()[:32]}.json"


def _mounted(each: Mount) -> bool:
    """Whether it is there still, and is what was mounted."""
    return bool(each.device) and _device(each.target) == each.device


def _device(target: str) -> str:
    """The number of what is mounted at a place, by mountinfo's last line for it; empty where nothing is. A layer's tree is on a
    file system that is mounted elsewhere too: os.path.ismount would not see it."""
    found = b""
    with open("/proc/self/mountinfo", "rb") as file:
        for line in file:
            fields = line.split(b" ", 5)
            if _plain(fields[4]) == os.fsencode(target):
                found = fields[2]
    return found.decode()


def _plain(text: bytes) -> bytes:
    """A path of mountinfo without its octal escapes (proc(5))."""
    return re.sub(rb"\\([0-7]{3})", lambda code: bytes([int(code[1], 8)]), text)


def _owner(target: str) -> str:
    return f"mount:{target}"


def _checked(target: str, root: str) -> str:
    """`target` without symbolic links, if something may be mounted there."""
    if not os.path.isabs(target) or not os.path.isdir(target):
        raise InvalidArgument(f"{'not a' if os.path.lexists(target) else 'no such'} directory: {target[:300]}")
    target = os.path.realpath(target)
    if os.path.commonpath([target, root]) in (target, root):
        raise InvalidArgument(f"refusing to mount at {target[:300]}: that is in, or hides, the data root {root}")
    hidden = next((needed for needed in _NEEDED if os.path.commonpath([target, needed]) == target), None)
    if hidden is not None or target.startswith(("/proc/", "/sys/")):
        raise InvalidArgument(f"refusing to mount at {target[:300]}: the engine needs {hidden or 'what is there'}")
    return target
