"""The zygote: a small process with one thread that forks a monitor for every container.

Forking the daemon would be slow (it is big) and wrong (it has threads). Everything a monitor or an init may
need is imported before the first fork, and then importing is made impossible: a lazy import after
pivot_root would run code of the image's with the host's privileges. It runs from a sealed copy of the
interpreter, so that `/proc/self/exe` inside a container leads to nothing of the host's, and it holds no secrets.

Its standard input is a channel; each message is handed unread to a fork (`monitor.run`). It ends with the channel.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import gc
import os
import sys

from lamina.linux import channel, prctl, scheduling
from lamina.runtime import cgroup, monitor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


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
    close_doors()
    control.send({"event": "ready"})
    while True:
        try:
            body, fds = control.recv_bytes()
        except channel.ChannelClosed:
            return
        fork(control, body, fds, hierarchies)


def fork(control: channel.Channel, body: bytes, fds: Sequence[int], hierarchies: Sequence[cgroup.Hierarchy]) -> None:
    """Let a child do what the message says."""
    try:
        pid = os.fork()
    except OSError:
        # Closing the descriptors tells whoever waits at the other end.
        channel.close_all(fds)
        return
    if pid == 0:
        control.close()
        os.dup2(os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC), 0)
        _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
        monitor.run(body, fds, hierarchies)
    channel.close_all(fds)


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
