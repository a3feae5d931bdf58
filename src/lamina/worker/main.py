"""What a worker process runs: one job after the other until its channel closes."""

from __future__ import annotations

import os
import select
import threading
from typing import Any

from lamina.errors import Exhausted
from lamina.linux import channel
from lamina.linux.channel import Channel, ChannelClosed, ChannelTimeout
from lamina.linux.heap import give_back, keep_freed
from lamina.linux.openfiles import allow_many
from lamina.linux.scheduling import work_in_the_background
from lamina.worker.failure import described
from lamina.worker.patience import PERIOD, Patience
from lamina.worker.workers import find

_SOON = 5.0
"""Seconds."""


def main(fd: int) -> None:
    """Serve the channel at descriptor `fd`; returns when the other end closes it."""
    os.set_inheritable(fd, False)
    # A job over a high stack opens a few files of every layer; who started us may be limited to 1024.
    allow_many()
    keep_freed()
    threading.Thread(target=_watch, args=(fd,), daemon=True).start()
    work_in_the_background()
    serve(channel.from_fd(fd))


def serve(end: Channel) -> None:
    """Run what arrives at `end`, one request at a time."""
    while _served(end):
        pass


def _served(end: Channel) -> bool:
    """Serve the next request, of which nothing is kept; False: there is none, and nobody to answer."""
    try:
        request, fds = _next(end)
    except ChannelClosed:
        return False
    try:
        answer = _answer(end, request, fds)
    finally:
        channel.close_all(fds)
    try:
        end.send(answer)
    except ChannelClosed:
        return False
    except ValueError as error:  # too big; nothing of it was sent
        end.send({"error": described(Exhausted(f"the answer of {request.get('job')} is too large: {error}"))})
    return True


def _next(end: Channel) -> tuple[dict[str, Any], list[int]]:
    """The next request. Where it does not come soon, memory that was kept for it is given back."""
    try:
        return end.recv(_SOON)
    except ChannelTimeout:
        give_back()
    return end.recv()


def _answer(end: Channel, request: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    def report(update: dict[str, Any]) -> None:
        end.send({"update": update})

    try:
        return {"result": find(str(request.get("job")))(request["params"], fds, report)}
    except ChannelClosed:
        raise
    except Exception as error:
        return {"error": described(error)}


def _watch(fd: int) -> None:
    """End this process when the other end closes, also in the middle of a job; until then see to it that its job is not forgotten.

    PR_SET_PDEATHSIG would fire when the *thread* that started us ends, so the channel is what is watched.
    """
    poll = select.poll()
    poll.register(fd, 0)
    patience = Patience()
    while not poll.poll(PERIOD * 1000):
        patience.look()
    os._exit(0)
