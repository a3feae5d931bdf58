"""Progress of long work: bars on a terminal, plain lines elsewhere. Messages are Docker's JSON messages."""

from __future__ import annotations

import posix
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import TypeVar

from lamina.cli.terminal import moves
from lamina.cli.units import human_size
from lamina.errors import LaminaError

T = TypeVar("T", bound=Sized)
_TICK = 0.1
_RED, _PLAIN = "\x1b[91m", "\x1b[0m"


class Rate:
    """Speed and remaining time of one piece of work, from the bytes done."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._start = clock, clock()

    def line(self, current: int, total: int | None, width: int = 30) -> str:
        """`[====>   ]  12.3MB/77.8MB  4.1MB/s  ETA 0:15`."""
        elapsed = self._clock() - self._start
        speed = current / elapsed if elapsed > 0 else 0
        pace = f"  {human_size(speed)}/s" if speed >= 1 else ""
        if not total:
            return f"{human_size(current, 4)}{pace}"
        done = min(width, width * current // total)
        bar = "=" * done + (">" if done < width else "") + " " * (width - done - 1)
        left = f"  ETA {_clock_time((total - current) / speed)}" if speed >= 1 and current < total else ""
        return f"[{bar[:width]}]  {human_size(current, 4)}/{human_size(total, 4)}{pace}{left}"


def _clock_time(seconds: float) -> str:
    whole = int(seconds + 0.5)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}" if whole >= 3600 else f"{whole // 60}:{whole % 60:02}"


def unpainted(text: str) -> str:
    """Text of a build without the red in which comes what a RUN wrote to its standard error."""
    return text[len(_RED) : -len(_PLAIN)] if text.startswith(_RED) and text.endswith(_PLAIN) else text


class Display:
    """Renders messages to one descriptor; `terminal` says whether lines may be rewritten, `coloured` whether there are colours."""

    def __init__(self, fd: int = 1, *, terminal: bool | None = None, coloured: bool = False) -> None:
        self._coloured = coloured
        self._terminal = moves(fd) if terminal is None else terminal
        self._out = sys.stderr if fd == 2 else sys.stdout
        self._rows: dict[str, int] = {}
        self._rates: dict[tuple[str, str], Rate] = {}
        self._aux: list[dict[str, object]] = []

    def show(self, messages: Iterable[dict[str, object]]) -> list[dict[str, object]]:
        """Render every message; the `aux` documents among them.

        Raises:
            LaminaError: the error that the stream carries.
        """
        for message in messages:
            if error := message_error(message):
                self._out.flush()
                raise error
            self._one(message)
        self._out.flush()
        return self._aux

    def _one(self, message: dict[str, object]) -> None:
        aux = message.get("aux")
        if isinstance(aux, dict):
            self._aux.append(aux)
            return
        if "stream" in message:
            self._out.write(str(message["stream"]) if self._coloured else unpainted(str(message["stream"])))
        else:
            self._status(str(message.get("id") or ""), str(message.get("status") or ""), message.get("progressDetail"))
        self._out.flush()

    def _status(self, name: str, status: str, detail: object) -> None:
        moving = isinstance(detail, dict) and isinstance(detail.get("current"), int)
        if not self._terminal:
            if not moving and status:
                self._out.write(f"{name}: {status}\n" if name else f"{status}\n")
            return
        text = f"{name}: {status}" if name else status
        if isinstance(detail, dict) and moving:
            rate = self._rates.setdefault((name, status), Rate())
            text += " " + rate.line(detail["current"], detail.get("total"))
        self._line(name, text)

    def _line(self, name: str, text: str) -> None:
        if not name:
            self._rows.clear()
            self._out.write(f"{text}\n")
            return
        if name not in self._rows:
            self._rows[name] = len(self._rows)
            self._out.write("\n")
        up = len(self._rows) - self._rows[name]
        columns = _columns()
        self._out.write(f"\x1b[{up}A\r{text[: columns - 1]}\x1b[K\r\x1b[{up}B")


def _columns() -> int:
    try:
        return posix.get_terminal_size(2).columns or 80
    except OSError:
        return 80


def message_error(message: dict[str, object]) -> LaminaError | None:
    """The error a message tells of, if it tells of one."""
    detail = message.get("errorDetail")
    text = detail.get("message") if isinstance(detail, dict) else message.get("error")
    if not text:
        return None
    error = LaminaError(str(text).strip())
    code = detail.get("code") if isinstance(detail, dict) else None
    if isinstance(code, int) and code > 0:
        error.exit_code = code
    return error


def metered(pieces: Iterable[T], total: int | None, label: str) -> Iterator[T]:
    """`pieces`, with a bar on standard error while they pass, if that is a terminal where lines can be rewritten."""
    if not moves(2):
        yield from pieces
        return
    rate, done, shown = Rate(), 0, 0.0
    for piece in pieces:
        yield piece
        done += len(piece)
        if (now := time.monotonic()) - shown > _TICK:
            shown = now
            sys.stderr.write(f"\r{label} {rate.line(done, total)}\x1b[K")
            sys.stderr.flush()
    sys.stderr.write(f"\r{label} {rate.line(done, total)}\x1b[K\n")
    sys.stderr.flush()
