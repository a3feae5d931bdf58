"""What init tells its launcher through a pipe: how far it is, and why it failed; then in words for a person.

A report is `number\0step\0errno\0text`: the failed step's number in the plan, its name, and what the system said. See `init`.
"""

from __future__ import annotations

import errno
import os
import select

from lamina.linux import channel
from lamina.runtime import init

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

NOT_FOUND, NOT_EXECUTABLE, MISMATCHED, FAILED = "not_found", "not_executable", "mismatched", "failed"
ADVICE = "Are you trying to mount a directory onto a file (or vice-versa)? Check if the specified host path exists and is the expected type"
"""What dockerd adds where something is not a directory."""
ENDED = b"-1\0start\x000\0the process ended"
"""The report of a process that made none."""
_SIGCONT = 18
_STOPPED = (b"T", b"t")
_LOOK = 1.0
"""Seconds between looks at a process that has not executed yet."""
_MOST_STOPS = 10


class LaunchFailed(Exception):
    """`kind` is NOT_FOUND, NOT_EXECUTABLE, MISMATCHED or FAILED; the message is Docker's where Docker has one."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message


def heard(report: int) -> bytes:
    """Wait for init to say how far it is; what it says instead where it failed before."""
    first = os.read(report, 1)
    return b"" if first == init.REACHED else first + read(report) or ENDED


def said_so_far(report: int) -> bytes:
    """Why init has failed, if it has: then what is done for it from outside fails too, for it is gone."""
    poll = select.poll()
    poll.register(report, select.POLLIN)
    return os.read(report, 4096).removeprefix(init.REACHED) if poll.poll(0) else b""


def executed(report: int, pid: int, patience: float = 0, asking: int = -1) -> bytes:
    """Wait until a process has executed its command; what init says where it failed. `patience` in seconds, 0 for any. `asking` is the
    channel of who wants it, and may give up.

    One that joins a container is seen in there. Whoever stops it before it has executed is answered by waking it, and after ten times by
    giving up, lest the caller wait for ever.
    """
    poll = select.poll()
    poll.register(report, select.POLLIN)
    if asking >= 0:
        poll.register(asking, select.POLLIN)
    stopped = 0
    while report not in (ready := [fd for fd, _ in poll.poll((patience or _LOOK) * 1000)]):
        if ready:
            if channel.waits(asking):  # before the answer there is but one thing to say
                return f"-1\0start\0{errno.ETIMEDOUT}\0it was not executed in time".encode()
            poll.unregister(asking)  # who asked was killed: the next finds what runs
            continue
        if patience:
            return f"-1\0start\0{errno.ETIMEDOUT}\0it was not executed within {patience:g} seconds".encode()
        if pid and stat_of(pid)[0] in _STOPPED:
            stopped += 1
            if stopped > _MOST_STOPS:
                return f"-1\0start\0{errno.EPERM}\0a process of the container kept it from executing".encode()
            os.kill(pid, _SIGCONT)
    return read(report)


def read(fd: int) -> bytes:
    """What init says until execve closes the pipe; nothing where all went well."""
    parts = []
    while data := os.read(fd, 4096):
        if data == init.READY:
            return b""
        parts.append(data)
    return b"".join(parts)


def failure(said: bytes, document: Mapping[str, Any]) -> LaunchFailed:
    """A sentence in Docker's words of what init reported."""
    number, step, code, text = said.decode(errors="replace").split("\0", 3)
    name = document["command"]["args"][0]
    failed = "OCI runtime exec failed: exec failed" if document.get("joined") else "OCI runtime create failed"
    prefix = f"{failed}: unable to start container process:"
    path, _, words = text.rpartition("\0")
    if step not in ("execute", "ready"):
        failed = f"{prefix} {step} ({path or _described(document, int(number))})"
        if step == "attach" and int(code) == errno.ENOTDIR:
            return LaunchFailed(MISMATCHED, f"{failed}: not a directory: unknown: {ADVICE}")
        return LaunchFailed(FAILED, f"{failed}: {words}: unknown")
    if int(code) in (errno.ENOENT, errno.ENOTDIR):
        if path:
            return LaunchFailed(NOT_FOUND, f"{prefix} exec {path}: no such file or directory: unknown")
        if "/" in name:
            return LaunchFailed(NOT_FOUND, f'{prefix} exec: "{name}": stat {name}: no such file or directory: unknown')
        return LaunchFailed(NOT_FOUND, f'{prefix} exec: "{name}": executable file not found in $PATH: unknown')
    return LaunchFailed(NOT_EXECUTABLE, f'{prefix} exec: "{name}": {words[:1].lower()}{words[1:]}: unknown')


def _described(document: Mapping[str, Any], number: int) -> str:
    """What a step was about, for a person."""
    steps = document["plan"]["steps"]
    if 0 <= number < len(steps) and steps[number][0] == "hooks":
        return "of the bundle"
    # What was opened on the host has a slot's name in there, which says nothing to a person.
    paths = {slot: path for slot, path, *_ in document["plan"]["sources"]}
    words = [paths.get(word, word) for word in steps[number][1:] if isinstance(word, str)] if 0 <= number < len(steps) else []
    return " ".join(words) or "no argument"


def stat_of(pid: int) -> list[bytes]:
    """What /proc says of a process after its name: its state, its parent, and so on."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        return file.read().rpartition(b")")[2].split()
