"""Signals by the names that Docker has for them."""

from __future__ import annotations

import re
import signal

from lamina.errors import InvalidArgument

_NAME = re.compile(r"(?:SIG)?([A-Z0-9]+)(?:([+-])([0-9]{1,2}))?\Z")
_NUMBER = re.compile(r"[+-]?[0-9]{1,18}\Z")


class InvalidSignal(InvalidArgument):
    """There is no signal of that name or number."""


def signal_number(name: str) -> int:
    """`SIGTERM`, `term`, `15`, `RTMIN+3`, `RTMAX-2` as a number.

    Raises:
        InvalidSignal: in Docker's words.
    """
    number = int(name) if _NUMBER.match(name) else _named(name)
    if not 0 < number <= signal.SIGRTMAX:
        raise InvalidSignal(f"invalid signal: {name[:100]}")
    return number


def check_stop_signal(name: str) -> None:
    """Refuse what a container cannot have to be stopped with. As Docker takes it, a number may be one that no signal has.

    Raises:
        InvalidSignal: in Docker's words.
    """
    if not (_NUMBER.match(name) and int(name)):
        signal_number(name)


def _named(name: str) -> int:
    """The number that a name stands for, 0 where there is none."""
    match = _NAME.match(name.upper())
    found = getattr(signal, f"SIG{match[1]}", None) if match else None
    if match is None or not isinstance(found, signal.Signals):
        return 0
    if not match[2]:
        return int(found)
    signs = {signal.SIGRTMIN: "+", signal.SIGRTMAX: "-"}
    return int(found) + int(match[2] + match[3]) if signs.get(found) == match[2] else 0
