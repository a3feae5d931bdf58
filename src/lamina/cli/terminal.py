"""The terminal: raw mode that is always undone, its size, and the keys that detach from it."""

from __future__ import annotations

import posix
import termios

from lamina.errors import InvalidArgument

DEFAULT_DETACH = "ctrl-p,ctrl-q"
_CONTROLS = {"@": 0, "[": 27, "\\": 28, "]": 29, "^": 30, "_": 31}


def moves(fd: int) -> bool:
    """Whether lines on a descriptor can be written again: a terminal that is more than a teletype (TERM=dumb, as in editors)."""
    return posix.isatty(fd) and posix.environ.get(b"TERM") != b"dumb"


def size(fd: int) -> tuple[int, int]:
    """Rows and columns; zeros where they are unknown."""
    try:
        found = posix.get_terminal_size(fd)
    except OSError:
        return 0, 0
    return found.lines, found.columns


class Raw:
    """Raw mode (cfmakeraw) of a terminal while the context lasts."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._saved: list[object] | None = None

    def __enter__(self) -> Raw:
        mode = termios.tcgetattr(self._fd)
        self._saved = [*mode[:6], list(mode[6])]
        mode[0] &= ~(
            termios.IGNBRK | termios.BRKINT | termios.PARMRK | termios.ISTRIP | termios.INLCR | termios.IGNCR | termios.ICRNL | termios.IXON
        )
        mode[1] &= ~termios.OPOST
        mode[2] = mode[2] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
        mode[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
        mode[6][termios.VMIN], mode[6][termios.VTIME] = 1, 0
        termios.tcsetattr(self._fd, termios.TCSANOW, mode)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._saved is not None:
            termios.tcsetattr(self._fd, termios.TCSANOW, self._saved)  # type: ignore[arg-type]


def detach_sequence(text: str) -> bytes:
    """The bytes of `ctrl-p,ctrl-q`: single characters and `ctrl-` with a letter or one of @ [ \\ ] ^ _.

    Raises:
        InvalidArgument: a key that is none of these.
    """
    keys = bytearray()
    for word in text.split(","):
        if len(word) == 1 and word.isascii():
            keys.append(ord(word))
            continue
        letter = word.removeprefix("ctrl-")
        if letter != word and len(letter) == 1 and "a" <= letter <= "z":
            keys.append(ord(letter) - ord("a") + 1)
        elif letter != word and letter in _CONTROLS:
            keys.append(_CONTROLS[letter])
        else:
            raise InvalidArgument(f"unknown detach key {word!r}", hint="write keys like ctrl-p,ctrl-q")
    return bytes(keys)


class DetachKeys:
    """Looks for a sequence of keys in what is typed; a part that turns out not to be one is passed on."""

    def __init__(self, sequence: bytes) -> None:
        self._sequence = sequence
        self._matched = 0

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """What to pass on, and whether the sequence is complete."""
        passed = bytearray()
        for byte in data:
            if byte != self._sequence[self._matched]:
                passed += self._sequence[: self._matched]
                self._matched = 0
            if byte == self._sequence[self._matched]:
                self._matched += 1
                if self._matched == len(self._sequence):
                    return bytes(passed), True
            else:
                passed.append(byte)
        return bytes(passed), False
