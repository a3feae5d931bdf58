"""Control groups, version 1, hybrid and 2: one object per container, whatever the kernel has mounted.

A container's cgroup has the same path in every hierarchy (`/lamina/ID`). Zygote and monitors load this file,
so it imports next to nothing.
"""

from __future__ import annotations

import errno
import os
import time

from lamina.errors import Unsupported
from lamina.linux import bpf, inotify
from lamina.runtime import limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any


_GENTLE = 50
"""Tries to remove a group before what is in it is killed."""
_ENDING = 5.0
"""Seconds in which processes that were killed leave it: on a busy machine they get no turn to end for a while."""


def cgroup_path(parent: str, container_id: str) -> str:
    """Where a container's control group is: below `--cgroup-parent`, else /lamina; `..` ends at the root of the hierarchy."""
    return os.path.normpath(f"/{parent.strip('/') or 'lamina'}/{container_id}")


class CgroupUnavailable(Unsupported):
    """There is no cgroup file for what was asked: this kernel has none, or somebody removed the group."""


class Hierarchy:
    """One mounted hierarchy: `controllers` of version 1 (`name=systemd` among them), or version 2's."""

    __slots__ = ("controllers", "path", "unified")

    def __init__(self, path: str, controllers: Sequence[str], *, unified: bool) -> None:
        self.path, self.controllers, self.unified = path, tuple(controllers), unified


def hierarchies(mountinfo: str) -> tuple[Hierarchy, ...]:
    """The hierarchies that /proc/self/mountinfo (its text) shows, version 1 first; pure but for version 2's list of controllers."""
    found: list[Hierarchy] = []
    seen: set[str] = set()
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        _, _, device, _, where, *_ = before.split()
        kind, _, options = after.partition(" ")
        # The host's own come first; others of the same, in somebody's container, may show a part of it.
        if {device, where} & seen:
            continue
        if kind in ("cgroup", "cgroup2"):
            seen |= {device, where}
        if kind == "cgroup":
            words = options.split()[-1].split(",")
            found.append(
                Hierarchy(where, [word for word in words if word not in ("rw", "ro", "xattr", "clone_children", "noprefix")], unified=False)
            )
        elif kind == "cgroup2":
            found.append(Hierarchy(where, _read(f"{where}/cgroup.controllers").split(), unified=True))
    return tuple(sorted(found, key=lambda hierarchy: hierarchy.unified))


def here() -> tuple[Hierarchy, ...]:
    """The hierarchies of this host."""
    return hierarchies(_read("/proc/self/mountinfo"))


def mode(found: Sequence[Hierarchy]) -> str:
    """`v1`, `hybrid`, `v2`, or `none`."""
    kinds = {hierarchy.unified for hierarchy in found}
    return {frozenset(): "none", frozenset({False}): "v1", frozenset({True}): "v2"}.get(frozenset(kinds), "hybrid")


class Cgroup:
    """A container's group in every hierarchy. `path` begins with a slash."""

    def __init__(self, path: str, found: Sequence[Hierarchy]) -> None:
        self.path = path
        self._hierarchies = tuple(found)

    @classmethod
    def create(cls, path: str, resources: Mapping[str, Any], found: Sequence[Hierarchy] | None = None) -> Cgroup:
        """Make the group everywhere and set OCI `linux.resources`; on failure nothing of it remains.

        Raises:
            CgroupUnavailable: a limit that this kernel cannot set.
            OSError: the kernel refused a value.
        """
        group = cls(path, here() if found is None else found)
        try:
            for hierarchy in group._hierarchies:
                _make(hierarchy, path)
            group.limit(resources)
            group._restrict_devices(resources.get("devices") or ())
        except BaseException:
            group.remove()
            raise
        return group

    def limit(self, resources: Mapping[str, Any]) -> None:
        """Set or change limits. Raises as `create`."""
        for controller in limits.CONTROLLERS:
            self._limit(controller, resources)

    def _limit(self, controller: str, resources: Mapping[str, Any]) -> None:
        for files, value in limits.writes(
            controller, resources, lambda file: self.read(controller, file), unified=self.unified(controller)
        ):
            self._set(controller, files, value)

    def read(self, controller: str, file: str) -> str:
        """The text of one of a controller's files, version 1's or 2's; "" where there is none."""
        return _read(f"{self._files(controller)}/{file}")

    def has(self, controller: str, file: str) -> bool:
        """Whether a controller has this file."""
        return os.path.exists(f"{self._files(controller)}/{file}")

    def unified(self, controller: str) -> bool:
        """Whether a controller's files are those of version 2."""
        return self._directory(controller) is None

    def _files(self, controller: str) -> str:
        return self._directory(controller) or self._unified() or ""

    def attach(self, pid: int) -> None:
        """Move a process into the group, everywhere."""
        for directory in self.directories():
            _write(f"{directory}/cgroup.procs", str(pid))

    def open_tasks(self) -> list[int]:
        """Descriptors of the version 1 groups' lists of threads, which the caller closes: for a process that was cloned into
        the version 2 group and moves itself.

        A thread that writes `0` there moves at once. A pid in `cgroup.procs` moves a whole process, before which the kernel
        waits until no processor is in the middle of a fork or exit (6 to 20 ms).
        """
        found: list[int] = []
        try:
            for hierarchy in self._hierarchies:
                if not hierarchy.unified:
                    found.append(os.open(f"{hierarchy.path}{self.path}/tasks", os.O_WRONLY | os.O_CLOEXEC))
        except OSError:
            for fd in found:
                os.close(fd)
            raise
        return found

    def open_unified(self) -> int | None:
        """A descriptor of the version 2 group for CLONE_INTO_CGROUP, which the caller closes; None where there is none."""
        unified = self._unified()
        return None if unified is None else os.open(unified, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def directories(self) -> list[str]:
        """The group's directory in each hierarchy."""
        return [hierarchy.path + self.path for hierarchy in self._hierarchies]

    def pids(self) -> list[int]:
        """All processes in the group and below."""
        found: set[int] = set()
        for directory in self._process_directories():
            found.update(int(pid) for pid in _read(f"{directory}/cgroup.procs").split())
        return sorted(found)

    def kill(self) -> None:
        """SIGKILL everything in the group, until nothing is left."""
        unified = self._unified()
        if unified is not None and os.path.exists(f"{unified}/cgroup.kill"):
            try:
                _write(f"{unified}/cgroup.kill", "1")
            except OSError:
                pass  # it is gone at this moment, or what is in there made it one that is killed by the process
        if (freezer := self._directory("freezer")) is not None and self.frozen:
            try:
                # What version 1 has frozen does not even die (a paused container whose monitor was killed).
                _write(f"{freezer}/freezer.state", "THAWED")
            except OSError:
                pass  # it is gone
        for _ in range(100):
            # 0 stands for a process that this process cannot see, and to kill(2) for itself.
            pids = [pid for pid in self.pids() if pid]
            if not pids:
                return
            for pid in pids:
                try:
                    os.kill(pid, 9)
                except ProcessLookupError:
                    continue
            time.sleep(0.002)

    def freeze(self, *, frozen: bool) -> None:
        """Stop or resume everything in the group; returns when it is so. What is gone counts as resumed.

        Raises:
            CgroupUnavailable: no freezer here.
            FileNotFoundError: the group to stop is gone.
            TimeoutError: something does not stop within ten seconds, and is resumed; or does not go on.
        """
        try:
            self._freeze(frozen=frozen)
        except OSError as error:
            # Who kills what is frozen thaws it, and its monitor may have removed the group by then.
            if frozen or error.errno not in (errno.ENOENT, errno.ENODEV):
                raise

    @property
    def frozen(self) -> bool:
        """Whether it is stopped, or about to be."""
        freezer, unified = self._directory("freezer"), self._unified()
        if freezer is not None:
            return _read(f"{freezer}/freezer.state").strip() not in ("", "THAWED")
        return unified is not None and _read(f"{unified}/cgroup.freeze").strip() == "1"

    def _freeze(self, *, frozen: bool) -> None:
        freezer = self._directory("freezer")
        unified = self._unified()
        if freezer is not None:
            state = "FROZEN" if frozen else "THAWED"
            _write(f"{freezer}/freezer.state", state)
            file, expected = f"{freezer}/freezer.state", state
        elif unified is not None:
            _write(f"{unified}/cgroup.freeze", str(int(frozen)))
            file, expected = f"{unified}/cgroup.events", f"frozen {int(frozen)}"
        else:
            raise CgroupUnavailable("this kernel has no freezer cgroup: processes cannot be paused")
        deadline = time.monotonic() + 10
        while expected not in _read(file).splitlines():
            if not os.path.exists(file):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            if time.monotonic() > deadline:
                if frozen:
                    self.freeze(frozen=False)
                raise TimeoutError(f"the processes of {self.path} did not {'stop' if frozen else 'go on'}")
            time.sleep(0.001)

    def oom_kills(self) -> int:
        """How many processes the kernel killed here because memory ran out."""
        file = "memory.events" if self.unified("memory") else "memory.oom_control"
        for line in self.read("memory", file).splitlines():
            key, _, value = line.partition(" ")
            if key == "oom_kill":
                return int(value)
        return 0

    def watch_oom(self) -> int | None:
        """A descriptor that becomes readable when memory has run out here; the caller reads and closes it. None where the kernel gives
        none: then the end of all tells.

        Version 1 gives an eventfd, version 2 an inotify instance on memory.events, which tells of other events too.
        """
        directory = self._files("memory")
        if self.unified("memory"):
            try:
                return inotify.watching(f"{directory}/memory.events")
            except OSError:
                return None  # no controller, or no instance is left: the kernel gives a user 128 of them
        try:
            control = os.open(f"{directory}/memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        told = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        try:
            _write(f"{directory}/cgroup.event_control", f"{told} {control}")
        except OSError:
            os.close(told)
            return None
        finally:
            os.close(control)
        return told

    def remove(self) -> None:
        """Remove the group everywhere, kill what is in it first. Idempotent."""
        for directory in self.directories():
            _remove(directory, self)

    def _set(self, controller: str, files: Sequence[str], value: str) -> None:
        directory = self._files(controller)
        for file in files:
            if os.path.exists(f"{directory}/{file}"):
                return _write(f"{directory}/{file}", value)
        if directory and not os.path.isdir(directory):
            raise CgroupUnavailable(f"the control group {directory} is gone")
        raise CgroupUnavailable(f"this kernel cannot limit {controller}: there is no {files[0]}", hint="leave that limit out")

    def _restrict_devices(self, rules: Sequence[Mapping[str, Any]]) -> None:
        directory = self._directory("devices")
        if directory is not None:
            for file, lines in _device_lines(rules):
                _write(f"{directory}/{file}", *lines)
        elif rules and (fd := self.open_unified()) is not None:
            try:
                bpf.attach_device_program(fd, bpf.device_program(rules))
            finally:
                os.close(fd)
        elif rules:
            raise CgroupUnavailable("this host has no cgroup that restricts devices")

    def _directory(self, controller: str) -> str | None:
        """The version 1 group of a controller."""
        for hierarchy in self._hierarchies:
            if not hierarchy.unified and controller in hierarchy.controllers:
                return hierarchy.path + self.path
        return None

    def _unified(self) -> str | None:
        for hierarchy in self._hierarchies:
            if hierarchy.unified:
                return hierarchy.path + self.path
        return None

    def _process_directories(self) -> Iterator[str]:
        """The group and all below it in one hierarchy that counts every process."""
        top = self._directory("pids") or self._directory("freezer") or self._unified() or (self.directories() or [""])[0]
        for directory, _, _ in os.walk(top):
            yield directory


def _device_lines(rules: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    """What is written to devices.allow and devices.deny, in turn."""
    found: list[tuple[str, list[str]]] = []
    for rule in rules:
        file = f"devices.{'allow' if rule.get('allow') else 'deny'}"
        if not found or found[-1][0] != file:
            found.append((file, []))
        found[-1][1].append(_device_line(rule))
    return found


def _device_line(rule: Mapping[str, Any]) -> str:
    """A rule as devices.allow and devices.deny read it."""
    kind = rule.get("type") or "a"
    if kind == "a":
        return "a"
    major, minor = ("*" if (number := rule.get(key)) is None or number < 0 else str(number) for key in ("major", "minor"))
    return f"{kind} {major}:{minor} {rule.get('access') or 'rwm'}"


def _make(hierarchy: Hierarchy, path: str) -> None:
    """Make a group and its parents, which pass on what children need."""
    parts = path.strip("/").split("/")
    if not hierarchy.unified:
        _make_old(hierarchy, parts)
        return
    for depth in range(len(parts)):
        parent = "/".join([hierarchy.path, *parts[:depth]])
        _enable_controllers(parent, hierarchy.controllers)
        try:
            os.mkdir(f"{parent}/{parts[depth]}", 0o755)
        except FileExistsError:
            continue


def _make_old(hierarchy: Hierarchy, parts: Sequence[str]) -> None:
    """Of version 1. Parents are looked at only where they are missing: most often they are there."""
    parent = "/".join([hierarchy.path, *parts[:-1]])
    directory = f"{parent}/{parts[-1]}"
    try:
        os.mkdir(directory, 0o755)
    except FileExistsError:
        return
    except FileNotFoundError:
        if len(parts) == 1:
            raise
        _make_old(hierarchy, parts[:-1])
        _make_old(hierarchy, parts)
        return
    if "cpuset" in hierarchy.controllers:
        _give_processors(hierarchy.path, parts)


def _give_processors(top: str, parts: Sequence[str]) -> None:
    """A new group of version 1 has no processors, and takes no process until it is given some."""
    directory, parent = "/".join([top, *parts]), "/".join([top, *parts[:-1]])
    for file in ("cpuset.cpus", "cpuset.mems"):
        if not (value := _read(f"{parent}/{file}").strip()) and len(parts) > 1:
            # Another launcher has made the parent at this very moment, and has not come so far.
            _give_processors(top, parts[:-1])
            value = _read(f"{parent}/{file}").strip()
        _write(f"{directory}/{file}", value)


def _enable_controllers(parent: str, controllers: Sequence[str]) -> None:
    """Let the children of a version 2 group use what it has itself."""
    enabled = _read(f"{parent}/cgroup.subtree_control").split()
    for controller in controllers:
        if controller not in enabled:
            try:
                _write(f"{parent}/cgroup.subtree_control", f"+{controller}")
            except OSError as error:
                # A group with processes of its own cannot pass controllers on (except the root): limits will say so.
                if error.errno not in (errno.EBUSY, errno.EOPNOTSUPP, errno.ENOENT, errno.EINVAL):
                    raise


def _remove(directory: str, group: Cgroup) -> None:
    """Remove one hierarchy's directory of `group` and those below it; given up without a word when it stays busy for `_ENDING` seconds."""
    attempt, until = 0, time.monotonic() + _ENDING
    while attempt < 2 * _GENTLE or time.monotonic() < until:
        try:
            # Most often nothing is below it, and no process in it: then this is one call.
            for below, folders, _ in os.walk(directory, topdown=False) if attempt else ():
                for folder in folders:
                    os.rmdir(f"{below}/{folder}")
            os.rmdir(directory)
            return
        except FileNotFoundError:
            if not os.path.exists(directory):
                return  # else what vanished was below it
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            if attempt == _GENTLE:
                group.kill()
            if attempt:
                time.sleep(0.001 if attempt < _GENTLE else 0.005)
        attempt += 1


def _read(path: str) -> str:
    """A small file's text; empty where there is none."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        parts = []
        while data := os.read(fd, 65536):
            parts.append(data)
        return b"".join(parts).decode(errors="replace")
    except OSError:
        return ""
    finally:
        os.close(fd)


def _write(path: str, *values: str) -> None:
    """One after the other, each by one call, as these files want it."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    value = ""
    try:
        for value in values:
            os.write(fd, value.encode())
    except OSError as error:
        raise OSError(error.errno, f"{path}: {value}: {os.strerror(error.errno or 0)}") from None
    finally:
        os.close(fd)
