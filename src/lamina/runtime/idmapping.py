"""The launcher's part of a launch into a user namespace; see `mapped` for what is done where, and why."""

from __future__ import annotations

import errno
import os
import resource

from lamina.linux import channel, mount, namespace, overlay
from lamina.linux.apart import apart
from lamina.runtime import init

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from lamina.runtime.launcher import Prepared

_TERMINAL_TIMEOUT = 10.0


def prepare(mapping: Mapping[str, Any], prepared: Prepared, scratch: str) -> None:
    """Into the slots: a user namespace to map mounts by, the device nodes, and a pipe that says when the new one has its maps.

    `scratch`: as overlay.mount_overlay has it.
    """
    try:
        prepared.keep("user_namespace", namespace.user_namespace(mapping))
    except OSError as error:
        raise OSError(error.errno, f"user namespaces cannot be used here: {os.strerror(error.errno or 0)}") from None
    if mapping["nodes"]:
        _make_nodes(mapping, prepared, scratch)
    reader, writer = os.pipe()
    prepared.keep("mapped", reader)
    prepared.keep("mapped_told", writer)


def _make_nodes(mapping: Mapping[str, Any], prepared: Prepared, scratch: str) -> None:
    """Device nodes in a file system of the host's: those of a user namespace's own are not devices."""
    folder = prepared.keep("nodes", init.make_filesystem("tmpfs", "devices", [["mode", "755"]], mount.MOUNT_ATTR_NOEXEC))
    for number, (_, (_, kind, major, minor, mode, uid, gid)) in enumerate(mapping["nodes"]):
        owner = (outside(mapping["uids"], uid), outside(mapping["gids"], gid))
        init.nodes({"/": folder}, [[f"/{number}", kind, major, minor, mode, *owner]])
    for (slot, _), fd in zip(mapping["nodes"], _as_mounts(folder, len(mapping["nodes"]), scratch), strict=True):
        prepared.keep(slot, fd)


def _as_mounts(folder: int, count: int, scratch: str) -> list[int]:
    """Each of the nodes as a mount of its own."""
    try:
        return _copies(folder, count)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    # Before Linux 6.15 nothing is copied from a mount that is attached nowhere.
    return apart(lambda: _attached_copies(folder, count, scratch))


def _copies(folder: int, count: int) -> list[int]:
    return [mount.open_tree(str(number), directory=folder) for number in range(count)]


def _attached_copies(folder: int, count: int, scratch: str) -> list[int]:
    mount.move_mount(folder, scratch)
    return [mount.open_tree(f"{scratch}/{number}") for number in range(count)]


def outside(ranges: Sequence[Sequence[int]], number: int) -> int:
    """What an id inside is on the host; one that the host does not have is nobody's (65534)."""
    return next((first + number - inside for inside, first, count in ranges if inside <= number < inside + count), 65534)


def refuse_unmapped(owners: Mapping[str, Any], user: tuple[int, int, Sequence[int]]) -> None:
    """Nobody can be a user or a group that the namespace does not have.

    Raises:
        OSError: it names the id.
    """
    uid, gid, groups = user
    for kind, wanted in (("uids", [uid]), ("gids", [gid, *groups])):
        for number in wanted:
            if not any(inside <= number < inside + count for inside, _, count in owners[kind]):
                total = sum(count for _, _, count in owners[kind])
                raise OSError(errno.EINVAL, f"id {number} is outside of the container's user namespace, which has {total}")


def map_sources(mapping: Mapping[str, Any], slots: Mapping[str, Any]) -> None:
    """Id-map what was opened for binding and give it its attributes: the process inside may not change mounts of the host's.

    Raises:
        OSError: a file system cannot be mapped.
    """
    for slot, changes, path in mapping["sources"]:
        for add, remove, recursive, propagation in changes:
            mount.set_attributes(slots[slot], add, remove, recursive=recursive, propagation=propagation)
        if not path:
            continue  # the kernel's, which has no ids to map
        try:
            mount.map_ids(slots[slot], slots["user_namespace"], recursive=True)
        except OSError as error:
            raise _unmappable(error, f"{path}, or what is mounted below it,") from None


def root(
    lowers: Sequence[tuple[int | None, str | None]], document: Mapping[str, Any], scratch: str, mapping: Mapping[str, Any], owner: int
) -> int:
    """The root with each of its layers mapped. `scratch`: as overlay.mount_overlay has it. Raises as map_sources."""
    whose = (owner, (outside(mapping["uids"], 0), outside(mapping["gids"], 0)))
    try:
        return overlay.mount_overlay_mapped(lowers, document["upper"], document["work"], scratch, whose, volatile=document["volatile"])
    except OSError as error:
        raise _unmappable(error, "the file system of the engine's data root") from None


def _unmappable(error: OSError, what: str) -> OSError:
    if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM):
        return error
    return OSError(
        error.errno, f"user namespaces cannot be used here: {what} cannot be id-mapped by this kernel ({os.strerror(error.errno)})"
    )


def settle(pid: int, mapping: Mapping[str, Any], slots: Mapping[str, Any]) -> None:
    """Give the new user namespace its maps, and the process what it cannot give itself; then let it go on."""
    if not mapping["joined"]:
        namespace.write_maps(pid, mapping)
    for number, soft, hard in slots["rlimits"]:
        resource.prlimit(pid, number, (soft, hard))
    if slots["oom"] is not None:
        with open(f"/proc/{pid}/oom_score_adj", "wb", buffering=0) as file:
            file.write(str(slots["oom"]).encode())
    os.write(slots["mapped_told"], b"+")


def expect_terminal(document: Mapping[str, Any], prepared: Prepared) -> None:
    """Somewhere for the master of a terminal to arrive, and what size init gives it."""
    mine, theirs = channel.pair()
    prepared.slots["terminal"], prepared.slots["terminal_here"] = theirs, mine
    prepared.slots["size"] = document.get("size")


def take_terminal(prepared: Prepared) -> None:
    """The master, once the command runs."""
    _, (prepared.master,) = prepared.slots["terminal_here"].recv(_TERMINAL_TIMEOUT)
