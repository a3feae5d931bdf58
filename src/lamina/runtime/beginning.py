"""How a monitor's life begins: it has a process launched, by a fork of itself or alone, and becomes its `monitor.Monitor`.

A daemon that has waited too long for the answer sends {"op": "abandon"} (see client): then nothing of the launch stays. One that was
killed says nothing, and the next one finds what was started.
"""

from __future__ import annotations

import os
import select

from lamina.errors import LaminaError
from lamina.linux import channel, prctl
from lamina.runtime import outside
from lamina.runtime.cgroup import Cgroup
from lamina.runtime.faults import complain
from lamina.runtime.launcher import Launched, end, launch, prepare_nothing
from lamina.runtime.monitor import Monitor, remove_bundle, run_hooks, tell
from lamina.runtime.reaping import reap_all
from lamina.runtime.records import RUN_RECORD, SOCKET, forget, start_time, write_record
from lamina.runtime.reports import FAILED, LaunchFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, Never

    from lamina.runtime.cgroup import Hierarchy

BRIEF = b'{"brief":true,'
"""How the message begins of what is to run for a short time; not of what another runtime runs."""
_STEP = ["filesystem", "tmpfs", "/dev", "tmpfs", [["mode", "755"], ["size", "65536k"]], 34, True]
_SAMPLE = channel.encode(
    {
        "plan": {"joins": [], "sources": [["a", "/dev/null", False]], "made": [], "rlimits": [], "oom_score": None, "steps": [_STEP] * 40},
        "command": {"candidates": [], "args": [], "env": ["A=1"]},
        "rootfs": "/dev/null",
        "user": "0",
    }
)
"""A message of the usual size, about a root that is none."""
_KEPT = ("directory", "stdin", "stdin_once", "volatile", "log", "terminal", "watch_memory", "outside", "hooks")


def rehearse(hierarchies: Sequence[Hierarchy]) -> None:
    """What a message will have this process do, done once without one and without effect, while nobody waits: memory that is shared with
    the zygote becomes this process's own with the first write to it (reference counts), a fault for every 4 KiB."""
    prepare_nothing(channel.decode(_SAMPLE), hierarchies)
    channel.encode({"pid": start_time(os.getpid()), "warnings": []})
    channel.close_all([one.detach() for one in channel.pair()])


def run(body: bytes, fds: Sequence[int], hierarchies: Sequence[Hierarchy]) -> Never:
    """Start what a message to the zygote describes and monitor it to its end. Never returns.

    The first descriptor is the channel to the daemon. Launching takes memory that would stay with the monitor
    for all its life, so a fork of it launches: what it starts is the monitor's own child all the same. Where that life is BRIEF, the fork
    would take longer than the memory is held, and the monitor launches.
    """
    code = 1
    try:
        os.setsid()
        prctl.set_name("lamina-monitor")
        if body.startswith(BRIEF):
            _perform(channel.decode(body), fds, hierarchies)
        else:
            _have_launched(body, fds, hierarchies)
        code = 0
    except BaseException as error:
        complain(error)
    finally:
        os._exit(code)


def _have_launched(body: bytes, fds: Sequence[int], hierarchies: Sequence[Hierarchy]) -> None:
    """A monitor's life with a launcher."""
    mine, theirs = channel.pair()
    if (pid := os.fork()) == 0:
        mine.close()
        _launch(body, fds, hierarchies, theirs)
    theirs.close()
    _follow(mine, channel.from_fd(fds[0]), fds, hierarchies, pid)


def _launch(body: bytes, fds: Sequence[int], hierarchies: Sequence[Hierarchy], monitor: channel.Channel) -> Never:
    """The launcher's life."""
    try:
        document = channel.decode(body)
        other, group = document.get("outside"), document.get("cgroup") or {}
        monitor.send({"directory": document["directory"], "outside": other, "cgroup": group["path"] if group.get("create") else ""})
        slots = dict(zip(document["slots"], fds, strict=True))
        try:
            if other:
                # What another runtime starts becomes the monitor's child once that runtime has ended, if it asked for orphans by then.
                monitor.recv()
                launched = outside.launch(document, slots, hierarchies)
            else:
                launched = launch(document, slots, hierarchies, sibling=True)
                launched.warnings.extend(run_hooks(document, "poststart", "running", launched.pid))
        except LaunchFailed as error:
            remove_bundle(document)
            monitor.send({"event": "failed", "kind": error.kind, "message": error.message})
            os._exit(0)
        about = _about(document, launched, slots)
        try:
            monitor.send(
                about,
                [launched.pidfd, *(launched.pipes[name] for name in about["pipes"]), *([launched.master] if launched.master >= 0 else [])],
            )
        except channel.ChannelClosed:
            end(launched.pid, launched.pidfd, sibling=True)
            outside.remove(other, about["create"])
            if launched.cgroup is not None and about["create"]:
                launched.cgroup.remove()
    except BaseException as error:
        complain(error)
    finally:
        os._exit(0)


def _about(document: Mapping[str, Any], launched: Launched, slots: Mapping[str, Any]) -> dict[str, Any]:
    """What the monitor needs to know of what was launched, beside its descriptors."""
    return {
        "pid": launched.pid,
        "warnings": launched.warnings,
        "pipes": sorted(launched.pipes),
        "cgroup": launched.cgroup.path if launched.cgroup else "",
        "create": bool((document.get("cgroup") or {}).get("create")),
        "log_pipe": slots.get("log", -1),
        "attached": [[slots[f"attach:{number}"], options] for number, options in enumerate(document.get("attaches") or [])],
        **{key: document.get(key) for key in _KEPT},
    }


def _perform(document: Mapping[str, Any], fds: Sequence[int], hierarchies: Sequence[Hierarchy]) -> None:
    """A monitor's life without a launcher."""
    daemon, directory = channel.from_fd(fds[0]), document["directory"]
    slots = dict(zip(document["slots"], fds, strict=True))
    try:
        listener = channel.listen(directory, SOCKET)
    except OSError as error:
        tell(daemon, _failed(error))
        return
    ready: list[tuple[Monitor | Exception, Mapping[str, Any]]] = []

    def get_ready(launched: Launched) -> None:
        about = _about(document, launched, slots)
        ready.append((_monitor(about, launched, listener, fds), about))

    # A terminal of another user namespace comes last: until then there is nothing to hold.
    late = document["plan"].get("mapped") and document.get("terminal")
    try:
        launched = launch(document, slots, hierarchies, meanwhile=None if late else get_ready)
    except LaunchFailed as error:
        listener.close()
        forget(directory, SOCKET)
        forget(directory, RUN_RECORD)
        tell(daemon, {"event": "failed", "kind": error.kind, "message": error.message})
        return
    if not ready:
        get_ready(launched)
    _stay(*ready[0], launched, listener, daemon)


def _failed(error: Exception) -> dict[str, Any]:
    """What is told of a monitor that cannot do its work: where its files lie the disk is full, or the folder is gone."""
    words = error.message if isinstance(error, LaminaError) else str(getattr(error, "strerror", None) or error)
    return {"event": "failed", "kind": FAILED, "message": f"the container's monitor cannot work: {words.lower()}"}


def _follow(launcher: channel.Channel, daemon: channel.Channel, fds: Sequence[int], hierarchies: Sequence[Hierarchy], pid: int) -> None:
    """Hear how the launch went, then stay with what was launched. `pid` is the launcher's."""
    told: dict[str, Any] = {}
    listener, received = None, list[int]()
    try:
        # Where to listen comes first: that is made while the launcher launches.
        told = launcher.recv()[0]
        if told["outside"]:
            prctl.adopt_orphans(adopt=True)
            launcher.send({})
        listener = channel.listen(told["directory"], SOCKET)
        about, received = _heard(launcher, daemon, pid)
        if about.get("outside"):
            prctl.adopt_orphans(adopt=False)
    except channel.ChannelClosed:
        about = {"event": "failed", "kind": FAILED, "message": "the launcher ended unexpectedly"}
        _bury(pid, told, hierarchies)
    except OSError as error:
        about = _failed(error)
        _bury(pid, told, hierarchies)
    launcher.close()
    if listener is None or about.get("event") == "failed":
        if listener is not None:
            listener.close()
            forget(told["directory"], SOCKET)
        reap_all()
        tell(daemon, about)
        return
    master = received[-1] if about["terminal"] else -1
    pipes = dict(zip(about["pipes"], received[1:], strict=False))
    cgroup = Cgroup(about["cgroup"], hierarchies) if about["cgroup"] else None
    launched = Launched(about["pid"], received[0], cgroup, master, pipes, about["warnings"])
    _stay(_monitor(about, launched, listener, fds), about, launched, listener, daemon, pid)


def _heard(launcher: channel.Channel, daemon: channel.Channel, pid: int) -> tuple[dict[str, Any], list[int]]:
    """What the launcher says of the launch; a daemon that gives up meanwhile ends it.

    Raises:
        ChannelClosed: it ended before that.
    """
    poll = select.poll()
    poll.register(launcher.fileno(), select.POLLIN)
    poll.register(daemon.fileno(), select.POLLIN)
    while launcher.fileno() not in [fd for fd, _ in poll.poll()]:
        # What is to be heard of a daemon here is that it gives up, or that it is gone, which changes nothing.
        poll.unregister(daemon.fileno())
        if channel.waits(daemon.fileno()):
            os.kill(pid, 9)
    return launcher.recv()


def _bury(launcher: int, told: Mapping[str, Any], hierarchies: Sequence[Hierarchy]) -> None:
    """End a launcher that is of no use, and what it began, of which it has `told`."""
    try:
        os.kill(launcher, 9)  # a child that was not reaped: the number is its own
        os.waitpid(launcher, 0)
    except (ProcessLookupError, ChildProcessError):
        pass
    if told.get("cgroup"):
        outside.remove(told["outside"], True)
        _remove(Cgroup(told["cgroup"], hierarchies))


def _remove(cgroup: Cgroup) -> None:
    try:
        cgroup.remove()
    except OSError as error:
        complain(error)


def _monitor(about: dict[str, Any], launched: Launched, listener: Any, fds: Sequence[int]) -> Monitor | Exception:
    """The monitor of what was launched, which is on record by then: who hears of a start may ask for an exec at once. Why there is none
    where its files cannot be written."""
    attached = about.pop("attached")
    channel.close_all([fd for fd in fds[1:] if fd not in [about["log_pipe"], *(kept for kept, _ in attached)]])
    try:
        monitor = Monitor(about, launched, listener)
        for fd, options in attached:
            monitor.attach(fd, options)
        write_record(about["directory"], RUN_RECORD, monitor.describe(), durable=False)
        return monitor
    except (OSError, LaminaError) as error:
        return error


def _stay(
    monitor: Monitor | Exception,
    about: Mapping[str, Any],
    launched: Launched,
    listener: Any,
    daemon: channel.Channel,
    launcher: int = 0,
) -> None:
    """With what runs, to its end. `launcher` is this process's child that launched it, 0 where there was none."""
    if isinstance(monitor, Exception):
        _undo(about, launched, listener)
        tell(daemon, _failed(monitor))
        return
    monitor.greet(daemon, "started")
    if launcher:
        monitor.see_off(launcher)
    monitor.serve()


def _undo(about: Mapping[str, Any], launched: Launched, listener: Any) -> None:
    """End what was launched: nobody would hear of it."""
    end(launched.pid, launched.pidfd, sibling=False)
    outside.remove(about.get("outside"), about["create"])
    if launched.cgroup is not None and about["create"]:
        _remove(launched.cgroup)
    run_hooks(about, "poststop", "stopped")
    remove_bundle(about)
    listener.close()
    forget(about["directory"], SOCKET)
    forget(about["directory"], RUN_RECORD)
    reap_all()
