"""Stacking layers with overlayfs so that nothing of the host shows: no path of a layer in mountinfo.

Newer kernels (6.13, and 6.15 for mounts that are attached nowhere) take each lower layer as a descriptor.
Older ones take paths; there the layers are put under short names in a tmpfs, in the caller's own
mount namespace, and given relative to it. The upper directory is always given relative to its parent.
"""

from __future__ import annotations

import errno
import os

from lamina.linux import channel, mount, prctl
from lamina.linux.apart import apart

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    Mapping = tuple[int, tuple[int, int]]
    """A user namespace (a descriptor of one), and its root's user and group outside."""

_OPTIONS = (("index", "off"), ("redirect_dir", "off"), ("metacopy", "off"), ("xino", "off"))
"""Always said, since a kernel may be built with other defaults, and commit and diff read the upper directory itself."""
_NO_DESCRIPTORS = (errno.EINVAL, errno.EBADF, errno.ENOTSUP)


def mount_overlay(
    lowers: Sequence[tuple[int | None, str | None]], upper: str | None, work: str | None, scratch: str, *, volatile: bool = False
) -> int:
    """A descriptor of a detached overlay mount, for `mount.move_mount`; the caller closes it.

    `lowers`, top first, are a descriptor of a detached mount, or a path. `upper` and `work` lie in one
    directory, or are None (read-only). Without `lowers`, `upper` alone is the root, and nothing is stacked. `scratch` is a
    directory that may be covered for a moment: call this in a private mount namespace.

    Raises:
        OSError: the kernel refused; nothing stays mounted.
    """
    if (alone := _alone(lowers, upper)) is not None:
        return alone
    before = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            return _by_descriptors(lowers, upper, work, volatile=volatile)
        except OSError as error:
            if error.errno not in _NO_DESCRIPTORS:
                raise
        return _by_names(lowers, upper, work, scratch, volatile=volatile)
    finally:
        os.fchdir(before)
        os.close(before)


def renew(work: str) -> None:
    """Take the mark, or the half of it that there was room for, from a work directory that was mounted `volatile`, with which the kernel
    refuses it (ovl_workdir_cleanup_recurse)."""
    mark = f"{work}/work/incompat/volatile"
    for remove, path in ((os.unlink, f"{mark}/dirty"), (os.rmdir, mark)):
        try:
            remove(path)
        except FileNotFoundError:
            pass


def _alone(lowers: Sequence[tuple[int | None, str | None]], upper: str | None) -> int | None:
    """One directory needs no overlay, only a copy of its mount, read-only if it is a layer's; None where there are more."""
    if len(lowers) + (upper is not None) != 1:
        return None
    fd, path = lowers[0] if lowers else (None, upper)
    copied = mount.open_tree(path or "", directory=mount.AT_FDCWD if fd is None else fd)
    # Private: what is mounted on it must not appear on the host, where the mount it was copied from is shared.
    mount.set_attributes(copied, mount.MOUNT_ATTR_RDONLY if lowers else 0, propagation=mount.MS_PRIVATE)
    return copied


def _by_descriptors(lowers: Sequence[tuple[int | None, str | None]], upper: str | None, work: str | None, *, volatile: bool) -> int:
    context = mount.fsopen("overlay")
    opened: list[int] = []
    try:
        for fd, path in lowers:
            if fd is None:
                # A detached copy has no path, so none can be shown.
                fd = mount.open_tree(path or "")
                opened.append(fd)
            mount.set_fd(context, "lowerdir+", fd)
        return _finish(context, upper, work, volatile=volatile)
    finally:
        os.close(context)
        for fd in opened:
            os.close(fd)


def _by_names(
    lowers: Sequence[tuple[int | None, str | None]],
    upper: str | None,
    work: str | None,
    scratch: str,
    *,
    volatile: bool,
    mapping: Mapping | None = None,
) -> int:
    """See `mount_overlay`, with `mapping` `mount_overlay_mapped`: by mount(2), which wants names. All is attached under short ones in a
    tmpfs on `scratch`. The working directory is / then."""
    mount.mount("tmpfs", scratch, "tmpfs", mount.MS_NOSUID | mount.MS_NODEV)
    try:
        mount.mount("", scratch, flags=mount.MS_PRIVATE)
        names = [_place(f"{scratch}/{number}", fd, path, mapping) for number, (fd, path) in enumerate(lowers)]
        joined = ":".join(names)
        if upper is not None:
            # One working directory must reach the layers and the upper: the upper's parent is placed beside them.
            _place(f"{scratch}/u", None, os.path.dirname(upper), mapping)
            upper, work = f"u/{os.path.basename(upper)}", f"u/{os.path.basename(work or '')}"
        options = [f"lowerdir={joined}", *(f"{key}={value}" for key, value in _OPTIONS)]
        if upper is not None:
            options += [f"upperdir={upper}", f"workdir={work}", *(["volatile"] if volatile else [])]
        os.chdir(scratch)
        if upper is not None and not lowers:
            return mount.open_tree(upper)
        os.mkdir("root")
        if mapping is not None:
            prctl.set_file_ids(*mapping[1])
        # By mount(2): fsconfig takes at most 255 characters for a value, which is some 70 layers.
        mount.mount("overlay", "root", "overlay", 0 if upper is not None else mount.MS_RDONLY, ",".join(options))
        return mount.open_tree("root")
    finally:
        if mapping is not None:
            prctl.set_file_ids(0, 0)
        os.chdir("/")
        mount.unmount(scratch, mount.MNT_DETACH)


def _place(target: str, fd: int | None, path: str | None, mapping: Mapping | None = None) -> str:
    """Attach a copy of a layer's mount at `target`; its short name."""
    os.mkdir(target)
    copied = mount.open_tree(path or "", directory=mount.AT_FDCWD if fd is None else fd)
    try:
        if mapping is not None:
            mount.map_ids(copied, mapping[0])
        mount.move_mount(copied, target)
    finally:
        os.close(copied)
    return os.path.basename(target)


def _finish(context: int, upper: str | None, work: str | None, *, volatile: bool, mapped: bool = False) -> int:
    mount.set_string(context, "source", "overlay")
    for key, value in _OPTIONS:
        mount.set_string(context, key, value)
    if upper is not None and work is not None:
        os.chdir(os.path.dirname(upper))
        mount.set_string(context, "upperdir", os.path.basename(upper))
        mount.set_string(context, "workdir", os.path.basename(work))
    if volatile and (upper is not None or mapped):
        mount.set_flag(context, "volatile")
    mount.create(context)
    return mount.fsmount(context)


def mount_overlay_anywhere(
    lowers: Sequence[tuple[int | None, str | None]], upper: str | None, work: str | None, scratch: str, *, volatile: bool = False
) -> int:
    """See `mount_overlay`; for callers in the host's mount namespace.

    Where the kernel takes no descriptors, a forked child does it in a namespace of its own: only for
    processes with one thread.
    """
    if (alone := _alone(lowers, upper)) is not None:
        return alone
    before = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return _by_descriptors(lowers, upper, work, volatile=volatile)
    except OSError as error:
        if error.errno not in _NO_DESCRIPTORS:
            raise
    finally:
        os.fchdir(before)
        os.close(before)
    return apart(lambda: [mount_overlay(lowers, upper, work, scratch, volatile=volatile)])[0]


def mount_overlay_mapped(
    lowers: Sequence[tuple[int | None, str | None]],
    upper: str | None,
    work: str | None,
    scratch: str,
    mapping: Mapping,
    *,
    volatile: bool = False,
) -> int:
    """See `mount_overlay_anywhere`; what root of a user namespace owns inside is 0's on disk: layers are mapped, not copied.

    Overlayfs itself cannot be mapped, so each of its layers is, the writable one too. It writes as who mounts it, so that must be
    someone who is mapped.

    Raises:
        OSError: a layer's file system cannot (EINVAL).
    """
    try:
        return _mapped_by_descriptors(lowers, upper, work, mapping, volatile=volatile)
    except OSError as error:
        if error.errno not in _NO_DESCRIPTORS:
            raise
    return apart(lambda: [_by_names(lowers, upper, work, scratch, volatile=volatile, mapping=mapping)])[0]


def _mapped_by_descriptors(
    lowers: Sequence[tuple[int | None, str | None]], upper: str | None, work: str | None, mapping: Mapping, *, volatile: bool
) -> int:
    """An overlay of id-mapped copies; the caller closes it. Upper and work are opened in one copy of the directory above both."""
    owner, ids = mapping
    copies: list[int] = []
    context = -1
    try:
        for fd, path in lowers:
            copies.append(mount.open_tree(path or "", directory=mount.AT_FDCWD if fd is None else fd))
            mount.map_ids(copies[-1], owner)
        if upper is None or work is None:
            writable: list[int] = []
        else:
            copies.append(mount.open_tree(os.path.dirname(upper)))
            mount.map_ids(copies[-1], owner)
            writable = [
                os.open(os.path.basename(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=copies[-1]) for path in (upper, work)
            ]
            copies += writable
        if not lowers and writable:
            return mount.open_tree("", directory=writable[0])
        context = mount.fsopen("overlay")
        for fd in copies[: len(lowers)]:
            mount.set_fd(context, "lowerdir+", fd)
        for key, fd in zip(("upperdir", "workdir"), writable, strict=False):
            mount.set_fd(context, key, fd)
        prctl.set_file_ids(*ids)
        return _finish(context, None, None, volatile=volatile, mapped=bool(writable))
    finally:
        prctl.set_file_ids(0, 0)
        channel.close_all([*copies, *([context] if context >= 0 else [])])
