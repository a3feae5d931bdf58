"""The containers' part of `system check`: their files on the disk against what this process knows, and what is mounted for nobody."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from functools import partial

from lamina.apitypes.finding import LOST, Finding, settled
from lamina.container.live import Live, Roster
from lamina.container.model import IMAGE_CAP, INIT, State
from lamina.container.parts import Parts
from lamina.container.removal import remove_tree
from lamina.container.sharing import shared
from lamina.container.snapshots import FOLDER, SnapshotStore
from lamina.container.store import RECORDS, SCRATCH, ContainerStore, decode_record, decode_state, encode_record, encode_state
from lamina.content.files import listed, read_file
from lamina.errors import LaminaError
from lamina.linux import mount
from lamina.runtime.initlayer import write_init_layer
from lamina.spec.digest import Digest

_MOUNTED_FOR_CONTAINERS = ("containers", "layers", "stacks")
"""Folders of the data root below which nothing may be mounted in the host's sight."""


class Auditor:
    """One look at all containers. With `repair` what can be made anew is."""

    def __init__(self, parts: Parts, store: ContainerStore, roster: Roster, snapshots: SnapshotStore, *, repair: bool) -> None:
        self._parts, self._store, self._roster, self._snapshots, self._repair = parts, store, roster, snapshots, repair

    def run(self) -> Iterator[Finding]:
        """What is wrong, container by container, then what belongs to none."""
        yield from self._init_layer()
        for live in self._roster.all():
            yield from self._container(live)
        yield from self._snapshot_records()
        yield from self._unknown()
        yield from self._mounts()

    def _container(self, live: Live) -> Iterator[Finding]:
        with live.lock:
            if live.removing:
                return
            # All at once: who reads the answer slowly, or not at all, must not hold the container meanwhile.
            found = [*self._documents(live), *self._folders(live), *self._needs(live)]
        yield from found

    def _documents(self, live: Live) -> Iterator[Finding]:
        container = live.container
        record = encode_record(container)
        for name in RECORDS:
            # Read and written again: an older version's has no checksum.
            if _decoded(f"{container.directory}/{name}", lambda data: encode_record(decode_record(data, container.directory))) != record:
                yield self._found(live, name, "is missing or not what was written", partial(self._store.save, container))
        place = f"{container.directory}/state.json"
        unwritten = container.state.status is State.CREATED and not os.path.exists(place)
        if _decoded(place, lambda data: encode_state(decode_state(data))) != encode_state(container.state) and not unwritten:
            yield self._found(live, "state.json", "is missing or not what was written", partial(self._store.save_state, container))

    def _folders(self, live: Live) -> Iterator[Finding]:
        directory = live.container.directory
        if not os.path.isdir(f"{directory}/diff"):
            yield self._lost(live, "diff", "what it wrote is gone", f"lamina rm -f {live.container.name}")
        work = f"{live.container.home}/work"
        if not os.path.isdir(work) and os.path.isdir(live.container.home):
            yield self._found(live, "work", "overlayfs's folder is missing", partial(os.mkdir, work, 0o700))

    def _needs(self, live: Live) -> Iterator[Finding]:
        """Its layers, and the volumes that it names."""
        container = live.container
        try:
            self._parts.layers.chain(Digest.parse(container.layer) if container.layer else None)
        except LaminaError as error:
            yield self._lost(live, "", f"{error.message}: what it stands on", f"pull or load {container.image_name} again")
        yield from self._stands_on(live)
        present = {volume.name for volume in self._parts.volumes.list()}
        for point in container.mounts:
            if point.name and point.name not in present:
                advice = f"lamina volume create {point.name} makes an empty one"
                yield self._lost(live, "", f"its volume {point.name} is gone", advice)

    def _stands_on(self, live: Live) -> Iterator[Finding]:
        """Its snapshots, and those that it stands on."""
        container = live.container
        chain = self._snapshots.chain(container.base, known=True)
        lost = {each.id for each in (*chain, *self._snapshots.of(container.id)) if not os.path.isdir(each.diff)}
        below = chain[0].parent if chain else container.base
        for identity in sorted(lost | {below} - {""}):
            problem, advice = f"its snapshot {identity[:12]} is gone", "what it kept cannot be brought back"
            yield Finding(f"container {container.name}", f"containers/{FOLDER}/{identity}", problem, LOST, advice)

    def _snapshot_records(self) -> Iterator[Finding]:
        for snapshot in self._snapshots.unsound():
            where = f"containers/{FOLDER}/{snapshot.id}"
            finding = Finding(f"snapshot {snapshot.name or snapshot.id[:12]}", where, "its record is missing or not what was written", "")
            yield settled(finding, self._mender(partial(self._snapshots.rewrite, snapshot)))
        for name in self._snapshots.strangers():
            where, advice = f"containers/{FOLDER}/{name}", "what it kept is in its diff; remove the folder when that is not needed"
            yield Finding(f"snapshot {name[:12]}", where, "its record cannot be read", LOST, advice)

    def _init_layer(self) -> Iterator[Finding]:
        """The layer of mount points that all containers share, and what was made of it for images whose /etc looks otherwise."""
        files = (".dockerenv", "dev/console", "etc/hosts", "etc/hostname", "etc/resolv.conf")
        folders = ("dev/pts", "dev/shm", "proc", "sys")
        made = sorted(name for name in os.listdir(self._store.root) if name.startswith(f"{INIT}-"))
        for name in (INIT, *made):
            init = f"{self._store.root}/{name}"
            if any(read_file(f"{init}/{file}") != b"" for file in files) or not all(
                os.path.isdir(f"{init}/{folder}") for folder in folders
            ):
                mend = partial(write_init_layer if name == INIT else self._delete, init)
                yield settled(
                    Finding("the containers' init layer", f"containers/{name}", "is not what was written", ""), self._mender(mend)
                )

    def _unknown(self) -> Iterator[Finding]:
        for identity in self._store.unreadable():
            if not self._known(identity):
                advice = f"what it wrote is in {self._store.root}/{identity}/diff; remove the folder when that is not needed"
                yield Finding(f"container {identity[:12]}", f"containers/{identity}", "its record cannot be read", LOST, advice)
        left = [name for name in map(os.path.basename, self._store.leftovers()) if not (name.startswith(".") or self._known(name))]
        for name in sorted([*left, *self._store.strangers()]):
            finding = Finding("stray", f"containers/{name}", "belongs to no container", "")
            yield settled(finding, self._mender(partial(self._delete, f"{self._store.root}/{name}")))

    def _delete(self, path: str) -> None:
        if os.path.isdir(path) and not os.path.islink(path):
            remove_tree(path, self._parts.workers)
        else:
            os.unlink(path)

    def _known(self, identity: str) -> bool:
        """Whether there is such a container, or one is being made."""
        try:
            return self._roster.names.find(identity) == identity
        except LaminaError:
            return False

    def _mounts(self) -> Iterator[Finding]:
        """Mounts in the host's sight, where an engine of this version makes none or nobody needs it."""
        root = os.path.dirname(self._store.root)
        known = {facts.name for facts in self._parts.layers.all()}
        mounted = mount_points()
        needed = {path for live in self._roster.all() for path in _mounts_of(live)}
        for target in reversed(mounted):
            inside = os.path.relpath(target, root)
            name = os.path.basename(target)
            if target in needed:
                continue
            dangling = any(inside.startswith(f"{folder}/") for folder in _MOUNTED_FOR_CONTAINERS) and not inside.startswith(
                f"containers/{SCRATCH}"
            )
            dangling |= os.path.dirname(inside) == "run/layers" and len(name) == 64 and name not in known and not self._merged(root, name)
            if dangling and os.path.ismount(target):  # a container may have ended meanwhile
                unmount = partial(mount.unmount, target, mount.MNT_DETACH | mount.UMOUNT_NOFOLLOW)
                yield settled(Finding("mount", inside, "is mounted for nobody", ""), self._mender(unmount))

    def _merged(self, root: str, name: str) -> bool:
        return any(entry.startswith(name) for entry in listed(f"{root}/stacks"))

    def _found(self, live: Live, name: str, problem: str, mend: Callable[[], object]) -> Finding:
        where = f"containers/{live.container.id}/{name}"
        return settled(Finding(f"container {live.container.name}", where, f"{name} {problem}", ""), self._mender(mend))

    def _lost(self, live: Live, name: str, problem: str, advice: str) -> Finding:
        where = f"containers/{live.container.id}/{name}".rstrip("/")
        return Finding(f"container {live.container.name}", where, problem, LOST, advice)

    def _mender(self, mend: Callable[[], object]) -> Callable[[], object] | None:
        return mend if self._repair else None


def _mounts_of(live: Live) -> tuple[str, ...]:
    """What is mounted on the host for a container: its sparse image, and while it runs the /dev/shm that it shares."""
    with live.lock:  # a start mounts before it is one that runs
        container = live.container
        image = (container.home, container.upper) if container.cap == IMAGE_CAP else ()
        return (*image, shared(container)) if container.running else image


def mount_points() -> list[str]:
    """Where something is mounted, in the order of mounting."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        fields = [line.split(" ", 5)[4] for line in file]
    return [re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), field) for field in fields]


def _decoded(path: str, decode: Callable[[bytes], bytes]) -> bytes | None:
    """What a file says, None where it cannot be read."""
    data = read_file(path)
    try:
        return None if data is None else decode(data)
    except (ValueError, KeyError, TypeError):
        return None
