# ruff: noqa: ARG001 (every operation has the same form)
"""What a container's first process does between clone3 and execve: a flat list of operations, in order.

Nothing is imported here after the first operation, and nothing that the image holds is parsed: names, ids and
limits were settled before (`plan`, `users`). An operation that fails ends it all: what failed is written to
the report pipe, and the command never runs. execve closes that pipe, which says that it runs.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import _socket
import errno
import fcntl
import os
import resource
import stat
import struct

from lamina.linux import capability, mount, namespace, prctl, seccomp, tty
from lamina.linux.openat2 import openat2
from lamina.runtime import hooks as hooks_of_a_bundle
from lamina.runtime.parting import controlling_terminal, let_go, part
from lamina.runtime.targets import SAFE, STRICT, attach_at, place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, Never

    Slots = dict[str, Any]

READY, REACHED = b"\1", b"\2"
_NULL_DEVICE = os.makedev(1, 3)
# Two have no handler, and the C library keeps two for itself.
_SIGNALS = tuple(number for number in range(1, _signal.NSIG) if number not in (_signal.SIGKILL, _signal.SIGSTOP, 32, 33))
_SIOCSIFFLAGS, _UP_RUNNING = 0x8914, 0x41


def perform(steps: Sequence[Sequence[Any]], slots: Slots) -> Never:
    """Do one operation after the other; the last executes the command. Never returns.

    `slots` are descriptors and values that the steps name. What fails is written to the descriptor `report` of them: step, name, errno and a
    text, in front of which may come what of a step it was about, each ended by a NUL.
    """
    number, name = -1, "start"
    try:
        for number, (name, *arguments) in enumerate(steps):  # noqa: B007
            _OPERATIONS[name](slots, *arguments)
    except OSError as error:
        text = error.strerror or os.strerror(error.errno or 0)
        os.write(slots["report"], f"{number}\0{name}\0{error.errno or 0}\0{text}".encode(errors="replace")[:3000])
    except BaseException as error:
        os.write(slots["report"], f"{number}\0{name}\0{0}\0{type(error).__name__}: {error}".encode(errors="replace")[:3000])
    finally:
        os._exit(125)


# --- namespaces and the root


def die_with_parent(slots: Slots) -> None:
    """Do not outlive the monitor; it may be gone already, then its end of the go pipe is closed and `wait` sees it."""
    prctl.die_with_parent()


def enter_groups(slots: Slots) -> None:
    """Move into the version 1 control groups; version 2's is where this process was cloned into."""
    for fd in slots["groups"]:
        os.write(fd, b"0")
        os.close(fd)


def new_session(slots: Slots) -> None:
    """Leave the engine's session and process group."""
    os.setsid()


def private_mounts(slots: Slots) -> None:
    """No mount made here reaches the host."""
    mount.mount("", "/", flags=mount.MS_REC | mount.MS_PRIVATE)


def enter_root(slots: Slots, slot: str) -> None:
    """Make a detached mount the root, and let go of everything of the host's."""
    mount.move_mount(slots[slot], "/")
    slots["/"] = slots[slot]
    enter_placed_root(slots)


def place_root(slots: Slots, slot: str, path: str) -> None:
    """Put a detached mount somewhere on the host, to enter it later: hooks are to see it there."""
    where = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    mount.move_mount(slots[slot], "", directory=where)
    os.close(where)
    slots["/"] = slots[slot]


def enter_placed_root(slots: Slots) -> None:
    """Make what was put somewhere the root; see enter_root."""
    os.fchdir(slots["/"])
    namespace.pivot_root(".", ".")
    # "." now has the host's tree stacked on it.
    mount.unmount(".", mount.MNT_DETACH)
    os.chdir("/")
    slots["/"] = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def change_root(slots: Slots) -> None:
    """Without a mount namespace of its own the host's root is only out of sight, not let go of."""
    os.fchdir(slots["/"])
    os.chroot(".")
    os.chdir("/")


def change_to_joined_root(slots: Slots, slot: str) -> None:
    """The root of a process without a mount namespace of its own."""
    slots["/"] = slots[slot]
    change_root(slots)


def reached(slots: Slots) -> None:
    """Tell the launcher that it is here: that all is mounted, or that its namespaces stand."""
    os.write(slots["report"], REACHED)


def become_root(slots: Slots) -> None:
    """Be the root of the user namespace: until then this is nobody in it, though with all its capabilities."""
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def unshare(slots: Slots, flags: int) -> None:
    """Make further namespaces."""
    namespace.unshare(flags)


def join(slots: Slots, slot: str, flags: int) -> None:
    """Enter namespaces that exist."""
    namespace.setns(slots[slot], flags)


def enter_joined_root(slots: Slots) -> None:
    """After joining a mount namespace the root is that namespace's."""
    slots["/"] = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def wait(slots: Slots, slot: str) -> None:
    """Wait for the monitor's word; it says nothing where it failed."""
    if os.read(slots[slot], 1) != b"+":
        raise OSError(errno.ECANCELED, "the monitor gave up")


def host_name(slots: Slots, name: str) -> None:
    """Name the new UTS namespace."""
    namespace.set_host_name(name)


def domain_name(slots: Slots, name: str) -> None:
    """Its domain."""
    namespace.set_domain_name(name)


def loopback(slots: Slots) -> None:
    """Bring the loopback interface up."""
    probe = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
    fcntl.ioctl(probe.fileno(), _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", _UP_RUNNING))
    probe.close()


# --- mounts


def _make(kind: str, source: str, options: Sequence[Sequence[str]], attributes: int) -> int:
    """A detached mount of a new file system."""
    context = mount.fsopen(kind)
    try:
        mount.set_string(context, "source", source)
        for key, *value in options:
            if value:
                mount.set_string(context, key, value[0])
            else:
                mount.set_flag(context, key)
        mount.create(context)
        return mount.fsmount(context, attributes)
    finally:
        os.close(context)


make_filesystem = _make


def private_proc(slots: Slots) -> None:
    """A procfs of this pid namespace attached nowhere: nothing an image does can stand between it and a write."""
    slots["proc"] = _make("proc", "proc", (), 0)


def filesystem(slots: Slots, kind: str, target: str, source: str, options: Sequence[Sequence[str]], attributes: int, strict: bool) -> None:
    """Mount a new file system. `strict` refuses symlinks in the target's path."""
    fd = _make(kind, source, options, attributes)
    attach_at(slots["/"], fd, target, STRICT if strict else SAFE)
    os.close(fd)


def make(slots: Slots, slot: str, kind: str, source: str, options: Sequence[Sequence[str]], attributes: int) -> None:
    """Make a file system now, to attach it later."""
    slots[slot] = _make(kind, source, options, attributes)


def attach(slots: Slots, slot: str, target: str, strict: bool, changes: Sequence[Sequence[Any]]) -> None:
    """Mount what was opened on the host, or made there, with its attributes changed before it appears."""
    fd = slots[slot]
    for add, remove, recursive, propagation in changes:
        mount.set_attributes(fd, add, remove, recursive=recursive, propagation=propagation)
    is_directory = stat.S_ISDIR(os.fstat(fd).st_mode)
    attach_at(slots["/"], fd, target, STRICT if strict else SAFE, directory=is_directory)


def set_mount(slots: Slots, target: str, add: int, remove: int, recursive: bool, propagation: int) -> None:
    """Change attributes of the mount at `target`."""
    where = openat2(slots["/"], target, os.O_PATH, SAFE)
    mount.set_attributes(where, add, remove, recursive=recursive, propagation=propagation)
    os.close(where)


def nodes(slots: Slots, devices: Sequence[Sequence[Any]]) -> None:
    """Make device nodes: path, type letter, major, minor, mode, uid, gid."""
    kinds = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}
    where, opened = -1, ""
    for path, kind, major, minor, mode, uid, gid in devices:
        parent, _, name = path.rpartition("/")
        if where < 0 or parent != opened:
            where, opened = place(slots["/"], parent or "/", STRICT), parent
        os.mknod(name, kinds[kind] | mode, os.makedev(major, minor), dir_fd=where)
        os.chmod(name, mode, dir_fd=where)
        if uid or gid:
            os.chown(name, uid, gid, dir_fd=where, follow_symlinks=False)


def links(slots: Slots, pairs: Sequence[Sequence[str]]) -> None:
    """Make symlinks in /dev: path, what it points to."""
    where = openat2(slots["/"], "dev", os.O_PATH | os.O_DIRECTORY, STRICT)
    for name, target in pairs:
        try:
            os.symlink(target, name, dir_fd=where)
        except FileExistsError:
            continue
    os.close(where)


def open_terminal(slots: Slots, slot: str) -> None:
    """A pty of the devpts in a slot, made inside since it belongs to whoever is inside; its master goes to the launcher."""
    master, slave = tty.open_pty(slots[slot])
    os.fchown(slave, slots["user"][0], -1)
    if slots["size"]:
        tty.set_size(master, *slots["size"])
    slots["terminal"].send({}, [master])
    os.close(master)
    for name in ("slave", "stdin", "stdout", "stderr"):
        slots[name] = slave


def console(slots: Slots, slot: str) -> None:
    """Put the terminal at /dev/console; its descriptor came from TIOCGPTPEER, no path leads to it."""
    fd = mount.open_tree("", directory=slots[slot])
    attach_at(slots["/"], fd, "dev/console", STRICT, directory=False)
    os.close(fd)


def mask(slots: Slots, paths: Sequence[str]) -> None:
    """Hide files behind /dev/null and directories behind an empty one, where they exist."""
    null = openat2(slots["/"], "dev/null", os.O_PATH, STRICT)
    found = os.fstat(null)
    if not stat.S_ISCHR(found.st_mode) or found.st_rdev != _NULL_DEVICE:
        raise OSError(errno.EPERM, "/dev/null is not the null device")
    empty = -1
    for path in paths:
        try:
            where = openat2(slots["/"], path, os.O_PATH, SAFE)
        except (FileNotFoundError, NotADirectoryError):
            continue
        if not stat.S_ISDIR(os.fstat(where).st_mode):
            fd = mount.open_tree("", directory=null)
        elif empty < 0:
            fd = empty = _make("tmpfs", "tmpfs", (("ro",),), mount.MOUNT_ATTR_RDONLY)
        else:
            fd = mount.open_tree("", directory=empty)
        mount.move_mount(fd, "", directory=where)


def read_only(slots: Slots, paths: Sequence[str]) -> None:
    """Make paths read-only where they exist."""
    for path in paths:
        try:
            where = openat2(slots["/"], path, os.O_PATH, SAFE)
        except (FileNotFoundError, NotADirectoryError):
            continue
        fd = mount.open_tree("", directory=where, recursive=True)
        mount.set_attributes(fd, mount.MOUNT_ATTR_RDONLY, recursive=True)
        mount.move_mount(fd, "", directory=where)


def read_only_root(slots: Slots) -> None:
    """Make the root mount itself read-only; mounts on it stay as they are."""
    mount.set_attributes(slots["/"], mount.MOUNT_ATTR_RDONLY)


# --- the process


def _write_proc(slots: Slots, path: str, value: str) -> None:
    fd = openat2(slots["proc"], path, os.O_WRONLY, SAFE if path.startswith("self/") else STRICT)
    os.write(fd, value.encode())
    os.close(fd)


def sysctls(slots: Slots, values: Sequence[Sequence[str]]) -> None:
    """Set kernel parameters of these namespaces: path below /proc/sys, value."""
    for name, value in values:
        try:
            _write_proc(slots, f"sys/{name}", value)
        except OSError as error:
            raise OSError(error.errno, f"{name.replace('/', '.')}={value}\0{os.strerror(error.errno or 0)}") from None


def oom_score(slots: Slots, slot: str) -> None:
    """How likely the kernel picks this process when memory runs out; nothing where it was not said."""
    if slots[slot] is not None:
        _write_proc(slots, "self/oom_score_adj", str(slots[slot]))


def label(slots: Slots, profile: str) -> None:
    """The AppArmor profile that execve enters."""
    _write_proc(slots, "self/attr/apparmor/exec", f"exec {profile}")


def limits(slots: Slots, slot: str) -> None:
    """Resource limits: number, soft, hard."""
    for number, soft, hard in slots[slot]:
        resource.setrlimit(number, (soft, hard))


def stdio(slots: Slots, terminal: bool) -> None:
    """Put standard input, output and error in their places."""
    for target, slot in enumerate(("stdin", "stdout", "stderr")):
        os.dup2(slots[slot], target, inheritable=True)
    if terminal:
        tty.make_controlling(0)


def signals(slots: Slots) -> None:
    """Give back what the interpreter changed: ignored signals outlive execve."""
    for number in _SIGNALS:
        if _signal.getsignal(number) != _signal.SIG_DFL:
            _signal.signal(number, _signal.SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())


def file_mask(slots: Slots, value: int) -> None:
    """The umask."""
    os.umask(value)


def keyring(slots: Slots, name: str) -> None:
    """A session keyring of its own, where the kernel has keyrings."""
    try:
        prctl.join_new_keyring(name)
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise


def close_descriptors(slots: Slots) -> None:
    """No descriptor is inherited but the standard ones, and those after them that were asked for."""
    namespace.close_on_exec_from(3 + slots.get("preserved", 0))


def directory(slots: Slots, path: str, make: bool = True) -> None:
    """Go to the working directory, made where missing if so asked; never through a link into /proc that leads out."""
    try:
        fd = place(slots["/"], path, SAFE) if make else openat2(slots["/"], path, os.O_PATH, SAFE)
    except OSError as error:
        raise OSError(error.errno, f'chdir to cwd ("{path}") set in config.json failed: {os.strerror(error.errno or 0).lower()}') from None
    os.fchdir(fd)
    os.close(fd)
    if not os.getcwd().startswith("/"):
        raise OSError(errno.EPERM, "the working directory is outside the container")


def no_new_privileges(slots: Slots) -> None:
    """Set-id programs and file capabilities give nothing."""
    prctl.set_no_new_privileges()


def load_filter(slots: Slots, slot: str) -> None:
    """Confine system calls."""
    seccomp.load(slots[slot])


def bound(slots: Slots, kept: int) -> None:
    """Drop from the bounding set all capabilities but those of the mask."""
    capability.drop_bounding(kept, slots["last_capability"])


def identity(slots: Slots, slot: str) -> None:
    """Become the user: uid, gid, supplementary groups."""
    uid, gid, groups = slots[slot]
    prctl.keep_capabilities(keep=True)
    os.setgroups(groups)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    prctl.keep_capabilities(keep=False)


def capabilities(slots: Slots, effective: int, permitted: int, inheritable: int, ambient: int) -> None:
    """The sets, as masks; what this host does not have is left out, and of the ambient ones what the kernel refuses: as runc, whose own
    template asks for ambient ones that are not inheritable."""
    held = slots["held_capabilities"]
    capability.set_sets(effective & held, permitted & held, inheritable & held)
    if granted := ambient & permitted & inheritable & held:
        capability.set_ambient(granted, slots["last_capability"])


def ready(slots: Slots) -> None:
    """Where creating and starting are two steps: say that all is set up, and wait for the second."""
    if "start" not in slots:
        return
    found = [path for path in slots["command"][0] if _exists(path)]
    if not found:
        raise OSError(errno.ENOENT, "")
    if not any(os.access(path, os.X_OK) and not os.path.isdir(path) for path in found):
        raise OSError(errno.EACCES, f"{found[0]}\0{os.strerror(errno.EACCES)}")
    os.write(slots["report"], READY)
    if os.read(slots["start"], 1) and "said" in slots:
        # From now on whoever starts it wants to know what failed.
        slots["report"] = slots["said"]


def hooks(slots: Slots, entries: Sequence[Sequence[Any]], before: str, after: str) -> None:
    """Run hooks where and as whom this process is by now; the text with this pid between is their input."""
    hooks_of_a_bundle.run(entries, f"{before}{os.getpid()}{after}".encode())


def _exists(path: str) -> bool:
    try:
        os.stat(path)
        return True
    except (FileNotFoundError, NotADirectoryError):
        return False


def execute(slots: Slots, slot: str) -> None:
    """Execute the first candidate that is there: paths, arguments, environment."""
    candidates, arguments, environment = slots[slot]
    refused: OSError | None = None
    for path in candidates:
        try:
            os.execve(path, arguments, environment)
        except (FileNotFoundError, NotADirectoryError) as error:
            # A file that is there lacks its interpreter: that is no reason to look further.
            if _exists(path):
                raise OSError(error.errno, f"{path}\0{error.strerror}") from None
        except OSError as error:
            refused = refused or OSError(error.errno, f"{path}\0{error.strerror}")
            if error.errno != errno.EACCES:
                break
    raise refused or OSError(errno.ENOENT, "")


_OPERATIONS: Mapping[str, Callable[..., None]] = {
    function.__name__: function
    for function in (
        die_with_parent, enter_groups, new_session, private_mounts, enter_root, place_root, enter_placed_root, change_root,
        change_to_joined_root, reached, become_root, unshare, join, enter_joined_root, wait, host_name, domain_name, loopback, private_proc,
        filesystem, make, attach, set_mount, nodes, links, open_terminal, console, mask, read_only, read_only_root, sysctls, oom_score,
        label, limits, stdio, signals, file_mask, keyring, close_descriptors, directory, no_new_privileges, load_filter, bound, identity,
        capabilities, ready, hooks, execute, let_go, part, controlling_terminal,
    )
}  # fmt: skip
