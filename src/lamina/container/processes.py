"""`top`: the processes of a container as ps(1) shows them."""

from __future__ import annotations

import subprocess
from typing import Any

from lamina.container.live import Live
from lamina.errors import InvalidArgument

_DEFAULT = "-ef"
_LONGEST = 100_000
"""Characters: the kernel takes 128 KiB for one argument, and a container may have as many processes as it likes."""


class PsFailed(InvalidArgument):
    """ps(1) is not there, or refused its arguments."""


def top(live: Live, arguments: str) -> dict[str, Any]:
    """See Containers.top."""
    process = live.process
    if process is None:
        raise live.not_running()
    if "\0" in arguments:
        raise PsFailed("ps: an argument must not hold a NUL")
    pids = process.pids()
    words = (arguments or _DEFAULT).split()
    # Without -q, `-o pid,cmd` would show this daemon's own terminal; some options do not go with it.
    chosen = ",".join(map(str, pids))
    done = _ps([*words, "-q", chosen]) if len(chosen) < _LONGEST else None
    if done is None or done.returncode:
        done = _ps(words)
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        raise PsFailed(f"ps: {done.stderr.strip().splitlines()[0] if done.stderr.strip() else 'it printed nothing'}")
    return select(lines, set(pids))


def _ps(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(["ps", *arguments], capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        raise PsFailed("ps cannot be run on this host", hint="apt-get install procps") from None


def select(lines: list[str], pids: set[int]) -> dict[str, Any]:
    """The rows of these processes from ps's output (titles first).

    Raises:
        PsFailed: no column PID.
    """
    titles = lines[0].split()
    if "PID" not in titles:
        raise PsFailed("Couldn't find PID field in ps output", hint="add pid to the columns you ask for")
    column = titles.index("PID")
    rows = [line.split(None, len(titles) - 1) for line in lines[1:]]
    return {
        "Titles": titles,
        "Processes": [row for row in rows if len(row) > column and row[column].isdigit() and int(row[column]) in pids],
    }
