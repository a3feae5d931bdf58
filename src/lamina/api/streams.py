"""Responses that go on for a while: progress lines, and noticing that the client left."""

from __future__ import annotations

import contextlib
import os
import select
import threading
from collections.abc import Callable, Iterator

from lamina.api.errors import stream_failure
from lamina.api.message import Streamed, Writer, encode
from lamina.spec.progress import Sink, Update


def progress_line(update: Update) -> bytes:
    """`update` as one line of Docker's JSON message stream."""
    line: dict[str, object] = {}
    if update.stream:
        # Docker's classic builder paints what a command writes to its standard error, for clients to show as it is.
        line["stream"] = f"\x1b[91m{update.stream}\x1b[0m" if update.error else update.stream
    if update.status:
        line["status"] = update.status
        if update.current is not None or update.total is not None:
            line["progressDetail"] = {
                name: value for name, value in (("current", update.current), ("total", update.total)) if value is not None
            }
        elif update.id:
            line["progressDetail"] = {}
    if update.id:
        line["id"] = update.id
    if update.aux is not None:
        line["aux"] = update.aux
    return encode(line) if line else b""


def progress(work: Callable[[Sink, Writer], None]) -> Streamed:
    """A response that renders the updates of `work` as they come; its failure is the stream's last line."""

    def produce(writer: Writer) -> None:
        lock = threading.Lock()

        def sink(update: Update) -> None:
            with lock:
                writer.write(progress_line(update))

        work(sink, writer)

    return Streamed(produce, failed=stream_failure)


@contextlib.contextmanager
def watching(writer: Writer, on_gone: Callable[[], None]) -> Iterator[None]:
    """While inside, call `on_gone` once (from another thread) if the client closes its connection."""
    stop = os.eventfd(0, os.EFD_CLOEXEC)
    poll = select.poll()
    poll.register(stop, select.POLLIN)
    poll.register(writer.fileno(), select.POLLRDHUP)

    def watch() -> None:
        if all(fd != stop for fd, _ in poll.poll()):
            on_gone()

    thread = threading.Thread(target=watch, name="client watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        os.eventfd_write(stop, 1)
        thread.join()
        os.close(stop)
