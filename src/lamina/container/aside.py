"""Work that the thread which watches all processes must not wait for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import ParamSpec

Given = ParamSpec("Given")


def aside(name: str, work: Callable[Given, None], *args: Given.args, **kwargs: Given.kwargs) -> None:
    """Do it in a thread of its own. Where there is no room for another thread it is done here: late is better than never, and what this
    raised would end the thread that calls, and with it all that is to be heard of other containers."""
    try:
        threading.Thread(target=work, args=args, kwargs=kwargs, name=name, daemon=True).start()
    except RuntimeError:
        work(*args, **kwargs)
