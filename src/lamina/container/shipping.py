"""Starting who sends a container's log elsewhere (syslog, journald, fluentd): one process per run, which ends with the container's
monitor."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from lamina.container.logdrivers import LogPlan, log_plan
from lamina.container.model import Container
from lamina.errors import Internal

_PATIENCE = 30.0
"""Seconds that a receiver gets to accept the connection."""


class LogNotStarted(Internal):
    """Nobody takes the log."""


@contextmanager
def shipped(container: Container) -> Iterator[int]:
    """The pipe for the container's log, in this context; -1 where its driver sends nothing away.

    Raises:
        LogNotStarted: the receiver cannot be reached, in Docker's words.
    """
    plan = log_plan(container)
    if plan.path == container.local_log_path:
        os.makedirs(os.path.dirname(plan.path), 0o700, exist_ok=True)
    if not plan.driver:
        yield -1
        return
    pipe = _start(container, plan)
    try:
        yield pipe
    finally:
        os.close(pipe)


def _start(container: Container, plan: LogPlan) -> int:
    reading, writing = os.pipe2(os.O_CLOEXEC)
    said, saying = os.pipe2(os.O_CLOEXEC)
    try:
        path = [os.path.abspath(entry) for entry in sys.path if entry]
        code = f"import sys; sys.path[:] = {path!r}; from lamina.container.shipper import main; main()"
        subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", code],
            stdin=reading,
            stdout=saying,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
            env={},
        )
        os.close(saying)
        saying = -1
        # The first line says what to do, and by which words; passwords in it are in nobody's list of processes.
        about = {"driver": plan.driver, "options": dict(plan.options), "tag": plan.tag, **_identity(container)}
        os.write(writing, json.dumps(about).encode() + b"\n")
        _await(said)
        return os.dup(writing)
    finally:
        for fd in (reading, writing, said, *([saying] if saying >= 0 else [])):
            os.close(fd)


def _identity(container: Container) -> dict[str, str]:
    return {"id": container.id, "name": container.name, "image": container.image_name, "host": os.uname().nodename}


def _await(said: int) -> None:
    """Wait until it says that it is ready; anything else is why it is not."""
    poll = select.poll()
    poll.register(said, select.POLLIN)
    words = b""
    while poll.poll(_PATIENCE * 1000):
        data = os.read(said, 4096)
        words += data
        if words == b"ready\n":
            return
        if not data:
            break
    why = words.decode(errors="replace").strip() or "it does not answer"
    raise LogNotStarted(f"failed to initialize logging driver: {why}")
