"""Work that the thread which watches all processes must not wait for."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import ParamSpec

from lamina.linux.crew import Crew

Given = ParamSpec("Given")
_crew = Crew("aside")
_log = logging.getLogger("lamina.container")


def aside(name: str, work: Callable[Given, None], *args: Given.args, **kwargs: Given.kwargs) -> None:
    """Do it in a thread of its own. Where there is no room for another thread it is done here: late is better than never, and what this
    raised would end the thread that calls, and with it all that is to be heard of other containers."""
    try:
        _crew.start(work, *args, **kwargs)
    except RuntimeError:
        try:
            work(*args, **kwargs)
        except Exception:
            _log.exception("what had to be done at once failed: %s", name)
