"""The zygote: a small process with one thread that forks a monitor for every container.

Forking the daemon would be slow (it is big) and wrong (it has threads). Everything a monitor or an init may
need is imported before the first fork, and then importing is made impossible: a lazy import after
pivot_root would run code of the image's with the host's privileges. It runs from a sealed copy of the
interpreter, so that `/proc/self/exe` inside a container leads to nothing of the host's, and it holds no secrets.

Its standard input is a channel; each message is handed unread to a fork (`beginning.run`). One fork is made ahead and waits for its
message: whoever starts a container does not wait for the fork. The zygote ends with the channel, and the spare fork with the zygote.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import gc
import os
import select
import sys

from lamina.linux import capability, channel, prctl, scheduling
from lamina.runtime import beginning, cgroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Never

_LAUNCH = 10
"""Milliseconds that a launch takes."""


def main() -> None:
    """Serve until the other end is closed."""
    control = channel.from_fd(0)
    prctl.set_undumpable()
    prctl.set_name("lamina-zygote")
    # A connection may have started it: containers are not to have its short turns.
    scheduling.take_usual_turns()
    os.umask(0o022)
    # Monitors are reaped by the kernel: nobody waits for them.
    _signal.signal(_signal.SIGCHLD, _signal.SIG_IGN)
    hierarchies = cgroup.here()
    capability.last()
    close_doors()
    control.send({"event": "ready"})
    serve(control, hierarchies)


def serve(control: channel.Channel, hierarchies: Sequence[cgroup.Hierarchy]) -> None:
    """Hand each message to the fork that waits. The next is made when the launch that the message asks for is done with (it takes both
    processors of a small machine), or the next message has come; for what is brief, if the last was."""
    rehearsed = False
    poll = select.poll()
    poll.register(control.fileno(), select.POLLIN)
    while True:
        poll.poll(_LAUNCH)
        spare = fork(control, hierarchies, rehearsed=rehearsed)
        try:
            body, fds = control.recv_bytes()
        except channel.ChannelClosed:
            return
        brief = body.startswith(beginning.BRIEF)
        if spare is not None and rehearsed and not brief:
            spare.close()  # it ends: one that lives for long would keep the memory of its rehearsal
            spare = fork(control, hierarchies, fds)
        rehearsed = brief
        if spare is None or not handed(spare, body, fds):
            # It was killed, or there was no room for it: perhaps there is now. Closed descriptors tell whoever waits at the other end.
            again = fork(control, hierarchies, fds)
            if again is not None:
                handed(again, body, fds)
        channel.close_all(fds)


def handed(spare: channel.Channel, body: bytes, fds: Sequence[int]) -> bool:
    """Give a fork its message; whether it was there to take it."""
    try:
        spare.send_bytes(body, fds)
    except (channel.ChannelClosed, OSError):
        return False
    finally:
        spare.close()
    return True


def fork(
    control: channel.Channel, hierarchies: Sequence[cgroup.Hierarchy], others: Sequence[int] = (), *, rehearsed: bool = False
) -> channel.Channel | None:
    """A child that does what the one message says that it gets by this channel; None where there can be none. It keeps nothing of
    `others`: descriptors that came with a message, which it will get as its own."""
    try:
        mine, theirs = channel.pair()
    except OSError:
        return None
    try:
        pid = os.fork()
    except OSError:
        mine.close()
        theirs.close()
        return None
    if pid == 0:
        control.close()
        mine.close()
        channel.close_all(others)
        wait(theirs, hierarchies, rehearse=rehearsed)
    theirs.close()
    return mine


def wait(message: channel.Channel, hierarchies: Sequence[cgroup.Hierarchy], *, rehearse: bool) -> Never:
    """The life of a fork."""
    prctl.set_name("lamina-spare")
    os.dup2(os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC), 0)
    _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
    try:
        if rehearse:
            beginning.rehearse(hierarchies)
        body, fds = message.recv_bytes()
    except (channel.ChannelClosed, channel.BadMessage, OSError):
        os._exit(0)
    message.close()
    beginning.run(body, fds, hierarchies)


def close_doors() -> None:
    """Check that there is one thread, and import nothing from now on."""
    threads = len(os.listdir("/proc/self/task"))
    if threads != 1:
        raise RuntimeError(f"the zygote has {threads} threads")
    sys.path.clear()
    sys.meta_path.clear()
    sys.path_hooks.clear()
    sys.path_importer_cache.clear()
    gc.collect()
    gc.freeze()
    gc.disable()
