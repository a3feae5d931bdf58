# ruff: noqa: ARG001 (every operation has the same form)
"""Operations of a process that joins a container whose own processes may trace it (CAP_SYS_PTRACE): they may look into all that they see.

So it is not seen: it stays in the host's pid namespace until it holds nothing that the container does not, no descriptor, no view of the
host's files, no capability. Only then it clones the process that is in the container's, which executes the command. See init.
"""

from __future__ import annotations

import os

from lamina.linux import namespace, tty

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Slots = dict[str, Any]

_LAST = 1 << 20


def let_go(slots: Slots) -> None:
    """Close every descriptor but the standard ones, those that were asked for, and what the report and the clone take."""
    kept = {slots[name] for name in ("report", "clone", "start", "said") if name in slots}
    first = 3 + slots.get("preserved", 0)
    for fd in sorted(fd for fd in kept if fd >= first):
        os.closerange(first, fd)
        first = fd + 1
    os.closerange(first, _LAST)


def part(slots: Slots) -> None:
    """Clone the process that executes the command, and end. It is a child of this one's parent."""
    pid = namespace.clone_sibling()
    if pid:
        os.write(slots["clone"], str(pid).encode())
        os._exit(0)
    os.close(slots["clone"])


def controlling_terminal(slots: Slots) -> None:
    """Make standard input the terminal of this session, which is one of its own."""
    tty.make_controlling(0)
