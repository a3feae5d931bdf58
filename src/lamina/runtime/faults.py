"""Faults of ours in monitors and launchers, which nobody hears but the zygote's log."""

from __future__ import annotations

import os


def complain(error: BaseException) -> None:
    """Leave word of a fault in the zygote's log."""
    os.write(2, f"{' < '.join(_places(error))}: {type(error).__name__}: {error}\n".encode(errors="replace"))


def _places(error: BaseException) -> list[str]:
    """Where an error came from, innermost first; the traceback module cannot be imported here."""
    places = []
    trace = error.__traceback__
    while trace is not None:
        places.append(f"{trace.tb_frame.f_code.co_qualname}:{trace.tb_lineno}")
        trace = trace.tb_next
    return places[::-1]
