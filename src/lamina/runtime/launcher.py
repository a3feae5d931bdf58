"""The parent's part of a launch: prepares on the host what the plan names, clones, attaches control groups, waits for execve.

A launch is all or nothing: `launch` returns when the command was executed (or is ready to be), or raises when
nothing of it is left. Used by monitors and by the OCI command line, both with one thread.
"""

from __future__ import annotations

import errno
import os
import resource
import select
import stat

from lamina.errors import LaminaError
from lamina.linux import cabling, capability, channel, mount, namespace, overlay, tty
from lamina.linux.openat2 import openat2
from lamina.runtime import hooks, idmapping, init, placing, reports, users
from lamina.runtime.cgroup import Cgroup
from lamina.runtime.reports import FAILED, LaunchFailed
from lamina.runtime.targets import STRICT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from lamina.runtime.cgroup import Hierarchy

_SYS_RESOURCE = 24
_PROPAGATION_PRIVATE = 1 << 18
_COVERED = "/sys"  # no layer lies below it, so a mount namespace of a helper may cover it


class Launched:
    """A process that runs. The caller owns the descriptors: `pidfd`, `master` (with a terminal), and the ends of `pipes`; see `placing`
    for `placed`."""

    __slots__ = ("cgroup", "master", "pid", "pidfd", "pipes", "placed", "warnings")

    def __init__(self, pid: int, pidfd: int, cgroup: Cgroup | None, master: int, pipes: dict[str, int], warnings: list[str]) -> None:
        self.placed: dict[str, Any] | None = None
        self.pid, self.pidfd, self.cgroup = pid, pidfd, cgroup
        self.master, self.pipes, self.warnings = master, pipes, warnings


class Prepared:
    """What stands ready before the clone: slots for init, and what is closed after."""

    __slots__ = ("began", "master", "opened", "pipes", "slots", "warnings")

    def __init__(self, slots: dict[str, Any]) -> None:
        self.slots = slots
        self.began = False
        self.opened: list[int] = []
        self.master = -1
        self.pipes: dict[str, int] = {}
        self.warnings: list[str] = []

    def keep(self, name: str, fd: int) -> int:
        """Put a descriptor into a slot; it is closed here after the clone."""
        self.opened.append(fd)
        self.slots[name] = fd
        return fd


def launch(
    document: Mapping[str, Any],
    slots: dict[str, Any],
    hierarchies: Sequence[Hierarchy],
    *,
    sibling: bool = False,
    meanwhile: Callable[[Launched], None] | None = None,
) -> Launched:
    """Start one process, as a child or a `sibling` of this one. `meanwhile` is called with what will be launched if all goes well, while
    that process is at work on its surroundings; it must not raise.

    `document` has `plan`, `command` ({candidates, args, env}), and as the case may be `root`, `rootfs`, `cgroup` ({path, resources,
    created}), `user` (text) or `ids`, `terminal`, `stdin`, `network` (see linux.cabling), `hooks` (see hooking.document): where it fails
    with those, the ones for its end run too. `slots` are descriptors that came along: `filter`, `lower:N`, `target`, `stdin`, `stdout`,
    `stderr`, `start`.

    Raises:
        LaunchFailed: nothing remains.
    """
    prepared = Prepared(slots)
    cgroup: Cgroup | None = None
    made = False
    try:
        _prepare(document, prepared)
        if asked := document.get("cgroup"):
            made = bool(asked.get("create"))
            cgroup = Cgroup.create(asked["path"], asked.get("resources") or {}, hierarchies) if made else Cgroup(asked["path"], hierarchies)
        launched = _start(document, prepared, cgroup, meanwhile, sibling=sibling)
        if placed := document.get("placed"):
            launched.placed = {**placed, "number": placing.mount_number(slots["root"])}
        return launched
    except (OSError, LaminaError, LaunchFailed, ValueError) as error:
        channel.close_all([*prepared.pipes.values(), *([prepared.master] if prepared.master >= 0 else [])])
        if cgroup is not None and made:
            cgroup.remove()
        if prepared.began:
            _undo(document, prepared)
        if isinstance(error, LaunchFailed):
            raise
        raise LaunchFailed(FAILED, error.message if isinstance(error, LaminaError) else words(error)) from None
    finally:
        channel.close_all(prepared.opened)


def prepare_nothing(document: Mapping[str, Any], hierarchies: Sequence[Hierarchy]) -> None:
    """Prepare a launch that is not to be, and let go of what was made for it. See beginning.rehearse."""
    prepared = Prepared({})
    try:
        _prepare(document, prepared)
        mount.set_string(prepared.keep("overlay", mount.fsopen("overlay")), "source", "overlay")
        Cgroup("/", hierarchies).limit({})
    except Exception:
        pass  # a real launch tells the same, to somebody who can do something about it; what raised here would end the fork that waits
    finally:
        channel.close_all([*prepared.opened, *prepared.pipes.values()])


def words(error: Exception) -> str:
    """What went wrong, and with which file where that is known."""
    if not isinstance(error, OSError) or not error.strerror:
        return str(error)
    return f"{error.filename}: {error.strerror}" if isinstance(error.filename, str) else error.strerror


def _prepare(document: Mapping[str, Any], prepared: Prepared) -> None:
    """Fill `prepared.slots` with what the plan's steps name, while this is still the host: descriptors, ids, limits, the command.

    The order counts: who the user is is read in the root, and what is given to the user are the streams.
    """
    plan, slots = document["plan"], prepared.slots
    if plan.get("mapped"):
        idmapping.prepare(plan["mapped"], prepared, _COVERED)
    for slot, path, *_ in plan["joins"]:
        prepared.keep(slot, os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    for slot, path, recursive in plan["sources"]:
        prepared.keep(slot, _open_source(path, recursive=recursive))
    for slot, kind, options, attributes in plan["made"]:
        prepared.keep(slot, init.make_filesystem(kind, kind, options, attributes))
    if plan.get("mapped"):
        idmapping.map_sources(plan["mapped"], slots)
    if document.get("root") or document.get("rootfs"):
        prepared.keep("root", open_root(document, slots))
    if document.get("terminal") and plan.get("mapped"):
        idmapping.expect_terminal(document, prepared)
    elif document.get("terminal"):
        _open_terminal(document, prepared)
    elif "stdin" not in slots:
        open_pipes(document, prepared)
    if isinstance(slots.get("filter"), int):
        slots["filter"] = os.pread(slots["filter"], 1 << 20, 0)
    slots["last_capability"] = capability.last()
    slots["held_capabilities"] = capability.held()[1]
    slots["rlimits"] = clamp(plan["rlimits"], prepared.warnings)
    slots["oom"] = clamp_oom_score(plan["oom_score"], prepared.warnings)
    environment = identify(document, prepared)
    if slots["user"][0] or document.get("owners"):
        give_streams(document, slots)
    slots["command"] = (document["command"]["candidates"], document["command"]["args"], environment)


def _open_source(path: str, *, recursive: bool) -> int:
    try:
        return mount.open_tree(path, recursive=recursive)
    except FileNotFoundError:
        raise LaunchFailed(FAILED, f"bind source path does not exist: {path}") from None


def open_root(document: Mapping[str, Any], slots: Mapping[str, Any]) -> int:
    """The root as a detached mount."""
    root = document.get("root")
    if root:
        try:
            return _stacked(root, document, slots)
        except OSError as error:
            if not root["volatile"] or error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
        # A full disk that has no room for the mark of a volatile mount need not keep the command from running, and from removing files.
        overlay.renew(root["work"])
        return _stacked({**root, "volatile": False}, document, slots)
    fd = mount.open_tree(document["rootfs"], recursive=True)
    mount.set_attributes(fd, 0, 0, recursive=True, propagation=_PROPAGATION_PRIVATE)
    return fd


def _stacked(root: Mapping[str, Any], document: Mapping[str, Any], slots: Mapping[str, Any]) -> int:
    lowers = [(slots[slot] if slot else None, path) for slot, path in root["lowers"]]
    if "user_namespace" in slots:
        return idmapping.root(lowers, root, _COVERED, document["plan"]["mapped"], slots["user_namespace"])
    return overlay.mount_overlay_anywhere(lowers, root["upper"], root["work"], _COVERED, volatile=root["volatile"])


def _open_terminal(document: Mapping[str, Any], prepared: Prepared) -> None:
    """A pty of the container's own devpts; a process that joins takes one of the devpts it will see."""
    own = [prepared.slots[slot] for slot, kind, *_ in document["plan"]["made"] if kind == "devpts"]
    if own:
        devpts = own[0]
    elif document.get("joined"):
        # Below the container's root: whoever may exchange the path in there must not lead this to something of the host's.
        devpts = openat2(_joined(document, prepared), "dev/pts", os.O_PATH | os.O_DIRECTORY, STRICT)
    else:
        devpts = os.open("/dev/pts", os.O_PATH | os.O_CLOEXEC)
    prepared.master, slave = tty.open_pty(devpts)
    if not own:
        os.close(devpts)
    prepared.keep("slave", slave)
    for name in ("stdin", "stdout", "stderr"):
        prepared.slots[name] = slave
    if size := document.get("size"):
        tty.set_size(prepared.master, *size)


def _joined(document: Mapping[str, Any], prepared: Prepared) -> int:
    """The root of the container that is joined."""
    if "joined" not in prepared.slots:
        prepared.keep("joined", os.open(document["joined"], os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
    return int(prepared.slots["joined"])


def open_pipes(document: Mapping[str, Any], prepared: Prepared) -> None:
    """Pipes for output, and for input where the document has `stdin`."""
    if document.get("stdin"):
        reader, prepared.pipes["stdin"] = os.pipe()
        prepared.keep("stdin", reader)
    else:
        prepared.keep("stdin", os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC))
    for name in ("stdout", "stderr"):
        prepared.pipes[name], writer = os.pipe()
        prepared.keep(name, writer)


def give_streams(document: Mapping[str, Any], slots: Mapping[str, Any]) -> None:
    """Let the process own its pipes and terminal: it may open them again by path, as /dev/stdout."""
    uid, gid, _ = slots["user"]
    if owners := document.get("owners"):
        uid, gid = idmapping.outside(owners["uids"], uid), idmapping.outside(owners["gids"], gid)
    for fd in {slots[name] for name in ("stdin", "stdout", "stderr") if name in slots}:
        mode = os.fstat(fd).st_mode
        if stat.S_ISFIFO(mode) or os.isatty(fd):
            try:
                os.fchown(fd, uid, -1 if os.isatty(fd) else gid)
            except PermissionError:
                continue  # somebody else's: it stays so


def clamp(wanted: Sequence[Sequence[int]], warnings: list[str]) -> list[tuple[int, int, int]]:
    """Limits that can be set: without CAP_SYS_RESOURCE hard limits only go down."""
    result = []
    for number, soft, hard in wanted:
        highest = resource.getrlimit(number)[1]
        if highest >= 0 and (hard < 0 or hard > highest) and not _raises():
            warnings.append(f"resource limit {number} is kept at {highest}: this host does not let the engine raise it")
            hard = highest
        if hard >= 0 and (soft < 0 or soft > hard):
            soft = hard
        result.append((number, soft, hard))
    return result


def _raises() -> bool:
    return bool(capability.held()[0] >> _SYS_RESOURCE & 1)


def clamp_oom_score(wanted: int | None, warnings: list[str]) -> int | None:
    """The score that can be set: without CAP_SYS_RESOURCE it only goes up."""
    if wanted is None or wanted >= 0 or _raises():
        return wanted
    with open("/proc/self/oom_score_adj", "rb") as file:
        lowest = int(file.read())
    if wanted < lowest:
        warnings.append(f"the score for running out of memory is kept at {lowest}: this host does not let the engine lower it")
    return max(wanted, lowest)


def identify(document: Mapping[str, Any], prepared: Prepared) -> dict[str, str]:
    """Settle who the process is; the environment, with HOME."""
    slots = prepared.slots
    root = slots.get("root", -1)
    if root < 0:
        root = _joined(document, prepared)
    uid, gid, groups = document.get("ids") or (0, 0, ())
    text = document.get("user") or ""
    user = users.look_up(root, text or str(uid))
    # The primary group is among the further ones as well (CVE-2022-36109): leaving them must not gain anything.
    further = users.look_up_groups(root, document.get("groups") or ())
    slots["user"] = (user.uid, user.gid, [user.gid, *user.groups, *further]) if text else (uid, gid, [*groups, *further])
    if owners := document.get("owners"):
        idmapping.refuse_unmapped(owners, slots["user"])
    environment = dict(entry.split("=", 1) for entry in document["command"]["env"] if "=" in entry)
    environment["HOME"] = environment.get("HOME") or user.home  # an empty one is none, as to runc
    return environment


def _start(
    document: Mapping[str, Any],
    prepared: Prepared,
    cgroup: Cgroup | None,
    meanwhile: Callable[[Launched], None] | None,
    *,
    sibling: bool,
) -> Launched:
    """Clone init, which performs the plan's steps, and wait until it has executed the command (see `_attended`).

    Two pipes lead there: on one (`report`, init has `told`) it says where it failed, on the other (`go`, init has `heard`) it is told to go
    on. What init has of them, and the control group's descriptors, are closed here once it is cloned.

    Raises:
        LaunchFailed: a step failed, or the process ended; nothing of it is left.
        OSError: it cannot be cloned.
    """
    plan, slots = document["plan"], prepared.slots
    report, told = os.pipe()
    heard, go = os.pipe()
    slots["go"], slots["report"] = heard, told
    slots["groups"], unified = [], None
    try:
        if cgroup:
            slots["groups"], unified = cgroup.open_tasks(), cgroup.open_unified()
        if plan.get("apart"):
            pid, pidfd = _start_apart(plan, slots, unified, (report, go), sibling=sibling)
        else:
            _join_pid_namespace(plan, slots)
            pid, pidfd = namespace.clone3(plan["namespaces"], cgroup=unified, sibling=sibling)
            if pid == 0:
                try:
                    os.close(report)
                    os.close(go)
                    init.perform(plan["steps"], slots)
                finally:
                    os._exit(125)  # whatever happens, this process never becomes a second launcher
        prepared.began = True
    except (OSError, LaunchFailed):
        channel.close_all([report, go])
        raise
    finally:
        channel.close_all([told, heard, *slots["groups"], *([] if unified is None else [unified])])
    launched = Launched(pid, pidfd, cgroup, prepared.master, prepared.pipes, prepared.warnings)
    try:
        said = _attended(document, slots, launched, (report, go), meanwhile)
    finally:
        channel.close_all([report, go])
    if said:
        if pid:
            end(pid, pidfd, sibling=sibling)
        raise reports.failure(said, document)
    if plan.get("mapped") and document.get("terminal"):
        idmapping.take_terminal(prepared)
        launched.master = prepared.master
    return launched


def _attended(
    document: Mapping[str, Any],
    slots: Mapping[str, Any],
    launched: Launched,
    pipes: tuple[int, int],
    meanwhile: Callable[[Launched], None] | None,
) -> bytes:
    """Do for the new process what is done from outside, and wait until it has executed the command; what init says where it failed."""
    plan, said = document["plan"], b""
    (report, go), pid = pipes, launched.pid
    try:
        if plan.get("mapped"):
            idmapping.settle(pid, plan["mapped"], slots)
            # In another's user namespace init makes its network namespace itself.
            said = reports.heard(report) if plan["mapped"]["joined"] else b""
        if not said and (wanted := document.get("network")):
            cabling.connect(pid, wanted["interfaces"], wanted["gateways"], wanted.get("resolver"))
        said = said or _run_hooks(document.get("hooks"), pid, report)
        if not said:
            if not plan.get("apart"):
                os.write(go, b"+")
            if meanwhile is not None and pid:
                meanwhile(launched)
            said = reports.executed(report, pid, document.get("patience") or 0, slots.get("channel", -1)) or (b"" if pid else reports.ENDED)
    except BrokenPipeError:
        return reports.read(report) or reports.ENDED
    except OSError as error:
        return reports.said_so_far(report) or f"-1\0preparing\0{error.errno}\0{words(error)}".encode()
    return said


def _start_apart(
    plan: Mapping[str, Any], slots: dict[str, Any], unified: int | None, pipes: tuple[int, int], *, sibling: bool
) -> tuple[int, int]:
    """Have the steps performed by a process of which the container sees nothing until it holds nothing of the host's, see `parting`.

    Where the command is to be a sibling it is this process that becomes the first one, and its fork goes on as the launcher: parents stay
    what they are. Pid 0: it came not that far, the report says why.

    Raises:
        LaunchFailed: another process was named.
    """
    report, go = pipes
    reader, slots["clone"] = os.pipe()
    parent = os.getppid() if sibling else os.getpid()
    child = os.fork()
    if bool(child) == sibling:
        try:
            channel.close_all([report, go, reader])
            if unified is not None:
                slots["groups"].append(os.open(f"/proc/self/fd/{unified}/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC))
            namespace.setns(slots["target"], namespace.CLONE_NEWPID)
            init.perform(plan["steps"], slots)
        finally:
            os._exit(125)
    os.close(slots.pop("clone"))
    os.write(go, b"+")
    pid = int(os.read(reader, 32) or b"0")
    os.close(reader)
    if child:
        os.waitpid(child, 0)
    if not pid:
        return 0, -1
    pidfd = os.pidfd_open(pid)
    if int(reports.stat_of(pid)[1]) != parent:
        os.close(pidfd)
        raise LaunchFailed(FAILED, "the process that was named is somebody else's")
    return pid, pidfd


def _run_hooks(wanted: Mapping[str, Any] | None, pid: int, report: int) -> bytes:
    """Those that come before the command, on the host, once init has mounted all; what init says where it failed before."""
    if not wanted or not wanted["seen"]:
        return b""
    if said := reports.heard(report):
        return said
    for status, found in wanted["create"]:
        hooks.run(found, hooks.told(wanted["about"], status, pid))
    return b""


def _undo(document: Mapping[str, Any], prepared: Prepared) -> None:
    """What a launch that failed leaves where it had hooks, or no mount namespace of its own (runtime.md "Lifecycle": as if it had been
    deleted)."""
    if document.get("placed"):
        placing.remove(document["placed"], f"/proc/self/fd/{prepared.slots['root']}")
    if wanted := document.get("hooks"):
        for warning in hooks.run_all(wanted["poststop"], hooks.told(wanted["about"], "stopped")):
            os.write(2, f"warning: {warning}\n".encode())


def end(pid: int, pidfd: int, *, sibling: bool) -> None:
    """Kill a process and wait until it has ended; a sibling is its parent's to reap."""
    try:
        os.kill(pid, 9)
    except ProcessLookupError:
        pass
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.poll()
    if not sibling:
        os.waitpid(pid, 0)
    os.close(pidfd)


def _join_pid_namespace(plan: Mapping[str, Any], slots: Mapping[str, Any]) -> None:
    """Children of this process start in the pid namespace that is joined."""
    for slot, _, flag in plan["joins"]:
        if flag == namespace.CLONE_NEWPID:
            namespace.setns(slots[slot], flag)
    if "target" in slots:
        namespace.setns(slots["target"], namespace.CLONE_NEWPID)
