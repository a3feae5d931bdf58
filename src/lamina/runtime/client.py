"""The daemon's side of the runtime: starts containers through the zygote, finds running ones again, watches their monitors."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from lamina.errors import Unavailable, Unsupported
from lamina.linux import channel, overlay
from lamina.linux.unread import await_reading
from lamina.runtime import apparmor, cgroup, hooking, interpreter, mapped, outside, plan
from lamina.runtime.bundle import default_spec
from lamina.runtime.cgroup import Cgroup, Hierarchy
from lamina.runtime.filters import Filters
from lamina.runtime.launch import Attach, CommandNotExecutable, CommandNotFound, Exec, Exit, Launch, MountMismatch, Program, RuntimeFailed
from lamina.runtime.process import Process, Watcher, attach_options, exit_of, lost_monitor
from lamina.runtime.records import EXIT_RECORD, RUN_RECORD, SOCKET, forget, start_time
from lamina.runtime.reports import MISMATCHED, NOT_EXECUTABLE, NOT_FOUND

__all__ = ["Process", "Runtime"]

_START_TIMEOUT = 120.0
_GIVING_UP = 10.0  # seconds
_STARTS = 5
_FAILURES = {NOT_FOUND: CommandNotFound, NOT_EXECUTABLE: CommandNotExecutable, MISMATCHED: MountMismatch}


class Runtime:
    """Starts, finds again and watches containers. One per process; `close` leaves containers running."""

    def __init__(self, run_directory: str, *, cache_directory: str = "") -> None:
        """`run_directory` is ROOT/run; compiled seccomp filters are kept in `cache_directory` (default: run_directory)."""
        os.makedirs(run_directory, exist_ok=True)
        self._filters = Filters(cache_directory or run_directory)
        self._zygote = Zygote(f"{run_directory}/zygote.log")
        self._watcher = Watcher()
        self._hierarchies = cgroup.here()
        self._shown = cgroup_mounts(self._hierarchies)
        self._has_profile = apparmor.load()
        self._confines = apparmor.enabled()

    def warm(self) -> None:
        """Get ready what the first container would wait for: the zygote (40 ms), and the default filter's program (15 ms)."""
        self._filters.descriptor(default_spec(args=["true"])["linux"]["seccomp"])
        self._zygote.warm()

    def start(self, launch: Launch, attaches: Sequence[Attach] = ()) -> Process:
        """Start a container; returns once its command was executed.

        Raises:
            CommandNotFound, CommandNotExecutable, MountMismatch: the image's fault or the caller's.
            RuntimeFailed: anything else. Whatever is raised, nothing of the container remains.
        """
        document, fds = self._container(launch)
        return self._launch(document, fds, attaches)

    def exec(self, request: Exec, attaches: Sequence[Attach] = ()) -> Process:
        """Start one more process in a running container. Raises as `start`; ContainerGone where it does not run."""
        record = read_record(request.container, RUN_RECORD)
        target = _pidfd(record) if record else -1
        if not record or target < 0:
            raise ContainerGone(f"container {request.id} is not running")
        try:
            document = self._exec_document(request, record)
            return self._launch(document, {"target": target, **self._filter(request.spec)}, attaches)
        finally:
            os.close(target)

    def adopt(self, directory: str) -> Process | Exit | None:
        """Find a process again that an earlier daemon started: running, ended, or never started (None)."""
        record = read_record(directory, RUN_RECORD)
        try:
            monitor = channel.connect(directory, SOCKET)
            greeting, fds = monitor.recv(30)
            group = Cgroup(record["cgroup"], self._hierarchies) if record and record.get("cgroup") else None
            process = Process(monitor, greeting["pid"], fds[0], group, first=bool(record and record.get("first", True)))
            self._watcher.watch(process)
            return process
        except channel.ChannelTimeout:
            # One that launches yet is not to have it run later, when nobody knows of it.
            with suppress(Unavailable, OSError):
                monitor.send({"op": "abandon"})
            monitor.close()
        except Unavailable:
            pass
        if found := read_record(directory, EXIT_RECORD):
            return exit_of(found)
        return self._bury(directory, record) if record else None

    def _bury(self, directory: str, record: Mapping[str, Any]) -> Exit:
        """End what a killed monitor left behind."""
        if (left := _pidfd(record)) >= 0:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(left, signal.SIGKILL)
            os.close(left)
        mine = record.get("cgroup") and record.get("first", True)
        end = lost_monitor(Cgroup(record["cgroup"], self._hierarchies) if mine else None)
        for name in (SOCKET, RUN_RECORD):
            forget(directory, name)
        # Nobody knows when; an end that was noted already is none of this time.
        return replace(end, finished_at=0.0)

    def close(self) -> None:
        """Stop watching and end the zygote. Containers and their monitors go on."""
        self._watcher.close()
        self._zygote.close()
        self._filters.close()

    def _container(self, launch: Launch) -> tuple[dict[str, Any], dict[str, int]]:
        spec = launch.spec
        spec = {**spec, "process": self._labelled(spec["process"])}
        # What is refused is refused under every runtime, in the same words.
        made = mapped.adapted(plan.container_plan(spec, self._shown, bundle=launch.directory), spec)
        if launch.program and made.mapped:
            raise Unsupported("user namespaces are the embedded runtime's: leave out --runtime, or choose --userns host")
        made, found = (made, None) if launch.program else _with_hooks(launch, spec, made)
        fds = self._filter(spec) if launch.program is None else {}
        path = (spec.get("linux") or {}).get("cgroupsPath") or f"/lamina/{launch.id}"
        document = {
            **({"brief": True} if launch.brief and not launch.program and not found else {}),  # first: see beginning.BRIEF
            **_process_document(spec["process"], made, launch.user, launch.groups),
            **(_outside(launch, launch.program, spec, made, path) if launch.program else {}),
            "directory": launch.directory,
            "stdin": launch.open_stdin,
            "stdin_once": launch.stdin_once,
            "volatile": launch.volatile,
            "watch_memory": launch.watch_memory,
            "rootfs": launch.rootfs,
            "root": _root_document(launch, fds),
            "cgroup": {"path": path, "resources": (spec.get("linux") or {}).get("resources") or {}, "create": True},
            "network": launch.network,
            "owners": mapped.owners(spec),
            "hooks": found,
        }
        if launch.log is not None:
            document["log"] = dict(launch.log)
            if launch.log_pipe >= 0:
                fds["log"] = launch.log_pipe
        return document, fds

    def _exec_document(self, request: Exec, record: Mapping[str, Any]) -> dict[str, Any]:
        process = self._labelled(request.process)
        made = plan.exec_plan(process, request.spec, traced=request.traced)
        if any(entry["type"] == "user" for entry in request.spec["linux"]["namespaces"]):
            made = mapped.adapted_exec(made)
        os.makedirs(request.directory, exist_ok=True)
        other = record.get("outside")
        return {
            **({} if other else {"brief": True}),  # first: see beginning.BRIEF
            **_process_document(request.process, made, request.user, request.groups),
            **({"plan": None, "outside": other, "process": process, "rlimits": made.rlimits} if other else {}),
            "directory": request.directory,
            "stdin": request.open_stdin,
            "stdin_once": True,
            "volatile": True,
            "joined": f"/proc/{record['pid']}/root",
            "cgroup": {"path": record["cgroup"]} if record.get("cgroup") else None,
            "owners": mapped.owners(request.spec),
            "patience": request.patience,
        }

    def _labelled(self, process: Mapping[str, Any]) -> dict[str, Any]:
        """Without a profile where this kernel has no AppArmor, as Docker; without the default one where it is not loaded."""
        profile = process.get("apparmorProfile")
        return {**process, "apparmorProfile": profile if self._confines and (profile != apparmor.DEFAULT or self._has_profile) else ""}

    def _filter(self, spec: Mapping[str, Any]) -> dict[str, int]:
        document = (spec.get("linux") or {}).get("seccomp")
        return {"filter": self._filters.descriptor(document)} if document else {}

    def _launch(self, document: dict[str, Any], fds: dict[str, int], attaches: Sequence[Attach]) -> Process:
        directory = document["directory"]
        self._watcher.begin()
        if os.path.lexists(f"{directory}/{EXIT_RECORD}"):
            os.unlink(f"{directory}/{EXIT_RECORD}")
        document["attaches"] = [attach_options(attach) for attach in attaches]
        slots = {**fds, **{f"attach:{number}": attach.fd for number, attach in enumerate(attaches)}}
        document["slots"] = ["channel", *slots]
        body = channel.encode(document)
        await_reading(*(attach.fd for attach in attaches))
        for last in (False, True):
            mine, theirs = channel.pair()
            try:
                self._zygote.send(body, [theirs.fileno(), *slots.values()])
            finally:
                theirs.close()
            try:
                return self._started(mine, document)
            except channel.ChannelClosed:
                mine.close()
                self._clear(document)
                # Killed before it read the message, the zygote leaves it to the next one.
                if last or not self._zygote.died():
                    raise RuntimeFailed("the monitor ended before it could start the container") from None
            except channel.ChannelTimeout:
                self._give_up(mine, document)
                raise RuntimeFailed(f"the container did not start within {_START_TIMEOUT:.0f} seconds") from None
            except BaseException:
                mine.close()
                raise
        raise AssertionError("unreachable")

    def _give_up(self, mine: channel.Channel, document: Mapping[str, Any]) -> None:
        """Have a monitor give up a start that takes too long, and wait a while for its end."""
        until = time.monotonic() + _GIVING_UP
        with suppress(Unavailable, channel.BadMessage, OSError):
            mine.send({"op": "abandon"})
            # It may have started the container at this very moment: then this one's end is told as well.
            while (left := until - time.monotonic()) > 0:
                channel.close_all(mine.recv(left)[1])
        mine.close()
        self._clear(document)

    def _clear(self, document: Mapping[str, Any]) -> None:
        """What a monitor leaves that could not clean up itself."""
        asked = document.get("cgroup") or {}
        if asked.get("create"):
            with suppress(OSError):
                Cgroup(asked["path"], self._hierarchies).remove()
        if wanted := document.get("hooks"):
            with suppress(OSError):
                outside.remove_tree(wanted["bundle"])
        if (root := document.get("root")) and root["volatile"] and root["work"]:
            with suppress(OSError):
                overlay.renew(root["work"])
        for name in (SOCKET, RUN_RECORD, EXIT_RECORD):
            forget(document["directory"], name)

    def _started(self, mine: channel.Channel, document: Mapping[str, Any]) -> Process:
        answer, received = mine.recv(_START_TIMEOUT)
        if answer["event"] != "started":
            channel.close_all(received)
            raise _FAILURES.get(answer["kind"], RuntimeFailed)(answer["message"])
        asked = document.get("cgroup") or {}
        group = Cgroup(asked["path"], self._hierarchies) if asked else None
        process = Process(mine, answer["pid"], received[0], group, tuple(answer["warnings"]), first=bool(asked.get("create")))
        self._watcher.watch(process)
        return process


class ContainerGone(RuntimeFailed):
    """The container does not run."""

    code, http_status, exit_code = "conflict", 409, 1


class Zygote:
    """The zygote process, started when first needed and again if it dies. Thread-safe."""

    def __init__(self, log: str) -> None:
        self._log = log
        self._lock = threading.Lock()
        self._channel: channel.Channel | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False

    def send(self, body: bytes, fds: Sequence[int]) -> None:
        """Hand a launch over. One that was killed, also while it started, is started anew, a few times.

        Raises:
            RuntimeFailed: it does not start.
        """
        with self._lock:
            for _ in range(_STARTS):
                try:
                    return (self._channel or self._start()).send_bytes(body, fds)
                except channel.ChannelClosed:
                    self._end()
        raise RuntimeFailed("the zygote does not start", hint=f"see {self._log}")

    def died(self) -> bool:
        """Whether it ended without being told to."""
        with self._lock:
            process = self._process
        try:
            # A process that is being killed closes its descriptors before it can be waited for. Without the lock: others want to start.
            return process is None or process.wait(2) is not None
        except subprocess.TimeoutExpired:
            return False

    def warm(self) -> None:
        """Start it now, so that the first container need not wait for it. After `close` nothing happens."""
        with self._lock:
            if self._channel is None and not self._closed:
                with suppress(channel.ChannelClosed):
                    self._start()

    def _start(self) -> channel.Channel:
        mine, theirs = channel.pair()
        log = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            self._process = interpreter.start_sealed("lamina.runtime.zygote", theirs.fileno(), log)
        finally:
            theirs.close()
            os.close(log)
        try:
            mine.recv(30)
        except Unavailable as error:
            mine.close()
            if isinstance(error, channel.ChannelClosed) and self._process.wait() < 0:
                raise  # killed: not its own fault
            raise RuntimeFailed("the zygote does not start", hint=f"see {self._log}") from None
        self._channel = mine
        return mine

    def _end(self) -> None:
        if self._channel is not None:
            self._channel.close()
        if self._process is not None:
            self._process.wait()
        self._channel = self._process = None

    def close(self) -> None:
        """End it; what it forked goes on."""
        with self._lock:
            self._closed = True
            self._end()


def cgroup_mounts(hierarchies: Sequence[Hierarchy]) -> list[plan.CgroupMount]:
    """What to show of the control groups inside: every version 1 hierarchy, or version 2 where it is alone."""
    old = [hierarchy for hierarchy in hierarchies if not hierarchy.unified]
    if not old:
        return [plan.CgroupMount("")]
    return [plan.CgroupMount(os.path.basename(hierarchy.path), tuple(_options(hierarchy))) for hierarchy in old]


def _options(hierarchy: Hierarchy) -> list[tuple[str, ...]]:
    named = [word.removeprefix("name=") for word in hierarchy.controllers if word.startswith("name=")]
    return [("none",), ("name", named[0])] if named else [(word,) for word in hierarchy.controllers]


def _process_document(process: Mapping[str, Any], made: plan.Plan, user: str, groups: Sequence[str] = ()) -> dict[str, Any]:
    who = process.get("user") or {}
    size = process.get("consoleSize")
    return {
        "plan": made.encode(),
        "command": {"candidates": plan.candidates(process), "args": list(process["args"]), "env": list(process.get("env") or [])},
        "user": user,
        "groups": list(groups),
        "ids": [who.get("uid", 0), who.get("gid", 0), who.get("additionalGids") or []],
        "terminal": bool(process.get("terminal")),
        "size": [size["height"], size["width"]] if size else None,
    }


def _outside(launch: Launch, program: Program, spec: Mapping[str, Any], made: plan.Plan, path: str) -> dict[str, Any]:
    """What takes the plan's place where another runtime runs the container; see `outside`."""
    state = f"{launch.directory}/{outside.BUNDLE}/state"
    return {
        "plan": None,
        "spec": {**spec, "linux": {**(spec.get("linux") or {}), "cgroupsPath": path}},
        "rlimits": made.rlimits,
        "outside": {"program": program.path, "arguments": list(program.arguments), "id": launch.id, "state": state},
    }


def _with_hooks(launch: Launch, spec: Mapping[str, Any], made: plan.Plan) -> tuple[plan.Plan, dict[str, Any] | None]:
    """The plan with the specification's hooks, and what launcher and monitor run of them; hooks look for a bundle, so there is one then."""
    asked = spec.get("hooks") or {}
    if not any(asked.values()):
        return made, None
    where = f"{launch.directory}/{outside.BUNDLE}"
    about = {"ociVersion": spec["ociVersion"], "id": launch.id, "bundle": where, "annotations": spec.get("annotations") or {}}
    made, found = hooking.adapted(made, asked, about, f"{where}/rootfs"), hooking.document(asked, about, where)
    os.makedirs(f"{where}/rootfs", mode=0o700, exist_ok=True)
    with open(f"{where}/config.json", "w", encoding="utf-8") as file:
        json.dump({**spec, "root": {**spec["root"], "path": f"{where}/rootfs"}}, file)
    return made, found


def _root_document(launch: Launch, fds: dict[str, int]) -> dict[str, Any] | None:
    """The root's layers; those that are descriptors get slots."""
    root = launch.root
    if root is None:
        return None
    lowers = []
    for number, lower in enumerate(root.lowers):
        if lower.fd is not None:
            fds[f"lower:{number}"] = lower.fd
        lowers.append([f"lower:{number}" if lower.fd is not None else None, lower.path])
    return {"lowers": lowers, "upper": root.upper, "work": root.work, "volatile": root.volatile or launch.volatile}


def _pidfd(record: Mapping[str, Any]) -> int:
    """The recorded process, by a descriptor that is the caller's; -1 where it has ended, whoever has its number now."""
    try:
        fd = os.pidfd_open(record["pid"]) if record["pid"] else -1
    except OSError:
        return -1
    # Its number was not given away before the descriptor was opened, nor is what it is of ever another process.
    if fd >= 0 and start_time(record["pid"]) != record["started"]:
        os.close(fd)
        return -1
    return fd


_FIELDS: Mapping[str, Mapping[str, type | tuple[type, ...]]] = {
    RUN_RECORD: {"pid": int, "started": int, "cgroup": str},
    EXIT_RECORD: {"code": int, "signal": int, "finished_at": (int, float), "oom_killed": bool, "error": str},
}
"""What is read of each record."""


def read_record(directory: str, name: str) -> dict[str, Any] | None:
    """A record that a monitor wrote; None where there is none. A damaged one is none."""
    try:
        with open(f"{directory}/{name}", "rb") as file:
            record = dict(json.loads(file.read()))
    except (OSError, ValueError, TypeError):
        return None
    return record if all(isinstance(record.get(field), kind) for field, kind in _FIELDS[name].items()) else None
