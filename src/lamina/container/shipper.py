"""A process that reads a container's log as Docker's json lines from its standard input, and sends each line to the log driver's receiver.

The first line is a JSON object: driver, options, tag, and who the container is. It answers "ready", or why not. It ends with its input.
A receiver that goes away is asked again; meanwhile the pipe fills, and the container waits, unless it asked for `mode=non-blocking`. A
syslog daemon or a journal that is not back after a second is not waited for any more: lines are lost until it is, as with Docker.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator

import msgspec

from lamina.container.destinations import Destination, Line, Pieces, Unreachable, destination

_CHUNK = 1 << 18
_RETRY = 1.0
"""Seconds between tries to reach a receiver that went away."""
_PATIENCE = 10.0
"""Seconds that it is tried for after the container has ended."""


def main() -> None:
    """Serve until the input ends."""
    lines = _lines(0)
    about = msgspec.json.decode(next(lines)[0])
    try:
        receiver = destination(about, lambda: _ended(0))
        receiver.open()
    except Unreachable as error:
        if about["options"].get("fluentd-async", "").lower() not in ("true", "1", "t"):
            _answer(str(error))
            return
    _answer("ready")
    ship(receiver, lines)


def ship(receiver: Destination, batches: Iterator[list[bytes]], wait: Callable[[float], None] = time.sleep) -> None:
    """Send everything, each line once as far as can be known."""
    decoder, pieces, tries = msgspec.json.Decoder(Line), Pieces(), receiver.tries
    for batch in batches:
        sent = _send(receiver, [pieces.told(decoder.decode(line)) for line in batch], wait, tries)
        # Each batch of those that follow one that was given up would make the container wait.
        tries = receiver.tries if sent else receiver.tries - 1
    receiver.close()


def _send(receiver: Destination, lines: list[Line], wait: Callable[[float], None], most: int) -> bool:
    """Whether all lines went; the receiver is tried again `most` times."""
    tries = 0
    while lines:
        try:
            receiver.open()
            sent = receiver.send(lines)
            lines = lines[sent:]
            tries = 0
        except Unreachable:
            receiver.close()
            tries += 1
            if tries > most or (_ended(0) and tries > _PATIENCE / _RETRY):
                return False
            wait(_RETRY)
    return True


def _ended(fd: int) -> bool:
    """Whether nobody writes into the pipe any more."""
    import select

    poll = select.poll()
    poll.register(fd, 0)
    return any(events & select.POLLHUP for _, events in poll.poll(0))


def _lines(fd: int) -> Iterator[list[bytes]]:
    """Whole lines as they come; the first alone."""
    rest, first = b"", True
    while data := os.read(fd, _CHUNK):
        *lines, rest = (rest + data).split(b"\n")
        if first and lines:
            first = False
            yield [lines.pop(0)]
        if lines:
            yield lines


def _answer(words: str) -> None:
    os.write(1, words.encode() + b"\n")
    null = os.open("/dev/null", os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)


if __name__ == "__main__":
    main()
